package history_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What several processes write at once is read as one history, in the order of its
// times, and each record knows where it is written.
func TestFilesAreOneHistory(t *testing.T) {
	dir := t.TempDir()
	const files, each = 5, 2000
	var work sync.WaitGroup
	for f := range files {
		w, err := history.Create(dir, fmt.Sprint("process-", f))
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			for i := range each {
				w.Write(history.Record{Kind: history.Received, Number: i + 1})
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	next := make(map[string]int)
	last, total := int64(0), 0
	for r, err := range history.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		next[r.File]++
		if r.At < last || r.Number != next[r.File] || r.Line != r.Number {
			t.Fatalf("%s:%d is number %d at %d, after %d", r.File, r.Line, r.Number, r.At, last)
		}
		last = r.At
		total++
	}
	if total != files*each {
		t.Errorf("%d records, want %d", total, files*each)
	}
}

func TestHistoryThatIsNotWholeIsAnError(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"cut off", `{"at":1,"k":"quiet"}` + "\n" + `{"at":2,"k":"qu`, "a.jsonl:2"},
		{"no JSON", `{"at":1,"k":"quiet"}` + "\nquiet\n", "a.jsonl:2"},
		{"back in time", `{"at":2,"k":"quiet"}` + "\n" + `{"at":1,"k":"quiet"}` + "\n", "a.jsonl:2"},
		{"nothing", "", "no history"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.content != "" {
				if err := os.WriteFile(filepath.Join(dir, "a.jsonl"), []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var last error
			for _, err := range history.Read(dir) {
				last = err
			}
			if last == nil || !strings.Contains(last.Error(), tt.want) {
				t.Errorf("got %v, want %s", last, tt.want)
			}
		})
	}
}
