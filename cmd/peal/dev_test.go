package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// startDev runs peal dev on ports of its own choice.
func startDev(t *testing.T, data string, args ...string) *process {
	t.Helper()
	return startReady(t, append([]string{"dev", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
}

// What a visitor does first: peal dev, peal tail beside it, peal publish.
func TestEveryTypeArrivesOnceAndInOrder(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	if dev.ready.Data != data || dev.ready.NATS != "" || dev.ready.Version != version ||
		!strings.HasPrefix(dev.ready.URL, "http://localhost:") || !strings.HasPrefix(dev.ready.Admin, "http://localhost:") {
		t.Errorf("ready line %+v", dev.ready)
	}
	tail := start(t, "tail", "--data", data, "--user", "jane", "--json")
	awaitConnections(t, dev.ready.Admin, 1)

	for _, typ := range peal.Types() {
		got := do(t, nil, "publish", "--data", data, "--to", "jane", "--to", "joe", "--type", string(typ), "--id", "id-"+string(typ))
		want := fmt.Sprintf("{\"id\":\"id-%s\",\"stored\":2,\"duplicates\":0}\n", typ)
		if got.status != 0 || got.stdout != want {
			t.Fatalf("publish %s: %+v, want %s", typ, got, want)
		}
	}
	for _, typ := range peal.Types() {
		line, err := tail.out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("tail ended: %v\n%s", err, tail.log)
		}
		var n peal.Notification
		if err := json.Unmarshal(line, &n); err != nil {
			t.Fatal(err)
		}
		want := peal.Notification{
			ID: "id-" + string(typ), Type: typ, TicketID: "12345", TicketNumber: "INC-2024-001234", Title: "VPN Connection Issue",
			Message: string(typ) + ": INC-2024-001234", CreatedAt: n.CreatedAt,
		}.WithDefaults(time.Now())
		if diff := cmp.Diff(want, n); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", typ, diff)
		}
		if age := time.Since(n.CreatedAt.Time); age < 0 || age > time.Minute {
			t.Errorf("%s was created %v ago", typ, age)
		}
	}
	if status := tail.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("tail: exit status %d after SIGTERM, want 0", status)
	}
	if status := dev.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("dev: exit status %d after SIGTERM, want 0\n%s", status, dev.log)
	}
}

// awaitConnections waits until so many connections are open.
func awaitConnections(t *testing.T, admin string, want int) {
	t.Helper()
	awaitMetric(t, admin, "peal_connections", want)
}

// awaitMetric waits until a metric of a process has a value.
func awaitMetric(t *testing.T, admin, name string, want int) {
	t.Helper()
	line := fmt.Sprintf("\n%s %d\n", name, want)
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		resp, err := http.Get(admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if bytes.Contains(body, []byte(line)) {
			return
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
	t.Fatalf("%s was never %d", name, want)
}

// The lines that dev prints work as they are.
func TestWelcomeLinesWork(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here", tool)
		}
	}
	data := t.TempDir()
	dev := start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	var follow, tell string
	for follow == "" || tell == "" {
		line, err := dev.out.ReadString('\n')
		if err != nil {
			t.Fatalf("dev ended: %v\n%s", err, dev.log)
		}
		switch {
		case strings.HasPrefix(line, "curl -N "):
			follow = line
		case strings.HasPrefix(line, "curl "):
			tell = line
		}
	}
	shell := func(line string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), "bash", "-c", "exec "+strings.Replace(line, "curl", "curl -sS --max-time 20", 1))
		c.Env = append(os.Environ(), "PEAL_TEST_AS_BINARY=1") // the binary in the lines is this one
		return c
	}
	stream := shell(follow)
	out, err := stream.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	defer stream.Wait()
	defer stream.Process.Kill()
	events := sse.NewReader(out)
	if e, err := events.Next(); err != nil || e.Name != sse.Connected {
		t.Fatalf("first event %+v, %v", e, err)
	}
	answer, err := shell(tell).Output()
	if err != nil || !strings.Contains(string(answer), `"stored":1`) {
		t.Fatalf("publish: %s, %v", answer, err)
	}
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Name == sse.Notification {
			break
		}
	}
}

// Nothing that was acknowledged is lost, however often the process is killed
// and whatever the client was doing.
func TestKilledProcessLosesNothing(t *testing.T) {
	const total, kills = 1000, 5
	data := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String() // the same after each kill
	l.Close()
	args := []string{"dev", "--data", data, "--listen", address, "--admin", "127.0.0.1:0", "--config", perInbox(t, 2*total)}
	dev := startReady(t, args...)
	url := dev.ready.URL + node.Base

	target := &target{data: data, realm: realmAcme, tenant: string(tenantAcme), user: "desk", roles: []string{rolePublish}, url: dev.ready.URL}
	reader := &client{t: t, url: url, target: *target}
	reader.target.user, reader.target.roles = "jane", nil

	var acknowledged progress
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { reader.follow(ctx, total) })
	reader.connected.await(ctx, t, 1) // from here on everything is for it
	work.Go(func() { publishAll(ctx, t, target, total, &acknowledged) })

	for kill := range kills {
		acknowledged.await(ctx, t, (kill+1)*total/(kills+1))
		dev.stop(os.Kill)
		dev = startReady(t, args...)
	}
	work.Wait()

	var want []string
	for i := range total {
		want = append(want, fmt.Sprintf("n%d", i))
	}
	if diff := cmp.Diff(want, reader.received); diff != "" {
		t.Fatalf("received over %d connections (-want +got):\n%s", reader.connections, diff)
	}
	t.Logf("%d notifications over %d connections and %d kills", total, reader.connections, kills)
}

func perInbox(t *testing.T, n int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "peal.yaml")
	if err := os.WriteFile(name, fmt.Appendf(nil, "per-inbox: %d\n", n), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// progress counts, and wakes who waits for a number.
type progress struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

func (p *progress) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *progress) await(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for {
		p.mu.Lock()
		if p.n >= n {
			p.mu.Unlock()
			return
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("only %d of %d", p.n, n)
		}
	}
}

// publishAll publishes n0, n1, … to jane, one after the other, each until it is
// acknowledged: what a publisher does that must not lose one.
func publishAll(ctx context.Context, t *testing.T, target *target, total int, acknowledged *progress) {
	for i := range total {
		for {
			if err := publishOne(ctx, target, fmt.Sprintf("n%d", i)); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				t.Errorf("n%d was never acknowledged", i)
				return
			case <-time.After(20 * time.Millisecond): // a publisher's back-off
			}
		}
		acknowledged.add()
	}
}

func publishOne(ctx context.Context, target *target, id string) error {
	header, err := target.minted(ctx)
	if err != nil {
		return err
	}
	n := peal.Notification{ID: id, Type: peal.Mention, TicketID: "1", TicketNumber: "INC-1", Title: "t", Message: "m"}
	var answer struct{ Stored, Duplicates int }
	if err := target.post(ctx, header, "/ticket/notification", map[string]any{"recipients": []string{"jane"}, "notification": given(n)}, &answer); err != nil {
		return err
	}
	if answer.Stored+answer.Duplicates != 1 {
		return fmt.Errorf("answer %+v", answer)
	}
	return nil
}

// client reads connection after connection, each cut off after some events,
// and resumes with the last id it has seen.
type client struct {
	t           *testing.T
	url         string
	target      target
	cursor      string
	received    []string
	connections int
	connected   progress
}

// perConnection is how many notifications the client takes before it goes away:
// 1,000 take at least 50 connections.
const perConnection = 20

func (c *client) follow(ctx context.Context, total int) {
	for len(c.received) < total {
		if err := c.connect(ctx, total); err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			c.t.Errorf("received %d of %d", len(c.received), total)
			return
		case <-time.After(20 * time.Millisecond): // the server is being started again
		}
	}
}

func (c *client) connect(ctx context.Context, total int) error {
	header, err := c.target.minted(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/ticket/sse/notifications", nil)
	if err != nil {
		return err
	}
	req.Header = header
	if c.cursor != "" {
		req.Header.Set("Last-Event-Id", c.cursor)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	c.connections++
	events := sse.NewReader(resp.Body)
	for n := 0; n < perConnection && len(c.received) < total; {
		e, err := events.Next()
		if err != nil {
			return err
		}
		if e.ID != "" {
			c.cursor = e.ID
		}
		switch e.Name {
		case sse.Connected:
			c.connected.add()
		case sse.Gap:
			c.t.Errorf("gap after %d: %s", len(c.received), e.Data)
		case sse.Notification:
			var got peal.Notification
			if err := json.Unmarshal(e.Data, &got); err != nil {
				c.t.Error(err)
			}
			c.received = append(c.received, got.ID)
			n++
		}
	}
	return nil
}

// A realms file of dev is one for serve, whose tokens are then dev's.
func TestServeTakesTheRealmsOfDev(t *testing.T) {
	data, other := t.TempDir(), t.TempDir()
	dev := startDev(t, data)
	realms := filepath.Join(other, "realms.yaml")
	printed := do(t, nil, "dev", "--print-realms", "--data", data)
	if printed.status != 0 {
		t.Fatalf("%+v", printed)
	}
	if err := os.WriteFile(realms, []byte(printed.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, "config", "check", "--realms", realms, "--data", other); got.status != 0 {
		t.Fatalf("config check: %+v", got)
	}
	file := filepath.Join(other, "peal.yaml")
	if err := os.WriteFile(file, []byte("cors-origins: [https://app.example]\ncookie-sessions: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := startReady(t, "serve", "--config", file, "--realms", realms, "--data", other, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s",
		"--nats-listen", "127.0.0.1:0", "--log-format", "json")
	if !strings.HasPrefix(serve.ready.NATS, "nats://127.0.0.1:") {
		t.Errorf("ready line %+v, want the address of NATS", serve.ready)
	}
	wantShared(t, dev, "http://localhost:3000", "https://app.example", 404)
	wantShared(t, serve, "https://app.example", "http://localhost:3000", 204)
	for _, user := range []struct{ realm, tenant string }{
		{realmAcme, string(tenantShared)}, {realmGlobex, string(tenantShared)}, {realmGlobex, string(tenantGlobex)},
	} {
		token := do(t, nil, "token", "--data", data, "--realm", user.realm, "--tenant", user.tenant, "--user", "desk", "--role", rolePublish)
		if token.status != 0 || strings.Count(token.stdout, ".") != 2 || strings.Count(token.stdout, "\n") != 1 {
			t.Fatalf("token: %+v", token)
		}
		env := map[string]string{"PEAL_TOKEN": strings.TrimSpace(token.stdout)}
		got := do(t, env, "publish", "--url", serve.ready.URL, "--realm", user.realm, "--tenant", user.tenant, "--to", "jane")
		if got.status != 0 || !strings.Contains(got.stdout, `"stored":1`) {
			t.Errorf("publish as %+v: %+v", user, got)
		}
		got = do(t, env, "publish", "--url", serve.ready.URL, "--realm", user.realm, "--tenant", string(tenantAcme), "--to", "jane")
		if got.status != 1 || !strings.Contains(got.stderr, "FORBIDDEN") {
			t.Errorf("publish as %+v into another tenant: %+v, want it refused", user, got)
		}
	}
	if status := serve.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("serve: exit status %d after SIGTERM, want 0\n%s", status, serve.log)
	}
	for line := range strings.Lines(serve.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line is not JSON: %s", line)
		}
	}
}

// wantShared wants a service to be there for the pages of one origin and not of
// another, and the session path to answer.
func wantShared(t *testing.T, p *process, with, without string, session int) {
	t.Helper()
	for _, origin := range []string{with, without} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.ready.URL+node.Base+"/ticket/sse/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if shared := resp.Header.Get("Access-Control-Allow-Origin"); shared != "" && shared != origin || (shared == origin) != (origin == with) {
			t.Errorf("%s: shared with %q", origin, shared)
		}
		if origin == with && resp.StatusCode != session {
			t.Errorf("%s: got %d, want %d", origin, resp.StatusCode, session)
		}
	}
}

// Two processes on one data directory would destroy it.
func TestDataDirectoryIsOfOneProcess(t *testing.T) {
	data := t.TempDir()
	startDev(t, data)
	second := start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	io.Copy(io.Discard, second.out)
	if status := second.stop(syscall.SIGTERM); status != 1 || !strings.Contains(second.log.String(), "in use") {
		t.Fatalf("exit status %d, %s", status, second.log)
	}
}

// The page's tokens are for this machine only.
func TestDemoSignsInOnlyFromHere(t *testing.T) {
	tokens, err := openIssuer(t.TempDir(), "http://localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	h := demo(tokens, nil)
	for _, tt := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1:1", "localhost:8080", 200},
		{"[::1]:1", "[::1]:8080", 200},
		{"127.0.0.1:1", "127.0.0.1", 200},
		{"127.0.0.1:1", "rebound.example:8080", 403},
		{"127.0.0.1:1", "localhost.example", 403},
		{"192.0.2.1:1", "localhost:8080", 403},
		{"192.0.2.1:1", "192.0.2.2:8080", 403},
	} {
		r, err := http.NewRequest(http.MethodGet, "/demo/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr, r.Host = tt.from, tt.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want || (tt.want != 200 && strings.Contains(w.Body.String(), "eyJ")) {
			t.Errorf("from %s to %s: %d %s, want %d", tt.from, tt.host, w.Code, w.Body.String(), tt.want)
		}
	}
	for path, want := range map[string]string{
		"/demo/": "text/html; charset=utf-8", "/demo/demo.js": "text/javascript; charset=utf-8", "/demo/demo.css": "text/css; charset=utf-8",
		"/demo/device.html": "text/html; charset=utf-8", "/demo/peal-bell.js": "text/javascript; charset=utf-8",
	} {
		r, _ := http.NewRequest(http.MethodGet, path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || w.Header().Get("Content-Type") != want || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}
