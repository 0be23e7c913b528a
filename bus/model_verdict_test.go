package bus_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
)

// The verdicts of the model are worth something if they catch what they are
// for, and nothing else: hand-written histories, with and without a fault.

// verdictTest is one inbox and one follower in a table test.
type verdictTest struct {
	clock time.Time
	h     *inboxHistory
	f     follower
}

// happening is one thing in a history. Its error is a verdict.
type happening func(v *verdictTest) error

const (
	oldEpoch bus.Epoch = "old"
	newEpoch bus.Epoch = "new"
)

func old(seq uint64) bus.Cursor   { return bus.Cursor{Epoch: oldEpoch, Seq: seq} }
func newer(seq uint64) bus.Cursor { return bus.Cursor{Epoch: newEpoch, Seq: seq} }

// acked publishes notifications that are acknowledged.
func acked(count int) happening {
	return func(v *verdictTest) error {
		for range count {
			v.h.acknowledge(v.publish())
		}
		return nil
	}
}

// uncertain publishes one whose publisher gives up.
func uncertain(v *verdictTest) error {
	v.publish()
	return nil
}

func (v *verdictTest) publish() int {
	return v.h.begin(fmt.Sprintf("n%d", len(v.h.all)+1))
}

// begins connects without a cursor.
func begins(at bus.Cursor) happening {
	return func(v *verdictTest) error {
		v.f.forget(bus.Cursor{})
		v.f.asked()
		return v.f.started(bus.Start{Cursor: at})
	}
}

// resumes connects, and nothing was missed; missed, with a promise of a gap.
func resumes(v *verdictTest) error {
	v.f.asked()
	return v.f.started(bus.Start{Cursor: v.f.cursor, Recovered: true})
}

func missed(at bus.Cursor) happening {
	return func(v *verdictTest) error {
		v.f.asked()
		return v.f.started(bus.Start{Cursor: at, Gap: true})
	}
}

func starts(s bus.Start) happening {
	return func(v *verdictTest) error {
		v.f.asked()
		return v.f.started(s)
	}
}

func gets(n int, at bus.Cursor) happening {
	return func(v *verdictTest) error { return v.f.delivered(fmt.Sprintf("n%d", n), at) }
}

// all gets the notifications from one to another, at the sequences of their
// numbers.
func all(from, to int) happening {
	return func(v *verdictTest) error {
		for n := from; n <= to; n++ {
			if err := gets(n, old(uint64(n)))(v); err != nil {
				return err
			}
		}
		return nil
	}
}

func truncated(at bus.Cursor) happening {
	return func(v *verdictTest) error { return v.f.gapped(bus.Gap{Code: bus.HistoryTruncated, Cursor: at}) }
}

func unknown(at bus.Cursor) happening {
	return func(v *verdictTest) error { return v.f.gapped(bus.Gap{Code: bus.UnknownCursor, Cursor: at}) }
}

// nobodys has the follower come back with a cursor that is nobody's.
func nobodys(v *verdictTest) error { v.f.forget(bus.Unknown); return nil }

func recreated(v *verdictTest) error {
	v.h.stream.recreate()
	return v.h.stream.recreated(newEpoch)
}

func deleted(v *verdictTest) error { v.h.stream.recreate(); return nil }

func purged(v *verdictTest) error {
	ended := v.h.purge()
	v.clock = v.clock.Add(time.Second)
	ended()
	return nil
}

func streamPurged(v *verdictTest) error {
	ended := v.h.stream.purge()
	v.clock = v.clock.Add(time.Second)
	ended()
	return nil
}

func later(d time.Duration) happening {
	return func(v *verdictTest) error { v.clock = v.clock.Add(d); return nil }
}

// met says that another follower has met a notification.
func met(n int, at bus.Cursor) happening {
	return func(v *verdictTest) error { return v.h.meet(n, at) }
}

func TestModelVerdicts(t *testing.T) {
	const bound = 5
	for _, tt := range []struct {
		name    string
		history []happening
		want    string // in the first verdict; "" wants none
	}{
		{"in order", []happening{begins(old(0)), acked(3), all(1, 3)}, ""},
		{"resumed", []happening{begins(old(0)), acked(2), all(1, 2), acked(2), resumes, all(3, 4)}, ""},
		{"lost", []happening{begins(old(0)), acked(3), gets(1, old(1)), gets(3, old(3))}, "lost 2 without a gap"},
		{"the first lost", []happening{begins(old(0)), acked(2), gets(2, old(2))}, "lost 1 without a gap"},
		{"lost on resuming", []happening{begins(old(0)), acked(3), gets(1, old(1)), resumes, gets(3, old(3))}, "lost 2 without a gap"},
		{"repeated", []happening{begins(old(0)), acked(2), all(1, 2), gets(2, old(3))}, "repeated"},
		{"repeated at the same place", []happening{begins(old(0)), acked(2), all(1, 2), gets(2, old(2))}, "goes back"},
		{"repeated on resuming", []happening{begins(old(0)), acked(2), all(1, 2), resumes, gets(2, old(3))}, "repeated"},
		{"out of order", []happening{begins(old(0)), acked(1), uncertain, acked(1), gets(1, old(1)), gets(3, old(2)), gets(2, old(3))}, "out of order"},
		{"another's", []happening{begins(old(0)), gets(1, old(1))}, "never published"},
		{"cursor goes back", []happening{begins(old(0)), acked(2), gets(1, old(5)), gets(2, old(4))}, "cursor goes back"},
		{"two cursors for one", []happening{acked(2), begins(old(9)), acked(1), met(3, old(10)), gets(3, old(11))}, "was at"},
		{"of no incarnation", []happening{begins(old(0)), acked(1), gets(1, newer(1))}, "of no incarnation"},

		{"old at the live end", []happening{acked(2), begins(old(2)), gets(2, old(3))}, "repeated"},
		{"begun while it connected", []happening{begins(old(0)), acked(1), uncertain, uncertain, acked(1), gets(1, old(1)), gets(4, old(2))}, ""},

		{"uncertain and there", []happening{begins(old(0)), uncertain, acked(1), all(1, 2)}, ""},
		{"uncertain and not there", []happening{begins(old(0)), uncertain, acked(1), gets(2, old(1))}, ""},
		{"uncertain, met and lost", []happening{begins(old(0)), uncertain, met(1, old(1)), acked(1), gets(2, old(2))}, "lost 1 without a gap"},

		{"fell out of the bound", []happening{begins(old(0)), acked(1), all(1, 1), acked(bound + 1), missed(old(2)), truncated(old(2)), all(3, 7)}, ""},
		{"a gap for nothing", []happening{begins(old(0)), acked(1), all(1, 1), acked(bound - 1), truncated(old(2))}, "untrue gap after 1"},
		{"a gap in place of what is stored", []happening{begins(old(0)), acked(1), all(1, 1), acked(bound + 1), truncated(old(5)), gets(6, old(6))}, "passes over 3"},
		{"lost after a gap", []happening{begins(old(0)), acked(1), all(1, 1), acked(bound), truncated(old(6)), acked(bound + 1), gets(9, old(9))}, "lost 7 without a gap"},
		{"a gap that goes back", []happening{begins(old(0)), acked(1), gets(1, old(10)), acked(bound), truncated(old(9))}, "gap goes back"},
		{"expired", []happening{begins(old(0)), acked(1), all(1, 1), later(time.Hour), acked(1), truncated(old(1)), gets(2, old(2))}, ""},
		{"not expired", []happening{begins(old(0)), acked(1), all(1, 1), later(time.Minute), acked(1), truncated(old(1))}, "untrue gap"},
		{"purged", []happening{begins(old(0)), acked(1), all(1, 1), acked(1), purged, truncated(old(2)), acked(1), gets(3, old(3))}, ""},
		{"purged and no gap", []happening{begins(old(0)), acked(1), all(1, 1), acked(1), purged, acked(1), gets(3, old(3))}, "lost 2 without a gap"},
		{"purged with the stream", []happening{begins(old(0)), acked(1), all(1, 1), streamPurged, truncated(old(2))}, ""},
		{"published after the purge", []happening{begins(old(0)), purged, later(time.Second), acked(1), all(1, 1), truncated(old(2))}, "untrue gap"},
		{"a gap of no kind", []happening{begins(old(0)), func(v *verdictTest) error { return v.f.gapped(bus.Gap{Code: "?", Cursor: old(0)}) }}, "gap ?"},

		{"another incarnation", []happening{begins(old(0)), acked(2), all(1, 1), recreated, missed(newer(0)), unknown(newer(0)), acked(1), gets(3, newer(1))}, ""},
		{"another, while connected", []happening{begins(old(0)), acked(2), all(1, 1), recreated, unknown(newer(0)), acked(1), gets(3, newer(1))}, ""},
		{"another, not looked up yet", []happening{begins(old(0)), acked(1), all(1, 1), deleted, unknown(newer(0)), acked(1), gets(2, newer(1))}, ""},
		{"another without a gap", []happening{begins(old(0)), acked(1), all(1, 1), recreated, acked(1), gets(2, newer(2))}, "without a gap after incarnation 0"},
		{"recovered from another", []happening{begins(old(0)), acked(1), all(1, 1), recreated, resumes}, "starts in incarnation 0"},
		{"begins in one that is gone", []happening{recreated, begins(old(0))}, "starts in incarnation 0"},
		{"old after the recreation", []happening{begins(old(0)), acked(2), all(1, 1), recreated, unknown(newer(0)), gets(2, newer(1))}, "2 of incarnation 0 comes as one of 1"},
		{"new under an old cursor", []happening{begins(old(0)), recreated, acked(1), gets(1, old(1))}, "1 of incarnation 1 comes as one of 0"},
		{"lost in the new one", []happening{begins(old(0)), recreated, unknown(newer(0)), acked(2), gets(2, newer(2))}, "lost 1 without a gap"},
		{"back to the old one", []happening{recreated, begins(newer(0)), unknown(old(3))}, "back to 0"},
		{"truncated across incarnations", []happening{begins(old(0)), recreated, truncated(newer(0))}, "truncated in incarnation 1 after 0"},
		{"unknown for nothing", []happening{begins(old(0)), acked(1), all(1, 1), unknown(old(1))}, "untrue gap"},
		{"unknown, being purged", []happening{begins(old(0)), acked(1), all(1, 1), acked(1), purged, unknown(old(2))}, ""},
		{"told twice", []happening{begins(old(0)), recreated, unknown(newer(0)), unknown(newer(0))}, "untrue gap"},
		{"stored twice by a retry across", []happening{begins(old(0)), func(v *verdictTest) error {
			n := v.publish()
			v.h.stream.recreate()
			defer v.h.acknowledge(n)
			return gets(n, old(1))(v)
		}, unknown(newer(0)), gets(1, newer(1))}, ""},

		{"nobody's cursor", []happening{nobodys, missed(old(0)), unknown(old(0)), acked(1), all(1, 1)}, ""},
		{"recovered from nobody's", []happening{nobodys, starts(bus.Start{Cursor: old(0), Recovered: true})}, "start after"},
		{"old after nobody's", []happening{acked(1), nobodys, missed(old(0)), unknown(old(0)), all(1, 1)}, "repeated"},

		{"no cursor and recovered", []happening{starts(bus.Start{Cursor: old(0), Recovered: true})}, "without a cursor"},
		{"neither recovered nor a gap", []happening{begins(old(0)), starts(bus.Start{Cursor: old(0)})}, "start after"},
		{"recovered from elsewhere", []happening{begins(old(0)), starts(bus.Start{Cursor: old(1), Recovered: true})}, "instead of"},
		{"a promised gap does not come", []happening{begins(old(0)), acked(1), all(1, 1), acked(bound), missed(old(1)), all(2, 2)}, "the gap that the start has promised"},
		{"recovered and a gap", []happening{acked(1), begins(old(1)), resumes, truncated(old(2))}, "though recovered"},
		{"recovered, refused and a gap", []happening{acked(1), begins(old(1)), resumes, func(v *verdictTest) error { v.f.late = true; return nil }, truncated(old(2))}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &verdictTest{clock: time.Date(2025, 7, 10, 12, 35, 0, 0, time.UTC)}
			s := newStreamHistory(oldEpoch, bound, time.Hour)
			s.now = func() time.Time { return v.clock }
			v.h = newInboxHistory(s, inbox("jane"))
			v.f.h = v.h
			var got error
			for i, h := range tt.history {
				if got = h(v); got != nil && i < len(tt.history)-1 {
					t.Fatalf("thing %d of %d: %v", i+1, len(tt.history), got)
				}
			}
			if tt.want == "" && got != nil || tt.want != "" && (got == nil || !strings.Contains(got.Error(), tt.want)) {
				t.Errorf("got verdict %v, want %q", got, tt.want)
			}
		})
	}
}

// Who was left behind has not caught up: a gap counts for what it covers, but
// the last message must come itself.
func TestModelNoticesWhoIsLeftBehind(t *testing.T) {
	for _, tt := range []struct {
		name        string
		p           place
		has, itself bool // of notification 7
	}{
		{"nothing came", place{least: 6, most: 6, exact: true}, false, false},
		{"it may be behind a live end", place{least: 3, most: 9}, false, false},
		{"a gap before it", place{least: 3, gap: true, covered: 6}, false, false},
		{"a gap over it", place{least: 3, gap: true, covered: 7}, true, false},
		{"it came", place{least: 7, most: 7, exact: true}, true, true},
	} {
		if has, itself := tt.p.has(7), tt.p.got(7); has != tt.has || itself != tt.itself {
			t.Errorf("%s: has it %v, got it %v, want %v and %v", tt.name, has, itself, tt.has, tt.itself)
		}
	}
}
