package peal_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
)

// Of two updates that become one nothing is lost that a client decides by.
func TestTicketUpdateSupersedesAnOlderOne(t *testing.T) {
	const created, updated, removed = peal.ActionCreated, peal.ActionUpdated, peal.ActionRemoved
	const status, assignee, comments = peal.ChangeStatus, peal.ChangeAssignee, peal.ChangeComments
	type update struct {
		action  peal.TicketAction
		changes []peal.Change
	}
	all := func(c ...peal.Change) []peal.Change { return c }
	at := func(second int, u update) peal.TicketUpdate {
		return peal.TicketUpdate{
			Action: u.action, TicketID: "1", TicketNumber: "INC-1", Changes: u.changes,
			UpdatedAt: peal.NewTimestamp(time.Date(2025, 7, 10, 12, 35, second, 0, time.UTC)),
		}
	}
	for _, tt := range []struct {
		name               string
		older, newer, want update
	}{
		{"changes add up, in the order in which they are listed", update{updated, all(comments)}, update{updated, all(status)}, update{updated, all(status, comments)}},
		{"each once", update{updated, all(status, assignee)}, update{updated, all(assignee)}, update{updated, all(status, assignee)}},
		{"one that is not known comes last", update{updated, all("mood")}, update{updated, all(status)}, update{updated, all(status, "mood")}},
		{"the older does not say what", update{updated, nil}, update{updated, all(status)}, update{updated, nil}},
		{"the newer does not say what", update{updated, all(status)}, update{updated, nil}, update{updated, nil}},
		{"a new ticket stays new", update{created, nil}, update{updated, all(status)}, update{created, nil}},
		{"a new ticket that is gone", update{created, nil}, update{removed, nil}, update{removed, nil}},
		{"one out of sight", update{updated, all(status)}, update{removed, all(assignee)}, update{removed, all(status, assignee)}},
		{"one in sight again", update{removed, all(assignee)}, update{updated, all(assignee)}, update{updated, all(assignee)}},
		{"one made again", update{removed, nil}, update{created, nil}, update{created, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(at(2, tt.want), at(2, tt.newer).Superseding(at(1, tt.older))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
