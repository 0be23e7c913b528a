package bus_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// ticketUpdate is the nth update of a ticket: its time tells which.
func ticketUpdate(ticket string, n int) peal.TicketUpdate {
	return peal.TicketUpdate{
		Action: peal.ActionUpdated, TicketID: ticket, TicketNumber: "INC-" + ticket,
		Changes:   []peal.Change{peal.ChangeStatus},
		UpdatedAt: peal.NewTimestamp(time.Date(2025, 7, 10, 12, 35, n, 0, time.UTC)),
	}
}

const ticketStream = "PEAL_TICKET_local"

// storedTicket reads a stored update.
func storedTicket(t testing.TB, b *bus.Bus, seq uint64) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), ticketStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatalf("read update %d: %v", seq, err)
	}
	return m
}

// What is stored is read for a day, by later versions too. Who is told is part of
// it, in an order that does not depend on who asks.
func TestStoredTicketUpdate(t *testing.T) {
	b := open(t, nil)
	jane, joe, kate := inbox("jane"), inbox("joe"), inbox("kate")
	u := ticketUpdate("12345", 0)
	u.Changes = []peal.Change{peal.ChangeAssignee, peal.ChangeQueue}
	for _, sees := range [][]peal.Inbox{{jane, joe}, {joe, jane, joe}} {
		if err := b.PublishUpdate(t.Context(), acme, fmt.Sprint("event of ", len(sees)), u, sees, []peal.Inbox{kate}); err != nil {
			t.Fatal(err)
		}
	}
	m := storedTicket(t, b, 1)
	var out bytes.Buffer
	fmt.Fprintln(&out, m.Subject)
	for _, k := range slices.Sorted(maps.Keys(m.Header)) {
		if !slices.Contains([]string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}, k) {
			fmt.Fprintf(&out, "%s: %s\n", k, m.Header.Get(k))
		}
	}
	fmt.Fprintf(&out, "\n%s\n", m.Data)
	golden(t, "update.golden", out.Bytes())
	if again := storedTicket(t, b, 2); !bytes.Equal(again.Data, m.Data) {
		t.Errorf("the same people in another order are stored as\n%s\nand not as\n%s", again.Data, m.Data)
	}
}

func TestTicketUpdateIsStoredOnce(t *testing.T) {
	b := open(t, nil)
	for _, tenant := range []peal.Tenant{acme, acme, globex} {
		if err := b.PublishUpdate(t.Context(), tenant, "e1", ticketUpdate("1", 1), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Stats().Updates.Load(); n != 2 {
		t.Errorf("%d stored, want one of each tenant", n)
	}
}

// Many at once go as one batch, and so does a queue of as many as there may be.
func TestManyTicketUpdatesAtOnce(t *testing.T) {
	b := open(t, nil)
	crowd := inboxes(5000)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			var sees []peal.Inbox
			if i%20 == 0 {
				sees = crowd
			}
			if err := b.PublishUpdate(t.Context(), acme, fmt.Sprint("e", i), ticketUpdate("1", i), sees, sees); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := b.Stats().Updates.Load(); n != 200 {
		t.Errorf("%d stored, want 200", n)
	}
	err := b.PublishUpdate(t.Context(), acme, "too many", ticketUpdate("1", 1), inboxes(9000), inboxes(9000))
	if !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("18,000 people: %v, want invalid: to repeat it would be in vain", err)
	}
}

// What an update is for whom.
func TestWhoIsToldOfATicket(t *testing.T) {
	jane := inbox("jane")
	updated, created, removed := peal.ActionUpdated, peal.ActionCreated, peal.ActionRemoved
	for _, tt := range []struct {
		name       string
		action     peal.TicketAction
		sees, lost []peal.Inbox
		viewer     bus.Viewer
		want       peal.TicketAction // "" for nothing
	}{
		{"who sees it", updated, []peal.Inbox{inbox("joe"), jane}, nil, bus.NewViewer(jane, false), updated},
		{"who sees a new one", created, []peal.Inbox{jane}, nil, bus.NewViewer(jane, false), created},
		{"who has lost it", updated, []peal.Inbox{inbox("joe")}, []peal.Inbox{jane}, bus.NewViewer(jane, false), removed},
		{"who sees it, and has lost it by one way", updated, []peal.Inbox{jane}, []peal.Inbox{jane}, bus.NewViewer(jane, false), updated},
		{"who sees one that is deleted", removed, []peal.Inbox{jane}, nil, bus.NewViewer(jane, false), removed},
		{"somebody else", updated, []peal.Inbox{inbox("joe")}, []peal.Inbox{inbox("kate")}, bus.NewViewer(jane, false), ""},
		{"nobody sees it", updated, nil, nil, bus.NewViewer(jane, false), ""},
		{"who sees all", updated, nil, nil, bus.NewViewer(jane, true), updated},
		{"who sees all has lost nothing", updated, nil, []peal.Inbox{jane}, bus.NewViewer(jane, true), updated},
		{"who sees all loses what is deleted", removed, nil, nil, bus.NewViewer(jane, true), removed},
		{"one of that name in another namespace", updated, []peal.Inbox{{Tenant: acme, Namespace: "customers", User: "jane"}}, nil, bus.NewViewer(jane, false), ""},
		{"one of that name in another tenant", updated, []peal.Inbox{{Tenant: globex, Namespace: "staff", User: "jane"}}, nil, bus.NewViewer(jane, false), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := ticketUpdate("1", 1)
			u.Action = tt.action
			m := &bus.Message{Data: bus.EncodeUpdate(u, tt.sees, tt.lost)}
			got, err := m.Update(tt.viewer)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if got != nil {
					t.Errorf("got %+v, want nothing", got)
				}
				return
			}
			u.Action = tt.want
			if got == nil {
				t.Fatalf("got nothing, want %+v", u)
			}
			if diff := cmp.Diff(u, got.TicketUpdate); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever has rights on the bus may store what is none: nobody is told of it.
func TestForeignTicketUpdateIsAnError(t *testing.T) {
	good := string(bus.EncodeUpdate(ticketUpdate("1", 1), []peal.Inbox{inbox("jane")}, nil))
	for name, body := range map[string]string{
		"nothing":                "",
		"no JSON":                "hello",
		"a notification":         string(notification("n1").Encode()),
		"no ticket":              `{"update":{"action":"updated"},"sees":"","lost":""}`,
		"an action not known":    `{"update":{"action":"seen","ticketId":"1","ticketNumber":"1"},"sees":"","lost":""}`,
		"an id with a newline":   `{"update":{"action":"updated","ticketId":"1\n2","ticketNumber":"1"},"sees":"","lost":""}`,
		"half a mark":            `{"update":{"action":"updated","ticketId":"1","ticketNumber":"1"},"sees":"AAAA","lost":""}`,
		"no base64":              `{"update":{"action":"updated","ticketId":"1","ticketNumber":"1"},"sees":"","lost":"!"}`,
		"marks in disorder":      `{"update":{"action":"updated","ticketId":"1","ticketNumber":"1"},"sees":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","lost":""}`,
		"and something after it": good + "{}",
	} {
		if u, err := (&bus.Message{Data: []byte(body)}).Update(bus.NewViewer(inbox("jane"), true)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, u)
		}
	}
	if u, err := (&bus.Message{Data: []byte(good)}).Update(bus.NewViewer(inbox("jane"), false)); err != nil || u == nil {
		t.Errorf("a good one: %v, %v", u, err)
	}
}

// A viewer is looked for in an audience of 5,000 for every update of the tenant.
func BenchmarkUpdateForAViewer(b *testing.B) {
	m := &bus.Message{Data: bus.EncodeUpdate(ticketUpdate("1", 1), inboxes(5000), nil)}
	v := bus.NewViewer(inbox("user-4711"), false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Update(v); err != nil {
			b.Fatal(err)
		}
	}
}
