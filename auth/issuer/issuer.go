// Package issuer is a small, real issuer of tokens for development and tests:
// it has keys, publishes them, rotates them and mints what they verify. It asks
// nobody who they are, so it has no place in production.
package issuer

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/pealhq/peal"
)

// Realm is one issuer among those that an Issuer is.
type Realm struct {
	// Name is a letter or digit, then at most 62 of those, ".", "_" and "-".
	Name string

	// Algorithm is RS256, ES256 or EdDSA. A change makes a new key when the
	// realm is opened.
	Algorithm string

	// Audience is the aud claim of the tokens that Mint makes.
	Audience string
}

// Issuer issues the tokens of some realms. Its methods may be called
// concurrently, and several processes may open one directory.
type Issuer struct {
	base   string
	realms map[string]*realm // by name
}

type realm struct {
	Realm
	ring *ring
}

var realmName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Open returns the issuer of the realms. The issuer of a realm is
// base + "/realms/" + name, with base such as "http://localhost:8080".
//
// The keys are kept in dir, which is made if it is missing, so that they
// outlive the process and another one can mint with them. "" keeps them in
// memory.
func Open(dir, base string, realms []Realm) (*Issuer, error) {
	i := &Issuer{base: strings.TrimSuffix(base, "/"), realms: map[string]*realm{}}
	for _, r := range realms {
		if !realmName.MatchString(r.Name) {
			return nil, peal.Invalid("realm", "must be 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit")
		}
		// Some file systems do not tell a from A, and the keys are in files.
		for name := range i.realms {
			if strings.EqualFold(name, r.Name) {
				return nil, peal.Invalid("realm", "must not be given twice, in whatever case")
			}
		}
		ring, err := openRing(dir, r)
		if err != nil {
			return nil, fmt.Errorf("keys of realm %s: %w", r.Name, err)
		}
		i.realms[r.Name] = &realm{Realm: r, ring: ring}
	}
	return i, nil
}

// URL returns the issuer of a realm: the iss claim of its tokens.
func (i *Issuer) URL(realm string) string { return i.base + "/realms/" + realm }

// JWKS returns the URL of a realm's key set.
func (i *Issuer) JWKS(realm string) string { return i.URL(realm) + "/jwks" }

// Handler serves GET /realms/{realm}/jwks and
// GET /realms/{realm}/.well-known/openid-configuration.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realms/{realm}/jwks", func(w http.ResponseWriter, r *http.Request) {
		i.serve(w, r, func(at *realm) (any, error) { return at.ring.published() })
	})
	mux.HandleFunc("GET /realms/{realm}/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.serve(w, r, func(at *realm) (any, error) { return i.configuration(at), nil })
	})
	return mux
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request, document func(*realm) (any, error)) {
	at := i.realms[r.PathValue("realm")]
	if at == nil {
		http.NotFound(w, r)
		return
	}
	doc, err := document(at)
	if err != nil {
		http.Error(w, "the keys cannot be read", http.StatusInternalServerError)
		return
	}
	body, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, "the keys cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // a client that went away is not an error
}

// configuration is what OpenID Connect Discovery requires of what there is.
func (i *Issuer) configuration(r *realm) any {
	return map[string]any{
		"issuer":                                i.URL(r.Name),
		"jwks_uri":                              i.JWKS(r.Name),
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{r.Algorithm},
	}
}

// Claims are what a minted token says.
type Claims struct {
	Subject string

	// Tenants become tenant_id if there is one, tenants if there are several, and
	// no claim if there is none.
	Tenants []peal.Tenant

	Roles   []string      // realm_access.roles; no claim if empty
	TTL     time.Duration // until exp; 0 means an hour, and negative makes an expired token
	Session string        // sid; no claim if empty

	// Extra adds claims to the token or replaces them; nil takes one away.
	Extra map[string]any
}

// Mint makes a token with the realm's newest key.
func (i *Issuer) Mint(realm string, c Claims) (string, error) {
	r := i.realms[realm]
	if r == nil {
		return "", unknown()
	}
	if c.TTL == 0 {
		c.TTL = time.Hour
	}
	now := time.Now()
	expires := now.Add(c.TTL).Unix()
	// With the fraction: which of a token and a revocation came first is then
	// known within a second too.
	issued := float64(now.UnixMilli()) / 1000
	claims := map[string]any{
		"iss": i.URL(realm),
		"aud": r.Audience,
		"sub": c.Subject,
		"iat": min(issued, float64(expires)),
		"exp": expires,
		"jti": uuid.NewString(),
	}
	switch len(c.Tenants) {
	case 0:
	case 1:
		claims["tenant_id"] = c.Tenants[0]
	default:
		claims["tenants"] = c.Tenants
	}
	if len(c.Roles) > 0 {
		claims["realm_access"] = map[string]any{"roles": c.Roles}
	}
	if c.Session != "" {
		claims["sid"] = c.Session
	}
	return i.Sign(realm, nil, overlay(claims, c.Extra))
}

// Sign makes a token of exactly these claims, with the realm's newest key. The
// header is alg, kid and typ of that key, with the entries of header added or
// put in their place; nil takes one away. So a test can make what Mint would
// not: whatever the header says, the signature is the key's.
func (i *Issuer) Sign(realm string, header, claims map[string]any) (string, error) {
	k, err := i.newest(realm)
	if err != nil {
		return "", err
	}
	h, err := json.Marshal(overlay(map[string]any{"alg": k.alg, "kid": k.kid, "typ": "JWT"}, header))
	if err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	return k.sign(h, c)
}

// SignRaw makes a token of the bytes of a header and a payload, which need not
// be JSON, with the realm's newest key.
func (i *Issuer) SignRaw(realm string, header, payload []byte) (string, error) {
	k, err := i.newest(realm)
	if err != nil {
		return "", err
	}
	return k.sign(header, payload)
}

// PublicKey returns the kid of the realm's newest key and its public half.
func (i *Issuer) PublicKey(realm string) (kid string, key crypto.PublicKey, err error) {
	k, err := i.newest(realm)
	if err != nil {
		return "", nil, err
	}
	return k.kid, k.private.Public(), nil
}

// Rotate makes a new key, with which tokens are signed from now on. The one
// before it stays published, older ones do not.
func (i *Issuer) Rotate(realm string) error {
	r := i.realms[realm]
	if r == nil {
		return unknown()
	}
	if err := r.ring.rotate(); err != nil {
		return fmt.Errorf("rotate the key of realm %s: %w", realm, err)
	}
	return nil
}

// newest returns the key that a realm signs with.
func (i *Issuer) newest(realm string) (*key, error) {
	r := i.realms[realm]
	if r == nil {
		return nil, unknown()
	}
	k, err := r.ring.newest()
	if err != nil {
		return nil, fmt.Errorf("keys of realm %s: %w", realm, err)
	}
	return k, nil
}

func unknown() error { return peal.Invalid("realm", "must be one of the issuer's") }

// overlay returns m with the entries of over added or put in their place.
func overlay(m, over map[string]any) map[string]any {
	m = maps.Clone(m)
	maps.Copy(m, over)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// sign returns the token of a header and a payload.
func (k *key) sign(header, payload []byte) (string, error) {
	method := jwt.GetSigningMethod(k.alg)
	if method == nil {
		return "", errors.New("no such signing method")
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sig, err := method.Sign(text, k.private)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", k.alg, err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}
