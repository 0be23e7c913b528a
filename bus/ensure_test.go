package bus_test

import (
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
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// epochs returns the metadata of all streams of a server, by name.
func epochs(t *testing.T, b *bus.Bus) map[string]map[string]string {
	t.Helper()
	all := make(map[string]map[string]string)
	streams := b.JetStream().ListStreams(t.Context())
	for info := range streams.Info() {
		all[info.Config.Name] = info.Config.Metadata
	}
	if streams.Err() != nil {
		t.Fatal(streams.Err())
	}
	return all
}

func TestOpenAgainChangesNothing(t *testing.T) {
	// The streams take all of the store: what exists must not be asked for
	// again, the server would refuse to reserve it twice.
	dir := t.TempDir()
	s := bustest.ServerIn(t, dir)
	b := openOn(t, s, func(c *bus.Config) { c.Partitions, c.Store = 4, s.Store() })
	before := epochs(t, b)
	if n := len(before); n != 4+2*4+4 {
		t.Fatalf("%d streams, want 4, 2 for each partition, and 4 buckets", n)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, epochs(t, b)); diff != "" {
		t.Fatalf("ensured twice (-before +after):\n%s", diff)
	}
	b.Close()
	s.Close()

	again := openOn(t, bustest.ServerIn(t, dir), func(c *bus.Config) { c.Partitions, c.Store = 8, s.Store() })
	if n := again.Partitions(); n != 4 {
		t.Errorf("%d partitions, want the 4 it was created with", n)
	}
	if diff := cmp.Diff(before, epochs(t, again)); diff != "" {
		t.Fatalf("opened again (-before +after):\n%s", diff)
	}
}

// Two processes that start at once on an empty server must find each inbox in
// the same place, and know the same epochs.
func TestTwoOpenAtOnce(t *testing.T) {
	for range 3 {
		s := bustest.Server(t)
		var all [2]*bus.Bus
		var errs [2]error
		var wg sync.WaitGroup
		for i, partitions := range []int{3, 5} {
			wg.Go(func() {
				all[i], errs[i] = bus.Open(t.Context(), bus.Config{Server: s, Partitions: partitions, Store: 4 << 30, Timeout: 20 * time.Second})
			})
		}
		wg.Wait()
		for i, b := range all {
			switch {
			case b != nil:
				t.Cleanup(b.Close)
			case !strings.Contains(errs[i].Error(), "partitions instead of"): // who was slower, with another number
				t.Fatal(errs[i])
			default:
				all[i] = openOn(t, s, nil)
			}
		}
		if all[0].Partitions() != all[1].Partitions() {
			t.Fatalf("one has %d partitions, the other %d", all[0].Partitions(), all[1].Partitions())
		}
		for _, in := range inboxes(20) {
			if a, b := all[0].Epoch(in), all[1].Epoch(in); a != b || a == "" {
				t.Fatalf("%v: one has epoch %q, the other %q", in, a, b)
			}
		}
	}
}

// What would break the feed or lose messages is refused, with a reason.
func TestForeignStreamIsRefused(t *testing.T) {
	t.Parallel()
	streams, _ := bus.Layout("local", 1)
	var inboxStream, eventStream, ticketStream jetstream.StreamConfig
	for _, s := range streams {
		s.MaxBytes = 1 << 20
		switch s.Name {
		case "PEAL_INBOX_local_0":
			inboxStream = s
		case "PEAL_EVENT_local":
			eventStream = s
		case "PEAL_TICKET_local":
			ticketStream = s
		}
	}
	for _, tt := range []struct {
		name   string
		base   jetstream.StreamConfig
		change func(*jetstream.StreamConfig)
		want   string
	}{
		{"foreign subjects of tickets", ticketStream, func(c *jetstream.StreamConfig) {
			c.Subjects, c.RePublish = []string{"mine.>"}, nil
		}, "subjects [mine.>]"},
		{"foreign subjects", inboxStream, func(c *jetstream.StreamConfig) {
			c.Subjects, c.RePublish = []string{"mine.>"}, nil
		}, "subjects [mine.>]"},
		{"no republish", inboxStream, func(c *jetstream.StreamConfig) { c.RePublish = nil }, "without the republish"},
		{"no direct get", inboxStream, func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "without direct get"},
		{"no batches", inboxStream, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "without atomic batches"},
		{"in memory", inboxStream, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage"},
		{"no epoch", inboxStream, func(c *jetstream.StreamConfig) { delete(c.Metadata, "peal.epoch") }, "peal.epoch"},
		{"no number of partitions", inboxStream, func(c *jetstream.StreamConfig) { delete(c.Metadata, "peal.partitions") }, "peal.partitions"},
		{"no metadata", inboxStream, func(c *jetstream.StreamConfig) { c.Metadata = nil }, "not created by peal"},
		{"events dropped when full", eventStream, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "DiscardOld"},
		{"events not partitioned", eventStream, func(c *jetstream.StreamConfig) { c.SubjectTransform = nil }, "partitions"},
		{"events kept", eventStream, func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }, "retention"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			cfg := bus.WithEpoch(tt.base, "abcdefg2")
			cfg.Metadata["peal.partitions"] = "1"
			if cfg.Name != inboxStream.Name {
				delete(cfg.Metadata, "peal.partitions")
			}
			tt.change(&cfg)
			create(t, s, cfg)
			b, err := bus.Open(t.Context(), bus.Config{Server: s})
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), cfg.Name) {
				t.Fatalf("%v, want an error that names %s and says %q", err, cfg.Name, tt.want)
			}
		})
	}
}

// Two streams have another form than older versions gave them. Developers have such
// streams, and must not have to delete what is beside them.
func TestStreamsOfAnOlderVersionAreBroughtUpToDate(t *testing.T) {
	streams, _ := bus.Layout("local", 1)
	older := make(map[string]jetstream.StreamConfig)
	for _, cfg := range streams {
		cfg = bus.WithEpoch(cfg, "abcdefg2")
		cfg.MaxBytes, cfg.MaxAge = 1<<20, 0 // the operator's
		cfg.AllowAtomicPublish = false
		older[cfg.Name] = cfg
	}
	event, ticket := older["PEAL_EVENT_local"], older["PEAL_TICKET_local"]
	ticket.Subjects = []string{"peal.ticket.local.*.*"}
	ticket.RePublish = &jetstream.RePublish{Source: ticket.Subjects[0], Destination: "peal.liveticket.local.abcdefg2.{{wildcard(1)}}.{{wildcard(2)}}"}
	ticket.MaxMsgsPerSubject, ticket.MaxMsgSize, ticket.Duplicates = 32, 0, 0

	s := bustest.Server(t)
	create(t, s, event)
	create(t, s, ticket)
	var said lines
	b := openOn(t, s, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	for _, name := range []string{event.Name, ticket.Name} {
		if n := said.count(name); n != 1 {
			t.Errorf("%d lines of the log name %s, want one", n, name)
		}
		stream, err := b.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		if !cfg.AllowAtomicPublish || cfg.MaxBytes != 1<<20 || cfg.MaxAge != 0 || cfg.MaxMsgSize > 0 {
			t.Errorf("%s: %+v, want atomic batches, and the bounds of before", name, cfg)
		}
		if renewed := cfg.Metadata["peal.epoch"] != "abcdefg2"; renewed != (name == ticket.Name) {
			t.Errorf("%s has the epoch %q", name, cfg.Metadata["peal.epoch"])
		}
	}
	if err := b.PublishUpdate(t.Context(), acme, "e1", ticketUpdate("1", 1), nil, nil); err != nil {
		t.Fatal(err)
	}
	before := epochs(t, b)
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, epochs(t, b)); diff != "" {
		t.Fatalf("ensured again (-before +after):\n%s", diff)
	}
}

func create(t *testing.T, s *embedded.Server, cfg jetstream.StreamConfig) {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNeedsAServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, cfg := range map[string]bus.Config{
		"neither server nor address": {},
		"a region that is no token":  {Server: bustest.Server(t), Region: "a.b"},
		"nobody there":               {URLs: []string{"nats://127.0.0.1:1"}},
	} {
		if b, err := bus.Open(ctx, cfg); err == nil {
			b.Close()
			t.Errorf("%s: opened, want an error", name)
		}
	}
}

// A full disk must be an answer and not a wait, and what is stored stays
// readable.
func TestStoreIsFull(t *testing.T) {
	t.Parallel()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Store: 24 << 20, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b := openOn(t, s, func(c *bus.Config) { c.Store, c.Timeout = 8<<20, time.Second })
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 5)
	first := follow(t, b, jane, bus.Cursor{Epoch: b.Epoch(jane), Seq: 1})
	first.wait(4)

	// The operator's mistake: no bound of the stream's own.
	name, _ := b.StreamOf(jane)
	stream, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = -1
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n := notification("big")
	n.Message = strings.Repeat("x", 12000)
	// The batch that just does not fit is not answered by the server at all, but
	// from then on it refuses.
	for i := 0; err == nil; i++ {
		if i == 100 {
			t.Fatal("100 MB stored, want no more than 24")
		}
		n.ID = fmt.Sprint("big ", i)
		if _, err = b.Publish(t.Context(), bus.Publication{To: inboxes(100), Notification: n}); err != nil && !errors.Is(err, peal.ErrUnavailable) {
			t.Fatalf("publish to a store that becomes full: %v, want unavailable", err)
		}
	}
	for _, to := range []int{1, 100} {
		begun := time.Now()
		n.ID = fmt.Sprint("big to ", to)
		if _, err := b.Publish(t.Context(), bus.Publication{To: inboxes(to), Notification: n}); !errors.Is(err, peal.ErrUnavailable) {
			t.Errorf("publish to %d in a full store: %v, want unavailable", to, err)
		}
		if d := time.Since(begun); d > 3*time.Second { // and not the 4 of a timeout
			t.Errorf("that took %v, want an answer at once", d)
		}
	}
	again := follow(t, b, jane, bus.Cursor{Epoch: b.Epoch(jane), Seq: 1})
	if diff := cmp.Diff(ids(2, 5), again.wait(4)); diff != "" {
		t.Fatalf("read of a full store (-want +got):\n%s", diff)
	}
}
