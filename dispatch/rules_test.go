package dispatch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

// scene is an event and the members of its queues.
type scene struct {
	ev                   peal.TicketEvent
	queue, previousQueue []peal.Inbox
}

type detail func(*scene)

// event is one of ticket INC-1, which nobody has to do with.
func event(typ peal.EventType, details ...detail) scene {
	s := scene{ev: peal.TicketEvent{
		ID: "e1", Type: typ, OccurredAt: peal.EventTime{Timestamp: peal.NewTimestamp(time.Date(2025, 7, 10, 12, 35, 0, 0, time.UTC))},
		Ticket: peal.Ticket{ID: "1", Number: "INC-1", Title: "VPN"},
	}}
	for _, d := range details {
		d(&s)
	}
	return s
}

func on(typ peal.Type, details ...detail) scene { return event(peal.EventType(typ), details...) }

// ref is a user reference, written as inbox takes it.
func ref(name string) peal.UserRef {
	if user, ok := strings.CutPrefix(name, "partner/"); ok {
		return peal.UserRef{ID: peal.UserID(user), Namespace: "partner"}
	}
	if user, ok := strings.CutPrefix(name, "acme/"); ok {
		return peal.UserRef{ID: peal.UserID(user), Namespace: "acme"}
	}
	return peal.UserRef{ID: peal.UserID(name)}
}

func refs(names []string) []peal.UserRef {
	var all []peal.UserRef
	for _, n := range names {
		all = append(all, ref(n))
	}
	return all
}

func by(name string) detail {
	r := ref(name)
	return func(s *scene) {
		s.ev.Actor = &peal.EventActor{Actor: peal.Actor{ID: string(r.ID), Name: "Jane Smith"}, Namespace: r.Namespace}
	}
}

func assigned(to string) detail   { return func(s *scene) { s.ev.Ticket.AssigneeID = ref(to) } }
func taken(from string) detail    { return func(s *scene) { s.ev.PreviousAssigneeID = ref(from) } }
func requested(by string) detail  { return func(s *scene) { s.ev.Ticket.RequesterID = ref(by) } }
func watched(by ...string) detail { return func(s *scene) { s.ev.Ticket.WatcherIDs = refs(by) } }
func mentions(all ...string) detail {
	return func(s *scene) { s.ev.Mentions = refs(all) }
}
func approvers(all ...string) detail {
	return func(s *scene) { s.ev.Approvers = refs(all) }
}
func recipients(all ...string) detail {
	return func(s *scene) { s.ev.Recipients = refs(all) }
}

func queued(members ...string) detail {
	return func(s *scene) { s.ev.Ticket.QueueID, s.queue = "net", inboxes(members...) }
}

func moved(from ...string) detail {
	return func(s *scene) { s.ev.PreviousQueueID, s.previousQueue = "desk", inboxes(from...) }
}

func internal(s *scene) { s.ev.Comment.Internal = true }

// everybody has somebody in each part.
func everybody(s *scene) {
	for _, d := range []detail{
		assigned("ann"), taken("pat"), requested("ron"), watched("will"), mentions("mia"), approvers("abe"), recipients("rex"), queued("quinn"), moved("quade"),
	} {
		d(s)
	}
}

// people are those of a scene in tenant.
func (s scene) people(t testing.TB) dispatch.People {
	t.Helper()
	p, err := dispatch.Resolve(directory(t), tenant, s.ev)
	if err != nil {
		t.Fatal(err)
	}
	p.Queue, p.PreviousQueue = s.queue, s.previousQueue
	return p
}

// told is what a scene tells, a line for each user: "ann: comment assignee watcher".
func (s scene) told(t testing.TB, r *dispatch.Rules) []string {
	t.Helper()
	return lines(t, r, s.ev, s.people(t))
}

func lines(t testing.TB, r *dispatch.Rules, ev peal.TicketEvent, p dispatch.People) []string {
	t.Helper()
	told, err := r.Notifications(tenant, ev, p)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pub := range told {
		for _, in := range pub.To {
			line := nameOf(in) + ": " + string(pub.Notification.Type)
			for _, reason := range pub.Notification.Reasons {
				line += " " + string(reason)
			}
			all = append(all, line)
		}
	}
	return all
}

// The table of the contract: of each type, who is told where everybody has a part.
func TestWhoIsTold(t *testing.T) {
	r := rules(t, nil)
	for _, row := range []struct {
		on   peal.EventType
		want string // beside "mia: mention mention", and rex who is told of the type as a recipient
	}{
		{"assignment", "ann: assignment assignee, pat: reassignment previousAssignee"},
		{"reassignment", "ann: assignment assignee, pat: reassignment previousAssignee"},
		{"statusChange", "ann: statusChange assignee, will: statusChange watcher, ron: statusChange requester"},
		{"comment", "ann: comment assignee, will: comment watcher, ron: comment requester"},
		{"mention", ""},
		{"slaWarning", "ann: slaWarning assignee"},
		{"slaBreach", "ann: slaBreach assignee, will: slaBreach watcher, quinn: slaBreach queue"},
		{"approval", "abe: approval approver"},
		{"approvalDecision", "ron: approvalDecision requester, ann: approvalDecision assignee, will: approvalDecision watcher"},
		{"escalation", "ann: escalation assignee, quinn: escalation queue"},
		{"merge", "ann: merge assignee, will: merge watcher, ron: merge requester"},
		{"resolution", "ron: resolution requester, will: resolution watcher"},
		{"reopened", "ann: reopened assignee, will: reopened watcher"},
		{"watchAdded", ""},
		{"ticketCreated", "nobody"},
		{"ticketUpdated", "nobody"},
		{"ticketDeleted", "nobody"},
	} {
		t.Run(string(row.on), func(t *testing.T) {
			got := event(row.on, everybody).told(t, r)
			var want []string
			if row.want != "nobody" {
				if row.want != "" {
					want = strings.Split(row.want, ", ")
				}
				want = append(want, "mia: mention mention", fmt.Sprintf("rex: %s recipient", row.on))
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What the table of the contract is accompanied by.
func TestRules(t *testing.T) {
	r := rules(t, nil)
	for _, row := range []struct {
		name  string
		scene scene
		want  []string // in order
	}{
		{"an actor is not told of taking a ticket", on(peal.Assignment, by("ann"), assigned("ann")), nil},
		{"but the one it was taken from", on(peal.Assignment, by("ann"), assigned("ann"), taken("pat")), []string{"pat: reassignment previousAssignee"}},
		{"an actor is not told in any part", on(peal.Comment, by("ann"), assigned("ann"), requested("ann"), watched("ann", "will"), mentions("ann"), recipients("ann")),
			[]string{"will: comment watcher"}},
		{"nor as a member of a queue", on(peal.Escalation, by("quinn"), queued("quinn", "quill")), []string{"quill: escalation queue"}},
		{"what the system does is told to all", on(peal.SLAWarning, assigned("ann")), []string{"ann: slaWarning assignee"}},
		{"the actor that stands for the system is no user", on(peal.SLAWarning, assigned("system"), func(s *scene) {
			s.ev.Actor = &peal.EventActor{Actor: *peal.System()}
		}), []string{"system: slaWarning assignee"}},
		{"a user who is called system is one", on(peal.Comment, by("system"), assigned("system")), nil},
		{"an actor of the default namespace is not their namesake", on(peal.Comment, by("ann"), watched("ann", "partner/ann")), []string{"partner/ann: comment watcher"}},
		{"whether or not it is said", on(peal.Comment, by("acme/ann"), watched("ann", "partner/ann")), []string{"partner/ann: comment watcher"}},
		{"nor is an actor of another", on(peal.Comment, by("partner/ann"), watched("ann", "partner/ann")), []string{"ann: comment watcher"}},

		{"a queue stands in for an assignee", on(peal.SLAWarning, queued("quinn", "quill")), []string{"quinn: slaWarning queue", "quill: slaWarning queue"}},
		{"not where there is one", on(peal.SLAWarning, assigned("ann"), queued("quinn")), []string{"ann: slaWarning assignee"}},
		{"not where there is one who did it", on(peal.Comment, by("ann"), assigned("ann"), queued("quinn")), nil},
		{"not where nobody asks for an assignee", on(peal.Resolution, queued("quinn"), watched("will")), []string{"will: resolution watcher"}},
		{"a queue is told of a ticket that lost its assignee", on(peal.Reassignment, taken("pat"), queued("quinn")),
			[]string{"quinn: assignment queue", "pat: reassignment previousAssignee"}},
		{"a queue that is told anyway is told once", on(peal.SLABreach, queued("quinn")), []string{"quinn: slaBreach queue"}},
		{"no assignee and no queue", on(peal.Assignment), nil},
		{"a former queue is not told", on(peal.Assignment, queued("quinn"), moved("quade")), []string{"quinn: assignment queue"}},

		{"a public comment is for the requester", on(peal.Comment, requested("ron")), []string{"ron: comment requester"}},
		{"an internal one is not", on(peal.Comment, requested("ron"), internal), nil},
		{"unless the requester is told for another reason", on(peal.Comment, requested("ron"), watched("ron"), internal), []string{"ron: comment watcher"}},
		{"only comments are internal", on(peal.StatusChange, requested("ron"), internal), []string{"ron: statusChange requester"}},

		{"a mention in a comment is a mention", on(peal.Comment, mentions("mia")), []string{"mia: mention mention"}},
		{"and in any other event", on(peal.Merge, mentions("mia")), []string{"mia: mention mention"}},
		{"it outweighs what the user is told beside", on(peal.Comment, watched("mia"), mentions("mia")), []string{"mia: mention watcher mention"}},
		{"and an assignment", on(peal.Assignment, assigned("mia"), mentions("mia")), []string{"mia: mention assignee mention"}},
		{"but not a breach", on(peal.SLABreach, watched("mia"), mentions("mia")), []string{"mia: slaBreach watcher mention"}},
		{"nor an escalation", on(peal.Escalation, assigned("mia"), mentions("mia")), []string{"mia: escalation assignee mention"}},
		{"nor an approval", on(peal.Approval, approvers("mia"), mentions("mia")), []string{"mia: approval mention approver"}},
		{"not even for those who are only mentioned beside it", on(peal.SLABreach, mentions("mia")), []string{"mia: mention mention"}},

		{"an assignment outweighs a reassignment", on(peal.Assignment, assigned("ann"), taken("ann")), []string{"ann: assignment assignee previousAssignee"}},
		{"also that of a queue", on(peal.Reassignment, taken("quinn"), queued("quinn")), []string{"quinn: assignment previousAssignee queue"}},
		{"recipients are told of what it is", on(peal.Reassignment, recipients("rex")), []string{"rex: reassignment recipient"}},
		{"as of an assignment", on(peal.Assignment, taken("rex"), recipients("rex")), []string{"rex: assignment previousAssignee recipient"}},
		{"recipients of a mention are not mentioned", on(peal.Mention, recipients("rex")), []string{"rex: mention recipient"}},

		{"assignee, requester and watcher at once", on(peal.StatusChange, assigned("ann"), requested("ann"), watched("ann")),
			[]string{"ann: statusChange assignee watcher requester"}},
		{"in every part at once", on(peal.SLABreach, assigned("ann"), watched("ann"), requested("ann"), approvers("ann"), mentions("ann"), recipients("ann"), queued("ann")),
			[]string{"ann: slaBreach assignee watcher mention queue recipient"}},
		{"twice in a list", on(peal.Comment, watched("will", "wanda", "will", "acme/will")), []string{"will: comment watcher", "wanda: comment watcher"}},
		{"namesakes are two", on(peal.Comment, watched("will", "partner/will")), []string{"will: comment watcher", "partner/will: comment watcher"}},
		{"approvers are told of a request alone", on(peal.ApprovalDecision, approvers("abe")), nil},
		{"watchers of a mention are not told", on(peal.Mention, watched("will"), mentions("mia")), []string{"mia: mention mention"}},
		{"the order is that of the rules, then of the lists", on(peal.Comment, watched("wanda", "will"), requested("ron"), assigned("ann"), mentions("mia", "max"), recipients("rex")),
			[]string{"ann: comment assignee", "wanda: comment watcher", "will: comment watcher", "ron: comment requester", "mia: mention mention", "max: mention mention", "rex: comment recipient"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, row.scene.told(t, r)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Those told alike share a publication, and all of an event the id, the time and
// the actor.
func TestNotificationsOfOneEvent(t *testing.T) {
	r := rules(t, nil)
	s := on(peal.Comment, by("jane"), assigned("ann"), watched("will", "wanda", "mia"), mentions("mia"))
	told, err := r.Notifications(tenant, s.ev, s.people(t))
	if err != nil {
		t.Fatal(err)
	}
	var to [][]string
	for _, pub := range told {
		to = append(to, namesOf(pub.To))
		n := pub.Notification
		if n.ID != told[0].Notification.ID || n.CreatedAt != s.ev.OccurredAt.Timestamp || n.Actor.ID != "jane" || n.Read {
			t.Errorf("%s", n.Encode())
		}
	}
	if diff := cmp.Diff([][]string{{"ann"}, {"will", "wanda"}, {"mia"}}, to); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An event that is worked on again must tell the same under the same ids, or users
// hear of it twice; another event, or the same id of another tenant, must not.
func TestIDsAreThoseOfTheEvent(t *testing.T) {
	r := rules(t, nil)
	id := func(of peal.Tenant, event string) string {
		s := on(peal.Comment, assigned("ann"))
		s.ev.ID = event
		told, err := r.Notifications(of, s.ev, s.people(t))
		if err != nil {
			t.Fatal(err)
		}
		return told[0].Notification.ID
	}
	if got, want := id(tenant, "e1"), "notif-faedcc52-ce53-5128-a8fd-9533b9495a1c"; got != want {
		t.Errorf("got %s, want %s as ever", got, want)
	}
	if id(tenant, "e1") == id(tenant, "e2") || id(tenant, "e1") == id(spread, "e1") {
		t.Error("two events have one id")
	}
	s := on(peal.Comment, assigned("ann"))
	if _, err := r.Notifications("acme", s.ev, s.people(t)); fieldOf(err) != "tenant" {
		t.Errorf("a tenant that is no UUID: %v", err)
	}
}
