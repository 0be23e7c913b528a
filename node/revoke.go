package node

import (
	"context"
	"net/http"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/intake"
)

// revocation is the body of a call that revokes. What is given must all fit a
// token.
type revocation struct {
	Realm  *string       `json:"realm"`
	Tenant *string       `json:"tenant"`
	User   *peal.UserRef `json:"user"`
	SID    *string       `json:"sid"`
	JTI    *string       `json:"jti"`
}

// maxClaim bounds the sid and the jti of a revocation, in bytes.
const maxClaim = 1024

// revoke answers POST …/admin/revoke: an administrator takes away tokens in
// their tenant.
func (n *Node) revoke(w http.ResponseWriter, r *request) error {
	var body revocation
	caller, refused, err := n.identify(w, r, auth.Admin, &body)
	if err != nil {
		return err
	}
	switch {
	case body.Realm != nil:
		return peal.Invalid("realm", "can be given on the admin port only")
	case body.Tenant != nil:
		return peal.Invalid("tenant", "can be given on the admin port only")
	case body.User == nil && body.SID == nil && body.JTI == nil:
		return peal.Invalid("body", "must have user, sid or jti")
	}
	if err := body.validate(); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	if err := n.sighted(); err != nil {
		return err
	}
	tenant := string(caller.Inbox.Tenant)
	body.Tenant = &tenant
	return n.revokeBy(w, r, nameOf(caller), body)
}

// revokeAnywhere answers POST {admin}/revoke: whoever can reach the admin port
// takes away tokens of any realm and tenant.
func (n *Node) revokeAnywhere(w http.ResponseWriter, r *request) error {
	if err := r.fromNoPage(); err != nil {
		return err
	}
	var body revocation
	if err := r.body(w, &body, &n.bodies); err != nil {
		return err
	}
	if body == (revocation{}) {
		return peal.Invalid("body", "must have realm, tenant, user, sid or jti")
	}
	if err := body.validate(); err != nil {
		return err
	}
	return n.revokeBy(w, r, r.onAdminPort(), body)
}

// validate holds the body against the bounds, as far as that needs no caller.
func (b revocation) validate() error {
	if b.User != nil && b.User.IsZero() {
		return peal.Invalid("user", "must not be empty")
	}
	for name, claim := range map[string]*string{"sid": b.SID, "jti": b.JTI} {
		if claim != nil && (*claim == "" || len(*claim) > maxClaim) {
			return peal.Invalid(name, "must be 1 to 1024 bytes")
		}
	}
	if b.Tenant != nil {
		if _, err := peal.ParseTenant(*b.Tenant); err != nil {
			return err
		}
	}
	return nil
}

// revokeBy stores what the body asks for, takes note of it here, and answers.
func (n *Node) revokeBy(w http.ResponseWriter, r *request, by string, body revocation) error {
	rev, err := n.meant(body)
	if err != nil {
		return err
	}
	at, err := n.store(r.Context(), rev, n.verifier.LongestTokenLife(rev))
	if err != nil {
		return err
	}
	n.audit(r, by, "tokens revoked", attrsOf(rev)...)
	return answerJSON(w, http.StatusOK, struct {
		IssuedBefore peal.Timestamp `json:"issuedBefore"`
	}{peal.NewTimestamp(at)})
}

// store stores a revocation for keep, takes note of it here, and returns before
// when the tokens were issued that it means. It goes on without the client.
func (n *Node) store(ctx context.Context, rev peal.Revocation, keep time.Duration) (at time.Time, err error) {
	stored, err := n.bus.Revoke(context.WithoutCancel(ctx), rev, keep)
	if err != nil {
		return time.Time{}, err
	}
	n.take(stored)
	return stored.At, nil
}

// meant makes a revocation of a body that is valid.
func (n *Node) meant(body revocation) (rev peal.Revocation, err error) {
	if body.Realm != nil {
		if _, ok := n.verifier.Realm(*body.Realm); !ok {
			return rev, peal.Invalid("realm", "must be a configured one")
		}
		rev.Realm = *body.Realm
	}
	if body.Tenant != nil {
		if rev.Tenant, err = peal.ParseTenant(*body.Tenant); err != nil {
			return rev, err
		}
		if !n.verifier.Directory().Serves(rev.Tenant) {
			return rev, peal.Invalid("tenant", "must be one that a realm may speak for")
		}
	}
	if body.SID != nil {
		rev.Session = *body.SID
	}
	if body.JTI != nil {
		rev.TokenID = *body.JTI
	}
	if body.User == nil {
		return rev, nil
	}
	rev.Namespace, rev.User, err = n.user(rev.Tenant, *body.User)
	return rev, err
}

// user finds whom a reference means, in any tenant if none is given.
func (n *Node) user(t peal.Tenant, ref peal.UserRef) (peal.Namespace, peal.UserID, error) {
	if t == "" {
		if ref.Namespace == "" {
			return "", "", peal.Invalid("user", "must name a namespace, or a tenant be given")
		}
		if !n.verifier.Directory().Has(ref.Namespace) {
			return "", "", peal.Invalid("user", "the namespace must be that of a realm")
		}
		return ref.Namespace, ref.ID, nil
	}
	in, err := n.verifier.Directory().Inbox(t, ref)
	return in.Namespace, in.User, intake.AboutUser("user", err)
}
