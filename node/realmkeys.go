package node

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pealhq/peal/auth"
)

// realmKeys tells metrics of the keys of the realms, which come and go with the
// configuration.
type realmKeys struct{ node *Node }

// Describe implements prometheus.Collector.
func (realmKeys) Describe(to chan<- *prometheus.Desc) {
	to <- keysAge
	to <- keysCount
	to <- keysRefreshes
}

// Collect implements prometheus.Collector.
func (k realmKeys) Collect(to chan<- prometheus.Metric) {
	for _, s := range k.node.verifier.Status() {
		age := s.Age.Seconds()
		if age == 0 {
			age = math.Inf(1)
		}
		to <- prometheus.MustNewConstMetric(keysAge, prometheus.GaugeValue, age, s.Realm)
		to <- prometheus.MustNewConstMetric(keysCount, prometheus.GaugeValue, float64(s.Keys), s.Realm)
		for _, result := range auth.Refreshes() {
			to <- prometheus.MustNewConstMetric(keysRefreshes, prometheus.CounterValue, float64(s.Refreshes[result]), s.Realm, string(result))
		}
	}
}
