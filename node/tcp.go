package node

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// A dead peer's slot is free within 45 s by contract. While nothing is on its
// way to it, probes find it: Linux gives up at the first of them after
// ackTimeout, 22 s after the last sign of life. A heartbeat just before that
// stops the probes and waits for its own acknowledgement: 42 s.
const (
	ackTimeout     = 20 * time.Second // of bytes on the wire
	probeAfter     = 12 * time.Second // of silence
	probeEvery     = 5 * time.Second
	probesUnheeded = 4 // where there is no ackTimeout
)

// maxUnsent is how many bytes the kernel takes for a peer beyond what is on the
// wire. Left alone it takes megabytes, and then nothing before a third of them is
// gone: a write to a peer that reads steadily, but slowly, would not return within
// its timeout. And the stream is the buffer, not the kernel.
const maxUnsent = 16 << 10

// vigilant has the connections of a listener fail when their peer is dead.
type vigilant struct{ net.Listener }

func (l vigilant) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok && err == nil {
		watch(t)
	}
	return c, err
}

// watch sets up the probes. What the system does not have is left as it is.
func watch(t *net.TCPConn) {
	t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probesUnheeded})
	setAckTimeout(t, ackTimeout)
	setMaxUnsent(t, maxUnsent)
}

// peer is the other end of a TCP connection: of one HTTP/1.1 response at a time,
// or of several HTTP/2 streams. Its methods may be called concurrently, also
// after the connection was closed, and on nil, which is a peer whose connection
// is none of TCP.
//
// Linux counts a closed window as bytes that are not acknowledged. So the
// ackTimeout of a peer that takes nothing is put off to after the write timeout,
// which is to end it, and whether it is dead is asked instead.
type peer struct {
	tcp *net.TCPConn

	mu    sync.Mutex // protects stuck, and orders setting the timeout
	stuck int        // writes to it that are stalled
}

type peerKey struct{}

// withPeer is http.Server.ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		return context.WithValue(ctx, peerKey{}, &peer{tcp: t})
	}
	return ctx
}

// peerOf is who a request came from.
func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}

// stalls has the kernel be patient: a write to the peer takes longer than it
// should, and is given up after the timeout. Each stalls needs one moves.
func (p *peer) stalls(timeout time.Duration) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck++
	setAckTimeout(p.tcp, ackTimeout+timeout)
}

// moves: the write has come to its end.
func (p *peer) moves() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck--; p.stuck == 0 {
		setAckTimeout(p.tcp, ackTimeout)
	}
}

// silent reports whether the peer has not answered for ackTimeout, though it
// was asked. Where the system does not tell, nobody is.
func (p *peer) silent() bool { return p != nil && unheard(p.tcp, ackTimeout) }

// sent is how much of what was written to the connection its peer has acknowledged.
func (p *peer) sent() (acked uint64, outstanding int, ok bool) {
	if p == nil {
		return 0, 0, false
	}
	return sent(p.tcp)
}

// cut closes the connection, whatever is under way on it.
func (p *peer) cut() {
	if p != nil {
		p.tcp.Close()
	}
}
