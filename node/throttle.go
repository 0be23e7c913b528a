package node

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The bursts of the throttles, in seconds of their rates. A user's takes in five
// tabs that try again every second or two for a while. An address may be that of
// an office or of our own ingress: the users of a node come back from it within
// seconds. A page that marks what is looked at, one by one, is done with its
// requests in a burst. A backend that was away brings the ticket events that it has
// kept.
const (
	userBurst    = 30
	addressBurst = 10
	requestBurst = 10
	eventBurst   = 10
)

// maxThrottled bounds the keys of one generation of a throttle, about 100 bytes
// each and the key's own. Who does not fit is let through: to refuse the innocent
// would be worse, and the limit of open connections is still there.
const maxThrottled = 100_000

// throttle bounds how often each of many may do something. It remembers who did
// lately: its buckets are of two generations, and one that was not used for a
// whole generation is full again, and as good as none.
type throttle[K comparable] struct {
	perSecond int // negative: no bound
	burst     int
	label     string // of refusals, in metrics

	mu       sync.Mutex // protects the rest
	now, old map[K]*rate.Limiter
	turn     time.Time // of the generations
}

// newThrottle allows perSecond, after a burst of so many seconds' worth.
func newThrottle[K comparable](label string, perSecond, burst int) *throttle[K] {
	return &throttle[K]{label: label, perSecond: perSecond, burst: perSecond * burst, now: make(map[K]*rate.Limiter)}
}

// take counts one more, or returns an errTooFast. What is refused is not counted.
func (t *throttle[K]) take(k K, now time.Time) error { return t.takeN(k, 1, now) }

// takeN counts n more at once, at most a burst.
func (t *throttle[K]) takeN(k K, n int, now time.Time) error {
	if t.perSecond < 0 {
		return nil
	}
	bucket := t.bucket(k, now)
	if bucket == nil {
		return nil
	}
	r := bucket.ReserveN(now, n)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return &tooFast{t.label, wait}
	}
	return nil
}

// bucket finds or makes the bucket of a key; nil if there is no room for it.
func (t *throttle[K]) bucket(k K, now time.Time) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if refilled := time.Duration((t.burst+t.perSecond-1)/t.perSecond) * time.Second; now.Sub(t.turn) >= refilled {
		t.old, t.now, t.turn = t.now, make(map[K]*rate.Limiter), now
	}
	b := t.now[k]
	if b != nil || len(t.now) >= maxThrottled {
		return b
	}
	if b = t.old[k]; b == nil {
		b = rate.NewLimiter(rate.Limit(t.perSecond), t.burst)
	}
	t.now[k] = b
	return b
}

var errTooFast = errors.New("too many attempts")

// tooFast is an errTooFast of a throttle, for whom it is good to wait.
type tooFast struct {
	label string
	wait  time.Duration
}

func (e *tooFast) Error() string { return errTooFast.Error() + " of this " + e.label }
func (e *tooFast) Unwrap() error { return errTooFast }

// network is what connects are counted by of a remote address: one of IPv4, or
// the 64 bits of IPv6 of which everybody has one at least. ok is false for what
// is no address.
func network(remote string) (p netip.Prefix, ok bool) {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}, false
	}
	ip := a.Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err = ip.Prefix(bits)
	return p, err == nil
}
