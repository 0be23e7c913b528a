package peal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A promise of docs/security.md names the tests that hold it: a folder, then tests
// in it, in backquotes.
var (
	promise = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]*(?:Test|Fuzz)[^|]*) \|$`)
	holders = regexp.MustCompile("([a-z0-9/]+)((?: `(?:Test|Fuzz)\\w+`)+)")
	declare = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestPromisesOfSecurityHaveTests: every promise names a test, and every test that
// is named is there.
func TestPromisesOfSecurityHaveTests(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := promise.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d promises are read", len(rows))
	}
	for _, row := range rows {
		named := 0
		for _, group := range holders.FindAllStringSubmatch(row[2], -1) {
			there := declaredIn(t, group[1])
			for _, test := range strings.Fields(group[2]) {
				named++
				if name := strings.Trim(test, "`"); !slices.Contains(there, name) {
					t.Errorf("%q is held by %s in %s, which is not there", row[1], name, group[1])
				}
			}
		}
		if written := strings.Count(row[2], "`") / 2; named != written || named == 0 {
			t.Errorf("%q: %d of %d tests are read in %s", row[1], named, written, row[2])
		}
	}
}

// declaredIn lists the tests of a folder.
func declaredIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range declare.FindAllStringSubmatch(string(src), -1) {
			names = append(names, d[1])
		}
	}
	return names
}
