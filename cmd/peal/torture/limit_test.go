//go:build linux

package torture_test

import (
	"bufio"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The size of TestLimit.
var (
	limitRounds = flag.Int("limit.rounds", 0, "rounds of connects at once; 0: none, and no test")
	limitAtOnce = flag.Int("limit.at-once", 200, "connects of a round")
	limitVanish = flag.Int("limit.vanish", 10_000, "connects that vanish")
)

// assault is connects of users from one process.
type assault struct {
	t       *testing.T
	cluster *cluster
	minter  minter
}

// connect asks a node for a connection of a user. Whoever gets it closes it.
func (a *assault) connect(who member, node *process) (net.Conn, int, error) {
	header, err := a.minter.header(who, 10*time.Minute)
	if err != nil {
		return nil, 0, err
	}
	address := node.host.address(a.t, "public")
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, 0, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	req := &http.Request{Method: http.MethodGet, URL: mustURL("http://" + address + api + "/ticket/sse/notifications"), Header: header, Host: address}
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		conn.Close()
		return nil, resp.StatusCode, nil
	}
	return conn, resp.StatusCode, nil
}

// However many of a user's devices connect at once, and wherever, as many are admitted
// as may be; and nobody who goes without a word keeps a slot.
func TestLimit(t *testing.T) {
	if *limitRounds == 0 {
		t.Skip("needs a cluster for some minutes: make limit")
	}
	dir := *tortureDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "torture-"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
	}
	const limit = 5
	// A user may connect twice a second, so each round is of another one.
	c := newCluster(t, dir, tuning{partitions: 4, limit: limit, perInbox: 500, drainWindow: time.Second, disk: "2G",
		more: "connects-per-user: 0\n"})
	a := &assault{t, c, minter{c.issuer}}
	users := members(*limitRounds)
	t.Run("at once", func(t *testing.T) {
		for round, who := range users {
			admitted, answers := a.atOnce(who, *limitAtOnce)
			if len(admitted) != limit || answers[http.StatusTooManyRequests] != *limitAtOnce-limit {
				t.Errorf("round %d: %d admitted, answers %v, want %d and %d times 429", round, len(admitted), answers, limit, *limitAtOnce-limit)
			}
			for _, conn := range admitted {
				conn.Close()
			}
		}
	})
	t.Run("vanished", func(t *testing.T) { a.vanish(t, *limitVanish, limit) })
}

// atOnce has a user's devices connect to all nodes at once.
func (a *assault) atOnce(who member, n int) (admitted []net.Conn, answers map[int]int) {
	var mu sync.Mutex // protects the results
	answers = make(map[int]int)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			conn, status, err := a.connect(who, a.cluster.edges[i%len(a.cluster.edges)])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.t.Error(err)
			}
			answers[status]++
			if conn != nil {
				admitted = append(admitted, conn)
			}
		})
	}
	close(begin)
	all.Wait()
	return admitted, answers
}

// vanish has many devices connect and go, some by a reset, some before they are
// answered, and then wants every user to have all slots again.
func (a *assault) vanish(t *testing.T, n, limit int) {
	users := members(200)
	var next, admitted atomic.Int64
	var work sync.WaitGroup
	for w := range 32 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				who, node := users[r.IntN(len(users))], a.cluster.edges[r.IntN(edges)]
				if r.IntN(4) == 0 { // before the answer
					a.hangUp(who, node)
					continue
				}
				conn, status, err := a.connect(who, node)
				switch {
				case err != nil:
					t.Error(err)
				case conn != nil:
					admitted.Add(1)
					reset(conn, r.IntN(2) == 0)
				case status != http.StatusTooManyRequests:
					t.Errorf("connect %d is answered %d", i, status)
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d connects, %d admitted", n, admitted.Load())
	// What a node does not know to be gone yet, it learns soon: their peers are not dead,
	// but have closed.
	for _, who := range users {
		var conns []net.Conn
		for late := time.Now().Add(20 * time.Second); len(conns) < limit && time.Now().Before(late); {
			conn, status, err := a.connect(who, a.cluster.edges[rand.IntN(edges)])
			switch {
			case err != nil:
				t.Fatal(err)
			case conn != nil:
				conns = append(conns, conn)
			case status != http.StatusTooManyRequests:
				t.Fatalf("%v is answered %d", who, status)
			default:
				time.Sleep(100 * time.Millisecond) // as a client does
			}
		}
		if len(conns) < limit {
			t.Errorf("%v gets %d connections after all have gone, want %d", who, len(conns), limit)
		}
		for _, conn := range conns {
			conn.Close()
		}
	}
	for _, p := range a.cluster.edges {
		m, err := a.cluster.metrics(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(p.name, "descriptors", m["process_open_fds"], "goroutines", m["go_goroutines"], "connections", m["peal_connections"])
	}
}

// hangUp asks for a connection and goes at once.
func (a *assault) hangUp(who member, node *process) {
	header, err := a.minter.header(who, 10*time.Minute)
	if err != nil {
		a.t.Error(err)
		return
	}
	address := node.host.address(a.t, "public")
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		a.t.Error(err)
		return
	}
	req := &http.Request{Method: http.MethodGet, URL: mustURL("http://" + address + api + "/ticket/sse/notifications"), Header: header, Host: address}
	if err := req.Write(conn); err != nil {
		a.t.Error(err)
	}
	reset(conn, true)
}

// reset closes a connection; hard: with a reset, in place of a proper end.
func reset(conn net.Conn, hard bool) {
	if tcp, ok := conn.(*net.TCPConn); ok && hard {
		raw, err := tcp.SyscallConn()
		if err == nil {
			raw.Control(func(fd uintptr) {
				syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			})
		}
	}
	conn.Close()
}
