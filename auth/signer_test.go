package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal/auth"
)

// signer is whoever has a key: an attacker, or an issuer whose key set the test
// writes itself.
type signer struct {
	t   testing.TB
	kid string
	key any // private, or the secret of an HMAC
}

func newRSA(t testing.TB, kid string, bits int) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, kid, key}
}

func newEC(t testing.TB, kid string, curve elliptic.Curve) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, kid, key}
}

func newEd(t testing.TB, kid string) signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, kid, key}
}

// jwk is the public key as it is published, changed by edits; nil takes a
// member away.
func (s signer) jwk(edits map[string]any) map[string]any {
	s.t.Helper()
	return s.marshal(s.key.(crypto.Signer).Public(), edits)
}

// private is the key with its private half, as nobody should publish it.
func (s signer) private() map[string]any { return s.marshal(s.key, nil) }

func (s signer) marshal(key any, edits map[string]any) map[string]any {
	s.t.Helper()
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{KID: s.kid},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := json.Marshal(j.Marshal())
	if err != nil {
		s.t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(data, &m); err != nil {
		s.t.Fatal(err)
	}
	delete(m, "alg") // what the library takes for granted: a set need not say it
	return edited(m, edits)
}

// edited changes m by edits; nil takes an entry away.
func edited(m, edits map[string]any) map[string]any {
	for name, v := range edits {
		m[name] = v
		if v == nil {
			delete(m, name)
		}
	}
	return m
}

// token is signed by an algorithm, which its header names beside the kid, with
// edits.
func (s signer) token(alg string, header, claims map[string]any) string {
	s.t.Helper()
	h, err := json.Marshal(edited(map[string]any{"alg": alg, "kid": s.kid}, header))
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	text := b64(string(h)) + "." + b64(string(c))
	return text + "." + b64(string(s.sign(alg, text)))
}

// sign signs as an algorithm does. A key of another kind signs as is its own.
func (s signer) sign(alg, text string) []byte {
	s.t.Helper()
	method := jwt.GetSigningMethod(alg)
	switch key := s.key.(type) {
	case *ecdsa.PrivateKey:
		ec, ok := method.(*jwt.SigningMethodECDSA)
		if !ok {
			ec = jwt.SigningMethodES256
		}
		return signEC(s.t, key, ec, text)
	case ed25519.PrivateKey:
		method = jwt.SigningMethodEdDSA
	}
	sig, err := method.Sign(text, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return sig
}

// signEC signs with a key of whatever curve, which the library would not. Of
// numbers that are too long for the algorithm the end is taken.
func signEC(t testing.TB, key *ecdsa.PrivateKey, method *jwt.SigningMethodECDSA, text string) (sig []byte) {
	t.Helper()
	hash := method.Hash.New()
	hash.Write([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	const room = 66 // bytes of a number of the longest curve
	for _, n := range []*big.Int{r, s} {
		sig = append(sig, n.FillBytes(make([]byte, room))[room-method.KeySize:]...)
	}
	return sig
}

// serve publishes a key set and returns its URL.
func serve(t testing.TB, keys ...map[string]any) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	t.Cleanup(srv.Close)
	return srv.URL
}

// realmOf returns the realm of that name, to be edited.
func realmOf(c *auth.Config, name string) *auth.Realm {
	for i := range c.Realms {
		if c.Realms[i].Name == name {
			return &c.Realms[i]
		}
	}
	panic(fmt.Sprintf("no realm %s", name))
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
