//go:build !unix

package bench

// OpenFiles is how many files, and so connections, this process may have open;
// 0 means unknown.
func OpenFiles() int { return 0 }
