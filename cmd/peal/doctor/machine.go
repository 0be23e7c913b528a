package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal/bus/embedded"
)

// Machine is the machine that a service runs on.
type Machine struct {
	Root        string // where its procfs and sysfs are mounted; "" means /
	PID         int    // of the running service; 0 if there is none, or it can't be seen
	Connections int    // so many are expected
}

// localBound bounds what is looked at without a network.
const localBound = 10 * time.Second

// besides is how many files a service has open besides its connections, at most.
const besides = 200

// What a service takes: without connections, and for each, as docs/bench.md has
// measured it.
const (
	baseMemory       = 64 << 20
	connectionMemory = 90 << 10
)

// Limits looks at what the system lets the service have.
func (m Machine) Limits() []Check {
	return []Check{
		{"open files", localBound, func(context.Context) []Finding { return []Finding{m.files()} }},
		{"memory", localBound, func(context.Context) []Finding { return []Finding{m.memory()} }},
	}
}

// whose says whose limits are looked at.
func (m Machine) whose() string {
	if m.PID != 0 {
		return fmt.Sprintf("of the running service (process %d)", m.PID)
	}
	return "of this shell, which may not be the service's"
}

func (m Machine) read(name ...string) ([]byte, error) {
	return os.ReadFile(filepath.Join(append([]string{cmp.Or(m.Root, "/")}, name...)...))
}

// files judges how many files, and so connections, the service may have open.
func (m Machine) files() Finding {
	const check = "open files"
	limit, err := m.fileLimit()
	if err != nil {
		return skipped(check, "the limit can't be read: %v", err)
	}
	need := m.Connections + besides
	if limit >= need {
		return well(check, "%s %s, enough for %d connections", count(limit), m.whose(), m.Connections)
	}
	return found(Trouble, check, fmt.Sprintf("Raise it to %d or more: LimitNOFILE= of the systemd unit, --ulimit nofile of the container, ulimit -Hn of the shell. "+
		"Without it connects fail with \"too many open files\".", need),
		"%d %s, too few for %d connections", limit, m.whose(), m.Connections)
}

// count shows a limit, which may be none.
func count(n int) string {
	if n == math.MaxInt {
		return "no limit"
	}
	return strconv.Itoa(n)
}

// fileLimit is the hard limit, to which Go raises its own.
func (m Machine) fileLimit() (int, error) {
	pid := "self"
	if m.PID != 0 {
		pid = strconv.Itoa(m.PID)
	}
	limits, err := m.read("proc", pid, "limits")
	if errors.Is(err, fs.ErrNotExist) && m.PID == 0 {
		return ownFileLimit()
	}
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(limits) {
		rest, ok := strings.CutPrefix(string(line), "Max open files")
		if f := strings.Fields(rest); ok && len(f) >= 2 {
			if f[1] == "unlimited" {
				return math.MaxInt, nil
			}
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.New("there is none in /proc")
}

// memory judges how much memory the service may take, and whether Go knows.
func (m Machine) memory() Finding {
	const check = "memory"
	limit := m.cgroupLimit()
	goal, known := m.goLimit()
	need := int64(baseMemory + m.Connections*connectionMemory)
	switch {
	case limit == 0 && goal == 0:
		return well(check, "no limit %s", m.whose())
	case limit == 0:
		return enough(check, goal, need, fmt.Sprintf("GOMEMLIMIT %s %s", size(goal), m.whose()), m.Connections)
	case !known:
		return enough(check, limit, need, fmt.Sprintf("limit %s %s; its GOMEMLIMIT can't be read", size(limit), m.whose()), m.Connections)
	case goal == 0:
		return found(Warning, check, fmt.Sprintf("Set GOMEMLIMIT=%dMiB in the service's environment, 90 %% of it: else Go learns of the limit by being killed.", limit*9/10>>20),
			"limit %s %s, and no GOMEMLIMIT", size(limit), m.whose())
	case goal > limit:
		return found(Trouble, check, fmt.Sprintf("Set GOMEMLIMIT=%dMiB, 90 %% of the limit: as it is, the service is killed before Go saves memory.", limit*9/10>>20),
			"limit %s %s, and GOMEMLIMIT %s", size(limit), m.whose(), size(goal))
	}
	return enough(check, limit, need, fmt.Sprintf("limit %s, GOMEMLIMIT %s %s", size(limit), size(goal), m.whose()), m.Connections)
}

func enough(check string, limit, need int64, seen string, connections int) Finding {
	if limit >= need {
		return well(check, "%s", seen)
	}
	return found(Warning, check, fmt.Sprintf("Give it %s or more, or expect fewer connections (--connections).", size(need)),
		"%s, little for %d connections", seen, connections)
}

// cgroupLimit is the smallest memory limit of the cgroups that the process is in; 0
// if there is none.
func (m Machine) cgroupLimit() int64 {
	pid := "self"
	if m.PID != 0 {
		pid = strconv.Itoa(m.PID)
	}
	groups, err := m.read("proc", pid, "cgroup")
	if err != nil {
		return 0
	}
	smallest := int64(math.MaxInt64)
	for line := range bytes.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max" // version 2
		if f[1] != "" {
			if !strings.Contains(","+f[1]+",", ",memory,") {
				continue
			}
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the path may be one of the host; the mount is then its own.
		for dir := f[2]; ; dir = filepath.Dir(dir) {
			if b, err := m.read(mount, dir, file); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
					smallest = min(smallest, n)
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	if smallest > 1<<60 { // how version 1 says that there is none
		return 0
	}
	return smallest
}

// goLimit is the memory that Go tries to stay below; 0 if it is not told.
func (m Machine) goLimit() (limit int64, known bool) {
	if m.PID == 0 {
		if limit = debug.SetMemoryLimit(-1); limit == math.MaxInt64 {
			limit = 0
		}
		return limit, true
	}
	environment, err := m.read("proc", strconv.Itoa(m.PID), "environ")
	if err != nil {
		return 0, false
	}
	for v := range bytes.SplitSeq(environment, []byte{0}) {
		if text, ok := strings.CutPrefix(string(v), "GOMEMLIMIT="); ok {
			return parseMemory(text)
		}
	}
	return 0, true
}

// parseMemory reads a GOMEMLIMIT.
func parseMemory(text string) (int64, bool) {
	if text == "off" || text == "" {
		return 0, true
	}
	shift := 0
	for _, unit := range []struct {
		suffix string
		shift  int
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"B", 0}} {
		if number, ok := strings.CutSuffix(text, unit.suffix); ok {
			text, shift = number, unit.shift
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n << shift, err == nil
}

// Disk looks at the data directory of an embedded JetStream, without opening it.
func Disk(dir string) Check {
	return Check{"disk", localBound, func(context.Context) []Finding {
		s, err := embedded.LookAt(dir)
		if err != nil {
			return []Finding{found(Trouble, "disk", "See that --data names a directory that this user may read.", "%v", err)}
		}
		return []Finding{disk(dir, s)}
	}}
}

// disk judges a data directory.
func disk(dir string, s embedded.DirSeen) Finding {
	const check = "disk"
	seen := fmt.Sprintf("%s: %s free of %s, %s used", dir, size(s.Free), size(s.Total), size(s.Used))
	if !s.Exists {
		seen = fmt.Sprintf("%s does not exist yet; %s: %s free of %s", dir, s.At, size(s.Free), size(s.Total))
	}
	if s.InUse == embedded.InUse {
		seen += ", in use by a running service"
	}
	switch {
	case s.Err != nil:
		return found(Trouble, check, "Give the directory to the user that the service runs as (chown), or run peal doctor as that user.", "%v", s.Err)
	case s.Free < s.Reserve:
		return found(Trouble, check, fmt.Sprintf("Make room: below %s free nothing is stored any more. It goes on by itself once there is room.", size(s.Reserve)), "%s", seen)
	case s.Kind == "tmpfs" || s.Kind == "ramfs":
		return found(Trouble, check, "Put --data on a disk: this is memory, and all of it is gone with the machine.", "%s, on %s", seen, s.Kind)
	case s.Kind == "nfs" || s.Kind == "cifs" || s.Kind == "smb2" || s.Kind == "fuse":
		return found(Warning, check, "Put --data on a disk of this machine, or a block device: JetStream needs locks and syncs that hold, and is slow without them.", "%s, on %s", seen, s.Kind)
	case s.Kind == "overlay":
		return found(Warning, check, "Put --data on a volume: what is written into a container is gone with it.", "%s, inside of a container", seen)
	case float64(s.Free) < (1-fullWarning)*float64(s.Total)/2:
		return found(Warning, check, "Make room, or use a larger disk, before nothing can be stored any more.", "%s", seen)
	}
	return well(check, "%s", seen)
}
