package peal

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxID is the most bytes that the id of a user, ticket, queue, event or
// notification has. JetStream subjects are built from ids, and a subject of
// about 4 kB makes the NATS server close the connection.
const MaxID = 128

// Tenant is a tenant's id: a UUID in canonical lower case. Only ParseTenant
// makes one from outside input.
type Tenant string

// ParseTenant reads a UUID of the 36-character form, in either case.
func ParseTenant(s string) (Tenant, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return "", Invalid("tenant", "must be a UUID")
	}
	return Tenant(id.String()), nil
}

// Namespace is a set of user ids. Realms that share one share users.
type Namespace string

var namespace = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ParseNamespace checks the form of a namespace: 1 to 63 lower-case letters,
// digits and hyphens, not beginning with a hyphen.
func ParseNamespace(s string) (Namespace, error) {
	if !namespace.MatchString(s) {
		return "", Invalid("namespace", "must be 1 to 63 of a-z, 0-9 and -, not beginning with -")
	}
	return Namespace(s), nil
}

// UserID is a user's id in a namespace: an opaque string, never folded,
// normalised or split.
type UserID string

// ParseUserID checks that s is 1 to MaxID bytes of valid UTF-8 without control
// characters.
func ParseUserID(s string) (UserID, error) {
	if err := checkID("user", s); err != nil {
		return "", err
	}
	return UserID(s), nil
}

// Inbox names one user's notifications in one tenant. It is comparable and is
// used as a map key. Its parts come from ParseTenant, ParseNamespace and
// ParseUserID.
type Inbox struct {
	Tenant    Tenant
	Namespace Namespace
	User      UserID
}

// CheckID checks an id of anything: 1 to MaxID bytes of valid UTF-8 without
// control characters. The error names the field.
func CheckID(field, s string) error { return checkID(field, s) }

// checkID holds the rule that all ids share.
func checkID(field, s string) error {
	switch {
	case s == "":
		return Invalid(field, "must not be empty")
	case len(s) > MaxID:
		return Invalid(field, "must be at most 128 bytes")
	}
	return checkText(field, s)
}

// checkText holds the rule that all strings share.
func checkText(field, s string) error {
	if !utf8.ValidString(s) {
		return Invalid(field, "must be valid UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return Invalid(field, "must not contain control characters")
	}
	return nil
}
