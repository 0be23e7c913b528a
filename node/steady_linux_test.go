package node_test

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel would take megabytes for a peer, and then nothing before a third of
// them is gone: a peer that reads steadily looked like one that takes nothing.
func TestSteadyReaderIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.node.WriteTimeout = 2 * time.Second })
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { // as on a real network; that of loopback makes large steps
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400)
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
		})
	}}
	raw, err := d.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(patience))
	sendConnect(raw, s.jane())
	c := &connection{t: t, events: responseEvents(t, &steady{raw, 50 * time.Millisecond})} // 40 kB/s
	c.greeting()
	i, done := 0, make(chan struct{})
	go func() { // from before anything is sent: it must never look like one that takes nothing
		defer close(done)
		for began := time.Now(); time.Since(began) < 8*time.Second; i++ {
			if got, want := c.notification(), fmt.Sprint("bulk-", i); got != want {
				t.Errorf("got %s, want %s", got, want)
				return
			}
		}
	}()
	s.flood("jane")
	<-done
	if n := s.metric(`peal_connections_ended_total{reason="slow_client"}`); n != 0 || i == flooded {
		t.Errorf("after %d of %d it was given up: %v", i, flooded, n)
	}
}

// steady reads at most 2 kB after each pause.
type steady struct {
	net.Conn
	pause time.Duration
}

func (c *steady) Read(b []byte) (int, error) {
	<-time.After(c.pause)
	return c.Conn.Read(b[:min(len(b), 2<<10)])
}
