package bus_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == serveArg { // the server of TestModel
		if err := serveNATS(os.Args[2], os.Args[3]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	bustest.Main(m)
}

// openOn opens a bus on a server, which has more time for an answer than in
// production: the machine that runs the tests may have other work.
func openOn(t testing.TB, s *embedded.Server, change func(*bus.Config)) *bus.Bus {
	t.Helper()
	return bustest.Open(t, s, func(c *bus.Config) {
		c.Timeout = 20 * time.Second
		if change != nil {
			change(c)
		}
	})
}

// open opens a bus on a server of its own.
func open(t testing.TB, change func(*bus.Config)) *bus.Bus {
	t.Helper()
	return openOn(t, bustest.Server(t), change)
}

const (
	acme   peal.Tenant = "11111111-1111-4111-8111-111111111111"
	globex peal.Tenant = "22222222-2222-4222-8222-222222222222"
)

func inbox(user string) peal.Inbox {
	return peal.Inbox{Tenant: acme, Namespace: "staff", User: peal.UserID(user)}
}

func notification(id string) peal.Notification {
	return peal.Notification{
		ID: id, Type: peal.Mention, TicketID: "1", TicketNumber: "INC-1", Title: "t", Message: "m",
	}.WithDefaults(time.Date(2025, 7, 10, 12, 35, 0, 0, time.UTC))
}

// telling is a notification for some inboxes.
func telling(id string, to ...peal.Inbox) bus.Publication {
	return bus.Publication{To: to, Notification: notification(id)}
}

func publish(t testing.TB, b *bus.Bus, id string, to ...peal.Inbox) bus.Published {
	t.Helper()
	p, err := b.Publish(t.Context(), telling(id, to...))
	if err != nil {
		t.Fatalf("publish %s: %v", id, err)
	}
	return p
}

// patience is how long a test waits for what does not come: a minute, but not
// so long that the test is ended before it can say what is missing.
func patience(t testing.TB) time.Duration {
	const say = 10 * time.Second
	if t, ok := t.(*testing.T); ok {
		if deadline, ok := t.Deadline(); ok {
			return min(time.Minute, time.Until(deadline)-say)
		}
	}
	return time.Minute
}

// sink collects what a feed delivers, as "id@sequence" and "gap CODE@sequence".
type sink struct {
	t    testing.TB
	feed *bus.Feed

	mu      sync.Mutex
	items   []string
	ids     []string
	cursors []bus.Cursor
	states  []bus.ReadState
	reads   []bool // of the notifications
	room    int    // how many more it takes; negative: no bound
	refused int
	changed chan struct{} // replaced at each change
}

func newSink(t testing.TB, room int) *sink {
	return &sink{t: t, room: room, changed: make(chan struct{})}
}

func (s *sink) add(item, id string, c bus.Cursor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == 0 {
		s.refused++
		return false
	}
	s.room--
	s.items = append(s.items, item)
	if id != "" {
		s.ids = append(s.ids, id)
	}
	s.cursors = append(s.cursors, c)
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

func (s *sink) Deliver(m *bus.Message) bool {
	_, rest, _ := strings.Cut(string(m.Data), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	s.mu.Lock()
	if s.room != 0 {
		s.reads = append(s.reads, m.Read)
	}
	s.mu.Unlock()
	return s.add(id, id, m.Cursor)
}

func (s *sink) Gap(g bus.Gap) bool { return s.add("gap "+string(g.Code), "", g.Cursor) }

func (s *sink) State(state bus.ReadState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == 0 {
		s.refused++
		return false
	}
	s.states = append(s.states, state)
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

// wait returns the first n items, once there are so many.
func (s *sink) wait(n int) []string {
	s.t.Helper()
	deadline := time.After(patience(s.t))
	for {
		s.mu.Lock()
		items, changed := s.items, s.changed
		s.mu.Unlock()
		if len(items) >= n {
			return items
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("got %d items %v, want %d", len(items), tail(items), n)
		}
	}
}

// waitFor is wait for as many as are wanted, but no longer than until another item
// comes than is wanted in its place: then what is missing will not come.
func (s *sink) waitFor(want ...string) (items []string) {
	s.t.Helper()
	for i := range want {
		if items = s.wait(i + 1); items[i] != want[i] {
			break
		}
	}
	return items
}

func (s *sink) cursor(i int) bus.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[i]
}

// take sets how many more items there is room for.
func (s *sink) take(room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = room
}

func (s *sink) give(room int) {
	s.take(room)
	s.feed.Resume()
}

// rewind drops what came after a place, as far as the feed is concerned, and
// has no room until the feed is back there.
func (s *sink) rewind(to bus.Cursor, meanwhile func()) {
	s.t.Helper()
	s.take(0)
	there := make(chan struct{})
	s.feed.Rewind(to, func() { close(there) })
	meanwhile()
	select {
	case <-there:
	case <-time.After(time.Minute):
		s.t.Fatal("the feed does not go back")
	}
	s.give(-1)
}

func tail(items []string) []string { return items[max(0, len(items)-5):] }

// follow starts a feed into a new sink without bound.
func follow(t testing.TB, b *bus.Bus, in peal.Inbox, after bus.Cursor) *sink {
	t.Helper()
	s := newSink(t, -1)
	followInto(t, b, in, after, s)
	return s
}

func followInto(t testing.TB, b *bus.Bus, in peal.Inbox, after bus.Cursor, s *sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := b.Follow(ctx, in, after, s)
	if err != nil {
		t.Fatalf("follow: %v", err)
	}
	s.feed = f
	t.Cleanup(f.Close)
	f.Resume()
}

func ids(from, to int) []string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("n%d", i))
	}
	return all
}
