package bus_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a bus and its server. It can cut the connections of one
// purpose and hold back what the server says on them.
type proxy struct {
	target   string
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex               // protects the rest
	conns  map[net.Conn]string      // of the bus → purpose; "" as long as it is not known
	barred map[string]bool          // purposes that get no connection
	held   map[string]chan struct{} // purpose → closed when nothing is held back any more
	closed bool
}

// purposes are those for which a bus has connections.
var purposes = []string{"live", "read", "write"}

// newProxy starts a proxy to an address. It ends with the test.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		target: target, listener: l,
		conns: make(map[net.Conn]string), barred: make(map[string]bool), held: make(map[string]chan struct{}),
	}
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.listener.Close()
	p.done.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.carry(c) })
	}
}

// carry carries one connection until either side ends it.
func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return // it is down
	}
	defer server.Close()
	if !p.admit(client, "") {
		return
	}
	defer p.forget(client)
	p.done.Go(func() {
		defer client.Close()
		defer server.Close()
		p.requests(client, server)
	})
	p.answers(server, client)
}

// requests carries what the bus says. The first line names the purpose.
func (p *proxy) requests(client, server net.Conn) {
	r := bufio.NewReader(client)
	hello, err := r.ReadString('\n')
	if err != nil {
		return
	}
	for _, purpose := range append(purposes, "work") {
		if strings.Contains(hello, `"name":"peal-`+purpose+`"`) && !p.admit(client, purpose) {
			return
		}
	}
	if _, err := io.WriteString(server, hello); err == nil {
		io.Copy(server, r)
	}
}

// answers carries what the server says.
func (p *proxy) answers(server, client net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		for held := p.holds(client); held != nil; held = p.holds(client) {
			<-held
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// admit notes the purpose of a connection, unless there is to be none of it.
func (p *proxy) admit(client net.Conn, purpose string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.barred[purpose] {
		return false
	}
	p.conns[client] = purpose
	return true
}

func (p *proxy) forget(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
}

func (p *proxy) holds(client net.Conn) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[p.conns[client]]
}

// cut ends the connections of a purpose, and lets none be made until the result
// is called.
func (p *proxy) cut(purpose string) (mend func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred[purpose] = true
	for c, of := range p.conns {
		if of == purpose {
			c.Close()
		}
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.barred, purpose)
	}
}

// hold holds back what the server says for a purpose, until the result is
// called.
func (p *proxy) hold(purpose string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.held[purpose] = held
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.held, purpose)
		close(held)
	}
}
