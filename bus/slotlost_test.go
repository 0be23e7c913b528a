package bus_test

import (
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// NATS outside of the process comes back without what was in its memory, or somebody has
// deleted the bucket: a process that has not stored its slots again yet keeps them all
// the same, and nobody else gets one.
func TestNobodyGainsASlotThatWasLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *server.Server, *server.Options) *server.Server{
		"NATS is started again": func(t *testing.T, s *server.Server, o *server.Options) *server.Server {
			_, port, err := net.SplitHostPort(s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s.Shutdown()
			s.WaitForShutdown()
			return natsServer(t, func(again *server.Options) {
				again.StoreDir = o.StoreDir
				again.Port, _ = strconv.Atoi(port)
			})
		},
		"the bucket is deleted": func(t *testing.T, s *server.Server, _ *server.Options) *server.Server {
			if err := newAdmin(t, s.Addr().String()).DeleteStream(t.Context(), limitStream); err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var opts *server.Options
			s := natsServer(t, func(o *server.Options) { opts = o })
			cfg := at(s, "")
			cfg.SlotTTL = 6 * time.Second // two seconds a turn
			b, other := openAt(t, cfg), openAt(t, cfg)
			jane := inbox("jane")
			const most = 3
			for range most {
				take(t, b, jane, most, unwanted(t)) // at once: the region is new
			}
			take(t, other, inbox("joe"), most, unwanted(t))
			eventually(t, "the region to be as old as slots get", func() bool {
				first, err := newAdmin(t, s.Addr().String()).Stream(t.Context(), "PEAL_INBOX_local_0")
				return err == nil && first.CachedInfo().TimeStamp.Sub(first.CachedInfo().Created) > cfg.SlotTTL
			})

			for range 2 { // what was lost once may be lost again
				resume := b.HoldSlots()
				t.Cleanup(resume)
				s = lose(t, s, opts)
				eventually(t, "it to be seen that slots were lost", func() bool {
					_, err := other.TakeSlot(t.Context(), jane, route, most, unwanted(t))
					if !errors.Is(err, peal.ErrUnavailable) {
						t.Fatalf("somebody's slot is given away: %v", err)
					}
					return errors.Is(err, bus.ErrSlotsLost)
				})
				resume()
				eventually(t, "all to have stored theirs again", func() bool {
					x, err := other.TakeSlot(t.Context(), jane, route, most, unwanted(t))
					if err == nil {
						x.Release()
						t.Fatal("there is one more than there may be")
					}
					return errors.Is(err, peal.ErrTooManyConnections)
				})
			}
			take(t, other, inbox("jim"), most, unwanted(t))
			third := openAt(t, cfg)
			take(t, third, inbox("jim"), most, unwanted(t))
		})
	}
}
