package bench

import (
	"net"
	"sync"
	"time"
)

// The pace of the slower kind of a slow peer: 10 bytes a second.
const (
	dripBytes = 1
	dripEvery = 100 * time.Millisecond
)

// Receive buffers of a braked connection, and of one that is let go. The
// service, or its system, has to keep what does not fit.
const (
	brakedBuffer = 4 << 10
	freeBuffer   = 256 << 10
)

// brake makes whoever reads a connection slow, or stops them. It outlives the
// connection, for a peer that comes back is as slow as before.
type brake struct {
	mu   sync.Mutex // protects the rest
	conn net.Conn   // the last that was held; nil before
	pace time.Duration
	free chan struct{} // closed while reading is not braked
}

func newBrake() *brake {
	b := &brake{free: make(chan struct{})}
	close(b.free)
	return b
}

// hold puts the brake on a connection.
func (b *brake) hold(c net.Conn) net.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = c
	return &brakedConn{Conn: c, brake: b, closed: make(chan struct{})}
}

// engage brakes every Read from now on, but for the one under way: to a byte
// for each pace, or to nothing if that is 0. Each engage needs one release
// before the next.
func (b *brake) engage(pace time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pace, b.free = pace, make(chan struct{})
	b.bufferLocked(brakedBuffer)
}

func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bufferLocked(freeBuffer)
	close(b.free)
}

func (b *brake) bufferLocked(bytes int) {
	if c, ok := b.conn.(interface{ SetReadBuffer(int) error }); ok {
		_ = c.SetReadBuffer(bytes) // the larger it stays, the later the service notices
	}
}

// brakedConn is a connection with a brake.
type brakedConn struct {
	net.Conn
	brake  *brake
	once   sync.Once
	closed chan struct{}
}

func (c *brakedConn) Read(p []byte) (int, error) {
	c.brake.mu.Lock()
	pace, free := c.brake.pace, c.brake.free
	c.brake.mu.Unlock()

	select {
	case <-free:
		return c.Conn.Read(p)
	default:
	}
	var dripped <-chan time.Time
	if pace > 0 {
		t := time.NewTimer(pace)
		defer t.Stop()
		dripped = t.C
	}
	select {
	case <-free:
	case <-dripped:
		p = p[:min(len(p), dripBytes)]
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return c.Conn.Read(p)
}

// Close closes the connection and lets a braked Read end.
func (c *brakedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
