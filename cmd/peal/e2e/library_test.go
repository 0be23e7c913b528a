package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// What every request carries beside a token.
const (
	realm  = "acme"
	tenant = "11111111-1111-4111-8111-111111111111"
)

// library is a client under test.
type library struct {
	key   string // its adapter, its user, its path at the server of a probe
	name  string // for people
	fresh string // how it comes by a fresh token, as its adapter does it

	// run runs the adapter, which tells what it sees, until ctx ends.
	run func(ctx context.Context, t *testing.T, o order, tell func(report))
}

func libraries() []library {
	return []library{
		{"eventsource", "`eventsource` 4.1.1", "`fetch` of your own", node("eventsource")},
		{"eventsource-v2", "`eventsource` 2.0.2", "change `headers` in place", node("eventsource-v2")},
		{"event-source-polyfill", "`event-source-polyfill` 1.0.31", "change `headers` in place", node("event-source-polyfill")},
		{"eventsource-client", "`eventsource-client` 1.2.0", "`fetch` of your own", node("eventsource-client")},
		{"fetch-event-source", "`@microsoft/fetch-event-source` 2.0.1", "`fetch` of your own", node("fetch-event-source")},
		{"reconnecting-eventsource", "`reconnecting-eventsource` 1.6.5 around `eventsource` 4.1.1", "`fetch` of the inner one", node("reconnecting-eventsource")},
		{"go-sse", "Go: `tmaxmax/go-sse` 0.12.0", "`RoundTripper` of your own", goSSE},
		{"launchdarkly", "Go: `launchdarkly/eventsource` 1.11.0", "`RoundTripper` of your own", launchDarkly},
	}
}

// order is what an adapter is to do.
type order struct {
	// Mode is bare: the library as its documentation shows it; or follow: as an
	// application should use it that wants to miss nothing.
	Mode    string            `json:"mode"`
	Targets map[string]string `json:"targets"` // run → URL
	Tokens  string            `json:"tokens"`  // where to get a token, for follow
	Headers map[string]string `json:"headers"` // of every request; for bare, with a token
}

const (
	bare   = "bare"
	follow = "follow"
)

// perform runs libraries until the test ends or the returned function is called.
func perform(t *testing.T, s *stage, libs []library, o func(library) order) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, l := range libs {
		running.Go(func() {
			l.run(ctx, t, o(l), func(r report) {
				s.note(func() { at := role{l.key, r.Run}; s.reports[at] = append(s.reports[at], r) })
			})
		})
	}
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// node runs an adapter in JavaScript.
func node(key string) func(context.Context, *testing.T, order, func(report)) {
	return func(ctx context.Context, t *testing.T, o order, tell func(report)) {
		arg, err := json.Marshal(o)
		if err != nil {
			t.Error(err)
			return
		}
		c := exec.Command("node", "clients/run.mjs", key, string(arg))
		if err := lines(ctx, c, func(line []byte) error {
			var r report
			if err := json.Unmarshal(line, &r); err != nil {
				return fmt.Errorf("it printed %q: %w", line, err)
			}
			tell(r)
			return nil
		}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// lines runs a command and takes its lines, until ctx ends, which closes its
// standard input. It is an error if it ends before or with a failure.
func lines(ctx context.Context, c *exec.Cmd, take func([]byte) error) error {
	var errs bytes.Buffer
	c.Stderr = &errs
	c.WaitDelay = 5 * time.Second
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	var failed error
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if err := take(sc.Bytes()); err != nil && failed == nil {
			failed = err
			in.Close()
		}
	}
	err = c.Wait()
	switch {
	case failed != nil:
		return failed
	case err != nil || ctx.Err() == nil:
		return fmt.Errorf("it ended: %v\n%s", err, &errs)
	}
	return nil
}

// fresh is a RoundTripper that sends headers with a token made for the request.
// It is how a client in Go comes by one.
type fresh struct {
	order
	patient bool // a busy server is trouble like a broken line
}

func (f fresh) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := get(r.Context(), f.Tokens)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	setHeaders(r.Header, f.Headers)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !f.patient {
		return resp, err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		resp.Body.Close()
		return nil, fmt.Errorf("refused: %s", resp.Status)
	}
	return resp, nil
}

func setHeaders(to http.Header, from map[string]string) {
	for name, v := range from {
		to.Set(name, v)
	}
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", req.URL.Path, resp.Status)
	}
	return string(b), err
}
