package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// edited returns a token with one of its segments changed.
func edited(token string, segment int, f func(string) string) string {
	parts := strings.Split(token, ".")
	parts[segment] = f(parts[segment])
	return strings.Join(parts, ".")
}

func header(s string) func(string) string { return func(string) string { return b64(s) } }

// hmacToken is signed with what is public of globex' key as the secret.
func hmacToken(w *world, secret func(*rsa.PublicKey) []byte) string {
	kid, key, err := w.iss.PublicKey("globex")
	if err != nil {
		w.t.Fatal(err)
	}
	claims, err := json.Marshal(w.claims("globex", nil))
	if err != nil {
		w.t.Fatal(err)
	}
	text := b64(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid)) + "." + b64(string(claims))
	mac := hmac.New(sha256.New, secret(key.(*rsa.PublicKey)))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func der(w *world, k *rsa.PublicKey) []byte {
	data, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// raw is signed by acme over a payload that is written out.
func raw(w *world, payload string) string {
	kid, _, err := w.iss.PublicKey("acme")
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := w.iss.SignRaw("acme", []byte(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid)), []byte(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// good is the payload of a good token of acme, with what follows its claims.
func good(w *world, more string) string {
	return fmt.Sprintf(`{"iss":%q,"aud":"peal","sub":"jane","exp":%d%s}`, w.iss.URL("acme"), w.now.Unix()+60, more)
}

func TestForgedTokensAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	ok := w.token("acme", nil)
	kid, key, err := w.iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	embedded := func(name string, value any) string {
		return w.sign("service", map[string]any{"alg": "ES256", "kid": kid, name: value}, w.claims("acme", nil))
	}
	withHeader := func(h map[string]any) string { return w.sign("acme", h, w.claims("acme", nil)) }
	x, err := key.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}

	for _, row := range []struct {
		name  string
		realm string
		token string
		want  auth.Reason
	}{
		{"an unknown realm", "initech", ok, auth.ReasonUnknownRealm},
		{"a realm's name in another case", "Acme", ok, auth.ReasonUnknownRealm},
		{"no realm", "", ok, auth.ReasonUnknownRealm},

		{"nothing", "acme", "", auth.ReasonMalformed},
		{"too short", "acme", "e30.e30.AAAAAAAAAAA", auth.ReasonMalformed},
		{"too long", "acme", w.token("acme", map[string]any{"x": strings.Repeat("a", auth.MaxToken)}), auth.ReasonMalformed},
		{"two segments", "acme", ok[:strings.LastIndex(ok, ".")], auth.ReasonMalformed},
		{"four segments", "acme", ok + ".AAAA", auth.ReasonMalformed},
		{"five segments, as an encrypted token has", "acme", ok + ".AAAA.AAAA", auth.ReasonMalformed},
		{"a line break in it", "acme", ok[:30] + "\n" + ok[30:], auth.ReasonMalformed},
		{"padding", "acme", ok + "=", auth.ReasonMalformed},
		{"with Bearer", "acme", "Bearer " + ok, auth.ReasonMalformed},
		{"a header that is an array", "acme", edited(ok, 0, header(`["alg","ES256"]`)), auth.ReasonMalformed},
		{"a header that names alg twice", "acme", edited(ok, 0, header(`{"alg":"none","kid":"x","alg":"ES256"}`)), auth.ReasonMalformed},
		{"a payload that is null", "acme", raw(w, `null`), auth.ReasonMalformed},
		{"a payload with something after it", "acme", raw(w, good(w, "")+" {}"), auth.ReasonMalformed},
		{"sub twice", "acme", raw(w, good(w, `,"sub":"admin"`)), auth.ReasonMalformed},
		{"sub twice, spelled differently", "acme", raw(w, good(w, `,"s\u0075b":"admin"`)), auth.ReasonMalformed},
		{"roles twice further down", "acme", raw(w, good(w, `,"realm_access":{"roles":[],"roles":["a"]}`)), auth.ReasonMalformed},
		{"bytes that are not UTF-8", "acme", raw(w, good(w, ",\"x\":\"a\xff\"")), auth.ReasonMalformed},
		{"half a surrogate pair", "acme", raw(w, good(w, `,"x":"\ud800"`)), auth.ReasonMalformed},

		{"none", "acme", b64(`{"alg":"none","kid":"x"}`) + "." + strings.Split(ok, ".")[1] + ".", auth.ReasonAlgorithm},
		{"None", "acme", edited(ok, 0, header(`{"alg":"None","kid":"x"}`)), auth.ReasonAlgorithm},
		{"NONE", "acme", edited(ok, 0, header(`{"alg":"NONE","kid":"x"}`)), auth.ReasonAlgorithm},
		{"nOnE", "acme", edited(ok, 0, header(`{"alg":"nOnE","kid":"x"}`)), auth.ReasonAlgorithm},
		{"no alg", "acme", edited(ok, 0, header(`{"kid":"x"}`)), auth.ReasonAlgorithm},
		{"an empty alg", "acme", edited(ok, 0, header(`{"alg":"","kid":"x"}`)), auth.ReasonAlgorithm},
		{"a list as alg", "acme", edited(ok, 0, header(`{"alg":["ES256"],"kid":"x"}`)), auth.ReasonAlgorithm},
		{"Alg", "acme", edited(ok, 0, header(`{"Alg":"ES256","kid":"x"}`)), auth.ReasonAlgorithm},
		{"an algorithm that is not in the realm's list", "acme", withHeader(map[string]any{"alg": "ES384"}), auth.ReasonAlgorithm},
		{"HS256 with the public key's PEM as the secret", "globex", hmacToken(w, func(k *rsa.PublicKey) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der(w, k)})
		}), auth.ReasonAlgorithm},
		{"HS256 with the public key's DER as the secret", "globex", hmacToken(w, func(k *rsa.PublicKey) []byte { return der(w, k) }), auth.ReasonAlgorithm},
		{"HS256 with the modulus as the secret", "globex", hmacToken(w, func(k *rsa.PublicKey) []byte { return k.N.Bytes() }), auth.ReasonAlgorithm},

		{"crit", "acme", withHeader(map[string]any{"crit": []string{"exp"}}), auth.ReasonCrit},
		{"an empty crit", "acme", withHeader(map[string]any{"crit": []string{}}), auth.ReasonCrit},
		{"b64", "acme", withHeader(map[string]any{"b64": true}), auth.ReasonCrit},

		{"no kid", "acme", withHeader(map[string]any{"kid": nil}), auth.ReasonKidMissing},
		{"an empty kid", "acme", withHeader(map[string]any{"kid": ""}), auth.ReasonKidMissing},
		{"a number as kid", "acme", withHeader(map[string]any{"kid": 1}), auth.ReasonKidMissing},
		{"a list as kid", "acme", withHeader(map[string]any{"kid": []string{kid}}), auth.ReasonKidMissing},
		{"a kid of 257 bytes", "acme", withHeader(map[string]any{"kid": strings.Repeat("k", 257)}), auth.ReasonKidMissing},
		{"a kid that the realm does not have", "acme", withHeader(map[string]any{"kid": "../../etc/passwd"}), auth.ReasonKidUnknown},

		{"another algorithm than the key's", "acme", withHeader(map[string]any{"alg": "RS256"}), auth.ReasonKey},
		{"EdDSA with the kid of an EC key", "acme", withHeader(map[string]any{"alg": "EdDSA"}), auth.ReasonKey},

		{"an empty signature", "acme", edited(ok, 2, func(string) string { return "" }), auth.ReasonSignature},
		{"half a signature", "acme", edited(ok, 2, func(s string) string { return s[:40] }), auth.ReasonSignature},
		{"a signature of zeros", "acme", edited(ok, 2, func(s string) string { return strings.Repeat("A", len(s)) }), auth.ReasonSignature},
		{"another payload", "acme", edited(ok, 1, header(good(w, `,"admin":true`))), auth.ReasonSignature},
		{"another header", "acme", edited(ok, 0, header(fmt.Sprintf(`{"kid":%q,"alg":"ES256"}`, kid))), auth.ReasonSignature},
		{"signed by another realm, with this one's kid", "acme", w.sign("service", map[string]any{"alg": "ES256", "kid": kid}, w.claims("acme", nil)), auth.ReasonSignature},
		{"its key in the header", "acme", embedded("jwk", map[string]any{"kty": "EC", "crv": "P-256", "x": b64(string(x[1:33])), "y": b64(string(x[33:]))}), auth.ReasonSignature},
		{"its key set's URL in the header", "acme", embedded("jku", w.iss.JWKS("service")), auth.ReasonSignature},
		{"its certificate's URL in the header", "acme", embedded("x5u", w.iss.JWKS("service")), auth.ReasonSignature},
		{"its certificate in the header", "acme", embedded("x5c", []string{"AAAA"}), auth.ReasonSignature},
	} {
		t.Run(row.name, func(t *testing.T) { wantRefusal(t, w, row.realm, row.token, row.want) })
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

func TestClaimsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	at := func(d time.Duration) float64 { return float64(w.now.Add(d).UnixNano()) / 1e9 }
	for _, row := range []struct {
		name  string
		edits map[string]any
		want  auth.Reason // "" is a good token
	}{
		{"as it should be", nil, ""},

		{"no iss", map[string]any{"iss": nil}, auth.ReasonIssuer},
		{"another realm's iss", map[string]any{"iss": w.iss.URL("globex")}, auth.ReasonIssuer},
		{"iss with a slash more", map[string]any{"iss": w.iss.URL("acme") + "/"}, auth.ReasonIssuer},
		{"iss in a list", map[string]any{"iss": []string{w.iss.URL("acme")}}, auth.ReasonIssuer},
		{"Iss", map[string]any{"iss": nil, "Iss": w.iss.URL("acme")}, auth.ReasonIssuer},

		{"the other audience", map[string]any{"aud": "peal-test"}, ""},
		{"a list with the audience", map[string]any{"aud": []string{"x", "peal"}}, ""},
		{"no aud", map[string]any{"aud": nil}, auth.ReasonAudience},
		{"another audience", map[string]any{"aud": "billing"}, auth.ReasonAudience},
		{"an empty list", map[string]any{"aud": []string{}}, auth.ReasonAudience},
		{"an empty string", map[string]any{"aud": ""}, auth.ReasonAudience},
		{"a list with a number", map[string]any{"aud": []any{"peal", 1}}, auth.ReasonAudience},
		{"an object", map[string]any{"aud": map[string]any{"peal": true}}, auth.ReasonAudience},
		{"the audience in another case", map[string]any{"aud": "Peal"}, auth.ReasonAudience},
		{"the audience as a part", map[string]any{"aud": "peal peal-test"}, auth.ReasonAudience},

		{"no exp", map[string]any{"exp": nil}, auth.ReasonExpiry},
		{"exp as a string", map[string]any{"exp": fmt.Sprint(w.now.Unix() + 60)}, auth.ReasonExpiry},
		{"Exp", map[string]any{"exp": nil, "Exp": at(time.Hour)}, auth.ReasonExpiry},
		{"exp beyond float64", map[string]any{"exp": json.Number("1e999")}, auth.ReasonExpiry},
		{"exp of 9e18", map[string]any{"exp": json.Number("9e18")}, auth.ReasonLifetime},
		{"good for 30 days", map[string]any{"exp": at(30 * 24 * time.Hour)}, ""},
		{"good for a second more", map[string]any{"exp": at(30*24*time.Hour + time.Second)}, auth.ReasonLifetime},
		{"good for 30 days, of yesterday", map[string]any{"iat": at(-24 * time.Hour), "exp": at(29 * 24 * time.Hour)}, ""},
		{"good for a second more, of yesterday", map[string]any{"iat": at(-24 * time.Hour), "exp": at(29*24*time.Hour + time.Second)}, auth.ReasonLifetime},
		{"good for 30 days, of nobody knows when", map[string]any{"iat": nil, "exp": at(30 * 24 * time.Hour)}, ""},
		{"good for a second more, of nobody knows when", map[string]any{"iat": nil, "exp": at(30*24*time.Hour + time.Second)}, auth.ReasonLifetime},
		{"exp of -9e18", map[string]any{"exp": json.Number("-9e18")}, auth.ReasonExpired},
		{"exp 0", map[string]any{"exp": 0}, auth.ReasonExpired},
		{"good for a second", map[string]any{"exp": at(time.Second)}, ""},
		{"good for half a second", map[string]any{"exp": at(500 * time.Millisecond)}, ""},
		{"expires now", map[string]any{"exp": at(0)}, auth.ReasonExpired},
		{"expired a second ago: no leeway", map[string]any{"exp": at(-time.Second)}, auth.ReasonExpired},
		{"an EXP in the future beside it", map[string]any{"exp": at(-time.Second), "EXP": at(time.Hour)}, auth.ReasonExpired},

		{"nbf in 29 s", map[string]any{"nbf": at(29 * time.Second)}, ""},
		{"nbf in 31 s", map[string]any{"nbf": at(31 * time.Second)}, auth.ReasonNotYetValid},
		{"nbf of 9e18", map[string]any{"nbf": json.Number("9e18")}, auth.ReasonNotYetValid},
		{"nbf as a string", map[string]any{"nbf": "0"}, auth.ReasonMalformed},
		{"iat in 29 s", map[string]any{"iat": at(29 * time.Second)}, ""},
		{"iat in 31 s", map[string]any{"iat": at(31 * time.Second)}, auth.ReasonNotYetValid},
		{"iat as a string", map[string]any{"iat": "0"}, auth.ReasonMalformed},
		{"no iat", map[string]any{"iat": nil}, ""},

		{"no sub", map[string]any{"sub": nil}, auth.ReasonUserClaim},
		{"an empty sub", map[string]any{"sub": ""}, auth.ReasonUserClaim},
		{"a number as sub", map[string]any{"sub": 7}, auth.ReasonUserClaim},
		{"Sub", map[string]any{"sub": nil, "Sub": "jane"}, auth.ReasonUserClaim},
		{"sub with a line break", map[string]any{"sub": "jane\nadmin"}, auth.ReasonUserClaim},
		{"sub of 128 bytes", map[string]any{"sub": strings.Repeat("j", 128)}, ""},
		{"sub of 129 bytes", map[string]any{"sub": strings.Repeat("j", 129)}, auth.ReasonUserClaim},
		{"a number as jti", map[string]any{"jti": 7}, auth.ReasonMalformed},
		{"a list as sid", map[string]any{"sid": []string{"s"}}, auth.ReasonMalformed},

		{"expired and of another issuer", map[string]any{"exp": at(-time.Second), "iss": "x"}, auth.ReasonIssuer},
		{"expired and for another audience", map[string]any{"exp": at(-time.Second), "aud": "x"}, auth.ReasonAudience},
		{"expired and without a user", map[string]any{"exp": at(-time.Second), "sub": nil}, auth.ReasonUserClaim},
	} {
		t.Run(row.name, func(t *testing.T) {
			token := w.token("acme", row.edits)
			if row.want != "" {
				wantRefusal(t, w, "acme", token, row.want)
				return
			}
			if _, err := w.v.Verify(t.Context(), "acme", token); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVerifyReadsTheTokenByExactNames(t *testing.T) {
	w := newWorld(t, nil)
	got := w.verify("acme", w.token("acme", map[string]any{
		"sub": "jane@example.com", "SUB": "admin", "Sub": "admin", "jti": "j1", "sid": "s1",
		"Tenant_ID": string(two),
	}))
	type public struct {
		User            peal.UserID
		ID, Session     string
		Realm           string
		Namespace       peal.Namespace
		Expires, Issued time.Time
	}
	want := public{"jane@example.com", "j1", "s1", "acme", "acme", w.now.Add(time.Hour), w.now}
	have := public{got.User, got.ID, got.Session, got.Realm, got.Namespace, got.Expires, got.IssuedAt}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Fatalf("token (-want +got):\n%s", diff)
	}
	c, err := got.Caller(strings.ToUpper(string(one)))
	if err != nil {
		t.Fatal(err)
	}
	if wantInbox := (peal.Inbox{Tenant: one, Namespace: "acme", User: "jane@example.com"}); c.Inbox != wantInbox {
		t.Fatalf("inbox %v, want %v", c.Inbox, wantInbox)
	}
}

// A token of one realm, with the same subject as any other, is good there and
// nowhere else, whatever it says of itself.
func TestNoRealmTakesAnothersToken(t *testing.T) {
	w := newWorld(t, nil)
	for _, from := range []string{"acme", "globex", "service"} {
		for _, at := range []string{"acme", "globex", "service"} {
			kid, _, err := w.iss.PublicKey(at)
			if err != nil {
				t.Fatal(err)
			}
			// The claims and the kid are those of the realm that is asked: only the
			// key is another.
			token := w.sign(from, map[string]any{"kid": kid}, w.claims(at, nil))
			_, err = w.v.Verify(t.Context(), at, token)
			if good := err == nil; good != (from == at) {
				t.Errorf("signed by %s, asked of %s: %v", from, at, err)
			}
		}
	}
}

func TestMintedTokensAreGood(t *testing.T) {
	w := newWorld(t, nil)
	w.now = time.Now()
	for _, realm := range []string{"acme", "globex", "service"} {
		token, err := w.iss.Mint(realm, issuer.Claims{Subject: "jane", Tenants: []peal.Tenant{three}, Session: "s1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.verify(realm, token).Caller(string(three)); err != nil {
			t.Errorf("%s: %v", realm, err)
		}
		if token, err = w.iss.Mint(realm, issuer.Claims{Subject: "jane", TTL: -time.Minute}); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, w, realm, token, auth.ReasonExpired)
	}
}

func TestRotatedKeyIsUsableAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	old := w.token("acme", nil)
	if err := w.iss.Rotate("acme"); err != nil {
		t.Fatal(err)
	}
	w.verify("acme", w.token("acme", nil))
	w.verify("acme", old) // its key stays published
}

func TestDiscoveryFindsTheKeys(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			c.Realms[i].JWKS, c.Realms[i].Discovery = "", true
		}
	})
	w.verify("globex", w.token("globex", nil))
}

func TestARealmWhoseIssuerIsDownIsUnavailableAlone(t *testing.T) {
	up := newWorld(t, nil)
	down := httptest.NewServer(http.NotFoundHandler())
	defer down.Close()
	cfg := up.cfg
	cfg.Realms = append(slices.Clone(cfg.Realms), auth.Realm{
		Name: "initech", Issuer: "https://initech.example", JWKS: down.URL, Audiences: []string{"peal"},
		Tenants: auth.Tenants{Any: true}, AllowPrivate: true,
	})
	v, err := auth.Open(cfg, auth.Options{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return up.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()

	// The realm that is up gets its keys whatever the other one does.
	select {
	case <-v.Loaded("acme"):
	case <-time.After(30 * time.Second):
		t.Fatal("no keys of acme")
	}
	good := up.token("acme", nil)
	if _, err := v.Verify(t.Context(), "acme", good); err != nil {
		t.Fatal(err)
	}
	theirs := up.token("acme", map[string]any{"iss": "https://initech.example"})
	if _, err := v.Verify(t.Context(), "initech", theirs); !errors.Is(err, peal.ErrUnavailable) || errors.Is(err, peal.ErrUnauthenticated) {
		t.Errorf("got %v, want it unavailable", err)
	}
	wantRefusal(t, &world{t: t, v: v}, "initech", "not a token, whoever is down", auth.ReasonMalformed)

	brief, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err = v.WaitKeys(brief)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "initech (") {
		t.Errorf("got %v, want the deadline and the realm", err)
	}
}

func TestStatusTellsOfTheKeys(t *testing.T) {
	w := newWorld(t, nil)
	got := w.v.Status()
	if len(got) != 3 {
		t.Fatalf("%d realms, want 3", len(got))
	}
	for i, s := range got {
		if s.Realm != w.cfg.Realms[i].Name || !s.Usable || s.Keys != 1 || s.Err != nil || s.Age <= 0 || s.Age > time.Minute {
			t.Errorf("got %+v", s)
		}
	}
}

func TestTheRefusalTellsTheOwnerWhatWasChecked(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.v.Verify(t.Context(), "acme", w.token("acme", map[string]any{"aud": "billing"}))
	want := &auth.Refusal{Reason: auth.ReasonAudience, Want: "peal peal-test", Got: "billing"}
	got, _ := errors.AsType[*auth.Refusal](err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("refusal (-want +got):\n%s", diff)
	}
	_, err = w.v.Verify(t.Context(), "acme", w.token("acme", map[string]any{"aud": strings.Repeat("x", 5000)}))
	if got, _ = errors.AsType[*auth.Refusal](err); len(got.Got) > 210 {
		t.Fatalf("%d bytes of the token are kept, want a cut", len(got.Got))
	}
}

func TestReasonsAreAllListedOnce(t *testing.T) {
	seen := maps.Collect(func(yield func(auth.Reason, bool) bool) {
		for _, r := range auth.Reasons() {
			yield(r, true)
		}
	})
	if len(seen) != len(auth.Reasons()) || len(seen) != 20 || seen[""] {
		t.Fatalf("got %v", auth.Reasons())
	}
}

// A token in which everything is wrong, mended one thing at a time: the reasons
// come in the order in which they are listed.
func TestReasonsAreInTheOrderInWhichTheyAreLookedFor(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			c.Realms[i].RequiredClaims = map[string]auth.Values{"azp": {OneOf: []string{"desk"}}}
		}
	})
	header := map[string]any{"alg": "HS256", "crit": []string{"b64"}, "kid": nil, "typ": "x"}
	claims := w.claims("acme", map[string]any{"iss": "x", "aud": "x", "exp": nil, "nbf": w.now.Add(time.Hour).Unix(), "sub": 1})
	kid, _, err := w.iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	var got []auth.Reason
	for _, mend := range []func(){
		func() {},
		func() { delete(header, "alg") },
		func() { delete(header, "crit") },
		func() { header["kid"] = "nobody's" },
		func() { delete(header, "typ") },
		func() { claims["iss"] = w.iss.URL("acme") },
		func() { claims["aud"] = "peal" },
		func() { claims["exp"] = w.now.Add(31 * 24 * time.Hour).Unix() },
		func() { delete(claims, "nbf") },
		func() { claims["iat"], claims["exp"] = w.now.Add(-time.Hour).Unix(), w.now.Unix() },
		func() { claims["azp"] = "desk" },
		func() { claims["sub"] = "jane" },
		func() { header["kid"] = kid },
	} {
		mend()
		_, err := w.v.Verify(t.Context(), "acme", w.sign("acme", header, claims))
		if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
			got = append(got, refusal.Reason)
		}
	}
	want := slices.DeleteFunc(auth.Reasons(), func(r auth.Reason) bool {
		return slices.Contains([]auth.Reason{auth.ReasonUnknownRealm, auth.ReasonMalformed, auth.ReasonKey, auth.ReasonSignature,
			auth.ReasonRevoked, auth.ReasonTenant, auth.ReasonRole}, r)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("reasons (-listed +got):\n%s", diff)
	}
}
