package peal

import "slices"

// TicketUpdate tells who has a list of tickets on a screen that one has changed.
// It has no content of the ticket: the client fetches that under the rights of the
// backend. Its JSON is the data of an SSE event, with fields in this order.
type TicketUpdate struct {
	Action       TicketAction `json:"action"`
	TicketID     string       `json:"ticketId"`
	TicketNumber string       `json:"ticketNumber"`
	Changes      []Change     `json:"changes"` // empty: it is not said what has changed
	UpdatedAt    Timestamp    `json:"updatedAt"`
}

// TicketAction is what became of a ticket, for one who sees it, or saw it.
type TicketAction string

// The actions.
const (
	ActionCreated TicketAction = "created"
	ActionUpdated TicketAction = "updated"
	ActionRemoved TicketAction = "removed" // out of the sight of who is told
)

// TicketActions lists the actions.
func TicketActions() []TicketAction {
	return []TicketAction{ActionCreated, ActionUpdated, ActionRemoved}
}

// Valid reports whether a is one of TicketActions.
func (a TicketAction) Valid() bool { return slices.Contains(TicketActions(), a) }

// Change is a part of a ticket that has changed.
type Change string

// The changes, in the order in which they are listed.
const (
	ChangeStatus     Change = "status"
	ChangeAssignee   Change = "assignee"
	ChangeQueue      Change = "queue"
	ChangeWatchers   Change = "watchers"
	ChangeComments   Change = "comments"
	ChangeApproval   Change = "approval"
	ChangeSLA        Change = "sla"
	ChangeEscalation Change = "escalation"
	ChangeMerge      Change = "merge"
)

// changes are in the order in which they are listed.
var changes = []Change{
	ChangeStatus, ChangeAssignee, ChangeQueue, ChangeWatchers, ChangeComments,
	ChangeApproval, ChangeSLA, ChangeEscalation, ChangeMerge,
}

// Changes lists the changes.
func Changes() []Change { return slices.Clone(changes) }

// Superseding returns what is told instead of two updates of a ticket, older and then
// u, to one who was told of neither. All that has changed is named, for who is told
// may ignore what does not interest them: where one of the two does not say what, all
// may have. And who has not heard of the ticket has it created.
func (u TicketUpdate) Superseding(older TicketUpdate) TicketUpdate {
	if older.Action == ActionCreated && u.Action == ActionUpdated {
		u.Action = ActionCreated
	}
	if len(u.Changes) == 0 || len(older.Changes) == 0 {
		u.Changes = nil
		return u
	}
	all := slices.Clone(older.Changes)
	for _, c := range u.Changes {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b Change) int { return place(a) - place(b) })
	u.Changes = all
	return u
}

// place is where a change is listed: one that is not known after all others.
func place(c Change) int {
	if i := slices.Index(changes, c); i >= 0 {
		return i
	}
	return len(changes)
}

// Encode returns u as one line of JSON, without a newline at its end. Changes is
// [] rather than null.
func (u TicketUpdate) Encode() []byte {
	if u.Changes == nil {
		u.Changes = []Change{}
	}
	return encode(u)
}
