package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

var promtool = flag.String("promtool", "promtool", "the `program` that rules of Prometheus are tried with")

const (
	rulesFolder   = "../../../deploy/prometheus"
	dashboardFile = "../../../deploy/grafana/peal.json"
	operatingFile = "../../../docs/operating.md"
)

// rule is an alert of deploy/prometheus.
type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (all []rule) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(rulesFolder, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no rules")
	}
	return all
}

// panel is one of the dashboard's.
type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Datasource  struct{ UID string }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr string }
}

func readDashboard(t *testing.T) (all []panel) {
	t.Helper()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct{ Panels []panel }
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	if len(board.Panels) == 0 {
		t.Fatal("there are no panels")
	}
	return board.Panels
}

// expression is what a panel asks, with values in place of Grafana's variables.
func expression(asked string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$job", ".*").Replace(asked)
}

// prometheus runs promtool, beside the rules.
func prometheus(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(*promtool, args...)
	cmd.Dir = rulesFolder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Each alert is tried as it is silent and as it tells.
func TestAlertsTell(t *testing.T) {
	prometheus(t, "check", "config", "prometheus.yaml") // with the rules that it names
	prometheus(t, "test", "rules", "rules_test.yaml")
	data, err := os.ReadFile(filepath.Join(rulesFolder, "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Cases []struct {
				Name   string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	silent, tells := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Alerts) == 0 {
				silent[c.Name] = true
			} else {
				tells[c.Name] = true
			}
		}
	}
	for _, r := range readRules(t) {
		if !silent[r.Alert] || !tells[r.Alert] {
			t.Errorf("%s: tried as it is silent %v, as it tells %v, want both", r.Alert, silent[r.Alert], tells[r.Alert])
		}
	}
}

// anchored is what a heading's link leaves out.
var anchored = regexp.MustCompile(`[^a-z0-9 _-]`)

// Who is woken by an alert finds what to do about it.
func TestAlertsHaveTheirParagraph(t *testing.T) {
	page, err := os.ReadFile(operatingFile)
	if err != nil {
		t.Fatal(err)
	}
	anchors := make(map[string]bool)
	for line := range strings.Lines(string(page)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			plain := anchored.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			anchors["docs/operating.md#"+strings.ReplaceAll(plain, " ", "-")] = true
		}
	}
	for _, r := range readRules(t) {
		if !anchors[r.Annotations["runbook"]] {
			t.Errorf("%s: there is no %s", r.Alert, r.Annotations["runbook"])
		}
		if r.Annotations["summary"] == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) {
			t.Errorf("%s: summary %q, severity %q", r.Alert, r.Annotations["summary"], r.Labels["severity"])
		}
	}
}

// The dashboard is one that Grafana draws: what it asks is PromQL, and no panel lies upon
// another.
func TestDashboardIsWhole(t *testing.T) {
	rules := "groups:\n- name: dashboard\n  rules:\n"
	ids, taken := make(map[int]string), make(map[[2]int]string)
	for _, p := range readDashboard(t) {
		if other := ids[p.ID]; other != "" || p.ID == 0 {
			t.Errorf("%s has the id %d, as %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies upon %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %d: title %q, unit %q, data source %q, %d targets", p.ID, p.Title, p.FieldConfig.Defaults.Unit, p.Datasource.UID, len(p.Targets))
		}
		for i, target := range p.Targets {
			quoted, err := json.Marshal(expression(target.Expr))
			if err != nil {
				t.Fatal(err)
			}
			rules += fmt.Sprintf("  - {record: 'panel:%d:%d', expr: %s}\n", p.ID, i, quoted)
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	prometheus(t, "check", "rules", file)
}

// named are the metrics that an expression or a page names.
var named = regexp.MustCompile(`\b(peal|process|go)_[a-z0-9_]+`)

// What is watched is there, and what is there is watched: no alert waits for a metric that
// no process has, and the dashboard has all of peal's.
func TestEveryMetricIsThere(t *testing.T) {
	config := filepath.Join(t.TempDir(), "peal.yaml")
	if err := os.WriteFile(config, []byte("metrics-tenants: ["+tenant+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startService(t, "dev", "--config", config)
	exercise(t, s)

	families := make(map[string]bool)
	var page string
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(page, `peal_event_settled_seconds_count{outcome="told"}`) || !strings.Contains(page, `peal_connections_ended_total{reason="client_gone"}`) {
		if time.Now().After(deadline) {
			t.Fatalf("an event was not settled, or a connection has not ended:\n%s", page)
		}
		var err error
		if page, err = get(t.Context(), s.admin+"/metrics"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			families[name] = true
			if kind == "histogram" {
				for _, part := range []string{"_bucket", "_count", "_sum"} {
					families[name+part] = true
				}
			}
		}
	}
	asked := make(map[string][]string)
	for _, r := range readRules(t) {
		for _, name := range named.FindAllString(r.Expr, -1) {
			asked[name] = append(asked[name], r.Alert)
		}
	}
	drawn := make(map[string]bool)
	for _, p := range readDashboard(t) {
		for _, target := range p.Targets {
			for _, name := range named.FindAllString(target.Expr, -1) {
				asked[name] = append(asked[name], p.Title)
				drawn[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
			}
		}
	}
	for name, by := range asked {
		if !families[name] {
			t.Errorf("no process has %s, which is asked for by %s", name, by)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(families)) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(line, "_bucket"), "_count"), "_sum")
		if strings.HasPrefix(line, "peal_") && !drawn[base] {
			t.Errorf("%s is not on the dashboard", line)
		}
	}
	// In what it is measured stands in the name, and what it is in a help of its own.
	for _, line := range strings.Split(page, "\n") {
		if help, ok := strings.CutPrefix(line, "# HELP peal_"); ok {
			if name, text, _ := strings.Cut(help, " "); !strings.HasSuffix(text, ".") {
				t.Errorf("peal_%s: help %q is no sentence", name, text)
			}
		}
	}
}

// exercise has a service do each kind of thing once.
func exercise(t *testing.T, s *service) {
	t.Helper()
	jane, desk := s.tokenOf(t, "jane"), s.tokenOf(t, "desk", "--role", "notifications:publish")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	stream := s.ask(ctx, t, "GET", "/sse/notifications", jane, "", 200)
	defer stream.Close()
	s.ask(t.Context(), t, "POST", "/notification", desk, `{"recipients":["jane"],"notification":{"type":"mention","ticketId":"1","ticketNumber":"INC-1","title":"T","message":"M"}}`, 202).Close()
	s.ask(t.Context(), t, "POST", "/event", desk, `{"id":"e1","type":"comment","actor":{"id":"desk","name":"Desk","avatar":null},"ticket":{"id":"1","number":"INC-1","title":"T","assigneeId":"jane"},"comment":{"id":"c1","text":"T","internal":false}}`, 202).Close()
	s.ask(t.Context(), t, "GET", "/notification/count", jane, "", 200).Close()
	s.ask(t.Context(), t, "GET", "/notification/count", "x"+jane, "", 401).Close()
	buffer := make([]byte, 1)
	if _, err := stream.Read(buffer); err != nil {
		t.Fatal(err)
	}
	leave()
}

// ask sends a request below the API's base for tickets, with further headers, and wants
// a status. It returns the body, which is to be closed.
func (s *service) ask(ctx context.Context, t *testing.T, method, path, token, body string, want int, headers ...string) io.ReadCloser {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+"/api/v2/ticketing/ticket"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Realmname": {realm}, "X-Tenantid": {tenant}, "Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		resp.Body.Close()
		t.Fatalf("%s %s: got %s, want %d", method, path, resp.Status, want)
	}
	return resp.Body
}
