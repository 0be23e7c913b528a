package bus_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// How many durables there are, and how they come and go.

// What a process has left half made over its death is made anew by whoever has the
// claim, and by nobody who has lost it while waiting.
func TestHalfMadeDurable(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, func(c *bus.Config) { c.Timeout = 4 * time.Second })
	other := openOn(t, s, nil)
	jane := inbox("jane")
	if err := b.LeaveUnsettled(t.Context(), jane, bus.FollowedInbox, "wall", 0, 0); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := b.OpenDurable(t.Context(), jane, bus.FollowedInbox, "wall", bus.Cursor{}, func(bus.Loss) {})
		opened <- err
	}()
	eventually(t, "the claim is held", func() bool { return b.Stats().SlotsHeld.Load() == 1 })
	if err := other.ClaimDurable(t.Context(), jane, bus.FollowedInbox, "wall", func() {}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-opened:
		if !errors.Is(err, bus.ErrTakenOver) || !errors.Is(err, peal.ErrTooManyConnections) {
			t.Errorf("who lost the claim: got %v, want ErrTakenOver", err)
		}
	case <-time.After(patience(t)):
		t.Fatal("who lost the claim still waits")
	}
	if n, err := b.Unsettled(t.Context(), jane); n != 1 || err != nil {
		t.Errorf("got %d and %v, want the one that is not settled", n, err)
	}
	if h := hold(t, b, jane, bus.FollowedInbox, "wall", bus.Cursor{}); !h.durable.New() {
		t.Error("it was used as it was")
	}
}

// What processes have left half made is in nobody's way for long; what is just being
// made is left alone.
func TestHalfMadeDurablesMakeRoom(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Timeout = 4 * time.Second })
	jane := inbox("jane")
	hold(t, b, jane, bus.FollowedInbox, "kept", bus.Cursor{}).leave()
	for slot, ago := range map[int]time.Duration{1: 2 * time.Minute, 2: 0} {
		if err := b.LeaveUnsettled(t.Context(), jane, bus.FollowedTickets, fmt.Sprint("left-", slot), slot, ago); err != nil {
			t.Fatal(err)
		}
	}
	hold(t, b, jane, bus.FollowedInbox, "new", bus.Cursor{}).leave()
	if got := durables(t, b, jane); !slices.Equal(got, []string{"kept", "new"}) {
		t.Errorf("got %v", got)
	}
	var full *bus.TooManyDurablesError
	if _, err := b.OpenDurable(t.Context(), jane, bus.FollowedInbox, "newer", bus.Cursor{}, func(bus.Loss) {}); !errors.As(err, &full) {
		t.Errorf("where one is just being made: got %v, want a TooManyDurablesError", err)
	}
	if n, err := b.Unsettled(t.Context(), jane); n != 1 || err != nil {
		t.Errorf("got %d and %v, want the one that is just being made", n, err)
	}
}

// However many are made at once, of either route and on any node, a user has three,
// and of a name one on each route.
func TestUserHasThreeDurables(t *testing.T) {
	s := bustest.Server(t)
	nodes := []*bus.Bus{openOn(t, s, nil), openOn(t, s, nil)}
	for round := range 5 {
		jane := inbox(fmt.Sprint("jane", round))
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex
			made   []string
			refuse int
		)
		for i := range 20 {
			of := []bus.Followed{bus.FollowedInbox, bus.FollowedTickets}[i/2%2]
			name := fmt.Sprint("d", i/4) // each four times: twice on each route
			wg.Go(func() {
				d, err := nodes[i%2].OpenDurable(t.Context(), jane, of, name, bus.Cursor{}, func(bus.Loss) {})
				mu.Lock()
				defer mu.Unlock()
				var full *bus.TooManyDurablesError
				switch {
				case err == nil:
					made = append(made, name+" "+string(of))
					d.Close()
				case errors.As(err, &full) && errors.Is(err, peal.ErrTooManyConnections):
					refuse++
					if len(full.Names) == 0 || len(full.Names) > bus.MaxDurables {
						t.Errorf("refused because of %v", full.Names)
					}
				default:
					t.Errorf("open durable %s: %v", name, err)
				}
			})
		}
		wg.Wait()
		all, err := nodes[0].DurablesOf(t.Context(), jane)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(made)
		made = slices.Compact(made)
		var got []string
		for _, d := range all {
			got = append(got, d.Name+" "+string(d.Followed))
		}
		slices.Sort(got)
		if len(got) != bus.MaxDurables || !slices.Equal(got, made) || refuse == 0 {
			t.Fatalf("round %d: got %v, want %d, those that were opened: %v; %d refused", round, got, bus.MaxDurables, made, refuse)
		}
	}
}

// The region has as many as it may, and then those that there are go on.
func TestDurablesAreBounded(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Durables = 2 })
	hold(t, b, inbox("jane"), bus.FollowedInbox, "a", bus.Cursor{}).leave()
	hold(t, b, inbox("joe"), bus.FollowedTickets, "a", bus.Cursor{}).leave()
	if _, err := b.OpenDurable(t.Context(), inbox("ann"), bus.FollowedInbox, "a", bus.Cursor{}, func(bus.Loss) {}); !errors.Is(err, bus.ErrDurablesFull) {
		t.Errorf("a third: got %v, want ErrDurablesFull", err)
	}
	hold(t, b, inbox("jane"), bus.FollowedInbox, "a", bus.Cursor{}).leave()
	if n, err := b.RemoveDurables(t.Context(), inbox("joe"), "a"); n != 1 || err != nil {
		t.Fatalf("remove one: got %d and %v", n, err)
	}
	hold(t, b, inbox("ann"), bus.FollowedInbox, "a", bus.Cursor{}).leave()
}

// A stream has a bound of its own.
func TestDurablesOfAStreamAreBounded(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	js := bustest.JetStream(t, s)
	stream, _ := b.StreamOf(inbox("jane"))
	found, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := found.CachedInfo().Config
	cfg.MaxConsumers = 1
	if err := js.DeleteStream(t.Context(), stream); err != nil { // the bound of one that is there can't be changed
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	hold(t, b, inbox("jane"), bus.FollowedInbox, "a", bus.Cursor{}).leave()
	if _, err := b.OpenDurable(t.Context(), inbox("joe"), bus.FollowedInbox, "a", bus.Cursor{}, func(bus.Loss) {}); !errors.Is(err, bus.ErrDurablesFull) {
		t.Errorf("a second: got %v, want ErrDurablesFull", err)
	}
	hold(t, b, inbox("joe"), bus.FollowedTickets, "a", bus.Cursor{}).leave()
}

// Removed is who is not followed by anybody for so long. What is in use stays,
// however little happens.
func TestUnusedDurableIsRemoved(t *testing.T) {
	const unused = 2 * time.Second
	b := open(t, func(c *bus.Config) { c.DurableUnused = unused })
	jane := inbox("jane")
	kept := hold(t, b, jane, bus.FollowedInbox, "kept", bus.Cursor{})
	hold(t, b, jane, bus.FollowedTickets, "left", bus.Cursor{}).leave()
	began := time.Now()
	eventually(t, "the unused one is gone", func() bool { return slices.Equal(durables(t, b, jane), []string{"kept"}) })
	if d := time.Since(began); d < unused/2 {
		t.Errorf("it was gone after %v, want about %v", d, unused)
	}
	for time.Since(began) < 3*unused {
		if got := durables(t, b, jane); !slices.Equal(got, []string{"kept"}) {
			t.Fatalf("after %v: got %v, want the one in use", time.Since(began), got)
		}
		time.Sleep(unused / 10)
	}
	kept.leave()
	eventually(t, "it is gone once it is unused", func() bool { return durables(t, b, jane) == nil })
}

// Who follows by a durable that is removed is told, and it does not come back by
// itself.
func TestRemovedDurable(t *testing.T) {
	s := bustest.Server(t)
	one, two := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	h := followBy(t, one, jane, "wall", bus.Cursor{})
	hold(t, one, jane, bus.FollowedTickets, "wall", bus.Cursor{}).leave()
	hold(t, one, jane, bus.FollowedInbox, "other", bus.Cursor{}).leave()
	publishAll(t, one, jane, 1, 2)
	h.wait(2)
	if n, err := two.RemoveDurables(t.Context(), jane, "wall"); n != 2 || err != nil {
		t.Fatalf("remove: got %d and %v, want both of the name", n, err)
	}
	if why := h.loss(t); why != bus.Removed {
		t.Errorf("the follower hears %q, want %q", why, bus.Removed)
	}
	h.durable.Received(h.cursor(1))
	h.leave()
	if n, err := two.RemoveDurables(t.Context(), jane, "wall"); n != 0 || err != nil {
		t.Errorf("once more: got %d and %v, want none", n, err)
	}
	if got := durables(t, two, jane); !slices.Equal(got, []string{"other"}) {
		t.Errorf("got %v, want the other", got)
	}
	again := followBy(t, two, jane, "wall", bus.Cursor{})
	if !again.durable.New() {
		t.Error("it is there again, and nobody made it")
	}
}

// A consumer that somebody deletes past us is noticed with the next place.
func TestDurableThatSomebodyDeletes(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	jane := inbox("jane")
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 1, 1)
	h.wait(1)
	stream, _ := b.StreamOf(jane)
	js := bustest.JetStream(t, s)
	found, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for name := range found.ConsumerNames(t.Context()).Name() {
		if err := js.DeleteConsumer(t.Context(), stream, name); err != nil {
			t.Fatal(err)
		}
	}
	h.durable.Received(h.cursor(0))
	if why := h.loss(t); why != bus.Removed {
		t.Errorf("the follower hears %q, want %q", why, bus.Removed)
	}
}
