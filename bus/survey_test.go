package bus_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// waitAway waits until a bus has noticed that its server is not there.
func (w *wire) waitAway(t *testing.T, b *bus.Bus) {
	t.Helper()
	eventually(t, "the bus to notice that its server has ended", func() bool { return !b.Connected() })
}

// streamOf finds a stream of a survey.
func streamOf(t *testing.T, s bus.Survey, name string) bus.StreamState {
	t.Helper()
	for _, st := range s.Streams {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("%s is not in the survey: %+v", name, s.Streams)
	return bus.StreamState{}
}

// A survey has every stream and bucket of the region, with what it holds and may
// hold, and what waits to be worked on.
func TestSurveyHasEveryStreamAndTheQueue(t *testing.T) {
	b := bustest.New(t, func(c *bus.Config) { c.Partitions = 2 })
	in := peal.Inbox{Tenant: acme, Namespace: "staff", User: "jane"}
	publish(t, b, "n1", in)
	publish(t, b, "n2", in)
	accept(t, b, happened("e1", "1"), happened("e2", "2"))

	s := b.Survey(t.Context())
	streams, buckets := bus.Layout("local", 2)
	if len(s.Streams) != len(streams)+len(buckets) {
		t.Errorf("got %d streams, want %d and %d buckets", len(s.Streams), len(streams), len(buckets))
	}
	for _, cfg := range streams {
		if st := streamOf(t, s, cfg.Name); st.Lack != "" || st.Seen.IsZero() || st.Bucket || st.Refuses != (cfg.Discard == jetstream.DiscardNew) {
			t.Errorf("%s: %+v", cfg.Name, st)
		}
	}
	for _, cfg := range buckets {
		if st := streamOf(t, s, cfg.Bucket); st.Lack != "" || !st.Bucket || st.MaxBytes == 0 || st.Memory != (cfg.Storage == jetstream.MemoryStorage) {
			t.Errorf("%s: %+v", cfg.Bucket, st)
		}
	}
	stream, _ := b.StreamOf(in)
	if st := streamOf(t, s, stream); st.Messages != 2 || st.Bytes == 0 || st.MaxBytes == 0 || time.Since(st.Oldest) > time.Minute || st.Newest.Before(st.Oldest) {
		t.Errorf("the inbox: %+v", st)
	}
	if s.Queue.Waiting != 2 || s.QueueSeen.IsZero() || s.QueueErr != nil {
		t.Errorf("the queue: %+v seen %v, %v", s.Queue, s.QueueSeen, s.QueueErr)
	}
	if s.ClockWithin == 0 || s.Clock.Abs() > time.Minute {
		t.Errorf("the clock of NATS is %v ahead, within %v", s.Clock, s.ClockWithin)
	}
}

// Of a stream that is gone the last that was known is kept, and since when it is gone.
func TestSurveySaysWhatIsNotThere(t *testing.T) {
	b := bustest.New(t, nil)
	b.Survey(t.Context())
	if err := b.JetStream().DeleteStream(t.Context(), "KV_PEAL_QUEUE_local"); err != nil {
		t.Fatal(err)
	}
	b.ForgetSurvey()
	began := time.Now()
	st := streamOf(t, b.Survey(t.Context()), "PEAL_QUEUE_local")
	if st.Lack != bus.LacksStream || st.Since.Before(began) || st.Seen.IsZero() || st.Seen.After(began) {
		t.Errorf("got %+v, want it not there since now", st)
	}
	b.ForgetSurvey()
	if again := streamOf(t, b.Survey(t.Context()), "PEAL_QUEUE_local"); !again.Since.Equal(st.Since) {
		t.Errorf("since %v, then since %v", st.Since, again.Since)
	}
}

// A JetStream that answers nothing keeps nobody waiting for longer than they want to.
func TestSurveyDoesNotWaitForWhatHangs(t *testing.T) {
	b, h := openHolding(t, readConn, nil)
	release := h.hold()
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	s := b.Survey(ctx)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if st := streamOf(t, s, "PEAL_INBOX_local_0"); !st.Seen.IsZero() {
		t.Errorf("got %+v of a server that says nothing", st)
	}
	// And then it is said that there is no answer.
	if st := streamOf(t, b.Survey(t.Context()), "PEAL_INBOX_local_0"); st.Lack != bus.LacksAnswer {
		t.Errorf("got %+v, want no answer", st)
	}
}

// Connections are up since they were made, or came back, and away since they were lost.
func TestLinksSaySinceWhen(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	b, w := openWire(t, dir, nil)
	for _, l := range b.Links() {
		if !l.Up || l.Server == "" || l.Since.Before(began) || l.Since.After(time.Now()) {
			t.Errorf("got %+v, want it up since a moment", l)
		}
	}
	lost := time.Now()
	w.stop()
	away := func(up bool) func() bool {
		return func() bool {
			for _, l := range b.Links() {
				if l.Up != up || l.Since.Before(lost) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all connections are away", away(false))
	lost = time.Now()
	w.start(t, dir)
	eventually(t, "all connections are back", away(true))
}

// leaderless is a server whose streams have copies that know of no leader.
type leaderless struct {
	*embedded.Server
	now atomic.Bool
}

func (s *leaderless) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &leaderlessConn{c, s}, nil
}

type leaderlessConn struct {
	net.Conn
	s *leaderless
}

func (c *leaderlessConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.s.now.Load() {
		copy(b[:n], bytes.ReplaceAll(b[:n], []byte(`"leader":"peal"`), []byte(`"leader":""    `)))
	}
	return n, err
}

// What a copy tells of a stream that has no leader is not taken for its state.
func TestSurveySaysWhoHasNoLeader(t *testing.T) {
	s := &leaderless{Server: bustest.Server(t)}
	b := openOn(t, s.Server, func(c *bus.Config) { c.Server = s })
	if st := streamOf(t, b.Survey(t.Context()), "PEAL_INBOX_local_0"); st.Lack != "" || st.Leader != "peal" {
		t.Fatalf("got %+v, want it well", st)
	}
	s.now.Store(true)
	b.ForgetSurvey()
	if st := streamOf(t, b.Survey(t.Context()), "PEAL_INBOX_local_0"); st.Lack != bus.LacksLeader || st.Since.IsZero() {
		t.Errorf("got %+v, want no leader", st)
	}
}
