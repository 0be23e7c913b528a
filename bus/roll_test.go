package bus_test

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// answers has a bus answer roll calls to a name, until the test ends or leave is called.
func answers(t *testing.T, b *bus.Bus, name, with string) (leave func()) {
	t.Helper()
	leave, err := b.AnswerRoll(name, func() []byte { return []byte(with) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.FlushLive(); err != nil {
		t.Fatal(err)
	}
	return leave
}

// call calls the roll and wants an answer of NATS.
func call(t *testing.T, b *bus.Bus) map[string]bus.Process {
	t.Helper()
	found, err := b.CallRoll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bus.Process)
	for _, p := range found {
		all[p.Name] = p
	}
	return all
}

// Who answers is found with what it tells; who falls silent is missed, and who leaves
// is not.
func TestRollKnowsWhoIsThereAndWhoIsMissing(t *testing.T) {
	s := bustest.Server(t)
	asks := bustest.Open(t, s, nil)
	gone, leaves := bustest.Open(t, s, nil), bustest.Open(t, s, nil)
	answers(t, asks, "a", "this is a")
	answers(t, gone, "b", "this is b")
	leave := answers(t, leaves, "c", "this is c")

	found := call(t, asks)
	for name, want := range map[string]string{"a": "this is a", "b": "this is b", "c": "this is c"} {
		if p := found[name]; string(p.Answer) != want || p.Silent || p.Took <= 0 || time.Since(p.Heard) > time.Minute {
			t.Errorf("%s: got %+v, want %q", name, p, want)
		}
	}

	// A process that is killed says nothing; one that ends says so.
	gone.CutLive()
	leave()
	if err := leaves.FlushLive(); err != nil {
		t.Fatal(err)
	}
	found = call(t, asks)
	if p := found["b"]; !p.Silent || string(p.Answer) != "this is b" {
		t.Errorf("the killed one: got %+v, want it silent with its last answer", p)
	}
	if p, known := found["c"]; known {
		t.Errorf("the one that left: got %+v, want it forgotten", p)
	}
	if p := found["a"]; p.Silent {
		t.Errorf("itself: got %+v", p)
	}
}

// When all who are known have answered, nobody waits for the whole half second.
func TestRollEndsWhenAllAreIn(t *testing.T) {
	b := bustest.New(t, nil)
	answers(t, b, "a", "")
	call(t, b)
	fastest := time.Hour
	for range 5 {
		began := time.Now()
		call(t, b)
		fastest = min(fastest, time.Since(began))
	}
	if fastest >= 450*time.Millisecond {
		t.Errorf("the fastest of five calls took %v", fastest)
	}
}

// Nobody is asked while nobody calls.
func TestRollCostsNothingWhileNobodyCalls(t *testing.T) {
	b := bustest.New(t, nil)
	var asked atomic.Int64
	if _, err := b.AnswerRoll("a", func() []byte { asked.Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.FlushLive(); err != nil {
		t.Fatal(err)
	}
	call(t, b)
	call(t, b)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times by two calls", n)
	}
}

// What is no answer, or one of too many bytes, is passed over.
func TestRollPassesOverWhatIsNoAnswer(t *testing.T) {
	b := bustest.New(t, nil)
	nc := b.JetStream().Conn()
	long := string(bytes.Repeat([]byte("x"), 200))
	for _, name := range []string{"", long, "two\nlines", "\x1b[31mred", "not\xffutf8"} {
		if _, err := b.AnswerRoll(name, func() []byte { return nil }); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
	sub, err := nc.Subscribe("peal.roll.local", func(m *nats.Msg) {
		if m.Reply == "" {
			return
		}
		for _, a := range []*nats.Msg{
			{Data: []byte("who am I?")},
			{Header: nats.Header{"Peal-Process": {long}}},
			{Header: nats.Header{"Peal-Process": {"big"}}, Data: make([]byte, bus.MaxRollAnswer+1)},
			{Header: nats.Header{"Peal-Process": {"good"}}, Data: []byte("hello")},
		} {
			a.Subject = m.Reply
			if err := nc.PublishMsg(a); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	found, err := b.CallRoll(t.Context())
	if err != nil || len(found) != 1 || found[0].Name != "good" || string(found[0].Answer) != "hello" {
		t.Errorf("got %+v %v, want the good one alone", found, err)
	}
}

// Without NATS a call fails at once, and says who was known.
func TestRollWithoutNATS(t *testing.T) {
	b, w := openWire(t, t.TempDir(), nil)
	answers(t, b, "a", "")
	call(t, b)
	w.stop()
	w.waitAway(t, b)
	began := time.Now()
	found, err := b.CallRoll(t.Context())
	if err == nil || time.Since(began) > 700*time.Millisecond {
		t.Errorf("got %v after %v, want an error at once", err, time.Since(began))
	}
	if !slices.ContainsFunc(found, func(p bus.Process) bool { return p.Name == "a" && !p.Silent }) {
		t.Errorf("got %+v, want a as it was", found)
	}
}
