package bus_test

import (
	"context"
	"testing"
	"time"

	otel "go.opentelemetry.io/otel/trace"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// What is stored by one whose tracing records it says so to who delivers it; for all
// others it costs not a byte.
func TestMessagesBelongToWhoStoredThem(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	b := openOn(t, server, nil)
	jane := inbox("jane")
	s := newSink(t, -1)
	origins := make(chan otel.SpanContext, 3)
	feed, err := b.Follow(t.Context(), jane, bus.Cursor{}, originSink{s, origins})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(feed.Close)
	feed.Resume()

	span := otel.SpanContextConfig{TraceID: otel.TraceID{1}, SpanID: otel.SpanID{2}, TraceFlags: otel.FlagsSampled}
	unsampled := span
	unsampled.TraceFlags = 0
	for id, of := range map[string]otel.SpanContextConfig{"recorded": span, "not recorded": unsampled, "nobody's": {}} {
		ctx := otel.ContextWithSpanContext(t.Context(), otel.NewSpanContext(of))
		if _, err := b.Publish(ctx, telling(id, jane)); err != nil {
			t.Fatal(err)
		}
		got := <-origins
		if want := of.TraceFlags.IsSampled(); got.IsValid() != want {
			t.Errorf("%s: belongs to something %v, want %v", id, got.IsValid(), want)
		} else if want && (got.TraceID() != span.TraceID || got.SpanID() != span.SpanID || !got.IsSampled() || !got.IsRemote()) {
			t.Errorf("%s: belongs to %v %v", id, got.TraceID(), got.SpanID())
		}
	}
	stream, err := bustest.JetStream(t, server).Stream(context.Background(), "PEAL_INBOX_local_0")
	if err != nil {
		t.Fatal(err)
	}
	with := 0
	for seq := uint64(1); seq <= 3; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("traceparent") != "" {
			with++
		}
	}
	if with != 1 {
		t.Errorf("%d messages have the header, want 1", with)
	}
}

// originSink notes what each message belongs to.
type originSink struct {
	*sink
	origins chan otel.SpanContext
}

func (s originSink) Deliver(m *bus.Message) bool {
	s.origins <- m.Origin
	return s.sink.Deliver(m)
}

// Whether a message arrives or is read, it says when it was stored: by that deliveries are
// measured, of which those that had to be read are the late ones.
func TestMessagesSayWhenTheyWereStored(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{})
	before := time.Now()
	publish(t, b, "n1", jane)
	first.wait(1)
	publishAll(t, b, jane, 2, 3)
	s := &storedSink{sink: newSink(t, -1), stored: make(chan time.Time, 4)}
	feed, err := b.Follow(t.Context(), jane, first.cursor(0), s) // reads two
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(feed.Close)
	feed.Resume()
	s.wait(2)
	publish(t, b, "n4", jane) // and one arrives
	for n := range 3 {
		if at := <-s.stored; at.Before(before) || at.After(time.Now()) { // one clock
			t.Errorf("message %d was stored at %v, want after %v", n+1, at, before)
		}
	}
}

// storedSink notes when each message was stored.
type storedSink struct {
	*sink
	stored chan time.Time
}

func (s *storedSink) Deliver(m *bus.Message) bool {
	s.stored <- m.Stored
	return s.sink.Deliver(m)
}
