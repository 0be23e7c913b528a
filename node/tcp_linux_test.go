package node

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
			{syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 20000},
			{syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16384},
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

// A live peer that stops reading is ended by the write timeout of 30 s, not by
// the kernel after 20 s; and as soon as it goes on, or the last of the HTTP/2
// streams that it keeps waiting, the kernel looks for a dead one again.
func TestKernelIsPatientWithAStalledPeer(t *testing.T) {
	near, far := tcpPair(t)
	defer near.Close()
	defer far.Close()
	watch(near)
	p := &peer{tcp: near}
	want := func(after string, d time.Duration) {
		t.Helper()
		raw, err := near.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || got != int(d.Milliseconds()) {
				t.Errorf("%s: got %d ms and %v, want %v", after, got, err, d)
			}
		})
	}
	want("before", 20*time.Second)
	p.stalls(30 * time.Second)
	p.stalls(30 * time.Second)
	want("two stall", 50*time.Second)
	p.moves()
	want("one moves", 50*time.Second)
	p.moves()
	want("both move", 20*time.Second)
	if p.silent() {
		t.Error("a peer that was asked nothing counts as silent")
	}
}

func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), peer.(*net.TCPConn)
}
