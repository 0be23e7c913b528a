package dispatch

import (
	"slices"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// The reasons, by short names.
const (
	assignee         = peal.ReasonAssignee
	previousAssignee = peal.ReasonPreviousAssignee
	watcher          = peal.ReasonWatcher
	mention          = peal.ReasonMention
	approver         = peal.ReasonApprover
	requester        = peal.ReasonRequester
	queue            = peal.ReasonQueue
	recipient        = peal.ReasonRecipient
)

// rules say who is told of an event, a row for each type that tells somebody: those
// whom the event names in these parts, beside its mentions and recipients. Where a
// row says assignee and the ticket has none, it means the members of its queue.
var rules = []struct {
	of   peal.Type
	told []peal.Reason
}{
	{peal.Assignment, []peal.Reason{assignee, previousAssignee}},
	{peal.Reassignment, []peal.Reason{assignee, previousAssignee}},
	{peal.StatusChange, []peal.Reason{assignee, watcher, requester}},
	{peal.Comment, []peal.Reason{assignee, watcher, requester}}, // but see hidden
	{peal.Mention, []peal.Reason{mention}},
	{peal.SLAWarning, []peal.Reason{assignee}},
	{peal.SLABreach, []peal.Reason{assignee, watcher, queue}},
	{peal.Approval, []peal.Reason{approver}},
	{peal.ApprovalDecision, []peal.Reason{requester, assignee, watcher}},
	{peal.Escalation, []peal.Reason{assignee, queue}},
	{peal.Merge, []peal.Reason{assignee, watcher, requester}},
	{peal.Resolution, []peal.Reason{requester, watcher}},
	{peal.Reopened, []peal.Reason{assignee, watcher}},
	{peal.WatchAdded, []peal.Reason{recipient}},
}

// hidden reports whether an event is not for those whom a reason names, though its
// row says so.
func hidden(ev *peal.TicketEvent, why peal.Reason) bool {
	return ev.Type.Notifies() == peal.Comment && why == requester && ev.Comment.Internal
}

// as returns what those are told whom a reason names in an event of a type. An
// assignment and a reassignment are one thing, seen from two sides.
func as(of peal.Type, why peal.Reason) peal.Type {
	switch {
	case why == mention:
		return peal.Mention
	case why == previousAssignee:
		return peal.Reassignment
	case of == peal.Reassignment && (why == assignee || why == queue):
		return peal.Assignment
	}
	return of
}

// why are reasons, a bit for each, in the order of peal.Reasons.
type why uint16

func only(r peal.Reason) why { return 1 << slices.Index(peal.Reasons(), r) }

func (w why) list() []peal.Reason {
	return slices.DeleteFunc(peal.Reasons(), func(r peal.Reason) bool { return w&only(r) == 0 })
}

// told is how a user is told of an event. Users who are told alike get the same
// notification.
type told struct {
	as  peal.Type
	why why
}

// user is one who is told.
type user struct {
	inbox peal.Inbox
	told
}

// users works out who is told of an event, in the order in which the rules come to
// them.
func users(ev *peal.TicketEvent, p *People) []user {
	var all []user
	place := make(map[peal.Inbox]int, len(p.Watchers)+len(p.Queue)) // in all
	tell := func(r peal.Reason) {
		list, to := p.by(r), told{as(ev.Type.Notifies(), r), only(r)}
		all = slices.Grow(all, len(list))
		for _, in := range list {
			i, known := place[in]
			switch {
			case known:
				all[i].add(to)
			case !p.isActor(in):
				place[in] = len(all)
				all = append(all, user{in, to})
			}
		}
	}
	for _, row := range rules {
		if row.of != ev.Type.Notifies() {
			continue
		}
		for _, r := range row.told {
			if r == assignee && p.Assignee == nil {
				r = queue
			}
			if !hidden(ev, r) {
				tell(r)
			}
		}
		tell(mention)
		tell(recipient)
	}
	return all
}

// add makes t what a user is told who is also told as also.
func (t *told) add(also told) {
	if also.as.StrongerThan(t.as) {
		t.as = also.as
	}
	t.why |= also.why
}

// Rules turn ticket events into notifications. They do not change and may be used
// concurrently.
type Rules struct {
	actionHosts []string
	words       map[peal.Tenant]map[peal.Type]words // "" is all tenants
	defaults    map[peal.Type]words
}

// Notifications returns what an event tells, and whom: at most one notification a
// user, and none that does not pass peal.Notification.Validate. Those told alike
// share a publication. The ids are derived from the tenant and the event's id, so
// that an event worked on again gives the same.
//
// The event is valid and has its defaults. The error is a peal.InvalidError, about
// an event that is within its own bound of bytes and makes a notification which is
// not.
func (r *Rules) Notifications(t peal.Tenant, ev peal.TicketEvent, p People) ([]bus.Publication, error) {
	var all []bus.Publication
	place := make(map[told]int) // in all
	for _, u := range users(&ev, &p) {
		i, ok := place[u.told]
		if !ok {
			n, err := r.compose(t, &ev, u.told)
			if err != nil {
				return nil, err
			}
			i = len(all)
			place[u.told] = i
			all = append(all, bus.Publication{Notification: n})
		}
		all[i].To = append(all[i].To, u.inbox)
	}
	return all, nil
}
