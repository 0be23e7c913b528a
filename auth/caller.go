package auth

import (
	"fmt"
	"time"

	"github.com/pealhq/peal"
)

// Caller is who makes a request: one user in one tenant, until Expires. It is a
// small value and keeps nothing of the token alive but its strings.
type Caller struct {
	Inbox peal.Inbox

	// As in Token.
	Realm    string
	Expires  time.Time
	IssuedAt time.Time
	ID       string
	Session  string

	granted Role
}

// Role is something that not everybody may do.
type Role uint8

// The roles. What each is called in tokens is the realm's configuration.
const (
	Connect Role = 1 << iota // open a connection, read the own inbox
	Publish                  // send events and notifications
	Admin                    // administer the own tenant
	Tickets                  // see every ticket of the tenant in list updates
)

// String returns the role as it is in a realms file.
func (r Role) String() string {
	switch r {
	case Connect:
		return "connect"
	case Publish:
		return "publish"
	case Admin:
		return "admin"
	case Tickets:
		return "tickets"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// May returns a peal.ErrForbidden if the caller has not the role. The zero
// Caller has none.
func (c Caller) May(r Role) error {
	if r == 0 || c.granted&r != r {
		return fmt.Errorf("role %v not granted: %w", r, peal.ErrForbidden)
	}
	return nil
}
