package auth

import (
	"fmt"
	"strings"
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
	Subject  string

	granted Role
	realm   *realm // as it was when the token was verified
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

// Roles lists every role.
func Roles() []Role { return []Role{Connect, Publish, Admin, Tickets} }

// String returns the role as it is in a realms file, and of several all of
// them.
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
	var names []string
	for _, one := range Roles() {
		if r&one != 0 {
			names = append(names, one.String())
		}
	}
	if len(names) < 2 {
		return fmt.Sprintf("role %d", uint8(r))
	}
	return strings.Join(names, " ")
}

// May returns a Refusal, which is a peal.ErrForbidden, if the caller has not the
// role. The zero Caller has none.
func (c Caller) May(r Role) error {
	if r == 0 || c.granted&r != r {
		return refuse(ReasonRole, r.String(), c.granted)
	}
	return nil
}

// traits is the caller as revocations see them.
func (c Caller) traits() peal.Revocation {
	return peal.Revocation{
		Realm: c.Realm, Tenant: c.Inbox.Tenant, Namespace: c.Inbox.Namespace, User: c.Inbox.User,
		Subject: c.Subject, Session: c.Session, NoSession: c.Session == "", TokenID: c.ID,
	}
}
