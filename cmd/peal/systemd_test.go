package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
)

// manager is who has started a process, and is told by it.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "peal") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, path: filepath.Join(dir, "notify")}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// until returns what the process tells, up to the first that says one of some lines.
func (m *manager) until(p *process, lines ...string) (all []string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	for buf := make([]byte, 1<<10); ; {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("not told %q: %v\ntold: %q\n%s", lines, err, all, p.log)
		}
		all = append(all, string(buf[:n]))
		if slices.ContainsFunc(strings.Split(string(buf[:n]), "\n"), func(line string) bool { return slices.Contains(lines, line) }) {
			return all
		}
	}
}

// readiness is the status of GET /readyz.
func readiness(t *testing.T, p *process) int {
	t.Helper()
	resp, err := http.Get(p.ready.Admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A service manager is told READY=1 when the node is ready, and not when it has only
// started; what it waits for meanwhile; STOPPING=1 on SIGTERM, and how long that may take.
func TestTheServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	i := newIdentity(t)
	var noKeys auth.Config
	for _, r := range i.config.Realms {
		r.JWKS = "http://" + freeAddress(t) + "/"
		noKeys.Realms = append(noKeys.Realms, r)
	}
	noKeys.Tenants = i.config.Tenants
	i.write(noKeys)

	m := newManager(t)
	p := startIn(t, []string{"PEAL_TEST_AS_BINARY=1", "NOTIFY_SOCKET=" + m.path, "PEAL_DRAIN_DELAY=3s"},
		"serve", "--data", t.TempDir(), "--realms", i.file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "1s", "--ready-json")
	p.awaitReady(t)
	before := m.until(p, "STATUS=Not ready: no realm has keys yet")
	if got := readiness(t, p); got != http.StatusServiceUnavailable {
		t.Fatalf("/readyz without keys: %d, want 503", got)
	}
	i.write(i.config)
	before = append(before, m.until(p, "READY=1")...)
	if got := readiness(t, p); got != http.StatusOK {
		t.Errorf("/readyz after READY=1: %d, want 200", got)
	}
	if early := strings.Join(before[:len(before)-1], "\n"); strings.Contains(early, "READY=1") || strings.Contains(early, "STOPPING=1") {
		t.Errorf("told %q", before)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	last := m.until(p, "STOPPING=1")
	if want := "STOPPING=1\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=24000000"; last[len(last)-1] != want { // 3 s, 1 s and the last steps
		t.Errorf("told %q, want %q", last, want)
	}
	if got := readiness(t, p); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz after STOPPING=1: %d, want 503", got)
	}
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d\n%s", status, p.log)
	}
}

// A service manager that can't be told is no reason to fail, and is told of once.
func TestWithoutAServiceManager(t *testing.T) {
	t.Parallel()
	i := newIdentity(t)
	p := startIn(t, []string{"PEAL_TEST_AS_BINARY=1", "NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "nobody"), "PEAL_DRAIN_DELAY=0s"},
		"serve", "--data", t.TempDir(), "--realms", i.file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s", "--ready-json")
	p.awaitReady(t)
	p.log.await(t, 1, "level=WARN", "the service manager can't be told")
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d\n%s", status, p.log)
	}
	if all, _ := p.log.lines("the service manager can't be told"); len(all) != 1 {
		t.Errorf("told %d times:\n%s", len(all), p.log)
	}
}

// unitOf reads a unit: section and key → values.
func unitOf(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	unit, section := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("%s: %q", file, line)
		}
		unit[section+"/"+key] = append(unit[section+"/"+key], value)
	}
	return unit
}

// The unit in deploy/systemd runs peal with flags that there are, gives it the time and
// the descriptors that it needs, and rights that it does not need to nobody.
func TestTheUnitFitsTheBinary(t *testing.T) {
	unit := unitOf(t, "../../deploy/systemd/peal.service")
	one := func(key string) string {
		t.Helper()
		values := unit["Service/"+key]
		if len(values) != 1 {
			t.Fatalf("%s is there %d times", key, len(values))
		}
		return values[0]
	}
	for key, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", "ExecReload": "/bin/kill -HUP $MAINPID", "Restart": "on-failure", "RestartPreventExitStatus": "2",
		"TimeoutStartSec": "infinity", "DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes",
		"MemoryDenyWriteExecute": "yes", "CapabilityBoundingSet": "",
	} {
		if got := one(key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}

	words := strings.Fields(one("ExecStart"))
	s := newSettings(serveDefaults)
	c := &call{command: command{name: "serve"}}
	fs := c.flags()
	given := s.register(fs, nil)
	if len(words) < 2 || !filepath.IsAbs(words[0]) || filepath.Base(words[0]) != "peal" || words[1] != "serve" {
		t.Fatalf("ExecStart=%q", words)
	}
	if err := c.parse(fs, words[2:]); err != nil {
		t.Fatalf("ExecStart: %v", err)
	}
	credential, source, _ := strings.Cut(one("LoadCredential"), ":")
	if s.configFile != "${CREDENTIALS_DIRECTORY}/"+credential || !strings.HasPrefix(source, "/etc/peal/") {
		t.Errorf("--config %s, and LoadCredential=%s:%s", s.configFile, credential, source)
	}
	if given["realms"] != "/etc/peal/realms.yaml" { // a credential would never change
		t.Errorf("--realms %s", given["realms"])
	}

	stop, err := time.ParseDuration(one("TimeoutStopSec"))
	if err != nil || stop <= s.leaving() {
		t.Errorf("TimeoutStopSec is %v (%v): to leave takes %v", stop, err, s.leaving())
	}
	if files, err := strconv.Atoi(one("LimitNOFILE")); err != nil || files < 2*10_000 {
		t.Errorf("LimitNOFILE is %d (%v): doctor expects 10,000 connections where nobody says how many", files, err)
	}
	if want := "/var/lib/" + one("StateDirectory"); one("WorkingDirectory") != want {
		t.Errorf("WorkingDirectory=%s, want %s", one("WorkingDirectory"), want)
	}
	if fmt.Sprint(unit["Install/WantedBy"]) != "[multi-user.target]" {
		t.Errorf("WantedBy=%v", unit["Install/WantedBy"])
	}
}
