//go:build unix

package bench

import "syscall"

// OpenFiles is how many files, and so connections, this process may have open;
// 0 means unknown.
func OpenFiles() int {
	var l syscall.Rlimit
	// The runtime has raised it to the hard limit.
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(uint64(l.Cur), 1<<31-1))
}
