package dispatch

import (
	"fmt"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/intake"
)

// People are the inboxes of those whom an event names. A list may name one twice.
type People struct {
	// nil: nobody.
	Assignee, PreviousAssignee, Requester *peal.Inbox

	Watchers, Mentions, Approvers, Recipients []peal.Inbox

	// Queue and PreviousQueue are the members of the queues that the event names.
	// Resolve does not know them: who calls it fills them in, if the event names one.
	Queue, PreviousQueue []peal.Inbox

	// Actor is who did it, and is never told of it; zero if nobody did. Without a
	// namespace it is the user of that id in each.
	Actor peal.UserRef
}

// Resolve finds the inboxes of those whom an event names. The error is a
// peal.InvalidError about the field that names somebody who can't be a user of the
// tenant, or about the tenant if no realm speaks for it.
func Resolve(d *auth.Directory, t peal.Tenant, ev peal.TicketEvent) (People, error) {
	if !d.Serves(t) {
		return People{}, peal.Invalid("tenant", "must be one that a realm may speak for")
	}
	r := resolver{directory: d, tenant: t}
	p := People{
		Actor:            r.actor(&ev),
		Assignee:         r.one("ticket.assigneeId", ev.Ticket.AssigneeID),
		Requester:        r.one("ticket.requesterId", ev.Ticket.RequesterID),
		PreviousAssignee: r.one("previousAssigneeId", ev.PreviousAssigneeID),
		Watchers:         r.all("ticket.watcherIds", ev.Ticket.WatcherIDs),
		Mentions:         r.all("mentions", ev.Mentions),
		Approvers:        r.all("approvers", ev.Approvers),
		Recipients:       r.all("recipients", ev.Recipients),
	}
	if r.err != nil {
		return People{}, r.err
	}
	return p, nil
}

// resolver finds inboxes until the first error.
type resolver struct {
	directory *auth.Directory
	tenant    peal.Tenant
	err       error
}

func (r *resolver) one(field string, ref peal.UserRef) *peal.Inbox {
	if r.err != nil || ref.IsZero() {
		return nil
	}
	in, err := r.directory.Inbox(r.tenant, ref)
	if err != nil {
		r.err = intake.AboutUser(field, err)
		return nil
	}
	return &in
}

func (r *resolver) all(field string, refs []peal.UserRef) []peal.Inbox {
	if r.err != nil || len(refs) == 0 {
		return nil
	}
	all := make([]peal.Inbox, len(refs))
	for i, ref := range refs {
		in, err := r.directory.Inbox(r.tenant, ref)
		if err != nil {
			r.err = intake.AboutUser(fmt.Sprintf("%s[%d]", field, i), err)
			return nil
		}
		all[i] = in
	}
	return all
}

// actor finds who did it. An actor may be named without a namespace where others must
// not: nothing is sent to an actor, and for the worst a namesake is not told.
func (r *resolver) actor(ev *peal.TicketEvent) peal.UserRef {
	if ev.Actor.IsSystem() {
		return peal.UserRef{}
	}
	ref := ev.Actor.Ref()
	if ref.Namespace == "" && r.directory.DefaultNamespace(r.tenant) == "" {
		return ref
	}
	in := r.one("actor", ref)
	if in == nil {
		return peal.UserRef{}
	}
	return peal.UserRef{ID: in.User, Namespace: in.Namespace}
}

// isActor reports whether an inbox is that of who did it.
func (p *People) isActor(in peal.Inbox) bool {
	return p.Actor.ID == in.User && p.Actor.ID != "" &&
		(p.Actor.Namespace == in.Namespace || p.Actor.Namespace == "")
}

// by returns those whom a reason names.
func (p *People) by(r peal.Reason) []peal.Inbox {
	switch r {
	case assignee:
		return one(p.Assignee)
	case previousAssignee:
		return one(p.PreviousAssignee)
	case watcher:
		return p.Watchers
	case mention:
		return p.Mentions
	case approver:
		return p.Approvers
	case requester:
		return one(p.Requester)
	case queue:
		return p.Queue
	case recipient:
		return p.Recipients
	}
	return nil
}

func one(in *peal.Inbox) []peal.Inbox {
	if in == nil {
		return nil
	}
	return []peal.Inbox{*in}
}
