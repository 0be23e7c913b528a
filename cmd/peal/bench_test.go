package main

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pealhq/peal/cmd/peal/bench"
)

// Beside a running dev every kind of bench works as it is, and finds nothing
// lost.
func TestBenchMeasuresDev(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data, "--nats-listen", "127.0.0.1:0")
	for _, tt := range []struct {
		name      string
		args      []string
		kind      bench.Kind
		perPost   int
		published int64
		delivered int64 // in one run
		runs      int
	}{
		{"post", []string{"--duration", "1s"}, bench.Steady, 1, 50, 50, 1},
		{"batch", []string{"--duration", "1s", "--publish", "batch", "--batch", "5"}, bench.Steady, 5, 50, 50, 1},
		{"batch to all", []string{"--duration", "1s", "--publish", "batch"}, bench.Steady, 20, 60, 60, 1},
		{"bus", []string{"--duration", "1s", "--publish", "bus"}, bench.Steady, 1, 50, 50, 1},
		{"event", []string{"--duration", "1s", "--publish", "event"}, bench.Steady, 1, 50, 50, 1},
		{"events", []string{"--duration", "1s", "--publish", "events", "--batch", "5"}, bench.Steady, 5, 50, 50, 1},
		{"several connections of a user", []string{"--duration", "1s", "--per-user", "4"}, bench.Steady, 1, 50, 200, 1},
		{"storm", []string{"--duration", "1s", "--storm"}, bench.Storm, 1, 50, 50, 1},
		{"slow", []string{"--duration", "200ms", "--slow"}, bench.Slow, 1, 10, 10, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"bench", "--data", data, "--connections", "20", "--rate", "50", "--json"}, tt.args...)
			got := do(t, nil, args...)
			var r benchReport
			if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.status != 0 {
				t.Fatalf("%v: %+v", err, got)
			}
			if r.URL != dev.ready.URL || r.Version != version || r.Kind != tt.kind || r.Group != tt.perPost || r.Connect.Count < 20 || r.Connect.PerSecond <= 0 {
				t.Errorf("report %+v", r.Report)
			}
			if len(r.Runs) != tt.runs || r.Faults() != 0 || r.Gaps != 0 || r.Foreign != 0 || r.Interrupted {
				t.Fatalf("report %s, want %d runs and no fault", got.stdout, tt.runs)
			}
			for _, o := range r.Runs {
				if o.Published != tt.published || o.Delivered != tt.delivered || o.Unconfirmed != 0 {
					t.Errorf("run %+v, want %d published, %d delivered", o, tt.published, tt.delivered)
				}
				if l := o.Latency; tt.kind != bench.Storm && (int64(l.Samples) != tt.delivered || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max) {
					t.Errorf("latency %+v", l)
				}
			}
			if (r.Storm != nil) != (tt.kind == bench.Storm) || (r.Slow != nil) != (tt.kind == bench.Slow) {
				t.Errorf("storm %+v, slow %+v in a run that is %s", r.Storm, r.Slow, tt.kind)
			}
			if runtime.GOOS != "linux" {
				return
			}
			if r.Memory == nil || r.Memory.After < 1<<20 {
				t.Errorf("memory %+v: the process of dev was not found", r.Memory)
			}
			if cpu := r.Runs[0].CPU; tt.kind != bench.Slow && (cpu == nil || !cpu.Together) {
				t.Errorf("CPU %+v, want that of node and JetStream together", cpu)
			}
		})
	}
}

// With a token of its own bench measures one user's connections, as far as the
// service lets it.
func TestBenchWithATokenOfItsOwn(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	token := do(t, nil, "token", "--data", data, "--user", "jane", "--role", rolePublish)
	env := map[string]string{"PEAL_TOKEN": strings.TrimSpace(token.stdout)}
	got := do(t, env, "bench", "--url", dev.ready.URL, "--rate", "20", "--duration", "1s")
	for _, want := range []string{"5 connections of 1 users", "delivered   100: 0 lost, 0 duplicated, 0 out of order, 0 misdirected"} {
		if got.status != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	if strings.Contains(got.stdout+got.stderr, env["PEAL_TOKEN"]) {
		t.Error("the token is told")
	}
}

// Ctrl-C ends a bench with what it has measured.
func TestBenchIsInterrupted(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	p := start(t, "bench", "--data", data, "--connections", "5", "--rate", "20", "--duration", "1h", "--json")
	awaitConnections(t, dev.ready.Admin, 5)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var r benchReport
	if err := json.NewDecoder(p.out).Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	if !r.Interrupted || r.Connect.Count != 5 || r.Faults() != 0 {
		t.Errorf("report %+v", r.Report)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0\n%s", status, p.log)
	}
}

func TestBenchUsage(t *testing.T) {
	data := t.TempDir()
	if err := writeDevJSON(data, ready{URL: "http://localhost:1", Data: data}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"--data", t.TempDir()}, 1, []string{"peal dev", "--data", "--url"}},
		{nil, 1, []string{"dial", ":1", "running"}},
		{[]string{"--connections", "0"}, 2, []string{"--connections", "at least 1"}},
		{[]string{"--connections", "many"}, 2, []string{"connections", "--help"}},
		{[]string{"--connections", "100000000"}, 2, []string{"open files", "ulimit -n"}},
		{[]string{"--per-user", "3"}, 2, []string{"--connections", "multiple", "--per-user"}},
		{[]string{"--per-user", "0"}, 2, []string{"--per-user"}},
		{[]string{"--rate", "0"}, 2, []string{"--rate"}},
		{[]string{"--duration", "0s"}, 2, []string{"--duration"}},
		{[]string{"--duration", "soon"}, 2, []string{"duration", "--help"}},
		{[]string{"--rate", "1000000", "--duration", "1h"}, 2, []string{"--rate", "20,000,000"}},
		{[]string{"--publish", "carrier-pigeon"}, 2, []string{"--publish", "post, batch, bus, event or events"}},
		{[]string{"--publish", "bus"}, 2, []string{"--nats", "--nats-listen"}},
		{[]string{"--publish", "bus", "--region", "EU-1"}, 2, []string{"--region"}},
		{[]string{"--publish", "bus", "--nats", "nats://user:secret@127.0.0.1:1", "--connections", "1"}, 1, []string{"nats://masked@127.0.0.1:1", "--nats"}},
		{[]string{"--batch", "10"}, 2, []string{"--batch", "--publish batch"}},
		{[]string{"--publish", "batch", "--batch", "1001"}, 2, []string{"--batch", "1000"}},
		{[]string{"--storm", "--slow"}, 2, []string{"--storm", "--slow"}},
		{[]string{"--node-pid", "-1"}, 2, []string{"node-pid", "process ids"}},
		{[]string{"--nats-pid", "1,,2"}, 2, []string{"nats-pid", "process ids"}},
		{[]string{"--url", "http://localhost:1,localhost:2"}, 2, []string{"--url", "https://"}},
		{[]string{"--tenant", "x"}, 2, []string{"tenant", "UUID"}},
		{[]string{"--realm", "initech", "--connections", "2"}, 1, []string{"realm"}},
		{[]string{"--url", "localhost:8080"}, 2, []string{"--url", "https://"}},
		{[]string{"--url", "http://localhost:1", "--token", "secret", "--slow"}, 2, []string{"--slow", "token"}},
		{[]string{"--url", "http://localhost:1", "--token", "secret", "--publish", "bus"}, 2, []string{"--publish bus", "token"}},
		{[]string{"now"}, 2, []string{"now"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			got := do(t, nil, append([]string{"bench", "--data", data}, tt.args...)...)
			lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
			last := lines[len(lines)-1] // before it may be what went well
			if got.status != tt.status || got.stdout != "" || tt.status == 2 && len(lines) != 1 {
				t.Errorf("%+v, want exit status %d and an error", got, tt.status)
			}
			for _, w := range tt.want {
				if !strings.Contains(last, w) {
					t.Errorf("%q does not say %q", last, w)
				}
			}
			if strings.Contains(got.stderr, "secret") {
				t.Errorf("standard error %q tells a secret", got.stderr)
			}
		})
	}
}

func TestNATSAddress(t *testing.T) {
	for in, want := range map[string][]string{
		"nats://localhost:4222": {"localhost:4222"}, "nats://one": {"one:4222"}, "one:1,two:2": {"one:1", "two:2"},
		"nats://user:secret@one:5,nats://two": {"one:5", "two:4222"}, "tls://[::1]:6": {"[::1]:6"}, "nats://u:p%zz@one": nil,
	} {
		if got := natsAddresses(in); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
