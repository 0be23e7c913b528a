package auth

import (
	"fmt"

	"github.com/pealhq/peal"
)

// Reason is why a token was refused: a metric label and log attribute. The
// client does not learn it.
type Reason string

// The reasons.
const (
	ReasonUnknownRealm Reason = "unknown_realm"
	ReasonMalformed    Reason = "malformed"      // length, segments, base64, JSON, repeated names, a claim of the wrong type
	ReasonAlgorithm    Reason = "algorithm"      // not in the realm's list
	ReasonCrit         Reason = "crit"           // the header asks for an extension
	ReasonKidMissing   Reason = "kid_missing"    // none, or not a string of 1 to 256 bytes
	ReasonType         Reason = "type"           // typ or the claims show that it is no access token
	ReasonIssuer       Reason = "issuer"         // iss is not the realm's
	ReasonAudience     Reason = "audience"       // aud has none of the realm's
	ReasonExpiry       Reason = "expiry"         // exp is missing or not a number
	ReasonNotYetValid  Reason = "not_yet_valid"  // nbf or iat lie in the future
	ReasonLifetime     Reason = "lifetime"       // good for longer than the realm's tokens may be
	ReasonClaim        Reason = "required_claim" // one that the realm requires is missing or another
	ReasonUserClaim    Reason = "user_claim"     // missing, or not a user id
	ReasonKidUnknown   Reason = "kid_unknown"    // the realm has no such key that we can use
	ReasonKey          Reason = "key"            // the key is not for the token's algorithm
	ReasonSignature    Reason = "signature"      // made by another key, or for other bytes
	ReasonExpired      Reason = "expired"        // good in every other respect
	ReasonRevoked      Reason = "revoked"        // good, but issued before a revocation
	ReasonTenant       Reason = "tenant"         // good, but not for this tenant
	ReasonRole         Reason = "role"           // good, but without the role
)

// Reasons lists every reason, in the order in which they are looked for: what
// costs little first, and the signature before what only the token's owner may
// learn.
func Reasons() []Reason {
	return []Reason{
		ReasonUnknownRealm, ReasonMalformed, ReasonAlgorithm, ReasonCrit, ReasonKidMissing, ReasonType,
		ReasonIssuer, ReasonAudience, ReasonExpiry, ReasonNotYetValid, ReasonLifetime, ReasonClaim, ReasonUserClaim,
		ReasonKidUnknown, ReasonKey, ReasonSignature, ReasonExpired, ReasonRevoked, ReasonTenant, ReasonRole,
	}
}

// Refusal is the error of a token that is refused. It is a peal.ErrForbidden
// where the token is good and does not allow what is asked, and else a
// peal.ErrUnauthenticated; a peal.ErrTokenExpired too where it was good but for
// its exp.
type Refusal struct {
	Reason Reason

	// Want and Got tell the owner of the token what was checked, where that can
	// be told in a word. Got is from the token, so neither is in the error's
	// text, and neither belongs into a log.
	Want, Got string
}

func (r *Refusal) Error() string { return "token refused: " + string(r.Reason) }

// Unwrap returns the class that the edge decides by.
func (r *Refusal) Unwrap() error {
	switch r.Reason {
	case ReasonExpired:
		return peal.ErrTokenExpired
	case ReasonTenant, ReasonRole:
		return peal.ErrForbidden
	}
	return peal.ErrUnauthenticated
}

// refuse makes a Refusal. got is cut: an error is not a place to keep a token's
// kilobytes.
func refuse(reason Reason, want string, got any) *Refusal {
	g := ""
	if got != nil {
		g = fmt.Sprint(got)
	}
	if len(g) > 200 {
		g = g[:200] + "…"
	}
	return &Refusal{Reason: reason, Want: want, Got: g}
}
