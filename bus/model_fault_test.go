package bus_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal/bus/embedded"
)

// serveArg has the binary of these tests be a NATS server, in a process that
// can be killed: serveArg, the directory, the address.
const serveArg = "serve-nats"

// serveNATS serves until standard input ends, which it also does when the
// process that has started this one is gone.
func serveNATS(dir, listen string) error {
	s, err := embedded.Start(embedded.Config{Dir: dir, Listen: listen, Store: 8 << 30})
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println(s.URL())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// serverProcess is a NATS server with an address and a directory of its own.
type serverProcess struct {
	dir, listen string

	cmd   *exec.Cmd
	stdin io.Closer
	log   *bytes.Buffer
}

// newServerProcess starts a server. It ends with the test.
func newServerProcess(t testing.TB) *serverProcess {
	t.Helper()
	p := &serverProcess{dir: t.TempDir(), listen: freeAddress(t)}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
	})
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// freeAddress finds a port below those that the system gives to connections:
// one of these could take the port of a server that is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(10000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

func (p *serverProcess) start() error {
	p.cmd, p.log = exec.Command(os.Args[0], serveArg, p.dir, p.listen), new(bytes.Buffer)
	p.cmd.Stderr = p.log
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "nats://") {
		p.kill()
		return fmt.Errorf("NATS server did not start: %v\n%s", err, p.log)
	}
	return nil
}

// stop has the server end by itself.
func (p *serverProcess) stop() {
	p.stdin.Close()
	p.cmd.Wait()
}

// kill ends the server as a power cut does, but for what the system has not
// written to the disk yet.
func (p *serverProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// faultKind is what can happen to the server and its streams.
type faultKind string

const (
	restart     faultKind = "restart"
	kill        faultKind = "kill"
	purgeInbox  faultKind = "purge of an inbox"
	purgeStream faultKind = "purge of a stream"
	recreation  faultKind = "recreation of a stream"
	cut         faultKind = "cut of a connection"
	stall       faultKind = "stall of a connection"
)

// serverFaults are what happens to the server and its streams, one after the
// other.
var serverFaults = []faultKind{restart, kill, recreation, purgeInbox, purgeStream}

// connectionFaults are what happens to connections meanwhile.
var connectionFaults = []faultKind{cut, stall}

// fault is one of them in a run.
type fault struct {
	kind    faultKind
	after   time.Duration // since the one before has ended
	which   int           // inbox, and so its stream
	purpose string        // of the connection
	down    time.Duration // for so long there is no server or no connection, or it says nothing
}

func (f fault) String() string {
	switch f.kind {
	case restart, kill:
		return fmt.Sprintf("%s, %v down", f.kind, f.down)
	case cut, stall:
		return fmt.Sprintf("%s: %s, for %v", f.kind, f.purpose, f.down)
	}
	return fmt.Sprintf("%s: user-%d", f.kind, f.which)
}

// schedule decides which faults a run has, without end: all kinds in a random
// order, and so on. In a short run they come so close that each has its turn.
func schedule(r *rand.Rand, kinds []faultKind, lasting time.Duration, inboxes int) iter.Seq[fault] {
	between := min(lasting/time.Duration(2*len(kinds)), time.Second) // it takes about as long itself
	return func(yield func(fault) bool) {
		for {
			for _, i := range r.Perm(len(kinds)) {
				f := fault{
					kind:    kinds[i],
					after:   between/2 + time.Duration(r.Int64N(int64(between))),
					which:   r.IntN(inboxes),
					purpose: purposes[r.IntN(len(purposes))],
					down:    time.Duration(r.IntN(300)) * time.Millisecond,
				}
				if !yield(f) {
					return
				}
			}
		}
	}
}

// strike lets a fault happen, and waits until it is over. What the server
// refuses is asked again.
func (m *model) strike(ctx context.Context, f fault) {
	h := m.inboxes[f.which]
	name, subject := m.bus.StreamOf(h.in)
	switch f.kind {
	case restart, kill:
		if f.kind == kill && m.purges > 0 {
			// nats-server 2.15 brings back some of what was purged when it is
			// killed before it has ended once.
			m.restart(ctx, m.server.stop, 0)
		}
		end := m.server.stop
		if f.kind == kill {
			end = m.server.kill
		}
		m.restart(ctx, end, f.down)
	case purgeInbox:
		defer h.purge()()
		m.purges++
		m.insist(ctx, string(f.kind), func(ctx context.Context) error { return m.purge(ctx, name, subject) })
	case purgeStream:
		defer h.stream.purge()()
		m.purges++
		m.insist(ctx, string(f.kind), func(ctx context.Context) error { return m.purge(ctx, name, ">") })
	case recreation:
		m.recreate(ctx, h, name)
	case cut:
		defer m.proxy.cut(f.purpose)()
		pause(ctx, f.down)
	case stall:
		defer m.proxy.hold(f.purpose)()
		pause(ctx, f.down)
	}
}

// restart ends the server, and starts it again after a while.
func (m *model) restart(ctx context.Context, end func(), down time.Duration) {
	end()
	pause(ctx, down)
	if err := m.server.start(); err != nil {
		m.t.Error(err)
	}
	m.purges = 0
}
