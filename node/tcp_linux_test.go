package node

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A peer that vanished without a word is noticed within 45 s only if what is
// sent to it may not wait for longer.
func TestListenerWatchesItsPeers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := vigilant{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, option, want int }{
			{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 12},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 5},
			{syscall.IPPROTO_TCP, tcpUserTimeout, 20000},
		} {
			if got, err := syscall.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("option %d: got %d and %v, want %d", o.option, got, err, o.want)
			}
		}
	})
	// The first probe after ackTimeout, and the acknowledgement that is waited
	// for from then on.
	found := probeAfter
	for found < ackTimeout {
		found += probeEvery
	}
	if found+ackTimeout > 45*time.Second {
		t.Errorf("a dead peer may be held for %v, want at most 45 s", found+ackTimeout)
	}
}
