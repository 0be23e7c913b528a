package bench

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestPercentilesAreExact(t *testing.T) {
	upTo := func(n int) []time.Duration {
		all := make([]time.Duration, n)
		for i, v := range rand.Perm(n) {
			all[i] = time.Duration(v+1) * time.Millisecond
		}
		return all
	}
	for _, tt := range []struct {
		samples []time.Duration
		want    Latency
	}{
		{nil, Latency{}},
		{upTo(1), Latency{1, 1, 1, 1, 1}},
		{upTo(2), Latency{2, 1, 2, 2, 2}},
		{upTo(100), Latency{100, 50, 99, 100, 100}},
		{upTo(1000), Latency{1000, 500, 990, 999, 1000}},
		{upTo(10_001), Latency{10_001, 5001, 9901, 9991, 10_001}},
	} {
		if got := newLatency(tt.samples); got != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}
