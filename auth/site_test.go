package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

// site is a real issuer behind HTTP that counts who fetches what, and can be made
// ill. It has the realms of newWorld; Verifiers are opened by the test.
type site struct {
	t   *testing.T
	iss *issuer.Issuer
	log *lines
	url string

	mu     sync.Mutex
	ill    map[string]http.HandlerFunc // realm → what answers in its place
	counts map[string]int              // realm → requests
}

// lines is a log that is written to and read at once.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// warnings returns those there are.
func (l *lines) warnings() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, "level=WARN") {
			all = append(all, line)
		}
	}
	return all
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, log: &lines{}, ill: map[string]http.HandlerFunc{}, counts: map[string]int{}}
	srv := httptest.NewUnstartedServer(nil)
	s.url = "http://" + srv.Listener.Addr().String()
	s.iss = openIssuer(t, s.url)
	well := s.iss.Handler()
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		realm := strings.Split(r.URL.Path, "/")[2]
		s.mu.Lock()
		ill := s.ill[realm]
		s.counts[realm]++
		s.mu.Unlock()
		if ill != nil {
			ill(w, r)
			return
		}
		well.ServeHTTP(w, r)
	})
	srv.Start()
	t.Cleanup(srv.Close)
	return s
}

func openIssuer(t *testing.T, url string) *issuer.Issuer {
	t.Helper()
	iss, err := issuer.Open("", url, []issuer.Realm{
		{Name: "acme", Algorithm: "ES256", Audience: "peal"},
		{Name: "globex", Algorithm: "ES256", Audience: "peal"},
		{Name: "service", Algorithm: "EdDSA", Audience: "peal"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return iss
}

// answers has a realm answered by h; nil is the issuer itself.
func (s *site) answers(realm string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ill[realm] = h
}

// asked is how often a realm was fetched from.
func (s *site) asked(realm string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[realm]
}

// config has acme (tenants one and three), globex (two and three) and service
// (any), changed by edits. No two share memory.
func (s *site) config(edits ...func(*auth.Config)) auth.Config {
	realm := func(name string, tenants auth.Tenants) auth.Realm {
		return auth.Realm{
			Name: name, Issuer: s.iss.URL(name), JWKS: s.iss.JWKS(name),
			Audiences: []string{"peal"}, Tenants: tenants, AllowPrivate: true,
		}
	}
	c := auth.Config{
		Realms: []auth.Realm{
			realm("acme", auth.Tenants{IDs: []peal.Tenant{one, three}}),
			realm("globex", auth.Tenants{IDs: []peal.Tenant{two, three}}),
			realm("service", auth.Tenants{Any: true}),
		},
		Tenants: []auth.TenantRow{{ID: three, DefaultNamespace: "acme"}},
	}
	for _, edit := range edits {
		edit(&c)
	}
	return c
}

// open opens a Verifier, which the test may close before it ends.
func (s *site) open(cfg auth.Config, opts auth.Options) *auth.Verifier {
	s.t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	v, err := auth.Open(cfg, opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(v.Close)
	return v
}

// opened is open, and has the keys of all realms and counted that.
func (s *site) opened(cfg auth.Config, opts auth.Options) *auth.Verifier {
	s.t.Helper()
	v := s.open(cfg, opts)
	waitKeys(s.t, v)
	for _, r := range cfg.Realms {
		v.Settle(r.Name)
	}
	return v
}

func waitKeys(t *testing.T, v *auth.Verifier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := v.WaitKeys(ctx); err != nil {
		t.Fatal(err)
	}
}

// token is one of jane's that is good now, but for the claims in edits.
func (s *site) token(realm string, edits map[string]any) string {
	s.t.Helper()
	return tokenOf(s.t, s.iss, realm, edits)
}

func tokenOf(t *testing.T, iss *issuer.Issuer, realm string, edits map[string]any) string {
	t.Helper()
	token, err := iss.Mint(realm, issuer.Claims{Subject: "jane", Extra: edits})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// accepts wants v to take a token, and returns what it makes of it.
func (s *site) accepts(v *auth.Verifier, realm, token string) *auth.Token {
	s.t.Helper()
	got, err := v.Verify(s.t.Context(), realm, token)
	if err != nil {
		s.t.Fatalf("realm %s: %v", realm, err)
	}
	return got
}

// refuses wants v to refuse a token for a reason.
func (s *site) refuses(v *auth.Verifier, realm, token string, want auth.Reason) {
	s.t.Helper()
	got, err := v.Verify(s.t.Context(), realm, token)
	s.isRefusal(err, want)
	if got != nil {
		s.t.Fatalf("realm %s: a token beside the error", realm)
	}
}

// isRefusal wants an error to be a refusal for a reason.
func (s *site) isRefusal(err error, want auth.Reason) {
	s.t.Helper()
	if refusal, ok := errors.AsType[*auth.Refusal](err); !ok || refusal.Reason != want {
		s.t.Fatalf("got %v, want a refusal for %s", err, want)
	}
}

// lacksKeys wants a realm to be unavailable, which is not its tokens' fault.
func (s *site) lacksKeys(v *auth.Verifier, realm, token string) {
	s.t.Helper()
	got, err := v.Verify(s.t.Context(), realm, token)
	if !errors.Is(err, peal.ErrUnavailable) || errors.Is(err, peal.ErrUnauthenticated) || got != nil {
		s.t.Fatalf("realm %s: got %v, want it unavailable", realm, err)
	}
}

// down is an issuer that is away.
func down(w http.ResponseWriter, _ *http.Request) { reset(w) }

// reset ends a connection without a word.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// stranger has keys that are as good as acme's, and are not acme's.
func stranger(t *testing.T, s *site) (iss *issuer.Issuer, keys []byte) {
	t.Helper()
	iss = openIssuer(t, s.url) // of the same name
	w := httptest.NewRecorder()
	iss.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/realms/acme/jwks", nil))
	return iss, w.Body.Bytes()
}
