package e2e_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// logout is what has become of a request to peal's logout endpoint.
type logout struct {
	sent     time.Time
	answered time.Time
	token    string // none if it is malformed
	status   int
	err      error
}

func logoutPath(realm string) string { return "/realms/" + realm + "/backchannel-logout" }

// pass hands an issuer's request on to peal, as it is, and notes it.
func (f federation) pass(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "no body", http.StatusBadRequest)
		return
	}
	form, _ := url.ParseQuery(string(body))
	l := logout{sent: time.Now(), token: form.Get("logout_token")}
	l.status, l.err = f.post(r.URL.Path, r.Header.Get("Content-Type"), string(body))
	l.answered = time.Now()
	f.passed <- l
	w.WriteHeader(cmp.Or(l.status, http.StatusBadGateway))
}

// post sends a body to peal.
func (s *service) post(path, contentType, body string) (status int, err error) {
	resp, err := http.Post(s.url+path, contentType, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// rejects wants a token not to be a realm's logout token, or not any more.
func (f federation) rejects(t *testing.T, realm, token string) {
	t.Helper()
	status, err := f.post(logoutPath(realm), "application/x-www-form-urlencoded", url.Values{"logout_token": {token}}.Encode())
	if err != nil || status != http.StatusBadRequest {
		t.Errorf("a token that is no logout token of realm %s, or was one: status %d, %v, want 400", realm, status, err)
	}
}

// Who signs out at the issuer is disconnected, and the tokens of that session
// are refused. Other sessions, users and realms have nothing to do with it, and
// who signs in again is welcome.
func TestSigningOutAtTheIssuer(t *testing.T) {
	f := startFederation(t)
	jane := f.signIn(t, realm, "jane")
	if part[claims](t, jane.access, 1).Session == "" {
		t.Fatal("the issuer made an access token without a sid")
	}
	old := bearer{realm, tenant, jane.access}
	open := f.mustListen(t, old)
	bystanders := []struct {
		name, user string
		of         *listener
		publisher  bearer
	}{
		{"her other browser", "jane", f.mustListen(t, bearer{realm, tenant, f.signIn(t, realm, "jane").access}), f.publisher(t, realm, tenant)},
		{"another user", "joe", f.mustListen(t, bearer{realm, tenant, f.signIn(t, realm, "joe").access}), f.publisher(t, realm, tenant)},
		{"her namesake in another realm", "jane", f.mustListen(t, bearer{otherRealm, otherTenant, f.signIn(t, otherRealm, "jane").access}), f.publisher(t, otherRealm, otherTenant)},
	}

	jane.signOut(t)
	var out logout
	select {
	case out = <-f.passed: // an issuer that tells does so before it answers the browser
	default:
		t.Fatal("the issuer has not told anyone")
	}
	if out.err != nil || out.status != http.StatusOK && out.status != http.StatusNoContent {
		t.Fatalf("peal answers the issuer's logout token with status %d, %v", out.status, out.err)
	}
	open.ends(t, "REVOKED")
	if took := time.Since(out.sent); took > 2*time.Second {
		t.Errorf("the connection has ended %v after the logout, want 2s", took)
	}
	f.refuses(t, old, http.StatusUnauthorized)
	for i, b := range bystanders {
		t.Run(b.name, func(t *testing.T) { b.of.hears(t, f.service, b.publisher, b.user, fmt.Sprint("n", i)) })
	}

	f.rejects(t, realm, out.token)
	f.rejects(t, otherRealm, out.token)
	f.rejects(t, realm, jane.id)
	f.rejects(t, realm, jane.access)

	again := f.signIn(t, realm, "jane")
	for deadline := time.Now().Add(patience); part[claims](t, again.access, 1).IssuedAt <= out.answered.Unix(); again = f.signIn(t, realm, "jane") {
		if time.Now().After(deadline) {
			t.Fatalf("within %v the issuer made no token that is younger than the logout", patience)
		}
	}
	f.mustListen(t, bearer{realm, tenant, again.access}).hears(t, f.service, f.publisher(t, realm, tenant), "jane", "again")
}
