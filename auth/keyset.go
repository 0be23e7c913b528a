package auth

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/pealhq/peal"
)

const (
	maxKeyAge = 24 * time.Hour // keys serve so long while the issuer is away

	kidEvery    = 10 * time.Second // unknown kids start a fetch at most that often
	kidWait     = 2 * time.Second  // a request waits at most so long for it
	kidWaiters  = 64               // and with at most so many others
	kidForget   = time.Minute      // a kid that the issuer does not know is not asked for again
	kidsUnknown = 512              // such kids are remembered
)

// keyset is the keys of one realm: a jwkset.Storage that its refresher fills.
// The keys are replaced as a whole, and only by a set with a usable key in it.
type keyset struct {
	*jwkset.MemoryJWKSet

	// Set before run, then read-only.
	fetch func(context.Context) (keys []jwkset.JWK, dropped []error, err error)
	vault *vault // where the last good keys are kept
	log   *slog.Logger
	first chan struct{} // closed when there are keys for the first time
	tried chan struct{} // closed when the first fetch has ended, however it went
	wake  chan struct{} // holds one: fetch now

	// Of run's goroutine.
	end  context.CancelFunc // nil until start
	done sync.WaitGroup

	// Owned by run.
	told   string // the state that was logged last
	unkept bool   // the vault took nothing, which was logged

	mu      sync.Mutex // protects what follows; never held while fetching or waiting
	fetched time.Time  // when the keys came; zero: never
	err     error      // of the latest fetch
	running *round     // the fetch under way, or nil
	next    *round     // the fetch that waits for run to begin it, or nil
	asked   time.Time  // when an unknown kid last started a round
	waiting int        // requests that wait for a round
	unknown map[string]time.Time
	count   uint64 // of key sets that were another than the one before
	results map[Refresh]int64
	stopped bool
}

// Refresh is how a fetch of keys went: a metric label.
type Refresh string

// How a fetch can go.
const (
	RefreshGood        Refresh = "ok"
	RefreshUnreachable Refresh = "unreachable" // no answer, none in time, or an address that must not be dialled
	RefreshRefused     Refresh = "refused"     // a status that is not 200
	RefreshUnusable    Refresh = "unusable"    // an answer without a usable key, or too long
)

// Refreshes lists every way a fetch can go.
func Refreshes() []Refresh {
	return []Refresh{RefreshGood, RefreshUnreachable, RefreshRefused, RefreshUnusable}
}

// round is one fetch, and the kids it was started for.
type round struct {
	done chan struct{}
	kids map[string]bool // known not to exist if the fetch succeeds without them
}

func newRound() *round { return &round{done: make(chan struct{}), kids: map[string]bool{}} }

// newKeyset makes a keyset with the keys that are in the vault, if they are not
// too old.
func newKeyset(log *slog.Logger, fetch func(context.Context) ([]jwkset.JWK, []error, error), v *vault) *keyset {
	k := &keyset{
		MemoryJWKSet: jwkset.NewMemoryStorage(),
		fetch:        fetch,
		log:          log,
		first:        make(chan struct{}),
		tried:        make(chan struct{}),
		wake:         make(chan struct{}, 1),
		unknown:      map[string]time.Time{},
		results:      map[Refresh]int64{},
		vault:        v,
	}
	keys, at, err := v.load()
	switch {
	case err != nil:
		log.Warn("realm keys on disk not read", "err", err)
	case len(keys) > 0 && time.Since(at) < maxKeyAge:
		k.replace(keys, at)
		log.Info("realm keys read from disk", "age", time.Since(at).Round(time.Second))
	}
	return k
}

// start has the keys kept fresh until close.
func (k *keyset) start() {
	ctx, end := context.WithCancel(context.Background())
	k.end = end
	k.done.Go(func() { k.run(ctx) })
}

// close ends what start began, and waits for it.
func (k *keyset) close() {
	if k.end != nil {
		k.end()
		k.done.Wait()
	}
}

// replace puts keys that came at a time in the place of what there was.
func (k *keyset) replace(keys []jwkset.JWK, at time.Time) {
	same := k.same(keys)
	_ = k.KeyReplaceAll(context.Background(), keys) // a memory storage has no errors
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetched.IsZero() {
		close(k.first)
	}
	k.fetched = at
	if !same {
		k.count++
	}
}

// same reports whether keys are those that there are.
func (k *keyset) same(keys []jwkset.JWK) bool {
	have, _ := k.KeyReadAll(context.Background()) // a memory storage has no errors
	return reflect.DeepEqual(marshaled(have), marshaled(keys))
}

func marshaled(keys []jwkset.JWK) map[string]jwkset.JWKMarshal {
	m := map[string]jwkset.JWKMarshal{}
	for _, k := range keys {
		m[k.Marshal().KID] = k.Marshal()
	}
	return m
}

// version changes whenever the keys do. What a key has vouched for is to be
// asked again then: the key may have been withdrawn.
func (k *keyset) version() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// KeyRead returns the key with the given kid. One that is not here may be new:
// then KeyRead waits for a fetch, see kidWait. The error is a *Refusal or a
// peal.ErrUnavailable.
func (k *keyset) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	if !k.usable() {
		return jwkset.JWK{}, peal.ErrUnavailable
	}
	if key, err := k.MemoryJWKSet.KeyRead(ctx, kid); err == nil {
		return key, nil
	}
	wait, cancel := context.WithTimeout(ctx, kidWait)
	defer cancel()
	k.await(wait, kid)
	if key, err := k.MemoryJWKSet.KeyRead(ctx, kid); err == nil {
		return key, nil
	}
	if err := ctx.Err(); err != nil { // nobody waits for the answer any more
		return jwkset.JWK{}, fmt.Errorf("%w: %w", peal.ErrUnavailable, err)
	}
	return jwkset.JWK{}, refuse(ReasonKidUnknown, "", kid)
}

// await returns when a fetch that began after the call has ended, when one has
// brought the kid, or when there is nothing to wait for.
func (k *keyset) await(ctx context.Context, kid string) {
	for {
		r, whole := k.join(kid)
		if r == nil {
			return
		}
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		k.leave()
		if _, err := k.MemoryJWKSet.KeyRead(ctx, kid); err == nil || whole || ctx.Err() != nil {
			return
		}
	}
}

// join makes the caller wait for a round, or returns nil. whole is false if the
// round began before: the issuer may have answered without knowing the kid yet.
func (k *keyset) join(kid string) (r *round, whole bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if until, ok := k.unknown[kid]; (ok && now.Before(until)) || k.waiting >= kidWaiters || k.stopped {
		return nil, false
	}
	switch {
	case k.next != nil:
		r, whole = k.next, true
	case k.running != nil:
		r = k.running
	case !k.asked.IsZero() && now.Sub(k.asked) < kidEvery:
		return nil, false
	default:
		k.asked = now
		k.next = newRound()
		r, whole = k.next, true
		select {
		case k.wake <- struct{}{}: // never blocks: begin empties it under the lock
		default:
		}
	}
	if whole {
		r.kids[kid] = true
	}
	k.waiting++
	return r, whole
}

func (k *keyset) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting--
}

func (k *keyset) usable() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.usableLocked()
}

func (k *keyset) usableLocked() bool {
	return !k.fetched.IsZero() && time.Since(k.fetched) < maxKeyAge
}

func (k *keyset) status() Status {
	keys, _ := k.KeyReadAll(context.Background()) // a memory storage has no errors
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{Usable: k.usableLocked(), Err: k.err, Refreshes: maps.Clone(k.results)}
	if s.Usable {
		s.Keys = len(keys)
	}
	if !k.fetched.IsZero() {
		s.Age = time.Since(k.fetched)
	}
	return s
}
