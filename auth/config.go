package auth

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

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

	// JWKS is the URL of the realm's key set: https, or http to a loopback
	// address with AllowPrivate. Either it or Discovery is given.
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
	// means the only one that the tenant's realms have.
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
	r.Roles.Publish = cmp.Or(r.Roles.Publish, "notifications:publish")
	r.Roles.Admin = cmp.Or(r.Roles.Admin, "notifications:admin")
	r.Roles.Tickets = cmp.Or(r.Roles.Tickets, "tickets:all")
	return r
}

func (r Realm) speaksFor(t peal.Tenant) bool {
	return r.Tenants.Any || slices.Contains(r.Tenants.IDs, t)
}

// Validate says what is wrong first. The error is a peal.InvalidError whose
// field is a path such as "realms[0].issuer".
func (c Config) Validate() error {
	if len(c.Realms) == 0 {
		return peal.Invalid("realms", "must list at least one realm")
	}
	for i, r := range c.Realms {
		path := fmt.Sprintf("realms[%d]", i)
		if err := r.validate(path); err != nil {
			return err
		}
		for j, other := range c.Realms[:i] {
			if other.Name == r.Name {
				return peal.Invalid(path+".name", fmt.Sprintf("is the name of realms[%d] too", j))
			}
			if other.Issuer == r.Issuer {
				return peal.Invalid(path+".issuer", fmt.Sprintf("is the issuer of realms[%d] too", j))
			}
		}
	}
	for i := range c.Tenants {
		if err := c.validateTenant(i); err != nil {
			return err
		}
	}
	return nil
}

var realmName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (r Realm) validate(path string) error {
	if !realmName.MatchString(r.Name) {
		return peal.Invalid(path+".name", "must be 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit")
	}
	if r.Issuer == "" {
		return peal.Invalid(path+".issuer", "must not be empty")
	}
	if err := r.validateSource(path); err != nil {
		return err
	}
	if len(r.Audiences) == 0 {
		return peal.Invalid(path+".audiences", "must list at least one audience")
	}
	if i := slices.Index(r.Audiences, ""); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.audiences[%d]", path, i), "must not be empty")
	}
	for i, a := range r.Algorithms {
		if !slices.Contains(algorithms, a) {
			return peal.Invalid(fmt.Sprintf("%s.algorithms[%d]", path, i), "must be one of "+strings.Join(algorithms, " "))
		}
	}
	if err := r.Tenants.validate(path + ".tenants"); err != nil {
		return err
	}
	if err := r.validateNamespace(path); err != nil {
		return err
	}
	return r.Claims.validate(path + ".claims")
}

// validateSource holds where the keys come from.
func (r Realm) validateSource(path string) error {
	switch {
	case r.JWKS == "" && !r.Discovery:
		return peal.Invalid(path, "must have jwks, a URL, or discovery: true")
	case r.JWKS != "" && r.Discovery:
		return peal.Invalid(path, "must not have both jwks and discovery")
	case r.Discovery:
		if reason := refuseURL(r.Issuer, r.AllowPrivate); reason != "" {
			return peal.Invalid(path+".issuer", reason+", or discovery must be off")
		}
	default:
		if reason := refuseURL(r.JWKS, r.AllowPrivate); reason != "" {
			return peal.Invalid(path+".jwks", reason)
		}
	}
	return nil
}

func (r Realm) validateNamespace(path string) error {
	if _, err := peal.ParseNamespace(string(r.withDefaults().Namespace)); err == nil {
		return nil
	}
	const form = "1 to 63 of a-z, 0-9 and -, not beginning with -"
	if r.Namespace == "" {
		return peal.Invalid(path+".namespace", "must be given, because the realm's name is not "+form)
	}
	return peal.Invalid(path+".namespace", "must be "+form)
}

func (t Tenants) validate(path string) error {
	switch {
	case t.Any && len(t.IDs) > 0:
		return peal.Invalid(path, "must be a list or any, not both")
	case !t.Any && len(t.IDs) == 0:
		return peal.Invalid(path, "must list the tenants that the realm may speak for, or be the word any")
	}
	for i, id := range t.IDs {
		if c, err := peal.ParseTenant(string(id)); err != nil || c != id {
			return peal.Invalid(fmt.Sprintf("%s[%d]", path, i), "must be a UUID in lower case")
		}
	}
	return nil
}

func (c ClaimPaths) validate(path string) error {
	if i := slices.Index(c.Tenant, ""); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.tenant[%d]", path, i), "must not be empty")
	}
	if i := slices.Index(c.Roles, ""); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.roles[%d]", path, i), "must not be empty")
	}
	return nil
}

func (c Config) validateTenant(i int) error {
	row, path := c.Tenants[i], fmt.Sprintf("tenants[%d]", i)
	if id, err := peal.ParseTenant(string(row.ID)); err != nil || id != row.ID {
		return peal.Invalid(path+".id", "must be a UUID in lower case")
	}
	for j, other := range c.Tenants[:i] {
		if other.ID == row.ID {
			return peal.Invalid(path+".id", fmt.Sprintf("is the id of tenants[%d] too", j))
		}
	}
	var spaces []peal.Namespace
	for _, r := range c.Realms {
		if r.speaksFor(row.ID) {
			spaces = append(spaces, r.withDefaults().Namespace)
		}
	}
	if len(spaces) == 0 {
		return peal.Invalid(path+".id", "must be a tenant that some realm may speak for")
	}
	if row.DefaultNamespace != "" && !slices.Contains(spaces, row.DefaultNamespace) {
		return peal.Invalid(path+".defaultNamespace", "must be the namespace of a realm that may speak for the tenant")
	}
	return nil
}

// refuseURL says why keys may not be fetched from s, or "". Keys that come in
// plain text are whoever's who sits on the way, so only this machine may be
// asked without TLS.
func refuseURL(s string, allowPrivate bool) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return "must be an https URL"
	case u.User != nil || u.Fragment != "":
		return "must be a URL without user and fragment"
	case u.Scheme == "https":
		return ""
	case !isLoopback(u.Hostname()):
		return "must be an https URL; http is for loopback addresses only"
	case !allowPrivate:
		return "is http to a loopback address, which needs allowPrivate: true"
	}
	return ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
