package dispatch

import (
	"net/url"
	"text/template"

	"github.com/pealhq/peal"
)

// facts are what a template may use of an event; see the package documentation.
// What the event does not say is empty.
type facts struct {
	Type           string
	Ticket         ticketFacts
	Actor          actorFacts
	PreviousStatus string
	NewStatus      string
	Comment        peal.EventComment
	Approval       peal.EventApproval
	SLA            slaFacts
	MergedInto     string

	to told
}

type ticketFacts struct {
	ID, Number, Title, Category, Priority, Status string
	Assigned                                      bool
}

type actorFacts struct {
	ID, Name string
	System   bool // nobody did it
}

type slaFacts struct {
	Type   string
	Target string // as it is in JSON
	Due    string // the same, for people
}

// due is how times are written for people. In which zone they are at home is not
// known here.
const due = "2 Jan 2006 15:04 UTC"

func factsOf(ev *peal.TicketEvent, to told) facts {
	actor := actorOf(ev)
	f := facts{
		Type: string(to.as),
		Ticket: ticketFacts{
			ID: ev.Ticket.ID, Number: ev.Ticket.Number, Title: ev.Ticket.Title,
			Category: ev.Ticket.Category, Priority: ev.Ticket.Priority, Status: ev.Ticket.Status,
			Assigned: !ev.Ticket.AssigneeID.IsZero(),
		},
		Actor:          actorFacts{ID: actor.ID, Name: actor.Name, System: ev.Actor.IsSystem()},
		PreviousStatus: ev.PreviousStatus,
		NewStatus:      ev.NewStatus,
		Comment:        ev.Comment,
		Approval:       ev.Approval,
		SLA:            slaFacts{Type: ev.SLA.Type, Target: text(ev.SLA.Target)},
		MergedInto:     ev.MergedInto,
		to:             to,
	}
	if !ev.SLA.Target.IsZero() {
		f.SLA.Due = ev.SLA.Target.UTC().Format(due)
	}
	return f
}

// Is reports whether the user is told for a reason.
func (f facts) Is(reason string) bool {
	r := peal.Reason(reason)
	return f.to.why&only(r) != 0
}

// functions are those that a template may call beside some that are built in.
var functions = template.FuncMap{"path": url.PathEscape, "query": url.QueryEscape}
