package bus_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// What an update costs that 1,000 connections of a tenant on this node are to have,
// until the last of them has it. The chain of one subject proves that nothing is
// missing before it. Without such a chain it would have to be read what is stored
// since the last time: once for all of them, or for each.
func BenchmarkTicketUpdateFor1000(b *testing.B) {
	const connections = 1000
	for _, bb := range []struct {
		name  string
		reads int
	}{{"by the chain", 0}, {"by a read for all", 1}, {"by a read for each", connections}} {
		b.Run(bb.name, func(b *testing.B) {
			bs := open(b, nil)
			var told sync.WaitGroup
			viewer := bus.NewViewer(inbox("user-7"), false)
			for range connections {
				f, err := bs.FollowTickets(b.Context(), acme, bus.Cursor{}, deliverFunc(func(m *bus.Message) bool {
					if u, err := m.Update(viewer); err != nil || u == nil {
						b.Errorf("got %v, %v", u, err)
					}
					told.Done()
					return true
				}))
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(f.Close)
				f.Resume()
			}
			settleTickets(b, bs, acme)
			sees := inboxes(20)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				told.Add(connections)
				if err := bs.PublishUpdate(b.Context(), acme, fmt.Sprint("e", n), ticketUpdate("1", n), sees, []peal.Inbox{}); err != nil {
					b.Fatal(err)
				}
				if err := bs.ReadTickets(b.Context(), acme, uint64(n), bb.reads); err != nil {
					b.Fatal(err)
				}
				told.Wait()
			}
		})
	}
}
