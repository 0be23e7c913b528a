package embedded_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus/embedded"
)

// smallDisk mounts a disk of 32 MiB, or has the test run again where it may: in
// a mount namespace of its own.
func smallDisk(t *testing.T) (dir string, own bool) {
	t.Helper()
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m")
	if err == nil {
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
		return dir, true
	}
	if os.Getenv("PEAL_TEST_NAMESPACE") != "" {
		t.Skipf("this system lets nobody but root mount a small disk: %v", err)
	}
	if !errors.Is(err, syscall.EPERM) {
		t.Fatalf("mount a small disk: %v", err)
	}
	again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), "PEAL_TEST_NAMESPACE=1")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("this system lets nobody but root mount a small disk: %v", err)
	}
	if err != nil {
		t.Fatalf("in a mount namespace: %v\n%s", err, out)
	}
	t.Logf("in a mount namespace:\n%s", out)
	return "", false
}

// fill leaves so many bytes free on the disk of dir, and returns what undoes
// that.
func fill(t *testing.T, dir string, free int64) (undo func()) {
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(disk.Bavail)*int64(disk.Bsize)-free); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

// A disk that is nearly full is refused before JetStream fails on it, and good
// again when there is room.
func TestStopsStoringBeforeTheDiskIsFull(t *testing.T) {
	dir, own := smallDisk(t)
	if !own {
		return
	}
	s := start(t, embedded.Config{Dir: dir})
	if err := s.Writable(); err != nil {
		t.Fatalf("an empty disk: %v", err)
	}
	undo := fill(t, dir, 100<<10)
	if err := s.Writable(); err == nil {
		t.Error("a full disk is taken for writable")
	}
	undo()
	if err := s.Writable(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// JetStream does not come back from a write that failed, even when there is
// room again: the server is started anew, and nothing acknowledged is lost.
func TestStartsAgainAfterAWriteThatFailed(t *testing.T) {
	dir, own := smallDisk(t)
	if !own {
		return
	}
	s := start(t, embedded.Config{Dir: dir, Listen: "127.0.0.1:0"})
	address := s.URL()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	undo := fill(t, dir, 0)
	acknowledged, body := uint64(0), make([]byte, 10000)
	for ; err == nil; _, err = js.Publish(t.Context(), "s", body) {
		if acknowledged++; acknowledged > 10000 {
			t.Fatal("a full disk takes 100 MB")
		}
	}
	acknowledged-- // the first round has published nothing
	await(t, "the server is known to store nothing", func() bool { return s.Writable() != nil })
	if acknowledged > 0 {
		if _, err := stream.GetMsg(t.Context(), acknowledged); err != nil {
			t.Errorf("read from a full disk: %v", err)
		}
	}

	undo()
	await(t, "it stores again", func() bool { return s.Writable() == nil })
	await(t, "a publish is acknowledged", func() bool { _, err := js.Publish(t.Context(), "s", body); return err == nil })
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs <= acknowledged {
		t.Errorf("%d messages, want the %d acknowledged before and the one after", info.State.Msgs, acknowledged)
	}
	if s.URL() != address {
		t.Errorf("the address is %s, and was %s", s.URL(), address)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
