package node_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// responseEvents reads the head of a response from a socket, then events. The
// body ends with the socket: to close it would read it to its end.
func responseEvents(t testing.TB, c net.Conn) *sse.Reader {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return sse.NewReader(resp.Body)
}

func (s *site) get(url string) (status int, body string) {
	s.t.Helper()
	resp, err := s.client.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHealth(t *testing.T) {
	s := start(t, func(c *config) { c.node.AwayPatience = time.Millisecond })
	for _, base := range []string{s.url, s.admin} {
		for _, path := range []string{"/livez", "/readyz"} {
			if status, body := s.get(base + path); status != 200 || body != "ok\n" {
				t.Errorf("%s: got %d %q, want 200 ok", path, status, body)
			}
		}
	}
	s.nats.Close()
	eventually(t, "the loss of NATS", func() bool { status, _ := s.get(s.url + "/readyz"); return status == 503 })
	if status, body := s.get(s.admin + "/readyz"); status != 503 || body != "NATS is away\n" {
		t.Errorf("readyz: got %d %q, want 503", status, body)
	}
	if status, _ := s.get(s.url + "/livez"); status != 200 {
		t.Errorf("livez: got %d, want 200", status)
	}
}

// A server of NATS that is started again takes no node out of service, though
// nobody is let in for want of revocations meanwhile: else a proxy would answer
// for all of them, and no browser would come back.
func TestReadinessOutlastsTheSightOfRevocations(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.node.AwayPatience = time.Hour })
	s.connect(s.jane()).greeting() // it has seen them
	s.nats.Close()
	eventually(t, "the node to let nobody in", s.node.Blind)
	wantProblem(t, s.do(s.request(t.Context(), "GET", connectPath, s.jane(), "")), 503, "UNAVAILABLE", "")
	if status, body := s.get(s.url + "/readyz"); status != 200 {
		t.Errorf("readyz: got %d %q, want 200", status, body)
	}
}

func TestConnectionsOutliveTheLossOfNATS(t *testing.T) {
	s := start(t, func(c *config) { c.node.Heartbeat, c.node.AwayPatience = time.Second, time.Millisecond })
	c := s.connect(s.jane())
	c.greeting()
	s.nats.Close()
	eventually(t, "the loss of NATS", func() bool { status, _ := s.get(s.url + "/readyz"); return status == 503 })
	c.next(sse.Heartbeat)
	c.next(sse.Heartbeat)
}

var sample = regexp.MustCompile(`^([a-z_]+)(\{([a-z]+="[^"]*",?)*\})? ([0-9.e+-]+|NaN|\+Inf)$`)

func TestMetrics(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.jane())
	c.greeting()
	s.post(s.publisher(), publication("n1", `"jane"`, `"joe"`))
	c.notification()
	s.do(s.request(context.Background(), "GET", connectPath, user{}, ""))

	status, page := s.get(s.admin + "/metrics")
	if status != 200 {
		t.Fatalf("got %d", status)
	}
	help, kind := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.SplitN(line, " ", 4)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			help[f[2]] = len(f) == 4 && f[3] != ""
		case strings.HasPrefix(line, "# TYPE "):
			kind[f[2]] = f[3]
		default:
			if m := sample.FindStringSubmatch(line); m == nil && !strings.HasPrefix(line, "go_") {
				t.Errorf("not a sample: %s", line)
			}
		}
	}
	if len(kind) < 20 {
		t.Errorf("got %d metrics, want more", len(kind))
	}
	for name, k := range kind {
		if !strings.HasPrefix(name, "peal_") {
			continue
		}
		if !help[name] {
			t.Errorf("%s has no help", name)
		}
		switch {
		case k == "counter" && !strings.HasSuffix(name, "_total"):
			t.Errorf("counter %s does not end in _total", name)
		case k == "histogram" && !strings.HasSuffix(name, "_seconds"):
			t.Errorf("histogram %s does not name its unit", name)
		}
	}
	for series, want := range map[string]float64{
		"peal_connections": 1, "peal_connections_opened_total": 1, "peal_notifications_delivered_total": 1,
		"peal_notifications_stored_total": 2, "peal_inboxes_followed": 1, "peal_nats_connected": 1,
		`peal_requests_refused_total{code="UNAUTHENTICATED",reason=""}`: 1, "peal_publish_duration_seconds_count": 1,
	} {
		if got := s.metric(series); got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
}

func TestAdminPort(t *testing.T) {
	s := start(t, nil)
	// A command line may have a password in it: --nats nats://user:password@host.
	for path, want := range map[string]int{"/debug/pprof/cmdline": 404, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, connectPath: 404, publishPath: 404} {
		if status, _ := s.get(s.admin + path); status != want {
			t.Errorf("%s: got %d, want %d", path, status, want)
		}
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	s := start(t, nil)
	if status, body := s.get(s.url + "/openapi.yaml"); status != 200 || !strings.HasPrefix(body, "openapi: 3.1") {
		t.Errorf("got %d %.40q", status, body)
	}
}

func TestMountedHandlersAreServed(t *testing.T) {
	say := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) })
	}
	s := start(t, func(c *config) {
		c.node.Mount = map[string]http.Handler{"/demo/": say("demo"), "/demo/deeper/": say("deeper"), "/": say("root"), "/livez": say("wrong")}
	})
	for path, want := range map[string]string{"/demo/x": "demo", "/demo/deeper/x": "deeper", "/other": "root", "/livez": "ok\n"} {
		if _, body := s.get(s.url + path); body != want {
			t.Errorf("%s: got %q, want %q", path, body, want)
		}
	}
}

func TestDrainLetsGoEvenly(t *testing.T) {
	const window, conns = 2 * time.Second, 8
	everyProtocol(t, func(c *config) { c.node.DrainWindow = window }, func(t *testing.T, s *site, client *http.Client) {
		eventually(t, "the probe to be gone", func() bool { return s.metric("peal_connections") == 0 })
		var open []*connection
		for i := range conns {
			c := s.connectBy(client, s.user("acme", acme, fmt.Sprint("user-", i)))
			c.greeting()
			open = append(open, c)
		}
		began := time.Now()
		s.stop()
		eventually(t, "not ready", func() bool { status, _ := s.get(s.admin + "/readyz"); return status == 503 })
		if d := time.Since(began); d > window {
			t.Errorf("not ready after %v, want at once", d)
		}

		ends := make(chan time.Duration, conns)
		var reading sync.WaitGroup
		for _, c := range open {
			reading.Go(func() {
				c.aborted("DRAINING")
				ends <- time.Since(began)
			})
		}
		first := <-ends
		wantProblem(t, s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "")), 503, "UNAVAILABLE", "")
		p := s.post(s.publisher(), publication("meanwhile", `"jane"`)) // publishing goes on
		if p.Stored != 1 {
			t.Errorf("got %+v, want 1 stored", p)
		}
		reading.Wait()
		last := first
		for range conns - 1 {
			last = <-ends
		}
		if first > window/2 || last < window/2 || last > window+time.Second {
			t.Errorf("the first ended after %v, the last after %v; want them spread over %v", first, last, window)
		}
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if d := time.Since(began); d > window+2*time.Second {
			t.Errorf("Serve returned after %v", d)
		}
	})
}

func TestDrainServesOnForTheDelay(t *testing.T) {
	s := start(t, func(c *config) { c.node.DrainDelay = time.Minute })
	c := s.connect(s.jane())
	c.greeting()
	s.stop()
	eventually(t, "not ready", func() bool { status, _ := s.get(s.url + "/readyz"); return status == 503 })
	late := s.connect(s.jane()) // as before
	late.greeting()
	s.store(inbox("jane"), note("n1"))
	for _, c := range []*connection{c, late} {
		if got := c.notification(); got != "n1" {
			t.Errorf("got %s, want n1", got)
		}
	}
	began := time.Now()
	s.now()
	c.aborted("DRAINING")
	late.aborted("DRAINING")
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("Serve returned %v after the second signal, want soon", d)
	}
}

// A publication that is arriving when the last connection has gone is stored and
// answered.
func TestDrainFinishesTheCallsUnderWay(t *testing.T) {
	s := start(t, nil)
	addr := strings.TrimPrefix(s.url, "http://")
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	u, body := s.publisher(), publication("n1", `"jane"`)
	fmt.Fprintf(raw, "POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Authorization: Bearer %s\r\nrealmname: %s\r\nx-tenantid: %s\r\n\r\n", publishPath, len(body), u.token, u.realm, u.tenant)
	in := bufio.NewReader(raw)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // the body is being read
		t.Fatalf("got %q and %v, want 100 Continue", line, err)
	}
	s.stop()
	eventually(t, "the port to be closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	io.WriteString(raw, body)
	in.ReadString('\n') // the blank line of the 100
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("got %d, want 202", resp.StatusCode)
	}
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	s := start(t, nil)
	n := node.New(node.Config{}, nil, s.bus)
	l := node.Listeners{Public: listen(t), Admin: listen(t)}
	l.Admin.Close()
	if err := n.Serve(context.Background(), context.Background(), l); err == nil {
		t.Error("got nil, want the listener's error")
	}
}
