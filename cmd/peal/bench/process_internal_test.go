package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// What Linux 6 shows; the commands are chosen to mislead.
const (
	statFixture = "4711 (peal) R 1 (x)) S 1 4711 4711 0 -1 4194560 2764 0 11 0 1234 66 7 8 20 0 9 0 513571 1271889920 4121 18446744073709551615 1 1 0 0\n"

	statusFixture = "Name:\tpeal\nVmPeak:\t 1242080 kB\nVmHWM:\t   99999 kB\nVmRSS:\t   16484 kB\nRssAnon:\t    5000 kB\n"

	tcpFixture = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 20 4 30 10 -1
   2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1003 1 0000000000000000 100 0 0 10 0
`
	tcp6Fixture = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1004 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1005 1 0000000000000000 100 0 0 10 0
`
)

// procfs makes a directory that looks like /proc, with two processes: 4711
// holds sockets 1001, 1002 and 1003, and 4712 holds 1004 and 1005.
func procfs(t *testing.T) Processes {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"4711/stat": statFixture, "4711/status": statusFixture, "net/tcp": tcpFixture, "net/tcp6": tcp6Fixture,
		"4711/fd/0": "", "4712/fd/0": "",
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, inodes := range map[int][]int{4711: {1001, 1002, 1003}, 4712: {1004, 1005}} {
		for i, inode := range inodes {
			link := filepath.Join(root, fmt.Sprint(pid), "fd", fmt.Sprint(i+3))
			if err := os.Symlink(fmt.Sprintf("socket:[%d]", inode), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	return Processes(root)
}

func TestUsageIsReadFromProcfs(t *testing.T) {
	p := procfs(t)
	got, err := p.usage(4711)
	want := usage{cpu: 13 * time.Second, resident: 16484 << 10}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, pid := range []int{0, 4712, 4713} {
		if got, err := p.usage(pid); err == nil {
			t.Errorf("process %d has used %+v, want an error", pid, got)
		}
	}
	for _, stat := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S 1 1 1 0 -1 1 1 0 1 0 many 66"} {
		if got, err := parseStat([]byte(stat)); err == nil {
			t.Errorf("%q: got %v, want an error", stat, got)
		}
	}
	for _, status := range []string{"", "VmRSS:\n", "VmRSS:\tlots kB\n"} {
		if got, err := parseStatus([]byte(status)); err == nil {
			t.Errorf("%q: got %d, want an error", status, got)
		}
	}
}

func TestListenerIsFoundByItsPort(t *testing.T) {
	p := procfs(t)
	for _, tt := range []struct {
		name string
		port int
		want int
	}{
		{"the one that listens", 0x1f90, 4711},
		{"on all addresses", 0x1f92, 4712},
		{"two that share a port", 0x1f91, 0},
		{"a port that is only connected to", 0xd431, 0},
		{"nobody", 1, 0},
	} {
		if got := p.listener(tt.port); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := Processes(t.TempDir()).listener(0x1f90); got != 0 {
		t.Errorf("without procfs: got %d, want 0", got)
	}
}

func TestListenerFindsThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has procfs")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if got := System.Listener(address); got != os.Getpid() {
		t.Errorf("%s: got %d, want %d", address, got, os.Getpid())
	}
	l.Close()
	if got := System.Listener(address); got != 0 {
		t.Errorf("after it was closed: got %d, want 0", got)
	}
	if got, err := System.usage(os.Getpid()); err != nil || got.resident < 1<<20 {
		t.Errorf("this process has used %+v, %v", got, err)
	}
}
