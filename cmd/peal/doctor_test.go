package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/cmd/peal/doctor"
)

// findings are what peal doctor --json has printed.
type findings struct {
	t *testing.T
	result
	Tally    map[doctor.Status]int
	Findings []doctor.Finding
}

// examined runs peal doctor.
func examined(t *testing.T, env map[string]string, args ...string) findings {
	t.Helper()
	f := findings{t: t, result: do(t, env, append([]string{"doctor", "--json"}, args...)...)}
	if err := json.Unmarshal([]byte(f.stdout), &f); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, f.stdout, f.stderr)
	}
	return f
}

// only wants the finding of a check to be so, and nothing else to be wrong.
func (f findings) only(status doctor.Status, check, says string) {
	f.t.Helper()
	f.has(status, check, says)
	for _, x := range f.Findings {
		if (x.Status == doctor.Trouble || x.Status == doctor.Warning) && x.Check != check {
			f.t.Errorf("not asked for: %+v", x)
		}
	}
}

func (f findings) has(status doctor.Status, check, says string) {
	f.t.Helper()
	for _, x := range f.Findings {
		if x.Check == check && x.Status == status && strings.Contains(x.Seen+"\n"+x.Do, says) {
			return
		}
	}
	f.t.Errorf("%s is not %s with %q in\n%s", check, status, says, f.stdout)
}

// well wants nothing to be wrong.
func (f findings) well() {
	f.t.Helper()
	if f.status != 0 || f.Tally[doctor.Trouble]+f.Tally[doctor.Warning] > 0 || f.Tally[doctor.OK] == 0 {
		f.t.Errorf("exit status %d, %v\n%s", f.status, f.Tally, f.stdout)
	}
}

// awaitWorkers waits until the workers have made all of their consumers, which they do
// once the service is ready.
func awaitWorkers(t *testing.T, natsURL string) {
	t.Helper()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		events, err := js.Stream(t.Context(), "PEAL_EVENT_local")
		if err == nil && events.CachedInfo().State.Consumers == 32 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("not all consumers of the workers are there: %v", err)
		}
	}
}

// A dev that runs is found to be well from within and from without, and goes on.
func TestDoctorFindsAHealthyDevWell(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := startReady(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--heartbeat", "1s")
	awaitWorkers(t, p.ready.NATS)
	token := strings.TrimSpace(do(t, nil, "token", "--data", data, "--user", "jane", "--role", "notifications:publish").stdout)
	env := map[string]string{"PEAL_TOKEN": token}

	// The files of a test may be in memory, where those of a service must not be.
	f := examined(t, env, "--data", data, "--connections", "10", "--through", p.ready.URL, "--origin", "http://localhost:3000", "--publish", "--wait", "10s", "--within", "5s")
	var rest []doctor.Finding
	for _, x := range f.Findings {
		if x.Check != "disk" && x.Check != "memory" {
			rest = append(rest, x)
		}
	}
	f.Findings, f.Tally, f.status = rest, doctor.Tally(rest), 0
	f.well()
	for _, check := range []string{"configuration", "nats server", "jetstream", "rights", "streams", "clock of NATS", "ticket events", "realm acme", "clock of realm globex",
		"public port", "admin port", "open files", "proxy address", "proxy health", "proxy refusal", "proxy cors", "stream compression", "stream headers", "first byte",
		"resume by header", "resume by query", "clock of the service", "delivery", "heartbeat"} {
		f.has(doctor.OK, check, "")
	}
	if strings.Contains(f.stdout+f.stderr, token) {
		t.Error("the token is told")
	}
	if code := p.stop(os.Interrupt); code != 0 {
		t.Errorf("dev has ended with %d\n%s", code, p.log)
	}
}

// A data directory that has lost its keys is told of, and not given new ones.
func TestDoctorMakesNoKeys(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"issuer", filepath.Join("issuer", realmGlobex)} {
		data := t.TempDir()
		if _, err := openIssuer(data, "http://localhost:1"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(devJSON(data), []byte(`{"url":"http://127.0.0.1:1","admin":"http://127.0.0.1:2"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(data, lost)); err != nil {
			t.Fatal(err)
		}
		f := examined(t, nil, "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		f.has(doctor.Trouble, "configuration", "has no keys of realm")
		if _, err := os.Stat(filepath.Join(data, lost)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there again: %v", lost, err)
		}
	}
}

// For people it is a table, with what to do below what is wrong.
func TestDoctorPrintsATable(t *testing.T) {
	dir := t.TempDir()
	got := do(t, nil, "doctor", "--nats", "nats://user:secret@127.0.0.1:1", "--realms", dir+"/no.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if got.status != 1 || strings.Contains(got.stdout+got.stderr, "secret") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"trouble  configuration         --realms: open " + dir + "/no.yaml: no such file or directory\n         > Mend it",
		"trouble  nats server           nats://127.0.0.1:1 (127.0.0.1): dial tcp 127.0.0.1:1: connect: connection refused\n         > See whether nats-server runs there",
		"skipped  streams ",
		"ok       public port           any that is free\n",
		" trouble, ",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
	if !strings.HasPrefix(got.stderr, "peal doctor: 2 of ") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("standard error %q", got.stderr)
	}
}

// Lines fit a terminal, and are broken between words.
func TestDoctorFitsATerminal(t *testing.T) {
	var out bytes.Buffer
	err := show(&out, 60, doctor.Finding{Check: "nats server", Status: doctor.Trouble, Seen: "one two three four five six seven eight\x1b[2J", Do: "do this and that and that and this, and then\nnginx: proxy_buffering off"})
	want := "trouble  nats server           one two three four five six\n" +
		"                               seven eight\ufffd[2J\n" +
		"         > do this and that and that and this, and then\n" +
		"         - nginx: proxy_buffering off\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\ngot\n%s\nwant\n%s", err, out.String(), want)
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "--through"},
		{[]string{"--through", "peal.example"}, 2, "https://"},
		{[]string{"--through", "https://jane:secret@peal.example"}, 2, "without a user"},
		{[]string{"--through", "http://127.0.0.1:1", "--wait", "1ms"}, 2, "--wait"},
		{[]string{"--through", "http://127.0.0.1:1", "--tenant", "x"}, 2, "tenant"},
		{[]string{"--through", "http://127.0.0.1:1", "--origin", "https://a/"}, 2, "--origin"},
		{[]string{"--data", "x", "--publish"}, 2, "--through"},
		{[]string{"--through", "http://127.0.0.1:1", "--within", "0s"}, 2, "--within"},
		{[]string{"--bark"}, 2, "bark"},
		{[]string{"--heartbeat", "1ms", "--data", "x"}, 1, "trouble"},
		{[]string{"--config", "/no/such.yaml"}, 1, "trouble"},
		{[]string{"--region", "eu"}, 1, "trouble"}, // neither --nats nor --data
		{[]string{"--through", "http://127.0.0.1:1"}, 1, "trouble"},
	} {
		got := do(t, nil, append([]string{"doctor"}, tt.args...)...)
		if got.status != tt.status || !strings.Contains(got.stderr, tt.want) || strings.Contains(got.stderr, "secret") {
			t.Errorf("%v: %+v, want %d with %q", tt.args, got, tt.status, tt.want)
		}
	}
}

// When it is stopped, it ends at once, and not with 0.
func TestDoctorStopsAtOnce(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	var out, errs bytes.Buffer
	began := time.Now()
	status := run(ctx, ctx, []string{"doctor", "--through", hangs.URL, "--token", "eyJ.secret.token"}, func(string) string { return "" }, strings.NewReader(""), &out, &errs)
	if took := time.Since(began); status != 1 || took > 5*time.Second || !strings.Contains(errs.String(), "stopped before") || strings.Contains(errs.String()+out.String(), "secret") {
		t.Errorf("%d after %v: %s%s", status, took, out.String(), errs.String())
	}
}

// An issuer that is down, has no keys or a wrong clock is found, and so is a NATS
// without JetStream behind a good address: see bus for more of these.
func TestDoctorFindsTroubleWithIssuers(t *testing.T) {
	t.Parallel()
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[]}`) }))
	defer empty.Close()
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"k1","alg":"EdDSA","use":"sig"}]}`)
	}))
	defer late.Close()
	down := httptest.NewServer(nil)
	down.Close()
	realms := "realms:\n"
	for name, at := range map[string]string{"empty": empty.URL, "late": late.URL, "down": down.URL} {
		realms += fmt.Sprintf("  - {name: %s, issuer: %s, jwks: %s/jwks, audiences: [peal], tenants: any, allowPrivate: true}\n", name, "https://id.example/"+name, at)
	}
	file := filepath.Join(t.TempDir(), "realms.yaml")
	if err := os.WriteFile(file, []byte(realms), 0o600); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	f := examined(t, nil, "--realms", file, "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	f.has(doctor.OK, "configuration", "3 realms")
	f.has(doctor.Trouble, "realm empty", "no usable key")
	f.has(doctor.Trouble, "realm down", "does not answer")
	f.has(doctor.OK, "realm late", "k1 (EdDSA)")
	f.has(doctor.Trouble, "clock of realm late", "behind")
	f.has(doctor.Skipped, "nats", "--nats-listen")
	if entries, err := os.ReadDir(data); err != nil || len(entries) > 0 || f.status != 1 {
		t.Errorf("exit status %d, and in the data directory: %v, %v", f.status, entries, err)
	}
}

// A proxy is what stands before a service, and what it does to it.
type proxy struct {
	name   string
	mangle func(service *url.URL) http.Handler
	args   []string
	status doctor.Status // of the finding that it leads to; "" if it leads to none
	check  string
	says   string
	more   bool // it leads to others too
}

// through passes everything on, and at once. change, if not nil, changes it.
func through(service *url.URL, change func(*httputil.ReverseProxy)) http.Handler {
	p := httputil.NewSingleHostReverseProxy(service)
	p.FlushInterval = -1
	p.ErrorLog = log.New(io.Discard, "", 0) // that a stream was cut off is what is meant
	if change != nil {
		change(p)
	}
	return p
}

// asking changes what is asked.
func asking(do func(*http.Request)) func(*url.URL) http.Handler {
	return func(service *url.URL) http.Handler {
		next := through(service, nil)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(r); next.ServeHTTP(w, r) })
	}
}

// answering changes what is answered.
func answering(do func(*http.Response)) func(*url.URL) http.Handler {
	return func(service *url.URL) http.Handler {
		return through(service, func(p *httputil.ReverseProxy) {
			p.ModifyResponse = func(res *http.Response) error { do(res); return nil }
		})
	}
}

// streaming changes the body of an event stream: copy is called with what comes from
// the service, and where it is to go.
func streaming(copy func(to http.ResponseWriter, from io.Reader)) func(*url.URL) http.Handler {
	return func(service *url.URL) http.Handler {
		next := through(service, nil)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/ticket/sse/notifications") || r.Header.Get("Authorization") == "" {
				next.ServeHTTP(w, r)
				return
			}
			out := r.Clone(r.Context())
			out.RequestURI, out.Host = "", ""
			out.URL.Scheme, out.URL.Host = service.Scheme, service.Host
			res, err := http.DefaultTransport.RoundTrip(out)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			defer res.Body.Close()
			for name, values := range res.Header {
				w.Header()[name] = values
			}
			copy(w, res.Body)
		})
	}
}

// pump copies from one to the other; held, if not nil, is called before each piece.
func pump(to http.ResponseWriter, from io.Reader, held func()) error {
	flush := http.NewResponseController(to)
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if held != nil {
				held()
			}
			if _, err := to.Write(b[:n]); err != nil {
				return err
			}
			flush.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// pieces hands what comes from a reader over as it comes.
func pieces(from io.Reader) <-chan []byte {
	c := make(chan []byte)
	go func() {
		defer close(c)
		for {
			b := make([]byte, 4<<10)
			n, err := from.Read(b)
			if n > 0 {
				c <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

// cutting ends the answer after so long without a byte: by end.
func cutting(idle time.Duration, end func()) func(*url.URL) http.Handler {
	return streaming(func(to http.ResponseWriter, from io.Reader) {
		come := pieces(from)
		defer func() {
			go func() { // what comes still: until the body is closed
				for range come {
				}
			}()
			end()
		}()
		to.WriteHeader(http.StatusOK)
		for {
			select {
			case b, ok := <-come:
				if !ok {
					return
				}
				to.Write(b)
				http.NewResponseController(to).Flush()
			case <-time.After(idle):
				return
			}
		}
	})
}

func abort() { panic(http.ErrAbortHandler) }

func only(h http.Handler) func(*url.URL) http.Handler {
	return func(*url.URL) http.Handler { return h }
}

// What a proxy does to a service is found, and what to do about it.
func TestDoctorSeesThroughProxies(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := startReady(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--heartbeat", "2s")
	service, err := url.Parse(p.ready.URL)
	if err != nil {
		t.Fatal(err)
	}
	ask := []string{"--origin", "http://localhost:3000"}
	for n, row := range []proxy{
		{"good", func(u *url.URL) http.Handler { return through(u, nil) }, ask, "", "", "", false},
		{"holds everything back", streaming(func(to http.ResponseWriter, from io.Reader) {
			to.WriteHeader(http.StatusOK)
			http.NewResponseController(to).Flush()
			_, _ = io.Copy(io.Discard, from)
		}), []string{"--wait", "2s"}, doctor.Trouble, "first byte", "proxy_buffering off", false},
		{"holds the headers back too", streaming(func(_ http.ResponseWriter, from io.Reader) {
			_, _ = io.Copy(io.Discard, from)
		}), []string{"--wait", "2s"}, doctor.Trouble, "first byte", "not even the headers", false},
		{"begins late", streaming(func(to http.ResponseWriter, from io.Reader) {
			time.Sleep(3500 * time.Millisecond)
			_ = pump(to, from, nil)
			abort()
		}), nil, doctor.Trouble, "first byte", "though peal writes at once", false},
		{"hands over in batches", streaming(func(to http.ResponseWriter, from io.Reader) {
			first := true
			_ = pump(to, from, func() {
				if !first {
					time.Sleep(3500 * time.Millisecond)
				}
				first = false
			})
			abort()
		}), []string{"--wait", "12s"}, doctor.Trouble, "heartbeat", "holds back", false},
		{"packs", streaming(func(to http.ResponseWriter, from io.Reader) {
			to.Header().Set("Content-Encoding", "gzip") // whatever is accepted
			z := gzip.NewWriter(to)
			to.WriteHeader(http.StatusOK)
			http.NewResponseController(to).Flush()
			_, _ = io.Copy(z, from)
			abort()
		}), []string{"--wait", "2s"}, doctor.Trouble, "stream compression", "gzip off", true},
		{"cuts silence off", cutting(700*time.Millisecond, abort), nil, doctor.Trouble, "idle timeout", "proxy_read_timeout", false},
		{"ends silence", cutting(700*time.Millisecond, func() {}), nil, doctor.Trouble, "idle timeout", "as if all were done", false},
		{"keeps the cursor", asking(func(r *http.Request) { r.Header.Del("Last-Event-ID") }), nil, doctor.Trouble, "resume by header", "Last-Event-ID", false},
		{"keeps the query", asking(func(r *http.Request) { r.URL.RawQuery = "" }), nil, doctor.Trouble, "resume by query", "lastEventId", false},
		{"keeps the tenant", asking(func(r *http.Request) { r.Header.Del("x-tenantid") }), nil, doctor.Trouble, "event stream", "x-tenantid", false},
		{"keeps the token", asking(func(r *http.Request) { r.Header.Del("Authorization") }), nil, doctor.Trouble, "event stream", "Authorization", false},
		{"lets caches have it", answering(func(res *http.Response) { res.Header.Set("Cache-Control", "public") }), nil, doctor.Trouble, "stream headers", "no-store", false},
		{"takes the request id", answering(func(res *http.Response) { res.Header.Del("X-Request-Id") }), nil, doctor.Warning, "stream headers", "X-Request-Id", false},
		{"calls it a page", answering(func(res *http.Response) {
			if res.StatusCode == 200 && !strings.HasPrefix(res.Request.URL.Path, "/readyz") {
				res.Header.Set("Content-Type", "text/html")
			}
		}), nil, doctor.Trouble, "event stream", "text/html", false},
		{"refuses by a page", func(u *url.URL) http.Handler {
			return through(u, func(p *httputil.ReverseProxy) {
				p.ModifyResponse = func(res *http.Response) error {
					if res.StatusCode == http.StatusUnauthorized {
						res.Header.Set("Content-Type", "text/html")
						res.Header.Set("Server", "nginx")
					}
					return nil
				}
			})
		}, nil, doctor.Trouble, "proxy refusal", "by nginx", false},
		{"wants people to sign in", func(u *url.URL) http.Handler {
			next := through(u, nil)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" && !strings.HasPrefix(r.URL.Path, "/readyz") {
					http.Redirect(w, r, "https://login.example/?secret", http.StatusFound)
					return
				}
				next.ServeHTTP(w, r)
			})
		}, nil, doctor.Trouble, "proxy refusal", "login.example", false},
		{"has no service", only(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })), nil, doctor.Trouble, "proxy health", "502", true},
		{"does not pass on health", func(u *url.URL) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/api/", through(u, nil))
			return mux
		}, nil, doctor.Skipped, "proxy health", "need not be", false},
		{"answers browsers itself", func(u *url.URL) http.Handler {
			next := through(u, nil)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodOptions {
					return
				}
				next.ServeHTTP(w, r)
			})
		}, ask, doctor.Trouble, "proxy cors", "not allowed", false},
		{"allows twice", answering(func(res *http.Response) { res.Header.Add("Access-Control-Allow-Origin", "*") }), ask, doctor.Trouble, "proxy cors", "2 times", false},
		{"makes a clean end of it", streaming(func(to http.ResponseWriter, from io.Reader) { _ = pump(to, from, nil) }), []string{"ttl"}, doctor.Trouble, "abort", "clean end", false},
		{"passes on that it was cut off", func(u *url.URL) http.Handler { return through(u, nil) }, []string{"ttl"}, doctor.OK, "abort", "cut off", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			mint := []string{"token", "--data", data, "--user", fmt.Sprintf("user-%d", n)}
			args := row.args
			if len(args) == 1 && args[0] == "ttl" { // the token ends while it is watched
				args, mint = nil, append(mint, "--ttl", "2s")
			}
			s := httptest.NewServer(row.mangle(service))
			defer s.Close()
			env := map[string]string{"PEAL_TOKEN": strings.TrimSpace(do(t, nil, mint...).stdout)}
			f := examined(t, env, append([]string{"--through", s.URL, "--wait", "6s", "--within", "3s"}, args...)...)
			switch {
			case row.status == "":
				f.well()
			case row.more:
				f.has(row.status, row.check, row.says)
			default:
				f.only(row.status, row.check, row.says)
			}
			if strings.Contains(f.stdout, env["PEAL_TOKEN"]) || strings.Contains(f.stdout, "secret") {
				t.Errorf("a secret is told:\n%s", f.stdout)
			}
		})
	}
}
