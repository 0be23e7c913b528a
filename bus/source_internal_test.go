package bus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// A stream that ends, with a new epoch, before what this process knew of it has lost
// something, and that is said once.
func TestLossIsTold(t *testing.T) {
	const before, after = Epoch("aaaaaaaa"), Epoch("bbbbbbbb")
	for name, x := range map[string]struct {
		now  facts
		had  uint64
		told string
	}{
		"of a promoted copy":         {facts{epoch: after, lineage: lineage{{before, 17}}}, 20, "after=17 up_to=20"},
		"of nothing":                 {facts{epoch: after, lineage: lineage{{before, 17}}}, 17, ""},
		"of a stream that is anew":   {facts{epoch: after}, 20, ""},
		"of one that is what it was": {facts{epoch: before, lineage: lineage{{after, 3}}}, 20, ""},
	} {
		var log bytes.Buffer
		src := &source{bus: &Bus{log: slog.New(slog.NewTextHandler(&log, nil))}, stream: "S"}
		src.tellLoss(facts{epoch: before}, x.now, x.had)
		if got := log.String(); x.told == "" && got != "" || !strings.Contains(got, x.told) {
			t.Errorf("%s: told %q, want %q", name, got, x.told)
		}
	}
}

// What a copy does not have, its home may: only a home says what there is not.
func TestFactsOfACopy(t *testing.T) {
	home, copied := facts{last: 10, has: 10}, facts{last: 10, has: 7, copied: true}
	for _, x := range []struct {
		f           facts
		seq         uint64
		ends, lacks bool
	}{{home, 10, false, false}, {home, 11, true, false}, {copied, 7, false, false}, {copied, 8, false, true}, {copied, 11, false, true}} {
		if x.f.ends(x.seq) != x.ends || x.f.lacks(x.seq) != x.lacks {
			t.Errorf("%+v, %d: ends %v, lacks %v, want %v, %v", x.f, x.seq, x.f.ends(x.seq), x.f.lacks(x.seq), x.ends, x.lacks)
		}
	}
}
