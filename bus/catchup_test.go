package bus_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// cutOff is a bus that follows some inboxes while another process publishes to
// them.
type cutOff struct {
	here, there *bus.Bus
	wire        *wire
	inboxes     []peal.Inbox
	sinks       []*sink
}

// newCutOff follows n inboxes, each of which holds one notification, and waits
// until every tail was checked: then nobody needs a read of their own.
func newCutOff(t *testing.T, n int, change func(*bus.Config)) *cutOff {
	t.Helper()
	c := &cutOff{}
	c.here, c.wire = openWire(t, t.TempDir(), change)
	c.there = openOn(t, c.wire.server, change)
	for i := range n {
		in := inbox(fmt.Sprintf("user-%d", i))
		c.inboxes = append(c.inboxes, in)
		c.sinks = append(c.sinks, follow(t, c.here, in, bus.Cursor{}))
	}
	publish(t, c.there, "n1", c.inboxes...)
	for i, s := range c.sinks {
		s.wait(1)
		settle(t, c.here, c.inboxes[i])
	}
	return c
}

// while runs f while here has no connection, and returns how many reads of one
// inbox and of a whole stream the return has taken until caughtUp returns.
func (c *cutOff) while(t *testing.T, f, caughtUp func()) (reads, ranges int64) {
	t.Helper()
	mend := c.wire.cut()
	eventually(t, "the bus notices", func() bool { return !c.here.Connected() })
	f()
	stats := c.here.Stats()
	reads, ranges = stats.Reads.Load(), stats.Ranges.Load()
	mend()
	caughtUp()
	return stats.Reads.Load() - reads, stats.Ranges.Load() - ranges
}

// Whoever follows how many inboxes: what they missed while NATS was away is
// read once.
func TestCatchUpIsOneRead(t *testing.T) {
	t.Parallel()
	const inboxes, missed = 200, 3
	c := newCutOff(t, inboxes, func(c *bus.Config) { c.TailCheck = -1 })
	reads, ranges := c.while(t, func() {
		for n := 2; n <= 1+missed; n++ {
			publish(t, c.there, fmt.Sprintf("n%d", n), c.inboxes...)
			publish(t, c.there, fmt.Sprintf("n%d", n), inbox("nobody follows"))
		}
	}, func() {
		for i, s := range c.sinks {
			if diff := cmp.Diff(ids(1, 1+missed), s.wait(1+missed)); diff != "" {
				t.Fatalf("%v (-want +got):\n%s", c.inboxes[i], diff)
			}
		}
	})
	if reads != 0 || ranges != 1 {
		t.Errorf("%d inboxes caught up by %d reads of one inbox and %d of the stream, want 0 and 1", inboxes, reads, ranges)
	}
	publish(t, c.there, "last", c.inboxes...)
	for _, s := range c.sinks {
		if got := s.wait(2 + missed); got[1+missed] != "last" {
			t.Fatalf("then %v, want last", got[1+missed:])
		}
	}
}

// The one read begins where the feed stands that is furthest behind, and brings
// it what it has missed: the tail check would find that too, by a read for each.
func TestCatchUpBeginsWhereTheFirstStands(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	all := append(inboxes(15), jane) // more than one loop has, so that some have only others
	sinks := make([]*sink, len(all))
	for i, in := range all {
		sinks[i] = follow(t, b, in, bus.Cursor{})
	}
	publish(t, b, "n1", all...)
	for _, s := range sinks { // all of them first, or a check finds what is just arriving
		s.wait(1)
	}
	for _, in := range all {
		settle(t, b, in)
	}
	rescued := b.Stats().Rescued.Load()
	b.Deafen(jane)
	publish(t, b, "n2", jane)
	for i, s := range sinks[:15] {
		publish(t, b, "n2", all[i])
		s.wait(2)
	}
	b.Hear(jane)

	b.CatchUp()
	if diff := cmp.Diff(ids(1, 2), sinks[15].wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if n := b.Stats().Rescued.Load() - rescued; n != 0 {
		t.Fatalf("%d feeds rescued by the tail check, want none", n)
	}
}

// A read of the stream proves nothing for an inbox of which it holds as many as
// are kept: older ones may have gone. That is all that tells where the feed stands
// on no message of the inbox, or else its own would be missed.
func TestCatchUpDeclaresWhatTheBoundDropped(t *testing.T) {
	t.Parallel()
	c := newCutOff(t, 3, func(c *bus.Config) { c.PerInbox, c.TailCheck = 5, -1 })
	empty := inbox("empty so far")
	fresh := follow(t, c.here, empty, bus.Cursor{})
	settle(t, c.here, empty)
	c.while(t, func() {
		for n := 2; n <= 11; n++ {
			publish(t, c.there, fmt.Sprintf("n%d", n), c.inboxes[0], empty)
		}
		publish(t, c.there, "n2", c.inboxes[1])
	}, func() {
		want := append([]string{"n1", "gap HISTORY_TRUNCATED"}, ids(7, 11)...)
		if diff := cmp.Diff(want, c.sinks[0].wait(len(want))); diff != "" {
			t.Fatalf("the inbox over its bound (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[1:], fresh.wait(len(want)-1)); diff != "" {
			t.Fatalf("one that was empty (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ids(1, 2), c.sinks[1].wait(2)); diff != "" {
			t.Fatalf("another inbox (-want +got):\n%s", diff)
		}
	})
	if diff := cmp.Diff(ids(1, 1), c.sinks[2].wait(1)); diff != "" {
		t.Fatalf("an inbox that has missed nothing (-want +got):\n%s", diff)
	}
}

// What has left the stream before it could be read makes a gap.
func TestCatchUpDeclaresWhatHasExpired(t *testing.T) {
	t.Parallel()
	c := newCutOff(t, 2, func(c *bus.Config) { c.TailCheck = -1 })
	c.while(t, func() {
		publish(t, c.there, "n2", c.inboxes...)
		stream, _ := c.there.StreamOf(c.inboxes[0])
		s, err := c.there.JetStream().Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, c.there, "n3", c.inboxes...)
	}, func() {
		for _, s := range c.sinks {
			if diff := cmp.Diff([]string{"n1", "gap HISTORY_TRUNCATED", "n3"}, s.waitFor("n1", "gap HISTORY_TRUNCATED", "n3")); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

// A feed that cannot take what it has missed delays nobody, and gets it later.
func TestCatchUpPassesOverWhoHasNoRoom(t *testing.T) {
	t.Parallel()
	c := newCutOff(t, 2, func(c *bus.Config) { c.TailCheck = -1 })
	c.sinks[0].take(0)
	c.while(t, func() { publish(t, c.there, "n2", c.inboxes...) }, func() { c.sinks[1].wait(2) })
	publish(t, c.there, "n3", c.inboxes...)
	c.sinks[1].wait(3)
	c.sinks[0].give(-1)
	for _, s := range c.sinks {
		if diff := cmp.Diff(ids(1, 3), s.wait(3)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// Too much to read for all: who is behind reads for themselves.
func TestCatchUpLeavesALongAbsenceToEachInbox(t *testing.T) {
	t.Parallel()
	c := newCutOff(t, 2, func(c *bus.Config) { c.TailCheck = -1 })
	_, ranges := c.while(t, func() {
		publish(t, c.there, "n2", c.inboxes[0])
		for n := range 3 { // others' messages: more than is crossed for two inboxes
			others := make([]peal.Inbox, 500)
			for i := range others {
				others[i] = inbox(fmt.Sprintf("other-%d", i))
			}
			publish(t, c.there, fmt.Sprintf("o%d", n), others...)
		}
	}, func() { c.sinks[0].wait(2) })
	if ranges != 0 {
		t.Errorf("%d reads of the stream for two inboxes that are 1,500 messages behind, want none", ranges)
	}
	publish(t, c.there, "n3", c.inboxes[0])
	if diff := cmp.Diff(ids(1, 3), c.sinks[0].wait(3)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// How long it takes until everybody has what did not arrive live, by one read
// for all and by a read for each.
func BenchmarkCatchUp(b *testing.B) {
	const inboxes, missed = 2000, 5
	for _, how := range []struct {
		name  string
		begin func(*bus.Bus)
	}{{"one read", (*bus.Bus).CatchUp}, {"a read for each", (*bus.Bus).CheckTails}} {
		b.Run(how.name, func(b *testing.B) {
			here := open(b, func(c *bus.Config) { c.TailCheck = -1 })
			all := make([]peal.Inbox, inboxes)
			sinks := make([]*sink, inboxes)
			for i := range all {
				all[i] = inbox(fmt.Sprintf("user-%d", i))
				sinks[i] = follow(b, here, all[i], bus.Cursor{})
			}
			have := 0
			for b.Loop() {
				b.StopTimer()
				for _, in := range all {
					settle(b, here, in)
					here.Deafen(in)
				}
				for range missed {
					have++
					publish(b, here, fmt.Sprintf("n%d", have), all...)
				}
				for _, in := range all {
					here.Hear(in)
				}
				b.StartTimer()
				how.begin(here)
				for _, s := range sinks {
					s.wait(have)
				}
			}
			b.ReportMetric(float64(here.Stats().Reads.Load())/float64(b.N), "reads/op")
		})
	}
}
