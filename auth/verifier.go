package auth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a bearer token, in bytes.
const (
	MinToken = 20
	MaxToken = 12288
)

// Options tune a Verifier. The zero value is the production default.
type Options struct {
	// Logger hears when a realm's keys come, change or stay away. nil means
	// slog.Default().
	Logger *slog.Logger

	// Now is the clock that exp, nbf and iat are held against. nil means
	// time.Now.
	Now func() time.Time

	// Dir is where the last good keys of each realm are kept, so that a process
	// that starts while an issuer is down has them. It is made if it is missing.
	// "" keeps them in memory only.
	Dir string

	// CacheBytes is about how much memory tokens may take that have been
	// verified and are not verified again. 0 means 64 MiB, for some 100,000
	// tokens; negative: each is verified each time.
	CacheBytes int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	return o
}

// Verifier holds the keys of the realms and checks tokens. Its methods may be
// called concurrently.
type Verifier struct {
	opts    Options
	now     func() time.Time
	realms  atomic.Pointer[snapshot]
	cache   *cache
	revoked *Revocations

	reloading sync.Mutex // held by who changes realms
	closed    bool       // protected by reloading
}

// Open starts to fetch the keys of the realms and returns at once; until they
// have come Verify says peal.ErrUnavailable. Close ends it. The error is that
// of Config.Validate.
func Open(cfg Config, opts Options) (*Verifier, error) {
	opts = opts.withDefaults()
	v := &Verifier{opts: opts, now: opts.Now, cache: newCache(opts.CacheBytes), revoked: &Revocations{}}
	v.realms.Store(&snapshot{})
	if _, err := v.Reload(cfg); err != nil {
		return nil, err
	}
	return v, nil
}

// Close stops fetching keys and waits until no fetch is under way.
func (v *Verifier) Close() {
	v.reloading.Lock()
	defer v.reloading.Unlock()
	v.closed = true
	for _, r := range v.snapshot().order {
		r.keys.close()
	}
}

// Revocations returns those that the tokens are held against. Who hears of one
// adds it.
func (v *Verifier) Revocations() *Revocations { return v.revoked }

// WaitKeys returns when every realm has keys, or when ctx ends, with an error
// that names the realms that have none and why.
func (v *Verifier) WaitKeys(ctx context.Context) error {
	var missing []string
	for _, r := range v.snapshot().order {
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

// WaitAnswers returns when every realm has keys or has been asked for them once in
// vain, or when ctx ends.
func (v *Verifier) WaitAnswers(ctx context.Context) {
	for _, r := range v.snapshot().order {
		select {
		case <-r.keys.first:
		case <-r.keys.tried:
		case <-ctx.Done():
		}
	}
}

// Status is how a realm's keys are.
type Status struct {
	Realm     string
	Usable    bool              // tokens of the realm can be checked
	Keys      int               // how many keys there are that can be used
	Age       time.Duration     // since the keys were last fetched; 0 if never
	Err       error             // of the latest fetch; nil if it went well or none has ended
	Refreshes map[Refresh]int64 // how the fetches of this process went
}

// Status tells of every realm, in the order of the configuration.
func (v *Verifier) Status() []Status {
	realms := v.snapshot().order
	all := make([]Status, len(realms))
	for i, r := range realms {
		all[i] = r.keys.status()
		all[i].Realm = r.Name
	}
	return all
}

// Realm returns the configuration of a realm, with its defaults.
func (v *Verifier) Realm(name string) (Realm, bool) {
	r := v.snapshot().byName[name]
	if r == nil {
		return Realm{}, false
	}
	return r.Realm, true
}

// Verify checks a token, without "Bearer ", against the keys of the named
// realm. It makes no decision about tenants and roles.
//
// The error is a *Refusal, or a peal.ErrUnavailable while the realm has no keys
// that can be used. A key that is unknown here may be new at the issuer: then
// Verify asks there, at most every 10 s, and waits for at most 2 s.
//
// A token that was good is remembered until it expires, as long as the realm and
// its keys stay what they are.
func (v *Verifier) Verify(ctx context.Context, realm, token string) (*Token, error) {
	r, ok := v.snapshot().byName[realm]
	if !ok {
		return nil, refuse(ReasonUnknownRealm, "", realm)
	}
	now := v.now()
	name, keys := nameOf(realm, token), r.keys.version()
	t := v.cache.get(name, r, keys)
	if t == nil {
		var err error
		if t, err = r.verify(ctx, token, now); err != nil {
			return nil, err
		}
		v.cache.put(name, t, keys)
	}
	if !r.keys.usable() {
		return nil, r.unavailable()
	}
	if err := (times{t.IssuedAt, t.Expires}).expired(now); err != nil {
		return nil, err
	}
	if v.revoked.cover(t.bearer().traits(), t.IssuedAt) {
		return nil, refuse(ReasonRevoked, "", nil)
	}
	return t, nil
}
