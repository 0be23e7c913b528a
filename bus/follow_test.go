package bus_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

func TestFollowReplaysThenGoesLive(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane@example.com")

	first := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	first.wait(1)
	publish(t, b, "n2", jane)
	publish(t, b, "n3", jane)

	again := follow(t, b, jane, first.cursor(0))
	publish(t, b, "n4", jane)

	if diff := cmp.Diff(ids(2, 4), again.wait(3)); diff != "" {
		t.Fatalf("after the first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ids(1, 4), first.wait(4)); diff != "" {
		t.Fatalf("live (-want +got):\n%s", diff)
	}
	if start := again.feed.Start(); !start.Recovered || start.Gap || start.Cursor != first.cursor(0) {
		t.Fatalf("start %+v, want recovered at %v", start, first.cursor(0))
	}
}

func TestFollowWithoutCursorStartsAtTheLiveEnd(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)

	s := follow(t, b, jane, bus.Cursor{})
	if start := s.feed.Start(); start.Recovered || start.Gap || start.Cursor.Seq != 1 {
		t.Fatalf("start %+v, want the live end, which is sequence 1", start)
	}
	publish(t, b, "n2", jane)
	if got := s.wait(1); got[0] != "n2" {
		t.Fatalf("got %v, want n2 alone", got)
	}
}

// A cursor of another inbox must not pass over what is unread in this one: a
// browser in which another user signs in may still have it.
func TestFollowKnowsAForeignCursor(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, b, "for jane", jane)
	joes := follow(t, b, joe, bus.Cursor{})
	publish(t, b, "for joe", joe)
	joes.wait(1)
	publish(t, b, "for jane too", jane)

	s := follow(t, b, jane, joes.cursor(0))
	if start := s.feed.Start(); !start.Gap || start.Recovered {
		t.Fatalf("start %+v, want a gap", start)
	}
	s.wait(1)
	publish(t, b, "live", jane)
	if diff := cmp.Diff([]string{"gap UNKNOWN_CURSOR", "live"}, s.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if again := follow(t, b, jane, s.cursor(0)); !again.feed.Start().Recovered {
		t.Fatal("the cursor of the gap is not good to resume from")
	}
}

// A place in an inbox that was empty then is a place in others' messages.
func TestFollowResumesAnInboxThatWasEmpty(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, b, "n1", joe)
	empty := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor

	publish(t, b, "n2", jane)
	publish(t, b, "n3", joe)
	publish(t, b, "n4", jane)
	s := follow(t, b, jane, empty)
	if diff := cmp.Diff([]string{"n2", "n4"}, s.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if start := s.feed.Start(); !start.Recovered {
		t.Fatalf("start %+v, want recovered", start)
	}
}

// A message that arrives between Follow and the first Resume is not lost.
func TestFollowKeepsWhatArrivesBeforeTheFirstResume(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	settle(t, b, jane)
	for _, after := range []bus.Cursor{{}, first} {
		s := newSink(t, -1)
		f, err := b.Follow(t.Context(), jane, after, s)
		if err != nil {
			t.Fatal(err)
		}
		s.feed = f
		id := "resting after " + after.String()
		publish(t, b, id, jane)
		f.Resume()
		for n := 1; ; n++ { // with a cursor, the other's comes first
			if got := s.wait(n); got[n-1] == id {
				break
			}
		}
		f.Close()
	}
}

// The same after a gap, though what the feed knew before it is void.
func TestFollowKeepsWhatArrivesBeforeTheFirstResumeAfterAGap(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	follow(t, b, jane, bus.Cursor{})
	settle(t, b, jane)
	eventually(t, "the tail is checked", func() bool { return !b.Checked(jane) })
	s := newSink(t, -1)
	f, err := b.Follow(t.Context(), jane, bus.Unknown, s)
	if err != nil {
		t.Fatal(err)
	}
	s.feed = f
	t.Cleanup(f.Close)
	publish(t, b, "n1", jane)
	settle(t, b, jane)
	f.Resume()
	if diff := cmp.Diff([]string{"gap UNKNOWN_CURSOR", "n1"}, s.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// What is stored while Follow still reads has arrived by then, because it
// subscribes first: it must not wait for a tail check.
func TestFollowHearsWhatIsStoredWhileItReads(t *testing.T) {
	t.Parallel()
	b, h := openHolding(t, readConn, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	first.wait(1)
	settle(t, b, jane)
	first.feed.Close()
	eventually(t, "nobody follows", func() bool { return b.Stats().Followed.Load() == 0 })
	rescued := b.Stats().Rescued.Load()

	release := h.hold()
	defer release()
	s := newSink(t, -1)
	begun := make(chan error, 1)
	go func() {
		f, err := b.Follow(t.Context(), jane, first.cursor(0), s)
		s.feed = f
		begun <- err
	}()
	eventually(t, "the read is answered", h.answered)
	publish(t, b, "n2", jane)
	release()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.feed.Close)
	s.feed.Resume()
	if got := s.wait(1); got[0] != "n2" {
		t.Fatalf("got %v, want n2", got)
	}
	if n := b.Stats().Rescued.Load() - rescued; n != 0 {
		t.Fatalf("%d feeds rescued by the tail check, want none", n)
	}
}

// A node that has heard nothing of the stream for a while must not take the
// cursor of another node, which has, for one of the future.
func TestCursorOfAnotherNodeIsGood(t *testing.T) {
	server := bustest.Server(t)
	here, there := openOn(t, server, nil), openOn(t, server, nil)
	jane := inbox("jane")
	first := follow(t, there, jane, bus.Cursor{})
	publishAll(t, there, jane, 1, 3)
	first.wait(3)

	s := follow(t, here, jane, first.cursor(1))
	if diff := cmp.Diff([]string{"n3"}, s.wait(1)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if start := s.feed.Start(); !start.Recovered {
		t.Fatalf("start %+v, want recovered", start)
	}
}

// An inbox that has lost everything says so once, not each time the stream
// loses another message.
func TestGapOfAnEmptiedInboxIsDeclaredOnce(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	publish(t, b, "j", jane)
	publishAll(t, b, joe, 1, 20)
	cursor := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	name, _ := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for i, first := range []uint64{6, 9, 12} {
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(first)); err != nil {
			t.Fatal(err)
		}
		start := follow(t, b, jane, cursor).feed.Start()
		if start.Gap != (i == 0) || start.Recovered != (i > 0) {
			t.Errorf("stream begins at %d: start %+v after %v, want one gap in all", first, start, cursor)
		}
		cursor = start.Cursor
	}
}

func TestFollowersOfOneInboxGetTheSame(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	var all []*sink
	for range 20 {
		all = append(all, follow(t, b, jane, bus.Cursor{}))
	}
	if n := b.Stats().Followed.Load(); n != 1 {
		t.Fatalf("%d inboxes followed, want 1 subscription for all", n)
	}
	for i := 1; i <= 50; i++ {
		publish(t, b, fmt.Sprintf("n%d", i), jane)
	}
	for _, s := range all {
		if diff := cmp.Diff(ids(1, 50), s.wait(50)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// A frame is made once for all connections of an inbox.
func TestFrameIsEncodedOnce(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	var mu sync.Mutex
	encoded, delivered := 0, make(chan struct{}, 10)
	for range 10 {
		f, err := b.Follow(t.Context(), jane, bus.Cursor{}, deliverFunc(func(m *bus.Message) bool {
			m.Frame(func(m *bus.Message) []byte {
				mu.Lock()
				defer mu.Unlock()
				encoded++
				return m.Data
			})
			delivered <- struct{}{}
			return true
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.Resume()
	}
	publish(t, b, "n1", jane)
	for range 10 {
		<-delivered
	}
	mu.Lock()
	defer mu.Unlock()
	if encoded != 1 {
		t.Fatalf("encoded %d times for 10 followers, want once", encoded)
	}
}

type deliverFunc func(*bus.Message) bool

func (f deliverFunc) Deliver(m *bus.Message) bool { return f(m) }
func (f deliverFunc) Gap(bus.Gap) bool            { return true }
func (deliverFunc) State(bus.ReadState) bool      { return true }

// The main promise: a client that comes back with its last cursor, however
// often, gets everything once and in order.
func TestFiftyReconnectsLoseAndRepeatNothing(t *testing.T) {
	const total, connects = 1000, 50
	b := open(t, func(c *bus.Config) { c.PerInbox = 2 * total })
	jane := inbox("jane")

	cursor := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= total; i++ {
			publish(t, b, fmt.Sprintf("n%d", i), jane)
		}
	}()

	var got []string
	for range connects {
		s := newSink(t, total/connects) // it takes its share, then the client goes away
		followInto(t, b, jane, cursor, s)
		got = append(got, s.wait(total/connects)...)
		cursor = s.cursor(total/connects - 1)
		s.feed.Close()
	}
	<-done
	if diff := cmp.Diff(ids(1, total), got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// A sink without room holds nothing: the stream is its buffer.
func TestSlowSinkLosesNothing(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := newSink(t, 3)
	followInto(t, b, jane, bus.Cursor{}, s)
	for i := 1; i <= 200; i++ {
		publish(t, b, fmt.Sprintf("n%d", i), jane)
	}
	s.wait(3)
	for n := 3; n < 200; n += 7 {
		s.give(7)
		s.wait(min(n+7, 200))
	}
	if diff := cmp.Diff(ids(1, 200), s.wait(200)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// The buffer of a feed that is reading is bounded; what does not fit is read
// again.
func TestBurstWhileReadingLosesNothing(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	start := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	var publishers sync.WaitGroup
	for p := range 4 {
		publishers.Go(func() {
			for i := range 100 {
				publish(t, b, fmt.Sprintf("p%d-%d", p, i), jane)
			}
		})
	}
	var all []*sink
	for range 10 {
		all = append(all, follow(t, b, jane, start))
	}
	publishers.Wait()
	want := all[0].wait(400)
	for _, s := range all[1:] {
		if diff := cmp.Diff(want, s.wait(400)); diff != "" {
			t.Fatalf("two followers differ (-first +other):\n%s", diff)
		}
	}
}

// What is no longer stored is declared, and what is still stored follows.
func TestGap(t *testing.T) {
	at := func(seq uint64) func(bus.Epoch) bus.Cursor {
		return func(e bus.Epoch) bus.Cursor { return bus.Cursor{Epoch: e, Seq: seq} }
	}
	raw := func(s string) func(bus.Epoch) bus.Cursor {
		return func(bus.Epoch) bus.Cursor { return bus.ParseCursor(s) }
	}
	truncated := append([]string{"gap HISTORY_TRUNCATED"}, ids(21, 30)...)
	unknown := []string{"gap UNKNOWN_CURSOR"}
	for _, tt := range []struct {
		name  string
		after func(bus.Epoch) bus.Cursor
		want  []string
	}{
		{"over the bound of the inbox", at(1), truncated},
		{"before the first message", at(0), truncated},
		{"the oldest that is stored", at(21), ids(22, 30)},
		{"the newest", at(30), nil},
		{"another inbox's message", at(31), unknown},
		{"the future", at(32), unknown},
		{"the end of time", at(math.MaxUint64), unknown},
		{"another incarnation", raw("aaaaaaaa-25"), unknown},
		{"malformed", raw("'; drop table"), unknown},
		{"more than 64 bits", raw("aaaaaaaa-99999999999999999999"), unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, func(c *bus.Config) { c.PerInbox = 10 })
			jane, joe := inbox("jane"), inbox("joe")
			epoch := follow(t, b, joe, bus.Cursor{}).feed.Start().Cursor.Epoch
			for i := 1; i <= 30; i++ {
				publish(t, b, fmt.Sprintf("n%d", i), jane)
			}
			publish(t, b, "joe's", joe)

			s := follow(t, b, jane, tt.after(epoch))
			s.wait(len(tt.want))
			publish(t, b, "live", jane)
			want := append(slices.Clone(tt.want), "live")
			if diff := cmp.Diff(want, s.wait(len(want))); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			gap := len(tt.want) > 0 && strings.HasPrefix(tt.want[0], "gap")
			if start := s.feed.Start(); start.Gap != gap || start.Recovered == gap {
				t.Fatalf("start %+v, want gap %v", start, gap)
			}
			if gap && tt.want[0] == unknown[0] { // of a truncated inbox, "live" has pushed out another
				again := follow(t, b, jane, s.cursor(0))
				if diff := cmp.Diff(want[1:], again.wait(len(want)-1)); diff != "" {
					t.Fatalf("resumed from the gap's cursor (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestInboxesAreSeparate(t *testing.T) {
	b := open(t, nil)
	users := []string{
		"*", ">", "a.b", "a", "b", "ü", "u", "U", strings.Repeat("x", peal.MaxID), strings.Repeat("ü", 64),
		"jane", "jane ", "=amFuZQ", "amFuZQ", "=YS5i", "11111111-1111-4111-8111-111111111111", "$JS.API.>", "peal.inbox.>",
	}
	var inboxes []peal.Inbox
	for _, u := range users {
		for _, tenant := range []peal.Tenant{acme, globex} {
			for _, ns := range []peal.Namespace{"staff", "customers"} {
				inboxes = append(inboxes, peal.Inbox{Tenant: tenant, Namespace: ns, User: peal.UserID(u)})
			}
		}
	}
	var sinks []*sink
	for _, in := range inboxes {
		sinks = append(sinks, follow(t, b, in, bus.Cursor{}))
	}
	for i, in := range inboxes {
		publish(t, b, fmt.Sprintf("for %d", i), in)
	}
	publish(t, b, "for all", inboxes...)
	for i, s := range sinks {
		if diff := cmp.Diff([]string{fmt.Sprintf("for %d", i), "for all"}, s.wait(2)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", inboxes[i], diff)
		}
	}
}

func TestCloseEndsTheFeed(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	other := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	s.feed.Close()
	s.feed.Close()
	publish(t, b, "n2", jane)
	other.wait(2)
	if got := s.wait(1); len(got) != 1 {
		t.Fatalf("got %v after Close, want nothing but n1", got)
	}
	other.feed.Close()
	publish(t, b, "n3", jane)
	again := follow(t, b, jane, other.cursor(1))
	if got := again.wait(1); got[0] != "n3" {
		t.Fatalf("got %v, want n3", got)
	}
}

func TestUnreadCountsUpToTheCursor(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	for i := 1; i <= 5; i++ {
		publish(t, b, fmt.Sprintf("n%d", i), jane)
	}
	end := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	for _, tt := range []struct{ seq, want uint64 }{{0, 0}, {1, 1}, {3, 3}, {5, 5}, {9, 5}} {
		got, _, err := b.Unread(t.Context(), jane, bus.Cursor{Epoch: end.Epoch, Seq: tt.seq})
		if err != nil || got != tt.want {
			t.Errorf("unread up to %d: %d, %v, want %d", tt.seq, got, err, tt.want)
		}
	}
	if got, _, err := b.Unread(t.Context(), inbox("joe"), end); err != nil || got != 0 {
		t.Errorf("unread of an empty inbox: %d, %v", got, err)
	}
}

// What arrives while it is being counted belongs to what follows the cursor.
func TestUnreadHoldsStillWhileNotificationsArrive(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	for i := 1; i <= 5; i++ {
		publish(t, b, fmt.Sprintf("n%d", i), jane)
	}
	end := follow(t, b, jane, bus.Cursor{}).feed.Start().Cursor
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 6; i <= 200; i++ {
			publish(t, b, fmt.Sprintf("n%d", i), jane)
			time.Sleep(2 * time.Millisecond) // a rate of 500/s: more than anybody reads
		}
	}()
	for counting := true; counting; {
		select {
		case <-done:
			counting = false
		default:
		}
		if got, _, err := b.Unread(t.Context(), jane, end); err != nil || got != 5 {
			t.Fatalf("unread: %d, %v, want 5", got, err)
		}
	}
}

// What a sink took and then dropped comes again: the stream is its buffer.
// A gap that was dropped is declared again, before what follows it.
// A stored message larger than one read, which only others than us can put
// there, must not keep a feed from what follows it.
func TestMessageThatFillsARead(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	name, subject := b.StreamOf(jane)
	s := follow(t, b, jane, bus.Cursor{})
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().Publish(t.Context(), subject, make([]byte, 200<<10)); err == nil {
		t.Error("the stream takes a message of 200 kB")
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = -1
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().Publish(t.Context(), subject, make([]byte, 200<<10)); err != nil {
		t.Fatal(err)
	}
	s.wait(1)
	publish(t, b, "n2", jane)
	if got := follow(t, b, jane, s.cursor(0)).wait(1); got[0] != "n2" {
		t.Fatalf("got %v, want n2", got)
	}
}

// A cursor that names another's message is theirs, also where the inbox of who
// brings it is empty.
func TestFollowKnowsAForeignCursorOfAnEmptyInbox(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	joes := follow(t, b, joe, bus.Cursor{})
	publish(t, b, "for joe", joe)
	joes.wait(1)
	s := follow(t, b, jane, joes.cursor(0))
	if got := s.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("got %v, want a gap", got)
	}
}
