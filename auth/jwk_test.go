package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// own are the algorithms of a key, by its kind.
func own(key any) []string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		return map[string][]string{"P-256": {"ES256"}, "P-384": {"ES384"}, "P-521": {"ES512"}}[k.Params().Name]
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// forgeable reports whether a signature that needs no private key is good for
// one of 40 texts.
func forgeable(k ed25519.PublicKey) bool {
	identity := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...)
	for n := range 40 {
		if ed25519.Verify(k, []byte{byte(n)}, identity) {
			return true
		}
	}
	return false
}

// mayBePublished reports whether a member of a key set could be a key of the
// issuer for checking signatures, as far as its words tell.
func mayBePublished(m map[string]any) bool {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := m[name]; ok {
			return false
		}
	}
	if use, ok := m["use"]; ok && use != "sig" {
		return false
	}
	if ops, ok := m["key_ops"]; ok {
		if list, _ := ops.([]any); !slices.Contains(list, any("verify")) {
			return false
		}
	}
	return m["kty"] == "RSA" || m["kty"] == "EC" || m["kty"] == "OKP"
}

// A key of small order has a signature that anybody can write down, and that is
// good for one text in eight: whoever tries a few claims is let in.
func TestAKeyThatAnybodySignsForIsNoKey(t *testing.T) {
	for _, y := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			key, err := hex.DecodeString(y)
			if err != nil {
				t.Fatal(err)
			}
			key[31] |= sign
			if !forgeable(key) {
				t.Errorf("%x is good: why is it here?", key)
			}
			jwk := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":%q}]}`, base64.RawURLEncoding.EncodeToString(key))
			if keys, _, err := parseKeys([]byte(jwk), algorithms); err == nil {
				t.Errorf("%x: taken: %v", key, keys)
			}
		}
	}
}

// FuzzKeySet: whatever an issuer publishes, the keys that are taken are public,
// strong, for signatures by one of the realm's algorithms, and each has a kid
// that no other one has.
func FuzzKeySet(f *testing.F) {
	b := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	ec := func(c elliptic.Curve) string { // the generator is a public key
		return `"kty":"EC","crv":"` + c.Params().Name + `","x":"` + b(c.Params().Gx) + `","y":"` + b(c.Params().Gy) + `"`
	}
	rsaOf := func(bits uint) string { // only the length of a modulus is looked at
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return `"kty":"RSA","e":"AQAB","n":"` + b(n.Add(n, big.NewInt(1))) + `"`
	}
	ed := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	okp := `"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(ed) + `"`
	for _, keys := range []string{
		`{"kid":"a",` + okp + `}`, `{"kid":"a",` + ec(elliptic.P256()) + `},{"kid":"b",` + ec(elliptic.P384()) + `},{"kid":"c",` + ec(elliptic.P521()) + `}`,
		`{"kid":"a",` + rsaOf(2048) + `}`, `{"kid":"a",` + rsaOf(2047) + `}`, `{"kid":"a",` + rsaOf(8193) + `}`, `{"kid":"a","alg":"PS256",` + rsaOf(2048) + `}`,
		`{"kid":"a",` + okp + `},{"kid":"a",` + ec(elliptic.P256()) + `}`, `{"kid":"a","d":"AA",` + okp + `}`, `{"kid":"a","use":"enc",` + okp + `}`,
		`{"kid":"a","use":"sig","key_ops":["verify"],` + okp + `}`, `{"kid":"a","key_ops":["sign"],` + okp + `}`, `{"kty":"oct","kid":"a","k":"AAAA"}`, `{"kty":"oct","kid":"a"}`,
		`{"kid":"a",` + strings.Replace(okp, "Ed25519", "X25519", 1) + `}`, `{"kid":"a",` + strings.Replace(okp, "Ed25519", "Ed448", 1) + `}`,
		`{"kid":"` + strings.Repeat("k", 257) + `",` + okp + `}`, `{"kid":"","x5u":"http://127.0.0.1:1/",` + okp + `}`, `null,1,"x",[],{}`, ``,
		`{"kid":"a","kty":"OKP","crv":"Ed25519","x":"` + strings.Repeat("A", 43) + `"}`,
		`{"kid":"a","alg":"ES384",` + ec(elliptic.P256()) + `}`, `{"kid":"\ud800",` + okp + `},{"kid":"\ufffd",` + okp + `}`, `{"kid":"a","kid":"b",` + okp + `}`,
	} {
		f.Add([]byte(`{"keys":[`+keys+`]}`), true)
		f.Add([]byte(`{"keys":[`+keys+`]}`), false)
	}
	f.Add([]byte(`{"keys":[],"keys":[{"kid":"a",`+okp+`}]}`), true)
	f.Add([]byte(`[]`), true)
	f.Fuzz(func(t *testing.T, body []byte, every bool) {
		allowed := []string{"RS256", "ES256", "EdDSA"}
		if every {
			allowed = algorithms
		}
		keys, _, err := parseKeys(body, allowed)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if err != nil {
			return
		}
		var doc struct{ Keys []any }
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(body, &exact); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(exact["keys"], &doc.Keys); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, key := range keys {
			kid := key.Marshal().KID
			if kid == "" || len(kid) > 256 || seen[kid] {
				t.Fatalf("kid %q", kid)
			}
			seen[kid] = true
			if k, ok := key.Key().(*rsa.PublicKey); ok && (k.N.BitLen() < 2048 || k.N.BitLen() > 8192 || k.E < 3 || k.E%2 == 0) {
				t.Fatalf("RSA of %d bits, exponent %d", k.N.BitLen(), k.E)
			}
			if k, ok := key.Key().(ed25519.PublicKey); ok && forgeable(k) {
				t.Fatalf("everybody signs for %x", k)
			}
			var serves []string
			for _, alg := range own(key.Key()) {
				if slices.Contains(allowed, alg) && (key.Marshal().ALG == "" || string(key.Marshal().ALG) == alg) {
					serves = append(serves, alg)
				}
			}
			if len(serves) == 0 {
				t.Fatalf("kid %q: %T is for none of %v", kid, key.Key(), allowed)
			}
			// It is one of those that are there.
			if !slices.ContainsFunc(doc.Keys, func(v any) bool {
				m, _ := v.(map[string]any)
				return m["kid"] == kid && mayBePublished(m)
			}) {
				t.Fatalf("kid %q should not be taken from %s", kid, body)
			}
			for _, alg := range serves { // whatever the key, no panic
				_ = jwt.GetSigningMethod(alg).Verify("e30.e30", make([]byte, 64), key.Key())
			}
		}
	})
}
