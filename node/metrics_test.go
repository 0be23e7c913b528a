package node_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pealhq/peal"
)

// How long a notification took is measured of those who were there. What one gets that
// was stored before says how long it was away, and nothing of this node.
func TestDeliveryIsMeasuredOfWhatArrives(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const series = "peal_delivery_duration_seconds"
	measured := func(want float64) {
		t.Helper()
		eventually(t, fmt.Sprint(want, " to be measured"), func() bool { return s.metric(series+"_count") >= want })
		if n := s.metric(series + "_count"); n != want {
			t.Errorf("%v were measured, want %v", n, want)
		}
	}
	here := s.connect(s.jane())
	begin, _ := here.greeting()
	s.store(inbox("jane"), note("first"))
	here.notification()
	measured(1)
	if took := s.metric(series + "_sum"); took < 0 || took > patience.Seconds() {
		t.Errorf("it took %v s", took)
	}

	back := s.connect(s.jane(), header("Last-Event-ID", begin.ID))
	back.greeting()
	if id := back.notification(); id != "first" {
		t.Fatalf("got %s, want what was missed", id)
	}
	s.store(inbox("jane"), note("second"))
	here.notification()
	back.notification()
	measured(3)
}

// Tenants that the configuration names are counted on their own. Of the others there is
// one sum, and no label for each.
func TestTenantsAreCountedThatAreNamed(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.node.MetricsTenants = []peal.Tenant{acme} })
	count := func(what, tenant string) float64 {
		return s.metric(fmt.Sprintf(`peal_tenant_%s{tenant=%q}`, what, tenant))
	}
	jane := s.connect(s.jane())
	jane.greeting()
	for _, who := range []user{s.user("globex", globex, "joe"), s.user("acme", shared, "jim")} {
		s.connect(who).greeting()
	}
	s.store(inbox("jane"), note("n"))
	jane.notification()
	eventually(t, "the notification to be counted", func() bool { return count("notifications_delivered_total", string(acme)) == 1 })
	if own, others := count("connections", string(acme)), count("connections", "other"); own != 1 || others != 2 {
		t.Errorf("got %v connections of the tenant and %v of others, want 1 and 2", own, others)
	}
	if n := count("notifications_delivered_total", "other"); n != 0 {
		t.Errorf("got %v notifications of others, want 0", n)
	}
	_, page := s.get(s.admin + "/metrics")
	if strings.Contains(page, string(globex)) || strings.Contains(page, string(shared)) {
		t.Error("a tenant that nobody has named is on the page")
	}
	jane.close()
	eventually(t, "the end of the connection to be counted", func() bool { return count("connections", string(acme)) == 0 })
}

// Nobody who has named no tenant pays for it.
func TestNoTenantIsCountedByDefault(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.connect(s.jane()).greeting()
	if _, page := s.get(s.admin + "/metrics"); strings.Contains(page, "peal_tenant_") {
		t.Error("tenants are counted")
	}
}
