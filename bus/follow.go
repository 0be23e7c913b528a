package bus

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
)

// Sink takes what a feed delivers. Its methods are called by one goroutine at
// a time and must not block. A sink that has no room answers false: the feed
// then keeps its place, holds nothing for it, and offers the same again after
// Feed.Resume.
type Sink interface {
	Deliver(m *Message) bool
	Gap(g Gap) bool

	// State tells of the read state, when it has changed on any device or the
	// number of unread ones is another than what the sink has counted: Unread of
	// Start, one more for each message that is not read, and what State said last.
	State(s ReadState) bool
}

// Start says where a feed begins.
type Start struct {
	// Cursor is the place the feed begins after: the follower's own if its
	// history is whole, that of the gap if not, the live end for a follower
	// without one.
	Cursor Cursor

	// Gap tells that history is missing. The feed declares it to the sink
	// before anything else.
	Gap bool

	// Recovered: everything after the follower's own cursor follows.
	Recovered bool

	// Unread is how many notifications of an inbox up to Cursor are unread, ReadState
	// the version of its read state.
	Unread    uint64
	ReadState Cursor
}

// Feed is one follower of an inbox, or of the tickets of a tenant.
type Feed struct {
	what    string // it follows
	shard   *shard
	source  *source
	subject string // of stored messages
	key     string // of the inbox, or of the tenant
	sink    Sink

	part         *partition // of the inbox; nil for tickets, which have no read state
	stateSubject string     // of the stored read state
	start        Start
	closed       atomic.Bool

	// Set by Follow, then taken over by the shard's loop with the first Resume.
	first  replay
	state  storedState
	census census
	resume atomic.Bool // Resume was called at least once

	// Owned by the shard's loop.
	hub     *hub   // nil before it is attached
	settled func() // not nil: to be called once the feed is live
	progress
	news
}

// Follow feeds sink with an inbox: first what is stored after the cursor, then
// what arrives, in stream order, without a hole or a repeat. The zero Cursor
// starts at the live end. Where history is gone, sink gets a Gap in its place
// and the feed goes on with what is stored; after an unknown cursor it goes on
// live.
//
// The feed rests until its first Resume, so that the follower can write what
// comes before it. It ends with Close. Following costs the NATS server one
// core subscription for each inbox that this process follows, one more for its
// read state, and nothing for further followers of the same.
//
// When many come at once, each waits its turn as long as others of the stream
// get theirs, half a minute at most. The error is a peal.ErrUnavailable, after
// Config.Timeout where JetStream does not answer, or ctx's.
func (b *Bus) Follow(ctx context.Context, in peal.Inbox, after Cursor, sink Sink) (*Feed, error) {
	part, pl := b.partition(in)
	return b.follow(ctx, after, &Feed{
		what:    "inbox",
		source:  part.source,
		subject: pl.subject("inbox", part.home.region),
		key:     pl.key(),
		sink:    sink,

		part:         part,
		stateSubject: pl.subject("state", part.home.region),
	})
}

// follow starts a feed that is not started yet, when its turn has come.
func (b *Bus) follow(ctx context.Context, after Cursor, f *Feed) (_ *Feed, err error) {
	if !b.Connected() {
		return nil, f.unavailable(nats.ErrDisconnected)
	}
	deadline, err := f.source.gate.enter(ctx)
	if err != nil {
		return nil, f.unavailable(err)
	}
	defer func() { f.source.gate.leave(err == nil) }()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	f.shard = b.shardOf(f.key)
	if err = f.shard.attach(ctx, f); err != nil {
		return nil, f.unavailable(err)
	}
	if err = f.position(ctx, after); err != nil {
		f.Close()
		f.source.refresh() // whether the leader is there at all
		return nil, f.unavailable(err)
	}
	return f, nil
}

func (f *Feed) unavailable(err error) error { return unavailable("follow "+f.what, err) }

// position decides where the feed begins. The subscription is active by then:
// what is stored later is seen live, or found by the tail check.
func (f *Feed) position(ctx context.Context, after Cursor) (err error) {
	if after.IsZero() {
		f.start.Cursor, err = f.source.end(ctx, f.subject)
	} else if f.first, err = f.source.recover(ctx, f.subject, after.whole()); err == nil {
		if after.Lacking && f.first.gap == nil {
			f.first.gap = &Gap{Code: UnknownCursor, Cursor: after.whole()}
		}
		f.start = Start{Cursor: after, Recovered: true}
		if gap := f.first.gap; gap != nil {
			f.start = Start{Cursor: gap.Cursor, Gap: true}
		}
	}
	if err != nil || f.part == nil {
		return err
	}
	if f.state, err = f.part.stateOf(ctx, f.stateSubject); err != nil {
		return err
	}
	if f.census, err = f.part.census(ctx, f.subject, f.start.Cursor, f.state.state); err != nil {
		return err
	}
	f.start.Unread, f.start.ReadState = f.census.unread, f.state.version
	return nil
}

// recover is replay for a cursor that comes from outside: it may be anybody's.
func (src *source) recover(ctx context.Context, subject string, after Cursor) (replay, error) {
	r, err := src.replay(ctx, subject, origin{Cursor: after})
	if err != nil || r.own || r.gap != nil && r.gap.Code == UnknownCursor {
		return r, err
	}
	if after.Elsewhere && len(r.messages) > 0 && r.messages[0].Cursor.Seq == after.Seq+1 {
		return r, nil // the place before a gap is nobody else's, whatever is older
	}
	if foreign, err := src.foreign(ctx, subject, after); err != nil || !foreign {
		return r, err
	}
	return src.unknown(ctx, subject)
}

// Start returns where the feed begins. It does not change.
func (f *Feed) Start() Start { return f.start }

// Resume has the feed offer what comes next: after Follow, and after the sink
// answered false and has room again. It does not block, and may be called from
// within the sink.
func (f *Feed) Resume() {
	if f.resume.CompareAndSwap(false, true) {
		f.shard.post(f.begin)
		return
	}
	f.shard.post(f.resumed)
}

// Settled has there called, once, when the sink has taken everything that is
// known to be stored, and what comes next is live: at once where it is so
// already. It is called by the goroutine that calls the sink, and must not block.
// One that is still to come is replaced, and none comes of a feed that is closed.
// Settled does not block.
func (f *Feed) Settled(there func()) {
	f.shard.post(func() {
		f.settled = there
		if f.phase == live {
			f.settle()
		}
	})
}

// Rewind has the feed go back: the sink has dropped what it took after a place,
// and is offered it again after Resume. The place is one that the feed has
// passed. there is called, by the goroutine that calls the sink, once the feed
// stands there and rests. Until then the sink may still be offered what came
// next, and has to refuse it, or that would overtake what comes again. Rewind
// does not block, and may be called from within the sink. A feed that is closed
// goes nowhere any more.
func (f *Feed) Rewind(to Cursor, there func()) {
	f.shard.post(func() {
		if f.rewind(to) {
			there()
		}
	})
}

// Close ends the feed. A call of the sink that is under way ends soon; no
// other begins. Close may be called more than once.
func (f *Feed) Close() {
	if f.closed.CompareAndSwap(false, true) {
		f.shard.post(func() { f.shard.detach(f) })
	}
}
