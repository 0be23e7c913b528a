package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// maxLogout bounds the body of a logout: a token of the largest size.
const maxLogout = auth.MaxToken + 1024

// errLogout is one answer for all that can be wrong with a logout token.
var errLogout = peal.Invalid("logout_token", "must be a logout token of this realm that was not used before")

// backchannelLogout answers POST {url}/realms/{realm}/backchannel-logout: an
// issuer has ended a session (OpenID Connect Back-Channel Logout 1.0). Tokens of
// it that were issued before are not good any more.
func (n *Node) backchannelLogout(w http.ResponseWriter, r *request) error {
	if _, err := r.query(); err != nil {
		return err
	}
	token, err := r.logoutToken(w)
	if err != nil {
		return err
	}
	realm := r.params.ByName("realm")
	n.concerns(r, realm)
	l, err := n.verifier.VerifyLogout(r.Context(), realm, token)
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		return fmt.Errorf("%w: %w", errLogout, refusal)
	}
	if err != nil {
		return err
	}
	// Not before: a stranger's rubbish is not counted for the neighbours behind
	// the same proxy, who may be the issuer and all users.
	if from, ok := network(r.RemoteAddr); ok {
		if err := n.addresses.take(from, time.Now()); err != nil {
			return err
		}
	}
	if err := n.logOut(r.Context(), l); err != nil {
		return err
	}
	for _, rev := range l.Revocations() {
		n.audit(r, "its issuer", "session ended", attrsOf(rev)...)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

// logOut stores what a logout revokes. That its token was used is noted last: an
// issuer that is told to come again comes with the same.
func (n *Node) logOut(ctx context.Context, l auth.Logout) error {
	id := []string{"logout", l.Realm, l.ID}
	used, err := n.bus.Used(ctx, id...)
	if err != nil {
		return err
	}
	if used {
		return errLogout
	}
	for _, rev := range l.Revocations() {
		if _, err := n.store(ctx, rev, l.Keep); err != nil {
			return err
		}
	}
	first, err := n.bus.Once(ctx, time.Until(l.Expires)+time.Minute, id...)
	if err == nil && !first {
		return errLogout
	}
	return err
}

// logoutToken reads the one field of the form.
func (r *request) logoutToken(w http.ResponseWriter) (string, error) {
	kind, ok := r.only("Content-Type")
	media, _, err := mime.ParseMediaType(kind)
	if !ok || err != nil || media != "application/x-www-form-urlencoded" || len(r.Header["Content-Encoding"]) > 0 {
		return "", errFormType
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogout))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return "", errFormTooLarge
	}
	if err != nil {
		return "", peal.Invalid("body", "did not arrive whole")
	}
	r.arrived(w)
	form, err := url.ParseQuery(string(data))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", peal.Invalid("logout_token", "must be given once, in a form")
	}
	return form.Get("logout_token"), nil
}
