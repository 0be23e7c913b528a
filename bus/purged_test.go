package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// everything counts the messages of each subject of each stream, by "stream
// subject", but for the notes of purges.
func everything(t *testing.T, b *bus.Bus) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	streams := b.JetStream().StreamNames(t.Context())
	for name := range streams.Name() {
		s, err := b.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		for subject, n := range info.State.Subjects {
			if name != "PEAL_ERASED_local" {
				all[name+" "+subject] = n
			}
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// putAt stores a message past the bus.
func putAt(t *testing.T, b *bus.Bus, subject string, opts ...jetstream.PublishOpt) {
	t.Helper()
	if _, err := b.JetStream().Publish(t.Context(), subject, []byte("{}"), opts...); err != nil {
		t.Fatalf("store %s: %v", subject, err)
	}
}

// peopled is a bus with three partitions, whose users have notifications, a read
// state and preferences each, with much that is alike in their names.
func peopled(t *testing.T) (*bus.Bus, []peal.Inbox) {
	t.Helper()
	b := open(t, func(c *bus.Config) { c.Partitions = 3 })
	var all []peal.Inbox
	for _, tenant := range []peal.Tenant{acme, globex} {
		for _, ns := range []peal.Namespace{"staff", "staff-2", "s"} {
			for _, user := range []peal.UserID{"jane", "jane2", "jan", "*", ">", "jane.>", peal.UserID(acme), "Jane"} {
				all = append(all, peal.Inbox{Tenant: tenant, Namespace: ns, User: user})
			}
		}
	}
	publish(t, b, "n1", all...)
	publish(t, b, "n2", all...)
	for _, in := range all {
		_, state := bus.Locate(in, b.Partitions(), "state", "local")
		putAt(t, b, state)
		putAt(t, b, prefKey(in))
	}
	for _, tenant := range []peal.Tenant{acme, globex} {
		putAt(t, b, "$KV.PEAL_QUEUE_local."+string(tenant)+".=bmV0")
		putAt(t, b, "$KV.PEAL_QUEUE_local."+string(tenant)+".=c2Q")
		putAt(t, b, "$KV.PEAL_PREF_local."+string(tenant))
		putAt(t, b, "peal.dead.local."+string(tenant))
		putAt(t, b, "peal.event.local."+string(tenant)+".=MQ")
		putAt(t, b, "peal.ticket.local."+string(tenant))
		if _, err := b.Revoke(t.Context(), peal.Revocation{Tenant: tenant}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	return b, all
}

func prefKey(in peal.Inbox) string {
	return fmt.Sprintf("$KV.PEAL_PREF_local.%s.%s.%s", in.Tenant, in.Namespace, bus.Escape(string(in.User)))
}

// gone wants all to be as before but for what has been erased.
func gone(t *testing.T, b *bus.Bus, before map[string]uint64, erased func(subject string) bool) {
	t.Helper()
	want := maps.Clone(before)
	maps.DeleteFunc(want, func(key string, _ uint64) bool {
		_, subject, _ := strings.Cut(key, " ")
		return erased(subject)
	})
	if len(want) == len(before) {
		t.Fatal("nothing of it was there")
	}
	if diff := cmp.Diff(want, everything(t, b)); diff != "" {
		t.Errorf("what is kept (-want +got):\n%s", diff)
	}
}

// keptOf matches the subjects of what a purge of a tenant erases.
func keptOf(t peal.Tenant) *regexp.Regexp {
	return regexp.MustCompile(`^(peal\.(inbox|state)\.local\.[0-9]+|peal\.dead\.local|\$KV\.PEAL_(PREF|QUEUE)_local)\.` + string(t) + `(\.|$)`)
}

// A purge takes all that is kept of a user, and nothing of anybody else's, however
// much their names are alike. No marker is left.
func TestPurgeErasesAUserAndNobodyElse(t *testing.T) {
	b, all := peopled(t)
	for _, user := range []peal.UserID{"jane", "*", ">", "jane.>", peal.UserID(acme)} {
		in := peal.Inbox{Tenant: acme, Namespace: "staff", User: user}
		before := everything(t, b)
		got, err := b.Purge(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		want := bus.Purged{Notifications: 2, ReadStates: 1, Preferences: 1}
		if got != want {
			t.Errorf("%q: erased %+v, want %+v", user, got, want)
		}
		name := "." + string(acme) + ".staff." + bus.Escape(string(user))
		gone(t, b, before, func(subject string) bool { return strings.HasSuffix(subject, name) })

		if got, err := b.Purge(t.Context(), in); err != nil || got != (bus.Purged{}) {
			t.Errorf("%q again: erased %+v, %v, want nothing", user, got, err)
		}
	}
	if n := len(everything(t, b)); n < len(all) {
		t.Errorf("only %d subjects are left", n)
	}
}

// A purge of a tenant takes it from every partition, with its queues and dead
// letters. What it was told to do and has not done stays, as do revocations.
func TestPurgeErasesATenantAndNobodyElse(t *testing.T) {
	b, _ := peopled(t)
	before := everything(t, b)
	got, err := b.PurgeTenant(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	want := bus.Purged{Notifications: 48, ReadStates: 24, Preferences: 25, Queues: 2, DeadLetters: 1}
	if got != want {
		t.Errorf("erased %+v, want %+v", got, want)
	}
	gone(t, b, before, keptOf(acme).MatchString)
	if got, err := b.PurgeTenant(t.Context(), acme); err != nil || got != (bus.Purged{}) {
		t.Errorf("again: erased %+v, %v, want nothing", got, err)
	}
}

// Every node hears at once what was purged, but for what was not there: each device
// would fetch its list again.
func TestPurgeIsAnnounced(t *testing.T) {
	b := open(t, nil)
	heard, err := b.JetStream().Conn().SubscribeSync("peal.purged.local")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.JetStream().Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	jane := inbox("jane@example.com")
	purge := func() {
		if _, err := b.Purge(t.Context(), jane); err != nil {
			t.Fatal(err)
		}
	}
	purge() // of nothing
	setUser(t, b, jane, peal.Preferences{MinPriority: peal.High})
	purge() // of what no device shows
	publish(t, b, "n1", jane)
	purge()
	_, state := b.StateOf(jane)
	putAt(t, b, state)
	purge()
	purgeTenant := func() {
		if _, err := b.PurgeTenant(t.Context(), globex); err != nil {
			t.Fatal(err)
		}
	}
	purgeTenant() // of nothing
	publish(t, b, "n1", peal.Inbox{Tenant: globex, Namespace: "staff", User: "jane"})
	purgeTenant()

	place := string(acme) + ".staff.=amFuZUBleGFtcGxlLmNvbQ"
	for _, want := range []string{place, place, string(globex)} {
		m, err := heard.NextMsg(patience(t))
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if string(m.Data) != want {
			t.Errorf("heard %s, want %s", m.Data, want)
		}
	}
	if n, _, err := heard.Pending(); n != 0 || err != nil {
		t.Errorf("%d more, %v, want nothing of what was not there", n, err)
	}
}

// Preferences that were erased act no more, also where they were read just before.
func TestErasedPreferencesAreForgotten(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	off := map[peal.Type]bool{notification("n").Type: false}
	for i, tt := range []struct {
		name  string
		set   func()
		purge func() error
	}{
		{"of a user", func() { setUser(t, b, jane, peal.Preferences{Types: off}) }, func() error { _, err := b.Purge(t.Context(), jane); return err }},
		{"of a user of the tenant", func() { setUser(t, b, jane, peal.Preferences{Types: off}) }, func() error { _, err := b.PurgeTenant(t.Context(), acme); return err }},
		{"of the tenant", func() {
			p := peal.TenantPreferences{Preferences: peal.Preferences{Types: off}}
			if err := b.SetTenantPreferences(t.Context(), acme, p, nil); err != nil {
				t.Fatal(err)
			}
		}, func() error { _, err := b.PurgeTenant(t.Context(), acme); return err }},
	} {
		tt.set()
		if got := tell(t, b, noon, telling(fmt.Sprint("before-", i), jane)); got.Stored != 0 {
			t.Errorf("preferences %s: %+v, want nobody told", tt.name, got)
		}
		if err := tt.purge(); err != nil {
			t.Fatal(err)
		}
		if got := tell(t, b, noon, telling(fmt.Sprint("after-", i), jane)); got.Stored != 1 {
			t.Errorf("erased preferences %s: %+v, want jane told", tt.name, got)
		}
	}
}

// denyPurges has a stream refuse to be purged.
func denyPurges(t *testing.T, b *bus.Bus, name string) {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.DenyPurge = true
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// A purge that can't be done everywhere says where not, has done the rest, and
// does not touch the read state of an inbox that is still there: all of it would
// be unread.
func TestPurgeSaysWhatIsLeft(t *testing.T) {
	b, _ := peopled(t)
	in := peal.Inbox{Tenant: acme, Namespace: "staff", User: "jane"}
	stream, subject := b.StreamOf(in)
	state := strings.Replace(stream, "INBOX", "STATE", 1)
	denyPurges(t, b, stream)
	denyPurges(t, b, "PEAL_DEAD_local")
	before := everything(t, b)
	_, stateSubject := bus.Locate(in, b.Partitions(), "state", "local")
	if before[stream+" "+subject] == 0 || before[state+" "+stateSubject] == 0 {
		t.Fatalf("no %s or %s in %v", subject, stateSubject, before)
	}

	got, err := b.Purge(t.Context(), in)
	if !errors.Is(err, peal.ErrUnavailable) || !strings.Contains(err.Error(), "left in "+stream+" and "+state+": ") {
		t.Errorf("got %v, want unavailable, and which streams", err)
	}
	if want := (bus.Purged{Preferences: 1}); got != want {
		t.Errorf("erased %+v, want %+v", got, want)
	}
	gone(t, b, before, func(subject string) bool { return subject == prefKey(in) })

	_, err = b.PurgeTenant(t.Context(), acme)
	for _, want := range []string{"left in " + stream + " and " + state + ": ", "left in PEAL_DEAD_local: "} {
		if !errors.Is(err, peal.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want unavailable and %q", err, want)
		}
	}
	gone(t, b, before, func(subject string) bool {
		left := slices.ContainsFunc([]string{stream, state, "PEAL_DEAD_local"}, func(name string) bool { return before[name+" "+subject] > 0 })
		return subject == prefKey(in) || keptOf(acme).MatchString(subject) && !left
	})
}

func TestPurgeWithoutNATSIsRefused(t *testing.T) {
	b, w := openWire(t, t.TempDir(), nil)
	w.stop()
	for name, purge := range map[string]func(context.Context) (bus.Purged, error){
		"user":   func(ctx context.Context) (bus.Purged, error) { return b.Purge(ctx, inbox("jane")) },
		"tenant": func(ctx context.Context) (bus.Purged, error) { return b.PurgeTenant(ctx, acme) },
	} {
		if got, err := purge(t.Context()); !errors.Is(err, peal.ErrUnavailable) || got != (bus.Purged{}) {
			t.Errorf("%s: %+v, %v, want unavailable", name, got, err)
		}
	}
}

// A read state that is written by compare-and-set on what was there before is
// refused, and one of an inbox without any is not.
func TestReadStateUnderWayIsRefusedAfterAPurge(t *testing.T) {
	b := open(t, nil)
	in := inbox("jane")
	_, state := bus.Locate(in, b.Partitions(), "state", "local")
	ack, err := b.JetStream().Publish(t.Context(), state, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Purge(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = b.JetStream().Publish(t.Context(), state, []byte("{}"), jetstream.WithExpectLastSequencePerSubject(ack.Sequence))
	var refused *jetstream.APIError
	if !errors.As(err, &refused) || refused.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		t.Fatalf("got %v, want a conflict", err)
	}
	putAt(t, b, state, jetstream.WithExpectLastSequencePerSubject(0))
}

// No sequence is given out twice, also when nothing is left in the stream and the
// server starts again: a cursor of before never names another notification.
func TestSequencesGoOnAfterAPurge(t *testing.T) {
	dir := t.TempDir()
	b, w := openWire(t, dir, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publishAll(t, b, jane, 1, 2)
	s.wait(2)
	if got, err := b.Purge(t.Context(), jane); err != nil || got.Notifications != 2 {
		t.Fatalf("erased %+v, %v", got, err)
	}
	w.stop()
	eventually(t, "the bus notices", func() bool { return !b.Connected() })
	w.start(t, dir)
	eventually(t, "the server", b.Connected)
	publish(t, b, "n3", jane)
	name, subject := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	if last := s.cursor(1); m.Sequence <= last.Seq || b.Epoch(jane) != last.Epoch {
		t.Errorf("%s-%d comes after %v", b.Epoch(jane), m.Sequence, last)
	}
}

// JetStream remembers ids for 10 minutes, also of what was erased.
func TestErasedNotificationIsADuplicateForAWhile(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	if _, err := b.Purge(t.Context(), jane); err != nil {
		t.Fatal(err)
	}
	if got := publish(t, b, "n1", jane); got != (bus.Published{Duplicates: 1}) {
		t.Errorf("got %+v, want a duplicate", got)
	}
	if got := publish(t, b, "n2", jane); got != (bus.Published{Stored: 1}) {
		t.Errorf("got %+v, want it stored", got)
	}
}
