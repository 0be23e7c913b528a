package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"text/template"

	"github.com/pealhq/peal"
)

// Templates are the words of a deployment: tenant → type → words. Those of the zero
// tenant are for all; a tenant's own go before them.
type Templates map[peal.Tenant]map[peal.Type]Words

// Words are the templates of a type of notification; "" keeps what there would be
// without. The package documentation says what they may be made of.
type Words struct{ Title, Message, ActionURL string }

// part is one of the texts of a notification that a template makes.
type part int

const (
	title part = iota
	message
	actionURL

	parts = 3
)

func (p part) String() string { return [parts]string{"title", "message", "actionUrl"}[p] }

// words are templates by the part that they make; nil where nothing is said of it.
type words [parts]*template.Template

// NewRules returns the rules, with words in place of the default ones. actionHosts
// are the hosts that an absolute actionUrl may name, as for
// peal.Notification.Validate. The error says which template is not good, and why.
func NewRules(t Templates, actionHosts []string) (*Rules, error) {
	r := &Rules{actionHosts: slices.Clone(actionHosts), words: make(map[peal.Tenant]map[peal.Type]words)}
	var err error
	if r.defaults, err = r.parse(defaultWords()); err != nil {
		return nil, fmt.Errorf("default templates: %w", err)
	}
	for _, tenant := range slices.Sorted(maps.Keys(t)) {
		of := "all tenants"
		if tenant != "" {
			of = "tenant " + string(tenant)
			if id, err := peal.ParseTenant(string(tenant)); err != nil || id != tenant {
				return nil, fmt.Errorf("templates of %s: a tenant must be a UUID in lower case", of)
			}
		}
		if r.words[tenant], err = r.parse(t[tenant]); err != nil {
			return nil, fmt.Errorf("templates of %s: %w", of, err)
		}
	}
	return r, nil
}

// parse reads and checks the words of types.
func (r *Rules) parse(all map[peal.Type]Words) (map[peal.Type]words, error) {
	parsed := make(map[peal.Type]words, len(all))
	for _, typ := range slices.Sorted(maps.Keys(all)) {
		if !typ.Valid() {
			return nil, fmt.Errorf("%q is not a type of notification", typ)
		}
		var w words
		for p, source := range [parts]string{all[typ].Title, all[typ].Message, all[typ].ActionURL} {
			if source == "" {
				continue
			}
			var err error
			if w[p], err = r.check(part(p), typ, source); err != nil {
				return nil, fmt.Errorf("%s of %s: %w", part(p), typ, err)
			}
		}
		parsed[typ] = w
	}
	return parsed, nil
}

// defaultMessages say what happened, to each as it concerns them: the first of
// several reasons that makes a difference decides.
var defaultMessages = map[peal.Type]string{
	peal.Assignment: `
		{{if .Is "assignee"}}You have been assigned ticket {{.Ticket.Number}}
		{{else if .Is "queue"}}Ticket {{.Ticket.Number}} is waiting in your queue
		{{else if .Is "previousAssignee"}}Ticket {{.Ticket.Number}} is no longer assigned to you
		{{else if .Ticket.Assigned}}Ticket {{.Ticket.Number}} has been assigned
		{{else}}Ticket {{.Ticket.Number}} is not assigned to anyone now{{end}}`,

	peal.Reassignment: `
		{{if .Is "previousAssignee"}}Ticket {{.Ticket.Number}} is no longer assigned to you
		{{else if .Ticket.Assigned}}Ticket {{.Ticket.Number}} has been reassigned
		{{else}}Ticket {{.Ticket.Number}} is not assigned to anyone now{{end}}`,

	peal.StatusChange: `
		{{if and .PreviousStatus .NewStatus}}Ticket {{.Ticket.Number}} changed from {{.PreviousStatus}} to {{.NewStatus}}
		{{else if .NewStatus}}Ticket {{.Ticket.Number}} is now {{.NewStatus}}
		{{else if .PreviousStatus}}Ticket {{.Ticket.Number}} is no longer {{.PreviousStatus}}
		{{else}}The status of ticket {{.Ticket.Number}} has changed{{end}}`,

	peal.Comment: `
		{{if and .Comment.Internal .Actor.System}}Ticket {{.Ticket.Number}} has a new internal note
		{{else if .Comment.Internal}}{{.Actor.Name}} added an internal note to ticket {{.Ticket.Number}}
		{{else if .Actor.System}}Ticket {{.Ticket.Number}} has a new comment
		{{else}}{{.Actor.Name}} commented on ticket {{.Ticket.Number}}{{end}}`,

	peal.Mention: `
		{{if .Actor.System}}{{if .Is "mention"}}You were{{else}}Someone was{{end}} mentioned
		{{else}}{{.Actor.Name}} mentioned {{if .Is "mention"}}you{{else}}someone{{end}}{{end}}
		{{if .Comment.Internal}}in an internal note on ticket
		{{else if or .Comment.ID .Comment.Text}}in a comment on ticket
		{{else}}in ticket{{end}} {{.Ticket.Number}}`,

	peal.SLAWarning: `
		Ticket {{.Ticket.Number}} {{if .Is "assignee"}}assigned to you{{else if .Is "queue"}}in your queue{{end}}
		is about to miss its
		{{or .SLA.Type "service"}} target {{if .SLA.Due}}of {{.SLA.Due}}{{end}}`,

	peal.SLABreach: `
		Ticket {{.Ticket.Number}} {{if .Is "assignee"}}assigned to you{{else if .Is "queue"}}in your queue{{end}}
		has missed its
		{{or .SLA.Type "service"}} target {{if .SLA.Due}}of {{.SLA.Due}}{{end}}`,

	peal.Approval: `
		{{if .Is "approver"}}{{if .Actor.System}}Ticket {{.Ticket.Number}} needs your approval
			{{else}}{{.Actor.Name}} asks for your approval of ticket {{.Ticket.Number}}{{end}}
		{{else if .Actor.System}}Ticket {{.Ticket.Number}} needs an approval
		{{else}}{{.Actor.Name}} asked for an approval of ticket {{.Ticket.Number}}{{end}}`,

	peal.ApprovalDecision: `
		{{if and .Approval.Decision .Actor.System}}{{if .Is "requester"}}Your ticket{{else}}Ticket{{end}}
			{{.Ticket.Number}} was {{.Approval.Decision}}
		{{else if .Approval.Decision}}{{.Actor.Name}} {{.Approval.Decision}}
			{{if .Is "requester"}}your ticket{{else}}ticket{{end}} {{.Ticket.Number}}
		{{else if .Actor.System}}There is a decision on the approval of ticket {{.Ticket.Number}}
		{{else}}{{.Actor.Name}} decided on the approval of ticket {{.Ticket.Number}}{{end}}`,

	peal.Escalation: `
		{{if .Actor.System}}Ticket {{.Ticket.Number}}{{else}}{{.Actor.Name}} escalated ticket {{.Ticket.Number}}{{end}}
		{{if .Is "assignee"}}assigned to you{{else if .Is "queue"}}in your queue{{end}}
		{{if .Actor.System}}has been escalated{{end}}`,

	peal.Merge: `
		{{if .Actor.System}}Ticket {{.Ticket.Number}} has been merged{{else}}{{.Actor.Name}} merged ticket {{.Ticket.Number}}{{end}}
		{{if .MergedInto}}into{{else}}with{{end}} another ticket`,

	peal.Resolution: `
		{{if .Actor.System}}{{if .Is "requester"}}Your ticket{{else}}Ticket{{end}} {{.Ticket.Number}} has been resolved
		{{else}}{{.Actor.Name}} resolved {{if .Is "requester"}}your ticket{{else}}ticket{{end}} {{.Ticket.Number}}{{end}}`,

	peal.Reopened: `
		{{if .Actor.System}}Ticket {{.Ticket.Number}} has been reopened
		{{else}}{{.Actor.Name}} reopened ticket {{.Ticket.Number}}{{end}}`,

	peal.WatchAdded: `
		{{if .Actor.System}}You are now watching ticket {{.Ticket.Number}}
		{{else}}{{.Actor.Name}} added you as a watcher of ticket {{.Ticket.Number}}{{end}}`,
}

// defaultWords are the words of a deployment that has none of its own.
func defaultWords() map[peal.Type]Words {
	all := make(map[peal.Type]Words)
	for _, typ := range peal.Types() {
		all[typ] = Words{
			Title:     `{{.Ticket.Title}}`,
			Message:   defaultMessages[typ],
			ActionURL: `/tickets/{{path .Ticket.ID}}`,
		}
	}
	return all
}
