package dispatch_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
	"github.com/pealhq/peal/intake"
)

// Whatever a publisher sends is refused for a field of it, or survives being stored
// and tells each user once, in a notification that is valid: also in words that take
// whatever there is.
func FuzzTicketEvent(f *testing.F) {
	events, err := filepath.Glob(filepath.Join("..", "testdata", "dispatch", "*.event.json"))
	if err != nil || len(events) == 0 {
		f.Fatalf("%d events, %v", len(events), err)
	}
	for _, name := range events {
		source, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(source))
	}
	for _, s := range []string{
		``, `null`, `{}`, `[]`, `{"type":"comment","ticket":null}`, `{"type":"comment","ticket":{"id":"..","number":"\u2028","title":" "},"recipients":["a"]}`,
		`{"type":"merge","ticket":{"id":"{{.ID}}","number":"%","title":"//","assigneeId":{"id":"*","namespace":"partner"},"watcherIds":["*",">","*"]},"actor":{"id":"*","name":" "}}`,
		`{"type":"slaBreach","occurredAt":"0001-01-01T00:00:00Z","sla":{"target":"9999-12-31T23:59:59Z"},"ticket":{"id":"1","number":"1","title":"T","queueId":"net"},"mentions":[""]}`,
		`{"type":"comment","ticket":{"id":"1","number":"1","title":"T"},"actor":{"id":"system","name":"System","avatar":null},"mentions":["a"],"comment":{"text":"a\r\n\u00a0 b\ufeff","internal":true}}`,
		`{"type":"comment","ticket":{"id":"1","number":"1","title":"` + strings.Repeat("\U0001f600", 300) + `"},"recipients":["a"],"comment":{"text":"` + strings.Repeat("x ", 2000) + `"}}`,
		`{"type":"reassignment","ticket":{"id":"1","number":"1","title":"T","assigneeId":{"id":"a","namespace":"acme"}},"previousAssigneeId":"a","actor":{"id":"a","name":"A","namespace":"elsewhere"}}`,
	} {
		f.Add(s)
	}
	d := directory(f)
	all := map[peal.Type]dispatch.Words{}
	for _, typ := range peal.Types() {
		all[typ] = dispatch.Words{
			Title:     "{{.Comment.Text}}{{.NewStatus}}",
			Message:   `{{.Actor.Name}}{{.PreviousStatus}}{{if .Is "queue"}}{{.Comment.Text}}{{else}}{{.Ticket.Title}}{{end}}`,
			ActionURL: `{{if .MergedInto}}https://desk.example/{{path .MergedInto}}{{else if eq .Ticket.Category "raw"}}{{.Comment.Text}}{{else}}/{{query .Comment.Text}}{{end}}`,
		}
	}
	hosts := []string{"desk.example"}
	words := []*dispatch.Rules{rules(f, nil), rules(f, dispatch.Templates{"": all}, hosts...)}

	f.Fuzz(func(t *testing.T, source string) {
		about := func(err error) bool {
			_, ok := errors.AsType[*peal.InvalidError](err)
			if err != nil && (!ok || strings.ContainsAny(err.Error(), "\r\n")) {
				t.Fatalf("refused with %q, want an InvalidError of one line", err)
			}
			return err == nil
		}
		var ev peal.TicketEvent
		if !about(intake.Unmarshal([]byte(source), &ev)) {
			return
		}
		ev = ev.WithDefaults(time.Unix(0, 0))
		if !about(ev.Validate()) {
			return
		}
		stored := ev.Encode()
		var back peal.TicketEvent
		if err := intake.Unmarshal(stored, &back); err != nil || back.Validate() != nil || string(back.Encode()) != string(stored) {
			t.Fatalf("stored as %s, it is read as %s, %v", stored, back.Encode(), err)
		}
		for _, of := range []peal.Tenant{tenant, spread} {
			p, err := dispatch.Resolve(d, of, ev)
			if !about(err) {
				continue
			}
			p.Queue, p.PreviousQueue = inboxes(queues["net"]...), inboxes(queues["desk"]...)
			for _, r := range words {
				told, err := r.Notifications(of, ev, p)
				if !about(err) {
					if fieldOf(err) != "notification" || len(stored) < peal.MaxEncoded/2 {
						t.Fatalf("a valid event of %d bytes: %v", len(stored), err)
					}
					continue
				}
				seen := map[peal.Inbox]bool{}
				for _, pub := range told {
					if err := pub.Notification.Validate(hosts); err != nil {
						t.Fatalf("%s: %v", pub.Notification.Encode(), err)
					}
					for _, in := range pub.To {
						if seen[in] || in.User == p.Actor.ID && (in.Namespace == p.Actor.Namespace || p.Actor.Namespace == "") {
							t.Fatalf("%s is told twice, or of what they did: %s", nameOf(in), stored)
						}
						seen[in] = true
					}
				}
				if ev.Type.Notifies() == "" && len(told) > 0 {
					t.Fatalf("%s tells somebody", ev.Type)
				}
			}
			u, _, _ := dispatch.Update(ev, p)
			if u.TicketID != ev.Ticket.ID {
				t.Fatalf("lists are told %s", u.Encode())
			}
		}
	})
}
