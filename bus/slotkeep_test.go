package bus_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

const limitStream = "KV_PEAL_LIMIT_local"

// A process that is cut off keeps its slots for the TTL, and not for longer. When it is
// back, and others have them, it is told; and when others have left some, it takes
// those, and nobody is.
func TestSlotsOfWhoIsCutOffExpire(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]bool{"and all are taken": false, "and one is left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 2
			b, w := openWire(t, t.TempDir(), shortSlots)
			other := openOn(t, w.server, shortSlots)
			jane, told := inbox("jane"), newLoss()
			x := take(t, b, jane, most, told.lost)
			for range most - 1 {
				take(t, other, jane, most, unwanted(t))
			}
			if !full(t, other, jane, most) {
				t.Fatal("there is one slot too many")
			}
			// It is renewed for longer than it would last.
			for began := time.Now(); time.Since(began) < 3*time.Second; {
				if !full(t, other, jane, most) {
					t.Fatal("a slot is free that is held")
				}
			}

			cut := time.Now()
			mend := w.cut()
			eventually(t, "the slot to expire", func() bool { return !full(t, other, jane, most) })
			if d := time.Since(cut); d < time.Second { // it was renewed at most a third of 2 s before
				t.Errorf("it is free after %v, want after 2 s", d)
			}
			if !left {
				take(t, other, jane, most, unwanted(t))
			}
			if told.told() != 0 {
				t.Error("who is cut off is told of a loss that nobody can know of")
			}
			mend()
			if !left {
				told.await(t, "the slot that another has")
				x.Release()
				if !full(t, other, jane, most) {
					t.Error("the release of a lost slot has freed another's")
				}
				return
			}
			heldAgain(t, bustest.JetStream(t, w.server), jane, most)
			if told.told() != 0 {
				t.Error("it is lost, though none was taken")
			}
		})
	}
}

// A slot that somebody else has by now is not freed by who held it before.
func TestReleaseFreesNothingOfOthers(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b, js := openOn(t, s, nil), bustest.JetStream(t, s)
	jane := inbox("jane")
	x := take(t, b, jane, 1, unwanted(t))
	if _, err := js.Publish(t.Context(), slotSubject(jane, route+".0"), []byte("another")); err != nil {
		t.Fatal(err)
	}
	y := take(t, b, inbox("joe"), 1, unwanted(t))
	x.Release()
	y.Release()
	x.Release()
	eventually(t, "the release", func() bool { return len(holders(t, js, inbox("joe"))) == 0 })
	if got := holders(t, js, jane)[route+".0"]; got != "another" {
		t.Errorf("the slot is held by %q, want by another", got)
	}
	if held := b.Stats().SlotsHeld.Load(); held != 0 {
		t.Errorf("%d slots are held, want none", held)
	}
}

// JetStream comes back empty, or somebody has deleted the bucket: who holds slots holds
// them again, before others have taken all.
func TestSlotsOutliveTheirBucket(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *wire, string){
		"JetStream is started again": func(t *testing.T, w *wire, dir string) {
			w.stop()
			w.start(t, dir)
		},
		"the bucket is deleted": func(t *testing.T, w *wire, _ string) {
			if err := bustest.JetStream(t, w.server).DeleteStream(t.Context(), limitStream); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b, w := openWire(t, dir, shortSlots)
			const users, most = 20, 3
			for i := range users * most {
				take(t, b, inbox(fmt.Sprint("user", i%users)), most, unwanted(t))
			}
			claim := newLoss()
			if _, err := b.Claim(t.Context(), inbox("jane"), "desk", claim.lost); err != nil {
				t.Fatal(err)
			}
			lose(t, w, dir)
			other := openOn(t, w.server, shortSlots)
			js := bustest.JetStream(t, w.server)
			eventually(t, "all slots to be held again", func() bool {
				bucket, err := js.Stream(t.Context(), limitStream)
				return err == nil && bucket.CachedInfo().State.Msgs == users*most+1
			})
			for i := range users {
				if !full(t, other, inbox(fmt.Sprint("user", i)), most) {
					t.Errorf("user %d has one too many", i)
				}
			}
			if held := b.Stats().SlotsHeld.Load(); held != users*most+1 || claim.told() != 0 {
				t.Errorf("%d slots are held, want %d", held, users*most+1)
			}
		})
	}
}

// While the bucket is away, nobody is let in and nobody is told of a loss; a slot that
// may have been stored without an answer is freed long before it expires.
func TestSlotWithoutAnAnswerIsFreed(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	h := &holding{wire: &wire{server: s}, n: writeConn}
	b := openOn(t, s, func(c *bus.Config) { c.Server, c.Timeout = h, 500*time.Millisecond })
	jane := inbox("jane")
	take(t, b, jane, 5, unwanted(t))
	release := h.hold()
	if _, err := b.TakeSlot(t.Context(), jane, route, 5, unwanted(t)); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("take a slot: %v, want unavailable", err)
	}
	eventually(t, "it to be stored all the same", func() bool { return len(holders(t, js, jane)) == 2 })
	began := time.Now()
	if _, err := b.TakeSlot(t.Context(), jane, route, 5, unwanted(t)); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("take a slot: %v, want unavailable", err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("refused after %v, want soon", d)
	}
	release()
	eventually(t, "the slot of nobody to be freed", func() bool { return len(holders(t, js, jane)) == 1 })
}

// A server that says nothing says nothing of slots: they are kept, for longer than they
// are stored, and held again when it does.
func TestSlotsAreKeptWhileNothingIsSaid(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	h := &holding{wire: &wire{server: s}, n: writeConn}
	b := openOn(t, s, func(c *bus.Config) {
		shortSlots(c)
		c.Server, c.Timeout = h, 300*time.Millisecond
	})
	other := openOn(t, s, shortSlots)
	const users = 50
	var lost atomic.Int64
	for i := range users {
		take(t, b, inbox(fmt.Sprint("user", i)), 1, func() { lost.Add(1) })
	}
	release := h.hold()
	time.Sleep(4 * time.Second) // twice as long as a slot lasts: nothing is to happen
	if n := lost.Load(); n != 0 {
		t.Errorf("%d slots are taken to be lost", n)
	}
	release()
	js := bustest.JetStream(t, s)
	for i := range users {
		heldAgain(t, js, inbox(fmt.Sprint("user", i)), 1)
		if !full(t, other, inbox(fmt.Sprint("user", i)), 1) {
			t.Errorf("user %d has one too many", i)
		}
	}
	if held := b.Stats().SlotsHeld.Load(); held != users || lost.Load() != 0 {
		t.Errorf("%d slots are held and %d are lost, want %d and none", held, lost.Load(), users)
	}
}

// Slots that can't be asked for are counted here, and are taken as soon as they can be.
func TestSlotTakenLater(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), shortSlots)
	other := openOn(t, w.server, shortSlots)
	jane := inbox("jane")
	take(t, b, jane, 2, unwanted(t))
	mend := w.cut()
	told := newLoss()
	if _, err := b.TakeSlotLater(jane, route, 2, told.lost); err != nil {
		t.Fatal(err)
	}
	if _, err := b.TakeSlotLater(jane, route, 2, unwanted(t)); !errors.Is(err, peal.ErrTooManyConnections) {
		t.Errorf("a third of two: %v, want that it is refused", err)
	}
	mend()
	heldAgain(t, bustest.JetStream(t, w.server), jane, 2)
	if told.told() != 0 {
		t.Error("it is lost")
	}
	if !full(t, other, jane, 2) {
		t.Error("there is one slot too many")
	}
}

// heldAgain waits until so many of a user's slots are held. To see that by taking one
// would be to take it from who is about to.
func heldAgain(t *testing.T, js jetstream.JetStream, in peal.Inbox, n int) {
	t.Helper()
	eventually(t, "the slots to be held again", func() bool { return len(holders(t, js, in)) == n })
}

// A process that ends frees what it holds.
func TestCloseFreesSlots(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	b, err := bus.Open(t.Context(), bus.Config{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		take(t, b, inbox(fmt.Sprint("user", i)), 1, unwanted(t))
	}
	b.Close()
	eventually(t, "all to be free", func() bool {
		bucket, err := js.Stream(t.Context(), limitStream)
		return err == nil && bucket.CachedInfo().State.Msgs == 0
	})
}

// A slot of a user who is let in and goes takes two publishes; with NATS in another
// process also a question whether the bucket is still the one that it was, which those
// share who come together.
func BenchmarkTakeSlot(b *testing.B) {
	for place, o := range map[string]func(*testing.B) *bus.Bus{
		"embedded": func(b *testing.B) *bus.Bus { return openOn(b, bustest.Server(b), nil) },
		"outside":  func(b *testing.B) *bus.Bus { return openAt(b, at(natsServer(b, nil), "")) },
	} {
		b.Run(place+"/one", func(b *testing.B) { takeSlots(b, o(b), 1) })
		b.Run(place+"/100", func(b *testing.B) { takeSlots(b, o(b), 100) })
	}
}

// takeSlots takes slots of a user each, so many at a time, and gives each back.
func takeSlots(b *testing.B, o *bus.Bus, atOnce int) {
	var users atomic.Int64
	b.SetParallelism(max(1, atOnce/runtime.GOMAXPROCS(0)))
	if atOnce == 1 {
		for b.Loop() {
			takeSlot(b, o, users.Add(1))
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			takeSlot(b, o, users.Add(1))
		}
	})
}

func takeSlot(b *testing.B, o *bus.Bus, user int64) {
	x, err := o.TakeSlot(context.Background(), inbox(fmt.Sprint("user", user)), route, 5, func() {})
	if err != nil {
		b.Error(err)
		return
	}
	x.Release()
}

// All slots of a process are renewed, as far as they can be at once.
func BenchmarkRenewSlots(b *testing.B) {
	const held = 18_000
	s := bustest.Server(b)
	o := openOn(b, s, func(c *bus.Config) { c.SlotTTL = 12 * time.Second }) // turns in half a second
	for i := range held {
		if _, err := o.TakeSlot(b.Context(), inbox(fmt.Sprint("user", i)), route, 5, func() {}); err != nil {
			b.Fatal(err)
		}
	}
	js := bustest.JetStream(b, s)
	last := func() uint64 {
		bucket, err := js.Stream(b.Context(), limitStream)
		if err != nil {
			b.Fatal(err)
		}
		return bucket.CachedInfo().State.LastSeq
	}
	for b.Loop() {
		from := last()
		o.HurrySlots()
		for last() < from+held {
			time.Sleep(time.Millisecond)
		}
	}
	b.ReportMetric(held*float64(b.N)/b.Elapsed().Seconds(), "slots/s")
}
