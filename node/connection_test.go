package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/pealhq/peal/sse"
)

// connection is an open event stream.
type connection struct {
	t      testing.TB
	resp   *http.Response
	events *sse.Reader
	close  func()
}

func (s *site) connect(u user, edits ...edit) *connection {
	s.t.Helper()
	return s.connectBy(s.client, u, edits...)
}

// connectBy opens a connection, which ends with the test at the latest.
func (s *site) connectBy(c *http.Client, u user, edits ...edit) *connection {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	resp, err := c.Do(s.request(ctx, "GET", connectPath, u, "", edits...))
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	conn := &connection{t: s.t, resp: resp, events: sse.NewReader(resp.Body), close: func() { cancel(); resp.Body.Close() }}
	s.t.Cleanup(conn.close)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("connect: got %d %s, want 200", resp.StatusCode, body)
	}
	return conn
}

// next returns the next event but heartbeats, which must be of a name.
func (c *connection) next(name sse.Name) sse.Event {
	c.t.Helper()
	for {
		e, err := c.events.Next()
		if err != nil {
			c.t.Fatalf("got %v, want %s", err, name)
		}
		if e.Name == sse.Heartbeat && name != sse.Heartbeat {
			continue
		}
		if e.Name != name {
			c.t.Fatalf("got %s %s, want %s", e.Name, e.Data, name)
		}
		return e
	}
}

// notification reads the next notification and returns its id.
func (c *connection) notification() string {
	c.t.Helper()
	return field(c.t, c.next(sse.Notification), "id").(string)
}

// greeting is the data of connected.
type greeting struct {
	Message              string
	UserID               string `json:"userId"`
	Timestamp, ExpiresAt time.Time
	Recovered            bool
	Unread               int
	ReadState            string
}

func (c *connection) greeting() (sse.Event, greeting) {
	c.t.Helper()
	e := c.next(sse.Connected)
	var g greeting
	if err := json.Unmarshal(e.Data, &g); err != nil {
		c.t.Fatal(err)
	}
	return e, g
}

// aborted wants the connection to end with an error event of a code and then
// without a clean end of the response. It returns the event.
func (c *connection) aborted(code string) sse.Event {
	c.t.Helper()
	e := c.next(sse.Error)
	if got := field(c.t, e, "code"); got != code {
		c.t.Errorf("error event: got code %v, want %s", got, code)
	}
	if e.Retry < time.Second || e.Retry > 3*time.Second {
		c.t.Errorf("error event: got retry %v, want 1 to 3 s", e.Retry)
	}
	if e.ID != "" {
		c.t.Errorf("error event: got id %q, want none", e.ID)
	}
	next, err := c.events.Next()
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("after the error event: got %s and %v, want an abort", next.Name, err)
	}
	return e
}
