package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// happened is an event of a ticket.
func happened(id, ticket string) peal.TicketEvent {
	return peal.TicketEvent{
		ID: id, Type: "comment",
		Ticket: peal.Ticket{ID: ticket, Number: "INC-" + ticket, Title: "VPN"},
	}.WithDefaults(time.Unix(1_750_000_000, 0))
}

// accept stores events, all of which have to be new.
func accept(t testing.TB, b *bus.Bus, events ...peal.TicketEvent) {
	t.Helper()
	for i, a := range b.Accept(t.Context(), acme, events...) {
		if a.Err != nil || a.Duplicate {
			t.Fatalf("event %s: %+v", events[i].ID, a)
		}
	}
}

// work works in this test until it ends or stop is called.
func work(t testing.TB, b *bus.Bus, do func(context.Context, *bus.Task)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Work(ctx, do) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// finished notes whose tasks were settled.
type finished struct {
	mu    sync.Mutex
	names []string
	more  chan struct{}
}

func newFinished() *finished { return &finished{more: make(chan struct{}, 100_000)} }

func (s *finished) note(name string) {
	s.mu.Lock()
	s.names = append(s.names, name)
	s.mu.Unlock()
	s.more <- struct{}{}
}

// wait returns the first n.
func (s *finished) wait(t testing.TB, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-s.more:
		case <-time.After(30 * time.Second):
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("waited in vain for %d events, got %q", n, s.names)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

// nameOf is the id of the event of a task.
func nameOf(t testing.TB, task *bus.Task) string {
	_, rest, _ := strings.Cut(string(task.Data), `"id":"`)
	id, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Errorf("%s has no id", task.Data)
	}
	return id
}

func TestEventsOfATicketAreWorkedOnInOrderByOneAtATime(t *testing.T) {
	s := bustest.Server(t)
	first, second := bustest.Open(t, s, nil), bustest.Open(t, s, nil)
	const tickets, each = 20, 25
	var all []peal.TicketEvent
	for i := range each {
		for ticket := range tickets {
			all = append(all, happened(fmt.Sprintf("%d/%d", ticket, i), fmt.Sprint("ticket-", ticket)))
		}
	}
	accept(t, first, all...)

	got := newFinished()
	var mu sync.Mutex
	busy := make(map[string]bool) // by ticket
	do := func(ctx context.Context, task *bus.Task) {
		name := nameOf(t, task)
		ticket, _, _ := strings.Cut(name, "/")
		mu.Lock()
		if busy[ticket] {
			t.Errorf("ticket %s is worked on twice at once", ticket)
		}
		busy[ticket] = true
		mu.Unlock()
		mu.Lock()
		busy[ticket] = false
		mu.Unlock()
		got.note(name) // before it is settled, or the next is there already
		if err := task.Done(ctx); err != nil {
			t.Error(err)
		}
	}
	work(t, first, do)
	work(t, second, do)

	next := make(map[string]int)
	for _, name := range got.wait(t, tickets*each) {
		ticket, n, _ := strings.Cut(name, "/")
		if want := fmt.Sprint(next[ticket]); n != want {
			t.Fatalf("ticket %s: event %s, want %s", ticket, n, want)
		}
		next[ticket]++
	}
	if got, err := first.Backlog(t.Context()); got != (bus.Backlog{}) || err != nil {
		t.Errorf("%+v wait (%v), want none", got, err)
	}
}

// What is put off comes again before the next of its ticket, and how often it has
// been given out is told.
func TestRetriedEventKeepsItsPlace(t *testing.T) {
	b := open(t, nil)
	accept(t, b, happened("one", "t"), happened("two", "t"))
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		got.note(fmt.Sprint(nameOf(t, task), " ", task.Tries))
		if nameOf(t, task) == "one" && task.Tries < 3 {
			task.Retry(time.Millisecond)
			return
		}
		task.Done(ctx)
	})
	want := []string{"one 1", "one 2", "one 3", "two 1"}
	if diff := cmp.Diff(want, got.wait(t, 4)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A worker that is not heard of loses its event to another; one that works for long
// says so and keeps it.
func TestSilentWorkerLosesItsEvent(t *testing.T) {
	s := bustest.Server(t)
	short := func(c *bus.Config) { c.AckWait = 3 * time.Second }
	b, other := bustest.Open(t, s, short), bustest.Open(t, s, short)
	accept(t, b, happened("one", "t"))
	got := newFinished()
	release := make(chan struct{})
	defer close(release)
	do := func(ctx context.Context, task *bus.Task) {
		got.note(fmt.Sprint(task.Tries))
		if task.Tries == 1 {
			<-release
			return
		}
		task.Done(ctx)
	}
	work(t, b, do)
	work(t, other, do)
	if diff := cmp.Diff([]string{"1", "2"}, got.wait(t, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Who stops working leaves nothing behind that would have to wait for it.
func TestStoppedWorkerLetsGo(t *testing.T) {
	s := bustest.Server(t)
	b := bustest.Open(t, s, nil)
	began := make(chan struct{})
	stop := work(t, b, func(ctx context.Context, task *bus.Task) {
		close(began)
		task.Done(ctx)
	})
	accept(t, b, happened("one", "t"))
	<-began
	stop()
	accept(t, b, happened("two", "t"), happened("three", "u"))
	next := bustest.Open(t, s, nil)
	got := newFinished()
	work(t, next, func(ctx context.Context, task *bus.Task) {
		task.Done(ctx)
		got.note(fmt.Sprint(nameOf(t, task), " ", task.Tries))
	})
	names := got.wait(t, 2)
	slices.Sort(names)
	if diff := cmp.Diff([]string{"three 1", "two 1"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whether the connection was cut or nothing came through it, the work goes on by
// itself. It once did not: who let go of a consumer that was silent waited for its last
// word for ever.
func TestWorkGoesOnWhenNATSIsBack(t *testing.T) {
	for name, trouble := range map[string]func(*proxy, string) func(){
		"cut": (*proxy).cut, "held": (*proxy).hold,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Store: 8 << 30, Unsynced: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			p := newProxy(t, strings.TrimPrefix(s.URL(), "nats://"))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			b, err := bus.Open(ctx, bus.Config{URLs: []string{p.url()}, Replicas: 1, Partitions: 1, AckWait: 3 * time.Second, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			got := newFinished()
			work(t, b, func(ctx context.Context, task *bus.Task) {
				if task.Done(ctx) == nil {
					got.note(nameOf(t, task))
				}
			})
			accept(t, b, happened("first", "t"))
			got.wait(t, 1)
			for round := range 3 {
				mend := trouble(p, "work")
				var some []peal.TicketEvent
				for i := range 100 {
					some = append(some, happened(fmt.Sprint(round, "-", i), fmt.Sprint("t", i)))
				}
				accept(t, b, some...)
				time.Sleep(3 * time.Second) // heartbeats are missed after one
				mend()
				for seen := make(map[string]bool); len(seen) < 100*(round+1)+1; {
					for _, name := range got.wait(t, 1) {
						seen[name] = true
					}
				}
			}
		})
	}
}

// A JetStream that was killed may hold events again that were done, and give them to
// nobody. They do not count as waiting, and are worked on again, as such.
func TestWhatJetStreamKeepsByMistakeIsWorkedOnAgain(t *testing.T) {
	b := open(t, nil)
	got := newFinished()
	do := func(ctx context.Context, task *bus.Task) {
		got.note(fmt.Sprint(nameOf(t, task), " ", task.Again, " ", strings.HasPrefix(task.Name(), "event-")))
		task.Done(ctx)
	}
	stop := work(t, b, do)
	accept(t, b, happened("first", "t"))
	got.wait(t, 1)
	js := b.JetStream()
	for consumers := 0; consumers < 32; { // all partitions have one
		s, err := js.Stream(t.Context(), "PEAL_EVENT_local")
		if err != nil {
			t.Fatal(err)
		}
		consumers = s.CachedInfo().State.Consumers
	}
	stop()

	accept(t, b, happened("one", "t"), happened("two", "t"))
	stream, err := js.Stream(t.Context(), "PEAL_EVENT_local")
	if err != nil {
		t.Fatal(err)
	}
	one := stream.CachedInfo().State.FirstSeq
	m, err := stream.GetMsg(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	reset := "$JS.API.CONSUMER.RESET.PEAL_EVENT_local.dispatch_" + strings.Split(m.Subject, ".")[3]
	answer, err := js.Conn().RequestWithContext(t.Context(), reset, fmt.Appendf(nil, `{"seq":%d}`, one+1))
	if err != nil || strings.Contains(string(answer.Data), `"error"`) {
		t.Fatalf("%s: %v", answer.Data, err)
	}
	if left, err := b.Backlog(t.Context()); left.Waiting != 1 || err != nil {
		t.Errorf("%+v waits, %v; want one", left, err)
	}
	work(t, b, do)
	got.wait(t, 1)
	for range 2 { // the second time there is nothing
		if err := b.LookAtQueue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names := got.wait(t, 1)
	if diff := cmp.Diff([]string{"first false true", "two false true", "one true true"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := stream.GetMsg(t.Context(), one); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("what was left behind is still there: %v", err)
	}
}

// What was left behind may be anything that somebody has published, on a subject that
// no event of ours could have. It is a dead letter, and no panic.
func TestWhatIsLeftOnASubjectThatIsNoneIsADeadLetter(t *testing.T) {
	b := open(t, nil)
	js := b.JetStream()
	ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "peal.event.local.$nobody.ti!ket", Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PEAL_EVENT_local")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	partition, err := strconv.Atoi(strings.Split(m.Subject, ".")[3])
	if err != nil {
		t.Fatal(err)
	}
	if err := b.WorkAgain(t.Context(), partition, ack.Sequence); err != nil {
		t.Fatal(err)
	}
	dead, _, err := b.DeadLetters(t.Context(), "", "", 10)
	if err != nil || len(dead) != 1 || !strings.HasPrefix(dead[0].Reason, "subject: ") {
		t.Errorf("dead letters %+v, %v; want one for its subject", dead, err)
	}
	if _, err := stream.GetMsg(t.Context(), ack.Sequence); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAcceptStoresOnce(t *testing.T) {
	b := open(t, nil)
	var fifty []peal.TicketEvent
	for i := range 50 {
		fifty = append(fifty, happened(fmt.Sprint("e", i), fmt.Sprint("t", i%7)))
	}
	accept(t, b, fifty...)
	for i, a := range b.Accept(t.Context(), acme, append(fifty, happened("new", "t"), happened("new", "t"))...) {
		if want := i != 50; a.Err != nil || a.Duplicate != want {
			t.Errorf("event %d: %+v, want duplicate %v", i, a, want)
		}
	}
	if a := b.Accept(t.Context(), globex, fifty[0])[0]; a.Err != nil || a.Duplicate {
		t.Errorf("another tenant's of the same id: %+v, want it stored", a)
	}
	if got, err := b.Backlog(t.Context()); got.Waiting != 52 || time.Since(got.Oldest) > time.Minute || err != nil {
		t.Errorf("%+v wait (%v), want 52", got, err)
	}
}

func TestBuriedEventIsListedShownRetriedAndDropped(t *testing.T) {
	b := open(t, nil)
	accept(t, b, happened("bad", "t"), happened("good", "t"))
	// What somebody publishes past us.
	for _, m := range []*nats.Msg{
		{Subject: "peal.event.local.nobody.x", Data: []byte("not JSON")},
		{Subject: "peal.event.local." + string(acme) + ".=dA", Data: []byte(strings.Repeat("x", 1<<20-4096))},
	} {
		if _, err := b.JetStream().PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		defer func() { got.note(fmt.Sprint(len(task.Data))) }()
		if strings.Contains(string(task.Data), "good") {
			task.Done(ctx)
			return
		}
		if err := task.Bury(ctx, "the id", "because\nof a\treason"); err != nil {
			t.Error(err)
		}
		task.Bury(ctx, "the id", "because of another") // as if the first had not been heard
	})
	got.wait(t, 4)

	all, next, err := b.DeadLetters(t.Context(), "", "", 10)
	if err != nil || next != "" || len(all) != 3 {
		t.Fatalf("got %d dead letters, next %q, %v; want 3", len(all), next, err)
	}
	var seen []string
	for _, d := range all {
		seen = append(seen, fmt.Sprintf("%q %q %v of %d", d.Tenant, d.Ticket, d.Whole, d.Size))
		if d.Reason != "because of a reason" || d.Event != "the id" || time.Since(d.Buried) > time.Minute || time.Since(d.Stored) > time.Minute {
			t.Errorf("got %+v", d)
		}
	}
	slices.Sort(seen)
	want := []string{`"" "" true of 8`, fmt.Sprintf("%q %q false of %d", acme, "t", 1<<20-4096), fmt.Sprintf("%q %q true of %d", acme, "t", len(happened("bad", "t").Encode()))}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// By pages, and of one tenant.
	var ids []string
	for after := ""; ; {
		page, next, err := b.DeadLetters(t.Context(), acme, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			ids = append(ids, d.ID)
		}
		if after = next; after == "" {
			break
		}
	}
	if len(ids) != 2 {
		t.Errorf("the tenant has %d dead letters, want 2", len(ids))
	}
	if _, _, err := b.DeadLetters(t.Context(), "", "aaaaaaaa-1", 10); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("after a foreign id: %v, want it invalid", err)
	}

	for _, d := range all {
		err := b.RetryDeadLetter(t.Context(), d.ID)
		switch {
		case d.Whole && d.Ticket != "":
			if err != nil {
				t.Errorf("retry %+v: %v", d, err)
			}
			if _, err := b.DeadLetter(t.Context(), d.ID); !errors.Is(err, bus.ErrNoDeadLetter) {
				t.Errorf("after the retry: %v, want none", err)
			}
			got.wait(t, 1)
		case !errors.Is(err, peal.ErrInvalid):
			t.Errorf("retry %+v: %v, want it invalid", d, err)
		default:
			if err := b.DropDeadLetter(t.Context(), d.ID); err != nil {
				t.Errorf("drop: %v", err)
			}
			if err := b.DropDeadLetter(t.Context(), d.ID); !errors.Is(err, bus.ErrNoDeadLetter) {
				t.Errorf("drop again: %v, want none", err)
			}
		}
	}
	// It has died again.
	last, _, err := b.DeadLetters(t.Context(), "", "", 10)
	if err != nil || len(last) != 1 || last[0].Event != "the id" {
		t.Errorf("got %+v, %v; want the retried one", last, err)
	}
}

// A purge of a user takes the dead letters along that name them, and no others.
func TestPurgeErasesDeadLettersOfAUser(t *testing.T) {
	b := open(t, nil)
	named := happened("names jane", "t")
	named.Ticket.WatcherIDs = []peal.UserRef{{ID: "joe"}, {ID: "jane", Namespace: "staff"}}
	like := happened("names janet", "t")
	like.Ticket.AssigneeID = peal.UserRef{ID: "janet"}
	accept(t, b, named, like)
	for _, data := range []string{
		`{"id":"escaped","assigneeId":"\u006aane"}`, `half of it: {"id":"half", "jane`, `{"id":"cut","assigneeId":"\u006aane","ti`,
		`{"id":"twice","assigneeId":"jane","assigneeId":"joe"}`, `{"id":"key","members":{"jane":1e999}}`,
	} {
		if _, err := b.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: "peal.event.local." + string(acme) + ".=dA", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		if err := task.Bury(ctx, nameOf(t, task), "because"); err != nil {
			t.Error(err)
		}
		got.note("")
	})
	got.wait(t, 7)
	if p, err := b.Purge(t.Context(), peal.Inbox{Tenant: globex, Namespace: "staff", User: "jane"}); p.DeadLetters != 0 || err != nil {
		t.Errorf("the purge of another tenant's jane: %+v, %v", p, err)
	}
	if p, err := b.Purge(t.Context(), inbox("jane")); p.DeadLetters != 6 || err != nil {
		t.Errorf("the purge: %+v, %v; want six", p, err)
	}
	left, _, err := b.DeadLetters(t.Context(), "", "", 10)
	if err != nil || len(left) != 1 || left[0].Event != "names janet" {
		t.Errorf("left: %+v, %v", left, err)
	}
}

func TestQueueIsWhatWasSetLast(t *testing.T) {
	b := open(t, nil)
	joe := peal.Inbox{Tenant: acme, Namespace: "customers", User: "joe \"*.>"}
	for _, members := range [][]peal.Inbox{
		nil,
		{inbox("jane"), inbox("jane"), joe},
		{joe},
		{},
	} {
		if members != nil {
			if err := b.SetQueue(t.Context(), acme, "net *.>", members); err != nil {
				t.Fatal(err)
			}
		}
		got, err := b.Queue(t.Context(), acme, "net *.>")
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Compact(slices.Clone(members))
		slices.SortFunc(want, func(x, y peal.Inbox) int { return strings.Compare(string(x.Namespace), string(y.Namespace)) })
		if diff := cmp.Diff(want, got); len(want)+len(got) > 0 && diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, other := range []struct {
			t peal.Tenant
			q string
		}{{globex, "net *.>"}, {acme, "net"}} {
			if got, err := b.Queue(t.Context(), other.t, other.q); len(got) != 0 || err != nil {
				t.Errorf("queue %v has %v, %v; want none", other, got, err)
			}
		}
	}
	var many []peal.Inbox
	for i := range 5000 {
		many = append(many, peal.Inbox{Tenant: acme, Namespace: "staff", User: peal.UserID(fmt.Sprintf("%0128d", i))})
	}
	if err := b.SetQueue(t.Context(), acme, "large", many); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Queue(t.Context(), acme, "large"); len(got) != 5000 || err != nil {
		t.Errorf("the large queue has %d members, %v; want 5000", len(got), err)
	}
	for i := range many {
		many[i].User += peal.UserID(strings.Repeat("\\", 100))
	}
	if err := b.SetQueue(t.Context(), acme, "large", many); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("too large a queue: %v, want it invalid", err)
	}
}

func TestUntoldAreThoseWhoHaveItNot(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Partitions = 3 })
	all := inboxes(40)
	publish(t, b, "n1", all[:15]...)
	publish(t, b, "n2", all[10:20]...)
	left, err := b.Untold(t.Context(),
		telling("n1", all...),
		telling("n2", all...))
	if err != nil {
		t.Fatal(err)
	}
	want := []bus.Publication{
		telling("n1", all[15:]...),
		telling("n2", append(slices.Clone(all[:10]), all[20:]...)...),
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
