package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// ticketSink collects the updates of a feed, as "<ticket>/<n>".
type ticketSink struct{ *sink }

func (s ticketSink) Deliver(m *bus.Message) bool {
	u, err := m.Update(bus.NewViewer(inbox("anybody"), true))
	if err != nil {
		return s.add("unreadable", "", m.Cursor)
	}
	return s.add(fmt.Sprintf("%s/%d", u.TicketID, u.UpdatedAt.Second()), "", m.Cursor)
}

func (s ticketSink) State(bus.ReadState) bool {
	s.t.Error("a feed of tickets tells of a read state")
	return true
}

// followTickets starts a feed of a tenant's tickets into a new sink.
func followTickets(t testing.TB, b *bus.Bus, tenant peal.Tenant, after bus.Cursor) ticketSink {
	t.Helper()
	s := ticketSink{newSink(t, -1)}
	f, err := b.FollowTickets(t.Context(), tenant, after, s)
	if err != nil {
		t.Fatalf("follow tickets: %v", err)
	}
	s.feed = f
	t.Cleanup(f.Close)
	f.Resume()
	return s
}

// change publishes the nth update of a ticket.
func change(t testing.TB, b *bus.Bus, tenant peal.Tenant, ticket string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience(t))
	defer cancel()
	if err := b.PublishUpdate(ctx, tenant, fmt.Sprint(ticket, "/", n), ticketUpdate(ticket, n), nil, nil); err != nil {
		t.Fatalf("publish update %d of ticket %s: %v", n, ticket, err)
	}
}

// updates lists updates from to to of a ticket, as a ticketSink has them.
func updates(ticket string, from, to int) []string {
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf("%s/%d", ticket, n))
	}
	return all
}

func settleTickets(t testing.TB, b *bus.Bus, tenant peal.Tenant) {
	t.Helper()
	b.SettleTickets(tenant)
	b.SettleTickets(tenant)
	eventually(t, "the tail check of a new subscription is over", func() bool { return b.SettleTickets(tenant) })
}

func TestFollowTickets(t *testing.T) {
	b := open(t, nil)
	change(t, b, acme, "1", 1)
	first := followTickets(t, b, acme, bus.Cursor{})
	change(t, b, acme, "2", 2)
	change(t, b, globex, "1", 3)
	change(t, b, acme, "1", 4)
	if diff := cmp.Diff([]string{"2/2", "1/4"}, first.wait(2)); diff != "" {
		t.Fatalf("live (-want +got):\n%s", diff)
	}
	again := followTickets(t, b, acme, first.feed.Start().Cursor)
	change(t, b, acme, "3", 5)
	if diff := cmp.Diff([]string{"2/2", "1/4", "3/5"}, again.wait(3)); diff != "" {
		t.Fatalf("replayed, then live (-want +got):\n%s", diff)
	}
	want := bus.Start{Cursor: first.feed.Start().Cursor, Recovered: true}
	if diff := cmp.Diff(want, again.feed.Start()); diff != "" {
		t.Errorf("start (-want +got):\n%s", diff)
	}
	if n := b.Stats().Followed.Load(); n != 0 {
		t.Errorf("%d inboxes followed, want none", n)
	}
}

// A node sees one chain of all tickets of a tenant: what is lost of one is found by
// the next of another.
func TestHoleBetweenTicketsIsFoundByTheChain(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	s := followTickets(t, b, acme, bus.Cursor{})
	change(t, b, acme, "1", 1)
	s.wait(1)
	settleTickets(t, b, acme)

	b.DeafenTickets(acme)
	change(t, b, acme, "2", 2)
	b.HearTickets(acme)
	change(t, b, acme, "3", 3)
	if diff := cmp.Diff([]string{"1/1", "2/2", "3/3"}, s.wait(3)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if holes, rescued := b.Stats().Holes.Load(), b.Stats().Rescued.Load(); holes != 1 || rescued != 0 {
		t.Errorf("%d holes seen and %d feeds rescued, want 1 and 0", holes, rescued)
	}
}

// An update that never arrives, and nothing comes after it, is found by the tail
// check.
func TestTailCheckFindsALostTicketUpdate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		every time.Duration
		cause func(*bus.Bus)
	}{
		{"in its turn", time.Second, func(*bus.Bus) {}},
		{"after a report of a slow consumer", -1, func(b *bus.Bus) { b.ReportSlowTickets(acme) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, func(c *bus.Config) { c.TailCheck = tt.every })
			s := followTickets(t, b, acme, bus.Cursor{})
			change(t, b, acme, "1", 1)
			s.wait(1)
			if tt.every < 0 {
				settleTickets(t, b, acme)
			}
			b.DeafenTickets(acme)
			change(t, b, acme, "2", 2)
			tt.cause(b)
			if diff := cmp.Diff([]string{"1/1", "2/2"}, s.wait(2)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if n := b.Stats().Rescued.Load(); n != 1 {
				t.Errorf("%d feeds rescued, want 1", n)
			}
		})
	}
}

// What is no longer stored is declared, and all that is stored follows: of updates
// there is no witness.
func TestGapOfTickets(t *testing.T) {
	truncated := append([]string{"gap HISTORY_TRUNCATED"}, updates("1", 21, 30)...)
	unknown := []string{"gap UNKNOWN_CURSOR"}
	at := func(seq uint64) func(bus.Epoch) bus.Cursor {
		return func(e bus.Epoch) bus.Cursor { return bus.Cursor{Epoch: e, Seq: seq} }
	}
	for _, tt := range []struct {
		name  string
		after func(bus.Epoch) bus.Cursor
		want  []string
	}{
		{"over the bound", at(1), truncated},
		{"before the first", at(0), truncated},
		{"one before the oldest that is stored", at(20), updates("1", 21, 30)},
		{"the oldest that is stored", at(21), updates("1", 22, 30)},
		{"the newest", at(30), nil},
		{"another tenant's", at(31), unknown},
		{"the future", at(99), unknown},
		{"another stream's", func(bus.Epoch) bus.Cursor { return bus.ParseCursor("aaaaaaaa-25") }, unknown},
		{"malformed", func(bus.Epoch) bus.Cursor { return bus.ParseCursor("'; drop table") }, unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, func(c *bus.Config) { c.PerTenant = 10 })
			epoch := followTickets(t, b, globex, bus.Cursor{}).feed.Start().Cursor.Epoch
			for n := 1; n <= 30; n++ {
				change(t, b, acme, "1", n)
			}
			change(t, b, globex, "1", 31)

			s := followTickets(t, b, acme, tt.after(epoch))
			s.wait(len(tt.want))
			change(t, b, acme, "live", 1)
			want := append(slices.Clone(tt.want), "live/1")
			if diff := cmp.Diff(want, s.wait(len(want))); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			gap := len(tt.want) > 0 && strings.HasPrefix(tt.want[0], "gap")
			if start := s.feed.Start(); start.Gap != gap || start.Recovered == gap {
				t.Errorf("start %+v, want gap %v", start, gap)
			}
		})
	}
}

// A stream of updates that is gone is made anew, every feed is told once and goes on.
// Meanwhile the node stays in service: inboxes need none.
func TestAnotherIncarnationOfTheTickets(t *testing.T) {
	b := open(t, nil)
	live, other := followTickets(t, b, acme, bus.Cursor{}), followTickets(t, b, globex, bus.Cursor{})
	change(t, b, acme, "1", 1)
	live.wait(1)
	if err := b.JetStream().DeleteStream(t.Context(), ticketStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the feeds are told", func() bool {
		b.Refresh()
		if away := b.Away(); away != 0 {
			t.Fatalf("away for %v without ticket updates alone, want 0", away)
		}
		return len(live.wait(1)) > 1 && len(other.wait(0)) > 0
	})
	change(t, b, acme, "2", 2)
	change(t, b, globex, "3", 3)
	if diff := cmp.Diff([]string{"1/1", "gap UNKNOWN_CURSOR", "2/2"}, live.wait(3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gap UNKNOWN_CURSOR", "3/3"}, other.wait(2)); diff != "" {
		t.Errorf("of another tenant (-want +got):\n%s", diff)
	}
}

// However many follow: what they missed while NATS was away is read once.
func TestCatchUpOfTicketsIsOneRead(t *testing.T) {
	t.Parallel()
	const followers, missed = 20, 30
	here, w := openWire(t, t.TempDir(), func(c *bus.Config) { c.TailCheck = -1 })
	there := openOn(t, w.server, nil)
	var all []ticketSink
	for range followers {
		all = append(all, followTickets(t, here, acme, bus.Cursor{}))
	}
	change(t, there, acme, "1", 1)
	for _, s := range all {
		s.wait(1)
	}
	settleTickets(t, here, acme)

	mend := w.cut()
	eventually(t, "the bus notices", func() bool { return !here.Connected() })
	for n := range missed {
		change(t, there, acme, "2", n)
		change(t, there, globex, "3", n)
	}
	reads, ranges := here.Stats().Reads.Load(), here.Stats().Ranges.Load()
	mend()
	want := append([]string{"1/1"}, updates("2", 0, missed-1)...)
	for _, s := range all {
		if diff := cmp.Diff(want, s.wait(len(want))); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
	if reads, ranges = here.Stats().Reads.Load()-reads, here.Stats().Ranges.Load()-ranges; reads != 0 || ranges != 1 {
		t.Errorf("%d feeds caught up by %d reads for one and %d of the stream, want 0 and 1", followers, reads, ranges)
	}
}

// A purge of a tenant is told to all feeds of it: those of tickets have nothing to
// look at.
func TestPurgeOfATenantLeavesTicketUpdates(t *testing.T) {
	b := open(t, nil)
	s := followTickets(t, b, acme, bus.Cursor{})
	publish(t, b, "n1", inbox("jane"))
	change(t, b, acme, "1", 1)
	s.wait(1)
	if _, err := b.PurgeTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	b.Purged(string(acme))
	change(t, b, acme, "1", 2)
	if diff := cmp.Diff([]string{"1/1", "1/2"}, s.wait(2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An update of a big queue is larger than what a feed keeps aside, and nearly a whole
// read: it must not keep one from what follows it.
func TestUpdatesOfABigQueueAreReplayed(t *testing.T) {
	b := open(t, nil)
	crowd := inboxes(5000)
	start := followTickets(t, b, acme, bus.Cursor{}).feed.Start().Cursor
	for n := range 5 {
		if err := b.PublishUpdate(t.Context(), acme, fmt.Sprint("e", n), ticketUpdate("1", n), crowd, crowd); err != nil {
			t.Fatal(err)
		}
	}
	s := followTickets(t, b, acme, start)
	change(t, b, acme, "1", 5)
	if diff := cmp.Diff(updates("1", 0, 5), s.wait(6)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}
