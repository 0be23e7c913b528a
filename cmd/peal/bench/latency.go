package bench

import (
	"math"
	"slices"
	"time"
)

// Latency is how long something took, in milliseconds. Samples is how often it
// was measured; of none, all are 0.
type Latency struct {
	Samples int     `json:"samples"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p999"`
	Max     float64 `json:"max"`
}

// newLatency sorts the samples in place. Every sample was kept, so the
// percentiles are exact: the smallest sample that so many are not above.
func newLatency(samples []time.Duration) Latency {
	slices.Sort(samples)
	return Latency{
		Samples: len(samples),
		P50:     milliseconds(percentile(samples, 0.50)),
		P99:     milliseconds(percentile(samples, 0.99)),
		P999:    milliseconds(percentile(samples, 0.999)),
		Max:     milliseconds(percentile(samples, 1)),
	}
}

// percentile is the nearest rank among sorted samples; 0 of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	// Rounded first: 0.99*100 is a little more than 99.
	rank := math.Ceil(math.Round(p*float64(len(sorted))*1e6) / 1e6)
	return sorted[max(int(rank), 1)-1]
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
