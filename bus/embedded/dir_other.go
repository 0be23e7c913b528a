//go:build !unix

package embedded

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// lockDir takes the directory for this process as far as this system can: an
// open file that cannot be removed.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	os.Remove(name)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process", dir)
	}
	return f, nil
}

// space cannot ask for free space here: there is always some.
func space(string) (free, total int64, err error) { return math.MaxInt64, math.MaxInt64, nil }

// budget cannot ask for free space here; 10 GiB is three times what the
// streams take by default.
func budget(string) (int64, error) { return 10 << 30, nil }
