package node_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// everyProtocol runs a test over each that the public port speaks.
func everyProtocol(t *testing.T, change func(*config), test func(*testing.T, *site, *http.Client)) {
	for _, p := range []struct {
		name  string
		tls   bool
		proto string
	}{
		{"HTTP1", false, "HTTP/1.1"}, {"H2C", false, "HTTP/2.0"}, {"TLS HTTP1", true, "HTTP/1.1"}, {"TLS HTTP2", true, "HTTP/2.0"},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *config) {
				c.tls = p.tls
				if change != nil {
					change(c)
				}
			})
			client := s.client
			if p.proto == "HTTP/2.0" {
				client = s.http2()
			}
			c := s.connectBy(client, s.user("acme", acme, "probe"))
			if c.resp.Proto != p.proto {
				t.Fatalf("got %s, want %s", c.resp.Proto, p.proto)
			}
			c.close()
			test(t, s, client)
		})
	}
}

func TestConnectionBeginsAsTheContractSays(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		s.store(inbox("jane"), note("before"))
		c := s.connectBy(client, s.jane())
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
		} {
			if got := c.resp.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q once", name, got, want)
			}
		}
		if _, err := uuid.Parse(c.resp.Header.Get("X-Request-Id")); err != nil {
			t.Errorf("X-Request-Id: %v", err)
		}

		e, g := c.greeting()
		if e.Retry < time.Second || e.Retry > 3*time.Second {
			t.Errorf("retry: got %v, want 1 to 3 s", e.Retry)
		}
		if bus.ParseCursor(e.ID) == bus.Unknown || e.ID == "" {
			t.Errorf("id: got %q, want a cursor", e.ID)
		}
		want := greeting{"Connected to notification stream", "jane", g.Timestamp, g.ExpiresAt, false, 1, g.ReadState}
		if g != want || g.ReadState == "" {
			t.Errorf("connected: got %+v, want %+v with a readState", g, want)
		}
		if d := time.Since(g.Timestamp); d < 0 || d > patience {
			t.Errorf("timestamp is %v ago", d)
		}
		if d := time.Until(g.ExpiresAt); d < 59*time.Minute || d > time.Hour {
			t.Errorf("expiresAt is in %v, want in an hour", d)
		}
	})
}

func TestNotificationIsSentAsItIsStored(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane())
		c.greeting()
		n := note("n1")
		n.Title = "<b>ü & \u2028 \"quoted\"</b>"
		n.Metadata = peal.Metadata{"newStatus": "open"}
		n = s.store(inbox("jane"), n)
		e := c.next(sse.Notification)
		if want := n.Encode(); !bytes.Equal(e.Data, want) {
			t.Errorf("live: got  %s\nwant %s", e.Data, want)
		}
		if bus.ParseCursor(e.ID) == bus.Unknown || e.ID == "" {
			t.Errorf("got id %q, want a cursor", e.ID)
		}
	})
}

func TestResumeLosesAndRepeatsNothing(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane())
		first, _ := c.greeting()
		var ids []string
		for i := range 4 {
			s.store(inbox("jane"), note(fmt.Sprint("n", i)))
			ids = append(ids, c.next(sse.Notification).ID)
		}
		c.close()

		for _, tt := range []struct {
			name   string
			edits  []edit
			unread int
			want   []string
		}{
			{"header", []edit{header("Last-Event-ID", ids[1])}, 2, []string{"n2", "n3"}},
			{"query", []edit{query("lastEventId=" + ids[2])}, 3, []string{"n3"}},
			{"the header wins", []edit{header("Last-Event-ID", ids[2]), query("lastEventId=" + ids[0])}, 3, []string{"n3"}},
			{"an empty header is none", []edit{header("Last-Event-ID", ""), query("lastEventId=" + ids[2])}, 3, []string{"n3"}},
			{"the id of connected", []edit{header("Last-Event-ID", first.ID)}, 0, []string{"n0", "n1", "n2", "n3"}},
			{"the last", []edit{header("Last-Event-ID", ids[3])}, 4, nil},
		} {
			c := s.connectBy(client, s.jane(), tt.edits...)
			e, g := c.greeting()
			if !g.Recovered || g.Unread != tt.unread || e.ID == "" {
				t.Errorf("%s: got recovered %v, unread %d, id %q; want true, %d and one", tt.name, g.Recovered, g.Unread, e.ID, tt.unread)
			}
			for _, want := range tt.want {
				if got := c.notification(); got != want {
					t.Fatalf("%s: got %s, want %s", tt.name, got, want)
				}
			}
			c.close()
		}
	})
}

func TestGapIsDeclared(t *testing.T) {
	s := start(t, func(c *config) { c.bus.PerInbox = 5 })
	c := s.connect(s.jane())
	c.greeting()
	s.store(inbox("jane"), note("n0"))
	at := c.next(sse.Notification).ID
	epoch, _, _ := strings.Cut(at, "-")
	c.close()

	for name, id := range map[string]string{
		"malformed":       "what?",
		"not ASCII":       "ü",
		"long":            strings.Repeat("a", 5000),
		"foreign":         "aaaaaaaa-1",
		"of the future":   epoch + "-999999",
		"beyond 64 bits":  epoch + "-99999999999999999999",
		"of another form": strings.ToUpper(at),
	} {
		t.Run(name, func(t *testing.T) {
			c := s.connect(s.jane(), header("Last-Event-ID", id))
			c.t = t
			e, g := c.greeting()
			if e.ID != "" || g.Recovered {
				t.Errorf("connected: got id %q and recovered %v, want none and false", e.ID, g.Recovered)
			}
			gap := c.next(sse.Gap)
			if got := field(t, gap, "code"); got != "UNKNOWN_CURSOR" || gap.ID == "" || field(t, gap, "message") == "" {
				t.Errorf("gap: got %s with id %q", gap.Data, gap.ID)
			}
			live := "after " + name
			s.store(inbox("jane"), note(live))
			if got := c.notification(); got != live {
				t.Errorf("after the gap: got %s, want %s", got, live)
			}
			c.close()
		})
	}

	t.Run("truncated", func(t *testing.T) {
		for i := range 8 {
			s.store(inbox("jane"), note(fmt.Sprint("more", i)))
		}
		c := s.connect(s.jane(), header("Last-Event-ID", at))
		c.t = t
		e, g := c.greeting()
		if e.ID != "" || g.Recovered {
			t.Errorf("connected: got id %q and recovered %v, want none and false", e.ID, g.Recovered)
		}
		if gap := c.next(sse.Gap); field(t, gap, "code") != "HISTORY_TRUNCATED" || gap.ID == "" {
			t.Errorf("gap: got %s with id %q", gap.Data, gap.ID)
		}
		for i := 3; i < 8; i++ {
			if got, want := c.notification(), fmt.Sprint("more", i); got != want {
				t.Errorf("after the gap: got %s, want %s", got, want)
			}
		}
		// What follows adds up with unread to what the inbox holds.
		if g.Unread != 0 {
			t.Errorf("unread: got %d, want 0: all five follow", g.Unread)
		}
	})
}

func TestHeartbeatsComeWithinTheInterval(t *testing.T) {
	everyProtocol(t, func(c *config) { c.node.Heartbeat = time.Second }, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane())
		c.greeting()
		last := time.Now()
		for i := range 2 {
			e := c.next(sse.Heartbeat)
			if d := time.Since(last); d > 1900*time.Millisecond {
				t.Errorf("heartbeat %d came after %v, want within 1 s", i, d)
			}
			last = time.Now()
			if e.ID != "" || field(t, e, "timestamp") == nil {
				t.Errorf("got %s with id %q, want a timestamp and none", e.Data, e.ID)
			}
		}
	})
}

func TestEveryDeviceOfAUserIsTold(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		devices := []*connection{s.connectBy(client, s.jane()), s.connectBy(client, s.jane())}
		for _, c := range devices {
			c.greeting()
		}
		for i := range 20 {
			s.store(inbox("jane"), note(fmt.Sprint("n", i)))
		}
		for d, c := range devices {
			for i := range 20 {
				if got, want := c.notification(), fmt.Sprint("n", i); got != want {
					t.Fatalf("device %d: got %s, want %s", d, got, want)
				}
			}
		}
	})
}

// HTTP/2 of net/http resets a stream at its write deadline even if nothing is
// being written, so a connection that was quiet for the write timeout was lost.
func TestAQuietConnectionOutlivesTheWriteTimeout(t *testing.T) {
	everyProtocol(t, func(c *config) { c.node.WriteTimeout = 200 * time.Millisecond }, func(t *testing.T, s *site, client *http.Client) {
		c := s.connectBy(client, s.jane())
		c.greeting()
		<-time.After(600 * time.Millisecond) // the promise is about time
		s.store(inbox("jane"), note("later"))
		if got := c.notification(); got != "later" {
			t.Errorf("got %s, want later", got)
		}
	})
}

// While a read deadline of the body of a request before is in force, net/http
// would take its end for the end of the client.
func TestConnectAfterAPublishOnTheSameConnection(t *testing.T) {
	spy := &deadlines{last: make(map[string]time.Time)}
	s := start(t, func(c *config) {
		c.listen = func(l net.Listener) net.Listener { return spyListener{l, spy} }
	})
	s.post(s.publisher(), publication("n1", `"jane"`))
	var local string
	reused := false
	c := s.connect(s.jane(), func(r *http.Request) {
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			local, reused = i.Conn.LocalAddr().String(), i.Reused
		}}
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	})
	c.greeting()
	if !reused {
		t.Fatal("the connection was not reused")
	}
	if d := spy.of(local); !d.IsZero() {
		t.Errorf("a read deadline is in force: in %v", time.Until(d))
	}
}

// deadlines are the read deadlines that are in force, by the address of the
// client.
type deadlines struct {
	mu   sync.Mutex // protects last
	last map[string]time.Time
}

func (d *deadlines) of(remote string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last[remote]
}

type spyListener struct {
	net.Listener
	*deadlines
}

func (l spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spyConn{c, l.deadlines}, nil
}

type spyConn struct {
	net.Conn
	*deadlines
}

func (c spyConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.last[c.RemoteAddr().String()] = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func TestReconnectingClientGetsAllInOrder(t *testing.T) {
	const total, reconnects, kept = 1000, 50, 500
	s := start(t, nil)
	publisher, jane := s.publisher(), s.jane()
	c := s.connect(jane)
	c.greeting()

	published := make(chan error, 1)
	go func() {
		for i := range total {
			a, err := s.try(s.client, s.request(t.Context(), "POST", publishPath, publisher, publication(fmt.Sprintf("n-%d", i), `"jane"`)))
			if err != nil || a.status != http.StatusAccepted {
				published <- fmt.Errorf("publish %d: %d %w", i, a.status, err)
				return
			}
		}
		published <- nil
	}()

	got, opened := 0, 1
	for got < total {
		for range 1 + rand.IntN(2*total/reconnects-1) {
			if got == total {
				break
			}
			if id, want := c.notification(), fmt.Sprintf("n-%d", got); id != want {
				t.Fatalf("connection %d: got %s, want %s", opened, id, want)
			}
			got++
		}
		last := c.events.LastEventID()
		c.close()
		c = s.connect(jane, header("Last-Event-ID", last))
		if _, g := c.greeting(); !g.Recovered {
			t.Fatalf("connection %d: got recovered false, want true", opened)
		}
		opened++
	}
	for ; opened < reconnects; opened++ { // at the end too there is nothing more
		last := c.events.LastEventID()
		c.close()
		c = s.connect(jane, header("Last-Event-ID", last))
		if _, g := c.greeting(); !g.Recovered || g.Unread != kept {
			t.Fatalf("connection %d: got recovered %v and unread %d, want true and %d", opened, g.Recovered, g.Unread, kept)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	s.store(inbox("jane"), note("the end"))
	if id := c.notification(); id != "the end" {
		t.Errorf("got %s, want the end", id)
	}
}

func TestEachSeesTheirOwn(t *testing.T) {
	s := start(t, nil)
	names := []string{"*", ">", "a.b", "a", "ü", strings.Repeat("x", 128), "jane"}
	type key struct{ realm, name string }
	open := make(map[key]*connection)
	for _, realm := range []string{"acme", "globex"} {
		for _, name := range names {
			c := s.connect(s.user(realm, shared, name))
			if _, g := c.greeting(); g.UserID != name {
				t.Errorf("got userId %q, want %q", g.UserID, name)
			}
			open[key{realm, name}] = c
		}
	}
	publisher := s.publisher()
	publisher.tenant = shared
	for realm := range map[string]bool{"acme": true, "globex": true} {
		for i, name := range names {
			p := s.post(publisher, publication(fmt.Sprintf("%s-%d", realm, i), fmt.Sprintf(`{"id":%q,"namespace":%q}`, name, realm)))
			if p.Stored != 1 {
				t.Errorf("%s of %s: got %+v, want 1 stored", name, realm, p)
			}
		}
	}
	s.post(publisher, publication("last", func() (all []string) {
		for k := range open {
			all = append(all, fmt.Sprintf(`{"id":%q,"namespace":%q}`, k.name, k.realm))
		}
		return all
	}()...))
	for i, name := range names {
		for _, realm := range []string{"acme", "globex"} {
			c := open[key{realm, name}]
			if got, want := c.notification(), fmt.Sprintf("%s-%d", realm, i); got != want {
				t.Errorf("%q of %s: got %s, want %s", name, realm, got, want)
			}
			if got := c.notification(); got != "last" {
				t.Errorf("%q of %s: got %s, want last: something of another's", name, realm, got)
			}
		}
	}
}

func TestTenantIsComparedInLowerCase(t *testing.T) {
	s := start(t, nil)
	upper := s.user("acme", acme, "jane")
	c := s.connect(upper, header("x-tenantid", strings.ToUpper(string(acme))))
	c.greeting()
	s.store(inbox("jane"), note("n1"))
	if got := c.notification(); got != "n1" {
		t.Errorf("got %s, want n1", got)
	}
}

func TestAcceptMayExcludeNothing(t *testing.T) {
	s := start(t, func(c *config) { c.node.MaxPerUser = -1 })
	for _, accept := range [][]string{
		nil, {""}, {"*/*"}, {"text/*"}, {"TEXT/Event-Stream"}, {"text/event-stream; charset=utf-8"}, {"text/html, text/event-stream;q=0.1"},
		{"text/html", "text/event-stream"}, {"*/*;q=0, text/event-stream"}, {",,"}, {"???"}, {"text/event-stream;q=abc"},
	} {
		c := s.connect(s.jane(), func(r *http.Request) {
			if accept != nil {
				r.Header["Accept"] = accept
			}
		})
		c.greeting()
		c.close()
	}
}

func TestConnectionEndsWithoutALastChunk(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	jane.token = s.token("acme", issuer.Claims{Subject: "jane", TTL: 2 * time.Second})
	raw, err := io.ReadAll(s.raw(jane, 0))
	if err != nil {
		t.Fatalf("the connection did not end as it should: %v", err)
	}
	if !bytes.Contains(raw, []byte("Transfer-Encoding: chunked")) || !bytes.Contains(raw, []byte("event: error\ndata: {\"code\":\"TOKEN_EXPIRED\"")) {
		t.Errorf("got %s", raw)
	}
	if bytes.HasSuffix(raw, []byte("\r\n0\r\n\r\n")) {
		t.Error("the response ended with a last chunk, want an abort")
	}
}

// A body that never comes would keep net/http from noticing that the client
// has gone, and from closing the connection when its token expires.
func TestConnectWithABodyIsRefused(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	raw, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetReadDeadline(time.Now().Add(patience))
	fmt.Fprintf(raw, "GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nAuthorization: Bearer %s\r\nrealmname: acme\r\nx-tenantid: %s\r\n\r\n", connectPath, jane.token, acme)
	resp, err := http.ReadResponse(bufio.NewReader(raw), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400", resp.StatusCode)
	}
}
