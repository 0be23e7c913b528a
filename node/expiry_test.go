package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// brief is a user whose token is good for one to two seconds.
func (s *site) brief(name string) user {
	s.t.Helper()
	return user{"acme", acme, s.token("acme", issuer.Claims{Subject: name, TTL: 2 * time.Second})}
}

func TestConnectionEndsWithItsToken(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		var reading sync.WaitGroup
		for i := range 5 {
			c := s.connectBy(client, s.brief(fmt.Sprint("user-", i)))
			_, g := c.greeting()
			reading.Go(func() {
				if e, err := lastWords(c.events); err != nil || e.Name != sse.Error || !bytes.Contains(e.Data, []byte(`"TOKEN_EXPIRED"`)) || e.Retry < time.Second {
					t.Errorf("got %s %s with retry %v (%v), want TOKEN_EXPIRED", e.Name, e.Data, e.Retry, err)
				}
				if late := time.Since(g.ExpiresAt); late < 0 || late > time.Second {
					t.Errorf("ended %v after exp, want 0 to 1 s", late)
				}
			})
		}
		reading.Wait()
		eventually(t, "the metric", func() bool { return s.metric(`peal_connections_ended_total{reason="token_expired"}`) == 5 })
		eventually(t, "no open connection", func() bool { return s.metric("peal_connections") == 0 })
	})
}

// lastWords reads to the abort and returns the event before it.
func lastWords(r *sse.Reader) (last sse.Event, err error) {
	for {
		e, err := r.Next()
		if err == io.EOF {
			return last, fmt.Errorf("a clean end: %w", err)
		}
		if err != nil {
			return last, nil
		}
		last = e
	}
}

// A peer that takes nothing is gone in time too: its handler is stuck in a
// write then.
func TestConnectionOfADeafPeerEndsWithItsToken(t *testing.T) {
	for _, proto := range []string{"HTTP1", "H2C"} {
		t.Run(proto, func(t *testing.T) {
			s := start(t, nil)
			deaf := s.brief("jane")
			expires := s.deafen(proto, deaf)
			ended := func() bool { return s.metric(`peal_connections_ended_total{reason="token_expired"}`) == 1 }
			eventually(t, "the end", ended)
			if late := time.Since(expires); late < 0 || late > time.Second {
				t.Errorf("ended %v after exp, want 0 to 1 s", late)
			}
		})
	}
}

// deafen opens a connection, has 2 MB sent to it without reading, and returns
// when the token expires.
func (s *site) deafen(proto string, u user) (expires time.Time) {
	s.t.Helper()
	if proto == "H2C" {
		c := s.connectBy(s.narrow(), u)
		_, g := c.greeting()
		s.flood("jane")
		return g.ExpiresAt
	}
	c := &connection{t: s.t, events: responseEvents(s.t, s.raw(u, 4096))}
	_, g := c.greeting()
	s.flood("jane")
	return g.ExpiresAt
}

// narrow is an HTTP/2 client with a small window.
func (s *site) narrow() *http.Client {
	c := s.http2()
	c.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	return c
}

const flooded = 300 // notifications of 14 kB: more than sockets of loopback buffer

// flood sends a user about 4 MB, in one go: a test that is the reader itself takes
// nothing meanwhile.
func (s *site) flood(user string) {
	s.t.Helper()
	var all []bus.Publication
	for i := range flooded {
		n := bulky(fmt.Sprint("bulk-", i)).WithDefaults(time.Now())
		all = append(all, bus.Publication{To: []peal.Inbox{inbox(user)}, Notification: n})
	}
	if _, err := s.bus.Publish(context.Background(), all...); err != nil {
		s.t.Fatal(err)
	}
}

// takesFlood reads what flood sends, beside the test. done is closed when all of it
// has come.
func (c *connection) takesFlood() (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for i := range flooded {
			if got, want := c.notification(), fmt.Sprint("bulk-", i); got != want {
				c.t.Errorf("a device that reads: got %s, want %s", got, want)
				return
			}
		}
	}()
	return done
}

func TestSlowClientDelaysNobodyAndLosesNothing(t *testing.T) {
	for _, proto := range []string{"HTTP1", "H2C"} {
		t.Run(proto, func(t *testing.T) {
			s := start(t, nil)
			other, device := s.connect(s.user("acme", acme, "other")), s.connect(s.jane())
			other.greeting()
			device.greeting()
			var read func() *sse.Reader
			if proto == "H2C" {
				slow := s.connectBy(s.narrow(), s.jane())
				read = func() *sse.Reader { return slow.events }
			} else {
				raw := s.raw(s.jane(), 64<<10)
				read = func() *sse.Reader {
					raw.(*net.TCPConn).SetReadBuffer(1 << 20)
					return responseEvents(t, raw)
				}
			}
			eventually(t, "three connections", func() bool { return s.metric("peal_connections") == 3 })

			all := device.takesFlood()
			s.flood("jane")
			<-all
			sent := time.Now()
			s.store(inbox("other"), note("for the other"))
			if got := other.notification(); got != "for the other" {
				t.Errorf("got %s", got)
			}
			if d := time.Since(sent); d > 5*time.Second { // and not the 30 for which a slow one is waited for
				t.Errorf("the other was told after %v", d)
			}

			if got := s.bus.Stats().Delivered.Load(); got >= 2*flooded {
				t.Fatalf("%d were delivered: the slow one was not slow", got)
			}
			eventually(t, "nothing to wait for the slow one", func() bool {
				size, stalled := s.node.Waiting()
				return size == 0 && stalled == 1
			})
			c := &connection{t: t, events: read()}
			c.greeting()
			for i := range flooded {
				if got, want := c.notification(), fmt.Sprint("bulk-", i); got != want {
					t.Fatalf("slow: got %s, want %s", got, want)
				}
			}
			s.store(inbox("jane"), note("live again"))
			if got := c.notification(); got != "live again" {
				t.Errorf("slow: got %s, want live again", got)
			}
		})
	}
}

// A peer that takes a few bytes now and then, so that never a frame gets through,
// is one that takes nothing.
func TestClientThatTakesNothingIsGivenUp(t *testing.T) {
	for _, tt := range []struct{ name, proto string }{{"HTTP1", "HTTP1"}, {"H2C", "H2C"}, {"a trickle", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *config) { c.node.WriteTimeout = 1500 * time.Millisecond; c.node.MaxPerUser = 2 })
			device := s.connect(s.jane())
			device.greeting()
			all := device.takesFlood() // meanwhile, or it takes nothing for too long itself
			if tt.proto != "" {
				s.deafen(tt.proto, s.jane())
			} else {
				s.trickle(s.jane())
			}
			<-all
			eventually(t, "slow_client", func() bool { return s.metric(`peal_connections_ended_total{reason="slow_client"}`) == 1 })
			if gone := s.metric(`peal_connections_ended_total{reason="client_gone"}`); gone != 0 {
				t.Errorf("counted %v as client_gone", gone)
			}
			if strings.Contains(s.logs.String(), "slow") {
				t.Error("logged, though it is counted")
			}
			s.connect(s.jane()).greeting() // its slot is free
		})
	}
}

// trickle opens a connection that reads ten bytes a second, and floods it.
func (s *site) trickle(u user) {
	s.t.Helper()
	raw := s.raw(u, 4096)
	end := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for one := make([]byte, 1); ; {
			select {
			case <-end:
				return
			case <-tick.C:
				raw.Read(one) // fails once the server has ended it
			}
		}
	})
	s.t.Cleanup(func() { close(end); reading.Wait() })
	eventually(s.t, "the connection", func() bool { return s.metric("peal_connections") == 2 })
	s.flood("jane")
}

// The TLS of a peer that takes nothing would be taken leave of for five seconds
// before the socket is closed.
func TestSocketOfADeafPeerEndsWithItsToken(t *testing.T) {
	s := start(t, func(c *config) { c.tls = true })
	tcp, err := net.Dial("tcp", strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	tcp.(*net.TCPConn).SetReadBuffer(4096)
	deaf := tls.Client(tcp, &tls.Config{RootCAs: s.roots, ServerName: "example.com", NextProtos: []string{"http/1.1"}})
	deaf.SetDeadline(time.Now().Add(patience))
	brief := s.brief("jane")
	sendConnect(deaf, brief)
	c := &connection{t: t, events: responseEvents(t, deaf)}
	_, g := c.greeting()
	s.flood("jane")
	for err == nil { // until the socket is closed there; till then nobody reads it
		_, err = deaf.Write([]byte("x"))
		<-time.After(20 * time.Millisecond)
	}
	if late := time.Since(g.ExpiresAt); late < 0 || late > time.Second {
		t.Errorf("the socket was closed %v after exp (%v), want 0 to 1 s", late, err)
	}
}

func TestClientThatGoesAwayIsNoticed(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		eventually(t, "the probe to be gone", func() bool { return s.metric("peal_connections") == 0 })
		gone := s.metric(`peal_connections_ended_total{reason="client_gone"}`)
		c := s.connectBy(client, s.jane())
		c.greeting()
		c.close()
		eventually(t, "client_gone", func() bool { return s.metric(`peal_connections_ended_total{reason="client_gone"}`) == gone+1 })
		if n := s.metric("peal_inboxes_followed"); n != 0 {
			eventually(t, "no inbox followed", func() bool { return s.metric("peal_inboxes_followed") == 0 })
		}
	})
}
