package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// page is a page in a browser, at an origin of its own: localhost with a port.
// It is of one site with all others on localhost, whose cookies it shares.
type page struct {
	t      *testing.T
	origin string
	acts   chan string
	done   chan []byte
	cookie atomic.Bool // the browser has a session cookie, and sends it here too
}

// newPage serves a page. What is under /api/ is the service's, if there is one.
func newPage(t *testing.T, service func() string) *page {
	t.Helper()
	p := &page{t: t, acts: make(chan string), done: make(chan []byte)}
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "clients/page.html") })
	m.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) {
		_, err := r.Cookie("__Host-peal")
		p.cookie.Store(err == nil)
		select {
		case act := <-p.acts:
			w.Write([]byte(act))
		case <-r.Context().Done():
		}
	})
	m.HandleFunc("POST /done", func(_ http.ResponseWriter, r *http.Request) {
		var result bytes.Buffer
		result.ReadFrom(r.Body)
		select {
		case p.done <- result.Bytes():
		case <-r.Context().Done():
		}
	})
	if service != nil {
		m.Handle("/api/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			to, err := url.Parse(service())
			if err != nil {
				panic(err)
			}
			r.SetURL(to)
		}})
	}
	server := httptest.NewServer(m)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.origin = "http://localhost:" + server.URL[strings.LastIndexByte(server.URL, ':')+1:]
	return p
}

// do has the page run the body of an async function, and reads what it returns.
func (p *page) do(into any, format string, args ...any) {
	p.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	act := fmt.Sprintf(format, args...)
	select {
	case p.acts <- act:
	case <-late.C:
		p.t.Fatalf("%s: the page is not there after %v", p.origin, patience)
	}
	select {
	case result := <-p.done:
		if err := json.Unmarshal(result, into); err != nil {
			p.t.Fatalf("%s: %s: got %s: %v", p.origin, act, result, err)
		}
	case <-late.C:
		p.t.Fatalf("%s: %s: no answer after %v", p.origin, act, patience)
	}
}

// session calls the session path and returns the status, or what fetch threw.
func (p *page) session(method, base, token string) (got string) {
	p.t.Helper()
	headers := "{}"
	if token != "" {
		headers = fmt.Sprintf("{Authorization: %q, realmname: %q, 'x-tenantid': %q}", "Bearer "+token, realm, tenant)
	}
	p.do(&got, "return String((await fetch(%q, {method: %q, credentials: 'include', headers: %s})).status);", base+sessions, method, headers)
	return got
}

// follow opens an EventSource with the cookies of the browser.
func (p *page) follow(name, base string) {
	p.t.Helper()
	p.do(new(any), "watch(%q, new EventSource(%q, {withCredentials: true}));", name, base+notifications+"?tenantId="+tenant+"&realmName="+realm)
}

// heard is an event of an EventSource.
type heard struct {
	Type  string
	Data  string // "" for the browser's own error
	ID    string
	State int // 2: it has given up
}

func (h heard) code() (code string) {
	var data struct{ Code string }
	json.Unmarshal([]byte(h.Data), &data)
	return data.Code
}

func (p *page) next(name string) (h heard) {
	p.t.Helper()
	p.do(&h, "return next(%q);", name)
	return h
}

// connected passes over what is told of a connection's end until the next begins.
func (p *page) connected(name, user string) {
	p.t.Helper()
	h := p.next(name)
	for h.Type == "error" && h.State != 2 {
		h = p.next(name)
	}
	if h.Type != "connected" || !strings.Contains(h.Data, fmt.Sprintf(`"userId":%q`, user)) {
		p.t.Fatalf("%s: got %+v, want connected as %s", name, h, user)
	}
}

// notification passes over what the browser tells of lost connections, and what
// the server tells when it comes back, until a notification comes.
func (p *page) notification(name string) (id string) {
	p.t.Helper()
	for {
		h := p.next(name)
		if h.State == 2 || h.Type == "gap" {
			p.t.Fatalf("%s: got %+v, want a notification", name, h)
		}
		if h.Type == "notification" {
			var n struct{ ID string }
			if err := json.Unmarshal([]byte(h.Data), &n); err != nil {
				p.t.Fatal(err)
			}
			return n.ID
		}
	}
}

// browse opens a page in a browser of its own, which is closed after the test.
// It runs as any user, root too, and only ever sees pages of this test, so it
// goes without a sandbox.
func browse(t *testing.T, url string) {
	t.Helper()
	name, err := exec.LookPath(*chromium)
	if err != nil {
		t.Fatalf("no browser to test with: please install chromium, or -args -chromium FILE names one: %v", err)
	}
	profile := t.TempDir()
	c := exec.Command(name, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile, url)
	c.Env = append(os.Environ(), "HOME="+profile)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait() // for all of its processes: they share what it says
		if t.Failed() {
			t.Logf("the browser: %s", &said)
		}
	})
}

const sessions = "/api/v2/ticketing/ticket/sse/session"

// The browser's own EventSource follows its user by a session: of a page of an
// allowed origin, and of one of the service's own origin. A page of another
// origin, though of the same site, is not served, and changes nothing.
func TestNativeEventSource(t *testing.T) {
	dev := startService(t, "dev") // issues the tokens
	service := &service{data: t.TempDir()}
	shop := newPage(t, nil)
	evil := newPage(t, nil)
	own := newPage(t, func() string { return service.url })

	realms := filepath.Join(service.data, "realms.yaml")
	out, err := exec.Command(*binary, "dev", "--print-realms", "--data", dev.data).Output()
	if err == nil {
		err = os.WriteFile(realms, out, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	service.args = []string{"serve", "--realms", realms, "--drain-window", "0s", "--max-connections-per-user", "1"}
	service.env = []string{"PEAL_DRAIN_DELAY=0s", "PEAL_COOKIE_SESSIONS=true", "PEAL_CORS_ORIGINS=" + shop.origin}
	service.open(t)
	base := strings.Replace(service.url, "127.0.0.1", "localhost", 1) // of one site with the pages
	token := func(user string, more ...string) string {
		token, err := dev.token(t.Context(), user, time.Hour, more...)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	desk := publisher{service: service, token: token("desk", "--role", "notifications:publish"), users: []string{"jane", "eve"}}
	publish := func(id string) {
		t.Helper()
		if err := desk.publish(id); err != nil {
			t.Fatal(err)
		}
	}

	browse(t, shop.origin)
	frame := func(p *page) {
		shop.do(new(any), "const f = document.createElement('iframe'); f.src = %q; document.body.append(f);", p.origin)
	}

	// Without a session an EventSource is refused, and gives up.
	shop.follow("stranger", base)
	if h := shop.next("stranger"); h.Type != "error" || h.Data != "" || h.State != 2 {
		t.Fatalf("without a session: got %+v", h)
	}
	if got := shop.session("POST", base, token("jane")); got != "204" {
		t.Fatalf("POST session: got %s, want 204", got)
	}
	shop.follow("first", base)
	shop.connected("first", "jane")
	publish("n1")
	if got := shop.notification("first"); got != "n1" {
		t.Errorf("got %s, want n1", got)
	}

	// Where there is no slot it hears why, and comes back when there is one.
	shop.follow("second", base)
	if h := shop.next("second"); h.Type != "error" || h.code() != "CONNECTION_LIMIT" {
		t.Fatalf("second: got %+v, want CONNECTION_LIMIT", h)
	}
	shop.do(new(any), "leave('first');")
	shop.connected("second", "jane")

	// A page of another origin of the site has the cookie, and nothing of it; nor
	// can it put another into its place, or take it away.
	frame(evil)
	evil.do(new(any), "return null;")
	if !evil.cookie.Load() {
		t.Fatal("the browser does not send the cookie to the other page's origin: what follows would prove nothing")
	}
	evil.follow("spy", base)
	if h := evil.next("spy"); h.Type != "error" || h.Data != "" || h.State != 2 {
		t.Errorf("spy: got %+v, want the end", h)
	}
	for method, token := range map[string]string{"POST": token("eve"), "DELETE": ""} {
		if got := evil.session(method, base, token); got != "threw TypeError" {
			t.Errorf("%s session by the other page: got %s, want it refused by the browser", method, got)
		}
	}

	// The server goes away, as it does with every new version.
	if status := service.end(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0\n%s", status, service.log)
	}
	service.restart(t)
	publish("n2")
	if got := shop.notification("second"); got != "n2" {
		t.Errorf("got %s, want n2", got)
	}

	if got := shop.session("DELETE", base, ""); got != "204" {
		t.Errorf("DELETE session: got %s, want 204", got)
	}
	shop.follow("third", base)
	if h := shop.next("third"); h.Type != "error" || h.Data != "" || h.State != 2 {
		t.Errorf("after the session: got %+v, want the end", h)
	}
	shop.do(new(any), "leave('second');")

	// What the document shows is all it takes.
	shop.do(new(any), "const token = %q, tenantId = %q, realmName = %q;\n%s\nwatch('example', eventSource);",
		token("ann"), tenant, realm, browserExample(t, base))
	shop.connected("example", "ann")

	// A page of the service's own origin need not be listed. It takes a fresh token
	// in time, with which the browser comes back when the first has expired.
	frame(own)
	brief, err := dev.token(t.Context(), "joe", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{brief, token("joe")} {
		if got := own.session("POST", "", token); got != "204" {
			t.Fatalf("POST session by a page of the same origin: got %s, want 204", got)
		}
		if token == brief {
			own.follow("own", "")
			own.connected("own", "joe")
		}
	}
	if h := own.next("own"); h.Type != "error" || h.code() != "TOKEN_EXPIRED" {
		t.Errorf("own: got %+v, want TOKEN_EXPIRED", h)
	}
	own.connected("own", "joe")
}

// Where the example stands in the document, and the address that it names.
const (
	browserExampleBegins  = "<!-- make e2e runs this one in a browser. -->\n\n```js\n"
	browserExampleAddress = "https://peal.example.com"
)

// browserExample is the document's, with an address of ours.
func browserExample(t *testing.T, base string) string {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(b), browserExampleBegins)
	example, _, ends := strings.Cut(rest, exampleEnds)
	if !begins || !ends || strings.Count(example, browserExampleAddress) != 1 {
		t.Fatalf("%s has no example after %q, or it does not name %s once", document, browserExampleBegins, browserExampleAddress)
	}
	return strings.Replace(example, browserExampleAddress, base, 1)
}
