package node

import (
	"net"
	"time"
)

// A dead peer's slot is free within 45 s by contract. While nothing is on its
// way to it, probes find it: Linux gives up at the first of them after
// ackTimeout, 22 s after the last sign of life. A heartbeat just before that
// stops the probes and waits for its own acknowledgement: 42 s.
const (
	ackTimeout     = 20 * time.Second // of bytes on the wire, also for a peer whose window is closed
	probeAfter     = 12 * time.Second // of silence
	probeEvery     = 5 * time.Second
	probesUnheeded = 4 // where there is no ackTimeout
)

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
}
