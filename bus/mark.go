package bus

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Mark says which notifications of an inbox are read now: exactly one of IDs,
// UpTo and All.
type Mark struct {
	IDs  []string // those; an id that the inbox does not hold means nothing
	UpTo Cursor   // that one and all older ones; what is no place of this inbox means none
	All  bool     // all that are stored

	// Unread: they are unread again.
	Unread bool
}

// Marked says what a Mark has done.
type Marked struct {
	Changed int // so many were unread before, or read where the Mark makes them unread
	Unread  int // so many are unread now
}

// Mark marks notifications as read, or as unread again. When it returns, List and
// Count of every node know of it, and every feed of the inbox is told.
//
// Of two at the same time the later is applied to what the first has left, so
// both have their effect. A repeated one changes nothing. The error is a
// peal.ErrUnavailable, after Config.Timeout at the latest, when it may have taken
// effect, or ctx's.
func (b *Bus) Mark(ctx context.Context, in peal.Inbox, m Mark) (Marked, error) {
	const doing = "mark notifications"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	part, pl := b.partition(in)
	picks := m.picker(in)
	for try := 0; ; try++ {
		result, err := part.mark(ctx, pl, m, picks)
		if err == nil {
			return result, nil
		}
		if !isConflict(err) && !errors.Is(err, errRenewed) {
			return Marked{}, unavailable(doing, err)
		}
		// Another was faster: what it wrote is what this one is applied to.
		pause := min(conflictPause<<min(try, 6), 200*time.Millisecond)
		select {
		case <-ctx.Done():
			return Marked{}, unavailable(doing, ctx.Err())
		case <-time.After(rand.N(pause)):
		}
	}
}

// conflictPause is within which, at random, the first repetition begins; it
// doubles.
const conflictPause = 4 * time.Millisecond

// picker returns which stored notifications are meant.
func (m Mark) picker(in peal.Inbox) func(Epoch, kept) bool {
	switch {
	case m.All:
		return func(Epoch, kept) bool { return true }
	case !m.UpTo.IsZero():
		return func(e Epoch, k kept) bool { return e == m.UpTo.Epoch && k.seq <= m.UpTo.Seq }
	}
	ids := messageIDs(in, m.IDs)
	return func(_ Epoch, k kept) bool { return ids[k.msgID] }
}

// reach says how far back a Mark needs an inbox: to the oldest that it may change,
// for what is older than the oldest unread one is read already, and to what UpTo
// names, for that has to be one of this inbox.
func (m Mark) reach(s readState) reach {
	if m.Unread {
		return everything
	}
	far := unreadOnes(s)
	if m.UpTo.Epoch == s.epoch && !m.UpTo.Elsewhere {
		far.from = min(far.from, m.UpTo.Seq)
	}
	return far
}

// errRenewed: the stream became another one meanwhile.
var errRenewed = errors.New("the stream of the inbox was made anew")

// mark applies a Mark to what is stored at this moment.
func (p *partition) mark(ctx context.Context, pl place, m Mark, picks func(Epoch, kept) bool) (Marked, error) {
	if err := p.bus.writable(); err != nil {
		return Marked{}, err
	}
	before, err := p.stateFromLeader(ctx, pl)
	if err != nil {
		return Marked{}, err
	}
	if before.newer {
		return Marked{}, errNewerState
	}
	state := p.in(before.state, p.known().epoch)
	c, err := p.contents(ctx, pl, m.reach(state))
	if err != nil {
		return Marked{}, err
	}
	if c.epoch != state.epoch {
		return Marked{}, errRenewed
	}
	if !m.UpTo.IsZero() && !c.hasPlace(m.UpTo) {
		m.UpTo, picks = Cursor{}, func(Epoch, kept) bool { return false }
	}
	after, changed, unread := state.apply(c, m, picks)
	if len(changed) == 0 && after.dropped == state.truncated(c.witness) {
		return Marked{Unread: unread}, nil
	}
	body, err := after.encode(changed)
	if err != nil {
		return Marked{}, err
	}
	_, err = p.bus.writes.PublishMsg(ctx, &nats.Msg{Subject: pl.subject("state", p.home.region), Data: body},
		jetstream.WithExpectLastSequencePerSubject(before.version.Seq))
	if err != nil {
		return Marked{}, full(p.stateStream, err)
	}
	return Marked{Changed: len(changed), Unread: unread}, nil
}

// hasPlace reports whether a cursor is a place of this inbox, which was read back to
// there: of one of its notifications, or one that names none. What names somebody
// else's, nobody's, or one that is gone, before which there is nothing, all comes to
// the same: so no answer tells what others have.
func (c contents) hasPlace(at Cursor) bool {
	_, own := slices.BinarySearchFunc(c.kept, at.Seq, func(k kept, seq uint64) int { return cmp.Compare(k.seq, seq) })
	return at.Epoch == c.epoch && (own || at.Elsewhere)
}

// apply returns the state after a Mark, what it has changed, and how many of the
// contents are unread then. Of more changes than are told one by one the ids are
// left out.
func (s readState) apply(c contents, m Mark, picks func(Epoch, kept) bool) (after readState, changed []ReadChange, unread int) {
	seqs := make([]uint64, len(c.kept))
	isRead := make([]bool, len(c.kept))
	for i, k := range c.kept {
		seqs[i], isRead[i] = k.seq, s.has(k.seq)
		if isRead[i] == m.Unread && picks(c.epoch, k) {
			isRead[i] = !m.Unread
			change := ReadChange{Read: isRead[i]}
			if len(changed) < maxChanges {
				change.ID = k.brief.ID
			}
			changed = append(changed, change)
		}
		if !isRead[i] {
			unread++
		}
	}
	after = compact(c.epoch, c.below(), seqs, isRead)
	after.dropped = s.truncated(c.witness) && unread > 0 && !m.covers(c)
	return after, changed, unread
}

// covers reports whether a Mark says that what has dropped out of the inbox is
// read too.
func (m Mark) covers(c contents) bool {
	return !m.Unread && (m.All || m.UpTo.Epoch == c.epoch && m.UpTo.Seq > c.witness)
}

// replaced returns the sequence of the read state that a stored one was applied
// to; 0 if there was none.
func (m stored) replaced() uint64 {
	seq, err := strconv.ParseUint(m.header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}
