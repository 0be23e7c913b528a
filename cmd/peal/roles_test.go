package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
)

// Bad roles are told before anything is started, by whichever way they come.
func TestRolesAreChecked(t *testing.T) {
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "peal.yaml")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, row := range []struct {
		name   string
		env    map[string]string
		args   []string
		status int
		want   string
	}{
		{"unknown", nil, []string{"serve", "--roles", "admin"}, 2, "--roles must be edge, dispatch or both"},
		{"one unknown", nil, []string{"serve", "--roles", "edge,admin"}, 2, "--roles must be"},
		{"empty", nil, []string{"serve", "--roles", ""}, 2, "--roles must be"},
		{"an empty one", nil, []string{"serve", "--roles", "edge,"}, 2, "--roles must be"},
		{"twice", nil, []string{"serve", "--roles", "edge,edge"}, 2, "--roles must be"},
		{"in upper case", nil, []string{"serve", "--roles", "Edge"}, 2, "--roles must be"},
		{"in the environment", map[string]string{"PEAL_ROLES": "worker"}, []string{"serve"}, 2, "--roles must be"},
		{"in the file", nil, []string{"config", "check", "--config", file("roles: [edge, edge]\n")}, 2, "--roles must be"},
		{"none in the file", nil, []string{"config", "check", "--config", file("roles: []\n")}, 2, "--roles must be"},
		{"a mapping in the file", nil, []string{"config", "check", "--config", file("roles: {edge: true}\n")}, 1, ":1: roles: must be a value or a list"},
		{"of dev", nil, []string{"dev", "--roles", "edge"}, 2, "roles"},
		{"of dev, in the file", nil, []string{"dev", "--config", file("roles: edge\n")}, 1, ":1: roles is not a setting"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := do(t, row.env, row.args...)
			if got.status != row.status || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, row.want) {
				t.Errorf("%+v, want status %d and %q", got, row.status, row.want)
			}
		})
	}
	for _, row := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"default", nil, nil, "edge,dispatch"},
		{"flag", nil, []string{"--roles", "dispatch"}, "dispatch"},
		{"environment", map[string]string{"PEAL_ROLES": "dispatch"}, nil, "dispatch"},
		{"list in the file", nil, []string{"--config", file("roles: [dispatch, edge]\n")}, "dispatch,edge"},
		{"text in the file", nil, []string{"--config", file("roles: edge,dispatch\n")}, "edge,dispatch"},
		{"environment over the file", map[string]string{"PEAL_ROLES": "edge"}, []string{"--config", file("roles: dispatch\n")}, "edge"},
		{"flag over the environment", map[string]string{"PEAL_ROLES": "edge"}, []string{"--roles", "dispatch"}, "dispatch"},
	} {
		got := do(t, row.env, append([]string{"config", "print"}, row.args...)...)
		if got.status != 0 || !strings.Contains(got.stdout, fmt.Sprintf("roles: %q\n", row.want)) {
			t.Errorf("%s: %+v, want %s", row.name, got, row.want)
		}
	}
}

// site is a data directory, the realms of a dev and how to ask there.
type rolesSite struct {
	t                    *testing.T
	data, issuer, realms string
	config               string
}

func newRolesSite(t *testing.T, config string) *rolesSite {
	t.Helper()
	s := &rolesSite{t: t, data: t.TempDir(), issuer: t.TempDir()}
	startDev(t, s.issuer)
	dir := t.TempDir()
	s.realms, s.config = filepath.Join(dir, "realms.yaml"), filepath.Join(dir, "peal.yaml")
	for name, content := range map[string]string{
		s.realms: do(t, nil, "dev", "--print-realms", "--data", s.issuer).stdout,
		s.config: "drain-delay: 0s\n" + config,
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *rolesSite) serve(roles string) *process {
	s.t.Helper()
	return startReady(s.t, "serve", "--roles", roles, "--data", s.data, "--realms", s.realms, "--config", s.config,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s")
}

// ask sends a request of a user and returns its status and body.
func (s *rolesSite) ask(method, url string, tenant peal.Tenant, user string, body any) (int, string) {
	s.t.Helper()
	by := target{data: s.issuer, realm: realmAcme, tenant: string(tenant), user: user, roles: []string{rolePublish}}
	header, err := by.minted(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		sent = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, sent)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

// comment is an event that tells jane.
func comment(id string) peal.TicketEvent {
	return peal.TicketEvent{
		ID: id, Type: "comment", Comment: peal.EventComment{ID: "c"},
		Ticket: peal.Ticket{ID: "12345", Number: "INC-1", Title: "VPN", AssigneeID: peal.UserRef{ID: "jane"}},
	}
}

// An edge takes events and does not work on them; a worker that comes later does, has
// nothing on its public port but its health, and metrics on the other.
func TestRolesAreApart(t *testing.T) {
	t.Parallel()
	s := newRolesSite(t, "")
	edge := s.serve("edge")
	const events = 5
	for i := range events {
		if status, body := s.ask("POST", edge.ready.URL+node.Base+"/ticket/event", tenantAcme, "desk", comment(fmt.Sprint("e", i))); status != http.StatusAccepted {
			t.Fatalf("event %d: %d %s", i, status, body)
		}
	}
	if _, page := s.ask("GET", edge.ready.Admin+"/metrics", tenantAcme, "jane", nil); !strings.Contains(page, "\npeal_events_waiting NaN\n") || !strings.Contains(page, "\npeal_events_worked_total 0\n") {
		t.Error("an edge counts what waits, or works")
	}
	if status := edge.stop(syscall.SIGTERM); status != 0 {
		t.Fatalf("the edge ends with %d\n%s", status, edge.log)
	}

	worker := s.serve("dispatch")
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/openapi.yaml": 404, "/peal.js": 404, "/metrics": 404, "/dead": 404, "/realms/acme/backchannel-logout": 404, "/": 404,
		node.Base + "/ticket/notification/list": 404, node.Base + "/ticket/sse/notifications": 404, node.Base + "/ticket/event": 404,
	} {
		if status, body := s.ask("GET", worker.ready.URL+path, tenantAcme, "jane", nil); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	for _, path := range []string{"/ticket/event", "/ticket/events", "/ticket/notification", "/admin/revoke"} {
		if status, body := s.ask("POST", worker.ready.URL+node.Base+path, tenantAcme, "desk", comment("no")); status != 404 {
			t.Errorf("POST %s: %d %s, want 404", path, status, body)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, page := s.ask("GET", worker.ready.Admin+"/metrics", tenantAcme, "jane", nil)
		if strings.Contains(page, fmt.Sprintf("peal_event_settled_seconds_count{outcome=\"told\"} %d\n", events)) &&
			strings.Contains(page, fmt.Sprintf("\npeal_events_worked_total %d\n", events)) && strings.Contains(page, "\npeal_events_waiting 0\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not within a minute:\n%s\n%s", page, worker.log)
		}
	}
	if status := worker.stop(syscall.SIGTERM); status != 0 {
		t.Fatalf("the worker ends with %d\n%s", status, worker.log)
	}
	if strings.Contains(worker.log.String(), "level=WARN") || strings.Contains(worker.log.String(), "level=ERROR") {
		t.Errorf("the worker has trouble:\n%s", worker.log)
	}

	edge = s.serve("edge")
	_, body := s.ask("GET", edge.ready.URL+node.Base+"/ticket/notification/list", tenantAcme, "jane", nil)
	if n := strings.Count(body, `"type":"comment"`); n != events {
		t.Errorf("jane is told of %d, want %d: %s", n, events, body)
	}
}

// The words of one tenant are those of its users alone.
func TestTemplateOfOneTenant(t *testing.T) {
	t.Parallel()
	s := newRolesSite(t, `templates:
  all:
    comment: {title: "Look: {{.Ticket.Title}}"}
  `+strings.ToUpper(string(tenantShared))+`:
    comment: {message: "Psst, {{.Ticket.Number}}", actionUrl: "/desk/{{path .Ticket.ID}}"}
`)
	p := s.serve("edge,dispatch")
	for tenant, want := range map[peal.Tenant][]string{
		tenantAcme:   {`"title":"Look: VPN"`, `"message":"Ticket INC-1 has a new comment"`, `"actionUrl":"/tickets/12345"`},
		tenantShared: {`"title":"Look: VPN"`, `"message":"Psst, INC-1"`, `"actionUrl":"/desk/12345"`},
	} {
		if status, body := s.ask("POST", p.ready.URL+node.Base+"/ticket/event", tenant, "desk", comment("e")); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, body)
		}
		var body string
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if _, body = s.ask("GET", p.ready.URL+node.Base+"/ticket/notification/list", tenant, "jane", nil); strings.Contains(body, `"comment"`) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("nobody is told within a minute\n%s", p.log)
			}
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("tenant %s: no %s in %s", tenant, w, body)
			}
		}
	}
}
