package node_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

const sessionPath = node.Base + "/ticket/sse/session"

func withCookies(c *config) {
	withOrigins(c)
	c.node.Cookies = true
}

// asEventSource makes of a request what the EventSource of a page of the shop
// sends for a user who has a session.
func asEventSource(u user) edit {
	return func(r *http.Request) {
		r.Header.Set("Origin", shop)
		r.Header.Set("Sec-Fetch-Site", "same-site")
		r.Header.Set("Cookie", "other=x; __Host-peal="+u.token)
		r.URL.RawQuery = "realmName=" + u.realm + "&tenantId=" + string(u.tenant)
	}
}

// wantSecret wants nothing of a token in what a node tells of itself.
func (s *site) wantSecret(tokens ...string) {
	s.t.Helper()
	resp, err := s.client.Get(s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, token := range tokens {
		for i, segment := range strings.Split(token, ".") {
			if i > 0 && (strings.Contains(s.logs.String(), segment) || strings.Contains(string(metrics), segment)) {
				s.t.Errorf("the log or the metrics have a part of a token")
			}
		}
	}
}

// A session begins with the token, is as good as it, and ends with it.
func TestSessionIsAsLongAsItsToken(t *testing.T) {
	everyProtocol(t, withCookies, func(t *testing.T, s *site, client *http.Client) {
		jane := user{"acme", acme, s.token("acme", issuer.Claims{Subject: "jane", TTL: 4 * time.Second})}
		a, err := s.try(client, s.request(context.Background(), "POST", sessionPath, jane, "", header("Origin", shop)))
		if err != nil {
			t.Fatal(err)
		}
		want := sharedWith(shop)
		want["Access-Control-Allow-Credentials"] = "true"
		if diff := cmp.Diff(want, corsOf(a.header)); diff != "" || a.status != 204 || len(a.body) > 0 || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("got %d %q with Cache-Control %q (-want +got):\n%s", a.status, a.body, a.header.Get("Cache-Control"), diff)
		}
		if set := a.header.Values("Set-Cookie"); len(set) != 1 {
			t.Fatalf("got %q, want one cookie", set)
		}
		cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil {
			t.Fatal(err)
		}
		expires, age := cookie.Expires, cookie.MaxAge
		if want := fmt.Sprintf("__Host-peal=%s; Path=/; Expires=%s; Max-Age=%d; HttpOnly; Secure; SameSite=Strict",
			jane.token, expires.UTC().Format(http.TimeFormat), age); a.header.Get("Set-Cookie") != want {
			t.Errorf("got  %s\nwant %s", a.header.Get("Set-Cookie"), want)
		}
		if age < 1 || age > 4 {
			t.Errorf("Max-Age: got %d of a token with at most 4 s", age)
		}

		c := s.connectBy(client, user{}, asEventSource(jane))
		if diff := cmp.Diff(want, corsOf(c.resp.Header)); diff != "" {
			t.Errorf("event stream (-want +got):\n%s", diff)
		}
		_, g := c.greeting()
		if g.UserID != "jane" || !g.ExpiresAt.Equal(expires) {
			t.Errorf("got %s until %v, want jane until %v as the cookie", g.UserID, g.ExpiresAt, expires)
		}
		s.store(inbox("jane"), note("n1"))
		if got := c.notification(); got != "n1" {
			t.Errorf("got %s, want n1", got)
		}
		c.aborted("TOKEN_EXPIRED")
		a, err = s.try(client, s.request(context.Background(), "GET", connectPath, user{}, "", asEventSource(jane)))
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, a, 401, "UNAUTHENTICATED", "expired")
		s.wantSecret(jane.token)
	})
}

func TestSessionEnds(t *testing.T) {
	s := start(t, withCookies)
	a := s.do(s.request(context.Background(), "DELETE", sessionPath, user{}, "", header("Origin", shop)))
	const want = "__Host-peal=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"
	if got := a.header.Values("Set-Cookie"); a.status != 204 || len(a.body) > 0 || !slices.Equal(got, []string{want}) || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q and %q, want 204 and %q", a.status, a.body, got, want)
	}
}

// A cookie is sent by the browser whatever page asks, so that it counts only
// where the page is known to be a good one; otherwise it is as if there were none.
func TestCookieIsAcceptedOnlyFromAKnownPage(t *testing.T) {
	s := start(t, func(c *config) { withCookies(c); c.node.MaxPerUser = -1 })
	jane := s.jane()
	cookie := "__Host-peal=" + jane.token
	ours := []edit{header("Origin"), header("Sec-Fetch-Site", "same-origin")}
	for _, row := range []struct {
		name   string
		edits  []edit
		status int
		detail string
	}{
		{"a page of an allowed origin", nil, 200, ""},
		{"a page of an allowed origin, by a browser that tells no more", []edit{header("Sec-Fetch-Site")}, 200, ""},
		{"a page of our own, which sends no Origin with a GET", ours, 200, ""},
		{"beside other cookies and parameters", []edit{header("Cookie", "a=b; "+cookie+"; c=d"), query("x=y&tenantId=" + string(acme) + "&realmName=acme")}, 200, ""},
		{"headers, which are not looked at", []edit{header("realmname", "globex", "x"), header("x-tenantid", "x")}, 200, ""},

		{"another origin of the same site", []edit{header("Origin", "https://evil.example.com")}, 401, ""},
		{"another site", []edit{header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site")}, 401, ""},
		{"an origin that is not allowed but said to be ours", []edit{header("Origin", "https://evil.example.com"), header("Sec-Fetch-Site", "same-origin")}, 401, ""},
		{"a sandboxed frame", []edit{header("Origin", "null"), header("Sec-Fetch-Site", "cross-site")}, 401, ""},
		{"two origins", []edit{header("Origin", shop, shop)}, 401, ""},
		{"an empty origin", []edit{header("Origin", ""), header("Sec-Fetch-Site", "same-origin")}, 401, ""},
		{"an image of the same site", []edit{header("Origin"), header("Sec-Fetch-Site", "same-site")}, 401, ""},
		{"an image of another site", []edit{header("Origin"), header("Sec-Fetch-Site", "cross-site")}, 401, ""},
		{"the address bar", []edit{header("Origin"), header("Sec-Fetch-Site", "none")}, 401, ""},
		{"a browser that tells nothing", []edit{header("Origin"), header("Sec-Fetch-Site")}, 401, ""},
		{"said in capitals", []edit{header("Origin"), header("Sec-Fetch-Site", "Same-Origin")}, 401, ""},
		{"said twice", []edit{header("Origin"), header("Sec-Fetch-Site", "same-origin", "same-origin")}, 401, ""},

		{"no cookie", []edit{header("Cookie")}, 401, ""},
		{"a cookie of another name", []edit{header("Cookie", "peal="+jane.token)}, 401, ""},
		{"a cookie of that name in another case", []edit{header("Cookie", "__host-peal="+jane.token)}, 401, ""},
		{"two cookies", []edit{header("Cookie", cookie+"; "+cookie)}, 401, ""},
		{"two cookies in two headers", []edit{header("Cookie", cookie, "__Host-peal=x")}, 401, ""},
		{"an empty cookie", []edit{header("Cookie", "__Host-peal=")}, 401, ""},
		{"a cookie that is no token", []edit{header("Cookie", "__Host-peal="+canary)}, 401, ""},
		{"another scheme beside it", []edit{header("Authorization", "Basic eDp4")}, 401, ""},
		{"an empty Authorization beside it", []edit{header("Authorization", "")}, 401, ""},

		{"no realm", []edit{query("tenantId=" + string(acme))}, 401, ""},
		{"two realms", []edit{query("realmName=acme&realmName=acme&tenantId=" + string(acme))}, 401, ""},
		{"unknown realm", []edit{query("realmName=nobody&tenantId=" + string(acme))}, 401, ""},
		{"realm of another token", []edit{query("realmName=globex&tenantId=" + string(acme))}, 401, ""},
		{"realm in the header", []edit{query("tenantId=" + string(acme)), header("realmname", "acme")}, 401, ""},
		{"realm under the header's name", []edit{query("realmname=acme&tenantId=" + string(acme))}, 401, ""},
		{"neither realm nor tenant", []edit{query("")}, 401, ""},
		{"no tenant", []edit{query("realmName=acme")}, 400, "tenantId"},
		{"two tenants", []edit{query("realmName=acme&tenantId=" + string(acme) + "&tenantId=" + string(acme))}, 400, "tenantId"},
		{"malformed tenant", []edit{query("realmName=acme&tenantId=" + canary)}, 400, "tenantId"},
		{"tenant in the header", []edit{query("realmName=acme"), header("x-tenantid", string(acme))}, 400, "tenantId"},
		{"foreign tenant", []edit{query("realmName=acme&tenantId=" + string(globex))}, 403, ""},
		{"malformed query", []edit{query("realmName=acme&tenantId=%zz")}, 400, "query"},
		{"a token in the query", []edit{query("access_token=x&realmName=acme&tenantId=" + string(acme))}, 400, "access_token"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := s.request(context.Background(), "GET", connectPath, user{}, "", append([]edit{asEventSource(jane)}, row.edits...)...)
			a := s.do(r)
			switch {
			case row.status == 200 && a.status != 200:
				t.Fatalf("got %d %s, want 200", a.status, a.body)
			case row.status != 200:
				wantProblem(t, a, row.status, map[int]string{400: "INVALID_REQUEST", 401: "UNAUTHENTICATED", 403: "FORBIDDEN"}[row.status], row.detail)
			}
		})
	}
	s.wantSecret(jane.token, s.user("acme", acme, canary).token)
	if strings.Contains(s.logs.String(), canary) {
		t.Error("the log has what a cookie held")
	}
}

// Whoever can make a browser send a POST must not be able to act as its user.
func TestCookieChangesNothing(t *testing.T) {
	s := start(t, withCookies)
	publisher := s.publisher()
	for _, site := range []string{"same-origin", "same-site", "cross-site"} {
		for _, origin := range []string{shop, "https://evil.example"} {
			a := s.do(s.request(context.Background(), "POST", publishPath, user{}, good, asEventSource(publisher), header("Origin", origin), header("Sec-Fetch-Site", site)))
			wantProblem(t, a, 401, "UNAUTHENTICATED", "")
			a = s.do(s.request(context.Background(), "POST", sessionPath, user{}, "", asEventSource(publisher), header("Origin", origin), header("Sec-Fetch-Site", site)))
			wantProblem(t, a, 401, "UNAUTHENTICATED", "")
			if set := a.header.Values("Set-Cookie"); len(set) > 0 {
				t.Errorf("%s, %s: set %q", site, origin, set)
			}
		}
	}
	for _, method := range []string{"HEAD", "PUT", "DELETE", "PATCH"} {
		if a := s.do(s.request(context.Background(), method, connectPath, user{}, "", asEventSource(publisher))); a.status != 405 {
			t.Errorf("%s: got %d, want 405", method, a.status)
		}
	}
	if stored := s.bus.Stats().Stored.Load(); stored != 0 {
		t.Errorf("stored %d by cookie", stored)
	}
	s.wantSecret(publisher.token)
}

// With both credentials the ones that are told on purpose count, with their own
// realm and tenant.
func TestBearerWinsOverTheCookie(t *testing.T) {
	s := start(t, withCookies)
	joe := s.user("globex", shared, "joe")
	_, g := s.connect(joe, func(r *http.Request) {
		asEventSource(s.jane())(r)
		r.Header.Set("Authorization", "Bearer "+joe.token)
	}).greeting()
	if g.UserID != "joe" {
		t.Errorf("got %s, want joe", g.UserID)
	}
	joe.token = "nonsense-but-long-enough-to-be-one"
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, joe, "", func(r *http.Request) {
		asEventSource(s.jane())(r)
		r.Header.Set("Authorization", "Bearer "+joe.token)
	})), 401, "UNAUTHENTICATED", "")
}

// A page of somebody else's must not sign its reader in, to be told what they do
// as another user, nor out.
func TestForeignPageBeginsAndEndsNoSession(t *testing.T) {
	s := start(t, withCookies)
	attacker := s.user("acme", acme, "eve")
	for _, row := range []struct {
		name  string
		edits []edit
		may   bool
	}{
		{"a page of an allowed origin", []edit{header("Origin", shop), header("Sec-Fetch-Site", "same-site")}, true},
		{"a page of our own, which is not listed", []edit{header("Origin", s.url), header("Sec-Fetch-Site", "same-origin")}, true},
		{"a page of our own, by a browser that leaves the Origin out", []edit{header("Sec-Fetch-Site", "same-origin")}, true},
		{"a script", nil, true},
		{"another site", []edit{header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site")}, false},
		{"another origin of the same site", []edit{header("Origin", "https://evil.example.com"), header("Sec-Fetch-Site", "same-site")}, false},
		{"an older browser, which tells the Origin only", []edit{header("Origin", "https://evil.example")}, false},
		{"a sandboxed frame", []edit{header("Origin", "null"), header("Sec-Fetch-Site", "cross-site")}, false},
		{"the Origin left out", []edit{header("Sec-Fetch-Site", "cross-site")}, false},
		{"the Origin left out of the same site", []edit{header("Sec-Fetch-Site", "same-site")}, false},
		{"the address bar", []edit{header("Sec-Fetch-Site", "none")}, false},
		{"an empty Origin", []edit{header("Origin", "")}, false},
		{"two origins", []edit{header("Origin", shop, shop)}, false},
		{"said twice", []edit{header("Sec-Fetch-Site", "same-origin", "cross-site")}, false},
	} {
		for method, u := range map[string]user{"POST": attacker, "DELETE": {}} {
			t.Run(method+" by "+row.name, func(t *testing.T) {
				a := s.do(s.request(context.Background(), method, sessionPath, u, "", row.edits...))
				if set := a.header.Values("Set-Cookie"); row.may != (len(set) == 1) {
					t.Errorf("set %q", set)
				}
				switch {
				case !row.may:
					wantProblem(t, a, 403, "FORBIDDEN", "origin")
				case a.status != 204:
					t.Errorf("got %d %s, want 204", a.status, a.body)
				}
			})
		}
	}
	// And no page gets as far: with a header of ours, or to DELETE, a browser
	// asks before.
	for origin, status := range map[string]int{"https://evil.example": 405, "null": 405, shop: 204} {
		a := s.do(s.request(context.Background(), "OPTIONS", sessionPath, user{}, "", header("Origin", origin), header("Access-Control-Request-Method", "POST")))
		if a.status != status || status == 204 && a.header.Get("Access-Control-Allow-Methods") != "DELETE, POST" {
			t.Errorf("preflight by %s: got %d with %v, want %d", origin, a.status, corsOf(a.header), status)
		}
	}
	s.wantSecret(attacker.token)
}

func TestSessionIsRefusedInOrder(t *testing.T) {
	s := start(t, func(c *config) { withCookies(c); c.dark = true })
	maynot := s.token("strict", issuer.Claims{Subject: "jane"})
	may := s.token("strict", issuer.Claims{Subject: "jane", Roles: []string{"may-connect"}})
	faulty := func(mended ...edit) *http.Request {
		return s.request(context.Background(), "PUT", sessionPath, user{"strict", "nonsense", strings.Repeat("x", 3801)}, "x",
			append([]edit{query("token=" + canary), header("Origin", "https://evil.example")}, mended...)...)
	}
	mended := s.wantInOrder(faulty, []fault{
		{405, "METHOD_NOT_ALLOWED", "", method("POST")},
		{400, "INVALID_REQUEST", "token", query("")},
		{400, "INVALID_REQUEST", "body", body("")},
		{413, "TOO_LARGE", "3,800 bytes", header("Authorization", "Bearer short")},
		{401, "UNAUTHENTICATED", "", header("Authorization", "Bearer "+maynot)},
		{400, "INVALID_REQUEST", "x-tenantid", header("x-tenantid", string(globex))},
		{403, "FORBIDDEN", "", header("x-tenantid", string(acme))},
		{403, "FORBIDDEN", "token", header("Authorization", "Bearer "+may)},
		{403, "FORBIDDEN", "origin", header("Origin", shop)},
	})
	if a := s.do(faulty(mended...)); a.status != 204 {
		t.Errorf("without a fault: got %d %s, want 204", a.status, a.body)
	}
	dark := s.user("dark", acme, "jane")
	wantProblem(t, s.do(s.request(context.Background(), "POST", sessionPath, dark, "", header("Origin", shop))), 503, "UNAVAILABLE", "")
	for _, e := range []edit{query("jwt=x"), query("%zz"), body("x")} {
		a := s.do(s.request(context.Background(), "DELETE", sessionPath, user{}, "", header("Origin", shop), e))
		wantProblem(t, a, 400, "INVALID_REQUEST", "")
	}
}

// A browser drops a cookie of more than 4,096 bytes without a word.
func TestTokenOfASessionFitsIntoACookie(t *testing.T) {
	s := start(t, withCookies)
	for length, status := range map[int]int{3800: 204, 3801: 413} {
		jane := user{"acme", acme, s.tokenOf(length)}
		a := s.do(s.request(context.Background(), "POST", sessionPath, jane, "", header("Origin", shop)))
		if a.status != status {
			t.Fatalf("%d bytes: got %d %s, want %d", length, a.status, a.body, status)
		}
		if status != 204 {
			wantProblem(t, a, 413, "TOO_LARGE", "3,800 bytes")
			s.connect(jane).greeting() // the token is good
			continue
		}
		c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil || len(c.Name)+len(c.Value) > 4096 {
			t.Errorf("%d bytes of name and value (%v), want at most 4096", len(c.Name)+len(c.Value), err)
		}
		s.connect(user{}, asEventSource(user{"acme", acme, c.Value})).greeting()
	}
}

// tokenOf mints jane a token of so many bytes.
func (s *site) tokenOf(length int) string {
	s.t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{"iss": s.issuer.URL("acme"), "aud": "peal", "sub": "jane", "exp": now + 3600}
	for more := range 4 { // base64 alone has no text of every length
		for filler := length / 2; filler < length; filler++ {
			claims["filler"] = strings.Repeat("x", filler)
			token, err := s.issuer.Sign("acme", map[string]any{"filler": strings.Repeat("x", more)}, claims)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(token) == length {
				return token
			}
			if len(token) > length {
				break
			}
		}
	}
	s.t.Fatalf("no token of %d bytes", length)
	return ""
}

// Without the setting there are no sessions, and a cookie is no cookie of ours.
func TestWithoutCookieSessionsCookiesAreIgnored(t *testing.T) {
	s := start(t, withOrigins)
	for _, method := range []string{"POST", "DELETE", "GET"} {
		wantProblem(t, s.do(s.request(context.Background(), method, sessionPath, s.jane(), "", header("Origin", shop))), 404, "NOT_FOUND", "")
	}
	a := s.do(s.request(context.Background(), "OPTIONS", sessionPath, user{}, "", header("Origin", shop), header("Access-Control-Request-Method", "POST")))
	wantProblem(t, a, 404, "NOT_FOUND", "")
	a = s.do(s.request(context.Background(), "GET", connectPath, user{}, "", asEventSource(s.jane())))
	wantProblem(t, a, 401, "UNAUTHENTICATED", "")
	if v := a.header.Get("Access-Control-Allow-Credentials"); v != "" {
		t.Errorf("credentials are allowed: %s", v)
	}
	s.connect(s.jane(), query("tenantId=x&realmName=y&realmName=z"), header("Cookie", "__Host-peal=x")).greeting()
}

// A native EventSource never comes back after another status than 200: what may
// be granted later is refused by an event.
func TestCookieClientIsRefusedByAnEvent(t *testing.T) {
	everyProtocol(t, func(c *config) {
		withCookies(c)
		c.node.MaxPerUser, c.dark = 1, true
	}, func(t *testing.T, s *site, client *http.Client) {
		jane := s.user("acme", acme, "jane")
		first := s.connectBy(client, user{}, asEventSource(jane))
		first.greeting()

		second := s.connectBy(client, user{}, asEventSource(jane))
		second.wantRefusedByEvent("CONNECTION_LIMIT")
		if got := s.metric(`peal_requests_refused_total{code="CONNECTION_LIMIT",reason=""}`); got != 1 {
			t.Errorf("counted %v refusals, want 1", got)
		}
		s.connectBy(client, user{}, asEventSource(s.user("dark", acme, "jane"))).wantRefusedByEvent("UNAVAILABLE")

		// By a header it is a status, and so is everything else that is refused.
		a, err := s.try(client, s.request(context.Background(), "GET", connectPath, jane, "", header("Origin", shop)))
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, a, 429, "CONNECTION_LIMIT", "")
		for status, e := range map[int]edit{406: header("Accept", "text/html"), 400: body("x"), 401: query("")} {
			a, err := s.try(client, s.request(context.Background(), "GET", connectPath, user{}, "", asEventSource(jane), e))
			if err != nil || a.status != status {
				t.Errorf("got %d %s (%v), want %d", a.status, a.body, err, status)
			}
		}

		first.close()
		s.nats.Close()
		eventually(t, "the slot", func() bool {
			return s.do(s.request(context.Background(), "GET", connectPath, jane, "")).status == 503
		})
		s.connectBy(client, user{}, asEventSource(jane)).wantRefusedByEvent("UNAVAILABLE")
		if open := s.metric("peal_connections"); open != 0 {
			t.Errorf("%v are open", open)
		}
		s.wantSecret(jane.token)
	})
}

// What a client that is too fast is told to wait is what Retry-After would say.
func TestCookieClientInATightLoopIsToldToWait(t *testing.T) {
	s := start(t, func(c *config) { withCookies(c); c.node.ConnectsPerUser, c.node.MaxPerUser = 1, 1 })
	jane := s.jane()
	s.connect(user{}, asEventSource(jane)).greeting()
	for tries := 0; ; tries++ {
		c := s.connect(user{}, asEventSource(jane))
		e := c.next(sse.Error)
		code := field(t, e, "code")
		if code == "CONNECTION_LIMIT" && tries < 100 {
			continue
		}
		if code != "RATE_LIMIT" || e.Retry < time.Second || e.Retry > 3*time.Second || e.Retry%time.Second != 0 {
			t.Errorf("got %s with retry %v, want RATE_LIMIT with 1 to 3 s", e.Data, e.Retry)
		}
		break
	}
	if got := s.metric(`peal_requests_refused_total{code="RATE_LIMIT",reason="user"}`); got != 1 {
		t.Errorf("counted %v times, want once", got)
	}
}

// wantRefusedByEvent wants the one event, the headers of an event stream, and
// those that let the page read them.
func (c *connection) wantRefusedByEvent(code string) {
	c.t.Helper()
	h := c.resp.Header
	if h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store, no-transform" || h.Get("Retry-After") != "" {
		c.t.Errorf("got headers %v", h)
	}
	want := sharedWith(shop)
	want["Access-Control-Allow-Credentials"] = "true"
	if diff := cmp.Diff(want, corsOf(h)); diff != "" {
		c.t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := uuid.Parse(h.Get("X-Request-Id")); err != nil {
		c.t.Errorf("X-Request-Id: %v", err)
	}
	e := c.aborted(code)
	if message, _ := field(c.t, e, "message").(string); message == "" {
		c.t.Errorf("got %s, want a message", e.Data)
	}
}
