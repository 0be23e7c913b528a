package auth

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pealhq/peal"
)

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
	return c.validateDefaults()
}

// validateDefaults wants it to be said whom a publisher means who names a user
// of a listed tenant without a namespace: a row of the tenant says so, also where
// it has no default.
func (c Config) validateDefaults() error {
	first := map[peal.Tenant]int{} // tenant → the first realm that lists it
	for _, row := range c.Tenants {
		first[row.ID] = -1
	}
	for i, r := range c.Realms {
		for n, id := range r.Tenants.IDs {
			j, ok := first[id]
			switch {
			case !ok:
				first[id] = i
			case j >= 0 && c.Realms[j].withDefaults().Namespace != r.withDefaults().Namespace:
				return peal.Invalid(fmt.Sprintf("realms[%d].tenants[%d]", i, n),
					fmt.Sprintf("is a tenant of realms[%d] too, which has another namespace: tenants must list it, with the defaultNamespace, or with none if users are always named with theirs", j))
			}
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
	if strings.ContainsFunc(r.Issuer, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return peal.Invalid(path+".issuer", "must not contain spaces or control characters")
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
	if err := r.Claims.validate(path + ".claims"); err != nil {
		return err
	}
	return r.validateRules(path)
}

// Bounds of how long a token may be good, which is how long a revocation is
// remembered.
const (
	minTokenLife = time.Minute
	maxTokenLife = 5 * 365 * 24 * time.Hour
)

// validateRules holds what tokens must be beyond their issuer and audience.
func (r Realm) validateRules(path string) error {
	if i := slices.Index(r.Types, ""); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.types[%d]", path, i), "must not be empty")
	}
	if i := slices.IndexFunc(r.Types, func(t string) bool { return mediaType(t) == "logout+jwt" }); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.types[%d]", path, i), "must not be logout+jwt: that is no access token")
	}
	if i := slices.Index(r.LogoutAudiences, ""); i >= 0 {
		return peal.Invalid(fmt.Sprintf("%s.logoutAudiences[%d]", path, i), "must not be empty")
	}
	if d := r.MaxTokenLife; d != 0 && (d < minTokenLife || d > maxTokenLife) {
		return peal.Invalid(path+".maxTokenLife", "must be 1m to 43800h")
	}
	for _, claim := range slices.Sorted(maps.Keys(r.RequiredClaims)) {
		if err := r.RequiredClaims[claim].validate(path + ".requiredClaims." + claim); err != nil {
			return err
		}
	}
	return nil
}

func (v Values) validate(path string) error {
	switch {
	case strings.HasSuffix(path, "."):
		return peal.Invalid(path, "must name a claim")
	case v.Any == (len(v.OneOf) > 0):
		return peal.Invalid(path, "must be a list of what the claim may be, or the word any")
	}
	return nil
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
// plain text are whoever's who sits on the way, so that is for private networks
// only. Where a name leads is judged when it is dialled.
func refuseURL(s string, allowPrivate bool) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return "must be an https URL"
	case u.User != nil || u.Fragment != "":
		return "must be a URL without user and fragment"
	case u.Scheme == "https" && !allowPrivate && isPrivateAddress(u.Hostname()):
		return "is a private address, which needs allowPrivate: true"
	case u.Scheme == "https":
		return ""
	case isPublicHost(u.Hostname()):
		return "must be an https URL; http is for private addresses only"
	case !allowPrivate:
		return "is http to a private address, which needs allowPrivate: true"
	}
	return ""
}

// isPrivateAddress reports whether a host is an address that is not for all to
// see.
func isPrivateAddress(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && !isPublic(ip.Unmap().WithZone(""))
}

// privateSuffixes are the ends of names that no public DNS answers for: special
// use by RFC 6761, 6762 and ICANN, and Kubernetes' short form of a service.
var privateSuffixes = []string{".localhost", ".local", ".internal", ".test", ".svc"}

// isPublicHost reports whether a host is an address for all to see, or a name
// that may lead to one.
func isPublicHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return isPublic(ip.Unmap().WithZone(""))
	}
	return strings.Contains(host, ".") &&
		!slices.ContainsFunc(privateSuffixes, func(end string) bool { return strings.HasSuffix(host, end) })
}
