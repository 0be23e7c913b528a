package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// Of these tests eu is the home of acme, and us that of globex.
func inRegion(r *regions, name bus.Region) bus.Config {
	return bus.Config{
		URLs: []string{r.url(string(name))}, Await: time.Minute, Region: name,
		Regions: []bus.Region{"eu", "us"}, Home: "eu", Homes: map[peal.Tenant]bus.Region{globex: "us"},
		Replicas: 1, Partitions: 2, TailCheck: 2 * time.Second,
	}
}

// openRegions opens a bus in each of the two regions.
func openRegions(t testing.TB, r *regions) (eu, us *bus.Bus) {
	t.Helper()
	opened := make(chan *bus.Bus, 1)
	go func() { opened <- openIn(t, r, "us") }() // each waits for the streams of the other
	eu = openIn(t, r, "eu")
	us = <-opened
	if eu == nil || us == nil {
		t.FailNow()
	}
	return eu, us
}

func openIn(t testing.TB, r *regions, name bus.Region) *bus.Bus {
	b, err := bus.Open(t.Context(), inRegion(r, name))
	if err != nil {
		t.Errorf("region %s: %v", name, err)
		return nil
	}
	t.Cleanup(b.Close)
	return b
}

// What a user has is the same in every region, whichever is asked.
func TestRegionsShareInboxes(t *testing.T) {
	t.Parallel()
	eu, us := openRegions(t, startRegions(t, "eu", "us", "wit"))
	jane, joe := inbox("jane"), peal.Inbox{Tenant: globex, Namespace: "staff", User: "joe"}

	there, here := follow(t, eu, jane, bus.Cursor{}), follow(t, us, jane, bus.Cursor{})
	ofJoe := follow(t, eu, joe, bus.Cursor{})
	for n := range 20 {
		b := []*bus.Bus{eu, us}[n%2]
		publish(t, b, fmt.Sprint("n", n+1), jane, joe)
	}
	for what, s := range map[string]*sink{"at home": there, "elsewhere": here, "of another home": ofJoe} {
		if diff := cmp.Diff(ids(1, 20), s.wait(20)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}

	// A client that moves goes on where it was, whether the copy has come so far or not.
	for n := range 20 {
		publish(t, us, fmt.Sprint("n", 21+n), jane)
		at := there.cursor(19 + n)
		for _, b := range []*bus.Bus{us, eu} {
			s := follow(t, b, jane, at)
			if got := s.wait(1)[0]; got != fmt.Sprint("n", 21+n) {
				t.Fatalf("after %v: got %s first, want n%d", at, got, 21+n)
			}
			s.feed.Close()
		}
		there.wait(21 + n)
	}

	for name, b := range map[string]*bus.Bus{"eu": eu, "us": us} {
		got, err := b.Count(t.Context(), jane)
		if err != nil || got.Unread != 40 {
			t.Errorf("%s counts %+v, %v, want 40", name, got, err)
		}
	}
	if _, err := us.Mark(t.Context(), jane, bus.Mark{All: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both follow the read state", func() bool {
		return there.unread() == 0 && here.unread() == 0
	})
	for name, b := range map[string]*bus.Bus{"eu": eu, "us": us} {
		if got, err := b.Count(t.Context(), jane); err != nil || got.Unread != 0 {
			t.Errorf("%s counts %+v, %v, want none", name, got, err)
		}
	}
}

// unread is what the sink was told last.
func (s *sink) unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.states) == 0 {
		return -1
	}
	return int(s.states[len(s.states)-1].Unread)
}

// What is stored for a user or a tenant acts in every region: preferences, queues, list
// updates, revocations, and what was purged.
func TestRegionsShareTheRest(t *testing.T) {
	t.Parallel()
	r := startRegions(t, "eu", "us", "wit")
	eu, us := openRegions(t, r)
	jane := inbox("jane")

	if err := us.SetPreferences(t.Context(), jane, peal.Preferences{Types: map[peal.Type]bool{peal.Mention: false}}, nil); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*bus.Bus{"eu": eu, "us": us} {
		eventually(t, "preferences act in "+name, func() bool {
			told, err := b.Tell(t.Context(), time.Now(), telling("unwanted-"+name+fmt.Sprint(time.Now().UnixNano()), jane))
			return err == nil && told.Stored == 0
		})
		if p, err := b.Preferences(t.Context(), jane); err != nil || p.Types[peal.Mention] {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if err := us.SetQueue(t.Context(), acme, "net", []peal.Inbox{jane}); err != nil {
		t.Fatal(err)
	}
	if got, err := eu.Queue(t.Context(), acme, "net"); err != nil || len(got) != 1 {
		t.Errorf("queue: %v, %v", got, err)
	}

	wall := followBy(t, eu, jane, "wall", bus.Cursor{})
	taken := followBy(t, us, jane, "wall", bus.Cursor{})
	if why := wall.loss(t); why != bus.TakenOver {
		t.Errorf("a durable that is opened in another region: lost by %v, want that it is taken over", why)
	}
	followBy(t, eu, jane, "wall", bus.Cursor{})
	if why := taken.loss(t); why != bus.TakenOver {
		t.Errorf("and back: lost by %v", why)
	}

	lists := followTickets(t, us, acme, bus.Cursor{})
	change(t, eu, acme, "1", 1)
	change(t, us, acme, "1", 2)
	if diff := cmp.Diff(updates("1", 1, 2), lists.wait(2)); diff != "" {
		t.Errorf("list updates (-want +got):\n%s", diff)
	}

	revoked := make(chan bus.Revoked, 100)
	defer eu.FollowRevocations(func(r bus.Revoked) { revoked <- r })()
	if _, err := us.Revoke(t.Context(), peal.Revocation{Realm: "acme", Session: "s"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-revoked:
		if got.Session != "s" {
			t.Errorf("revoked is %+v", got)
		}
	case <-time.After(patience(t)):
		t.Error("who is revoked in us is not in eu")
	}

	publish(t, eu, "n1", jane)
	at := lastIn(t, r, "us", "PEAL_INBOX_eu_0_in_us") + lastIn(t, r, "us", "PEAL_INBOX_eu_1_in_us")
	if at == 0 {
		eventually(t, "a copy of what is published", func() bool {
			return lastIn(t, r, "us", "PEAL_INBOX_eu_0_in_us")+lastIn(t, r, "us", "PEAL_INBOX_eu_1_in_us") > 0
		})
	}
	if p, err := us.Purge(t.Context(), jane); err != nil || p.Notifications == 0 || p.Preferences == 0 {
		t.Errorf("purge: %+v, %v", p, err)
	}
	for _, name := range []string{"PEAL_INBOX_eu_0", "PEAL_INBOX_eu_1", "PEAL_INBOX_eu_0_in_us", "PEAL_INBOX_eu_1_in_us", "KV_PEAL_PREF_eu_in_us"} {
		s, err := r.jetStream("eu").Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.CachedInfo().State.Msgs; n != 0 {
			t.Errorf("%s has %d messages after a purge", name, n)
		}
	}
}

func lastIn(t testing.TB, r *regions, at, stream string) uint64 {
	t.Helper()
	s, err := r.jetStream(at).Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// worked is told of the events of tenants, and tells inboxes of them.
func worked(t testing.TB, b *bus.Bus) {
	t.Helper()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		tenant, _, err := task.Of()
		var event struct{ ID string }
		if err = errors.Join(err, json.Unmarshal(task.Data, &event)); err == nil {
			_, err = b.Publish(ctx, telling(event.ID, peal.Inbox{Tenant: tenant, Namespace: "staff", User: "jane"}))
		}
		if err != nil {
			_ = task.Retry(100 * time.Millisecond)
			return
		}
		_ = task.Done(ctx) // else it is given out again
	})
}

// While a home is away, those of its tenants who are elsewhere have what has reached their
// region, what happens waits, and other tenants notice nothing. Nothing is lost, and
// nobody hears of a gap.
func TestHomeThatIsAway(t *testing.T) {
	t.Parallel()
	r := startRegions(t, "eu", "us", "wit")
	eu, us := openRegions(t, r)
	jane, other := inbox("jane"), peal.Inbox{Tenant: globex, Namespace: "staff", User: "jane"}
	worked(t, us)
	here := follow(t, us, jane, bus.Cursor{})
	ofOther := follow(t, us, other, bus.Cursor{})
	for n := range 10 {
		publish(t, eu, fmt.Sprint("n", n+1), jane)
	}
	here.wait(10)
	eventually(t, "the copy has everything", func() bool {
		return lastIn(t, r, "us", "PEAL_INBOX_eu_0_in_us")+lastIn(t, r, "us", "PEAL_INBOX_eu_1_in_us") == 10
	})
	last := here.cursor(9)

	r.kill("eu")
	killed := time.Now()
	served := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := newSink(t, -1)
		f, err := us.Follow(ctx, jane, here.cursor(4), s)
		if err != nil {
			return err
		}
		defer f.Close()
		f.Resume()
		if diff := cmp.Diff(ids(6, 10), s.wait(5)); diff != "" {
			t.Errorf("resumed while the home is away (-want +got):\n%s", diff)
		}
		if list, err := us.List(ctx, jane, bus.Query{Limit: 50}); err != nil || len(list.Entries) != 10 {
			return errors.Join(err, fmt.Errorf("%d notifications are listed", len(list.Entries)))
		}
		return nil
	}
	eventually(t, "clients elsewhere are served from the copy", func() bool { return served() == nil })
	t.Logf("served from the copy %v after the home was killed", time.Since(killed).Round(time.Millisecond))

	// A place that the copy does not have yet is none that nobody knows.
	beyond := last
	beyond.Seq += 3
	s := newSink(t, -1)
	f, err := us.Follow(t.Context(), jane, beyond, s)
	if err != nil || f.Start().Gap {
		t.Errorf("a place that the copy does not have: %+v, %v", f, err)
	} else {
		f.Close()
	}
	if _, err := us.Mark(t.Context(), jane, bus.Mark{All: true}); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("mark: %v, want that it is unavailable", err)
	}
	const waiting = 100 // of as many tickets: in every partition some wait
	for n := range waiting {
		accept(t, us, happened(fmt.Sprint("e", n+1), fmt.Sprint("t", n)))
	}
	if got := us.Accept(t.Context(), globex, happened("other", "t")); got[0].Err != nil {
		t.Fatal(got)
	}
	if got := ofOther.wait(1); got[0] != "other" {
		t.Errorf("another tenant is told %v", got)
	}

	r.start("eu")
	r.await("eu")
	got := here.wait(10 + waiting)
	seen := make(map[string]bool)
	for _, id := range got {
		if seen[id] || strings.HasPrefix(id, "gap") {
			t.Errorf("%s is told after %d others", id, len(seen))
		}
		seen[id] = true
	}
	for n := range waiting {
		if !seen[fmt.Sprint("e", n+1)] {
			t.Errorf("e%d is lost", n+1)
		}
	}
	eventually(t, "marks are taken again", func() bool {
		_, err := us.Mark(t.Context(), jane, bus.Mark{All: true})
		return err == nil
	})
}

// A copy that takes the place of its origin is the home's stream from then on: what had not
// reached it is lost, so every client hears of a gap, and goes on. The region that is back
// has copies of it, and no process has to be told.
func TestPromotion(t *testing.T) {
	t.Parallel()
	r := startRegions(t, "eu", "us", "wit")
	eu, us := openRegions(t, r)
	jane := inbox("jane")
	here := follow(t, us, jane, bus.Cursor{})
	for n := range 5 {
		publish(t, eu, fmt.Sprint("n", n+1), jane)
	}
	here.wait(5)
	if _, err := eu.Mark(t.Context(), jane, bus.Mark{IDs: []string{"n1", "n2"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copies have everything", func() bool {
		return lastIn(t, r, "us", "PEAL_INBOX_eu_0_in_us")+lastIn(t, r, "us", "PEAL_INBOX_eu_1_in_us") == 5 &&
			lastIn(t, r, "us", "PEAL_STATE_eu_0_in_us")+lastIn(t, r, "us", "PEAL_STATE_eu_1_in_us") == 1
	})
	before := here.cursor(4)
	eu.Close()
	r.kill("eu")

	// As docs/multi-region.md has it.
	js := r.jetStream("us")
	for name, subjects := range bus.Homed("eu", 2) {
		promoted := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return err
			}
			s, err := js.Stream(ctx, name+"_in_us")
			if err != nil {
				return err
			}
			cfg := s.CachedInfo().Config
			cfg.Mirror, cfg.MirrorDirect, cfg.Subjects = nil, false, []string{subjects}
			_, err = js.UpdateStream(ctx, cfg)
			return err
		}
		eventually(t, name+" is promoted", func() bool { return promoted() == nil })
	}
	s, err := bus.OpenStreams(t.Context(), inRegion(r, "us"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.RaiseEpochOf(t.Context(), "eu"); err != nil {
		t.Fatal(err)
	}

	if got := here.wait(6); got[5] != "gap "+string(bus.UnknownCursor) {
		t.Errorf("a follower hears %v, want a gap", got)
	}
	eventually(t, "what is published is taken", func() bool {
		_, err := us.Publish(t.Context(), telling("n6", jane))
		return err == nil
	})
	if got := here.wait(7); got[6] != "n6" {
		t.Errorf("then it hears %v, want n6", got)
	}
	if f := follow(t, us, jane, before); !f.feed.Start().Gap {
		t.Error("a cursor of before is believed")
	}
	if got, err := us.Count(t.Context(), jane); err != nil || got.Total != 6 || got.Unread != 4 {
		t.Errorf("count: %+v, %v, want 6 of which 4 are unread: what was read stays so", got, err)
	}
	if _, err := us.Mark(t.Context(), jane, bus.Mark{All: true}); err != nil {
		t.Error(err)
	}

	r.start("eu")
	r.await("eu")
	if eu = openIn(t, r, "eu"); eu == nil {
		t.FailNow()
	}
	there := follow(t, eu, jane, here.cursor(6))
	publish(t, eu, "n7", jane)
	if got := there.wait(1); got[0] != "n7" {
		t.Errorf("in the region that is back a client hears %v, want n7 alone", got)
	}
	if got, err := eu.Count(t.Context(), jane); err != nil || got.Total != 7 || got.Unread != 1 {
		t.Errorf("count in the region that is back: %+v, %v, want 7 of which 1 is unread", got, err)
	}
}
