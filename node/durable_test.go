package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

const durablePath = node.Base + "/ticket/sse/durable"

// durable is a durable as its owner sees it.
type durable struct {
	Name, Route       string
	Created, LastUsed time.Time
	Pending           int
}

// durables lists those of a user.
func (s *site) durables(u user) []durable {
	s.t.Helper()
	a := s.do(s.request(context.Background(), "GET", durablePath, u, ""))
	if a.status != http.StatusOK {
		s.t.Fatalf("list durables: got %d %s, want 200", a.status, a.body)
	}
	var list struct{ Durables []durable }
	if err := json.Unmarshal(a.body, &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Durables
}

// pending waits until so many messages follow the place of a user's only durable.
func (s *site) pending(u user, n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d messages follow the place", n), func() bool {
		all := s.durables(u)
		return len(all) == 1 && all[0].Pending == n
	})
}

// quick is a site whose connections prove soon what they have received.
func quick(c *config) { c.node.Heartbeat = 100 * time.Millisecond }

// A client that says nothing of where it is gets what it has not provably received,
// and nothing else; by HTTP/2 it has to say it.
func TestDurableConnection(t *testing.T) {
	everyProtocol(t, quick, func(t *testing.T, s *site, client *http.Client) {
		jane := s.jane()
		s.store(inbox("jane"), note("before"))
		c := s.connectBy(client, jane, query("durable=wall"))
		e, g := c.greeting()
		if g.Recovered || g.Unread != 1 {
			t.Errorf("connected: got recovered %v and unread %d, want false and 1", g.Recovered, g.Unread)
		}
		if bus.ParseCursor(e.ID) == bus.Unknown || e.ID == "" {
			t.Errorf("connected: got id %q, want a cursor", e.ID)
		}
		for i := range 3 {
			s.store(inbox("jane"), note(fmt.Sprint("n", i)))
		}
		var last sse.Event
		for range 3 {
			last = c.next(sse.Notification)
		}
		if c.resp.ProtoMajor == 1 {
			s.pending(jane, 0)
		}
		c.close()
		s.store(inbox("jane"), note("n3"))

		var edits []edit
		if c.resp.ProtoMajor == 2 {
			s.pending(jane, 4)
			edits = append(edits, header("Last-Event-ID", last.ID))
		}
		c = s.connectBy(client, jane, append(edits, query("durable=wall"))...)
		if _, g := c.greeting(); !g.Recovered || g.Unread != 4 {
			t.Errorf("connected again: got recovered %v and unread %d, want true and 4", g.Recovered, g.Unread)
		}
		if got := c.notification(); got != "n3" {
			t.Errorf("connected again: got %s, want n3", got)
		}
		s.pending(jane, map[int]int{1: 0, 2: 1}[c.resp.ProtoMajor])
	})
}

// reader reads an event stream from a socket.
func reader(t testing.TB, c net.Conn) *sse.Reader {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("connect: got %d %s", resp.StatusCode, body)
	}
	return sse.NewReader(resp.Body)
}

// sendDurable opens a socket and connects by a durable on it.
func (s *site) sendDurable(u user, name string) net.Conn {
	s.t.Helper()
	c := s.dial()
	fmt.Fprint(c, s.head(u, "GET "+connectPath+"?durable="+name+" HTTP/1.1")+"\r\n")
	return c
}

// A client that vanishes at random places, on one node and the other, misses nothing.
func TestDurableIsAtLeastOnce(t *testing.T) {
	one := start(t, quick)
	two := one.prepared(nil, bus.Config{})
	cfg := siteConfig()
	quick(&cfg)
	two.serve(cfg)
	sites := []*site{one, two}
	jane := one.jane()
	one.connect(jane, query("durable=wall")).close()

	const total = 250
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range total {
			n := note(fmt.Sprint(i)).WithDefaults(time.Now())
			if _, err := one.bus.Publish(context.Background(), bus.Publication{To: []peal.Inbox{inbox("jane")}, Notification: n}); err != nil {
				t.Errorf("publish: %v", err)
			}
			time.Sleep(rand.N(40 * time.Millisecond)) // the load, not a wait
		}
	}()
	seen, connections, again := 0, 0, 0 // the next that was never read
	for deadline := time.Now().Add(3 * patience); seen < total; connections++ {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d after %d connections", seen, total, connections)
		}
		s := sites[rand.N(2)]
		c := s.sendDurable(jane, "wall")
		events := reader(t, c)
		next := -1
		c.SetReadDeadline(time.Now().Add(rand.N(900 * time.Millisecond))) // some heartbeats, or none
		for seen < total {
			e, err := events.Next()
			if err != nil {
				break
			}
			if e.Name != sse.Notification {
				continue
			}
			var id int
			fmt.Sscan(field(t, e, "id").(string), &id)
			if next == -1 && id > seen || next != -1 && id != next {
				t.Fatalf("connection %d: got %d, want %d, or at its beginning an earlier one than %d", connections, id, next, seen+1)
			}
			if id < seen {
				again++
			}
			next, seen = id+1, max(seen, id+1)
		}
		if rand.N(2) == 0 {
			c.(*net.TCPConn).SetLinger(0) // a reset, and what is on the way is lost
		}
		c.Close()
	}
	<-done
	t.Logf("%d connections, %d of %d were repeated", connections, again, total)
}

// Whoever comes last with the name is connected, on whatever node.
func TestDurableConnectionIsTakenOver(t *testing.T) {
	one := start(t, nil)
	two := one.another()
	jane := one.jane()
	first := one.connect(jane, query("durable=wall"))
	first.greeting()
	other := one.connect(jane, query("durable=other"))
	other.greeting()
	second := two.connect(jane, query("durable=wall"))
	second.greeting()
	first.aborted("CONNECTION_LIMIT")
	eventually(t, "the end is counted", func() bool {
		return one.metric(`peal_connections_ended_total{reason="taken_over"}`) == 1
	})
	one.store(inbox("jane"), note("n1"))
	for _, c := range []*connection{second, other} {
		if got := c.notification(); got != "n1" {
			t.Errorf("got %s, want n1", got)
		}
	}
}

// Who has no slot takes nothing over, however long it takes to find that out.
func TestWhoIsRefusedTakesNothingOver(t *testing.T) {
	one := start(t, func(c *config) { c.node.MaxPerUser = 1 })
	two := one.anotherWith(func(c *config) { c.node.MaxPerUser = 1 })
	two.node.HurryFollow()
	jane := one.jane()
	holder := one.connect(jane, query("durable=wall"))
	holder.greeting()
	for range 5 {
		a := two.do(two.request(t.Context(), "GET", connectPath, jane, "", query("durable=wall")))
		wantProblem(t, a, 429, "CONNECTION_LIMIT", "open connections")
	}
	one.store(inbox("jane"), note("n1"))
	if got := holder.notification(); got != "n1" {
		t.Errorf("got %s, want n1", got)
	}
	if n := one.metric(`peal_connections_ended_total{reason="taken_over"}`); n != 0 {
		t.Errorf("%v connections were taken over, want none", n)
	}
	holder.close()
	one.awaitSlots(0)
	two.connect(jane, query("durable=wall")).greeting()
}

// A user has three, a fourth is refused with their names, and one that is removed
// makes room and ends who follows by it.
func TestDurablesOfAUser(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser = -1 })
	jane := s.jane()
	first := s.connect(jane, query("durable=a"))
	first.greeting()
	for _, e := range [][]edit{{query("durable=b")}, {onLists, query("durable=a")}} {
		c := s.connect(jane, e...)
		c.greeting()
		c.close()
	}
	fourth := func(edits ...edit) answer {
		return s.do(s.request(context.Background(), "GET", connectPath, jane, "", edits...))
	}
	for _, route := range []edit{onNotifications, onLists} {
		a := fourth(route, query("durable=c"))
		wantProblem(t, a, 429, "CONNECTION_LIMIT", "")
		if !strings.Contains(a.Detail, "a, b;") || a.header.Get("Retry-After") == "" {
			t.Errorf("a fourth: got detail %q and Retry-After %q", a.Detail, a.header.Get("Retry-After"))
		}
	}
	var got []string
	for _, d := range s.durables(jane) {
		got = append(got, d.Name+" "+d.Route)
		if time.Since(d.Created) > time.Minute || time.Since(d.LastUsed) > time.Minute {
			t.Errorf("got %+v", d)
		}
	}
	if diff := cmp.Diff([]string{"a notifications", "a list/updates", "b notifications"}, got); diff != "" {
		t.Errorf("durables (-want +got):\n%s", diff)
	}
	joe := s.user("acme", acme, "joe")
	remove := func(u user, name string) answer {
		return s.do(s.request(context.Background(), "DELETE", durablePath+"/"+name, u, ""))
	}
	wantProblem(t, remove(joe, "a"), 404, "NOT_FOUND", "")
	wantProblem(t, remove(jane, "c"), 404, "NOT_FOUND", "")
	wantProblem(t, remove(jane, "A"), 400, "INVALID_REQUEST", "durable")
	if a := remove(jane, "a"); a.status != http.StatusNoContent || len(a.body) != 0 {
		t.Errorf("remove: got %d %s, want 204", a.status, a.body)
	}
	first.aborted("SUBSCRIPTION_ERROR")
	wantProblem(t, remove(jane, "a"), 404, "NOT_FOUND", "")
	if got := s.durables(jane); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("after one is removed: got %+v", got)
	}
	if got := s.durables(joe); len(got) != 0 {
		t.Errorf("of another user: got %+v", got)
	}
	c := s.connect(jane, query("durable=c"))
	c.greeting()
}

// The service keeps as many as it may, or none.
func TestDurablesOfAService(t *testing.T) {
	s := start(t, func(c *config) { c.bus.Durables = 1 })
	s.connect(s.jane(), query("durable=a")).greeting()
	joe := s.user("acme", acme, "joe")
	a := s.do(s.request(context.Background(), "GET", connectPath, joe, "", query("durable=a")))
	wantProblem(t, a, 503, "UNAVAILABLE", "durable subscriptions")
	if !strings.Contains(s.logs.String(), "1 consumers are there, of 1") {
		t.Error("nobody tells the operator why")
	}
	s.connect(joe).greeting()

	none := start(t, func(c *config) { c.bus.Durables = -1 })
	a = none.do(none.request(context.Background(), "GET", connectPath, none.jane(), "", query("durable=a")))
	wantProblem(t, a, 400, "INVALID_REQUEST", "durable")
}

// It is the same for list updates.
func TestDurableOfListUpdates(t *testing.T) {
	s := start(t, quick)
	jane := s.jane()
	c := s.connect(jane, onLists, query("durable=wall"))
	c.greeting()
	c.wantUpdate("live", s.change("t1", 1))
	s.pending(jane, 0)
	c.close()
	second := s.change("t2", 2)
	c = s.connect(jane, onLists, query("durable=wall"))
	if _, g := c.greeting(); !g.Recovered {
		t.Error("connected again: got recovered false")
	}
	c.wantUpdate("after the place", second)
}

// The operator sees the durables of all tenants, and removes any.
func TestDurablesOnTheAdminPort(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.jane(), query("durable=a"))
	c.greeting()
	s.connect(s.user("globex", globex, "joe"), query("durable=b")).greeting()
	ask := func(method, path string, edits ...edit) (a answer, err error) {
		r, err := http.NewRequest(method, s.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range edits {
			e(r)
		}
		return s.try(s.client, r)
	}
	type kept struct{ ID, Tenant, Namespace, User, Name, Route string }
	list := func(q string) (all []kept, next *string) {
		t.Helper()
		a, err := ask("GET", "/durables"+q)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("list%s: got %d %s and %v", q, a.status, a.body, err)
		}
		var page struct {
			Durables []kept
			Next     *string
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			t.Fatal(err)
		}
		return page.Durables, page.Next
	}
	all, next := list("")
	if len(all) != 2 || next != nil {
		t.Fatalf("got %+v and %v, want two", all, next)
	}
	page, next := list("?limit=1")
	if len(page) != 1 || next == nil || page[0] != all[0] {
		t.Fatalf("got %+v and %v, want the first of %+v", page, next, all)
	}
	if page, next = list("?limit=1&after=" + *next); len(page) != 1 || next != nil || page[0] != all[1] {
		t.Fatalf("got %+v and %v, want the second of %+v", page, next, all)
	}
	want := kept{all[0].ID, string(acme), "acme", "jane", "a", "notifications"}
	if all[0].User != "jane" {
		want.ID = all[1].ID
	}
	for _, q := range []string{"?tenant=" + string(acme), "?user=jane&tenant=" + string(acme), "?namespace=acme&user=jane&tenant=" + string(acme)} {
		if got, _ := list(q); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %+v, want %+v", q, got, want)
		}
	}
	if got, _ := list("?user=nobody&tenant=" + string(acme)); len(got) != 0 {
		t.Errorf("of nobody: got %+v", got)
	}
	for path, detail := range map[string]string{
		"/durables?user=jane": "tenant", "/durables?namespace=acme": "namespace", "/durables?after=x": "after", "/durables?limit=0": "limit",
		"/durables?who=x": "query", "/durables?user=jane&after=" + want.ID + "&tenant=" + string(acme): "after",
	} {
		a, err := ask("GET", path)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, a, 400, "INVALID_REQUEST", detail)
	}
	a, err := ask("DELETE", "/durables/"+want.ID, header("Origin", s.admin))
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, a, 403, "FORBIDDEN", "browser")
	if a, err = ask("DELETE", "/durables/"+want.ID); err != nil || a.status != http.StatusOK {
		t.Fatalf("remove: got %d %s and %v", a.status, a.body, err)
	}
	c.aborted("SUBSCRIPTION_ERROR")
	if !strings.Contains(s.logs.String(), "durable removed") {
		t.Error("no line in the log says who has removed it")
	}
	if a, err = ask("DELETE", "/durables/"+want.ID); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, a, 404, "NOT_FOUND", "")
	if a, err = ask("DELETE", "/durables/x"); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, a, 400, "INVALID_REQUEST", "id")
	if got, _ := list(""); len(got) != 1 {
		t.Errorf("after one is removed: got %+v", got)
	}
}
