package bus_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

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
			cfg.SlotTTL, cfg.Timeout = 30*time.Second, 5*time.Second // ten seconds until slots are free
			b, other := openAt(t, cfg), openAt(t, cfg)
			jane := inbox("jane")
			const most = 3
			for range most {
				take(t, b, jane, most, unwanted(t)) // at once: the region is new
			}
			take(t, other, inbox("joe"), most, unwanted(t))
			admin := newAdmin(t, s.Addr().String())
			held := holders(t, admin, jane)
			outlive(t, admin, cfg.SlotTTL)

			for range 2 { // what was lost once may be lost again
				resume := b.HoldSlots()
				t.Cleanup(resume)
				var seen atomic.Bool
				stop := takers(t, other, jane, most, func() { seen.Store(true); resume() })
				s = lose(t, s, opts)
				eventually(t, "it to be seen that slots were lost", seen.Load)
				eventually(t, "all to have stored theirs again", func() bool {
					x, err := other.TakeSlot(t.Context(), jane, route, most, unwanted(t))
					if err == nil {
						x.Release()
						t.Fatal("there is one more than there may be")
					}
					stored, _ := readHolders(t.Context(), admin, jane)
					return errors.Is(err, peal.ErrTooManyConnections) && maps.Equal(held, stored)
				})
				stop()
			}
			third := openAt(t, cfg)
			for _, anyone := range []*bus.Bus{other, third} {
				eventually(t, "a slot for somebody else", func() bool {
					_, err := anyone.TakeSlot(t.Context(), inbox("jim"), route, most, unwanted(t))
					return err == nil
				})
			}
		})
	}
}

// Who was too fast may have stored something in the place of a slot that was lost, before
// giving it up: whose the slot is has it again then.
func TestALostSlotIsHeldAgainThoughAnotherWasThere(t *testing.T) {
	t.Parallel()
	s := natsServer(t, func(*server.Options) {})
	cfg := at(s, "")
	cfg.SlotTTL, cfg.Timeout = 30*time.Second, 3*time.Second // ten seconds a turn, and six until slots are free
	b, other := openAt(t, cfg), openAt(t, cfg)
	jane := inbox("jane")
	const most = 3
	for range most {
		take(t, b, jane, most, unwanted(t))
	}
	admin := newAdmin(t, s.Addr().String())
	held := holders(t, admin, jane)
	outlive(t, admin, cfg.SlotTTL)

	resume := b.HoldSlots()
	t.Cleanup(resume)
	var seen atomic.Bool
	stop := takers(t, other, jane, most, func() { seen.Store(true) })
	if err := admin.DeleteStream(t.Context(), limitStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be seen that slots were lost", seen.Load)
	for number := range most - 1 {
		if _, err := admin.Publish(t.Context(), slotSubject(jane, slotKey(number)), []byte("too-fast")); err != nil {
			t.Fatal(err)
		}
	}
	resume()
	last := slotKey(most - 1)
	eventually(t, "the other slot to be held again", func() bool { return holders(t, admin, jane)[last] == held[last] })
	bucket, err := admin.Stream(t.Context(), limitStream)
	if err != nil {
		t.Fatal(err)
	}
	for number := range most - 1 {
		if err := bucket.Purge(t.Context(), jetstream.WithPurgeSubject(slotSubject(jane, slotKey(number)))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all to be held again", func() bool { return maps.Equal(held, holders(t, admin, jane)) })
	eventually(t, "slots to be free to be taken", func() bool {
		x, err := other.TakeSlot(t.Context(), inbox("jim"), route, most, unwanted(t))
		if err == nil {
			x.Release()
		}
		return err == nil
	})
	stop()
}

func slotKey(number int) string { return route + "." + strconv.Itoa(number) }

// outlive waits until the region is older than a slot can be that is not renewed.
func outlive(t *testing.T, js jetstream.JetStream, ttl time.Duration) {
	t.Helper()
	eventually(t, "the region to be as old as slots get", func() bool {
		first, err := js.Stream(t.Context(), "PEAL_INBOX_local_0")
		return err == nil && first.CachedInfo().TimeStamp.Sub(first.CachedInfo().Created) > ttl
	})
}

// takers want a slot of a user who has as many as may be, all the time until they are told
// to stop, and may not get any, not even one who has just seen that none was lost. lost is
// called when they hear that some were.
func takers(t *testing.T, b *bus.Bus, of peal.Inbox, most int, lost func()) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wanting sync.WaitGroup
	for range 4 {
		wanting.Go(func() {
			for tick := time.NewTicker(2 * time.Millisecond); ctx.Err() == nil; <-tick.C {
				switch x, err := b.TakeSlot(ctx, of, route, most, unwanted(t)); {
				case err == nil:
					x.Release()
					t.Error("somebody's slot is given away at the same moment")
					return
				case errors.Is(err, bus.ErrSlotsLost):
					lost()
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wanting.Wait() })
	t.Cleanup(stop)
	return stop
}
