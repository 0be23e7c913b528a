package bus_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

var (
	slotRounds  = flag.Int("slot.rounds", 6, "rounds of the test of slots under races")
	slotCallers = flag.Int("slot.callers", 1000, "callers who go while they take a slot")
)

// route is that of the slots of these tests.
const route = "notifications"

// shortSlots has slots expire soon.
func shortSlots(c *bus.Config) { c.SlotTTL = 2 * time.Second }

// loss is told when a slot is lost.
type loss chan struct{}

func newLoss() loss      { return make(loss, 10) }
func (l loss) lost()     { l <- struct{}{} }
func (l loss) told() int { return len(l) }

func (l loss) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-l:
	case <-time.After(patience(t)):
		t.Fatalf("%s is not lost", what)
	}
}

func take(t *testing.T, b *bus.Bus, in peal.Inbox, most int, lost func()) *bus.Slot {
	t.Helper()
	s, err := b.TakeSlot(t.Context(), in, route, most, lost)
	if err != nil {
		t.Fatalf("take a slot: %v", err)
	}
	return s
}

// full reports whether a user has no slot left, and gives back the one it takes to
// find out.
func full(t *testing.T, b *bus.Bus, in peal.Inbox, most int) bool {
	t.Helper()
	s, err := b.TakeSlot(t.Context(), in, route, most, unwanted(t))
	if err == nil {
		s.Release()
	} else if !errors.Is(err, peal.ErrTooManyConnections) {
		t.Fatalf("take a slot: %v", err)
	}
	return err != nil
}

// unwanted is the lost of a slot that must not be.
func unwanted(t *testing.T) func() { return func() { t.Error("a slot was lost") } }

// holders reads who holds the slots and claims of a user, by key, past the bus.
func holders(t *testing.T, js jetstream.JetStream, in peal.Inbox) map[string]string {
	t.Helper()
	all, err := readHolders(t.Context(), js, in)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func readHolders(ctx context.Context, js jetstream.JetStream, in peal.Inbox) (map[string]string, error) {
	kv, err := js.Stream(ctx, limitStream)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for _, key := range []string{route + ".0", route + ".1", route + ".2", route + ".3", route + ".4", "claim.desk", "claim.phone"} {
		m, err := kv.GetLastMsgForSubject(ctx, slotSubject(in, key))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return nil, err
		case len(m.Data) > 0:
			all[key] = string(m.Data)
		}
	}
	return all, nil
}

// slotSubject is where the holder of a user's slot or claim is stored.
func slotSubject(in peal.Inbox, key string) string {
	return fmt.Sprintf("$KV.PEAL_LIMIT_local.%s.%s.%s.%s", in.Tenant, in.Namespace, bus.Escape(string(in.User)), key)
}

// Of 200 that connect at the same moment over three processes, exactly as many are
// let in as there are slots; and as soon as they are given back, others are.
func TestSlotsAreExactUnderRaces(t *testing.T) {
	t.Parallel()
	const most, at = 5, 200
	s := bustest.Server(t)
	patient := func(c *bus.Config) { c.Timeout = time.Minute }
	buses := []*bus.Bus{openOn(t, s, patient), openOn(t, s, patient), openOn(t, s, patient)}
	js := bustest.JetStream(t, s)
	for round := range *slotRounds {
		in := inbox(fmt.Sprint("jane", round%2)) // the one before has just given back
		var mu sync.Mutex
		var held []*bus.Slot
		var wg sync.WaitGroup
		for i := range at {
			wg.Go(func() {
				x, err := buses[i%3].TakeSlot(t.Context(), in, route, most, unwanted(t))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					held = append(held, x)
				case !errors.Is(err, peal.ErrTooManyConnections):
					t.Errorf("take a slot: %v", err)
				}
			})
		}
		wg.Wait()
		if len(held) != most {
			t.Fatalf("round %d: %d of %d have a slot, want %d", round, len(held), at, most)
		}
		if got := holders(t, js, in); len(got) != most {
			t.Fatalf("round %d: stored are %v, want %d", round, got, most)
		}
		for _, x := range held {
			x.Release()
		}
		for i, b := range buses {
			eventually(t, fmt.Sprint("a free slot, asked by ", i), func() bool { return !full(t, b, in, most) })
		}
		eventually(t, "all to be free", func() bool { return len(holders(t, js, in)) == 0 })
	}
}

// Who gives a slot back and takes one at once is not refused for the one that is about
// to be free, as whoever polls is with each answer.
func TestSlotIsTakenRightAfterItsRelease(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]int{"one": 1, "three": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			in := inbox("jane")
			for range most - 1 {
				take(t, b, in, most, unwanted(t))
			}
			for range 200 {
				take(t, b, in, most, unwanted(t)).Release()
			}
			kept := take(t, b, in, most, unwanted(t))
			if !full(t, b, in, most) {
				t.Errorf("%d are held, and another one was taken", most)
			}
			kept.Release()
		})
	}
}

// Limits are of a user on a route of a tenant.
func TestSlotsAreOfAUserAndRoute(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	jane := inbox("jane")
	take(t, b, jane, 1, unwanted(t))
	if !full(t, b, jane, 1) {
		t.Error("a second slot of one, want that it is refused")
	}
	for name, in := range map[string]peal.Inbox{
		"another user":      inbox("joe"),
		"another tenant":    {Tenant: globex, Namespace: "staff", User: "jane"},
		"another namespace": {Tenant: acme, Namespace: "other", User: "jane"},
		"an odd id":         inbox("*"),
	} {
		if full(t, b, in, 1) {
			t.Errorf("%s has no slot", name)
		}
	}
	if _, err := b.TakeSlot(t.Context(), jane, "updates", 1, unwanted(t)); err != nil {
		t.Errorf("another route: %v", err)
	}
}

// A name has one holder: who claimed it last. Who had it is told at once, and what
// they give back then frees nothing.
func TestClaimTakesOver(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	buses := []*bus.Bus{openOn(t, s, nil), openOn(t, s, nil)}
	jane := inbox("jane")
	claim := func(b *bus.Bus, lost func()) *bus.Slot {
		t.Helper()
		x, err := b.Claim(t.Context(), jane, "desk", lost)
		if err != nil {
			t.Fatalf("claim: %v", err)
		}
		return x
	}
	former, told := (*bus.Slot)(nil), newLoss()
	for i := range 20 {
		next := newLoss()
		x := claim(buses[(i/2)%2], next.lost) // of the same process, then of the other
		if former != nil {
			told.await(t, "the former claim")
			former.Release()
		}
		if got := holders(t, js, jane); len(got) != 1 {
			t.Fatalf("claim %d: stored are %v, want one", i, got)
		}
		former, told = x, next
	}
	if told.told() != 0 {
		t.Error("the last claim is lost")
	}
	other := newLoss()
	if _, err := buses[0].Claim(t.Context(), jane, "phone", other.lost); err != nil {
		t.Fatal(err)
	}
	former.Release()
	eventually(t, "the name to be free", func() bool { return len(holders(t, js, jane)) == 1 })
	if other.told() != 0 || told.told() != 0 {
		t.Error("a claim is lost by the release of another")
	}
}

// Many claim one name at once, in two processes: one has it in the end, and all
// others are told.
func TestClaimsAtOnceLeaveOne(t *testing.T) {
	t.Parallel()
	const claims = 40
	s := bustest.Server(t)
	buses := []*bus.Bus{openOn(t, s, shortSlots), openOn(t, s, shortSlots)}
	var lost atomic.Int64
	var wg sync.WaitGroup
	for i := range claims {
		wg.Go(func() {
			if _, err := buses[i%2].Claim(t.Context(), inbox("jane"), "desk", func() { lost.Add(1) }); err != nil {
				t.Errorf("claim: %v", err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all but one to be lost", func() bool { return lost.Load() == claims-1 })
	eventually(t, "one to be held", func() bool {
		return buses[0].Stats().SlotsHeld.Load()+buses[1].Stats().SlotsHeld.Load() == 1
	})
	if got := holders(t, bustest.JetStream(t, s), inbox("jane")); len(got) != 1 {
		t.Errorf("stored are %v, want one", got)
	}
}

// However a caller goes while a slot is taken, it holds none.
func TestSlotsOfCallersWhoGoDoNotLeak(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	b := openOn(t, s, nil)
	var wg sync.WaitGroup
	room := make(chan struct{}, 64)
	for range *slotCallers {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stop := time.AfterFunc(rand.N(2*time.Millisecond), cancel)
			defer stop.Stop()
			x, err := b.TakeSlot(ctx, inbox(fmt.Sprint("user", rand.IntN(8))), route, 5, unwanted(t))
			switch {
			case err == nil:
				x.Release()
			case !errors.Is(err, context.Canceled) && !errors.Is(err, peal.ErrTooManyConnections):
				t.Errorf("take a slot: %v", err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		in := inbox(fmt.Sprint("user", i))
		eventually(t, "all to be free", func() bool { return len(holders(t, js, in)) == 0 })
		for range 5 {
			take(t, b, in, 5, unwanted(t))
		}
	}
	if held := b.Stats().SlotsHeld.Load(); held != 40 {
		t.Errorf("%d slots are held, want 40", held)
	}
}
