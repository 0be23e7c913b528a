package node_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

func TestMalformedEventIsRefused(t *testing.T) {
	s := start(t, nil)
	rows := append(s.refusedBodies(goodEvent), keyRefusals()...)
	for _, e := range invalidEvents() {
		rows = append(rows, refusal{e.name, []edit{body(e.event)}, 400, "INVALID_REQUEST", e.detail + ": "})
	}
	inSplit := header("x-tenantid", string(split))
	for field, event := range map[string]string{
		"ticket.assigneeId": goodEvent, "ticket.requesterId": event(`"user-1"`, `""`), "mentions[0]": strings.Replace(shortEvent("e", "t"), `{`, `{"mentions":["a"],`, 1),
	} {
		rows = append(rows, refusal{field + " without a default namespace", []edit{inSplit, body(event)}, 400, "INVALID_REQUEST", field})
	}
	publisher := s.publisher()
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "POST", eventPath, publisher, goodEvent)
	})
	s.wantBacklog(0)
	if n := s.bus.Stats().Events.Load(); n != 0 {
		t.Errorf("%d events were stored", n)
	}
}

func TestMalformedBatchIsRefused(t *testing.T) {
	s := start(t, nil)
	good := batch(goodEvent)
	rows := append(s.refusedBodies(good), keyRefusals()...)
	for name, row := range map[string][2]string{
		"null":                     {`null`, "events: must be 1 to 500"},
		"nothing":                  {`{}`, "events: must be 1 to 500"},
		"no events":                {batch(), "events: must be 1 to 500"},
		"events that are null":     {`{"events":null}`, "events: must be 1 to 500"},
		"501 events":               {batch(shortEvents(501)...), "events: must be 1 to 500"},
		"events of another type":   {`{"events":{"a":1}}`, "events: "},
		"unknown field":            {`{"extra":1,"events":[` + goodEvent + `]}`, "extra: is not a known field"},
		"unknown field at the end": {`{"events":[` + goodEvent + `],"` + strings.Repeat("x", 200) + `":1}`, "body: is not a known field"},
		"field that is not UTF-8":  {"{\"\xff\":1}", "is not a known field"},
		"case variant":             {`{"Events":[]}`, "Events: is not a known field"},
		"repeated":                 {`{"events":[` + goodEvent + `],"events":[]}`, "events: must not be repeated"},
		"cut off":                  {`{"events":[` + goodEvent, "is not valid JSON at byte "},
		"cut off in an event":      {`{"events":[` + goodEvent[:100], "is not valid JSON at byte "},
		"rubbish in an event":      {batch(goodEvent, `{"id":e2}`), "is not valid JSON at byte "},
		"something follows":        {good + good, "is not valid JSON at byte "},
		"rubbish follows":          {good + "x", "is not valid JSON at byte "},
	} {
		rows = append(rows, refusal{name, []edit{body(row[0])}, 400, "INVALID_REQUEST", row[1]})
	}
	publisher := s.publisher()
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "POST", eventsPath, publisher, good)
	})
	s.wantBacklog(0)
}

// The example of the contract is accepted as it stands there.
func TestContractsExampleIsAccepted(t *testing.T) {
	s := start(t, nil)
	taken := s.take(s.publisher(), `{"id":"6f1c…","type":"comment","occurredAt":"2025-07-10T12:35:00.000Z","actor":{"id":"user-abc","name":"Jane Smith","avatar":null},
 "ticket":{"id":"12345","number":"INC-2024-001234","title":"VPN Connection Issue","category":"Network","priority":"high","status":"open","queueId":"net","assigneeId":"user-1","requesterId":"user-9","watcherIds":["user-2"]},
 "previousAssigneeId":"","previousQueueId":"","previousStatus":"","newStatus":"","mentions":["user-3"],"approvers":[],"recipients":[],
 "comment":{"id":"c1","text":"…","internal":false},"approval":{"id":"","decision":"approved"},"sla":{"type":"response","target":"2025-07-10T13:00:00.000Z"},"mergedInto":"","expiresAt":""}`)
	if taken.ID != "6f1c…" || taken.Duplicate {
		t.Errorf("got %+v", taken)
	}
	user := func(id string) string { return `{"id":"` + id + `","namespace":"acme"}` }
	const want = `{"id":"6f1c…","type":"comment","occurredAt":"2025-07-10T12:35:00.000Z","actor":{"id":"user-abc","name":"Jane Smith","avatar":null,"namespace":"acme"},` +
		`"ticket":{"id":"12345","number":"INC-2024-001234","title":"VPN Connection Issue","category":"Network","priority":"high","status":"open","queueId":"net","assigneeId":ONE,"requesterId":NINE,"watcherIds":[TWO]},` +
		`"mentions":[THREE],"comment":{"id":"c1","text":"…"},"approval":{"decision":"approved"},"sla":{"type":"response","target":"2025-07-10T13:00:00.000Z"}}`
	full := strings.NewReplacer("ONE", user("user-1"), "TWO", user("user-2"), "THREE", user("user-3"), "NINE", user("user-9")).Replace(want)
	if diff := cmp.Diff(full, string(s.waiting()[0].data)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// What was accepted keeps its meaning: everybody has a namespace, of the tenant's.
func TestUsersOfAnEventAreResolvedWhenItIsAccepted(t *testing.T) {
	s := start(t, nil)
	const people = `"ticket":{"id":"1","number":"1","title":"T","assigneeId":"a","requesterId":{"id":"r","namespace":"globex"},"watcherIds":["w",{"id":"w","namespace":"globex"}]},` +
		`"previousAssigneeId":"p","mentions":["m"],"approvers":["ap"],"recipients":[{"id":"re","namespace":"acme"}]}`
	in := func(t peal.Tenant) user { u := s.publisher(); u.tenant = t; return u }
	s.take(in(shared), `{"id":"users","type":"comment",`+people)
	for i, actor := range []string{`null`, `{"id":"system","name":"System"}`, `{"id":"x","name":"X"}`, `{"id":"x","name":"X","namespace":"globex"}`, `{"id":"system","name":"Robot","avatar":null}`} {
		s.take(in(shared), fmt.Sprintf(`{"id":"actor-%d","type":"comment","actor":%s,"ticket":{"id":"1","number":"1","title":"T"}}`, i, actor))
	}
	s.take(in(split), `{"id":"actor of no namespace","type":"comment","actor":{"id":"x","name":"X"},"ticket":{"id":"1","number":"1","title":"T"}}`)

	all := s.waiting()
	ref := func(id peal.UserID, ns peal.Namespace) peal.UserRef { return peal.UserRef{ID: id, Namespace: ns} }
	e := all[0]
	if diff := cmp.Diff([]peal.UserRef{ref("a", "acme"), ref("r", "globex"), ref("w", "acme"), ref("w", "globex"), ref("p", "acme"), ref("m", "acme"), ref("ap", "acme"), ref("re", "acme")},
		slices.Concat([]peal.UserRef{e.Ticket.AssigneeID, e.Ticket.RequesterID}, e.Ticket.WatcherIDs, []peal.UserRef{e.PreviousAssigneeID}, e.Mentions, e.Approvers, e.Recipients)); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	var actors []peal.Namespace
	for _, e := range all[1:] {
		if e.Actor == nil {
			actors = append(actors, "nobody")
			continue
		}
		actors = append(actors, e.Actor.Namespace)
	}
	if diff := cmp.Diff([]peal.Namespace{"nobody", "", "acme", "globex", "acme", ""}, actors); diff != "" {
		t.Errorf("namespaces of actors (-want +got):\n%s", diff)
	}
}

// A publisher has the room that the contract gives, whatever the namespaces of the
// users take that they get.
func TestEventOfManyUsersIsAccepted(t *testing.T) {
	s := start(t, nil)
	many := `"` + strings.Repeat(`j","`, 3900) + `j"`
	for name, e := range map[string]string{
		"users": strings.Replace(shortEvent("users", "t"), `{`, `{"recipients":[`+many+`],`, 1),
		"text":  strings.Replace(shortEvent("text", "t"), `{`, `{"comment":{"text":"`+strings.Repeat(`é`, 8000)+`"},`, 1),
		"lines": strings.Replace(shortEvent("lines", "t"), `{`, `{"comment":{"text":"a\r\n\tb"},`, 1),
	} {
		if taken := s.take(s.publisher(), e); taken.ID != name {
			t.Errorf("%s: got %+v", name, taken)
		}
	}
	if all := s.waiting(); len(all) != 3 {
		t.Errorf("%d are stored, want 3", len(all))
	}
}

func TestEventsAreIdempotent(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	elsewhere := publisher
	elsewhere.tenant = shared
	key, other := header("Idempotency-Key", "retry 1"), header("Idempotency-Key", "retry 2")
	bare := shortEvent("", "t")
	named := shortEvent("e1", "t")
	made := make(map[string]bool) // ids

	for _, row := range []struct {
		name      string
		by        user
		event     string
		edits     []edit
		duplicate bool
	}{
		{"an id", publisher, named, nil, false},
		{"again", publisher, named, nil, true},
		{"of another ticket", publisher, shortEvent("e1", "other"), nil, true},
		{"in another tenant", elsewhere, named, nil, false},
		{"id and key", publisher, named, []edit{key}, true},
		{"a key", publisher, bare, []edit{key}, false},
		{"a key again", publisher, bare, []edit{key}, true},
		{"another key", publisher, bare, []edit{other}, false},
		{"a key in another tenant", elsewhere, bare, []edit{key}, false},
		{"neither", publisher, bare, nil, false},
		{"nor here", publisher, bare, nil, false},
	} {
		taken := s.take(row.by, row.event, row.edits...)
		if taken.Duplicate != row.duplicate {
			t.Errorf("%s: got %+v, want duplicate: %v", row.name, taken, row.duplicate)
		}
		if taken.ID != "e1" && !row.duplicate && made[taken.ID] {
			t.Errorf("%s: got %s, which another has", row.name, taken.ID)
		}
		made[taken.ID] = true
	}

	// In a batch by the key and the place.
	first := s.takeAll(publisher, []string{bare, named, bare, bare}, key)
	again := s.takeAll(publisher, []string{bare, named, bare, bare, bare}, key)
	for i, want := range []bool{true, true, true, true, false} {
		if again[i].Duplicate != want || i < len(first) && (first[i].ID != again[i].ID || first[i].Duplicate != (i == 1)) {
			t.Errorf("place %d: got %+v, and before %+v", i, again[i], first)
		}
	}
	for _, e := range s.takeAll(elsewhere, []string{bare, bare}, key) {
		if e.Duplicate {
			t.Errorf("in another tenant: got %+v", e)
		}
	}
	for i, e := range s.takeAll(publisher, []string{bare, bare}) {
		if e.Duplicate {
			t.Errorf("without a key, place %d: got %+v", i, e)
		}
	}

	all := s.waiting()
	ids := make(map[string]int)
	for _, e := range all {
		ids[e.tenant+"/"+e.ID]++
	}
	if len(ids) != len(all) || len(all) != 2+3+2+3+1+2+2 {
		t.Errorf("%d are stored, of %d ids:\n%q", len(all), len(ids), idsOf(all))
	}
	s.post(publisher, publication("", `"jane"`), key) // which has a key of its own
	if got := s.metric("peal_events_accepted_total"); got != float64(len(all)) {
		t.Errorf("%v are counted, want %d", got, len(all))
	}
	if got := s.metric("peal_events_duplicate_total"); got != 9 {
		t.Errorf("%v duplicates are counted, want 9", got)
	}
	if got := s.metric("peal_events_store_duration_seconds_count"); got == 0 {
		t.Error("nothing is measured")
	}
}

// One that is not valid has its problem in its place, and nothing else is refused
// for it.
func TestBatchGoesOnAroundWhatIsInvalid(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	rows := invalidEvents()
	var events, want []string
	for i, row := range rows {
		id := fmt.Sprint("good-", i)
		if len(row.event) > 8000 { // or it would not fit
			continue
		}
		events = append(events, row.event, shortEvent(id, "t"))
		want = append(want, row.detail, id)
	}
	if len(events) > 500 {
		t.Fatalf("%d are too many for a batch", len(events))
	}
	var good []string
	for i, r := range s.takeAll(publisher, events) {
		if i%2 == 1 {
			if good = append(good, want[i]); r != (takenEvent{ID: want[i]}) {
				t.Errorf("%s: got %+v", want[i], r)
			}
			continue
		}
		if r.Status != 400 || r.Code != "INVALID_REQUEST" || !strings.HasPrefix(r.Detail, want[i]+": ") || r.ID != "" || strings.Contains(r.Detail, canary) {
			t.Errorf("%.200s: got %+v, want %s", events[i], r, want[i])
		}
	}
	if diff := cmp.Diff(good, idsOf(s.waiting())); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}

	before := s.backlog()
	for _, r := range s.takeAll(publisher, []string{`{}`, `null`, `7`}) {
		if r.Status != 400 {
			t.Errorf("none is valid: got %+v", r)
		}
	}
	s.wantBacklog(before)
}

func TestBatchIsStoredInItsOrder(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	var events, want []string
	for i := range 500 {
		id := fmt.Sprint("e", i)
		if i%10 == 9 { // the first of its id has come
			id = fmt.Sprint("e", i-5)
		} else {
			want = append(want, fmt.Sprint("ticket-", i%7, "/", id))
		}
		events = append(events, shortEvent(id, fmt.Sprint("ticket-", i%7)))
	}
	for i, r := range s.takeAll(publisher, events) {
		if duplicate := i%10 == 9; r.Duplicate != duplicate || r.Status != 0 {
			t.Errorf("place %d: got %+v, want duplicate: %v", i, r, duplicate)
		}
	}
	var got []string
	for _, e := range s.waiting() {
		got = append(got, e.Ticket.ID+"/"+e.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for i, r := range s.takeAll(publisher, events) {
		if !r.Duplicate {
			t.Errorf("again, place %d: got %+v", i, r)
		}
	}
	s.wantBacklog(uint64(len(want)))
}

// A tenant that sends too much hears how long to wait, and nobody else is refused
// for it. What is refused is not stored, and does not count; nor is what is invalid.
func TestEventsOfATenantAreBounded(t *testing.T) {
	s := start(t, func(c *config) { c.node.EventsPerTenant = 1 }) // and a burst of 500
	publisher := s.publisher()
	elsewhere := publisher
	elsewhere.tenant = shared
	ask := func(path, body string) answer {
		return s.do(s.request(context.Background(), "POST", path, publisher, body))
	}
	invalid := make([]string, 400)
	for i := range invalid {
		invalid[i] = `{}`
	}
	s.takeAll(publisher, append(invalid, shortEvents(100)...))
	s.takeAll(publisher, shortEvents(300)) // a duplicate counts as much
	s.wantBacklog(300)

	a := ask(eventsPath, batch(shortEvents(150)...))
	wantProblem(t, a, 429, "RATE_LIMIT", "Retry-After")
	if wait, _ := strconv.Atoi(a.header.Get("Retry-After")); wait < 30 || wait > 52 {
		t.Errorf("Retry-After: got %d, want what 150 of 100 lack, and up to 2 s more", wait)
	}
	last := answer{status: 202}
	taken := 0
	for ; last.status == 202 && taken < 200; taken++ {
		last = ask(eventPath, shortEvent(fmt.Sprint("single-", taken), "t"))
	}
	wantProblem(t, last, 429, "RATE_LIMIT", "Retry-After")
	if taken < 100 || taken > 130 {
		t.Errorf("%d were taken, want the 100 that the refused batch has left", taken)
	}
	s.wantBacklog(uint64(300 + taken - 1))
	wantProblem(t, ask(eventPath, `{}`), 400, "INVALID_REQUEST", "type")
	if got := s.metric(`peal_requests_refused_total{code="RATE_LIMIT",reason="tenant"}`); got != 2 {
		t.Errorf("counted %v times, want twice", got)
	}
	s.takeAll(elsewhere, shortEvents(500))
	s.post(publisher, publication("n1", `"jane"`)) // is not counted
}

func TestEventRefusalsAreDecidedInOrder(t *testing.T) {
	s := start(t, func(c *config) { c.node.EventsPerTenant = 1 })
	publisher, jane := s.publisher(), s.jane()
	s.takeAll(publisher, shortEvents(490))
	s.nats.Close()
	exhaust := func() { // also what is granted anew each second
		for s.do(s.request(context.Background(), "POST", eventPath, publisher, goodEvent)).status != 429 {
		}
	}
	for _, tt := range []struct {
		path, good, bad string
	}{
		{eventPath, goodEvent, event(`"12345"`, `""`)},
		{eventsPath, batch(goodEvent), batch()},
	} {
		faulty := func(mended ...edit) *http.Request {
			return s.request(context.Background(), "POST", tt.path+"/x", user{"acme", "nonsense", "short"}, tt.bad,
				append([]edit{header("Idempotency-Key", "")}, mended...)...)
		}
		mended := s.wantInOrder(faulty, []fault{
			{404, "NOT_FOUND", "", func(r *http.Request) { r.URL.Path = tt.path; r.Method = "GET" }},
			{405, "METHOD_NOT_ALLOWED", "", method("POST")},
			{400, "INVALID_REQUEST", "Idempotency-Key", header("Idempotency-Key")},
			{400, "INVALID_REQUEST", "", body(tt.good)},
			{401, "UNAUTHENTICATED", "", header("Authorization", "Bearer "+jane.token)},
			{400, "INVALID_REQUEST", "x-tenantid", header("x-tenantid", string(globex))},
			{403, "FORBIDDEN", "", header("x-tenantid", string(acme))},
			{403, "FORBIDDEN", "", func(r *http.Request) {
				exhaust()
				r.Header.Set("Authorization", "Bearer "+publisher.token)
				r.Header.Set("realmname", publisher.realm)
			}},
			{429, "RATE_LIMIT", "", header("x-tenantid", string(shared))},
		})
		wantProblem(t, s.do(faulty(mended...)), 503, "UNAVAILABLE", "")
	}
}

// A JetStream that hangs, or has no room, is no reason to let a publisher hang.
func TestEventsAreRefusedWhereTheyCantBeStored(t *testing.T) {
	for name, trouble := range map[string]func(*site, *sluggish){
		"away":     func(s *site, _ *sluggish) { s.nats.Close() },
		"hangs":    func(_ *site, nats *sluggish) { nats.delay.Store(int64(4500 * time.Millisecond)) },
		"is tight": func(s *site, _ *sluggish) { s.fillEvents() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nats *sluggish
			s := start(t, func(c *config) { c.hang = func(server *sluggish) { nats = server } })
			publisher := s.publisher()
			s.take(publisher, shortEvent("before", "t"))
			trouble(s, nats)
			var asking sync.WaitGroup
			for path, body := range map[string]string{eventPath: goodEvent, eventsPath: batch(shortEvents(20)...)} {
				asking.Go(func() {
					began := time.Now()
					a, err := s.try(s.client, s.request(context.Background(), "POST", path, publisher, body))
					if d := time.Since(began); d > 5*time.Second || err != nil || a.status != 503 || a.Code != "UNAVAILABLE" || a.header.Get("Retry-After") == "" {
						t.Errorf("%s answered %d %s (%v) after %v, want 503 within 5 s", path, a.status, a.body, err, d)
					}
				})
			}
			asking.Wait()
			if name == "is tight" {
				s.wantBacklog(1)
			}
			if name != "hangs" {
				return
			}
			nats.delay.Store(0)
			eventually(t, "JetStream to be back", func() bool {
				return s.do(s.request(context.Background(), "POST", eventPath, publisher, goodEvent)).status == 202
			})
		})
	}
}

// Where only some fit, each hears what became of it, and a retry brings the rest.
func TestBatchThatIsStoredInPart(t *testing.T) {
	s := start(t, nil)
	s.boundEvents(func(c *jetstream.StreamConfig) { c.MaxMsgs = 3 })
	publisher := s.publisher()
	events := append(shortEvents(6), `{}`)
	failed := 0
	for i, r := range s.takeAll(publisher, events) {
		switch {
		case i == 6:
			if r.Status != 400 {
				t.Errorf("the invalid one: got %+v", r)
			}
		case r.Status == 503 && r.Code == "UNAVAILABLE" && r.ID == "":
			failed++
		case r != (takenEvent{ID: fmt.Sprint("e", i)}) || failed > 0:
			t.Errorf("place %d after %d that failed: got %+v", i, failed, r)
		}
	}
	if failed != 3 {
		t.Errorf("%d were refused, want 3", failed)
	}
	s.boundEvents(func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	for i, r := range s.takeAll(publisher, events[:6]) {
		if r.Duplicate != (i < 3) || r.Status != 0 {
			t.Errorf("again, place %d: got %+v", i, r)
		}
	}
	if diff := cmp.Diff([]string{"e0", "e1", "e2", "e3", "e4", "e5"}, idsOf(s.waiting())); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}
