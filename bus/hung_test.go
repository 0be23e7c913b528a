package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// hangs is a server that gives some of what replicas are asked, of every stream, to
// one that hangs: its cluster has not found that out yet. The leaders are well.
type hangs struct {
	*embedded.Server
	mu    sync.Mutex // protects the rest
	every int        // each so manieth Direct Get meets it; 0: none
	asked int
}

func (s *hangs) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &hangsConn{c, s}, nil
}

// meet has each so manieth Direct Get, beginning with the next, never answered.
func (s *hangs) meet(every int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every, s.asked = every, 0
}

func (s *hangs) meets() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.every > 0 && (s.asked-1)%s.every == 0
}

type hangsConn struct {
	net.Conn
	s *hangs
}

// Write has what is asked go where somebody listens and says nothing.
func (c *hangsConn) Write(b []byte) (int, error) {
	asked, instead := []byte("$JS.API.DIRECT.GET."), []byte("$JS.API.DIRECT.MUM.")
	sent := bytes.Clone(b)
	for at := 0; ; at += len(asked) {
		i := bytes.Index(sent[at:], asked)
		if i < 0 {
			return c.Conn.Write(sent)
		}
		if at += i; c.s.meets() {
			copy(sent[at:], instead)
		}
	}
}

func (c *hangsConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	claimReplicas(b[:n])
	return n, err
}

func openHangs(t *testing.T) (*bus.Bus, *hangs) {
	t.Helper()
	s := &hangs{Server: bustest.Server(t)}
	b := openOn(t, s.Server, func(c *bus.Config) { c.Server, c.Timeout = s, 2*time.Second })
	if _, err := b.JetStream().Conn().Subscribe("$JS.API.DIRECT.MUM.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := b.JetStream().Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	return b, s
}

// Of three replicas one hangs, and a third of all reads go there. That cost whoever
// met it all of their time: no device could connect, though there were two others.
func TestFollowBesideAHungReplica(t *testing.T) {
	b, s := openHangs(t)
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 3)
	stream, _ := b.StreamOf(jane)
	s.meet(2)
	for range 5 {
		f, err := b.Follow(t.Context(), jane, bus.Cursor{Epoch: b.Epoch(jane), Seq: 1}, newSink(t, -1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		if start := f.Start(); start.Unread != 1 {
			t.Errorf("%d unread at the first, want 1", start.Unread)
		}
	}
	for range 3 {
		if seqs, pending, err := b.Direct(t.Context(), stream); err != nil || len(seqs) != 3 || pending != 0 {
			t.Errorf("read %v, %d pending, %v, want all three", seqs, pending, err)
		}
	}
}

// A batch that stops in its middle is taken as far as it has come, which says how much
// is left: who reads it goes on from there, and does not spend all of its time.
func TestBatchThatStopsInItsMiddle(t *testing.T) {
	b := open(t, nil)
	nc := b.JetStream().Conn()
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET.STOPS", func(m *nats.Msg) {
		nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{
			"Nats-Subject": {"s"}, "Nats-Last-Sequence": {"0"}, "Nats-Sequence": {"3"}, "Nats-Num-Pending": {"2"},
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	ctx, cancel := context.WithTimeout(t.Context(), patience(t))
	defer cancel()
	got, pending, err := b.Direct(ctx, "STOPS")
	if !slices.Equal(got, []uint64{3}) || pending != 2 || err != nil || ctx.Err() != nil {
		t.Fatalf("got %v, %d pending, %v, the time is up: %v; want 3, and 2 pending, in time", got, pending, err, ctx.Err())
	}
}

// A publisher who met the hung replica with the preferences waited for all of their
// time, and everybody after them was refused, though the leader was well.
func TestTellBesideAHungReplica(t *testing.T) {
	b, s := openHangs(t)
	many := make([]peal.Inbox, 30)
	for i := range many {
		many[i] = inbox(fmt.Sprint("user-", i))
	}
	muting := peal.Preferences{Types: map[peal.Type]bool{notification("n").Type: false}}
	setUser(t, b, many[0], muting)
	for i, tt := range []struct {
		name  string
		every int // Direct Get meets the one that hangs
		to    []peal.Inbox
		want  int
	}{
		{"a few", 2, many[:2], 1},
		{"many", 2, many, 29},
		{"a few, of whom only the leader knows", 1, many[:2], 1},
	} {
		b.ForgetWishes()
		s.meet(tt.every)
		got, err := b.Tell(t.Context(), noon, telling(fmt.Sprint("n", i), tt.to...))
		if err != nil || got.Stored != tt.want {
			t.Errorf("%s: %+v, %v, want %d stored", tt.name, got, err, tt.want)
		}
	}
}

// If all replicas are silent many preferences can't be read at once. Others are not
// refused for that, as long as the leader answers.
func TestSilentReplicasStallNobody(t *testing.T) {
	b, s := openHangs(t)
	many := make([]peal.Inbox, 30)
	for i := range many {
		many[i] = inbox(fmt.Sprint("user-", i))
	}
	s.meet(1)
	if _, err := b.Tell(t.Context(), noon, telling("n1", many...)); !errors.Is(err, peal.ErrUnavailable) || errors.Is(err, bus.ErrStalled) {
		t.Errorf("tell many: %v, want unavailable", err)
	}
	if _, err := b.Tell(t.Context(), noon, telling("n2", many[:2]...)); err != nil {
		t.Errorf("tell a few: %v, want them told", err)
	}
}

// Servers that have more to do than they can are late with everything. To ask them all
// of it again, five times in a second, has made it five times as much: after a restart
// of all nodes a cluster was so busy with questions of those who had given up that it
// never recovered.
func TestServersThatAreLateAreNotAskedForMore(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b := bustest.Open(t, s, func(*bus.Config) {})
	nc := bustest.JetStream(t, s).Conn()
	var asked atomic.Int64
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.OVERLOADED", func(*nats.Msg) { asked.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	const questions = 500
	var asking sync.WaitGroup
	for range questions {
		asking.Go(func() {
			if err := b.AskReplicas(ctx, "OVERLOADED"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want to have waited in vain", err)
			}
		})
	}
	asking.Wait()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n < questions || n > questions+64 {
		t.Errorf("%d questions were asked for %d that had no answer, want 64 more at most", n, questions)
	}
}
