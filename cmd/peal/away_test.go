package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// edge is a serve on a NATS of another process, and one connection to it that
// is never made anew.
type edge struct {
	t      *testing.T
	nats   *process
	listen string // of NATS, the same after each start
	serve  *process
	desk   target
	jane   target
	events chan sse.Event // of the connection; closed when it ends

	acknowledged []string
	received     []string // ids, and the codes of gaps
	heartbeats   int
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	e := &edge{t: t, listen: freeAddress(t), events: make(chan sse.Event, 1000)}
	issuer, other := t.TempDir(), t.TempDir()
	startDev(t, issuer)
	realms := filepath.Join(other, "realms.yaml")
	if err := os.WriteFile(realms, []byte(do(t, nil, "dev", "--print-realms", "--data", issuer).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(other, "peal.yaml")
	if err := os.WriteFile(config, []byte("partitions: 2\nreplicas: 1\ndrain-delay: 0s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.startNATS(t.TempDir())
	e.serve = startReady(t, "serve", "--realms", realms, "--nats", "nats://"+e.listen, "--config", config,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s", "--heartbeat", "1s")
	e.desk = target{data: issuer, url: e.serve.ready.URL, realm: realmAcme, tenant: string(tenantAcme), user: "desk", roles: []string{rolePublish}}
	e.jane = e.desk
	e.jane.user, e.jane.roles = "jane", nil
	e.follow()
	return e
}

// freeAddress is one that nobody listens on, for who is to be started there
// several times.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (e *edge) startNATS(data string) {
	e.t.Helper()
	e.nats = startDev(e.t, data, "--nats-listen", e.listen, "--drain-window", "0s")
}

// open opens a connection for jane.
func (e *edge) open(ctx context.Context) (*http.Response, error) {
	header, err := e.jane.minted(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.serve.ready.URL+node.Base+"/ticket/sse/notifications", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header = header
	return http.DefaultClient.Do(req)
}

// follow opens the connection that is to outlive everything.
func (e *edge) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := e.open(ctx)
	if err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		e.t.Fatal(resp, err)
	}
	var reading sync.WaitGroup
	e.t.Cleanup(func() { cancel(); reading.Wait() })
	reading.Go(func() {
		defer resp.Body.Close()
		defer close(e.events)
		for r := sse.NewReader(resp.Body); ; {
			event, err := r.Next()
			if err != nil {
				return
			}
			e.events <- event
		}
	})
	if first := e.next(); first.Name != sse.Connected {
		e.t.Fatalf("the first event is %s", first.Name)
	}
}

// next takes the next event of the connection.
func (e *edge) next() sse.Event {
	e.t.Helper()
	select {
	case event, ok := <-e.events:
		if !ok {
			e.t.Fatalf("the connection ended\n%s", e.serve.log)
		}
		switch event.Name {
		case sse.Heartbeat:
			e.heartbeats++
		case sse.Notification, sse.Gap:
			var got struct{ ID, Code string }
			if err := json.Unmarshal(event.Data, &got); err != nil {
				e.t.Fatal(err)
			}
			e.received = append(e.received, got.ID+got.Code)
		}
		return event
	case <-time.After(time.Minute):
		e.t.Fatalf("nothing came for a minute; got %v of %v\n%s", e.received, e.acknowledged, e.serve.log)
	}
	panic("unreachable")
}

// until takes events until one of the inbox has come.
func (e *edge) until(want string) {
	e.t.Helper()
	for !slices.Contains(e.received, want) {
		e.next()
	}
}

// beats takes events until some heartbeats have come.
func (e *edge) beats(n int) {
	e.t.Helper()
	for n += e.heartbeats; e.heartbeats < n; {
		e.next()
	}
}

// refused sends one POST and one GET, and wants 503 for both within 5 s, with
// when to come back.
func (e *edge) refused() {
	e.t.Helper()
	for name, call := range map[string]func(context.Context) (*http.Response, error){
		"publish": func(ctx context.Context) (*http.Response, error) { return e.post(ctx, "refused") },
		"connect": e.open,
	} {
		ctx, cancel := context.WithTimeout(e.t.Context(), 5*time.Second)
		resp, err := call(ctx)
		if err != nil {
			e.t.Fatalf("%s without NATS: %v, want an answer within 5 s", name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		cancel()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte("UNAVAILABLE")) {
			e.t.Fatalf("%s without NATS: %d, Retry-After %q, %s; want 503", name, resp.StatusCode, resp.Header.Get("Retry-After"), body)
		}
	}
}

func (e *edge) post(ctx context.Context, id string) (*http.Response, error) {
	header, err := e.desk.minted(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	n := peal.Notification{ID: id, Type: peal.Mention, TicketID: "1", TicketNumber: "INC-1", Title: "t", Message: "m"}
	body, err := json.Marshal(map[string]any{"recipients": []string{"jane"}, "notification": given(n)})
	if err != nil {
		e.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.serve.ready.URL+node.Base+"/ticket/notification", bytes.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(req)
}

// publish publishes the next notification until it is acknowledged.
func (e *edge) publish() string {
	e.t.Helper()
	id := fmt.Sprintf("n%d", len(e.acknowledged))
	for deadline := time.Now().Add(time.Minute); ; {
		err := publishOne(e.t.Context(), &e.desk, id)
		if err == nil {
			e.acknowledged = append(e.acknowledged, id)
			return id
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%s is not acknowledged for a minute: %v\n%s", id, err, e.serve.log)
		}
		time.Sleep(20 * time.Millisecond) // a publisher's back-off
	}
}

// Whatever becomes of NATS: the connection stays, who asks hears 503 in time,
// and afterwards everything goes on by itself.
func TestNATSGoesAway(t *testing.T) {
	e := newEdge(t)
	natsData := e.nats.ready.Data
	for name, fault := range map[string]struct{ begin, end func() }{
		"restarted": {func() { e.nats.stop(syscall.SIGTERM) }, func() { e.startNATS(natsData) }},
		"killed":    {func() { e.nats.stop(os.Kill) }, func() { e.startNATS(natsData) }},
		"hung": {func() { e.nats.cmd.Process.Signal(syscall.SIGSTOP) },
			func() { e.nats.cmd.Process.Signal(syscall.SIGCONT) }},
	} {
		e.until(e.publish())
		fault.begin()
		e.beats(2)
		e.refused()
		fault.end()
		last := e.publish()
		e.until(last)
		if diff := cmp.Diff(e.acknowledged, slices.DeleteFunc(slices.Clone(e.received), func(id string) bool { return id == "refused" })); diff != "" {
			t.Fatalf("%s: what the connection got (-acknowledged +got):\n%s", name, diff)
		}
		if n := count(e.received, "refused"); n > 1 {
			t.Fatalf("%s: what was refused came %d times", name, n)
		}
		e.received = slices.DeleteFunc(e.received, func(id string) bool { return id == "refused" })
	}

	e.nats.stop(os.Kill)
	e.beats(1)
	e.refused()
	e.startNATS(t.TempDir())
	e.until("UNKNOWN_CURSOR")
	e.until(e.publish())
	if e.serve.cmd.ProcessState != nil {
		t.Fatalf("serve has ended:\n%s", e.serve.log)
	}
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

// A NATS that lets us in no more is for the operator: the process ends, and its
// last line says why.
func TestRefusedByNATSForGoodEndsTheProcess(t *testing.T) {
	e := newEdge(t)
	e.nats.stop(os.Kill)
	l, err := net.Listen("tcp", e.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var refusing sync.WaitGroup
	defer refusing.Wait()
	defer l.Close()
	refusing.Go(func() { refuseAll(l) })

	for range e.events { // until the process has ended it
	}
	status := e.serve.wait(t)
	lines := strings.Split(strings.TrimSpace(e.serve.log.String()), "\n")
	last := lines[len(lines)-1]
	if status != 1 || !strings.HasPrefix(last, "peal serve: ") || !strings.Contains(last, "closed for good") || !strings.Contains(last, "Authorization") {
		t.Fatalf("exit status %d and %q, want 1 and that NATS refuses us\n%s", status, last, e.serve.log)
	}
}

// refuseAll is a NATS server that knows nobody.
func refuseAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		io.WriteString(c, `INFO {"server_id":"X","version":"2.15.2","proto":1,"max_payload":1048576,"headers":true}`+"\r\n")
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.Read(make([]byte, 4096)) // its CONNECT
		io.WriteString(c, "-ERR 'Authorization Violation'\r\n")
		c.Close()
	}
}
