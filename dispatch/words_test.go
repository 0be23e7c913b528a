package dispatch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

// one composes what a user is told of a scene.
func one(t testing.TB, r *dispatch.Rules, s scene, user string) peal.Notification {
	t.Helper()
	told, err := r.Notifications(tenant, s.ev, s.people(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range told {
		if slices.Contains(pub.To, inbox(user)) {
			return pub.Notification
		}
	}
	t.Fatalf("%s is not told: %v", user, told)
	return peal.Notification{}
}

// The default words, as they read to whom.
func TestDefaultMessages(t *testing.T) {
	status := func(before, after string) detail {
		return func(s *scene) { s.ev.PreviousStatus, s.ev.NewStatus = before, after }
	}
	comment := func(s *scene) { s.ev.Comment.ID = "c1" }
	decided := func(how string) detail { return func(s *scene) { s.ev.Approval.Decision = how } }
	sla := func(typ string, target string) detail {
		return func(s *scene) {
			s.ev.SLA.Type = typ
			if target != "" {
				if err := s.ev.SLA.Target.UnmarshalText([]byte(target)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	merged := func(s *scene) { s.ev.MergedInto = "67890" }
	jane := by("jane")
	r := rules(t, nil)
	for _, row := range []struct {
		scene scene
		to    string
		want  string
	}{
		{on(peal.Assignment, jane, assigned("ann")), "ann", "You have been assigned ticket INC-1"},
		{on(peal.Assignment, assigned("ann")), "ann", "You have been assigned ticket INC-1"},
		{on(peal.Assignment, queued("ann")), "ann", "Ticket INC-1 is waiting in your queue"},
		{on(peal.Reassignment, queued("ann"), taken("ann")), "ann", "Ticket INC-1 is waiting in your queue"},
		{on(peal.Assignment, assigned("ann"), recipients("rex")), "rex", "Ticket INC-1 has been assigned"},
		{on(peal.Assignment, assigned("ann"), taken("rex"), recipients("rex")), "rex", "Ticket INC-1 is no longer assigned to you"},
		{on(peal.Assignment, recipients("rex")), "rex", "Ticket INC-1 is not assigned to anyone now"},
		{on(peal.Assignment, assigned("ann"), taken("pat")), "pat", "Ticket INC-1 is no longer assigned to you"},
		{on(peal.Reassignment, assigned("ann"), recipients("rex")), "rex", "Ticket INC-1 has been reassigned"},
		{on(peal.Reassignment, recipients("rex")), "rex", "Ticket INC-1 is not assigned to anyone now"},

		{on(peal.StatusChange, jane, assigned("ann"), status("open", "pending")), "ann", "Ticket INC-1 changed from open to pending"},
		{on(peal.StatusChange, assigned("ann"), status("", "pending")), "ann", "Ticket INC-1 is now pending"},
		{on(peal.StatusChange, assigned("ann"), status("open", "")), "ann", "Ticket INC-1 is no longer open"},
		{on(peal.StatusChange, assigned("ann")), "ann", "The status of ticket INC-1 has changed"},

		{on(peal.Comment, jane, assigned("ann")), "ann", "Jane Smith commented on ticket INC-1"},
		{on(peal.Comment, assigned("ann")), "ann", "Ticket INC-1 has a new comment"},
		{on(peal.Comment, jane, assigned("ann"), internal), "ann", "Jane Smith added an internal note to ticket INC-1"},
		{on(peal.Comment, assigned("ann"), internal), "ann", "Ticket INC-1 has a new internal note"},

		{on(peal.Mention, jane, mentions("mia")), "mia", "Jane Smith mentioned you in ticket INC-1"},
		{on(peal.Mention, mentions("mia")), "mia", "You were mentioned in ticket INC-1"},
		{on(peal.Mention, jane, recipients("rex")), "rex", "Jane Smith mentioned someone in ticket INC-1"},
		{on(peal.Mention, recipients("rex"), comment), "rex", "Someone was mentioned in a comment on ticket INC-1"},
		{on(peal.Comment, jane, mentions("mia"), comment), "mia", "Jane Smith mentioned you in a comment on ticket INC-1"},
		{on(peal.Comment, jane, mentions("mia"), comment, internal), "mia", "Jane Smith mentioned you in an internal note on ticket INC-1"},

		{on(peal.SLAWarning, assigned("ann"), sla("response", "2025-07-10T15:00:00+02:00")), "ann",
			"Ticket INC-1 assigned to you is about to miss its response target of 10 Jul 2025 13:00 UTC"},
		{on(peal.SLAWarning, assigned("ann")), "ann", "Ticket INC-1 assigned to you is about to miss its service target"},
		{on(peal.SLAWarning, queued("ann"), sla("resolution", "")), "ann", "Ticket INC-1 in your queue is about to miss its resolution target"},
		{on(peal.SLABreach, watched("ann"), sla("resolution", "2025-07-10T13:00:00Z")), "ann", "Ticket INC-1 has missed its resolution target of 10 Jul 2025 13:00 UTC"},
		{on(peal.SLABreach, assigned("ann"), queued("ann"), sla("", "2025-07-10T13:00:00Z")), "ann", "Ticket INC-1 assigned to you has missed its service target of 10 Jul 2025 13:00 UTC"},

		{on(peal.Approval, jane, approvers("abe")), "abe", "Jane Smith asks for your approval of ticket INC-1"},
		{on(peal.Approval, approvers("abe")), "abe", "Ticket INC-1 needs your approval"},
		{on(peal.Approval, jane, recipients("rex")), "rex", "Jane Smith asked for an approval of ticket INC-1"},
		{on(peal.Approval, recipients("rex")), "rex", "Ticket INC-1 needs an approval"},
		{on(peal.ApprovalDecision, jane, requested("ron"), decided("approved")), "ron", "Jane Smith approved your ticket INC-1"},
		{on(peal.ApprovalDecision, jane, watched("will"), decided("rejected")), "will", "Jane Smith rejected ticket INC-1"},
		{on(peal.ApprovalDecision, requested("ron"), decided("approved")), "ron", "Your ticket INC-1 was approved"},
		{on(peal.ApprovalDecision, watched("will"), decided("rejected")), "will", "Ticket INC-1 was rejected"},
		{on(peal.ApprovalDecision, jane, requested("ron")), "ron", "Jane Smith decided on the approval of ticket INC-1"},
		{on(peal.ApprovalDecision, requested("ron")), "ron", "There is a decision on the approval of ticket INC-1"},

		{on(peal.Escalation, jane, assigned("ann"), queued("ann")), "ann", "Jane Smith escalated ticket INC-1 assigned to you"},
		{on(peal.Escalation, jane, queued("quinn")), "quinn", "Jane Smith escalated ticket INC-1 in your queue"},
		{on(peal.Escalation, queued("quinn")), "quinn", "Ticket INC-1 in your queue has been escalated"},
		{on(peal.Escalation, recipients("rex")), "rex", "Ticket INC-1 has been escalated"},
		{on(peal.Merge, jane, watched("will"), merged), "will", "Jane Smith merged ticket INC-1 into another ticket"},
		{on(peal.Merge, watched("will")), "will", "Ticket INC-1 has been merged with another ticket"},
		{on(peal.Resolution, jane, requested("ron")), "ron", "Jane Smith resolved your ticket INC-1"},
		{on(peal.Resolution, requested("ron")), "ron", "Your ticket INC-1 has been resolved"},
		{on(peal.Resolution, jane, watched("will")), "will", "Jane Smith resolved ticket INC-1"},
		{on(peal.Resolution, watched("will")), "will", "Ticket INC-1 has been resolved"},
		{on(peal.Reopened, jane, watched("will")), "will", "Jane Smith reopened ticket INC-1"},
		{on(peal.Reopened, watched("will")), "will", "Ticket INC-1 has been reopened"},
		{on(peal.WatchAdded, jane, recipients("rex")), "rex", "Jane Smith added you as a watcher of ticket INC-1"},
		{on(peal.WatchAdded, recipients("rex")), "rex", "You are now watching ticket INC-1"},
	} {
		if got := one(t, r, row.scene, row.to).Message; got != row.want {
			t.Errorf("%s:\n got %q\nwant %q", row.scene.ev.Type, got, row.want)
		}
	}
}

// Whatever the reasons, and whatever the event says or does not say: there are words
// that read as such, without the System as somebody, and without the comment's text.
func TestDefaultWordsWithEveryReason(t *testing.T) {
	r := rules(t, nil)
	parts := []struct {
		reason peal.Reason
		detail detail
	}{
		{peal.ReasonAssignee, assigned("ann")}, {peal.ReasonPreviousAssignee, taken("ann")}, {peal.ReasonWatcher, watched("ann")},
		{peal.ReasonMention, mentions("ann")}, {peal.ReasonApprover, approvers("ann")}, {peal.ReasonRequester, requested("ann")},
		{peal.ReasonQueue, queued("ann")}, {peal.ReasonRecipient, recipients("ann")},
	}
	if len(parts) != len(peal.Reasons()) {
		t.Fatal("a reason is missing")
	}
	said := []detail{
		by("jane"),
		func(s *scene) { s.ev.PreviousStatus = "open" },
		func(s *scene) { s.ev.NewStatus = "pending" },
		func(s *scene) { s.ev.Comment = peal.EventComment{ID: "c1", Text: "secret"} },
		internal,
		func(s *scene) { s.ev.Approval.Decision = "approved" },
		func(s *scene) { s.ev.SLA = peal.EventSLA{Type: "response", Target: s.ev.OccurredAt} },
		func(s *scene) { s.ev.MergedInto = "67890" },
	}
	people, count := make([]detail, 0, 8), 0
	d := directory(t)
	for _, typ := range peal.Types() {
		for why := range 1 << len(parts) {
			people = people[:0]
			for i, p := range parts {
				if why&(1<<i) != 0 {
					people = append(people, p.detail)
				}
			}
			for _, missing := range []int{-1, 0, 1, 2, 3, 4, 5, 6, 7, 8} { // of what is said; all; none
				s := on(typ, people...)
				for i, d := range said {
					if missing != 8 && missing != i {
						d(&s)
					}
				}
				p, err := dispatch.Resolve(d, tenant, s.ev)
				if err != nil {
					t.Fatal(err)
				}
				p.Queue = s.queue
				told, err := r.Notifications(tenant, s.ev, p)
				if err != nil {
					t.Fatalf("%s: %v", s.ev.Encode(), err)
				}
				for _, pub := range told {
					count++
					m := pub.Notification.Message
					if !strings.Contains(m, "INC-1") || strings.Contains(m, "System") || strings.Contains(m, "secret") || strings.Contains(m, "  ") ||
						strings.HasSuffix(m, " of") || m[:1] != strings.ToUpper(m[:1]) {
						t.Errorf("%s: %q", s.ev.Encode(), m)
					}
				}
			}
		}
	}
	t.Logf("%d notifications", count)
}

func TestMetadata(t *testing.T) {
	r := rules(t, nil)
	s := on(peal.Comment, assigned("ann"))
	if got := one(t, r, s, "ann"); got.Metadata != nil || strings.Contains(string(got.Encode()), "metadata") {
		t.Errorf("nothing is said: got %s", got.Encode())
	}
	s.ev.PreviousStatus, s.ev.NewStatus, s.ev.MergedInto = "open", "pending", "67890"
	s.ev.Comment = peal.EventComment{ID: "c1", Text: "T"}
	s.ev.Approval = peal.EventApproval{ID: "a1", Decision: "approved"}
	s.ev.SLA = peal.EventSLA{Type: "response", Target: s.ev.OccurredAt}
	want := peal.Metadata{
		"previousStatus": "open", "newStatus": "pending", "slaType": "response", "slaTarget": "2025-07-10T12:35:00.000Z", "commentId": "c1", "approvalId": "a1",
	}
	if diff := cmp.Diff(want, one(t, r, s, "ann").Metadata); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Words of a deployment: a tenant's go before those for all, each text by itself.
func TestWordsOfADeployment(t *testing.T) {
	r := rules(t, dispatch.Templates{
		"": {peal.Comment: {Title: "For all: {{.Ticket.Title}}", Message: "{{.Actor.Name}} wrote: {{.Comment.Text}}"}},
		tenant: {
			peal.Comment: {Title: "{{.Ticket.Number}}: {{.Ticket.Title}}", ActionURL: "https://desk.example/t/{{path .Ticket.ID}}?from={{query .Type}}#{{path .Comment.ID}}"},
			peal.Merge:   {Message: `{{if or (.Is "watcher") (.Is "requester")}}You see{{else if not (.Is "assignee")}}Ahem{{end}}`, Title: "\n{{/* nothing */}}\t"},
		},
	}, "desk.example")
	s := on(peal.Comment, by("jane"), assigned("ann"))
	s.ev.Ticket.ID = "a/b ü"
	s.ev.Comment = peal.EventComment{ID: "c 1", Text: "One.\n\tTwo."}
	n := one(t, r, s, "ann")
	if n.Title != "INC-1: VPN" || n.Message != "Jane Smith wrote: One. Two." || n.ActionURL != "https://desk.example/t/a%2Fb%20%C3%BC?from=comment#c%201" {
		t.Errorf("the tenant: got %s", n.Encode())
	}
	told, err := r.Notifications(spread, s.ev, s.people(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := told[0].Notification; n.Title != "For all: VPN" || n.ActionURL != "/tickets/a%2Fb%20%C3%BC" {
		t.Errorf("another: got %s", n.Encode())
	}
	if n := one(t, r, on(peal.Reopened, assigned("ann")), "ann"); n.Title != "VPN" || n.Message != "Ticket INC-1 has been reopened" {
		t.Errorf("another type: got %s", n.Encode())
	}
	merge := on(peal.Merge, assigned("ann"), watched("will"))
	if n := one(t, r, merge, "will"); n.Message != "You see" || n.Title != "VPN" {
		t.Errorf("a title of nothing: got %s", n.Encode())
	}
	if n := one(t, r, merge, "ann"); n.Message != "Ticket INC-1 has been merged with another ticket" {
		t.Errorf("a message of nothing: got %s", n.Encode())
	}
}

// A link that is not allowed gives way to the ticket's page: the user is told all the
// same.
func TestALinkThatIsNotAllowed(t *testing.T) {
	r := rules(t, dispatch.Templates{"": {peal.Comment: {ActionURL: `{{if eq .Ticket.Category "evil"}}{{.Comment.Text}}{{else}}/t/{{path .Ticket.ID}}{{end}}`}}}, "desk.example")
	for text, want := range map[string]string{
		"https://desk.example/1": "https://desk.example/1", " /x\n": "/x",
		"https://evil.example/": "/tickets/1", "//evil.example": "/tickets/1", "javascript:alert(1)": "/tickets/1", "": "/tickets/1", "/a b": "/tickets/1",
	} {
		s := on(peal.Comment, assigned("ann"))
		s.ev.Ticket.Category, s.ev.Comment.Text = "evil", text
		if got := one(t, r, s, "ann").ActionURL; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestTextsAreOneLineAndNotTooLong(t *testing.T) {
	const most, least = peal.MaxMessage, peal.MaxTitle
	r := rules(t, dispatch.Templates{"": {peal.Comment: {Title: "{{.Comment.Text}}", Message: "{{.Comment.Text}}"}}})
	for _, row := range []struct{ name, text, title, message string }{
		{"lines", "a\r\nb\n\n\tc  d ", "a b c d", "a b c d"},
		{"other spaces", "a\u00a0b\u2028c\u3000d", "a b c d", "a b c d"},
		{"just not too long", strings.Repeat("ü", least), strings.Repeat("ü", least), strings.Repeat("ü", least)},
		{"too long for a title", strings.Repeat("ü", least+1), strings.Repeat("ü", least-1) + "…", strings.Repeat("ü", least+1)},
		{"too long for both", strings.Repeat("😀", most+1), strings.Repeat("😀", least-1) + "…", strings.Repeat("😀", most-1) + "…"},
		{"cut at a space", strings.Repeat("x", least-2) + " y z", strings.Repeat("x", least-2) + "…", strings.Repeat("x", least-2) + " y z"},
		{"a cut after spaces", strings.Repeat("x ", least), strings.TrimSpace(strings.Repeat("x ", least/2)) + "…", strings.TrimSpace(strings.Repeat("x ", least))},
		{"nothing", "", "VPN", "Ticket INC-1 has a new comment"},
		{"nothing but spaces", " \n\t", "VPN", "Ticket INC-1 has a new comment"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := on(peal.Comment, assigned("ann"))
			s.ev.Comment.Text = row.text
			n := one(t, r, s, "ann")
			if n.Title != row.title || n.Message != row.message {
				t.Errorf("got %q (%d) and %q (%d)", n.Title, utf8.RuneCountInString(n.Title), n.Message, utf8.RuneCountInString(n.Message))
			}
		})
	}
}

// What an event says is never taken for a template, nor does it break a link.
func TestHostileEventsStayData(t *testing.T) {
	r := rules(t, nil)
	const nasty = `{{.Comment.Text}} {{define "x"}} <script>"' \ %2e%2e/`
	s := on(peal.StatusChange, by("jane"), assigned("ann"))
	s.ev.Ticket = peal.Ticket{ID: nasty, Number: nasty, Title: nasty, Category: nasty, AssigneeID: s.ev.Ticket.AssigneeID}
	s.ev.NewStatus, s.ev.Comment.Text = nasty, "secret"
	n := one(t, r, s, "ann")
	if n.Title != nasty || n.Message != "Ticket "+nasty+" is now "+nasty || n.Category != nasty {
		t.Errorf("got %s", n.Encode())
	}
	if want := "/tickets/%7B%7B.Comment.Text%7D%7D%20%7B%7Bdefine%20%22x%22%7D%7D%20%3Cscript%3E%22%27%20%5C%20%252e%252e%2F"; n.ActionURL != want {
		t.Errorf("got %s, want %s", n.ActionURL, want)
	}
	s.ev.Ticket.Title = " " // a title for an event
	if n := one(t, r, s, "ann"); n.Title != " " {
		t.Errorf("got %q", n.Title)
	}
}

// An event that is accepted is told, also one of which a part fills it, in characters
// that JSON has six bytes for.
func TestNoEventIsTooLargeToTell(t *testing.T) {
	templates := dispatch.Templates{"": {peal.Comment: {
		Title: "{{.Comment.Text}}", Message: "{{.Comment.Text}}{{.Comment.Text}}", ActionURL: "/{{path .Comment.Text}}",
	}}}
	for name, fill := range map[string]func(*peal.TicketEvent, string){
		"the category":        func(e *peal.TicketEvent, s string) { e.Ticket.Category = s },
		"the status":          func(e *peal.TicketEvent, s string) { e.Ticket.Status = s },
		"the previous status": func(e *peal.TicketEvent, s string) { e.PreviousStatus = s },
		"the new status":      func(e *peal.TicketEvent, s string) { e.NewStatus = s },
		"the comment":         func(e *peal.TicketEvent, s string) { e.Comment.Text = s },
	} {
		for _, char := range []string{"c", "\u2028", "\"", "é"} {
			s := on(peal.Comment, assigned("ann"))
			s.ev.Actor = &peal.EventActor{Actor: peal.Actor{ID: strings.Repeat("\u2028", 40), Name: strings.Repeat("\u2028", peal.MaxTitle)}}
			s.ev.Ticket.Title = strings.Repeat("\u2028", peal.MaxTitle)
			fill(&s.ev, char)
			for n := peal.MaxEncoded; n > 0; n /= 2 { // as much as there is room for
				for fits := true; fits; {
					more := s.ev
					fill(&more, strings.Repeat(char, n)+part(s.ev, name))
					if fits = more.Validate() == nil; fits {
						s.ev = more
					}
				}
			}
			if len(part(s.ev, name)) < 1000 {
				t.Fatalf("%s of %q: only %d bytes", name, char, len(part(s.ev, name)))
			}
			told, err := rules(t, templates).Notifications(tenant, s.ev, s.people(t))
			if err != nil || len(told) != 1 {
				t.Errorf("%s of %q: %d, %v", name, char, len(told), err)
			}
		}
	}
}

// part is one of the parts of an event that have no bound of their own.
func part(e peal.TicketEvent, name string) string {
	return map[string]string{
		"the category": e.Ticket.Category, "the status": e.Ticket.Status, "the previous status": e.PreviousStatus,
		"the new status": e.NewStatus, "the comment": e.Comment.Text,
	}[name]
}

// A template that is not good is found at start, by its name.
func TestBadTemplatesAreRefused(t *testing.T) {
	of := func(typ peal.Type, w dispatch.Words) dispatch.Templates {
		return dispatch.Templates{tenant: {typ: w}}
	}
	message := func(s string) dispatch.Templates { return of(peal.Comment, dispatch.Words{Message: s}) }
	link := func(s string) dispatch.Templates { return of(peal.Comment, dispatch.Words{ActionURL: s}) }
	mine := "templates of tenant " + string(tenant) + ": "
	for _, row := range []struct {
		name      string
		templates dispatch.Templates
		want      string
	}{
		{"a tenant by name", dispatch.Templates{"acme": {}}, "templates of tenant acme: a tenant must be a UUID"},
		{"a tenant in upper case", dispatch.Templates{peal.Tenant(strings.ToUpper("aaaaaaaa-1111-4111-8111-111111111111")): {}}, "must be a UUID in lower case"},
		{"an unknown type", of("party", dispatch.Words{}), mine + `"party" is not a type`},
		{"a type of event that makes no notification", of("ticketCreated", dispatch.Words{}), mine + `"ticketCreated" is not a type`},
		{"a title", of(peal.Merge, dispatch.Words{Title: "{{"}), mine + "title of merge: title:1: unclosed action"},
		{"for all", dispatch.Templates{"": {peal.Merge: {Message: "{{end}}"}}}, "templates of all tenants: message of merge: message:1: unexpected {{end}}"},

		{"an unknown field", message("{{.Foo}}"), mine + "message of comment: {{.Foo}}: there is no .Foo"},
		{"one of the ticket", message("{{.Ticket.Owner}}"), "there is no .Ticket.Owner"},
		{"one of a text", message("{{.Ticket.ID.Foo}}"), ".Ticket.ID has no fields"},
		{"one that is not for templates", message("{{.to}}"), "there is no .to"},
		{"a ticket", message("{{.Ticket}}"), ".Ticket is no text"},
		{"everything", message("{{.}}"), ". is not for these templates"},
		{"lists of users", message("{{.Mentions}}"), "there is no .Mentions"},
		{"an unknown field in a branch that is hardly taken", message(`{{if eq .Ticket.Priority "P1"}}{{.Foo}}{{end}}`), "there is no .Foo"},
		{"or in an else", message(`{{if ne .Ticket.Priority "P1"}}{{else}}{{.Foo}}{{end}}`), "there is no .Foo"},
		{"or behind an or", message(`{{if or .Type .Foo}}{{end}}`), "there is no .Foo"},
		{"or in parentheses", message(`{{if and .Comment.ID (eq (path .Foo) "x")}}{{end}}`), "there is no .Foo"},
		{"a number for a text", message(`{{if eq .Ticket.Priority "P1"}}{{if eq .Ticket.Number 1}}x{{end}}{{end}}`), "incompatible types for comparison"},
		{"a flag for a text", message(`{{if .SLA.Type}}{{path .Comment.Internal}}{{end}}`), "wrong type"},
		{"too few arguments", message(`{{path}}`), "wrong number of args"},

		{"an unknown reason", message(`{{if .Is "queu"}}x{{end}}`), ".Is wants one of"},
		{"no reason", message(`{{if .Is}}x{{end}}`), ".Is wants one of"},
		{"two", message(`{{if .Is "queue" "watcher"}}x{{end}}`), ".Is wants one of"},
		{"a reason that is data", message(`{{if .Is .Ticket.Title}}x{{end}}`), ".Is wants one of"},
		{"a reason by a pipe", message(`{{if "queue" | .Is}}x{{end}}`), ".Is wants one of"},
		{"a reason without parentheses", message(`{{if not .Is "queue"}}x{{end}}`), ".Is wants one of"},

		{"an unknown function", message("{{lower .Type}}"), `function "lower" not defined`},
		{"a call", message("{{call .Type}}"), "call is not a function of these templates"},
		{"what fails for some data", message("{{slice .Type 99}}"), "slice is not a function"},
		{"a text as long as wanted", message(`{{printf "%1000000d" 1}}`), "printf is not a function"},
		{"a loop", message("{{range .Type}}x\n{{end}}"), "{{range .Type}} is not for these templates, which have no other control than {{if}}"},
		{"with", message("{{with .Type}}{{.}}{{end}}"), "is not for these templates"},
		{"with in an else", message("{{if .Type}}{{else with .Type}}{{.}}{{end}}"), "unexpected <with>"},
		{"a variable", message("{{$x := .Type}}{{$x}}"), "variables are not for these templates"},
		{"the whole", message("{{$.Type}}"), "$.Type is not for these templates"},
		{"a field of an expression", message("{{(or .Ticket .Type).ID}}"), "is not for these templates"},
		{"nil", message("{{or nil}}"), "nil is not for these templates"},
		{"a definition", message(`{{define "x"}}a{{end}}b`), "{{define}} and {{block}} are not for these templates"},
		{"a block", message(`{{block "x" .}}a{{end}}`), "{{define}} and {{block}} are not for these templates"},
		{"a template within itself", message(`{{template "message" .}}`), "is not for these templates"},
		{"also where it is its own definition", message(`{{define "message"}}{{template "message" .}}{{end}}`), "is not for these templates"},
		{"a break", message("{{if .Type}}{{break}}{{end}}"), "{{break}} outside {{range}}"},

		{"a link that is not one", link("tickets/1"), mine + `actionUrl of comment: makes "tickets/1": actionUrl: must be a path`},
		{"a link elsewhere", link("https://evil.example/{{path .Ticket.ID}}"), "must be a path beginning with exactly one /, or an https URL of an allowed host"},
		{"a link by http", link("http://desk.example/"), "must be a path"},
		{"a link to a host of the event's choice", link("https://{{.Ticket.Category}}.example/"), "must be a path"},
		{"a link that is not escaped", link("/t/{{.Ticket.Number}}"), "(does it use path and query?)"},
		{"for some reason", link(`/t/{{if and (.Is "queue") (.Is "watcher")}} {{end}}1`), "actionUrl: must be a path"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := dispatch.NewRules(row.templates, []string{"desk.example"})
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

// Of several that are not good always the same is named.
func TestTheFirstBadTemplateIsNamed(t *testing.T) {
	all := dispatch.Templates{"": {}, tenant: {}}
	for _, typ := range peal.Types() {
		all[""][typ], all[tenant][typ] = dispatch.Words{Title: "{{", Message: "{{"}, dispatch.Words{Title: "{{"}
	}
	for range 20 {
		_, err := dispatch.NewRules(all, nil)
		if want := "templates of all tenants: title of approval: "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Fatalf("got %v, want %s", err, want)
		}
	}
}

// What the package documentation says of templates is so.
func TestDocumentedTemplates(t *testing.T) {
	fields := ".Type .Ticket.ID .Ticket.Number .Ticket.Title .Ticket.Category .Ticket.Priority .Ticket.Status .Ticket.Assigned .Actor.ID .Actor.Name .Actor.System " +
		".PreviousStatus .NewStatus .Comment.ID .Comment.Text .Comment.Internal .Approval.ID .Approval.Decision .SLA.Type .SLA.Target .SLA.Due .MergedInto"
	var message strings.Builder
	for _, f := range strings.Fields(fields) {
		fmt.Fprintf(&message, "{{%s}}{{if and %[1]s (ne %[1]s %[1]s)}}{{end}}|", f)
	}
	message.WriteString(`{{.Is "queue"}}`)
	r := rules(t, dispatch.Templates{"": {peal.Comment: {
		Title:     `{{if .Is "queue"}}New in your queue: {{end}}{{.Ticket.Title}}`,
		Message:   message.String(),
		ActionURL: "https://desk.example/t/{{path .Ticket.ID}}?from={{query .Type}}",
	}}}, "desk.example")
	s := on(peal.Comment, by("jane"), queued("ann"), internal)
	s.ev.SLA.Target = s.ev.OccurredAt
	n := one(t, r, s, "ann")
	if want := "comment|1|INC-1|VPN||||false|jane|Jane Smith|false|||||true|||"; n.Title != "New in your queue: VPN" || !strings.HasPrefix(n.Message, want) ||
		!strings.HasSuffix(n.Message, "|2025-07-10T12:35:00.000Z|10 Jul 2025 12:35 UTC||true") {
		t.Errorf("got %s", n.Encode())
	}
}
