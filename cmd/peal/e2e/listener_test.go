package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
)

// listener reads a connection.
type listener struct {
	events chan sse.Event // closed when the connection has ended
	close  func()         // ends it
}

// listen asks for the notifications of whom the token is of. The listener is
// nil unless the status is 200; it is open until the test ends.
func (s *service) listen(t *testing.T, as bearer) (*listener, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+notifications, nil)
	if err != nil {
		t.Fatal(err)
	}
	setHeaders(req.Header, as.headers())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, resp.StatusCode
	}
	done := make(chan struct{})
	l := &listener{events: make(chan sse.Event), close: func() { cancel(); <-done }}
	t.Cleanup(l.close)
	go func() {
		defer close(done)
		defer resp.Body.Close()
		defer close(l.events)
		for ev, err := range sse.Read(resp.Body, nil) {
			if err != nil {
				return // an end like any other: peal never ends a response cleanly
			}
			select {
			case l.events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	l.await(t, "connected")
	return l, resp.StatusCode
}

// mustListen is listen where nothing but a connection will do.
func (s *service) mustListen(t *testing.T, as bearer) *listener {
	t.Helper()
	l, status := s.listen(t, as)
	if l == nil {
		t.Fatalf("realm %s, tenant %s: status %d, want 200", as.realm, as.tenant, status)
	}
	return l
}

// accepts wants a connection, which it ends.
func (s *service) accepts(t *testing.T, as bearer) {
	t.Helper()
	s.mustListen(t, as).close()
}

// refuses wants a status other than 200.
func (s *service) refuses(t *testing.T, as bearer, want int) {
	t.Helper()
	if _, got := s.listen(t, as); got != want {
		t.Errorf("realm %s, tenant %s: status %d, want %d", as.realm, as.tenant, got, want)
	}
}

// await returns the next event, which must have the name given. Heartbeats and
// states do not count.
func (l *listener) await(t *testing.T, name string) sse.Event {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case ev, ok := <-l.events:
			switch {
			case !ok:
				t.Fatalf("the connection has ended, want the event %s", name)
			case ev.Type == name:
				return ev
			case ev.Type != "heartbeat" && ev.Type != "state":
				t.Fatalf("the event %s %s, want %s", ev.Type, ev.Data, name)
			}
		case <-late.C:
			t.Fatalf("no event %s within %v", name, patience)
		}
	}
}

// hears publishes to a user and wants it to come here.
func (l *listener) hears(t *testing.T, s *service, publisher bearer, user, id string) {
	t.Helper()
	if err := s.publish(publisher, id, []string{user}); err != nil {
		t.Fatal(err)
	}
	ev := l.await(t, "notification")
	var n struct{ ID string }
	if err := json.Unmarshal([]byte(ev.Data), &n); err != nil || n.ID != id {
		t.Fatalf("notification %q, %v, want %q", n.ID, err, id)
	}
}

// ends wants the connection to end, with an error event of that code as its last
// word.
func (l *listener) ends(t *testing.T, code string) {
	t.Helper()
	var last struct{ Code string }
	ev := l.await(t, "error")
	if err := json.Unmarshal([]byte(ev.Data), &last); err != nil || last.Code != code {
		t.Fatalf("the error event %s, %v, want the code %s", ev.Data, err, code)
	}
	select {
	case ev, ok := <-l.events:
		if ok {
			t.Fatalf("after the error event comes %s %s", ev.Type, ev.Data)
		}
	case <-time.After(patience):
		t.Fatalf("still connected %v after the error event", patience)
	}
}
