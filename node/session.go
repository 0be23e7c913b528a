package node

import (
	"fmt"
	"net/http"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// sessionCookie holds the token of a session. By its prefix browsers take it from
// this host alone, and only as it is set here:
// https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#name-the-__host-prefix.
const sessionCookie = "__Host-peal"

// maxSessionToken bounds the token of a session, in bytes: browsers drop a cookie
// whose name and value have more than 4,096.
const maxSessionToken = 3800

// beginSession answers POST …/ticket/sse/session: it gives the caller's token back
// as a cookie, for the browser's own EventSource, which sends nothing else.
func (n *Node) beginSession(w http.ResponseWriter, r *request) error {
	if err := r.plain(); err != nil {
		return err
	}
	token, _ := r.bearer()
	if len(token) > maxSessionToken {
		return errSessionToken
	}
	caller, err := n.authenticate(r, auth.Connect)
	if err != nil {
		return err
	}
	if !n.mayHaveSession(r) {
		return errOrigin
	}
	if err := n.sighted(); err != nil {
		return err
	}
	left := int(time.Until(caller.Expires) / time.Second)
	return setSession(w, http.Cookie{Value: token, Expires: caller.Expires, MaxAge: max(left, 1)})
}

// endSession answers DELETE …/ticket/sse/session: the browser forgets the cookie.
// The token stays as good as it was.
func (n *Node) endSession(w http.ResponseWriter, r *request) error {
	if err := r.plain(); err != nil {
		return err
	}
	if !n.mayHaveSession(r) {
		return errOrigin
	}
	return setSession(w, http.Cookie{MaxAge: -1})
}

// plain refuses a query with a token in it and any body.
func (r *request) plain() error {
	if _, err := r.query(); err != nil {
		return err
	}
	return r.empty()
}

// setSession answers with the cookie.
func setSession(w http.ResponseWriter, c http.Cookie) error {
	c.Name, c.Path = sessionCookie, "/"
	c.HttpOnly, c.Secure, c.SameSite = true, true, http.SameSiteStrictMode
	http.SetCookie(w, &c)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// mayHaveSession keeps a page of somebody else from signing its reader in, as
// another user, or out. A browser names the page's origin with every POST and
// DELETE; what names none and says nothing else of browsers is a script.
func (n *Node) mayHaveSession(r *request) bool {
	if _, allowed := n.cfg.origin(r.Request); allowed || r.sameOrigin() {
		return true
	}
	return len(r.Header["Origin"]) == 0 && len(r.Header["Sec-Fetch-Site"]) == 0
}

// sameOrigin reports whether a browser says that the request is of a page of our
// own origin. No page can make it say so.
func (r *request) sameOrigin() bool {
	site, ok := r.only("Sec-Fetch-Site")
	return ok && site == "same-origin"
}

// session returns the token of the session cookie, where one is accepted: for a
// GET of the API without other credentials, by a page of an allowed origin or of
// our own. Browsers leave the Origin out of a GET to the page's own origin. A
// request of any other page, which they send the cookie with all the same where
// it is of the same site, is as good as one without.
func (n *Node) session(r *request) (token string, ok bool) {
	if !n.cfg.Cookies || r.Method != http.MethodGet || !underBase(r.route) || len(r.Header["Authorization"]) > 0 {
		return "", false
	}
	_, allowed := n.cfg.origin(r.Request)
	if !allowed && (len(r.Header["Origin"]) > 0 || !r.sameOrigin()) {
		return "", false
	}
	cookies := r.CookiesNamed(sessionCookie)
	if len(cookies) != 1 {
		return "", false
	}
	return cookies[0].Value, true
}

var (
	errOrigin       = fmt.Errorf("session of a foreign page: %w", peal.ErrForbidden)
	errSessionToken = fmt.Errorf("token of a session: %w", errTooLarge)
)
