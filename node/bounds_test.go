package node_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/sse"
)

// head is the head of a request of a publisher, but for its last line.
func (s *site) head(u user, first string, lines ...string) string {
	lines = append([]string{first, "Host: x", "Authorization: Bearer " + u.token, "realmname: " + u.realm, "x-tenantid: " + string(u.tenant)}, lines...)
	return strings.Join(lines, "\r\n") + "\r\n"
}

// dial opens a socket to the public port.
func (s *site) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// answers sends bytes and then a last request, and returns the status of every
// answer until the socket ends.
func (s *site) answers(raw string) (statuses []int) {
	s.t.Helper()
	c := s.dial()
	io.WriteString(c, raw+"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // fails where the server is faster
	for in := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
		if resp.StatusCode >= 200 { // or the head is all
			io.Copy(io.Discard, resp.Body)
		}
		resp.Body.Close()
	}
}

// What is no good request is answered without reading it to its end, and where
// it is not sure where it ends, nothing after it is one. The streams and the
// frames of HTTP/2 (resets, settings, pings in floods) are net/http's to bound.
func TestRequestsAreBounded(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	post := func(lines ...string) string {
		return s.head(publisher, "POST "+publishPath+" HTTP/1.1", append([]string{"Content-Type: application/json"}, lines...)...) + "\r\n"
	}
	connect := func(lines ...string) string {
		return s.head(s.jane(), "GET "+connectPath+" HTTP/1.1", lines...) + "\r\n"
	}
	mark := func(lines ...string) string {
		return s.head(s.jane(), "PUT "+readPath+" HTTP/1.1", append([]string{"Content-Type: application/json"}, lines...)...) + "\r\n"
	}
	body := publication("bounded", `"jane"`)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	get := func(lines string) string { return "GET /livez HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" }
	for _, row := range []struct {
		name string
		raw  string
		want []int // the last request's is 200, if the socket is still good
	}{
		{"a good one", get(""), []int{200, 200}},
		{"no HTTP", "hello\r\n\r\n", []int{400}},
		{"HTTP/0.9", "GET /livez\r\n\r\n", []int{400}},
		{"HTTP/1.0", "GET /livez HTTP/1.0\r\n\r\n", []int{200}},
		{"HTTP/7", "GET /livez HTTP/7.0\r\nHost: x\r\n\r\n", []int{505}},
		{"an upgrade to HTTP/2 on the way", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), []int{200, 200}},
		{"no host", "GET /livez HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", get("Host: y\r\n"), []int{400}},
		{"a proxy's request", "CONNECT desk.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 200}},
		{"everything's options", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", []int{405, 200}},
		{"a head of 40 kB", get("X: " + strings.Repeat("x", 40<<10) + "\r\n"), []int{431}},
		{"a head of 40 kB in short lines", get(strings.Repeat("X: y\r\n", 7000)), []int{431}},
		{"a path of 40 kB", "GET /" + strings.Repeat("x", 40<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431}},
		{"a space before a colon", get("Content-Length : 5\r\n"), []int{400}},
		{"a NUL in a header", get("X: a\x00b\r\n"), []int{400}},

		{"chunks", post("Transfer-Encoding: chunked") + chunk + "0\r\n\r\n", []int{202, 200}},
		{"two lengths", post("Content-Length: 5", "Content-Length: 6"), []int{400}},
		{"a signed length", post("Content-Length: +5"), []int{400}},
		{"a length and chunks: the chunks count", post("Content-Length: 3", "Transfer-Encoding: chunked") + chunk + "0\r\n\r\n", []int{202, 200}},
		{"chunks of another coding", post("Transfer-Encoding: gzip, chunked"), []int{501}},
		{"chunks twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), []int{501}},
		{"a chunk of no size", post("Transfer-Encoding: chunked") + "x\r\n", []int{400}},
		{"a chunk that is longer than it says", post("Transfer-Encoding: chunked") + "3\r\n" + body + "\r\n0\r\n\r\n", []int{400}},
		{"too long, and not sent", post("Content-Length: 1048577"), []int{413}},
		{"too long, as chunks", post("Transfer-Encoding: chunked") + "200000\r\n" + strings.Repeat(" ", 2<<20) + "\r\n0\r\n\r\n", []int{413}},
		{"expected to be welcome", post("Content-Length: "+fmt.Sprint(len(body)), "Expect: 100-continue") + body, []int{100, 202, 200}},
		{"expected to be welcome, and too long", post("Content-Length: 1048577", "Expect: 100-continue"), []int{413}},
		{"expected to be welcome, and compressed", post("Content-Length: 10", "Content-Encoding: gzip", "Expect: 100-continue"), []int{415}},
		{"something else expected", post("Content-Length: 10", "Expect: a miracle"), []int{417}},

		{"a mark that is too long", mark("Content-Length: 1048577"), []int{413}},
		{"a mark in chunks", mark("Transfer-Encoding: chunked") + "c\r\n{\"all\":true}\r\n0\r\n\r\n", []int{200, 200}},
		{"a list with a body that does not come", s.head(s.jane(), "GET "+listPath+" HTTP/1.1", "Content-Length: 10") + "\r\n", []int{400}},
		{"a list with chunks", s.head(s.jane(), "GET "+listPath+" HTTP/1.1", "Transfer-Encoding: chunked") + "\r\n0\r\n\r\n", []int{400}},
		{"a connect with a body that does not come", connect("Content-Length: 10"), []int{400}},
		{"a connect with chunks", connect("Transfer-Encoding: chunked") + "0\r\n\r\n", []int{400}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.t = t
			began := time.Now()
			if got := s.answers(row.raw); !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	s.t = t
	if n := s.metric("peal_connections_opened_total"); n != 0 {
		t.Errorf("%v connections were opened", n)
	}
}

// Who sends slowly has ten seconds for the head and as many for the body, and
// holds nothing but the socket.
func TestSlowRequestsEnd(t *testing.T) {
	s := start(t, nil)
	body := publication("slow", `"jane"`)
	whole := s.head(s.publisher(), "POST "+publishPath+" HTTP/1.1", "Content-Type: application/json", fmt.Sprint("Content-Length: ", len(body))) + "\r\n" + body
	for _, row := range []struct {
		name string
		at   int // from where on it comes a byte a second
		want int // 0 is the end of the socket
	}{
		{"head", 10, 400}, {"body", len(whole) - 20, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := s.dial()
			began := time.Now()
			io.WriteString(c, whole[:row.at])
			end := make(chan struct{})
			defer close(end)
			go func() {
				for i := row.at; i < len(whole); i++ {
					select {
					case <-end:
						return
					case <-time.After(time.Second):
						io.WriteString(c, whole[i:i+1])
					}
				}
			}()
			status := 0
			in := bufio.NewReader(c)
			if resp, err := http.ReadResponse(in, nil); err == nil {
				status = resp.StatusCode
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if _, err := in.ReadByte(); err == nil || status != row.want {
				t.Errorf("got %d and then %v, want %d and the end", status, err, row.want)
			}
			if d := time.Since(began); d < 8*time.Second || d > 12*time.Second {
				t.Errorf("ended after %v, want 10 s", d)
			}
		})
	}
}

// An event stream is the last answer of its connection: what was sent behind the
// request is not looked at.
func TestNothingFollowsAnEventStream(t *testing.T) {
	s := start(t, nil)
	for _, proto := range []string{"HTTP/1.0", "HTTP/1.1"} {
		c := s.dial()
		io.WriteString(c, s.head(s.brief("jane"), "GET "+connectPath+" "+proto)+"\r\n"+"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		all, _ := io.ReadAll(c) // net/http resets a socket with unread bytes
		text := string(all)
		if strings.Count(text, "HTTP/1.") != 1 || !strings.Contains(text, "event: connected") || !strings.Contains(text, "TOKEN_EXPIRED") {
			t.Errorf("%s: got %s", proto, text)
		}
		if chunked := strings.Contains(text, "chunked"); chunked != (proto == "HTTP/1.1") {
			t.Errorf("%s: chunked is %v", proto, chunked)
		}
	}
}

func TestNothingIsEncodedOrRedirected(t *testing.T) {
	s := start(t, nil)
	for _, path := range []string{"/openapi.yaml", "/peal.js", "/livez", "/nothing", connectPath} {
		a := s.do(s.request(context.Background(), "GET", path, s.jane(), "", header("Accept-Encoding", "gzip, br, zstd, *")))
		if got := a.header.Values("Content-Encoding"); got != nil {
			t.Errorf("%s: encoded as %q", path, got)
		}
		if a.status >= 300 && a.status < 400 {
			t.Errorf("%s: redirected", path)
		}
	}
}

// net/http/pprof puts its pages where every careless server shows them.
func TestDefaultMuxIsNotServed(t *testing.T) {
	s := start(t, nil)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile"} {
		r := s.request(context.Background(), "GET", path, s.jane(), "")
		if _, pattern := http.DefaultServeMux.Handler(r); pattern == "" {
			t.Fatalf("%s is not there: this test shows nothing", path)
		}
		wantProblem(t, s.do(r), 404, "NOT_FOUND", "")
	}
}

// The streams of one HTTP/2 connection are connections of their own to every
// bound, and there are at most 32.
func TestStreamsAreConnections(t *testing.T) {
	var sockets atomic.Int64
	s := start(t, func(c *config) {
		c.listen = func(l net.Listener) net.Listener { return countingListener{l, &sockets} }
	})
	client := s.newClient(func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
		tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true}
	})
	var open []*connection
	for i := range 32 {
		c := s.connectBy(client, s.user("acme", acme, fmt.Sprint("user-", i/5)))
		c.greeting()
		open = append(open, c)
	}
	if n := s.metric("peal_connections"); n != 32 {
		t.Errorf("%v are counted, want 32", n)
	}
	before := sockets.Load()

	// The 33rd waits for a stream; as soon as it has one, the limit of its user
	// refuses it.
	answered := make(chan answer, 1)
	go func() {
		a, err := s.try(client, s.request(context.Background(), "GET", connectPath, s.user("acme", acme, "user-1"), ""))
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	s.store(inbox("user-0"), note("n1")) // a round trip, and more
	for _, c := range open[:5] {
		if e := c.next(sse.Notification); field(t, e, "id") != "n1" {
			t.Errorf("got %s", e.Data)
		}
	}
	select {
	case a := <-answered:
		t.Errorf("the 33rd stream was answered with %d", a.status)
	case <-time.After(200 * time.Millisecond):
	}
	open[0].close()
	wantProblem(t, <-answered, 429, "CONNECTION_LIMIT", "")
	if after := sockets.Load(); after != before {
		t.Errorf("%d sockets more", after-before)
	}
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}
