package auth_test

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// reload wants a configuration to be put in force, and this to have changed.
func (s *site) reload(v *auth.Verifier, cfg auth.Config, want auth.Changes) {
	s.t.Helper()
	got, err := v.Reload(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatalf("changes (-want +got):\n%s", diff)
	}
}

// caller is who a token makes its bearer.
func (s *site) caller(v *auth.Verifier, realm, token string, tenant peal.Tenant) auth.Caller {
	s.t.Helper()
	c, err := s.accepts(v, realm, token).Caller(string(tenant))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func TestReloadOfTheSameKeepsEverything(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	first, caller := s.accepts(v, "acme", token), s.caller(v, "acme", token, one)
	asked := s.asked("acme")
	s.answers("acme", down)
	s.reload(v, s.config(), auth.Changes{})
	if got := s.accepts(v, "acme", token); got != first {
		t.Error("the token was verified again")
	}
	if err := v.Review(caller); err != nil {
		t.Errorf("review: %v", err)
	}
	if n := s.asked("acme"); n != asked {
		t.Errorf("the issuer was asked %d times more", n-asked)
	}
}

// Rules act at once, on tokens that were verified under the ones before too, and
// without asking the issuer.
func TestReloadOfTheRules(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	web, app := s.token("acme", map[string]any{"azp": "web"}), s.token("acme", map[string]any{"azp": "app"})
	first, caller := s.accepts(v, "acme", web), s.caller(v, "acme", web, one)
	s.accepts(v, "acme", app)
	foreign := s.caller(v, "globex", s.token("globex", nil), two)
	asked := s.asked("acme")
	s.answers("acme", down)

	s.reload(v, s.config(func(c *auth.Config) {
		c.Realms[0].RequiredClaims = map[string]auth.Values{"azp": {OneOf: []string{"web"}}}
		c.Realms[0].Roles.Connect = "helpdesk"
	}), auth.Changes{Changed: []string{"acme"}})
	s.refuses(v, "acme", app, auth.ReasonClaim)
	again := s.accepts(v, "acme", web)
	if again == first {
		t.Error("the token was not judged by the new rules")
	}
	if c := s.caller(v, "acme", web, one); c.May(auth.Connect) == nil || caller.May(auth.Connect) != nil {
		t.Error("the roles are not those of the new rules")
	}
	if s.accepts(v, "acme", web) != again {
		t.Error("the token was not remembered under the new rules")
	}
	if err := v.Review(caller); !errors.Is(err, auth.ErrRealmChanged) {
		t.Errorf("review: %v, want that the realm has changed", err)
	}
	if err := v.Review(foreign); err != nil {
		t.Errorf("review of another realm's caller: %v", err)
	}
	if n := s.asked("acme"); n != asked {
		t.Errorf("the issuer was asked %d times more", n-asked)
	}
	if r, ok := v.Realm("acme"); !ok || r.Roles.Connect != "helpdesk" {
		t.Errorf("realm %+v", r)
	}
}

func TestReloadOfTheTenants(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	leaves, stays := s.caller(v, "acme", token, one), s.caller(v, "acme", token, three)
	s.reload(v, s.config(func(c *auth.Config) {
		c.Realms[0].Tenants.IDs = []peal.Tenant{three, other}
	}), auth.Changes{Changed: []string{"acme"}})
	s.isRefusal(v.Review(leaves), auth.ReasonTenant)
	if err := v.Review(stays); !errors.Is(err, auth.ErrRealmChanged) {
		t.Errorf("review: %v, want that the realm has changed", err)
	}
	_, err := s.accepts(v, "acme", token).Caller(string(one))
	s.isRefusal(err, auth.ReasonTenant)
	s.caller(v, "acme", token, other)

	// Who publishes hears of the same tenants.
	if _, err := v.Directory().Inbox(other, peal.UserRef{ID: "jane", Namespace: "acme"}); err != nil {
		t.Error(err)
	}
	if _, err := v.Directory().Inbox(one, peal.UserRef{ID: "jane", Namespace: "acme"}); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("%v, want the namespace to be none of the tenant's any more", err)
	}
}

func TestReloadWithAnotherNamespaceIsAnotherUser(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	caller := s.caller(v, "acme", token, one)
	s.reload(v, s.config(func(c *auth.Config) {
		c.Realms[0].Namespace, c.Tenants[0].DefaultNamespace = "staff", "staff"
	}), auth.Changes{Changed: []string{"acme"}})
	s.isRefusal(v.Review(caller), auth.ReasonUnknownRealm)
	if c := s.caller(v, "acme", token, one); c.Inbox.Namespace != "staff" {
		t.Errorf("inbox %v", c.Inbox)
	}
}

func TestReloadOfWhereKeysComeFrom(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	caller := s.caller(v, "acme", token, one)
	foreign, keys := stranger(t, s)
	s.answers("acme", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "moved" {
			reset(w)
			return
		}
		_, _ = w.Write(keys)
	})
	s.reload(v, s.config(func(c *auth.Config) { c.Realms[0].JWKS += "?moved" }), auth.Changes{Changed: []string{"acme"}})
	waitKeys(t, v)
	s.accepts(v, "acme", tokenOf(t, foreign, "acme", nil))
	s.refuses(v, "acme", token, auth.ReasonKidUnknown) // in the cache or not
	if err := v.Review(caller); !errors.Is(err, auth.ErrRealmChanged) {
		t.Errorf("review: %v, want that the realm has changed", err)
	}
}

func TestReloadThatRemovesARealm(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	caller := s.caller(v, "acme", token, one)
	begun, ended := make(chan struct{}), make(chan struct{})
	s.answers("acme", func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	go v.Refetch("acme")
	<-begun
	without := s.config(func(c *auth.Config) { c.Realms, c.Tenants = c.Realms[1:], nil })
	s.reload(v, without, auth.Changes{Removed: []string{"acme"}})
	<-ended // the fetch that was under way
	s.refuses(v, "acme", token, auth.ReasonUnknownRealm)
	s.isRefusal(v.Review(caller), auth.ReasonUnknownRealm)
	if _, err := v.VerifyLogout(t.Context(), "acme", token); err == nil {
		t.Error("a logout of the realm is heard")
	}
	if _, err := v.Directory().Inbox(one, peal.UserRef{ID: "jane", Namespace: "acme"}); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("%v, want the directory to have its namespace no more", err)
	}
	if got := v.Status(); len(got) != 2 || got[0].Realm != "globex" {
		t.Errorf("status %+v", got)
	}

	// The same name again is another realm to who was there before, as it is to
	// its tokens: they are good because the issuer is the same.
	s.answers("acme", nil)
	s.reload(v, s.config(), auth.Changes{Added: []string{"acme"}})
	waitKeys(t, v)
	s.accepts(v, "acme", token)
	if err := v.Review(caller); !errors.Is(err, auth.ErrRealmChanged) {
		t.Errorf("review: %v, want that the realm has changed", err)
	}
}

func TestReloadThatAddsARealm(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(func(c *auth.Config) { c.Realms = c.Realms[:2] }), auth.Options{})
	s.refuses(v, "service", s.token("service", nil), auth.ReasonUnknownRealm)
	if v.Directory().Serves(other) {
		t.Error("nobody speaks for the tenant yet")
	}
	s.reload(v, s.config(), auth.Changes{Added: []string{"service"}})
	waitKeys(t, v)
	s.caller(v, "service", s.token("service", nil), other)
	if !v.Directory().Serves(other) {
		t.Error("the directory does not have the realm's tenants")
	}
}

func TestReloadOfAnInvalidConfigurationChangesNothing(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	token := s.token("acme", nil)
	first, caller := s.accepts(v, "acme", token), s.caller(v, "acme", token, one)
	directory := v.Directory()
	for name, edit := range map[string]func(*auth.Config){
		"no realm":            func(c *auth.Config) { c.Realms = nil },
		"one name twice":      func(c *auth.Config) { c.Realms[2].Name = "acme" },
		"one issuer twice":    func(c *auth.Config) { c.Realms[2].Issuer = c.Realms[0].Issuer },
		"the last is invalid": func(c *auth.Config) { c.Realms[0].Roles.Connect = "x"; c.Realms[2].Audiences = nil },
	} {
		if got, err := v.Reload(s.config(edit)); !errors.Is(err, peal.ErrInvalid) || !got.None() {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
		if s.accepts(v, "acme", token) != first || v.Review(caller) != nil || v.Directory() != directory || len(v.Status()) != 3 {
			t.Errorf("%s: something has changed", name)
		}
	}
}

// Each name then means another issuer: nobody keeps anything under the name.
func TestReloadThatSwapsIssuers(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	acme, globex := s.token("acme", nil), s.token("globex", nil)
	callers := []auth.Caller{s.caller(v, "acme", acme, three), s.caller(v, "globex", globex, three)}
	s.reload(v, s.config(func(c *auth.Config) {
		a, b := &c.Realms[0], &c.Realms[1]
		a.Issuer, b.Issuer, a.JWKS, b.JWKS = b.Issuer, a.Issuer, b.JWKS, a.JWKS
	}), auth.Changes{Changed: []string{"acme", "globex"}})
	waitKeys(t, v)
	s.refuses(v, "acme", acme, auth.ReasonIssuer)
	s.refuses(v, "globex", globex, auth.ReasonIssuer)
	for _, c := range callers {
		s.isRefusal(v.Review(c), auth.ReasonUnknownRealm)
	}
	if c := s.caller(v, "acme", globex, three); c.Inbox.Namespace != "acme" {
		t.Errorf("inbox %v", c.Inbox)
	}
}

func TestAClosedVerifierIsNotReloaded(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{})
	v.Close()
	if got, err := v.Reload(s.config()); err == nil || !got.None() {
		t.Errorf("%+v, %v, want an error", got, err)
	}
	v.Close()                                  // again is nothing
	s.accepts(v, "acme", s.token("acme", nil)) // until its keys are too old
	s.refuses(v, "acme", "not a token, but long enough", auth.ReasonMalformed)
}

// Everything at once, for the race detector, and: what is always configured is
// always served, whatever else is reloaded.
func TestReloadBesideEverything(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{CacheBytes: 64 << 10})
	globex := s.token("globex", nil)
	acme := s.token("acme", nil)
	caller := s.caller(v, "globex", globex, two)
	configs := []auth.Config{
		s.config(),
		s.config(func(c *auth.Config) { c.Realms[0].Roles.Connect = "x" }),
		s.config(func(c *auth.Config) { c.Realms, c.Tenants = c.Realms[1:], nil }),
		s.config(func(c *auth.Config) { c.Realms[0].JWKS += "?2"; slices.Reverse(c.Realms) }),
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	always := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for range 2 {
		always(func() {
			if _, err := v.Verify(t.Context(), "globex", globex); err != nil {
				t.Errorf("globex, which is always there: %v", err)
			}
			if err := v.Review(caller); err != nil {
				t.Errorf("review: %v", err)
			}
		})
	}
	always(func() {
		got, err := v.Verify(t.Context(), "acme", acme)
		if refusal, ok := errors.AsType[*auth.Refusal](err); ok && refusal.Reason != auth.ReasonUnknownRealm && refusal.Reason != auth.ReasonKidUnknown {
			t.Errorf("acme: %v", err)
		}
		if got != nil {
			_, _ = got.Caller(string(one))
		}
	})
	always(func() {
		v.Status()
		v.Directory().Serves(one)
		v.Revocations().Add(peal.Revocation{Realm: "acme", Session: "s"}, time.Now(), time.Now().Add(time.Hour))
	})
	for i := range 60 {
		if _, err := v.Reload(configs[i%len(configs)]); err != nil {
			t.Error(err)
		}
	}
	// Close beside a Reload: either is first.
	var last sync.WaitGroup
	last.Go(v.Close)
	last.Go(func() { _, _ = v.Reload(configs[1]) })
	last.Wait()
	close(stop)
	wg.Wait()
}
