package bus_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// holder is a follower with a durable, and what it has heard of losing it.
type holder struct {
	*sink
	durable *bus.Durable
	lost    chan bus.Loss
}

// hold opens a durable.
func hold(t testing.TB, b *bus.Bus, in peal.Inbox, of bus.Followed, name string, asked bus.Cursor) *holder {
	t.Helper()
	h := &holder{lost: make(chan bus.Loss, 1)}
	d, err := b.OpenDurable(t.Context(), in, of, name, asked, func(why bus.Loss) { h.lost <- why })
	if err != nil {
		t.Fatalf("open durable %s: %v", name, err)
	}
	h.durable = d
	t.Cleanup(d.Close)
	return h
}

// followBy follows an inbox by a durable.
func followBy(t testing.TB, b *bus.Bus, in peal.Inbox, name string, asked bus.Cursor) *holder {
	t.Helper()
	h := hold(t, b, in, bus.FollowedInbox, name, asked)
	h.sink = follow(t, b, in, h.durable.After())
	return h
}

// leave ends it.
func (h *holder) leave() {
	if h.sink != nil {
		h.feed.Close()
	}
	h.durable.Close()
}

func (h *holder) loss(t testing.TB) bus.Loss {
	t.Helper()
	select {
	case why := <-h.lost:
		return why
	case <-time.After(patience(t)):
		t.Fatal("nobody said that the durable is lost")
		return ""
	}
}

// durables lists the names of a user's.
func durables(t testing.TB, b *bus.Bus, in peal.Inbox) (names []string) {
	t.Helper()
	all, err := b.DurablesOf(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names
}

// pending waits until so many messages follow the place of a user's only durable.
func pending(t testing.TB, b *bus.Bus, in peal.Inbox, n uint64) {
	t.Helper()
	var have []bus.KeptDurable
	eventually(t, fmt.Sprintf("%d messages follow the place", n), func() bool {
		var err error
		have, err = b.DurablesOf(t.Context(), in)
		return err == nil && len(have) == 1 && have[0].Pending == n
	})
}

// A durable begins at the live end, and from then on whoever follows by it gets what
// was not received: it may come again, and nothing is passed over.
func TestDurableKeepsThePlace(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "before", jane)

	first := followBy(t, b, jane, "wall", bus.Cursor{})
	if !first.durable.New() {
		t.Error("the first follower did not make it")
	}
	publishAll(t, b, jane, 1, 4)
	if diff := cmp.Diff(ids(1, 4), first.waitFor(ids(1, 4)...)); diff != "" {
		t.Fatalf("the first follower (-want +got):\n%s", diff)
	}
	first.durable.Received(first.cursor(1))
	first.leave()
	pending(t, b, jane, 2)

	second := followBy(t, b, jane, "wall", bus.Cursor{})
	if second.durable.New() {
		t.Error("the second follower made another")
	}
	publishAll(t, b, jane, 5, 5)
	if diff := cmp.Diff(ids(3, 5), second.waitFor(ids(3, 5)...)); diff != "" {
		t.Fatalf("the second follower (-want +got):\n%s", diff)
	}
	second.leave() // nothing was received
	third := followBy(t, b, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(3, 5), third.waitFor(ids(3, 5)...)); diff != "" {
		t.Fatalf("the third follower (-want +got):\n%s", diff)
	}
}

// The first follower of an inbox in which there is nothing stands on no message.
func TestDurableOfAnEmptyInbox(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publishAll(t, b, inbox("joe"), 1, 3)
	hold(t, b, jane, bus.FollowedInbox, "wall", bus.Cursor{}).leave()
	publishAll(t, b, inbox("joe"), 4, 5)
	publishAll(t, b, jane, 6, 6)
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(6, 6), h.waitFor(ids(6, 6)...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// What the follower says itself counts: it begins there, also where it has less than
// was thought, and after a break before it has said more it has not got more.
func TestFollowersOwnPlaceMovesTheDurable(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 1, 5)
	h.wait(5)
	var at []bus.Cursor
	for i := range 5 {
		at = append(at, h.cursor(i))
	}
	h.durable.Received(at[2])
	h.leave()
	pending(t, b, jane, 2)

	back := followBy(t, b, jane, "wall", at[0])
	if diff := cmp.Diff(ids(2, 5), back.waitFor(ids(2, 5)...)); diff != "" {
		t.Fatalf("further back (-want +got):\n%s", diff)
	}
	back.leave()
	again := followBy(t, b, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(2, 5), again.waitFor(ids(2, 5)...)); diff != "" {
		t.Fatalf("after it went back (-want +got):\n%s", diff)
	}
	again.leave()
	on := followBy(t, b, jane, "wall", at[3])
	if diff := cmp.Diff(ids(5, 5), on.waitFor(ids(5, 5)...)); diff != "" {
		t.Fatalf("further on (-want +got):\n%s", diff)
	}
	on.leave()

	fresh := followBy(t, b, jane, "other", at[1])
	if diff := cmp.Diff(ids(3, 5), fresh.waitFor(ids(3, 5)...)); diff != "" {
		t.Fatalf("a new one that begins at a place (-want +got):\n%s", diff)
	}
}

// The place is in JetStream alone, and what has expired meanwhile is declared, whatever
// the server does with the floors of its consumers.
func TestDurableOutlivesItsServer(t *testing.T) {
	dir := t.TempDir()
	jane := inbox("jane")
	s := bustest.ServerIn(t, dir)
	b := openOn(t, s, nil)
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 1, 3)
	h.wait(3)
	h.durable.Received(h.cursor(0))
	h.leave()
	pending(t, b, jane, 2)
	b.Close()
	s.Close()

	s = bustest.ServerIn(t, dir)
	b = openOn(t, s, nil)
	again := followBy(t, b, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(2, 3), again.waitFor(ids(2, 3)...)); diff != "" {
		t.Fatalf("after a restart (-want +got):\n%s", diff)
	}
	again.leave()

	// More than the server is off by in silence, from the beginning of the stream.
	publishAll(t, b, inbox("joe"), 1, 200)
	stream, _ := b.StreamOf(jane)
	js := bustest.JetStream(t, s)
	cfg, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	bounded := cfg.CachedInfo().Config
	bounded.MaxMsgs = 10
	if _, err := js.UpdateStream(t.Context(), bounded); err != nil {
		t.Fatal(err)
	}
	b.Close()
	s.Close()
	s = bustest.ServerIn(t, dir)
	b = openOn(t, s, nil)
	gone := followBy(t, b, jane, "wall", bus.Cursor{})
	if got := gone.wait(1); got[0] != "gap HISTORY_TRUNCATED" {
		t.Errorf("after what followed has expired: got %v, want a gap", got)
	}
}

// A stream that is another one now has none of what was received.
func TestDurableBeginsAnewInAnotherIncarnation(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 1, 3)
	h.wait(3)
	h.durable.Received(h.cursor(2))
	pending(t, b, jane, 0)

	before := b.Epoch(jane)
	recreate(t, b, jane)
	b.Refresh()
	eventually(t, "the epoch is another", func() bool { return b.Epoch(jane) != before })
	h.wait(4)
	publishAll(t, b, jane, 4, 4)
	want := append(ids(1, 3), "gap UNKNOWN_CURSOR", "n4")
	if diff := cmp.Diff(want, h.waitFor(want...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got := durables(t, b, jane); got != nil {
		t.Fatalf("the durables outlive their stream: %v", got)
	}
	h.durable.Received(h.cursor(3)) // the gap
	eventually(t, "the durable is there again", func() bool { return slices.Equal(durables(t, b, jane), []string{"wall"}) })
	h.leave()

	again := followBy(t, b, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(4, 4), again.waitFor(ids(4, 4)...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// A place that means nothing in the stream of today, as after a restore, is declared,
// once.
func TestDurableOfAnotherEpoch(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 5)
	foreign := bus.Cursor{Epoch: "aaaaaaaa", Seq: 3}
	h := followBy(t, b, jane, "wall", foreign)
	if got := h.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("got %v, want a gap", got)
	}
	h.leave() // before the gap was received
	h = followBy(t, b, jane, "wall", bus.Cursor{})
	if got := h.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("once more: got %v, want a gap", got)
	}
	h.leave() // again
	publishAll(t, b, jane, 6, 7)
	h = followBy(t, b, jane, "wall", bus.Cursor{})
	want := append([]string{"gap UNKNOWN_CURSOR"}, ids(6, 7)...)
	if diff := cmp.Diff(want, h.waitFor(want...)); diff != "" {
		t.Fatalf("what came since the first gap (-want +got):\n%s", diff)
	}
	h.leave() // and again
	h = followBy(t, b, jane, "wall", bus.Cursor{})
	h.waitFor(want...)
	moved := b.Stats().Moved.Load()
	h.durable.Received(h.cursor(1))
	h.leave()
	// Where it begins is written after where its consumer stands, and in between it is not
	// moved yet.
	eventually(t, "the place is one of this epoch", func() bool { return b.Stats().Moved.Load() > moved })
	pending(t, b, jane, 1)
	h = followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 8, 8)
	if diff := cmp.Diff(ids(7, 8), h.waitFor(ids(7, 8)...)); diff != "" {
		t.Fatalf("after the gap (-want +got):\n%s", diff)
	}
}

// Whoever comes last has the durable, on whatever node, and nobody else moves it.
func TestDurableIsTakenOver(t *testing.T) {
	s := bustest.Server(t)
	one, two := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	first := followBy(t, one, jane, "wall", bus.Cursor{})
	publishAll(t, one, jane, 1, 3)
	first.wait(3)

	second := followBy(t, two, jane, "wall", bus.Cursor{})
	if why := first.loss(t); why != bus.TakenOver {
		t.Errorf("the first follower hears %q, want %q", why, bus.TakenOver)
	}
	first.durable.Received(first.cursor(2))
	first.leave()
	// What this process does for another durable, it does after that.
	joe := followBy(t, one, inbox("joe"), "wall", bus.Cursor{})
	publishAll(t, one, inbox("joe"), 1, 1)
	joe.wait(1)
	joe.durable.Received(joe.cursor(0))
	pending(t, two, inbox("joe"), 0)
	pending(t, two, jane, 3)
	if diff := cmp.Diff(ids(1, 3), second.waitFor(ids(1, 3)...)); diff != "" {
		t.Fatalf("the second follower (-want +got):\n%s", diff)
	}
	second.durable.Received(second.cursor(0))
	pending(t, two, jane, 2)
	select {
	case why := <-second.lost:
		t.Errorf("the second follower hears %q", why)
	default:
	}
	if got := durables(t, one, jane); !slices.Equal(got, []string{"wall"}) {
		t.Errorf("got durables %v, want one", got)
	}
}

// Who loses a durable hears it at once, also where the places of others wait for a
// stream that does not answer.
func TestLossWaitsForNoPlace(t *testing.T) {
	s := bustest.Server(t)
	one, two := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	first := hold(t, one, jane, bus.FollowedInbox, "wall", bus.Cursor{})
	release := one.OccupyKeeper()
	t.Cleanup(release)
	hold(t, two, jane, bus.FollowedInbox, "wall", bus.Cursor{})
	if why := first.loss(t); why != bus.TakenOver {
		t.Errorf("the first follower hears %q, want %q", why, bus.TakenOver)
	}
}

// What a former holder writes down of its use, which was on the way when another took
// over, does not bring back where the durable began when it was the former's.
func TestFormerHolderLeavesTheBeginning(t *testing.T) {
	s := bustest.Server(t)
	one, two := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	all := follow(t, one, jane, bus.Cursor{})
	publishAll(t, one, jane, 1, 5)
	all.wait(5)
	first := hold(t, one, jane, bus.FollowedInbox, "wall", all.cursor(3))
	second := hold(t, two, jane, bus.FollowedInbox, "wall", all.cursor(0))
	first.loss(t)
	if err := first.durable.WriteUsed(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.leave()
	third := followBy(t, two, jane, "wall", bus.Cursor{})
	if diff := cmp.Diff(ids(2, 5), third.waitFor(ids(2, 5)...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// That places can't be moved is told for as long as somebody holds a durable whose
// place it is.
func TestTroubleEndsWithTheDurable(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	jane := inbox("jane")
	h := followBy(t, b, jane, "wall", bus.Cursor{})
	publishAll(t, b, jane, 1, 2)
	h.wait(2)
	// Past us it becomes a consumer that refuses each reset.
	stream, _ := b.StreamOf(jane)
	js := bustest.JetStream(t, s)
	found, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for c := range found.ListConsumers(t.Context()).Info() {
		cfg := c.Config
		cfg.DeliverPolicy = jetstream.DeliverLastPolicy
		if err := js.DeleteConsumer(t.Context(), stream, c.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateConsumer(t.Context(), stream, cfg); err != nil {
			t.Fatal(err)
		}
	}
	unmoved := b.Stats().Unmoved.Load()
	h.durable.Received(h.cursor(0))
	eventually(t, "it can't be moved, and that is told", func() bool { return b.Stats().Unmoved.Load() > unmoved && len(b.Lost()) == 1 })
	h.durable.Received(h.cursor(1))
	h.leave()
	eventually(t, "what is left to be done for it fails too", func() bool { return b.Stats().Unmoved.Load() > unmoved+1 && b.Stats().SlotsHeld.Load() == 0 })
	if lost := b.Lost(); len(lost) != 0 {
		t.Errorf("nobody holds a durable, and %v is told", lost)
	}
}

// unasked is a server in which nobody answers for a consumer, as for one that has no
// leader.
type unasked struct {
	*embedded.Server
	consumer atomic.Pointer[string]
}

func (u *unasked) InProcessConn() (net.Conn, error) {
	c, err := u.Server.InProcessConn()
	return &unaskedConn{c, u}, err
}

type unaskedConn struct {
	net.Conn
	server *unasked
}

func (c *unaskedConn) Write(p []byte) (int, error) {
	if name := c.server.consumer.Load(); name != nil {
		p = bytes.ReplaceAll(p, []byte("CONSUMER.INFO."+*name), []byte("CONSUMER.GONE."+*name))
	}
	return c.Conn.Write(p)
}

// One durable that does not answer is in the way of no other of its user, and is
// removed by its id.
func TestDurableThatDoesNotAnswer(t *testing.T) {
	s := &unasked{Server: bustest.Server(t)}
	b := openOn(t, s.Server, func(c *bus.Config) { c.Server, c.Timeout = s, 3*time.Second })
	jane := inbox("jane")
	hold(t, b, jane, bus.FollowedInbox, "good", bus.Cursor{}).leave()
	hold(t, b, jane, bus.FollowedInbox, "mute", bus.Cursor{}).leave()
	hold(t, b, jane, bus.FollowedTickets, "other", bus.Cursor{}).leave()
	all, err := b.DurablesOf(t.Context(), jane)
	if err != nil || len(all) != 3 || all[1].Name != "mute" {
		t.Fatalf("got %+v and %v", all, err)
	}
	s.consumer.Store(&all[1].ID)

	hold(t, b, jane, bus.FollowedInbox, "good", bus.Cursor{}).leave()
	if _, err := b.OpenDurable(t.Context(), jane, bus.FollowedInbox, "new", bus.Cursor{}, func(bus.Loss) {}); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("a new one, where it is not known how many there are: got %v, want ErrUnavailable", err)
	}
	if n, err := b.RemoveDurables(t.Context(), jane, "other"); n != 1 || !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("remove another: got %d and %v, want 1 and ErrUnavailable", n, err)
	}
	if d, err := b.RemoveDurable(t.Context(), all[1].ID); err != nil || d.ID != all[1].ID {
		t.Errorf("remove it: got %+v and %v", d, err)
	}
	if _, err := b.RemoveDurable(t.Context(), all[1].ID); !errors.Is(err, bus.ErrNoDurable) {
		t.Errorf("once more: got %v, want ErrNoDurable", err)
	}
	s.consumer.Store(nil)
	if got := durables(t, b, jane); !slices.Equal(got, []string{"good"}) {
		t.Errorf("got %v, want the one that answers", got)
	}
}

// A purge erases the durables, of a user and of a tenant, and of nobody else.
func TestPurgeErasesDurables(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	other := jane
	other.Tenant = globex
	for _, in := range []peal.Inbox{jane, joe, other} {
		hold(t, b, in, bus.FollowedInbox, "a", bus.Cursor{}).leave()
		hold(t, b, in, bus.FollowedTickets, "b", bus.Cursor{}).leave()
	}
	p, err := b.Purge(t.Context(), jane)
	if err != nil || p.Durables != 2 {
		t.Errorf("purge a user: got %+v and %v, want 2 durables", p, err)
	}
	if got := [][]string{durables(t, b, jane), durables(t, b, joe), durables(t, b, other)}; len(got[0]) != 0 || len(got[1]) != 2 || len(got[2]) != 2 {
		t.Errorf("after the purge of a user: got %v", got)
	}
	p, err = b.PurgeTenant(t.Context(), acme)
	if err != nil || p.Durables != 2 {
		t.Errorf("purge a tenant: got %+v and %v, want 2 durables", p, err)
	}
	if got := [][]string{durables(t, b, joe), durables(t, b, other)}; len(got[0]) != 0 || len(got[1]) != 2 {
		t.Errorf("after the purge of a tenant: got %v", got)
	}
}

// All are listed, in pages.
func TestDurablesAreListed(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Partitions = 3 })
	want := make(map[string]bool)
	for i := range 6 {
		in := inbox(fmt.Sprint("user ", i))
		if i%3 == 2 {
			in.Tenant = globex
		}
		for _, of := range []bus.Followed{bus.FollowedInbox, bus.FollowedTickets} {
			hold(t, b, in, of, "wall", bus.Cursor{}).leave()
			want[fmt.Sprint(in, of)] = true
		}
	}
	pages := func(tenant peal.Tenant, limit int) (all []bus.KeptDurable) {
		for after := ""; ; {
			page, next, err := b.Durables(t.Context(), tenant, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, page...); next == "" {
				return all
			}
			if len(page) != limit {
				t.Errorf("a page of %d, want %d", len(page), limit)
			}
			after = next
		}
	}
	for _, limit := range []int{1, 5, 12, 200} {
		got := make(map[string]bool)
		for _, d := range pages("", limit) {
			got[fmt.Sprint(d.Inbox, d.Followed)] = true
			if d.Name != "wall" || time.Since(d.Created) > time.Minute || time.Since(d.Used) > time.Minute {
				t.Errorf("got %+v", d)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	of := pages(globex, 3)
	if len(of) != 4 {
		t.Fatalf("of a tenant: got %d, want 4", len(of))
	}
	if d, err := b.RemoveDurable(t.Context(), of[1].ID); err != nil || d.ID != of[1].ID || d.Inbox != of[1].Inbox {
		t.Errorf("remove: got %+v and %v", d, err)
	}
	if _, err := b.RemoveDurable(t.Context(), of[1].ID); !errors.Is(err, bus.ErrNoDurable) {
		t.Errorf("once more: got %v, want ErrNoDurable", err)
	}
	for _, id := range []string{"", "PEAL_INBOX_local_0.other", "KV_PEAL_REVOKED." + of[0].ID, "PEAL_INBOX_local_0.durable_*_0"} {
		if _, err := b.RemoveDurable(t.Context(), id); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("remove %q: got %v, want ErrInvalid", id, err)
		}
	}
	if got := pages(globex, 3); len(got) != 3 {
		t.Errorf("after one is removed: got %d, want 3", len(got))
	}
}

// It is the same for the updates of a tenant's tickets.
func TestDurableOfTickets(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	h := hold(t, b, jane, bus.FollowedTickets, "wall", bus.Cursor{})
	s := followTickets(t, b, acme, h.durable.After())
	for n := range 4 {
		change(t, b, acme, "t", n)
	}
	s.wait(4)
	h.durable.Received(s.cursor(1))
	s.feed.Close()
	h.leave()
	pending(t, b, jane, 2)
	h = hold(t, b, jane, bus.FollowedTickets, "wall", bus.Cursor{})
	again := followTickets(t, b, acme, h.durable.After())
	want := updates("t", 2, 3)
	if diff := cmp.Diff(want, again.waitFor(want...)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

func TestParseDurable(t *testing.T) {
	for _, good := range []string{"a", "wall-7", "0", "-", "abcdefghijklmnopqrstuvwxyz012345"} {
		if got, err := bus.ParseDurable(good); got != good || err != nil {
			t.Errorf("%q: got %q and %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "A", "a b", "a.b", "*", ">", "ä", "a\n", "abcdefghijklmnopqrstuvwxyz0123456"} {
		if _, err := bus.ParseDurable(bad); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}
