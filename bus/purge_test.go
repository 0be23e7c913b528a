package bus_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// purge removes all messages of the stream of an inbox, or of the inbox alone.
func purge(t *testing.T, b *bus.Bus, in peal.Inbox, alone bool) {
	t.Helper()
	name, subject := b.StreamOf(in)
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var opts []jetstream.StreamPurgeOpt
	if alone {
		opts = append(opts, jetstream.WithPurgeSubject(subject))
	}
	if err := s.Purge(t.Context(), opts...); err != nil {
		t.Fatal(err)
	}
}

// Who resumes after a purge is told, also where another inbox keeps the stream
// from beginning later.
func TestResumeAfterAPurgeIsAGap(t *testing.T) {
	for name, alone := range map[string]bool{"of the inbox": true, "of the stream": false} {
		t.Run(name, func(t *testing.T) {
			b := open(t, nil)
			jane := inbox("jane")
			publish(t, b, "n0", inbox("joe"))
			first := follow(t, b, jane, bus.Cursor{})
			publishAll(t, b, jane, 1, 2)
			first.wait(2)
			purge(t, b, jane, alone)
			publish(t, b, "n3", jane)

			s := follow(t, b, jane, first.cursor(0))
			if diff := cmp.Diff([]string{"gap HISTORY_TRUNCATED", "n3"}, s.waitFor("gap HISTORY_TRUNCATED", "n3")); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if s.feed.Start().Recovered {
				t.Error("recovered, though n2 is gone")
			}
			publish(t, b, "n4", jane)
			if got := s.wait(3); got[2] != "n4" {
				t.Fatalf("then %v, want n4", got[2:])
			}
		})
	}
}

// A live message whose predecessor is not the one that was delivered last shows
// that something was removed.
func TestLiveMessageAfterAPurgeIsAGap(t *testing.T) {
	for name, alone := range map[string]bool{"of the inbox": true, "of the stream": false} {
		t.Run(name, func(t *testing.T) {
			b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
			jane := inbox("jane")
			publish(t, b, "n0", inbox("joe"))
			s := follow(t, b, jane, bus.Cursor{})
			publish(t, b, "n1", jane)
			s.wait(1)
			settle(t, b, jane)
			b.Deafen(jane)
			publish(t, b, "n2", jane)
			purge(t, b, jane, alone)
			b.Hear(jane)
			publishAll(t, b, jane, 3, 4)
			if diff := cmp.Diff([]string{"n1", "gap HISTORY_TRUNCATED", "n3", "n4"}, s.waitFor("n1", "gap HISTORY_TRUNCATED", "n3", "n4")); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Who missed something that was purged while the node was cut off is told, and
// the others of the same read are not.
func TestCatchUpDeclaresAPurge(t *testing.T) {
	t.Parallel()
	c := newCutOff(t, 3, func(c *bus.Config) { c.TailCheck = -1 })
	c.while(t, func() {
		publish(t, c.there, "n2", c.inboxes...)
		purge(t, c.there, c.inboxes[1], true)
		publish(t, c.there, "n3", c.inboxes...)
	}, func() {
		for i, want := range [][]string{ids(1, 3), {"n1", "gap HISTORY_TRUNCATED", "n3"}, ids(1, 3)} {
			if diff := cmp.Diff(want, c.sinks[i].waitFor(want...)); diff != "" {
				t.Fatalf("inbox %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

// A message that has merely expired was delivered: what comes after it is no
// reason for a gap in a feed that was there all the time.
func TestLiveMessageAfterAnExpiryIsNoGap(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane, joe := inbox("jane"), inbox("joe")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	publish(t, b, "joe's", joe)
	s.wait(1)
	settle(t, b, jane) // knows that nothing of jane's follows, up to joe's
	name, _ := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(2)); err != nil { // as age does: the oldest first
		t.Fatal(err)
	}
	publishAll(t, b, jane, 2, 3)
	if diff := cmp.Diff(ids(1, 3), s.wait(3)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// A purge that moves the stream's beginning right behind the cursor looks like
// an expiry, but for what it has left holes of.
func TestPurgeThatBeheadsTheStreamIsAGap(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane, joe := inbox("jane"), inbox("joe")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	publish(t, b, "joe's", joe)
	settle(t, b, jane)
	b.Deafen(jane)
	publish(t, b, "n2", jane)
	publish(t, b, "joe's next", joe)
	purge(t, b, jane, true)
	b.Hear(jane)
	publish(t, b, "n3", jane)
	if diff := cmp.Diff([]string{"n1", "gap HISTORY_TRUNCATED", "n3"}, s.waitFor("n1", "gap HISTORY_TRUNCATED", "n3")); diff != "" {
		t.Fatalf("live (-want +got):\n%s", diff)
	}
	again := follow(t, b, jane, s.cursor(0))
	if diff := cmp.Diff([]string{"gap HISTORY_TRUNCATED", "n3"}, again.waitFor("gap HISTORY_TRUNCATED", "n3")); diff != "" {
		t.Fatalf("resumed (-want +got):\n%s", diff)
	}
}

// A tail check that finds an older message than the feed's last proves nothing:
// what was removed with that may be one that was not delivered, also when the
// stream begins further on since.
func TestTailCheckWithoutTheLastProvesNothing(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, b, "joe's", joe)
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 2)
	s.wait(2)
	settle(t, b, jane)
	b.Deafen(jane)
	publish(t, b, "n3", jane)
	remove(t, b, jane, s.cursor(1).Seq)
	remove(t, b, jane, s.cursor(1).Seq+1)
	publishAll(t, b, joe, 1, 3)
	b.CheckTails()
	settle(t, b, jane)
	purge(t, b, jane, false) // the stream begins after joe's now
	b.Hear(jane)
	publish(t, b, "n4", jane)
	if diff := cmp.Diff([]string{"n1", "n2", "gap HISTORY_TRUNCATED", "n4"}, s.waitFor("n1", "n2", "gap HISTORY_TRUNCATED", "n4")); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// The message at which a stream ended when somebody with an empty inbox came is
// another's, and says nothing when it goes.
func TestPlaceThatNamesNoMessageIsNotMissed(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, b, "joe's first", inbox("james"))
	publish(t, b, "joe's", joe)
	s := follow(t, b, jane, bus.Cursor{})
	settle(t, b, jane)
	purge(t, b, joe, true)
	b.Deafen(jane)
	publish(t, b, "n1", jane)
	b.Hear(jane)
	b.CheckTails()
	publish(t, b, "n2", jane)
	if diff := cmp.Diff(ids(1, 2), s.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// Who had an empty inbox, and has missed nothing, hears so, whatever the busy
// inbox next door has dropped; and so when a connection falls back there.
func TestResumeWhereTheInboxWasEmpty(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 3 })
	busy, quiet := inbox("busy"), inbox("quiet")
	publish(t, b, "first", inbox("old")) // keeps the stream's beginning
	publish(t, b, "b", busy)
	s := follow(t, b, quiet, bus.Cursor{})
	at := s.feed.Start().Cursor
	for i := range 4 { // more than are kept
		publish(t, b, fmt.Sprintf("b%d", i), busy)
	}
	if start := follow(t, b, quiet, bus.ParseCursor(at.String())).feed.Start(); !start.Recovered {
		t.Errorf("start %+v, want recovered", start)
	}
	publish(t, b, "n1", quiet)
	s.wait(1)
	s.rewind(at, func() {})
	if diff := cmp.Diff([]string{"n1", "n1"}, s.wait(2)); diff != "" {
		t.Fatalf("after a rewind (-want +got):\n%s", diff)
	}
}
