package node

import (
	"context"
	"net/http"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

// erasure is the body of POST {admin}/purge: a tenant, or a user of it.
type erasure struct {
	Tenant *string       `json:"tenant"`
	User   *peal.UserRef `json:"user"`
}

// erased is the answer: how much is gone.
type erased struct {
	Notifications uint64 `json:"notifications"`
	ReadStates    uint64 `json:"readStates"`
	Preferences   uint64 `json:"preferences"`
	Queues        uint64 `json:"queues"`
	DeadLetters   uint64 `json:"deadLetters"`
	Durables      uint64 `json:"durables"`
}

// purge answers POST {admin}/purge: whoever can reach the admin port erases what
// is kept of a user or of a whole tenant. Who they are is not looked up, for
// they are erased once their realm is gone, too; so the numbers in the answer are
// what shows a name that is spelled wrong.
func (n *Node) purge(w http.ResponseWriter, r *request) error {
	if err := r.fromNoPage(); err != nil {
		return err
	}
	var body erasure
	if err := r.body(w, &body, &n.bodies); err != nil {
		return err
	}
	in, err := body.meant(n)
	if err != nil {
		return err
	}
	// It goes on without the client: half of it would have to be done again.
	ctx := context.WithoutCancel(r.Context())
	attrs := []any{"tenant", string(in.Tenant)}
	var done bus.Purged
	if body.User == nil {
		done, err = n.bus.PurgeTenant(ctx, in.Tenant)
	} else {
		attrs = append(attrs, "namespace", string(in.Namespace), "user", string(in.User))
		done, err = n.bus.Purge(ctx, in)
	}
	attrs = append(attrs, "notifications", done.Notifications, "read_states", done.ReadStates,
		"preferences", done.Preferences, "queues", done.Queues, "dead_letters", done.DeadLetters, "durables", done.Durables)
	if err != nil {
		n.audit(r, r.onAdminPort(), "purged in part", append(attrs, "err", err)...)
		return err
	}
	n.audit(r, r.onAdminPort(), "purged", attrs...)
	return answerJSON(w, http.StatusOK, struct {
		Purged erased `json:"purged"`
	}{erased(done)})
}

// meant is the inbox that a body means; of a tenant it has nothing else.
func (b erasure) meant(n *Node) (in peal.Inbox, err error) {
	if b.Tenant == nil {
		return in, peal.Invalid("tenant", "must be given")
	}
	user := b.User
	if user != nil && user.IsZero() {
		return in, peal.Invalid("user", "must not be empty")
	}
	if in.Tenant, err = peal.ParseTenant(*b.Tenant); err != nil || user == nil {
		return in, err
	}
	if user.Namespace == "" {
		if !n.verifier.Directory().Serves(in.Tenant) {
			return in, peal.Invalid("user", "must name a namespace: no realm speaks for the tenant, so it has no default")
		}
		in, err = n.verifier.Directory().Inbox(in.Tenant, *user)
		return in, intake.AboutUser("user", err)
	}
	in.Namespace, in.User = user.Namespace, user.ID
	return in, nil
}
