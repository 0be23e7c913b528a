package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pealhq/peal"
)

// Token is a token that has been verified. It does not change, and it is good
// until Expires only: who keeps one looks at the clock before using it again.
type Token struct {
	Realm     string
	Namespace peal.Namespace
	User      peal.UserID

	// Expires is at most the end of the year 9999, whatever the token says.
	Expires time.Time

	// IssuedAt is zero where the token does not say. Then it is older than any
	// revocation.
	IssuedAt time.Time

	ID      string // jti, "" if it has none
	Session string // sid, "" if it has none

	realm    *realm
	narrowed bool          // the token names tenants: only those of tenants count
	tenants  []peal.Tenant // none where the claim is malformed
	roles    []string      // sorted
}

// readClaims judges the claims of a token whose signature is good. Expiry comes
// last: a client is told of it only where nothing else is wrong.
func (r *realm) readClaims(claims jwt.MapClaims, now time.Time) (*Token, error) {
	if iss, ok := claims["iss"].(string); !ok || iss != r.Issuer {
		return nil, refuse(ReasonIssuer, r.Issuer, claims["iss"])
	}
	if aud, ok := oneOrMany(claims["aud"]); !ok || !slices.ContainsFunc(aud, r.isAudience) {
		return nil, refuse(ReasonAudience, strings.Join(r.Audiences, " "), claims["aud"])
	}
	expires, ok := numericDate(claims["exp"])
	if !ok {
		return nil, refuse(ReasonExpiry, "a number", claims["exp"])
	}
	issued, err := notAfter(claims, "iat", now.Add(leeway))
	if err != nil {
		return nil, err
	}
	if _, err := notAfter(claims, "nbf", now.Add(leeway)); err != nil {
		return nil, err
	}

	t := &Token{Realm: r.Name, Namespace: r.Namespace, Expires: expires, IssuedAt: issued, realm: r}
	if err := t.readIdentity(claims); err != nil {
		return nil, err
	}
	if !now.Before(expires) {
		return nil, refuse(ReasonExpired, "now "+now.UTC().Format(time.RFC3339), expires.UTC().Format(time.RFC3339))
	}
	t.readTenants(claims)
	t.roles = roleNames(claims, r.Claims.Roles)
	return t, nil
}

func (r *realm) isAudience(s string) bool { return slices.Contains(r.Audiences, s) }

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

// readIdentity reads who the token is of, and the names it can be revoked by.
func (t *Token) readIdentity(claims jwt.MapClaims) error {
	path := t.realm.Claims.User
	claim, _ := lookup(claims, path)
	s, ok := claim.(string)
	if !ok {
		return refuse(ReasonUserClaim, path+" a string", claim)
	}
	user, err := peal.ParseUserID(s)
	if err != nil {
		return refuse(ReasonUserClaim, path+" a user id", err)
	}
	t.User = user

	// A name of the wrong type must not become no name: a revocation by it
	// would miss the token.
	for _, c := range []struct {
		name string
		to   *string
	}{{"jti", &t.ID}, {"sid", &t.Session}} {
		claim, ok := claims[c.name]
		if !ok {
			continue
		}
		if *c.to, ok = claim.(string); !ok {
			return refuse(ReasonMalformed, c.name+" a string", claim)
		}
	}
	return nil
}

func (t *Token) readTenants(claims jwt.MapClaims) {
	claim, found := firstOf(claims, t.realm.Claims.Tenant)
	if !found {
		return
	}
	t.narrowed = true
	ids, _ := oneOrMany(claim)
	for _, s := range ids {
		id, err := peal.ParseTenant(s)
		if err != nil {
			t.tenants = nil
			return
		}
		t.tenants = append(t.tenants, id)
	}
}

// Caller returns who the token makes its bearer in a tenant, given as the client
// spells it. The error is a peal.ErrInvalid if that is no UUID, and a
// peal.ErrForbidden if the token is not good for the tenant: the realm must
// list it, and a tenant claim, where there is one, must name it too.
func (t *Token) Caller(tenant string) (Caller, error) {
	id, err := peal.ParseTenant(tenant)
	if err != nil {
		return Caller{}, peal.Invalid("x-tenantid", "must be a UUID")
	}
	if !t.realm.speaksFor(id) || (t.narrowed && !slices.Contains(t.tenants, id)) {
		return Caller{}, fmt.Errorf("tenant not granted: %w", peal.ErrForbidden)
	}
	return Caller{
		Inbox:    peal.Inbox{Tenant: id, Namespace: t.Namespace, User: t.User},
		Realm:    t.Realm,
		Expires:  t.Expires,
		IssuedAt: t.IssuedAt,
		ID:       t.ID,
		Session:  t.Session,
		granted:  t.granted(),
	}, nil
}

// granted returns what the token's roles allow.
func (t *Token) granted() Role {
	var all Role
	names := t.realm.Roles
	if names.Connect == "" {
		all |= Connect
	}
	for _, r := range [...]struct {
		role Role
		name string
	}{{Connect, names.Connect}, {Publish, names.Publish}, {Admin, names.Admin}, {Tickets, names.Tickets}} {
		if _, ok := slices.BinarySearch(t.roles, r.name); ok {
			all |= r.role
		}
	}
	return all
}
