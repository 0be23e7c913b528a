package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/pealhq/peal/sse"
)

const (
	dialTimeout = 10 * time.Second
	openTimeout = 60 * time.Second // from the dial to the connected event
	giveUp      = 2 * time.Minute  // of trying again

	// headBuffer is for the head of the answer and the frames of its chunks.
	// The reader of events has a buffer of its own.
	headBuffer = 512

	maxRefusal = 4 << 10 // bytes of its body that are read

	// mostPause bounds how long a service can make us wait before we try
	// again, and leastPause is how long we wait when it says nothing.
	mostPause  = 5 * time.Second
	leastPause = 200 * time.Millisecond
)

// refusal is an answer that is not an event stream.
type refusal struct {
	status int
	code   string        // of the problem
	after  time.Duration // Retry-After; 0 if there is none
}

func (r *refusal) Error() string { return fmt.Sprintf("refused: %d %s", r.status, r.code) }

// passing reports whether asking again may help.
func (r *refusal) passing() bool {
	return r.status == http.StatusTooManyRequests || r.status >= 500
}

// connection is one SSE connection of a crowd. When it ends against our will it
// is opened again where it was, as a browser does.
type connection struct {
	crowd *crowd
	index int // in the crowd

	// Owned by run; between two runs by the crowd.
	cursor string // of the last event that had one
	userID string // who the service says we are
	pause  time.Duration
	conn   net.Conn
	events *sse.Reader
}

// run keeps the connection open until ctx ends. It calls opened once: when the
// connected event was read, or when it is given up, which ends run.
func (c *connection) run(ctx context.Context, opened func(error)) {
	var failing time.Time // since when; zero if the last open went well
	first := true
	for ctx.Err() == nil {
		err := c.crowd.admit(ctx, c.open)
		if err == nil {
			failing = time.Time{}
			c.crowd.open.Add(1)
			if first {
				first = false
				opened(nil)
			} else {
				c.crowd.reconnects.Add(1)
			}
			c.follow(ctx)
			c.crowd.open.Add(-1)
		} else if ctx.Err() == nil {
			if failing.IsZero() {
				failing = time.Now()
			}
			if !c.again(err) || time.Since(failing) > giveUp {
				if first {
					opened(err)
				}
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.pause):
		}
	}
	if first {
		opened(ctx.Err())
	}
}

// again decides whether an open that failed is tried once more, and after
// which pause.
func (c *connection) again(err error) bool {
	c.pause = leastPause + rand.N(leastPause)
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		c.crowd.refused("no answer")
		return true // the service was found, so it may be back
	}
	if !r.passing() {
		return false
	}
	c.crowd.refused(fmt.Sprint(r.status, " ", r.code))
	c.pause = min(max(r.after, c.pause), mostPause)
	return true
}

// open connects, asks for the stream after the cursor, and reads the connected
// event.
func (c *connection) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if c.conn, err = c.crowd.dial(ctx, c.index); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.conn.Close()
		}
	}()
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	if c.events, err = c.request(); err != nil {
		return err
	}
	e, err := c.events.Next()
	if err != nil {
		return fmt.Errorf("no event came: %w", err)
	}
	if e.Name != sse.Connected {
		return fmt.Errorf("the first event is %q instead of %q", e.Name, sse.Connected)
	}
	c.note(e)
	if c.userID == "" {
		var connected struct{ UserID string }
		if err := json.Unmarshal(e.Data, &connected); err != nil {
			return fmt.Errorf("event %s: %w", sse.Connected, err)
		}
		c.userID = connected.UserID
	}
	return nil
}

// request asks for the stream, and returns its events.
func (c *connection) request() (*sse.Reader, error) {
	req := c.crowd.request(c.index, c.cursor)
	if err := req.Write(c.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c.conn, headBuffer), req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp)
	}
	return sse.NewReader(resp.Body), nil
}

func refused(resp *http.Response) *refusal {
	r := &refusal{status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.after = time.Duration(seconds) * time.Second
	}
	var p sse.Problem
	if body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)); err == nil {
		json.Unmarshal(body, &p) // an answer without a problem has none to tell
	}
	r.code = p.Code
	return r
}

// follow reads events until the connection ends, or ctx.
func (c *connection) follow(ctx context.Context) {
	defer c.conn.Close()
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	for {
		e, err := c.events.Next()
		if err != nil {
			return
		}
		at := time.Now()
		c.note(e)
		switch e.Name {
		case sse.Notification:
			c.crowd.deliver(c.index, publicationID(e.Data), at)
		case sse.Gap:
			c.crowd.gaps.Add(1)
		}
	}
}

// note keeps what an event says about coming back.
func (c *connection) note(e sse.Event) {
	if e.ID != "" {
		c.cursor = e.ID
	}
	if e.Retry > 0 {
		c.pause = min(e.Retry, mostPause)
	}
}

// publicationID cuts out of a notification what Publish was given to name it: the id,
// which is the first field, or where the service has made the notification of an event
// the ticket's number, which is near. It is "" if it is not there. Parsing all of it
// would cost more than reading it did.
func publicationID(data []byte) string {
	rest, ok := bytes.CutPrefix(data, []byte(`{"id":"`))
	if !ok {
		return ""
	}
	if bytes.HasPrefix(rest, []byte("notif-")) {
		if _, rest, ok = bytes.Cut(rest, []byte(`,"ticketNumber":"`)); !ok {
			return ""
		}
	}
	id, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return ""
	}
	return string(id)
}
