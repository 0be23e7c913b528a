package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// A verdict is what becomes of a token: a row of a policy.
type verdict struct {
	name  string
	realm string
	token string
	want  auth.Reason // "" is a good token
}

func wantVerdicts(t *testing.T, w *world, rows []verdict) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.want != "" {
				wantRefusal(t, w, row.realm, row.token, row.want)
				return
			}
			if _, err := w.v.Verify(t.Context(), row.realm, row.token); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func wantRefusal(t *testing.T, w *world, realm, token string, want auth.Reason) {
	t.Helper()
	got, err := w.v.Verify(t.Context(), realm, token)
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok || got != nil || refusal.Reason != want {
		t.Fatalf("got %v, %v, want a refusal for %s", got, err, want)
	}
	if !errors.Is(err, peal.ErrUnauthenticated) {
		t.Errorf("%v is not an ErrUnauthenticated", err)
	}
	if expired := want == auth.ReasonExpired; errors.Is(err, peal.ErrTokenExpired) != expired {
		t.Errorf("%v is an ErrTokenExpired: %v, want %v", err, !expired, expired)
	}
	if text := "token refused: " + string(want); err.Error() != text {
		t.Errorf("text %q, want %q", err, text)
	}
}

// written is signed by a realm over a header and a payload that are written out.
// KID and ISS stand for the realm's, NOW for the world's second.
func written(w *world, realm, header, payload string) string {
	w.t.Helper()
	kid, _, err := w.iss.PublicKey(realm)
	if err != nil {
		w.t.Fatal(err)
	}
	stand := strings.NewReplacer("KID", kid, "ISS", w.iss.URL(realm), "NOW", fmt.Sprint(w.now.Unix()), "SOON", fmt.Sprint(w.now.Unix()+60))
	token, err := w.iss.SignRaw(realm, []byte(stand.Replace(header)), []byte(stand.Replace(payload)))
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// goodHeader and goodPayload make a good token of acme, when written.
const (
	goodHeader  = `{"alg":"ES256","kid":"KID"}`
	goodPayload = `{"iss":"ISS","aud":"peal","sub":"jane","exp":SOON}`
)

// goodWith is a good payload with what follows its claims.
func goodWith(more string) string { return strings.TrimSuffix(goodPayload, "}") + more + "}" }

// replaced returns a token with another segment in the place of one of its own.
func replaced(token string, segment int, by string) string {
	parts := strings.Split(token, ".")
	parts[segment] = by
	return strings.Join(parts, ".")
}

func TestOnlyCompactTokensAreRead(t *testing.T) {
	w := newWorld(t, nil)
	ok := w.token("acme", nil)
	parts := strings.Split(ok, ".")
	var rows []verdict
	for _, row := range []struct{ name, token string }{
		{"nothing", ""},
		{"of 19 bytes", "e30.e30.AAAAAAAAAAA"},
		{"too long", w.token("acme", map[string]any{"x": strings.Repeat("a", auth.MaxToken)})},
		{"one segment", parts[0] + parts[1] + parts[2]},
		{"two segments", parts[0] + "." + parts[1]},
		{"four segments", ok + ".AAAA"},
		{"five segments, as an encrypted token has", ok + ".AAAA.AAAA"},
		{"a dot at the end", ok + "."},
		{"a dot in front", "." + ok},
		{"only dots", strings.Repeat(".", 40)},
		{"no header", replaced(ok, 0, "")},
		{"no payload", replaced(ok, 1, "")},
		{"a line break in it", ok[:30] + "\n" + ok[30:]},
		{"a line break at the end", ok + "\r\n"},
		{"a space in front", " " + ok},
		{"NUL at the end", ok + "\x00"},
		{"padding", ok + "="},
		{"the other alphabet", replaced(ok, 2, strings.Repeat("+/", 43))},
		{"with Bearer", "Bearer " + ok},
		{"two tokens", ok + "," + ok},
		{"JSON, flattened", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2])},
		{"JSON, general", fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, parts[1], parts[0], parts[2])},
		{"JSON in base64url", b64(fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]))},
		{"a header that is an array", replaced(ok, 0, b64(`["alg","ES256"]`))},
		{"a header that is a string", replaced(ok, 0, b64(`"ES256"`))},
		{"a header that is null", replaced(ok, 0, b64(`null`))},
		{"a header with something after it", written(w, "acme", goodHeader+" {}", goodPayload)},
		{"a header that is not UTF-8", written(w, "acme", `{"alg":"ES256","kid":"KID","x":"`+"\xff"+`"}`, goodPayload)},
		{"a payload that is null", written(w, "acme", goodHeader, `null`)},
		{"a payload that is an array", written(w, "acme", goodHeader, "["+goodPayload+"]")},
		{"a payload with something after it", written(w, "acme", goodHeader, goodPayload+" {}")},
		{"half a payload", written(w, "acme", goodHeader, goodPayload[:len(goodPayload)-1])},
		{"a comma too many", written(w, "acme", goodHeader, goodWith(","))},
		{"a payload of 5,000 arrays", written(w, "acme", goodHeader, strings.Repeat("[", 5000))},
		{"a payload that is not UTF-8", written(w, "acme", goodHeader, goodWith(",\"x\":\"a\xff\""))},
		{"half a surrogate pair", written(w, "acme", goodHeader, goodWith(`,"x":"\ud800"`))},
		{"the other half", written(w, "acme", goodHeader, goodWith(`,"x":"\udc00"`))},
		{"a pair in the wrong order", written(w, "acme", goodHeader, goodWith(`,"x":"\udc00\ud800"`))},
	} {
		rows = append(rows, verdict{row.name, "acme", row.token, auth.ReasonMalformed})
	}
	wantVerdicts(t, w, append(rows,
		verdict{"as it should be", "acme", written(w, "acme", goodHeader, goodPayload), ""},
		verdict{"a whole surrogate pair", "acme", written(w, "acme", goodHeader, goodWith(`,"x":"\ud83d\ude00"`)), ""},
		verdict{"spaces between", "acme", written(w, "acme", " "+goodHeader+"\n", "\t"+goodPayload+" "), ""},
		verdict{"an unknown realm", "initech", ok, auth.ReasonUnknownRealm},
		verdict{"a realm's name in another case", "Acme", ok, auth.ReasonUnknownRealm},
		verdict{"a realm's name and more", "acme/", ok, auth.ReasonUnknownRealm},
		verdict{"no realm", "", ok, auth.ReasonUnknownRealm},
	))
}

// Whatever alg is, the signature is the realm's own: only the name is refused.
func TestOnlyTheRealmsAlgorithmsAreTaken(t *testing.T) {
	w := newWorld(t, nil)
	ok := w.token("acme", nil)
	var rows []verdict
	add := func(name, alg string) {
		header := fmt.Sprintf(`{"alg":%s,"kid":"KID"}`, alg)
		signed := written(w, "acme", header, goodPayload)
		rows = append(rows,
			verdict{name, "acme", signed, auth.ReasonAlgorithm},
			verdict{name + ", without a signature", "acme", replaced(signed, 2, ""), auth.ReasonAlgorithm})
	}
	for shape := range 1 << len("none") {
		name := []byte("none")
		for i := range name {
			if shape>>i&1 == 1 {
				name[i] -= 'a' - 'A'
			}
		}
		add(string(name), fmt.Sprintf("%q", name))
	}
	for _, alg := range []string{
		`""`, `"none "`, `" none"`, `"none\u0000"`, `"n\u043ene"`, `"null"`, `null`, `0`, `false`, `{}`, `[]`, `["ES256"]`,
		`"es256"`, `"ES256 "`, `"ES256K"`, `"ES384"`, `"RS512"`, `"PS256"`, `"Ed25519"`, `"HS256"`, `"HS384"`, `"HS512"`, `"hs256"`, `"dir"`, `"RSA-OAEP"`,
	} {
		add(alg, alg)
	}
	wantVerdicts(t, w, append(rows,
		verdict{"no alg", "acme", written(w, "acme", `{"kid":"KID"}`, goodPayload), auth.ReasonAlgorithm},
		verdict{"Alg", "acme", written(w, "acme", `{"Alg":"ES256","kid":"KID"}`, goodPayload), auth.ReasonAlgorithm},
		verdict{"alg in the payload", "acme", written(w, "acme", `{"kid":"KID"}`, goodWith(`,"alg":"ES256"`)), auth.ReasonAlgorithm},
		verdict{"Alg beside it", "acme", written(w, "acme", `{"alg":"ES256","Alg":"none","kid":"KID"}`, goodPayload), ""},
		verdict{"none, then ES256", "acme", written(w, "acme", `{"alg":"none","kid":"KID","alg":"ES256"}`, goodPayload), auth.ReasonMalformed},
		verdict{"ES256, then none", "acme", written(w, "acme", `{"alg":"ES256","kid":"KID","alg":"none"}`, goodPayload), auth.ReasonMalformed},
		verdict{"ES256 twice", "acme", written(w, "acme", `{"alg":"ES256","kid":"KID","alg":"ES256"}`, goodPayload), auth.ReasonMalformed},
		verdict{"none, then ES256 with an escape", "acme", written(w, "acme", `{"alg":"none","kid":"KID","al\u0067":"ES256"}`, goodPayload), auth.ReasonMalformed},
		verdict{"ES256, then none with an escape", "acme", written(w, "acme", `{"alg":"ES256","kid":"KID","\u0061lg":"none"}`, goodPayload), auth.ReasonMalformed},
		verdict{"another realm's", "acme", w.sign("globex", nil, w.claims("acme", nil)), auth.ReasonKidUnknown},
		verdict{"the header of another good token", "acme", replaced(ok, 0, strings.Split(w.sign("acme", map[string]any{"x": 1}, nil), ".")[0]), auth.ReasonSignature},
	))
}

// publicTexts are what is public of a key, in all the ways in which somebody
// could use it as the secret of an HMAC.
func publicTexts(t *testing.T, kid string, key any) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	texts := map[string][]byte{
		"PKIX DER": der, "PKIX PEM": block, "PKIX PEM without its last line break": block[:len(block)-1],
		"kid": []byte(kid), "nothing": {},
	}
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string]any{"JWK": j.Marshal(), "key set": jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{j.Marshal()}}} {
		if texts[name], err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		der := x509.MarshalPKCS1PublicKey(k)
		texts["PKCS #1 DER"] = der
		texts["PKCS #1 PEM"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: der})
		texts["modulus"] = k.N.Bytes()
	case *ecdsa.PublicKey:
		if texts["point"], err = k.Bytes(); err != nil {
			t.Fatal(err)
		}
	case ed25519.PublicKey:
		texts["key"] = k
	}
	return texts
}

// Whoever knows the public key can make an HMAC with it.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	w := newWorld(t, nil)
	var rows []verdict
	for realm, own := range map[string]string{"acme": "ES256", "globex": "RS256", "service": "EdDSA"} {
		kid, key, err := w.iss.PublicKey(realm)
		if err != nil {
			t.Fatal(err)
		}
		for name, secret := range publicTexts(t, kid, key) {
			s := signer{t, kid, secret}
			for _, alg := range []string{"HS256", "HS384", "HS512"} {
				name := fmt.Sprintf("%s of %s with its %s", alg, realm, name)
				rows = append(rows,
					verdict{name, realm, s.token(alg, nil, w.claims(realm, nil)), auth.ReasonAlgorithm},
					verdict{name + ", called " + own, realm, s.token(alg, map[string]any{"alg": own}, w.claims(realm, nil)), auth.ReasonSignature})
			}
		}
	}
	wantVerdicts(t, w, rows)
}

func TestTheSignatureIsOverEveryByte(t *testing.T) {
	w := newWorld(t, nil)
	ok := w.token("acme", nil)
	again := w.token("acme", map[string]any{"jti": "2"})
	sig := strings.Split(ok, ".")[2]
	rows := []verdict{
		{"as it should be", "acme", ok, ""},
		{"another payload", "acme", replaced(ok, 1, strings.Split(again, ".")[1]), auth.ReasonSignature},
		{"another token's signature", "acme", replaced(ok, 2, strings.Split(again, ".")[2]), auth.ReasonSignature},
		{"the same header in another order", "acme", reordered(w, ok), auth.ReasonSignature},
		{"an empty signature", "acme", replaced(ok, 2, ""), auth.ReasonSignature},
		{"half a signature", "acme", replaced(ok, 2, sig[:40]), auth.ReasonSignature},
		{"a signature and more", "acme", replaced(ok, 2, sig+"AAAA"), auth.ReasonSignature},
		{"a signature of zeros", "acme", replaced(ok, 2, strings.Repeat("A", len(sig))), auth.ReasonSignature},
		{"a signature of ones", "acme", replaced(ok, 2, b64(strings.Repeat("\xff", 64))), auth.ReasonSignature},
	}
	for realm, by := range map[string]string{"acme": "service", "globex": "acme", "service": "globex"} {
		kid, key, err := w.iss.PublicKey(realm)
		if err != nil {
			t.Fatal(err)
		}
		alg := map[string]string{"acme": "ES256", "globex": "RS256", "service": "EdDSA"}[realm]
		rows = append(rows, verdict{fmt.Sprintf("signed by %s with the kid and alg of %s (%T)", by, realm, key), realm,
			w.sign(by, map[string]any{"alg": alg, "kid": kid}, w.claims(realm, nil)), auth.ReasonSignature})
	}
	wantVerdicts(t, w, rows)
}

// reordered spells the same header otherwise.
func reordered(w *world, token string) string {
	kid, _, err := w.iss.PublicKey("acme")
	if err != nil {
		w.t.Fatal(err)
	}
	return replaced(token, 0, b64(fmt.Sprintf(`{"typ":"JWT","kid":%q,"alg":"ES256"}`, kid)))
}

// Whatever bit of a good token is another one, and whatever byte is missing.
func TestNoByteOfATokenCanBeChanged(t *testing.T) {
	w := newWorld(t, nil)
	for _, realm := range []string{"acme", "globex", "service"} {
		good := w.token(realm, map[string]any{"tenant_id": string(three), "roles": []string{"a"}})
		w.verify(realm, good)
		refused := map[auth.Reason]int{}
		wrong := func(token, how string, at int) {
			got, err := w.v.Verify(t.Context(), realm, token)
			refusal, ok := errors.AsType[*auth.Refusal](err)
			if !ok || got != nil {
				t.Fatalf("%s: byte %d of %d %s: %v, %v", realm, at, len(good), how, got, err)
			}
			refused[refusal.Reason]++
		}
		for at := range len(good) {
			for bit := range 8 {
				b := []byte(good)
				b[at] ^= 1 << bit
				wrong(string(b), fmt.Sprintf("with bit %d flipped", bit), at)
			}
			wrong(good[:at]+good[at+1:], "missing", at)
			wrong(good[:at]+good[at:at+1]+good[at:], "twice", at)
			wrong(good[:at], "and what follows missing", at)
		}
		// Or only the outer checks were tried.
		for _, reason := range []auth.Reason{auth.ReasonMalformed, auth.ReasonAlgorithm, auth.ReasonKidUnknown, auth.ReasonIssuer, auth.ReasonSignature} {
			if refused[reason] < 10 {
				t.Errorf("%s: %d tokens refused for %s, want more: %v", realm, refused[reason], reason, refused)
			}
		}
	}
}
