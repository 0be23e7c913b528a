package node

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pealhq/peal/auth"
)

// realmKeys tells metrics of the keys of the realms, which come and go with the
// configuration.
type realmKeys struct{ node *Node }

var (
	keysAge = prometheus.NewDesc("peal_realm_keys_age_seconds",
		"How old the keys of a realm are, since they were last fetched; +Inf if never. They serve for a day.", []string{"realm"}, nil)
	keysCount = prometheus.NewDesc("peal_realm_keys",
		"How many keys of a realm can be used.", []string{"realm"}, nil)
	keysRefreshes = prometheus.NewDesc("peal_realm_key_refreshes_total",
		"Fetches of a realm's keys, by how they went.", []string{"realm", "result"}, nil)
)

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
