//go:build unix

package doctor

import (
	"math"
	"syscall"
)

// ownFileLimit is how many files this process may have open, where there is no procfs.
func ownFileLimit() (int, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	if uint64(l.Max) > math.MaxInt32 {
		return math.MaxInt, err
	}
	return int(l.Max), err
}
