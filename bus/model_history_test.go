package bus_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// This file is the plain model that the bus is held against: what was
// published, and what is certain of it. It knows nothing of how a feed works.

// streamHistory is what is known of one stream.
type streamHistory struct {
	bound  int              // how many messages an inbox keeps
	retain time.Duration    // a message that is younger has not expired
	now    func() time.Time // a clock

	mu     sync.Mutex // protects the rest, and the inboxes of the stream
	purged period     // the last purge of the whole stream
	// Incarnations count from 0. As long as more recreations have begun than
	// are done, the last may or may not be there.
	begun, done int
	epochs      map[bus.Epoch]int // epoch → incarnation
}

func newStreamHistory(first bus.Epoch, bound int, retain time.Duration) *streamHistory {
	return &streamHistory{bound: bound, retain: retain, now: time.Now, epochs: map[bus.Epoch]int{first: 0}}
}

// inboxHistory is what was published to one inbox. Its notifications are
// numbered from 1 in the order of their publishing: one ends, acknowledged or
// given up, before the next begins.
type inboxHistory struct {
	stream *streamHistory
	in     peal.Inbox

	publishing sync.Mutex // held by whoever publishes

	// Protected by the stream's mutex.
	all     []publication
	numbers map[string]int // id → number
	acked   int            // the highest number that was acknowledged
	purged  period         // the last purge of this inbox
}

func newInboxHistory(s *streamHistory, in peal.Inbox) *inboxHistory {
	return &inboxHistory{stream: s, in: in, numbers: make(map[string]int)}
}

// publication is one notification in one inbox.
type publication struct {
	begun time.Time
	acked bool

	// It lies in one of these incarnations, or, retried across a recreation,
	// in several. One that was not acknowledged may lie in none, and in any
	// that came later: it may have been on its way still.
	from, to int

	at bus.Cursor // where a follower has met it; zero: nowhere yet
}

// period is a span of time that may not have ended yet.
type period struct{ begun, ended time.Time }

func (p period) overlaps(since time.Time) bool {
	return p.begun.After(p.ended) || !p.ended.IsZero() && !p.ended.Before(since)
}

// begin notes that a notification is about to be published, and returns its
// number.
func (h *inboxHistory) begin(id string) int {
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	h.all = append(h.all, publication{begun: h.stream.now(), from: h.stream.done})
	h.numbers[id] = len(h.all)
	return len(h.all)
}

// acknowledge notes that a notification was acknowledged.
func (h *inboxHistory) acknowledge(n int) {
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	p := &h.all[n-1]
	p.acked, p.to = true, h.stream.begun
	h.acked = n
}

// purge notes that a purge of the inbox begins; the result, that it has ended.
func (h *inboxHistory) purge() (ended func()) { return h.stream.purging(&h.purged) }

// purge notes that a purge of the stream begins; the result, that it has ended.
func (s *streamHistory) purge() (ended func()) { return s.purging(&s.purged) }

func (s *streamHistory) purging(p *period) (ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.begun = s.now()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.ended = s.now()
	}
}

// recreate notes that the stream is about to be deleted.
func (s *streamHistory) recreate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
}

// recreated notes that the stream was created anew.
func (s *streamHistory) recreated(epoch bus.Epoch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.incarnation(epoch)
	if err == nil && k != s.begun {
		err = fmt.Errorf("epoch %s is of incarnation %d, want %d", epoch, k, s.begun)
	}
	s.done = s.begun
	return err
}

// incarnation finds the one of an epoch. A new epoch is that of the recreation
// which is under way.
func (s *streamHistory) incarnation(epoch bus.Epoch) (int, error) {
	if k, ok := s.epochs[epoch]; ok {
		return k, nil
	}
	if s.begun == s.done || len(s.epochs) > s.begun {
		return 0, fmt.Errorf("epoch %q is of no incarnation", epoch)
	}
	s.epochs[epoch] = s.begun
	return s.begun, nil
}

// may reports whether a notification may lie in an incarnation.
func (h *inboxHistory) may(n, incarnation int) bool {
	p := h.all[n-1]
	return p.from <= incarnation && (!p.acked || incarnation <= p.to)
}

// certain reports whether a notification was stored in an incarnation for
// sure.
func (h *inboxHistory) certain(n, incarnation int) bool {
	p := h.all[n-1]
	if p.acked && p.from == p.to {
		return p.from == incarnation
	}
	k, ok := h.stream.epochs[p.at.Epoch]
	return ok && k == incarnation
}

// kept reports whether a notification is certainly still stored: of the
// incarnation there is, among the newest, young, and not purged.
func (h *inboxHistory) kept(n int) bool {
	s, p := h.stream, h.all[n-1]
	return s.begun == s.done && h.certain(n, s.done) &&
		len(h.all) < n+s.bound &&
		s.now().Sub(p.begun) < s.retain &&
		!h.purgedSince(n)
}

// expired reports whether a notification may have expired.
func (h *inboxHistory) expired(n int) bool {
	return h.stream.now().Sub(h.all[n-1].begun) >= h.stream.retain
}

// purgedSince reports whether a notification may have been purged.
func (h *inboxHistory) purgedSince(n int) bool {
	begun := h.all[n-1].begun
	return h.stream.purged.overlaps(begun) || h.purged.overlaps(begun)
}

// meet notes where a notification lies, which is the same for everybody.
func (h *inboxHistory) meet(n int, at bus.Cursor) error {
	p := &h.all[n-1]
	if p.at.Epoch == at.Epoch && p.at != at {
		return fmt.Errorf("%d is at %v, and was at %v", n, at, p.at)
	}
	p.at = at
	return nil
}
