package node_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/sse"
)

const (
	revokePath = "/api/v2/ticketing/admin/revoke"
	adminRole  = "notifications:admin"
)

// bearer is a user of acme whose token says what a test wants it to.
func (s *site) bearer(realm string, tenant peal.Tenant, c issuer.Claims) user {
	s.t.Helper()
	return user{realm, tenant, s.token(realm, c)}
}

func (s *site) administrator(tenant peal.Tenant) user {
	s.t.Helper()
	return s.bearer("service", tenant, issuer.Claims{Subject: "boss", Roles: []string{adminRole}})
}

// revoke posts to the admin port and wants it done.
func (s *site) revokeAnywhere(body string) {
	s.t.Helper()
	r, err := http.NewRequest("POST", s.admin+"/revoke", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if a := s.do(r); a.status != http.StatusOK {
		s.t.Fatalf("revoke %s: %d %s", body, a.status, a.body)
	}
}

// A revocation ends the connections it means, on every node, within 2 s and
// with REVOKED; their tokens are refused with the one body of a 401; nobody else
// notices; and a token of the same user that is issued later is good.
func TestRevocationMeansWhomItNames(t *testing.T) {
	claims := func(sid, jti string) issuer.Claims {
		return issuer.Claims{Subject: "jane", Session: sid, Extra: map[string]any{"jti": jti}}
	}
	type holder struct {
		realm  string
		tenant peal.Tenant
		claims issuer.Claims
	}
	holders := map[string]holder{
		"jane":            {"acme", acme, claims("s1", "j1")},
		"jane elsewhere":  {"acme", acme, claims("s2", "j2")},
		"jane in shared":  {"acme", shared, claims("s1", "j3")},
		"jane of globex":  {"globex", shared, claims("s1", "j4")},
		"jane of service": {"service", acme, claims("", "j5")},
		"bob":             {"acme", acme, issuer.Claims{Subject: "bob", Session: "s3"}},
	}
	for _, row := range []struct {
		name string
		body string
		of   peal.Tenant // the administrator's; "" is the admin port
		ends []string
	}{
		{"a user, in the caller's tenant", `{"user":"jane"}`, acme, []string{"jane", "jane elsewhere"}},
		{"a user of another namespace", `{"user":{"id":"jane","namespace":"globex"}}`, shared, []string{"jane of globex"}},
		{"a session, in the caller's tenant", `{"sid":"s1"}`, acme, []string{"jane"}},
		{"a session of a user", `{"user":"jane","sid":"s2"}`, acme, []string{"jane elsewhere"}},
		{"a session of another user", `{"user":"bob","sid":"s1"}`, acme, nil},
		{"a token", `{"jti":"j2"}`, acme, []string{"jane elsewhere"}},
		{"a token of another tenant", `{"jti":"j3"}`, acme, nil},
		{"a realm", `{"realm":"acme"}`, "", []string{"jane", "jane elsewhere", "jane in shared", "bob"}},
		{"a tenant", fmt.Sprintf(`{"tenant":%q}`, shared), "", []string{"jane in shared", "jane of globex"}},
		{"a tenant in capitals", fmt.Sprintf(`{"tenant":%q}`, strings.ToUpper(string(shared))), "", []string{"jane in shared", "jane of globex"}},
		{"a session of a realm", `{"realm":"globex","sid":"s1"}`, "", []string{"jane of globex"}},
		{"a user of a realm in a tenant", fmt.Sprintf(`{"realm":"acme","tenant":%q,"user":"jane"}`, acme), "", []string{"jane", "jane elsewhere"}},
		{"a user everywhere", `{"user":{"id":"jane","namespace":"acme"}}`, "", []string{"jane", "jane elsewhere", "jane in shared"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			unlimited := func(c *config) { c.node.MaxPerUser = -1 } // jane has many
			s := start(t, unlimited)
			other := s.anotherWith(unlimited)
			users, open := map[string]user{}, map[string][]*connection{}
			for name, h := range holders {
				users[name] = s.bearer(h.realm, h.tenant, h.claims)
				for _, at := range []*site{s, other} {
					c := at.connect(users[name])
					c.greeting()
					open[name] = append(open[name], c)
				}
			}
			began := time.Now()
			if row.of == "" {
				s.revokeAnywhere(row.body)
			} else if a := s.do(s.request(context.Background(), "POST", revokePath, s.administrator(row.of), row.body)); a.status != http.StatusOK {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			ends := map[string]bool{}
			for _, name := range row.ends {
				ends[name] = true
				for i, c := range open[name] {
					c.aborted("REVOKED")
					if took := time.Since(began); took > 2*time.Second {
						t.Errorf("%s on node %d: ended after %v, want 2 s", name, i, took)
					}
					wantProblem(t, []*site{s, other}[i].do(s.request(context.Background(), "GET", connectPath, users[name], "")), 401, "UNAUTHENTICATED", "A valid bearer token")
				}
				h := holders[name]
				if h.claims.Extra["jti"] != nil {
					h.claims.Extra = map[string]any{"jti": "new"}
				}
				again := s.connect(s.bearer(h.realm, h.tenant, h.claims))
				again.greeting()
				again.close()
			}
			for name, conns := range open {
				if ends[name] {
					continue
				}
				for i, c := range conns {
					h := holders[name]
					at := []*site{s, other}[i]
					at.store(peal.Inbox{Tenant: h.tenant, Namespace: peal.Namespace(h.realm), User: peal.UserID(h.claims.Subject)}, note(fmt.Sprint("after-", i)))
					if got := c.notification(); got != fmt.Sprint("after-", i) && got != fmt.Sprint("after-", 1-i) {
						t.Errorf("%s on node %d: got %s", name, i, got)
					}
					at.connect(users[name]).greeting()
				}
			}
			if n := strings.Count(s.logs.String(), "tokens revoked"); n != 1 {
				t.Errorf("%d audit lines, want one", n)
			}
		})
	}
}

// The refusals of both calls that revoke.
func TestRevocationThatIsRefused(t *testing.T) {
	s := start(t, nil)
	boss, jane := s.administrator(acme), s.jane()
	body := func(b string) edit {
		return func(r *http.Request) {
			*r = *s.request(r.Context(), "POST", revokePath, boss, b)
		}
	}
	long := strings.Repeat("x", 1025)
	invalid := func(name, field, b string) refusal {
		return refusal{name, []edit{body(b)}, 400, "INVALID_REQUEST", field}
	}
	rows := []refusal{
		invalid("nothing", "body", `{}`),
		invalid("null", "body", `null`),
		invalid("no JSON", "body", `{`),
		invalid("unknown field", "users", `{"users":"jane"}`),
		invalid("empty user", "user", `{"user":""}`),
		invalid("a user that is null", "user", `{"user":null,"sid":"s1"}`),
		invalid("a sid that is null", "sid", `{"user":"jane","sid":null}`),
		invalid("user with a control character", "user", `{"user":"a\u0000"}`),
		invalid("user of a namespace that is none", "user", `{"user":{"id":"jane","namespace":"*"}}`),
		invalid("user of another's namespace", "user", `{"user":{"id":"jane","namespace":"globex"}}`),
		invalid("empty sid", "sid", `{"sid":""}`),
		invalid("a number as sid", "sid", `{"sid":7}`),
		invalid("long sid", "sid", `{"sid":"`+long+`"}`),
		invalid("empty jti", "jti", `{"jti":""}`),
		invalid("long jti", "jti", `{"jti":"`+long+`"}`),
		invalid("another tenant", "tenant", fmt.Sprintf(`{"user":"jane","tenant":%q}`, globex)),
		invalid("a realm", "realm", `{"user":"jane","realm":"acme"}`),
		{"no token", []edit{header("Authorization")}, 401, "UNAUTHENTICATED", ""},
		{"tenant that is not granted", []edit{header("Authorization", "Bearer "+jane.token), header("realmname", "acme"), header("x-tenantid", string(globex))}, 403, "FORBIDDEN", ""},
		{"no role", []edit{header("Authorization", "Bearer "+jane.token), header("realmname", "acme")}, 403, "FORBIDDEN", ""},
		{"only the publisher's role", []edit{header("Authorization", "Bearer "+s.publisher().token)}, 403, "FORBIDDEN", ""},
		{"no JSON by its type", []edit{header("Content-Type", "text/plain")}, 415, "UNSUPPORTED_MEDIA_TYPE", ""},
	}
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "POST", revokePath, boss, `{"user":"jane"}`)
	})

	for _, row := range []struct {
		name, body string
		edit       edit
		status     int
		detail     string
	}{
		{"nothing", `{}`, nil, 400, "body"},
		{"a realm that is none", `{"realm":"initech"}`, nil, 400, "realm"},
		{"a tenant that is no UUID", `{"tenant":"acme"}`, nil, 400, "tenant"},
		{"a realm that is null", fmt.Sprintf(`{"realm":null,"tenant":%q}`, acme), nil, 400, "realm"},
		{"a tenant that is null", `{"realm":"acme","tenant":null}`, nil, 400, "tenant"},
		{"a user that is null", fmt.Sprintf(`{"user":null,"tenant":%q}`, acme), nil, 400, "user"},
		{"a sid that is null", fmt.Sprintf(`{"sid":null,"tenant":%q}`, acme), nil, 400, "sid"},
		{"a jti that is null", fmt.Sprintf(`{"jti":null,"tenant":%q}`, acme), nil, 400, "jti"},
		{"a bare user without a tenant", `{"user":"jane"}`, nil, 400, "user"},
		{"a bare user of a tenant without a default", fmt.Sprintf(`{"user":"jane","tenant":%q}`, split), nil, 400, "user"},
		{"a user of a namespace that nobody has", `{"user":{"id":"jane","namespace":"nobody"}}`, nil, 400, "user: the namespace"},
		{"a form", `{"user":"jane"}`, header("Content-Type", "application/x-www-form-urlencoded"), 415, ""},
		{"a page in a browser", `{"realm":"acme"}`, header("Origin", s.admin), 403, "browser"},
	} {
		t.Run("admin port: "+row.name, func(t *testing.T) {
			r, err := http.NewRequest("POST", s.admin+"/revoke", strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if row.edit != nil {
				row.edit(r)
			}
			if a := s.do(r); a.status != row.status || !strings.Contains(a.Detail, row.detail) {
				t.Errorf("got %d %s, want %d with %q", a.status, a.body, row.status, row.detail)
			}
		})
	}
	s.connect(jane).greeting()
}

// An administrator's own token can be revoked too, and the call is not for the
// port of the public without one.
func TestTheAdminPortsCallIsNotOnThePublicPort(t *testing.T) {
	s := start(t, nil)
	r, err := http.NewRequest("POST", s.url+"/revoke", strings.NewReader(`{"realm":"acme"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	wantProblem(t, s.do(r), 404, "NOT_FOUND", "")
}

// A revocation that came before a connection was opened, or while it was, is not
// missed: whoever gets in is looked at once more.
func TestRevocationRacesWithConnects(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser = -1 })
	for i := range 20 {
		u := s.bearer("acme", acme, issuer.Claims{Subject: fmt.Sprint("user-", i)})
		ended := make(chan error, 8)
		for range cap(ended) {
			go func() {
				resp, err := s.client.Do(s.request(t.Context(), "GET", connectPath, u, ""))
				if err != nil {
					ended <- err
					return
				}
				defer resp.Body.Close()
				if resp.StatusCode == http.StatusUnauthorized {
					ended <- nil
					return
				}
				last, err := lastWords(sse.NewReader(resp.Body))
				if err == nil && !bytes.Contains(last.Data, []byte(`"REVOKED"`)) {
					err = fmt.Errorf("got %s %s", last.Name, last.Data)
				}
				ended <- err
			}()
		}
		if a := s.do(s.request(t.Context(), "POST", revokePath, s.administrator(acme), fmt.Sprintf(`{"user":"user-%d"}`, i))); a.status != 200 {
			t.Fatalf("got %d %s", a.status, a.body)
		}
		late := time.After(5 * time.Second)
		for range cap(ended) {
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-late:
				t.Fatalf("round %d: a connection is open after 5 s", i)
			}
		}
	}
}

// A revocation that comes after a caller was let in, and before there is a
// connection to end, ends it as soon as there is one.
func TestRevocationBetweenTheTokenAndTheConnection(t *testing.T) {
	var nats *sluggish
	s := start(t, func(c *config) { c.hang = func(server *sluggish) { nats = server } })
	nats.delay.Store(int64(300 * time.Millisecond))
	opened := make(chan *connection, 1)
	go func() { opened <- s.connect(s.jane()) }()
	eventually(t, "the caller to be let in", func() bool { return s.bus.Stats().Followed.Load() == 1 })
	s.verifier.Revocations().Add(peal.Revocation{Realm: "acme", Tenant: acme}, time.Now(), time.Now().Add(time.Hour))
	nats.delay.Store(0)
	select {
	case c := <-opened:
		c.greeting()
		c.aborted("REVOKED")
	case <-time.After(patience):
		t.Fatal("no connection")
	}
}
