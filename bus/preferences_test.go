package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// noon is when nobody in these tests has quiet hours, and midnight when they do.
var (
	noon     = time.Date(2025, 7, 10, 12, 0, 0, 0, time.UTC)
	midnight = time.Date(2025, 7, 10, 0, 0, 0, 0, time.UTC)
)

func night() *peal.QuietHours { return &peal.QuietHours{From: "22:00", To: "07:00", TimeZone: "UTC"} }

func setUser(t testing.TB, b *bus.Bus, in peal.Inbox, p peal.Preferences) {
	t.Helper()
	if err := b.SetPreferences(t.Context(), in, p, nil); err != nil {
		t.Fatal(err)
	}
}

func setTenant(t testing.TB, b *bus.Bus, tenant peal.Tenant, p peal.TenantPreferences) {
	t.Helper()
	if err := b.SetTenantPreferences(t.Context(), tenant, p, nil); err != nil {
		t.Fatal(err)
	}
}

func userHas(t testing.TB, b *bus.Bus, in peal.Inbox, want peal.Preferences) {
	t.Helper()
	got, err := b.Preferences(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v (-want +got):\n%s", in, diff)
	}
}

func tell(t testing.TB, b *bus.Bus, now time.Time, publications ...bus.Publication) bus.Published {
	t.Helper()
	p, err := b.Tell(t.Context(), now, publications...)
	if err != nil {
		t.Fatalf("tell: %v", err)
	}
	return p
}

// inboxOf lists what an inbox holds, as "id" or "id silent".
func inboxOf(t testing.TB, b *bus.Bus, in peal.Inbox) (all []string) {
	t.Helper()
	name, subject := b.StreamOf(in)
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for from := uint64(1); ; {
		m, err := s.GetMsg(t.Context(), from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var n peal.Notification
		if err := json.Unmarshal(m.Data, &n); err != nil {
			t.Fatal(err)
		}
		if n.Silent {
			n.ID += " silent"
		}
		all = append(all, n.ID)
		from = m.Sequence + 1
	}
}

func wantInbox(t testing.TB, b *bus.Bus, in peal.Inbox, want ...string) {
	t.Helper()
	if got := inboxOf(t, b, in); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", in.User, got, want)
	}
}

func TestPreferencesAreTheirOwners(t *testing.T) {
	s := bustest.Server(t)
	b, other := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	everybody := map[peal.Inbox]peal.Preferences{jane: {MutedTickets: []string{"0"}}}
	for i, in := range []peal.Inbox{
		inbox("*"), inbox(">"), inbox("a.b"), inbox(string(acme)), inbox(bus.Escape("jane")),
		{Tenant: globex, Namespace: "staff", User: "jane"}, {Tenant: acme, Namespace: "customers", User: "jane"},
	} {
		everybody[in] = peal.Preferences{MutedTickets: []string{fmt.Sprint(i + 1)}}
	}
	userHas(t, b, jane, peal.Preferences{})
	for in, p := range everybody {
		setUser(t, b, in, p)
	}
	tenants := map[peal.Tenant]peal.TenantPreferences{
		acme:   {Locked: []peal.Type{peal.SLABreach}},
		globex: {Preferences: peal.Preferences{MinPriority: peal.High, QuietHours: night()}},
	}
	for tenant, p := range tenants {
		setTenant(t, b, tenant, p)
	}
	for in, p := range everybody {
		userHas(t, other, in, p)
	}
	for tenant, want := range tenants {
		got, err := other.TenantPreferences(t.Context(), tenant)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tenant, err, diff)
		}
	}
	setUser(t, other, jane, peal.Preferences{}) // takes the place of all
	userHas(t, b, jane, peal.Preferences{})
}

// However many try to change the same thing, each knowing what is there, one of
// them has it.
func TestOneOfManyChangesPreferences(t *testing.T) {
	s := bustest.Server(t)
	nodes := []*bus.Bus{openOn(t, s, nil), openOn(t, s, nil)}
	jane := inbox("jane")
	errLate := errors.New("somebody was faster")
	for round := range 5 {
		before, err := nodes[0].Preferences(t.Context(), jane)
		if err != nil {
			t.Fatal(err)
		}
		check := func(now peal.Preferences) error {
			if string(now.Encode()) != string(before.Encode()) {
				return errLate
			}
			return nil
		}
		const tries = 16
		won := make([]error, tries)
		var wg sync.WaitGroup
		for i := range tries {
			wg.Go(func() {
				p := peal.Preferences{MutedTickets: []string{fmt.Sprint(round, " ", i)}}
				won[i] = nodes[i%2].SetPreferences(context.Background(), jane, p, check)
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range won {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("round %d: %d and %d have both changed what was there", round, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, errLate):
				t.Errorf("round %d: %v", round, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody has changed anything", round)
		}
		userHas(t, nodes[1], jane, peal.Preferences{MutedTickets: []string{fmt.Sprint(round, " ", winner)}})
	}
}

// Nobody else stores between check and storing: check is asked again.
func TestCheckIsOfWhatIsReplaced(t *testing.T) {
	s := bustest.Server(t)
	b, other := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	for _, before := range []peal.Preferences{{}, {MinPriority: peal.Low}} {
		if before.MinPriority != "" {
			setUser(t, b, jane, before)
		}
		meanwhile := peal.Preferences{MinPriority: peal.Urgent}
		errLate := errors.New("somebody was faster")
		var seen []peal.Preferences
		err := b.SetPreferences(t.Context(), jane, peal.Preferences{MinPriority: peal.High}, func(now peal.Preferences) error {
			seen = append(seen, now)
			if len(seen) > 1 {
				return errLate
			}
			setUser(t, other, jane, meanwhile)
			return nil
		})
		if !errors.Is(err, errLate) {
			t.Errorf("got %v, want what the second check says", err)
		}
		if diff := cmp.Diff([]peal.Preferences{before, meanwhile}, seen); diff != "" {
			t.Errorf("checked (-want +got):\n%s", diff)
		}
		userHas(t, b, jane, meanwhile)
	}
}

func TestTellGoesByTheRecipientsWishes(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Partitions = 4 })
	plain, muted, quiet, off, everything := inbox("plain"), inbox("muted"), inbox("quiet"), inbox("off"), inbox("everything")
	foreign := peal.Inbox{Tenant: globex, Namespace: "staff", User: "plain"}
	setUser(t, b, muted, peal.Preferences{MutedTickets: []string{"1"}})
	setUser(t, b, quiet, peal.Preferences{QuietHours: night()})
	setUser(t, b, off, peal.Preferences{Types: peal.Switches{peal.Mention: false}})
	setUser(t, b, everything, peal.Preferences{Types: peal.Switches{peal.Mention: true}})
	setTenant(t, b, globex, peal.TenantPreferences{Preferences: peal.Preferences{MinPriority: peal.Urgent}})

	all := []peal.Inbox{plain, muted, quiet, off, everything, foreign, plain}
	if got := tell(t, b, noon, telling("noon", all...)); got != (bus.Published{Stored: 3, Duplicates: 1}) {
		t.Errorf("at noon: got %+v, want 3 stored and 1 duplicate", got)
	}
	if got := tell(t, b, midnight, telling("midnight", all...)); got != (bus.Published{Stored: 3, Duplicates: 1}) {
		t.Errorf("at midnight: got %+v, want 3 stored and 1 duplicate", got)
	}
	if got := tell(t, b, noon, telling("nobody", muted, off)); got != (bus.Published{}) {
		t.Errorf("nobody wants it: got %+v, want nothing", got)
	}
	if got := tell(t, b, noon); got != (bus.Published{}) {
		t.Errorf("nothing: got %+v", got)
	}
	silent := telling("silenced", plain, quiet)
	silent.Notification.Silent = true
	tell(t, b, noon, silent)

	setTenant(t, b, acme, peal.TenantPreferences{Locked: []peal.Type{peal.Mention}})
	tell(t, b, noon, telling("locked", all...))
	wantInbox(t, b, plain, "noon", "midnight", "silenced silent", "locked")
	wantInbox(t, b, muted, "locked")
	wantInbox(t, b, quiet, "noon", "midnight silent", "silenced silent", "locked")
	wantInbox(t, b, off, "locked")
	wantInbox(t, b, everything, "noon", "midnight", "locked")
	wantInbox(t, b, foreign)
}

// Each publication is a notification of its own: one recipient may get several,
// but one of an id only once.
func TestTellSeveral(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	setUser(t, b, joe, peal.Preferences{QuietHours: night()})
	watcher := telling("n1", jane, joe)
	watcher.Notification.Reasons = []peal.Reason{peal.ReasonWatcher}
	got := tell(t, b, midnight, telling("n1", jane), watcher, telling("n2", jane), telling("n3"))
	if want := (bus.Published{Stored: 3, Duplicates: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantInbox(t, b, jane, "n1", "n2")
	wantInbox(t, b, joe, "n1 silent")
}

// A retry finds what was stored, whatever its recipient wishes by now.
func TestRetryAfterAChangeOfPreferences(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	setUser(t, b, joe, peal.Preferences{MutedTickets: []string{"1"}})
	if got := tell(t, b, midnight, telling("n1", jane, joe)); got != (bus.Published{Stored: 1}) {
		t.Errorf("first: got %+v", got)
	}
	setUser(t, b, jane, peal.Preferences{QuietHours: night()})
	if got := tell(t, b, midnight, telling("n1", jane, joe)); got != (bus.Published{Duplicates: 1}) {
		t.Errorf("in quiet hours: got %+v, want a duplicate", got)
	}
	setUser(t, b, jane, peal.Preferences{MutedTickets: []string{"1"}})
	if got := tell(t, b, midnight, telling("n1", jane, joe)); got != (bus.Published{}) {
		t.Errorf("muted: got %+v, want nothing", got)
	}
	setUser(t, b, jane, peal.Preferences{})
	setUser(t, b, joe, peal.Preferences{})
	if got := tell(t, b, midnight, telling("n1", jane, joe)); got != (bus.Published{Stored: 1, Duplicates: 1}) {
		t.Errorf("in the end: got %+v, want what joe wants now", got)
	}
	wantInbox(t, b, jane, "n1")
	wantInbox(t, b, joe, "n1")
}

// A change by another node acts within two seconds.
func TestChangeElsewhereActsSoon(t *testing.T) {
	s := bustest.Server(t)
	b, other := openOn(t, s, nil), openOn(t, s, nil)
	jane := inbox("jane")
	n := 0
	stored := func() int {
		n++
		return tell(t, b, noon, telling(fmt.Sprint("n", n), jane)).Stored
	}
	if stored() != 1 {
		t.Fatal("not told")
	}
	for _, change := range []struct {
		name string
		do   func()
		want int
	}{
		{"muted", func() { setUser(t, other, jane, peal.Preferences{MutedTickets: []string{"1"}}) }, 0},
		{"locked", func() { setTenant(t, other, acme, peal.TenantPreferences{Locked: []peal.Type{peal.Mention}}) }, 1},
		{"unlocked", func() { setTenant(t, other, acme, peal.TenantPreferences{}) }, 0},
	} {
		change.do()
		began := time.Now()
		for stored() != change.want {
			if time.Since(began) > patience(t) {
				t.Fatalf("%s: not noticed", change.name)
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Logf("%s: noticed after %v", change.name, time.Since(began))
	}
}

// A thousand recipients with as much as anybody may store: more than one answer
// of the server holds.
func TestTellReadsAllPreferences(t *testing.T) {
	if testing.Short() {
		t.Skip("stores 70 MB")
	}
	b := open(t, nil)
	all := inboxes(1000)
	tickets := make([]string, peal.MaxMutedTickets)
	for i := range tickets {
		tickets[i] = fmt.Sprintf("%0128d", i)
	}
	heavy := peal.Preferences{MutedTickets: tickets}
	if err := heavy.Validate(); err != nil {
		t.Fatal(err)
	}
	want := 1000
	for i, in := range all {
		switch {
		case i%2 == 0:
			heavy.MutedTickets[0] = fmt.Sprintf("user %d", i)
			if i%4 == 0 {
				heavy.MutedTickets[0] = "1" // the ticket in question
				want--
			}
			setUser(t, b, in, heavy)
		case i%3 == 0:
			setUser(t, b, in, peal.Preferences{Types: peal.Switches{peal.Mention: false}})
			want--
		}
	}
	if got := tell(t, b, noon, telling("n1", all...)); got != (bus.Published{Stored: want}) {
		t.Errorf("got %+v, want %d stored", got, want)
	}
	for _, i := range []int{0, 3, 996, 999} {
		wantInbox(t, b, all[i])
	}
	wantInbox(t, b, all[1], "n1")
	wantInbox(t, b, all[998], "n1")
}

// What somebody else has written there keeps nobody from being told, nor from
// storing preferences; deleted is as good as never stored.
func TestPreferencesThatAreNone(t *testing.T) {
	var logs lines
	b := open(t, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	kv, err := b.JetStream().KeyValue(t.Context(), "PEAL_PREF_local")
	if err != nil {
		t.Fatal(err)
	}
	jane := inbox("jane")
	key := strings.Join([]string{string(acme), "staff", bus.Escape("jane")}, ".")
	for i, value := range []string{"", "{", `{"types":{"mention":null}}`, "null ", strings.Repeat(" ", 900<<10)} {
		for _, k := range []string{key, string(acme)} {
			if _, err := kv.PutString(t.Context(), k, value); err != nil {
				t.Fatal(err)
			}
		}
		b.ForgetWishes()
		userHas(t, b, jane, peal.Preferences{})
		if got := tell(t, b, noon, telling(fmt.Sprint("n", i), jane)); got.Stored != 1 {
			t.Errorf("%.20q: got %+v, want it told", value, got)
		}
	}
	if n := logs.count("preferences can't be read"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	setUser(t, b, jane, peal.Preferences{MutedTickets: []string{"1"}})
	if err := kv.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b.ForgetWishes()
	userHas(t, b, jane, peal.Preferences{})
	if got := tell(t, b, noon, telling("deleted", jane)); got.Stored != 1 {
		t.Errorf("deleted: got %+v, want it told", got)
	}
	checked := false
	err = b.SetPreferences(t.Context(), jane, peal.Preferences{MinPriority: peal.Low}, func(now peal.Preferences) error {
		checked = true
		if diff := cmp.Diff(peal.Preferences{}, now); diff != "" {
			t.Errorf("deleted is:\n%s", diff)
		}
		return nil
	})
	if err != nil || !checked {
		t.Errorf("store over what is deleted: checked %t, %v", checked, err)
	}
	userHas(t, b, jane, peal.Preferences{MinPriority: peal.Low})
}

// A bucket that somebody has deleted is made again, by whoever notices first.
func TestBucketOfPreferencesIsMadeAgain(t *testing.T) {
	for name, use := range map[string]func(*bus.Bus, peal.Inbox) error{
		"tell one": func(b *bus.Bus, in peal.Inbox) error {
			_, err := b.Tell(context.Background(), noon, telling("n1", in))
			return err
		},
		"tell many": func(b *bus.Bus, _ peal.Inbox) error {
			_, err := b.Tell(context.Background(), noon, telling("n1", inboxes(100)...))
			return err
		},
		"read": func(b *bus.Bus, in peal.Inbox) error {
			_, err := b.Preferences(context.Background(), in)
			return err
		},
		"store": func(b *bus.Bus, in peal.Inbox) error {
			return b.SetPreferences(context.Background(), in, peal.Preferences{}, nil)
		},
		"store after a look": func(b *bus.Bus, in peal.Inbox) error {
			return b.SetPreferences(context.Background(), in, peal.Preferences{}, func(peal.Preferences) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			if err := b.JetStream().DeleteKeyValue(t.Context(), "PEAL_PREF_local"); err != nil {
				t.Fatal(err)
			}
			if err := use(b, inbox("jane")); err != nil {
				t.Fatal(err)
			}
			setUser(t, b, inbox("jane"), peal.Preferences{MinPriority: peal.High})
			userHas(t, b, inbox("jane"), peal.Preferences{MinPriority: peal.High})
		})
	}
}

// Where preferences can't be read nobody is told against their will: the
// publisher hears that it is not stored.
func TestTellWithoutJetStream(t *testing.T) {
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	jane := inbox("jane")
	setUser(t, b, jane, peal.Preferences{MutedTickets: []string{"1"}})
	s.Close()
	for what, err := range map[string]error{
		"tell":  func() error { _, err := b.Tell(t.Context(), noon, telling("n1", jane)); return err }(),
		"read":  func() error { _, err := b.Preferences(t.Context(), jane); return err }(),
		"store": b.SetPreferences(t.Context(), jane, peal.Preferences{}, nil),
	} {
		if !errors.Is(err, peal.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", what, err)
		}
	}
}

// A server that hangs with the preferences makes a publisher wait once: those
// after it are refused at once.
func TestPreferencesThatDoNotAnswer(t *testing.T) {
	const timeout = 2 * time.Second
	many := make([]peal.Inbox, 30)
	for i := range many {
		many[i] = inbox(fmt.Sprint("user-", i))
	}
	for name, to := range map[string][]peal.Inbox{"one recipient": many[:1], "many": many} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, h := openHolding(t, writeConn, func(c *bus.Config) { c.Timeout = timeout })
			release := h.hold()
			began := time.Now()
			if _, err := b.Tell(t.Context(), noon, telling("n1", to...)); !errors.Is(err, peal.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if d := time.Since(began); d > 2*timeout {
				t.Errorf("after %v, want it within the timeout of %v", d, timeout)
			}
			if _, err := b.Tell(t.Context(), noon, telling("n2", to...)); !errors.Is(err, bus.ErrStalled) {
				t.Errorf("the next: got %v, want to be refused at once", err)
			}
			release()
			deadline := time.Now().Add(patience(t))
			for n := 3; ; n++ {
				_, err := b.Tell(t.Context(), noon, telling(fmt.Sprint("n", n), to...))
				if err == nil {
					return
				}
				if !errors.Is(err, peal.ErrUnavailable) || time.Now().After(deadline) {
					t.Fatalf("after the server is back: %v", err)
				}
				<-time.After(50 * time.Millisecond)
			}
		})
	}
}

// Who sits on a full disk hears so at once, and not when preferences were read.
func TestTellOnAFullDisk(t *testing.T) {
	b, h := openHolding(t, writeConn, nil)
	full := errors.New("full")
	h.fill(full)
	release := h.hold()
	defer release()
	if _, err := b.Tell(t.Context(), noon, telling("n1", inbox("jane"))); !errors.Is(err, full) || !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("tell: got %v, want that the disk is full", err)
	}
	if err := b.SetPreferences(t.Context(), inbox("jane"), peal.Preferences{}, nil); !errors.Is(err, full) || !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("store: got %v, want that the disk is full", err)
	}
}
