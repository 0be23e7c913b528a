package bus_test

import (
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
)

// settled returns how many items the sink had when its feed was settled, once it
// is.
func settled(t *testing.T, s *sink) <-chan int {
	t.Helper()
	had := make(chan int, 1)
	s.feed.Settled(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		had <- len(s.items)
	})
	return had
}

func wantSettled(t *testing.T, had <-chan int, want int) {
	t.Helper()
	select {
	case n := <-had:
		if n != want {
			t.Errorf("settled with %d items, want %d", n, want)
		}
	case <-time.After(patience(t)):
		t.Fatal("the feed is not settled")
	}
}

// A feed is settled when everything that is stored has been taken, however many
// reads that needs, and not before.
func TestSettledWhenAllThatIsStoredIsTaken(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	empty := follow(t, b, jane, bus.Cursor{})
	start := empty.feed.Start().Cursor
	wantSettled(t, settled(t, empty), 0)
	const stored = 150 // more than two reads bring
	publishAll(t, b, jane, 1, stored)
	empty.wait(stored)
	wantSettled(t, settled(t, empty), stored) // once more, of a feed that is live

	s := newSink(t, 100)
	var err error
	if s.feed, err = b.Follow(t.Context(), jane, start, s); err != nil {
		t.Fatal(err)
	}
	defer s.feed.Close()
	had := settled(t, s)
	s.feed.Resume()
	eventually(t, "the sink has no room", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.refused > 0 })
	s.give(-1)
	wantSettled(t, had, stored)

	lost := follow(t, b, jane, bus.Unknown)
	wantSettled(t, settled(t, lost), 1) // the gap
}

// Nobody hears of a feed that is closed.
func TestNothingIsSettledAfterClose(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	wantSettled(t, settled(t, s), 0)
	s.feed.Close()
	had := settled(t, s)
	other := follow(t, b, jane, bus.Cursor{}) // of the same loop, after it
	wantSettled(t, settled(t, other), 0)
	select {
	case <-had:
		t.Error("a closed feed is settled")
	default:
	}
}
