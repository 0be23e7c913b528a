package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal/sse"
)

// crowd opens so many connections, each of another user.
func (s *site) crowd(n int) (all []*connection) {
	s.t.Helper()
	for i := range n {
		c := s.connect(s.user("acme", acme, fmt.Sprint("user-", i)))
		c.greeting()
		all = append(all, c)
	}
	return all
}

// endsOf waits until all connections are ended with a code, and returns when each was.
func endsOf(conns []*connection, code string) (ends []time.Time) {
	ends = make([]time.Time, len(conns))
	var reading sync.WaitGroup
	for i, c := range conns {
		reading.Go(func() {
			c.aborted(code)
			ends[i] = time.Now()
		})
	}
	reading.Wait()
	return ends
}

// spread returns the first and the last of some moments.
func spread(moments []time.Time) (first, last time.Time) {
	first, last = moments[0], moments[0]
	for _, m := range moments {
		if m.Before(first) {
			first = m
		}
		if m.After(last) {
			last = m
		}
	}
	return first, last
}

// A node that NATS has left for long lets go of its connections, evenly, so that they
// look for a better one. It stays up.
func TestConnectionsAreLetGoWhenNATSIsAwayForLong(t *testing.T) {
	const limit, window, conns = 2 * time.Second, 2 * time.Second, 8
	s := start(t, func(c *config) { c.node.AwayLimit, c.node.DrainWindow = limit, window })
	open := s.crowd(conns)
	poll := s.poll(s.jane(), "wait=60&after="+s.list(s.jane(), "").Cursor)
	s.awaitPolls(1)
	s.nats.Close()
	closed := time.Now()
	ends := endsOf(open, "SUBSCRIPTION_ERROR")
	first, last := spread(ends)
	if d := first.Sub(closed); d < limit {
		t.Errorf("the first is ended after %v, want not before %v", d, limit)
	}
	if d := last.Sub(closed); d > limit+window+3*time.Second {
		t.Errorf("the last is ended after %v", d)
	}
	if d := last.Sub(first); d < window/2 {
		t.Errorf("all are ended within %v, want them spread over %v", d, window)
	}
	wantProblem(t, poll.answer(), 503, "UNAVAILABLE", "")
	eventually(t, "the ends to be counted", func() bool { return s.metric(`peal_connections_ended_total{reason="nats_away"}`) == conns })
	if status, _ := s.get(s.url + "/livez"); status != 200 {
		t.Errorf("livez: got %d, want 200: a restart would not help", status)
	}
	wantProblem(t, s.do(s.request(t.Context(), "GET", connectPath, s.jane(), "")), 503, "UNAVAILABLE", "")
	select {
	case err := <-s.served:
		t.Errorf("the node has ended: %v", err)
	default:
	}
}

func TestTheLastWordsOfFencing(t *testing.T) {
	s := start(t, func(c *config) { c.node.AwayLimit = 100 * time.Millisecond })
	c := s.crowd(1)[0]
	s.nats.Close()
	e := c.aborted("SUBSCRIPTION_ERROR")
	if got := field(t, e, "message"); got != "Failed to subscribe to notification channel" {
		t.Errorf("got %q", got)
	}
}

// If NATS comes back while connections are let go, the others stay, and miss nothing.
func TestLettingGoStopsWhenNATSIsBack(t *testing.T) {
	var nats *restarts
	s := start(t, func(c *config) {
		c.restart = func(r *restarts) { nats = r }
		c.node.AwayLimit, c.node.DrainWindow = 500*time.Millisecond, 28*time.Second // one in 7 s
	})
	open := s.crowd(4)
	ended := make(chan int, len(open))
	kept := make(chan string, len(open))
	for i, c := range open {
		go func() {
			for {
				e, err := c.events.Next()
				switch {
				case err != nil:
					return
				case e.Name == sse.Error:
					ended <- i
				case e.Name == sse.Notification:
					kept <- field(t, e, "id").(string)
				}
			}
		}()
	}
	nats.restart(t, 1500*time.Millisecond)
	gone := <-ended
	eventually(t, "NATS to be back", func() bool { return s.bus.Away() == 0 })
	eventually(t, "the turn of the next", func() bool { return strings.Contains(s.logs.String(), "connections=1 kept=3") })
	for i := range open {
		if i != gone {
			s.store(inbox(fmt.Sprint("user-", i)), note("n1"))
		}
	}
	for range len(open) - 1 {
		select {
		case <-kept:
		case <-time.After(patience):
			t.Fatal("a connection that stays gets nothing")
		}
	}
	if n := s.metric("peal_connections"); n != float64(len(open)-1) {
		t.Errorf("%v connections are left, want %d", n, len(open)-1)
	}
	if n := s.metric(`peal_connections_ended_total{reason="nats_away"}`); n != 1 {
		t.Errorf("%v were let go, want the first alone", n)
	}
}

// A negative limit lets nobody go.
func TestConnectionsStayWithoutALimit(t *testing.T) {
	s := start(t, func(c *config) { c.node.AwayLimit, c.node.Heartbeat = -1, time.Second })
	c := s.crowd(1)[0]
	s.nats.Close()
	eventually(t, "the loss of NATS", func() bool { return s.bus.Away() > 2*time.Second })
	c.next(sse.Heartbeat)
}

// Connections that were opened together end after the maximum age, and not together.
func TestMaximumAge(t *testing.T) {
	const age, conns = 3 * time.Second, 12
	s := start(t, func(c *config) { c.node.MaxAge = age })
	began := time.Now()
	open := s.crowd(conns)
	opened := time.Now()
	at := s.list(s.jane(), "").Cursor
	poll := s.poll(s.jane(), "wait=60&after="+at)
	s.awaitPolls(1)
	first, last := spread(endsOf(open, "DRAINING"))
	if d := first.Sub(began); d < age-age/10 {
		t.Errorf("the first is ended after %v, want %v or a tenth less", d, age)
	}
	if d := last.Sub(opened); d > age+age/10+time.Second {
		t.Errorf("the last is ended after %v, want %v or a tenth more", d, age)
	}
	if d := last.Sub(first); d < age/20 {
		t.Errorf("all are ended within %v", d)
	}
	if page := poll.page(); page.Cursor != at || len(page.ids()) > 0 {
		t.Errorf("the poll is answered with %+v, want nothing new", page)
	}
	eventually(t, "the ends to be counted", func() bool { return s.metric(`peal_connections_ended_total{reason="max_age"}`) == conns })
}

// In a rolling restart whoever is let go is let in at another node, at the latest when
// the shortest retry: is over, though the user has all connections that are allowed.
func TestSlotsAreFreeForWhoIsLetGo(t *testing.T) {
	const most = 5
	s := start(t, func(c *config) { c.node.DrainWindow = time.Second })
	other := s.another()
	jane := s.jane()
	var open []*connection
	for range most {
		c := s.connect(jane)
		c.greeting()
		open = append(open, c)
	}
	wantProblem(t, other.do(other.request(t.Context(), "GET", connectPath, jane, "")), 429, "CONNECTION_LIMIT", "")
	s.stop()
	var coming sync.WaitGroup
	back := make(chan *connection, most)
	for _, c := range open {
		coming.Go(func() {
			c.aborted("DRAINING")
			for ended := time.Now(); ; {
				r := other.request(t.Context(), "GET", connectPath, jane, "")
				resp, err := other.client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				if resp.StatusCode == 200 {
					back <- &connection{t: t, resp: resp, events: sse.NewReader(resp.Body)}
					return
				}
				resp.Body.Close()
				if d := time.Since(ended); d > 5*time.Second { // and not the 45 for which a slot lasts
					t.Errorf("it is still refused %v after it was let go", d)
					return
				}
			}
		})
	}
	coming.Wait()
	close(back)
	for c := range back {
		t.Cleanup(func() { c.resp.Body.Close() })
		c.greeting()
	}
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if !strings.Contains(s.logs.String(), "msg=drained connections=5") {
		t.Error("the log does not say that 5 were let go")
	}
	s.awaitSlots(most)
}
