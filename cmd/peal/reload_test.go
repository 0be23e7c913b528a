package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/node"
)

// logbook keeps what is logged, for who waits for a line.
type logbook struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // closed at the next write
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
	return l.text.Write(p)
}

// lines returns those with all of some words in them, and what is closed when
// there may be more.
func (l *logbook) lines(words ...string) (all []string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written == nil {
		l.written = make(chan struct{})
	}
next:
	for line := range strings.Lines(l.text.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		all = append(all, line)
	}
	return all, l.written
}

// await waits for the n-th line with all of some words in it.
func (l *logbook) await(t *testing.T, n int, words ...string) string {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		found, more := l.lines(words...)
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no %d lines with %q in the log:\n%s", n, words, l)
		}
	}
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// served is a peal serve in this process.
type served struct {
	ready ready
	log   *logbook
	stop  func() int // returns the exit status; may be called again
}

// serveHere runs serve with an embedded JetStream, until the test ends.
func serveHere(t *testing.T, data, realms string, args ...string) *served {
	t.Helper()
	s := &served{log: new(logbook)}
	out, stdout := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	args = append([]string{"serve", "--data", data, "--realms", realms, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--drain-window", "0s", "--ready-json"}, args...)
	ended := make(chan int, 1)
	go func() {
		defer stdout.Close()
		ended <- run(ctx, ctx, args, func(string) string { return "" }, strings.NewReader(""), stdout, s.log)
	}()
	s.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() { s.stop() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.ready)
	}
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, s.log)
	}
	return s
}

// asks asks the API with a token and returns the status.
func (s *served) asks(t *testing.T, realm, jwt string) int {
	t.Helper()
	body := `{"recipients":["jane"],"notification":{"type":"mention","ticketId":"1","ticketNumber":"INC-1","title":"t","message":"m"}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.ready.URL+node.Base+"/ticket/notification", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = (&target{realm: realm, tenant: string(tenantShared)}).header(jwt)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// wants wants a token of each realm to be answered with a status.
func (s *served) wants(t *testing.T, i *identity, when string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for realm := range want {
		got[realm] = s.asks(t, realm, i.mint(realm, nil))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// without is the configuration with one realm less.
func (i *identity) without(realm string) auth.Config {
	cfg := auth.Config{Tenants: i.config.Tenants}
	for _, r := range i.config.Realms {
		if r.Name != realm {
			cfg.Realms = append(cfg.Realms, r)
		}
	}
	return cfg
}

func TestRealmsAreReloadedWhenTheFileChanges(t *testing.T) {
	i := newIdentity(t)
	s := serveHere(t, t.TempDir(), i.file)
	s.wants(t, i, "at first", map[string]int{realmAcme: 202, realmGlobex: 202})

	i.write(i.without(realmGlobex))
	s.log.await(t, 1, "realms reloaded", "added=[]", "removed=[globex]", "changed=[]")
	s.wants(t, i, "without globex", map[string]int{realmAcme: 202, realmGlobex: 401})

	broken := string(i.yaml(i.config)) + "surprise: 1\n"
	if err := os.WriteFile(i.file, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("%s:%d: surprise", i.file, strings.Count(broken, "\n"))
	s.log.await(t, 1, "level=ERROR", "realms not reloaded", at)
	s.wants(t, i, "with a broken file", map[string]int{realmAcme: 202, realmGlobex: 401})

	if err := os.Remove(i.file); err != nil {
		t.Fatal(err)
	}
	s.log.await(t, 1, "level=ERROR", "realms not reloaded", "no such file")
	s.wants(t, i, "with no file", map[string]int{realmAcme: 202, realmGlobex: 401})

	i.write(i.config)
	s.log.await(t, 1, "realms reloaded", "added=[globex]", "removed=[]", "changed=[]")
	awaitStatus(t, s, i, realmGlobex, 202) // its keys are fetched
	if s.stop() != 0 {
		t.Errorf("exit status other than 0\n%s", s.log)
	}
	if told, _ := s.log.lines("realms not reloaded"); len(told) != 2 {
		t.Errorf("what is wrong is told %d times, want once for each file that is:\n%s", len(told), s.log)
	}
}

// awaitStatus waits until a token is answered with a status and not with 503.
func awaitStatus(t *testing.T, s *served, i *identity, realm string, want int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	got := http.StatusServiceUnavailable
	for got == http.StatusServiceUnavailable && time.Now().Before(deadline) {
		if got = s.asks(t, realm, i.mint(realm, nil)); got == http.StatusServiceUnavailable {
			time.Sleep(20 * time.Millisecond) // a client's back-off
		}
	}
	if got != want {
		t.Fatalf("a token of %s: %d, want %d\n%s", realm, got, want, s.log)
	}
}

// A Kubernetes ConfigMap: the file is a link through a link, and that one is
// replaced.
func TestRealmsAreReloadedWhenALinkIsSwapped(t *testing.T) {
	i := newIdentity(t)
	dir := t.TempDir()
	generation := func(name string, cfg auth.Config) {
		t.Helper()
		next := filepath.Join(dir, "..data_tmp")
		if err := errors.Join(
			os.Mkdir(filepath.Join(dir, name), 0o700),
			os.WriteFile(filepath.Join(dir, name, "realms.yaml"), i.yaml(cfg), 0o600),
			os.Symlink(name, next),
			os.Rename(next, filepath.Join(dir, "..data")),
		); err != nil {
			t.Fatal(err)
		}
	}
	generation("..1", i.config)
	file := filepath.Join(dir, "realms.yaml")
	if err := os.Symlink(filepath.Join("..data", "realms.yaml"), file); err != nil {
		t.Fatal(err)
	}
	s := serveHere(t, t.TempDir(), file)
	generation("..2", i.without(realmGlobex))
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	s.log.await(t, 1, "realms reloaded", "removed=[globex]")
	s.wants(t, i, "after the swap", map[string]int{realmAcme: 202, realmGlobex: 401})
}

// SIGHUP on a file that is as it was changes nothing, and says so.
func TestSIGHUPReloadsTheRealms(t *testing.T) {
	i := newIdentity(t)
	s := serveHere(t, t.TempDir(), i.file)
	for n := 1; n <= 2; n++ {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.log.await(t, n, "level=INFO", "realms reloaded", "cause=hangup", "added=[]", "removed=[]", "changed=[]")
	}
	s.wants(t, i, "after SIGHUP", map[string]int{realmAcme: 202, realmGlobex: 202})
}

// A process of its own is not ended by SIGHUP.
func TestSIGHUPDoesNotEndTheProcess(t *testing.T) {
	i := newIdentity(t)
	config := filepath.Join(t.TempDir(), "peal.yaml")
	if err := os.WriteFile(config, []byte("drain-delay: 0s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startReady(t, "serve", "--data", t.TempDir(), "--realms", i.file, "--config", config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := (&served{ready: p.ready}).asks(t, realmAcme, i.mint(realmAcme, nil)); got != 202 {
		t.Errorf("after SIGHUP: %d, want 202", got)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 || !strings.Contains(p.log.String(), "cause=hangup") {
		t.Errorf("exit status %d\n%s", status, p.log)
	}
}

// reloading is a reloader under synctest's clock.
type reloading struct {
	t     *testing.T
	i     *identity
	log   *logbook
	asked chan os.Signal

	mu      sync.Mutex // protects the rest
	applied []string   // the names of the realms, each time
}

func reload(t *testing.T, i *identity, test func(*reloading)) {
	t.Helper()
	i.write(i.config)
	synctest.Test(t, func(t *testing.T) {
		x := &reloading{t: t, i: i, log: new(logbook), asked: make(chan os.Signal, 1)}
		r := newReloader(slog.New(slog.NewTextHandler(x.log, nil)), i.file, i.yaml(i.config), func(cfg auth.Config) (auth.Changes, error) {
			names := ""
			for _, realm := range cfg.Realms {
				names += realm.Name + " "
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.applied = append(x.applied, strings.TrimSpace(names))
			return auth.Changes{}, nil
		})
		r.start(x.asked)
		defer r.close()
		time.Sleep(pollEvery / 2) // between two looks
		test(x)
	})
}

// put writes text into the file, in place.
func (x *reloading) put(text string) {
	x.t.Helper()
	if err := os.WriteFile(x.i.file, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// look lets the file be looked at once more.
func (x *reloading) look() {
	time.Sleep(pollEvery)
	synctest.Wait()
}

func (x *reloading) wants(when string, applied []string, refused int) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if diff := cmp.Diff(applied, x.applied); diff != "" {
		x.t.Errorf("%s: applied (-want +got):\n%s", when, diff)
	}
	if told, _ := x.log.lines("level=ERROR"); len(told) != refused {
		x.t.Errorf("%s: told %d times, want %d:\n%s", when, len(told), refused, x.log)
	}
}

// Half of a file may be a good one, of half of the realms.
func TestAFileThatIsStillWrittenIsNotTaken(t *testing.T) {
	i := newIdentity(t)
	half := string(i.yaml(i.without(realmGlobex)))
	whole := string(i.yaml(i.config)) + "# written\n"
	both := realmAcme + " " + realmGlobex
	reload(t, i, func(x *reloading) {
		x.look()
		x.look()
		x.wants("as it was", nil, 0)
		x.put(half)
		x.look()
		x.wants("half of it", nil, 0)
		x.put(whole)
		x.look()
		x.wants("seen once", nil, 0)
		x.look()
		x.wants("seen twice", []string{both}, 0)
		x.look()
		x.look()
		x.wants("since then", []string{both}, 0)
	})
}

func TestAFaultIsToldOnce(t *testing.T) {
	i := newIdentity(t)
	good := string(i.yaml(i.config))
	both := realmAcme + " " + realmGlobex
	reload(t, i, func(x *reloading) {
		for n, text := range []string{"", "realms: [\n", "realms: []\n"} {
			x.put(text)
			for range 5 {
				x.look()
			}
			x.wants(fmt.Sprintf("%q", text), nil, n+1)
		}
		if err := errors.Join(os.Remove(i.file), syscall.Mkfifo(i.file, 0o600)); err != nil {
			x.t.Fatal(err)
		}
		x.look()
		x.look()
		x.wants("a pipe that keeps its reader waiting", nil, 4)
		if err := os.Remove(i.file); err != nil {
			x.t.Fatal(err)
		}
		x.look()
		x.look()
		x.wants("no file", nil, 5)
		x.put(good)
		x.look()
		x.look()
		x.wants("mended", []string{both}, 5)
	})
}

func TestSIGHUPIsAnsweredAtOnce(t *testing.T) {
	i := newIdentity(t)
	reload(t, i, func(x *reloading) {
		ask := func() { x.asked <- syscall.SIGHUP; synctest.Wait() }
		x.put(string(i.yaml(i.without(realmGlobex))))
		ask()
		x.wants("a change", []string{realmAcme}, 0)
		x.look()
		x.look()
		x.wants("the looks after it", []string{realmAcme}, 0)
		x.put("nothing")
		ask()
		ask()
		x.wants("a fault, which is told whenever one asks", []string{realmAcme}, 2)
		x.look()
		x.look()
		x.wants("the looks after that", []string{realmAcme}, 2)
	})
}

func TestConfigCheckReadsTheRealms(t *testing.T) {
	i := newIdentity(t)
	if got := do(t, nil, "config", "check", "--data", t.TempDir(), "--realms", i.file); got.status != 0 {
		t.Errorf("good realms: %+v", got)
	}
	cfg := i.config
	cfg.Realms = cfg.Realms[:1]
	cfg.Realms[0].Audiences = nil
	i.write(cfg)
	got := do(t, nil, "config", "check", "--data", t.TempDir(), "--realms", i.file)
	if got.status != 1 || !strings.Contains(got.stderr, i.file+":") || !strings.Contains(got.stderr, "realms[0].audiences") {
		t.Errorf("bad realms: %+v", got)
	}
}
