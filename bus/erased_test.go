package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// What is purged stays away also when the server is killed and reads its files anew:
// of what had dropped out of an inbox, and of older read states and preferences, it
// knows only that something newer has pushed them out, and that is gone.
func TestPurgeOutlivesAKilledServer(t *testing.T) {
	server := newServerProcess(t)
	open := func() *bus.Bus {
		b, err := bus.Open(t.Context(), bus.Config{URLs: []string{"nats://" + server.listen}, Replicas: 1, Partitions: 1, PerInbox: 5})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	b := open()
	gone, also, stays := inbox("jane"), peal.Inbox{Tenant: globex, Namespace: "staff", User: "jane"}, inbox("joe")
	all := []peal.Inbox{gone, also, stays}
	for i := range 20 {
		publish(t, b, fmt.Sprint("n", i), all...)
		for _, in := range all {
			markAs(t, b, in, bus.Mark{IDs: []string{fmt.Sprint("n", i)}})
			if err := b.SetPreferences(t.Context(), in, peal.Preferences{MutedTickets: []string{fmt.Sprint(i)}}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.Purge(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PurgeTenant(t.Context(), globex); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "later", all...)

	// kept is what somebody has, as far as it can be asked for.
	kept := func(b *bus.Bus, in peal.Inbox) (got [3]string, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := b.Count(ctx, in)
		if err != nil {
			return got, err
		}
		p, err := b.Preferences(ctx, in)
		return [3]string{fmt.Sprint(c.Unread, " of ", c.Total), fmt.Sprint(c.ReadState.Seq > 0), string(p.Encode())}, err
	}
	want := map[peal.Inbox][3]string{
		gone: {"1 of 1", "false", "{}"}, also: {"1 of 1", "false", "{}"}, stays: {"1 of 5", "true", `{"mutedTickets":["19"]}`},
	}
	is := func(b *bus.Bus) func() bool {
		return func() bool {
			for in, want := range want {
				if got, err := kept(b, in); err != nil || got != want {
					return false
				}
			}
			return true
		}
	}
	if !is(b)() {
		t.Fatal("the purge has not erased it in the first place")
	}
	for range 2 {
		server.kill()
		if err := server.start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a bus that was there has it purged again", is(b))
	}
	server.kill()
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	other := open()
	if !is(other)() {
		t.Error("a bus that is opened lets it be seen")
	}
	if diff := cmp.Diff("later* n19 n18 n17 n16", list(t, other, stays)); diff != "" {
		t.Errorf("of who was not purged (-want +got):\n%s", diff)
	}
}

// A purge that can't be noted erases all the same, and says so.
func TestPurgeThatIsNotNoted(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	if err := b.JetStream().DeleteStream(t.Context(), "PEAL_ERASED_local"); err != nil {
		t.Fatal(err)
	}
	p, err := b.Purge(t.Context(), jane)
	if err == nil || p.Notifications != 1 {
		t.Errorf("got %+v, %v; want it erased, and an error", p, err)
	}
}

// A purge that is done again where nothing has come back touches nothing: the server
// takes the consumers of the subject along to the end of the stream, and so moved the
// places of durables past what nobody had received.
func TestPurgeThatFindsNothingMovesNoConsumer(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	jane, john := inbox("jane"), inbox("john")
	publish(t, b, "n1", jane)
	if _, err := b.Purge(t.Context(), jane); err != nil {
		t.Fatal(err)
	}
	stream, subject := b.StreamOf(jane)
	c, err := b.JetStream().CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{
		Durable: "place", FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publishAll(t, b, john, 1, 5)
	openOn(t, s, nil) // looks at what was purged
	after, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Delivered.Stream != before.Delivered.Stream {
		t.Errorf("the consumer was at %d and is at %d", before.Delivered.Stream, after.Delivered.Stream)
	}
}
