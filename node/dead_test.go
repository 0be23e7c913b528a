package node_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// deadLetter is what is told of one.
type deadLetter struct {
	ID, Tenant, TicketID, EventID, Reason string
	Buried, Stored                        *peal.Timestamp
	Size                                  int
	Whole                                 bool
	Event                                 json.RawMessage
	Raw                                   *string
}

// bury makes dead letters of all that waits, with a reason.
func (s *site) bury(n int, reason string) {
	s.t.Helper()
	b := bustest.Open(s.t, s.nats, nil) // a process works once
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan struct{}, n)
	working := make(chan error, 1)
	go func() {
		working <- b.Work(ctx, func(ctx context.Context, task *bus.Task) {
			var e peal.TicketEvent
			json.Unmarshal(task.Data, &e)
			if err := task.Bury(ctx, e.ID, reason); err != nil {
				s.t.Error(err)
			}
			done <- struct{}{}
		})
	}()
	for range n {
		select {
		case <-done:
		case <-ctx.Done():
			s.t.Fatal("waited in vain for an event to be buried")
		}
	}
	cancel()
	if err := <-working; err != nil {
		s.t.Error(err)
	}
}

// onBus publishes past the API, as whoever reaches NATS can.
func (s *site) onBus(tenant, ticket string, data []byte) {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.nats))
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("peal.event.local."+tenant+"."+ticket, data, patience); err != nil {
		s.t.Fatal(err)
	}
}

// onAdmin asks the admin port.
func (s *site) onAdmin(method, path string, edits ...edit) answer {
	s.t.Helper()
	r := s.request(context.Background(), method, "", user{}, "", edits...)
	r.URL.Host = strings.TrimPrefix(s.admin, "http://")
	path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	r.URL.Path = path
	return s.do(r)
}

// dead lists dead letters.
func (s *site) dead(query string) (all []deadLetter, next *string) {
	s.t.Helper()
	a := s.onAdmin("GET", "/dead"+query)
	var page struct {
		DeadLetters []deadLetter
		Next        *string
	}
	if err := json.Unmarshal(a.body, &page); err != nil || a.status != 200 {
		s.t.Fatalf("list: got %d %s (%v)", a.status, a.body, err)
	}
	return page.DeadLetters, page.Next
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	elsewhere := publisher
	elsewhere.tenant = shared
	s.take(publisher, shortEvent("e1", "t/1"))
	s.take(elsewhere, shortEvent("e2", "t/2"))
	s.bury(2, "the rule\x1b[2J\nhas panicked")
	s.onBus(string(acme), "=dA", []byte(`{"id":"<b>`+canary+"</b>\u202e"+`",  "x":1,"x":12345678901234567890}`))
	s.bury(1, "x: is not a known field")
	hostile := []string{"", "{", "\xff\xfe", "{\"a\":\"\xff\"}", "\x1b[2J" + canary, strings.Repeat("x", 100_000)}
	for _, data := range hostile {
		s.onBus("nobody", "x", []byte(data))
		s.bury(1, "is not valid JSON")
	}

	all, next := s.dead("")
	if len(all) != 3+len(hostile) || next != nil {
		t.Fatalf("got %d, next %v, want all on one page", len(all), next)
	}
	got := all[0]
	if got.Tenant != string(acme) {
		got = all[1] // both tickets were worked on at once
	}
	id := got.ID
	if got.Buried == nil || got.Stored == nil || time.Since(got.Buried.Time).Abs() > patience || got.Size == 0 {
		t.Errorf("got %+v", got)
	}
	got.Buried, got.Stored, got.Size, got.ID = nil, nil, 0, ""
	if diff := cmp.Diff(deadLetter{Tenant: string(acme), TicketID: "t/1", EventID: "e1", Reason: "the rule\x1b[2J has panicked", Whole: true}, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	of, _ := s.dead("?tenant=" + strings.ToUpper(string(shared)))
	if len(of) != 1 || of[0].EventID != "e2" {
		t.Errorf("of a tenant: got %+v", of)
	}
	if none, _ := s.dead("?tenant=" + string(globex)); len(none) != 0 {
		t.Errorf("of a tenant without: got %+v", none)
	}

	show := func(id string) (d deadLetter) {
		t.Helper()
		r := s.request(context.Background(), "GET", "", user{}, "")
		r.URL.Host, r.URL.Path = strings.TrimPrefix(s.admin, "http://"), "/dead/"+id
		a, err := s.try(s.client, r)
		if err == nil {
			err = json.Unmarshal(a.body, &d)
		}
		if err != nil || a.status != 200 || d.ID != id {
			t.Fatalf("show %s: got %d %s (%v)", id, a.status, a.body, err)
		}
		return d
	}
	var event peal.TicketEvent
	if d := show(id); json.Unmarshal(d.Event, &event) != nil || event.ID != "e1" || event.Ticket.Title != canary || d.Raw != nil || d.Reason == "" {
		t.Errorf("shown: got %+v", d)
	}
	if d := show(all[2].ID); !strings.Contains(string(d.Event), `"x":1,"x":12345678901234567890}`) || d.Raw != nil {
		t.Errorf("JSON that is no event: got %s", d.Event)
	}
	for i, data := range hostile {
		d := show(all[3+i].ID)
		raw := []byte(nil)
		if d.Raw != nil {
			raw, _ = base64.StdEncoding.DecodeString(*d.Raw)
		}
		if d.Event != nil || d.Raw == nil || !strings.HasPrefix(data, string(raw)) || d.Whole != (len(raw) == len(data)) || d.Size != len(data) || d.Tenant != "" {
			t.Errorf("%.20q: got %+v", data, d)
		}
	}
}

func TestDeadLettersAreListedByThePage(t *testing.T) {
	s := start(t, nil)
	const many = 7
	s.takeAll(s.publisher(), shortEvents(many))
	s.bury(many, "because")
	var got []string
	after := ""
	for pages := 1; ; pages++ {
		page, next := s.dead("?limit=3" + after)
		for _, d := range page {
			got = append(got, d.EventID)
		}
		if next == nil {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		if *next != page[2].ID {
			t.Errorf("next is %s, want the last of the page", *next)
		}
		after = "&after=" + *next
	}
	if diff := cmp.Diff([]string{"e0", "e1", "e2", "e3", "e4", "e5", "e6"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is retried waits to be worked on again, as it was, and is no dead letter any
// more; what is dropped is gone. Each leaves a line in the log.
func TestDeadLettersAreRetriedAndDropped(t *testing.T) {
	s := start(t, nil)
	s.takeAll(s.publisher(), shortEvents(3))
	before := s.waiting()
	s.bury(3, "because")
	all, _ := s.dead("")

	for i, tt := range []struct {
		method, path string
		status       int
		logged       string
	}{
		{"POST", "/dead/" + all[1].ID + "/retry", 202, "dead letter retried"},
		{"DELETE", "/dead/" + all[0].ID, 200, "dead letter dropped"},
	} {
		a := s.onAdmin(tt.method, tt.path)
		if want := fmt.Sprintf("{\"id\":%q}\n", all[1-i].ID); a.status != tt.status || string(a.body) != want {
			t.Errorf("%s: got %d %s, want %d %s", tt.path, a.status, a.body, tt.status, want)
		}
		line := fmt.Sprintf("msg=%q audit=true", tt.logged)
		if logs := s.logs.String(); strings.Count(logs, line) != 1 || !strings.Contains(logs, "id="+all[1-i].ID) || !strings.Contains(logs, `by="admin port, 127.0.0.1`) {
			t.Errorf("logged, want %s:\n%s", line, logs)
		}
		wantProblem(t, s.onAdmin(tt.method, tt.path), 404, "NOT_FOUND", "no dead letter")
	}
	if left, _ := s.dead(""); len(left) != 1 || left[0].ID != all[2].ID {
		t.Errorf("left: %+v", left)
	}
	again := s.waiting()
	if len(again) != 1 || string(again[0].data) != string(before[1].data) || again[0].tenant != string(acme) {
		t.Errorf("waiting again: %+v, want %s", again, before[1].data)
	}
	s.bury(1, "because again")
	if left, _ := s.dead(""); len(left) != 2 || left[1].EventID != "e1" {
		t.Errorf("buried again: %+v", left)
	}
}

func TestDeadLetterCallsThatAreRefused(t *testing.T) {
	s := start(t, nil)
	s.onBus(string(acme), "=dA", []byte(strings.Repeat("x", 100_000)))
	s.onBus("nobody", "x", []byte(`{}`))
	s.bury(2, "because")
	all, _ := s.dead("")
	cut, lost := all[0].ID, all[1].ID
	if all[0].Whole {
		cut, lost = lost, cut
	}
	epoch, _, _ := strings.Cut(cut, "-")
	for _, tt := range []struct {
		method, path string
		edits        []edit
		status       int
		code, detail string
	}{
		{"GET", "/dead?limit=0", nil, 400, "INVALID_REQUEST", "limit: must be a number from 1 to 200"},
		{"GET", "/dead?limit=201", nil, 400, "INVALID_REQUEST", "limit"},
		{"GET", "/dead?limit=01", nil, 400, "INVALID_REQUEST", "limit"},
		{"GET", "/dead?limit=", nil, 400, "INVALID_REQUEST", "limit"},
		{"GET", "/dead?limit=1&limit=2", nil, 400, "INVALID_REQUEST", "limit: must be given once"},
		{"GET", "/dead?tenant=acme", nil, 400, "INVALID_REQUEST", "tenant: must be a UUID"},
		{"GET", "/dead?tenant=*", nil, 400, "INVALID_REQUEST", "tenant: must be a UUID"},
		{"GET", "/dead?tenant=", nil, 400, "INVALID_REQUEST", "tenant: must not be empty"},
		{"GET", "/dead?Tenant=" + string(acme), nil, 400, "INVALID_REQUEST", "query: must have no other parameters"},
		{"GET", "/dead?after=", nil, 400, "INVALID_REQUEST", "after: must not be empty"},
		{"GET", "/dead?after=x", nil, 400, "INVALID_REQUEST", "after"},
		{"GET", "/dead?after=aaaaaaaa-1", nil, 400, "INVALID_REQUEST", "after"},
		{"GET", "/dead?after=%zz", nil, 400, "INVALID_REQUEST", "query"},
		{"GET", "/dead", []edit{body("{}")}, 400, "INVALID_REQUEST", "body"},
		{"GET", "/dead", []edit{header("Origin", s.admin)}, 403, "FORBIDDEN", "browser"},
		{"GET", "/dead/" + cut, []edit{header("Origin", s.admin)}, 403, "FORBIDDEN", "browser"},
		{"GET", "/dead/" + cut + "?x=" + canary, nil, 400, "INVALID_REQUEST", "query: must be empty"},
		{"GET", "/dead/aaaaaaaa-1", nil, 404, "NOT_FOUND", "no dead letter"},
		{"GET", "/dead/" + epoch + "-9", nil, 404, "NOT_FOUND", "no dead letter"},
		{"GET", "/dead/" + epoch + "-18446744073709551615", nil, 404, "NOT_FOUND", "no dead letter"},
		{"GET", "/dead?after=" + epoch + "-18446744073709551615", nil, 400, "INVALID_REQUEST", "after"},
		{"GET", "/dead/*", nil, 404, "NOT_FOUND", "no dead letter"},
		{"GET", "/dead/", nil, 404, "NOT_FOUND", "nothing at this path"},
		{"POST", "/dead/" + cut + "/retry", nil, 400, "INVALID_REQUEST", "publish the event again"},
		{"POST", "/dead/" + lost + "/retry", nil, 400, "INVALID_REQUEST", "publish the event again"},
		{"POST", "/dead/" + cut + "/retry", []edit{header("Origin", "null")}, 403, "FORBIDDEN", "browser"},
		{"POST", "/dead/" + cut + "/retry", []edit{body("{}")}, 400, "INVALID_REQUEST", "body"},
		{"POST", "/dead/" + epoch + "-9/retry", nil, 404, "NOT_FOUND", "no dead letter"},
		{"POST", "/dead/" + cut, nil, 405, "METHOD_NOT_ALLOWED", ""},
		{"GET", "/dead/" + cut + "/retry", nil, 405, "METHOD_NOT_ALLOWED", ""},
		{"DELETE", "/dead", nil, 405, "METHOD_NOT_ALLOWED", ""},
		{"DELETE", "/dead/" + cut, []edit{header("Origin", s.admin)}, 403, "FORBIDDEN", "browser"},
		{"DELETE", "/dead/" + cut + "?all=true", nil, 400, "INVALID_REQUEST", "query"},
		{"DELETE", "/dead/" + epoch + "-0", nil, 404, "NOT_FOUND", "no dead letter"},
		{"DELETE", "/dead/x", nil, 404, "NOT_FOUND", "no dead letter"},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			wantProblem(t, s.onAdmin(tt.method, tt.path, tt.edits...), tt.status, tt.code, tt.detail)
		})
	}
	if left, _ := s.dead(""); len(left) != 2 {
		t.Errorf("%d are left, want both", len(left))
	}
	s.wantBacklog(0)
	for _, path := range []string{"/dead", "/dead/" + cut} { // nothing of it on the public port
		if a := s.do(s.request(context.Background(), "GET", path, user{}, "")); a.status != http.StatusNotFound {
			t.Errorf("GET %s on the public port: got %d", path, a.status)
		}
	}

	s.nats.Close()
	for path, method := range map[string]string{"/dead": "GET", "/dead/" + cut: "GET", "/dead/" + lost: "DELETE", "/dead/" + lost + "/retry": "POST"} {
		wantProblem(t, s.onAdmin(method, path), 503, "UNAVAILABLE", "")
	}
}
