package dispatch_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/dispatch"
	"github.com/pealhq/peal/intake"
)

var update = flag.Bool("update", false, "rewrite what the events in testdata/dispatch tell")

const (
	tenant   peal.Tenant = "11111111-1111-4111-8111-111111111111" // users are of acme unless they are of partner
	spread   peal.Tenant = "22222222-2222-4222-8222-222222222222" // acme and partner, and neither by default
	stranger peal.Tenant = "99999999-9999-4999-8999-999999999999" // no realm speaks for it
)

// queues → members, of tenant.
var queues = map[string][]string{
	"net":  {"user-1", "user-4", "user-5"},
	"desk": {"user-4", "user-6"},
}

func directory(t testing.TB) *auth.Directory {
	t.Helper()
	realm := func(name string, tenants ...peal.Tenant) auth.Realm {
		return auth.Realm{Name: name, Issuer: name, JWKS: "https://id.example/keys", Audiences: []string{"peal"}, Tenants: auth.Tenants{IDs: tenants}}
	}
	d, err := auth.NewDirectory(auth.Config{
		Realms:  []auth.Realm{realm("acme", tenant, spread), realm("partner", tenant, spread), realm("elsewhere", "33333333-3333-4333-8333-333333333333")},
		Tenants: []auth.TenantRow{{ID: tenant, DefaultNamespace: "acme"}, {ID: spread}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// inbox is that of a user of tenant, written "user" or "partner/user".
func inbox(name string) peal.Inbox {
	if user, ok := strings.CutPrefix(name, "partner/"); ok {
		return peal.Inbox{Tenant: tenant, Namespace: "partner", User: peal.UserID(user)}
	}
	return peal.Inbox{Tenant: tenant, Namespace: "acme", User: peal.UserID(name)}
}

func inboxes(names ...string) []peal.Inbox {
	var all []peal.Inbox
	for _, n := range names {
		all = append(all, inbox(n))
	}
	return all
}

// nameOf is what inbox takes.
func nameOf(in peal.Inbox) string {
	if in.Namespace == "partner" {
		return "partner/" + string(in.User)
	}
	return string(in.User)
}

func namesOf(all []peal.Inbox) []string {
	names := []string{}
	for _, in := range all {
		names = append(names, nameOf(in))
	}
	return names
}

func rules(t testing.TB, templates dispatch.Templates, hosts ...string) *dispatch.Rules {
	t.Helper()
	r, err := dispatch.NewRules(templates, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read reads an event as it comes from a publisher.
func read(t testing.TB, source []byte) peal.TicketEvent {
	t.Helper()
	var ev peal.TicketEvent
	if err := intake.Unmarshal(source, &ev); err != nil {
		t.Fatal(err)
	}
	if err := ev.Validate(); err != nil {
		t.Fatal(err)
	}
	return ev
}

// people are those whom an event of tenant names, with the members of its queues.
func people(t testing.TB, d *auth.Directory, ev peal.TicketEvent) dispatch.People {
	t.Helper()
	p, err := dispatch.Resolve(d, tenant, ev)
	if err != nil {
		t.Fatal(err)
	}
	p.Queue, p.PreviousQueue = inboxes(queues[ev.Ticket.QueueID]...), inboxes(queues[ev.PreviousQueueID]...)
	return p
}

// For each type an event as a publisher sends it, and beside it, byte for byte, what
// it tells whom. Clients show these words, and publishers find in them what their
// events do.
func TestEventsTellWhatIsWritten(t *testing.T) {
	d, r := directory(t), rules(t, nil)
	for _, typ := range peal.EventTypes() {
		t.Run(string(typ), func(t *testing.T) {
			name := filepath.Join("..", "testdata", "dispatch", string(typ))
			source, err := os.ReadFile(name + ".event.json")
			if err != nil {
				t.Fatal(err)
			}
			ev := read(t, source)
			if ev.Type != typ {
				t.Fatalf("the event is a %s", ev.Type)
			}
			got := written(t, r, ev, people(t, d, ev))
			if *update {
				if err := os.WriteFile(name+".told.json", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name + ".told.json")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join("..", "testdata", "dispatch", "*"))
	if want := 2 * len(peal.EventTypes()); err != nil || len(files) != want {
		t.Errorf("%d files, %v, want %d", len(files), err, want)
	}
}

// written is what an event tells, as JSON in which each notification and the update
// stand as they are stored.
func written(t testing.TB, r *dispatch.Rules, ev peal.TicketEvent, p dispatch.People) string {
	t.Helper()
	told, err := r.Notifications(tenant, ev, p)
	if err != nil {
		t.Fatal(err)
	}
	list := func(all []peal.Inbox) string {
		b, err := json.Marshal(namesOf(all))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var rows []string
	for _, pub := range told {
		rows = append(rows, fmt.Sprintf("\n{\"to\":%s,\n \"notification\":%s}", list(pub.To), pub.Notification.Encode()))
	}
	u, sees, lost := dispatch.Update(ev, p)
	got := fmt.Sprintf("{\"told\":[%s],\n\"update\":%s,\n\"sees\":%s,\n\"lost\":%s}\n", strings.Join(rows, ","), u.Encode(), list(sees), list(lost))
	if !json.Valid([]byte(got)) {
		t.Fatalf("not JSON: %s", got)
	}
	return got
}
