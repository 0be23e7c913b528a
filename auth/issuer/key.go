package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MicahParks/jwkset"
	"github.com/google/uuid"

	"github.com/pealhq/peal"
)

// key is a signing key. It does not change.
type key struct {
	kid     string
	alg     string
	private crypto.Signer
}

// newKey makes a key for an algorithm. Its kid is new too, so that one kid never
// means two keys.
func newKey(alg string) (*key, error) {
	k := &key{kid: uuid.NewString(), alg: alg}
	var err error
	switch alg {
	case "RS256":
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, peal.Invalid("algorithm", "must be RS256, ES256 or EdDSA")
	}
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", alg, err)
	}
	return k, nil
}

// public returns the JWK that is published.
func (k *key) public() (jwkset.JWKMarshal, error) {
	return k.jwk(k.private.Public(), false)
}

// encode returns the key as it is kept: a JWK with its private half.
func (k *key) encode() ([]byte, error) {
	m, err := k.jwk(k.private, true)
	if err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func (k *key) jwk(of any, private bool) (jwkset.JWKMarshal, error) {
	j, err := jwkset.NewJWKFromKey(of, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: private},
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(k.alg), KID: k.kid, USE: jwkset.UseSig},
	})
	if err != nil {
		return jwkset.JWKMarshal{}, err
	}
	return j.Marshal(), nil
}

// decodeKey reads what encode wrote.
func decodeKey(data []byte) (*key, error) {
	j, err := jwkset.NewJWKFromRawJSON(data, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, errors.New("not a JSON Web Key") // the library's text could quote it
	}
	private, ok := j.Key().(crypto.Signer)
	if !ok {
		return nil, errors.New("not a private key")
	}
	return &key{kid: j.Marshal().KID, alg: j.Marshal().ALG.String(), private: private}, nil
}
