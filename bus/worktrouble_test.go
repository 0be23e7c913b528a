package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// Two workers in different time zones have one name for an event without an id, or
// who was told by the first is told again by the second.
func TestNameOfAnEventIsThatOfNoTimeZone(t *testing.T) {
	at := time.Date(2026, 7, 10, 12, 35, 0, 123456789, time.UTC)
	here, there := bus.Task{Stored: at}, bus.Task{Stored: at.In(time.FixedZone("there", 7200))}
	if here.Name() != there.Name() {
		t.Errorf("the event is %s here and %s there", here.Name(), there.Name())
	}
	later := bus.Task{Stored: at.Add(time.Nanosecond)}
	if here.Name() == later.Name() {
		t.Errorf("two events are both %s", here.Name())
	}
}

// What somebody has made of a consumer would give out several events of a ticket at
// once, or drop one that was tried too often.
func TestConsumerIsMadeOursAgain(t *testing.T) {
	b := open(t, nil)
	js := b.JetStream()
	for n := range 32 {
		_, err := js.CreateConsumer(t.Context(), "PEAL_EVENT_local", jetstream.ConsumerConfig{
			Durable: fmt.Sprint("dispatch_", n), FilterSubject: fmt.Sprintf("peal.work.local.%d.>", n),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: 100, MaxDeliver: 2,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	accept(t, b, happened("one", "t"), happened("two", "t"))
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		got.note(fmt.Sprint(nameOf(t, task), " ", task.Tries))
		if task.Tries < 4 {
			task.Retry(time.Millisecond)
			return
		}
		task.Done(ctx)
	})
	want := []string{"one 1", "one 2", "one 3", "one 4", "two 1", "two 2", "two 3", "two 4"}
	for n := 2; n <= len(want); n += 2 { // it shows with the second, and would be lost after the fourth
		if diff := cmp.Diff(want[:n], got.wait(t, 2)[:n]); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// A consumer that somebody deletes comes back, with what waits.
func TestDeletedConsumerComesBack(t *testing.T) {
	b := open(t, nil)
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		if task.Done(ctx) == nil {
			got.note(nameOf(t, task))
		}
	})
	accept(t, b, happened("one", "t"))
	got.wait(t, 1)
	for n := range 32 {
		err := b.JetStream().DeleteConsumer(t.Context(), "PEAL_EVENT_local", fmt.Sprint("dispatch_", n))
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) { // another partition's may still be on its way
			t.Fatal(err)
		}
	}
	accept(t, b, happened("two", "t"), happened("three", "u"))
	got.wait(t, 2)
}

// The streams of events and of dead letters come back by themselves, as all others do.
func TestStreamsOfWorkAreCreatedAgain(t *testing.T) {
	b := open(t, nil)
	got := newFinished()
	work(t, b, func(ctx context.Context, task *bus.Task) {
		if err := task.Bury(ctx, "id", "reason"); err != nil {
			task.Retry(100 * time.Millisecond)
			return
		}
		got.note(nameOf(t, task))
	})
	accept(t, b, happened("one", "t"))
	got.wait(t, 1)
	for _, name := range []string{"PEAL_EVENT_local", "PEAL_DEAD_local"} {
		if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	end := time.Now().Add(time.Minute)
	for b.Accept(t.Context(), acme, happened("two", "t"))[0].Err != nil {
		if time.Now().After(end) {
			t.Fatal("no event can be stored any more")
		}
		time.Sleep(50 * time.Millisecond)
	}
	got.wait(t, 1)
}

// An event of which JetStream does not take what there is to store must not hold up
// all others of its partition for ever.
func TestDeadLetterIsCutToWhatJetStreamTakes(t *testing.T) {
	b := open(t, nil)
	s, err := b.JetStream().Stream(t.Context(), "PEAL_DEAD_local")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgSize = 10_000
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	large := &nats.Msg{Subject: "peal.event.local." + string(acme) + ".=dA", Data: []byte(strings.Repeat("x", 100_000))}
	if _, err := b.JetStream().PublishMsg(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	buried := make(chan error, 1)
	work(t, b, func(ctx context.Context, task *bus.Task) {
		err := task.Bury(ctx, "id", "reason")
		if err != nil {
			task.Retry(time.Minute)
		}
		buried <- err
	})
	if err := <-buried; err != nil {
		t.Fatal(err)
	}
	all, _, err := b.DeadLetters(t.Context(), "", "", 10)
	if err != nil || len(all) != 1 || all[0].Whole || all[0].Size != 100_000 {
		t.Fatalf("%+v, %v", all, err)
	}
	if d, err := b.DeadLetter(t.Context(), all[0].ID); err != nil || len(d.Data) < 1000 {
		t.Errorf("%d bytes are kept, %v", len(d.Data), err)
	}
}

func TestTooLargeAnUpdateIsTheEventsOwnFault(t *testing.T) {
	b := open(t, nil)
	s, err := b.JetStream().Stream(t.Context(), "PEAL_TICKET_local")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgSize = 1000
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	u := peal.TicketUpdate{Action: peal.ActionUpdated, TicketID: "t", TicketNumber: "INC-t", UpdatedAt: peal.NewTimestamp(time.Now())}
	if err := b.PublishUpdate(t.Context(), acme, "small", u, inboxes(3), nil); err != nil {
		t.Error(err)
	}
	if err := b.PublishUpdate(t.Context(), acme, "large", u, inboxes(500), nil); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("got %v, want it invalid", err)
	}
}

// Whoever stops to work has not lost NATS.
func TestEndOfWorkIsNoTrouble(t *testing.T) {
	var log safeBuffer
	b := open(t, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	got := newFinished()
	stop := work(t, b, func(ctx context.Context, task *bus.Task) { task.Done(ctx); got.note("") })
	accept(t, b, happened("one", "t"))
	got.wait(t, 1)
	stop()
	if strings.Contains(log.String(), "does not answer") {
		t.Errorf("the log says %s", log.String())
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A queue that is as large as may be stored can be read: in an answer of the leader
// it takes a third more.
func TestLargestQueueIsRead(t *testing.T) {
	b := open(t, nil)
	var members []peal.Inbox
	for i := range 5000 {
		members = append(members, peal.Inbox{Tenant: acme, Namespace: "staff", User: peal.UserID(fmt.Sprintf("%s%05d", strings.Repeat("\"", 95), i))})
	}
	if err := b.SetQueue(t.Context(), acme, "large", members); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Queue(t.Context(), acme, "large"); len(got) != 5000 || err != nil {
		t.Errorf("it has %d members, %v", len(got), err)
	}
}

// What an event says of itself is in the headers of its dead letter, whatever it is.
func TestDeadLetterOfAHostileEvent(t *testing.T) {
	b := open(t, nil)
	hostile := []string{"a\x00b", "\x7f\x01", "a: b\r\nNats-Msg-Id: c", "\u2028\u0085", ":", " ", strings.Repeat("\u00fc", 2000), "\xff"}
	for i := range hostile {
		accept(t, b, happened(fmt.Sprint(i), "t"))
	}
	got := newFinished()
	i := 0
	work(t, b, func(ctx context.Context, task *bus.Task) {
		if err := task.Bury(ctx, hostile[i], hostile[i]); err != nil {
			t.Errorf("%q: %v", hostile[i], err)
		}
		i++
		got.note("")
	})
	got.wait(t, len(hostile))
	all, _, err := b.DeadLetters(t.Context(), acme, "", 100)
	if err != nil || len(all) != len(hostile) {
		t.Fatalf("%d of %d are listed: %v", len(all), len(hostile), err)
	}
	for _, d := range all {
		if d.Ticket != "t" || !d.Whole || d.Stored.IsZero() || d.Buried.IsZero() {
			t.Errorf("got %+v", d)
		}
	}
}
