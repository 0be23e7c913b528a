package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fuzzVerifier has the realm acme with one key, for any tenant unless edit says
// otherwise. It fetches and remembers nothing.
func fuzzVerifier(t testing.TB, key ed25519.PrivateKey, edit func(*Realm)) *Verifier {
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	keys, _, err := parseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"`+x+`"}]}`), algorithms)
	if err != nil {
		t.Fatal(err)
	}
	set := newKeyset(quiet(), nil, nil)
	set.finish(newRound(), keys, nil)
	set.stop() // an unknown kid is refused at once
	c := Realm{
		Name: "acme", Issuer: "https://acme.example", Audiences: []string{"peal", "peal-test"},
		Algorithms: algorithms, Tenants: Tenants{Any: true},
	}
	if edit != nil {
		edit(&c)
	}
	r, err := newRealm(c.withDefaults(), set, &Revocations{})
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{now: func() time.Time { return time.Unix(fuzzNow, 0) }, cache: newCache(0), revoked: r.revoked}
	v.realms.Store(&snapshot{byName: map[string]*realm{"acme": r}, order: []*realm{r}})
	return v
}

// fuzzNow is the second in which the fuzzers live.
const fuzzNow = 1_800_000_000

// signed makes a token of a header and a payload.
func signed(key ed25519.PrivateKey, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

// FuzzVerify: what the issuer has not signed, byte for byte, is refused.
func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	v := fuzzVerifier(f, key, nil)
	good := signed(key, `{"alg":"EdDSA","kid":"k"}`, `{"iss":"https://acme.example","aud":"peal","sub":"jane","exp":1800000060}`)
	if _, err := v.Verify(f.Context(), "acme", good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good + "=")
	f.Add(strings.ToLower(good))
	f.Add(good + "\n")
	f.Add(signed(ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize))), `{"alg":"EdDSA","kid":"k"}`, `{"iss":"https://acme.example","aud":"peal","sub":"jane","exp":1800000060}`))
	f.Add(good[:len(good)-1] + "B")
	f.Add(good[:strings.LastIndex(good, ".")+1])
	f.Add("eyJhbGciOiJub25lIiwia2lkIjoiayJ9." + strings.Split(good, ".")[1] + ".")
	f.Add(signed(key, `{"alg":"EdDSA","kid":"k"}`, strings.Repeat("[", 5000)))
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), "acme", token)
		if (err == nil) != (token == good) || (got == nil) != (err != nil) {
			t.Fatalf("Verify(%q) = %v, %v", token, got, err)
		}
	})
}

// FuzzNameOf: a token is remembered under a name that no other token has, of
// this realm or another: also not where the end of a realm's name is the
// beginning of a token.
func FuzzNameOf(f *testing.F) {
	f.Add("acme", "e30.e30.AAAA")
	f.Add("", "")
	f.Add("a", "a")
	f.Add("\x00\x00\x00\x00\x00\x00\x00\x01a", "\x00\x00\x00\x00\x00\x00\x00\x01a")
	f.Fuzz(func(t *testing.T, realm, token string) {
		all := realm + token
		if len(all) > 1000 { // each cut of it is hashed
			return
		}
		where := map[tokenName]int{}
		for i := range len(all) + 1 {
			n := nameOf(all[:i], all[i:])
			if j, ok := where[n]; ok {
				t.Fatalf("%q cut at %d and at %d has one name", all, i, j)
			}
			where[n] = i
		}
		n := nameOf(realm, token)
		if n != nameOf(realm, token) {
			t.Fatalf("%q, %q has two names", realm, token)
		}
		if (n == nameOf(token, realm)) != (realm == token) {
			t.Fatalf("%q, %q has one name with itself turned round", realm, token)
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
