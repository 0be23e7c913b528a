package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/MicahParks/jwkset"
)

// Bounds of a key. An RSA key beyond the upper one takes so long to check with
// that tokens would be a way to keep the processor busy.
const (
	maxKid    = 256 // bytes
	minRSABit = 2048
	maxRSABit = 8192
)

// parseKeys reads a key set and returns the keys that can check signatures by
// one of the algorithms, and why each of the others was dropped. Each key is
// parsed on its own, so that a malformed one takes no sibling along. Keys that
// share a kid are all dropped: which one was meant would be a matter of order.
func parseKeys(data []byte, algorithms []string) (keys []jwkset.JWK, dropped []error, err error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, nil, errors.New("the key set is not a JSON object")
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(doc["keys"], &raws); err != nil {
		return nil, nil, errors.New("the key set has no array of keys")
	}

	kids := map[string]int{}
	for i, raw := range raws {
		key, err := parseKey(raw, algorithms)
		if err != nil {
			dropped = append(dropped, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		kids[key.Marshal().KID]++
		keys = append(keys, key)
	}
	keys = slices.DeleteFunc(keys, func(k jwkset.JWK) bool { return kids[k.Marshal().KID] > 1 })
	for _, kid := range slices.Sorted(maps.Keys(kids)) {
		if n := kids[kid]; n > 1 {
			dropped = append(dropped, fmt.Errorf("kid %q: shared by %d keys", kid, n))
		}
	}
	if len(keys) == 0 {
		return nil, dropped, errors.Join(append([]error{errors.New("the key set has no usable key")}, dropped...)...)
	}
	return keys, dropped, nil
}

// parseKey reads one JWK by exact names. Certificates (x5c, x5u and so on) are
// not read: the library would hold the key against them, and fetch x5u.
func parseKey(raw json.RawMessage, algorithms []string) (jwkset.JWK, error) {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return jwkset.JWK{}, errors.New("not a JSON object")
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := m[private]; ok {
			return jwkset.JWK{}, errors.New("private or symmetric: whoever reads the key set could sign")
		}
	}
	text := func(name string) string { s, _ := m[name].(string); return s }
	if kid := text("kid"); kid == "" || len(kid) > maxKid {
		return jwkset.JWK{}, errors.New("kid is not a string of 1 to 256 bytes")
	}
	if use, ok := m["use"]; ok && use != "sig" {
		return jwkset.JWK{}, errors.New("use is not sig")
	}
	if ops, ok := m["key_ops"]; ok && !allowsVerify(ops) {
		return jwkset.JWK{}, errors.New("key_ops has no verify")
	}

	key, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KTY(text("kty")), USE: jwkset.USE(text("use")),
		ALG: jwkset.ALG(text("alg")), KID: text("kid"),
		CRV: jwkset.CRV(text("crv")), X: text("x"), Y: text("y"), N: text("n"), E: text("e"),
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, err
	}
	if err := checkStrength(key.Key()); err != nil {
		return jwkset.JWK{}, err
	}
	if !slices.ContainsFunc(algorithms, func(alg string) bool {
		return fits(alg, key.Key()) && (text("alg") == "" || text("alg") == alg)
	}) {
		return jwkset.JWK{}, errors.New("not for any of the realm's algorithms")
	}
	return key, nil
}

func allowsVerify(ops any) bool {
	list, _ := ops.([]any)
	return slices.Contains(list, any("verify"))
}

// checkStrength holds an RSA key against the bounds, and wants an Ed25519 key for
// which not everybody can sign.
func checkStrength(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABit || n > maxRSABit {
			return fmt.Errorf("RSA key of %d bits, want %d to %d", n, minRSABit, maxRSABit)
		}
		if k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32 {
			return errors.New("RSA exponent out of range")
		}
	case ed25519.PublicKey:
		y := slices.Clone(k)
		y[31] &= 0x7f // without the sign of x
		if slices.Contains(smallOrder, hex.EncodeToString(y)) {
			return errors.New("Ed25519 key of small order: anybody could sign for it")
		}
	}
	return nil
}

// smallOrder are the points of edwards25519 whose order is 8 or less, by their y
// as it is in a key, also where y is not reduced. The standard library takes
// them: one signature is good for an eighth of all texts or more. A key of zeros,
// as in a template that was not filled in, is one of them.
var smallOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000", // order 4
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // the same
	"0100000000000000000000000000000000000000000000000000000000000000", // order 1
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // the same
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
}

// fits reports whether a key is for an algorithm. The library checks an ES256
// signature with a P-384 key.
func fits(alg string, key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.Curve == elliptic.P256() ||
			alg == "ES384" && k.Curve == elliptic.P384() ||
			alg == "ES512" && k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
