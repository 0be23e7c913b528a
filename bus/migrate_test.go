package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// household is a region in which something of everything has happened.
type household struct {
	t       *testing.T
	inboxes []peal.Inbox
	old     map[peal.Inbox]bus.Cursor // after the second notification of each
	waiting []string                  // events that nobody has worked on, in their order
}

func newHousehold(t *testing.T, s *embedded.Server) *household {
	t.Helper()
	h := &household{t: t, inboxes: inboxes(12), old: make(map[peal.Inbox]bus.Cursor)}
	b := openOn(t, s, func(c *bus.Config) { c.Partitions, c.PerInbox = 3, 6 })
	defer b.Close()
	for i := range 9 { // over the bound
		publish(t, b, fmt.Sprint("n", i), h.inboxes...)
	}
	for i, in := range h.inboxes {
		markAs(t, b, in, bus.Mark{IDs: []string{fmt.Sprint("n", 3+i%4), fmt.Sprint("n", 8-i%3)}})
		page, err := b.List(t.Context(), in, bus.Query{})
		if err != nil {
			t.Fatal(err)
		}
		h.old[in] = page.Entries[3].Cursor
		if err := b.SetPreferences(t.Context(), in, peal.Preferences{MutedTickets: []string{fmt.Sprint(i)}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SetQueue(t.Context(), acme, "net", h.inboxes[:3]); err != nil {
		t.Fatal(err)
	}
	if err := b.PublishUpdate(t.Context(), acme, "e1", ticketUpdate("1", 1), h.inboxes[:2], h.inboxes[2:3]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Revoke(t.Context(), peal.Revocation{Realm: "acme", Session: "s"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if first, err := b.Once(t.Context(), time.Hour, "acme", "jti"); err != nil || !first {
		t.Fatal(first, err)
	}

	events := func(prefix string, n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint(prefix, i))
			accept(t, b, happened(all[i], fmt.Sprint("ticket-", i%2)))
		}
		return all
	}
	done := newFinished()
	stop := work(t, b, func(ctx context.Context, task *bus.Task) {
		name := nameOf(t, task)
		var err error
		if strings.HasPrefix(name, "bad") {
			err = task.Bury(ctx, name, "it is bad")
		} else {
			err = task.Done(ctx)
		}
		if err != nil {
			t.Error(err)
		}
		done.note(name)
	})
	events("done", 5)
	events("bad", 2)
	done.wait(t, 7)
	stop()
	h.waiting = events("waiting", 6)
	if _, err := b.Purge(t.Context(), h.inboxes[11]); err != nil {
		t.Fatal(err)
	}
	return h
}

// tells is what the region has for all who ask.
func (h *household) tells(b *bus.Bus) (all []string) {
	h.t.Helper()
	ctx := h.t.Context()
	say := func(what string, v any, err error) {
		if err != nil {
			h.t.Fatalf("%s: %v", what, err)
		}
		all = append(all, fmt.Sprintf("%s: %+v", what, v))
	}
	for _, in := range h.inboxes {
		page, err := b.List(ctx, in, bus.Query{})
		for _, e := range page.Entries {
			say("entry", fmt.Sprintf("%v %v %s", e.Cursor, e.Read, e.Data), err)
		}
		say("list", fmt.Sprint(page.Cursor, page.ReadState), err)
		count, err := b.Count(ctx, in)
		say("count", count, err)
		preferences, err := b.Preferences(ctx, in)
		say("preferences", string(preferences.Encode()), err)
	}
	queue, err := b.Queue(ctx, acme, "net")
	say("queue", queue, err)
	dead, _, err := b.DeadLetters(ctx, acme, "", 10)
	say("dead letters", dead, err)
	used, err := b.Used(ctx, "acme", "jti")
	say("used", used, err)
	backlog, err := b.Backlog(ctx)
	say("waiting", backlog.Waiting, err)
	revoked := followRevocations(h.t, b)
	revoked.mu.Lock()
	defer revoked.mu.Unlock()
	say("revoked", revoked.all, nil)
	return all
}

// Everything comes along: what users have, where they have been, what they have read,
// and what is still to be worked on; and an end in the middle is gone on from.
func TestMigrate(t *testing.T) {
	origin, copied := bustest.Server(t), bustest.Server(t)
	h := newHousehold(t, origin)
	before := openOn(t, origin, nil)
	want := h.tells(before)
	before.Close()
	from := openStreams(t, origin, nil)
	to := openStreams(t, copied, nil)

	const streams = 3 + 3 + 4 + 3 // inboxes, read states, others, buckets
	migrate := func(upTo int, dry bool) (all []bus.Migrated, err error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = to.Migrate(ctx, from, dry, func(m bus.Migrated) {
			if all = append(all, m); len(all) == upTo {
				cancel()
			}
		})
		return all, err
	}
	if all, err := migrate(0, true); err != nil || len(all) != streams || len(configs(t, bustest.JetStream(t, copied))) != 0 {
		t.Fatalf("a dry run: %+v, %v, want %d streams and nothing done", all, err, streams)
	}
	for _, upTo := range []int{1, 4, streams} {
		if all, err := migrate(upTo, false); !errors.Is(err, context.Canceled) || len(all) != upTo {
			t.Fatalf("stopped after %d: %d streams, %v", upTo, len(all), err)
		}
		if b, err := bus.Open(t.Context(), bus.Config{Server: copied}); err == nil || !strings.Contains(err.Error(), "peal admin migrate") {
			if err == nil {
				b.Close()
			}
			t.Fatalf("a node starts on half of it: %v", err)
		}
	}
	// Half of a stream, as an end in its middle may leave it.
	half, err := bustest.JetStream(t, copied).Stream(t.Context(), "PEAL_INBOX_local_2")
	if err != nil {
		t.Fatal(err)
	}
	if err := half.DeleteMsg(t.Context(), half.CachedInfo().State.LastSeq); err != nil {
		t.Fatal(err)
	}
	all, err := migrate(0, false)
	if err != nil || len(all) != streams {
		t.Fatalf("%d streams, %v, want all %d", len(all), err, streams)
	}
	for _, m := range all {
		if half := m.Stream == "PEAL_INBOX_local_2"; m.Half != half || m.There == half {
			t.Errorf("%+v, want all there but PEAL_INBOX_local_2, of which only half was", m)
		}
	}
	for name, cfg := range configs(t, bustest.JetStream(t, copied)) {
		if at, is := cfg.Metadata["peal.migrating"]; is {
			t.Errorf("%s is still marked: %q", name, at)
		}
	}
	purged, err := to.PurgedIn(t.Context())
	if err != nil || len(purged) != 3 {
		t.Errorf("notes of purges name %v, %v, want an inbox, its read state and preferences", purged, err)
	}
	for stream, counts := range purged {
		if !counts {
			t.Errorf("what was purged in %s counts no more", stream)
		}
	}

	b := openOn(t, copied, nil)
	if diff := cmp.Diff(want, h.tells(b)); diff != "" {
		t.Errorf("the copy tells something else (-origin +copy):\n%s", diff)
	}
	for _, in := range h.inboxes[:11] {
		s := follow(t, b, in, h.old[in])
		publish(t, b, "later", in)
		if diff := cmp.Diff([]string{"n6", "n7", "n8", "later"}, s.wait(4)); diff != "" || !s.feed.Start().Recovered {
			t.Errorf("%v goes on where it was (-want +got):\n%s", in.User, diff)
		}
	}
	finished := newFinished()
	stop := work(t, b, func(ctx context.Context, task *bus.Task) {
		finished.note(nameOf(t, task))
		if err := task.Done(ctx); err != nil {
			t.Error(err)
		}
	})
	worked := finished.wait(t, len(h.waiting))
	stop()
	for n := range 2 { // of each ticket in their order
		var got, want []string
		for i, name := range h.waiting {
			if i%2 == n {
				want = append(want, name)
			}
		}
		for _, name := range worked {
			if slices.Contains(want, name) {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("worked on (-want +got):\n%s", diff)
		}
	}

	if _, err := migrate(0, false); err == nil || !strings.Contains(err.Error(), "has streams of the region already") {
		t.Errorf("again: %v, want a refusal", err)
	}
}

// What is there already is not touched, and what is not there is not copied.
func TestMigrateIsRefused(t *testing.T) {
	origin := bustest.Server(t)
	openOn(t, origin, nil).Close()
	from := openStreams(t, origin, nil)
	for _, tt := range []struct {
		name    string
		streams []string
		want    string
	}{
		{"a region that is there", []string{"PEAL_INBOX_local_0", "PEAL_STATE_local_0"}, "has streams of the region already"},
		{"a partition beyond", []string{"PEAL_INBOX_local_5"}, "(PEAL_INBOX_local_5)"},
		{"a bucket", []string{"KV_PEAL_PREF_local"}, "(KV_PEAL_PREF_local)"},
		{"revocations of another region", []string{"KV_PEAL_REVOKED"}, "(KV_PEAL_REVOKED)"},
	} {
		copied := bustest.Server(t)
		js := bustest.JetStream(t, copied)
		for _, name := range tt.streams {
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
				t.Fatal(err)
			}
		}
		before := configs(t, js)
		err := openStreams(t, copied, nil).Migrate(t.Context(), from, false, func(bus.Migrated) {})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if diff := cmp.Diff(before, configs(t, js)); diff != "" {
			t.Errorf("%s was changed (-before +after):\n%s", tt.name, diff)
		}
	}
	other := openStreams(t, origin, func(c *bus.Config) { c.Region = "eu" })
	err := openStreams(t, bustest.Server(t), func(c *bus.Config) { c.Region = "eu" }).Migrate(t.Context(), other, false, func(bus.Migrated) {})
	if err == nil || !strings.Contains(err.Error(), "no region eu") {
		t.Errorf("a region that is not there: %v", err)
	}
}

// Where a run has ended after everything was copied, and the origin was used again, the
// copy is not all there is any more: to go on from it would lose what came since.
func TestMigrateFromAnOriginThatWentOn(t *testing.T) {
	origin, copied := bustest.Server(t), bustest.Server(t)
	b := openOn(t, origin, nil)
	publish(t, b, "n1", inbox("jane"))
	from, to := openStreams(t, origin, nil), openStreams(t, copied, nil)
	migrate := func(stopAtEnd bool) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		return to.Migrate(ctx, from, false, func(bus.Migrated) {
			if n++; stopAtEnd && n == 1+1+4+3 {
				cancel()
			}
		})
	}
	if err := migrate(true); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped at the end: %v", err)
	}
	// As far as the end had come: the first stream says that all is copied.
	js := bustest.JetStream(t, copied)
	first, err := js.Stream(t.Context(), "PEAL_INBOX_local_0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := first.CachedInfo().Config
	cfg.Metadata["peal.migrating"] += " copied"
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "n2", inbox("jane"))
	if err := migrate(false); err == nil || !strings.Contains(err.Error(), "has changed since it was copied") {
		t.Errorf("it goes on with what was copied before: %v", err)
	}
}
