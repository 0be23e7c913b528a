package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const notifications = "/api/v2/ticketing/ticket/sse/notifications"

// service is peal, in processes that are ended and started again on one port
// and one data directory.
type service struct {
	url   string
	admin string // of the process that runs
	nats  string // of that too; "" where nobody else gets in
	data  string
	place []string // where notifications are kept; nil: in data
	args  []string // the command, with the flags of its own
	env   []string
	ttl   atomic.Int64 // of the tokens that Tokens gives: a time.Duration

	cmd *exec.Cmd
	log *bytes.Buffer // of the process that runs
}

// startService starts a command of peal: dev or serve, with the flags of its own.
func startService(t *testing.T, command ...string) *service {
	t.Helper()
	s := &service{data: t.TempDir(), args: command}
	s.open(t)
	return s
}

// open starts the first process, on a port of its choice.
func (s *service) open(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(*binary); err != nil {
		t.Fatalf("no binary to test: make build makes one, -args -peal FILE names another: %v", err)
	}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	u, err := url.Parse(s.start(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://127.0.0.1:" + u.Port() // localhost may be ::1 first
}

// start starts a process and returns where it says that it is.
func (s *service) start(t *testing.T, listen string) (url string) {
	t.Helper()
	s.log = new(bytes.Buffer)
	place := s.place
	if place == nil {
		place = []string{"--data", s.data}
	}
	usual := append([]string{s.args[0], "--listen", listen, "--admin", "127.0.0.1:0",
		"--heartbeat", "1s", "--drain-window", "2s", "--ready-json"}, place...)
	s.cmd = exec.Command(*binary, append(usual, s.args[1:]...)...) // of two flags the later counts
	s.cmd.Env = append(os.Environ(), append([]string{"PEAL_DRAIN_DELAY=500ms"}, s.env...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ready struct{ URL, Admin, NATS string }
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		s.end(syscall.SIGKILL)
		t.Fatalf("no ready line from peal %s: %v\n%s", s.args[0], err, s.log)
	}
	s.admin, s.nats = ready.Admin, ready.NATS
	return ready.URL
}

// restart starts the service again, where it was.
func (s *service) restart(t *testing.T) {
	t.Helper()
	s.start(t, strings.TrimPrefix(s.url, "http://"))
}

// end ends the process and returns its exit status, -1 if it was killed.
func (s *service) end(by os.Signal) int {
	if s.cmd == nil || s.cmd.Process == nil {
		return -1 // it was never started
	}
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Signal(by)
		s.cmd.Wait()
	}
	return s.cmd.ProcessState.ExitCode()
}

// token mints a token by peal token.
func (s *service) token(ctx context.Context, user string, ttl time.Duration, more ...string) (string, error) {
	args := append([]string{"token", "--data", s.data, "--realm", realm, "--tenant", tenant, "--user", user, "--ttl", ttl.String()}, more...)
	out, err := exec.CommandContext(ctx, *binary, args...).Output()
	return strings.TrimSpace(string(out)), err
}

// tokens gives each client fresh tokens of its user, at /USER, as the backend
// of an application would.
func (s *service) tokens(t *testing.T) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := s.token(r.Context(), path.Base(r.URL.Path), time.Duration(s.ttl.Load()))
		if err != nil {
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, token)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// publisher tells all users the same, one notification after the other.
type publisher struct {
	service *service
	token   string
	users   []string
}

// pause is between two notifications, and between two tries of one.
const pause = 50 * time.Millisecond

// run publishes until ctx ends, each notification until it is acknowledged,
// under one id.
func (p publisher) run(ctx context.Context, s *stage) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("n%05d", n)
		for p.publish(id) != nil {
			s.note(func() { s.refused++ })
			<-tick.C
		}
		s.note(func() { s.acked = append(s.acked, id) })
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (p publisher) publish(id string) error {
	return p.service.publish(bearer{realm, tenant, p.token}, id, p.users)
}

// bearer is who a request says that it is from.
type bearer struct{ realm, tenant, token string }

func (b bearer) headers() map[string]string {
	return map[string]string{"Authorization": "Bearer " + b.token, "realmname": b.realm, "x-tenantid": b.tenant}
}

// publish tells users of a mention.
func (s *service) publish(as bearer, id string, users []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"recipients": users,
		"notification": map[string]any{
			"id": id, "type": "mention", "ticketId": "12345", "ticketNumber": "INC-2024-001234",
			"title": "VPN Connection Issue", "message": "You were mentioned",
		},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v2/ticketing/ticket/notification", bytes.NewReader(body))
	if err != nil {
		return err
	}
	setHeaders(req.Header, as.headers())
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("not stored: %s", resp.Status)
	}
	return nil
}
