package node

import (
	"context"
	"errors"
	"net/http"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

// Durables are looked after on the admin port too, for all tenants.

// keptDurable is what is told there of a durable.
type keptDurable struct {
	ID        string         `json:"id"`
	Tenant    peal.Tenant    `json:"tenant"`
	Namespace peal.Namespace `json:"namespace"`
	User      peal.UserID    `json:"user"`
	durable
}

// listAllDurables answers GET {admin}/durables: a page of durables, by id, of all, of
// a tenant, or of a user, whose are all on one page.
func (n *Node) listAllDurables(w http.ResponseWriter, r *request) error {
	values, err := r.onlyQuery("tenant", "user", "namespace", "after", "limit")
	if err != nil {
		return err
	}
	limit := defaultPage
	if v, ok := values["limit"]; ok {
		if limit, err = number("limit", v, maxPage); err != nil {
			return err
		}
	}
	var t peal.Tenant
	if v, ok := values["tenant"]; ok {
		if t, err = peal.ParseTenant(v); err != nil {
			return err
		}
	}
	var page []bus.KeptDurable
	var next string
	if in, of, err := n.durablesOf(t, values); err != nil {
		return err
	} else if of {
		page, err = n.bus.DurablesOf(r.Context(), in)
		if err != nil {
			return err
		}
	} else if page, next, err = n.bus.Durables(r.Context(), t, values["after"], limit); err != nil {
		return err
	}
	all := make([]keptDurable, len(page))
	for i, d := range page {
		all[i] = keptDurable{d.ID, d.Inbox.Tenant, d.Inbox.Namespace, d.Inbox.User, durableOf(d)}
	}
	var after *string
	if next != "" {
		after = &next
	}
	return answerJSON(w, http.StatusOK, struct {
		Durables []keptDurable `json:"durables"`
		Next     *string       `json:"next"` // nil: there are no later ones
	}{all, after})
}

// durablesOf reads whose durables are asked for; of is false if it is no one user's.
func (n *Node) durablesOf(t peal.Tenant, values map[string]string) (in peal.Inbox, of bool, err error) {
	user, ok := values["user"]
	switch {
	case !ok && values["namespace"] != "":
		return in, false, peal.Invalid("namespace", "is of a user, which must be given too")
	case !ok:
		return in, false, nil
	case t == "":
		return in, false, peal.Invalid("tenant", "must be given with a user")
	case values["after"] != "":
		return in, false, peal.Invalid("after", "must not be given with a user, whose durables are one page")
	}
	ref := peal.UserRef{}
	if ref.ID, err = peal.ParseUserID(user); err != nil {
		return in, false, err
	}
	if v := values["namespace"]; v != "" {
		ns, err := peal.ParseNamespace(v)
		return peal.Inbox{Tenant: t, Namespace: ns, User: ref.ID}, true, err
	}
	in, err = n.verifier.Directory().Inbox(t, ref)
	return in, true, intake.AboutUser("user", err)
}

// removeAnyDurable answers DELETE {admin}/durables/{id}: it removes a durable, and
// ends the connection that follows by it.
func (n *Node) removeAnyDurable(w http.ResponseWriter, r *request) error {
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	id := r.params.ByName("id")
	// It goes on without the client, or nobody would hear that it is done.
	d, err := n.bus.RemoveDurable(context.WithoutCancel(r.Context()), id)
	attrs := []any{"id", id, "tenant", string(d.Inbox.Tenant), "namespace", string(d.Inbox.Namespace), "user", string(d.Inbox.User), "name", d.Name}
	if errors.Is(err, peal.ErrUnavailable) { // what was not answered may be done
		n.audit(r, r.onAdminPort(), "durable removed, perhaps", append(attrs, "err", err)...)
	}
	if err != nil {
		return err
	}
	n.audit(r, r.onAdminPort(), "durable removed", attrs...)
	return answerJSON(w, http.StatusOK, struct {
		ID string `json:"id"`
	}{id})
}
