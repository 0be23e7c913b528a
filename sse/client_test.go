package sse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/sse"
)

// server answers the nth request with the nth of its answers and everything
// after the last with 204, which ends Follow. It keeps the requests' headers.
type server struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex // protects what is below
	answers []http.HandlerFunc
	got     []http.Header
}

func serve(t *testing.T, answers ...http.HandlerFunc) *server {
	s := &server{t: t, answers: answers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.got)
	s.got = append(s.got, r.Header.Clone())
	answer := status(http.StatusNoContent)
	if n < len(s.answers) {
		answer = s.answers[n]
	}
	s.mu.Unlock()
	answer(w, r)
}

// header returns one header of every request so far.
func (s *server) header(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := []string{}
	for _, h := range s.got {
		values = append(values, strings.Join(h.Values(name), ","))
	}
	return values
}

func (s *server) client() *sse.Client {
	return &sse.Client{URL: s.URL, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
}

// freshConnections makes every request on a connection of its own: on a used
// one net/http repeats by itself a request that got no answer.
func freshConnections() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// stream answers 200 with frames, then does what end does.
func stream(end http.HandlerFunc, frames ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.Join(frames, ""))
		w.(http.Flusher).Flush()
		end(w, r)
	}
}

func abort(http.ResponseWriter, *http.Request)    { panic(http.ErrAbortHandler) }
func cleanEnd(http.ResponseWriter, *http.Request) {}
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
func status(code int, h ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(h); i += 2 {
			w.Header().Set(h[i], h[i+1])
		}
		w.WriteHeader(code)
	}
}

func problem(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// stalled begins a problem, then does what end does.
func stalled(end http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		problem(http.StatusBadGateway, "{")(w, r)
		w.(http.Flusher).Flush()
		end(w, r)
	}
}

// notification is the frame of a notification; cursor "" means no id line.
func notification(cursor, id string) string {
	return frame(sse.Event{ID: cursor, Name: sse.Notification, Data: fmt.Appendf(nil, `{"id":%q}`, id)})
}

func frame(e sse.Event) string {
	b, err := sse.Append(nil, e)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// collect runs Follow to its end and returns the data of what it handed over.
func collect(ctx context.Context, c *sse.Client) ([]string, error) {
	var got []string
	err := c.Follow(ctx, func(e sse.Event) error {
		got = append(got, string(e.Data))
		return nil
	})
	return got, err
}

func TestFollowGoesOnFromTheLastIDHoweverAConnectionEnds(t *testing.T) {
	for name, end := range map[string]http.HandlerFunc{"aborted": abort, "clean": cleanEnd} {
		t.Run(name, func(t *testing.T) {
			s := serve(t,
				stream(end, "id: c1\nevent: connected\ndata: 1\n\n", notification("c2", "n1")),
				stream(end, "event: connected\ndata: 2\n\n"), // no id: a gap follows, had it come
				stream(end, "id: c3\nevent: gap\ndata: 3\n\n", "event: heartbeat\ndata: 4\n\n", "id: c4\nevent: gap\ndata: cut"),
				stream(end, "id: c5\n\n"),
			)
			c := s.client()
			c.LastEventID = "c0"
			got, err := collect(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"1", `{"id":"n1"}`, "2", "3", "4"}, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"c0", "c2", "c2", "c3", "c5"}, s.header("Last-Event-ID")); diff != "" {
				t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
			}
			if c.LastEventID != "c5" {
				t.Errorf("the client is left at %q, want c5", c.LastEventID)
			}
		})
	}
}

func TestFollowAsksForAnEventStream(t *testing.T) {
	s := serve(t)
	c := s.client()
	c.Header = func(context.Context) (http.Header, error) {
		return http.Header{"authorization": {"Bearer t"}, "Realmname": {"acme"}, "Accept": {"*/*"}, "Last-Event-Id": {"mine"}}, nil
	}
	if _, err := collect(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Accept": "text/event-stream", "Cache-Control": "no-store", "Accept-Encoding": "identity",
		"Authorization": "Bearer t", "Realmname": "acme", "Last-Event-ID": "",
	} {
		if got := s.header(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestFollowTakesTheIDBackWhenTheStreamDoes(t *testing.T) {
	s := serve(t, stream(abort, "id: c1\ndata: 1\n\nid\ndata: 2\n\n"))
	if _, err := collect(t.Context(), s.client()); err != nil {
		t.Fatal(err)
	}
	if got := s.header("Last-Event-ID"); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("Last-Event-ID: %q", got)
	}
}

// An id that cannot stand in a header would make every later request fail.
func TestFollowDoesNotResumeFromWhatIsNoCursor(t *testing.T) {
	s := serve(t, stream(abort, "id: c1\ndata: 1\n\n", "id: \x01\ndata: 2\n\n", "id: "+strings.Repeat("x", 65)+"\ndata: 3\n\n"))
	got, err := collect(t.Context(), s.client())
	if !slices.Equal(got, []string{"1", "2", "3"}) || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if got := s.header("Last-Event-ID"); !slices.Equal(got, []string{"", "c1"}) {
		t.Errorf("Last-Event-ID: %q", got)
	}
}

func TestANotificationSentAgainIsNotHandedOverAgain(t *testing.T) {
	s := serve(t,
		stream(abort, notification("c1", "n1"), notification("c2", "n2")),
		stream(abort, notification("c3", "n1"), "event: state\ndata: {\"id\":\"n1\"}\n\n", "event: notification\ndata: no json\n\n", "event: notification\ndata: no json\n\n"),
	)
	c := s.client()
	got, err := collect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"id":"n1"}`, `{"id":"n2"}`, `{"id":"n1"}`, "no json", "no json"}, got); diff != "" {
		t.Errorf("events; the third is a state (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"", "c2", "c3"}, s.header("Last-Event-ID")); diff != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
	}

	for seen, want := range map[int][]string{
		1:  {"a", "b", "a"},
		2:  {"a", "b"},
		-1: {"a", "a", "b", "a"},
	} {
		s := serve(t, stream(abort, notification("", "a"), notification("", "a"), notification("", "b"), notification("", "a")))
		c := s.client()
		c.Seen = seen
		got, err := collect(t.Context(), c)
		for i := range want {
			want[i] = fmt.Sprintf(`{"id":%q}`, want[i])
		}
		if !slices.Equal(got, want) || err != nil {
			t.Errorf("Seen %d: %q, %v; want %q", seen, got, err, want)
		}
	}
}

func TestTheHandlersErrorEndsFollowAndItsEventIsNotSeen(t *testing.T) {
	s := serve(t,
		stream(hang, notification("c1", "n1"), notification("c2", "n2")),
		stream(abort, notification("c2", "n2")),
	)
	c := s.client()
	full := errors.New("disk full")
	err := c.Follow(t.Context(), func(e sse.Event) error {
		if e.ID == "c2" {
			return full
		}
		return nil
	})
	if err != full || c.LastEventID != "c1" {
		t.Fatalf("%v, left at %q; want %v as it is, c1", err, c.LastEventID, full)
	}

	got, err := collect(t.Context(), c)
	if !slices.Equal(got, []string{`{"id":"n2"}`}) || err != nil {
		t.Errorf("followed again: %q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"", "c1", "c2"}, s.header("Last-Event-ID")); diff != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	for name, answer := range map[string]func(end http.HandlerFunc) http.HandlerFunc{
		"while it connects":      func(end http.HandlerFunc) http.HandlerFunc { return end },
		"on a silent connection": func(end http.HandlerFunc) http.HandlerFunc { return stream(end, "data: 1\n\n") },
		"reading a refusal":      func(end http.HandlerFunc) http.HandlerFunc { return stalled(end) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := serve(t, answer(func(w http.ResponseWriter, r *http.Request) {
				cancel()
				hang(w, r)
			}))
			if _, err := collect(ctx, s.client()); err != context.Canceled {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
	}
}

func TestHeaderIsToldOfTheContextsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t).client()
	c.Header = func(ctx context.Context) (http.Header, error) {
		cancel()
		<-ctx.Done()
		return nil, errors.New("interrupted")
	}
	if _, err := collect(ctx, c); err != context.Canceled {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestNoEventIsHandedOverAfterTheContext(t *testing.T) {
	s := serve(t, stream(hang, notification("c1", "n1"), notification("c2", "n2")))
	c := s.client()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := c.Follow(ctx, func(sse.Event) error { n++; cancel(); return nil })
	if err != context.Canceled || n != 1 || c.LastEventID != "c1" {
		t.Errorf("%v after %d events, left at %q; want context.Canceled, 1, c1", err, n, c.LastEventID)
	}
}

// The server is not heard: its process is stopped, or a router forgot the
// connection. Nothing but time tells.
func TestASilentConnectionIsGivenUp(t *testing.T) {
	s := serve(t, stream(hang, notification("c1", "n1")), hang, stalled(hang), stream(abort, notification("c2", "n2")))
	c := s.client()
	c.Idle = 50 * time.Millisecond
	got, err := collect(t.Context(), c)
	if !slices.Equal(got, []string{`{"id":"n1"}`, `{"id":"n2"}`}) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"", "c1", "c1", "c1", "c2"}, s.header("Last-Event-ID")); diff != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
	}
}

func TestErrorEventsAreHandedOver(t *testing.T) {
	revoked := `{"code":"REVOKED","message":"Access revoked"}`
	s := serve(t,
		stream(abort, frame(sse.Event{Name: sse.Error, Retry: time.Millisecond, Data: []byte(revoked)})),
		problem(http.StatusForbidden, `{"code":"FORBIDDEN"}`),
	)
	got, err := collect(t.Context(), s.client())
	if !slices.Equal(got, []string{revoked}) {
		t.Errorf("events: %q", got)
	}
	if refused, ok := errors.AsType[*sse.StatusError](err); !ok || refused.Problem.Code != "FORBIDDEN" {
		t.Errorf("then %v, want a StatusError with code FORBIDDEN", err)
	}
}

func TestFollowRefusesWhatCannotWork(t *testing.T) {
	for _, c := range []*sse.Client{
		{}, {URL: "/relative"}, {URL: "ftp://x/"}, {URL: "http://"}, {URL: "http://x/\x00"}, {URL: "://secret"},
		{URL: "http://x/", LastEventID: "a\nb"}, {URL: "http://x/", LastEventID: strings.Repeat("a", 65)},
	} {
		_, err := collect(t.Context(), c)
		if !errors.Is(err, peal.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("URL %q, LastEventID %q: %v, want peal.ErrInvalid", c.URL, c.LastEventID, err)
		}
	}
}

func TestOneFollowAtATime(t *testing.T) {
	s := serve(t, stream(hang, "data: 1\n\n"))
	c := s.client()
	stop := errors.New("stop")
	err := c.Follow(t.Context(), func(sse.Event) error {
		if _, err := collect(t.Context(), c); err == nil {
			t.Error("a second Follow runs beside the first")
		}
		return stop
	})
	if err != stop {
		t.Errorf("the first: %v, want %v", err, stop)
	}
}

func TestFollowLogsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, stream(abort, notification("c1", "secret-text")), status(http.StatusBadGateway), abort)
	c := s.client()
	c.URL += "/?access_token=secret-query"
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Header = func(context.Context) (http.Header, error) {
		return http.Header{"Authorization": {"Bearer secret-token"}}, nil
	}
	c.HTTP = freshConnections()
	if _, err := collect(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log has a secret:\n%s", &log)
	}
	for _, want := range []string{"cursor=c1", "reason=aborted", "reason=server_error", "reason=unreachable"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
}

// openBodies counts the bodies that nobody has closed.
type openBodies struct {
	http.RoundTripper
	n atomic.Int64
}

func (o *openBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.RoundTripper.RoundTrip(r)
	if err == nil {
		o.n.Add(1)
		resp.Body = &countedBody{ReadCloser: resp.Body, open: o}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	open *openBodies
	once sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.open.n.Add(-1) })
	return b.ReadCloser.Close()
}

func TestEveryBodyIsClosed(t *testing.T) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	for name, last := range map[string]http.HandlerFunc{
		"204": status(http.StatusNoContent), "403": problem(http.StatusForbidden, "{}"),
		"a page": status(http.StatusOK, "Content-Type", "text/html"), "too long": stream(hang, "data: "+strings.Repeat("x", sse.MaxLine)),
		"the handler's error": stream(hang, "event: gap\ndata: stop\n\n"),
	} {
		s := serve(t, stream(abort, "data: 1\n\n"), status(http.StatusTooManyRequests), problem(http.StatusInternalServerError, "{}"),
			status(http.StatusUnauthorized), stream(cleanEnd, "data: 2\n\n"), last)
		c := s.client()
		open := &openBodies{RoundTripper: transport}
		c.HTTP = &http.Client{Transport: open}
		c.Header = func(context.Context) (http.Header, error) { return nil, nil }
		_ = c.Follow(t.Context(), func(e sse.Event) error {
			if string(e.Data) == "stop" {
				return errors.New("stop")
			}
			return nil
		})
		if n, asked := open.n.Load(), len(s.header("Accept")); n != 0 || asked != 6 {
			t.Errorf("%s: %d bodies open after %d requests, want 0 after 6", name, n, asked)
		}
	}
}

func TestFollowLeavesNoConnectionBehind(t *testing.T) {
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(problem(http.StatusForbidden, "{}"))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed) // there is one connection
		}
	}
	s.Start()
	defer s.Close()
	if _, err := collect(t.Context(), &sse.Client{URL: s.URL}); err == nil {
		t.Fatal("want a StatusError")
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open 5s after Follow")
	}
}
