package bus_test

import (
	"fmt"
	"strings"
	"sync"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// This file is the plain model that inboxes are held against: what was published
// to one, and what was done about it, in the order in which it ended. It knows
// nothing of floors, versions and feeds.

// mode is what devices may do to an inbox at the same time. Of what may happen
// together the outcome does not depend on the order.
type mode int

const (
	owned   mode = iota // each marks its own, as read or as unread again
	forward             // everybody marks what they like as read
	alone               // one does what it likes at a time
	modes
)

// markings is the history of one inbox.
type markings struct {
	in     peal.Inbox
	number int

	// Held for reading by who marks, for writing by who changes the mode, or
	// does what goes with nothing else.
	doing sync.RWMutex
	mode  mode
	lone  sync.Mutex // held by who marks where the mode is alone

	mu     sync.Mutex // protects the rest
	clock  int
	notes  map[string]*note // by id
	recent []string         // ids, the newest last
	marks  []marking        // since all was quiet last
}

func newMarkings(number int) *markings {
	return &markings{in: inbox(fmt.Sprint("user-", number)), number: number, notes: make(map[string]*note)}
}

// note is one notification.
type note struct {
	span
	number int
	base   reads // when all was quiet last
}

// span is from when to when something happened, by the clock of its inbox; until
// is 0 as long as it may go on.
type span struct{ from, until int }

// before reports whether a span ended before another began.
func (s span) before(other span) bool { return s.until != 0 && s.until < other.from }

// reads is what a notification may be.
type reads struct{ read, unread bool }

func (r reads) allows(read bool) bool { return read && r.read || !read && r.unread }

func only(read bool) reads { return reads{read: read, unread: !read} }

// marking is something that was done.
type marking struct {
	span
	ids    []string // those; or
	upTo   uint64   // all up to a sequence; or 0:
	all    bool     // all that are stored
	unread bool
}

func (m marking) String() string {
	what := strings.Join(m.ids, " ")
	if m.all {
		what = "all"
	} else if m.upTo > 0 {
		what = fmt.Sprint("up to ", m.upTo)
	}
	if m.unread {
		what += " unread"
	}
	return fmt.Sprintf("%d-%d %s", m.from, m.until, what)
}

// begin notes that a notification is about to be published, and returns its id.
func (h *markings) begin() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	n := &note{span: span{from: h.clock}, number: len(h.notes), base: only(false)}
	id := fmt.Sprintf("u%d-%d", h.number, n.number)
	h.notes[id] = n
	h.recent = append(h.recent, id)
	return id
}

// stored notes that a notification is stored.
func (h *markings) stored(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.notes[id].until = h.clock
}

// now returns the time.
func (h *markings) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

// done notes what was done since a time.
func (h *markings) done(since int, m marking) marking {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	m.span = span{since, h.clock}
	h.marks = append(h.marks, m)
	return m
}

// last returns up to so many of the newest ids.
func (h *markings) last(n int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.recent[max(0, len(h.recent)-n):]...)
}

// numberOf returns the number of a notification.
func (h *markings) numberOf(id string) (int, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.notes[id]
	if !ok {
		return 0, false
	}
	return n.number, true
}

// covers reports whether a notification of an id, at a sequence, is one that a
// marking is of, and whether that is certain.
func (h *markings) covers(m marking, id string, seq uint64) (is, certain bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.notes[id]
	return ok && n.covered(m, id, seq), ok && (m.upTo > 0 || n.before(m.span))
}

func (n *note) covered(m marking, id string, seq uint64) bool {
	switch {
	case n.from > m.until:
		return false
	case m.all:
		return true
	case m.upTo > 0:
		return seq <= m.upTo
	}
	for _, other := range m.ids {
		if other == id {
			return true
		}
	}
	return false
}

// may returns what a notification that is stored at a sequence may be.
func (h *markings) may(id string, seq uint64) (reads, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.notes[id]
	if !ok {
		return reads{}, fmt.Errorf("%s was never published to this inbox", id)
	}
	r := n.base
	for _, m := range h.marks {
		switch {
		case !n.covered(m, id, seq):
		case m.upTo > 0 || n.before(m.span): // what is older than a place that somebody has seen was stored by then
			r = only(!m.unread)
		default:
			r.read, r.unread = r.read || !m.unread, r.unread || m.unread
		}
	}
	return r, nil
}

// said returns what was done about a notification.
func (h *markings) said(id string, seq uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.notes[id]
	if n == nil {
		return ""
	}
	s := fmt.Sprintf("published %d-%d, then %+v", n.from, n.until, n.base)
	for _, m := range h.marks {
		if n.covered(m, id, seq) {
			s += fmt.Sprintf("\n\t%v", m)
		}
	}
	return s
}

// settle begins anew with what the notifications are now: all is quiet.
func (h *markings) settle(entries []entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.marks = nil
	for _, n := range h.notes {
		n.until = h.clock // or it is not stored and never will be
	}
	for _, e := range entries {
		if n := h.notes[e.id]; n != nil {
			n.base = only(e.read)
		}
	}
	h.recent = h.recent[max(0, len(h.recent)-200):]
}

// entry is a notification as a device shows it.
type entry struct {
	id     string
	cursor bus.Cursor
	read   bool
}

func (e entry) String() string {
	if e.read {
		return e.id
	}
	return e.id + "*"
}
