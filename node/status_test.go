package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/node"
)

// status is what a test reads of {admin}/status.json.
type status struct {
	By, Region string
	NATS       bool
	Attention  []struct{ Level, What, See string }
	Totals     struct {
		Processes   int
		Connections float64
		Rates       map[string]float64
	}
	Processes []struct {
		Name, Host, Version, NotReady string
		Self, Silent, Told            bool
		Roles                         []string
		Connections, Counts, Rates    map[string]float64
		Clock                         *float64
		RSS, Goroutines, Descriptors  int64
		NATS                          []struct {
			Purpose, Server string
			Up              bool
		}
	}
	Streams        []statusStream
	Realms         []struct{ Realm string }
	Ended, Refused []statusTally
}

type statusStream struct {
	Name, Lacks string
	Messages    uint64
	MaxBytes    int64
}

type statusTally struct {
	What  string
	Count float64
}

// adminGet asks the admin port and reads the whole answer.
func (s *site) adminGet(path string, edits ...edit) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.admin+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range edits {
		e(r)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if secret := s.secrets.in(string(body)); secret != "" {
		s.t.Errorf("%s has %q", path, secret)
	}
	return resp, string(body)
}

func (s *site) status() (st status) {
	s.t.Helper()
	resp, body := s.adminGet("/status.json")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("%s %s", resp.Status, body)
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// attends finds what needs attention for a reason.
func (st status) attends(see string) (what string) {
	for _, a := range st.Attention {
		if a.See == see {
			return a.What
		}
	}
	return ""
}

// worker is a process that works on events, and answers nobody.
func (s *site) worker() *site {
	s.t.Helper()
	return s.anotherWith(func(c *config) {
		c.node.HealthOnly, c.node.Roles, c.node.Version = true, []string{"dispatch"}, "v2"
	})
}

// Any process shows all of them, whatever they do, and the streams that they stand on:
// as a page, and as JSON.
func TestStatusHasTheWholeCluster(t *testing.T) {
	s := start(t, func(c *config) { c.node.Roles, c.node.Version = []string{"edge"}, "v1"; c.dark = true })
	second, worker := s.another(), s.worker()
	jane := s.connect(s.jane())
	jane.greeting()
	second.connect(second.jane()).greeting()
	second.post(second.publisher(), publication("n1", `"jane"`))
	jane.notification()
	s.do(s.request(t.Context(), "GET", connectPath, user{}, "")) // refused

	var st status
	eventually(t, "three processes", func() bool { st = worker.status(); return len(st.Processes) == 3 })
	if st.Region != "local" || !st.NATS || st.Totals.Processes != 3 || st.Totals.Connections != 2 {
		t.Errorf("got %+v", st)
	}
	roles := map[string]int{}
	for _, p := range st.Processes {
		for _, r := range p.Roles {
			roles[r]++
		}
		if !p.Told || p.Silent || p.Host == "" || p.Goroutines == 0 || p.Clock == nil || len(p.NATS) != 3 || !p.NATS[0].Up || p.Self != (p.Name == st.By) {
			t.Errorf("process %+v", p)
		}
	}
	if roles["edge"] != 1 || roles["dispatch"] != 1 {
		t.Errorf("roles %v", roles)
	}
	for _, name := range []string{"PEAL_EVENT_local", "PEAL_INBOX_local_0", "PEAL_STATE_local_0", "PEAL_DEAD_local", "PEAL_REVOKED"} {
		if !slices.ContainsFunc(st.Streams, func(s statusStream) bool {
			return s.Name == name && s.Lacks == "" && s.MaxBytes > 0 && (name != "PEAL_INBOX_local_0" || s.Messages == 1)
		}) {
			t.Errorf("no good %s in %+v", name, st.Streams)
		}
	}
	if len(st.Realms) != 5 {
		t.Errorf("realms %+v", st.Realms)
	}
	if got := st.attends("A realm has no keys"); !strings.Contains(got, "dark") {
		t.Errorf("of the realm without keys: %q", got)
	}
	if got := st.attends("Versions differ"); !strings.Contains(got, "v1 (1)") || !strings.Contains(got, "v2 (1)") {
		t.Errorf("of versions: %q", got)
	}
	if !slices.ContainsFunc(st.Refused, func(c statusTally) bool {
		return c.What == "UNAUTHENTICATED" && c.Count == 1
	}) {
		t.Errorf("refused %+v", st.Refused)
	}
	_, page := worker.adminGet("/")
	for _, want := range []string{"PEAL_INBOX_local_0", "UNAUTHENTICATED", "of realm dark", "versions differ", "dispatch · pid"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// A process that is killed is missing; one that was told to end is not.
func TestStatusMissesWhoWasKilled(t *testing.T) {
	s := start(t, nil)
	killed, told := s.another(), s.another()
	names := func() (all []string) {
		for _, p := range s.status().Processes {
			all = append(all, p.Name)
		}
		return all
	}
	eventually(t, "three processes", func() bool { return len(names()) == 3 })
	victim, leaver := killed.status().By, told.status().By

	told.stop()
	<-told.served
	eventually(t, "the one that left to be forgotten", func() bool { return !slices.Contains(names(), leaver) })
	if what := s.status().attends("A process is missing"); what != "" {
		t.Errorf("after one has left: %s", what)
	}
	killed.bus.Close() // and so it says nothing any more
	eventually(t, "the killed one to be missed", func() bool { return s.status().attends("A process is missing") != "" })
	for _, p := range s.status().Processes {
		if p.Silent != (p.Name == victim) {
			t.Errorf("silent %v: %s", p.Silent, p.Name)
		}
	}
	if _, page := s.adminGet("/"); !strings.Contains(page, `<span class="bad">missing</span>`) {
		t.Error("the page does not miss it")
	}
}

// Without JetStream the page is there within a second, and says first what is wrong.
func TestStatusWithoutJetStream(t *testing.T) {
	s := start(t, nil)
	s.status()
	s.nats.Close()
	eventually(t, "the loss to be noticed", func() bool { return !s.bus.Connected() })
	began := time.Now()
	_, page := s.adminGet("/")
	if took := time.Since(began); took > 2*time.Second { // for which a stream's leader would be waited for
		t.Errorf("the page took %v", took)
	}
	if first := regexp.MustCompile(`(?s)<li class="\w+">.*?</li>`).FindString(page); !strings.Contains(first, "NATS is away from here since") {
		t.Fatalf("first is %q", first)
	}
	st := s.status()
	if st.NATS || len(st.Processes) != 1 || !st.Processes[0].Self || st.Processes[0].Goroutines == 0 {
		t.Errorf("got %+v, want its own numbers", st)
	}
	if !slices.ContainsFunc(st.Streams, func(s statusStream) bool {
		return s.Name == "PEAL_INBOX_local_0" && s.MaxBytes > 0
	}) {
		t.Errorf("what was known of streams is gone: %+v", st.Streams)
	}
}

// fake is a process that answers roll calls with what a test says.
func (s *site) fake(name, answer string) *atomic.Int64 {
	s.t.Helper()
	b := bustest.Open(s.t, s.nats, nil)
	asked := new(atomic.Int64)
	if _, err := b.AnswerRoll(name, func() []byte { asked.Add(1); return []byte(answer) }); err != nil {
		s.t.Fatal(err)
	}
	return asked
}

// What other processes say of themselves is text, whatever they say, and not endless.
func TestStatusOfHostileProcesses(t *testing.T) {
	s := start(t, nil)
	const evil = `<script>alert(1)</script>" onload="x`
	long := strings.Repeat("long", 1000)
	told, err := json.Marshal(map[string]any{
		"v": 1, "now": "2020-01-01T00:00:00Z", "host": evil, "version": evil + long, "roles": []string{evil}, "notReady": evil, "full": evil, "listen": evil,
		"counts": map[string]float64{"ended/" + evil: 7, "delivered": -5, "refused/" + long: 1}, "connections": map[string]float64{"notifications": 3, "a": 1e308, "b": 1e308},
		"nats": []map[string]any{{"purpose": evil, "up": false, "server": evil}}, "lost": []map[string]any{{"what": evil}},
		"realms": map[string]any{"without": []string{evil}}, "waiting": map[string]any{"events": 1, "partitions": make([]int, 1000)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.fake(evil, string(told))
	s.fake("of another form", `{"v":99,"host":"x"}`)
	s.fake("no JSON", `<script>`)
	eventually(t, "the processes", func() bool { return len(s.status().Processes) == 4 })

	_, page := s.adminGet("/")
	events := s.statusEvents(t.Context())
	for what, html := range map[string]string{"page": page, "event": <-events} {
		if strings.Contains(html, "<script>alert") || strings.Contains(html, `" onload=`) {
			t.Errorf("the %s has what was not written by us", what)
		}
		if !strings.Contains(html, "&lt;script&gt;alert(1)") || strings.Contains(html, long) {
			t.Errorf("the %s does not show it, or shows it whole", what)
		}
		if !strings.Contains(html, "unknown form") {
			t.Errorf("the %s does not show who speaks another form", what)
		}
	}
	st := s.status()
	if got := st.attends("A clock is wrong"); !strings.Contains(got, "behind") {
		t.Errorf("of the clock: %q", got)
	}
	for _, p := range st.Processes {
		if p.Counts["delivered"] < 0 || len(p.Version) > 300 {
			t.Errorf("process %+v", p)
		}
	}
}

// statusEvents follows the page; each event is the part that changes.
func (s *site) statusEvents(ctx context.Context) <-chan string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", s.admin+"/status/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	events := make(chan string)
	go func() {
		defer close(events)
		lines := bufio.NewScanner(resp.Body)
		for lines.Buffer(nil, 1<<20); lines.Scan(); {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var html string
			if !ok || json.Unmarshal([]byte(data), &html) != nil {
				continue
			}
			select {
			case events <- html:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events
}

// Who has the page open is told what changes; however many look, the cluster is asked
// once in two seconds, and not at all when nobody does.
func TestStatusIsLiveForAllWhoLook(t *testing.T) {
	s := start(t, nil)
	asked := s.fake("counts", `{"v":1,"now":"2026-01-01T00:00:00Z","host":"counts"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var viewers []<-chan string
	for range 5 {
		viewers = append(viewers, s.statusEvents(ctx))
	}
	for _, v := range viewers {
		if html := <-v; !strings.Contains(html, `<dt>Connections</dt><dd>0</dd>`) {
			t.Errorf("the first event: %s", html)
		}
	}
	s.connect(s.jane()).greeting()
	began, before := time.Now(), asked.Load()
	for rounds, v := range viewers {
		for html := range v {
			if strings.Contains(html, `<dt>Connections</dt><dd>1</dd>`) {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("viewer %d is not told of the connection", rounds)
			}
		}
	}
	if most := int64(time.Since(began)/(2*time.Second)) + 2; asked.Load()-before > most {
		t.Errorf("asked %d times in %v by 5 viewers, want %d at most", asked.Load()-before, time.Since(began), most)
	}
	cancel()
	for _, v := range viewers {
		for range v {
		}
	}
	eventually(t, "the last to have looked away", func() bool { n := asked.Load(); time.Sleep(2500 * time.Millisecond); return asked.Load() == n })
}

// So many may have the page open; one more is refused, and has a place when one leaves.
func TestStatusViewersAreBounded(t *testing.T) {
	s := start(t, nil)
	var last context.CancelFunc
	for range 32 {
		var ctx context.Context
		ctx, last = context.WithCancel(t.Context())
		defer last()
		<-s.statusEvents(ctx)
	}
	resp, body := s.adminGet("/status/events")
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "So many look") {
		t.Errorf("the 33rd: %s %s", resp.Status, body)
	}
	if resp, _ := s.adminGet("/"); resp.StatusCode != http.StatusOK {
		t.Errorf("the page itself: %s", resp.Status)
	}
	last()
	eventually(t, "a place", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", s.admin+"/status/events", nil)
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// The page brings everything along, and a browser lets nothing else run or load.
func TestStatusPageHasAPolicy(t *testing.T) {
	s := start(t, nil)
	nonces := make(map[string]bool)
	for range 2 {
		resp, page := s.adminGet("/")
		policy := resp.Header.Get("Content-Security-Policy")
		m := regexp.MustCompile(`^default-src 'none'; style-src 'nonce-(\w{20,})'; script-src 'nonce-(\w{20,})'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`).FindStringSubmatch(policy)
		if m == nil || m[1] != m[2] || nonces[m[1]] {
			t.Fatalf("policy %q", policy)
		}
		nonces[m[1]] = true
		for _, want := range []string{`<style nonce="` + m[1] + `">`, `<script nonce="` + m[1] + `">`} {
			if strings.Count(page, want) != 1 {
				t.Errorf("%s is there %d times", want, strings.Count(page, want))
			}
		}
		if n := strings.Count(page, "<script") + strings.Count(page, "<style"); n != 2 {
			t.Errorf("%d scripts and styles", n)
		}
		if found := regexp.MustCompile(`(?i)<[^>]* (src|on\w+|style)=|@import|url\(|ZgotmplZ`).FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
		for name, want := range map[string]string{"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

// A page in the operator's browser reaches nothing on the admin port, whatever name it
// has point there; what looks after the process does, by any.
func TestAdminPortIsNotForPages(t *testing.T) {
	s := start(t, nil)
	host := func(h string) edit { return func(r *http.Request) { r.Host = h } }
	guarded := []string{"/", "/status.json", "/dead", "/debug/pprof/heap", "/nothing"}
	open := []string{"/livez", "/readyz", "/metrics"}
	for _, row := range []struct {
		name    string
		edits   []edit
		refused bool
	}{
		{"by address", nil, false},
		{"by IPv6", []edit{host("[::1]:8081")}, false},
		{"as localhost", []edit{host("LOCALHOST:8081")}, false},
		{"below localhost", []edit{host("peal.localhost")}, false},
		{"by the name of a service", []edit{host("peal-admin:8081")}, false},
		{"by a name of the cluster", []edit{host("peal-0.peal.prod.svc.cluster.local:8081")}, false},
		{"by a service's short name", []edit{host("peal.prod.svc:8081")}, false},
		{"by a private name", []edit{host("peal.corp.internal.")}, false},
		{"by a program, with any name", []edit{host("peal.example.com"), header(node.HeaderTool, "peal")}, false},
		{"typed", []edit{header("Sec-Fetch-Site", "none"), header("Sec-Fetch-Mode", "navigate"), header("Sec-Fetch-Dest", "document")}, false},
		{"by a link elsewhere", []edit{header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "navigate"), header("Sec-Fetch-Dest", "document")}, false},
		{"by the page itself", []edit{header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Mode", "cors"), header("Sec-Fetch-Dest", "empty")}, false},

		{"by a name that was pointed here", []edit{host("evil.example:8081")}, true},
		{"by a name that ends like one of ours", []edit{host("evillocal")}, false}, // without a dot: nobody outside has it
		{"by a name that begins like an address", []edit{host("127.0.0.1.evil.example")}, true},
		{"by a name that begins like one of ours", []edit{host("localhost.evil.example")}, true},
		{"by a name that has one of ours inside", []edit{host("peal.internal.evil.example")}, true},
		{"by a page of another origin", []edit{header("Origin", "https://evil.example")}, true},
		{"by a page of another port", []edit{header("Sec-Fetch-Site", "same-site"), header("Sec-Fetch-Mode", "no-cors"), header("Sec-Fetch-Dest", "image")}, true},
		{"as an image", []edit{header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "no-cors"), header("Sec-Fetch-Dest", "image")}, true},
		{"in a frame", []edit{header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "navigate"), header("Sec-Fetch-Dest", "iframe")}, true},
	} {
		for _, path := range guarded {
			want := http.StatusOK
			if path == "/nothing" {
				want = http.StatusNotFound
			}
			if row.refused {
				want = http.StatusForbidden
			}
			if resp, body := s.adminGet(path, row.edits...); resp.StatusCode != want {
				t.Errorf("%s: %s: %s, want %d: %.200s", row.name, path, resp.Status, want, body)
			}
		}
		for _, path := range open {
			if resp, body := s.adminGet(path, row.edits...); resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s: %s %.200s", row.name, path, resp.Status, body)
			}
		}
	}
	// A call that changes something is no different.
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.admin+"/revoke", strings.NewReader(fmt.Sprintf(`{"tenant":%q}`, acme)))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	r.Header.Set("Content-Type", "application/json")
	if a := s.do(r); a.status != http.StatusForbidden {
		t.Errorf("POST /revoke: %d %s", a.status, a.body)
	}
}
