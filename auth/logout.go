package auth

import (
	"context"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// logoutEvent is the member of events that makes a logout token (OpenID Connect
// Back-Channel Logout 1.0, section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutLife is for how long a logout token may be good however short-lived the
// realm's access tokens are: issuers give it two minutes (section 2.4), or some
// more.
const logoutLife = 10 * time.Minute

// Logout is what a logout token says: an issuer has ended a session.
type Logout struct {
	Realm   string
	ID      string    // jti: the token is good once
	Expires time.Time // of the logout token
	Subject string    // whose session; "" if the token does not say
	Session string    // which; "" means all of the subject's

	// Keep is how long its revocations must be remembered: a token of the realm,
	// which may be a little ahead of our clock, is not good for longer.
	Keep time.Duration
}

// VerifyLogout checks a logout token of the named realm as Back-Channel Logout
// 1.0 section 2.6 says, but for whether it was used before. The error is as of
// Verify.
func (v *Verifier) VerifyLogout(ctx context.Context, realm, token string) (Logout, error) {
	r, ok := v.snapshot().byName[realm]
	if !ok {
		return Logout{}, refuse(ReasonUnknownRealm, "", realm)
	}
	now := v.now()
	u, err := r.open(token)
	if err != nil {
		return Logout{}, err
	}
	if u.typed && !slices.Contains([]string{"jwt", "logout+jwt"}, mediaType(u.typ)) {
		return Logout{}, refuse(ReasonType, "typ logout+jwt", u.typ)
	}
	of, err := r.judge(u.claims, r.LogoutAudiences, max(r.MaxTokenLife, logoutLife), now)
	if err != nil {
		return Logout{}, err
	}
	l := Logout{Realm: r.Name, Expires: of.expires, Keep: r.MaxTokenLife + leeway}
	if err := l.read(u.claims); err != nil {
		return Logout{}, err
	}
	if of.issued.IsZero() {
		return Logout{}, refuse(ReasonClaim, "iat in the token", "none")
	}
	if err := r.checkSignature(ctx, token); err != nil {
		return Logout{}, err
	}
	return l, of.expired(now)
}

// read takes what a logout token must have, and must not.
func (l *Logout) read(claims jwt.MapClaims) error {
	if _, ok := claims["nonce"]; ok { // or an ID token could be made to pass for one
		return refuse(ReasonType, "no nonce", nil)
	}
	events, _ := claims["events"].(map[string]any)
	if _, ok := events[logoutEvent].(map[string]any); !ok {
		return refuse(ReasonType, "events with "+logoutEvent, nil)
	}
	if err := readNames(claims, map[string]*string{"jti": &l.ID, "sub": &l.Subject, "sid": &l.Session}); err != nil {
		return err
	}
	for _, name := range []string{"sub", "sid"} { // an empty one would be as good as none
		if claims[name] == "" {
			return refuse(ReasonMalformed, name+" not empty", nil)
		}
	}
	if l.ID == "" {
		return refuse(ReasonClaim, "jti in the token", "none")
	}
	if l.Subject == "" && l.Session == "" {
		return refuse(ReasonClaim, "sub or sid in the token", "none")
	}
	return nil
}

// Revocations returns those that a logout makes. Where it names a session, the
// tokens of its user that name none may be of that session too.
func (l Logout) Revocations() []peal.Revocation {
	bySubject := peal.Revocation{Realm: l.Realm, Subject: l.Subject}
	if l.Session == "" {
		return []peal.Revocation{bySubject}
	}
	all := []peal.Revocation{{Realm: l.Realm, Session: l.Session}}
	if l.Subject != "" {
		bySubject.NoSession = true
		all = append(all, bySubject)
	}
	return all
}
