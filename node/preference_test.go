package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the rules of the zones below, wherever the tests run

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
)

const (
	userPreferencePath   = node.Base + "/user/preference"
	tenantPreferencePath = node.Base + "/tenant/preference"
)

// preference gets or puts preferences, at the node that s is.
func (s *site) preference(method, path string, u user, body string, edits ...edit) answer {
	s.t.Helper()
	return s.do(s.request(context.Background(), method, path, u, body, edits...))
}

// prefer puts preferences and wants them stored.
func (s *site) prefer(path string, u user, body string) (tag string) {
	s.t.Helper()
	a := s.preference("PUT", path, u, body)
	if a.status != 200 {
		s.t.Fatalf("PUT %s %s: got %d %s, want 200", path, body, a.status, a.body)
	}
	return a.header.Get("ETag")
}

func wantPreference(t *testing.T, what string, a answer, body, tag string) {
	t.Helper()
	if a.status != 200 || string(a.body) != body || a.header.Get("ETag") != tag ||
		a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: got %d %s %v, want %s with ETag %s", what, a.status, a.body, a.header, body, tag)
	}
}

func TestPreferencesAreStoredWhole(t *testing.T) {
	s := start(t, nil)
	other := s.another()
	jane, boss := s.jane(), s.administrator(acme)
	// An entity tag is one of the content: of no node, and of no time.
	const (
		none     = `"RBNvo1WzZ4oRRq0W9-hknpT7"`
		usersAll = `{"types":{"comment":false},"minPriority":"low","mutedTickets":["12345","7"],"quietHours":{"from":"22:00","to":"07:00","timeZone":"Asia/Kolkata","exceptUrgent":true}}`
	)
	wantPreference(t, "nothing stored", s.preference("GET", userPreferencePath, jane, ""), "{}", none)
	wantPreference(t, "nothing stored for the tenant", s.preference("GET", tenantPreferencePath, boss, ""), "{}", none)

	first := s.prefer(userPreferencePath, jane, `{ "quietHours" : {"timeZone":"Asia/Kolkata","to":"07:00","from":"22:00","exceptUrgent":true},
		"mutedTickets":["7","12345"], "minPriority":"low", "types":{"comment":false}}`)
	wantPreference(t, "on another node", other.preference("GET", userPreferencePath, jane, ""), usersAll, first)
	if first == none {
		t.Errorf("ETag %s of something and of nothing", first)
	}
	if again := other.prefer(userPreferencePath, jane, usersAll); again != first {
		t.Errorf("ETag %s of the same that was stored again, want %s", again, first)
	}
	wantPreference(t, "of joe", s.preference("GET", userPreferencePath, s.user("acme", acme, "joe"), ""), "{}", none)
	wantPreference(t, "of jane elsewhere", s.preference("GET", userPreferencePath, s.user("acme", shared, "jane"), ""), "{}", none)
	wantPreference(t, "of the tenant", s.preference("GET", tenantPreferencePath, boss, ""), "{}", none)

	tag := s.prefer(tenantPreferencePath, boss, `{"locked":["slaBreach","approval"],"minPriority":"medium"}`)
	wantPreference(t, "of the tenant", other.preference("GET", tenantPreferencePath, boss, ""), `{"minPriority":"medium","locked":["approval","slaBreach"]}`, tag)
	wantPreference(t, "of another tenant", s.preference("GET", tenantPreferencePath, s.administrator(globex), ""), "{}", none)
	wantPreference(t, "of jane", s.preference("GET", userPreferencePath, jane, ""), usersAll, first)
	if logs := s.logs.String(); !strings.Contains(logs, `msg="tenant preferences changed" audit=true`) || !strings.Contains(logs, `by="boss in realm service" tenant=`+string(acme)) {
		t.Errorf("the log does not say who has changed the tenant's:\n%s", logs)
	}

	// What is absent is not what was there, but the default.
	s.prefer(userPreferencePath, jane, `{"minPriority":"high"}`)
	if a := s.preference("GET", userPreferencePath, jane, ""); string(a.body) != `{"minPriority":"high"}` {
		t.Errorf("got %s, want only what was put last", a.body)
	}
	for _, empty := range []string{"{}", `{"types":{},"mutedTickets":[]}`} {
		if tag := s.prefer(userPreferencePath, jane, empty); tag != none {
			t.Errorf("%s: ETag %s, want that of nothing, %s", empty, tag, none)
		}
	}
}

func TestPreconditionsOfPreferences(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	const body = `{"minPriority":"high"}`
	tag := s.prefer(userPreferencePath, jane, body)
	for _, tt := range []struct {
		name     string
		given    edit
		get, put int
	}{
		{"what is there", header("If-Match", tag), 200, 200},
		{"among others", header("If-Match", `"a", `+tag+` ,"b,c"`), 200, 200},
		{"in a second line", header("If-Match", `"a"`, tag), 200, 200},
		{"whatever is there", header("If-Match", "*"), 200, 200},
		{"something else", header("If-Match", `"a"`), 412, 412},
		{"a weak one", header("If-Match", "W/"+tag), 412, 412},
		{"not what is there", header("If-None-Match", tag), 304, 412},
		{"among others not", header("If-None-Match", `"a",`+tag), 304, 412},
		{"weakly not what is there", header("If-None-Match", "W/"+tag), 304, 412},
		{"nothing that is there", header("If-None-Match", "*"), 304, 412},
		{"not something else", header("If-None-Match", `"a", W/"b"`), 200, 200},
		{"both, and it is", func(r *http.Request) { header("If-Match", tag)(r); header("If-None-Match", `"a"`)(r) }, 200, 200},
		{"both, and the first is not", func(r *http.Request) { header("If-Match", `"a"`)(r); header("If-None-Match", tag)(r) }, 412, 412},
		{"both, and the second is not", func(r *http.Request) { header("If-Match", tag)(r); header("If-None-Match", tag)(r) }, 304, 412},
		{"no tag", header("If-Match", tag[1:]), 400, 400},
		{"a tag without its end", header("If-Match", `"a`), 400, 400},
		{"nothing", header("If-Match", ""), 400, 400},
		{"nothing between commas", header("If-Match", " , ,"), 400, 400},
		{"a star among tags", header("If-Match", `*, "a"`), 400, 400},
		{"no comma between", header("If-Match", `"a" "b"`), 400, 400},
		{"a small w", header("If-Match", `w/"a"`), 400, 400},
		{"a space in it", header("If-Match", `"a b"`), 400, 400},
		{"a malformed If-None-Match", header("If-None-Match", canary), 400, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for method, want := range map[string]int{"GET": tt.get, "PUT": tt.put} {
				send := body
				if method == "GET" {
					send = ""
				}
				a := s.preference(method, userPreferencePath, jane, send, tt.given)
				switch want {
				case 200:
					wantPreference(t, method, a, body, tag)
				case 304:
					if a.status != 304 || len(a.body) > 0 || a.header.Get("ETag") != tag || a.header.Get("Content-Type") != "" || a.header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s: got %d %q %v, want 304 with ETag %s", method, a.status, a.body, a.header, tag)
					}
				case 412:
					wantProblem(t, a, 412, "PRECONDITION_FAILED", "If-Match")
				default:
					wantProblem(t, a, 400, "INVALID_REQUEST", "If-")
				}
			}
		})
	}
	if a := s.preference("PUT", userPreferencePath, jane, `{"minPriority":"low"}`, header("If-Match", `"a"`)); a.status != 412 {
		t.Errorf("got %d %s, want 412", a.status, a.body)
	}
	wantPreference(t, "after all refusals", s.preference("GET", userPreferencePath, jane, ""), body, tag)
}

// Who has read the same and writes it at once on several nodes, must not
// overwrite another: one gets through, and the others hear of it.
func TestOneOfManyPutsGetsThrough(t *testing.T) {
	s := start(t, nil)
	nodes := []*site{s, s.another()}
	for path, u := range map[string]user{userPreferencePath: s.jane(), tenantPreferencePath: s.administrator(acme)} {
		tag := s.preference("GET", path, u, "").header.Get("ETag")
		const tries = 24
		answers := make([]answer, tries)
		var wg sync.WaitGroup
		for i := range tries {
			r := nodes[i%2].request(context.Background(), "PUT", path, u, fmt.Sprintf(`{"mutedTickets":["%d"]}`, i), header("If-Match", tag))
			wg.Go(func() { answers[i], _ = nodes[i%2].try(nodes[i%2].client, r) })
		}
		wg.Wait()
		through := -1
		for i, a := range answers {
			switch {
			case a.status == 200 && through >= 0:
				t.Errorf("%s: %d and %d got through", path, through, i)
			case a.status == 200:
				through = i
			case a.status != 412:
				t.Errorf("%s: got %d %s, want 200 or 412", path, a.status, a.body)
			}
		}
		if through < 0 {
			t.Fatalf("%s: nobody got through", path)
		}
		wantPreference(t, path, nodes[0].preference("GET", path, u, ""), fmt.Sprintf(`{"mutedTickets":["%d"]}`, through), answers[through].header.Get("ETag"))
	}
}

func TestMalformedPreferencesAreRefused(t *testing.T) {
	s := start(t, nil)
	invalid := func(name, detail, content string) refusal {
		return refusal{name, []edit{body(content)}, 400, "INVALID_REQUEST", detail}
	}
	quiet := func(old, new string) string {
		const good = `{"quietHours":{"from":"22:00","to":"07:00","timeZone":"Asia/Kolkata","exceptUrgent":true}}`
		if !strings.Contains(good, old) {
			panic("not in the good quiet hours: " + old)
		}
		return strings.Replace(good, old, new, 1)
	}
	ids := func(n int, format string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(format, i)
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	rows := []refusal{
		invalid("empty body", "body", ""),
		invalid("null", "body", "null"),
		invalid("not an object", "body", `["`+canary+`"]`),
		invalid("something follows", "body", "{}{}"),
		invalid("unknown field", "colour", `{"colour":"`+canary+`"}`),
		invalid("case variant", "minpriority", `{"minpriority":"low"}`),
		invalid("duplicate field", "minPriority", `{"minPriority":"low","minPriority":"low"}`),
		invalid("duplicate type", "types.comment", `{"types":{"comment":true,"comment":false}}`),
		invalid("unknown type", "types", `{"types":{"`+canary+`":false}}`),
		invalid("types that are null", "types", `{"types":null}`),
		invalid("a type that is null", "types", `{"types":{"comment":null}}`),
		invalid("a priority that is null", "minPriority", `{"minPriority":null}`),
		invalid("muted tickets that are null", "mutedTickets", `{"mutedTickets":null}`),
		invalid("quiet hours that are null", "quietHours", `{"quietHours":null}`),
		invalid("an exception that is null", "quietHours.exceptUrgent", quiet(`"exceptUrgent":true`, `"exceptUrgent":null`)),
		invalid("a type that is neither on nor off", "types", `{"types":{"comment":"off"}}`),
		invalid("types as a list", "types", `{"types":["comment"]}`),
		invalid("unknown priority", "minPriority", `{"minPriority":"`+canary+`"}`),
		invalid("a priority by number", "minPriority", `{"minPriority":1}`),
		invalid("a muted ticket by number", "mutedTickets[0]", `{"mutedTickets":[12345]}`),
		invalid("a muted ticket that is null", "mutedTickets[1]", `{"mutedTickets":["1",null]}`),
		invalid("a muted ticket twice", "mutedTickets", `{"mutedTickets":["`+canary+`","`+canary+`"]}`),
		invalid("a long id", "mutedTickets[0]", `{"mutedTickets":["`+strings.Repeat("x", 129)+`"]}`),
		invalid("bad UTF-8", "mutedTickets", "{\"mutedTickets\":[\"\xff\"]}"),
		invalid("too many muted tickets", "mutedTickets", `{"mutedTickets":`+ids(1001, "%d")+`}`),
		invalid("more than is stored", "preferences", `{"mutedTickets":`+ids(1000, strings.Repeat(`"`, 100)+"%d")+`}`),
		invalid("no hour", "quietHours.from", quiet(`"from":"22:00",`, "")),
		invalid("the hour 24", "quietHours.to", quiet("07:00", "24:00")),
		invalid("no time zone", "quietHours.timeZone", quiet(`"timeZone":"Asia/Kolkata",`, "")),
		invalid("the server's time zone", "quietHours.timeZone", quiet("Asia/Kolkata", "Local")),
		invalid("a time zone that is a path", "quietHours.timeZone", quiet("Asia/Kolkata", "../"+canary)),
		invalid("an unknown field of quiet hours", "quietHours.days", quiet(`"from"`, `"days":[1],"from"`)),
		invalid("quiet hours as a text", "quietHours", `{"quietHours":"`+canary+`"}`),
		{"no media type", []edit{header("Content-Type")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"of more than a mebibyte", []edit{body(strings.Repeat(" ", 1<<20) + "{}")}, 413, "TOO_LARGE", "1 MiB"},
		{"a token in the query", []edit{query("access_token=" + canary)}, 400, "INVALID_REQUEST", "access_token"},
	}
	wantProblem(t, s.preference("PUT", userPreferencePath, s.jane(), `{"locked":["slaBreach"]}`), 400, "INVALID_REQUEST", "locked")
	for path, u := range map[string]user{userPreferencePath: s.jane(), tenantPreferencePath: s.administrator(acme)} {
		t.Run(path, func(t *testing.T) {
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					r := s.request(context.Background(), "PUT", path, u, "{}")
					for _, e := range row.edits {
						e(r)
					}
					wantProblem(t, s.do(r), row.status, row.code, row.detail)
				})
			}
		})
		if a := s.preference("GET", path, u, ""); string(a.body) != "{}" {
			t.Errorf("%s: refused requests stored %s", path, a.body)
		}
	}
	for _, content := range []string{`{"locked":["` + canary + `"]}`, `{"locked":["comment","comment"]}`, `{"locked":"comment"}`, `{"locked":{"comment":true}}`} {
		wantProblem(t, s.preference("PUT", tenantPreferencePath, s.administrator(acme), content), 400, "INVALID_REQUEST", "locked")
	}
}

func TestPreferenceRefusalsAreDecidedInOrder(t *testing.T) {
	s := start(t, nil)
	token := func(roles ...string) edit {
		return header("Authorization", "Bearer "+s.token("strict", issuer.Claims{Subject: "jane", Roles: roles}))
	}
	mayOf := map[string]string{userPreferencePath: "may-connect", tenantPreferencePath: adminRole}
	for path, role := range mayOf {
		other := "may-connect"
		if role == other {
			other = adminRole
		}
		for _, m := range []string{"GET", "PUT"} {
			stale := header("If-Match", `"stale"`)
			faults := []fault{
				{404, "NOT_FOUND", "", func(r *http.Request) { r.URL.Path = path }},
				{405, "METHOD_NOT_ALLOWED", "", method(m)},
			}
			if m == "PUT" {
				faults = append(faults,
					fault{400, "INVALID_REQUEST", "If-Match", stale},
					fault{415, "UNSUPPORTED_MEDIA_TYPE", "", header("Content-Type", "application/json")},
					fault{400, "INVALID_REQUEST", "mutedTickets", body("{}")})
			} else {
				faults = append(faults, fault{400, "INVALID_REQUEST", "body", func(r *http.Request) { r.Body, r.ContentLength, r.GetBody = nil, 0, nil }},
					fault{400, "INVALID_REQUEST", "If-Match", stale})
			}
			faults = append(faults,
				fault{401, "UNAUTHENTICATED", "", token(other)},
				fault{400, "INVALID_REQUEST", "x-tenantid", header("x-tenantid", string(globex))},
				fault{403, "FORBIDDEN", "", header("x-tenantid", string(acme))},
				fault{403, "FORBIDDEN", "", token(role)},
				fault{412, "PRECONDITION_FAILED", "", header("If-Match")},
			)
			mended := s.wantInOrder(func(mended ...edit) *http.Request {
				return s.request(context.Background(), "DELETE", path+"/x", user{"strict", "nonsense", "short"}, `{"mutedTickets":[""]}`,
					append([]edit{header("If-Match", "stale"), header("Content-Type", "text/plain")}, mended...)...)
			}, faults)
			if a := s.do(s.request(context.Background(), "DELETE", path, user{"strict", acme, "short"}, "x", mended...)); a.status != 200 {
				t.Errorf("%s %s: got %d %s, want 200", m, path, a.status, a.body)
			}
		}
	}
	if a := s.preference("DELETE", userPreferencePath, s.jane(), ""); a.header.Get("Allow") != "GET, PUT" {
		t.Errorf("Allow: got %q, want GET, PUT", a.header.Get("Allow"))
	}

	boss, jane, publisher := s.administrator(acme), s.jane(), s.publisher()
	s.nats.Close()
	for _, m := range []string{"GET", "PUT"} {
		send := map[string]string{"PUT": "{}"}[m]
		wantProblem(t, s.preference(m, userPreferencePath, jane, send), 503, "UNAVAILABLE", "")
		wantProblem(t, s.preference(m, tenantPreferencePath, boss, send), 503, "UNAVAILABLE", "")
		wantProblem(t, s.preference(m, tenantPreferencePath, jane, send), 403, "FORBIDDEN", "")
		wantProblem(t, s.preference(m, tenantPreferencePath, publisher, send), 403, "FORBIDDEN", "")
	}
	wantProblem(t, s.do(s.request(context.Background(), "POST", publishPath, publisher, good)), 503, "UNAVAILABLE", "")
}

// A browser may read by cookie what its user prefers, and change nothing by it.
func TestPreferencesByCookie(t *testing.T) {
	s := start(t, withCookies)
	jane := s.jane()
	s.prefer(userPreferencePath, jane, `{"minPriority":"high"}`)
	if a := s.preference("GET", userPreferencePath, user{}, "", asEventSource(jane)); a.status != 200 || string(a.body) != `{"minPriority":"high"}` {
		t.Errorf("got %d %s, want what is stored", a.status, a.body)
	}
	wantProblem(t, s.preference("PUT", userPreferencePath, user{}, "{}", asEventSource(jane)), 401, "UNAUTHENTICATED", "")
	wantProblem(t, s.preference("GET", tenantPreferencePath, user{}, "", asEventSource(jane)), 403, "FORBIDDEN", "")
}

// What a publisher sends reaches who wants it, and nobody else; what reaches
// somebody in quiet hours says so.
func TestPublishGoesByPreferences(t *testing.T) {
	s := start(t, nil)
	publisher, boss := s.publisher(), s.administrator(acme)
	jane, joe := s.connect(s.jane()), s.connect(s.user("acme", acme, "joe"))
	jane.greeting()
	joe.greeting()
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	publish := func(id string) int {
		t.Helper()
		return s.post(publisher, publication(id, `"jane"`, `"joe"`)).Stored
	}
	quiet := func(from, to time.Duration) string { // by how far they are from now
		at := func(d time.Duration) string { return time.Now().Add(d).In(kolkata).Format("15:04") }
		return fmt.Sprintf(`{"quietHours":{"from":%q,"to":%q,"timeZone":"Asia/Kolkata"}}`, at(from), at(to))
	}

	s.prefer(userPreferencePath, s.jane(), `{"mutedTickets":["1"]}`)
	if n := publish("muted"); n != 1 {
		t.Errorf("jane has muted the ticket: stored %d, want 1", n)
	}
	s.prefer(userPreferencePath, s.user("acme", acme, "joe"), `{"minPriority":"urgent"}`)
	if p := s.post(publisher, publication("nobody", `"jane"`, `"joe"`)); p.ID != "nobody" || p.Stored != 0 || p.Duplicates != 0 {
		t.Errorf("nobody wants it: got %+v, want neither stored nor duplicate", p)
	}
	s.prefer(tenantPreferencePath, boss, `{"locked":["mention"],"quietHours":{"from":"12:00","to":"12:00","timeZone":"UTC"}}`)
	if n := publish("locked"); n != 2 {
		t.Errorf("locked: stored %d, want 2", n)
	}
	s.prefer(userPreferencePath, s.jane(), quiet(-2*time.Hour, 3*time.Hour))
	s.prefer(userPreferencePath, s.user("acme", acme, "joe"), quiet(2*time.Hour, -3*time.Hour))
	publish("quiet")

	for _, want := range []struct {
		c      *connection
		events []string
	}{{jane, []string{"locked", "quiet silent"}}, {joe, []string{"muted", "locked", "quiet"}}} {
		for _, event := range want.events {
			e := want.c.next("notification")
			got := field(t, e, "id").(string)
			if silent, _ := field(t, e, "silent").(bool); silent {
				got += " silent"
			}
			if got != event {
				t.Errorf("got %s, want %s", got, event)
			}
		}
	}
}

// A change by one node acts on what another publishes, within two seconds.
func TestPreferencesActOnAllNodes(t *testing.T) {
	s := start(t, nil)
	other := s.another()
	publisher := s.publisher()
	n := 0
	stored := func() int {
		n++
		return other.post(publisher, publication(fmt.Sprint("n", n), `"jane"`)).Stored
	}
	if stored() != 1 {
		t.Fatal("not stored")
	}
	s.prefer(userPreferencePath, s.jane(), `{"types":{"mention":false}}`)
	eventually(t, "it to be off", func() bool { return stored() == 0 })
	s.prefer(tenantPreferencePath, s.administrator(acme), `{"locked":["mention"]}`)
	eventually(t, "it to be locked", func() bool { return stored() == 1 })
}

// The bucket may be lost; entity tags are not of it.
func TestEntityTagOutlastsTheBucket(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	const p = `{"mutedTickets":["1"]}`
	tag := s.prefer(userPreferencePath, jane, p)
	nc, err := nats.Connect("", nats.InProcessServer(s.nats))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		err = js.DeleteKeyValue(t.Context(), "PEAL_PREF_local")
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := s.preference("PUT", userPreferencePath, jane, p, header("If-Match", tag)); a.status != 412 {
		t.Errorf("what was there is lost: got %d %s, want 412", a.status, a.body)
	}
	if again := s.prefer(userPreferencePath, jane, p); again != tag {
		t.Errorf("stored again: ETag %s, want %s", again, tag)
	}
}
