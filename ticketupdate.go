package peal

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

// Encode returns u as one line of JSON, without a newline at its end. Changes is
// [] rather than null.
func (u TicketUpdate) Encode() []byte {
	if u.Changes == nil {
		u.Changes = []Change{}
	}
	return encode(u)
}
