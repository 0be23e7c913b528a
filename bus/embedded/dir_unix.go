//go:build unix

package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir takes the directory for this process: two JetStreams on the same
// files would destroy them. The kernel lets go of the lock with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another process", dir)
	}
	return f, nil
}

// space returns how many bytes of the disk of a directory are free, and how
// many it has.
func space(dir string) (free, total int64, err error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return 0, 0, fmt.Errorf("read free space of %s: %w", dir, err)
	}
	return int64(disk.Bavail) * int64(disk.Bsize), int64(disk.Blocks) * int64(disk.Bsize), nil
}

// budget is how much of the disk JetStream may use: 70 % of what is free or
// used by the directory already.
func budget(dir string) (int64, error) {
	free, _, err := space(dir)
	if err != nil {
		return 0, err
	}
	taken, err := used(dir)
	if err != nil {
		return 0, err
	}
	return (free + taken) * 7 / 10, nil
}
