package auth_test

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/pealhq/peal/auth"
)

// A key checks signatures by the algorithms that are its own: the library takes
// an ES384 signature that was made with a P-256 key.
func TestATokensAlgorithmIsItsKeys(t *testing.T) {
	keys := map[string]signer{}
	for _, s := range []signer{
		newRSA(t, "rsa", 2048), newRSA(t, "rsa-RS256", 2048), newRSA(t, "rsa-PS256", 2048),
		newEC(t, "p256", elliptic.P256()), newEC(t, "p384", elliptic.P384()), newEC(t, "p521", elliptic.P521()), newEd(t, "ed"),
	} {
		keys[s.kid] = s
	}
	set := serve(t, keys["rsa"].jwk(nil), keys["rsa-RS256"].jwk(map[string]any{"alg": "RS256"}), keys["rsa-PS256"].jwk(map[string]any{"alg": "PS256"}),
		keys["p256"].jwk(nil), keys["p384"].jwk(nil), keys["p521"].jwk(nil), keys["ed"].jwk(nil))
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			c.Realms[i].JWKS = set
		}
		realmOf(c, "acme").Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
		realmOf(c, "globex").Algorithms = []string{"PS256"}
	})
	const yes auth.Reason = ""
	const no, alg, kid = auth.ReasonKey, auth.ReasonAlgorithm, auth.ReasonKidUnknown
	var rows []verdict
	for _, row := range []struct {
		alg, kid string
		acme     auth.Reason // which takes all
		globex   auth.Reason // PS256
		service  auth.Reason // the default: RS256, ES256, EdDSA
	}{
		{"RS256", "rsa", yes, alg, yes},
		{"RS384", "rsa", yes, alg, alg},
		{"RS512", "rsa", yes, alg, alg},
		{"PS256", "rsa", yes, yes, alg}, // the key set does not say what the key is for
		{"PS384", "rsa", yes, alg, alg},
		{"PS512", "rsa", yes, alg, alg},
		{"RS256", "rsa-RS256", yes, alg, yes},
		{"PS256", "rsa-RS256", no, kid, alg},
		{"RS384", "rsa-RS256", no, alg, alg},
		{"PS256", "rsa-PS256", yes, yes, alg},
		{"RS256", "rsa-PS256", no, alg, kid},
		{"RS256", "p256", no, alg, no},
		{"RS256", "ed", no, alg, no},

		{"ES256", "p256", yes, alg, yes},
		{"ES384", "p256", no, alg, alg},
		{"ES512", "p256", no, alg, alg},
		{"ES256", "p384", no, alg, kid},
		{"ES384", "p384", yes, alg, alg},
		{"ES512", "p384", no, alg, alg},
		{"ES256", "p521", no, alg, kid},
		{"ES384", "p521", no, alg, alg},
		{"ES512", "p521", yes, alg, alg},
		{"ES256", "ed", no, alg, no},

		{"EdDSA", "ed", yes, alg, yes},
		{"EdDSA", "p256", no, alg, no},
		{"PS256", "ed", no, kid, alg},
	} {
		for realm, want := range map[string]auth.Reason{"acme": row.acme, "globex": row.globex, "service": row.service} {
			token := keys[row.kid].token(row.alg, nil, w.claims(realm, nil))
			rows = append(rows, verdict{fmt.Sprintf("%s: %s with %s", realm, row.alg, row.kid), realm, token, want})
		}
	}
	wantVerdicts(t, w, rows)
}

// The realm's own issuer publishes them, and signs with them: that makes them no
// better.
func TestAKeyThatShouldNotBePublishedIsNoKey(t *testing.T) {
	secret := signer{t, "oct", []byte("0123456789abcdef0123456789abcdef")}
	oct := map[string]any{"kty": "oct", "kid": "oct", "k": base64.RawURLEncoding.EncodeToString(secret.key.([]byte))}
	ed := newEd(t, "ed")
	long := newEd(t, strings.Repeat("k", 256))
	longer := newEd(t, strings.Repeat("k", 257))
	weak := newRSA(t, "weak", 1024)
	private := newEC(t, "private", elliptic.P256())
	encrypts := newEd(t, "enc")
	twins := [2]signer{newEd(t, "twin"), newEd(t, "twin")}
	off := newEC(t, "off", elliptic.P256())
	nameless := newEd(t, "")

	w := newWorld(t, func(c *auth.Config) {
		realmOf(c, "acme").JWKS = serve(t, oct, map[string]any{"kty": "oct", "kid": "oct", "alg": "HS256", "k": ""}, weak.jwk(nil), private.private(),
			encrypts.jwk(map[string]any{"use": "enc"}), twins[0].jwk(nil), twins[1].jwk(nil), off.jwk(map[string]any{"x": off.jwk(nil)["y"]}),
			longer.jwk(nil), nameless.jwk(nil), ed.jwk(nil), long.jwk(nil))
	})
	claims := w.claims("acme", nil)
	wantVerdicts(t, w, []verdict{
		{"a key beside them", "acme", ed.token("EdDSA", nil, claims), ""},
		{"one with a kid of 256 bytes", "acme", long.token("EdDSA", nil, claims), ""},
		{"one with a kid of 257 bytes", "acme", longer.token("EdDSA", nil, claims), auth.ReasonKidMissing},
		{"one without a kid", "acme", nameless.token("EdDSA", nil, claims), auth.ReasonKidMissing},
		{"one without a kid, and none in the header", "acme", nameless.token("EdDSA", map[string]any{"kid": nil}, claims), auth.ReasonKidMissing},
		{"oct, HS256", "acme", secret.token("HS256", nil, claims), auth.ReasonAlgorithm},
		{"oct, HS512", "acme", secret.token("HS512", nil, claims), auth.ReasonAlgorithm},
		{"oct, HS256 that calls itself EdDSA", "acme", secret.token("HS256", map[string]any{"alg": "EdDSA"}, claims), auth.ReasonKidUnknown},
		{"oct, HS256 that calls itself RS256", "acme", secret.token("HS256", map[string]any{"alg": "RS256"}, claims), auth.ReasonKidUnknown},
		{"RSA of 1024 bits", "acme", weak.token("RS256", nil, claims), auth.ReasonKidUnknown},
		{"one with its private half", "acme", private.token("ES256", nil, claims), auth.ReasonKidUnknown},
		{"one for encryption", "acme", encrypts.token("EdDSA", nil, claims), auth.ReasonKidUnknown},
		{"one of two with one kid", "acme", twins[0].token("EdDSA", nil, claims), auth.ReasonKidUnknown},
		{"the other one", "acme", twins[1].token("EdDSA", nil, claims), auth.ReasonKidUnknown},
		{"a point that is not on its curve", "acme", off.token("ES256", nil, claims), auth.ReasonKidUnknown},
	})
	for _, s := range w.v.Status() {
		if s.Realm == "acme" && s.Keys != 2 {
			t.Errorf("%d keys of acme are used, want 2", s.Keys)
		}
	}
}

// A token that was good is remembered: with its key, it is forgotten.
func TestATokenIsNoBetterThanItsKey(t *testing.T) {
	w := newWorld(t, nil)
	old := w.token("acme", nil)
	w.verify("acme", old)
	for range 2 { // the one before the newest stays published
		if err := w.iss.Rotate("acme"); err != nil {
			t.Fatal(err)
		}
	}
	w.verify("acme", w.token("acme", nil)) // its kid is new, so the keys are fetched
	wantRefusal(t, w, "acme", old, auth.ReasonKidUnknown)
}
