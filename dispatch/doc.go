// Package dispatch turns ticket events into notifications: who is told, of what and
// in which words.
//
// # Who is told
//
// Rules decide it from an event and the People it names, and nothing else: the same
// event gives the same notifications, in the same order. They do no I/O.
//
// # Templates
//
// A deployment may replace the title, the message and the actionUrl of each type,
// for all tenants or for one. They are templates of text/template: text, fields in
// double braces, and {{if}} with {{else}}, {{else if}} and {{end}}:
//
//	{{if .Is "queue"}}New in your queue: {{end}}{{.Ticket.Title}}
//
// The fields are what the event says. What it does not say is empty.
//
//	.Type                            of the notification: "comment", say
//	.Ticket.ID .Number .Title        of the ticket
//	.Ticket.Category .Priority       in the words of the ticketing backend
//	.Ticket.Status                   after the event
//	.Ticket.Assigned                 true or false
//	.Actor.ID .Actor.Name            of who did it, or "system" and "System"
//	.Actor.System                    true if nobody did it
//	.PreviousStatus .NewStatus
//	.Comment.ID .Comment.Text
//	.Comment.Internal                true if the comment is not for the requester
//	.Approval.ID
//	.Approval.Decision               "approved" or "rejected"
//	.SLA.Type                        "response" or "resolution"
//	.SLA.Target                      as "2025-07-10T13:00:00.000Z"
//	.SLA.Due                         the same as "10 Jul 2025 13:00 UTC"
//	.MergedInto                      the id of a ticket
//	.Is "queue"                      true if the user is told for that reason
//
// The functions are and, or, not, eq and ne, as in text/template, and two for URLs:
// path escapes a text as one segment of a path, query as a value of a query. An
// actionUrl needs them for whatever it takes from an event:
//
//	https://desk.example/t/{{path .Ticket.ID}}?from={{query .Type}}
//
// There are no loops, variables or named templates, so that a template takes no
// longer than it is long. All are checked by NewRules, in every branch.
//
// What comes out is made one line: white space becomes single spaces, other control
// characters are dropped, and a title or message that is too long ends in "…". One
// that is empty gives way to the ticket's title, and to the default message; an
// actionUrl that is empty, or not allowed, to the ticket's page.
package dispatch
