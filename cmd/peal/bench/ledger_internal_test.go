package bench

import (
	"testing"
	"time"
)

func TestLedgerCountsEveryFault(t *testing.T) {
	for _, tt := range []struct {
		name       string
		received   []int // rounds, as they came
		rounds     int   // that were published
		excused    []int
		unique     int
		missing    int
		duplicated int
		disordered int
	}{
		{"all is well", []int{0, 1, 2}, 3, nil, 3, 0, 0, 0},
		{"nothing came", nil, 3, nil, 0, 3, 0, 0},
		{"the last is lost", []int{0, 1}, 3, nil, 2, 1, 0, 0},
		{"one in the middle is lost", []int{0, 2}, 3, nil, 2, 1, 0, 0},
		{"what may not have been stored is not missed", []int{0, 2}, 3, []int{1}, 2, 0, 0, 0},
		{"and may come", []int{0, 1, 2}, 3, []int{1}, 3, 0, 0, 0},
		{"one came twice", []int{0, 1, 1, 2}, 3, nil, 3, 0, 1, 0},
		{"one came three times, late", []int{0, 1, 2, 0, 0}, 3, nil, 3, 0, 2, 0},
		{"two are exchanged", []int{1, 0, 2}, 3, nil, 3, 0, 0, 1},
		{"all is backwards", []int{2, 1, 0}, 3, nil, 3, 0, 0, 2},
		{"everything at once", []int{0, 3, 2, 3}, 5, nil, 3, 2, 1, 1},
		{"across words", []int{0, 64, 63, 128, 64}, 129, nil, 4, 125, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l ledger
			at := time.Now()
			for i, round := range tt.received {
				l.take(round, time.Duration(i), at.Add(time.Duration(i)))
			}
			excused := func(round int) bool {
				for _, e := range tt.excused {
					if e == round {
						return true
					}
				}
				return false
			}
			if got := l.missing(tt.rounds, excused); got != tt.missing {
				t.Errorf("%d missing, want %d", got, tt.missing)
			}
			if l.unique != tt.unique || l.duplicated != tt.duplicated || l.disordered != tt.disordered {
				t.Errorf("%d unique, %d duplicated, %d out of order, want %d, %d, %d",
					l.unique, l.duplicated, l.disordered, tt.unique, tt.duplicated, tt.disordered)
			}
			if len(l.latencies) != tt.unique {
				t.Errorf("%d latencies, want one for each new event, %d", len(l.latencies), tt.unique)
			}
		})
	}
}
