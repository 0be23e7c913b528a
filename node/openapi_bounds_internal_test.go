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

// A ticket event has the fields and the bounds of its schema, and of those that are
// below it.
func TestOpenAPIDescribesATicketEvent(t *testing.T) {
	d := document(t)
	schemas := at(t, d, "components", "schemas").(tree)
	moment := peal.EventTime{Timestamp: peal.NewTimestamp(time.Unix(1, 0))}
	user := peal.UserRef{ID: "a", Namespace: "acme"}
	full := peal.TicketEvent{
		ID: "1", Type: "comment", OccurredAt: moment,
		Actor: &peal.EventActor{Actor: peal.Actor{ID: "a", Name: "A"}, Namespace: "acme"},
		Ticket: peal.Ticket{
			ID: "1", Number: "1", Title: "T", Category: "C", Priority: "P", Status: "S", QueueID: "q",
			AssigneeID: user, RequesterID: user, WatcherIDs: []peal.UserRef{user},
		},
		PreviousAssigneeID: user, PreviousQueueID: "q", PreviousStatus: "S", NewStatus: "S",
		Mentions: []peal.UserRef{user}, Approvers: []peal.UserRef{user}, Recipients: []peal.UserRef{user},
		Comment: peal.EventComment{ID: "c", Text: "T", Internal: true}, Approval: peal.EventApproval{ID: "a", Decision: "approved"},
		SLA: peal.EventSLA{Type: "response", Target: moment}, MergedInto: "2", ExpiresAt: moment,
	}
	event := at(t, schemas, "TicketEvent").(tree)
	wantFields(t, "TicketEvent", event, full.Encode())
	wantFields(t, "Ticket", at(t, schemas, "Ticket").(tree), encode(full.Ticket))
	wantFields(t, "EventActor", at(t, schemas, "EventActor").(tree), encode(full.Actor))
	wantFields(t, "comment", at(t, event, "properties", "comment").(tree), encode(full.Comment))
	wantFields(t, "approval", at(t, event, "properties", "approval").(tree), encode(full.Approval))
	wantFields(t, "sla", at(t, event, "properties", "sla").(tree), encode(full.SLA))
	wantFields(t, "TakenEvent", at(t, schemas, "TakenEvent").(tree), encode(takenEvent{}))
	wantFields(t, "Problem", at(t, schemas, "Problem").(tree), encode(told{}))
	if diff := cmp.Diff(sorted(peal.EventTypes()), enum(t, d, "EventType")); diff != "" {
		t.Errorf("EventType (-code +openapi.yaml):\n%s", diff)
	}

	// What of an object is given by setting one of its properties.
	var whole tree
	decode := func(v tree) error {
		var sent sentEvent
		if err := readBody(encode(v), &sent); err != nil {
			return err
		}
		return sent.check()
	}
	if err := json.Unmarshal(full.Encode(), &whole); err != nil {
		t.Fatal(err)
	}
	with := func(path []string, value any) error {
		v := maps.Clone(whole)
		if len(path) == 2 {
			inner := maps.Clone(v[path[0]].(tree))
			inner[path[1]] = value
			value = inner
		}
		v[path[0]] = value
		return decode(v)
	}
	without := func(path []string) error {
		v := maps.Clone(whole)
		if len(path) == 1 {
			delete(v, path[0])
			return decode(v)
		}
		inner := maps.Clone(v[path[0]].(tree))
		delete(inner, path[1])
		v[path[0]] = inner
		return decode(v)
	}
	checked := 0
	hold := func(schema tree, prefix ...string) {
		required := []string{}
		if schema["required"] != nil {
			required = stringsOf(schema["required"])
		}
		for name, p := range at(t, schema, "properties").(tree) {
			path := append(slices.Clone(prefix), name)
			if err := without(path); (err != nil) != slices.Contains(required, name) {
				t.Errorf("without %q, required are %q: %v", path, required, err)
			}
			p := p.(tree)
			if ref, ok := p["$ref"].(string); ok {
				p = resolve(t, d, ref)
			}
			if values, ok := p["enum"].([]any); ok {
				for _, v := range append(values, "?") {
					if err := with(path, v); (err == nil) != slices.Contains(values, v) {
						t.Errorf("%q: %v, of %v: %v", path, v, values, err)
					}
					checked++
				}
			}
			most, bounded := p["maxLength"].(int)
			if !bounded {
				continue
			}
			least, _ := p["minLength"].(int)
			if name == "namespace" {
				least = 0 // of the directory, and the pattern is the domain's
			}
			for n, ok := range map[int]bool{least - 1: false, least: true, most: true, most + 1: false} {
				if n < 0 {
					continue
				}
				checked++
				if err := with(path, strings.Repeat("x", n)); (err == nil) != ok {
					t.Errorf("%q of %d, of %d to %d: %v", path, n, least, most, err)
				}
			}
		}
	}
	hold(event)
	hold(at(t, schemas, "Ticket").(tree), "ticket")
	hold(at(t, schemas, "EventActor").(tree), "actor")
	for _, name := range []string{"comment", "approval", "sla"} {
		hold(at(t, event, "properties", name).(tree), name)
	}
	if checked < 60 {
		t.Errorf("only %d bounds were checked", checked)
	}

	examples := at(t, d, "paths", Base+"/ticket/event", "post", "requestBody", "content", "application/json", "examples").(tree)
	for name, e := range examples {
		if err := decode(at(t, e, "value").(tree)); err != nil {
			t.Errorf("example %s: %v", name, err)
		}
	}
	var batch eventBatch
	example := at(t, d, "paths", Base+"/ticket/events", "post", "requestBody", "content", "application/json", "example")
	if err := readBody(encode(example), &batch); err != nil || len(batch.events) == 0 {
		t.Errorf("example of a batch: %v", err)
	}
	var members membership
	example = at(t, d, "paths", Base+"/queue/{queueId}", "put", "requestBody", "content", "application/json", "example")
	if err := readBody(encode(example), &members); err != nil || members.validate() != nil {
		t.Errorf("example of a queue: %v %v", err, members.validate())
	}
	wantFields(t, "QueueMembers", at(t, schemas, "QueueMembers").(tree), encode(members))
	wantFields(t, "QueueSize", at(t, schemas, "QueueSize").(tree), encode(queueSize{}))
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
