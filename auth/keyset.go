package auth

import (
	"context"
	"fmt"
	"log/slog"
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
	log   *slog.Logger
	first chan struct{} // closed when there are keys for the first time
	wake  chan struct{} // holds one: fetch now

	// Owned by run.
	told string // the state that was logged last

	mu      sync.Mutex // protects what follows; never held while fetching or waiting
	fetched time.Time  // when the keys came; zero: never
	err     error      // of the latest fetch
	running *round     // the fetch under way, or nil
	next    *round     // the fetch that waits for run to begin it, or nil
	asked   time.Time  // when an unknown kid last started a round
	waiting int        // requests that wait for a round
	unknown map[string]time.Time
	stopped bool
}

// round is one fetch, and the kids it was started for.
type round struct {
	done chan struct{}
	kids map[string]bool // known not to exist if the fetch succeeds without them
}

func newRound() *round { return &round{done: make(chan struct{}), kids: map[string]bool{}} }

func newKeyset(log *slog.Logger, fetch func(context.Context) ([]jwkset.JWK, []error, error)) *keyset {
	return &keyset{
		MemoryJWKSet: jwkset.NewMemoryStorage(),
		fetch:        fetch,
		log:          log,
		first:        make(chan struct{}),
		wake:         make(chan struct{}, 1),
		unknown:      map[string]time.Time{},
	}
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
	s := Status{Usable: k.usableLocked(), Keys: len(keys), Err: k.err}
	if !k.fetched.IsZero() {
		s.Age = time.Since(k.fetched)
	}
	return s
}
