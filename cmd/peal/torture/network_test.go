//go:build linux

package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// network is where processes run: each host is a network namespace with an address of
// its own, behind one bridge, so that the paths between them can be cut. Where that is
// not allowed all are on the loopback interface, and nothing can be cut.
type network struct {
	apart  bool // namespaces
	prefix string
	subnet string // the first three bytes of all addresses
	hosts  map[string]*host
	taken  map[string]bool // loopback addresses that were given away
}

// host is where one process runs.
type host struct {
	network *network
	name    string
	ip      string
	ports   map[string]int // on the loopback interface: purpose → port
}

// newNetwork makes hosts of these names. It ends with the test.
func newNetwork(t *testing.T, names ...string) *network {
	t.Helper()
	n := &network{prefix: fmt.Sprintf("pt%d", os.Getpid()), hosts: make(map[string]*host), taken: make(map[string]bool)}
	sweep()
	if why := n.possible(); why != nil {
		t.Logf("no network namespaces, so nothing is cut off: %v", why)
		for _, name := range names {
			n.hosts[name] = &host{network: n, name: name, ip: "127.0.0.1", ports: make(map[string]int)}
		}
		return n
	}
	n.apart = true
	n.subnet = fmt.Sprintf("10.%d.%d", 64+os.Getpid()/250%128, os.Getpid()%250)
	t.Cleanup(func() { remove(n.prefix) })
	commands := [][]string{
		{"link", "add", n.prefix, "type", "bridge"},
		{"addr", "add", n.subnet + ".254/24", "dev", n.prefix},
		{"link", "set", n.prefix, "up"},
	}
	for i, name := range names {
		h := &host{network: n, name: name, ip: fmt.Sprintf("%s.%d", n.subnet, i+1)}
		n.hosts[name] = h
		outer, inner := fmt.Sprintf("%sv%d", n.prefix, i), h.namespace()
		commands = append(commands,
			[]string{"netns", "add", inner},
			[]string{"link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", inner},
			[]string{"link", "set", outer, "master", n.prefix, "up"},
			[]string{"-n", inner, "addr", "add", h.ip + "/24", "dev", "eth0"},
			[]string{"-n", inner, "link", "set", "lo", "up"},
			[]string{"-n", inner, "link", "set", "eth0", "up"},
		)
	}
	for _, c := range commands {
		if err := system("ip", c...); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// possible returns why there can be no namespaces.
func (n *network) possible() error {
	if *tortureLoopback {
		return errors.New("-torture.loopback")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root may make them")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed", tool)
		}
	}
	probe := n.prefix + "-probe"
	if err := system("ip", "netns", "add", probe); err != nil {
		return err
	}
	defer system("ip", "netns", "del", probe)
	return system("ip", "netns", "exec", probe, "nft", "add", "table", "inet", "probe")
}

// sweep removes what runs that were killed have left.
func sweep() {
	names, _ := filepath.Glob("/run/netns/pt*")
	links, _ := filepath.Glob("/sys/class/net/pt*")
	for _, name := range append(names, links...) {
		prefix, _, _ := strings.Cut(filepath.Base(name), "-")
		pid, err := strconv.Atoi(strings.TrimPrefix(prefix, "pt"))
		if err != nil {
			continue // that of a pair, which goes with its namespace
		}
		if !lives(pid) {
			remove(prefix)
		}
	}
	disks, _ := filepath.Glob(filepath.Join(stores(), "peal-torture-*"))
	for _, dir := range disks {
		if pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "peal-torture-")); err == nil && !lives(pid) {
			removeStore(dir)
		}
	}
}

func lives(pid int) bool {
	_, err := os.Stat(fmt.Sprint("/proc/", pid))
	return !errors.Is(err, os.ErrNotExist)
}

// remove removes a network.
func remove(prefix string) {
	names, _ := filepath.Glob("/run/netns/" + prefix + "-*")
	for _, name := range names {
		system("ip", "netns", "del", filepath.Base(name))
	}
	system("ip", "link", "del", prefix)
}

// system runs a command of the system, which says why it fails.
func system(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (h *host) namespace() string { return h.network.prefix + "-" + h.name }

// command is one that runs on the host.
func (h *host) command(name string, args ...string) *exec.Cmd {
	if !h.network.apart {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", h.namespace(), name}, args...)...)
}

// The ports of each host that has an address of its own.
var wellKnown = map[string]int{"nats": 4222, "cluster": 6222, "monitor": 8222, "public": 8080, "admin": 8081}

// address is where a process on the host listens for a purpose.
func (h *host) address(t *testing.T, purpose string) string {
	t.Helper()
	if h.network.apart {
		return fmt.Sprintf("%s:%d", h.ip, wellKnown[purpose])
	}
	if h.ports[purpose] == 0 {
		h.ports[purpose] = h.network.freePort(t)
	}
	return fmt.Sprintf("%s:%d", h.ip, h.ports[purpose])
}

// freePort finds a port below those that the system gives to connections: one of these
// could take the port of a process that is down.
func (n *network) freePort(t *testing.T) int {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; port < 32000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if address := l.Addr().String(); !n.taken[address] {
			n.taken[address] = true
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// outside is the address of the test itself, as hosts reach it.
func (n *network) outside() string {
	if n.apart {
		return n.subnet + ".254"
	}
	return "127.0.0.1"
}

// cut drops what comes to a host from others, and what goes there too unless it is
// one way. The result undoes it.
func (h *host) cut(from []*host, oneWay bool) (heal func() error, err error) {
	run := func(args ...string) error {
		return system("ip", append([]string{"netns", "exec", h.namespace(), "nft"}, args...)...)
	}
	heal = func() error { return run("delete", "table", "inet", "cut") }
	var addresses []string
	for _, f := range from {
		addresses = append(addresses, f.ip)
	}
	set := "{ " + strings.Join(addresses, ", ") + " }"
	rules := "table inet cut { chain in { type filter hook input priority 0; ip saddr " + set + " drop; }; "
	if !oneWay {
		rules += "chain out { type filter hook output priority 0; ip daddr " + set + " drop; }; "
	}
	return heal, run(rules + "}")
}
