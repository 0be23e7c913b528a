package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far ahead of ours the clock of an issuer may be. exp has none:
// a connection must end when its token does.
const leeway = 30 * time.Second

// times are those of a token that is not from the future and not good for too
// long. Whether it has expired is judged last.
type times struct{ issued, expires time.Time }

// judge holds the claims of a token, of whatever kind, against what is the same
// for all: who issued it, for whom, when, and for how long at most.
func (r *realm) judge(claims jwt.MapClaims, audiences []string, longest time.Duration, now time.Time) (of times, err error) {
	if iss, ok := claims["iss"].(string); !ok || iss != r.Issuer {
		return of, refuse(ReasonIssuer, r.Issuer, claims["iss"])
	}
	if aud, ok := oneOrMany(claims["aud"]); !ok || !overlap(aud, audiences) {
		return of, refuse(ReasonAudience, strings.Join(audiences, " "), claims["aud"])
	}
	var ok bool
	if of.expires, ok = numericDate(claims["exp"]); !ok {
		return of, refuse(ReasonExpiry, "exp a number", claims["exp"])
	}
	if of.issued, err = notAfter(claims, "iat", now.Add(leeway)); err != nil {
		return of, err
	}
	if _, err := notAfter(claims, "nbf", now.Add(leeway)); err != nil {
		return of, err
	}
	from := now
	if _, ok := claims["iat"]; ok {
		from = of.issued // which may be the zero time: the year 1 can be written
	}
	if life := of.expires.Sub(from); life > longest {
		return of, refuse(ReasonLifetime, "at most "+longest.String(), life)
	}
	return of, nil
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// notAfter reads the time that a claim names, zero if there is no such claim.
func notAfter(claims jwt.MapClaims, name string, limit time.Time) (time.Time, error) {
	claim, ok := claims[name]
	if !ok {
		return time.Time{}, nil
	}
	t, ok := numericDate(claim)
	if !ok {
		return time.Time{}, refuse(ReasonMalformed, name+" a number", claim)
	}
	if t.After(limit) {
		return time.Time{}, refuse(ReasonNotYetValid, name+" at most "+limit.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// expired judges what only the owner of a good token may learn.
func (of times) expired(now time.Time) error {
	if now.Before(of.expires) {
		return nil
	}
	return refuse(ReasonExpired, "after "+now.UTC().Format(time.RFC3339), of.expires.UTC().Format(time.RFC3339))
}

// mediaType is a typ without what may be left out (RFC 7515 section 4.1.9), in
// lower case, for it is a media type.
func mediaType(typ string) string {
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}

// checkType holds the header's typ against the realm's list; found tells whether
// there is one. An explicit typ is how one kind of token is kept from passing for
// another (RFC 8725 section 3.11).
func (r *realm) checkType(typ string, found bool) error {
	switch {
	case len(r.Types) > 0:
		if found && slices.ContainsFunc(r.Types, func(t string) bool { return mediaType(t) == mediaType(typ) }) {
			return nil
		}
		return refuse(ReasonType, "typ "+strings.Join(r.Types, " "), typ)
	case !found, mediaType(typ) == "jwt", mediaType(typ) == "at+jwt":
		return nil
	}
	return refuse(ReasonType, "typ JWT at+jwt", typ)
}

// otherKinds are the values by which Keycloak, in a claim, marks what is no
// access token.
var otherKinds = []string{"id", "refresh", "offline", "logout"}

// checkKind refuses the claims of an ID token, a refresh token and a logout
// token, which the same issuer signs with the same key, and may make for the
// same audience.
func checkKind(claims jwt.MapClaims, typ string) error {
	kind, _ := claims["typ"].(string)
	if slices.Contains(otherKinds, strings.ToLower(kind)) {
		return refuse(ReasonType, "an access token", kind)
	}
	// OpenID Connect Core section 3.1.3.6 and 3.3.2.11: hashes of what an ID
	// token comes with; and of Back-Channel Logout 1.0 section 2.4.
	for _, name := range []string{"at_hash", "c_hash", "s_hash", "events"} {
		if _, ok := claims[name]; ok {
			return refuse(ReasonType, "an access token", "one with "+name)
		}
	}
	// A nonce comes back in the ID token. Some issuers put it into the access
	// token too, which then says what it is.
	if _, ok := claims["nonce"]; ok && mediaType(typ) != "at+jwt" && !strings.EqualFold(kind, "Bearer") {
		return refuse(ReasonType, "an access token", "one with nonce")
	}
	return nil
}

// check holds the claim at path against what it must be.
func (v Values) check(claims jwt.MapClaims, path string) error {
	claim, found := lookup(claims, path)
	if !found || claim == nil {
		return refuse(ReasonClaim, path+" in the token", "none")
	}
	if v.Any {
		return nil
	}
	if values, ok := oneOrMany(claim); ok && overlap(values, v.OneOf) {
		return nil
	}
	return refuse(ReasonClaim, fmt.Sprintf("%s %s", path, strings.Join(v.OneOf, " or ")), claim)
}
