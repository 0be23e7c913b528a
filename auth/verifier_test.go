package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

func TestVerifyReadsTheTokenByExactNames(t *testing.T) {
	w := newWorld(t, nil)
	got := w.verify("acme", w.token("acme", map[string]any{
		"sub": "jane@example.com", "SUB": "admin", "Sub": "admin", "jti": "j1", "sid": "s1",
		"Tenant_ID": string(two),
	}))
	type public struct {
		User            peal.UserID
		ID, Session     string
		Realm           string
		Namespace       peal.Namespace
		Expires, Issued time.Time
	}
	want := public{"jane@example.com", "j1", "s1", "acme", "acme", w.now.Add(time.Hour), w.now}
	have := public{got.User, got.ID, got.Session, got.Realm, got.Namespace, got.Expires, got.IssuedAt}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Fatalf("token (-want +got):\n%s", diff)
	}
	c, err := got.Caller(strings.ToUpper(string(one)))
	if err != nil {
		t.Fatal(err)
	}
	if wantInbox := (peal.Inbox{Tenant: one, Namespace: "acme", User: "jane@example.com"}); c.Inbox != wantInbox {
		t.Fatalf("inbox %v, want %v", c.Inbox, wantInbox)
	}
}

func TestMintedTokensAreGood(t *testing.T) {
	w := newWorld(t, nil)
	w.now = time.Now()
	for _, realm := range []string{"acme", "globex", "service"} {
		token, err := w.iss.Mint(realm, issuer.Claims{Subject: "jane", Tenants: []peal.Tenant{three}, Session: "s1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.verify(realm, token).Caller(string(three)); err != nil {
			t.Errorf("%s: %v", realm, err)
		}
		if token, err = w.iss.Mint(realm, issuer.Claims{Subject: "jane", TTL: -time.Minute}); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, w, realm, token, auth.ReasonExpired)
	}
}

func TestRotatedKeyIsUsableAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	old := w.token("acme", nil)
	if err := w.iss.Rotate("acme"); err != nil {
		t.Fatal(err)
	}
	w.verify("acme", w.token("acme", nil))
	w.verify("acme", old) // its key stays published
}

func TestDiscoveryFindsTheKeys(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			c.Realms[i].JWKS, c.Realms[i].Discovery = "", true
		}
	})
	w.verify("globex", w.token("globex", nil))
}

func TestARealmWhoseIssuerIsDownIsUnavailableAlone(t *testing.T) {
	up := newWorld(t, nil)
	down := httptest.NewServer(http.NotFoundHandler())
	defer down.Close()
	cfg := up.cfg
	cfg.Realms = append(slices.Clone(cfg.Realms), auth.Realm{
		Name: "initech", Issuer: "https://initech.example", JWKS: down.URL, Audiences: []string{"peal"},
		Tenants: auth.Tenants{Any: true}, AllowPrivate: true,
	})
	v, err := auth.Open(cfg, auth.Options{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return up.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()

	// The realm that is up gets its keys whatever the other one does.
	select {
	case <-v.Loaded("acme"):
	case <-time.After(30 * time.Second):
		t.Fatal("no keys of acme")
	}
	good := up.token("acme", nil)
	if _, err := v.Verify(t.Context(), "acme", good); err != nil {
		t.Fatal(err)
	}
	theirs := up.token("acme", map[string]any{"iss": "https://initech.example"})
	if _, err := v.Verify(t.Context(), "initech", theirs); !errors.Is(err, peal.ErrUnavailable) || errors.Is(err, peal.ErrUnauthenticated) {
		t.Errorf("got %v, want it unavailable", err)
	}
	wantRefusal(t, &world{t: t, v: v}, "initech", "not a token, whoever is down", auth.ReasonMalformed)

	brief, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err = v.WaitKeys(brief)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "initech (") {
		t.Errorf("got %v, want the deadline and the realm", err)
	}
}

func TestStatusTellsOfTheKeys(t *testing.T) {
	w := newWorld(t, nil)
	got := w.v.Status()
	if len(got) != 3 {
		t.Fatalf("%d realms, want 3", len(got))
	}
	for i, s := range got {
		if s.Realm != w.cfg.Realms[i].Name || !s.Usable || s.Keys != 1 || s.Err != nil || s.Age <= 0 || s.Age > time.Minute {
			t.Errorf("got %+v", s)
		}
	}
}

func TestTheRefusalTellsTheOwnerWhatWasChecked(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.v.Verify(t.Context(), "acme", w.token("acme", map[string]any{"aud": "billing"}))
	want := &auth.Refusal{Reason: auth.ReasonAudience, Want: "peal peal-test", Got: "billing"}
	got, _ := errors.AsType[*auth.Refusal](err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("refusal (-want +got):\n%s", diff)
	}
	_, err = w.v.Verify(t.Context(), "acme", w.token("acme", map[string]any{"aud": strings.Repeat("x", 5000)}))
	if got, _ = errors.AsType[*auth.Refusal](err); len(got.Got) > 210 {
		t.Fatalf("%d bytes of the token are kept, want a cut", len(got.Got))
	}
}

func TestReasonsAreAllListedOnce(t *testing.T) {
	seen := maps.Collect(func(yield func(auth.Reason, bool) bool) {
		for _, r := range auth.Reasons() {
			yield(r, true)
		}
	})
	if len(seen) != len(auth.Reasons()) || len(seen) != 20 || seen[""] {
		t.Fatalf("got %v", auth.Reasons())
	}
}

// A token in which everything is wrong, mended one thing at a time: the reasons
// come in the order in which they are listed.
func TestReasonsAreInTheOrderInWhichTheyAreLookedFor(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			c.Realms[i].RequiredClaims = map[string]auth.Values{"azp": {OneOf: []string{"desk"}}}
		}
	})
	header := map[string]any{"alg": "HS256", "crit": []string{"b64"}, "kid": nil, "typ": "x"}
	claims := w.claims("acme", map[string]any{"iss": "x", "aud": "x", "exp": nil, "nbf": w.now.Add(time.Hour).Unix(), "sub": 1})
	kid, _, err := w.iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	var got []auth.Reason
	for _, mend := range []func(){
		func() {},
		func() { delete(header, "alg") },
		func() { delete(header, "crit") },
		func() { header["kid"] = "nobody's" },
		func() { delete(header, "typ") },
		func() { claims["iss"] = w.iss.URL("acme") },
		func() { claims["aud"] = "peal" },
		func() { claims["exp"] = w.now.Add(31 * 24 * time.Hour).Unix() },
		func() { delete(claims, "nbf") },
		func() { claims["iat"], claims["exp"] = w.now.Add(-time.Hour).Unix(), w.now.Unix() },
		func() { claims["azp"] = "desk" },
		func() { claims["sub"] = "jane" },
		func() { header["kid"] = kid },
	} {
		mend()
		_, err := w.v.Verify(t.Context(), "acme", w.sign("acme", header, claims))
		if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
			got = append(got, refusal.Reason)
		}
	}
	want := slices.DeleteFunc(auth.Reasons(), func(r auth.Reason) bool {
		return slices.Contains([]auth.Reason{auth.ReasonUnknownRealm, auth.ReasonMalformed, auth.ReasonKey, auth.ReasonSignature,
			auth.ReasonRevoked, auth.ReasonTenant, auth.ReasonRole}, r)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("reasons (-listed +got):\n%s", diff)
	}
}
