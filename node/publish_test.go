package node_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// The bodies of strangers, who would hear 401 in the end, must not fill the
// memory nor keep a publisher out.
func TestStrangersBodiesGetLittleRoom(t *testing.T) {
	s := start(t, nil)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n", publishPath)
	unfinished := head + strings.Repeat(" ", 1<<20-1)
	var statuses sync.Map
	var sending sync.WaitGroup
	refused := make(chan struct{}, 12)
	var conns []net.Conn
	for range cap(refused) { // of a mebibyte, and there is room for eight
		c := s.dial()
		conns = append(conns, c)
		sending.Go(func() {
			io.WriteString(c, unfinished) // fails where it is refused meanwhile
			var status int
			fmt.Fscanf(c, "HTTP/1.1 %d", &status)
			statuses.Store(status, true)
			refused <- struct{}{}
		})
	}
	<-refused
	if _, ok := statuses.Load(http.StatusServiceUnavailable); !ok {
		t.Error("nobody was refused for want of room")
	}
	if a := s.post(s.publisher(), publication("n1", `"jane"`)); a.Stored != 1 {
		t.Errorf("a publisher meanwhile: %+v, want stored", a)
	}
	for _, c := range conns {
		c.Close()
	}
	sending.Wait()
}
