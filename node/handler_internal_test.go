package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/sse"
)

// soon is how long a test waits for what must come.
const soon = 20 * time.Second

// moody is a peer that keeps each write waiting as it likes.
type moody struct {
	http.ResponseWriter
	mood func()

	mu    sync.Mutex // protects taken
	taken strings.Builder
}

func (m *moody) SetWriteDeadline(time.Time) error { return nil }
func (m *moody) FlushError() error                { return nil }

func (m *moody) Write(b []byte) (int, error) {
	m.mood()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken.Write(b)
}

// events returns the ids of the notifications that were taken, and other events
// but heartbeats by their name.
func (m *moody) events() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := sse.NewReader(strings.NewReader(m.taken.String())); ; {
		e, err := r.Next()
		switch {
		case err != nil:
			return all
		case e.Name == sse.Notification:
			_, rest, _ := strings.Cut(string(e.Data), `"id":"`)
			id, _, _ := strings.Cut(rest, `"`)
			all = append(all, id)
		case e.Name != sse.Heartbeat:
			all = append(all, string(e.Name))
		}
	}
}

// want waits for events, and wants no others.
func (m *moody) want(t *testing.T, want []string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(soon)
	for len(m.events()) < len(want) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("got %d events, want %d", len(m.events()), len(want))
		}
	}
	if diff := cmp.Diff(want, m.events()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func unmeasured(*bus.Message) {}

// attend follows an inbox for a peer until the test ends, as connect does.
func attend(t *testing.T, n *Node, after bus.Cursor, peer *moody, grace time.Duration) *handler {
	t.Helper()
	h := newHandler(peer, httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	h.grace = grace
	feed, err := n.bus.Follow(t.Context(), janes, after, &conn{node: n, caller: auth.Caller{Inbox: janes, Expires: time.Now().Add(time.Hour)}, transport: h})
	if err != nil {
		t.Fatal(err)
	}
	h.begin(connectedFrame(connected{}, feed.Start()), feed)
	feed.Resume()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan reason, 1)
	go func() { ended <- h.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if why := <-ended; why != clientGone {
			t.Errorf("ended as %s, want %s", why, clientGone)
		}
		feed.Close()
	})
	return h
}

var janes = peal.Inbox{Tenant: "11111111-1111-4111-8111-111111111111", Namespace: "acme", User: "jane"}

// tell publishes to jane and returns where it is.
func tell(t *testing.T, b *bus.Bus, id string) {
	t.Helper()
	n := peal.Notification{ID: id, Type: peal.Mention, TicketID: "1", TicketNumber: "1", Title: "T", Message: "M"}.WithDefaults(time.Now())
	if _, err := b.Publish(t.Context(), bus.Publication{To: []peal.Inbox{janes}, Notification: n}); err != nil {
		t.Fatal(err)
	}
}

// What was stored while a process was stopped comes to it before its wheel turns: nobody
// is told of it whose token ended meanwhile.
func TestNothingAfterTheTokenBeforeTheWheelTurns(t *testing.T) {
	n := New(Config{}, nil, bustest.New(t, nil))
	m := &moody{ResponseWriter: httptest.NewRecorder(), mood: func() {}}
	h := newHandler(m, httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	c := &conn{node: n, caller: auth.Caller{Inbox: janes, Expires: time.Now().Add(time.Second)}, transport: h} // in no wheel
	feed, err := n.bus.Follow(t.Context(), janes, bus.Cursor{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	h.begin(connectedFrame(connected{}, feed.Start()), feed)
	feed.Resume()
	tell(t, n.bus, "before")
	time.Sleep(time.Until(c.caller.Expires))
	tell(t, n.bus, "after")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if why := h.run(ctx); why != tokenExpired {
		t.Errorf("ended as %s, want %s", why, tokenExpired)
	}
	m.want(t, []string{"connected", "before", string(sse.Error)})
}

// Whenever a peer stops and goes on, and whatever is offered just then, it gets
// everything once and in order.
func TestStallsLoseAndRepeatNothing(t *testing.T) {
	const total, peers = 400, 4
	n := New(Config{}, nil, bustest.New(t, nil))
	var handlers []*handler
	var all []*moody
	for range peers {
		m := &moody{ResponseWriter: httptest.NewRecorder(), mood: func() {
			if rand.IntN(10) == 0 {
				<-time.After(rand.N(5 * time.Millisecond))
			}
		}}
		all = append(all, m)
		handlers = append(handlers, attend(t, n, bus.Cursor{}, m, time.Millisecond))
	}
	want := []string{"connected"}
	for i := range total {
		want = append(want, fmt.Sprint("n", i))
		tell(t, n.bus, want[i+1])
		for _, h := range handlers {
			h.offerIdle(heartbeatFrame(time.Now())) // may be dropped, and must not disturb
		}
	}
	for _, m := range all {
		m.want(t, want)
	}
	if delivered := n.bus.Stats().Delivered.Load(); delivered <= peers*total {
		t.Errorf("%d were handed over: nothing was dropped, so nothing was tried", delivered)
	}
}

// A gap that waits behind a write is the only declaration there will be: the
// feed would not find it again from where it goes on.
func TestStallKeepsTheGap(t *testing.T) {
	for name, after := range map[string]bus.Cursor{"unknown": bus.Unknown, "truncated": {}} {
		t.Run(name, func(t *testing.T) {
			n := New(Config{}, nil, bustest.New(t, func(c *bus.Config) { c.PerInbox = 3 }))
			// The inbox is at its bound: the number is told again, for the live one has
			// another drop out, and so may what was dropped on the way.
			want, live := []string{"connected", "gap", "live", "state"}, []string{"live"}
			if after.IsZero() {
				m := &moody{ResponseWriter: httptest.NewRecorder(), mood: func() {}}
				h := attend(t, n, after, m, time.Minute)
				tell(t, n.bus, "n0")
				m.want(t, []string{"connected", "n0"})
				after = h.at()
				want, live = []string{"connected", "gap", "n4", "n5", "n6", "state"}, nil
			}
			for i := 1; i <= 6; i++ {
				tell(t, n.bus, fmt.Sprint("n", i))
			}
			release := make(chan struct{})
			m := &moody{ResponseWriter: httptest.NewRecorder(), mood: func() { <-release }}
			h := attend(t, n, after, m, 50*time.Millisecond)
			for _, id := range live {
				tell(t, n.bus, id)
			}
			if waits := h.stalledWith(t); waits != 1 {
				t.Errorf("%d frames wait, want the gap and nothing else", waits)
			}
			close(release)
			m.want(t, want)
		})
	}
}

// at is the place of the last frame that was begun.
func (h *handler) at() bus.Cursor {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.place
}

// stalledWith waits for a stall and returns how many frames wait then.
func (h *handler) stalledWith(t *testing.T) (waits int) {
	t.Helper()
	h.until(t, "the write counts as stalled", func() bool { waits = len(h.pending); return h.stalled && !h.returning })
	return waits
}

// until waits for a state of the handler.
func (h *handler) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	is := func() bool { h.mu.Lock(); defer h.mu.Unlock(); return ok() }
	for late := time.After(soon); !is(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}

// stall has the write under way count as stalled.
func (h *handler) stall() {
	h.mu.Lock()
	h.began = h.began.Add(-h.grace)
	h.mu.Unlock()
	h.look()
}

// stuck returns jane's connection at a write that does not return before
// release: it writes n1, and nothing waits.
func stuck(t *testing.T, n *Node) (h *handler, m *moody, release func()) {
	t.Helper()
	turns := make(chan struct{})
	release = sync.OnceFunc(func() { close(turns) })
	m = &moody{ResponseWriter: httptest.NewRecorder(), mood: func() { <-turns }}
	h = attend(t, n, bus.Cursor{}, m, time.Minute)
	t.Cleanup(release)
	turns <- struct{}{}
	m.want(t, []string{"connected"})
	h.until(t, "nothing is written", func() bool { return h.began.IsZero() })
	tell(t, n.bus, "n1")
	h.until(t, "n1 is written", func() bool { return !h.began.IsZero() })
	return h, m, release
}

// What waits behind a write that stalls is offered once more, and the frame that
// the write is about is not.
func TestStallSendsBackWhatWaits(t *testing.T) {
	n := New(Config{}, nil, bustest.New(t, nil))
	h, m, release := stuck(t, n)
	tell(t, n.bus, "n2")
	tell(t, n.bus, "n3")
	h.until(t, "n2 and n3 wait", func() bool { return len(h.pending) == 2 })
	h.stall()
	if waits := h.stalledWith(t); waits != 0 {
		t.Errorf("%d frames wait for a peer that takes nothing", waits)
	}
	release()
	m.want(t, []string{"connected", "n1", "n2", "n3"})
}

// The read state that waits behind a write that stalls is told once more: no
// cursor brings it back.
func TestStallSendsBackTheReadState(t *testing.T) {
	n := New(Config{}, nil, bustest.New(t, nil))
	h, m, release := stuck(t, n)
	if _, err := n.bus.Mark(t.Context(), janes, bus.Mark{All: true}); err != nil {
		t.Fatal(err)
	}
	h.until(t, "the read state waits", func() bool { return len(h.pending) == 1 })
	h.stall()
	if waits := h.stalledWith(t); waits != 0 {
		t.Errorf("%d frames wait for a peer that takes nothing", waits)
	}
	release()
	m.want(t, []string{"connected", "n1", "state"})
}

// A feed can be sent back to a place only. Before there is one nothing is
// dropped that it would have to offer again.
func TestStallKeepsTheReadStateWithoutAPlace(t *testing.T) {
	h := newHandler(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	h.offer(stateFrame(bus.ReadState{}), bus.Cursor{}, nil)
	h.mu.Lock()
	h.dropLocked()
	h.mu.Unlock()
	if len(h.pending) != 1 || h.size != len(h.pending[0].frame) || h.refused || h.returning {
		t.Errorf("%d frames wait, refused=%v, returning=%v: want the one, and no more", len(h.pending), h.refused, h.returning)
	}
}

// What the feed still offers on its way back, when the write has returned by
// then, is not taken before what was dropped.
func TestNothingOvertakesWhatWasSentBack(t *testing.T) {
	n := New(Config{}, nil, bustest.New(t, nil))
	// Before jane's connection in the loop of the feeds, which it keeps at n3.
	held := &holdsAt{seq: 3, reached: make(chan struct{}), pass: make(chan struct{})}
	feed, err := n.bus.Follow(t.Context(), janes, bus.Cursor{}, held)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	feed.Resume()
	h, m, release := stuck(t, n)
	pass := sync.OnceFunc(func() { close(held.pass) })
	defer pass()
	tell(t, n.bus, "n2")
	h.until(t, "n2 waits", func() bool { return len(h.pending) == 1 })
	tell(t, n.bus, "n3")
	select {
	case <-held.reached:
	case <-time.After(soon):
		t.Fatal("the feeds are not kept at n3")
	}
	h.stall()
	release()
	h.until(t, "the write has returned", func() bool { return h.began.IsZero() })
	pass()
	m.want(t, []string{"connected", "n1", "n2", "n3"})
}

// holdsAt is a sink that keeps its feed, and those after it, at one message.
type holdsAt struct {
	seq           uint64
	reached, pass chan struct{}
}

func (h *holdsAt) Gap(bus.Gap) bool { return true }

func (h *holdsAt) State(bus.ReadState) bool { return true }

func (h *holdsAt) Deliver(m *bus.Message) bool {
	if m.Cursor.Seq == h.seq {
		close(h.reached)
		<-h.pass
	}
	return true
}
