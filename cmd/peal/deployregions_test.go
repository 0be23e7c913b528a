package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// madeLists are the files of a folder that regions/lists.sh makes, by their path in it.
func madeLists(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, region := range []string{"eu", "us", "wit"} {
		names, err := fs.Glob(os.DirFS(folder), region+"/*.conf")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if all[name], err = os.ReadFile(filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// What a role may do in a region is made from the lists of a lone one, and from nothing else.
func TestListsOfRegionsAreMadeFromThoseOfOne(t *testing.T) {
	t.Parallel()
	const deployed = "../../deploy/nats"
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(deployed)); err != nil {
		t.Fatal(err)
	}
	regions := filepath.Join(copied, "regions")
	for _, region := range []string{"eu", "us", "wit"} {
		if err := os.RemoveAll(filepath.Join(regions, region)); err != nil {
			t.Fatal(err)
		}
	}
	again := func() (string, error) {
		said, err := exec.Command("sh", filepath.Join(regions, "lists.sh"), "eu us", "wit").CombinedOutput()
		return string(said), err
	}
	if said, err := again(); err != nil {
		t.Fatal(err, said)
	}
	want, got := madeLists(t, filepath.Join(deployed, "regions")), madeLists(t, regions)
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("regions/%s is another: sh deploy/nats/regions/lists.sh 'eu us' wit", name)
		}
	}
	if len(got) != len(want) || len(got) != 13 {
		t.Errorf("%d files are made, %d are there, want 13", len(got), len(want))
	}

	// Of a stream that it does not know it is not guessed whose it is.
	edge := filepath.Join(copied, "edge.conf")
	list, err := os.ReadFile(edge)
	if err != nil {
		t.Fatal(err)
	}
	list = bytes.Replace(list, []byte("    \"$JS.API.INFO\"\n"), []byte("    \"$JS.API.STREAM.PURGE.PEAL_NEW_local\"\n"), 1)
	if err := os.WriteFile(edge, list, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := again(); err == nil || !strings.Contains(said, "PEAL_NEW_local") {
		t.Errorf("a stream that is not known: %v, %q", err, said)
	}
}
