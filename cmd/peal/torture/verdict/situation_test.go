package verdict_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

// at is a record some seconds into a run.
func at(seconds float64, r history.Record) history.Record {
	r.At = int64(seconds * 1e6)
	if r.Server == 0 {
		r.Server = r.At
	}
	return r
}

func begins(seconds float64, id int, name, node string) history.Record {
	return at(seconds, history.Record{Kind: history.Fault, ID: id, Name: name, Node: node})
}

func heals(seconds float64, id int) history.Record {
	return at(seconds, history.Record{Kind: history.Healed, ID: id})
}

func dials(seconds float64, conn, device string) history.Record {
	return at(seconds, history.Record{Kind: history.Dial, Conn: conn, Device: device, User: "t/ns/u", Node: "edge-0"})
}

func opens(seconds float64, conn string) history.Record {
	return at(seconds, history.Record{Kind: history.Open, Conn: conn, Node: "edge-0", Cursor: "epoch000-1", Expires: 1e12, Paused: 1e6})
}

func resumes(seconds float64, conn string) history.Record {
	r := opens(seconds, conn)
	r.Recovered = true
	return r
}

func again(r history.Record) history.Record { r.Asked = "epoch000-1"; return r }

func ends(seconds float64, conn, how string) history.Record {
	return at(seconds, history.Record{Kind: history.End, Conn: conn, How: how})
}

func says(seconds float64, conn, code string) history.Record {
	return at(seconds, history.Record{Kind: history.Error, Conn: conn, Code: code})
}

func denied(seconds float64, status int, code string) history.Record {
	return at(seconds, history.Record{Kind: history.Refused, Conn: "c2", Status: status, Code: code})
}

// busily is a machine whose processors have nothing to do for a part of the time, from
// 10 to 14 s, after so many requests.
func busily(idle float64, requests int) (all records) {
	for range requests {
		all = append(all, at(9, history.Record{Kind: history.Mark, User: "t/ns/u", Outcome: history.Stored}))
	}
	for second := range 5 {
		all = append(all, at(float64(10+second), history.Record{Kind: history.Load, Idle: idle}))
	}
	return all
}

func publishes(seconds float64, n int) history.Record {
	return at(seconds, history.Record{Kind: history.Publish, Publication: fmt.Sprint("p", n), To: []history.To{{User: "t/ns/u", Number: n}}})
}

func acknowledged(seconds float64, n int) history.Record {
	return at(seconds, history.Record{Kind: history.Answer, Publication: fmt.Sprint("p", n), Outcome: history.Stored})
}

func gets(seconds float64, conn string, n int) history.Record {
	return at(seconds, history.Record{Kind: history.Received, Conn: conn, Number: n, Cursor: fmt.Sprintf("epoch000-%d", 10*n)})
}

// listed is what is there at the end.
func listed(seconds float64, ns ...int) history.Record {
	r := history.Record{Kind: history.Inbox, User: "t/ns/u", Unread: len(ns)}
	for _, n := range slices.Backward(ns) {
		r.Entries = append(r.Entries, history.Entry{Number: n, Cursor: fmt.Sprintf("epoch000-%d", 10*n)})
	}
	return at(seconds, r)
}

// Whether something may be depends on what else there was.
func TestSituations(t *testing.T) {
	first := records{dials(1, "c1", "d1"), opens(1, "c1")}
	kill := begins(10, 1, verdict.NodeKill, "edge-0")
	killed := append(slices.Clone(first), kill, ends(10, "c1", history.Cut), heals(12, 1))
	back := func(seconds float64) records {
		return records{again(dials(seconds, "c2", "d1")), resumes(seconds, "c2")}
	}
	drain := append(slices.Clone(first), begins(10, 1, verdict.Rolling, ""), says(11, "c1", "DRAINING"), ends(11, "c1", history.Cut))
	none := []verdict.Kind(nil)
	for _, tt := range []struct {
		name string
		all  records
		want []verdict.Kind
	}{
		{"a node is killed, and its device soon back", append(slices.Clone(killed), back(15)...), none},
		{"a node is killed, and its device back late", append(slices.Clone(killed), back(17)...), []verdict.Kind{verdict.Late}},
		{"a node is killed, and its device never back", killed, []verdict.Kind{verdict.Late}},
		{"back late, while NATS is away too", append(slices.Concat(first, records{kill, ends(10, "c1", history.Cut), begins(11, 2, verdict.AllKill, "")}), back(18)...), none},
		{"another node is killed", append(slices.Clone(first), begins(10, 1, verdict.NodeKill, "edge-1"), ends(10, "c1", history.Cut)), []verdict.Kind{verdict.Undocumented}},
		{"drained in a rolling restart", append(slices.Clone(drain), back(13)...), none},
		{"drained without one", append(slices.Clone(first), says(11, "c1", "DRAINING")), []verdict.Kind{verdict.Undocumented}},
		{"more after the last word", append(slices.Clone(drain[:4]), at(12, history.Record{Kind: history.Beat, Conn: "c1"})), []verdict.Kind{verdict.Undocumented}},
		{"cut off when NATS is killed", append(slices.Clone(first), begins(10, 1, verdict.AllKill, ""), ends(12, "c1", history.Cut)), []verdict.Kind{verdict.Undocumented}},
		{"a slow client is told so", append(slices.Clone(first[:1]), func() history.Record { r := opens(1, "c1"); r.Slow = true; return r }(), says(9, "c1", "SLOW_CLIENT"), ends(9, "c1", history.Cut)), none},
		{"one that reads is called slow", append(slices.Clone(first), says(9, "c1", "SLOW_CLIENT"), ends(9, "c1", history.Cut)), []verdict.Kind{verdict.Undocumented}},

		{"503 in a fault", append(slices.Clone(killed), again(dials(13, "c2", "d1")), denied(13, 503, "UNAVAILABLE"), again(dials(14, "c3", "d1")), resumes(14, "c3")), none},
		{"503 in its aftermath", append(slices.Clone(killed), append(back(14), dials(30, "c2", "d2"), denied(40, 503, "UNAVAILABLE"))...), none},
		{"503 long after it", append(slices.Clone(killed), append(back(14), dials(30, "c2", "d2"), denied(45, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"503 though only the issuer is down", append(slices.Clone(first), begins(10, 1, verdict.IssuerDown, ""), dials(11, "c2", "d2"), denied(11, 503, "UNAVAILABLE")), []verdict.Kind{verdict.Undocumented}},
		{"503 without a fault, from a machine that is busy", append(slices.Clone(first), append(busily(0.05, 200), dials(11, "c2", "d2"), denied(14.5, 503, "UNAVAILABLE"))...), none},
		{"503 without a fault, from one that is not", append(slices.Clone(first), append(busily(0.15, 200), dials(11, "c2", "d2"), denied(14.5, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"503 long after it was", append(slices.Clone(first), append(busily(0.05, 200), dials(11, "c2", "d2"), denied(20, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"503 from one that is busy, while the issuer is down", append(slices.Clone(first), append(busily(0, 200), begins(13, 1, verdict.IssuerDown, ""), dials(14, "c2", "d2"), denied(14.5, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"503 from one that is busy, as it was seen once", append(slices.Clone(first), append(busily(0, 200)[:201], dials(11, "c2", "d2"), denied(11.5, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"500 from a machine that is busy", append(slices.Clone(first), append(busily(0, 200), dials(11, "c2", "d2"), denied(14.5, 500, "INTERNAL"))...), []verdict.Kind{verdict.Undocumented}},
		{"503 from one that is busy, more often than one in a hundred", append(slices.Clone(first), append(busily(0, 100), dials(11, "c2", "d2"), denied(14.5, 503, "UNAVAILABLE"),
			dials(14.5, "c2", "d2"), denied(14.5, 503, "UNAVAILABLE"))...), []verdict.Kind{verdict.Undocumented}},
		{"401 when keys are rotated", append(slices.Clone(first), begins(10, 1, verdict.Rotation, ""), dials(11, "c2", "d2"), denied(11, 401, "UNAUTHENTICATED")), none},
		{"500 in a fault", append(slices.Clone(killed), append(back(14), dials(15, "c2", "d2"), denied(15, 500, "INTERNAL"))...), []verdict.Kind{verdict.Undocumented}},
		{"no answer", append(slices.Clone(first), dials(11, "c2", "d2"), denied(11, 0, "")), none},
		{"another code than its status has", append(slices.Clone(killed), append(back(14), dials(15, "c2", "d2"), denied(15, 503, "INTERNAL"))...), []verdict.Kind{verdict.Undocumented}},

		{"429 while five others may be let in", records{dials(1, "c3", "d3"), dials(1, "c4", "d4"), dials(1, "c5", "d5"), dials(1, "c6", "d6"), dials(1, "c7", "d7"),
			dials(2, "c2", "d2"), denied(2, 429, "CONNECTION_LIMIT")}, none},
		{"429 while four others may be", records{dials(1, "c3", "d3"), dials(1, "c4", "d4"), dials(1, "c5", "d5"), dials(1, "c6", "d6"),
			dials(2, "c2", "d2"), denied(2, 429, "CONNECTION_LIMIT")}, []verdict.Kind{verdict.Undocumented}},

		{"the leader is killed, and publishing soon back", records{publishes(9, 1), begins(10, 1, verdict.LeaderKill, "nats-0"), acknowledged(15, 1), heals(16, 1), listed(60, 1)}, none},
		{"the leader is killed, and publishing late back", records{publishes(9, 1), begins(10, 1, verdict.LeaderKill, "nats-0"), heals(16, 1), acknowledged(21, 1), listed(60, 1)}, []verdict.Kind{verdict.Late}},
		{"NATS is started again, and the first comes soon", append(slices.Clone(first), begins(10, 1, verdict.AllKill, ""), heals(12, 1), publishes(20, 1), acknowledged(21, 1), gets(22, "c1", 1), listed(60, 1)), none},
		{"NATS is started again, and the first comes late", append(slices.Clone(first), begins(10, 1, verdict.AllKill, ""), heals(12, 1), publishes(20, 1), acknowledged(21, 1), gets(33, "c1", 1), listed(60, 1)), []verdict.Kind{verdict.Late}},

		{"what is not acknowledged is not stored", records{publishes(1, 1), listed(60)}, none},
		{"what is not acknowledged is stored all the same", records{publishes(1, 1), listed(60, 1)}, none},
		{"what is acknowledged is not stored", records{publishes(1, 1), acknowledged(2, 1), listed(60)}, []verdict.Kind{verdict.Lost}},
		{"more missing than an inbox keeps", func() records {
			all := slices.Clone(first)
			for n := 1; n <= 20; n++ {
				all = append(all, publishes(2, n), acknowledged(2, n))
			}
			return append(all, at(3, history.Record{Kind: history.Gap, Conn: "c1", Code: "HISTORY_TRUNCATED", Cursor: "epoch000-100"}), gets(3, "c1", 11),
				listed(60, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20))
		}(), none},
		{"one less, and a gap", func() records {
			all := slices.Clone(first)
			for n := 1; n <= 9; n++ {
				all = append(all, publishes(2, n), acknowledged(2, n))
			}
			return append(all, at(3, history.Record{Kind: history.Gap, Conn: "c1", Code: "HISTORY_TRUNCATED", Cursor: "epoch000-50"}),
				listed(60, 1, 2, 3, 4, 5, 6, 7, 8, 9))
		}(), []verdict.Kind{verdict.Groundless}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := verdict.New(verdict.Config{})
			run := history.Record{Kind: history.Run, Bounds: &history.Bounds{Limit: 5, PerInbox: 10, Window: 30e6}, File: "table"}
			c.Take(&run)
			for i, r := range tt.all {
				r.File, r.Line = "table", i+2
				c.Take(&r)
			}
			got := c.End()
			if diff := cmp.Diff(tt.want, slices.Sorted(maps.Keys(got.Violations))); diff != "" {
				t.Errorf("violated (-want +got):\n%s\n%s", diff, text(got))
			}
		})
	}
}

// The limit is broken only by connections that were certainly there at once.
func TestLimitCountsWhatIsCertain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		heard float64 // when the first is heard of last
		old   int     // connections long ago
		want  int
	}{
		{"the first may be gone when the sixth comes", 4.9, 0, 0},
		{"the first is there when the sixth comes", 5.1, 0, 1},
		{"others were there long ago", 4.9, 4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := verdict.New(verdict.Config{})
			run := history.Record{Kind: history.Run, Bounds: &history.Bounds{Limit: 5, PerInbox: 10}}
			c.Take(&run)
			conn := func(i int) string { return fmt.Sprint("c", i) }
			take := func(r history.Record) { c.Take(&r) }
			for i := range tt.old {
				for _, r := range (records{dials(-1000, fmt.Sprint("old", i), fmt.Sprint("old", i)), opens(-1000, fmt.Sprint("old", i)), ends(-900, fmt.Sprint("old", i), history.Left)}) {
					take(r)
				}
			}
			for i := range 5 {
				take(dials(float64(i)/10, conn(i), conn(i)))
				take(opens(float64(i)/10, conn(i)))
			}
			for i := range 5 {
				heard := 9.0
				if i == 0 {
					heard = tt.heard
				}
				beat := at(heard, history.Record{Kind: history.Beat, Conn: conn(i)})
				beat.At = 9e6 // when it is read
				take(beat)
			}
			sixth := opens(5, conn(5))
			take(dials(9, conn(5), conn(5)))
			sixth.At = 9e6
			take(sixth)
			for i := range 6 {
				take(ends(10, conn(i), history.Left))
			}
			if got := c.End(); got.Violations[verdict.Limit] != tt.want {
				t.Errorf("got %d, want %d\n%s", got.Violations[verdict.Limit], tt.want, text(got))
			}
		})
	}
}
