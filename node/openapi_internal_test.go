package node

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// tree is a part of openapi.yaml.
type tree = map[string]any

// document reads openapi.yaml.
func document(t *testing.T) tree {
	t.Helper()
	var d tree
	if err := yaml.Unmarshal(openapi, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// at walks down the document by names.
func at(t *testing.T, d any, path ...string) any {
	t.Helper()
	for i, name := range path {
		m, ok := d.(tree)
		if !ok || m[name] == nil {
			t.Fatalf("openapi.yaml has no %s", strings.Join(path[:i+1], " "))
		}
		d = m[name]
	}
	return d
}

// enum lists the values of a schema that is an enum, sorted.
func enum(t *testing.T, d tree, schema string) []string {
	t.Helper()
	var values []string
	for _, v := range at(t, d, "components", "schemas", schema, "enum").([]any) {
		values = append(values, v.(string))
	}
	return sorted(values)
}

func sorted[S ~string](values []S) []string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	slices.Sort(s)
	return slices.Compact(s)
}

// parameter is a part of a path that varies, as the router spells it.
var parameter = regexp.MustCompile(`:([A-Za-z]+)`)

func TestOpenAPIHasEveryRouteAndNoOther(t *testing.T) {
	d := document(t)
	var got, want []string
	for path, methods := range at(t, d, "paths").(tree) {
		for method := range methods.(tree) {
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	n := &Node{cfg: Config{Cookies: true}}
	for _, r := range slices.Concat(n.routes(), n.healthRoutes()) {
		want = append(want, r.method+" "+parameter.ReplaceAllString(r.path, "{$1}"))
	}
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		t.Errorf("routes (-routes.go +openapi.yaml):\n%s", diff)
	}
}

func TestOpenAPIHasEveryValueAndNoOther(t *testing.T) {
	codes := []string{internal.code}
	for _, row := range problems {
		codes = append(codes, row.code)
	}
	var ends []string
	for _, f := range farewell {
		ends = append(ends, f.code)
	}
	for _, row := range problems {
		if row.passes() { // which who connects by cookie hears of in an event
			ends = append(ends, row.code)
		}
	}
	d := document(t)
	for schema, want := range map[string][]string{
		"ProblemCode": sorted(codes),
		"ErrorCode":   sorted(ends),
		"GapCode":     sorted(slices.Collect(maps.Keys(gapText))),
		"Type":        sorted(peal.Types()),
		"Priority":    sorted(peal.Priorities()),
		"Reason":      sorted(peal.Reasons()),

		"DurableRoute": sorted([]bus.Followed{bus.FollowedInbox, bus.FollowedTickets}),

		"TicketAction": sorted(peal.TicketActions()),
		"Change":       sorted(peal.Changes()),
	} {
		if diff := cmp.Diff(want, enum(t, d, schema)); diff != "" {
			t.Errorf("%s (-code +openapi.yaml):\n%s", schema, diff)
		}
	}
}

// Each problem's status is documented where the code is used.
func TestOpenAPIHasEveryStatusOfAProblem(t *testing.T) {
	d := document(t)
	documented := make(map[string]bool)
	for _, methods := range at(t, d, "paths").(tree) {
		for _, operation := range methods.(tree) {
			for status := range at(t, operation, "responses").(tree) {
				documented[status] = true
			}
		}
	}
	for _, row := range problems {
		if s := http.StatusText(row.status); s == "" || !documented[string(encode(row.status))] {
			t.Errorf("%d %s is not documented", row.status, row.code)
		}
	}
}

// The data of each event that this package makes has the fields of its schema.
func TestOpenAPIDescribesTheEvents(t *testing.T) {
	d := document(t)
	start := bus.Start{Cursor: bus.Cursor{Epoch: "aaaaaaaa", Seq: 1}}
	n := peal.Notification{Type: peal.Mention, Metadata: peal.Metadata{"a": "b"}, Silent: true}.WithDefaults(peal.Timestamp{}.Time)
	made := map[sse.Name][][]byte{ // together they have every field
		sse.Connected:    {connectedFrame(connected{}, start)},
		sse.Notification: {notificationFrame(&bus.Message{Cursor: start.Cursor, Data: n.Encode()})},
		sse.State:        {stateFrame(bus.ReadState{}), stateFrame(bus.ReadState{Refetch: true})},
		sse.Gap:          {gapFrame(bus.Gap{Code: bus.UnknownCursor, Cursor: start.Cursor})},
		sse.Heartbeat:    {heartbeatFrame(peal.Timestamp{}.Time)},
		sse.Error:        {errorFrame("x", "y")},
	}
	wantEvents(t, d, "/ticket/sse/notifications", made)
	delete(made, sse.Notification)
	delete(made, sse.State)
	made[sse.TicketUpdate] = [][]byte{updateFrame(peal.TicketUpdate{}, start.Cursor)}
	wantEvents(t, d, "/ticket/sse/list/updates", made)
}

// wantEvents holds the events of a route against its description.
func wantEvents(t *testing.T, d tree, route string, made map[sse.Name][][]byte) {
	t.Helper()
	events := at(t, d, "paths", Base+route, "get", "responses", "200", "content", "text/event-stream", "x-events").(tree)
	if diff := cmp.Diff(sorted(slices.Collect(maps.Keys(made))), sorted(slices.Collect(maps.Keys(events)))); diff != "" {
		t.Errorf("events of %s (-code +openapi.yaml):\n%s", route, diff)
	}
	for name, frames := range made {
		r := sse.NewReader(bytes.NewReader(slices.Concat(frames...)))
		var all [][]byte
		for range frames {
			e, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Data)
		}
		schema := resolve(t, d, at(t, events, string(name), "data", "$ref").(string))
		wantFields(t, string(name), schema, all...)
	}
}

// The answers of the inbox have the fields of their schemas, and what its call
// takes is what its schema has.
func TestOpenAPIDescribesTheInbox(t *testing.T) {
	d := document(t)
	schemas := at(t, d, "components", "schemas").(tree)
	n := peal.Notification{Type: peal.Mention, Metadata: peal.Metadata{"a": "b"}, Silent: true}.WithDefaults(peal.Timestamp{}.Time)
	entry, ok := appendListed(nil, listed{bus.Cursor{Epoch: "aaaaaaaa", Seq: 1}, n.Encode()})
	if !ok {
		t.Fatal("a notification can't be listed")
	}
	list := func(end any) []byte {
		w := httptest.NewRecorder()
		node := &Node{answers: room{most: maxAnswers}}
		if err := node.answerList(w, nil, end); err != nil {
			t.Fatal(err)
		}
		return w.Body.Bytes()
	}
	for schema, made := range map[string][]byte{
		"Count": encode(counted{}), "ListedNotification": entry,
		"List": list(pageEnd{}), "Poll": list(pollEnd{}), "ReadAnswer": encode(markedAnswer{}),
		"Read": encode(marking{IDs: []string{"n1"}}),
	} {
		wantFields(t, schema, at(t, schemas, schema).(tree), made)
	}
	wantFields(t, "unreadByPriority", at(t, schemas, "Count", "properties", "unreadByPriority").(tree), encode(byPriority{}))

	properties := maps.Clone(at(t, schemas, "ListedNotification", "properties").(tree))
	delete(properties, "cursor")
	properties["read"] = at(t, schemas, "Notification", "properties", "read") // described in other words
	if diff := cmp.Diff(at(t, schemas, "Notification", "properties"), any(properties)); diff != "" {
		t.Errorf("ListedNotification without its cursor (-Notification +ListedNotification):\n%s", diff)
	}

	examples := at(t, d, "paths", Base+"/ticket/notification/read", "put", "requestBody", "content", "application/json", "examples").(tree)
	for name, e := range examples {
		r := httptest.NewRequest("PUT", Base+"/ticket/notification/read", bytes.NewReader(encode(at(t, e, "value"))))
		r.Header.Set("Content-Type", "application/json")
		var m marking
		err := (&request{Request: r}).body(httptest.NewRecorder(), &m, &room{most: maxBody})
		if err == nil {
			_, err = m.meant()
		}
		if err != nil {
			t.Errorf("example %s: %v", name, err)
		}
	}
}

func resolve(t *testing.T, d tree, ref string) tree {
	t.Helper()
	return at(t, d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(tree)
}

// wantFields holds the names in objects, together, against those of a schema.
func wantFields(t *testing.T, what string, schema tree, data ...[]byte) {
	t.Helper()
	var object map[string]any
	for _, one := range data {
		if err := json.Unmarshal(one, &object); err != nil { // adds to what is there
			t.Fatal(err)
		}
	}
	properties := sorted(slices.Collect(maps.Keys(at(t, schema, "properties").(tree))))
	if diff := cmp.Diff(properties, sorted(slices.Collect(maps.Keys(object)))); diff != "" {
		t.Errorf("%s (-openapi.yaml +code):\n%s", what, diff)
	}
}

func TestOpenAPIDescribesPreferences(t *testing.T) {
	d := document(t)
	quiet := peal.QuietHours{From: "22:00", To: "07:00", TimeZone: "UTC"}
	user := peal.Preferences{Types: peal.Switches{peal.Comment: false}, MinPriority: peal.Low, MutedTickets: []string{"1"}, QuietHours: &quiet}
	wantFields(t, "Preferences", resolve(t, d, "#/components/schemas/Preferences"), user.Encode())
	wantFields(t, "TenantPreferences", resolve(t, d, "#/components/schemas/TenantPreferences"),
		peal.TenantPreferences{Preferences: user, Locked: []peal.Type{peal.Comment}}.Encode())
	wantFields(t, "QuietHours", resolve(t, d, "#/components/schemas/QuietHours"), encode(quiet))

	tag := at(t, d, "components", "headers", "ETag", "schema", "pattern").(string)
	if got := etag(user.Encode()); !regexp.MustCompile(tag).MatchString(got) {
		t.Errorf("ETag: got %s, want %s", got, tag)
	}
	for path, example := range map[string]interface{ Validate() error }{
		"/user/preference": new(peal.Preferences), "/tenant/preference": new(peal.TenantPreferences),
	} {
		body := encode(at(t, d, "paths", Base+path, "put", "requestBody", "content", "application/json", "example"))
		r := httptest.NewRequest("PUT", Base+path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		err := (&request{Request: r}).body(httptest.NewRecorder(), example, &room{most: maxBody})
		if err == nil {
			err = example.Validate()
		}
		if err != nil {
			t.Errorf("example of %s: %v", path, err)
		}
	}
}

func TestOpenAPIRequiresWhatAPublisherMustGive(t *testing.T) {
	d := document(t)
	input := resolve(t, d, "#/components/schemas/NotificationInput")
	n := peal.Notification{ID: "n", Type: peal.Mention, Metadata: peal.Metadata{"a": "b"}, Silent: true}.WithDefaults(peal.Timestamp{}.Time)
	wantFields(t, "NotificationInput", input, n.Encode())

	full := tree{"type": "mention", "ticketId": "1", "ticketNumber": "1", "title": "T", "message": "M"}
	if diff := cmp.Diff(sorted(slices.Collect(maps.Keys(full))), sorted(stringsOf(input["required"]))); diff != "" {
		t.Errorf("required (-contract +openapi.yaml):\n%s", diff)
	}
	for _, missing := range stringsOf(input["required"]) {
		part := maps.Clone(full)
		delete(part, missing)
		p, err := decodePublication(string(encode(tree{"recipients": []string{"jane"}, "notification": part})))
		if err == nil {
			err = p.validate(nil)
		}
		if err == nil || !strings.Contains(err.Error(), "notification."+missing) {
			t.Errorf("without %s: got %v", missing, err)
		}
	}
}

func stringsOf(list any) (s []string) {
	for _, v := range list.([]any) {
		s = append(s, v.(string))
	}
	return s
}

func TestOpenAPIExamplesAreValid(t *testing.T) {
	d := document(t)
	examples := at(t, d, "paths", Base+"/ticket/notification", "post", "requestBody", "content", "application/json", "examples").(tree)
	for name, e := range examples {
		p, err := decodePublication(string(encode(at(t, e, "value"))))
		if err == nil {
			err = p.validate(nil)
		}
		if err != nil {
			t.Errorf("example %s: %v", name, err)
		}
	}

	// Those of the stored form are the goldens of the domain, and what the
	// stream's example shows is one of them.
	stored := at(t, d, "components", "schemas", "Notification", "examples").([]any)
	for i, file := range []string{"assignment", "statusChange"} {
		golden, err := os.ReadFile("../testdata/notification/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var n peal.Notification
		if err := json.Unmarshal(encode(stored[i]), &n); err != nil {
			t.Fatal(err)
		}
		if err := n.Validate(nil); err != nil {
			t.Errorf("example %s: %v", file, err)
		}
		if got := string(n.Encode()); got != strings.TrimSpace(string(golden)) {
			t.Errorf("example %s: got  %s\nwant %s", file, got, golden)
		}
	}
	wantExample(t, d, "/ticket/sse/notifications", sse.Notification)
	wantExample(t, d, "/ticket/sse/list/updates", sse.TicketUpdate)
}

// wantExample wants the example of a stream to be as we write it: connected, and one
// event more.
func wantExample(t *testing.T, d tree, route string, second sse.Name) {
	t.Helper()
	stream := at(t, d, "paths", Base+route, "get", "responses", "200", "content", "text/event-stream", "example").(string)
	r := sse.NewReader(strings.NewReader(stream))
	for _, name := range []sse.Name{sse.Connected, second} {
		e, err := r.Next()
		if err != nil || e.Name != name {
			t.Fatalf("the stream's example: got %s and %v, want %s", e.Name, err, name)
		}
		want, err := sse.Append(nil, e)
		if err != nil || !strings.Contains(stream, string(want)) {
			t.Errorf("%s is not as we write it (%v): want %s", name, err, want)
		}
		switch name {
		case sse.Connected:
			wantFields(t, "the stream's example", resolve(t, d, "#/components/schemas/Connected"), e.Data)
		case sse.TicketUpdate:
			wantFields(t, "the stream's example", resolve(t, d, "#/components/schemas/TicketUpdate"), e.Data)
		}
	}
}

// decodePublication reads a body with the real decoder.
func decodePublication(body string) (p publication, err error) {
	r := httptest.NewRequest("POST", Base+"/ticket/notification", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	err = (&request{Request: r}).body(httptest.NewRecorder(), &p, &room{most: maxBody})
	return p, err
}
