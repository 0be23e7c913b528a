package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
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

func TestPublishIsIdempotent(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	jane := s.connect(s.jane())
	jane.greeting()

	if p := s.post(publisher, publication("n1", `"jane"`, `"joe"`)); p.ID != "n1" || p.Stored != 2 || p.Duplicates != 0 {
		t.Errorf("first: got %+v, want 2 stored", p)
	}
	if p := s.post(publisher, publication("n1", `"jane"`, `"joe"`, `"ann"`)); p.ID != "n1" || p.Stored != 1 || p.Duplicates != 2 {
		t.Errorf("again with one more: got %+v, want 1 stored and 2 duplicates", p)
	}
	if p := s.post(publisher, publication("n2", `"jane"`, `"jane"`, `{"id":"jane","namespace":"acme"}`)); p.Stored != 1 || p.Duplicates != 2 {
		t.Errorf("named three times: got %+v, want 1 stored and 2 duplicates", p)
	}

	key := header("Idempotency-Key", "retry 1")
	first := s.post(publisher, publication("", `"jane"`), key)
	if again := s.post(publisher, publication("", `"jane"`), key); again.ID != first.ID || again.Stored != 0 || again.Duplicates != 1 {
		t.Errorf("same key: got %+v, want a duplicate of %s", again, first.ID)
	}
	if other := s.post(publisher, publication("", `"jane"`), header("Idempotency-Key", "retry 2")); other.ID == first.ID || other.Stored != 1 {
		t.Errorf("other key: got %+v, want another than %s", other, first.ID)
	}
	elsewhere := publisher
	elsewhere.tenant = shared
	if other := s.post(elsewhere, publication("", `"jane"`), key); other.ID == first.ID || other.Stored != 1 {
		t.Errorf("same key in another tenant: got %+v, want another than %s", other, first.ID)
	}
	if p := s.post(publisher, publication("n3", `"jane"`), key); p.ID != "n3" || p.Stored != 1 {
		t.Errorf("id and key: got %+v, want the id to win", p)
	}
	a, b := s.post(publisher, publication("", `"jane"`)), s.post(publisher, publication("", `"jane"`))
	if a.ID == b.ID || a.Stored+b.Stored != 2 {
		t.Errorf("neither id nor key: got %+v and %+v, want two", a, b)
	}

	for _, want := range []string{"n1", "n2", first.ID} {
		if got := jane.notification(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPublishToAThousand(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	everybody := make([]string, 1000)
	for i := range everybody {
		everybody[i] = fmt.Sprintf(`"user-%d"`, i)
	}
	last := s.connect(s.user("acme", acme, "user-999"))
	last.greeting()
	for round, want := range [][2]int{{1000, 0}, {0, 1000}} {
		p := s.post(publisher, publication("all", everybody...))
		if p.ID != "all" || p.Stored != want[0] || p.Duplicates != want[1] {
			t.Errorf("round %d: got %+v, want %d stored and %d duplicates", round, p, want[0], want[1])
		}
	}
	if got := last.notification(); got != "all" {
		t.Errorf("got %s, want all", got)
	}
	if got := s.bus.Stats().Stored.Load(); got != 1000 {
		t.Errorf("stored %d, want 1000", got)
	}
}

func TestPublishFillsInDefaults(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.jane())
	c.greeting()
	p := s.post(s.publisher(), `{"recipients":["jane"],"notification":{"type":"slaBreach","ticketId":"a/b","ticketNumber":"1","title":"T","message":"M","read":true}}`)
	var n peal.Notification
	if err := json.Unmarshal(c.next("notification").Data, &n); err != nil {
		t.Fatal(err)
	}
	if n.ID != p.ID || n.Priority != peal.Urgent || n.Read || n.ActionURL != "/tickets/a%2Fb" || *n.Actor != *peal.System() ||
		time.Since(n.CreatedAt.Time) > patience || !slices.Equal(n.Reasons, []peal.Reason{peal.ReasonRecipient}) {
		t.Errorf("got %+v", n)
	}
}
