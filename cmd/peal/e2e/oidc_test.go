package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The realms are issuers that know nothing of peal; they and their tenants have
// the names that they have in peal dev.
const (
	otherRealm   = "globex"
	otherTenant  = "22222222-2222-4222-8222-222222222222"
	commonTenant = "33333333-3333-4333-8333-333333333333"
)

const realmsFile = `
realms:
- name: acme
  issuer: %s
  discovery: true
  allowPrivate: true
  audiences: [peal]
  logoutAudiences: [helpdesk-web]
  tenants: [` + tenant + `, ` + commonTenant + `]
- name: globex
  issuer: %s
  discovery: true
  allowPrivate: true
  audiences: [peal]
  logoutAudiences: [helpdesk-web]
  tenants: [` + otherTenant + `, ` + commonTenant + `]
tenants:
- id: ` + commonTenant + `
  defaultNamespace: acme
`

// federation is peal serve with two realms, whose tokens others issue.
type federation struct {
	*service
	*issuers
	passed chan logout
}

func startFederation(t *testing.T) federation {
	t.Helper()
	porter := httptest.NewUnstartedServer(nil) // it has an address before the service has
	t.Cleanup(porter.Close)
	door := "http://" + porter.Listener.Addr().String()
	i := startIssuers(t,
		issuerOrder{Name: realm, Alg: "RS256", Keys: []string{"1"}, Logout: door + logoutPath(realm), Tenants: map[string]string{
			"jane": tenant, "joe": tenant, backend.ID: tenant, "mole": otherTenant,
		}},
		issuerOrder{Name: otherRealm, Alg: "ES256", Keys: []string{"1"}, Logout: door + logoutPath(otherRealm), Tenants: map[string]string{
			"jane": otherTenant, backend.ID: otherTenant, "mole": tenant,
		}},
	)
	file := filepath.Join(t.TempDir(), "realms.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, realmsFile, i.urls[realm], i.urls[otherRealm]), 0o600); err != nil {
		t.Fatal(err)
	}
	f := federation{startService(t, "serve", "--realms", file), i, make(chan logout, 1)}
	porter.Config.Handler = http.HandlerFunc(f.pass)
	porter.Start()
	return f
}

// publisher is the backend of a realm's applications.
func (f federation) publisher(t *testing.T, realm, tenant string) bearer {
	t.Helper()
	return bearer{realm, tenant, f.ofBackend(t, realm)}
}

// Two realms of other people's issuers live side by side: each one's access
// tokens are good under its own name, for tenants that both the realm and the
// token name, and go on being good when the issuers are gone. Nothing else of
// what an issuer gives out is taken.
func TestTokensOfOtherPeoplesIssuers(t *testing.T) {
	f := startFederation(t)
	for _, tt := range []struct {
		realm, alg, tenant       string
		foreign, foreignToTenant string
	}{
		{realm, "RS256", tenant, otherRealm, otherTenant},
		{otherRealm, "ES256", otherTenant, realm, tenant},
	} {
		jane, mole := f.signIn(t, tt.realm, "jane"), f.signIn(t, tt.realm, "mole")
		publisher := f.publisher(t, tt.realm, tt.tenant)

		t.Run(tt.realm+" is heard", func(t *testing.T) {
			if got, want := part[header](t, jane.access, 0), (header{"at+jwt", tt.alg, tt.realm + "-1"}); got != want {
				t.Fatalf("the issuer made a token with the header %v, want %v", got, want)
			}
			f.mustListen(t, bearer{tt.realm, tt.tenant, jane.access}).hears(t, f.service, publisher, "jane", "n1")
			f.mustListen(t, bearer{tt.realm, tt.tenant, jane.renew(t)}).hears(t, f.service, publisher, "jane", "n2")
		})
		t.Run(tt.realm+" is refused elsewhere", func(t *testing.T) {
			for _, tenant := range []string{tt.tenant, tt.foreignToTenant, commonTenant} {
				f.refuses(t, bearer{tt.foreign, tenant, jane.access}, http.StatusUnauthorized)
			}
			f.refuses(t, bearer{tt.realm, tt.foreignToTenant, jane.access}, http.StatusForbidden) // neither names it
			f.refuses(t, bearer{tt.realm, commonTenant, jane.access}, http.StatusForbidden)       // the token does not
			f.refuses(t, bearer{tt.realm, tt.foreignToTenant, mole.access}, http.StatusForbidden) // the realm does not
			f.refuses(t, bearer{tt.realm, tt.tenant, mole.access}, http.StatusForbidden)
		})
		t.Run(tt.realm+"'s other tokens are refused", func(t *testing.T) {
			id := part[claims](t, jane.id, 1)
			if id.Issuer != f.urls[tt.realm] || id.Subject != "jane" || id.Audience != web.ID {
				t.Fatalf("the issuer made an ID token with the claims %+v", id)
			}
			f.refuses(t, bearer{tt.realm, tt.tenant, jane.id}, http.StatusUnauthorized)
			f.refuses(t, bearer{tt.realm, tt.tenant, jane.refresh}, http.StatusUnauthorized)
		})
	}

	t.Run("the issuers are gone", func(t *testing.T) {
		seen, unseen := make(map[string]string), make(map[string]string) // realm → token
		publishers := make(map[string]bearer)
		tenants := map[string]string{realm: tenant, otherRealm: otherTenant}
		for realm, tenant := range tenants {
			seen[realm], unseen[realm] = f.signIn(t, realm, "jane").access, f.signIn(t, realm, "jane").access
			publishers[realm] = f.publisher(t, realm, tenant)
			f.accepts(t, bearer{realm, tenant, seen[realm]})
		}
		f.kill()
		for realm, tenant := range tenants {
			f.mustListen(t, bearer{realm, tenant, seen[realm]}).hears(t, f.service, publishers[realm], "jane", "n3")
			f.mustListen(t, bearer{realm, tenant, unseen[realm]}).hears(t, f.service, publishers[realm], "jane", "n4")
		}
	})
}

// within is how soon a token of a new key is taken: an unknown key is asked for
// at most once in 10 s.
const within = 12 * time.Second

// connects wants a token, whose key is new, to be taken soon.
func (f federation) connects(t *testing.T, as bearer) {
	t.Helper()
	began := time.Now()
	again := time.NewTicker(pause)
	defer again.Stop()
	for {
		l, status := f.listen(t, as)
		took := time.Since(began)
		switch {
		case l != nil && took <= within:
			l.close()
			t.Logf("%s connects after %.1f s", part[header](t, as.token, 0).Kid, took.Seconds())
			return
		case status != http.StatusOK && status != http.StatusUnauthorized || took > within:
			t.Fatalf("status %d after %v, want a connection within %v", status, took, within)
		}
		<-again.C
	}
}

// An issuer rotates its keys as it likes: tokens of a new one are good at once,
// those of one that it has withdrawn are not any more, and who is connected
// stays.
func TestAnIssuerRotatesItsKeys(t *testing.T) {
	f := startFederation(t)
	for _, tt := range []struct{ realm, tenant string }{{realm, tenant}, {otherRealm, otherTenant}} {
		t.Run(tt.realm, func(t *testing.T) {
			t.Parallel()
			publisher := f.publisher(t, tt.realm, tt.tenant)
			first := bearer{tt.realm, tt.tenant, f.signIn(t, tt.realm, "jane").access}
			open := f.mustListen(t, first)

			f.rotate(t, tt.realm, "2", "1")
			second := bearer{tt.realm, tt.tenant, f.signIn(t, tt.realm, "jane").access}
			f.connects(t, second)
			open.hears(t, f.service, publisher, "jane", "n1")
			f.accepts(t, first)

			f.rotate(t, tt.realm, "3", "2")
			third := bearer{tt.realm, tt.tenant, f.signIn(t, tt.realm, "jane").access}
			f.connects(t, third)
			f.refuses(t, first, http.StatusUnauthorized)
			f.accepts(t, second)
		})
	}
}
