package dispatch

import (
	"slices"

	"github.com/pealhq/peal"
)

// Update returns what lists of tickets are told of an event, who sees the ticket, and
// who has lost sight of it: those are told of u with peal.ActionRemoved. Nobody is in
// both, or in one twice. Who did it is told too: lists are on several screens. If the
// ticket is deleted, so says u, all are in sees who saw it, and none has lost it.
func Update(ev peal.TicketEvent, p People) (u peal.TicketUpdate, sees, lost []peal.Inbox) {
	u = peal.TicketUpdate{
		Action:       peal.ActionUpdated,
		TicketID:     ev.Ticket.ID,
		TicketNumber: ev.Ticket.Number,
		Changes:      changes(&ev, &p),
		UpdatedAt:    ev.OccurredAt.Timestamp,
	}
	told := make(map[peal.Inbox]bool, len(p.Watchers)+len(p.Queue))
	add := func(to *[]peal.Inbox, lists ...[]peal.Inbox) {
		for _, list := range lists {
			for _, in := range list {
				if !told[in] {
					told[in] = true
					*to = append(*to, in)
				}
			}
		}
	}
	add(&sees, one(p.Assignee), one(p.Requester), p.Watchers, p.Queue)
	saw := &lost
	switch ev.Type {
	case peal.TicketCreated:
		u.Action = peal.ActionCreated
	case peal.TicketDeleted:
		u.Action = peal.ActionRemoved
		saw = &sees
	}
	add(saw, one(p.PreviousAssignee), p.PreviousQueue)
	return u, sees, lost
}

// changes returns what an event says has changed: by its type, and by what was
// another before.
func changes(ev *peal.TicketEvent, p *People) []peal.Change {
	is := func(types ...peal.Type) bool { return slices.Contains(types, ev.Type.Notifies()) }
	var all []peal.Change
	for _, row := range []struct {
		change  peal.Change
		changed bool
	}{
		{peal.ChangeStatus, is(peal.StatusChange, peal.Resolution, peal.Reopened) || ev.PreviousStatus != ev.NewStatus},
		{peal.ChangeAssignee, is(peal.Assignment, peal.Reassignment) || other(p.PreviousAssignee, p.Assignee)},
		{peal.ChangeQueue, ev.PreviousQueueID != "" && ev.PreviousQueueID != ev.Ticket.QueueID},
		{peal.ChangeWatchers, is(peal.WatchAdded)},
		{peal.ChangeComments, is(peal.Comment) || is(peal.Mention) && ev.Comment.ID != ""},
		{peal.ChangeApproval, is(peal.Approval, peal.ApprovalDecision)},
		{peal.ChangeSLA, is(peal.SLAWarning, peal.SLABreach)},
		{peal.ChangeEscalation, is(peal.Escalation)},
		{peal.ChangeMerge, is(peal.Merge)},
	} {
		if row.changed {
			all = append(all, row.change)
		}
	}
	return all
}

// other reports whether there was somebody before who is not there now.
func other(before, now *peal.Inbox) bool {
	return before != nil && (now == nil || *before != *now)
}
