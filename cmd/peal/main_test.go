package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// TestMain is the binary too: a test that needs a process of its own to kill
// runs itself with this variable set.
func TestMain(m *testing.M) {
	if os.Getenv("PEAL_TEST_AS_BINARY") != "" {
		main()
		return
	}
	if listen := os.Getenv("PEAL_TEST_AS_NATS"); listen != "" {
		asNATS(listen, os.Args[1])
		return
	}
	if os.Getenv("PEAL_TEST_AS_NATS_SERVER") != "" {
		natsServer()
		return
	}
	bustest.Main(m)
}

// asNATS is a JetStream server until it is killed.
func asNATS(listen, data string) {
	s, err := embedded.Start(embedded.Config{Dir: data, Listen: listen, Logger: slog.Default()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	select {}
}

// result is what a command has printed, and its exit status.
type result struct {
	status         int
	stdout, stderr string
}

// do runs a command that ends by itself, in this process.
func do(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	return feed(t, "", env, args...)
}

// feed is do with something on standard input.
func feed(t *testing.T, input string, env map[string]string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	status := run(ctx, ctx, args, func(name string) string { return env[name] }, strings.NewReader(input), &out, &errs)
	return result{status, out.String(), errs.String()}
}

// process is a command that runs until it is stopped.
type process struct {
	cmd   *exec.Cmd
	out   *bufio.Reader
	log   *logbook
	ready ready
}

// start runs a command in a process of its own.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startAs(t, "PEAL_TEST_AS_BINARY=1", args...)
}

// startAs runs this binary as what a variable says, in a process of its own.
func startAs(t *testing.T, variable string, args ...string) *process {
	t.Helper()
	return startIn(t, []string{variable}, args...)
}

// startIn is startAs with several variables.
func startIn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), log: new(logbook)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(os.Kill) })
	return p
}

// startReady runs dev or serve and reads its ready line.
func startReady(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, append(args, "--ready-json")...)
	p.awaitReady(t)
	return p
}

// awaitReady reads the ready line.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &p.ready)
	}
	if err != nil {
		p.stop(os.Kill)
		t.Fatalf("no ready line from %v: %v\n%s", p.cmd.Args[1:], err, p.log)
	}
}

// stop sends a signal and waits for the end. It returns the exit status, -1
// after a signal that killed.
func (p *process) stop(s os.Signal) int {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Signal(s)
		io.Copy(io.Discard, p.out)
		p.cmd.Wait()
	}
	return p.cmd.ProcessState.ExitCode()
}

// wait waits for a process that ends by itself and returns its exit status.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	io.Copy(io.Discard, p.out)
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = dir + "/" + name
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	unknown := write("unknown.yaml", "listen: :1\n\nhartbeat: 3s\n")
	twice := write("twice.yaml", "listen: :1\nlisten: :2\n")
	wrong := write("wrong.yaml", "heartbeat: often\n")
	second := write("second.yaml", "listen: :1\n---\nadmin: :2\n")
	listed := write("listed.yaml", "listen: [\":1\"]\n")
	hosts := write("hosts.yaml", "action-hosts: [desk.example, \"https://x\"]\n")
	origins := write("origins.yaml", "cors-origins: [https://app.example, https://desk.example/]\n")
	cookies := write("cookies.yaml", "cookie-sessions: sometimes\n")
	replicas := write("replicas.yaml", "replicas: 99\n")
	tenants := write("tenants.yaml", "metrics-tenants: [11111111-1111-4111-8111-111111111111, acme]\n")
	many := ""
	for i := range 51 {
		many += fmt.Sprintf("- %08d-1111-4111-8111-111111111111\n", i)
	}
	alone := write("alone.yaml", "home: eu\n")
	homeless := write("homeless.yaml", "nats: nats://localhost\nregion: eu\nregions: [eu, us]\n")
	elsewhere := write("elsewhere.yaml", "nats: nats://localhost\nregion: ap\nregions: [eu, us]\nhome: eu\n")
	nowhere := write("nowhere.yaml", "nats: nats://localhost\nregion: eu\nregions: [eu, us]\nhome: eu\nhomes: [11111111-1111-4111-8111-111111111111=ap]\n")
	embedded := write("embedded.yaml", "region: eu\nregions: [eu, us]\nhome: eu\n")
	unread := write("unread.yaml", "nats: nats://localhost\nregion: eu\nregions: [eu, us]\nhome: eu\nhomes: [acme]\n")
	everybody := write("everybody.yaml", "metrics-tenants:\n"+many)
	negative := write("negative.yaml", "connects-per-user: -1\n")
	ages := write("ages.yaml", "max-connection-age: 5s\n")
	otherwise := write("otherwise.yaml", "limit-without-nats: maybe\n")
	requests := write("requests.yaml", "requests-per-user: -1\n")
	events := write("events.yaml", "events-per-tenant: -1\n")
	natsCert := write("natscert.yaml", "nats-cert: x\n")
	natsCA := write("natsca.yaml", "nats-ca: "+natsCert+"\n")
	durables := write("durables.yaml", "durables: -1\n")
	nested := write("nested.yaml", "action-hosts:\n  a: b\n")
	realms := write("realms.yaml", "realms:\n  - name: acme\n    issuer: https://id.example\n    surprise: 1\n")
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string // in the one line on standard error
	}{
		{"no command", nil, 2, []string{"usage"}},
		{"unknown command", []string{"bark"}, 2, []string{"bark", "peal help"}},
		{"unknown flag", []string{"dev", "--bark"}, 2, []string{"bark", "--help"}},
		{"argument too many", []string{"version", "now"}, 2, []string{"now"}},
		{"serve without a place", []string{"serve"}, 2, []string{"--nats", "--data"}},
		{"serve with two places", []string{"serve", "--nats", "nats://a", "--data", dir}, 2, []string{"--nats", "--data", "exclude"}},
		{"serve without realms", []string{"serve", "--data", dir}, 2, []string{"--realms"}},
		{"serve with realms that are not there", []string{"serve", "--data", dir, "--realms", dir + "/no"}, 2, []string{"--realms", "no such file"}},
		{"serve with bad realms", []string{"serve", "--data", dir, "--realms", realms}, 1, []string{"realms.yaml:4", "surprise"}},
		{"dev with realms", []string{"dev", "--realms", realms}, 2, []string{"--realms", "peal serve"}},
		{"NATS credentials that are not there", []string{"config", "check", "--nats", "nats://a", "--nats-creds", dir + "/no"}, 2, []string{"--nats-creds", "no such file"}},
		{"NATS certificate without a key", []string{"config", "check", "--config", natsCert}, 2, []string{"nats-cert", "nats-key"}},
		{"NATS authority that is none", []string{"config", "check", "--config", natsCA}, 2, []string{"nats-ca", "PEM"}},
		{"unknown setting", []string{"dev", "--config", unknown}, 1, []string{"unknown.yaml:3", "hartbeat"}},
		{"setting given twice", []string{"dev", "--config", twice}, 1, []string{"twice.yaml:2", "listen", "twice"}},
		{"setting of the wrong type", []string{"dev", "--config", wrong}, 1, []string{"wrong.yaml:1", "heartbeat", "duration"}},
		{"mapping for a list", []string{"dev", "--config", nested}, 1, []string{"nested.yaml:1", "action-hosts"}},
		{"second document", []string{"config", "check", "--config", second}, 1, []string{"second.yaml:2", "one YAML document"}},
		{"list for a value", []string{"config", "check", "--config", listed}, 1, []string{"listed.yaml:1", "listen", "one value"}},
		{"host that is a URL", []string{"config", "check", "--config", hosts}, 2, []string{"action-hosts"}},
		{"origin with a slash", []string{"config", "check", "--config", origins}, 2, []string{"cors-origins", `"https://desk.example/"`, "no slash at the end"}},
		{"cookies by half", []string{"config", "check", "--config", cookies}, 1, []string{"cookies.yaml:1", "cookie-sessions", "true or false"}},
		{"origins by flag", []string{"dev", "--cors-origins", "https://app.example"}, 2, []string{"cors-origins"}},
		{"more replicas than there can be", []string{"config", "check", "--config", replicas}, 2, []string{"replicas", "5"}},
		{"address without a port", []string{"config", "check", "--listen", "foo"}, 2, []string{"--listen", "HOST:PORT"}},
		{"port that is none", []string{"config", "check", "--nats-listen", "foo:x"}, 2, []string{"--nats-listen", "HOST:PORT"}},
		{"NATS that is no URL", []string{"config", "check", "--nats", "nats://user:secret%zz@host"}, 2, []string{"--nats", "nats://host:4222"}},
		{"NATS by http", []string{"config", "check", "--nats", "http://host:4222"}, 2, []string{"--nats", "nats://host:4222"}},
		{"NATS at no port", []string{"config", "check", "--nats", "host:99999"}, 2, []string{"--nats", "nats://host:4222"}},
		{"NATS with a password elsewhere", []string{"config", "check", "--nats", "nats://host?password=secret"}, 2, []string{"--nats", "nats://host:4222"}},
		{"negative limit", []string{"config", "check", "--max-connections-per-user", "-5"}, 2, []string{"--max-connections-per-user"}},
		{"realms of a port to come", []string{"dev", "--print-realms", "--listen", "127.0.0.1:0", "--data", dir}, 2, []string{"--listen"}},
		{"certificate that is not there", []string{"config", "check", "--tls-cert", dir + "/no", "--tls-key", dir + "/no"}, 2, []string{"--tls-cert", "no such file"}},
		{"configuration that is not there", []string{"dev", "--config", dir + "/no"}, 2, []string{"--config", "no such file"}},
		{"heartbeat too short", []string{"dev", "--heartbeat", "1ms"}, 2, []string{"--heartbeat", "1s"}},
		{"heartbeat too long", []string{"dev", "--heartbeat", "61s"}, 2, []string{"--heartbeat", "1m"}},
		{"connections that are hardly open", []string{"config", "check", "--config", ages}, 2, []string{"max-connection-age", "1m"}},
		{"limit above all slots", []string{"config", "check", "--max-connections-per-user", "1001"}, 2, []string{"--max-connections-per-user", "1000"}},
		{"limit without NATS otherwise", []string{"config", "check", "--config", otherwise}, 2, []string{"limit-without-nats", "refuse", "local"}},
		{"a tenant that is none", []string{"config", "check", "--config", tenants}, 2, []string{"metrics-tenants", "UUID"}},
		{"a home without regions", []string{"config", "check", "--config", alone}, 2, []string{"say regions too"}},
		{"regions without a home", []string{"config", "check", "--config", homeless}, 2, []string{"regions needs home"}},
		{"a region that is none of those that serve", []string{"config", "check", "--config", elsewhere}, 2, []string{"region ap is none of those that serve"}},
		{"a home that is none of those that serve", []string{"config", "check", "--config", nowhere}, 2, []string{"region ap, the home of tenant 11111111"}},
		{"regions with an embedded JetStream", []string{"config", "check", "--config", embedded}, 2, []string{"regions needs --nats"}},
		{"a tenant without a home", []string{"config", "check", "--config", unread}, 2, []string{"TENANT=REGION"}},
		{"metrics of everybody", []string{"config", "check", "--config", everybody}, 2, []string{"metrics-tenants", "50 at most"}},
		{"negative connects", []string{"config", "check", "--config", negative}, 2, []string{"connects-per-user"}},
		{"negative requests", []string{"config", "check", "--config", requests}, 2, []string{"requests-per-user"}},
		{"negative events", []string{"config", "check", "--config", events}, 2, []string{"events-per-tenant"}},
		{"negative durables", []string{"config", "check", "--config", durables}, 2, []string{"durables", "0 is none"}},
		{"negative drain window", []string{"dev", "--drain-window", "-1s"}, 2, []string{"drain-window", "duration"}},
		{"bad region", []string{"dev", "--region", "EU-1"}, 2, []string{"--region"}},
		{"bad log format", []string{"dev", "--log-format", "xml"}, 2, []string{"--log-format"}},
		{"certificate without key", []string{"dev", "--tls-cert", "x"}, 2, []string{"--tls-key"}},
		{"publish to nobody", []string{"publish"}, 2, []string{"--to"}},
		{"publish of no type", []string{"publish", "--to", "jane", "--type", "party"}, 2, []string{"--type", "mention"}},
		{"publish without dev", []string{"publish", "--to", "jane", "--data", dir}, 1, []string{"peal dev", "--url"}},
		{"publish without a token", []string{"publish", "--to", "jane", "--url", "http://localhost:1"}, 2, []string{"--token", "PEAL_TOKEN"}},
		{"publish to a service that is not there", []string{"publish", "--to", "jane", "--url", "http://localhost:1", "--token", "x"}, 1, []string{"running"}},
		{"tail after no cursor", []string{"tail", "--user", "jane", "--after", "a\nb"}, 2, []string{"--after", "cursor"}},
		{"tail of nobody", []string{"tail"}, 2, []string{"--user"}},
		{"token for nobody", []string{"token"}, 2, []string{"--user"}},
		{"token of no tenant", []string{"token", "--user", "jane", "--tenant", "x"}, 2, []string{"tenant", "UUID"}},
		{"token without dev", []string{"token", "--user", "jane", "--data", dir}, 1, []string{"peal dev"}},
		{"streams of no cluster", []string{"admin", "ensure"}, 2, []string{"--nats"}},
		{"streams of an embedded JetStream", []string{"admin", "ensure", "--data", dir}, 2, []string{"data", "--help"}},
		{"epoch of no cluster", []string{"admin", "epoch"}, 2, []string{"--nats"}},
		{"epoch without a terminal", []string{"admin", "epoch", "--nats", "nats://a", "--region", "eu"}, 2, []string{"region eu", "--yes"}},
		{"migrate from nothing", []string{"admin", "migrate", "--nats", "nats://a"}, 2, []string{"--data"}},
		{"migrate from an empty directory", []string{"admin", "migrate", "--nats", "nats://a", "--data", dir}, 2, []string{"no JetStream in " + dir}},
		{"config of nothing", []string{"config"}, 2, []string{"check", "print"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, nil, tt.args...)
			if got.status != tt.status {
				t.Errorf("exit status %d, want %d", got.status, tt.status)
			}
			if got.stdout != "" {
				t.Errorf("standard output %q, want none", got.stdout)
			}
			if tt.args != nil && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("standard error %q, want one line", got.stderr)
			}
			if strings.Contains(got.stderr, "secret") {
				t.Errorf("standard error %q tells a password", got.stderr)
			}
			for _, w := range tt.want {
				if !strings.Contains(got.stderr, w) {
					t.Errorf("standard error %q does not say %q", got.stderr, w)
				}
			}
		})
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, c := range commands() {
		got := do(t, nil, c.name, "--help")
		if got.status != 0 || got.stderr != "" || !strings.Contains(got.stdout, "usage: peal "+c.name) {
			t.Errorf("peal %s --help: %+v", c.name, got)
		}
	}
	if got := do(t, nil, "help"); got.status != 0 || !strings.Contains(got.stdout, "publish") {
		t.Errorf("peal help: %+v", got)
	}
}

// The file, then the environment, then the flags: the later wins.
func TestConfigPrecedence(t *testing.T) {
	file := t.TempDir() + "/peal.yaml"
	content := "heartbeat: 11s\nregion: filed\nadmin: 127.0.0.1:1\naction-hosts: [a.example, b.example]\ncors-origins: [https://a.example, http://localhost:3000]\nnats: nats://user:secret@one:4222,nats://two:4222\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PEAL_HEARTBEAT": "12s", "PEAL_REGION": "env", "PEAL_COOKIE_SESSIONS": "true", "PEAL_READY_JSON": "nonsense"}
	got := do(t, env, "config", "print", "--config", file, "--heartbeat", "13s")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{
		`heartbeat: 13s`, `region: "env"`, `admin: "127.0.0.1:1"`, `action-hosts: "a.example,b.example"`, `cors-origins: "https://a.example,http://localhost:3000"`, `cookie-sessions: true`, `listen: ":8080"`, `nats://masked@one:4222,nats://two:4222`,
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %s in:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "secret") {
		t.Errorf("the password is told:\n%s", got.stdout)
	}

	// What is printed is a configuration file.
	if err := os.WriteFile(file, []byte(got.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := do(t, nil, "config", "print", "--config", file); again != got {
		t.Errorf("read again:\n%s%s\nwant:\n%s", again.stdout, again.stderr, got.stdout)
	}
}

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "nats://one:4222,two": "nats://one:4222,two",
		"nats://u:p@one:4222,nats://two": "nats://masked@one:4222,nats://two",
		"u:p@one:4222":                   "nats://masked@one:4222",
		"tls://token@one":                "tls://masked@one",
		"nats://u:p%zz@one":              "nats://masked@one",
		"nats://u:p@ss@one":              "nats://masked@one",
	} {
		if got := masked(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
