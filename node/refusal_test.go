package node_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
)

// good is a body that is accepted. Rows replace a part of it.
const good = `{"recipients":["jane"],"notification":{"id":"n1","type":"mention","ticketId":"12345","ticketNumber":"INC-1","title":"` + canary + `","message":"` + canary + `"}}`

// body replaces the body of a request.
func body(s string) edit {
	return func(r *http.Request) {
		r2, err := http.NewRequest(r.Method, "http://x", strings.NewReader(s))
		if err != nil {
			panic(err)
		}
		r.Body, r.ContentLength, r.GetBody = r2.Body, r2.ContentLength, r2.GetBody
	}
}

// swap replaces a part of the good body.
func swap(old, new string) edit {
	if !strings.Contains(good, old) {
		panic("not in the good body: " + old)
	}
	return body(strings.Replace(good, old, new, 1))
}

// add adds a field to the notification.
func add(field string) edit { return swap(`"id":"n1"`, `"id":"n1",`+field) }

// refusal is a request that must be refused.
type refusal struct {
	name   string
	edits  []edit
	status int
	code   string
	detail string // is in the detail: the field's name
}

func TestMalformedConnectIsRefused(t *testing.T) {
	s := start(t, nil)
	var rows []refusal
	for _, p := range []string{"access_token", "token", "Access_Token", "jwt", "id_token"} {
		rows = append(rows, refusal{p + " in the query", []edit{query("x=1&" + p + "=" + canary)}, 400, "INVALID_REQUEST", strings.ToLower(p)})
	}
	rows = append(rows,
		refusal{"a token under another name", []edit{query("lastEventId=" + s.jane().token)}, 400, "INVALID_REQUEST", "query"},
		refusal{"durable", []edit{query("durable=Bot")}, 400, "INVALID_REQUEST", "durable"},
		refusal{"malformed query", []edit{query("lastEventId=%zz")}, 400, "INVALID_REQUEST", "query"},
		refusal{"a body", []edit{body("x")}, 400, "INVALID_REQUEST", "body"},
		refusal{"no tenant", []edit{header("x-tenantid")}, 400, "INVALID_REQUEST", "x-tenantid"},
		refusal{"two tenants", []edit{header("x-tenantid", string(acme), string(acme))}, 400, "INVALID_REQUEST", "x-tenantid"},
		refusal{"tenant that is no UUID", []edit{header("x-tenantid", canary)}, 400, "INVALID_REQUEST", "x-tenantid"},
		refusal{"tenant in braces", []edit{header("x-tenantid", "{"+string(acme)+"}")}, 400, "INVALID_REQUEST", "x-tenantid"},
		refusal{"tenant of another realm", []edit{header("x-tenantid", string(globex))}, 403, "FORBIDDEN", ""},
		refusal{"a tenant nobody has", []edit{header("x-tenantid", uuid.NewString())}, 403, "FORBIDDEN", ""},
		refusal{"accept without event streams", []edit{header("Accept", "application/json, text/html")}, 406, "NOT_ACCEPTABLE", ""},
		refusal{"accept that excludes them", []edit{header("Accept", "*/*, text/event-stream;q=0")}, 406, "NOT_ACCEPTABLE", ""},
		refusal{"accept of quality 0", []edit{header("Accept", "*/*;q=0.000")}, 406, "NOT_ACCEPTABLE", ""},
	)
	for _, row := range rows {
		row.name += ", of a list"
		row.edits = append([]edit{onLists}, row.edits...)
		rows = append(rows, row)
	}
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "GET", connectPath, s.jane(), "")
	})
}

func TestMalformedPublicationIsRefused(t *testing.T) {
	s := start(t, nil)
	long := strings.Repeat("x", 129)
	invalid := func(name, detail string, edits ...edit) refusal {
		return refusal{name, edits, 400, "INVALID_REQUEST", detail}
	}
	rows := []refusal{
		invalid("empty body", "body", body("")),
		invalid("no JSON", "body", body("{")),
		invalid("not an object", "body", body(`["`+canary+`"]`)),
		invalid("null", "recipients", body("null")),
		invalid("something follows", "body", body(good+"{}")),
		invalid("unknown field", "notification.colour", add(`"colour":"`+canary+`"`)),
		invalid("unknown field at the top", "extra", swap(`{"recipients"`, `{"extra":1,"recipients"`)),
		invalid("unknown field of the actor", "notification.actor.age", add(`"actor":{"id":"a","name":"A","avatar":null,"age":1}`)),
		invalid("duplicate field", "notification.title", add(`"title":"x"`)),
		invalid("duplicate metadata", "notification.metadata.a", add(`"metadata":{"a":"1","a":"2"}`)),
		invalid("case variant", "notification.Title", swap(`"title"`, `"Title"`)),
		invalid("wrong type", "notification.title", swap(`"`+canary+`"`, `17`)),
		invalid("wrong type of recipients", "recipients", swap(`["jane"]`, `"jane"`)),
		invalid("bad UTF-8", "notification.title", swap(canary, "\xff")),
		invalid("lone surrogate", "notification.title", swap(canary, `\ud800`)),
		invalid("control character", "notification.title", swap(canary, `a\u0000b`)),
		invalid("recipient null", "recipients[0]", swap(`"jane"`, `null`)),
		invalid("recipient a number", "recipients[1]", swap(`"jane"`, `"jane",7`)),
		invalid("recipient empty", "recipients[0]", swap(`"jane"`, `""`)),
		invalid("recipient long", "recipients[1]", swap(`"jane"`, `"jane","`+long+`"`)),
		invalid("recipient without id", "recipients[0]", swap(`"jane"`, `{"namespace":"acme"}`)),
		invalid("recipient without namespace", "recipients[0]", swap(`"jane"`, `{"id":"jane"}`)),
		invalid("recipient of more", "recipients[0].realm", swap(`"jane"`, `{"id":"jane","namespace":"acme","realm":"acme"}`)),
		invalid("malformed namespace", "recipients[0]", swap(`"jane"`, `{"id":"jane","namespace":"*"}`)),
		invalid("unknown namespace", "recipients[0]", swap(`"jane"`, `{"id":"jane","namespace":"nobody"}`)),
		invalid("bare string without a default", "recipients[0]", header("x-tenantid", string(split))),
		invalid("no recipients", "recipients", swap(`["jane"]`, `[]`)),
		invalid("too many recipients", "recipients", swap(`["jane"]`, `["j"`+strings.Repeat(`,"j"`, 1000)+`]`)),
		invalid("no notification", "notification.ticketId", body(`{"recipients":["jane"]}`)),
		invalid("no type", "notification.type", swap(`"type":"mention",`, ``)),
		invalid("unknown type", "notification.type", swap(`mention`, `Mention`)),
		invalid("unknown priority", "notification.priority", add(`"priority":"critical"`)),
		invalid("no ticket", "notification.ticketId", swap(`"ticketId":"12345",`, ``)),
		invalid("long id", "notification.id", swap(`"n1"`, `"`+long+`"`)),
		invalid("long ticket number", "notification.ticketNumber", swap(`INC-1`, long)),
		invalid("title empty", "notification.title", swap(canary, "")),
		invalid("title too long", "notification.title", swap(canary, strings.Repeat("ü", 301))),
		invalid("message too long", "notification.message", swap(`"message":"`+canary, `"message":"`+strings.Repeat("ü", 2001))),
		invalid("no RFC 3339 time", "notification.createdAt", add(`"createdAt":"yesterday"`)),
		invalid("actionUrl of another site", "notification.actionUrl", add(`"actionUrl":"//evil.example"`)),
		invalid("actionUrl with a backslash", "notification.actionUrl", add(`"actionUrl":"/\\evil.example"`)),
		invalid("actionUrl of a script", "notification.actionUrl", add(`"actionUrl":"javascript:alert(1)"`)),
		invalid("actionUrl without TLS", "notification.actionUrl", add(`"actionUrl":"http://desk.example.com/1"`)),
		invalid("actionUrl of another host", "notification.actionUrl", add(`"actionUrl":"https://evil.example/1"`)),
		invalid("avatar without TLS", "notification.actor.avatar", add(`"actor":{"id":"a","name":"A","avatar":"http://x/a.png"}`)),
		invalid("metadata of another type", "notification.metadata", add(`"metadata":{"a":1}`)),
		invalid("metadata of nothing", "notification.metadata", add(`"metadata":{"a":null}`)),
		invalid("too much metadata", "notification.metadata", add(`"metadata":{`+manyKeys(17)+`}`)),
		invalid("unknown reason", "notification.reasons", add(`"reasons":["boredom"]`)),
		invalid("too large", "notification", add(`"metadata":{"a":"`+strings.Repeat("x", 16384)+`"}`)),
		invalid("empty key", "Idempotency-Key", header("Idempotency-Key", "")),
		invalid("two keys", "Idempotency-Key", header("Idempotency-Key", "a", "b")),
		invalid("long key", "Idempotency-Key", header("Idempotency-Key", long)),
		invalid("key that is not ASCII", "Idempotency-Key", header("Idempotency-Key", "ü")),
		invalid("token in the query", "access_token", query("access_token="+canary)),
		{"body of more than a mebibyte", []edit{body(good + strings.Repeat(" ", 1<<20))}, 413, "TOO_LARGE", "1 MiB"},
		{"of unknown length", []edit{body(good + strings.Repeat(" ", 1<<20)), chunked}, 413, "TOO_LARGE", "1 MiB"},
		{"no media type", []edit{header("Content-Type")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"form", []edit{header("Content-Type", "application/x-www-form-urlencoded")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"other charset", []edit{header("Content-Type", "application/json; charset=latin1")}, 415, "UNSUPPORTED_MEDIA_TYPE", ""},
		{"two content types", []edit{header("Content-Type", "application/json", "text/plain")}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"content encoding", []edit{header("Content-Encoding", "gzip")}, 415, "UNSUPPORTED_MEDIA_TYPE", "content encoding"},
		{"no role", []edit{header("realmname", "acme"), header("Authorization", "Bearer "+s.jane().token)}, 403, "FORBIDDEN", ""},
	}
	publisher := s.publisher()
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "POST", publishPath, publisher, good)
	})
}

func chunked(r *http.Request) { r.ContentLength = -1 }

func manyKeys(n int) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	return strings.Join(keys, ",")
}

// wantRefused sends each request and wants its refusal, nothing stored, and
// nothing of the requests in the log.
func (s *site) wantRefused(rows []refusal, make func() *http.Request) {
	t := s.t.(*testing.T)
	t.Helper()
	follower := s.connect(s.user("acme", acme, "jane"))
	follower.greeting()
	var signatures []string
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := make()
			for _, e := range row.edits {
				e(r)
			}
			_, signature, _ := strings.Cut(r.Header.Get("Authorization"), ".")
			signatures = append(signatures, signature)
			wantProblem(t, s.do(r), row.status, row.code, row.detail)
		})
	}
	if stored := s.bus.Stats().Stored.Load(); stored != 0 {
		t.Errorf("refused requests stored %d notifications", stored)
	}
	s.post(s.publisher(), publication("sentinel", `"jane"`))
	if got := follower.notification(); got != "sentinel" {
		t.Errorf("got %s, want nothing before the sentinel", got)
	}
	logs := s.logs.String()
	for _, secret := range append(signatures, canary) {
		if secret != "" && strings.Contains(logs, secret) {
			t.Errorf("the log has %q:\n%s", secret, logs)
		}
	}
}

// fault is one of a request, what it is refused with, and what mends it.
type fault struct {
	status       int
	code, detail string
	mend         edit
}

// wantInOrder sends a request that has all faults, and mends one after the other:
// of those that are left the first decides. It returns what mends all.
func (s *site) wantInOrder(faulty func(mended ...edit) *http.Request, faults []fault) (mended []edit) {
	t := s.t.(*testing.T)
	t.Helper()
	for _, f := range faults {
		a := s.do(faulty(mended...))
		wantProblem(t, a, f.status, f.code, f.detail)
		if set := a.header.Values("Set-Cookie"); len(set) > 0 {
			t.Errorf("%d %s: set %q", f.status, f.code, set)
		}
		mended = append(mended, f.mend)
	}
	return mended
}

// wantProblem holds an answer against section 2 of the contract.
func wantProblem(t *testing.T, a answer, status int, code, detail string) {
	t.Helper()
	if a.status != status || a.Code != code || !strings.Contains(a.Detail, detail) {
		t.Fatalf("got %d %s, want %d %s with %q", a.status, a.body, status, code, detail)
	}
	if strings.Contains(string(a.body), canary) {
		t.Errorf("the answer quotes the request: %s", a.body)
	}
	var names map[string]any
	if err := json.Unmarshal(a.body, &names); err != nil || len(names) != 6 {
		t.Errorf("got %s, want the six fields of a problem", a.body)
	}
	if a.Type == "" || a.Title == "" || a.Problem.Status != status || a.Instance != a.header.Get("X-Request-Id") {
		t.Errorf("got %s with request id %q", a.body, a.header.Get("X-Request-Id"))
	}
	if _, err := uuid.Parse(a.Instance); err != nil {
		t.Errorf("instance: %v", err)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type: got %s", ct)
	}
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if again := status == 429 || status == 503; again != (err == nil && wait > 0) {
		t.Errorf("Retry-After: got %q with %d", a.header.Get("Retry-After"), status)
	}
	if challenged := a.header.Get("WWW-Authenticate") != ""; challenged != (status == 401) {
		t.Errorf("WWW-Authenticate: got %q with %d", a.header.Get("WWW-Authenticate"), status)
	}
	if allowed := a.header.Get("Allow") != ""; allowed != (status == 405) {
		t.Errorf("Allow: got %q with %d", a.header.Get("Allow"), status)
	}
}

func TestUnauthenticatedIsOneAnswer(t *testing.T) {
	s := start(t, nil)
	now := time.Now().Unix()
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": s.issuer.URL("acme"), "aud": "peal", "sub": "jane", "iat": now, "exp": now + 3600}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	sign := func(header, change map[string]any) edit {
		token, err := s.issuer.Sign("acme", header, claims(change))
		if err != nil {
			t.Fatal(err)
		}
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	jane := s.jane()
	segments := strings.Split(jane.token, ".")
	rows := []struct {
		name string
		edit edit
	}{
		{"no token", header("Authorization")},
		{"two tokens", header("Authorization", "Bearer "+jane.token, "Bearer "+jane.token)},
		{"another scheme", header("Authorization", "Basic "+jane.token)},
		{"no scheme", header("Authorization", jane.token)},
		{"empty token", header("Authorization", "Bearer ")},
		{"short token", header("Authorization", "Bearer a.b.c")},
		{"long token", header("Authorization", "Bearer "+jane.token+strings.Repeat("a", 12289))},
		{"garbage", header("Authorization", "Bearer "+strings.Repeat("x", 100))},
		{"changed payload", header("Authorization", "Bearer "+segments[0]+"."+base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`))+"."+segments[2])},
		{"no signature", header("Authorization", "Bearer "+segments[0]+"."+segments[1]+".")},
		{"no realm", header("realmname")},
		{"two realms", header("realmname", "acme", "acme")},
		{"unknown realm", header("realmname", "nobody")},
		{"realm in another case", header("realmname", "Acme")},
		{"realm that is a path", header("realmname", "../acme")},
		{"token of another realm", header("realmname", "globex")},
		{"key of another realm", func(r *http.Request) {
			token, err := s.issuer.Sign("globex", nil, claims(nil))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
		}},
		{"alg none", sign(map[string]any{"alg": "none"}, nil)},
		{"alg HS256", sign(map[string]any{"alg": "HS256"}, nil)},
		{"no kid", sign(map[string]any{"kid": nil}, nil)},
		{"unknown kid", sign(map[string]any{"kid": "other"}, nil)},
		{"crit", sign(map[string]any{"crit": []string{"exp"}}, nil)},
		{"other issuer", sign(nil, map[string]any{"iss": s.issuer.URL("globex")})},
		{"other audience", sign(nil, map[string]any{"aud": "other"})},
		{"no audience", sign(nil, map[string]any{"aud": nil})},
		{"no exp", sign(nil, map[string]any{"exp": nil})},
		{"nbf in the future", sign(nil, map[string]any{"nbf": now + 300})},
		{"iat in the future", sign(nil, map[string]any{"iat": now + 300})},
		{"no user", sign(nil, map[string]any{"sub": nil})},
		{"user too long", sign(nil, map[string]any{"sub": strings.Repeat("x", 129)})},
		{"expired and of another audience", sign(nil, map[string]any{"aud": "other", "exp": now - 10})},
		{"malformed tenant as well", func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("x-tenantid", "x") }},
	}
	instance := regexp.MustCompile(`"instance":"[^"]*"`)
	var first string
	for _, row := range rows {
		a := s.do(s.request(context.Background(), "GET", connectPath, jane, "", row.edit))
		t.Run(row.name, func(t *testing.T) { wantProblem(t, a, 401, "UNAUTHENTICATED", "") })
		if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
			t.Errorf("%s: got WWW-Authenticate %q, want Bearer", row.name, got)
		}
		body := instance.ReplaceAllString(string(a.body), "")
		if first == "" {
			first = body
		}
		if body != first {
			t.Errorf("%s: got %s, want as for the others %s", row.name, body, first)
		}
	}

	expired := s.do(s.request(context.Background(), "GET", connectPath, jane, "", sign(nil, map[string]any{"exp": now - 10})))
	wantProblem(t, expired, 401, "UNAUTHENTICATED", "expired")
	if got, want := expired.header.Get("WWW-Authenticate"), `Bearer error="invalid_token", error_description="expired"`; got != want {
		t.Errorf("expired: got %s, want %s", got, want)
	}
	if strings.Contains(s.logs.String(), segments[2]) {
		t.Error("the log has a token's signature")
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	for _, path := range []string{
		"/", "/api", "/metrics", "/debug/pprof/", connectPath + "/", strings.ToUpper(connectPath),
		"/api/v2/ticketing//ticket/sse/notifications", "/x/../livez", "/livez/", "//livez", "/peal.js/", "/peal.d.ts", "/admin/revoke",
		"/api/v2/ticketing/ticket%2Fsse%2fnotifications", "/%6civez%2F",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			a := s.do(s.request(context.Background(), method, path, jane, ""))
			t.Run(method+" "+path, func(t *testing.T) { wantProblem(t, a, 404, "NOT_FOUND", "") })
		}
	}
	for path, allow := range map[string]string{connectPath: "GET", publishPath: "POST", eventPath: "POST", eventsPath: "POST", queuePath + "net": "PUT", countPath: "GET", listPath: "GET", readPath: "PUT", "/livez": "GET", "/readyz": "GET", "/openapi.yaml": "GET", "/peal.js": "GET"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE"} {
			if method == allow {
				continue
			}
			a := s.do(s.request(context.Background(), method, path, jane, ""))
			t.Run(method+" "+path, func(t *testing.T) {
				if method != "HEAD" {
					wantProblem(t, a, 405, "METHOD_NOT_ALLOWED", "")
				}
				if got := a.header.Get("Allow"); a.status != 405 || got != allow {
					t.Errorf("got %d and Allow %q, want 405 and %s", a.status, got, allow)
				}
			})
		}
	}
}

// The admin port refuses as the public one does, and redirects nobody either.
func TestUnknownPathsAndMethodsOfTheAdminPort(t *testing.T) {
	s := start(t, nil)
	ask := func(method, path string) answer {
		r := s.request(context.Background(), method, path, user{}, "")
		r.URL.Host = strings.TrimPrefix(s.admin, "http://")
		return s.do(r)
	}
	for _, path := range []string{"/nope", "/status", "/status.json/", "//revoke", "//livez", "/livez/", "/debug/pprof", "/debug/pprof//heap", "/x/../metrics", publishPath} {
		for _, method := range []string{"GET", "POST"} {
			a := ask(method, path)
			t.Run(method+" "+path, func(t *testing.T) { wantProblem(t, a, 404, "NOT_FOUND", "") })
		}
	}
	for path, allow := range map[string]string{"/": "GET", "/status.json": "GET", "/status/events": "GET", "/livez": "GET", "/readyz": "GET", "/metrics": "GET", "/revoke": "POST", "/purge": "POST", "/dead": "GET", "/dead/x/retry": "POST"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			if method == allow {
				continue
			}
			a := ask(method, path)
			t.Run(method+" "+path, func(t *testing.T) {
				wantProblem(t, a, 405, "METHOD_NOT_ALLOWED", "")
				if got := a.header.Get("Allow"); got != allow {
					t.Errorf("Allow: got %q, want %s", got, allow)
				}
			})
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/symbol"} {
		if a := ask("GET", path); a.status != 200 {
			t.Errorf("GET %s: got %d %s, want 200", path, a.status, a.body)
		}
	}
}

func TestRefusalsOfAConnectAreDecidedInOrder(t *testing.T) {
	for name, route := range map[string]edit{"notifications": onNotifications, "lists": onLists} {
		t.Run(name, func(t *testing.T) { wantConnectRefused(t, route) })
	}
}

func wantConnectRefused(t *testing.T, route edit) {
	s := start(t, func(c *config) { c.node.MaxPerUser = 1 })
	may := s.token("strict", issuer.Claims{Subject: "jane", Roles: []string{"may-connect"}})
	maynot := s.token("strict", issuer.Claims{Subject: "jane"})
	occupied := s.connect(user{"strict", acme, may}, route)
	occupied.greeting()
	s.nats.Close()

	faulty := func(mended ...edit) *http.Request {
		return s.request(context.Background(), "PUT", connectPath+"/x", user{"strict", "nonsense", "short"}, "",
			append([]edit{header("Accept", "text/html"), query("durable=X")}, mended...)...)
	}
	mended := s.wantInOrder(faulty, []fault{
		{404, "NOT_FOUND", "", route},
		{405, "METHOD_NOT_ALLOWED", "", method("GET")},
		{406, "NOT_ACCEPTABLE", "", header("Accept", "text/event-stream")},
		{400, "INVALID_REQUEST", "durable", query("")},
		{401, "UNAUTHENTICATED", "", header("Authorization", "Bearer "+maynot)},
		{400, "INVALID_REQUEST", "x-tenantid", header("x-tenantid", string(globex))},
		{403, "FORBIDDEN", "", header("x-tenantid", string(acme))},
		{403, "FORBIDDEN", "", header("Authorization", "Bearer "+may)},
	})
	last := func() answer { return s.do(faulty(mended...)) }
	wantProblem(t, last(), 429, "CONNECTION_LIMIT", "")
	occupied.close()
	eventually(t, "the slot", func() bool { return last().status != 429 })
	wantProblem(t, last(), 503, "UNAVAILABLE", "")
}

func TestRefusalsAreDecidedInOrder(t *testing.T) {
	s := start(t, nil)
	s.nats.Close()
	publisher, jane := s.publisher(), s.jane()
	post := func(u user, body string, edits ...edit) answer {
		return s.do(s.request(context.Background(), "POST", publishPath, u, body, edits...))
	}
	wantProblem(t, post(user{}, "{", header("x-tenantid", "x")), 400, "INVALID_REQUEST", "body")
	wantProblem(t, post(user{}, good, header("x-tenantid", "x")), 401, "UNAUTHENTICATED", "")
	wantProblem(t, post(jane, good, header("x-tenantid", "x")), 400, "INVALID_REQUEST", "x-tenantid")
	wantProblem(t, post(jane, good, header("x-tenantid", string(globex))), 403, "FORBIDDEN", "")
	wantProblem(t, post(jane, good), 403, "FORBIDDEN", "")
	wantProblem(t, post(publisher, good), 503, "UNAVAILABLE", "")
	for _, secret := range []string{canary, strings.Split(publisher.token, ".")[2]} {
		if strings.Contains(s.logs.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestRealmWithoutKeysIsUnavailable(t *testing.T) {
	s := start(t, func(c *config) { c.dark = true })
	dark := s.user("dark", acme, "jane")
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, dark, "")), 503, "UNAVAILABLE", "")
	if a := s.do(s.request(context.Background(), "GET", "/readyz", user{}, "")); a.status != 200 {
		t.Errorf("readyz: got %d %s, want 200: other realms work", a.status, a.body)
	}
	s.connect(s.jane()).greeting()
}

func TestLimitIsKeptUnderARush(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	type result struct {
		resp *http.Response
		err  error
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	results := make(chan result, 40)
	for range 40 {
		go func() {
			resp, err := s.client.Do(s.request(ctx, "GET", connectPath, jane, ""))
			results <- result{resp, err}
		}()
	}
	admitted := 0
	for range 40 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		defer r.resp.Body.Close()
		switch r.resp.StatusCode {
		case 200:
			admitted++
		case 429:
		default:
			t.Errorf("got %d, want 200 or 429", r.resp.StatusCode)
		}
	}
	if admitted != 5 {
		t.Errorf("%d of 40 were admitted, want 5", admitted)
	}
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, jane, "")), 429, "CONNECTION_LIMIT", "")
	s.connect(s.user("acme", acme, "other")).greeting()    // has slots of their own
	s.connect(s.user("acme", shared, "jane")).greeting()   // and so has jane elsewhere
	s.connect(s.user("globex", shared, "jane")).greeting() // and who is called the same

	cancel()
	eventually(t, "the slots to be free", func() bool {
		return s.do(s.request(context.Background(), "GET", connectPath, jane, "")).status == 200
	})
}

func TestNoRefusalTakesASlotForGood(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser = 1 })
	strict := user{"strict", acme, s.token("strict", issuer.Claims{Subject: "jane"})}
	for range 5 {
		s.do(s.request(context.Background(), "GET", connectPath, strict, ""))
		s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "", header("x-tenantid", string(globex))))
	}
	c := s.connect(s.jane())
	c.greeting()
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "")), 429, "CONNECTION_LIMIT", "")
}

// A client in a tight loop hears how long to wait, also while it holds all its
// connections; nobody else is refused for it.
func TestConnectsInATightLoopAreRefused(t *testing.T) {
	for _, tt := range []struct {
		label  string
		change func(*node.Config)
		others int // what somebody else gets
	}{
		{"user", func(c *node.Config) { c.ConnectsPerUser = 1 }, 200},
		{"address", func(c *node.Config) { c.ConnectsPerAddress = 3 }, 429},
	} {
		t.Run(tt.label, func(t *testing.T) {
			s := start(t, func(c *config) { c.node.MaxPerUser = 1; tt.change(&c.node) })
			c := s.connect(s.jane())
			c.greeting()
			connect := func(u user) answer { return s.do(s.request(context.Background(), "GET", connectPath, u, "")) }
			jane := s.jane()
			last := connect(jane)
			tries := 2
			for ; last.Code == "CONNECTION_LIMIT" && tries < 100; tries++ {
				last = connect(jane)
			}
			wantProblem(t, last, 429, "RATE_LIMIT", "Retry-After")
			if tries < 30 {
				t.Errorf("refused after %d tries, want a burst of 30", tries)
			}
			if wait, _ := strconv.Atoi(last.header.Get("Retry-After")); wait < 1 || wait > 3 {
				t.Errorf("Retry-After: got %d, want the second that is left, and up to 2 more", wait)
			}
			if got := s.metric(`peal_requests_refused_total{code="RATE_LIMIT",reason="` + tt.label + `"}`); got != 1 {
				t.Errorf("counted %v times, want once", got)
			}
			for range 10 { // who has no token, or a wrong one, hears of that, and spends nothing of the neighbours'
				wantProblem(t, connect(user{}), 401, "UNAUTHENTICATED", "")
			}
			if a := connect(s.user("acme", acme, "other")); a.status != tt.others {
				t.Errorf("somebody else: got %d %s, want %d", a.status, a.body, tt.others)
			}
			eventually(t, "the loop to be over", func() bool {
				<-time.After(200 * time.Millisecond)
				return connect(jane).Code == "CONNECTION_LIMIT"
			})
		})
	}
}
