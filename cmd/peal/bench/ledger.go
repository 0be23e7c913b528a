package bench

import (
	"sync"
	"time"
)

// ledger is what one connection received of one campaign. It is for several
// goroutines at once.
type ledger struct {
	mu         sync.Mutex // protects the rest
	seen       []uint64   // a bit for each round
	next       int        // after the highest round seen
	unique     int
	duplicated int
	disordered int // came for the first time after a later one
	latencies  []time.Duration
	last       time.Time // when the newest of unique came
}

// take notes that a round was received, and reports whether it is new.
func (l *ledger) take(round int, latency time.Duration, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hasLocked(round) {
		l.duplicated++
		return false
	}
	for len(l.seen) <= round/64 {
		l.seen = append(l.seen, 0)
	}
	l.seen[round/64] |= 1 << (round % 64)
	if round < l.next {
		l.disordered++
	}
	l.next = max(l.next, round+1)
	l.unique++
	l.latencies = append(l.latencies, latency)
	l.last = at
	return true
}

func (l *ledger) hasLocked(round int) bool {
	return round/64 < len(l.seen) && l.seen[round/64]&(1<<(round%64)) != 0
}

// missing counts those of the first rounds that were not received; excused
// ones are not missed. excused may be nil.
func (l *ledger) missing(rounds int, excused func(round int) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for round := range rounds {
		if !l.hasLocked(round) && (excused == nil || !excused(round)) {
			n++
		}
	}
	return n
}
