package peal

import "errors"

// What can go wrong in a way somebody decides by. Packages wrap these; only
// the edge turns them into status codes.
var (
	// ErrInvalid: a value breaks the contract. See InvalidError.
	ErrInvalid = errors.New("invalid")

	// ErrUnauthenticated: the caller did not prove who they are.
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrTokenExpired: the caller's token was good in every other respect. It
	// is an ErrUnauthenticated too.
	ErrTokenExpired error = expiredError{}

	// ErrForbidden: the caller is known and may not do this.
	ErrForbidden = errors.New("forbidden")

	// ErrTooManyConnections: the user has as many open connections as allowed.
	ErrTooManyConnections = errors.New("too many connections")

	// ErrUnavailable: something we depend on is away; the same call may
	// succeed later. Whether a write took effect is unknown.
	ErrUnavailable = errors.New("unavailable")
)

type expiredError struct{}

func (expiredError) Error() string        { return "token expired" }
func (expiredError) Is(target error) bool { return target == ErrUnauthenticated }

// InvalidError says which field breaks the contract and how. It is an
// ErrInvalid, and its text may be shown to whoever sent the value, so it never
// quotes the value itself.
type InvalidError struct {
	Field  string // as the sender spells it, e.g. "notification.title"
	Reason string // completes "<field>: …", e.g. "must be at most 300 characters"
}

func (e *InvalidError) Error() string        { return e.Field + ": " + e.Reason }
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// Invalid makes an InvalidError.
func Invalid(field, reason string) error { return &InvalidError{Field: field, Reason: reason} }
