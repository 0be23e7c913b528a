package node

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
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
	for _, tt := range []struct {
		schema, property string
		take             func(n int) error
	}{
		{"Read", "ids", func(n int) error { _, err := marking{IDs: ids(n)}.meant(); return err }},
		{"Preferences", "mutedTickets", func(n int) error { return peal.Preferences{MutedTickets: ids(n)}.Validate() }},
		{"TenantPreferences", "mutedTickets", func(n int) error {
			return peal.TenantPreferences{Preferences: peal.Preferences{MutedTickets: ids(n)}}.Validate()
		}},
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

// Each call of the inbox says which statuses it has, by what it takes.
func TestOpenAPIHasTheStatusesOfTheInbox(t *testing.T) {
	d := document(t)
	for operation, more := range map[string]string{
		"get /ticket/notification/count": "",
		"get /ticket/notification/list":  "",
		"put /ticket/notification/read":  "413 415",
		"get /user/preference":           "304 412",
		"put /user/preference":           "412 413 415",
		"get /tenant/preference":         "304 412",
		"put /tenant/preference":         "412 413 415",
	} {
		method, path, _ := strings.Cut(operation, " ")
		want := strings.Fields("200 400 401 403 404 405 429 500 503 " + more)
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(at(t, d, "paths", Base+path, method, "responses").(tree)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-code +openapi.yaml):\n%s", operation, diff)
		}
	}
}
