package node_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
)

const (
	countPath = node.Base + "/ticket/notification/count"
	listPath  = node.Base + "/ticket/notification/list"
	readPath  = node.Base + "/ticket/notification/read"
)

// page is the answer of a list, or of a poll.
type page struct {
	Notifications []struct {
		ID, Cursor string
		Read       bool
	}
	Next              *string
	Cursor, ReadState string
	More, Gap         bool
}

// ids are those of the notifications, in the page's order.
func (p page) ids() []string {
	all := []string{}
	for _, n := range p.Notifications {
		all = append(all, n.ID)
	}
	return all
}

// inboxOf asks for something of the inbox of a user and wants it answered.
func inboxOf[T any](s *site, u user, method, path, body string) (v T) {
	s.t.Helper()
	path, raw, _ := strings.Cut(path, "?")
	a := s.do(s.request(context.Background(), method, path, u, body, query(raw)))
	if a.status != http.StatusOK {
		s.t.Fatalf("%s %s?%s: got %d %s", method, path, raw, a.status, a.body)
	}
	if ct, cc := a.header.Get("Content-Type"), a.header.Get("Cache-Control"); ct != "application/json" || cc != "no-store" {
		s.t.Errorf("%s: got %s, %s", path, ct, cc)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		s.t.Fatalf("%s: %v in %s", path, err, a.body)
	}
	return v
}

func (s *site) list(u user, query string) page {
	s.t.Helper()
	return inboxOf[page](s, u, "GET", listPath+"?"+query, "")
}

// counted is the answer of count.
type counted struct {
	Unread, Total    int
	UnreadByPriority map[string]int
	Truncated        bool
	ReadState        string
}

func (s *site) count(u user) counted {
	s.t.Helper()
	return inboxOf[counted](s, u, "GET", countPath, "")
}

func (s *site) mark(u user, body string) (m struct{ Changed, Unread int }) {
	s.t.Helper()
	return inboxOf[struct{ Changed, Unread int }](s, u, "PUT", readPath, body)
}

// stored stores n<from> to n<to> for jane.
func (s *site) stored(from, to int) (ids []string) {
	s.t.Helper()
	for i := from; i <= to; i++ {
		id := fmt.Sprint("n", i)
		s.store(inbox("jane"), note(id))
		ids = append(ids, id)
	}
	return ids
}

// A list has what was stored, byte by byte, but for read and the cursor.
func TestListIsWhatWasStored(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	empty := s.do(s.request(context.Background(), "GET", listPath, jane, ""))
	if got := string(empty.body); !strings.HasPrefix(got, `{"notifications":[],"next":null,"cursor":"`) || !strings.HasSuffix(got, "\"}\n") {
		t.Errorf("an empty inbox: got %s", got)
	}

	c := s.connect(jane)
	c.greeting()
	n := note("n1")
	n.Title, n.Metadata, n.Silent = `<b> "cursor":"x"} ü`, peal.Metadata{"cursor": `,"read":false,`}, true
	first := s.store(inbox("jane"), n)
	second := s.store(inbox("jane"), note("n2"))
	var at []string
	for range 2 {
		at = append(at, c.next("notification").ID)
	}
	s.mark(jane, `{"ids":["n1"]}`)

	a := s.do(s.request(context.Background(), "GET", listPath, jane, ""))
	state := s.count(jane).ReadState
	entry := func(n peal.Notification, read, cursor string) string {
		data, ok := strings.CutSuffix(strings.Replace(string(n.Encode()), `,"read":false,`, `,"read":`+read+`,`, 1), "}")
		if !ok {
			t.Fatal("no object")
		}
		return data + `,"cursor":"` + cursor + `"}`
	}
	want := `{"notifications":[` + entry(second, "false", at[1]) + "," + entry(first, "true", at[0]) + `],"next":null,"cursor":"` + at[1] + `","readState":"` + state + "\"}\n"
	if diff := cmp.Diff(want, string(a.body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Pages follow one another without a hole or a repeat, also while more arrives,
// and what came after the list follows its cursor.
func TestListByPages(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	want := s.stored(1, 60)
	slices.Reverse(want)

	first := s.list(jane, "")
	if diff := cmp.Diff(want[:50], first.ids()); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	s.stored(61, 61)
	var got []string
	for before := ""; ; {
		p := s.list(jane, "limit=7"+before)
		got = append(got, p.ids()...)
		if p.Next == nil {
			break
		}
		before = "&before=" + *p.Next
	}
	if diff := cmp.Diff(append([]string{"n61"}, want...), got); diff != "" {
		t.Errorf("by pages (-want +got):\n%s", diff)
	}
	c := s.connect(jane, header("Last-Event-ID", first.Cursor))
	if _, g := c.greeting(); !g.Recovered {
		t.Error("the list's cursor is not one to connect after")
	}
	if got := c.notification(); got != "n61" {
		t.Errorf("after the list came %s, want n61", got)
	}
	if p := s.list(s.user("acme", acme, "joe"), ""); len(p.Notifications) != 0 || p.Next != nil {
		t.Errorf("somebody else has %v", p.ids())
	}
}

func TestListByFilters(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	add := func(id string, kind peal.Type, ticket string) {
		n := note(id)
		n.Type, n.TicketID = kind, ticket
		s.store(inbox("jane"), n)
	}
	add("breach", peal.SLABreach, "a&b") // urgent
	add("mention", peal.Mention, "1")    // high
	add("merge", peal.Merge, "1")        // low
	add("comment", peal.Comment, "2")    // medium
	s.mark(jane, `{"ids":["mention","merge"]}`)
	for query, want := range map[string][]string{
		"unread=false":                              {"comment", "merge", "mention", "breach"},
		"unread=true":                               {"comment", "breach"},
		"unread=true&limit=1":                       {"comment"},
		"type=merge":                                {"merge"},
		"type=merge&type=slaBreach":                 {"merge", "breach"},
		"priority=medium&priority=high":             {"comment", "mention"},
		"priority=urgent&type=merge":                {},
		"ticketId=1":                                {"merge", "mention"},
		"ticketId=1&unread=true":                    {},
		"ticketId=" + url.QueryEscape("a&b"):        {"breach"},
		"ticketId=*":                                {},
		"limit=200&tenantId=x&realmName=y&colour=z": {"comment", "merge", "mention", "breach"},
	} {
		p := s.list(jane, query)
		if diff := cmp.Diff(want, p.ids()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		for _, n := range p.Notifications {
			if n.Read != (n.ID == "mention" || n.ID == "merge") {
				t.Errorf("%s: %s has read=%v", query, n.ID, n.Read)
			}
		}
	}
	if n := s.metric(`peal_inbox_request_duration_seconds_count{call="list"}`); n != 12 {
		t.Errorf("%v lists were timed, want 12", n)
	}
	c := s.count(jane)
	want := counted{2, 4, map[string]int{"urgent": 1, "high": 0, "medium": 1, "low": 0}, false, s.list(jane, "").ReadState}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("count (-want +got):\n%s", diff)
	}
}

// What one device marks, the others have, on every node, and nobody else.
func TestMarkOnOneNodeIsSeenOnAnother(t *testing.T) {
	s := start(t, nil)
	other := s.another()
	jane, joe := s.jane(), s.user("acme", acme, "joe")
	for _, name := range []string{"jane", "joe"} {
		for i := 1; i <= 4; i++ {
			s.store(inbox(name), note(fmt.Sprint("n", i)))
		}
	}
	before := s.list(joe, "")
	for _, step := range []struct {
		at     *site
		body   string
		change int
		unread []string
	}{
		{s, `{"ids":["n2"]}`, 1, []string{"n4", "n3", "n1"}},
		{other, `{"ids":["n2","n2","n9"]}`, 0, []string{"n4", "n3", "n1"}},
		{s, `{"upTo":"` + s.list(jane, "").Notifications[1].Cursor + `"}`, 2, []string{"n4"}},
		{other, `{"ids":["n1","n4"],"read":false}`, 1, []string{"n4", "n1"}},
		{s, `{"all":true,"read":true}`, 2, []string{}},
		{s, `{"upTo":"` + s.list(jane, "").Notifications[2].Cursor + `","read":false}`, 2, []string{"n2", "n1"}},
		{other, `{"upTo":"aaaaaaaa-9"}`, 0, []string{"n2", "n1"}},
	} {
		m := step.at.mark(jane, step.body)
		if m.Changed != step.change || m.Unread != len(step.unread) {
			t.Errorf("%s: got %+v, want %d changed and %d unread", step.body, m, step.change, len(step.unread))
		}
		for _, at := range []*site{s, other} {
			if diff := cmp.Diff(step.unread, at.list(jane, "unread=true").ids()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.body, diff)
			}
			if c := at.count(jane); c.Unread != len(step.unread) || c.Total != 4 || c.UnreadByPriority["high"] != c.Unread {
				t.Errorf("%s: counted %+v", step.body, c)
			}
		}
	}
	if diff := cmp.Diff(before, s.list(joe, "")); diff != "" {
		t.Errorf("joe's inbox has changed (-before +after):\n%s", diff)
	}
}

// Every device, on whichever node, is told what has changed, or to fetch the list
// again; whoever resumes finds the current values.
func TestReadStateIsToldToEveryDevice(t *testing.T) {
	s := start(t, nil)
	other := s.another()
	jane := s.jane()
	s.stored(1, 2)
	joe := s.connect(s.user("acme", acme, "joe"))
	joe.greeting()
	var devices []*connection
	for _, at := range []*site{s, other, s} {
		c := at.connect(jane)
		if _, g := c.greeting(); g.Unread != 2 || g.ReadState != s.count(jane).ReadState {
			t.Errorf("greeted with %+v, want 2 unread in %+v", g, s.count(jane))
		}
		devices = append(devices, c)
	}
	told := func(changed string, unread int) {
		t.Helper()
		want := fmt.Sprintf(`{"unread":%d,"readState":"%s",%s}`, unread, other.count(jane).ReadState, changed)
		for i, c := range devices {
			if e := c.next("state"); e.ID != "" || string(e.Data) != want {
				t.Errorf("device %d: got id %q and %s, want %s", i, e.ID, e.Data, want)
			}
		}
	}
	s.mark(jane, `{"ids":["n1"]}`)
	told(`"changed":[{"id":"n1","read":true}]`, 1)
	other.mark(jane, `{"all":true}`)
	told(`"changed":[{"id":"n2","read":true}]`, 0)
	other.mark(jane, `{"ids":["n1"],"read":false}`)
	told(`"changed":[{"id":"n1","read":false}]`, 1)

	resumed := other.connect(jane, header("Last-Event-ID", s.list(jane, "").Notifications[1].Cursor))
	resumed.greeting()
	if e := resumed.next("notification"); field(t, e, "id") != "n2" || field(t, e, "read") != true {
		t.Errorf("replayed %s, want n2 as read", e.Data)
	}
	s.stored(3, 103)
	for _, c := range devices {
		for i := 3; i <= 103; i++ {
			if got := c.notification(); got != fmt.Sprint("n", i) {
				t.Fatalf("got %s, want n%d", got, i)
			}
		}
	}
	s.mark(jane, `{"all":true}`)
	told(`"refetch":true`, 0)
	s.store(inbox("joe"), note("after"))
	if got := joe.notification(); got != "after" {
		t.Errorf("joe got %s", got)
	}
}

// An id of somebody else's notification is as one that nobody has.
func TestForeignIDsBetrayNothing(t *testing.T) {
	s := start(t, nil)
	jane, joe := s.jane(), s.user("acme", acme, "joe")
	s.store(inbox("joe"), note("joes"))
	s.store(peal.Inbox{Tenant: shared, Namespace: "acme", User: "jane"}, note("elsewhere"))
	s.store(inbox("jane"), note("own"))
	foreign := s.list(joe, "").Notifications[0].Cursor
	epoch, _, _ := strings.Cut(foreign, "-")
	var first answer
	for i, body := range []string{
		`{"ids":["nobodys"]}`, `{"ids":["joes"]}`, `{"ids":["elsewhere"]}`,
		`{"upTo":"` + epoch + `-99"}`, `{"upTo":"` + foreign + `"}`,
	} {
		a := s.do(s.request(context.Background(), "PUT", readPath, jane, body))
		for _, h := range []http.Header{a.header, first.header} {
			h.Del("X-Request-Id")
			h.Del("Date")
		}
		if i == 0 {
			first = a
		}
		if diff := cmp.Diff(first, a, cmp.AllowUnexported(answer{})); diff != "" || string(a.body) != `{"changed":0,"unread":1}`+"\n" {
			t.Errorf("%s: got %s (-first +got):\n%s", body, a.body, diff)
		}
	}
	if c := s.count(joe); c.Unread != 1 {
		t.Errorf("joe has %d unread, want 1", c.Unread)
	}
}

func TestMalformedListIsRefused(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	long := strings.Repeat("x", 129)
	rows := []refusal{
		{"a body", []edit{body("x")}, 400, "INVALID_REQUEST", "body"},
		{"a token in the query", []edit{query("token=" + canary)}, 400, "INVALID_REQUEST", "token"},
		{"a token under another name", []edit{query("before=" + jane.token)}, 400, "INVALID_REQUEST", "query"},
		{"malformed query", []edit{query("limit=%zz")}, 400, "INVALID_REQUEST", "query"},
		{"no tenant", []edit{header("x-tenantid")}, 400, "INVALID_REQUEST", "x-tenantid"},
		{"tenant of another realm", []edit{header("x-tenantid", string(globex))}, 403, "FORBIDDEN", ""},
		{"no token", []edit{header("Authorization")}, 401, "UNAUTHENTICATED", ""},
		{"before of another incarnation", []edit{query("before=aaaaaaaa-1")}, 400, "INVALID_REQUEST", "before"},
	}
	for name, queries := range map[string][]string{
		"limit":    {"limit=", "limit=0", "limit=201", "limit=-1", "limit=+5", "limit=05", "limit=5.0", "limit=1e2", "limit=99999999999999999999", "limit=" + canary, "limit=5&limit=5"},
		"before":   {"before=", "before=x", "before=aaaaaaaa", "before=aaaaaaaa-01", "before=aaaaaaaa-99999999999999999999", "before=" + canary, "before=aaaaaaaa-1&before=aaaaaaaa-1", "after=aaaaaaaa-1&before=aaaaaaaa-1"},
		"unread":   {"unread=", "unread", "unread=1", "unread=True", "unread=" + canary, "unread=true&unread=true", "after=aaaaaaaa-1&unread=false"},
		"type":     {"type=", "type=Mention", "type=mention&type=" + canary, "type=mention,merge", "after=aaaaaaaa-1&type=mention"},
		"priority": {"priority=", "priority=High", "priority=low&priority=" + canary, "after=aaaaaaaa-1&priority=low"},
		"ticketId": {"ticketId=", "ticketId=" + long, "ticketId=%ff", "ticketId=a%00", "ticketId=1&ticketId=1", "after=aaaaaaaa-1&ticketId=1"},
		"after":    {"after=", "after=x", "after=aaaaaaaa-1 ", "after=AAAAAAAA-1", "after=" + canary, "after=aaaaaaaa-1&after=aaaaaaaa-1"},
		"wait":     {"wait=5", "wait=5&limit=3", "after=aaaaaaaa-1&wait=", "after=aaaaaaaa-1&wait=0", "after=aaaaaaaa-1&wait=61", "after=aaaaaaaa-1&wait=1.5", "after=aaaaaaaa-1&wait=5s", "after=aaaaaaaa-1&wait=5&wait=5"},
	} {
		for _, q := range queries {
			q = strings.ReplaceAll(q, " ", "%20")
			rows = append(rows, refusal{q, []edit{query(q)}, 400, "INVALID_REQUEST", name})
		}
	}
	s.wantRefused(rows, func() *http.Request { return s.request(context.Background(), "GET", listPath, jane, "") })
	for _, path := range []string{countPath, listPath} {
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, jane, "", query("jwt=x"))), 400, "INVALID_REQUEST", "jwt")
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, jane, "", body("{}"))), 400, "INVALID_REQUEST", "body")
	}
}

func TestMalformedMarkIsRefused(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	long := strings.Repeat("x", 129)
	invalid := func(name, detail, b string) refusal {
		return refusal{name, []edit{body(b)}, 400, "INVALID_REQUEST", detail}
	}
	rows := []refusal{
		invalid("empty body", "body", ""),
		invalid("no JSON", "body", "{"),
		invalid("an array", "body", `["`+canary+`"]`),
		invalid("null", "body", "null"),
		invalid("nothing", "exactly one", "{}"),
		invalid("read alone", "exactly one", `{"read":true}`),
		invalid("ids that are null, and all", "ids", `{"ids":null,"all":true}`),
		invalid("a cursor that is null, and ids", "upTo", `{"upTo":null,"ids":["n1"]}`),
		invalid("all that is null, and a cursor", "all", `{"all":null,"upTo":"aaaaaaaa-1"}`),
		invalid("read that is null", "read", `{"ids":["n1"],"read":null}`),
		invalid("two", "exactly one", `{"ids":["n1"],"all":true}`),
		invalid("two others", "exactly one", `{"upTo":"aaaaaaaa-1","all":true}`),
		invalid("all three", "exactly one", `{"ids":["n1"],"upTo":"aaaaaaaa-1","all":true}`),
		invalid("one that is false", "all", `{"all":false}`),
		invalid("all of a number", "all", `{"all":1}`),
		invalid("all of a string", "all", `{"all":"true"}`),
		invalid("all unread", "read", `{"all":true,"read":false}`),
		invalid("read that is no boolean", "read", `{"all":true,"read":"`+canary+`"}`),
		invalid("no ids", "ids", `{"ids":[]}`),
		invalid("too many ids", "ids", `{"ids":["a"`+strings.Repeat(`,"a"`, 500)+`]}`),
		invalid("ids of a string", "ids", `{"ids":"n1"}`),
		invalid("an id that is a number", "ids[1]", `{"ids":["n1",2]}`),
		invalid("an id that is null", "ids[0]", `{"ids":[null]}`),
		invalid("an empty id", "ids[1]", `{"ids":["n1",""]}`),
		invalid("a long id", "ids[0]", `{"ids":["`+long+`"]}`),
		invalid("an id with a control character", "ids[0]", `{"ids":["a\u0000"]}`),
		invalid("an id that is not UTF-8", "ids[0]", "{\"ids\":[\"\xff\"]}"),
		invalid("an empty cursor", "upTo", `{"upTo":""}`),
		invalid("no cursor", "upTo", `{"upTo":"`+canary+`"}`),
		invalid("a cursor that is a number", "upTo", `{"upTo":5}`),
		invalid("a cursor that is too long", "upTo", `{"upTo":"aaaaaaaa-99999999999999999999"}`),
		invalid("unknown field", "id", `{"id":"n1"}`),
		invalid("case variant", "All", `{"All":true}`),
		invalid("repeated field", "all", `{"all":true,"all":true}`),
		invalid("something follows", "body", `{"all":true}{}`),
		{"a token in the query", []edit{query("token=" + canary)}, 400, "INVALID_REQUEST", "token"},
		{"body of more than a mebibyte", []edit{body(`{"all":true` + strings.Repeat(" ", 1<<20) + "}")}, 413, "TOO_LARGE", "1 MiB"},
		{"form", []edit{header("Content-Type", "application/x-www-form-urlencoded")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"no media type", []edit{header("Content-Type")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"content encoding", []edit{header("Content-Encoding", "gzip")}, 415, "UNSUPPORTED_MEDIA_TYPE", "content encoding"},
	}
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "PUT", readPath, jane, `{"all":true}`)
	})
	if got := s.mark(jane, `{"ids":["a"`+strings.Repeat(`,"a"`, 499)+`]}`); got.Unread != 1 {
		t.Errorf("500 ids: got %+v, want the sentinel unread: something refused was marked", got)
	}
}

func TestRefusalsOfTheInboxAreDecidedInOrder(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser, c.node.RequestsPerUser = 1, 1 })
	token := func(name string, roles ...string) string {
		return s.token("strict", issuer.Claims{Subject: name, Roles: roles})
	}
	waiting := user{"strict", acme, token("waiting", "may-connect")}
	at := s.list(waiting, "").Cursor
	open := s.poll(waiting, "after="+at+"&wait=60")
	s.awaitPolls(1)
	s.nats.Close()

	malformed := func(detail, mended string) []fault {
		return []fault{{400, "INVALID_REQUEST", detail, query(mended)}}
	}
	for _, row := range []struct {
		name, method, path, query string
		bad                       []edit
		faults                    []fault
		occupied                  bool // the user's one poll waits already
	}{
		{"count", "GET", countPath, "token=x", nil, malformed("token", ""), false},
		{"list", "GET", listPath, "limit=x", nil, malformed("limit", ""), false},
		{"poll", "GET", listPath, "after=x", nil, malformed("after", "after="+at), false},
		{"waiting", "GET", listPath, "wait=1", nil, malformed("wait", "wait=1&after="+at), true},
		{"read", "PUT", readPath, "", []edit{header("Content-Type", "text/plain"), body(`{"all":false}`)}, []fault{
			{415, "UNSUPPORTED_MEDIA_TYPE", "", header("Content-Type", "application/json")},
			{400, "INVALID_REQUEST", "all", body(`{"all":true}`)},
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.t = t
			may, maynot := token(row.name, "may-connect"), token(row.name)
			faulty := func(mended ...edit) *http.Request {
				edits := append([]edit{query(row.query)}, row.bad...)
				return s.request(context.Background(), "PATCH", row.path+"/x", user{"strict", "nonsense", "short"}, "", append(edits, mended...)...)
			}
			mended := s.wantInOrder(faulty, slices.Concat([]fault{
				{404, "NOT_FOUND", "", func(r *http.Request) { r.URL.Path = row.path }},
				{405, "METHOD_NOT_ALLOWED", "", method(row.method)},
			}, row.faults, []fault{
				{401, "UNAUTHENTICATED", "", header("Authorization", "Bearer "+maynot)},
				{400, "INVALID_REQUEST", "x-tenantid", header("x-tenantid", string(globex))},
				{403, "FORBIDDEN", "", header("x-tenantid", string(acme))},
				{403, "FORBIDDEN", "", header("Authorization", "Bearer "+may)},
			}))
			last := func() answer { return s.do(faulty(mended...)) }
			if row.occupied {
				wantProblem(t, last(), 429, "CONNECTION_LIMIT", "")
				open.leave()
				s.awaitPolls(0)
			}
			a := last()
			wantProblem(t, a, 503, "UNAVAILABLE", "")
			for tries := 0; a.status == 503 && tries < 100; tries++ {
				a = last()
			}
			wantProblem(t, a, 429, "RATE_LIMIT", "")
		})
	}
	s.t = t
}

// A page in a tight loop hears how long to wait; another user does not notice.
func TestRequestsInATightLoopAreRefused(t *testing.T) {
	s := start(t, func(c *config) { c.node.RequestsPerUser = 2 })
	jane := s.jane()
	calls := []func(user) answer{
		func(u user) answer { return s.do(s.request(context.Background(), "GET", countPath, u, "")) },
		func(u user) answer { return s.do(s.request(context.Background(), "GET", listPath, u, "")) },
		func(u user) answer { return s.do(s.request(context.Background(), "PUT", readPath, u, `{"all":true}`)) },
		func(u user) answer { return s.do(s.request(context.Background(), "GET", userPreferencePath, u, "")) },
		func(u user) answer { return s.do(s.request(context.Background(), "PUT", userPreferencePath, u, "{}")) },
	}
	taken := 0
	var last answer
	for ; taken < 200; taken++ {
		if last = calls[taken%len(calls)](jane); last.status != 200 {
			break
		}
	}
	wantProblem(t, last, 429, "RATE_LIMIT", "Retry-After")
	if taken < 20 {
		t.Errorf("refused after %d, want a burst of 20", taken)
	}
	if wait, _ := strconv.Atoi(last.header.Get("Retry-After")); wait < 1 || wait > 3 {
		t.Errorf("Retry-After: got %d, want the second that is left, and up to 2 more", wait)
	}
	if got := s.metric(`peal_requests_refused_total{code="RATE_LIMIT",reason="requests"}`); got != 1 {
		t.Errorf("counted %v times, want once", got)
	}
	s.connect(jane).greeting() // is another matter
	for _, call := range calls {
		if a := call(s.user("acme", acme, "joe")); a.status != 200 {
			t.Errorf("somebody else: got %d %s", a.status, a.body)
		}
	}
}

// By the cookie of a session a page reads its inbox and changes nothing.
func TestCookieReadsTheInbox(t *testing.T) {
	s := start(t, withCookies)
	jane := s.jane()
	s.stored(1, 2)
	as := func(more string) edit {
		return func(r *http.Request) {
			asEventSource(jane)(r)
			r.URL.RawQuery += more
		}
	}
	for path, want := range map[string]string{countPath: `"unread":2`, listPath: `"n2"`} {
		a := s.do(s.request(context.Background(), "GET", path, user{}, "", as("")))
		if a.status != 200 || !strings.Contains(string(a.body), want) {
			t.Errorf("%s: got %d %s, want %s", path, a.status, a.body, want)
		}
		if got := a.header.Get("Access-Control-Allow-Origin"); got != shop {
			t.Errorf("%s: shared with %q", path, got)
		}
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, user{}, "", as("&tenantId=x"))), 400, "INVALID_REQUEST", "tenantId")
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, user{}, "", as("&realmName=x"))), 401, "UNAUTHENTICATED", "")
		wantProblem(t, s.do(s.request(context.Background(), "GET", path, user{}, "", as(""), header("Origin", "https://evil.example"))), 401, "UNAUTHENTICATED", "")
	}
	a := s.do(s.request(context.Background(), "GET", listPath, user{}, "", as("&limit=1&type=mention")))
	if a.status != 200 || !strings.Contains(string(a.body), `"n2"`) || strings.Contains(string(a.body), `"n1"`) {
		t.Errorf("with parameters: got %d %s", a.status, a.body)
	}
	wantProblem(t, s.do(s.request(context.Background(), "PUT", readPath, user{}, `{"all":true}`, as(""))), 401, "UNAUTHENTICATED", "")
	if c := s.count(jane); c.Unread != 2 {
		t.Errorf("%d are unread, want 2", c.Unread)
	}
}

func TestInboxPreflights(t *testing.T) {
	s := start(t, withOrigins)
	for path, method := range map[string]string{countPath: "GET", listPath: "GET", readPath: "PUT"} {
		a := s.do(s.request(context.Background(), "OPTIONS", path, user{}, "", header("Origin", shop), header("Access-Control-Request-Method", method)))
		if got := a.header.Get("Access-Control-Allow-Methods"); a.status != 204 || got != method {
			t.Errorf("%s: got %d and %q, want %s", path, a.status, got, method)
		}
	}
}

// While JetStream is away the inbox is, and says so within the time that the
// bus gives a question.
func TestInboxIsUnavailableWithoutJetStream(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	cursor := s.list(jane, "").Cursor
	s.nats.Close()
	for _, ask := range [][3]string{{"GET", countPath}, {"GET", listPath}, {"GET", listPath + "?after=" + cursor}, {"GET", listPath + "?wait=60&after=" + cursor}, {"PUT", readPath, `{"all":true}`}} {
		path, raw, _ := strings.Cut(ask[1], "?")
		began := time.Now()
		wantProblem(t, s.do(s.request(context.Background(), ask[0], path, jane, ask[2], query(raw))), 503, "UNAVAILABLE", "")
		if d := time.Since(began); d > 7*time.Second {
			t.Errorf("%s: answered after %v", ask[1], d)
		}
	}
	if n := s.metric("peal_polls_waiting"); n != 0 {
		t.Errorf("%v polls wait", n)
	}
}

// What somebody with rights on the bus stores past us does not spoil the answer.
func TestForeignMessagesAreNotListed(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	start := s.list(jane, "").Cursor
	s.stored(1, 1)
	foreign := []string{
		"", "x", `"}`, "{", "}", `[{}]`, `{"id":"f"`, `{"id":"f"}}`, `{"id":"f","cursor":"x"}`, `{"id":"f","id":"g"}`, "{\"id\":\"\xff\"}", `{"id":"f",}`,
	}
	for _, data := range foreign {
		s.storeRaw(data)
	}
	s.storeRaw(`{}`)
	s.storeRaw(" {\"id\":\"odd\"}\n")
	s.stored(2, 2)
	if diff := cmp.Diff([]string{"n2", "odd", "", "n1"}, s.list(jane, "").ids()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if got := s.metric("peal_notifications_unsendable_total"); got != float64(len(foreign)) {
		t.Errorf("%v were skipped, want %d", got, len(foreign))
	}
	p := s.list(jane, "after="+start)
	if diff := cmp.Diff([]string{"n1", "", "odd", "n2"}, p.ids()); diff != "" || p.Cursor != p.Notifications[3].Cursor {
		t.Errorf("poll to %s (-want +got):\n%s", p.Cursor, diff)
	}
}

// storeRaw stores for jane what is no notification, as whoever has rights on the
// bus can.
func (s *site) storeRaw(data string) {
	s.t.Helper()
	s.storeRawAt(fmt.Sprintf("peal.inbox.local.0.%s.acme.=%s", acme, base64.RawURLEncoding.EncodeToString([]byte("jane"))), data)
}

func (s *site) storeRawAt(subject, data string) {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.nats))
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := js.Publish(s.t.Context(), subject, []byte(data)); err != nil {
		s.t.Fatal(err)
	}
}
