package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/pealhq/peal/node"
)

// From a data directory to three servers: who was connected goes on where they were.
func TestMigrateToACluster(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t)
	d := &deployment{rolesSite: newRolesSite(t, ""), nats: c}
	d.edge = d.rolesSite.serve("edge,dispatch")
	d.works = d.edge
	const list = "/ticket/notification/list"
	api := d.edge.ready.URL + node.Base
	d.wants(200, "", "PUT", api+"/queue/net", map[string]any{"members": []string{"jane", "joe"}})
	for i := range 3 {
		d.wants(202, "", "POST", api+"/ticket/notification", map[string]any{"recipients": []string{"jane"}, "notification": map[string]any{
			"id": fmt.Sprint("n", i), "type": "mention", "ticketId": "m", "ticketNumber": "INC", "title": "t", "message": "m",
		}})
	}
	d.wants(200, `"changed":2`, "PUT", api+"/ticket/notification/read", map[string]any{"ids": []string{"n0", "n2"}})
	d.wants(200, "", "PUT", api+"/user/preference", map[string]any{"mutedTickets": []string{"7"}})
	before := d.wants(200, `"n2"`, "GET", api+list, nil)
	var page struct {
		Notifications []struct{ Cursor string }
	}
	if err := json.Unmarshal([]byte(before), &page); err != nil || len(page.Notifications) != 3 {
		t.Fatal(err, before)
	}

	migrate := []string{"admin", "migrate", "--data", d.data}
	env := map[string]string{"PEAL_NATS": c.urls("admin")}
	if got := do(t, env, migrate...); got.status != 1 || !strings.Contains(got.stderr, "in use by another process: what runs on it has to be stopped first") {
		t.Fatalf("of a directory in use: %+v", got)
	}
	if status := d.edge.stop(syscall.SIGTERM); status != 0 {
		t.Fatalf("ended with %d\n%s", status, d.edge.log)
	}
	if got := c.admin(append(migrate[1:], "--dry-run")...); !strings.Contains(got, "PEAL_INBOX_local_0: 3 messages up to 3, ") || !strings.HasSuffix(got, "\n9 streams; nothing was done\n") {
		t.Errorf("a dry run says\n%s", got)
	}
	if got := c.admin(migrate[1:]...); !strings.Contains(got, "consumers: copied\n") || !strings.Contains(got, "\n9 streams are copied: start the nodes with --nats, and nothing with --data "+d.data+" any more\n") {
		t.Errorf("it says\n%s", got)
	}
	if got := do(t, env, migrate...); got.status != 1 || !strings.Contains(got.stderr, "has streams of the region already") {
		t.Errorf("again: %+v, want a refusal", got)
	}
	if got := c.admin("ensure"); !strings.HasSuffix(got, "10 streams: 0 created, 0 fields changed, 0 refused\n") { // which looks at the replicas too
		t.Errorf("ensure says\n%s", got)
	}

	d.edge = d.serve("edge,dispatch", "node")
	d.works = d.edge
	api = d.edge.ready.URL + node.Base
	if got := d.wants(200, "", "GET", api+list, nil); got != before {
		t.Errorf("the list is\n%s, was\n%s", got, before)
	}
	d.wants(200, `"7"`, "GET", api+"/user/preference", nil)
	after := d.wants(200, `"gap":false`, "GET", api+list+"?wait=5&after="+page.Notifications[2].Cursor, nil)
	if strings.Contains(after, `"n0"`) || !strings.Contains(after, `"n1"`) || !strings.Contains(after, `"n2"`) {
		t.Errorf("after the first: %s, want the others", after)
	}
	if status, body := d.ask("POST", api+"/ticket/event", tenantShared, "desk", comment("e")); status != http.StatusAccepted {
		t.Errorf("an event: %d %s", status, body)
	}
	d.until(`"type":"comment"`, api+list)
	d.quiet(d.edge)
}
