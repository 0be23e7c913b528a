package node

import (
	"context"
	"sync"
	"time"
)

// The wheel turns a notch every wheelStep. A connection ends within a second
// of its token's expiry by contract, and a quarter of that leaves time for
// writing.
const (
	wheelStep  = 250 * time.Millisecond
	wheelSlots = 256 // 64 s: more than a heartbeat by default; what is due later is put off

	// maxAhead bounds how far ahead a step is computed, so that a token of the
	// year 9999 does not overflow. Who is woken too early is set again.
	maxAhead = 24 * time.Hour
)

// wheel wakes connections at their times, heartbeats and expiries alike,
// without a timer for each.
type wheel struct {
	start time.Time // step 0; with its monotonic clock

	mu    sync.Mutex // protects the rest, and the links of every spoke in it
	step  int64      // the last that was turned
	slots [wheelSlots]spoke
}

// spoke is a place in a wheel, part of what is woken. Its links are protected
// by the wheel.
type spoke struct {
	prev, next *spoke
	conn       *conn
	due        int64 // step
}

// newWheel starts to count at now.
func newWheel(now time.Time) *wheel {
	w := &wheel{start: now}
	for i := range w.slots {
		s := &w.slots[i]
		s.prev, s.next = s, s
	}
	return w
}

// stepOf is the first step not before t. It counts from now and not from the
// start, for a t without a monotonic clock, such as a token's expiry, is off by
// whatever the wall clock was set by in between.
func (w *wheel) stepOf(now, t time.Time) int64 {
	d := now.Sub(w.start) + min(t.Sub(now), maxAhead)
	return int64((d + wheelStep - 1) / wheelStep)
}

// set has the spoke's connection woken at t, instead of when it was to be.
func (w *wheel) set(s *spoke, now, t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(s)
	s.due = w.stepOf(now, t)
	w.putLocked(s)
}

// putLocked puts a spoke into the slot of its time, or into the last one there
// is if that lies further away.
func (w *wheel) putLocked(s *spoke) {
	at := min(max(s.due, w.step+1), w.step+wheelSlots-1)
	head := &w.slots[at%wheelSlots]
	s.prev, s.next = head.prev, head
	head.prev.next = s
	head.prev = s
}

// remove has the spoke's connection not woken any more.
func (w *wheel) remove(s *spoke) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(s)
}

func (w *wheel) removeLocked(s *spoke) {
	if s.next != nil {
		s.prev.next, s.next.prev = s.next, s.prev
		s.prev, s.next = nil, nil
	}
}

// advance turns the wheel to now and returns whose time has come. They are out
// of the wheel until they are set again.
func (w *wheel) advance(now time.Time) []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := int64(now.Sub(w.start) / wheelStep)
	first := max(w.step+1, to-wheelSlots+1) // one turn passes every slot
	var due, later []*spoke
	for step := first; step <= to; step++ {
		head := &w.slots[step%wheelSlots]
		for s := head.next; s != head; s = head.next {
			w.removeLocked(s)
			if s.due <= to {
				due = append(due, s)
			} else {
				later = append(later, s)
			}
		}
	}
	w.step = max(w.step, to)
	for _, s := range later {
		w.putLocked(s)
	}
	conns := make([]*conn, len(due))
	for i, s := range due {
		conns[i] = s.conn
	}
	return conns
}

// turn wakes connections until ctx ends.
func (n *Node) turn(ctx context.Context) {
	tick := time.NewTicker(wheelStep)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if clockWasSet(now.Round(0).Sub(last.Round(0)), now.Sub(last)) {
				n.reschedule(now)
			}
			last = now
			n.wake(now, n.wheel.advance(now))
		}
	}
}

// clockWasSet reports whether the wall clock went otherwise than the time that
// passed meanwhile: it was set, or the machine was asleep. Tokens expire by the
// wall clock, the wheel turns by the other.
func clockWasSet(wall, passed time.Duration) bool {
	return (wall - passed).Abs() > wheelStep
}

// reschedule sets every connection's time anew.
func (n *Node) reschedule(now time.Time) {
	for _, c := range n.connections() {
		c.schedule(now)
	}
}

// wake gives each connection what its time has come for.
func (n *Node) wake(now time.Time, conns []*conn) {
	if len(conns) == 0 {
		return
	}
	beat := heartbeatFrame(now) // shared by all
	for _, c := range conns {
		if !now.Before(c.caller.Expires) {
			c.end(tokenExpired)
			continue
		}
		if c.lifetime > 0 && now.Sub(c.opened) >= c.lifetime {
			c.end(tooOld)
			continue
		}
		if !now.Before(c.beat) {
			if c.beat = c.beat.Add(n.cfg.Heartbeat); c.beat.Before(now) {
				c.beat = now.Add(n.cfg.Heartbeat) // we were held up
			}
			if c.proof != nil {
				c.proof.look()
			}
			if c.transport.offerIdle(beat) {
				n.metrics.heartbeats.Inc()
			}
		}
		c.schedule(now)
	}
}
