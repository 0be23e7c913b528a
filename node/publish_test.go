package node_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// The bodies of strangers, who would hear 401 in the end, must not fill the
// memory nor keep a publisher out.
func TestStrangersBodiesGetLittleRoom(t *testing.T) {
	s := start(t, nil)
	unfinished := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n", publishPath) +
		strings.Repeat(" ", 1<<20-1)
	var sending sync.WaitGroup
	var conns []net.Conn
	for range 12 { // of a mebibyte, and there is room for eight
		c := s.dial()
		conns = append(conns, c)
		sending.Go(func() { io.WriteString(c, unfinished) }) // fails where it is refused meanwhile
	}
	eventually(t, "somebody to be refused for want of room", func() bool {
		return s.metric(`peal_requests_refused_total{code="UNAVAILABLE",reason=""}`) > 0
	})
	if a := s.post(s.publisher(), publication("n1", `"jane"`)); a.Stored != 1 {
		t.Errorf("a publisher meanwhile: %+v, want stored", a)
	}
	for _, c := range conns {
		c.Close()
	}
	sending.Wait()
}
