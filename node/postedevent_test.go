package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/intake"
	"github.com/pealhq/peal/node"
)

const (
	eventPath  = node.Base + "/ticket/event"
	eventsPath = node.Base + "/ticket/events"
)

// goodEvent is an event that is accepted. Rows replace a part of it.
const goodEvent = `{"id":"e1","type":"comment","occurredAt":"2025-07-10T12:35:00.000Z","actor":{"id":"user-abc","name":"` + canary + `","avatar":null},` +
	`"ticket":{"id":"12345","number":"INC-1","title":"` + canary + `","category":"Network","priority":"high","status":"open","queueId":"net","assigneeId":"user-1","requesterId":"user-9","watcherIds":["user-2"]},` +
	`"previousAssigneeId":"","previousQueueId":"","previousStatus":"","newStatus":"","mentions":["user-3"],"approvers":[],"recipients":[],` +
	`"comment":{"id":"c1","text":"` + canary + `","internal":false},"approval":{"id":"","decision":""},"sla":{"type":"","target":""},"mergedInto":"","expiresAt":""}`

// event is the good event with a part replaced.
func event(old, new string) string {
	if !strings.Contains(goodEvent, old) {
		panic("not in the good event: " + old)
	}
	return strings.Replace(goodEvent, old, new, 1)
}

// shortEvent is an event with no more than it must have, and an id if that is not "".
func shortEvent(id, ticket string) string {
	name := ""
	if id != "" {
		name = fmt.Sprintf(`"id":%q,`, id)
	}
	return fmt.Sprintf(`{%s"type":"comment","ticket":{"id":%q,"number":"INC-1","title":"%s"}}`, name, ticket, canary)
}

// shortEvents makes as many, of one ticket.
func shortEvents(n int) (all []string) {
	for i := range n {
		all = append(all, shortEvent(fmt.Sprint("e", i), "t"))
	}
	return all
}

func batch(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

// invalidEvent is an event that must be refused by itself, in a batch too.
type invalidEvent struct{ name, detail, event string }

// invalidEvents are of every bound that an event has.
func invalidEvents() []invalidEvent {
	long := strings.Repeat("x", 129)
	rows := []invalidEvent{
		{"not an object", "body", `["` + canary + `"]`},
		{"a text", "body", `"` + canary + `"`},
		{"null", "type", `null`},
		{"nothing", "type", `{}`},
		{"no type", "type", event(`"type":"comment",`, ``)},
		{"unknown type", "type", event(`"comment"`, `"Comment"`)},
		{"type that is null", "type", event(`"comment"`, `null`)},
		{"type of another type", "type", event(`"comment"`, `7`)},
		{"unknown field", "colour", event(`{"id"`, `{"colour":"`+canary+`","id"`)},
		{"unknown field of the actor", "actor.age", event(`"avatar":null`, `"avatar":null,"age":1`)},
		{"unknown field of the ticket", "ticket.age", event(`"number"`, `"age":1,"number"`)},
		{"unknown field of the comment", "comment.html", event(`"internal"`, `"html":"","internal"`)},
		{"unknown field of the approval", "approval.by", event(`"decision"`, `"by":"","decision"`)},
		{"unknown field of the SLA", "sla.name", event(`"target"`, `"name":"","target"`)},
		{"unknown field of a user", "mentions[0].realm", event(`"user-3"`, `{"id":"a","namespace":"acme","realm":"acme"}`)},
		{"case variant", "Type", event(`"type"`, `"Type"`)},
		{"case variant below", "ticket.Title", event(`"title"`, `"Title"`)},
		{"repeated field", "newStatus", event(`"newStatus":""`, `"newStatus":"a","newStatus":"b"`)},
		{"repeated field below", "ticket.title", event(`"title"`, `"title":"a","title"`)},
		{"ticket of another type", "ticket", `{"type":"comment","ticket":"12345"}`},
		{"ticket that is null", "ticket.id", `{"type":"comment","ticket":null}`},
		{"title of another type", "ticket.title", event(`"title":"`+canary+`"`, `"title":17`)},
		{"mentions of another type", "mentions", event(`["user-3"]`, `"user-3"`)},
		{"watchers of another type", "ticket.watcherIds", event(`["user-2"]`, `{"user-2":true}`)},
		{"internal of another type", "comment.internal", event(`false`, `"false"`)},
		{"comment of another type", "comment", event(`{"id":"c1","text":"`+canary+`","internal":false}`, `"`+canary+`"`)},
		{"no ticket", "ticket.id", `{"type":"comment"}`},
		{"no ticket id", "ticket.id", event(`"12345"`, `""`)},
		{"no ticket number", "ticket.number", event(`"INC-1"`, `""`)},
		{"no title", "ticket.title", event(`"title":"`+canary+`",`, ``)},
		{"title too long", "ticket.title", event(`"title":"`+canary, `"title":"`+strings.Repeat("ü", 301))},
		{"title that is not UTF-8", "ticket.title", event(`"title":"`+canary, `"title":"`+"\xff")},
		{"title with half a character", "ticket.title", event(`"title":"`+canary, `"title":"\ud83d`)},
		{"comment that is not UTF-8", "comment.text", event(`"text":"`+canary, `"text":"`+"\xc3")},
		{"comment with a control character", "comment.text", event(`"text":"`+canary, `"text":"\u001b[2J`)},
		{"comment with a C1 control character", "comment.text", event(`"text":"`+canary, `"text":"\u0085`)},
		{"decision", "approval.decision", event(`"decision":""`, `"decision":"maybe"`)},
		{"decision of both", "approval.decision", event(`"decision":""`, `"decision":"approved|rejected"`)},
		{"SLA", "sla.type", event(`"sla":{"type":""`, `"sla":{"type":"Response"`)},
		{"no RFC 3339 time", "occurredAt", event(`"2025-07-10T12:35:00.000Z"`, `"10 July 2025"`)},
		{"no RFC 3339 time of an SLA", "sla.target", event(`"target":""`, `"target":"soon"`)},
		{"no RFC 3339 time to expire", "expiresAt", event(`"expiresAt":""`, `"expiresAt":1752150900`)},
		{"actor without an id", "actor.id", event(`"id":"user-abc"`, `"id":""`)},
		{"actor without a name", "actor.name", event(`"name":"`+canary+`"`, `"name":""`)},
		{"actor with a long name", "actor.name", event(`"name":"`+canary, `"name":"`+strings.Repeat("ü", 301))},
		{"actor with a name of lines", "actor.name", event(`"name":"`+canary, `"name":"a\nb`)},
		{"actor whose avatar is no https", "actor.avatar", event(`"avatar":null`, `"avatar":"http://x/a.png"`)},
		{"actor of a malformed namespace", "actor.namespace", event(`"avatar":null`, `"namespace":"*"`)},
		{"actor of another tenant's namespace", "actor.namespace", event(`"avatar":null`, `"namespace":"globex"`)},
		{"too large", "event", event(`"text":"`+canary, `"text":"`+strings.Repeat("x", 16384))},
		{"too large for its users", "event", event(`["user-3"]`, `["j"`+strings.Repeat(`,"j"`, 4095)+`]`)},
		{"too large for their namespaces", "event", event(`["user-3"]`, `[{"id":"j","namespace":"acme"}`+strings.Repeat(`,{"id":"j","namespace":"acme"}`, 600)+`]`)},
	}
	for field, with := range map[string]func(id string) string{
		"id":              func(id string) string { return event(`"id":"e1"`, `"id":"`+id+`"`) },
		"ticket.id":       func(id string) string { return event(`"12345"`, `"`+id+`"`) },
		"ticket.number":   func(id string) string { return event(`"INC-1"`, `"`+id+`"`) },
		"ticket.queueId":  func(id string) string { return event(`"net"`, `"`+id+`"`) },
		"previousQueueId": func(id string) string { return event(`"previousQueueId":""`, `"previousQueueId":"`+id+`"`) },
		"comment.id":      func(id string) string { return event(`"c1"`, `"`+id+`"`) },
		"approval.id":     func(id string) string { return event(`"approval":{"id":""`, `"approval":{"id":"`+id+`"`) },
		"mergedInto":      func(id string) string { return event(`"mergedInto":""`, `"mergedInto":"`+id+`"`) },
		"actor.id":        func(id string) string { return event(`"user-abc"`, `"`+id+`"`) },
	} {
		rows = append(rows,
			invalidEvent{field + " too long", field, with(long)},
			invalidEvent{field + " of more than 128 bytes", field, with(strings.Repeat("ü", 65))},
			invalidEvent{field + " with a line break", field, with(`a\nb`)},
			invalidEvent{field + " with a NUL", field, with(`\u0000`)},
		)
	}
	for field, old := range map[string]string{
		"ticket.title": `"title":"` + canary, "ticket.category": `"category":"Network`, "ticket.priority": `"priority":"high`,
		"ticket.status": `"status":"open`, "previousStatus": `"previousStatus":"`, "newStatus": `"newStatus":"`,
	} {
		for _, c := range []string{`\n`, `\t`, `\u0000`, `\u001b`, `\u007f`, `\u009b`} {
			rows = append(rows, invalidEvent{field + " with " + c, field, event(old, old+c)})
		}
	}
	for field, with := range map[string]func(ref string) string{
		"ticket.assigneeId":    func(ref string) string { return event(`"user-1"`, ref) },
		"ticket.requesterId":   func(ref string) string { return event(`"user-9"`, ref) },
		"previousAssigneeId":   func(ref string) string { return event(`"previousAssigneeId":""`, `"previousAssigneeId":`+ref) },
		"ticket.watcherIds[1]": func(ref string) string { return event(`["user-2"]`, `["user-2",`+ref+`]`) },
		"mentions[3]":          func(ref string) string { return event(`["user-3"]`, `["a","b","c",`+ref+`]`) },
		"approvers[0]":         func(ref string) string { return event(`"approvers":[]`, `"approvers":[`+ref+`]`) },
		"recipients[0]":        func(ref string) string { return event(`"recipients":[]`, `"recipients":[`+ref+`]`) },
	} {
		rows = append(rows,
			invalidEvent{field + " a number", field, with(`7`)},
			invalidEvent{field + " too long", field, with(`"` + long + `"`)},
			invalidEvent{field + " with a control character", field, with(`"\u0001"`)},
			invalidEvent{field + " without an id", field, with(`{"namespace":"acme"}`)},
			invalidEvent{field + " without a namespace", field, with(`{"id":"jane"}`)},
			invalidEvent{field + " of nothing", field, with(`{}`)},
			invalidEvent{field + " of a malformed namespace", field, with(`{"id":"jane","namespace":"*"}`)},
			invalidEvent{field + " of an unknown namespace", field, with(`{"id":"jane","namespace":"nobody"}`)},
			invalidEvent{field + " of another tenant's namespace", field, with(`{"id":"jane","namespace":"globex"}`)},
		)
		if strings.HasSuffix(field, "]") {
			rows = append(rows, invalidEvent{field + " empty", field, with(`""`)}, invalidEvent{field + " null", field, with(`null`)})
		}
	}
	return rows
}

// backlog is how many events are stored.
func (s *site) backlog() uint64 {
	s.t.Helper()
	all, err := s.bus.Backlog(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return uint64(all.Waiting)
}

// wantBacklog wants so many events to be stored.
func (s *site) wantBacklog(want uint64) {
	s.t.Helper()
	if got := s.backlog(); got != want {
		s.t.Errorf("%d events are stored, want %d", got, want)
	}
}

// storedEvent is an event as it waits to be worked on.
type storedEvent struct {
	peal.TicketEvent
	tenant string
	data   []byte
}

// waiting reads what waits to be worked on, in the order of the stream. All of it has
// to be what a worker can read, and valid.
func (s *site) waiting() (all []storedEvent) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream := s.eventStream()
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil {
			s.t.Fatal(err)
		}
		e := storedEvent{data: m.Data, tenant: strings.Split(m.Subject, ".")[4]}
		if err := intake.Unmarshal(m.Data, &e.TicketEvent); err != nil {
			s.t.Fatalf("%v: %s", err, m.Data)
		}
		if err := e.Validate(); err != nil {
			s.t.Fatalf("%v: %s", err, m.Data)
		}
		all = append(all, e)
	}
	return all
}

// ids of events, in their order.
func idsOf(all []storedEvent) (ids []string) {
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return ids
}

// takenEvent is the answer for one event, in a batch perhaps a problem.
type takenEvent struct {
	ID        string
	Duplicate bool
	Status    int
	Code      string
	Detail    string
	Instance  string
}

// take posts an event and wants it accepted.
func (s *site) take(u user, event string, edits ...edit) (taken takenEvent) {
	s.t.Helper()
	a := s.do(s.request(context.Background(), "POST", eventPath, u, event, edits...))
	if a.status != http.StatusAccepted {
		s.t.Fatalf("event: got %d %s, want 202", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &taken); err != nil || taken.ID == "" {
		s.t.Fatalf("event: got %s (%v)", a.body, err)
	}
	return taken
}

// takeAll posts a batch and wants an answer for each of its events.
func (s *site) takeAll(u user, events []string, edits ...edit) []takenEvent {
	s.t.Helper()
	a := s.do(s.request(context.Background(), "POST", eventsPath, u, batch(events...), edits...))
	if a.status != http.StatusOK {
		s.t.Fatalf("batch: got %d %s, want 200", a.status, a.body)
	}
	var answer struct{ Results []takenEvent }
	if err := json.Unmarshal(a.body, &answer); err != nil || len(answer.Results) != len(events) {
		s.t.Fatalf("batch: got %s (%v), want %d results", a.body, err, len(events))
	}
	for _, r := range answer.Results {
		if r.Status != 0 && r.Instance != a.header.Get("X-Request-Id") {
			s.t.Errorf("instance %q, want that of the request", r.Instance)
		}
	}
	return answer.Results
}

// refusedBodies are what is refused of a whole body, for each call of this kind that
// takes one.
func (s *site) refusedBodies(good string) []refusal {
	invalid := func(name, detail string, edits ...edit) refusal {
		return refusal{name, edits, 400, "INVALID_REQUEST", detail}
	}
	return []refusal{
		invalid("empty body", "body", body("")),
		invalid("no JSON", "body", body("{")),
		invalid("not UTF-8", "body", body("\xff")),
		invalid("not an object", "body", body(`["`+canary+`"]`)),
		invalid("a text", "body", body(`"`+canary+`"`)),
		invalid("something follows", "body", body(good+"{}")),
		invalid("too deep", "body", body(strings.Repeat("[", 20000))),
		invalid("token in the query", "access_token", query("access_token="+canary)),
		invalid("malformed query", "query", query("a=%zz")),
		{"body of more than a mebibyte", []edit{body(good + strings.Repeat(" ", 1<<20))}, 413, "TOO_LARGE", "1 MiB"},
		{"of unknown length", []edit{body(good + strings.Repeat(" ", 1<<20)), chunked}, 413, "TOO_LARGE", "1 MiB"},
		{"no media type", []edit{header("Content-Type")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"form", []edit{header("Content-Type", "application/x-www-form-urlencoded")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"other charset", []edit{header("Content-Type", "application/json; charset=latin1")}, 415, "UNSUPPORTED_MEDIA_TYPE", ""},
		{"content encoding", []edit{header("Content-Encoding", "gzip")}, 415, "UNSUPPORTED_MEDIA_TYPE", "content encoding"},
		{"no token", []edit{header("Authorization")}, 401, "UNAUTHENTICATED", ""},
		{"no tenant", []edit{header("x-tenantid")}, 400, "INVALID_REQUEST", "x-tenantid"},
		{"no role", []edit{header("realmname", "acme"), header("Authorization", "Bearer "+s.jane().token)}, 403, "FORBIDDEN", ""},
		{"tenant that is not granted", []edit{header("realmname", "acme"), header("Authorization", "Bearer "+s.jane().token), header("x-tenantid", string(globex))}, 403, "FORBIDDEN", ""},
	}
}

func keyRefusals() []refusal {
	var rows []refusal
	for name, key := range map[string]edit{
		"empty key": header("Idempotency-Key", ""), "two keys": header("Idempotency-Key", "a", "b"),
		"long key": header("Idempotency-Key", strings.Repeat("x", 129)), "key that is not ASCII": header("Idempotency-Key", "ü"),
	} {
		rows = append(rows, refusal{name, []edit{key}, 400, "INVALID_REQUEST", "Idempotency-Key"})
	}
	return rows
}

// fillEvents leaves no room for events.
func (s *site) fillEvents() {
	s.t.Helper()
	s.boundEvents(func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
}

// boundEvents changes the bounds of the stream of events.
func (s *site) boundEvents(change func(*jetstream.StreamConfig)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := s.eventStream().CachedInfo().Config
	change(&cfg)
	if _, err := s.jetStream().UpdateStream(ctx, cfg); err != nil {
		s.t.Fatal(err)
	}
}

// jetStream is that of the site, past the bus.
func (s *site) jetStream() jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.nats))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

// eventStream is the stream of events.
func (s *site) eventStream() jetstream.Stream {
	s.t.Helper()
	stream, err := s.jetStream().Stream(context.Background(), "PEAL_EVENT_local")
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}
