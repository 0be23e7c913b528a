package verdict_test

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judge has a checker take a history.
func judge(records iter.Seq[*history.Record]) *verdict.Report {
	c := verdict.New(verdict.Config{})
	for r := range records {
		c.Take(r)
	}
	return c.End()
}

func text(r *verdict.Report) string {
	var b strings.Builder
	short := *r
	short.First = r.First[:min(5, len(r.First))]
	short.Write(&b)
	return b.String()
}

// What a service that keeps its promises makes is right, and what is kept of it does
// not grow with the run.
func TestHistoryThatIsRight(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		if got := judge(small.history(seed)); got.Failed > 0 {
			t.Errorf("seed %d:\n%s", seed, text(got))
		}
	}
	c := verdict.New(verdict.Config{})
	most, n := 0, 0
	for r := range ci.history(4) {
		c.Take(r)
		if n++; n%1000 == 0 {
			most = max(most, c.Live())
		}
	}
	got := c.End()
	if got.Failed > 0 {
		t.Errorf("a history of the size of CI:\n%s", text(got))
	}
	// What is not answered is kept, for it may come at any time: 1 % here.
	if bound := 20*ci.users + got.Published/50; most > bound {
		t.Errorf("it keeps something of up to %d notifications, for %d users, want at most %d", most, ci.users, bound)
	}
	t.Logf("%d records, at most %d notifications kept", got.Records, most)
}

// Each kind of bug is seen for what it is, wherever in a run it shows.
func TestPlantedBugsAreSeen(t *testing.T) {
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(3) {
				planted := false
				got := judge(b.in(small.history(seed), seed, &planted))
				if !planted {
					t.Fatalf("seed %d: there was no place for it", seed)
				}
				if got.Violations[b.want] == 0 {
					t.Errorf("seed %d: want %q, got\n%s", seed, b.want, text(got))
				}
				if others := slices.DeleteFunc(slices.Collect(maps.Keys(got.Violations)), func(k verdict.Kind) bool { return k == b.want || slices.Contains(b.also, k) }); len(others) > 0 {
					t.Errorf("seed %d: besides %q it shows %q:\n%s", seed, b.want, others, text(got))
				}
				for _, v := range got.First {
					if v.File == "" || v.What == "" {
						t.Errorf("seed %d: %+v without evidence", seed, v)
					}
				}
			}
		})
	}
}

func TestTolerated(t *testing.T) {
	c := verdict.New(verdict.Config{Tolerated: []verdict.Kind{verdict.Counted}})
	planted := false
	for r := range bugs()[slices.IndexFunc(bugs(), func(b bug) bool { return b.want == verdict.Counted })].in(small.history(1), 1, &planted) {
		c.Take(r)
	}
	if got := c.End(); !planted || got.Failed != 0 || got.Violations[verdict.Counted] == 0 || !strings.Contains(text(got), "tolerated") {
		t.Errorf("got %d failed:\n%s", got.Failed, text(got))
	}
}
