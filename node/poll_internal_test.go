package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// placeOf is a place of some inbox.
func placeOf(seq uint64) bus.Cursor { return bus.Cursor{Epoch: "aaaaaaaa", Seq: seq} }

func message(seq uint64) *bus.Message {
	return &bus.Message{Cursor: placeOf(seq), Data: fmt.Appendf(nil, `{"id":"n%d"}`, seq)}
}

// wantAnswer ends a poll and holds its answer against what is wanted.
func (p *poll) wantAnswer(t *testing.T, seqs []uint64, want pollEnd) {
	t.Helper()
	found, got, err := p.answer()
	if err != nil {
		t.Fatal(err)
	}
	var is []uint64
	for _, one := range found {
		is = append(is, one.at.Seq)
	}
	if diff := cmp.Diff(seqs, is); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func (p *poll) isOver() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// An answer has one place for a gap, before everything else: another is left for
// the next poll, and so is what comes after it.
func TestPollLeavesAGapInTheMiddleToTheNext(t *testing.T) {
	p := newPoll(listing{Query: bus.Query{Limit: 9}, after: placeOf(1), wait: time.Minute})
	if !p.Gap(bus.Gap{Code: bus.HistoryTruncated, Cursor: placeOf(4)}) || !p.Deliver(message(5)) || p.isOver() {
		t.Fatal("a gap and what follows it are not taken")
	}
	if p.Gap(bus.Gap{Code: bus.HistoryTruncated, Cursor: placeOf(7)}) || p.Deliver(message(8)) || !p.isOver() {
		t.Error("a second gap is taken, or what follows it")
	}
	p.wantAnswer(t, []uint64{5}, pollEnd{More: true, Gap: true, Cursor: "aaaaaaaa-5"})
}

// What a poll has taken is in its answer, and what it refuses is not; the cursor
// is between the two.
func TestPollAnswersWhatItHasTaken(t *testing.T) {
	page := func(waits time.Duration) *poll {
		return newPoll(listing{Query: bus.Query{Limit: 3}, after: placeOf(1), wait: waits})
	}
	full := page(0)
	for seq := uint64(2); seq <= 4; seq++ {
		if full.isOver() || !full.Deliver(message(seq)) {
			t.Fatalf("%d is refused", seq)
		}
	}
	if !full.isOver() || full.Deliver(message(5)) {
		t.Error("more than a page is taken")
	}
	full.wantAnswer(t, []uint64{2, 3, 4}, pollEnd{More: true, Cursor: "aaaaaaaa-4"})

	arrived := page(time.Minute)
	arrived.settle()
	if arrived.isOver() {
		t.Error("a poll with nothing does not wait")
	}
	arrived.State(bus.ReadState{Version: bus.Cursor{Epoch: "bbbbbbbb", Seq: 2}})
	if arrived.isOver() {
		t.Error("a change of the read state is answered")
	}
	if !arrived.Deliver(message(2)) || !arrived.isOver() || arrived.Deliver(message(3)) {
		t.Error("a poll with something goes on to wait")
	}
	arrived.wantAnswer(t, []uint64{2}, pollEnd{Cursor: "aaaaaaaa-2", ReadState: "bbbbbbbb-2"})

	late := page(time.Minute)
	late.settle()
	late.wantAnswer(t, nil, pollEnd{Cursor: "aaaaaaaa-1"})
	if late.Deliver(message(2)) || late.Gap(bus.Gap{Cursor: placeOf(3)}) {
		t.Error("something is taken after the answer")
	}
}

// A poll that was not told all that is stored does not say that there is nothing.
func TestPollThatCannotReadSaysSo(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Minute} {
		q := listing{Query: bus.Query{Limit: 9}, after: placeOf(1), wait: wait}
		p := newPoll(q)
		if err := p.await(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.answer(); !errors.Is(err, peal.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}

		p = newPoll(q)
		p.Deliver(message(2))
		began := time.Now()
		if err := p.await(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > soon {
			t.Errorf("what is there was held back for %v", d)
		}
		p.wantAnswer(t, []uint64{2}, pollEnd{More: true, Cursor: "aaaaaaaa-2"})
	}
}

// Whoever is not let in any more is answered with nothing of the inbox, though it
// was there; whom the node sends elsewhere gets it.
func TestPollThatIsEnded(t *testing.T) {
	for why, want := range map[reason]error{
		revoked: peal.ErrUnauthenticated, tokenExpired: peal.ErrTokenExpired, draining: nil, realmChanged: nil,
	} {
		p := newPoll(listing{Query: bus.Query{Limit: 9}, after: placeOf(1), wait: time.Minute})
		p.Deliver(message(2))
		p.end(why, nil)
		if !p.isOver() {
			t.Errorf("%s: it goes on", why)
		}
		found, _, err := p.answer()
		if !errors.Is(err, want) || (len(found) > 0) != (want == nil) {
			t.Errorf("%s: got %d notifications and %v, want %v", why, len(found), err, want)
		}
	}
}
