package bus_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// others is how many inboxes of other users share the stream, with a
// notification each.
var others = []int{0, 1_000_000}

// BenchmarkInbox reads an inbox of 500, spread over its stream, which is empty
// otherwise or holds a million inboxes more. p50 and p99 are of one call.
func BenchmarkInbox(b *testing.B) {
	for _, n := range others {
		name := "alone"
		if n > 0 {
			name = fmt.Sprint("beside-", n)
		}
		b.Run(name, func(b *testing.B) {
			bb := bustest.New(b, func(c *bus.Config) { c.Timeout = time.Minute })
			jane := inbox("jane")
			fill(b, bb, jane, 500, n)
			if _, err := bb.Mark(b.Context(), jane, bus.Mark{IDs: []string{"n3", "n77", "n300"}}); err != nil {
				b.Fatal(err)
			}
			for _, call := range []struct {
				name string
				run  func(context.Context) error
			}{
				{"list-50", func(ctx context.Context) error {
					p, err := bb.List(ctx, jane, bus.Query{Limit: 50})
					if err == nil && len(p.Entries) != 50 {
						err = fmt.Errorf("%d entries", len(p.Entries))
					}
					return err
				}},
				{"count", func(ctx context.Context) error {
					c, err := bb.Count(ctx, jane)
					if err == nil && c.Unread != 497 {
						err = fmt.Errorf("%d unread", c.Unread)
					}
					return err
				}},
				{"connect", func(ctx context.Context) error {
					f, err := bb.Follow(ctx, jane, bus.Cursor{}, deliverFunc(func(*bus.Message) bool { return true }))
					if err == nil {
						f.Close()
					}
					return err
				}},
			} {
				for _, first := range []bool{false, true} { // whether it is the first call that this process makes for the inbox
					if first && call.name == "connect" {
						continue // reads none of what is kept
					}
					name := call.name
					if first {
						name += "-first"
					}
					b.Run(name, func(b *testing.B) {
						if err := call.run(b.Context()); err != nil { // warm
							b.Fatal(err)
						}
						var took []time.Duration
						for b.Loop() {
							if first {
								bb.Forget(jane)
							}
							began := time.Now()
							if err := call.run(b.Context()); err != nil {
								b.Fatal(err)
							}
							took = append(took, time.Since(began))
						}
						slices.Sort(took)
						b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
						b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
					})
				}
			}
		})
	}
}

// fill publishes notifications to an inbox, and evenly between them one to each
// of some others.
func fill(b *testing.B, bb *bus.Bus, in peal.Inbox, own, others int) {
	b.Helper()
	sent := 0
	for i := range own {
		publish(b, bb, fmt.Sprint("n", i), in)
		for until := others * (i + 1) / own; sent < until; {
			var to []peal.Inbox
			for ; sent < until && len(to) < 1000; sent++ {
				to = append(to, inbox(fmt.Sprint("other-", sent)))
			}
			publish(b, bb, "o", to...)
		}
	}
}
