package node_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// arrived is how many bytes a socket has that were not read: those that its TCP has
// acknowledged.
func arrived(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// smallWindow has a socket tell its peer that it takes little.
func smallWindow(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10) })
}

// What a node has written and the kernel has sent, or is to send, is not received:
// only what the peer's TCP has acknowledged. A client that takes nothing more gets
// everything again that has not come to its machine.
func TestWhatIsNotAcknowledgedComesAgain(t *testing.T) {
	s := start(t, quick)
	jane := s.jane()
	d := net.Dialer{Control: smallWindow}
	c, err := d.Dial("tcp", s.url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, s.head(jane, "GET "+connectPath+"?durable=wall HTTP/1.1")+"\r\n")
	eventually(t, "the connection is open", func() bool { return arrived(t, c) > 0 })

	stored := 0
	store := func() {
		n := note(fmt.Sprint(stored))
		n.Message = strings.Repeat("x", 1500)
		s.store(inbox("jane"), n)
		stored++
	}
	const proven = 2
	for range proven {
		store()
	}
	s.pending(jane, 0)
	// Until the window is closed, and some wait on this side of it.
	for still, before := 0, 0; still < 6 || stored < 20; {
		store()
		time.Sleep(20 * time.Millisecond) // for it to be written, as one of its own
		if now := arrived(t, c); now == before {
			still++
		} else {
			still, before = 0, now
		}
	}
	time.Sleep(2 * time.Second) // several heartbeats, of which none may prove what has not arrived

	buf := make([]byte, arrived(t, c))
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
	c.Close()
	came := bytes.Count(buf, []byte("event: notification\n")) // the last perhaps not whole
	if came == 0 || came >= stored {
		t.Fatalf("%d of %d have come: the window tells nothing", came, stored)
	}
	again := s.connect(jane, query("durable=wall"))
	again.greeting()
	var first int
	fmt.Sscan(again.notification(), &first)
	if first < proven || first > came {
		t.Fatalf("the first that comes again is %d; want %d, which was received before, or more, and %d at most, for more have not arrived", first, proven, came)
	}
	for want := first + 1; want < stored; want++ {
		if got := again.notification(); got != fmt.Sprint(want) {
			t.Fatalf("got %s, want %d", got, want)
		}
	}
}
