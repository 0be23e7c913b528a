package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

func inboxes(n int) []peal.Inbox {
	all := make([]peal.Inbox, n)
	for i := range all {
		all[i] = inbox(fmt.Sprintf("user-%d", i))
	}
	return all
}

// count returns how many messages are stored in all partitions.
func count(t testing.TB, b *bus.Bus) (n uint64) {
	t.Helper()
	for name := range b.JetStream().StreamNames(t.Context()).Name() {
		s, err := b.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		n += s.CachedInfo().State.Msgs
	}
	return n
}

func TestPublishToManyOnce(t *testing.T) {
	for _, partitions := range []int{1, 4} {
		t.Run(fmt.Sprint(partitions, " partitions"), func(t *testing.T) {
			b := open(t, func(c *bus.Config) { c.Partitions = partitions })
			all := inboxes(1000)
			for _, tt := range []struct {
				name string
				id   string
				to   []peal.Inbox
				want bus.Published
			}{
				{"new", "n1", all, bus.Published{Stored: 1000}},
				{"again", "n1", all, bus.Published{Duplicates: 1000}},
				{"another, to half", "n2", all[:500], bus.Published{Stored: 500}},
				{"half of them new", "n2", all, bus.Published{Stored: 500, Duplicates: 500}},
				{"one known among many", "n3", all[700:701], bus.Published{Stored: 1}},
				{"all but one new", "n3", all, bus.Published{Stored: 999, Duplicates: 1}},
				{"one named twice", "n4", append(all[:10:10], all[:10]...), bus.Published{Stored: 10, Duplicates: 10}},
				{"nobody", "n5", nil, bus.Published{}},
			} {
				if got := publish(t, b, tt.id, tt.to...); got != tt.want {
					t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
				}
			}
			if got := count(t, b); got != 3010 {
				t.Errorf("%d messages stored, want 3010", got)
			}
			if s, d := b.Stats().Stored.Load(), b.Stats().Duplicates.Load(); s != 3010 || d != 1511 {
				t.Errorf("counted %d stored and %d duplicates, want 3010 and 1511", s, d)
			}
		})
	}
}

// JetStream looks for duplicates in the whole stream: an id must not be taken
// for another tenant's, namespace's or user's.
func TestSameIDForOthersIsNoDuplicate(t *testing.T) {
	b := open(t, nil)
	var all []peal.Inbox
	for _, tenant := range []peal.Tenant{acme, globex} {
		for _, ns := range []peal.Namespace{"staff", "customers"} {
			for _, user := range []peal.UserID{"jane", "joe"} {
				all = append(all, peal.Inbox{Tenant: tenant, Namespace: ns, User: user})
			}
		}
	}
	for _, in := range all {
		if got := publish(t, b, "n1", in); got.Stored != 1 {
			t.Errorf("%+v: %+v, want stored", in, got)
		}
	}
}

// What many publish at once is stored once each, in the order of each.
func TestManyPublishAtOnce(t *testing.T) {
	const publishers, each = 200, 20
	b := open(t, nil)
	var wg sync.WaitGroup
	sinks := make([]*sink, publishers)
	for i := range publishers {
		sinks[i] = follow(t, b, inboxes(publishers)[i], bus.Cursor{})
	}
	for i := range publishers {
		wg.Go(func() {
			for n := 1; n <= each; n++ {
				for range 1 + n%2 { // every other twice
					if _, err := b.Publish(t.Context(), telling(fmt.Sprintf("n%d", n), inbox(fmt.Sprintf("user-%d", i)))); err != nil {
						t.Errorf("publish: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	for i, s := range sinks {
		got := s.wait(each)
		for n, id := range ids(1, each) {
			if got[n] != id || len(got) != each {
				t.Fatalf("user %d got %v", i, got)
			}
		}
	}
	if got := count(t, b); got != publishers*each {
		t.Fatalf("%d stored, want %d", got, publishers*each)
	}
}

// What JetStream refuses to store must not count as stored, alone or in a batch.
func TestRefusedPublishIsAnError(t *testing.T) {
	b := open(t, nil)
	name, _ := b.StreamOf(inbox("jane"))
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = 10 // bytes: less than any notification has
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{1, 100} {
		if got, err := b.Publish(t.Context(), telling("n1", inboxes(to)...)); !errors.Is(err, peal.ErrUnavailable) {
			t.Errorf("to %d: %+v, %v, want unavailable", to, got, err)
		}
	}
	if n := count(t, b); n != 0 {
		t.Errorf("%d stored, want none", n)
	}
}

func TestPublishGivesUpWithItsContext(t *testing.T) {
	b, h := openHolding(t, writeConn, nil)
	release := h.hold()
	defer release()
	for name, tt := range map[string]struct {
		ctx  func() (context.Context, context.CancelFunc)
		want error
	}{
		"cancelled": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"late": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 10*time.Millisecond)
		}, peal.ErrUnavailable},
	} {
		ctx, cancel := tt.ctx()
		_, err := b.Publish(ctx, telling(name, inboxes(1)...))
		cancel()
		if !errors.Is(err, tt.want) || errors.Is(err, peal.ErrUnavailable) != (tt.want == peal.ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// Where JetStream does not answer, callers hear so in time however many wait,
// and what nobody waits for any more is not worked off.
func TestPublishWithoutAnswer(t *testing.T) {
	const timeout = time.Second
	b, h := openHolding(t, writeConn, func(c *bus.Config) { c.Timeout = timeout })
	release := h.hold()
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range 20 { // 20 groups, one after the other
		wg.Go(func() {
			_, err := b.Publish(t.Context(), telling(fmt.Sprint("held ", i), inboxes(1000)...))
			if !errors.Is(err, peal.ErrUnavailable) {
				t.Errorf("publish: %v, want unavailable", err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(begun); d > 10*timeout { // and not 20, with room for a slow machine
		t.Errorf("that took %v, want about %v", d, timeout)
	}
	release()
	eventually(t, "the queue is empty", func() bool { return b.Queued() == 0 })
	publishUntil(t, b, "after", inboxes(1)[0])
	if n := count(t, b); n > 3001 {
		t.Errorf("%d stored, want what nobody waited for dropped", n)
	}
}

// What waits to be stored is bounded: beyond it callers are refused at once.
func TestQueueIsBounded(t *testing.T) {
	b, h := openHolding(t, writeConn, func(c *bus.Config) { c.Timeout = time.Minute })
	release := h.hold()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const calls, fit = bus.MaxQueued/1000 + 10, bus.MaxQueued / 1000
	var refused atomic.Int64
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			switch _, err := b.Publish(ctx, telling(fmt.Sprint("n", i), inboxes(1000)...)); {
			case errors.Is(err, peal.ErrUnavailable):
				refused.Add(1)
			case !errors.Is(err, context.Canceled):
				t.Errorf("publish: %v, want unavailable or cancelled", err)
			}
		})
	}
	// All but those in the queue and the one that is under way.
	eventually(t, "some are refused", func() bool { return refused.Load() >= calls-fit-1 })
	if n := b.Queued(); n > bus.MaxQueued {
		t.Errorf("%d wait, want at most %d", n, bus.MaxQueued)
	}
	cancel()
	wg.Wait()
	if n := refused.Load(); n > calls-fit {
		t.Errorf("%d of %d calls refused, want no more than need be", n, calls)
	}
	release()
	if got := publish(t, b, "after", inboxes(1)...); got.Stored != 1 {
		t.Errorf("afterwards: %+v, want stored", got)
	}
}

// Whoever publishes while the bus closes has an answer, and a true one.
func TestCloseWhilePublishing(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	var stored atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for n := 0; ; n++ {
				_, err := b.Publish(context.Background(), telling(fmt.Sprint(n), inboxes(20)[i:i+1]...))
				if err != nil {
					if !errors.Is(err, peal.ErrUnavailable) {
						t.Errorf("publish on a closed bus: %v, want unavailable", err)
					}
					return
				}
				stored.Add(1)
			}
		})
	}
	eventually(t, "they publish", func() bool { return stored.Load() > 100 })
	b.Close()
	wg.Wait()
	// Every inbox keeps 500; with fewer, what was acknowledged is what is there.
	if n := stored.Load(); n < 20*500 {
		if got := count(t, openOn(t, s, nil)); got != uint64(n) {
			t.Errorf("%d stored, %d acknowledged", got, n)
		}
	}
}

// Run it with -benchtime 2s -cpu 2; docs/bench.md has the figures.
func BenchmarkPublish(b *testing.B) {
	for _, synced := range []bool{true, false} {
		for _, bm := range []struct {
			name     string
			parallel int // publishers at once
			to       int // recipients of a call
		}{{"single", 1, 1}, {"parallel-8", 8, 1}, {"parallel-256", 256, 1}, {"recipients-500", 1, 500}} {
			b.Run(fmt.Sprintf("synced=%t/%s", synced, bm.name), func(b *testing.B) {
				s, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Store: 8 << 30, Unsynced: !synced})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(s.Close)
				bu := openOn(b, s, nil)
				all := inboxes(bm.to)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range bm.parallel {
					wg.Go(func() {
						for {
							n := next.Add(1)
							if n > int64(b.N) {
								return
							}
							if _, err := bu.Publish(b.Context(), telling(fmt.Sprint(n), all...)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N*bm.to)/b.Elapsed().Seconds(), "stored/s")
			})
		}
	}
}

// BenchmarkPublishDuplicates repeats a call whose notifications are all known,
// which costs the halving of the batch.
func BenchmarkPublishDuplicates(b *testing.B) {
	s, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Store: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	bu := openOn(b, s, nil)
	all := inboxes(1000)
	publish(b, bu, "n1", all...)
	for b.Loop() {
		publish(b, bu, "n1", all...)
	}
}
