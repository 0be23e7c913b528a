package bus_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
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

// besideALaggard is a bus with an inbox of many notifications, the last few of which
// a replica lacks.
func besideALaggard(t *testing.T, in peal.Inbox, before, after int, between func(*bus.Bus)) (b *bus.Bus, r *replicas) {
	t.Helper()
	r = &replicas{Server: bustest.Server(t)}
	b = bustest.Open(t, r.Server, func(c *bus.Config) { c.Partitions, c.Server = 1, r })
	publishAll(t, b, in, 1, before)
	between(b)
	stream, _ := b.StreamOf(in)
	r.lag(t, b, stream)
	publishAll(t, b, in, before+1, before+after)
	return b, r
}

// A replica that lags knows of fewer notifications from a place on than there are. How
// far an inbox was read is judged by the place, so none that is unread is left out of
// a count, nor below the floor that a mark puts under it.
func TestFewUnreadOfManyBesideALaggingReplica(t *testing.T) {
	jane := inbox("jane")
	b, r := besideALaggard(t, jane, 200, 8, func(b *bus.Bus) { markAs(t, b, jane, bus.Mark{All: true}) })
	for i := range 14 {
		b.Forget(jane)
		c, err := b.Count(t.Context(), jane)
		if err != nil {
			t.Fatal(err)
		}
		if want := 8 - i%2; c.Unread != want {
			t.Fatalf("%d are unread, want %d", c.Unread, want)
		}
		b.Forget(jane)
		markAs(t, b, jane, bus.Mark{IDs: []string{"n208"}, Unread: i%2 == 1})
	}
	r.set(false)
	if got := list(t, b, jane); !strings.HasPrefix(got, "n208* n207* n206* n205* n204* n203* n202* n201* n200 ") {
		t.Errorf("once nothing lags the list is %.60q…", got)
	}
}

// What is read of an inbox in two parts, of two replicas, joins, or is not kept: also
// where the one that lags has nothing of the first part.
func TestDeeperPageBesideALaggingReplica(t *testing.T) {
	const before = 200
	for _, lacks := range []int{6, 60} {
		jane := inbox("jane")
		b, r := besideALaggard(t, jane, before, lacks, func(*bus.Bus) {})
		deeper := func(when string) {
			t.Helper()
			page, err := b.List(t.Context(), jane, bus.Query{Limit: lacks + 60})
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range entries(t, page) {
				if want := fmt.Sprint("n", before+lacks-i); e.id != want {
					t.Fatalf("%s, which lacks %d: entry %d of the list is %s, want %s", when, lacks, i, e.id, want)
				}
			}
		}
		few := func() {
			t.Helper()
			b.Forget(jane)
			if _, err := b.List(t.Context(), jane, bus.Query{Limit: 10}); err != nil {
				t.Fatal(err)
			}
		}
		for range 8 {
			r.set(true)
			few()
			deeper("while a replica lags")
			r.set(false)
			deeper("after a replica has lagged")
		}
		few()
		r.once()
		deeper("when a replica that lags has read")
	}
}

// Who makes an old one unread again has the inbox read back to it.
func TestUnreadAgainReachesTheOldest(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 100)
	markAs(t, b, jane, bus.Mark{All: true})
	b.Forget(jane)
	if got := markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}, Unread: true}); got != 1 {
		t.Errorf("changed %d, want 1", got)
	}
	if got := list(t, b, jane); !strings.HasSuffix(got, " n2 n1*") {
		t.Errorf("the list ends with %q", got[len(got)-12:])
	}
}

// mute is a server one of whose streams has a leader that does not answer.
type mute struct {
	*embedded.Server
	stream string
	on     atomic.Bool
}

func (m *mute) InProcessConn() (net.Conn, error) {
	c, err := m.Server.InProcessConn()
	return &muteConn{c, m}, err
}

type muteConn struct {
	net.Conn
	m *mute
}

// Write has what the leader is asked go to somebody who is silent.
func (c *muteConn) Write(b []byte) (int, error) {
	if c.m.on.Load() {
		b = bytes.ReplaceAll(b, []byte("$JS.API.STREAM.MSG.GET."+c.m.stream+" "), []byte("$JS.NIL.STREAM.MSG.GET."+c.m.stream+" "))
	}
	return c.Conn.Write(b)
}

// Who waits for the leader of one partition delays nobody in another, however many
// they are.
func TestASilentPartitionDelaysNoOther(t *testing.T) {
	here, away := inbox("jane"), inbox("joe")
	for i := 0; partitionOf(here) == partitionOf(away); i++ {
		away = inbox(fmt.Sprint("joe", i))
	}
	m := &mute{Server: bustest.Server(t), stream: fmt.Sprintf("PEAL_STATE_local_%d", partitionOf(away))}
	nc, err := nats.Connect("", nats.InProcessServer(m.Server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("$JS.NIL.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := bustest.Open(t, m.Server, func(c *bus.Config) { c.Partitions, c.Server, c.Timeout = 2, m, 3*time.Second })
	publish(t, b, "n1", here, away)

	m.on.Store(true)
	var all sync.WaitGroup
	var waited atomic.Int64
	for range 64 { // more than inboxes are read at once
		all.Go(func() {
			if _, err := b.Count(t.Context(), away); err != nil {
				waited.Add(1)
			}
		})
	}
	for range 10 {
		if c, err := b.Count(t.Context(), here); err != nil || c.Total != 1 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if n := waited.Load(); n > 0 {
		t.Errorf("%d of those who wait have given up by now: so did they all, and the others waited", n)
	}
	all.Wait()
	if n := waited.Load(); n != 64 {
		t.Errorf("%d of 64 have waited in vain: nothing was silent", n)
	}
}

func partitionOf(in peal.Inbox) int {
	p, _ := bus.Locate(in, 2, "inbox", "local")
	return p
}
