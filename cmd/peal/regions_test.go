package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/sse"
)

// mover is a client that follows an inbox, and goes to the other region with each connect.
type mover struct {
	user    string
	bases   []string // of the regions
	headers http.Header

	mu       sync.Mutex // protects the rest
	got      []string   // events of which it was told
	gaps     int
	last     string // place
	connects int
}

// run follows until ctx ends. It stays for a while with each connection.
func (m *mover) run(ctx context.Context, stay time.Duration) {
	for n := 0; ctx.Err() == nil; n++ {
		once, cancel := context.WithTimeout(ctx, stay)
		_ = m.follow(once, m.bases[n%len(m.bases)]) // a region that is away: on to the other
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // as a client that backs off
		}
	}
}

func (m *mover) follow(ctx context.Context, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/ticket/sse/notifications", nil)
	if err != nil {
		return err
	}
	req.Header = m.headers.Clone()
	m.mu.Lock()
	if m.last != "" {
		req.Header.Set("Last-Event-ID", m.last)
	}
	m.mu.Unlock()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	m.mu.Lock()
	m.connects++
	m.mu.Unlock()
	for r := sse.NewReader(resp.Body); ; {
		e, err := r.Next()
		if err != nil {
			return err
		}
		m.mu.Lock()
		if e.ID != "" {
			m.last = e.ID
		}
		switch e.Name {
		case sse.Notification:
			var n struct{ TicketID string }
			if err := json.Unmarshal([]byte(e.Data), &n); err == nil {
				m.got = append(m.got, n.TicketID)
			}
		case sse.Gap:
			m.gaps++
		}
		m.mu.Unlock()
	}
}

func (m *mover) seen() (got []string, gaps, connects int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got), m.gaps, m.connects
}

// feeder publishes ticket events in a region, and remembers what was acknowledged.
type feeder struct {
	url     string
	headers http.Header
	users   int

	mu    sync.Mutex // protects the rest
	acked map[string][]string
	n     int
}

// run publishes so many events a second until ctx ends, each of a ticket of its own.
func (f *feeder) run(ctx context.Context, rate int) {
	const every = 100 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.publish(ctx, rate*int(every)/int(time.Second))
		}
	}
}

func (f *feeder) publish(ctx context.Context, n int) {
	var batch []peal.TicketEvent
	var users []string
	for range n {
		f.n++
		user := fmt.Sprint("user", f.n%f.users)
		id := fmt.Sprint("t", f.n)
		users = append(users, user)
		batch = append(batch, peal.TicketEvent{ID: "e" + id, Type: "comment", Comment: peal.EventComment{ID: "c"},
			Ticket: peal.Ticket{ID: id, Number: "INC", Title: "VPN", AssigneeID: peal.UserRef{ID: peal.UserID(user)}}})
	}
	body, _ := json.Marshal(map[string]any{"events": batch})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, strings.NewReader(string(body)))
	if err != nil {
		return
	}
	req.Header = f.headers.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // unknown
	}
	defer resp.Body.Close()
	var answer struct {
		Results []struct {
			ID     string
			Status int
		}
	}
	data, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || json.Unmarshal(data, &answer) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, e := range batch {
		if i < len(answer.Results) && answer.Results[i].Status == 0 && answer.Results[i].ID == e.ID {
			f.acked[users[i]] = append(f.acked[users[i]], e.Ticket.ID)
		}
	}
}

func (f *feeder) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, all := range f.acked {
		n += len(all)
	}
	return n
}

// watchLag looks how long the copies of inboxes in us take to have what is stored at home,
// until ctx ends. It returns what it saw, shortest first.
func (r *natsRegions) watchLag(ctx context.Context) (all []time.Duration) {
	var mu sync.Mutex
	var watching sync.WaitGroup
	for p := range 2 {
		admin := r.client("us", "admin")
		last := func(stream string) uint64 {
			s, err := admin.js.Stream(ctx, stream)
			if err != nil {
				return 0
			}
			return s.CachedInfo().State.LastSeq
		}
		watching.Go(func() {
			for ctx.Err() == nil {
				at := last(fmt.Sprint("PEAL_INBOX_eu_", p))
				began := time.Now()
				for at > 0 && ctx.Err() == nil && last(fmt.Sprintf("PEAL_INBOX_eu_%d_in_us", p)) < at {
				}
				mu.Lock()
				all = append(all, time.Since(began))
				mu.Unlock()
			}
		})
	}
	watching.Wait()
	slices.Sort(all)
	return all
}

// Two regions under load, with clients that go from one to the other: nothing is lost,
// repeated or out of its place, also while the home of the tenant is killed and comes
// back. When it does not come back, a copy takes its place by the commands of
// docs/multi-region.md, and every client hears of a gap.
func TestRegionsUnderLoad(t *testing.T) {
	if os.Getenv("PEAL_TEST_REGIONS") == "" {
		t.Skip("make regions runs it: it takes two minutes, and the nats tool")
	}
	const users, rate = 20, 500
	r := newNATSRegions(t)
	eu, us := r.newSites()
	both := func(s *regionSite) { s.edge = s.serve("edge,dispatch", "node"); s.works = s.edge }
	both(eu)
	both(us)
	bases := []string{us.api(), eu.api()}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	var movers, stayers []*mover
	for i := range users {
		user := fmt.Sprint("user", i)
		m := &mover{user: user, bases: bases, headers: us.as(tenantShared, user)}
		if i%2 == 1 {
			m.bases = bases[:1]
			stayers = append(stayers, m)
		} else {
			movers = append(movers, m)
		}
		clients.Go(func() { m.run(ctx, 3*time.Second) })
	}
	all := append(slices.Clone(movers), stayers...)
	for _, m := range all {
		m.until(t, "connected", func() bool { _, _, n := m.seen(); return n > 0 })
	}
	desk := publisherOf(t, us)
	f := &feeder{url: us.api() + "/ticket/events", headers: desk, users: users, acked: make(map[string][]string)}
	feeding, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	clients.Go(func() { f.run(feeding, rate) })

	lagging, stopLag := context.WithTimeout(ctx, 10*time.Second)
	lag := r.watchLag(lagging)
	stopLag()
	t.Logf("copy behind its home, of %d looks: p50 %v, p99 %v, most %v", len(lag), lag[len(lag)/2], lag[len(lag)*99/100], lag[len(lag)-1])

	r.clusters["eu"].servers[0].stop(syscall.SIGKILL)
	eu.edge.stop(syscall.SIGKILL)
	killed := time.Now()
	us.askUntil(200, `"notifications"`, us.api()+"/ticket/notification/list", us.as(tenantShared, "user1"))
	t.Logf("home killed: a list in the other region after %v", time.Since(killed).Round(time.Millisecond))
	resumed := &mover{user: "user1", bases: bases[:1], headers: us.as(tenantShared, "user1")}
	once, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	for time.Since(killed) < time.Minute {
		if _ = resumed.follow(once, bases[0]); resumed.connects > 0 {
			break
		}
		cancel()
		once, cancel = context.WithTimeout(ctx, 2*time.Second)
	}
	cancel()
	t.Logf("and a new connection within %v", time.Since(killed).Round(time.Millisecond))
	if d := time.Since(killed); resumed.connects == 0 || d > time.Minute {
		t.Errorf("no connection in the other region after %v", d)
	}
	time.Sleep(10 * time.Second) // of the outage
	before := f.count()
	r.startServer("eu")
	back := time.Now()
	stopFeeding()
	t.Logf("home back after %v: %d acknowledged so far", back.Sub(killed).Round(time.Second), before)
	both(eu)
	eu.edge.stop(syscall.SIGTERM) // its address is another: movers know the first one
	f.check(t, all, 0)
	t.Logf("everything delivered %v after the home was back: %d acknowledged, 0 lost", time.Since(back).Round(time.Millisecond), f.count())

	// The home does not come back.
	r.clusters["eu"].servers[0].stop(syscall.SIGKILL)
	runbook(t, r)
	for _, m := range all {
		m.until(t, "a gap", func() bool { _, gaps, _ := m.seen(); return gaps > 0 })
	}
	t.Logf("promoted: all %d clients heard of a gap", len(all))
	f.publish(t.Context(), 2*users)
	f.check(t, all, 1)
}

// publisherOf are the headers of who publishes in a tenant.
func publisherOf(t *testing.T, s *regionSite) http.Header {
	t.Helper()
	by := target{data: s.issuer, realm: realmAcme, tenant: string(tenantShared), user: "desk", roles: []string{rolePublish}}
	header, err := by.minted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return header
}

func (m *mover) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) { // between two looks
		if time.Now().After(end) {
			got, gaps, connects := m.seen()
			t.Fatalf("%s: %s: %d notifications, %d gaps, %d connects", m.user, what, len(got), gaps, connects)
		}
	}
}

// check wants that each client gets what was acknowledged for its user, once each, and so
// many gaps.
func (f *feeder) check(t *testing.T, all []*mover, gaps int) {
	t.Helper()
	for _, m := range all {
		f.mu.Lock()
		want := slices.Clone(f.acked[m.user])
		f.mu.Unlock()
		m.until(t, "all that was acknowledged", func() bool {
			got, _, _ := m.seen()
			return len(missing(want, got)) == 0
		})
		got, told, _ := m.seen()
		slices.Sort(got)
		if n := len(got) - len(slices.Compact(slices.Clone(got))); n != 0 {
			t.Errorf("%s was told %d of %d twice", m.user, n, len(got))
		}
		if told != gaps {
			t.Errorf("%s heard of %d gaps, want %d", m.user, told, gaps)
		}
	}
}

func missing(want, got []string) (all []string) {
	has := make(map[string]bool)
	for _, id := range got {
		has[id] = true
	}
	for _, id := range want {
		if !has[id] {
			all = append(all, id)
		}
	}
	return all
}

// runbook runs the commands by which docs/multi-region.md promotes the copies in us.
func runbook(t *testing.T, r *natsRegions) {
	t.Helper()
	page, err := os.ReadFile("../../docs/multi-region.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "<!-- promotion -->\n```sh\n")
	script, _, ends := strings.Cut(block, "```\n")
	if !found || !ends {
		t.Fatal("docs/multi-region.md has no commands of a promotion")
	}
	bin := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\nPEAL_TEST_AS_BINARY=1 exec %q \"$@\"\n", os.Args[0])
	if err := os.WriteFile(filepath.Join(bin, "peal"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "home=eu", "here=us", "CONFIG="+r.configs["us"],
		"NATS_URL="+r.clusters["us"].urls("admin"), "NATS_CA="+r.ca.file("ca.pem"), "PEAL_NATS="+r.clusters["us"].urls("admin"), "NATS_INBOX_PREFIX=_INBOX_PEAL_admin", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
