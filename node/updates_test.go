package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// ticketUpdate is the nth update of a ticket: its time tells which.
func ticketUpdate(ticket string, n int) peal.TicketUpdate {
	return peal.TicketUpdate{
		Action: peal.ActionUpdated, TicketID: ticket, TicketNumber: "INC-" + ticket,
		Changes:   []peal.Change{peal.ChangeStatus},
		UpdatedAt: peal.NewTimestamp(time.Date(2025, 7, 10, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)),
	}
}

// change stores an update of a ticket of acme, which jane sees.
func (s *site) change(ticket string, n int) peal.TicketUpdate {
	s.t.Helper()
	u := ticketUpdate(ticket, n)
	s.changed(acme, u, []peal.Inbox{inbox("jane")}, nil)
	return u
}

func (s *site) changed(tenant peal.Tenant, u peal.TicketUpdate, sees, lost []peal.Inbox) {
	s.t.Helper()
	event := fmt.Sprint(u.TicketID, " ", u.UpdatedAt)
	if err := s.bus.PublishUpdate(context.Background(), tenant, event, u, sees, lost); err != nil {
		s.t.Fatal(err)
	}
}

// update reads the next ticket update.
func (c *connection) update() (e sse.Event, u peal.TicketUpdate) {
	c.t.Helper()
	e = c.next(sse.TicketUpdate)
	if err := json.Unmarshal(e.Data, &u); err != nil {
		c.t.Fatal(err)
	}
	return e, u
}

// wantUpdate wants the next to be an update.
func (c *connection) wantUpdate(who string, want peal.TicketUpdate) {
	c.t.Helper()
	if _, got := c.update(); !cmp.Equal(want, got) {
		c.t.Errorf("%s (-want +got):\n%s", who, cmp.Diff(want, got))
	}
}

// A ticket moves from the queue of one to that of another. Each sees what is theirs,
// and nobody what is of another tenant or of somebody of that name.
func TestWhoIsToldThatATicketHasChanged(t *testing.T) {
	s := start(t, nil)
	of := func(tenant peal.Tenant, namespace peal.Namespace, user peal.UserID) peal.Inbox {
		return peal.Inbox{Tenant: tenant, Namespace: namespace, User: user}
	}
	jane, joe, rita := of(shared, "acme", "jane"), of(shared, "acme", "joe"), of(shared, "acme", "rita")
	lead := user{"acme", shared, s.token("acme", issuer.Claims{Subject: "lead", Roles: []string{"tickets:all"}})}
	leadElsewhere := user{"acme", acme, s.token("acme", issuer.Claims{Subject: "lead", Roles: []string{"tickets:all"}})}
	conns := make(map[string]*connection)
	for name, u := range map[string]user{
		"jane": s.user("acme", shared, "jane"), "joe": s.user("acme", shared, "joe"), "rita": s.user("acme", shared, "rita"),
		"rita of customers": s.user("globex", shared, "rita"), "rita elsewhere": s.user("acme", acme, "rita"),
		"nobody": s.user("acme", shared, "nobody"), "lead": lead, "lead elsewhere": leadElsewhere,
	} {
		conns[name] = s.connect(u, onLists)
		conns[name].greeting()
	}
	moved := ticketUpdate("1", 1)
	moved.Changes = []peal.Change{peal.ChangeQueue}
	s.changed(shared, moved, []peal.Inbox{joe, rita}, []peal.Inbox{jane})
	other := ticketUpdate("1", 2) // of the same id, in another tenant
	s.changed(acme, other, []peal.Inbox{of(acme, "acme", "rita"), jane}, nil)
	end := ticketUpdate("the end", 3) // shows that nothing has come before it
	s.changed(shared, end, []peal.Inbox{jane, joe, rita, of(shared, "globex", "rita"), of(shared, "acme", "nobody")}, nil)
	s.changed(acme, end, []peal.Inbox{of(acme, "acme", "rita")}, nil)

	removed := moved
	removed.Action = peal.ActionRemoved
	for name, want := range map[string][]peal.TicketUpdate{
		"jane": {removed, end}, "joe": {moved, end}, "rita": {moved, end}, "lead": {moved, end},
		"rita of customers": {end}, "nobody": {end}, "rita elsewhere": {other, end}, "lead elsewhere": {other, end},
	} {
		for _, u := range want {
			conns[name].wantUpdate(name, u)
		}
	}
	if n := s.metric("peal_ticket_updates_stored_total"); n != 4 {
		t.Errorf("%v updates stored by the metric, want 4", n)
	}
	if n := s.metric("peal_ticket_updates_delivered_total"); n != 14 {
		t.Errorf("%v updates delivered by the metric, want 14", n)
	}
}

// The data is what the contract says, to the byte.
func TestTicketUpdateOnTheWire(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane(), onLists)
		c.greeting()
		u := s.change("12345", 1)
		e, _ := c.update()
		if want := `{"action":"updated","ticketId":"12345","ticketNumber":"INC-12345","changes":["status"],"updatedAt":"` + u.UpdatedAt.String() + `"}`; string(e.Data) != want {
			t.Errorf("got  %s\nwant %s", e.Data, want)
		}
		if bus.ParseCursor(e.ID) == bus.Unknown || e.ID == "" {
			t.Errorf("got id %q, want a cursor", e.ID)
		}
	})
}

// connected tells of the caller's inbox, as on every connection; what happens there
// is told on the other route.
func TestConnectedOfAListTellsOfTheInbox(t *testing.T) {
	s := start(t, nil)
	s.store(inbox("jane"), note("n1"))
	s.store(inbox("jane"), note("n2"))
	s.mark(s.jane(), `{"ids":["n1"]}`)
	count := s.count(s.jane())
	c := s.connect(s.jane(), onLists)
	e, g := c.greeting()
	want := greeting{"Connected to notification stream", "jane", g.Timestamp, g.ExpiresAt, false, 1, count.ReadState}
	if g != want || e.ID == "" || e.Retry < time.Second || e.Retry > 3*time.Second {
		t.Errorf("got %+v with id %q and retry %v, want %+v", g, e.ID, e.Retry, want)
	}
	s.store(inbox("jane"), note("n3"))
	s.mark(s.jane(), `{"all":true}`)
	u := s.change("1", 1)
	c.wantUpdate("after a notification and a mark", u)
}

func TestResumeOfAListLosesAndRepeatsNothing(t *testing.T) {
	everyProtocol(t, func(c *config) { c.bus.PerTenant = 6 }, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane(), onLists)
		first, _ := c.greeting()
		ids := []string{first.ID}
		var all []peal.TicketUpdate
		for n := range 4 {
			all = append(all, s.change(fmt.Sprint(n), n))
			e, _ := c.update()
			ids = append(ids, e.ID)
		}
		c.close()
		for i, id := range ids {
			for _, resume := range []edit{header("Last-Event-ID", id), query("lastEventId=" + id)} {
				c := s.connectBy(client, s.jane(), onLists, resume)
				if _, g := c.greeting(); !g.Recovered {
					t.Errorf("after %d: not recovered", i)
				}
				for _, want := range all[i:] {
					c.wantUpdate(fmt.Sprint("after ", i), want)
				}
				c.close()
			}
		}
		for n := 4; n < 9; n++ {
			all = append(all, s.change(fmt.Sprint(n), n))
		}
		for name, row := range map[string]struct {
			id, code string
			want     []peal.TicketUpdate
		}{
			"truncated": {ids[0], "HISTORY_TRUNCATED", all[3:]},
			"unknown":   {"aaaaaaaa-1", "UNKNOWN_CURSOR", nil},
		} {
			c := s.connectBy(client, s.jane(), onLists, header("Last-Event-ID", row.id))
			if e, g := c.greeting(); g.Recovered || e.ID != "" {
				t.Errorf("%s: connected with id %q and recovered %v", name, e.ID, g.Recovered)
			}
			if e := c.next(sse.Gap); field(t, e, "code") != row.code || e.ID == "" {
				t.Errorf("%s: got %s with id %q", name, e.Data, e.ID)
			}
			for _, want := range row.want {
				c.wantUpdate(name, want)
			}
			c.close()
		}
	})
}

// A cursor of one route is nothing on the other.
func TestCursorOfTheOtherRoute(t *testing.T) {
	s := start(t, nil)
	list, _ := s.connect(s.jane(), onLists).greeting()
	notifications, _ := s.connect(s.jane()).greeting()
	for id, route := range map[string]edit{list.ID: onNotifications, notifications.ID: onLists} {
		c := s.connect(s.jane(), route, header("Last-Event-ID", id))
		c.greeting()
		if e := c.next(sse.Gap); field(t, e, "code") != "UNKNOWN_CURSOR" {
			t.Errorf("got %s, want UNKNOWN_CURSOR", e.Data)
		}
		c.close()
	}
}

// The routes have five connections each.
func TestRoutesAreLimitedApart(t *testing.T) {
	s := start(t, nil)
	var lists []*connection
	for range 5 {
		s.connect(s.jane()).greeting()
		lists = append(lists, s.connect(s.jane(), onLists))
	}
	for name, route := range map[string]edit{"notifications": onNotifications, "lists": onLists} {
		a := s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "", route))
		t.Run(name, func(t *testing.T) { wantProblem(t, a, 429, "CONNECTION_LIMIT", "") })
	}
	if n := s.metric("peal_connections"); n != 10 {
		t.Errorf("%v connections by the metric, want 10", n)
	}
	lists[0].close()
	eventually(t, "a list's slot", func() bool {
		return s.do(s.request(context.Background(), "GET", updatesPath, s.jane(), "")).status == 200
	})
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "")), 429, "CONNECTION_LIMIT", "")
}

func TestListEndsAsAConnectionDoes(t *testing.T) {
	everyProtocol(t, func(c *config) { c.node.Heartbeat = time.Second }, func(t *testing.T, s *site, client *http.Client) {
		expires := s.connectBy(client, s.brief("joe"), onLists)
		_, g := expires.greeting()
		revoked := s.connectBy(client, s.user("acme", acme, "kate"), onLists)
		revoked.greeting()
		drained := s.connectBy(client, s.jane(), onLists)
		drained.greeting()
		revoked.next(sse.Heartbeat)
		if _, err := s.bus.Revoke(t.Context(), peal.Revocation{Tenant: acme, Namespace: "acme", User: "kate"}, time.Hour); err != nil {
			t.Fatal(err)
		}
		revoked.aborted("REVOKED")
		expires.aborted("TOKEN_EXPIRED")
		if late := time.Since(g.ExpiresAt); late < 0 || late > time.Second {
			t.Errorf("ended %v after exp, want 0 to 1 s", late)
		}
		s.change("1", 1) // begins the window in which the next is held back
		drained.update()
		s.change("1", 2)
		s.stop()
		for { // the next may just have been in time
			e, err := drained.events.Next()
			if err != nil {
				t.Fatalf("got %v, want DRAINING", err)
			}
			if e.Name == sse.Error {
				if field(t, e, "code") != "DRAINING" {
					t.Errorf("got %s, want DRAINING", e.Data)
				}
				break
			}
		}
	})
}

// What somebody else stored in our stream is passed over.
func TestForeignTicketUpdateIsPassedOver(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.jane(), onLists)
	c.greeting()
	for _, body := range []string{"hello", `{"update":{},"sees":"","lost":""}`, strings.Repeat("x", 1000)} {
		s.storeRawAt("peal.ticket.local."+string(acme), body)
	}
	c.wantUpdate("after what is none", s.change("1", 1))
	if n := s.metric("peal_notifications_unsendable_total"); n != 3 {
		t.Errorf("%v unsendable by the metric, want 3", n)
	}
}

// A browser's own EventSource follows a list too.
func TestListByCookie(t *testing.T) {
	s := start(t, withCookies)
	c := s.connect(user{}, asEventSource(s.jane()), onLists)
	c.greeting()
	c.wantUpdate("by cookie", s.change("1", 1))
}

// A burst over a real socket: few are told, and the last is among them.
func TestBurstIsToldAsFew(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane(), onLists)
		c.greeting()
		const burst = 200
		changes := []peal.Change{peal.ChangeStatus, peal.ChangeQueue, peal.ChangeComments}
		for n := range burst {
			u := ticketUpdate("1", n)
			u.Changes = []peal.Change{changes[n%3]}
			s.changed(acme, u, []peal.Inbox{inbox("jane")}, nil)
		}
		last := ticketUpdate("1", burst-1)
		told := 0
		var seen []peal.Change
		for done := false; !done; told++ {
			_, u := c.update()
			seen = append(seen, u.Changes...)
			done = u.UpdatedAt.Equal(last.UpdatedAt.Time)
		}
		if told > burst/4 {
			t.Errorf("%d of %d were told, want few", told, burst)
		}
		for _, want := range changes {
			if !slices.Contains(seen, want) {
				t.Errorf("nobody told of %s", want)
			}
		}
	})
}
