package bus_test

import (
	"errors"
	"fmt"

	"github.com/pealhq/peal/bus"
)

// place is where a follower stands in the history of its inbox.
type place struct {
	cursor bus.Cursor // what it resumes from; zero before it has ever followed

	incarnation int  // of the stream; -1 of a cursor that is nobody's
	exact       bool // the cursor is that of notification least

	// The notifications up to least are behind it, those up to most may be:
	// where a follower without a cursor begins is only known about.
	least, most int

	// A declared gap lies between least and what comes next: of the
	// notifications up to covered, those that are gone may be missing.
	gap     bool
	covered int

	owed bool // the start promised a gap that was not declared yet
}

// has reports whether nothing up to a notification is still to come.
func (p place) has(n int) bool { return max(p.least, p.covered) >= n }

// got reports whether a notification is the last that came.
func (p place) got(n int) bool { return p.exact && p.least == n }

// follower judges what one follower of an inbox gets, over all its connections.
// Every method but asked returns what is wrong.
type follower struct {
	h *inboxHistory
	place

	// Of the connection.
	before mark
	start  bus.Start
	taken  bool // something was taken from the feed
	late   bool // something was refused before anything was taken
}

// mark is how far the history was when a connection was asked for.
type mark struct{ started, acked, recreated int }

// asked notes that the follower is about to connect from its place.
func (f *follower) asked() {
	s := f.h.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	f.before = mark{len(f.h.all), f.h.acked, s.done}
}

// started takes how the connection begins.
func (f *follower) started(start bus.Start) error {
	s := f.h.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	f.start, f.taken, f.late = start, false, false
	k, err := s.incarnation(start.Cursor.Epoch)
	switch {
	case err != nil:
		return fmt.Errorf("start: %w", err)
	case k < f.before.recreated:
		return fmt.Errorf("starts in incarnation %d, but there was %d already", k, f.before.recreated)
	case f.cursor.IsZero():
		if start.Gap || start.Recovered {
			return fmt.Errorf("start without a cursor is %+v", start)
		}
		f.place = place{cursor: start.Cursor, incarnation: k, least: f.before.acked, most: len(f.h.all)}
		return nil
	case start.Gap == start.Recovered || start.Recovered && f.incarnation < 0:
		return fmt.Errorf("start after %v is %+v", f.cursor, start)
	case start.Recovered && start.Cursor != f.cursor:
		return fmt.Errorf("recovered after %v instead of %v", start.Cursor, f.cursor)
	}
	if f.incarnation < 0 {
		f.least = f.before.acked // it goes on at the live end
	}
	f.owed = start.Gap
	return nil
}

// delivered takes a notification.
func (f *follower) delivered(id string, at bus.Cursor) error {
	h := f.h
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	f.taken = true
	n, ok := h.numbers[id]
	if !ok {
		return fmt.Errorf("%s was never published to this inbox", id)
	}
	k, err := h.stream.incarnation(at.Epoch)
	switch {
	case err != nil:
		return fmt.Errorf("%d: %w", n, err)
	case !h.may(n, k):
		return fmt.Errorf("%d of incarnation %d comes as one of %d", n, h.all[n-1].from, k)
	case f.owed:
		return fmt.Errorf("%d comes before the gap that the start has promised", n)
	case k != f.incarnation:
		return fmt.Errorf("%d of incarnation %d comes without a gap after incarnation %d", n, k, f.incarnation)
	case at.Seq <= f.cursor.Seq:
		return fmt.Errorf("%d: cursor goes back from %v to %v", n, f.cursor, at)
	case n <= f.least:
		return fmt.Errorf("%d after %d: repeated or out of order", n, f.least)
	}
	for m := f.most + 1; m < n; m++ {
		switch {
		case !h.certain(m, k):
		case !f.exact && h.purgedSince(m):
			// It stands on no message whose absence would show the purge.
		case !f.gap || m > f.covered:
			return fmt.Errorf("%d after %d: lost %d without a gap", n, f.most, m)
		case h.kept(m):
			return fmt.Errorf("%d after a gap after %d: it passes over %d, which is still stored", n, f.most, m)
		}
	}
	f.place = place{cursor: at, incarnation: k, exact: true, least: n, most: n}
	return h.meet(n, at)
}

// gapped takes a gap.
func (f *follower) gapped(g bus.Gap) error {
	h := f.h
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	first := !f.taken && !f.late
	f.taken = true
	k, err := h.stream.incarnation(g.Cursor.Epoch)
	if err != nil {
		return fmt.Errorf("gap: %w", err)
	}
	next := place{cursor: g.Cursor, incarnation: k, covered: len(h.all)}
	switch g.Code {
	case bus.HistoryTruncated:
		err = f.truncated(k, g.Cursor, first)
		next.gap, next.least, next.most = true, f.least, f.most
	case bus.UnknownCursor:
		err = f.unknown(k)
		next.most = len(h.all)
		if f.incarnation < 0 {
			next.least = f.least
		}
	default:
		err = fmt.Errorf("gap %s", g.Code)
	}
	f.place = next
	return err
}

// truncated judges a gap in the history of the incarnation where the follower
// stands. It is true if the notification that it has last may be gone. (For one
// that has none nothing can be shown: the beginning of the stream may have
// passed its cursor.)
func (f *follower) truncated(incarnation int, at bus.Cursor, first bool) error {
	h := f.h
	switch {
	case incarnation != f.incarnation:
		return fmt.Errorf("truncated in incarnation %d after %d", incarnation, f.incarnation)
	case at.Seq < f.cursor.Seq:
		return fmt.Errorf("cursor of a gap goes back from %v to %v", f.cursor, at)
	case f.exact && h.kept(f.least):
		return fmt.Errorf("untrue gap after %d, which is still stored", f.least)
	case first && f.start.Recovered && f.before.acked == len(h.all) && f.least > 0 && !h.expired(f.least) && !h.purgedSince(f.least):
		return fmt.Errorf("gap after %d, though recovered and nothing was published since", f.least)
	}
	return nil
}

// unknown judges a gap that says that the cursor means nothing.
func (f *follower) unknown(incarnation int) error {
	switch {
	case f.incarnation < 0 || incarnation > f.incarnation:
		return nil
	case incarnation < f.incarnation:
		return fmt.Errorf("from incarnation %d back to %d", f.incarnation, incarnation)
	case f.least > 0 && f.h.purgedSince(f.least):
		// It is gone, and a server that was killed has older ones for a while: as after
		// another's cursor.
		return nil
	}
	return errors.New("untrue gap: the cursor is of this incarnation")
}

// forget has the follower go on as a new one, or with a cursor that nobody was
// ever given.
func (f *follower) forget(cursor bus.Cursor) {
	f.place = place{cursor: cursor, incarnation: -1}
}
