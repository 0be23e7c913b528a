package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd itself finds nothing wrong with the unit, and little that it might do.
func TestUnit(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../deploy/systemd/peal.service")
	if err != nil {
		t.Fatal(err)
	}
	peal, err := filepath.Abs(*binary)
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.ReplaceAll(string(b), "ExecStart=/usr/local/bin/peal ", "ExecStart="+peal+" ")
	if unit == string(b) {
		t.Fatal("the unit does not start /usr/local/bin/peal")
	}
	file := filepath.Join(t.TempDir(), "peal.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", file},                                 // it says what it does not know, and still succeeds
		{"security", "--offline=true", "--threshold=20", "--", file}, // of 100, which is a unit that says nothing
	} {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
		}
		if args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze verify says\n%s", out)
		}
	}
}
