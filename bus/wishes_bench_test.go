package bus_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus/embedded"
)

// BenchmarkTell says what it costs to ask for the recipients' preferences, where
// nobody has stored any and where everybody and the tenant have. In turn it
// publishes without asking, tells users who were not told of late, and tells users
// who were: each has a median of its own, in microseconds, so that other work on
// the machine is in all of them. docs/bench.md has the figures.
func BenchmarkTell(b *testing.B) {
	for _, recipients := range []int{1, 500} {
		for _, stored := range []bool{false, true} {
			b.Run(fmt.Sprintf("recipients=%d/stored=%t", recipients, stored), func(b *testing.B) {
				s, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Store: 8 << 30})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(s.Close)
				bu := openOn(b, s, nil)
				all := inboxes(20_000)
				if stored {
					p := peal.Preferences{
						Types: peal.Switches{peal.Comment: false}, MinPriority: peal.Medium, MutedTickets: []string{"2", "3", "4"},
						QuietHours: &peal.QuietHours{From: "22:00", To: "07:00", TimeZone: "Asia/Kolkata"},
					}
					setTenant(b, bu, acme, peal.TenantPreferences{Preferences: p, Locked: []peal.Type{peal.SLABreach}})
					for _, in := range all {
						setUser(b, bu, in, p)
					}
				}
				calls := 0
				timed := func(ask bool, to []peal.Inbox) time.Duration {
					calls++
					p := telling(fmt.Sprint(calls), to...)
					began := time.Now()
					if ask {
						_, err = bu.Tell(b.Context(), began, p)
					} else {
						_, err = bu.Publish(b.Context(), p)
					}
					if err != nil {
						b.Fatal(err)
					}
					return time.Since(began)
				}
				var publish, tell, again []time.Duration
				for n := 0; b.Loop(); n++ {
					from := n * recipients % len(all)
					some := all[from : from+recipients]
					publish = append(publish, timed(false, some))
					tell = append(tell, timed(true, some))
					again = append(again, timed(true, some))
				}
				for _, row := range []struct {
					name string
					of   []time.Duration
				}{{"publish-µs", publish}, {"tell-µs", tell}, {"again-µs", again}} {
					slices.Sort(row.of)
					b.ReportMetric(float64(row.of[len(row.of)/2])/1e3, row.name)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
