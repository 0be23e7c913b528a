package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stall knows that a stream does not answer what a publish needs of it: its
// server hangs, its disk is full, its leader is cut off. Whoever publishes is
// then refused at once, but for one now and then, who finds out whether it does
// again, and is given less time.
type stall struct {
	bus    *Bus
	stream string

	silent atomic.Bool
	since  time.Time    // of the count in tried
	tried  atomic.Int64 // when one was let through last, or waited in vain, in ns since then
}

const (
	tryEvery    = time.Second // one publish is let through to a silent stream so often
	tryPatience = time.Second // and waits for so long
)

var errStalled = errors.New("the stream has not answered of late")

func newStall(b *Bus, stream string) *stall { return &stall{bus: b, stream: stream, since: time.Now()} }

// refuses reports whether admit would refuse, and takes no turn.
func (s *stall) refuses() bool {
	return s.silent.Load() && int64(time.Since(s.since))-s.tried.Load() < int64(tryEvery)
}

// admit returns an error if publishing is in vain, and whether the stream is
// being tried.
func (s *stall) admit() (try bool, err error) {
	if !s.silent.Load() {
		return false, nil
	}
	now, last := int64(time.Since(s.since)), s.tried.Load()
	if now-last >= int64(tryEvery) && s.tried.CompareAndSwap(last, now) {
		return true, nil
	}
	return false, errStalled
}

// heard takes what a publish was answered; nil is an acknowledgement.
func (s *stall) heard(err error) {
	var refused *jetstream.APIError
	if err == nil || errors.As(err, &refused) {
		s.end()
		return
	}
	if !silence(err) {
		return
	}
	s.tried.Store(int64(time.Since(s.since)))
	if s.silent.CompareAndSwap(false, true) {
		s.bus.log.Warn("stream does not answer publishers", "stream", s.stream, "err", err)
	}
}

// end lets everybody through again.
func (s *stall) end() {
	if s.silent.CompareAndSwap(true, false) {
		s.bus.log.Info("stream answers publishers again", "stream", s.stream)
	}
}

// silence reports whether err says that an answer was waited for in vain.
func silence(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, jetstream.ErrAsyncPublishTimeout)
}
