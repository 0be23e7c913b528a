package peal_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/intake"
)

// published is the example of the API contract, with one of the values where it
// names two.
const published = `{"id":"6f1c…","type":"comment","occurredAt":"2025-07-10T12:35:00.000Z","actor":{"id":"user-abc","name":"Jane Smith","avatar":null},
 "ticket":{"id":"12345","number":"INC-2024-001234","title":"VPN Connection Issue","category":"Network","priority":"high","status":"open","queueId":"net","assigneeId":"user-1","requesterId":"user-9","watcherIds":["user-2"]},
 "previousAssigneeId":"","previousQueueId":"","previousStatus":"","newStatus":"","mentions":["user-3"],"approvers":[],"recipients":[],
 "comment":{"id":"c1","text":"…","internal":false},"approval":{"id":"","decision":"approved"},"sla":{"type":"response","target":"2025-07-10T13:00:00.000Z"},"mergedInto":"","expiresAt":""}`

func event(t testing.TB, source string) peal.TicketEvent {
	t.Helper()
	var ev peal.TicketEvent
	if err := intake.Unmarshal([]byte(source), &ev); err != nil {
		t.Fatal(err)
	}
	return ev
}

func at(s string) peal.EventTime {
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return peal.EventTime{Timestamp: peal.NewTimestamp(v)}
}

func TestEventOfTheContract(t *testing.T) {
	got := event(t, published)
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	want := peal.TicketEvent{
		ID: "6f1c…", Type: "comment", OccurredAt: at("2025-07-10T12:35:00Z"),
		Actor: &peal.EventActor{Actor: peal.Actor{ID: "user-abc", Name: "Jane Smith"}},
		Ticket: peal.Ticket{
			ID: "12345", Number: "INC-2024-001234", Title: "VPN Connection Issue", Category: "Network", Priority: "high", Status: "open",
			QueueID: "net", AssigneeID: peal.UserRef{ID: "user-1"}, RequesterID: peal.UserRef{ID: "user-9"}, WatcherIDs: []peal.UserRef{{ID: "user-2"}},
		},
		Mentions: []peal.UserRef{{ID: "user-3"}}, Approvers: []peal.UserRef{}, Recipients: []peal.UserRef{},
		Comment: peal.EventComment{ID: "c1", Text: "…"}, Approval: peal.EventApproval{Decision: "approved"},
		SLA: peal.EventSLA{Type: "response", Target: at("2025-07-10T13:00:00Z")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is stored of an event until it is worked on reads as the same event.
func TestEventsSurviveBeingStored(t *testing.T) {
	for name, source := range map[string]string{
		"least": `{"type":"ticketCreated","ticket":{"id":"1","number":"1","title":"T"}}`,
		"most":  published,
		"odd": `{"type":"merge","actor":{"id":"a","name":"A","avatar":"https://a.example/x.png","namespace":"acme"},"mergedInto":"<&>\u2028","expiresAt":"2025-07-10T14:35:00.1239+02:00",
			"ticket":{"id":"ü","number":"\"","title":"\\ü😀","assigneeId":{"id":"*","namespace":"acme"},"watcherIds":[{"id":">","namespace":"b"},"."]},
			"comment":{"text":"a\r\n\tb","internal":true},"recipients":["a","a"]}`,
	} {
		ev := event(t, source).WithDefaults(time.Now())
		if err := ev.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stored := ev.Encode()
		back := event(t, string(stored))
		if diff := cmp.Diff(string(stored), string(back.Encode())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		empty := func(l *[]peal.UserRef) {
			if len(*l) == 0 {
				*l = nil // and absent are the same
			}
		}
		for _, e := range []*peal.TicketEvent{&ev, &back} {
			empty(&e.Ticket.WatcherIDs)
			empty(&e.Mentions)
			empty(&e.Approvers)
			empty(&e.Recipients)
		}
		if diff := cmp.Diff(ev, back); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.ContainsAny(string(stored), "\n\r") {
			t.Errorf("%s is more than a line: %s", name, stored)
		}
	}
}

func TestEventDefaults(t *testing.T) {
	now := time.Date(2025, 7, 10, 14, 35, 0, 123456789, time.FixedZone("", 7200))
	got := peal.TicketEvent{}.WithDefaults(now)
	if len(got.ID) != 36 || got.OccurredAt != at("2025-07-10T12:35:00.123Z") {
		t.Errorf("got %s", got.Encode())
	}
	if kept := got.WithDefaults(now.Add(time.Hour)); kept.ID != got.ID || kept.OccurredAt != got.OccurredAt {
		t.Errorf("what is given is replaced: %s", kept.Encode())
	}
}

func TestEventsExpire(t *testing.T) {
	end := at("2025-07-10T13:00:00Z")
	for _, row := range []struct {
		name string
		end  peal.EventTime
		now  time.Time
		want bool
	}{
		{"never", peal.EventTime{}, end.Time, false},
		{"before", end, end.Add(-time.Millisecond), false},
		{"at", end, end.Time, true},
		{"after", end, end.Add(time.Hour), true},
	} {
		if got := (peal.TicketEvent{ExpiresAt: row.end}).Expired(row.now); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestValidateEvent(t *testing.T) {
	type change = func(*peal.TicketEvent)
	long, longer := strings.Repeat("ü", 64), strings.Repeat("ü", 64)+"x" // 128 bytes and 129
	const control = "a\u0085b"
	for _, row := range []struct {
		name   string
		field  string // "" means valid
		change change
	}{
		{"as it is", "", func(*peal.TicketEvent) {}},
		{"no id", "id", func(e *peal.TicketEvent) { e.ID = "" }},
		{"id of 128 bytes", "", func(e *peal.TicketEvent) { e.ID = long }},
		{"id of 129 bytes", "id", func(e *peal.TicketEvent) { e.ID = longer }},
		{"newline in an id", "id", func(e *peal.TicketEvent) { e.ID = "a\n" }},
		{"half a character in an id", "id", func(e *peal.TicketEvent) { e.ID = "a\xff" }},
		{"no type", "type", func(e *peal.TicketEvent) { e.Type = "" }},
		{"unknown type", "type", func(e *peal.TicketEvent) { e.Type = "ticketClosed" }},
		{"type in another case", "type", func(e *peal.TicketEvent) { e.Type = "Comment" }},

		{"no ticket id", "ticket.id", func(e *peal.TicketEvent) { e.Ticket.ID = "" }},
		{"ticket id of 129 bytes", "ticket.id", func(e *peal.TicketEvent) { e.Ticket.ID = longer }},
		{"no ticket number", "ticket.number", func(e *peal.TicketEvent) { e.Ticket.Number = "" }},
		{"control in a ticket number", "ticket.number", func(e *peal.TicketEvent) { e.Ticket.Number = control }},
		{"no ticket title", "ticket.title", func(e *peal.TicketEvent) { e.Ticket.Title = "" }},
		{"title of 300 characters", "", func(e *peal.TicketEvent) { e.Ticket.Title = strings.Repeat("ü", 300) }},
		{"title of 301 characters", "ticket.title", func(e *peal.TicketEvent) { e.Ticket.Title = strings.Repeat("t", 301) }},
		{"title of two lines", "ticket.title", func(e *peal.TicketEvent) { e.Ticket.Title = "a\nb" }},
		{"control in a category", "ticket.category", func(e *peal.TicketEvent) { e.Ticket.Category = control }},
		{"priority in other words", "", func(e *peal.TicketEvent) { e.Ticket.Priority = "P1 (critical)" }},
		{"control in a priority", "ticket.priority", func(e *peal.TicketEvent) { e.Ticket.Priority = control }},
		{"control in a status", "ticket.status", func(e *peal.TicketEvent) { e.Ticket.Status = control }},
		{"queue id of 128 bytes", "", func(e *peal.TicketEvent) { e.Ticket.QueueID = long }},
		{"queue id of 129 bytes", "ticket.queueId", func(e *peal.TicketEvent) { e.Ticket.QueueID = longer }},
		{"previous queue id of 129 bytes", "previousQueueId", func(e *peal.TicketEvent) { e.PreviousQueueID = longer }},
		{"control in a previous status", "previousStatus", func(e *peal.TicketEvent) { e.PreviousStatus = control }},
		{"control in a new status", "newStatus", func(e *peal.TicketEvent) { e.NewStatus = control }},

		{"the system", "", func(e *peal.TicketEvent) { e.Actor = nil }},
		{"actor without id", "actor.id", func(e *peal.TicketEvent) { e.Actor.ID = "" }},
		{"actor of 129 bytes", "actor.id", func(e *peal.TicketEvent) { e.Actor.ID = longer }},
		{"actor without name", "actor.name", func(e *peal.TicketEvent) { e.Actor.Name = "" }},
		{"actor with a name of 301 characters", "actor.name", func(e *peal.TicketEvent) { e.Actor.Name = strings.Repeat("n", 301) }},
		{"actor with an avatar by http", "actor.avatar", func(e *peal.TicketEvent) { s := "http://a.example/"; e.Actor.Avatar = &s }},
		{"actor of a namespace", "", func(e *peal.TicketEvent) { e.Actor.Namespace = "acme" }},
		{"actor of what is none", "actor.namespace", func(e *peal.TicketEvent) { e.Actor.Namespace = "*" }},

		{"lines in a comment", "", func(e *peal.TicketEvent) { e.Comment.Text = "a\r\n\tb\n" }},
		{"NUL in a comment", "comment.text", func(e *peal.TicketEvent) { e.Comment.Text = "a\x00b" }},
		{"half a character in a comment", "comment.text", func(e *peal.TicketEvent) { e.Comment.Text = "a\xff" }},
		{"newline in a comment's id", "comment.id", func(e *peal.TicketEvent) { e.Comment.ID = "a\nb" }},
		{"comment id of 129 bytes", "comment.id", func(e *peal.TicketEvent) { e.Comment.ID = longer }},
		{"approval id of 129 bytes", "approval.id", func(e *peal.TicketEvent) { e.Approval.ID = longer }},
		{"rejected", "", func(e *peal.TicketEvent) { e.Approval.Decision = "rejected" }},
		{"undecided", "", func(e *peal.TicketEvent) { e.Approval.Decision = "" }},
		{"another decision", "approval.decision", func(e *peal.TicketEvent) { e.Approval.Decision = "maybe" }},
		{"resolution", "", func(e *peal.TicketEvent) { e.SLA.Type = "resolution" }},
		{"another target", "sla.type", func(e *peal.TicketEvent) { e.SLA.Type = "update" }},
		{"merged into 129 bytes", "mergedInto", func(e *peal.TicketEvent) { e.MergedInto = longer }},

		{"nobody among the watchers", "ticket.watcherIds[1]", func(e *peal.TicketEvent) { e.Ticket.WatcherIDs = []peal.UserRef{{ID: "a"}, {}} }},
		{"nobody among the mentions", "mentions[0]", func(e *peal.TicketEvent) { e.Mentions = []peal.UserRef{{}} }},
		{"nobody among the approvers", "approvers[0]", func(e *peal.TicketEvent) { e.Approvers = []peal.UserRef{{}} }},
		{"nobody among the recipients", "recipients[0]", func(e *peal.TicketEvent) { e.Recipients = []peal.UserRef{{}} }},
		{"more than fit", "mentions", func(e *peal.TicketEvent) { e.Mentions = make([]peal.UserRef, peal.MaxPeople+1) }},
		{"16 KiB", "", func(e *peal.TicketEvent) { fill(e, peal.MaxEncoded) }},
		{"a byte more", "event", func(e *peal.TicketEvent) { fill(e, peal.MaxEncoded+1) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			ev := event(t, published)
			row.change(&ev)
			err := ev.Validate()
			if row.field == "" {
				if err != nil {
					t.Fatalf("got %v, want it valid", err)
				}
				return
			}
			invalid, ok := errors.AsType[*peal.InvalidError](err)
			if !ok || invalid.Field != row.field {
				t.Fatalf("got %v, want %s to be invalid", err, row.field)
			}
		})
	}
}

// fill makes e of so many bytes.
func fill(e *peal.TicketEvent, size int) {
	e.Comment.Text = strings.Repeat("x", size-len(e.Encode())+len(e.Comment.Text))
}

// What the reader refuses before there is an event to validate, and what it takes.
func TestReadEvent(t *testing.T) {
	const least = `"type":"comment","ticket":{"id":"1","number":"1","title":"T"}`
	for _, row := range []struct {
		name   string
		field  string // "" means read, and as if it were absent
		member string
	}{
		{"no time", "", `"occurredAt":""`},
		{"null for a time", "", `"occurredAt":null`},
		{"no end", "", `"expiresAt":""`},
		{"no target", "", `"sla":{"type":"","target":""}`},
		{"null for a target", "", `"sla":null`},
		{"nobody before", "", `"previousAssigneeId":""`},
		{"null for a user", "", `"previousAssigneeId":null`},
		{"null for an actor", "", `"actor":null`},
		{"null for a list", "", `"mentions":null`},
		{"an empty comment", "", `"comment":{}`},
		{"no merger", "", `"mergedInto":""`},
		{"no time at all", "occurredAt", `"occurredAt":"yesterday"`},
		{"a number for a time", "expiresAt", `"expiresAt":12`},
		{"a space for a time", "expiresAt", `"expiresAt":" "`},
		{"a target that is none", "sla.target", `"sla":{"target":"13:00"}`},
		{"a list for a user", "previousAssigneeId", `"previousAssigneeId":["a"]`},
		{"a user without a namespace", "mentions[1]", `"mentions":["a",{"id":"b"}]`},
		{"a name for an actor", "actor", `"actor":"jane"`},
		{"more of an actor", "actor.email", `"actor":{"id":"a","name":"A","email":"x"}`},
		{"a text for a flag", "comment.internal", `"comment":{"internal":"false"}`},
		{"an unknown field", "watchers", `"watchers":[]`},
		{"an unknown field of a ticket", "ticket.assignee", `"ticket":{"assignee":"a"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			source := "{" + least + "," + row.member + "}"
			if strings.HasPrefix(row.member, `"ticket"`) {
				source = "{" + row.member + "}"
			}
			var ev peal.TicketEvent
			err := intake.Unmarshal([]byte(source), &ev)
			if row.field == "" {
				want := event(t, "{"+least+"}").Encode()
				if err != nil || string(ev.Encode()) != string(want) {
					t.Fatalf("got %s, %v, want %s", ev.Encode(), err, want)
				}
				return
			}
			invalid, ok := errors.AsType[*peal.InvalidError](err)
			if !ok || invalid.Field != row.field {
				t.Fatalf("got %v, want %s to be invalid", err, row.field)
			}
		})
	}
}

func TestEventTypes(t *testing.T) {
	want := []peal.EventType{
		"assignment", "reassignment", "statusChange", "comment", "mention", "slaWarning", "slaBreach", "approval", "approvalDecision",
		"escalation", "merge", "resolution", "reopened", "watchAdded", "ticketCreated", "ticketUpdated", "ticketDeleted",
	}
	if diff := cmp.Diff(want, peal.EventTypes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, typ := range want {
		notifies := peal.Type(typ)
		if i >= 14 {
			notifies = ""
		}
		if got := typ.Notifies(); got != notifies {
			t.Errorf("%s makes notifications of type %q", typ, got)
		}
	}
}

// Of two types there is always one that wins, and the contract says which.
func TestTypesByStrength(t *testing.T) {
	want := []peal.Type{
		"slaBreach", "escalation", "approval", "mention", "assignment", "reassignment", "slaWarning",
		"approvalDecision", "resolution", "reopened", "statusChange", "comment", "merge", "watchAdded",
	}
	if got, all := slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(peal.Types())); !slices.Equal(got, all) {
		t.Fatalf("the order is of %v, want each of %v", got, all)
	}
	for i, a := range want {
		for j, b := range want {
			if got := a.StrongerThan(b); got != (i < j) {
				t.Errorf("%s is stronger than %s: %v", a, b, got)
			}
		}
	}
}

// Resolve passes each user but the actor to who knows them, with the field that
// names them.
func TestEventResolve(t *testing.T) {
	ev := event(t, published)
	ev.PreviousAssigneeID = peal.UserRef{ID: "user-7"}
	ev.Approvers, ev.Recipients = []peal.UserRef{{ID: "a"}, {ID: "b"}}, []peal.UserRef{{ID: "c"}}
	var fields []string
	err := ev.Resolve(func(field string, r peal.UserRef) (peal.UserRef, error) {
		fields = append(fields, fmt.Sprint(field, " ", r.ID))
		r.Namespace = "acme"
		return r, nil
	})
	want := []string{
		"ticket.assigneeId user-1", "ticket.requesterId user-9", "previousAssigneeId user-7",
		"ticket.watcherIds[0] user-2", "mentions[0] user-3", "approvers[0] a", "approvers[1] b", "recipients[0] c",
	}
	if diff := cmp.Diff(want, fields); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if got := string(ev.Encode()); strings.Count(got, `"namespace":"acme"`) != len(want) || ev.Actor.Namespace != "" {
		t.Errorf("got %s, want all of a namespace but the actor", got)
	}
	calls, refused := 0, errors.New("refused")
	err = ev.Resolve(func(string, peal.UserRef) (peal.UserRef, error) {
		if calls++; calls == 4 {
			return peal.UserRef{}, refused
		}
		return peal.UserRef{}, nil
	})
	if err != refused || calls != 4 {
		t.Errorf("got %v after %d, want it to end at the first error", err, calls)
	}
}
