package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/node"
)

// inboxServer answers each call with a status, a body and an ETag, and keeps what
// it was asked.
type inboxServer struct {
	*httptest.Server
	asked []string
}

func newInboxServer(t *testing.T, status int, etag, answer string) *inboxServer {
	t.Helper()
	s := &inboxServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("realmname") != realmAcme || r.Header.Get("x-tenantid") != string(tenantAcme) {
			t.Errorf("called by %v", r.Header)
		}
		asked := r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), node.Base)
		for _, more := range []string{r.Header.Get("Content-Type"), r.Header.Get("If-Match"), string(body)} {
			if more != "" {
				asked += " " + more
			}
		}
		s.asked = append(s.asked, asked)
		w.Header().Set("Content-Type", "application/json")
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

var withToken = map[string]string{"PEAL_TOKEN": "secret"}

// What each command asks of the service, and that a pipe gets its answer as it is.
func TestInboxAsks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pref.json")
	if err := os.WriteFile(file, []byte("\n {\"minPriority\":\n\"low\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		list = `{"notifications":[{"id":"n1","title":"<ü>","read":false,"cursor":"aaaaaaaa-1"}],"next":null,"cursor":"aaaaaaaa-1","readState":"bbbbbbbb-0"}`
		pref = `{"types":{"comment":false},"minPriority":"low"}`
	)
	for _, tt := range []struct {
		args   string
		input  string
		answer string
		want   string
		stderr string
	}{
		{"list", "", list, "GET /ticket/notification/list?limit=50", ""},
		{"list --unread --limit 200 --type comment --type mention --priority high --priority urgent --ticket 1&2 --before aaaaaaaa-7", "", list,
			"GET /ticket/notification/list?before=aaaaaaaa-7&limit=200&priority=high&priority=urgent&ticketId=1%262&type=comment&type=mention&unread=true", ""},
		{"count", "", `{"unread":1}`, "GET /ticket/notification/count", ""},
		{"read --id n1 --id n2", "", `{"changed":2,"unread":0}`, `PUT /ticket/notification/read application/json {"ids":["n1","n2"]}`, ""},
		{"read --id n1 --unread", "", `{"changed":1,"unread":1}`, `PUT /ticket/notification/read application/json {"ids":["n1"],"read":false}`, ""},
		{"read --up-to aaaaaaaa-7", "", `{"changed":1,"unread":1}`, `PUT /ticket/notification/read application/json {"upTo":"aaaaaaaa-7"}`, ""},
		{"read --up-to aaaaaaaa-7 --unread", "", `{"changed":1,"unread":1}`, `PUT /ticket/notification/read application/json {"upTo":"aaaaaaaa-7","read":false}`, ""},
		{"read --all", "", `{"changed":9,"unread":0}`, `PUT /ticket/notification/read application/json {"all":true}`, ""},
		{"pref", "", pref, "GET /user/preference", "ETag: \"v1\"\n"},
		{"pref --set {\"minPriority\":\"low\"}", "", pref, `PUT /user/preference application/json {"minPriority":"low"}`, "ETag: \"v1\"\n"},
		{"pref --set " + file, "", pref, `PUT /user/preference application/json {"minPriority":"low"}`, "ETag: \"v1\"\n"},
		{"pref --set -", `{"mutedTickets":["1"]}`, pref, `PUT /user/preference application/json {"mutedTickets":["1"]}`, "ETag: \"v1\"\n"},
		{"pref --set {} --if-match v1", "", pref, `PUT /user/preference application/json "v1" {}`, "ETag: \"v1\"\n"},
		{"pref --set {} --if-match \"v1\"", "", pref, `PUT /user/preference application/json "v1" {}`, "ETag: \"v1\"\n"},
		{"pref --set {} --if-match *", "", pref, `PUT /user/preference application/json * {}`, "ETag: \"v1\"\n"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			etag := ""
			if tt.stderr != "" {
				etag = `"v1"`
			}
			s := newInboxServer(t, 200, etag, tt.answer+"\n")
			args := strings.Fields(tt.args)
			args = append([]string{"inbox", args[0], "--url", s.URL}, args[1:]...)
			got := feed(t, tt.input, withToken, args...)
			if diff := cmp.Diff(result{0, tt.answer + "\n", tt.stderr}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{tt.want}, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// Preferences that were set and of which the service says nothing more.
func TestSetPreferencesWithoutAnAnswer(t *testing.T) {
	s := newInboxServer(t, 204, `"v2"`, "")
	got := do(t, withToken, "inbox", "pref", "--url", s.URL, "--set", "{}")
	if diff := cmp.Diff(result{0, "", "ETag: \"v2\"\n"}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestInboxTellsWhyNot(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		answer string
		want   string
	}{
		{"a problem", []string{"list"}, 400, `{"status":400,"code":"INVALID_REQUEST","detail":"before: is not a cursor of this inbox any more"}`,
			"peal inbox: refused: 400 INVALID_REQUEST before: is not a cursor of this inbox any more\n"},
		{"another has changed it", []string{"pref", "--set", "{}", "--if-match", "v1"}, 412, `{"status":412,"code":"PRECONDITION_FAILED","detail":"changed"}`,
			"peal inbox: refused: 412 PRECONDITION_FAILED changed\n"},
		{"no JSON", []string{"count"}, 200, "<html>", "peal inbox: an answer that is none: "},
		{"half an answer", []string{"list"}, 200, `{"notifications":[`, "peal inbox: an answer that is none: "},
		{"another answer", []string{"count"}, 200, `{"unread":"many"}`, "peal inbox: an answer that is none: "},
		{"no answer", []string{"read", "--all"}, 200, "", "peal inbox: an answer that is none: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newInboxServer(t, tt.status, "", tt.answer)
			args := append([]string{"inbox", tt.args[0], "--url", s.URL}, tt.args[1:]...)
			got := do(t, withToken, args...)
			if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%+v, want %q", got, tt.want)
			}
		})
	}
}

func TestInboxUsage(t *testing.T) {
	many := []string{"read"}
	for i := range 501 {
		many = append(many, "--id", fmt.Sprint(i))
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"nothing", nil, 2, []string{"peal inbox list", "peal inbox pref", "peal inbox --help"}},
		{"unknown", []string{"bark"}, 2, []string{"peal inbox list"}},
		{"an argument too many", []string{"count", "now"}, 2, []string{"now", "peal inbox count --help"}},
		{"no page", []string{"list", "--limit", "0"}, 2, []string{"--limit", "200"}},
		{"a page too large", []string{"list", "--limit", "201"}, 2, []string{"--limit", "200"}},
		{"a limit that is none", []string{"list", "--limit", "many"}, 2, []string{"limit"}},
		{"an unknown type", []string{"list", "--type", "party"}, 2, []string{"--type", "mention"}},
		{"an unknown priority", []string{"list", "--priority", "p1"}, 2, []string{"--priority", "urgent"}},
		{"a ticket that is not set", []string{"list", "--ticket", ""}, 2, []string{"--ticket", "empty"}},
		{"a cursor that is not set", []string{"list", "--before="}, 2, []string{"--before", "cursor"}},
		{"no cursor", []string{"list", "--before", "a\nb"}, 2, []string{"--before", "cursor"}},
		{"read nothing", []string{"read"}, 2, []string{"--id", "--up-to", "--all"}},
		{"read both", []string{"read", "--all", "--id", "n1"}, 2, []string{"--id", "--up-to", "--all"}},
		{"read no id", []string{"read", "--id", ""}, 2, []string{"--id", "empty"}},
		{"read too many", many, 2, []string{"--id", "500"}},
		{"read up to nothing", []string{"read", "--up-to", ""}, 2, []string{"--up-to", "cursor"}},
		{"all unread", []string{"read", "--all", "--unread"}, 2, []string{"--unread", "--all"}},
		{"not all", []string{"read", "--all=false"}, 2, []string{"--id", "--up-to", "--all"}},
		{"preferences that are none", []string{"pref", "--set", "{"}, 2, []string{"--set", "JSON object"}},
		{"preferences that are not set", []string{"pref", "--set", ""}, 2, []string{"--set"}},
		{"preferences of no file", []string{"pref", "--set", dir + "/no"}, 2, []string{"--set", "no such file"}},
		{"a file whose name is an escape sequence", []string{"pref", "--set", dir + "/\x1b[31m"}, 2, []string{"--set", "\ufffd[31m"}},
		{"a user beside a token", []string{"read", "--all", "--user", "jane"}, 2, []string{"--user", "PEAL_TOKEN"}},
		{"an address that is no URL", []string{"count", "--url", "localhost:1"}, 2, []string{"--url", "https://"}},
		{"preferences of nothing", []string{"pref", "--set", "-"}, 2, []string{"--set", "JSON object"}},
		{"an ETag alone", []string{"pref", "--if-match", "v1"}, 2, []string{"--if-match", "--set"}},
		{"an ETag that is not set", []string{"pref", "--set", "{}", "--if-match", ""}, 2, []string{"--if-match"}},
		{"an ETag that is none", []string{"pref", "--set", "{}", "--if-match", "a\nb"}, 2, []string{"--if-match"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, withToken, append([]string{"inbox"}, tt.args...)...)
			wantUsage(t, got, tt.status, tt.want)
		})
	}
	for _, sub := range inboxCommands() {
		wantUsage(t, do(t, nil, "inbox", sub.name), 2, []string{"--user USER is required"})
		args := map[string][]string{"read": {"--all"}}[sub.name]
		got := do(t, nil, append([]string{"inbox", sub.name, "--user", "jane", "--data", dir}, args...)...)
		wantUsage(t, got, 1, []string{"peal dev", "--url"})
		if got := do(t, nil, "inbox", sub.name, "--help"); got.status != 0 || !strings.Contains(got.stdout, "usage: peal inbox "+sub.name+" ") {
			t.Errorf("peal inbox %s --help: %+v", sub.name, got)
		}
	}
}

// wantUsage wants an exit status and one line that says something.
func wantUsage(t *testing.T, got result, status int, want []string) {
	t.Helper()
	if got.status != status || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("%+v, want exit status %d and one line", got, status)
	}
	for _, w := range want {
		if !strings.Contains(got.stderr, w) {
			t.Errorf("standard error %q does not say %q", got.stderr, w)
		}
	}
}

func TestTable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		columns int
		rows    [][]string
		want    string
	}{
		{"nothing", 80, nil, ""},
		{"aligned, and no blanks at the end", 80, [][]string{{"a", "b", "c"}, {"long", "", ""}, {"é", "●", "x"}}, "a     b  c\nlong\né     ●  x\n"},
		{"cut to the width", 20, [][]string{{"1234", "The printer is on fire"}, {"1", "Fire"}}, "1234  The printer i…\n1     Fire\n"},
		{"that just fits", 20, [][]string{{"1234", "12345678901234"}}, "1234  12345678901234\n"},
		{"no room at all", 5, [][]string{{"1234", "12345678901"}}, "1234  123456789…\n"},
		{"letters of two columns", 16, [][]string{{"日本", "打印机着火了请来"}, {"x", "y"}}, "日本  打印机着…\nx     y\n"},
		{"letters of none", 14, [][]string{{"e\u0301", "e\u0301e\u0301e\u0301 1234567"}}, "e\u0301  e\u0301e\u0301e\u0301 1234567\n"},
		{"what would move the cursor", 80, [][]string{{"\x1b[2Ja\r\n\x07", "b\u202ec\u2028d\u0085\u009b"}}, "�[2Ja���  b�c�d��\n"},
		{"what is no text", 80, [][]string{{"a\xff", "b"}}, "a�  b\n"},
		{"emoji that are joined", 80, [][]string{{"👩\u200d💻", "x"}}, "👩\u200d💻  x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := table(&got, tt.columns, tt.rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a terminal of 70 columns shows of each answer.
func TestInboxOnATerminal(t *testing.T) {
	show := func(v interface {
		show(w io.Writer, columns int) error
	}) string {
		var b bytes.Buffer
		if err := v.show(&b, 70); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	read := func(s string, v any) {
		t.Helper()
		if err := readAnswer([]byte(s), v); err != nil {
			t.Fatal(err)
		}
	}
	var p, none page
	read(`{"notifications":[
		{"id":"n2","type":"assignment","ticketNumber":"INC-2024-001234","title":"VPN Connection Issue","priority":"high","createdAt":"2025-07-10T12:35:00.000Z","read":false,"cursor":"aaaaaaaa-2"},
		{"id":"n1","type":"slaBreach","ticketNumber":"INC-2024-001234567890123456789","title":"Down","priority":"urgent","createdAt":"2025-07-09T02:05:00.000Z","read":true,"cursor":"aaaaaaaa-1"}],
		"next":"aaaaaaaa-1","cursor":"aaaaaaaa-2","readState":"bbbbbbbb-3"}`, &p)
	read(`{"notifications":[],"next":null}`, &none)
	var n, truncated counts
	read(`{"unread":3,"total":41,"unreadByPriority":{"urgent":1,"high":2,"medium":0,"low":0},"truncated":false,"readState":"x"}`, &n)
	read(`{"unread":1,"total":500,"unreadByPriority":{"urgent":1,"high":0,"medium":0,"low":0},"truncated":true,"readState":"x"}`, &truncated)
	var pref, empty preferences
	read(`{"types":{"merge":false,"comment":false,"mention":true},"minPriority":"medium","mutedTickets":["1","2"],"quietHours":{"from":"22:00","to":"07:00","timeZone":"Asia/Kolkata","exceptUrgent":true}}`, &pref)
	read(`{}`, &empty)
	at := func(i int) string { return p.Notifications[i].CreatedAt.Local().Format("2006-01-02 15:04") }
	for _, tt := range []struct{ name, got, want string }{
		{"list", show(p), `
TIME                 TYPE        PRIORITY  TICKET                    TITLE
` + at(0) + `  ●  assignment  high      INC-2024-001234           VPN Conne…
` + at(1) + `     slaBreach   urgent    INC-2024-00123456789012…  Down
There are older ones: --before aaaaaaaa-1
`},
		{"empty list", show(none), "\nNo notifications.\n"},
		{"count", show(n), `
unread    3 of 41
  urgent  1
  high    2
  medium  0
  low     0
`},
		{"truncated count", show(truncated), `
unread     1 of 500
  urgent   1
  high     0
  medium   0
  low      0
truncated  older ones were unread too, and are not kept any more
`},
		{"preferences", show(pref), `
types on        mention
types off       comment merge
least priority  medium
muted tickets   1 2
quiet hours     22:00 to 07:00, Asia/Kolkata, but for urgent ones
`},
		{"no preferences", show(empty), `
types on        default
types off       default
least priority  default
muted tickets   default
quiet hours     default
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), tt.got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
