package embedded

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// fileSystems are those that make a difference, by their number in statfs(2).
var fileSystems = map[int64]string{
	0x01021994: "tmpfs",
	0x858458f6: "ramfs",
	0x6969:     "nfs",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x65735546: "fuse",
	0x794c7630: "overlay",
}

// fileSystem names the file system of a directory, if it is one of those.
func fileSystem(dir string) string {
	var disk syscall.Statfs_t
	if syscall.Statfs(dir, &disk) != nil {
		return ""
	}
	return fileSystems[int64(disk.Type)&0xffffffff]
}

// writable returns why this user can't write into a directory.
func writable(dir string) error {
	const write, search = 2, 1
	if err := syscall.Access(dir, write|search); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// inUse looks for a lock among those that the system lists. Trying to take it would
// be in the way of a process that starts at that moment.
func inUse(lock string) Use {
	info, err := os.Stat(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return Unused
	}
	locks, failed := os.ReadFile("/proc/locks")
	if err != nil || failed != nil {
		return UseUnknown
	}
	file, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return UseUnknown
	}
	inode := ":" + strconv.FormatUint(file.Ino, 10)
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			return InUse
		}
	}
	return Unused
}
