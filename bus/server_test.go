package bus_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// wire stands between a bus and its server: the server can be replaced, and
// what the server says on one of the connections be held back.
type wire struct {
	mu     sync.Mutex // protects the rest
	server *embedded.Server
	held   chan struct{} // closed when nothing is held back; nil before the first
	holds  bool          // something is held back
	conns  int
	open   []net.Conn // all that were made, also those that have ended
	full   error      // what Writable says
}

// The connections of a bus, in the order in which it opens them.
const (
	liveConn = iota
	readConn
	writeConn
)

var errNoServer = errors.New("no server")

// InProcessConn implements what bus.Config.Server wants.
func (w *wire) InProcessConn() (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server == nil {
		return nil, errNoServer
	}
	c, err := w.server.InProcessConn()
	if err == nil {
		w.open = append(w.open, c)
	}
	return c, err
}

// Writable implements what bus.Config.Server wants.
func (w *wire) Writable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

// fill has the server say that its disk is full; nil, that it is not.
func (w *wire) fill(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = err
}

// cut parts the bus from its server, which goes on for others, until mend.
func (w *wire) cut() (mend func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.Close()
	}
	s := w.server
	w.open, w.server = nil, nil
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.server = s
	}
}

// holding is a wire whose connection number n can be held back.
type holding struct {
	*wire
	n int
}

func (h *holding) InProcessConn() (net.Conn, error) {
	c, err := h.wire.InProcessConn()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns++
	if h.conns-1 != h.n {
		return c, nil
	}
	return &heldConn{Conn: c, hold: h, closed: make(chan struct{})}, nil
}

// hold holds back what the server says, until the result is called.
func (h *holding) hold() (release func()) {
	held := make(chan struct{})
	h.mu.Lock()
	h.held, h.holds = held, false
	h.mu.Unlock()
	return sync.OnceFunc(func() { close(held) })
}

// answered reports whether the server has said something that is held back.
func (h *holding) answered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holds
}

type heldConn struct {
	net.Conn
	hold   *holding
	once   sync.Once
	closed chan struct{}
}

func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.hold.mu.Lock()
	held := c.hold.held
	c.hold.holds = true
	c.hold.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-c.closed:
		}
	}
	return n, err
}

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// openHolding opens a bus whose connection number n can be held back.
func openHolding(t testing.TB, n int, change func(*bus.Config)) (*bus.Bus, *holding) {
	h := &holding{wire: &wire{server: bustest.Server(t)}, n: n}
	b := openOn(t, h.server, func(c *bus.Config) {
		c.Server = h
		if change != nil {
			change(c)
		}
	})
	return b, h
}

// openWire opens a bus on a server that can be replaced. What it has asked a
// server that ends is not answered, so it must not wait for long.
func openWire(t testing.TB, dir string, change func(*bus.Config)) (*bus.Bus, *wire) {
	w := &wire{server: bustest.ServerIn(t, dir)}
	b := openOn(t, w.server, func(c *bus.Config) {
		c.Server, c.Timeout = w, 3*time.Second
		if change != nil {
			change(c)
		}
	})
	return b, w
}

// stop ends the server.
func (w *wire) stop() {
	w.mu.Lock()
	s := w.server
	w.server = nil
	w.mu.Unlock()
	s.Close()
}

// start starts a server in dir, in place of the one that was stopped.
func (w *wire) start(t testing.TB, dir string) { w.use(bustest.ServerIn(t, dir)) }

// use puts a server in place of the one that was stopped.
func (w *wire) use(s *embedded.Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = s
}
