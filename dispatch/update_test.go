package dispatch_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

func TestListsAreTold(t *testing.T) {
	status := func(before, after string) detail {
		return func(s *scene) { s.ev.PreviousStatus, s.ev.NewStatus = before, after }
	}
	comment := func(s *scene) { s.ev.Comment.ID = "c1" }
	sameQueue := func(s *scene) { s.ev.PreviousQueueID, s.previousQueue = s.ev.Ticket.QueueID, s.queue }
	for _, row := range []struct {
		name  string
		scene scene
		want  string // action, changes, who sees, who has lost
	}{
		{"who sees a ticket", event(peal.TicketUpdated, everybody), "updated assignee,queue | ann ron will quinn | pat quade"},
		{"each is told once", event(peal.TicketUpdated, assigned("ann"), requested("ann"), watched("ann", "will", "will"), queued("ann", "quinn", "quinn")),
			"updated | ann will quinn |"},
		{"the actor too", event(peal.TicketUpdated, by("ann"), assigned("ann")), "updated | ann |"},
		{"nobody is named", event(peal.TicketUpdated), "updated | |"},
		{"a new ticket", event(peal.TicketCreated, requested("ron"), queued("quinn")), "created | ron quinn |"},
		{"a deleted ticket is removed for all who saw it", event(peal.TicketDeleted, everybody), "removed assignee,queue | ann ron will quinn pat quade |"},

		{"who still sees it has not lost it", on(peal.Assignment, assigned("ann"), taken("will"), watched("will"), queued("quinn"), moved("quinn", "quade")),
			"updated assignee,queue | ann will quinn | quade"},
		{"who lost it in two ways is told once", on(peal.Assignment, taken("pat"), moved("pat", "quade", "quade")), "updated assignee,queue | | pat quade"},
		{"an assignment", on(peal.Assignment, assigned("ann")), "updated assignee | ann |"},
		{"an assignment to who had it", on(peal.Reassignment, assigned("ann"), taken("acme/ann")), "updated assignee | ann |"},
		{"another assignee, whatever the event", on(peal.Escalation, assigned("ann"), taken("pat")), "updated assignee,escalation | ann | pat"},
		{"the same one, named otherwise", on(peal.Escalation, assigned("ann"), taken("acme/ann")), "updated escalation | ann |"},
		{"a namesake", on(peal.Escalation, assigned("ann"), taken("partner/ann")), "updated assignee,escalation | ann | partner/ann"},
		{"no assignee any more", event(peal.TicketUpdated, taken("pat")), "updated assignee | | pat"},
		{"another queue", event(peal.TicketUpdated, queued("quinn"), moved("quade")), "updated queue | quinn | quade"},
		{"the same queue", event(peal.TicketUpdated, queued("quinn"), sameQueue), "updated | quinn |"},
		{"no queue any more", event(peal.TicketUpdated, moved("quade")), "updated queue | | quade"},

		{"a status", on(peal.StatusChange), "updated status | |"},
		{"a resolution", on(peal.Resolution), "updated status | |"},
		{"a ticket that is open again", on(peal.Reopened), "updated status | |"},
		{"another status, whatever the event", on(peal.Merge, status("open", "closed")), "updated status,merge | |"},
		{"a status that was not known", event(peal.TicketUpdated, status("", "open")), "updated status | |"},
		{"the same status", event(peal.TicketUpdated, status("open", "open")), "updated | |"},
		{"a comment", on(peal.Comment), "updated comments | |"},
		{"a mention in one", on(peal.Mention, comment), "updated comments | |"},
		{"a mention elsewhere", on(peal.Mention), "updated | |"},
		{"a comment with another event is not said", on(peal.Escalation, comment), "updated escalation | |"},
		{"a request for approval", on(peal.Approval), "updated approval | |"},
		{"a decision", on(peal.ApprovalDecision), "updated approval | |"},
		{"a warning", on(peal.SLAWarning), "updated sla | |"},
		{"a breach", on(peal.SLABreach), "updated sla | |"},
		{"a merge", on(peal.Merge), "updated merge | |"},
		{"a watcher", on(peal.WatchAdded, watched("will"), recipients("will")), "updated watchers | will |"},
		{"all at once", on(peal.StatusChange, everybody, status("open", "pending")), "updated status,assignee,queue | ann ron will quinn | pat quade"},
	} {
		t.Run(row.name, func(t *testing.T) {
			u, sees, lost := dispatch.Update(row.scene.ev, row.scene.people(t))
			var changes []string
			for _, c := range u.Changes {
				changes = append(changes, string(c))
			}
			got := string(u.Action) + " " + strings.Join(changes, ",") + " | " + strings.Join(namesOf(sees), " ") + " | " + strings.Join(namesOf(lost), " ")
			if diff := cmp.Diff(row.want, strings.TrimSpace(strings.Join(strings.Fields(got), " "))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if u.TicketID != "1" || u.TicketNumber != "INC-1" || u.UpdatedAt != row.scene.ev.OccurredAt.Timestamp {
				t.Errorf("got %s", u.Encode())
			}
		})
	}
}
