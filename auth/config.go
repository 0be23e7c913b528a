package auth

import (
	"cmp"
	"slices"
	"time"

	"github.com/pealhq/peal"
)

// Config is who may issue tokens, and for whom. It is what a realms file says;
// see Parse.
type Config struct {
	Realms  []Realm     `yaml:"realms"`
	Tenants []TenantRow `yaml:"tenants,omitempty"`
}

// Realm is one issuer of tokens.
type Realm struct {
	// Name is what requests name the realm by: a letter or digit, then at most
	// 62 of those, ".", "_" and "-".
	Name string `yaml:"name"`

	// Issuer is what the iss claim of every token of the realm equals, byte for
	// byte.
	Issuer string `yaml:"issuer"`

	// JWKS is the URL of the realm's key set: https, or with AllowPrivate http to
	// an address that is not public. Either it or Discovery is given.
	JWKS string `yaml:"jwks,omitempty"`

	// Discovery takes the URL of the key set from Issuer's
	// /.well-known/openid-configuration, whose issuer must equal Issuer.
	Discovery bool `yaml:"discovery,omitempty"`

	// Audiences: the aud claim of every token contains one of them. Not empty.
	Audiences []string `yaml:"audiences"`

	// Algorithms are the signature algorithms accepted, of RS256 RS384 RS512
	// PS256 PS384 PS512 ES256 ES384 ES512 EdDSA. Empty means RS256, ES256 and
	// EdDSA.
	Algorithms []string `yaml:"algorithms,omitempty,flow"`

	// Tenants are those the realm may speak for.
	Tenants Tenants `yaml:"tenants"`

	// Namespace holds the realm's user ids. Empty means Name, which then must
	// have the form of a namespace. Realms with one namespace share users.
	Namespace peal.Namespace `yaml:"namespace,omitempty"`

	Claims ClaimPaths `yaml:"claims,omitempty"`
	Roles  RoleNames  `yaml:"roles,omitempty"`

	// Types are the values of the header typ that an access token may have, in
	// whatever case and without "application/". Empty means JWT, at+jwt (RFC
	// 9068) or none; where they are given, so must typ be in the token.
	Types []string `yaml:"types,omitempty,flow"`

	// RequiredClaims says of further claims, by their path (see ClaimPaths), what
	// they must be: azp, say, for a client of one's own.
	RequiredClaims map[string]Values `yaml:"requiredClaims,omitempty"`

	// MaxTokenLife is the longest time from iat to exp that a token may have, and
	// from now to exp where it has no iat. 0 means 30 days. A token that is good
	// for longer is refused: so long a revocation must be remembered, and a
	// logout too, which makes it worth setting where many sign out a day.
	MaxTokenLife time.Duration `yaml:"maxTokenLife,omitempty"`

	// LogoutAudiences: the aud claim of a logout token contains one of them: the
	// realm's clients. Empty means Audiences.
	LogoutAudiences []string `yaml:"logoutAudiences,omitempty,flow"`

	// AllowPrivate lets the realm's keys be fetched from loopback, link-local
	// and private addresses.
	AllowPrivate bool `yaml:"allowPrivate,omitempty"`
}

// Tenants is either a list or any: in a realms file a list of UUIDs, or the
// word any.
type Tenants struct {
	Any bool
	IDs []peal.Tenant
}

// Values is what a claim must be: in a realms file a list of strings, or the word
// any.
type Values struct {
	Any   bool     // it is there, whatever it is
	OneOf []string // it is one of them, or an array with one of them
}

// MarshalYAML implements yaml.Marshaler.
func (v Values) MarshalYAML() (any, error) {
	if v.Any {
		return "any", nil
	}
	return v.OneOf, nil
}

// MarshalYAML implements yaml.Marshaler.
func (t Tenants) MarshalYAML() (any, error) {
	if t.Any {
		return "any", nil
	}
	return t.IDs, nil
}

// ClaimPaths say where a realm's tokens keep what peal reads. A path is the
// name of a top-level claim ("https://example.com/roles"), or where there is
// none of that name, the names of nested objects joined by dots
// ("realm_access.roles").
type ClaimPaths struct {
	// Tenant: the first path that is in the token counts. Empty means tenant_id,
	// tenants.
	Tenant []string `yaml:"tenant,omitempty,flow"`

	// Roles: all of them add up. Empty means realm_access.roles, roles, scope.
	Roles []string `yaml:"roles,omitempty,flow"`

	// User: "" means sub.
	User string `yaml:"user,omitempty"`
}

// RoleNames are the roles, as a realm's tokens spell them, that allow something.
type RoleNames struct {
	Connect string `yaml:"connect,omitempty"` // "" means that everybody may
	Publish string `yaml:"publish,omitempty"` // "" means notifications:publish
	Admin   string `yaml:"admin,omitempty"`   // "" means notifications:admin
	Tickets string `yaml:"tickets,omitempty"` // "" means tickets:all
}

// TenantRow says of one tenant what its realms leave open.
type TenantRow struct {
	ID peal.Tenant `yaml:"id"`

	// DefaultNamespace holds the users that are named without a namespace. ""
	// means the only one that the tenant's realms have; if they have several, a
	// user without a namespace is refused.
	DefaultNamespace peal.Namespace `yaml:"defaultNamespace,omitempty"`
}

// algorithms are those that can be configured. All are asymmetric: with none or
// an HMAC whoever can check a token could make one.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (r Realm) withDefaults() Realm {
	if len(r.Algorithms) == 0 {
		r.Algorithms = []string{"RS256", "ES256", "EdDSA"}
	}
	r.Namespace = cmp.Or(r.Namespace, peal.Namespace(r.Name))
	if len(r.Claims.Tenant) == 0 {
		r.Claims.Tenant = []string{"tenant_id", "tenants"}
	}
	if len(r.Claims.Roles) == 0 {
		r.Claims.Roles = []string{"realm_access.roles", "roles", "scope"}
	}
	r.Claims.User = cmp.Or(r.Claims.User, "sub")
	r.MaxTokenLife = cmp.Or(r.MaxTokenLife, 30*24*time.Hour)
	if len(r.LogoutAudiences) == 0 {
		r.LogoutAudiences = r.Audiences
	}
	r.Roles.Publish = cmp.Or(r.Roles.Publish, "notifications:publish")
	r.Roles.Admin = cmp.Or(r.Roles.Admin, "notifications:admin")
	r.Roles.Tickets = cmp.Or(r.Roles.Tickets, "tickets:all")
	return r
}

func (r Realm) speaksFor(t peal.Tenant) bool {
	return r.Tenants.Any || slices.Contains(r.Tenants.IDs, t)
}
