package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// publishUntil publishes until it is acknowledged.
func publishUntil(t *testing.T, b *bus.Bus, id string, in peal.Inbox) {
	t.Helper()
	eventually(t, "a publish is acknowledged", func() bool {
		_, err := b.Publish(t.Context(), telling(id, in))
		return err == nil
	})
}

// A bus alone with a NATS that has lost everything makes it anew, tells
// everybody, and goes on.
func TestNATSComesBackEmpty(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	s.wait(1)
	_, before, err := b.Unread(t.Context(), jane, s.cursor(0))
	if err != nil {
		t.Fatal(err)
	}

	w.stop()
	w.start(t, t.TempDir())
	publishUntil(t, b, "n2", jane)
	if got := s.wait(2); got[1] != "gap UNKNOWN_CURSOR" { // what is stored before it is declared is part of it
		t.Fatalf("got %v, want a gap after n1", got)
	}
	publish(t, b, "n3", jane)
	eventually(t, "what comes after the gap", func() bool { got := s.wait(3); return got[len(got)-1] == "n3" })
	eventually(t, "the version of the read state is another", func() bool {
		_, after, err := b.Unread(t.Context(), jane, s.cursor(1))
		return err == nil && after != before
	})
	again := follow(t, b, jane, s.cursor(0))
	if got := again.wait(1); got[0] != "gap UNKNOWN_CURSOR" {
		t.Fatalf("a cursor from before: %v, want a gap", got)
	}
}

// Streams that somebody has deleted are created again, each alone as well.
func TestDeletedStreamsAreCreatedAgain(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	inboxes, _ := b.StreamOf(jane)
	before := epochs(t, b)
	for _, name := range []string{inboxes, strings.Replace(inboxes, "INBOX", "STATE", 1)} {
		if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		b.Look()
		eventually(t, name+" is there again", func() bool { _, err := b.JetStream().Stream(t.Context(), name); return err == nil })
	}
	after := epochs(t, b)
	for name, meta := range before {
		if epoch := meta["peal.epoch"]; epoch != "" && strings.HasSuffix(name, inboxes[len("PEAL_INBOX"):]) == (epoch == after[name]["peal.epoch"]) {
			t.Errorf("%s had epoch %s and has %s, want another only for what was deleted", name, epoch, after[name]["peal.epoch"])
		}
	}
	s.wait(1) // what is stored before the gap is declared is part of it
	publish(t, b, "n1", jane)
	if diff := cmp.Diff([]string{"gap UNKNOWN_CURSOR", "n1"}, s.wait(2)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// Where each inbox is depends on the number of streams, which a running process
// can't change.
func TestAnotherNumberOfPartitionsEndsTheBus(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), nil)
	w.stop()
	s := bustest.Server(t)
	openOn(t, s, func(c *bus.Config) { c.Partitions = 3 })
	name, _ := b.StreamOf(inbox("jane"))
	if err := b.Err(); err != nil {
		t.Fatalf("a bus that goes on has failed: %v", err)
	}
	w.use(s)
	b.Look()
	select {
	case <-b.Closed():
	case <-time.After(time.Minute):
		t.Fatalf("%s is one of 3 now, and the bus goes on", name)
	}
	if err := b.Err(); err == nil || !strings.Contains(err.Error(), "3 streams") {
		t.Fatalf("%v, want that there are 3 streams", err)
	}
}

func TestAwayTellsForHowLong(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), nil)
	if d := b.Away(); d != 0 {
		t.Fatalf("away for %v, want not at all", d)
	}
	mend := w.cut()
	eventually(t, "the bus notices", func() bool { return b.Away() > 0 })
	first := b.Away()
	eventually(t, "that lasts", func() bool { return b.Away() > first })
	mend()
	eventually(t, "NATS is back", func() bool { return b.Away() == 0 })
}

// A JetStream that answers nothing costs one publish its patience. The others
// are refused at once until it answers again.
func TestSilentStreamRefusesAtOnce(t *testing.T) {
	t.Parallel()
	b, h := openHolding(t, writeConn, func(c *bus.Config) { c.Timeout = 2 * time.Second })
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	release := h.hold()
	if _, err := b.Publish(t.Context(), telling("n2", jane)); !errors.Is(err, peal.ErrUnavailable) {
		t.Fatalf("publish to who does not answer: %v, want unavailable", err)
	}
	eventually(t, "the silence is known", func() bool {
		_, err := b.Publish(t.Context(), telling("n3", jane))
		return err != nil && strings.Contains(err.Error(), "of late")
	})
	release()
	publishUntil(t, b, "n4", jane)
	for range 5 { // everybody is let through again
		publish(t, b, "n4", jane)
	}
}

// On a full disk publishing is refused at once, also for who waits already, and
// reading goes on.
func TestFullDiskIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b, h := openHolding(t, writeConn, func(c *bus.Config) { c.Timeout = time.Minute })
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	release := h.hold()
	waiting := make(chan error)
	go func() {
		_, err := b.Publish(t.Context(), telling("n2", jane))
		waiting <- err
	}()
	eventually(t, "the server has answered the publish", h.answered)
	full := errors.New("the disk is full")
	h.fill(full)
	if err := <-waiting; !errors.Is(err, full) || !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("who waited got %v, want that the disk is full", err)
	}
	if _, err := b.Publish(t.Context(), telling("n3", jane)); !errors.Is(err, full) {
		t.Errorf("publish to a full disk: %v, want that it is full", err)
	}
	s := follow(t, b, jane, bus.Cursor{Epoch: b.Epoch(jane), Seq: 1})
	if got := s.wait(1); got[0] != "n2" {
		t.Errorf("read from a full disk: %v, want what was stored", got)
	}
	release()
	h.fill(nil)
	publish(t, b, "n4", jane)
}

// The server closes a connection for good that breaks its rules: nothing comes
// back by itself then.
func TestConnectionClosedForGood(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	b.JetStream().Conn().Publish(strings.Repeat("x", 5000), nil) // the answer comes later
	select {
	case <-b.Closed():
	case <-time.After(time.Minute):
		t.Fatal("the bus goes on without a connection")
	}
	if err := b.Err(); err == nil || !strings.Contains(err.Error(), "closed for good") {
		t.Fatalf("%v, want that a connection was closed for good", err)
	}
}

// Streams that answer again are found out also by notifications that go to all
// of them, though each has its turn to be tried at another moment.
func TestSilentStreamsAreTriedTogether(t *testing.T) {
	t.Parallel()
	const partitions = 4
	b := open(t, func(c *bus.Config) { c.Partitions, c.Store = partitions, 1<<30 })
	everywhere := make([]peal.Inbox, 0, partitions)
	for i := 0; len(everywhere) < partitions; i++ {
		in := inbox(fmt.Sprint("user-", i))
		if p, _ := bus.Locate(in, partitions, "inbox", "local"); p == len(everywhere) {
			everywhere = append(everywhere, in)
		}
	}
	b.Silence(0, 250*time.Millisecond, 500*time.Millisecond, 750*time.Millisecond)
	eventually(t, "a publish to all is acknowledged", func() bool {
		_, err := b.Publish(t.Context(), telling("n1", everywhere...))
		return err == nil
	})
}

// However often the inboxes of a stream are asked for, its read state has its
// turn.
func TestStateStreamOfABusyNodeIsCreatedAgain(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	inboxes, _ := b.StreamOf(inbox("jane"))
	name := strings.Replace(inboxes, "INBOX", "STATE", 1)
	if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" is there again", func() bool {
		b.Refresh()
		_, err := b.JetStream().Stream(t.Context(), name)
		return err == nil
	})
}
