package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// scene is what the server of a probe does to a client: one act for each of its
// requests. After the last, connections stay open.
type scene struct {
	run  string
	acts []act
}

// act answers a request.
type act func(w http.ResponseWriter)

// quick has the client come back soon, where it heeds that.
const quick = "retry: 200\n"

// askedPause is what a server asks for by Retry-After, in seconds. None of the
// pauses that libraries have of their own is as long.
const askedPause = 4

// Two pauses that a server asks for by the field retry, and what they must make
// for a client to have heeded it.
const (
	shortRetry = 200 * time.Millisecond
	longRetry  = 3200 * time.Millisecond
	heeded     = 700 * time.Millisecond // some libraries take the field ± 50 %
)

// scenes lists what every library is put through, but for the refused
// connection, which no server can act.
func scenes() []scene {
	first := send(quick + "event: notification\ndata: first\nid: 1\n\n")
	heartbeat := send("event: heartbeat\ndata: {}\n\n")
	return []scene{
		{"abort", []act{then(first, heartbeat, abort)}},
		{"clean", []act{then(first, heartbeat)}},
		{"503", []act{then(first, heartbeat, abort), busy(http.StatusServiceUnavailable)}},
		{"429", []act{then(first, heartbeat, abort), busy(http.StatusTooManyRequests)}},
		{"retry", []act{
			then(send(retry(shortRetry)), first, send(retry(shortRetry)), heartbeat, abort),
			then(first, send(retry(longRetry)), heartbeat, abort),
		}},
		{"error", []act{then(first, send("event: error\ndata: {\"code\":\"DRAINING\"}\n\n"), stay)}},
		{"cut", []act{
			then(first, send("event: notification\ndata: second\n"), abort),
			then(send("event: connected\ndata: welcome\n\n"), send("event: notification\ndata: third\nid: 3\n\n"), stay),
		}},
	}
}

func retry(d time.Duration) string { return fmt.Sprintf("retry: %d\n", d.Milliseconds()) }

func then(acts ...act) act {
	return func(w http.ResponseWriter) {
		for _, a := range acts {
			a(w)
		}
	}
}

func send(block string) act {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, block)
		http.NewResponseController(w).Flush()
	}
}

func abort(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// stay is for the server to see: the connection stays open.
func stay(http.ResponseWriter) { panic(errStay) }

var errStay = fmt.Errorf("stay")

func busy(status int) act {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", fmt.Sprint(askedPause))
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status":%d}`, status)
	}
}

// probe is a server that acts scenes, at /LIBRARY/RUN, and notes who comes.
type probe struct {
	*stage
	scenes map[string]scene
	end    context.Context // of the connections that stay
}

func newProbe(t *testing.T, s *stage) (*probe, string) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probe{stage: s, scenes: make(map[string]scene), end: ctx}
	for _, sc := range scenes() {
		p.scenes[sc.run] = sc
	}
	server := httptest.NewServer(p)
	t.Cleanup(func() { cancel(); server.Close() })
	return p, server.URL
}

func (p *probe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	library, run, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	at := role{library, run}
	n := p.arrive(at, r)
	acts := p.scenes[run].acts
	if n >= len(acts) {
		send(": welcome back\n\n")(w)
		p.stay(r)
		return
	}
	defer func() {
		p.note(func() { p.left[at] = time.Now() })
		if why := recover(); why == errStay {
			p.stay(r)
		} else if why != nil {
			panic(why)
		}
	}()
	acts[n](w)
}

// arrive notes a request and returns how many there were before.
func (p *probe) arrive(at role, r *http.Request) (before int) {
	a := attempt{at: time.Now(), last: r.Header.Get("Last-Event-ID"), headers: true}
	if a.last == "" {
		a.last = r.URL.Query().Get("lastEventId")
	}
	for name, want := range probeHeaders {
		a.headers = a.headers && r.Header.Get(name) == want
	}
	p.note(func() {
		before = len(p.attempts[at])
		if before > 0 {
			a.after = a.at.Sub(p.left[at])
		}
		p.attempts[at] = append(p.attempts[at], a)
	})
	return before
}

func (p *probe) stay(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-p.end.Done():
	}
}

// probeHeaders are those that a client of peal has to send.
var probeHeaders = map[string]string{"Authorization": "Bearer a-token", "x-tenantid": tenant, "realmname": realm}

// refusal is a server that aborts its first connection and then is not there,
// until its client has noticed that as well.
type refusal struct {
	*stage
	at     role
	addr   string
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newRefusal(t *testing.T, s *stage, p *probe, at role) *refusal {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &refusal{stage: s, at: at, addr: l.Addr().String(), cancel: cancel}
	t.Cleanup(func() { cancel(); f.done.Wait() })
	f.done.Go(func() {
		f.once(ctx, l, p)
		if f.awaitRefused(ctx) {
			l, err := net.Listen("tcp", f.addr)
			if err != nil {
				t.Error(err)
				return
			}
			f.serve(ctx, l, func(w http.ResponseWriter, r *http.Request) {
				p.arrive(at, r)
				send(": welcome back\n\n")(w)
				p.stay(r)
			})
		}
	})
	return f
}

func (f *refusal) url() string { return "http://" + f.addr + "/" }

// once serves one connection, which it aborts once nobody listens any more.
func (f *refusal) once(ctx context.Context, l net.Listener, p *probe) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.serve(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		p.arrive(f.at, r)
		l.Close()
		defer cancel()
		then(send(quick+"event: notification\ndata: first\nid: 1\n\n"), send("event: heartbeat\ndata: {}\n\n"), abort)(w)
	})
}

// serve returns when ctx has ended.
func (f *refusal) serve(ctx context.Context, l net.Listener, h http.HandlerFunc) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(l) })
	<-ctx.Done()
	server.Close()
	running.Wait()
}

// awaitRefused waits until the client has told of trouble twice, the end of the
// first connection and a refused one, or has given up.
func (f *refusal) awaitRefused(ctx context.Context) bool {
	for {
		f.mu.Lock()
		n, gaveUp := count(f.reports[f.at], trouble), count(f.reports[f.at], gone) > 0
		changed := f.changed
		f.mu.Unlock()
		if n >= 2 || gaveUp {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func count(reports []report, what string) (n int) {
	for _, r := range reports {
		if r.What == what {
			n++
		}
	}
	return n
}
