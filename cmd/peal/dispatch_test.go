package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/node"
)

// The size of TestEventsSurviveKills. Each kill of a worker costs half a minute, after
// which what it had is given to another.
var (
	killEvents  = flag.Int("kill.events", 600, "ticket events of the test of kills")
	killTickets = flag.Int("kill.tickets", 40, "tickets they are of")
	killPause   = flag.Duration("kill.pause", 1500*time.Millisecond, "time between two kills")
	killSeed    = flag.Uint64("kill.seed", 0, "of who is killed when; 0 chooses one")
)

// cluster is a NATS, nodes and workers, each a process of its own.
type cluster struct {
	t      *testing.T
	listen string // of NATS
	data   string // of NATS
	realms string
	config string
	issuer string // data directory of the dev that issues tokens

	mu    sync.Mutex // protects what is replaced after a kill
	nats  *process
	edges []*process
	works []*process
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, listen: freeAddress(t), data: t.TempDir(), issuer: t.TempDir()}
	startDev(t, c.issuer)
	dir := t.TempDir()
	c.realms, c.config = filepath.Join(dir, "realms.yaml"), filepath.Join(dir, "peal.yaml")
	for name, content := range map[string]string{
		c.realms: do(t, nil, "dev", "--print-realms", "--data", c.issuer).stdout,
		c.config: "partitions: 2\nreplicas: 1\ndrain-delay: 0s\nevents-per-tenant: 0\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.nats = startNATS(t, c.listen, c.data)
	for range 2 {
		c.edges = append(c.edges, c.serve("edge"))
		c.works = append(c.works, c.serve("dispatch"))
	}
	return c
}

// startNATS runs a JetStream server that syncs what it stores, and nothing else, in a
// process of its own.
func startNATS(t *testing.T, listen, data string) *process {
	t.Helper()
	p := startAs(t, "PEAL_TEST_AS_NATS="+listen, data)
	if line, err := p.out.ReadString('\n'); err != nil {
		t.Fatalf("no NATS: %q %v\n%s", line, err, p.log)
	}
	return p
}

func (c *cluster) serve(role string) *process {
	c.t.Helper()
	return startReady(c.t, "serve", "--roles", role, "--realms", c.realms, "--nats", "nats://"+c.listen, "--config", c.config,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s")
}

// edge is the address of one of the nodes.
func (c *cluster) edge() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.edges[rand.IntN(len(c.edges))].ready.URL
}

// kill kills one process, which comes back.
func (c *cluster) kill(r *rand.Rand, what string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := r.IntN(2)
	switch what {
	case "worker":
		c.works[i].stop(os.Kill)
		c.works[i] = c.serve("dispatch")
	case "node":
		c.edges[i].stop(os.Kill)
		c.edges[i] = c.serve("edge")
	case "NATS":
		c.nats.stop(os.Kill)
		c.nats = startNATS(c.t, c.listen, c.data)
	}
}

// ticketEvents are the events of the test, by ticket: each tells its assignee and two
// watchers.
func ticketEvents(events, tickets int) [][]peal.TicketEvent {
	all := make([][]peal.TicketEvent, tickets)
	user := func(i int) peal.UserRef { return peal.UserRef{ID: peal.UserID(fmt.Sprint("user-", i%tickets))} }
	for i := range events {
		n := i % tickets
		all[n] = append(all[n], peal.TicketEvent{
			ID: fmt.Sprintf("ticket-%d-%d", n, len(all[n])), Type: "comment",
			Ticket: peal.Ticket{
				ID: fmt.Sprint("ticket-", n), Number: fmt.Sprint("INC-", n), Title: "VPN Connection Issue",
				AssigneeID: user(n), WatcherIDs: []peal.UserRef{user(n + 1), user(n + 7)},
			},
			Comment: peal.EventComment{ID: fmt.Sprint(len(all[n]))},
		})
	}
	return all
}

// publish sends the events of some tickets, those of each in order, again and again
// until they are acknowledged.
func (c *cluster) publish(ctx context.Context, of [][]peal.TicketEvent, sent *atomic.Int64) error {
	desk := target{data: c.issuer, realm: realmAcme, tenant: string(tenantAcme), user: "desk", roles: []string{rolePublish}}
	header, err := desk.minted(ctx)
	if err != nil {
		return err
	}
	for left := true; left && ctx.Err() == nil; {
		left = false
		var batch []peal.TicketEvent // the next of each ticket
		for _, events := range of {
			if len(events) > 0 {
				batch = append(batch, events[0])
				left = true
			}
		}
		if !left {
			return nil
		}
		stored := c.send(ctx, header, batch)
		at := 0
		for i := range of {
			if len(of[i]) == 0 {
				continue
			}
			if stored[at] {
				of[i] = of[i][1:]
				sent.Add(1)
			}
			at++
		}
		if !slices.Contains(stored, true) {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond): // as a client would
			}
		}
	}
	return ctx.Err()
}

// send posts a batch and reports which of it are acknowledged.
func (c *cluster) send(ctx context.Context, header http.Header, batch []peal.TicketEvent) (stored []bool) {
	stored = make([]bool, len(batch))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"events": batch})
	if err != nil {
		c.t.Error(err)
		return stored
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.edge()+node.Base+"/ticket/events", bytes.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return stored
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return stored
	}
	defer resp.Body.Close()
	var answer struct {
		Results []struct {
			ID   string `json:"id"`
			Code string `json:"code"`
		} `json:"results"`
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return stored
	default:
		c.t.Errorf("a batch is answered with %s", resp.Status)
		return stored
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil { // cut off
		return stored
	}
	for i, r := range answer.Results {
		stored[i] = r.ID == batch[i].ID
		if !stored[i] && r.Code != "UNAVAILABLE" {
			c.t.Errorf("event %s is refused: %+v", batch[i].ID, r)
		}
	}
	return stored
}

// What was acknowledged is told: to everybody it concerns, once, and in the order of
// the events of a ticket, whatever is killed meanwhile.
func TestEventsSurviveKills(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t)
	began := time.Now()
	events := ticketEvents(*killEvents, *killTickets)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	const publishers = 4
	var sent atomic.Int64
	var work sync.WaitGroup
	for p := range publishers {
		var of [][]peal.TicketEvent
		for i := p; i < len(events); i += publishers {
			of = append(of, events[i])
		}
		work.Go(func() {
			if err := c.publish(ctx, of, &sent); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	var killed []string
	whom := []string{"worker", "node", "NATS"}
	r.Shuffle(len(whom), func(i, j int) { whom[i], whom[j] = whom[j], whom[i] })
	for published := false; !published || len(killed) < len(whom); {
		select {
		case <-done:
			published, done = true, nil
		case <-time.After(*killPause):
			what := whom[len(killed)%len(whom)]
			c.kill(r, what)
			killed = append(killed, what)
		}
	}
	publishedAfter := time.Since(began)

	b, err := bus.Open(ctx, bus.Config{URLs: []string{"nats://" + c.listen}, Partitions: 2, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for {
		left, err := b.Backlog(ctx)
		if err == nil && left.Waiting == 0 {
			break
		}
		select {
		case <-ctx.Done():
			for _, p := range append(slices.Clone(c.works), c.edges...) {
				t.Logf("log:\n%s", p.log)
			}
			t.Fatalf("seed %d: %+v is left, %v, killed %v", seed, left, err, killed)
		case <-time.After(100 * time.Millisecond):
		}
	}
	checkTold(t, b, *killEvents, *killTickets)
	dead, _, err := b.DeadLetters(ctx, "", "", 10)
	if len(dead) > 0 || err != nil {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	t.Logf("seed %d: %d events of %d tickets, published in %v, all told after %v; killed %v", seed, *killEvents, *killTickets,
		publishedAfter.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), killed)
	if t.Failed() {
		for _, p := range append(slices.Clone(c.works), c.edges...) {
			t.Logf("log:\n%s", p.log)
		}
	}
}

// checkTold compares every inbox with what ticketEvents have to make.
func checkTold(t *testing.T, b *bus.Bus, events, tickets int) {
	t.Helper()
	want := make(map[peal.UserID]map[string][]string) // user → ticket → comments
	for _, of := range ticketEvents(events, tickets) {
		for _, e := range of {
			for _, u := range append([]peal.UserRef{e.Ticket.AssigneeID}, e.Ticket.WatcherIDs...) {
				if want[u.ID] == nil {
					want[u.ID] = make(map[string][]string)
				}
				want[u.ID][e.Ticket.ID] = append(want[u.ID][e.Ticket.ID], e.Comment.ID)
			}
		}
	}
	for user, byTicket := range want {
		page, err := b.List(t.Context(), peal.Inbox{Tenant: tenantAcme, Namespace: realmAcme, User: user}, bus.Query{})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string][]string)
		for _, e := range slices.Backward(page.Entries) {
			var n peal.Notification
			if err := json.Unmarshal(e.Data, &n); err != nil {
				t.Fatal(err)
			}
			got[n.TicketID] = append(got[n.TicketID], n.Metadata["commentId"])
		}
		for ticket, comments := range byTicket {
			if !slices.Equal(got[ticket], comments) {
				t.Errorf("%s is told of the comments %v of %s, want %v", user, got[ticket], ticket, comments)
			}
		}
		if len(got) != len(byTicket) {
			t.Errorf("%s is told of %d tickets, want %d", user, len(got), len(byTicket))
		}
	}
}
