package bus_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// restoreStream puts a copy of a stream's files in their place, in the directory of a
// server that is not running: as restoring it from a backup does.
func restoreStream(t *testing.T, from, to, stream string) {
	t.Helper()
	in := filepath.Join("jetstream", "jetstream", "$G", "streams", stream)
	if err := os.RemoveAll(filepath.Join(to, in)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(to, in), os.DirFS(filepath.Join(from, in))); err != nil {
		t.Fatal(err)
	}
}

// An inbox stream is restored from a backup, and nothing else was lost. Users keep what
// they had read of what is there again. What comes is unread, though its sequences had
// been read, is not purged with what had them, and no cursor of before passes over it.
func TestEpochAfterARestore(t *testing.T) {
	dir, backup := t.TempDir(), t.TempDir()
	jane, ann, joe := inbox("jane"), inbox("ann"), inbox("joe")

	s := bustest.ServerIn(t, dir)
	b := openOn(t, s, nil)
	for _, id := range []string{"n1", "n2", "n3"} {
		publish(t, b, id, jane, ann, joe)
	}
	markAs(t, b, ann, bus.Mark{IDs: []string{"n2"}})
	b.Close()
	s.Close()
	restoreStream(t, dir, backup, "PEAL_INBOX_local_0") // the backup

	s = bustest.ServerIn(t, dir)
	b = openOn(t, s, nil)
	first := follow(t, b, jane, bus.Cursor{})
	for _, id := range []string{"n4", "n5", "n6"} {
		publish(t, b, id, jane, ann, joe)
	}
	first.wait(3)
	markAs(t, b, jane, bus.Mark{All: true})
	markAs(t, b, ann, bus.Mark{IDs: []string{"n3", "n5"}})
	if _, err := b.Purge(t.Context(), joe); err != nil {
		t.Fatal(err)
	}
	b.Close()
	s.Close()

	restoreStream(t, backup, dir, "PEAL_INBOX_local_0")
	s = bustest.ServerIn(t, dir)
	before := configs(t, bustest.JetStream(t, s))
	raised, err := openStreams(t, s, nil).RaiseEpoch(t.Context())
	if err != nil || len(raised) != 6 {
		t.Fatalf("%v, %v, want all six streams", raised, err)
	}
	after := configs(t, bustest.JetStream(t, s))
	for _, r := range raised {
		was, is := before[r.Stream], after[r.Stream]
		if string(r.From) != was.Metadata["peal.epoch"] || string(r.To) != is.Metadata["peal.epoch"] || r.From == r.To {
			t.Errorf("%v, want from %q to %q", r, was.Metadata["peal.epoch"], is.Metadata["peal.epoch"])
		}
		if was.RePublish != nil && strings.ReplaceAll(was.RePublish.Destination, string(r.From), string(r.To)) != is.RePublish.Destination {
			t.Errorf("%s is republished to %s, was to %s", r.Stream, is.RePublish.Destination, was.RePublish.Destination)
		}
	}

	b = openOn(t, s, nil)
	live := follow(t, b, jane, bus.Cursor{})
	again := follow(t, b, jane, first.cursor(2))
	if got := again.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Errorf("a cursor of before: %v, want a gap", got)
	}
	if got, want := list(t, b, joe), ""; got != want {
		t.Errorf("joe, who was purged, has %q", got)
	}
	for _, id := range []string{"m4", "m5", "m6"} {
		publish(t, b, id, jane, ann, joe)
	}
	if diff := cmp.Diff([]string{"m4", "m5", "m6"}, live.wait(3)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	for range 2 { // the second bus looks again what was purged
		for _, tt := range []struct {
			who  string
			got  string
			want string
		}{
			{"jane", list(t, b, jane), "m6* m5* m4* n3 n2 n1"},
			{"ann", list(t, b, ann), "m6* m5* m4* n3 n2 n1*"},
			{"joe", list(t, b, joe), "m6* m5* m4*"},
		} {
			if tt.got != tt.want {
				t.Errorf("%s has %q, want %q", tt.who, tt.got, tt.want)
			}
		}
		b.Close()
		b = openOn(t, s, nil)
	}

	// Once more, as if the second restore had brought back the same.
	if _, err := openStreams(t, s, nil).RaiseEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b = openOn(t, s, nil)
	if got := markAs(t, b, jane, bus.Mark{IDs: []string{"m5"}}); got != 1 {
		t.Errorf("to mark one changes %d", got)
	}
	if got, want := list(t, b, jane), "m6* m5 m4* n3 n2 n1"; got != want {
		t.Errorf("after another restore jane has %q, want %q", got, want)
	}
}

// Nodes that run meanwhile tell their clients of a gap and go on, and a device shows
// the number that the list has.
func TestEpochIsRaisedBesideNodes(t *testing.T) {
	x := newTally(t, nil)
	ids := x.publish(3)
	d := x.device(-1)
	markAs(t, x.b, x.h.in, bus.Mark{IDs: ids[:1]})
	x.shows(d, 2)
	before, err := x.b.Count(t.Context(), x.h.in)
	if err != nil {
		t.Fatal(err)
	}
	streams, err := bus.OpenStreams(t.Context(), x.b.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	if _, err := streams.RaiseEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.b.Look()
	eventually(t, "the epoch of read states, which is looked at last, is another", func() bool {
		c, err := x.b.Count(t.Context(), x.h.in)
		return err == nil && c.ReadState.Epoch != before.ReadState.Epoch
	})
	x.settles(d, 2)
	more := x.publish(1)
	x.settles(d, 3)
	x.settles(x.device(-1), 3)
	if got, want := list(t, x.b, x.h.in), more[0]+"* "+ids[2]+"* "+ids[1]+"* "+ids[0]; got != want {
		t.Errorf("the list is %q, want %q", got, want)
	}
}

// There is nothing to raise where nothing was restored.
func TestEpochOfNoRegion(t *testing.T) {
	_, err := openStreams(t, bustest.Server(t), nil).RaiseEpoch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no region local") {
		t.Errorf("%v, want an error that says so", err)
	}
}
