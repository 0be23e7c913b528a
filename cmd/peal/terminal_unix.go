//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal reports whether f is one, and of how many columns; 0 if it does not
// know.
func terminal(f *os.File) (columns int, is bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, false
	}
	raw.Control(func(fd uintptr) {
		var size *unix.Winsize
		if size, err = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			columns, is = int(size.Col), true
		}
	})
	return columns, is
}
