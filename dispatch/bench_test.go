package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/dispatch"
)

// synced opens a bus on a JetStream that syncs what it stores, as in production.
func synced(b *testing.B) *bus.Bus {
	b.Helper()
	s, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Store: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return bustest.Open(b, s, nil)
}

// running has a dispatcher run, and calls settled for each event.
func running(b *testing.B, on *bus.Bus, settled func(time.Duration), tenants ...peal.Tenant) (stop func()) {
	b.Helper()
	d, err := auth.NewDirectory(auth.Config{Realms: []auth.Realm{realm("staff", append(tenants, acme)...)}})
	if err != nil {
		b.Fatal(err)
	}
	work, err := dispatch.New(dispatch.Config{Settled: func(_ dispatch.Outcome, age time.Duration) { settled(age) }}, on, func() *auth.Directory { return d })
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkWork is how fast events are worked on that wait already, each for one user,
// by one process.
func BenchmarkWork(b *testing.B) {
	for _, tickets := range []int{1, 1000} {
		b.Run(fmt.Sprint("tickets=", tickets), func(b *testing.B) {
			on := synced(b)
			events := make([]peal.TicketEvent, b.N)
			for i := range events {
				events[i] = assignment(fmt.Sprint("e", i), fmt.Sprint("t", i%tickets), fmt.Sprint("user-", i%10_000))
			}
			for len(events) > 0 {
				n := min(500, len(events))
				for _, a := range on.Accept(b.Context(), acme, events[:n]...) {
					if a.Err != nil {
						b.Fatal(a.Err)
					}
				}
				events = events[n:]
			}
			settled := make(chan struct{}, b.N)
			b.ResetTimer()
			stop := running(b, on, func(time.Duration) { settled <- struct{}{} })
			for range b.N {
				<-settled
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.StopTimer()
			stop()
		})
	}
}

// BenchmarkThousands is how long it takes until an event for 5,000 members of a queue
// is stored for all of them.
func BenchmarkThousands(b *testing.B) {
	on := synced(b)
	var members []peal.Inbox
	for i := range 5000 {
		members = append(members, user(fmt.Sprint("user-", i)))
	}
	if err := on.SetQueue(b.Context(), acme, "all", members); err != nil {
		b.Fatal(err)
	}
	settled := make(chan struct{}, 1)
	defer running(b, on, func(time.Duration) { settled <- struct{}{} })()
	for i := range b.N {
		e := assignment(fmt.Sprint("e", i), "t", "user-0")
		e.Type, e.Ticket.QueueID = "escalation", "all"
		for _, a := range on.Accept(b.Context(), acme, e) {
			if a.Err != nil {
				b.Fatal(a.Err)
			}
		}
		<-settled
	}
}

// BenchmarkNeighbours is how long the events of 50 tenants take, a minute long, alone
// and while another tenant has one for 5,000 users, or one every five seconds.
func BenchmarkNeighbours(b *testing.B) {
	const perSecond, lasts = 200, time.Minute
	for _, large := range []int{0, 1, 12} {
		b.Run(fmt.Sprint("large=", large), func(b *testing.B) {
			on := synced(b)
			var members []peal.Inbox
			for i := range 5000 {
				members = append(members, peal.Inbox{Tenant: acme, Namespace: "staff", User: peal.UserID(fmt.Sprint("user-", i))})
			}
			if err := on.SetQueue(b.Context(), acme, "all", members); err != nil {
				b.Fatal(err)
			}
			var tenants []peal.Tenant
			for i := range 50 {
				tenants = append(tenants, peal.Tenant(fmt.Sprintf("33333333-3333-4333-8333-%012d", i)))
			}
			var mu sync.Mutex
			var ages []time.Duration
			stop := running(b, on, func(age time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				ages = append(ages, age)
			}, tenants...)
			for b.Loop() {
				var sending sync.WaitGroup
				sent := 0
				tick := time.NewTicker(time.Second / perSecond)
				for end := time.Now().Add(lasts); time.Now().Before(end); <-tick.C {
					id := fmt.Sprint(time.Now().UnixNano())
					t := tenants[sent%len(tenants)]
					sending.Go(func() { on.Accept(b.Context(), t, assignment(id, id, "user")) })
					if every := int(lasts.Seconds()) * perSecond / max(large, 1); large > 0 && sent%every == every/2 {
						big := assignment("big"+id, "big", "user-0")
						big.Type, big.Ticket.QueueID = "escalation", "all"
						sending.Go(func() { on.Accept(b.Context(), acme, big) })
					}
					sent++
				}
				tick.Stop()
				sending.Wait()
			}
			stop()
			slices.Sort(ages)
			at := func(share float64) float64 {
				return float64(ages[int(share*float64(len(ages)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(at(0.5), "ms-p50")
			b.ReportMetric(at(0.99), "ms-p99")
			b.ReportMetric(at(1), "ms-max")
			b.ReportMetric(float64(len(ages)), "events")
		})
	}
}
