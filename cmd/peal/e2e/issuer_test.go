package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// credentials are a client's at an issuer.
type credentials struct {
	ID       string `json:"id"`
	Secret   string `json:"secret"`
	Redirect string `json:"redirect,omitempty"`
}

// What both issuers know.
var (
	web     = credentials{"helpdesk-web", "of no use elsewhere", "http://127.0.0.1/signed-in"} // users sign in to it
	backend = credentials{ID: "helpdesk", Secret: "of no use elsewhere either"}                // it acts for itself
)

// issuers is oidc-provider in a process of its own: one issuer for each realm.
type issuers struct {
	urls map[string]string // realm → issuer; once started read-only

	cmd *exec.Cmd
	log bytes.Buffer // to be read when the process has ended

	mu      sync.Mutex // held from an order to its reply
	in      io.WriteCloser
	replies *json.Decoder
}

// issuerOrder is what one of them is to be.
type issuerOrder struct {
	Name    string            `json:"name"` // of the realm
	Alg     string            `json:"alg"`
	Keys    []string          `json:"keys"`    // the first one signs
	Tenants map[string]string `json:"tenants"` // user or client → the tenant_id of its tokens
	Logout  string            `json:"logout"`  // where to send logout tokens
}

func startIssuers(t *testing.T, orders ...issuerOrder) *issuers {
	t.Helper()
	arg, err := json.Marshal(map[string]any{
		"client": web, "service": backend, "realms": orders,
		"resource": "urn:peal", "audience": "peal", "scope": "notifications:publish",
	})
	if err != nil {
		t.Fatal(err)
	}
	i := &issuers{urls: make(map[string]string), cmd: exec.Command("node", "idp/idp.mjs", string(arg))}
	i.cmd.Stderr = &i.log
	if i.in, err = i.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := i.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	i.replies = json.NewDecoder(out)
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.kill)
	for range orders {
		realm, url := i.await(t)
		i.urls[realm] = url
	}
	return i
}

// await waits until an issuer has started, again or for the first time.
func (i *issuers) await(t *testing.T) (realm, url string) {
	t.Helper()
	var started struct{ Realm, Issuer string }
	if err := i.replies.Decode(&started); err != nil {
		i.kill()
		t.Fatalf("no issuer: %v\n%s", err, &i.log)
	}
	return started.Realm, started.Issuer
}

// rotate starts a realm's issuer again, with these keys only. The first one
// signs.
func (i *issuers) rotate(t *testing.T, realm string, keys ...string) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := json.NewEncoder(i.in).Encode(map[string]any{"realm": realm, "keys": keys}); err != nil {
		t.Fatal(err)
	}
	i.await(t)
}

func (i *issuers) kill() {
	if i.cmd.ProcessState == nil {
		i.cmd.Process.Kill()
		i.cmd.Wait()
	}
}

// login is what an application, and the user's browser, have after signing in.
type login struct {
	access, refresh, id string // tokens

	app     *oauth2.Config
	browser *http.Client
}

// signIn signs a user in by the authorization code flow, with a browser of its
// own.
func (i *issuers) signIn(t *testing.T, realm, user string) login {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	app := &oauth2.Config{
		ClientID: web.ID, ClientSecret: web.Secret, RedirectURL: web.Redirect, Scopes: []string{"openid"},
		Endpoint: oauth2.Endpoint{AuthURL: i.urls[realm] + "/auth", TokenURL: i.urls[realm] + "/token"},
	}
	var code string
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), web.Redirect+"?") {
			code = r.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	verifier := oauth2.GenerateVerifier()
	page, err := browser.Get(app.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("login_hint", user)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(page.Body)
	page.Body.Close()
	if code == "" || err != nil {
		t.Fatalf("%s at %s has no code but %s %s, %v", user, realm, page.Status, body, err)
	}
	token, err := app.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	id, _ := token.Extra("id_token").(string)
	if id == "" || token.RefreshToken == "" {
		t.Fatalf("%s at %s has no ID token or no refresh token", user, realm)
	}
	return login{token.AccessToken, token.RefreshToken, id, app, browser}
}

// renew returns an access token for the refresh token.
func (l login) renew(t *testing.T) string {
	t.Helper()
	token, err := l.app.TokenSource(t.Context(), &oauth2.Token{RefreshToken: l.refresh}).Token()
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

var (
	formAction = regexp.MustCompile(` action="([^"]+)"`)
	formXSRF   = regexp.MustCompile(` name="xsrf" value="([^"]+)"`)
)

// signOut ends the session of the user's browser. The issuer has told the
// application's logout endpoint when it returns.
func (l login) signOut(t *testing.T) {
	t.Helper()
	issuer := strings.TrimSuffix(l.app.Endpoint.AuthURL, "/auth")
	page := l.visit(t, func() (*http.Response, error) {
		return l.browser.Get(issuer + "/session/end?" + url.Values{"id_token_hint": {l.id}}.Encode())
	})
	action, xsrf := formAction.FindSubmatch(page), formXSRF.FindSubmatch(page)
	if action == nil || xsrf == nil {
		t.Fatalf("nothing to sign out by: %s", page)
	}
	l.visit(t, func() (*http.Response, error) {
		return l.browser.PostForm(string(action[1]), url.Values{"xsrf": {string(xsrf[1])}, "logout": {"yes"}})
	})
}

// visit returns the page that comes with a 200.
func (l login) visit(t *testing.T, request func() (*http.Response, error)) []byte {
	t.Helper()
	resp, err := request()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", resp.Request.URL.Path, resp.Status, page, err)
	}
	return page
}

// ofBackend returns an access token of the backend's own, which may publish.
func (i *issuers) ofBackend(t *testing.T, realm string) string {
	t.Helper()
	c := clientcredentials.Config{
		ClientID: backend.ID, ClientSecret: backend.Secret, TokenURL: i.urls[realm] + "/token",
		Scopes: []string{"notifications:publish"}, EndpointParams: url.Values{"resource": {"urn:peal"}},
	}
	token, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

// claims are what the tests look at in a token; see part.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	Session  string `json:"sid"`
	IssuedAt int64  `json:"iat"`
}

// header is a token's; see part.
type header struct{ Typ, Alg, Kid string }

// part decodes a part of a token, of which 0 is the header and 1 the claims.
func part[T claims | header](t *testing.T, token string, n int) (v T) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts, want 3", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("part %d of a token: %w", n, err))
	}
	return v
}
