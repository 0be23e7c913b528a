package auth

import (
	"maps"
	"slices"
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

	// IssuedAt is the token's iat by our clock: less by as much as the issuer's was
	// seen to be ahead. It is zero where the token does not say. Then it is older
	// than any revocation.
	IssuedAt time.Time

	ID      string // jti, "" if it has none
	Session string // sid, "" if it has none
	Subject string // sub, "" if it has none

	realm    *realm
	narrowed bool          // the token names tenants: only those of tenants count
	tenants  []peal.Tenant // none where the claim is malformed
	granted  Role
}

// readToken reads the claims of an access token, which times has judged
// already. It believes them: whether they are signed is another's question.
func (r *realm) readToken(claims jwt.MapClaims, of times) (*Token, error) {
	t := &Token{Realm: r.Name, Namespace: r.Namespace, Expires: of.expires, realm: r}
	for _, name := range slices.Sorted(maps.Keys(r.RequiredClaims)) {
		if err := r.RequiredClaims[name].check(claims, name); err != nil {
			return nil, err
		}
	}
	if err := t.readIdentity(claims); err != nil {
		return nil, err
	}
	t.readTenants(claims)
	t.granted = r.Roles.granted(roleNames(claims, r.Claims.Roles))
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
	return readNames(claims, map[string]*string{"jti": &t.ID, "sid": &t.Session, "sub": &t.Subject})
}

// readNames reads claims that are strings or not there. A name of the wrong type
// must not become no name: a revocation by it would miss the token.
func readNames(claims jwt.MapClaims, names map[string]*string) error {
	for name, to := range names {
		claim, ok := claims[name]
		if !ok {
			continue
		}
		if *to, ok = claim.(string); !ok {
			return refuse(ReasonMalformed, name+" a string", claim)
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

// granted returns what roles, which are sorted, allow.
func (names RoleNames) granted(roles []string) (all Role) {
	if names.Connect == "" {
		all |= Connect
	}
	for _, r := range [...]struct {
		role Role
		name string
	}{{Connect, names.Connect}, {Publish, names.Publish}, {Admin, names.Admin}, {Tickets, names.Tickets}} {
		if _, ok := slices.BinarySearch(roles, r.name); ok {
			all |= r.role
		}
	}
	return all
}

// Tenants returns those that the token is good for: those of the realm, and
// where the token names some, those of both. There may be none.
func (t *Token) Tenants() Tenants {
	if !t.narrowed {
		return Tenants{Any: t.realm.Tenants.Any, IDs: slices.Clone(t.realm.Tenants.IDs)}
	}
	var both []peal.Tenant
	for _, id := range t.tenants {
		if t.realm.speaksFor(id) && !slices.Contains(both, id) {
			both = append(both, id)
		}
	}
	return Tenants{IDs: both}
}

// May returns what Caller.May would, in whatever tenant the token is good for.
func (t *Token) May(r Role) error { return t.bearer().May(r) }

// Caller returns who the token makes its bearer in a tenant, given as the client
// spells it. The error is a peal.ErrInvalid if that is no UUID, and else a
// Refusal: the realm must list the tenant, and a tenant claim, where there is
// one, must name it too; and a revocation may be of the tenant.
func (t *Token) Caller(tenant string) (Caller, error) {
	id, err := peal.ParseTenant(tenant)
	if err != nil {
		return Caller{}, peal.Invalid("x-tenantid", "must be a UUID")
	}
	if !t.realm.speaksFor(id) {
		return Caller{}, refuse(ReasonTenant, "one of the realm's", id)
	}
	if t.narrowed && !slices.Contains(t.tenants, id) {
		return Caller{}, refuse(ReasonTenant, "one of the token's", id)
	}
	c := t.bearer()
	c.Inbox.Tenant = id
	if t.realm.revoked.cover(c.traits(), c.IssuedAt) {
		return Caller{}, refuse(ReasonRevoked, "", nil)
	}
	return c, nil
}

// bearer is the caller in no tenant.
func (t *Token) bearer() Caller {
	return Caller{
		Inbox:    peal.Inbox{Namespace: t.Namespace, User: t.User},
		Realm:    t.Realm,
		Expires:  t.Expires,
		IssuedAt: t.IssuedAt,
		ID:       t.ID,
		Session:  t.Session,
		Subject:  t.Subject,
		granted:  t.granted,
		realm:    t.realm,
	}
}
