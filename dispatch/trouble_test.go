package dispatch_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/dispatch"
)

// What is wrong with an event itself no other try can mend: those behind it would wait.
func TestOwnFaultIsNotTriedAgain(t *testing.T) {
	s := start(t)
	s.publish("peal.event.local."+string(acme)+".=dA", []byte("hello"))
	eventually(t, "it was tried", func() bool { return s.bus.Stats().Buried.Load()+s.bus.Stats().Retried.Load() > 0 })
	if n := s.bus.Stats().Retried.Load(); n != 0 {
		t.Errorf("it was put off %d times", n)
	}
}

// What an event needs is no fault of its own, however long it is away.
func TestTroubleBuriesNothing(t *testing.T) {
	s := open(t)
	for _, name := range []string{"PEAL_INBOX_local_0", "PEAL_INBOX_local_1"} {
		st, err := s.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := st.CachedInfo().Config
		cfg.MaxBytes, cfg.Discard = 1, jetstream.DiscardNew
		if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	s.run(s.dispatcher(dispatch.Config{}))
	s.accept(assignment("e", "t", "jane"))
	eventually(t, "it was tried", func() bool { return s.bus.Stats().Buried.Load()+s.bus.Stats().Retried.Load() > 0 })
	if n := s.bus.Stats().Buried.Load(); n != 0 {
		t.Errorf("it is a dead letter: %+v", s.dead())
	}
}

// An event whose update no stream takes is a dead letter, and those behind it are
// worked on: it once was tried for ever, and held up its partition.
func TestUpdateThatIsTooLargeHoldsNobodyUp(t *testing.T) {
	s := start(t)
	st, err := s.js.Stream(t.Context(), "PEAL_TICKET_local")
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.MaxMsgSize = 2000
	if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	large := assignment("large", "t", "jane")
	for i := range 200 {
		large.Ticket.WatcherIDs = append(large.Ticket.WatcherIDs, peal.UserRef{ID: peal.UserID(fmt.Sprint("user-", i))})
	}
	s.accept(large, assignment("next", "t", "jane"))
	s.quiet()
	if got := s.told(user("jane")); len(got) != 2 {
		t.Errorf("jane is told %d times, want of both", len(got))
	}
	if dead := s.dead(); len(dead) != 1 || dead[0].Event != "large" || !strings.Contains(dead[0].Reason, "audience") {
		t.Errorf("dead letters %+v", dead)
	}
}

// Who was told before a dead letter is retried is not told again, in the largest of
// queues.
func TestRetryForThousandsTellsEachOnce(t *testing.T) {
	s := start(t)
	var members []peal.Inbox
	for i := range 2000 {
		members = append(members, user(fmt.Sprint("user-", i)))
	}
	if err := s.bus.SetQueue(t.Context(), acme, "all", members); err != nil {
		t.Fatal(err)
	}
	full := func(most int32) {
		st, err := s.js.Stream(t.Context(), "PEAL_TICKET_local")
		if err != nil {
			t.Fatal(err)
		}
		cfg := st.CachedInfo().Config
		cfg.MaxMsgSize = most
		if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	full(2000)
	e := assignment("e", "t", "jane")
	e.Type, e.Ticket.QueueID = "escalation", "all"
	s.accept(e)
	s.quiet()
	full(256 << 10)
	dead := s.dead()
	if len(dead) != 1 {
		t.Fatalf("dead letters %+v", dead)
	}
	if err := s.bus.RetryDeadLetter(t.Context(), dead[0].ID); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if stored, again := s.bus.Stats().Stored.Load(), s.bus.Stats().Duplicates.Load(); stored != 2001 || again != 0 {
		t.Errorf("%d are told, %d were offered it again; want 2001 and none", stored, again)
	}
	if n := s.bus.Stats().Updates.Load(); n != 1 || len(s.dead()) != 0 {
		t.Errorf("%d updates, dead letters %+v", n, s.dead())
	}
}

// While one inbox stream is away, the events that need it wait, and the log does not
// change its mind with each that does not.
func TestTroubleOfSomeIsToldOnce(t *testing.T) {
	s := open(t)
	st, err := s.js.Stream(t.Context(), "PEAL_INBOX_local_0")
	if err != nil {
		t.Fatal(err)
	}
	good := st.CachedInfo().Config
	bad := good
	bad.MaxMsgSize = 10
	if _, err := s.js.UpdateStream(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	s.run(s.dispatcher(dispatch.Config{}))
	var of [2]string // users of either stream
	for i := 0; of[0] == "" || of[1] == ""; i++ {
		name := fmt.Sprint("user-", i)
		if _, err := s.bus.Publish(t.Context(), bus.Publication{To: []peal.Inbox{user(name)}, Notification: peal.Notification{ID: "n", Type: peal.Mention}}); err != nil {
			of[0] = name
		} else {
			of[1] = name
		}
	}
	s.accept(assignment("stuck", "t", of[0]))
	eventually(t, "it was tried", func() bool { return s.bus.Stats().Retried.Load() >= 1 })
	for i := range 3 {
		tried := s.bus.Stats().Retried.Load()
		for j := range 4 {
			s.accept(assignment(fmt.Sprint("e", i, j), fmt.Sprint("other-", i, j), of[1]))
		}
		eventually(t, "it was tried again", func() bool { return s.bus.Stats().Retried.Load() > tried })
	}
	if got := s.told(user(of[1])); len(got) < 8 { // and n; not those behind the one that is stuck
		t.Errorf("another user is told %d times", len(got))
	}
	if _, err := s.js.UpdateStream(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if log := s.log.String(); strings.Count(log, "can't be worked on") != 1 || strings.Count(log, "worked on again") != 1 {
		t.Errorf("the log tells %s", log)
	}
}
