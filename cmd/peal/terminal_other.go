//go:build !unix

package main

import "os"

// terminal reports whether f is one, of as many columns as most are.
func terminal(f *os.File) (columns int, is bool) {
	info, err := f.Stat()
	return 0, err == nil && info.Mode()&os.ModeCharDevice != 0
}
