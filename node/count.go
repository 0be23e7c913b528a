package node

import (
	"time"

	"github.com/pealhq/peal"
)

// opens counts a connection, or a poll that begins to wait.
func (m *metrics) opens(c *conn) {
	if c.polls {
		m.waiting.Inc()
		return
	}
	m.open.Inc()
	if c.tenant = m.ofTenant(c.caller.Inbox.Tenant); c.tenant != nil {
		c.tenant.open.Inc()
	}
	m.byRoute.WithLabelValues(c.route).Inc()
	m.opened.Inc()
}

// leaves counts the end of what opens has counted.
func (m *metrics) leaves(c *conn, why reason) {
	if c.polls {
		m.waiting.Dec()
		return
	}
	m.open.Dec()
	if c.tenant != nil {
		c.tenant.open.Dec()
	}
	m.byRoute.WithLabelValues(c.route).Dec()
	m.ended.WithLabelValues(string(why)).Inc()
	m.age.Observe(time.Since(c.opened).Seconds())
}

// took observes how long a call of the inbox took that began then.
func (m *metrics) took(call string, began time.Time) {
	m.inbox.WithLabelValues(call).Observe(time.Since(began).Seconds())
}

// Settled counts a ticket event that was worked on in this process, by what became
// of it and how long ago it was stored.
func (n *Node) Settled(outcome string, age time.Duration) {
	n.metrics.settled.WithLabelValues(outcome).Observe(age.Seconds())
}

// delivers counts a notification that a connection has taken.
func (m *metrics) delivers(c *conn) {
	m.delivered.Inc()
	if c.tenant != nil {
		c.tenant.delivered.Inc()
	}
}

// wrote observes how long ago the oldest notification of a write was stored that has just
// returned. By two machines' clocks that may be in the future.
func (m *metrics) wrote(oldest time.Time) {
	m.latency.Observe(max(0, time.Since(oldest).Seconds()))
}

// ofTenant is where a tenant's connections are counted; nil if nowhere.
func (m *metrics) ofTenant(t peal.Tenant) *tenantMetrics {
	if own := m.ofTenants[t]; own != nil {
		return own
	}
	return m.ofOthers
}
