package dispatch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

// fieldOf is the field that an InvalidError names; the error itself for another.
func fieldOf(err error) string {
	if invalid, ok := errors.AsType[*peal.InvalidError](err); ok {
		return invalid.Field
	}
	if err != nil {
		return "no InvalidError: " + err.Error()
	}
	return ""
}

func TestResolveFindsThoseWhoAreNamed(t *testing.T) {
	s := on(peal.Comment, everybody, by("partner/jane"), watched("will", "partner/will", "acme/will"))
	p, err := dispatch.Resolve(directory(t), tenant, s.ev)
	if err != nil {
		t.Fatal(err)
	}
	ann, pat, ron := inbox("ann"), inbox("pat"), inbox("ron")
	want := dispatch.People{
		Assignee: &ann, PreviousAssignee: &pat, Requester: &ron,
		Watchers: inboxes("will", "partner/will", "will"), Mentions: inboxes("mia"), Approvers: inboxes("abe"), Recipients: inboxes("rex"),
		Actor: ref("partner/jane"),
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p, err := dispatch.Resolve(directory(t), tenant, event(peal.TicketUpdated).ev); err != nil || cmp.Diff(dispatch.People{}, p) != "" {
		t.Errorf("an event that names nobody: %v, %v", p, err)
	}
}

func TestResolveRefusesWhoCannotBeAUser(t *testing.T) {
	for _, row := range []struct {
		name   string
		tenant peal.Tenant
		scene  scene
		want   string // the beginning of the error; "" is none
	}{
		{"a tenant that no realm speaks for", stranger, event(peal.TicketCreated), "tenant: must be one that a realm may speak for"},
		{"an assignee of a strange namespace", tenant, on(peal.Comment, assigned("ann"), func(s *scene) { s.ev.Ticket.AssigneeID.Namespace = "elsewhere" }), "ticket.assigneeId: a namespace must be one of the tenant's"},
		{"a requester", tenant, on(peal.Comment, requested("ron"), func(s *scene) { s.ev.Ticket.RequesterID.Namespace = "nowhere" }), "ticket.requesterId: "},
		{"a previous assignee", tenant, on(peal.Comment, taken("pat"), func(s *scene) { s.ev.PreviousAssigneeID.Namespace = "nowhere" }), "previousAssigneeId: "},
		{"a watcher", tenant, on(peal.Comment, watched("a", "b"), func(s *scene) { s.ev.Ticket.WatcherIDs[1].Namespace = "nowhere" }), "ticket.watcherIds[1]: "},
		{"one who is mentioned", tenant, on(peal.Comment, mentions("a", "b", "c", "d"), func(s *scene) { s.ev.Mentions[3].Namespace = "nowhere" }), "mentions[3]: "},
		{"an approver", tenant, on(peal.Comment, approvers("a"), func(s *scene) { s.ev.Approvers[0].Namespace = "nowhere" }), "approvers[0]: "},
		{"a recipient", tenant, on(peal.Comment, recipients("a"), func(s *scene) { s.ev.Recipients[0].Namespace = "nowhere" }), "recipients[0]: "},
		{"an actor", tenant, on(peal.Comment, by("a"), func(s *scene) { s.ev.Actor.Namespace = "nowhere" }), "actor: "},
		{"an actor with a long id", tenant, on(peal.Comment, by(strings.Repeat("a", 129))), "actor: a user id must be at most 128 bytes"},
		{"no id", tenant, on(peal.Comment, mentions("")), "mentions[0]: a user id must not be empty"},
		{"also in an event that tells nobody", tenant, event(peal.TicketUpdated, mentions("a"), func(s *scene) { s.ev.Mentions[0].Namespace = "nowhere" }), "mentions[0]: "},
		{"no default namespace", spread, on(peal.Comment, assigned("ann")), "ticket.assigneeId: the tenant has several namespaces and no default: name a namespace"},
		{"one that is named", spread, on(peal.Comment, assigned("acme/ann")), ""},
		{"an actor need not be", spread, on(peal.Comment, by("ann"), assigned("acme/ann")), ""},
		{"but not in vain", spread, on(peal.Comment, by("ann"), func(s *scene) { s.ev.Actor.Namespace = "elsewhere" }), "actor: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := dispatch.Resolve(directory(t), row.tenant, row.scene.ev)
			if row.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), row.want) || !errors.Is(err, peal.ErrInvalid) {
				t.Fatalf("got %v, want %s", err, row.want)
			}
		})
	}
}

// Where users must be named with a namespace and an actor is not, the actor is
// whoever has that id.
func TestAnActorWithoutANamespaceIsAnyOfTheirName(t *testing.T) {
	s := on(peal.Comment, by("ann"), watched("acme/ann", "partner/ann", "partner/will"))
	p, err := dispatch.Resolve(directory(t), spread, s.ev)
	if err != nil {
		t.Fatal(err)
	}
	told, err := rules(t, nil).Notifications(spread, s.ev, p)
	if err != nil || len(told) != 1 || len(told[0].To) != 1 || told[0].To[0].User != "will" {
		t.Fatalf("got %v, %v, want will alone to be told", told, err)
	}
}
