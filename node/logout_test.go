package node_test

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pealhq/peal/auth/issuer"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutToken signs a logout token of a realm, good but for the edits.
func (s *site) logoutToken(realm string, edits map[string]any) string {
	s.t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": s.issuer.URL(realm), "aud": "peal", "iat": now, "exp": now + 120, "jti": uuid.NewString(),
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	maps.Copy(claims, edits)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	token, err := s.issuer.Sign(realm, map[string]any{"typ": "logout+jwt"}, claims)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// logOut posts a logout token as an issuer does.
func (s *site) logOut(realm, token string, edits ...edit) answer {
	s.t.Helper()
	body := url.Values{"logout_token": {token}}.Encode()
	form := header("Content-Type", "application/x-www-form-urlencoded")
	return s.do(s.request(context.Background(), "POST", "/realms/"+realm+"/backchannel-logout", user{}, body, append([]edit{form}, edits...)...))
}

// An issuer's logout ends the connections of the session it names on every node,
// and of tokens of its user that name none; without a session, of all of the
// user's in that realm.
func TestBackchannelLogoutEndsTheSession(t *testing.T) {
	holders := map[string]struct {
		realm string
		issuer.Claims
	}{
		"jane":                  {"acme", issuer.Claims{Subject: "jane", Session: "s1"}},
		"jane's other session":  {"acme", issuer.Claims{Subject: "jane", Session: "s2"}},
		"jane without session":  {"acme", issuer.Claims{Subject: "jane"}},
		"bob":                   {"acme", issuer.Claims{Subject: "bob", Session: "s3"}},
		"jane of another realm": {"service", issuer.Claims{Subject: "jane", Session: "s1"}},
	}
	for _, row := range []struct {
		name  string
		names map[string]any
		ends  []string
	}{
		{"a session and its user", map[string]any{"sid": "s1", "sub": "jane"}, []string{"jane", "jane without session"}},
		{"a session", map[string]any{"sid": "s1"}, []string{"jane"}},
		{"a user", map[string]any{"sub": "jane"}, []string{"jane", "jane's other session", "jane without session"}},
		{"a session that nobody has", map[string]any{"sid": "s9"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *config) { c.node.MaxPerUser = -1 }) // jane's slots are taken at the other
			other := s.another()
			open, users := map[string]*connection{}, map[string]user{}
			for name, h := range holders {
				users[name] = s.bearer(h.realm, acme, h.Claims)
				open[name] = other.connect(users[name])
				open[name].greeting()
			}
			token := s.logoutToken("acme", row.names)
			began := time.Now()
			if a := s.logOut("acme", token); a.status != http.StatusOK || len(a.body) > 0 || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %q %v, want an empty 200 that is not stored", a.status, a.body, a.header)
			}
			for _, name := range row.ends {
				open[name].aborted("REVOKED")
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%s: ended after %v, want 2 s", name, took)
				}
				wantProblem(t, other.do(s.request(context.Background(), "GET", connectPath, users[name], "")), 401, "UNAUTHENTICATED", "A valid bearer token")
				delete(users, name)
			}
			for _, u := range users {
				s.connect(u).greeting()
			}
			// The token is good once, on any node.
			for _, at := range []*site{s, other} {
				wantProblem(t, at.logOut("acme", token), 400, "INVALID_REQUEST", "logout_token")
			}
		})
	}
}

// Whatever is wrong with a logout token, the answer is the same, and nobody is
// signed out.
func TestLogoutTokensThatAreRefused(t *testing.T) {
	s := start(t, nil)
	jane := s.bearer("acme", acme, issuer.Claims{Subject: "jane", Session: "s1"})
	open := s.connect(jane)
	open.greeting()
	good := map[string]any{"sub": "jane", "sid": "s1"}
	with := func(edits map[string]any) string {
		all := maps.Clone(good)
		maps.Copy(all, edits)
		return s.logoutToken("acme", all)
	}
	want := s.logOut("acme", "rubbish")
	wantProblem(t, want, 400, "INVALID_REQUEST", "logout_token: must be a logout token of this realm that was not used before")
	for _, row := range []struct{ name, realm, token string }{
		{"an access token", "acme", jane.token},
		{"no events", "acme", with(map[string]any{"events": nil})},
		{"another event", "acme", with(map[string]any{"events": map[string]any{"x": map[string]any{}}})},
		{"a nonce", "acme", with(map[string]any{"nonce": "n"})},
		{"no jti", "acme", with(map[string]any{"jti": nil})},
		{"nobody", "acme", with(map[string]any{"sub": nil, "sid": nil})},
		{"another audience", "acme", with(map[string]any{"aud": "billing"})},
		{"expired", "acme", with(map[string]any{"exp": time.Now().Unix() - 1})},
		{"another realm", "globex", with(nil)},
		{"a realm that is none", "initech", with(nil)},
		{"one other letter", "acme", flip(with(nil))},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := s.logOut(row.realm, row.token)
			wantProblem(t, got, 400, "INVALID_REQUEST", "logout_token")
			if got.Detail != want.Detail {
				t.Errorf("got %q, want the detail of all others", got.Detail)
			}
		})
	}
	a := with(nil)
	for _, row := range []struct {
		name   string
		edit   edit
		status int
		code   string
	}{
		{"no form", header("Content-Type", "application/json"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"an encoding", header("Content-Encoding", "gzip"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"token in the query", query("logout_token=" + a), 400, "INVALID_REQUEST"},
		{"two tokens", form("logout_token=" + a + "&logout_token=" + a), 400, "INVALID_REQUEST"},
		{"no token", form("token=" + a), 400, "INVALID_REQUEST"},
		{"a form that is none", form("logout_token=%zz"), 400, "INVALID_REQUEST"},
		{"a large form", form("logout_token=" + a + "&x=" + strings.Repeat("x", 14000)), 413, "TOO_LARGE"},
		{"another method", func(r *http.Request) { r.Method, r.Body, r.ContentLength = "GET", nil, 0 }, 405, "METHOD_NOT_ALLOWED"},
	} {
		t.Run(row.name, func(t *testing.T) { wantProblem(t, s.logOut("acme", a, row.edit), row.status, row.code, "") })
	}

	s.store(inbox("jane"), note("still"))
	if got := open.notification(); got != "still" {
		t.Errorf("got %s, want still", got)
	}
	if logs := s.logs.String(); strings.Contains(logs, a[strings.LastIndex(a, "."):]) || strings.Contains(logs, "session ended") {
		t.Errorf("the log tells of tokens, or of a session that ended:\n%s", logs)
	}
}

// Whoever posts rubbish from behind the proxy that everybody is behind keeps
// neither the issuer from ending sessions nor users from connecting.
func TestRubbishLogoutsAreNotCountedForTheNeighbours(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.node.ConnectsPerAddress = 1 })
	for range 15 { // more than the burst
		wantProblem(t, s.logOut("acme", "rubbish"), 400, "INVALID_REQUEST", "logout_token")
	}
	s.connect(s.jane()).greeting()
	if a := s.logOut("acme", s.logoutToken("acme", map[string]any{"sub": "bob"})); a.status != http.StatusOK {
		t.Errorf("a good one: got %d %s, want 200", a.status, a.body)
	}
}

// form makes a body of what is encoded already.
func form(body string) edit {
	return func(r *http.Request) {
		fresh, _ := http.NewRequest(r.Method, r.URL.String(), strings.NewReader(body))
		r.Body, r.ContentLength, r.GetBody = fresh.Body, fresh.ContentLength, fresh.GetBody
	}
}

// flip changes a letter of a token's signature.
func flip(token string) string {
	b := []byte(token)
	at := len(b) - 10 // not the last letter, whose low bits say nothing
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}
