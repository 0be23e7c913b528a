package embedded_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/pealhq/peal/bus/embedded"
)

// A data directory is looked at while it is in use, and the look is in nobody's way.
func TestLookAtDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	seen, err := embedded.LookAt(dir)
	if err != nil || seen.Exists || seen.Err != nil || seen.InUse != embedded.Unused || seen.Free <= 0 || seen.Total < seen.Free {
		t.Errorf("one that is to be made: %+v, %v", seen, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it was made by looking: %v", err)
	}
	s := start(t, embedded.Config{Dir: dir})
	if err := os.WriteFile(filepath.Join(dir, "jetstream", "more"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if seen, err = embedded.LookAt(dir); err != nil || !seen.Exists || seen.Used < 1000 {
		t.Errorf("one that is there: %+v, %v", seen, err)
	}
	if runtime.GOOS == "linux" && seen.InUse != embedded.InUse {
		t.Errorf("in use: %v", seen.InUse)
	}
	s.Close()
	if seen, err = embedded.LookAt(dir); err != nil || runtime.GOOS == "linux" && seen.InUse != embedded.Unused {
		t.Errorf("one that was in use: %+v, %v", seen, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.LookAt(file); err == nil {
		t.Error("a file is taken for a directory")
	}
}
