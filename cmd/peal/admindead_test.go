package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/node"
)

// morgue is the admin port of a real node, with dead letters.
type morgue struct {
	t    *testing.T
	nats *embedded.Server
	bus  *bus.Bus
	url  string
}

func newMorgue(t *testing.T) *morgue {
	t.Helper()
	m := &morgue{t: t, nats: bustest.Server(t)}
	m.bus = bustest.Open(t, m.nats, nil)
	v, err := auth.Open(auth.Config{Realms: []auth.Realm{{
		Name: "acme", Issuer: "https://acme.example", JWKS: "http://127.0.0.1:1/keys", Audiences: []string{"peal"},
		Tenants: auth.Tenants{Any: true}, AllowPrivate: true,
	}}}, auth.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	admin := httptest.NewServer(node.New(node.Config{}, v, m.bus).Admin())
	t.Cleanup(admin.Close)
	m.url = admin.URL
	return m
}

// bury makes dead letters of events of a tenant.
func (m *morgue) bury(tenant peal.Tenant, reason string, ids ...string) {
	m.t.Helper()
	var events []peal.TicketEvent
	for _, id := range ids {
		events = append(events, peal.TicketEvent{
			ID: id, Type: "comment", Ticket: peal.Ticket{ID: "12345", Number: "INC-1", Title: "VPN"},
		}.WithDefaults(time.Now()))
	}
	for _, a := range m.bus.Accept(m.t.Context(), tenant, events...) {
		if a.Err != nil || a.Duplicate {
			m.t.Fatalf("%+v", a)
		}
	}
	m.buryAll(len(ids), reason)
}

// buryAll makes dead letters of all that waits.
func (m *morgue) buryAll(n int, reason string) {
	m.t.Helper()
	b := bustest.Open(m.t, m.nats, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	buried := make(chan error, n)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Work(ctx, func(ctx context.Context, task *bus.Task) {
			var e peal.TicketEvent
			json.Unmarshal(task.Data, &e)
			buried <- task.Bury(ctx, e.ID, reason)
		})
	}()
	for range n {
		select {
		case err := <-buried:
			if err != nil {
				m.t.Error(err)
			}
		case <-ctx.Done():
			m.t.Fatal("waited in vain for an event to be buried")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		m.t.Error(err)
	}
}

// publish puts something on the bus that is no event of ours.
func (m *morgue) publish(data string) {
	m.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(m.nats))
	if err != nil {
		m.t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("peal.event.local."+string(tenantAcme)+".=MQ", []byte(data), 5*time.Second); err != nil {
		m.t.Fatal(err)
	}
}

// dead runs peal admin dead.
func (m *morgue) dead(args ...string) result {
	m.t.Helper()
	return do(m.t, nil, append(append([]string{"admin", "dead"}, args...), "--admin", m.url)...)
}

// list is what peal admin dead list prints.
func (m *morgue) list(args ...string) deadPage {
	m.t.Helper()
	got := m.dead(append([]string{"list"}, args...)...)
	var page deadPage
	if err := json.Unmarshal([]byte(got.stdout), &page); err != nil || got.status != 0 || got.stderr != "" || strings.Count(got.stdout, "\n") != 1 {
		m.t.Fatalf("list: %+v (%v)", got, err)
	}
	return page
}

func (m *morgue) want(got, want result) {
	m.t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		m.t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestDeadLettersAreListedRetriedAndDropped(t *testing.T) {
	m := newMorgue(t)
	m.want(m.dead("list"), result{0, `{"deadLetters":[],"next":null}` + "\n", ""})
	m.bury(tenantAcme, "a rule has panicked", "e1", "e2", "e3")
	m.bury(tenantShared, "another reason", "e1", "e2")

	page := m.list("--limit", "2")
	if len(page.DeadLetters) != 2 || page.Next == nil || *page.Next != page.DeadLetters[1].ID {
		t.Fatalf("the first page: %+v", page)
	}
	rest := m.list("--after", *page.Next, "--json")
	all := append(page.DeadLetters, rest.DeadLetters...)
	if len(all) != 5 || rest.Next != nil || all[0].EventID != "e1" || all[0].Reason != "a rule has panicked" || all[0].TicketID != "12345" || all[0].Tenant != string(tenantAcme) || all[0].Buried == nil {
		t.Fatalf("all: %+v", all)
	}
	if of := m.list("--tenant", strings.ToUpper(string(tenantShared))); len(of.DeadLetters) != 2 || of.DeadLetters[0].ID != all[3].ID {
		t.Errorf("of a tenant: %+v", of)
	}

	shown := m.dead("show", all[0].ID)
	if shown.status != 0 || !strings.Contains(shown.stdout, "\n  \"reason\": \"a rule has panicked\",\n") || !strings.Contains(shown.stdout, "\n    \"ticket\": {\n") {
		t.Errorf("show: %+v", shown)
	}

	m.want(m.dead("retry", all[0].ID, "--admin", m.url, all[0].ID), result{0, `{"retried":1}` + "\n", ""}) // named twice
	m.want(m.dead("retry", all[0].ID), result{1, `{"retried":0}` + "\n",
		"peal admin: 1 of 1 not retried, for one " + all[0].ID + ": refused: 404 NOT_FOUND There is no dead letter of this id, or not any more\n"})
	m.want(m.dead("drop", "--yes", all[0].ID, all[1].ID), result{1, `{"dropped":1}` + "\n",
		"peal admin: 1 of 2 not dropped, for one " + all[0].ID + ": refused: 404 NOT_FOUND There is no dead letter of this id, or not any more\n"})
	m.want(m.dead("retry", "--all", "--tenant", string(tenantShared)), result{0, `{"retried":2}` + "\n", ""})
	if left := m.list(); len(left.DeadLetters) != 1 || left.DeadLetters[0].ID != all[2].ID {
		t.Errorf("left: %+v", left)
	}
	if left, err := m.bus.Backlog(t.Context()); left.Waiting != 3 || err != nil {
		t.Errorf("%+v wait to be worked on again (%v), want 3", left, err)
	}
	m.want(m.dead("drop", "--all", "--yes"), result{0, `{"dropped":1}` + "\n", ""})
	m.want(m.dead("drop", "--all", "--yes"), result{0, `{"dropped":0}` + "\n", ""})
}

// All are all, however many pages that is.
func TestAllDeadLettersAreRetried(t *testing.T) {
	m := newMorgue(t)
	var ids []string
	for i := range maxPage + 5 {
		ids = append(ids, fmt.Sprint("e", i))
	}
	m.bury(tenantAcme, "because", ids...)
	m.want(m.dead("retry", "--all"), result{0, fmt.Sprintf("{\"retried\":%d}\n", len(ids)), ""})
	if left := m.list(); len(left.DeadLetters) != 0 {
		t.Errorf("%d are left", len(left.DeadLetters))
	}
	if left, err := m.bus.Backlog(t.Context()); left.Waiting != len(ids) || err != nil {
		t.Errorf("%+v wait to be worked on again (%v), want %d", left, err, len(ids))
	}
}

// What others have written does nothing to a terminal, and is still what it was.
func TestHostileDeadLettersAreHarmless(t *testing.T) {
	const hostile = "\u202e\u009b2J\u2028\U000e0001</script>"
	m := newMorgue(t)
	m.bury(tenantAcme, hostile, "e"+hostile[:3])
	m.publish(`{"id":"` + hostile + `","a":"\u001b[2J"}`)
	m.publish("\x1b[2J\xff")
	m.buryAll(2, "is not valid JSON: \x1b]0;owned\x07")
	m.publish(strings.Repeat("x", 600_000))
	m.buryAll(1, "is too large")

	all := m.list().DeadLetters
	harmless := func(what, text string) {
		t.Helper()
		for _, r := range text {
			if r != '\n' && unseen(r) {
				t.Errorf("%s has %U: %q", what, r, text)
			}
		}
	}
	for _, args := range [][]string{{"list"}, {"show", all[0].ID}, {"show", all[1].ID}, {"show", all[2].ID}, {"show", all[3].ID}} {
		got := m.dead(args...)
		harmless(args[0], got.stdout)
		if got.status != 0 || !json.Valid([]byte(got.stdout)) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if all[0].Reason != strings.Replace(hostile, "\u2028", " ", 1) || all[0].EventID != "e\u202e" {
		t.Errorf("what is listed says %+q", all[0])
	}
	var table bytes.Buffer
	if err := (deadPage{DeadLetters: all, Next: &all[0].Reason}).show(&table, 120, time.Now()); err != nil {
		t.Fatal(err)
	}
	harmless("the table", table.String())

	cut := m.dead("retry", "--all")
	if cut.status != 1 || cut.stdout != `{"retried":3}`+"\n" || !strings.Contains(cut.stderr, "1 of 4 not retried, for one "+all[3].ID+": refused: 400") || !strings.Contains(cut.stderr, "publish the event again") {
		t.Errorf("one that is not whole: %+v", cut)
	}
}

func TestTableOfDeadLetters(t *testing.T) {
	now := time.Date(2025, 7, 10, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *peal.Timestamp { return new(peal.NewTimestamp(now.Add(-ago))) }
	next := "abcdefgh-5"
	page := deadPage{Next: &next, DeadLetters: []deadLetter{
		{"abcdefgh-1", string(tenantAcme), "12345", "6f1c3a52-0d5e-4f0b-9a53-6d3b1f2c8e11", "x: is not a known field", at(26 * time.Hour)},
		{"abcdefgh-2", "", "", "", "is not valid JSON at byte 0", nil},
		{"abcdefgh-3", string(tenantAcme), strings.Repeat("t", 128), "e", "b", at(59 * time.Second)},
		{"abcdefgh-5", string(tenantAcme), "t", "e", "c", at(-time.Second)},
	}}
	const want = `ID          AGE  TENANT     TICKET          EVENT         REASON
abcdefgh-1  1d   11111111…  12345           6f1c3a52-0d…  x: is not a known fie…
abcdefgh-2  ?    ?          ?               ?             is not valid JSON at…
abcdefgh-3  59s  11111111…  ttttttttttttt…  e             b
abcdefgh-5  0s   11111111…  t               e             c
There are later ones: --after abcdefgh-5
`
	var got strings.Builder
	if err := page.show(&got, 80, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where the service is away nothing more is tried, and how much is left is told.
func TestRetryStopsWhereTheServiceIsAway(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked > 2 {
			w.WriteHeader(503)
			io.WriteString(w, `{"code":"UNAVAILABLE","detail":"not now"}`)
			return
		}
		io.WriteString(w, `{}`)
	}))
	defer s.Close()
	got := do(t, nil, "admin", "dead", "retry", "--admin", s.URL, "a-1", "a-2", "a-3", "a-4", "a-5")
	want := result{1, `{"retried":2}` + "\n", "peal admin: refused: 503 UNAVAILABLE not now: 3 of 5 are left, run it again\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" || asked != 3 {
		t.Errorf("asked %d times (-want +got):\n%s", asked, diff)
	}
}

func TestDeadUsage(t *testing.T) {
	s := newAdminServer(t, 200, "application/json", "{}")
	tenant := string(tenantShared)
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"nothing", nil, []string{"peal admin dead list", "peal admin dead drop", "peal admin dead --help"}},
		{"unknown", []string{"bark"}, []string{"peal admin dead list"}},
		{"an unknown flag", []string{"list", "--bark"}, []string{"bark", "peal admin dead list --help"}},
		{"an argument of list", []string{"list", "a-1"}, []string{"a-1"}},
		{"no limit", []string{"list", "--limit", "0"}, []string{"--limit", "200"}},
		{"a large limit", []string{"list", "--limit", "201"}, []string{"--limit", "200"}},
		{"after nothing", []string{"list", "--after="}, []string{"--after"}},
		{"a bad tenant", []string{"list", "--tenant", "acme"}, []string{"--tenant", "UUID"}},
		{"a tenant that is not set", []string{"list", "--tenant", ""}, []string{"--tenant"}},
		{"two tenants", []string{"list", "--tenant", tenant, "--tenant", tenant}, []string{"tenant", "once"}},
		{"nothing to show", []string{"show"}, []string{"ID", "peal admin dead list"}},
		{"two to show", []string{"show", "a-1", "a-2"}, []string{"one"}},
		{"a bad ID to show", []string{"show", "a\n1"}, []string{"ID"}},
		{"nothing to retry", []string{"retry"}, []string{"IDs", "--all"}},
		{"some and all", []string{"retry", "a-1", "--all"}, []string{"IDs", "--all"}},
		{"an empty ID", []string{"retry", ""}, []string{"ID"}},
		{"a tenant and an ID", []string{"retry", "a-1", "--tenant", tenant}, []string{"--tenant", "--all"}},
		{"all of a tenant that is not set", []string{"retry", "--all", "--tenant="}, []string{"--tenant"}},
		{"no flag of retry", []string{"retry", "a-1", "--yes"}, []string{"yes"}},
		{"nothing to drop", []string{"drop", "--yes"}, []string{"IDs", "--all"}},
		{"nobody who confirms", []string{"drop", "a-1"}, []string{"--yes"}},
		{"nobody who confirms all", []string{"drop", "--all"}, []string{"--yes"}},
		{"no URL", []string{"list", "--admin", "localhost:8081"}, []string{"--admin", "http://"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"admin", "dead"}, tt.args...)
			if len(tt.args) > 1 && tt.name != "no URL" { // else it goes with the command
				args = append(args, "--admin", s.URL)
			}
			wantUsage(t, feed(t, "yes\n", nil, args...), 2, tt.want)
		})
	}
	if len(s.asked) > 0 {
		t.Errorf("asked %q", s.asked)
	}
	for _, tt := range []struct{ args, want string }{
		{"admin --help", "dead "},
		{"admin dead --help", "usage: peal admin dead COMMAND"},
		{"admin dead list --help", "-tenant TENANT"},
		{"admin dead show --help", "usage: peal admin dead show ID"},
		{"admin dead retry a-1 --help", "-all"},
		{"admin dead drop --help", "-yes"},
	} {
		if got := do(t, nil, strings.Fields(tt.args)...); got.status != 0 || !strings.Contains(got.stdout, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.args, got, tt.want)
		}
	}
}
