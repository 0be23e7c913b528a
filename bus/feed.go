package bus

import (
	"math/rand/v2"
	"time"
)

// This file is the algorithm of the feed; follow.go has its face, shard.go the
// loop that runs it, replay.go what it reads. docs/design.md argues that it
// neither loses nor repeats.

// A feed is in one of these phases.
const (
	resting = iota // the sink has no room, or has not begun: nothing is held, arrivals are only noted
	reading        // a read of stored messages is under way: arrivals are kept aside, bounded
	live           // arrivals are delivered
)

// The bound of what a feed keeps aside while it reads. Beyond it the arrivals
// are dropped and read again: the stream is the buffer.
const (
	maxAside      = 64
	maxAsideBytes = 64 << 10
)

// progress is how far a feed has come.
type progress struct {
	phase int
	begun bool
	last  Cursor // everything up to it is delivered or declared
	clear uint64 // up to this sequence of the epoch of last, nothing of the inbox follows last
	gap   *Gap   // to be declared before anything else is delivered

	// target is a sequence that is known to have been stored: the feed is not
	// live before it has come so far, or has declared it gone.
	target uint64

	aside      []*Message
	asideBytes int
	overflow   bool // arrivals were dropped

	// Reads that did not bring what is known to be there, or failed, in a row.
	tries int
	// round tells the answer of a read that has been overtaken.
	round int
}

// stand puts the feed somewhere else than after a message that it delivers.
func (f *Feed) stand(at Cursor) { f.last, f.clear = at, 0 }

// proven is the sequence up to which the feed is known to have everything.
func (f *Feed) proven() uint64 { return max(f.last.Seq, f.clear) }

// prove notes that a replica which has everything up to a sequence has nothing
// of the inbox after last.
func (f *Feed) prove(seq uint64) { f.clear = max(f.clear, seq) }

// begin takes over what Follow has found.
func (f *Feed) begin() {
	if f.closed.Load() {
		return
	}
	f.begun = true
	f.started()
	first := f.first
	f.first = replay{}
	f.phase = reading
	f.stand(f.start.Cursor)
	if known := f.source.known(); f.last.Epoch != known.epoch {
		f.renew()
		return
	}
	f.source.saw(f.last.Seq)
	// Not left to take, which would forget the target: what has arrived since
	// Follow is of this incarnation.
	f.gap, first.gap = first.gap, nil
	f.take(first)
}

// resumed goes on after the sink had no room.
func (f *Feed) resumed() {
	if f.closed.Load() || !f.begun || f.phase != resting {
		return
	}
	if !f.declare() {
		return
	}
	f.read()
}

// rewind rests at a place that the feed has passed. Where the place is of
// another incarnation by now, the read after it says so. It reports whether the
// feed is there.
func (f *Feed) rewind(to Cursor) bool {
	if f.closed.Load() || !f.begun {
		return false
	}
	f.stand(to)
	f.gap = nil
	f.tries = 0
	f.round++ // what is being read is of a place further on
	f.rewound(to)
	f.rest()
	return true
}

// place is where the feed stands once it has declared what it has to.
func (f *Feed) place() Cursor {
	if f.gap != nil {
		return f.gap.Cursor
	}
	return f.last
}

// declare hands over the gap, if there is one. It reports whether the way is
// free.
func (f *Feed) declare() bool {
	if f.gap == nil {
		return true
	}
	if f.closed.Load() {
		return false
	}
	if !f.sink.Gap(*f.gap) {
		return false
	}
	f.shard.bus.stats.Gaps.Add(1)
	if f.gap.Cursor != f.start.Cursor { // else the start has told what is unread there
		f.stale, f.force = true, true
	}
	f.stand(f.gap.Cursor)
	f.gap = nil
	return true
}

// deliver hands over the next message. It reports whether the sink took it.
func (f *Feed) deliver(m *Message) bool {
	if f.closed.Load() || !f.declare() {
		return false
	}
	if m = m.as(f.hub.reads(m.Cursor)); !f.sink.Deliver(m) {
		return false
	}
	f.last = m.Cursor
	f.count(m)
	f.shard.bus.stats.Delivered.Add(1)
	return true
}

// rest keeps only the place.
func (f *Feed) rest() {
	f.phase = resting
	f.dropAside()
	f.overflow = false
}

func (f *Feed) dropAside() {
	f.aside, f.asideBytes = nil, 0
}

// arrive takes a live message.
func (f *Feed) arrive(m *Message) {
	f.target = max(f.target, m.Cursor.Seq)
	switch f.phase {
	case live:
		f.next(m)
	case reading:
		f.keepAside(m)
	}
}

func (f *Feed) keepAside(m *Message) {
	if f.overflow || len(f.aside) == maxAside || f.asideBytes+len(m.Data) > maxAsideBytes {
		f.dropAside()
		f.overflow = true
		return
	}
	f.aside = append(f.aside, m)
	f.asideBytes += len(m.Data)
}

// follows reports whether nothing lies between the place of the feed and a live
// message. The one before it is the feed's last, or, where the feed stands on no
// message of the inbox, older. Another that is older shows that the last was
// removed, by a purge perhaps and others with it.
func (f *Feed) follows(m *Message) bool {
	return m.previous == f.last.Seq || f.last.Elsewhere && m.previous < f.last.Seq
}

// next takes a message in its turn: one that is there already is dropped, the
// next one is delivered, and before one that leaves a hole the hole is read.
func (f *Feed) next(m *Message) {
	switch {
	case m.Cursor.Seq <= f.last.Seq:
	case !f.follows(m):
		f.shard.bus.stats.Holes.Add(1)
		f.read()
		f.keepAside(m)
	case !f.deliver(m):
		f.rest()
	}
}

// read asks for what is stored after the place of the feed.
func (f *Feed) read() {
	f.phase = reading
	f.round++
	round, target := f.round, f.target
	after := origin{f.last, f.clear}
	fill := f.tries >= triesBeforeLeader && after.Seq < target
	f.source.reader.ask(func() {
		r, err := f.source.reread(f.subject, after, target, fill)
		f.shard.post(func() {
			if f.round != round || f.phase != reading || f.closed.Load() {
				return
			}
			if err != nil {
				f.tries = max(f.tries, 1) // not at once
				f.readAgain()
				return
			}
			f.take(r)
		})
	})
}

const (
	// triesBeforeLeader is how often a hole is read from any replica before
	// the leader is asked: with the pauses below that is about 0.3 s, more
	// than a replica in order lags.
	triesBeforeLeader = 4

	firstPause = 10 * time.Millisecond
	mostPause  = 5 * time.Second
)

// readAgain reads once more for what is known to be there: at once the first
// time, then after a pause that doubles.
func (f *Feed) readAgain() {
	f.tries++
	if f.tries == 1 {
		f.read()
		return
	}
	pause := min(firstPause<<min(f.tries, 10), mostPause)
	round := f.round
	f.shard.after(pause/2+rand.N(pause/2), func() { // at random, for many feeds wait for the same
		if f.round == round && f.phase == reading && !f.closed.Load() {
			f.read()
		}
	})
}

// take takes what a read has brought, and what was kept aside meanwhile.
func (f *Feed) take(r replay) {
	if r.gap != nil {
		f.gap = r.gap
		if r.gap.Code == UnknownCursor {
			f.target = 0 // a sequence of another incarnation
		}
	}
	if !f.declare() {
		f.rest()
		return
	}
	before := f.last
	for _, m := range r.messages {
		if m.Cursor.Seq <= f.last.Seq {
			continue
		}
		if !f.deliver(m) {
			f.rest()
			return
		}
	}
	if f.last != before || r.gap != nil {
		f.tries = 0
	}
	if r.more || f.overflow {
		f.overflow = false
		f.read()
		return
	}
	f.splice()
	switch {
	case f.phase == resting:
	case f.last.Seq < f.target:
		f.readAgain()
	default:
		f.phase = live
		f.dropAside()
		f.tries = 0
		f.tell()
		f.settle()
	}
}

// settle tells who waits for it that the feed is live.
func (f *Feed) settle() {
	if there := f.settled; there != nil && !f.closed.Load() {
		f.settled = nil
		there()
	}
}

// splice delivers what was kept aside, as far as it follows without a hole.
func (f *Feed) splice() {
	for i, m := range f.aside {
		if m.Cursor.Seq <= f.last.Seq {
			continue
		}
		if !f.follows(m) {
			f.aside = f.aside[i:]
			return
		}
		if !f.deliver(m) {
			f.rest()
			return
		}
	}
	f.dropAside()
}

// tail takes the sequence of the last message that the inbox is known to have
// had, and of the one that a replica has which has everything up to upTo.
func (f *Feed) tail(seq, found, upTo uint64) {
	f.target = max(f.target, seq)
	switch {
	case f.phase != live:
	case f.last.Seq < seq:
		f.shard.bus.stats.Rescued.Add(1)
		f.read()
	case !f.last.Elsewhere && found < f.last.Seq:
		// The feed's last is gone, and with it perhaps one that was not delivered.
		f.recount()
	default:
		f.prove(upTo)
	}
	f.verify()
}

// renew goes on in another incarnation of the stream: a read from a place that
// no incarnation has is answered by a gap at the inbox's end there.
func (f *Feed) renew() {
	f.stand(Unknown)
	f.gap = nil
	f.target = 0
	f.tries = 0
	f.round++ // what is being read is of the old one
	f.dropAside()
	f.overflow = false
	if f.phase != resting {
		f.read()
	}
}
