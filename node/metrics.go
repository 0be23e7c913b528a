package node

import (
	"math"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pealhq/peal"
)

// metrics is every metric of a node, on one page: newMetrics has all their names, with
// unit and help. count.go is how they are counted.
type metrics struct {
	registry *prometheus.Registry

	open       prometheus.Gauge
	byRoute    *prometheus.GaugeVec
	opened     prometheus.Counter
	ended      *prometheus.CounterVec
	age        prometheus.Histogram
	heartbeats prometheus.Counter
	delivered  prometheus.Counter
	updates    prometheus.Counter
	unsendable prometheus.Counter
	refused    *prometheus.CounterVec
	publish    prometheus.Histogram
	events     prometheus.Histogram
	inbox      *prometheus.HistogramVec
	waiting    prometheus.Gauge
	settled    *prometheus.HistogramVec
	latency    prometheus.Histogram

	ofTenants map[peal.Tenant]*tenantMetrics // of those that have some of their own
	ofOthers  *tenantMetrics                 // of all others together; nil if no tenant has
}

// tenantMetrics are what is counted of a tenant's connections.
type tenantMetrics struct {
	open      prometheus.Gauge
	delivered prometheus.Counter
}

// page serves the metrics, in whatever state the node is.
func (m *metrics) page() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func newMetrics(n *Node) *metrics {
	r := prometheus.NewRegistry()
	durations := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m := &metrics{
		registry:   r,
		open:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "peal_connections", Help: "Open connections."}),
		byRoute:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "peal_route_connections", Help: "Open connections, by what they follow."}, []string{"route"}),
		opened:     prometheus.NewCounter(prometheus.CounterOpts{Name: "peal_connections_opened_total", Help: "Connections that were opened."}),
		ended:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peal_connections_ended_total", Help: "Connections that ended, by reason."}, []string{"reason"}),
		age:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peal_connection_duration_seconds", Help: "How long connections were open, in seconds.", Buckets: []float64{1, 10, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600}}),
		heartbeats: prometheus.NewCounter(prometheus.CounterOpts{Name: "peal_heartbeats_total", Help: "Heartbeats handed to connections."}),
		delivered:  prometheus.NewCounter(prometheus.CounterOpts{Name: "peal_notifications_delivered_total", Help: "Notifications handed to connections, replayed ones too."}),
		updates:    prometheus.NewCounter(prometheus.CounterOpts{Name: "peal_ticket_updates_delivered_total", Help: "Ticket updates handed to connections, also those that a newer one of their ticket then took the place of."}),
		unsendable: prometheus.NewCounter(prometheus.CounterOpts{Name: "peal_notifications_unsendable_total", Help: "Stored messages that are not one line of JSON and were skipped: somebody else writes to our streams."}),
		refused:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peal_requests_refused_total", Help: "Requests that were refused, by the code of the problem, and by the reason: of a token, or what was done too often, and by whom."}, []string{"code", "reason"}),
		publish:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peal_publish_duration_seconds", Help: "How long it took to store a notification for all its recipients, in seconds.", Buckets: durations}),
		events:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peal_events_store_duration_seconds", Help: "How long it took to store the ticket events of a request, in seconds.", Buckets: durations}),
		inbox:      prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "peal_inbox_request_duration_seconds", Help: "How long it took to list, to count and to mark what is read, in seconds.", Buckets: durations}, []string{"call"}),
		waiting:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "peal_polls_waiting", Help: "Long polls that wait for a notification. They are not among the connections."}),
	}
	// From half a millisecond, as it is within one machine, to what a slow peer may take.
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peal_delivery_duration_seconds", Help: "How long after a notification was stored it was written to a connection that was open then, in seconds; of several in one write the oldest. By the clocks of the NATS server and of this node.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}})
	m.settled = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "peal_event_settled_seconds", Help: "How long after they were stored ticket events were settled here, by what became of them, in seconds.", Buckets: append(durations, 10, 60, 600)}, []string{"outcome"})
	r.MustRegister(m.open, m.byRoute, m.opened, m.ended, m.age, m.heartbeats, m.delivered, m.updates, m.unsendable, m.refused, m.publish, m.events, m.inbox, m.waiting, m.settled, m.latency)
	m.countTenants(n.cfg.MetricsTenants)

	s := n.bus.Stats()
	for _, c := range []struct {
		name, help string
		value      interface{ Load() int64 }
	}{
		{"peal_notifications_stored_total", "Notifications stored by this process, once for each inbox.", &s.Stored},
		{"peal_notifications_duplicate_total", "Notifications that an inbox had already.", &s.Duplicates},
		{"peal_ticket_updates_stored_total", "Ticket updates stored by this process.", &s.Updates},
		{"peal_events_accepted_total", "Ticket events stored by this process, to be worked on.", &s.Events},
		{"peal_events_duplicate_total", "Ticket events that were stored already.", &s.EventDuplicates},
		{"peal_events_worked_total", "Ticket events that this process has worked on, to their end.", &s.Worked},
		{"peal_events_retried_total", "Ticket events that this process has put off, once for each time.", &s.Retried},
		{"peal_events_buried_total", "Ticket events that this process has made dead letters of.", &s.Buried},
		{"peal_slots_moved_total", "Connections whose slot somebody else had, and that got another in its place.", &s.SlotsMoved},
		{"peal_slots_lost_total", "Connections that were ended because others have all slots of their user, and claims that were taken over.", &s.SlotsLost},
		{"peal_feed_gaps_total", "Gaps declared to connections.", &s.Gaps},
		{"peal_feed_reads_total", "Reads of stored messages for connections.", &s.Reads},
		{"peal_feed_holes_total", "Holes in the chain of live messages, which were then read.", &s.Holes},
		{"peal_feed_rescued_total", "Feeds that only the tail check found behind.", &s.Rescued},
		{"peal_durable_moves_total", "Places of durable subscriptions that this process has moved.", &s.Moved},
		{"peal_durable_moves_failed_total", "Places of durable subscriptions that could not be moved: what follows them will come again.", &s.Unmoved},
		{"peal_nats_slow_consumer_total", "Reports of live messages that this process did not take in time.", &s.SlowConsumer},
		{"peal_live_malformed_total", "Live messages without the headers of JetStream.", &s.Malformed},
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help}, func() float64 { return float64(c.value.Load()) }))
	}
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	for reason, value := range map[string]*atomic.Int64{"full": &s.SlotsFull, "unknown": &s.SlotsUnknown} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "peal_slots_refused_total", Help: "Slots for connections that were asked for in vain: full, all of the user's are taken; unknown, JetStream does not say.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(value.Load()) }))
	}
	gauge("peal_slots_held", "Slots that the connections of this node hold in the cluster.", func() float64 { return float64(s.SlotsHeld.Load()) })
	gauge("peal_inboxes_followed", "Inboxes with at least one connection here.", func() float64 { return float64(s.Followed.Load()) })
	gauge("peal_events_waiting", "Ticket events that wait to be worked on, as this process has seen it of late; NaN if it does not work on them.", func() float64 {
		if b, ok := s.Backlog(); ok {
			return float64(b.Waiting)
		}
		return math.NaN()
	})
	gauge("peal_events_oldest_seconds", "How long ago the oldest of them was stored; 0 if none waits.", func() float64 {
		b, ok := s.Backlog()
		switch {
		case !ok:
			return math.NaN()
		case b.Oldest.IsZero():
			return 0
		}
		return time.Since(b.Oldest).Seconds()
	})
	gauge("peal_nats_connected", "1 while every connection to NATS is up.", func() float64 {
		if n.bus.Connected() {
			return 1
		}
		return 0
	})
	gauge("peal_revocations", "Revocations that tokens are held against.", func() float64 { return float64(n.verifier.Revocations().Len()) })
	gauge("peal_revocations_unseen_seconds", "For how long the revocations that are stored could not be seen; 0 while they can.", func() float64 { return n.bus.RevocationsUnseen().Seconds() })
	r.MustRegister(realmKeys{n}) // keysAge, keysCount, keysRefreshes below
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "peal_build_info", Help: "1, with the version of this program."}, []string{"version", "go"})
	build.WithLabelValues(n.cfg.Version, runtime.Version()).Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// countTenants has some tenants counted on their own. The list is the operator's, and so
// bounded: a label for each tenant would be a series for each, on each node.
func (m *metrics) countTenants(tenants []peal.Tenant) {
	if len(tenants) == 0 {
		return
	}
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "peal_tenant_connections", Help: "Open connections of the tenants that are named in the configuration, and of all others together."}, []string{"tenant"})
	delivered := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peal_tenant_notifications_delivered_total", Help: "Notifications handed to connections of the tenants that are named in the configuration, and of all others together."}, []string{"tenant"})
	m.registry.MustRegister(open, delivered)
	ofTenant := func(label string) *tenantMetrics {
		return &tenantMetrics{open.WithLabelValues(label), delivered.WithLabelValues(label)}
	}
	m.ofTenants = make(map[peal.Tenant]*tenantMetrics, len(tenants))
	for _, t := range tenants {
		m.ofTenants[t] = ofTenant(string(t))
	}
	m.ofOthers = ofTenant("other")
}

// Of each realm; realmKeys collects them.
var (
	keysAge = prometheus.NewDesc("peal_realm_keys_age_seconds",
		"How old the keys of a realm are, since they were last fetched; +Inf if never. They serve for a day.", []string{"realm"}, nil)
	keysCount = prometheus.NewDesc("peal_realm_keys",
		"How many keys of a realm can be used.", []string{"realm"}, nil)
	keysRefreshes = prometheus.NewDesc("peal_realm_key_refreshes_total",
		"Fetches of a realm's keys, by how they went.", []string{"realm", "result"}, nil)
)
