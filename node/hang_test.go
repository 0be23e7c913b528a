package node_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/bus/embedded"
)

// sluggish is a JetStream whose every answer comes late.
type sluggish struct {
	*embedded.Server
	delay atomic.Int64 // ns
}

func (s *sluggish) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &sluggishConn{Conn: c, delay: &s.delay, closed: make(chan struct{})}, nil
}

type sluggishConn struct {
	net.Conn
	delay  *atomic.Int64
	closed chan struct{}
	once   atomic.Bool // closed is closed
}

func (c *sluggishConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	late := time.NewTimer(time.Duration(c.delay.Load()))
	defer late.Stop()
	select {
	case <-late.C:
	case <-c.closed:
	}
	return n, err
}

func (c *sluggishConn) Close() error {
	if c.once.CompareAndSwap(false, true) {
		close(c.closed)
	}
	return c.Conn.Close()
}

// A JetStream that hangs is no reason to let a client hang: it has its 503
// within five seconds, however many questions there were.
func TestConnectIsAnsweredThoughJetStreamHangs(t *testing.T) {
	for name, row := range map[string]struct {
		delay time.Duration
		route edit
	}{
		"at each answer":            {600 * time.Millisecond, onNotifications}, // each is in time
		"at each, for longer":       {700 * time.Millisecond, onNotifications},
		"at the first answer":       {7 * time.Second, onNotifications},
		"at each answer, of a list": {700 * time.Millisecond, onLists},
		"at the first, of a list":   {7 * time.Second, onLists},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nats *sluggish
			s := start(t, func(c *config) {
				c.hang = func(server *sluggish) { nats = server }
				c.node.MaxPerUser = 1
			})
			s.store(inbox("jane"), note("n1"))
			c := s.connect(s.jane(), row.route)
			c.greeting()
			c.close()
			eventually(t, "the slot to be free", func() bool { return s.metric("peal_connections") == 0 })

			nats.delay.Store(int64(row.delay))
			began := time.Now()
			a := s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "", row.route))
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("answered after %v, want within 5 s", d)
			}
			wantProblem(t, a, 503, "UNAVAILABLE", "")
			nats.delay.Store(0)
			eventually(t, "JetStream to be back", func() bool { // and no slot was kept
				return s.do(s.request(context.Background(), "GET", connectPath, s.jane(), "", row.route)).status == 200
			})
		})
	}
}
