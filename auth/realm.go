package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// realm is a Realm and what it takes to check its tokens. It does not change: a
// realm that is configured otherwise is another one.
type realm struct {
	Realm   // with its defaults
	keys    *keyset
	keyfunc keyfunc.Keyfunc
	parser  *jwt.Parser
	revoked *Revocations

	// ahead is by how much the issuer's clock was seen to be ahead of ours, in ns:
	// the most that the iat of a token lay in the future when it was verified. Each
	// realm that a reload puts in the place of another of that issuer shares it.
	ahead *atomic.Int64
}

// issued is when a token of that iat was issued, by our clock, at the latest:
// never after it was seen. Otherwise a token of an issuer whose clock is ahead
// would pass for one that was issued after a revocation.
func (r *realm) issued(iat, now time.Time) time.Time {
	if iat.IsZero() {
		return iat
	}
	for {
		ahead := r.ahead.Load()
		lead := int64(iat.Sub(now))
		if lead <= ahead || r.ahead.CompareAndSwap(ahead, lead) {
			return iat.Add(-time.Duration(max(ahead, lead)))
		}
	}
}

// newRealm makes the realm of c, which has its defaults.
func newRealm(c Realm, keys *keyset, revoked *Revocations) (*realm, error) {
	kf, err := keyfunc.New(keyfunc.Options{
		Storage:      keys,
		UseWhitelist: []jwkset.USE{"", jwkset.UseSig},
	})
	if err != nil {
		return nil, fmt.Errorf("realm %s: %w", c.Name, err)
	}
	return &realm{
		Realm:   c,
		keys:    keys,
		keyfunc: kf,
		revoked: revoked,
		ahead:   new(atomic.Int64),
		// The claims are checked here and not by the library: it has one leeway
		// for exp and nbf, and its expiry arithmetic wraps around.
		parser: jwt.NewParser(
			jwt.WithValidMethods(c.Algorithms),
			jwt.WithStrictDecoding(),
			jwt.WithJSONNumber(),
			jwt.WithoutClaimsValidation(),
		),
	}, nil
}

// verify checks everything about an access token but whether it has expired:
// what costs nothing first, so that a stranger's token costs no signature and
// wakes no fetch of keys.
func (r *realm) verify(ctx context.Context, token string, now time.Time) (*Token, error) {
	u, err := r.open(token)
	if err != nil {
		return nil, err
	}
	if err := r.checkType(u.typ, u.typed); err != nil {
		return nil, err
	}
	if err := checkKind(u.claims, u.typ); err != nil {
		return nil, err
	}
	of, err := r.judge(u.claims, r.Audiences, r.MaxTokenLife, now)
	if err != nil {
		return nil, err
	}
	t, err := r.readToken(u.claims, of)
	if err != nil {
		return nil, err
	}
	if err := r.checkSignature(ctx, token); err != nil {
		return nil, err
	}
	t.IssuedAt = r.issued(of.issued, now)
	return t, nil
}

// unverified is what a token says that nobody has vouched for yet.
type unverified struct {
	typ    string
	typed  bool // the header has a typ
	claims jwt.MapClaims
}

// open takes a token apart.
func (r *realm) open(token string) (u unverified, err error) {
	header, payload, err := split(token)
	if err != nil {
		return u, err
	}
	h, err := object(header)
	if err != nil {
		return u, refuse(ReasonMalformed, "a JSON object as header", err)
	}
	if err := r.checkHeader(h); err != nil {
		return u, err
	}
	if u.claims, err = claimsOf(payload); err != nil {
		return u, err
	}
	typ, found := h["typ"]
	if u.typ, u.typed = typ.(string); found && !u.typed {
		return u, refuse(ReasonMalformed, "typ a string", typ)
	}
	return u, nil
}

// Issuer returns the iss of a token, "" if it has none, which nobody has vouched
// for: for whoever explains a token, and not for whoever lets somebody in. The
// error is a Refusal.
func Issuer(token string) (string, error) {
	_, payload, err := split(token)
	if err != nil {
		return "", err
	}
	claims, err := claimsOf(payload)
	if err != nil {
		return "", err
	}
	iss, _ := claims["iss"].(string)
	return iss, nil
}

func claimsOf(payload []byte) (jwt.MapClaims, error) {
	claims, err := object(payload)
	if err != nil {
		return nil, refuse(ReasonMalformed, "a JSON object as payload", err)
	}
	return claims, nil
}

// checkHeader reads the header by exact names. It honours no extension (crit,
// b64), and jwk, jku, x5u and x5c are never looked at: a token does not choose
// its key.
func (r *realm) checkHeader(h map[string]any) error {
	if alg, ok := h["alg"].(string); !ok || !slices.Contains(r.Algorithms, alg) {
		return refuse(ReasonAlgorithm, strings.Join(r.Algorithms, " "), h["alg"])
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := h[name]; ok {
			return refuse(ReasonCrit, "no "+name+" in the header", nil)
		}
	}
	if kid, ok := h["kid"].(string); !ok || kid == "" || len(kid) > maxKid {
		return refuse(ReasonKidMissing, "kid a string of 1 to 256 bytes", h["kid"])
	}
	return nil
}

// object reads one JSON object that has one meaning; see checkObject. Numbers
// stay as they are written.
func object(data []byte) (m map[string]any, err error) {
	if err := checkObject(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	err = dec.Decode(&m)
	return m, err
}

// checkSignature wants one of the realm's keys to have signed a token, and to be
// for the token's algorithm.
func (r *realm) checkSignature(ctx context.Context, token string) error {
	if _, err := r.parser.ParseWithClaims(token, jwt.MapClaims{}, r.key(ctx)); err != nil {
		return r.explain(err)
	}
	return nil
}

// key is the jwt.Keyfunc of the realm: the key that the header's kid names, if
// it is for the header's alg.
func (r *realm) key(ctx context.Context) jwt.Keyfunc {
	find := r.keyfunc.KeyfuncCtx(ctx)
	return func(t *jwt.Token) (any, error) {
		key, err := find(t)
		if err != nil {
			return nil, err
		}
		if alg := t.Method.Alg(); !fits(alg, key) {
			return nil, refuse(ReasonKey, alg, fmt.Sprintf("%T", key))
		}
		return key, nil
	}
}

// explain turns an error of the parser into ours, without the library's text.
func (r *realm) explain(err error) error {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal
	}
	switch {
	case errors.Is(err, peal.ErrUnavailable):
		return r.unavailable()
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse(ReasonSignature, "", nil)
	case errors.Is(err, keyfunc.ErrKeyfunc): // the key is published for another alg
		return refuse(ReasonKey, "", nil)
	}
	return refuse(ReasonMalformed, "", nil)
}

func (r *realm) unavailable() error {
	return fmt.Errorf("keys of realm %s: %w", r.Name, peal.ErrUnavailable)
}
