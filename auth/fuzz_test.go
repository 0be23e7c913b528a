package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// fuzzVerifier has the realm acme with one key, and fetches nothing.
func fuzzVerifier(f *testing.F, key ed25519.PrivateKey) *Verifier {
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	keys, _, err := parseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"`+x+`"}]}`), algorithms)
	if err != nil {
		f.Fatal(err)
	}
	set := newKeyset(quiet(), nil, nil)
	set.finish(newRound(), keys, nil)
	set.stop() // an unknown kid is refused at once
	r, err := newRealm(Realm{
		Name: "acme", Issuer: "https://acme.example", Audiences: []string{"peal"},
		Algorithms: algorithms, Tenants: Tenants{Any: true},
	}.withDefaults(), set, &Revocations{})
	if err != nil {
		f.Fatal(err)
	}
	v := &Verifier{now: func() time.Time { return time.Unix(1_800_000_000, 0) }, cache: newCache(0), revoked: r.revoked}
	v.realms.Store(&snapshot{byName: map[string]*realm{"acme": r}, order: []*realm{r}})
	return v
}

// FuzzVerify: what the issuer has not signed, byte for byte, is refused.
func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	v := fuzzVerifier(f, key)
	sign := func(header, payload string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
	}
	good := sign(`{"alg":"EdDSA","kid":"k"}`, `{"iss":"https://acme.example","aud":"peal","sub":"jane","exp":1800000060}`)
	if _, err := v.Verify(f.Context(), "acme", good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good + "=")
	f.Add(strings.ToLower(good))
	f.Add(good[:len(good)-1] + "B")
	f.Add(good[:strings.LastIndex(good, ".")+1])
	f.Add("eyJhbGciOiJub25lIiwia2lkIjoiayJ9." + strings.Split(good, ".")[1] + ".")
	f.Add(sign(`{"alg":"EdDSA","kid":"k"}`, strings.Repeat("[", 5000)))
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), "acme", token)
		if (err == nil) != (token == good) || (got == nil) != (err != nil) {
			t.Fatalf("Verify(%q) = %v, %v", token, got, err)
		}
	})
}

// FuzzClaims: whatever an issuer signs, reading it neither panics nor makes a
// caller who is not whole.
func FuzzClaims(f *testing.F) {
	v := fuzzVerifier(f, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	r := v.snapshot().byName["acme"]
	f.Add([]byte(`{"iss":"https://acme.example","aud":["peal"],"sub":"jane","exp":1800000060,"realm_access":{"roles":["a"]}}`))
	f.Add([]byte(`{"iss":"https://acme.example","aud":"peal","sub":"\ud83d\ude00","exp":9e18,"tenants":[],"scope":"a b"}`))
	f.Add([]byte(`{"iss":"https://acme.example","aud":"peal","sub":"\ud83d","exp":1e400,"realm_access":1}`))
	f.Add([]byte(`{"a":"\\\ud800"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if checkObject(payload) != nil {
			return
		}
		claims := jwt.MapClaims{}
		text := "e30." + base64.RawURLEncoding.EncodeToString(payload) + "."
		if _, _, err := r.parser.ParseUnverified(text, claims); err == nil {
			t.Fatal("a token without alg was parsed")
		}
		of, err := r.judge(claims, r.Audiences, v.now())
		if err != nil || of.expired(v.now()) != nil {
			return
		}
		token, err := r.readToken(claims, of)
		if err != nil {
			return
		}
		if !token.Expires.After(v.now()) || token.Expires.Year() > 9999 {
			t.Fatalf("expires %v", token.Expires)
		}
		if _, err := peal.ParseUserID(string(token.User)); err != nil {
			t.Fatal(err)
		}
		if _, err := token.Caller("11111111-1111-4111-8111-111111111111"); err != nil && !token.narrowed {
			t.Fatal(err)
		}
	})
}

// FuzzParse: a realms file is refused with a line, or is one that can be written
// and read again.
func FuzzParse(f *testing.F) {
	const head = "realms:\n- name: a\n  issuer: i\n  audiences: [p]\n  jwks: https://x\n"
	f.Add([]byte(head + "  tenants: any\n"))
	f.Add([]byte(head + "  tenants: [11111111-1111-4111-8111-111111111111]\ntenants: [{id: 11111111-1111-4111-8111-111111111111}]\n"))
	f.Add([]byte("realms: &a [*a]"))
	f.Add([]byte("&a {realms: *a}"))
	f.Add([]byte("realms: [{name: &n a, issuer: *n}]"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("no file in %q", err)
			}
			return
		}
		out, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", out)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v became %+v, %v by way of\n%s", c, again, err, out)
		}
	})
}
