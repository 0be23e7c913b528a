package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// BenchmarkVerify checks one token of 861 bytes (RS256: 1,117) as Keycloak makes them:
// cold each time from scratch, cached from the second time on.
func BenchmarkVerify(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	for _, key := range []struct {
		alg     string
		private crypto.Signer
	}{{"RS256", rsaKey}, {"ES256", ecKey}, {"EdDSA", edKey}} {
		b.Run(key.alg, func(b *testing.B) {
			token := benchToken(b, key.alg, key.private)
			for _, c := range []struct {
				name  string
				bytes int
			}{{"cold", -1}, {"cached", 0}} {
				b.Run(c.name, func(b *testing.B) {
					v := benchVerifier(b, key.private.Public(), c.bytes)
					b.ReportAllocs()
					for b.Loop() {
						if _, err := v.Verify(b.Context(), "acme", token); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// benchVerifier has the realm acme with one key, and a few revocations as there
// are on most days.
func benchVerifier(b *testing.B, public crypto.PublicKey, cacheBytes int) *Verifier {
	b.Helper()
	key, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "a"}})
	if err != nil {
		b.Fatal(err)
	}
	opts := Options{Logger: quiet(), CacheBytes: cacheBytes}.withDefaults()
	v := &Verifier{opts: opts, now: opts.Now, cache: newCache(opts.CacheBytes), revoked: &Revocations{}}
	keys := newKeyset(quiet(), nil, nil)
	keys.finish(newRound(), []jwkset.JWK{key}, nil)
	r, err := newRealm(Realm{
		Name: "acme", Issuer: "https://acme.example", Audiences: []string{"peal"}, Tenants: Tenants{IDs: []peal.Tenant{labOne}},
	}.withDefaults(), keys, v.revoked)
	if err != nil {
		b.Fatal(err)
	}
	v.realms.Store(&snapshot{byName: map[string]*realm{"acme": r}, order: []*realm{r}})
	now := time.Now()
	for _, session := range []string{"s2", "s3", "s4"} {
		v.revoked.Add(peal.Revocation{Realm: "acme", Session: session}, now, now.Add(time.Hour))
	}
	return v
}

func benchToken(b *testing.B, alg string, key crypto.Signer) string {
	b.Helper()
	now := time.Now()
	t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{
		"iss": "https://acme.example", "aud": []string{"account", "peal"}, "azp": "helpdesk-web", "typ": "Bearer",
		"sub": "550e8400-e29b-41d4-a716-446655440000", "jti": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
		"sid": "0d2b1a1c-33f1-4c0e-9f3c-3a8a4f7c2f11", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"tenant_id": string(labOne), "scope": "openid email profile", "email": "jane@example.com", "name": "Jane Smith",
		"realm_access":    map[string]any{"roles": []string{"offline_access", "helpdesk", "notifications:publish"}},
		"resource_access": map[string]any{"account": map[string]any{"roles": []string{"manage-account", "view-profile"}}},
	})
	t.Header["kid"] = "a"
	token, err := t.SignedString(key)
	if err != nil {
		b.Fatal(err)
	}
	return token
}
