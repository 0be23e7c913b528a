package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// Bounds of a bearer token, in bytes.
const (
	MinToken = 20
	MaxToken = 12288
)

// leeway is how far ahead of ours the clock of an issuer may be. exp has none:
// a connection must end when its token does.
const leeway = 30 * time.Second

// Options tune a Verifier. The zero value is the production default.
type Options struct {
	// Logger hears when a realm's keys come, change or stay away. nil means
	// slog.Default().
	Logger *slog.Logger

	// Now is the clock that exp, nbf and iat are held against. nil means
	// time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Verifier holds the keys of the realms and checks tokens. Its methods may be
// called concurrently.
type Verifier struct {
	realms map[string]*realm // by name
	order  []*realm          // as in the configuration
	now    func() time.Time
	cancel context.CancelFunc
	done   sync.WaitGroup // the refreshers
}

// realm is a Realm and what it takes to check its tokens.
type realm struct {
	Realm
	keys    *keyset
	keyfunc keyfunc.Keyfunc
	parser  *jwt.Parser
}

// Open starts to fetch the keys of the realms and returns at once; until they
// have come Verify says peal.ErrUnavailable. Close ends it. The error is that
// of Config.Validate.
func Open(cfg Config, opts Options) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	v := &Verifier{realms: map[string]*realm{}, now: opts.Now}
	for _, c := range cfg.Realms {
		c = c.withDefaults()
		r, err := newRealm(c, newKeyset(opts.Logger.With("realm", c.Name), source{realm: c}.fetch))
		if err != nil {
			return nil, err
		}
		v.realms[c.Name] = r
		v.order = append(v.order, r)
	}

	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	for _, r := range v.order {
		v.done.Go(func() { r.keys.run(ctx) })
	}
	return v, nil
}

func newRealm(c Realm, keys *keyset) (*realm, error) {
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

// Close stops fetching keys and waits until no fetch is under way.
func (v *Verifier) Close() {
	v.cancel()
	v.done.Wait()
}

// WaitKeys returns when every realm has keys, or when ctx ends, with an error
// that names the realms that have none and why.
func (v *Verifier) WaitKeys(ctx context.Context) error {
	var missing []string
	for _, r := range v.order {
		select {
		case <-r.keys.first:
		case <-ctx.Done():
			if s := r.keys.status(); !s.Usable {
				missing = append(missing, fmt.Sprintf("%s (%v)", r.Name, s.Err))
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("wait for the keys of %s: %w", strings.Join(missing, ", "), ctx.Err())
	}
	return nil
}

// Status is how a realm's keys are.
type Status struct {
	Realm  string
	Usable bool          // tokens of the realm can be checked
	Keys   int           // how many keys there are that can be used
	Age    time.Duration // since the keys were last fetched; 0 if never
	Err    error         // of the latest fetch; nil if it went well or none has ended
}

// Status tells of every realm, in the order of the configuration.
func (v *Verifier) Status() []Status {
	all := make([]Status, len(v.order))
	for i, r := range v.order {
		all[i] = r.keys.status()
		all[i].Realm = r.Name
	}
	return all
}

// Verify checks a token, without "Bearer ", against the keys of the named
// realm. It makes no decision about tenants and roles.
//
// The error is a *Refusal, or a peal.ErrUnavailable while the realm has no keys
// that can be used. A key that is unknown here may be new at the issuer: then
// Verify asks there, at most every 10 s, and waits for at most 2 s.
func (v *Verifier) Verify(ctx context.Context, realm, token string) (*Token, error) {
	r, ok := v.realms[realm]
	if !ok {
		return nil, refuse(ReasonUnknownRealm, "", realm)
	}
	claims, err := r.checkSignature(ctx, token)
	if err != nil {
		return nil, err
	}
	return r.readClaims(claims, v.now())
}

// checkSignature returns the claims of a token that one of the realm's keys has
// signed.
func (r *realm) checkSignature(ctx context.Context, token string) (jwt.MapClaims, error) {
	if n := len(token); n < MinToken || n > MaxToken {
		return nil, refuse(ReasonMalformed, "20 to 12288 bytes", n)
	}
	header, payload, ok := segments(token)
	if !ok {
		return nil, refuse(ReasonMalformed, "three segments of base64url", nil)
	}
	if err := checkObject(header); err != nil {
		return nil, refuse(ReasonMalformed, "a JSON object as header", err)
	}
	if err := r.checkHeader(header); err != nil {
		return nil, err
	}
	if err := checkObject(payload); err != nil {
		return nil, refuse(ReasonMalformed, "a JSON object as payload", err)
	}

	claims := jwt.MapClaims{}
	if _, err := r.parser.ParseWithClaims(token, claims, r.key(ctx)); err != nil {
		return nil, r.explain(err)
	}
	return claims, nil
}

// checkHeader reads the header by exact names. It honours no extension (crit,
// b64), and jwk, jku, x5u and x5c are never looked at: a token does not choose
// its key.
func (r *realm) checkHeader(header []byte) error {
	var h map[string]any
	if err := json.Unmarshal(header, &h); err != nil {
		return refuse(ReasonMalformed, "a JSON object as header", err)
	}
	if alg, ok := h["alg"].(string); !ok || !slices.Contains(r.Algorithms, alg) {
		return refuse(ReasonAlgorithm, strings.Join(r.Algorithms, " "), h["alg"])
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := h[name]; ok {
			return refuse(ReasonCrit, "no "+name+" in the header", nil)
		}
	}
	if kid, ok := h["kid"].(string); !ok || kid == "" || len(kid) > maxKid {
		return refuse(ReasonKidMissing, "a string of 1 to 256 bytes", h["kid"])
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
		return fmt.Errorf("keys of realm %s: %w", r.Name, peal.ErrUnavailable)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse(ReasonSignature, "", nil)
	case errors.Is(err, keyfunc.ErrKeyfunc): // the key is published for another alg
		return refuse(ReasonKey, "", nil)
	}
	return refuse(ReasonMalformed, "", nil)
}
