package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// golden is what an event in testdata/dispatch tells, and whom.
type golden struct {
	Told []struct {
		To           []string
		Notification json.RawMessage
	}
	Update     json.RawMessage
	Sees, Lost []string
}

// readGolden reads an event and what it tells, as those of a ticket of their own. The
// users of another namespace are globex's here.
func readGolden(t *testing.T, typ peal.EventType) (event []byte, g golden) {
	t.Helper()
	own := strings.NewReplacer(`"12345"`, `"`+string(typ)+`"`, "/tickets/12345", "/tickets/"+string(typ), "partner", realmGlobex)
	read := func(kind string) []byte {
		b, err := os.ReadFile("../../testdata/dispatch/" + string(typ) + "." + kind + ".json")
		if err != nil {
			t.Fatal(err)
		}
		return []byte(own.Replace(string(b)))
	}
	if err := json.Unmarshal(read("told"), &g); err != nil {
		t.Fatal(err)
	}
	return read("event"), g
}

// withoutID is a notification but for its id, which is another in each tenant.
func withoutID(t *testing.T, notification []byte) string {
	t.Helper()
	_, rest, ok := bytes.Cut(notification, []byte(`,"type":`))
	if !ok {
		t.Fatalf("%s is no notification", notification)
	}
	return string(rest)
}

// listener is a connection of a user: what it received, but for what every connection
// begins with.
type listener struct {
	name   string
	events chan sse.Event
}

// listen opens a connection of a user, written "user" or "globex/user".
func listen(t *testing.T, data, url, route, name string) *listener {
	t.Helper()
	as := target{data: data, realm: realmAcme, tenant: string(tenantShared), user: name}
	if user, ok := strings.CutPrefix(name, realmGlobex+"/"); ok {
		as.realm, as.user = realmGlobex, user
	}
	header, err := as.minted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+node.Base+route, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	l := &listener{name, make(chan sse.Event, 1000)}
	done := make(chan struct{})
	t.Cleanup(func() { resp.Body.Close(); <-done })
	go func() {
		defer close(done)
		for r := sse.NewReader(resp.Body); ; {
			e, err := r.Next()
			if err != nil {
				return
			}
			if e.Name == sse.Notification || e.Name == sse.TicketUpdate {
				l.events <- e
			}
		}
	}()
	return l
}

// until collects what comes up to the event of a ticket, in any order of tickets.
func (l *listener) until(t *testing.T, ticket string) (all []string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case e := <-l.events:
			if bytes.Contains(e.Data, []byte(`"ticketId":"`+ticket+`"`)) {
				slices.Sort(all)
				return all
			}
			if e.Name == sse.Notification {
				all = append(all, withoutID(t, e.Data))
			} else {
				all = append(all, string(e.Data))
			}
		case <-late:
			t.Fatalf("%s: the last event did not come after %q", l.name, all)
		}
	}
}

// Each type of event, sent to the API, reaches those whom it concerns on their
// connections, word for word as it is written down, and nobody else.
func TestEveryEventReachesWhomItConcerns(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	desk := target{data: data, realm: realmAcme, tenant: string(tenantShared), user: "desk", roles: []string{rolePublish}}
	header, err := desk.minted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path string, body []byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, _, err := send(ctx, method, dev.ready.URL+node.Base+path, header, json.RawMessage(body)); err != nil {
			t.Fatal(err)
		}
	}
	send(http.MethodPut, "/queue/net", []byte(`{"members":["user-1","user-4","user-5"]}`))
	send(http.MethodPut, "/queue/desk", []byte(`{"members":["user-4","user-6"]}`))

	events := make(map[peal.EventType][]byte)
	told, updated := make(map[string][]string), make(map[string][]string) // by user
	for _, typ := range peal.EventTypes() {
		event, g := readGolden(t, typ)
		events[typ] = event
		for _, part := range g.Told {
			for _, user := range part.To {
				told[user] = append(told[user], withoutID(t, part.Notification))
			}
		}
		for _, user := range g.Sees {
			updated[user] = append(updated[user], string(g.Update))
		}
		for _, user := range g.Lost {
			updated[user] = append(updated[user], strings.Replace(string(g.Update), `"updated"`, `"removed"`, 1))
		}
	}
	users := []string{"user-abc", "stranger", realmGlobex + "/user-1"} // the actor, and two who are told of little or nothing
	for _, m := range []map[string][]string{told, updated} {
		users = slices.AppendSeq(users, maps.Keys(m))
	}
	slices.Sort(users)
	users = slices.Compact(users)
	var notifications, updates []*listener
	var refs []string
	for _, user := range users {
		notifications = append(notifications, listen(t, data, dev.ready.URL, "/ticket/sse/notifications", user))
		updates = append(updates, listen(t, data, dev.ready.URL, "/ticket/sse/list/updates", user))
		ref := `"` + user + `"`
		if id, ok := strings.CutPrefix(user, realmGlobex+"/"); ok {
			ref = fmt.Sprintf(`{"id":%q,"namespace":%q}`, id, realmGlobex)
		}
		refs = append(refs, ref)
	}
	for _, typ := range peal.EventTypes() {
		send(http.MethodPost, "/ticket/event", events[typ])
	}
	// When all of that is settled, one last for everybody.
	awaitMetric(t, dev.ready.Admin, "peal_events_worked_total", len(events))
	send(http.MethodPost, "/ticket/event", fmt.Appendf(nil, `{"type":"watchAdded","ticket":{"id":"end","number":"END","title":"The end","watcherIds":[%[1]s]},"recipients":[%[1]s]}`, strings.Join(refs, ",")))
	for i, user := range users {
		slices.Sort(told[user])
		if diff := cmp.Diff(told[user], notifications[i].until(t, "end")); diff != "" {
			t.Errorf("what %s is told (-want +got):\n%s", user, diff)
		}
		slices.Sort(updated[user])
		if diff := cmp.Diff(updated[user], updates[i].until(t, "end")); diff != "" {
			t.Errorf("what the lists of %s are told (-want +got):\n%s", user, diff)
		}
	}
}
