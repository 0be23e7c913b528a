package bus_test

import "testing"

// The model of what was marked is worth something if it knows what must be, and
// leaves open what may be: hand-written histories of a notification at sequence 5.
func TestMarkingsDecide(t *testing.T) {
	const id, seq = "u0-0", 5
	// During what is marked nothing else happens, but for what is said.
	marks := func(m marking) func(*markings) {
		return func(h *markings) { h.done(h.now(), m) }
	}
	publishes := func(h *markings) { h.begin() }
	isStored := func(h *markings) { h.stored(id) }
	begun := 0
	begins := func(h *markings) { begun = h.now() }
	ends := func(m marking) func(*markings) {
		return func(h *markings) { h.done(begun, m) }
	}
	both := reads{read: true, unread: true}
	for _, tt := range []struct {
		name    string
		history []func(*markings)
		want    reads
	}{
		{"new", []func(*markings){publishes, isStored}, only(false)},
		{"marked", []func(*markings){publishes, isStored, marks(marking{ids: []string{id}})}, only(true)},
		{"another is marked", []func(*markings){publishes, isStored, marks(marking{ids: []string{"u0-1"}})}, only(false)},
		{"unread again", []func(*markings){publishes, isStored, marks(marking{all: true}), marks(marking{ids: []string{id}, unread: true})}, only(false)},
		{"up to it", []func(*markings){publishes, isStored, marks(marking{upTo: seq})}, only(true)},
		{"up to one before it", []func(*markings){publishes, isStored, marks(marking{upTo: seq - 1})}, only(false)},
		{"all, before it is published", []func(*markings){marks(marking{all: true}), publishes, isStored}, only(false)},
		{"all, while it is published", []func(*markings){publishes, marks(marking{all: true}), isStored}, both},
		{"published while all is marked", []func(*markings){begins, publishes, isStored, ends(marking{all: true})}, both},
		{"up to it, which somebody has seen", []func(*markings){publishes, marks(marking{upTo: seq}), isStored}, only(true)},
		{"nobody knows whether it is stored", []func(*markings){publishes, marks(marking{all: true})}, both},
		{"all again, once it is stored", []func(*markings){publishes, marks(marking{all: true}), isStored, marks(marking{all: true})}, only(true)},
		{"quiet", []func(*markings){publishes, marks(marking{all: true}), func(h *markings) { h.settle([]entry{{id: id, read: true}}) }}, only(true)},
		{"unread since it was quiet", []func(*markings){publishes, func(h *markings) { h.settle([]entry{{id: id, read: true}}) }, marks(marking{all: true, unread: true})}, only(false)},
	} {
		h := newMarkings(0)
		for _, happens := range tt.history {
			happens(h)
		}
		if got, err := h.may(id, seq); err != nil || got != tt.want {
			t.Errorf("%s: it may be %+v, want %+v; %v", tt.name, got, tt.want, err)
		}
	}
	if _, err := newMarkings(0).may(id, seq); err == nil {
		t.Error("what was never published may be something")
	}
}
