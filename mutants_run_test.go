//go:build mutants

package peal_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A test has greenWithin to pass in an unchanged copy. To see a mutant it has
// redWithin, and twice what it took to pass, for a machine that is slow:
// most see that something never comes, and wait for it until shortly before
// their end.
const (
	greenWithin = 5 * time.Minute
	redWithin   = 25 * time.Second
)

// third chooses every third mutant, for who has not the time for all: 0, 1 or 2.
var third = flag.Int("mutants.third", -1, "plant only every third one, from the first (0), the second (1) or the third (2) on")

// TestMutants plants each mutant into a copy of the tree: the test that it
// names must be green without it and red with it. A mutant that does not apply,
// or does not compile, is not caught, and neither is one whose test only ran
// into its timeout: then nobody has said what is wrong.
func TestMutants(t *testing.T) {
	all := mutants(t)
	if *third >= 0 {
		chosen := all[:0]
		for i, m := range all {
			if i%3 == *third {
				chosen = append(chosen, m)
			}
		}
		all = chosen
	}
	unchanged := copyTree(t)
	tests := make(map[string]func() (string, error)) // folder → the program of its tests, made once
	for _, m := range all {
		if tests[m.pkg] == nil {
			bin := filepath.Join(t.TempDir(), "green.test")
			tests[m.pkg] = sync.OnceValues(func() (string, error) { return bin, buildTests(unchanged, m.pkg, bin) })
		}
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			bin, err := tests[m.pkg]()
			if err != nil {
				t.Fatal(err)
			}
			green := run(t, bin, unchanged, m, greenWithin)
			if green.outcome != passed {
				t.Fatalf("without %s, %s %s %s", m.name, m.pkg, m.test, green)
			}

			planted := t.TempDir()
			if err := os.CopyFS(planted, os.DirFS(unchanged)); err != nil {
				t.Fatal(err)
			}
			apply := exec.Command("git", "apply", "--whitespace=nowarn", "-")
			apply.Dir, apply.Stdin = planted, bytes.NewReader(m.patch)
			if out, err := apply.CombinedOutput(); err != nil {
				t.Fatalf("does not apply any more: %v\n%s", err, out)
			}
			bin = filepath.Join(t.TempDir(), "red.test")
			if err := buildTests(planted, m.pkg, bin); err != nil {
				t.Fatal(err)
			}
			red := run(t, bin, planted, m, redWithin+2*green.after)
			switch red.outcome {
			case failed:
				t.Logf("%s: caught by %s %s after %.1f s: %s", m.name, m.pkg, m.test, red.after.Seconds(), red.said)
			case passed:
				t.Errorf("%s SURVIVES: %s %s is green with this planted: %s", m.name, m.pkg, m.test, m.planted)
			default:
				t.Errorf("%s is not caught: %s %s %s", m.name, m.pkg, m.test, red)
			}
		})
	}
}

// copyTree copies the files that git has or would add, and returns where to.
func copyTree(t *testing.T) string {
	t.Helper()
	list, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("list the files of the tree: %v", err)
	}
	dir := t.TempDir()
	for file := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, which git has not been told yet
		}
		to := filepath.Join(dir, file)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, data, 0o644)
		}
		if err != nil {
			t.Fatalf("copy %s: %v", file, err)
		}
	}
	return dir
}

// buildTests makes the program of a package's tests. Without the paths of the copy in
// it, only what the mutant changes is compiled anew.
func buildTests(root, pkg, bin string) error {
	build := exec.Command("go", "test", "-c", "-trimpath", "-vet=off", "-o", bin, "./"+pkg)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s does not compile: %w\n%s", pkg, err, out)
	}
	return nil
}

// outcome is how a test ended.
type outcome string

const (
	passed   outcome = "passes"
	failed   outcome = "fails"
	timedOut outcome = "runs into its timeout"
	absent   outcome = "was not run: there is none of that name" // or it skips
)

type verdict struct {
	outcome outcome
	after   time.Duration
	said    string // the first thing it complained of
	output  []byte
}

func (v verdict) String() string {
	return fmt.Sprintf("%s after %.1f s\n%s", v.outcome, v.after.Seconds(), v.output)
}

// complaint is the first line that a test or a panic says.
var complaint = regexp.MustCompile(`(?m)^(?:\s+\w+_test\.go:\d+: |(?:panic|fatal error): ).*$`)

// run runs the test that a mutant names.
func run(t *testing.T, bin, root string, m mutant, within time.Duration) verdict {
	t.Helper()
	test := exec.Command(bin, "-test.v", "-test.failfast", "-test.run", "^"+m.test+"$", "-test.timeout", within.String())
	test.Dir = filepath.Join(root, m.pkg)
	test.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // of what a panic leaves behind
	begun := time.Now()
	out, err := test.CombinedOutput()
	v := verdict{
		outcome: failed,
		after:   time.Since(begun),
		said:    strings.TrimSpace(string(complaint.Find(out))),
		output:  out,
	}
	switch {
	case bytes.Contains(out, []byte("panic: test timed out after ")):
		v.outcome = timedOut
	case err == nil && bytes.Contains(out, []byte("\n--- PASS: "+m.test+" ")):
		v.outcome = passed
	case err == nil:
		v.outcome = absent
	}
	return v
}
