package node_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// realmsWith is the site's configuration with one realm changed; nil takes it
// away.
func (s *site) realmsWith(name string, change func(*auth.Realm)) auth.Config {
	cfg := s.realms
	cfg.Realms = slices.Clone(cfg.Realms)
	i := slices.IndexFunc(cfg.Realms, func(r auth.Realm) bool { return r.Name == name })
	if change == nil {
		cfg.Realms = slices.Delete(cfg.Realms, i, i+1)
		return cfg
	}
	change(&cfg.Realms[i])
	return cfg
}

// When the realms are reloaded, connections of a realm that is gone, or that
// speaks for their tenant no more, end within 2 s; those of a realm that is
// changed otherwise are told to connect again; the others stay.
func TestReloadEndsWhoIsNotWelcomeAnyMore(t *testing.T) {
	type end struct{ acme, inShared, globex string } // the code, "" if it stays
	for _, row := range []struct {
		name string
		cfg  func(*site) auth.Config
		want end
	}{
		{"nothing changed", func(s *site) auth.Config { return s.realms }, end{}},
		{"another realm is gone", func(s *site) auth.Config { return s.realmsWith("strict", nil) }, end{}},
		{"the realm is gone", func(s *site) auth.Config {
			cfg := s.realmsWith("acme", nil)
			cfg.Tenants = []auth.TenantRow{{ID: shared}, {ID: acme}}
			return cfg
		}, end{"REVOKED", "REVOKED", ""}},
		{"a tenant is taken away", func(s *site) auth.Config {
			cfg := s.realmsWith("acme", func(r *auth.Realm) { r.Tenants.IDs = []peal.Tenant{acme, split} })
			cfg.Tenants = []auth.TenantRow{{ID: acme}, {ID: split}}
			return cfg
		}, end{"DRAINING", "REVOKED", ""}},
		{"another namespace", func(s *site) auth.Config {
			cfg := s.realmsWith("acme", func(r *auth.Realm) { r.Namespace = "staff" })
			cfg.Tenants = []auth.TenantRow{{ID: shared}, {ID: acme}, {ID: split}}
			return cfg
		}, end{"REVOKED", "REVOKED", ""}},
		{"an audience more", func(s *site) auth.Config {
			return s.realmsWith("acme", func(r *auth.Realm) { r.Audiences = []string{"peal", "peal-2"} })
		}, end{"DRAINING", "DRAINING", ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			conns := map[*connection]string{}
			for u, code := range map[user]string{
				s.user("acme", acme, "jane"): row.want.acme, s.user("acme", shared, "jane"): row.want.inShared, s.user("globex", shared, "jane"): row.want.globex,
			} {
				c := s.connect(u)
				c.greeting()
				conns[c] = code
			}
			began := time.Now()
			if _, err := s.node.Reload(row.cfg(s)); err != nil {
				t.Fatal(err)
			}
			for c, code := range conns {
				if code == "" {
					continue
				}
				c.aborted(code)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%s after %v, want 2 s", code, took)
				}
			}
			for _, in := range []peal.Inbox{inbox("jane"), {Tenant: shared, Namespace: "acme", User: "jane"}, {Tenant: shared, Namespace: "globex", User: "jane"}} {
				s.store(in, note("after"))
			}
			for c, code := range conns {
				if code == "" && c.notification() != "after" {
					t.Error("a connection that stays got something else")
				}
			}
		})
	}
}

// A connection whose token was judged before a reload, and that opens after it, is
// told to connect again, as those that were open are.
func TestReloadMeetsAConnectionThatIsBeingOpened(t *testing.T) {
	var nats *sluggish
	s := start(t, func(c *config) {
		c.hang = func(server *sluggish) { nats = server }
		c.node.MaxPerUser = 1
	})
	c := s.connect(s.jane())
	c.greeting()
	c.close()
	s.awaitSlots(0)

	nats.delay.Store(int64(700 * time.Millisecond))
	opening := make(chan *http.Response, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := s.request(ctx, "GET", connectPath, s.jane(), "")
	go func() {
		resp, err := s.client.Do(r)
		if err != nil {
			t.Error(err)
		}
		opening <- resp
	}()
	s.awaitSlots(1) // its token was judged by now, and it waits for JetStream
	if _, err := s.node.Reload(s.realmsWith("acme", func(r *auth.Realm) { r.Audiences = []string{"peal", "peal-2"} })); err != nil {
		t.Fatal(err)
	}
	nats.delay.Store(0)
	first := <-opening
	if first == nil || first.StatusCode != http.StatusOK {
		t.Fatalf("got %v, want 200", first)
	}
	defer first.Body.Close()
	c = &connection{t: t, resp: first, events: sse.NewReader(first.Body)}
	c.greeting()
	c.aborted("DRAINING")
}

// A configuration that is wrong changes nothing.
func TestReloadOfAWrongConfigurationChangesNothing(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.jane())
	c.greeting()
	if _, err := s.node.Reload(s.realmsWith("acme", func(r *auth.Realm) { r.Audiences = nil })); err == nil {
		t.Fatal("it is taken")
	}
	s.store(inbox("jane"), note("after"))
	if got := c.notification(); got != "after" {
		t.Errorf("got %s", got)
	}
	s.connect(s.jane()).greeting()
}

// A publisher's bare user ids go where the configuration in force says.
func TestReloadChangesWhomABareUserMeans(t *testing.T) {
	s := start(t, nil)
	ref := `{"recipients":["jane"],"notification":{"type":"mention","ticketId":"1","ticketNumber":"INC-1","title":"T","message":"M"}}`
	publish := func() answer {
		u := s.publisher()
		u.tenant = shared
		return s.do(s.request(context.Background(), "POST", publishPath, u, ref))
	}
	c := s.connect(s.user("globex", shared, "jane"))
	c.greeting()
	cfg := s.realms
	cfg.Tenants = []auth.TenantRow{{ID: shared, DefaultNamespace: "globex"}, {ID: acme}, {ID: split}}
	if _, err := s.node.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if a := publish(); a.status != 202 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	c.notification()
	cfg.Tenants = []auth.TenantRow{{ID: shared}, {ID: acme}, {ID: split}}
	if _, err := s.node.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, publish(), 400, "INVALID_REQUEST", "recipients[0]")
}

// Who does not see the revocations lets nobody in, though all else is there.
func TestWhoIsBlindLetsNobodyIn(t *testing.T) {
	s := start(t, nil)
	o := s.prepared(nil, bus.Config{})
	cfg := siteConfig()
	withCookies(&cfg)
	srv := httptest.NewServer(node.New(cfg.node, o.verifier, o.bus).Handler()) // it does not serve, so it follows nothing
	t.Cleanup(srv.Close)
	ask := func(method, path string, u user, body string, edits ...edit) answer {
		r := s.request(context.Background(), method, path, u, body, edits...)
		r.URL.Host = strings.TrimPrefix(srv.URL, "http://")
		return s.do(r)
	}
	wantProblem(t, ask("GET", connectPath, s.jane(), ""), 503, "UNAVAILABLE", "")
	wantProblem(t, ask("POST", publishPath, s.publisher(), publication("n1", `"jane"`)), 503, "UNAVAILABLE", "")
	wantProblem(t, ask("POST", sessionPath, s.jane(), "", header("Origin", shop)), 503, "UNAVAILABLE", "")
	wantProblem(t, ask("POST", sessionPath, s.jane(), "", header("Origin", "https://evil.example")), 403, "FORBIDDEN", "origin")
	for path, method := range map[string]string{countPath: "GET", listPath: "GET", listPath + "?after=aaaaaaaa-1": "GET", listPath + "?wait=9&after=aaaaaaaa-1": "GET", readPath: "PUT"} {
		path, raw, _ := strings.Cut(path, "?")
		body := map[string]string{"PUT": `{"all":true}`}[method]
		wantProblem(t, ask(method, path, s.jane(), body, query(raw)), 503, "UNAVAILABLE", "")
	}
	for path, u := range map[string]user{userPreferencePath: s.jane(), tenantPreferencePath: s.administrator(acme)} {
		wantProblem(t, ask("GET", path, u, ""), 503, "UNAVAILABLE", "")
		wantProblem(t, ask("PUT", path, u, "{}"), 503, "UNAVAILABLE", "")
	}
	// Who revokes may be an administrator who is revoked.
	wantProblem(t, ask("POST", revokePath, s.administrator(acme), `{"sid":"s1"}`), 503, "UNAVAILABLE", "")

	t.Cleanup(o.bus.FollowRevocations(func(bus.Revoked) {}))
	if err := o.bus.AwaitRevocations(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := ask("POST", publishPath, s.publisher(), publication("n1", `"jane"`)); a.status != 202 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := ask("POST", revokePath, s.administrator(acme), `{"sid":"s1"}`); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// A node that can't see the revocations is not ready, and knows them when it is.
func TestANodeThatSeesNoRevocationsIsNotReady(t *testing.T) {
	first := start(t, nil)
	revoked := first.user("acme", acme, "bob")
	first.revokeAnywhere(`{"user":{"id":"bob","namespace":"acme"}}`)

	nats := &sluggish{Server: first.nats}
	s := first.prepared(nats, bus.Config{})
	nats.delay.Store(int64(6 * time.Second)) // more than any question waits
	s.serve(siteConfig())
	for _, u := range []user{s.jane(), revoked} {
		wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, u, "")), 503, "UNAVAILABLE", "")
	}
	wantProblem(t, s.do(s.request(context.Background(), "POST", publishPath, s.publisher(), publication("n", `"jane"`))), 503, "UNAVAILABLE", "")
	ready := func() answer { return s.do(s.request(context.Background(), "GET", "/readyz", user{}, "")) }
	if a := ready(); a.status != 503 || string(a.body) != "revocations can't be seen\n" {
		t.Errorf("readyz: got %d %q", a.status, a.body)
	}

	nats.delay.Store(0)
	eventually(t, "the node to be ready", func() bool { return ready().status == 200 })
	s.connect(s.jane()).greeting()
	wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, revoked, "")), 401, "UNAUTHENTICATED", "")
}
