package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/intake"
)

// What a list takes is what is documented of it: no parameter more, none less, and
// of a number just what lies within its bounds.
func TestOpenAPIHasTheParametersOfAList(t *testing.T) {
	d := document(t)
	const cursor = "abcdefgh-5"
	good := map[string]string{
		"limit": "1", "before": cursor, "unread": "true", "type": "mention", "priority": "low", "ticketId": "5",
		"after": cursor, "wait": "1",
	}
	list := func(name string, value any) (listing, error) {
		query := fmt.Sprintf("%s=%v", name, value)
		if name == "wait" {
			query += "&after=" + cursor
		}
		return (&request{Request: httptest.NewRequest("GET", "/?"+query, nil)}).listing()
	}
	bare, err := list("x", "")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, p := range at(t, d, "paths", Base+"/ticket/notification/list", "get", "parameters").([]any) {
		p := p.(tree)
		if p["in"] != "query" {
			continue // a reference to one that every call has
		}
		name, schema := p["name"].(string), p["schema"].(tree)
		documented = append(documented, name)
		if got, err := list(name, good[name]); err != nil || cmp.Equal(got, bare, cmp.AllowUnexported(listing{})) {
			t.Errorf("%s=%s is documented, and is not understood: %v", name, good[name], err)
		}
		if schema["type"] != "integer" {
			continue
		}
		least, most := schema["minimum"].(int), schema["maximum"].(int)
		for value, ok := range map[int]bool{least - 1: false, least: true, most: true, most + 1: false} {
			if _, err := list(name, value); (err == nil) != ok {
				t.Errorf("%s=%d, of %d to %d: %v", name, value, least, most, err)
			}
		}
		if def := schema["default"]; def != nil {
			if got, err := list(name, def); err != nil || !cmp.Equal(got, bare, cmp.AllowUnexported(listing{})) {
				t.Errorf("%s is %v by default, and not %+v: %v", name, def, bare, err)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(good)), sorted(documented)); diff != "" {
		t.Errorf("parameters (-code +openapi.yaml):\n%s", diff)
	}
}

// Lists in bodies may be as long as is documented, and no longer.
func TestOpenAPIHasTheLengthsOfLists(t *testing.T) {
	d := document(t)
	ids := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint(i))
		}
		return all
	}
	users := func(n int) []peal.UserRef {
		all := make([]peal.UserRef, n)
		for i := range all {
			all[i].ID = "a"
		}
		return all
	}
	for _, tt := range []struct {
		schema, property string
		take             func(n int) error
	}{
		{"Read", "ids", func(n int) error { _, err := marking{IDs: ids(n)}.meant(); return err }},
		{"Preferences", "mutedTickets", func(n int) error { return peal.Preferences{MutedTickets: ids(n)}.Validate() }},
		{"TenantPreferences", "mutedTickets", func(n int) error {
			return peal.TenantPreferences{Preferences: peal.Preferences{MutedTickets: ids(n)}}.Validate()
		}},
		{"QueueMembers", "members", func(n int) error { return membership{Members: users(n)}.validate() }},
		{"EventBatch", "events", func(n int) error { return eventBatch{make([]intake.Raw, n)}.validate() }},
	} {
		list := at(t, d, "components", "schemas", tt.schema, "properties", tt.property).(tree)
		least, _ := list["minItems"].(int)
		most := list["maxItems"].(int)
		for n, ok := range map[int]bool{least - 1: false, least: true, most: true, most + 1: false} {
			if n >= 0 && (tt.take(n) == nil) != ok {
				t.Errorf("%s.%s of %d, of %d to %d: %v", tt.schema, tt.property, n, least, most, tt.take(n))
			}
		}
	}
}

// fullEvent is an event that says everything.
func fullEvent() peal.TicketEvent {
	moment := peal.EventTime{Timestamp: peal.NewTimestamp(time.Unix(1, 0))}
	user := peal.UserRef{ID: "a", Namespace: "acme"}
	users := []peal.UserRef{user}
	return peal.TicketEvent{
		ID: "1", Type: "comment", OccurredAt: moment,
		Actor: &peal.EventActor{Actor: peal.Actor{ID: "a", Name: "A"}, Namespace: "acme"},
		Ticket: peal.Ticket{
			ID: "1", Number: "1", Title: "T", Category: "C", Priority: "P", Status: "S", QueueID: "q",
			AssigneeID: user, RequesterID: user, WatcherIDs: users,
		},
		PreviousAssigneeID: user, PreviousQueueID: "q", PreviousStatus: "S", NewStatus: "S",
		Mentions: users, Approvers: users, Recipients: users,
		Comment: peal.EventComment{ID: "c", Text: "T", Internal: true}, Approval: peal.EventApproval{ID: "a", Decision: "approved"},
		SLA: peal.EventSLA{Type: "response", Target: moment}, MergedInto: "2", ExpiresAt: moment,
	}
}

// decodeEvent reads an event as its call does.
func decodeEvent(v any) error {
	var sent sentEvent
	if err := readBody(encode(v), &sent); err != nil {
		return err
	}
	return sent.check()
}

// What publishers of events send, and what they are answered, has the fields of its
// schema.
func TestOpenAPIDescribesTicketEvents(t *testing.T) {
	d := document(t)
	schemas := at(t, d, "components", "schemas").(tree)
	full := fullEvent()
	event := at(t, schemas, "TicketEvent").(tree)
	for _, tt := range []struct {
		what   string
		schema any
		made   []byte
	}{
		{"TicketEvent", event, full.Encode()},
		{"Ticket", schemas["Ticket"], encode(full.Ticket)},
		{"EventActor", schemas["EventActor"], encode(full.Actor)},
		{"comment", at(t, event, "properties", "comment"), encode(full.Comment)},
		{"approval", at(t, event, "properties", "approval"), encode(full.Approval)},
		{"sla", at(t, event, "properties", "sla"), encode(full.SLA)},
		{"TakenEvent", schemas["TakenEvent"], encode(takenEvent{})},
		{"Problem", schemas["Problem"], encode(told{})},
		{"QueueMembers", schemas["QueueMembers"], encode(membership{})},
		{"QueueSize", schemas["QueueSize"], encode(queueSize{})},
	} {
		wantFields(t, tt.what, tt.schema.(tree), tt.made)
	}
	if diff := cmp.Diff(sorted(peal.EventTypes()), enum(t, d, "EventType")); diff != "" {
		t.Errorf("EventType (-code +openapi.yaml):\n%s", diff)
	}

	body := func(path, method string) any {
		return at(t, d, "paths", Base+path, method, "requestBody", "content", "application/json")
	}
	for name, e := range at(t, body("/ticket/event", "post"), "examples").(tree) {
		if err := decodeEvent(at(t, e, "value")); err != nil {
			t.Errorf("example %s: %v", name, err)
		}
	}
	var batch eventBatch
	err := readBody(encode(at(t, body("/ticket/events", "post"), "example")), &batch)
	if err == nil {
		err = batch.validate()
	}
	for _, e := range batch.events {
		if err == nil {
			err = decodeEvent(json.RawMessage(e))
		}
	}
	if err != nil {
		t.Errorf("example of a batch: %v", err)
	}
	var members membership
	err = readBody(encode(at(t, body("/queue/{queueId}", "put"), "example")), &members)
	if err == nil {
		err = members.validate()
	}
	if err != nil {
		t.Errorf("example of a queue: %v", err)
	}
}

// varied is an event of which one property is changed, by a path of one or two names.
type varied tree

func (v varied) changed(path []string, change func(tree)) error {
	event := maps.Clone(v)
	of := tree(event)
	if len(path) == 2 {
		of = maps.Clone(v[path[0]].(tree))
		event[path[0]] = of
	}
	change(of)
	return decodeEvent(event)
}

func (v varied) with(path []string, value any) error {
	return v.changed(path, func(of tree) { of[path[len(path)-1]] = value })
}

func (v varied) without(path []string) error {
	return v.changed(path, func(of tree) { delete(of, path[len(path)-1]) })
}

// Of what is required of an event nothing may be absent, and of the rest everything;
// and a text may be as long, and say just what, as is documented.
func TestOpenAPIHasTheBoundsOfATicketEvent(t *testing.T) {
	d := document(t)
	var v varied
	if err := json.Unmarshal(fullEvent().Encode(), &v); err != nil {
		t.Fatal(err)
	}
	checked := 0
	want := func(ok bool, err error, format string, args ...any) {
		t.Helper()
		if checked++; (err == nil) != ok {
			t.Errorf("%s: got %v, want it taken: %v", fmt.Sprintf(format, args...), err, ok)
		}
	}
	hold := func(schema tree, prefix ...string) {
		required := []any{}
		if schema["required"] != nil {
			required = schema["required"].([]any)
		}
		for name, p := range at(t, schema, "properties").(tree) {
			path := append(slices.Clone(prefix), name)
			want(!slices.Contains(required, any(name)), v.without(path), "without %q", path)
			property := p.(tree)
			if ref, ok := property["$ref"].(string); ok {
				property = resolve(t, d, ref)
			}
			if values, ok := property["enum"].([]any); ok {
				for _, value := range values {
					want(true, v.with(path, value), "%q: %v", path, value)
				}
				want(false, v.with(path, "?"), "%q: ?", path)
			}
			if most, ok := property["maxLength"].(int); ok {
				least, _ := property["minLength"].(int)
				if least > 0 {
					want(false, v.with(path, strings.Repeat("x", least-1)), "%q, too short", path)
				}
				want(true, v.with(path, strings.Repeat("x", least)), "%q, as short as it may be", path)
				want(true, v.with(path, strings.Repeat("x", most)), "%q, as long as it may be", path)
				want(false, v.with(path, strings.Repeat("x", most+1)), "%q, too long", path)
			}
		}
	}
	event := resolve(t, d, "#/components/schemas/TicketEvent")
	hold(event)
	hold(resolve(t, d, "#/components/schemas/Ticket"), "ticket")
	hold(resolve(t, d, "#/components/schemas/EventActor"), "actor")
	for _, name := range []string{"comment", "approval", "sla"} {
		hold(at(t, event, "properties", name).(tree), name)
	}
	if checked < 100 {
		t.Errorf("only %d bounds were held", checked)
	}
}

// Each call with a caller says which statuses it has, by what it takes.
func TestOpenAPIHasTheStatusesOfCalls(t *testing.T) {
	d := document(t)
	for operation, more := range map[string]string{
		"get /ticket/notification/count": "200 429",
		"get /ticket/notification/list":  "200 429",
		"put /ticket/notification/read":  "200 429 413 415",
		"get /user/preference":           "200 429 304 412",
		"put /user/preference":           "200 429 412 413 415",
		"get /tenant/preference":         "200 429 304 412",
		"put /tenant/preference":         "200 429 412 413 415",
		"post /ticket/notification":      "202 413 415",
		"post /ticket/event":             "202 429 413 415",
		"post /ticket/events":            "200 429 413 415",
		"put /queue/{queueId}":           "200 413 415",
	} {
		method, path, _ := strings.Cut(operation, " ")
		want := strings.Fields("400 401 403 404 405 500 503 " + more)
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(at(t, d, "paths", Base+path, method, "responses").(tree)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-code +openapi.yaml):\n%s", operation, diff)
		}
	}
}
