package embedded_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

func TestMain(m *testing.M) {
	// The other process of TestOneProcessPerDirectory.
	if len(os.Args) == 3 && os.Args[1] == "start" {
		s, err := embedded.Start(embedded.Config{Dir: os.Args[2], Store: 1 << 20})
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		s.Close()
		return
	}
	bustest.Main(m)
}

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Unsynced = true
	s, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Two JetStreams on the same files would destroy them.
func TestOneServerPerDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first := start(t, embedded.Config{Dir: dir})
	if s, err := embedded.Start(embedded.Config{Dir: dir}); err == nil {
		s.Close()
		t.Error("a second server in the same process started")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server in the same process: %v, want that the directory is in use", err)
	}
	other := func() (string, error) {
		out, err := exec.Command(os.Args[0], "start", dir).CombinedOutput()
		return string(out), err
	}
	if out, err := other(); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("a second process: %v %q, want that the directory is in use", err, out)
	}
	first.Close()
	first.Close()
	if out, err := other(); err != nil {
		t.Errorf("a second process, after the first has gone: %v %q", err, out)
	}
}

func TestNoListenerUnlessAsked(t *testing.T) {
	s := start(t, embedded.Config{})
	if url := s.URL(); url != "" {
		t.Errorf("address %s, want no listener", url)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestListen(t *testing.T) {
	s := start(t, embedded.Config{Listen: "127.0.0.1:0"})
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") || strings.HasSuffix(s.URL(), ":0") {
		t.Fatalf("address %q, want that of the listener", s.URL())
	}
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("$JS.API.INFO", nil, 5*time.Second); err != nil {
		t.Fatalf("JetStream: %v", err)
	}
}

func TestBadConfigurationIsAnErrorAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  embedded.Config
		want string
	}{
		{"no directory", embedded.Config{}, "directory"},
		{"a file as directory", embedded.Config{Dir: file}, file},
		{"no port", embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1"}, "listen address"},
		{"no number", embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:nats"}, "port"},
		{"a negative port", embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:-1"}, "port"},
		{"too large a port", embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:65536"}, "port"},
		{"a port that is taken", embedded.Config{Dir: t.TempDir(), Listen: taken.Addr().String()}, taken.Addr().String()},
		{"another's address", embedded.Config{Dir: t.TempDir(), Listen: "192.0.2.1:0"}, "192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun := time.Now()
			s, err := embedded.Start(tt.cfg)
			if err == nil {
				s.Close()
				t.Fatal("started, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want it to name %q", err, tt.want)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("that took %v", d)
			}
		})
	}
}

func TestStoreIsBoundedByTheDisk(t *testing.T) {
	if n := start(t, embedded.Config{}).Store(); n <= 0 {
		t.Errorf("%d bytes of store, want a part of the disk", n)
	}
	if n := start(t, embedded.Config{Store: 12345678}).Store(); n != 12345678 {
		t.Errorf("%d bytes of store, want what was configured", n)
	}
}

// What no other start would cure is no reason for one: a directory that somebody
// left among the streams stopped all publishing.
func TestForeignDirectoryAmongTheStreams(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir})
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "jetstream", "jetstream", "$G", "streams", "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(4 * embedded.WatchEvery); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := s.Writable(); err != nil {
			t.Fatal(err)
		}
		if !nc.IsConnected() {
			t.Fatal("the server was started again")
		}
	}
}
