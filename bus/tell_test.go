package bus_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// told waits for so many read states and returns them, as "unread ids…" with a
// "*" after what is unread again, or "unread refetch".
func (s *sink) told(n int) []string {
	s.t.Helper()
	deadline := time.After(patience(s.t))
	for {
		s.mu.Lock()
		states, changed := s.states, s.changed
		s.mu.Unlock()
		if len(states) >= n {
			var all []string
			for _, state := range states {
				all = append(all, say(state))
			}
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("told of %d read states %v, want %d", len(states), states, n)
		}
	}
}

func say(s bus.ReadState) string {
	words := []string{fmt.Sprint(s.Unread)}
	for _, c := range s.Changed {
		if !c.Read {
			c.ID += "*"
		}
		words = append(words, c.ID)
	}
	if s.Refetch {
		words = append(words, "refetch")
	}
	return strings.Join(words, " ")
}

// Every feed of an inbox on every node is told what was marked on one, with the
// version that the list has.
func TestFeedsAreToldOfMarks(t *testing.T) {
	server := bustest.Server(t)
	one, two := bustest.Open(t, server, nil), bustest.Open(t, server, nil)
	jane := inbox("jane")
	publish(t, one, "n1", jane)
	publish(t, one, "n2", jane)
	sinks := []*sink{follow(t, one, jane, bus.Cursor{}), follow(t, one, jane, bus.Cursor{}), follow(t, two, jane, bus.Cursor{})}
	joe := follow(t, two, inbox("joe"), bus.Cursor{})

	// Each waits for the one before: told of together they would be one event.
	n := 0
	for _, m := range []bus.Mark{
		{IDs: []string{"n1"}},
		{All: true},
		{IDs: []string{"n1", "n2"}, Unread: true},
		{IDs: []string{"n1"}, Unread: true}, // changes nothing, and is not told
		{UpTo: cursorOf(t, one, jane, "n2")},
	} {
		if markAs(t, one, jane, m) > 0 {
			n++
		}
		for _, s := range sinks {
			s.told(n)
		}
	}
	want := []string{"1 n1", "0 n2", "2 n1* n2*", "0 n1 n2"}
	page, err := one.List(t.Context(), jane, bus.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sinks {
		if diff := cmp.Diff(want, s.told(len(want))); diff != "" {
			t.Errorf("feed %d (-want +got):\n%s", i, diff)
		}
		if got := s.states[len(want)-1].Version; got != page.ReadState {
			t.Errorf("feed %d is told of version %v, and the list is of %v", i, got, page.ReadState)
		}
	}
	if len(joe.states) > 0 {
		t.Errorf("another user is told %v", joe.states)
	}
}

// A feed begins with the number of its cursor, and each message says whether it
// is read: at every place the two add up to the count.
func TestStartAndReplayAddUp(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 12 })
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 30 {
		in := inbox(fmt.Sprint("user-", round))
		n := r.IntN(18)
		for i := range n {
			publish(t, b, fmt.Sprint("n", i), in, inbox("other"))
		}
		for range r.IntN(4) {
			m := bus.Mark{Unread: r.IntN(3) == 0}
			for range 1 + r.IntN(6) {
				m.IDs = append(m.IDs, fmt.Sprint("n", r.IntN(20)))
			}
			if r.IntN(4) == 0 {
				m = bus.Mark{All: true}
			}
			markAs(t, b, in, m)
		}
		page, err := b.List(t.Context(), in, bus.Query{})
		if err != nil {
			t.Fatal(err)
		}
		unread := 0
		for i, e := range slices.Backward(page.Entries) {
			if got, _, err := b.Unread(t.Context(), in, e.Cursor); err != nil || int(got) != unread+btoi(!e.Read) {
				t.Fatalf("round %d: %d unread up to entry %d of %v, want %d; %v", round, got, i, list(t, b, in), unread+btoi(!e.Read), err)
			}
			s := follow(t, b, in, e.Cursor)
			got := int(s.feed.Start().Unread)
			s.wait(i)
			s.mu.Lock()
			for _, read := range s.reads {
				got += btoi(!read)
			}
			states := len(s.states)
			s.mu.Unlock()
			s.feed.Close()
			c, err := b.Count(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.Unread || states > 0 {
				t.Fatalf("round %d: a feed after entry %d of %v counts %d and is told of %d states, want %d and none", round, i, list(t, b, in), got, states, c.Unread)
			}
			unread += btoi(!e.Read)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Who comes back with a cursor from before is told what is read by now.
func TestReplayKnowsWhatIsRead(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n0", jane)
	start := cursorOf(t, b, jane, "n0")
	for i := range 4 {
		publish(t, b, fmt.Sprint("n", i+1), jane)
	}
	markAs(t, b, jane, bus.Mark{IDs: []string{"n2", "n3"}})
	s := follow(t, b, jane, start)
	s.wait(4)
	publish(t, b, "n5", jane)
	s.wait(5)
	if want := []bool{false, true, true, false, false}; !slices.Equal(s.reads, want) {
		t.Errorf("n1 to n5 are delivered with read %v, want %v", s.reads, want)
	}
}

// More than can be told one by one, and what was not heard, is to be fetched.
func TestWhatIsNotKnownIsRefetched(t *testing.T) {
	server := bustest.Server(t)
	b, other := bustest.Open(t, server, nil), bustest.Open(t, server, nil)
	jane := inbox("jane")
	const many = 101
	for i := range many {
		publish(t, b, fmt.Sprint("n", i), jane)
	}
	s := follow(t, b, jane, bus.Cursor{})
	markAs(t, other, jane, bus.Mark{All: true})
	if got := s.told(1)[0]; got != "0 refetch" {
		t.Errorf("after %d changes: told %q, want 0 refetch", many, got)
	}

	b.DeafenState(jane)
	markAs(t, other, jane, bus.Mark{IDs: []string{"n1"}, Unread: true})
	markAs(t, other, jane, bus.Mark{IDs: []string{"n2"}, Unread: true})
	b.CheckTails()
	if got := s.told(2)[1]; got != "2 refetch" {
		t.Errorf("after two that were not heard: told %q, want 2 refetch", got)
	}
	markAs(t, other, jane, bus.Mark{IDs: []string{"n1"}})
	b.CheckTails()
	if got := s.told(3)[2]; got != "1 n1" {
		t.Errorf("after one that was not heard: told %q, want 1 n1", got)
	}
}

// What was marked while a follower connected is told to it: the state that it
// began with is compared with the one that arrives.
func TestMarkedWhileConnecting(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	for range 20 {
		s := newSink(t, -1)
		f, err := b.Follow(t.Context(), jane, bus.Cursor{}, s)
		if err != nil {
			t.Fatal(err)
		}
		before := f.Start()
		markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}, Unread: before.Unread == 0})
		f.Resume()
		want := 1 - before.Unread
		if got := s.told(1); !strings.HasPrefix(got[0], fmt.Sprint(want)) {
			t.Fatalf("began with %d unread, told %v, want %d", before.Unread, got, want)
		}
		f.Close()
	}
}

// With an inbox at its bound each that comes has another drop out, which nobody
// is told of: the number is.
func TestNumberAtTheBound(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 3 })
	jane := inbox("jane")
	for i := range 3 {
		publish(t, b, fmt.Sprint("n", i), jane)
	}
	s := follow(t, b, jane, bus.Cursor{})
	if got := s.feed.Start().Unread; got != 3 {
		t.Fatalf("begins with %d unread, want 3", got)
	}
	publish(t, b, "n3", jane)
	if got := s.told(1)[0]; got != "3" {
		t.Errorf("told %q, want 3", got)
	}
	markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}})
	if got := s.told(2)[1]; got != "2 n1" {
		t.Errorf("told %q, want 2 n1", got)
	}
	publish(t, b, "n4", jane) // n1 drops out, which was read: no number is wrong
	publish(t, b, "n5", jane) // n2 drops out
	if got := s.told(3); got[2] != "3" {
		t.Errorf("told %q, want 3 in the end", got)
	}
}

// What has expired is not counted any more.
func TestNumberAfterExpiry(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Retain = time.Second })
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	s := follow(t, b, jane, bus.Cursor{})
	if got := s.feed.Start().Unread; got != 1 {
		t.Fatalf("begins with %d unread, want 1", got)
	}
	eventually(t, "the number is corrected", func() bool {
		b.Refresh()
		b.CheckTails()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.states) > 0
	})
	if got := s.told(1)[0]; got != "0" {
		t.Errorf("told %q, want 0", got)
	}
}

// A lost stream of read states has nothing read, and what is marked in the next
// one is told.
func TestReadStatesAreLost(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	publish(t, b, "n2", jane)
	s := follow(t, b, jane, bus.Cursor{})
	markAs(t, b, jane, bus.Mark{All: true})
	s.told(1)
	before := s.states[0].Version

	stream, _ := b.StateOf(jane)
	if err := b.JetStream().DeleteStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Look()
	if got := s.told(2)[1]; got != "2 refetch" {
		t.Errorf("told %q, want 2 refetch", got)
	}
	if after := s.states[1].Version; after.Epoch == before.Epoch {
		t.Errorf("the version is of the same incarnation: %v after %v", after, before)
	}
	markAs(t, b, jane, bus.Mark{IDs: []string{"n2"}})
	if got := s.told(3)[2]; got != "1 n2" {
		t.Errorf("told %q, want 1 n2", got)
	}
}

// Who marks something in an inbox that is purged meanwhile marks what is left.
func TestPurgedReadState(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	s := follow(t, b, jane, bus.Cursor{})
	markAs(t, b, jane, bus.Mark{All: true})
	s.told(1)

	purgeState(t, b, jane)
	b.CheckTails()
	if got := s.told(2)[1]; got != "1 refetch" {
		t.Errorf("told %q, want 1 refetch", got)
	}
	markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}})
	if got := s.told(3)[2]; got != "0 n1" {
		t.Errorf("told %q, want 0 n1", got)
	}
}

func purgeState(t testing.TB, b *bus.Bus, in peal.Inbox) {
	t.Helper()
	stream, subject := b.StateOf(in)
	js, err := b.JetStream().Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Purge(t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
		t.Fatal(err)
	}
}

// A sink that has dropped what it was told is told again.
func TestRewindTellsAgain(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n2", jane)
	s.wait(1)
	markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}})
	s.told(1)
	publish(t, b, "n3", jane)
	s.wait(2)
	s.rewind(s.cursor(0), func() {})
	if got := s.told(2)[1]; got != "2 refetch" {
		t.Errorf("told %q, want 2 refetch", got)
	}
	if got := s.wait(3)[2]; got != "n3" {
		t.Errorf("then %s comes, want n3 again", got)
	}
}

// Whoever follows what is erased, on any node, is told that nothing is left.
func TestPurgesAreTold(t *testing.T) {
	server := bustest.Server(t)
	one := bustest.Open(t, server, nil)
	two := bustest.Open(t, server, func(c *bus.Config) { c.TailCheck = -1 })
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, one, "n1", jane, joe)
	publish(t, one, "n2", jane, joe)
	sinks := []*sink{follow(t, two, jane, bus.Cursor{}), follow(t, two, joe, bus.Cursor{})}
	markAs(t, one, jane, bus.Mark{IDs: []string{"n1"}})
	sinks[0].told(1)

	if _, err := one.Purge(t.Context(), jane); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 n1", "0 refetch"}, sinks[0].told(2)); diff != "" {
		t.Errorf("after the purge of a user (-want +got):\n%s", diff)
	}
	if len(sinks[1].states) > 0 {
		t.Errorf("another user is told %v", sinks[1].states)
	}
	if _, err := one.PurgeTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if got := sinks[1].told(1)[0]; got != "0 refetch" {
		t.Errorf("after the purge of a tenant: told %q, want 0 refetch", got)
	}
}
