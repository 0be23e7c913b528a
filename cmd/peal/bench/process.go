package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Processes reads what the system tells of processes: the path of Linux's
// procfs. On other systems nothing is known.
type Processes string

// System is where procfs is.
const System Processes = "/proc"

// tick is the unit of processor times in procfs: USER_HZ, which is 100 wherever
// Go runs.
const tick = time.Second / 100

// usage is what a process has used.
type usage struct {
	cpu      time.Duration // user and system, since it began
	resident int64         // bytes in memory
}

// usage reads what a process has used; an error if it is not there.
func (p Processes) usage(pid int) (usage, error) {
	dir := filepath.Join(string(p), strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, err
	}
	cpu, err := parseStat(stat)
	if err != nil {
		return usage{}, err
	}
	resident, err := parseStatus(status)
	return usage{cpu, resident}, err
}

// sum adds up what processes have used; an error if one is not there, or there are
// none.
func (p Processes) sum(pids []int) (all usage, err error) {
	if len(pids) == 0 {
		return usage{}, errors.New("no process is known")
	}
	for _, pid := range pids {
		one, err := p.usage(pid)
		if err != nil {
			return usage{}, err
		}
		all.cpu += one.cpu
		all.resident += one.resident
	}
	return all, nil
}

// parseStat reads the processor time of /proc/PID/stat: fields 14 and 15 of
// proc_pid_stat(5). The second, the command, may hold anything, so fields are
// counted from its last parenthesis.
func parseStat(stat []byte) (time.Duration, error) {
	_, rest, ok := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(")"))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("not the form of /proc/PID/stat")
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(string(f), 10, 63)
		if err != nil {
			return 0, errors.New("not the form of /proc/PID/stat")
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// parseStatus reads the resident memory of /proc/PID/status, in bytes.
func parseStatus(status []byte) (int64, error) {
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte("VmRSS:"))
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(value)), " kB"), 10, 53)
		if err != nil {
			break
		}
		return kb << 10, nil
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}

// Listener finds the process that listens on an address HOST:PORT, if that is
// on this machine and we may look at it: only root and its own user may. 0
// means unknown.
func (p Processes) Listener(address string) (pid int) {
	c, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return 0
	}
	defer c.Close()
	here, there := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	if !here.IP.Equal(there.IP) { // what is sent to oneself comes from the same address
		return 0
	}
	return p.listener(there.Port)
}

// listener finds the one process that listens on a port.
func (p Processes) listener(port int) (pid int) {
	sockets := make(map[string]bool)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		b, err := os.ReadFile(filepath.Join(string(p), table))
		if err != nil {
			continue // no IPv6, or no procfs
		}
		for _, inode := range listening(b, port) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return 0
	}
	links, err := filepath.Glob(filepath.Join(string(p), "[0-9]*", "fd", "*"))
	if err != nil {
		return 0
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || !sockets[to] {
			continue
		}
		found, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err != nil || pid != 0 && pid != found {
			return 0 // several: which one answers us is not known
		}
		pid = found
	}
	return pid
}

// listening returns the inodes of the sockets of /proc/net/tcp that listen on a
// port.
func listening(table []byte, port int) (inodes []string) {
	const stateListen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == stateListen {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}
