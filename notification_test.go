package peal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
)

// assigned is the first example of the API contract.
func assigned() peal.Notification {
	return peal.Notification{
		ID:           "notif-550e8400-e29b-41d4-a716-446655440000",
		Type:         peal.Assignment,
		TicketID:     "12345",
		TicketNumber: "INC-2024-001234",
		Title:        "VPN Connection Issue",
		Message:      "You have been assigned ticket INC-2024-001234",
		Category:     "Network",
		CreatedAt:    peal.NewTimestamp(time.Date(2025, 7, 10, 12, 35, 0, 0, time.UTC)),
		Actor:        &peal.Actor{ID: "user-abc", Name: "Jane Smith"},
		Reasons:      []peal.Reason{peal.ReasonAssignee},
	}
}

// changed is the second.
func changed() peal.Notification {
	n := assigned()
	n.Type = peal.StatusChange
	n.Message = "The status of INC-2024-001234 is pending"
	n.Metadata = peal.Metadata{"newStatus": "pending", "previousStatus": "open"}
	n.Reasons = []peal.Reason{peal.ReasonWatcher}
	return n
}

// Clients depend on these bytes: what is stored is what is sent.
func TestNotificationJSON(t *testing.T) {
	now := time.Date(2025, 7, 10, 12, 35, 0, 0, time.UTC)
	for name, n := range map[string]peal.Notification{"assignment": assigned(), "statusChange": changed()} {
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", "notification", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			n := n.WithDefaults(now)
			if err := n.Validate(nil); err != nil {
				t.Fatal(err)
			}
			got := n.Encode()
			if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			var back peal.Notification
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(n, back); diff != "" {
				t.Fatalf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncodeKeepsCharactersOfHTML(t *testing.T) {
	n := assigned()
	n.Title = `<b>"R&D"</b> ü`
	if got := string(n.WithDefaults(time.Now()).Encode()); !strings.Contains(got, `"title":"<b>\"R&D\"</b> ü"`) {
		t.Fatalf("got %s", got)
	}
}

func TestEncodeIsOneLine(t *testing.T) {
	n := assigned()
	n.Message = "a\nb\rc\u2028d"
	if got := string(n.Encode()); strings.ContainsAny(got, "\n\r\u2028") {
		t.Fatalf("got %q", got)
	}
}

func TestDefaults(t *testing.T) {
	now := time.Date(2025, 7, 10, 14, 35, 0, 123456789, time.FixedZone("", 7200))
	n := peal.Notification{Type: peal.SLABreach, TicketID: "a/b c", TicketNumber: "1", Title: "t", Message: "m", Read: true}.WithDefaults(now)
	if !strings.HasPrefix(n.ID, "notif-") || len(n.ID) != len("notif-")+36 {
		t.Errorf("id %q, want notif- and a UUID", n.ID)
	}
	n.ID = ""
	want := peal.Notification{
		Type: peal.SLABreach, TicketID: "a/b c", TicketNumber: "1", Title: "t", Message: "m",
		Priority: peal.Urgent, CreatedAt: peal.NewTimestamp(time.Date(2025, 7, 10, 12, 35, 0, 123000000, time.UTC)),
		ActionURL: "/tickets/a%2Fb%20c", Actor: peal.System(), Reasons: []peal.Reason{peal.ReasonRecipient},
	}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := n.CreatedAt.String(); got != "2025-07-10T12:35:00.123Z" {
		t.Errorf("createdAt %s, want milliseconds in UTC", got)
	}
}

func TestTypesAndPriorities(t *testing.T) {
	want := map[peal.Type]peal.Priority{
		"assignment": "high", "reassignment": "medium", "statusChange": "medium", "comment": "medium", "mention": "high",
		"slaWarning": "high", "slaBreach": "urgent", "approval": "high", "approvalDecision": "medium", "escalation": "high",
		"merge": "low", "resolution": "medium", "reopened": "medium", "watchAdded": "low",
	}
	got := map[peal.Type]peal.Priority{}
	for _, typ := range peal.Types() {
		got[typ] = typ.DefaultPriority()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if peal.Type("Assignment").Valid() || peal.Type("").Valid() {
		t.Fatal("a type that is not in the list is valid")
	}
}

func TestValidate(t *testing.T) {
	str := func(s string) *string { return &s }
	with := func(change func(*peal.Notification)) peal.Notification {
		n := assigned().WithDefaults(time.Now())
		change(&n)
		return n
	}
	keys := func(n int) peal.Metadata {
		m := peal.Metadata{"previousStatus": "a", "newStatus": "b", "slaType": "c", "slaTarget": "d", "commentId": "e", "approvalId": "f"}
		for i := range n {
			m[fmt.Sprintf("k%d", i)] = "v"
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		field string // "" means valid
		n     peal.Notification
	}{
		{"as it is", "", with(func(*peal.Notification) {})},
		{"no id", "id", with(func(n *peal.Notification) { n.ID = "" })},
		{"id of 128 bytes", "", with(func(n *peal.Notification) { n.ID = strings.Repeat("i", 128) })},
		{"id of 129 bytes", "id", with(func(n *peal.Notification) { n.ID = strings.Repeat("i", 129) })},
		{"ticket id of 129 bytes in 65 characters", "ticketId", with(func(n *peal.Notification) { n.TicketID = strings.Repeat("ü", 64) + "x" })},
		{"no ticket number", "ticketNumber", with(func(n *peal.Notification) { n.TicketNumber = "" })},
		{"newline in a ticket number", "ticketNumber", with(func(n *peal.Notification) { n.TicketNumber = "a\nb" })},
		{"unknown type", "type", with(func(n *peal.Notification) { n.Type = "party" })},
		{"unknown priority", "priority", with(func(n *peal.Notification) { n.Priority = "asap" })},
		{"title of 300 characters", "", with(func(n *peal.Notification) { n.Title = strings.Repeat("ü", 300) })},
		{"title of 301 characters", "title", with(func(n *peal.Notification) { n.Title = strings.Repeat("t", 301) })},
		{"empty title", "title", with(func(n *peal.Notification) { n.Title = "" })},
		{"message of 2,000 characters", "", with(func(n *peal.Notification) { n.Message = strings.Repeat("ü", 2000) })},
		{"message of 2,001 characters", "message", with(func(n *peal.Notification) { n.Message = strings.Repeat("m", 2001) })},
		{"tab in a message", "message", with(func(n *peal.Notification) { n.Message = "a\tb" })},
		{"C1 control in a message", "message", with(func(n *peal.Notification) { n.Message = "a\u0085b" })},
		{"half a character", "message", with(func(n *peal.Notification) { n.Message = "a\xffb" })},
		{"NUL in a category", "category", with(func(n *peal.Notification) { n.Category = "a\x00b" })},
		{"path", "", with(func(n *peal.Notification) { n.ActionURL = "/a?b=c#d" })},
		{"path of two slashes", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "//evil.example/" })},
		{"path of a slash and a backslash", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = `/\evil.example` })},
		{"quote in a path", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = `/a"onclick="b` })},
		{"space in a path", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "/a b" })},
		{"quote in an avatar", "actor.avatar", with(func(n *peal.Notification) {
			n.Actor = &peal.Actor{ID: "x", Name: "x", Avatar: str(`https://a.example/"onerror=x`)}
		})},
		{"relative path", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "tickets/1" })},
		{"javascript", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "javascript:alert(1)" })},
		{"allowed host", "", with(func(n *peal.Notification) { n.ActionURL = "https://Desk.example/t/1" })},
		{"allowed host without TLS", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "http://desk.example/t/1" })},
		{"allowed host with a user", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "https://desk.example@evil.example/" })},
		{"user of an allowed host", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "https://u:p@desk.example/" })},
		{"allowed host with another port", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "https://desk.example:444/" })},
		{"host that only looks like an allowed one", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "https://des\u212a.example/" })},
		{"other host", "actionUrl", with(func(n *peal.Notification) { n.ActionURL = "https://evil.example/" })},
		{"no actor", "actor", with(func(n *peal.Notification) { n.Actor = nil })},
		{"actor without id", "actor.id", with(func(n *peal.Notification) { n.Actor = &peal.Actor{Name: "x"} })},
		{"actor without name", "actor.name", with(func(n *peal.Notification) { n.Actor = &peal.Actor{ID: "x"} })},
		{"avatar by https", "", with(func(n *peal.Notification) {
			n.Actor = &peal.Actor{ID: "x", Name: "x", Avatar: str("https://a.example/x.png")}
		})},
		{"avatar by http", "actor.avatar", with(func(n *peal.Notification) {
			n.Actor = &peal.Actor{ID: "x", Name: "x", Avatar: str("http://a.example/x.png")}
		})},
		{"avatar as data", "actor.avatar", with(func(n *peal.Notification) { n.Actor = &peal.Actor{ID: "x", Name: "x", Avatar: str("data:image/png,x")} })},
		{"16 further keys", "", with(func(n *peal.Notification) { n.Metadata = keys(16) })},
		{"17 further keys", "metadata", with(func(n *peal.Notification) { n.Metadata = keys(17) })},
		{"newline in metadata", "metadata", with(func(n *peal.Notification) { n.Metadata = peal.Metadata{"k": "a\nb"} })},
		{"unknown reason", "reasons", with(func(n *peal.Notification) { n.Reasons = []peal.Reason{"boredom"} })},
		{"a reason twice", "reasons", with(func(n *peal.Notification) { n.Reasons = []peal.Reason{"watcher", "watcher"} })},
		{"over 16 KiB", "notification", with(func(n *peal.Notification) { n.Category = strings.Repeat("c", 16384) })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.n.Validate([]string{"desk.example"})
			if tt.field == "" {
				if err != nil {
					t.Fatalf("got %v, want it valid", err)
				}
				return
			}
			var invalid *peal.InvalidError
			if !errors.As(err, &invalid) || !errors.Is(err, peal.ErrInvalid) || invalid.Field != tt.field {
				t.Fatalf("got %v, want %s to be invalid", err, tt.field)
			}
		})
	}
}

func TestMetadataOrder(t *testing.T) {
	m := peal.Metadata{"z": "1", "approvalId": "2", "a": "3", "previousStatus": "4"}
	got, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"previousStatus":"4","approvalId":"2","a":"3","z":"1"}`; string(got) != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	var back peal.Metadata
	if err := json.Unmarshal(got, &back); err != nil || !maps.Equal(m, back) {
		t.Fatalf("read back %v, %v", back, err)
	}
}

func TestMetadataIsOfStrings(t *testing.T) {
	for _, in := range []string{`{"a":null}`, `{"a":1}`, `{"a":{}}`, `[]`, `"a"`} {
		var m peal.Metadata
		if err := json.Unmarshal([]byte(in), &m); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%s: got %v, want it invalid", in, err)
		}
	}
	for _, in := range []string{`{}`, `null`} {
		m := peal.Metadata{"a": "b"}
		if err := json.Unmarshal([]byte(in), &m); err != nil || len(m) != 0 {
			t.Errorf("%s: got %v, %v, want none", in, m, err)
		}
	}
}

func TestTimestampReadsAnyZone(t *testing.T) {
	for in, want := range map[string]string{
		`"2025-07-10T12:35:00Z"`:           "2025-07-10T12:35:00.000Z",
		`"2025-07-10T14:35:00.1239+02:00"`: "2025-07-10T12:35:00.123Z",
	} {
		var ts peal.Timestamp
		if err := json.Unmarshal([]byte(in), &ts); err != nil || ts.String() != want {
			t.Errorf("%s: got %s, %v, want %s", in, ts, err, want)
		}
	}
	for _, in := range []string{`"yesterday"`, `""`, `12`, `"2025-07-10"`, `"2025-07-10T1:35:00Z"`, `"2025-07-10T12:35:00,5Z"`, `"2025-07-10t12:35:00z"`, `"0000-01-01T00:00:00+01:00"`} {
		var ts peal.Timestamp
		if err := json.Unmarshal([]byte(in), &ts); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%s: got %v, want it invalid", in, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	for in, want := range map[string]peal.Tenant{
		"11111111-1111-4111-8111-111111111111":          "11111111-1111-4111-8111-111111111111",
		"ABCDEFAB-1111-4111-8111-11111111111F":          "abcdefab-1111-4111-8111-11111111111f",
		"urn:uuid:11111111-1111-4111-8111-111111111111": "",
		"{11111111-1111-4111-8111-111111111111}":        "",
		"11111111111141118111111111111111":              "",
		"11111111-1111-4111-8111-11111111111":           "",
		"":                                              "",
		"*":                                             "",
	} {
		if got, err := peal.ParseTenant(in); got != want || (err == nil) != (want != "") {
			t.Errorf("tenant %q: got %q, %v", in, got, err)
		}
	}
	for in, ok := range map[string]bool{
		"acme": true, "a-1": true, "0": true, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false,
		"-a": false, "Acme": false, "a.b": false, "": false, "ü": false, "a\n": false,
	} {
		if _, err := peal.ParseNamespace(in); (err == nil) != ok {
			t.Errorf("namespace %q: got %v", in, err)
		}
	}
	for in, ok := range map[string]bool{
		"jane": true, "*": true, ">": true, "a.b": true, "ü": true, " ": true, strings.Repeat("ü", 64): true,
		strings.Repeat("ü", 64) + "x": false, "": false, "a\x00": false, "a\xff": false, "a\u0085": false,
	} {
		if _, err := peal.ParseUserID(in); (err == nil) != ok {
			t.Errorf("user %q: got %v", in, err)
		}
	}
	if !errors.Is(peal.ErrTokenExpired, peal.ErrUnauthenticated) {
		t.Error("an expired token is not unauthenticated")
	}
}
