package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// site is two nodes of a region behind a proxy.
type site struct {
	t      *testing.T
	issuer *service // and the JetStream of both
	nodes  [2]*service
	plain  string // URL of the proxy, and by TLS
	secure string
	ca     string // file
	client *http.Client
	log    *bytes.Buffer // of the proxy

	// By HTTP/2 the proxy may make a clean end of an abort, after which some libraries never
	// come back: HAProxy 2.6 does, and 3.2 does not. docs/reverse-proxies.md says so.
	cleans bool
}

// Where the configurations name a node.
var places = [2]string{"peal-1:8080", "peal-2:8080"}

const pageOrigin = "https://desk.example.com"

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, issuer: startService(t, "dev", "--nats-listen", "127.0.0.1:0")}
	realms, err := exec.CommandContext(t.Context(), *binary, "dev", "--print-realms", "--data", s.issuer.data).Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "realms.yaml")
	if err := os.WriteFile(file, realms, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range s.nodes {
		// The drain delay is the default: the checks of the proxy have to fit it.
		n := &service{data: s.issuer.data, place: []string{"--nats", s.issuer.nats}, args: []string{"serve", "--realms", file},
			env: []string{"PEAL_DRAIN_DELAY=5s", "PEAL_REPLICAS=1", "PEAL_CORS_ORIGINS=" + pageOrigin}}
		n.open(t)
		s.nodes[i] = n
	}
	return s
}

// behind makes the address of each node of the configuration of a proxy, and its own
// ports, those of this test, and takes its lines for TLS in. Each thing to change has to
// be there as often as it says.
func (s *site) behind(file string, changes []change) (config string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../deploy/proxies", file))
	if err != nil {
		s.t.Fatal(err)
	}
	config = string(b)
	for i, n := range s.nodes {
		changes = append(changes, change{places[i], strings.TrimPrefix(n.url, "http://"), -1})
	}
	for _, c := range changes {
		if n := strings.Count(config, c.old); n == 0 || c.times > 0 && n != c.times {
			s.t.Fatalf("%s has %q %d times, want %d", file, c.old, n, c.times)
		}
		config = strings.ReplaceAll(config, c.old, c.new)
	}
	return config
}

// change is made to a configuration; -1 times is any number.
type change struct {
	old, new string
	times    int
}

// run runs the proxy until the test ends, and returns once it answers.
func (s *site) run(name string, args ...string) {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.t.Fatalf("please install it, in a folder of PATH (Debian's /usr/sbin), or name it by -args -nginx or -haproxy FILE: %v", err)
	}
	s.log = new(bytes.Buffer)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // its workers with it
		<-ended
		if s.t.Failed() {
			all := s.log.String()
			s.t.Logf("%s has logged, at the end:\n%s", name, all[max(0, len(all)-2000):])
		}
	})
	tick, late := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			s.t.Fatalf("%s: %v", name, err)
		case <-late:
			s.t.Fatalf("%s does not answer", name)
		case <-tick.C:
		}
		if resp, err := s.client.Get(s.secure + "/"); err == nil {
			resp.Body.Close()
			return
		}
	}
}

// certify makes a certificate for this machine, in files, and a client that trusts it.
func (s *site) certify() (chain, key string) {
	s.t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, secret.Public(), secret)
	if err != nil {
		s.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	chain, key = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	pool.AddCert(cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableCompression: true}
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s.t.Cleanup(transport.CloseIdleConnections)
	s.ca = chain
	return chain, key
}

// freeAddress is one of this machine that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ports chooses the ports of the proxy.
func (s *site) ports() (plain, secure string) {
	plain, secure = freeAddress(s.t), freeAddress(s.t)
	_, port, _ := net.SplitHostPort(secure)
	s.plain, s.secure = "http://"+plain, "https://localhost:"+port
	return plain, secure
}

// nginx from its package, with deploy/proxies/nginx.conf.
func TestNginx(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	chain, key := s.certify()
	plain, secure := s.ports()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "peal.conf"), []byte(s.behind("nginx.conf", []change{
		{"listen 80 ", "listen " + plain + " ", 1},
		{"# listen 443 ", "listen " + secure + " ", 1},
		{"# ssl_certificate ", "ssl_certificate ", 1},
		{"# ssl_certificate_key ", "ssl_certificate_key ", 1},
		{"/etc/peal/tls.pem", chain, 1},
		{"/etc/peal/tls.key", key, 1},
	})), 0o600); err != nil {
		t.Fatal(err)
	}
	// What is around it is the worst for event streams that somebody may have there.
	around := fmt.Sprintf(`
daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 1024; }
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	gzip on;
	gzip_types *;
	gzip_min_length 0;
	proxy_ignore_headers X-Accel-Buffering;
	include %[1]s/peal.conf;
}
`, dir)
	if os.Geteuid() == 0 {
		around = "user root;" + around // the folder is ours
	}
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(around), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(*nginx, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	s.everything()
}

// HAProxy from its package, with deploy/proxies/haproxy.cfg.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cleans = true
	chain, key := s.certify()
	plain, secure := s.ports()
	var both []byte
	for _, file := range []string{chain, key} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"tls-and-key.pem": string(both),
		"haproxy.cfg": s.behind("haproxy.cfg", []change{
			{"bind :80 ", "bind " + plain + " ", 1},
			{"# bind :443 ", "bind " + secure + " ", 1},
			{"/etc/peal/tls-and-key.pem", filepath.Join(dir, "tls-and-key.pem"), 1},
		}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.run(*haproxy, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	s.everything()
}

// everything is what a proxy must be good for.
func (s *site) everything() {
	t := s.t
	ok := t.Run("what is passed on", s.passes) &&
		t.Run("doctor", s.isExamined) &&
		t.Run("streams", s.streams)
	if ok {
		t.Run("nodes go one by one, and then both", s.drains)
	}
}

// token mints one, of the issuer.
func (s *site) token(t *testing.T, user string, ttl time.Duration, more ...string) string {
	t.Helper()
	token, err := s.issuer.token(t.Context(), user, ttl, more...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

const api = "/api/v2/ticketing"

// passes: peal's own paths reach it as they are, and others do not.
func (s *site) passes(t *testing.T) {
	desk := bearer{realm, tenant, s.token(t, "desk", time.Hour, "--role", "notifications:publish")}.headers()
	huge := bearer{realm, tenant, strings.Repeat("x", 12<<10)}.headers()
	huge["Cookie"] = "other=" + strings.Repeat("x", 4000) // as a browser has them
	for _, tt := range []struct {
		method, path string
		header       map[string]string
		body         int
		status       int
		code         string // of the problem; "" if peal makes none
		ours         bool   // peal has answered
	}{
		{"GET", api + "/ticket/notification/count", desk, 0, 200, "", true},
		{"GET", notifications, nil, 0, 401, "UNAUTHENTICATED", true},
		{"GET", notifications, huge, 0, 401, "UNAUTHENTICATED", true},
		{"GET", api + "/nothing", desk, 0, 404, "NOT_FOUND", true},
		{"DELETE", api + "/ticket/sse/durable/none", desk, 0, 404, "NOT_FOUND", true},
		{"POST", api + "/ticket/notification", desk, 1<<20 + 1, 413, "TOO_LARGE", true},
		{"OPTIONS", notifications, map[string]string{"Origin": pageOrigin, "Access-Control-Request-Method": "GET"}, 0, 204, "", true},
		{"POST", "/realms/acme/backchannel-logout", nil, 0, 415, "UNSUPPORTED_MEDIA_TYPE", true},
		{"GET", "/peal.js", nil, 0, 200, "", true},

		{"GET", "/", nil, 0, 404, "", false},
		{"GET", "/livez", nil, 0, 404, "", false},
		{"GET", "/readyz", nil, 0, 404, "", false},
		{"GET", "/metrics", nil, 0, 404, "", false},
		{"GET", "/demo/", nil, 0, 404, "", false},
		{"GET", "/realms/acme/jwks", nil, 0, 404, "", false},
		{"GET", "/api/v2/ticketing", nil, 0, 404, "", false}, // and no redirect
		{"GET", api + "/ticket/sse", nil, 0, 404, "NOT_FOUND", true},
		{"GET", "/api/v2/other", nil, 0, 404, "", false},
	} {
		for _, at := range []string{s.plain, s.secure} {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, at+tt.path, strings.NewReader(strings.Repeat(" ", tt.body)))
			if err != nil {
				t.Fatal(err)
			}
			setHeaders(req.Header, tt.header)
			if tt.body > 0 {
				req.Header.Set("Content-Type", "application/json")
			}
			resp, err := s.client.Do(req)
			if err != nil {
				t.Errorf("%s %s: %v", tt.method, at+tt.path, err)
				continue
			}
			var problem struct{ Code string }
			if resp.Header.Get("Content-Type") == "application/problem+json" {
				if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
					t.Error(err)
				}
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			ours := resp.Header.Get("X-Request-Id") != ""
			if resp.StatusCode != tt.status || ours != tt.ours || tt.code != "" && problem.Code != tt.code {
				t.Errorf("%s %s: %s %s, by peal: %v; want %d %s %v", tt.method, at+tt.path, resp.Status, problem.Code, ours, tt.status, tt.code, tt.ours)
			}
			if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[at == s.secure]; resp.Proto != want {
				t.Errorf("%s%s by %s, want %s", at, tt.path, resp.Proto, want)
			}
		}
	}
}

// isExamined: peal doctor finds nothing.
func (s *site) isExamined(t *testing.T) {
	for _, at := range []string{s.plain, s.secure} {
		cmd := exec.CommandContext(t.Context(), *binary, "doctor", "--json", "--through", at, "--realm", realm, "--tenant", tenant,
			"--wait", "20s", "--publish", "--origin", pageOrigin)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+s.ca, "PEAL_TOKEN="+s.token(t, "doctor", time.Hour, "--role", "notifications:publish"))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("doctor: %v\n%s", err, &errs)
		}
		var found struct {
			Findings []struct{ Check, Status, Seen string }
		}
		if err := json.Unmarshal(out, &found); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got := map[string]string{}
		for _, f := range found.Findings {
			got[f.Check] += f.Status
			if f.Status != "ok" && f.Check != "proxy health" {
				t.Errorf("%s: %s %s: %s", at, f.Status, f.Check, f.Seen)
			}
		}
		want := map[string]string{"proxy health": "skipped"} // /readyz is not for everybody
		for _, check := range []string{"proxy address", "proxy refusal", "proxy cors", "stream compression", "stream headers", "first byte",
			"resume by header", "resume by query", "clock of the service", "delivery", "heartbeat"} {
			want[check] = "ok"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", at, diff)
		}
	}
}

// streams: what peal writes comes at once, by HTTP/1.1 and HTTP/2, also the end, which is
// an abort.
func (s *site) streams(t *testing.T) {
	for _, at := range []string{s.plain, s.secure} {
		f := &follower{stage: newStage(), client: s.client, header: bearer{realm, tenant, s.token(t, "joe", 5*time.Second)}.headers(), url: at + notifications}
		began := time.Now()
		resp, err := f.connect(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		var beats int
		var end event
		err = events(resp.Body, func(e event) {
			switch e.name {
			case "connected":
				if took := time.Since(began); took > time.Second {
					t.Errorf("%s: connected after %v", at, took)
				}
			case "heartbeat":
				beats++
				var data struct{ Timestamp time.Time }
				if err := json.Unmarshal([]byte(e.data), &data); err != nil {
					t.Error(err)
				}
				if late := time.Since(data.Timestamp); late > time.Second { // one clock
					t.Errorf("%s: a heartbeat is %v late", at, late)
				}
			case "error":
				end = e
			}
		})
		resp.Body.Close()
		if beats < 3 {
			t.Errorf("%s: %d heartbeats in %v, and one comes each second", at, beats, time.Since(began))
		}
		if err == io.EOF && !(s.cleans && at == s.secure) {
			t.Errorf("%s: peal's abort comes as a clean end", at)
		}
		t.Logf("%s: the end is %v", at, err)
		if !strings.Contains(end.data, "TOKEN_EXPIRED") || end.retry < 1000 || end.retry > 3000 {
			t.Errorf("%s: the last event is %+v", at, end)
		}
	}
}

// prober connects again and again, as new clients do.
type prober struct {
	mu      sync.Mutex // protects what follows
	answers map[string]int
	slowest time.Duration
}

func (p *prober) run(ctx context.Context, s *site, headers []map[string]string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f := &follower{client: s.client, header: headers[i%len(headers)], url: s.secure + notifications}
		began := time.Now()
		answer := "trouble"
		resp, err := f.connect(ctx, "")
		if err == nil {
			answer = resp.Status
			if _, err = resp.Body.Read(make([]byte, 1)); err != nil {
				answer += ", and nothing follows"
			}
			resp.Body.Close()
		}
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.answers[answer]++
		p.slowest = max(p.slowest, time.Since(began))
		p.mu.Unlock()
	}
}

// drains: nodes are ended and started again one by one, as an operator does it. Those who
// are connected are told, and go on at the other node without a loss; those who come are
// let in all the time. Then both end, and who comes hears of it from peal.
func (s *site) drains(t *testing.T) {
	const followers, probers = 6, 12
	st := newStage()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	desk := publisher{service: &service{url: s.plain}, token: s.token(t, "desk", time.Hour, "--role", "notifications:publish")}
	var all []*follower
	for i := range followers {
		user := fmt.Sprint("follower-", i)
		desk.users = append(desk.users, user)
		at := []string{s.plain, s.secure}[i%2]
		all = append(all, &follower{stage: st, client: s.client, header: bearer{realm, tenant, s.token(t, user, time.Hour)}.headers(), url: at + notifications})
	}
	missing := func(lacks func(*follower) bool) func() []string {
		return func() (who []string) {
			for i, f := range all {
				if lacks(f) {
					who = append(who, fmt.Sprintf("%s: %d connections, ends %v, %v", desk.users[i], f.opened, f.ends, f.failed))
				}
			}
			return who
		}
	}
	for _, f := range all {
		running.Go(func() { f.follow(ctx) })
	}
	st.await(t, "everybody is connected", missing(func(f *follower) bool { return !f.up }))

	publishing, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	var publishers, probes sync.WaitGroup
	publishers.Go(func() { desk.run(publishing, st) })
	var headers []map[string]string
	for i := range probers {
		headers = append(headers, bearer{realm, tenant, s.token(t, fmt.Sprint("prober-", i), time.Hour)}.headers())
	}
	p := &prober{answers: map[string]int{}}
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	probes.Go(func() { p.run(probing, s, headers) })

	for i, n := range s.nodes {
		if status := n.end(syscall.SIGTERM); status != 0 {
			t.Fatalf("exit status %d\n%s", status, n.log)
		}
		st.await(t, "everybody is connected to the other node", missing(func(f *follower) bool { return !f.up }))
		n.restart(t)
		n.awaitConnects(t)
		t.Logf("node %d was ended and started", i+1)
	}
	stopProbing()
	probes.Wait()
	stopPublishing()
	publishers.Wait()
	st.await(t, "all notifications", missing(func(f *follower) bool { return !slices.Contains(f.got, st.acked[len(st.acked)-1]) }))

	t.Logf("%d notifications, %d publications refused; who came was answered %v, after %v at most", len(st.acked), st.refused, p.answers, p.slowest)
	if len(p.answers) != 1 || p.answers["200 OK"] < 50 {
		t.Errorf("those who came while nodes were ended were answered %v", p.answers)
	}
	st.note(func() {
		for i, f := range all {
			if diff := cmp.Diff(st.acked, f.got); diff != "" {
				t.Errorf("%s: acknowledged and delivered (-want +got):\n%s", desk.users[i], diff)
			}
			if f.gaps > 0 || len(f.failed) > 0 || f.recovered != f.opened-1 {
				t.Errorf("%s: %d gaps, %d of %d connections recovered, trouble %q", desk.users[i], f.gaps, f.recovered, f.opened, f.failed)
			}
			if len(f.ends) == 0 {
				t.Errorf("%s was on neither node", desk.users[i])
			}
			for _, e := range f.ends {
				cleans := s.cleans && strings.HasPrefix(f.url, s.secure)
				if e.code != "DRAINING" || e.clean && !cleans || e.retry < 1000 || e.retry > 3000 {
					t.Errorf("%s: a connection has ended %+v", desk.users[i], e)
				}
			}
		}
	})
	s.isRefused(t, headers)
}

// isRefused: with both nodes going, peal itself says so.
func (s *site) isRefused(t *testing.T, headers []map[string]string) {
	// Both have somebody to let go of, or one is gone before the other refuses.
	for i := 0; s.nodes[0].counts(t, "peal_connections") == 0 || s.nodes[1].counts(t, "peal_connections") == 0; i++ {
		if i == 3*len(headers) {
			t.Fatal("all connections go to one node")
		}
		resp, err := (&follower{client: s.client, header: headers[i%len(headers)], url: s.plain + notifications}).connect(t.Context(), "")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		defer resp.Body.Close()
	}
	var ending sync.WaitGroup
	for _, n := range s.nodes {
		ending.Go(func() { n.end(syscall.SIGTERM) })
	}
	defer ending.Wait()
	tick, late := time.NewTicker(50*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("a connect is never refused")
		}
		resp, err := (&follower{client: s.client, header: headers[i%len(headers)], url: s.plain + notifications}).connect(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			resp.Body.Close()
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"UNAVAILABLE"`) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("the first refusal is %s %s, Retry-After %q, %v", resp.Status, body, resp.Header.Get("Retry-After"), err)
		}
		return
	}
}

// counts is the sum of a metric of the process that runs.
func (s *service) counts(t *testing.T, metric string) (sum int) {
	t.Helper()
	text, err := get(t.Context(), s.admin+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^`+metric+`(?:\{.*\})? (\d+)$`).FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		t.Fatalf("no %s in\n%s", metric, text)
	}
	for _, m := range all {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// awaitConnects waits until a connection was opened at a node that was started.
func (s *service) awaitConnects(t *testing.T) {
	t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for s.counts(t, "peal_connections_opened_total") == 0 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("nobody comes to the node that was started\n%s", s.log)
		}
	}
}

// What is silent for as long as a heartbeat may take is not cut off: the defaults of both
// proxies are 60 s and less.
func TestProxiesWaitForHeartbeats(t *testing.T) {
	const enough = 75 // seconds, as peal doctor says; the longest heartbeat is 60
	for _, tt := range []struct{ file, directive string }{
		{"nginx.conf", "proxy_read_timeout"}, {"haproxy.cfg", "timeout client"}, {"haproxy.cfg", "timeout server"},
	} {
		b, err := os.ReadFile(filepath.Join("../../../deploy/proxies", tt.file))
		if err != nil {
			t.Fatal(err)
		}
		all := regexp.MustCompile(`(?m)^\s*`+tt.directive+`\s+(\d+)s;?$`).FindAllStringSubmatch(string(b), -1)
		if len(all) != 1 {
			t.Errorf("%s has %s %d times", tt.file, tt.directive, len(all))
			continue
		}
		if got, err := strconv.Atoi(all[0][1]); err != nil || got < enough {
			t.Errorf("%s: %s is %ds, want %ds", tt.file, tt.directive, got, enough)
		}
	}
}
