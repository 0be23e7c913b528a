package node

import (
	"errors"
	"net/http"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// readUserPreference answers GET …/user/preference: what the caller has stored.
func (n *Node) readUserPreference(w http.ResponseWriter, r *request) error {
	return readPreference(n, w, r, auth.Connect, func(c auth.Caller) (peal.Preferences, error) {
		return n.bus.Preferences(r.Context(), c.Inbox)
	})
}

// writeUserPreference answers PUT …/user/preference: it stores the caller's.
func (n *Node) writeUserPreference(w http.ResponseWriter, r *request) error {
	return writePreference(n, w, r, auth.Connect, func(c auth.Caller, p peal.Preferences, check func(peal.Preferences) error) error {
		return n.bus.SetPreferences(r.Context(), c.Inbox, p, check)
	})
}

// readTenantPreference answers GET …/tenant/preference: what is stored for the
// caller's tenant, to its administrators.
func (n *Node) readTenantPreference(w http.ResponseWriter, r *request) error {
	return readPreference(n, w, r, auth.Admin, func(c auth.Caller) (peal.TenantPreferences, error) {
		return n.bus.TenantPreferences(r.Context(), c.Inbox.Tenant)
	})
}

// writeTenantPreference answers PUT …/tenant/preference: an administrator sets
// the defaults of their tenant's users.
func (n *Node) writeTenantPreference(w http.ResponseWriter, r *request) error {
	return writePreference(n, w, r, auth.Admin, func(c auth.Caller, p peal.TenantPreferences, check func(peal.TenantPreferences) error) error {
		err := n.bus.SetTenantPreferences(r.Context(), c.Inbox.Tenant, p, check)
		switch {
		case err == nil:
			n.audit(r, nameOf(c), "tenant preferences changed", "tenant", c.Inbox.Tenant)
		case !errors.Is(err, errPrecondition): // what was not answered may have been stored
			n.audit(r, nameOf(c), "tenant preferences may have changed", "tenant", c.Inbox.Tenant, "err", err)
		}
		return err
	})
}

// preferences are a user's or a tenant's.
type preferences interface {
	Encode() []byte
	Validate() error
}

// readPreference answers with what read returns, or that the client has it.
func readPreference[P preferences](n *Node, w http.ResponseWriter, r *request, role auth.Role, read func(auth.Caller) (P, error)) error {
	if err := r.plain(); err != nil {
		return err
	}
	given, err := r.preconditions()
	if err != nil {
		return err
	}
	caller, err := n.authenticate(r, role)
	if err != nil {
		return err
	}
	if err := n.admit(r, caller.Inbox); err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	p, err := read(caller)
	if err != nil {
		return err
	}
	tag := etag(p.Encode())
	switch {
	case !given.matched(tag):
		return errPrecondition
	case given.unchanged(tag):
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return answerPreference(w, p)
}

// writePreference has the body stored, if what is there is what the preconditions
// ask for, and answers with it.
func writePreference[P preferences](n *Node, w http.ResponseWriter, r *request, role auth.Role, store func(auth.Caller, P, func(P) error) error) error {
	given, err := r.preconditions()
	if err != nil {
		return err
	}
	var p P
	caller, refused, err := n.identify(w, r, role, &p)
	if err != nil {
		return err
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	if err := n.admit(r, caller.Inbox); err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	var check func(P) error
	if given != (preconditions{}) {
		check = func(now P) error {
			if !given.met(etag(now.Encode())) {
				return errPrecondition
			}
			return nil
		}
	}
	if err := store(caller, p, check); err != nil {
		return err
	}
	return answerPreference(w, p)
}

// answerPreference answers with what is stored, byte for byte what its entity tag
// is a hash of.
func answerPreference(w http.ResponseWriter, p preferences) error {
	body := p.Encode()
	w.Header().Set("ETag", etag(body))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	w.Write(body)
	return nil
}
