package auth_test

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	one   peal.Tenant = "11111111-1111-4111-8111-111111111111" // acme's
	two   peal.Tenant = "22222222-2222-4222-8222-222222222222" // globex's
	three peal.Tenant = "33333333-3333-4333-8333-333333333333" // of both
	other peal.Tenant = "99999999-9999-4999-8999-999999999999" // nobody's
)

// world is a real issuer behind HTTP and a Verifier that has its keys, at a
// clock that stands still.
type world struct {
	t   *testing.T
	iss *issuer.Issuer
	v   *auth.Verifier
	cfg auth.Config
	now time.Time
}

// newWorld has the realms acme (ES256, tenants one and three), globex (RS256,
// two and three) and service (EdDSA, any), changed by edit.
func newWorld(t *testing.T, edit func(*auth.Config)) *world {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	iss, err := issuer.Open("", "http://"+srv.Listener.Addr().String(), []issuer.Realm{
		{Name: "acme", Algorithm: "ES256", Audience: "peal"},
		{Name: "globex", Algorithm: "RS256", Audience: "peal"},
		{Name: "service", Algorithm: "EdDSA", Audience: "peal"},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = iss.Handler()
	srv.Start()
	t.Cleanup(srv.Close)

	w := &world{t: t, iss: iss, now: time.Unix(1_800_000_000, 0)}
	for name, tenants := range map[string]auth.Tenants{
		"acme":    {IDs: []peal.Tenant{one, three}},
		"globex":  {IDs: []peal.Tenant{two, three}},
		"service": {Any: true},
	} {
		w.cfg.Realms = append(w.cfg.Realms, auth.Realm{
			Name: name, Issuer: iss.URL(name), JWKS: iss.JWKS(name),
			Audiences: []string{"peal", "peal-test"}, Tenants: tenants, AllowPrivate: true,
		})
	}
	w.cfg.Tenants = []auth.TenantRow{{ID: three, DefaultNamespace: "acme"}}
	if edit != nil {
		edit(&w.cfg)
	}
	w.v, err = auth.Open(w.cfg, auth.Options{
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now:    func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.v.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.v.WaitKeys(ctx); err != nil {
		t.Fatal(err)
	}
	return w
}

// claims are good for a realm, changed by edits; nil takes a claim away.
func (w *world) claims(realm string, edits map[string]any) map[string]any {
	return edited(map[string]any{
		"iss": w.iss.URL(realm), "aud": "peal", "sub": "jane",
		"iat": w.now.Unix(), "exp": w.now.Add(time.Hour).Unix(),
	}, edits)
}

// sign makes a token with a realm's key.
func (w *world) sign(realm string, header, claims map[string]any) string {
	w.t.Helper()
	token, err := w.iss.Sign(realm, header, claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// token makes one that is good for a realm but for the edits.
func (w *world) token(realm string, edits map[string]any) string {
	w.t.Helper()
	return w.sign(realm, nil, w.claims(realm, edits))
}

// verify wants a token to be good.
func (w *world) verify(realm, token string) *auth.Token {
	w.t.Helper()
	got, err := w.v.Verify(w.t.Context(), realm, token)
	if err != nil {
		w.t.Fatalf("realm %s: %v", realm, err)
	}
	return got
}
