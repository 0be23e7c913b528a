package bus_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// recreate makes another incarnation of the stream of an inbox.
func recreate(t *testing.T, b *bus.Bus, in peal.Inbox) {
	t.Helper()
	name, _ := b.StreamOf(in)
	if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Every feed is told once of another incarnation of its stream, and goes on.
func TestAnotherIncarnation(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	live := follow(t, b, jane, bus.Cursor{})
	other := follow(t, b, joe, bus.Cursor{})
	publishAll(t, b, jane, 1, 20)
	live.wait(20)
	old := live.cursor(9)

	full := newSink(t, 0)
	followInto(t, b, jane, old, full)
	eventually(t, "a sink without room refuses", func() bool { full.mu.Lock(); defer full.mu.Unlock(); return full.refused == 1 })
	fresh := newSink(t, -1)
	f, err := b.Follow(t.Context(), jane, old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	fresh.feed = f
	t.Cleanup(f.Close)

	before := b.Epoch(jane)
	recreate(t, b, jane)
	b.Refresh()
	eventually(t, "the epoch is another", func() bool { return b.Epoch(jane) != before })
	f.Resume()
	full.give(-1)
	for _, s := range []*sink{live, other, full, fresh} {
		eventually(t, "the gap is declared", func() bool { items := s.wait(0); return slices.Contains(items, "gap UNKNOWN_CURSOR") })
	}
	publish(t, b, "after", jane, joe)
	gap := []string{"gap UNKNOWN_CURSOR", "after"}
	for name, tt := range map[string]struct {
		s    *sink
		want []string
	}{
		"live": {live, append(ids(1, 20), gap...)}, "of another inbox": {other, gap},
		"without room": {full, gap}, "not begun": {fresh, gap},
	} {
		if diff := cmp.Diff(tt.want, tt.s.wait(len(tt.want))); diff != "" {
			t.Errorf("feed %s (-want +got):\n%s", name, diff)
		}
	}

	again := follow(t, b, jane, old)
	if got := again.wait(1); got[0] != "gap UNKNOWN_CURSOR" || again.feed.Start().Recovered {
		t.Fatalf("an old cursor: got %v, start %+v, want gap UNKNOWN_CURSOR", got, again.feed.Start())
	}
	publish(t, b, "last", jane)
	if diff := cmp.Diff([]string{"gap UNKNOWN_CURSOR", "last"}, again.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// early fails the test if the facts of a stream, which were read last after some
// time, may have been read in their turn by now.
func early(t *testing.T, after time.Time) {
	t.Helper()
	if took := time.Since(after); took >= bus.RefreshInterval {
		t.Fatalf("after %v: that is found by looking at the stream every %v", took, bus.RefreshInterval)
	}
}

// A tail check that is answered from a stream which ends before what it has had
// has the stream looked at.
func TestStreamThatIsTooShortIsNoticed(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = time.Second })
	jane := inbox("jane")
	began := time.Now()
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 20)
	s.wait(20)
	recreate(t, b, jane)
	publish(t, b, "first", jane) // sequence 1
	if got := s.wait(21); got[20] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("got %v, want gap UNKNOWN_CURSOR", got[20])
	}
	early(t, began)
	publish(t, b, "second", jane)
	if got := s.wait(22); got[21] != "second" {
		t.Fatalf("got %v, want what comes after the gap", got[20:])
	}
}

// A live message whose sequence goes back, in a stream that came back without
// its tail and still has its epoch, has the stream looked at.
func TestSequenceThatGoesBackIsNoticed(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	began := time.Now()
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 3)
	s.wait(3)
	settle(t, b, jane)
	name, _ := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().CreateStream(t.Context(), stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "unheard", jane) // sequence 1
	if got := s.wait(4); got[3] != "gap UNKNOWN_CURSOR" || s.cursor(3).Seq != 1 {
		t.Fatalf("got %v at %v, want a gap at the end", got, s.cursor(3))
	}
	early(t, began)
	publish(t, b, "n4", jane)
	if got := s.wait(5); got[4] != "n4" {
		t.Fatalf("got %v, want n4 after the gap", got)
	}
}

// A message of the old stream that is read from the connection after the new
// one was noticed would put its feed beyond the end, and deaf.
func TestLateMessageOfAnotherIncarnation(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	b.Arrive(jane, nats.Header{"Nats-Sequence": {"500"}, "Nats-Last-Sequence": {"0"}}, notification("late").Encode())
	s.wait(1)
	publish(t, b, "n1", jane)
	if got := s.wait(2); got[1] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("got %v, want a gap", got)
	}
	publish(t, b, "n2", jane)
	if got := s.wait(3); got[2] != "n2" {
		t.Fatalf("got %v, want n2 after the gap", got)
	}
}

// A sequence that was never stored ends in a gap, and what comes then is
// delivered.
func TestTargetBeyondTheEnd(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	b.Target(jane, 500)
	if got := s.wait(2); got[1] != "gap UNKNOWN_CURSOR" || s.cursor(1).Seq != 1 {
		t.Fatalf("got %v up to %v, want a gap up to the end", got, s.cursor(1))
	}
	publish(t, b, "n2", jane)
	if got := s.wait(3); got[2] != "n2" {
		t.Fatalf("got %v, want n2 after the gap", got)
	}
	eventually(t, "the feed has forgotten the sequence", func() bool { return b.Live(jane) })
}

// What is stored between the moment the leader says that the stream is another
// one and the moment the feed hears of it follows the gap.
func TestRenewedFeedReadsOn(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 5)
	s.wait(5)
	settle(t, b, jane)
	b.Renewed(jane, 3)
	s.wait(6)
	publishAll(t, b, jane, 6, 7)
	want := append(ids(1, 5), "gap UNKNOWN_CURSOR", "n6", "n7")
	if diff := cmp.Diff(want, s.wait(8)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// restored returns a follower of jane's inbox that has had ten messages when
// the stream comes back from a backup that holds five, and after them one of
// another inbox. The follower has been told.
func restored(t *testing.T) (*bus.Bus, peal.Inbox, *sink) {
	t.Helper()
	dir, backup := t.TempDir(), t.TempDir()
	b, w := openWire(t, dir, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 5)
	s.wait(5)
	publish(t, b, "joe's", inbox("joe"))

	w.stop()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.start(t, dir)
	eventually(t, "the bus is connected", b.Connected)
	publishAll(t, b, jane, 6, 10)
	s.wait(10)

	w.stop()
	w.start(t, backup)
	eventually(t, "the bus is connected", b.Connected)
	if got := s.wait(11); got[10] != "gap UNKNOWN_CURSOR" || s.cursor(10).Seq != 5 {
		t.Fatalf("got %v at %v, want a gap at the inbox's end in the backup", tail(got), s.cursor(10))
	}
	return b, jane, s
}

// A stream that comes back without its tail gives its next messages sequences
// that others had: they must not pass for old ones.
func TestStreamThatLostItsTail(t *testing.T) {
	t.Parallel()
	b, jane, s := restored(t)
	publish(t, b, "after", jane)
	if got := s.wait(12); got[11] != "after" {
		t.Fatalf("got %v, want what comes after the gap", tail(got))
	}
}

// Who resumes from the cursor of a gap gets what came since, also if the stream
// holds older messages of the inbox and ends in another's.
func TestGapOfARenewedFeedIsGoodToResumeFrom(t *testing.T) {
	t.Parallel()
	b, jane, s := restored(t)
	s.feed.Close()
	publish(t, b, "while away", jane)
	again := follow(t, b, jane, s.cursor(10))
	if diff := cmp.Diff([]string{"while away"}, again.wait(1)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// A follower of one incarnation never hears another: as long as this process
// does not know of it, its first messages would pass for later ones of the old.
func TestMessagesOfAnotherIncarnationAreNotHeard(t *testing.T) {
	jane, joe := inbox("jane"), inbox("joe")
	for name, tt := range map[string]struct {
		first peal.Inbox // whose the only message of the old one is
		want  []string
	}{
		"where the feed stands on a message": {jane, []string{"n1", "gap UNKNOWN_CURSOR", "n2"}},
		"where it stands on none":            {joe, []string{"gap UNKNOWN_CURSOR", "n2"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
			s := follow(t, b, tt.first, bus.Cursor{})
			publish(t, b, "n1", tt.first)
			s.wait(1)
			if tt.first != jane {
				s = follow(t, b, jane, bus.Cursor{})
			}
			settle(t, b, jane)
			recreate(t, b, jane)
			publish(t, b, "joe's", joe)
			publish(t, b, "unheard", jane) // sequence 2, after one of another inbox
			b.Heard(jane)
			b.Refresh()
			s.wait(len(tt.want) - 1)
			settle(t, b, jane)
			publish(t, b, "n2", jane)
			if diff := cmp.Diff(tt.want, s.wait(len(tt.want))); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A cursor of the old incarnation may name a message of the same inbox in the
// new one. Only the leader knows that it is another's.
func TestCursorThatNamesAMessageOfAnotherIncarnation(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	first := follow(t, b, jane, bus.Cursor{}).feed // b knows that n1 is the last
	first.Close()
	recreate(t, b, jane) // b does not know yet
	publishAll(t, b, jane, 2, 3)
	s := follow(t, b, jane, first.Start().Cursor)
	if start := s.feed.Start(); start.Recovered || !start.Gap {
		t.Fatalf("start %+v, want a gap", start)
	}
	if got := s.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("got %v, want a gap", got)
	}
}
