package peal_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateTable = flag.Bool("update", false, "rewrite the table of mutants in docs/reliability.md")

// A mutant is a bug that one of us could have written, kept as a patch to prove
// that a test sees it. docs/reliability.md tells how to add one, and lists
// them; `make mutants` plants each.
type mutant struct {
	name    string // of its file in testdata/mutants, without the ending
	planted string // what is wrong
	breaks  string // what it does to whom
	pkg     string // folder of the test that must see it
	test    string // its name
	patch   []byte // with the head, which git apply passes over
}

// mutants reads all of them, by name.
func mutants(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("testdata/mutants/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants found: %v", err)
	}
	var all []mutant
	for _, file := range files {
		m, err := readMutant(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, m)
	}
	return all
}

// readMutant reads a patch whose head has the fields of a mutant, as a mail has
// its own: a line that begins with a space goes on with the one before.
func readMutant(file string) (mutant, error) {
	name, isPatch := strings.CutSuffix(filepath.Base(file), ".patch")
	if !isPatch {
		return mutant{}, fmt.Errorf("is not a .patch")
	}
	patch, err := os.ReadFile(file)
	if err != nil {
		return mutant{}, err
	}
	head, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(patch))).ReadMIMEHeader()
	if err != nil {
		return mutant{}, fmt.Errorf("read its head: %w", err)
	}
	m := mutant{name: name, planted: head.Get("Planted"), breaks: head.Get("Breaks"), patch: patch}
	by := strings.Fields(head.Get("Caught-By"))
	if len(head) != 3 || m.planted == "" || m.breaks == "" || len(by) != 2 {
		return mutant{}, fmt.Errorf("its head must have Planted, Breaks and Caught-By with a folder and a test, and nothing else")
	}
	m.pkg, m.test = by[0], by[1]
	return m, nil
}

// The table of mutants stands between these lines.
const (
	tableBegin = "<!-- The mutants: go test -run TestMutantsAreListed -update . -->\n"
	tableEnd   = "<!-- The end of the mutants. -->\n"
)

func TestMutantsAreListed(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| mutant | planted bug | what it would do | caught by |\n|---|---|---|---|\n")
	for _, m := range mutants(t) {
		fmt.Fprintf(&table, "| [%s](../testdata/mutants/%[1]s.patch) | %s | %s | %s `%s` |\n", m.name, m.planted, m.breaks, m.pkg, m.test)
	}
	table.WriteString("\n")

	const page = "docs/reliability.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegin)
	got, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table: it needs %q and %q", page, tableBegin, tableEnd)
	}
	if *updateTable {
		if err := os.WriteFile(page, []byte(before+tableBegin+table.String()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), got); diff != "" {
		t.Errorf("the table in %s is not that of testdata/mutants; rewrite it with -update (-mutants +page):\n%s", page, diff)
	}
}
