package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// eventually waits until ok reports true, which nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within := patience(t)
	for deadline := time.Now().Add(within); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within.Round(time.Second), what)
		}
	}
}

// settle waits until the tail check of a new subscription is over.
func settle(t testing.TB, b *bus.Bus, in peal.Inbox) {
	t.Helper()
	b.Tick(in)
	b.Tick(in)
	eventually(t, "the tail check of a new subscription is over", func() bool { return !b.Checked(in) })
}

// publishAll publishes n<from> to n<to>.
func publishAll(t testing.TB, b *bus.Bus, in peal.Inbox, from, to int) {
	t.Helper()
	for _, id := range ids(from, to) {
		publish(t, b, id, in)
	}
}

// remove deletes one stored message.
func remove(t *testing.T, b *bus.Bus, in peal.Inbox, seq uint64) {
	t.Helper()
	name, _ := b.StreamOf(in)
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
}

// Live messages that never arrive are found by the next one that does.
func TestNextArrivalFindsWhatWasLost(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	settle(t, b, jane)

	b.Deafen(jane)
	publishAll(t, b, jane, 2, 100)
	b.Hear(jane)
	publish(t, b, "n101", jane)
	if diff := cmp.Diff(ids(1, 101), s.wait(101)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if n := b.Stats().Holes.Load(); n != 1 {
		t.Fatalf("%d holes seen, want 1", n)
	}
	if n := b.Stats().Rescued.Load(); n != 0 {
		t.Fatalf("%d feeds rescued by the tail check, want none", n)
	}
}

// Live messages that never arrive, and nothing comes after them, are found by
// the tail check.
func TestTailCheckFindsWhatWasLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		every time.Duration
		cause func(*bus.Bus, peal.Inbox)
	}{
		{"in its turn", time.Second, func(*bus.Bus, peal.Inbox) {}},
		{"after a report of a slow consumer", -1, func(b *bus.Bus, in peal.Inbox) { b.ReportSlowConsumer(in) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, func(c *bus.Config) { c.TailCheck = tt.every })
			jane := inbox("jane")
			s := follow(t, b, jane, bus.Cursor{})
			publish(t, b, "n1", jane)
			s.wait(1)
			if tt.every < 0 {
				settle(t, b, jane)
			}
			b.Deafen(jane)
			publishAll(t, b, jane, 2, 3)
			tt.cause(b, jane)
			if diff := cmp.Diff(ids(1, 3), s.wait(3)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if n := b.Stats().Rescued.Load(); n != 1 {
				t.Fatalf("%d feeds rescued, want 1", n)
			}
			eventually(t, "another check is possible", func() bool { return !b.Checked(jane) })
		})
	}
}

// What is lost while nobody is subscribed yet is found soon after.
func TestNewSubscriptionIsCheckedSoon(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	b.Deafen(jane)
	publish(t, b, "n1", jane)
	if got := s.wait(1); got[0] != "n1" {
		t.Fatalf("got %v, want n1", got)
	}
}

// More than a feed keeps aside while it reads is dropped and read again.
func TestOverflowWhileReadingLosesNothing(t *testing.T) {
	// If it fails, the read that is held back is still waited for.
	b, h := openHolding(t, readConn, func(c *bus.Config) { c.Timeout = 5 * time.Second })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 2)
	s.wait(2)

	release := h.hold()
	defer release()
	b.Deafen(jane)
	publish(t, b, "n3", jane)
	b.Hear(jane)
	publish(t, b, "n4", jane) // makes a hole, whose read is held back
	eventually(t, "the feed reads", func() bool { n, _ := b.Aside(jane); return n == 1 })
	publishAll(t, b, jane, 5, 5+bus.MaxAside)
	eventually(t, "the feed gives up what it kept", func() bool { n, overflow := b.Aside(jane); return n == 0 && overflow })
	release()
	publish(t, b, "n100", jane)
	want := append(ids(1, 5+bus.MaxAside), "n100")
	if diff := cmp.Diff(want, s.wait(len(want))); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	eventually(t, "the feed reads no more", func() bool { return b.Live(jane) })
}

// What is lost while a feed reads leaves a hole between what it has read and
// what it kept aside.
func TestHoleBeforeWhatWasKeptAside(t *testing.T) {
	t.Parallel()
	b, h := openHolding(t, readConn, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	settle(t, b, jane)

	release := h.hold()
	defer release()
	lose := func(id string) {
		b.Deafen(jane)
		publish(t, b, id, jane)
		b.Hear(jane)
	}
	lose("n2")
	publish(t, b, "n3", jane) // has n2 read
	eventually(t, "the feed keeps n3", func() bool { n, _ := b.Aside(jane); return n == 1 })
	eventually(t, "the read is answered", h.answered)
	lose("n4")
	publish(t, b, "n5", jane)
	eventually(t, "the feed keeps two", func() bool { n, _ := b.Aside(jane); return n == 2 })
	release()
	if diff := cmp.Diff(ids(1, 5), s.wait(5)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// Reads that fail are tried again, and what arrives meanwhile waits for them.
func TestFailedReadsAreTriedAgain(t *testing.T) {
	t.Parallel()
	b, h := openHolding(t, readConn, func(c *bus.Config) { c.Timeout = 50 * time.Millisecond })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)

	release := h.hold()
	defer release()
	b.Deafen(jane)
	publish(t, b, "n2", jane)
	b.Hear(jane)
	publish(t, b, "n3", jane)
	before := b.Stats().Reads.Load()
	eventually(t, "some reads fail", func() bool { return b.Stats().Reads.Load() > before+3 })
	release()
	if diff := cmp.Diff(ids(1, 3), s.wait(3)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// A message that is known to have been stored, and is gone when it is read,
// ends in a gap and not in a feed that looks for it for ever.
func TestHoleOfDeletedMessagesIsDeclared(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := newSink(t, 1)
	followInto(t, b, jane, bus.Cursor{}, s)
	publishAll(t, b, jane, 1, 3)
	s.wait(1)
	follow(t, b, jane, s.cursor(0)).wait(2) // n3 has arrived
	remove(t, b, jane, 2)
	remove(t, b, jane, 3)

	s.give(-1)
	if got := s.wait(2); got[1] != "gap HISTORY_TRUNCATED" || s.cursor(1).Seq != 3 {
		t.Fatalf("got %v, want a gap up to sequence 3", got)
	}
	publish(t, b, "n4", jane)
	if diff := cmp.Diff([]string{"n1", "gap HISTORY_TRUNCATED", "n4"}, s.waitFor("n1", "gap HISTORY_TRUNCATED", "n4")); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// What one follower of an inbox has had is delivered to the next one too, or
// declared, also where the replica that is read does not have it.
func TestNextFollowerHasWhatTheFirstHas(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 3)
	first.wait(3)
	remove(t, b, jane, 3)
	again := follow(t, b, jane, first.cursor(0))
	if diff := cmp.Diff([]string{"n2", "gap HISTORY_TRUNCATED"}, again.waitFor("n2", "gap HISTORY_TRUNCATED")); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got := again.cursor(1); got.Seq != first.cursor(2).Seq {
		t.Fatalf("gap up to %v, want %v", got, first.cursor(2))
	}
}

// What the leader says of a hole. History that is gone before what it has must
// be declared: it was once delivered as though nothing were missing.
func TestFill(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 5 })
	jane, joe, kate, leo := inbox("jane"), inbox("joe"), inbox("kate"), inbox("leo")
	publish(t, b, "1", joe)       // so that the stream begins before all of the others
	publishAll(t, b, jane, 2, 12) // of which 8 to 12 are shown, and 7 is kept
	publishAll(t, b, kate, 13, 16)
	publishAll(t, b, leo, 17, 18)
	for in, gone := range map[peal.Inbox][]uint64{kate: {14, 15}, leo: {18}} {
		for _, seq := range gone {
			remove(t, b, in, seq)
		}
	}
	epoch := b.Epoch(jane)
	truncated := func(seq uint64) *bus.Gap {
		return &bus.Gap{Code: bus.HistoryTruncated, Cursor: bus.Cursor{Epoch: epoch, Seq: seq, Elsewhere: true}}
	}
	upToTheWitness := &bus.Gap{Code: bus.HistoryTruncated, Cursor: bus.Cursor{Epoch: epoch, Seq: 7}}

	for _, tt := range []struct {
		name          string
		in            peal.Inbox
		after, target uint64
		gap           *bus.Gap
		message       uint64
	}{
		{"after its own message", jane, 9, 12, nil, 10},
		{"just before a message", jane, 7, 12, nil, 8},
		{"over the bound of the inbox", jane, 2, 12, upToTheWitness, 0},
		{"over the bound, from another's message", jane, 1, 12, upToTheWitness, 0},
		{"gone, and more follows", kate, 13, 15, truncated(15), 16},
		{"gone", leo, 17, 18, truncated(18), 0},
		{"beyond the end", leo, 17, 19, &bus.Gap{Code: bus.UnknownCursor, Cursor: bus.Cursor{Epoch: epoch, Seq: 17}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gap, messages, err := b.Fill(t.Context(), tt.in, bus.Cursor{Epoch: epoch, Seq: tt.after}, tt.target)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.gap, gap); diff != "" {
				t.Errorf("gap (-want +got):\n%s", diff)
			}
			var got uint64
			if len(messages) > 0 {
				got = messages[0].Cursor.Seq
			}
			if got != tt.message || len(messages) > 1 {
				t.Errorf("got %d messages, the first %d, want %d", len(messages), got, tt.message)
			}
		})
	}
}

// A sink that takes a gap and nothing more must not be given the gap again,
// for ever.
func TestGapIsDeclaredOnce(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 10 })
	jane := inbox("jane")
	s := newSink(t, 1)
	first := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 30)
	first.wait(30)

	followInto(t, b, jane, first.cursor(0), s)
	for n := 1; n < 4; n++ {
		s.wait(n)
		eventually(t, "the sink refuses", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.refused >= n })
		s.give(1)
	}
	s.give(-1)
	want := append([]string{"gap HISTORY_TRUNCATED"}, ids(21, 30)...)
	if diff := cmp.Diff(want, s.wait(11)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	again := follow(t, b, jane, s.cursor(0)) // a client that went away after the gap
	if diff := cmp.Diff(ids(21, 30), again.wait(10)); diff != "" {
		t.Fatalf("resumed from the gap (-want +got):\n%s", diff)
	}
}

// A gap that the sink has no room for is declared when it has.
func TestGapWaitsForRoom(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 3 })
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 6)
	first.wait(6)

	s := newSink(t, 0)
	followInto(t, b, jane, first.cursor(0), s)
	eventually(t, "the sink refuses the gap", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.refused == 1 })
	s.give(-1)
	want := append([]string{"gap HISTORY_TRUNCATED"}, ids(4, 6)...)
	if diff := cmp.Diff(want, s.waitFor(want...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// Feeds go on by themselves when the server is back, and while it is away
// callers hear so at once.
func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	// An inbox that keeps them all: the publisher is faster than a reconnect.
	b, w := openWire(t, dir, func(c *bus.Config) { c.PerInbox = 1 << 20 })
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	full := newSink(t, 0)
	followInto(t, b, jane, bus.Cursor{}, full)

	stop := make(chan struct{})
	published := make(chan int)
	go func() { // each until it is acknowledged
		n := 0
		defer func() { published <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := b.Publish(context.Background(), telling(fmt.Sprintf("n%d", n+1), jane))
			if err == nil {
				n++
			}
		}
	}()
	s.wait(100)
	w.stop()
	eventually(t, "the bus notices", func() bool { return !b.Connected() })

	begun := time.Now()
	if _, err := b.Publish(t.Context(), telling("x", jane)); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("publish without a server: %v, want unavailable", err)
	}
	if _, err := b.Follow(t.Context(), jane, s.cursor(5), newSink(t, -1)); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("follow without a server: %v, want unavailable", err)
	}
	if d := time.Since(begun); d > 2*time.Second {
		t.Errorf("that took %v, want an answer at once", d)
	}

	w.start(t, dir)
	n := len(s.wait(0))
	s.wait(n + 100)
	close(stop)
	total := <-published
	if diff := cmp.Diff(ids(1, total), s.wait(total)); diff != "" {
		t.Fatalf("%d acknowledged (-want +got):\n%s", total, diff)
	}
	full.give(-1)
	if diff := cmp.Diff(ids(1, total), full.wait(total)); diff != "" {
		t.Fatalf("sink that was full (-want +got):\n%s", diff)
	}
}

// A read without a connection must leave nothing behind: what it left was
// subscribed again at each reconnect, for ever.
func TestReadsLeaveNoSubscriptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, w := openWire(t, dir, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	settle(t, b, jane)
	before := b.ReadSubscriptions()

	w.stop()
	eventually(t, "the bus notices", func() bool { return !b.Connected() })
	for range 5 {
		if _, _, err := b.Unread(t.Context(), jane, s.cursor(0)); !errors.Is(err, peal.ErrUnavailable) {
			t.Fatalf("read without a server: %v, want unavailable", err)
		}
	}
	w.start(t, dir)
	eventually(t, "the bus is connected", b.Connected)
	eventually(t, "every subscription is gone", func() bool { return b.ReadSubscriptions() <= before })
}

// The middle of an answer can be lost where the connection is made anew, on a
// cluster's other server. The rest must not be taken for the whole.
func TestAnswerWithoutItsMiddleIsRefused(t *testing.T) {
	b := open(t, nil)
	nc := b.JetStream().Conn()
	message := func(before, seq, pending string) nats.Header {
		return nats.Header{"Nats-Subject": {"s"}, "Nats-Last-Sequence": {before}, "Nats-Sequence": {seq}, "Nats-Num-Pending": {pending}}
	}
	end := func(last, pending string) nats.Header {
		return nats.Header{"Status": {"204"}, "Description": {"EOB"}, "Nats-Last-Sequence": {last}, "Nats-Num-Pending": {pending}}
	}
	for i, tt := range []struct {
		name    string
		answer  []nats.Header
		want    []uint64
		pending uint64
		fails   bool
	}{
		{"whole", []nats.Header{message("0", "3", "2"), message("3", "7", "1"), end("7", "1")}, []uint64{3, 7}, 1, false},
		{"none", []nats.Header{{"Status": {"404"}, "Description": {"Message Not Found"}}}, nil, 0, false},
		{"cut", []nats.Header{message("0", "3", "2"), message("3", "7", "1")}, []uint64{3, 7}, 1, false},
		{"without its first", []nats.Header{message("3", "7", "1"), end("7", "1")}, nil, 0, true},
		{"without its middle", []nats.Header{message("0", "3", "2"), message("7", "9", "0"), end("9", "0")}, nil, 0, true},
		{"without its last", []nats.Header{message("0", "3", "1"), end("7", "0")}, nil, 0, true},
		{"refused", []nats.Header{{"Status": {"408"}, "Description": {"Bad Request"}}}, nil, 0, true},
		{"nothing", nil, nil, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := fmt.Sprintf("ANSWER_%d", i)
			sub, err := nc.Subscribe("$JS.API.DIRECT.GET."+stream, func(m *nats.Msg) {
				for _, h := range tt.answer {
					nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: h})
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Unsubscribe()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			got, pending, err := b.Direct(ctx, stream)
			if !slices.Equal(got, tt.want) || pending != tt.pending || (err != nil) != tt.fails {
				t.Fatalf("got %v, %d pending, %v; want %v, %d, an error: %v", got, pending, err, tt.want, tt.pending, tt.fails)
			}
		})
	}
	if _, _, err := b.Direct(t.Context(), "NOBODY"); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("a stream that is not there: %v, want no responders", err)
	}
}

// A closed bus ends feeds and answers whoever still asks.
func TestCloseWhileFollowing(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	follow(t, b, jane, bus.Cursor{})
	done := make(chan error, 20)
	for range cap(done) {
		go func() {
			for {
				f, err := b.Follow(context.Background(), jane, bus.Cursor{}, newSink(t, -1))
				if err != nil {
					done <- err
					return
				}
				f.Resume()
				f.Close()
			}
		}()
	}
	eventually(t, "they follow", func() bool { return b.Stats().Followed.Load() > 0 })
	b.Close()
	b.Close()
	for range cap(done) {
		if err := <-done; !errors.Is(err, peal.ErrUnavailable) {
			t.Fatalf("follow on a closed bus: %v, want unavailable", err)
		}
	}
	select {
	case <-b.Closed():
		t.Fatal("Closed says that the end was against our will")
	default:
	}
}

// A user's inbox costs the server one subscription while it is followed, and
// nothing afterwards; never a consumer.
func TestFollowingLeavesNothingOnTheServer(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 3)
	first := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	for range 10 {
		s := follow(t, b, jane, bus.Cursor{Epoch: first.Epoch, Seq: 1})
		s.wait(2)
		s.feed.Close()
	}
	name, _ := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Consumers != 0 {
		t.Fatalf("%d consumers, want none", info.State.Consumers)
	}
	eventually(t, "only the connection's own subscriptions are left", func() bool { return b.ReadSubscriptions() <= 2 })
}
