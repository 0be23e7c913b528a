package node_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/sse"
)

var (
	limitRounds  = flag.Int("limit.rounds", 2, "rounds of the test of the limit under a rush")
	limitVanish  = flag.Int("limit.vanish", 300, "clients that connect and vanish")
	limitBucket  = "KV_PEAL_LIMIT_local"
	limitSubject = "$KV.PEAL_LIMIT_local." + string(acme) + ".acme.=amFuZQ.notifications." // of jane
)

// shortSlots has the slots of a site expire soon.
func shortSlots(c *config) { c.bus.SlotTTL = 2 * time.Second }

// Of 200 connects of one user at the same moment, spread over three nodes, exactly as
// many are let in as the limit says, in each round.
func TestLimitIsOfTheWholeCluster(t *testing.T) {
	const most, at = 5, 200
	patient := func(c *config) { c.bus.Timeout = time.Minute } // 200 at once, on a machine that may have other work
	s := start(t, patient)
	sites := []*site{s, s.anotherWith(patient), s.anotherWith(patient)}
	for round := range *limitRounds {
		jane := s.user("acme", acme, fmt.Sprint("jane", round%2))
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		statuses := map[int]int{}
		var open []*http.Response
		var wg sync.WaitGroup
		for i := range at {
			r := sites[i%len(sites)].request(ctx, "GET", connectPath, jane, "")
			wg.Go(func() {
				resp, err := sites[i%len(sites)].client.Do(r)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				statuses[resp.StatusCode]++
				open = append(open, resp)
			})
		}
		wg.Wait()
		if statuses[200] != most || statuses[429] != at-most {
			t.Fatalf("round %d: answered with %v, want %d of 200 and the rest 429", round, statuses, most)
		}
		for _, o := range sites {
			wantProblem(t, o.do(o.request(t.Context(), "GET", connectPath, jane, "")), 429, "CONNECTION_LIMIT", "")
			c := o.connect(s.user("acme", acme, "somebody-else"))
			c.greeting()
			c.close()
		}
		cancel()
		for _, resp := range open {
			resp.Body.Close()
		}
		for _, o := range sites { // as soon as they have gone, at whichever node
			eventually(t, "a slot", func() bool {
				a := o.do(o.request(t.Context(), "GET", connectPath, jane, ""))
				return a.status == 200
			})
		}
		s.awaitSlots(0)
	}
}

// Clients that go at whatever moment, before they have sent all, before they are
// answered, or after, leave no slot behind.
func TestLimitForgetsWhoConnectsAndVanishes(t *testing.T) {
	s := start(t, nil)
	sites := []*site{s, s.another()}
	head := func(u user) string {
		var b strings.Builder
		sendConnect(&b, u)
		return b.String()
	}
	var users []user
	for i := range 20 {
		users = append(users, s.user("acme", acme, fmt.Sprint("user", i)))
	}
	var wg sync.WaitGroup
	room := make(chan struct{}, 32)
	for i := range *limitVanish {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			c, err := net.Dial("tcp", strings.TrimPrefix(sites[i%2].url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			request := head(users[rand.IntN(len(users))])
			if rand.IntN(4) == 0 {
				request = request[:rand.IntN(len(request))]
			}
			io.WriteString(c, request)
			switch rand.IntN(3) {
			case 0: // at once
			case 1: // while it is let in
				<-time.After(rand.N(20 * time.Millisecond))
			case 2: // when it is answered
				c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				bufio.NewReader(c).ReadString('\n')
			}
			if rand.IntN(2) == 0 {
				c.(*net.TCPConn).SetLinger(0) // reset
			}
		})
	}
	wg.Wait()
	s.awaitSlots(0)
	for _, o := range sites {
		eventually(t, "no connection", func() bool { return o.metric("peal_connections") == 0 && o.metric("peal_slots_held") == 0 })
	}
}

// Whose slot somebody else has by now gets another one; and when there is none, the
// connection ends, and says why.
func TestLimitEndsWhoHasLostTheSlot(t *testing.T) {
	s := start(t, func(c *config) { shortSlots(c); c.node.MaxPerUser = 2 })
	js := bustest.JetStream(t, s.nats)
	c := s.connect(s.jane())
	c.greeting()
	steal := func(number string) {
		t.Helper()
		if _, err := js.Publish(t.Context(), limitSubject+number, []byte("another"), jetstream.WithMsgTTL(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	held := func() string {
		t.Helper()
		for _, number := range []string{"0", "1"} {
			m, err := js.Stream(t.Context(), limitBucket)
			if err != nil {
				t.Fatal(err)
			}
			if last, err := m.GetLastMsgForSubject(t.Context(), limitSubject+number); err == nil && len(last.Data) > 0 && string(last.Data) != "another" {
				return number
			}
		}
		return ""
	}
	first := held()
	steal(first)
	eventually(t, "another slot", func() bool { return held() != "" && s.metric("peal_slots_moved_total") == 1 })
	s.store(inbox("jane"), note("n1"))
	if got := c.notification(); got != "n1" {
		t.Errorf("got %s, want n1", got)
	}
	steal(held())
	c.aborted("CONNECTION_LIMIT")
	eventually(t, "the loss to be counted", func() bool {
		return s.metric("peal_slots_lost_total") == 1 && s.metric(`peal_connections_ended_total{reason="over_limit"}`) == 1 && s.metric("peal_slots_held") == 0
	})
	if held() != "" {
		t.Error("a slot is held that nobody has")
	}
	wantProblem(t, s.do(s.request(t.Context(), "GET", connectPath, s.jane(), "")), 429, "CONNECTION_LIMIT", "")
}

// A poll that loses its slot is refused as one that gets none.
func TestLimitEndsPolls(t *testing.T) {
	s := start(t, func(c *config) { shortSlots(c); c.node.MaxPerUser = 1 })
	js := bustest.JetStream(t, s.nats)
	at := s.list(s.jane(), "").Cursor
	p := s.poll(s.jane(), "wait=60&after="+at)
	s.awaitPolls(1)
	subject := strings.Replace(limitSubject, "notifications", "list", 1) + "0"
	if _, err := js.Publish(t.Context(), subject, []byte("another"), jetstream.WithMsgTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, p.answer(), 429, "CONNECTION_LIMIT", "")
}

// bucketIsFull has the bucket of slots refuse what is new, or take it again.
func (s *site) bucketIsFull(full bool) {
	s.t.Helper()
	js := bustest.JetStream(s.t, s.nats)
	bucket, err := js.Stream(s.t.Context(), limitBucket)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := bucket.CachedInfo().Config
	cfg.MaxBytes = 64 << 20
	if full {
		cfg.MaxBytes = 1
	}
	if _, err := js.UpdateStream(s.t.Context(), cfg); err != nil {
		s.t.Fatal(err)
	}
}

// Without the word of JetStream nobody is let in, unless the operator wants each node
// to count its own connections then; these have slots as soon as it says more.
func TestLimitWithoutJetStream(t *testing.T) {
	s := start(t, func(c *config) { shortSlots(c); c.node.MaxPerUser = 2 })
	local := s.anotherWith(func(c *config) { shortSlots(c); c.node.MaxPerUser, c.node.LimitLocally = 2, true })
	old := s.connect(s.jane())
	old.greeting()
	s.awaitSlots(1)
	s.bucketIsFull(true)

	jane := s.jane()
	wantProblem(t, s.do(s.request(t.Context(), "GET", connectPath, jane, "")), 503, "UNAVAILABLE", "")
	if got := s.metric(`peal_slots_refused_total{reason="unknown"}`); got != 1 {
		t.Errorf("counted %v, want 1", got)
	}
	here := []*connection{local.connect(jane), local.connect(jane)}
	for _, c := range here {
		c.greeting()
	}
	wantProblem(t, local.do(local.request(t.Context(), "GET", connectPath, jane, "")), 429, "CONNECTION_LIMIT", "")

	// There are three now where two may be.
	s.bucketIsFull(false)
	ended := make(chan sse.Event, 3)
	for _, c := range append(here, old) {
		go func() {
			for {
				e, err := c.events.Next()
				if err != nil {
					return
				}
				if e.Name == sse.Error {
					ended <- e
				}
			}
		}()
	}
	select {
	case e := <-ended:
		if got := field(t, e, "code"); got != "CONNECTION_LIMIT" {
			t.Errorf("ended with %v, want CONNECTION_LIMIT", got)
		}
	case <-time.After(patience):
		t.Fatal("nobody is ended")
	}
	s.awaitSlots(2)
	if n := s.metric("peal_connections") + local.metric("peal_connections"); n != 2 {
		t.Errorf("%v connections are left, want 2", n)
	}
}

// With no limit nothing is asked or stored for one.
func TestNoLimitTakesNoSlots(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser = -1 })
	s.bucketIsFull(true)
	for range 8 {
		s.connect(s.jane()).greeting()
	}
	s.awaitSlots(0)
}
