package bus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// replicas is a server some of whose Direct Gets of inboxes, as chance will have it,
// are answered by a replica that lags.
type replicas struct {
	*embedded.Server
	mu    sync.Mutex // protects the rest
	lags  bool
	reads int // so many of the next that are no probes go to it
}

func (r *replicas) InProcessConn() (net.Conn, error) {
	c, err := r.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &replicaConn{c, r}, nil
}

type replicaConn struct {
	net.Conn
	r *replicas
}

// Write has what is asked go to the laggard, which listens on a subject of the same
// length.
func (c *replicaConn) Write(b []byte) (int, error) {
	asked := []byte("$JS.API.DIRECT.GET.PEAL_INBOX_")
	sent := bytes.Clone(b)
	for at := 0; ; {
		i := bytes.Index(sent[at:], asked)
		if i < 0 {
			break
		}
		if at += i; c.r.toLaggard(bytes.Contains(sent[at:], []byte(`"max_bytes"`))) {
			copy(sent[at:], "$JS.API.DIRECT.LAG.PEAL_INBOX_")
		}
		at += len(asked)
	}
	return c.Conn.Write(sent)
}

// Read has the leader say that its streams have three replicas.
func (c *replicaConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	claimReplicas(b[:n])
	return n, err
}

// claimReplicas has a leader say that its streams have three replicas.
func claimReplicas(said []byte) {
	copy(said, bytes.ReplaceAll(said, []byte(`"num_replicas":1`), []byte(`"num_replicas":3`)))
}

func (r *replicas) toLaggard(read bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if read && r.reads > 0 {
		r.reads--
		return true
	}
	return r.lags && rand.IntN(2) == 0
}

func (r *replicas) set(lags bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lags = lags
}

// once has the next reads go to the laggard, one at either end of what is kept, and
// nothing else.
func (r *replicas) once() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lags, r.reads = false, 2
}

// laggard answers Direct Gets of a stream, as a replica does that has stopped to
// apply what is stored.
type laggard struct {
	t    *testing.T
	held []*nats.Msg // ascending, all that it has
}

// lag has a stream, of which nothing was removed, read from a replica too that has
// nothing newer than what is stored now, until the result is called.
func (r *replicas) lag(t *testing.T, b *bus.Bus, stream string) (catchUp func()) {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(r.Server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l := &laggard{t: t}
	js, err := b.JetStream().Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; seq++ {
		m, err := js.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		l.held = append(l.held, &nats.Msg{Subject: m.Subject, Header: nats.Header{
			"Nats-Sequence": {strconv.FormatUint(seq, 10)}, "Nats-Msg-Id": m.Header["Nats-Msg-Id"],
		}, Data: m.Data})
	}
	if _, err := nc.Subscribe("$JS.API.DIRECT.LAG."+stream, l.answer); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r.set(true)
	return func() { r.set(false) }
}

func (l *laggard) answer(m *nats.Msg) {
	var get struct {
		Seq     uint64   `json:"seq"`
		NextFor string   `json:"next_by_subj"`
		Batch   int      `json:"batch"`
		LastFor []string `json:"multi_last"`
	}
	if err := json.Unmarshal(m.Data, &get); err != nil {
		l.t.Error(err)
		return
	}
	var found []*nats.Msg
	for i, h := range l.held {
		seq := uint64(i + 1)
		if h.Subject == get.NextFor && seq >= get.Seq {
			found = append(found, h)
		}
	}
	for _, subject := range get.LastFor {
		for i := len(l.held) - 1; i >= 0; i-- {
			if l.held[i].Subject == subject {
				found = append(found, l.held[i])
				break
			}
		}
	}
	pending := 0
	if len(get.LastFor) == 0 && len(found) > get.Batch {
		pending = len(found) - get.Batch
		found = found[:get.Batch]
	}
	if len(found) == 0 && len(get.LastFor) == 0 {
		m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}}})
		return
	}
	last := "0"
	for i, f := range found {
		h := nats.Header{
			"Nats-Subject": {f.Subject}, "Nats-Sequence": f.Header["Nats-Sequence"], "Nats-Last-Sequence": {last},
			"Nats-Num-Pending": {strconv.Itoa(len(found) - i - 1 + pending)}, "Nats-Msg-Id": f.Header["Nats-Msg-Id"],
		}
		last = h.Get("Nats-Sequence")
		m.RespondMsg(&nats.Msg{Header: h, Data: f.Data})
	}
	end := nats.Header{"Status": {"204"}, "Nats-Num-Pending": {strconv.Itoa(pending)}, "Nats-Last-Sequence": {last}}
	if len(get.LastFor) > 0 {
		end.Set("Nats-UpTo-Sequence", strconv.Itoa(len(l.held)))
	}
	m.RespondMsg(&nats.Msg{Header: end})
}

// badge shows a number by the rule of a client.
type badge struct {
	mu     sync.Mutex // protects number
	number uint64
}

func (g *badge) Deliver(m *bus.Message) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !m.Read {
		g.number++
	}
	return true
}

func (g *badge) Gap(bus.Gap) bool { return true }

func (g *badge) State(s bus.ReadState) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.number = s.Unread
	return true
}

func (g *badge) shows() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.number
}

// What a replica that lags has counted is put right once it has caught up. Which
// one answers is chance, so there are many devices.
func TestNumberThatALaggingReplicaCounted(t *testing.T) {
	r := &replicas{Server: bustest.Server(t)}
	b := bustest.Open(t, r.Server, func(c *bus.Config) { c.Partitions, c.Server = 1, r })
	var users []peal.Inbox
	for i := range 40 {
		users = append(users, inbox(fmt.Sprint("user-", i)))
	}
	publish(t, b, "n1", users...)
	publish(t, b, "n2", users...)
	stream, _ := b.StreamOf(users[0])
	places := make([][]bus.Cursor, len(users))
	for i, in := range users {
		places[i] = append(places[i], cursorOf(t, b, in, "n2"))
	}
	catchUp := r.lag(t, b, stream)
	publish(t, b, "n3", users...)
	publish(t, b, "n4", users...)
	for i, in := range users {
		places[i] = append(places[i], cursorOf(t, b, in, "n4"))
	}
	var badges []*badge
	var feeds []*bus.Feed
	for i, in := range users {
		for _, after := range places[i] {
			g := &badge{}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			f, err := b.Follow(ctx, in, after, g)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.Close)
			g.number = f.Start().Unread
			badges, feeds = append(badges, g), append(feeds, f)
		}
	}
	catchUp()
	for _, f := range feeds { // only now: two counts of one that lags may agree
		f.Resume()
	}
	wrong := func() (n int) {
		for _, g := range badges {
			if g.shows() != 4 {
				n++
			}
		}
		return n
	}
	if wrong() == 0 {
		t.Fatal("no device begins with a wrong number: nothing lags")
	}
	eventually(t, "every device shows 4", func() bool { return wrong() == 0 })
}

// A replica may lag for longer than between two counts of a number, which then agree.
// The number is right while it still lags.
func TestNumberWhileAReplicaGoesOnLagging(t *testing.T) {
	r := &replicas{Server: bustest.Server(t)}
	b := bustest.Open(t, r.Server, func(c *bus.Config) { c.Partitions, c.Server = 1, r })
	var users []peal.Inbox
	for i := range 16 {
		users = append(users, inbox(fmt.Sprint("user-", i)))
	}
	publish(t, b, "n1", users...)
	publish(t, b, "n2", users...)
	stream, _ := b.StreamOf(users[0])
	r.lag(t, b, stream)
	publish(t, b, "n3", users...)
	publish(t, b, "n4", users...)
	var badges []*badge
	for _, in := range users {
		g := &badge{}
		f, err := b.Follow(t.Context(), in, cursorOf(t, b, in, "n4"), g)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		g.number = f.Start().Unread
		badges = append(badges, g)
		f.Resume()
	}
	eventually(t, "every device shows 4", func() bool {
		return !slices.ContainsFunc(badges, func(g *badge) bool { return g.shows() != 4 })
	})
	// And it stays so, however it is marked.
	for i, in := range users {
		markAs(t, b, in, bus.Mark{IDs: []string{fmt.Sprint("n", i%4+1)}})
	}
	eventually(t, "every device shows 3", func() bool {
		return !slices.ContainsFunc(badges, func(g *badge) bool { return g.shows() != 3 })
	})
}

// What was stored and marked before is listed and counted at once, whichever replica
// is asked.
func TestListBesideALaggingReplica(t *testing.T) {
	r := &replicas{Server: bustest.Server(t)}
	b := bustest.Open(t, r.Server, func(c *bus.Config) { c.Partitions, c.Server, c.PerInbox = 1, r, 6 })
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 6)
	stream, _ := b.StreamOf(jane)
	catchUp := r.lag(t, b, stream)
	defer catchUp()
	for i := 7; i < 20; i++ {
		publish(t, b, fmt.Sprint("n", i), jane)
		want := ""
		for j := i; j > i-6; j-- {
			want += fmt.Sprintf("n%d* ", j)
		}
		if i%2 == 0 {
			b.Forget(jane)
		}
		if got := list(t, b, jane) + " "; got != want {
			t.Fatalf("the list is %q, want %q", got, want)
		}
		c, err := b.Count(t.Context(), jane)
		if err != nil || !c.Truncated {
			t.Fatalf("%+v, %v", c, err)
		}
	}
}
