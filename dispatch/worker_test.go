package dispatch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/dispatch"
)

const (
	acme   peal.Tenant = "11111111-1111-4111-8111-111111111111"
	globex peal.Tenant = "22222222-2222-4222-8222-222222222222"
)

// site is a JetStream with a dispatcher.
type site struct {
	t      *testing.T
	server *embedded.Server
	bus    *bus.Bus
	js     jetstream.JetStream
	log    *lockedBuffer

	directory atomic.Pointer[auth.Directory] // nil makes a rule panic

	mu      sync.Mutex
	settled map[dispatch.Outcome]int
	longest time.Duration // that an event took
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open opens a site without a dispatcher.
func open(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, server: bustest.Server(t), log: new(lockedBuffer), settled: make(map[dispatch.Outcome]int)}
	s.bus = bustest.Open(t, s.server, func(c *bus.Config) { c.Partitions = 2 })
	s.js = bustest.JetStream(t, s.server)
	d, err := auth.NewDirectory(auth.Config{Realms: []auth.Realm{
		realm("staff", acme, globex), realm("customers", acme),
	}, Tenants: []auth.TenantRow{{ID: acme, DefaultNamespace: "staff"}}})
	if err != nil {
		t.Fatal(err)
	}
	s.directory.Store(d)
	return s
}

func realm(name string, tenants ...peal.Tenant) auth.Realm {
	return auth.Realm{
		Name: name, Namespace: peal.Namespace(name), Issuer: "https://" + name + ".example", JWKS: "https://" + name + ".example/jwks",
		Audiences: []string{"peal"}, Tenants: auth.Tenants{IDs: tenants},
	}
}

// dispatcher makes one that can be changed before it runs.
func (s *site) dispatcher(cfg dispatch.Config) *dispatch.Dispatcher {
	s.t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.Settled = func(o dispatch.Outcome, age time.Duration) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.settled[o]++
		s.longest = max(s.longest, age)
	}
	d, err := dispatch.New(cfg, s.bus, s.directory.Load)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// run runs a dispatcher until the end of the test, or stop.
func (s *site) run(d *dispatch.Dispatcher) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

// start opens a site with a dispatcher that runs.
func start(t *testing.T) *site {
	t.Helper()
	s := open(t)
	s.run(s.dispatcher(dispatch.Config{}))
	return s
}

func user(name string) peal.Inbox {
	return peal.Inbox{Tenant: acme, Namespace: "staff", User: peal.UserID(name)}
}

// assignment is an event of a ticket that tells its assignee.
func assignment(id, ticket, to string) peal.TicketEvent {
	return peal.TicketEvent{
		ID: id, Type: "assignment",
		Ticket: peal.Ticket{ID: ticket, Number: "INC-" + ticket, Title: "VPN", AssigneeID: peal.UserRef{ID: peal.UserID(to)}},
	}.WithDefaults(time.Now())
}

func (s *site) accept(events ...peal.TicketEvent) {
	s.t.Helper()
	for i, a := range s.bus.Accept(s.t.Context(), acme, events...) {
		if a.Err != nil {
			s.t.Fatalf("event %s: %v", events[i].ID, a.Err)
		}
	}
}

// quiet waits until no event waits.
func (s *site) quiet() {
	s.t.Helper()
	eventually(s.t, "every event is settled", func() bool {
		got, err := s.bus.Backlog(s.t.Context())
		return err == nil && got.Waiting == 0
	})
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// told is what is in an inbox, oldest first.
func (s *site) told(in peal.Inbox) (all []peal.Notification) {
	s.t.Helper()
	page, err := s.bus.List(s.t.Context(), in, bus.Query{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range slices.Backward(page.Entries) {
		var n peal.Notification
		if err := json.Unmarshal(e.Data, &n); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func (s *site) outcomes() map[dispatch.Outcome]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[dispatch.Outcome]int)
	for o, n := range s.settled {
		all[o] = n
	}
	return all
}

// dead lists the dead letters' reasons.
func (s *site) dead() (all []bus.DeadLetter) {
	s.t.Helper()
	all, _, err := s.bus.DeadLetters(s.t.Context(), "", "", 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// publish publishes past us, as anybody with rights on the bus can.
func (s *site) publish(subject string, data []byte) {
	s.t.Helper()
	if _, err := s.js.PublishMsg(s.t.Context(), &nats.Msg{Subject: subject, Data: data}); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnEventBecomesNotificationsAndAnUpdate(t *testing.T) {
	s := start(t)
	if err := s.bus.SetQueue(t.Context(), acme, "net", []peal.Inbox{user("ann"), user("bob")}); err != nil {
		t.Fatal(err)
	}
	if err := s.bus.SetPreferences(t.Context(), user("bob"), peal.Preferences{Types: peal.Switches{peal.SLABreach: false}}, nil); err != nil {
		t.Fatal(err)
	}
	e := assignment("e1", "t1", "jane")
	e.Type, e.Ticket.QueueID = "slaBreach", "net"
	e.Ticket.WatcherIDs = []peal.UserRef{{ID: "jane", Namespace: "customers"}, {ID: "ann"}}
	s.accept(e)
	s.quiet()
	for in, want := range map[peal.Inbox][]peal.Reason{
		user("jane"): {peal.ReasonAssignee},
		user("ann"):  {peal.ReasonWatcher, peal.ReasonQueue},
		user("bob"):  nil, // does not want it
		{Tenant: acme, Namespace: "customers", User: "jane"}: {peal.ReasonWatcher},
		{Tenant: globex, Namespace: "staff", User: "jane"}:   nil,
	} {
		got := s.told(in)
		if want == nil {
			if len(got) > 0 {
				t.Errorf("%v is told %v", in, got)
			}
			continue
		}
		if len(got) != 1 || !slices.Equal(got[0].Reasons, want) || got[0].Type != peal.SLABreach || got[0].TicketID != "t1" {
			t.Errorf("%v is told %+v, want for %v", in, got, want)
		}
	}
	if n, err := s.js.Stream(t.Context(), "PEAL_TICKET_local"); err != nil || n.CachedInfo().State.Msgs != 1 {
		t.Errorf("the stream of updates: %v, %v; want one", n, err)
	}
	if got := s.outcomes(); got[dispatch.Told] != 1 {
		t.Errorf("settled %v", got)
	}
}

// Each event that can't be worked on is one dead letter with its reason, and those
// around it are worked on.
func TestPoisonBecomesOneDeadLetterEach(t *testing.T) {
	s := start(t)
	good := func(id string) []byte { return assignment(id, "t", "jane").Encode() }
	const ofTicket = "peal.event.local." + string(acme) + ".=dA" // "t"
	change := func(old, new string) []byte {
		b := bytes.Replace(good("bad"), []byte(old), []byte(new), 1)
		if bytes.Equal(b, good("bad")) {
			t.Fatalf("there is no %s", old)
		}
		return b
	}
	poison := []struct {
		name, subject, reason string
		data                  []byte
	}{
		{"no JSON", ofTicket, "body: is not valid JSON at byte 0", []byte("hello")},
		{"nothing", ofTicket, "body: is not valid JSON at byte 0", nil},
		{"half", ofTicket, "is not valid JSON", good("bad")[:60]},
		{"two of them", ofTicket, "is not valid JSON", append(good("bad"), good("bad")...)},
		{"a nesting bomb", ofTicket, "body: has the wrong type", []byte(strings.Repeat("[", 16000))},
		{"a nesting bomb inside", ofTicket, "is not valid JSON", change(`"title":"VPN"`, `"title":`+strings.Repeat("[", 15000))},
		{"a mebibyte", ofTicket, "event: must be at most 16384 bytes", bytes.Repeat([]byte(" "), 1<<20-1024)},
		{"an unknown type", ofTicket, "type: must be of", change(`"assignment"`, `"party"`)},
		{"an unknown field", ofTicket, "tenantId: is not a known field", change(`{"id"`, `{"tenantId":"22222222-2222-4222-8222-222222222222","id"`)},
		{"a user of a foreign namespace", "peal.event.local." + string(globex) + ".=dA", "ticket.assigneeId: ", change(`"jane"`, `{"id":"jane","namespace":"customers"}`)},
		{"a tenant that is none", "peal.event.local.tenant.=dA", "subject: must have the tenant's id", good("bad")},
		{"a tenant in upper case", "peal.event.local.AAAAAAAA-1111-4111-8111-111111111111.=dA", "subject: must have the tenant's id", good("bad")},
		{"a tenant that nobody speaks for", "peal.event.local.99999999-1111-4111-8111-111111111111.=dA", "tenant: must be one that a realm may speak for", good("bad")},
		{"a ticket that is not escaped", "peal.event.local." + string(acme) + ".t", "subject: must have the ticket's id", good("bad")},
		{"another ticket", "peal.event.local." + string(acme) + ".=dQ", "ticket.id: must be that of the subject", good("bad")},
		{"no title", ofTicket, "ticket.title: must not be empty", change(`"title":"VPN"`, `"title":""`)},
	}
	for i, p := range poison {
		s.publish(ofTicket, good(fmt.Sprint("before-", i)))
		s.publish(p.subject, p.data)
	}
	s.publish(ofTicket, good("last"))
	s.quiet()

	s.mu.Lock()
	t.Logf("no event took longer than %v, from when it was stored", s.longest)
	s.mu.Unlock()
	var reasons []string
	for _, d := range s.dead() {
		reasons = append(reasons, d.Reason)
	}
	if len(reasons) != len(poison) {
		t.Errorf("%d dead letters, want %d: %q", len(reasons), len(poison), reasons)
	}
	for _, p := range poison {
		at := slices.IndexFunc(reasons, func(r string) bool { return strings.Contains(r, p.reason) })
		if at < 0 {
			t.Errorf("%s: no dead letter says %q: %q", p.name, p.reason, reasons)
			continue
		}
		reasons = slices.Delete(reasons, at, at+1)
	}
	if got := s.told(user("jane")); len(got) != len(poison)+1 {
		t.Errorf("jane is told %d times, want %d", len(got), len(poison)+1)
	}
	if strings.Contains(s.log.String(), "VPN") {
		t.Errorf("the log tells of what: %s", s.log)
	}
}

// A rule that panics makes a dead letter of its event, which can be retried when the
// rule is mended.
func TestPanicIsADeadLetter(t *testing.T) {
	s := start(t)
	mended := s.directory.Swap(nil)
	s.accept(assignment("bad", "t", "jane"))
	s.quiet()
	s.directory.Store(mended)
	dead := s.dead()
	if len(dead) != 1 || dead[0].Event != "bad" || dead[0].Tenant != string(acme) || dead[0].Ticket != "t" || dead[0].Reason != "a rule has panicked" {
		t.Fatalf("got %+v", dead)
	}
	if !strings.Contains(s.log.String(), "worker_test.go") && !strings.Contains(s.log.String(), "people.go") {
		t.Errorf("the log does not say where: %s", s.log)
	}
	if err := s.bus.RetryDeadLetter(t.Context(), dead[0].ID); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if got := s.told(user("jane")); len(got) != 1 || len(s.dead()) != 0 {
		t.Errorf("jane is told %v, %d dead letters are left", got, len(s.dead()))
	}
}

// An event of which some were told, and that died then, is told to the others when it
// is retried, though it was published without an id.
func TestRetriedDeadLetterTellsNobodyTwice(t *testing.T) {
	s := open(t)
	e := assignment("", "t", "jane")
	e.ID = ""
	const subject = "peal.event.local." + string(acme) + ".=dA"
	s.publish(subject, e.Encode())
	// The first worker tells, and calls it dead all the same.
	first := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	var name string
	go func() {
		done <- s.bus.Work(ctx, func(ctx context.Context, task *bus.Task) {
			name = task.Name()
			n := e.WithDefaults(task.Stored)
			n.ID = name
			rules, err := dispatch.NewRules(nil, nil)
			if err != nil {
				t.Error(err)
			}
			told, err := rules.Notifications(acme, n, dispatch.People{Assignee: ptr(user("jane"))})
			if err == nil {
				_, err = s.bus.Tell(ctx, time.Now(), told...)
			}
			if err == nil {
				err = task.Bury(ctx, name, "for nothing")
			}
			if err != nil {
				t.Error(err)
			}
			close(first)
		})
	}()
	<-first
	cancel()
	<-done
	s.run(s.dispatcher(dispatch.Config{}))
	if err := s.bus.RetryDeadLetter(t.Context(), s.dead()[0].ID); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if got := s.told(user("jane")); len(got) != 1 {
		t.Errorf("jane is told %+v, want once", got)
	}
}

func ptr[T any](v T) *T { return &v }

func TestExpiredEventTellsNobodyAndIsCounted(t *testing.T) {
	s := start(t)
	past, future := assignment("past", "t", "jane"), assignment("future", "t", "jane")
	past.OccurredAt = peal.EventTime{Timestamp: peal.NewTimestamp(time.Now().Add(-time.Hour))}
	past.ExpiresAt = peal.EventTime{Timestamp: peal.NewTimestamp(time.Now().Add(-time.Second))}
	future.ExpiresAt = peal.EventTime{Timestamp: peal.NewTimestamp(time.Now().Add(time.Hour))}
	created := assignment("created", "t", "jane")
	created.Type = peal.TicketCreated
	s.accept(past, future, created)
	s.quiet()
	if got := s.told(user("jane")); len(got) != 1 {
		t.Errorf("jane is told %+v, want of one", got)
	}
	if diff := cmp.Diff(map[dispatch.Outcome]int{dispatch.Expired: 1, dispatch.Told: 1, dispatch.Silent: 1}, s.outcomes()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// What an event needs may be away: it waits, before all others of its ticket, and
// nothing becomes a dead letter.
func TestTroubleWaits(t *testing.T) {
	s := open(t)
	s.accept(assignment("one", "t", "jane"), assignment("two", "t", "jane"))
	// The stream of one half of the users takes nothing.
	var names []string
	for name := range s.js.StreamNames(t.Context()).Name() {
		if strings.HasPrefix(name, "PEAL_INBOX_") {
			names = append(names, name)
		}
	}
	var sealed []jetstream.StreamConfig
	for _, name := range names {
		st, err := s.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := st.CachedInfo().Config
		sealed = append(sealed, cfg)
		full := cfg
		full.MaxMsgs, full.Discard, full.DiscardNewPerSubject = 1, jetstream.DiscardNew, false
		full.MaxBytes = 1
		if _, err := s.js.UpdateStream(t.Context(), full); err != nil {
			t.Fatal(err)
		}
	}
	s.run(s.dispatcher(dispatch.Config{}))
	eventually(t, "it was tried twice", func() bool { return s.bus.Stats().Retried.Load() >= 2 })
	for _, cfg := range sealed {
		if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	s.quiet()
	var got []string
	for _, n := range s.told(user("jane")) {
		got = append(got, n.ID)
	}
	if len(got) != 2 || len(s.dead()) != 0 {
		t.Fatalf("jane is told %v, %d dead letters; want two and none", got, len(s.dead()))
	}
	if log := s.log.String(); strings.Count(log, "can't be worked on") != 1 || !strings.Contains(log, "worked on again") {
		t.Errorf("the log tells %s", log)
	}
}

// An event that is worked on again after JetStream has forgotten the first time tells
// only those who were not told.
func TestWorkedOnAgainAfterTheDuplicateWindow(t *testing.T) {
	for _, asks := range []bool{true, false} {
		t.Run(fmt.Sprint("asks who is told: ", asks), func(t *testing.T) {
			s := open(t)
			for name := range s.js.StreamNames(t.Context()).Name() {
				if !strings.HasPrefix(name, "PEAL_INBOX_") {
					continue
				}
				st, err := s.js.Stream(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				cfg := st.CachedInfo().Config
				cfg.Duplicates = 200 * time.Millisecond
				if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			e := assignment("e", "t", "user-0")
			for i := range 30 {
				e.Ticket.WatcherIDs = append(e.Ticket.WatcherIDs, peal.UserRef{ID: peal.UserID(fmt.Sprint("user-", i))})
			}
			// A worker that died has told the first ten of them.
			rules, err := dispatch.NewRules(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			e.Type = "slaBreach"
			people, err := dispatch.Resolve(s.directory.Load(), acme, e)
			if err != nil {
				t.Fatal(err)
			}
			told, err := rules.Notifications(acme, e, people)
			if err != nil {
				t.Fatal(err)
			}
			for i := range told {
				told[i].To = slices.DeleteFunc(slices.Clone(told[i].To), func(in peal.Inbox) bool { return len(in.User) > len("user-0") })
			}
			if p, err := s.bus.Publish(t.Context(), told...); err != nil || p.Stored != 10 {
				t.Fatalf("%+v, %v", p, err)
			}
			// By the stream of each: what is stored later is forgotten later.
			for i := range 3 {
				canary := bus.Publication{To: []peal.Inbox{user(fmt.Sprint("canary-", i))}, Notification: told[0].Notification}
				if _, err := s.bus.Publish(t.Context(), canary); err != nil {
					t.Fatal(err)
				}
				eventually(t, "JetStream has forgotten", func() bool {
					p, err := s.bus.Publish(t.Context(), canary)
					return err == nil && p.Stored == 1
				})
			}
			s.accept(e)
			d := s.dispatcher(dispatch.Config{})
			if asks {
				d.Late(0)
			}
			s.run(d)
			s.quiet()
			for i := range 30 {
				want := 1
				if i < 10 && !asks {
					want = 2 // or this test could not fail
				}
				if got := s.told(user(fmt.Sprint("user-", i))); len(got) != want {
					t.Errorf("user-%d is told %d times, want %d", i, len(got), want)
				}
			}
		})
	}
}

// One event for thousands is told in portions, to each once.
func TestOneEventForThousands(t *testing.T) {
	s := start(t)
	var members []peal.Inbox
	for i := range 5000 {
		members = append(members, user(fmt.Sprint("user-", i)))
	}
	if err := s.bus.SetQueue(t.Context(), acme, "all", members); err != nil {
		t.Fatal(err)
	}
	e := assignment("e", "t", "jane")
	e.Type, e.Ticket.QueueID = "escalation", "all"
	s.accept(e)
	s.quiet()
	if got := s.bus.Stats().Stored.Load(); got != 5001 {
		t.Errorf("%d notifications are stored, want 5001", got)
	}
	for _, name := range []string{"jane", "user-0", "user-499", "user-500", "user-4999"} {
		if got := s.told(user(name)); len(got) != 1 {
			t.Errorf("%s is told %d times", name, len(got))
		}
	}
}

// What is under way when a dispatcher is stopped is finished, and another goes on
// with the rest.
func TestStoppedDispatcherLosesNothing(t *testing.T) {
	s := open(t)
	var all []peal.TicketEvent
	for i := range 300 {
		all = append(all, assignment(fmt.Sprint("e", i), fmt.Sprint("t", i%40), fmt.Sprint("user-", i%5)))
	}
	s.accept(all...)
	for range 3 {
		other := &site{t: t, server: s.server, log: s.log, settled: make(map[dispatch.Outcome]int)}
		other.bus = bustest.Open(t, s.server, func(c *bus.Config) { c.Partitions = 2 })
		other.directory.Store(s.directory.Load())
		stop := other.run(other.dispatcher(dispatch.Config{}))
		eventually(t, "some are worked on", func() bool { return other.bus.Stats().Worked.Load() > 10 })
		stop()
	}
	s.run(s.dispatcher(dispatch.Config{}))
	s.quiet()
	for i := range 5 {
		var ids []string
		for _, n := range s.told(user(fmt.Sprint("user-", i))) {
			ids = append(ids, n.ID)
		}
		if len(ids) != 60 {
			t.Errorf("user-%d is told %d times, want 60", i, len(ids))
		}
	}
}
