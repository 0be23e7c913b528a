package bus_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// The model test of inboxes: random devices on three nodes with one JetStream,
// which mark, unmark, list and count while notifications arrive, history is
// trimmed and JetStream is restarted. Now and then all is quiet: then all nodes
// and all devices have to agree with a plain model.
//
//	inboxmodel_test.go          the run: its actors, its seed, what has to hold meanwhile
//	inboxmodel_quiet_test.go    what has to hold when all is quiet
//	inboxmodel_device_test.go   what a device shows, by the rules of a client
//	inboxmodel_history_test.go  what was published and marked, and what follows
//	inboxmodel_verdict_test.go  that the model decides what can be decided
//
// It takes the flags of TestModel.

const (
	inboxUsers      = 3
	inboxNodes      = 3
	inboxDevices    = 6 // of each user
	inboxPartitions = 2
	inboxRetain     = 3 * time.Second // while there is a storm; history rests when it is quiet
	inboxStorm      = time.Second     // at most, and an eighth of it more
	inboxTimeout    = time.Second     // what is asked of a JetStream that ends is not answered
)

// inboxModel is one run.
type inboxModel struct {
	t       *testing.T
	seed    uint64
	bound   int // of an inbox: some hold so few that they are always read whole, and some more
	server  *serverProcess
	nodes   []*bus.Bus
	admin   jetstream.JetStream
	users   []*markings
	devices []*device

	clean bool // nothing was purged since the server was started; owned by who strikes it

	published, marked, unsure, listed, connected, restarts, purges, quiets atomic.Int64

	trimmed int64 // of what was published so much is not listed any more
}

// The streams of actors' random numbers, beside which their number counts.
const (
	inboxFaultStream = (iota + 16) << 32
	inboxModeStream
	inboxPublishStream
	inboxDeviceStream
)

func TestInboxModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	lasting := *modelTime
	switch {
	case lasting != 0:
	case testing.Short():
		lasting = 2 * time.Second
	default:
		lasting = 4 * time.Second // and to settle down
	}
	t.Logf("again with -model.seed %d", seed)
	m := newInboxModel(t, seed)
	begun := time.Now()
	for n := 0; !t.Failed(); n++ {
		// A machine that is slow enough meets nothing in the time: JetStream is
		// back only when the storm is over.
		if past := time.Since(begun); past >= lasting && m.met() || past >= lasting+modelPatience {
			break
		}
		m.storm(n)
		m.quiet()
	}
	for _, d := range m.devices {
		d.disconnect()
	}
	m.report(time.Since(begun))
}

func newInboxModel(t *testing.T, seed uint64) *inboxModel {
	m := &inboxModel{t: t, seed: seed, bound: 20 + int(seed%2)*60, clean: true, server: newServerProcess(t)}
	m.admin = newAdmin(t, m.server.listen)
	for range inboxNodes {
		b, err := bus.Open(t.Context(), bus.Config{
			URLs: []string{"nats://" + m.server.listen}, Replicas: 1, Partitions: inboxPartitions,
			PerInbox: m.bound, Retain: modelRetain, TailCheck: time.Second, Timeout: inboxTimeout,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		m.nodes = append(m.nodes, b)
	}
	for i := range inboxUsers {
		h := newMarkings(i)
		m.users = append(m.users, h)
		for k := range inboxDevices {
			m.devices = append(m.devices, newDevice(t, h, k))
		}
	}
	return m
}

func (m *inboxModel) random(stream uint64, storm, actor int) *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, stream+uint64(storm)<<16+uint64(actor)))
}

// storm lets everybody act for a while.
func (m *inboxModel) storm(n int) {
	m.keep(inboxRetain)
	r := m.random(inboxFaultStream, n, 0)
	lasting := inboxStorm
	if n > 1 {
		lasting >>= r.IntN(4) // what is wrong for a moment is seen only if all is quiet then
	}
	ctx, over := context.WithTimeout(m.t.Context(), lasting)
	defer over()
	var all sync.WaitGroup
	all.Go(func() {
		if n == 0 {
			m.restart(r)
		}
		m.trouble(ctx, r)
	})
	for i, h := range m.users {
		all.Go(func() { m.changeModes(ctx, m.random(inboxModeStream, n, i), h) })
		all.Go(func() { m.publishing(ctx, m.random(inboxPublishStream, n, i), h) })
	}
	for i, d := range m.devices {
		all.Go(func() { m.acting(ctx, m.random(inboxDeviceStream, n, i), d) })
	}
	all.Wait()
}

// trouble restarts JetStream, and purges.
func (m *inboxModel) trouble(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(r.Int64N(int64(inboxStorm))))
		if ctx.Err() != nil {
			return
		}
		h := m.users[r.IntN(len(m.users))]
		switch r.IntN(10) {
		case 0:
			m.purgeInbox(h)
		case 1:
			m.forgetState(h)
		case 2:
			m.purgeUser(r, h)
		case 3, 4, 5:
			m.restart(r)
		}
	}
}

// restart ends the server or kills it, and starts it again after a while.
func (m *inboxModel) restart(r *rand.Rand) {
	if r.IntN(2) == 0 && m.clean {
		m.server.kill()
	} else {
		m.server.stop()
	}
	pause(m.t.Context(), time.Duration(r.IntN(100))*time.Millisecond)
	if err := m.server.start(); err != nil {
		m.t.Error(err)
	}
	m.clean = true
	m.restarts.Add(1)
}

// purgeInbox erases what an inbox has. What is read stays.
func (m *inboxModel) purgeInbox(h *markings) {
	stream, subject := m.nodes[0].StreamOf(h.in)
	m.insist("purge an inbox", func(ctx context.Context) error { return m.purge(ctx, stream, subject) })
	m.purged()
}

// forgetState erases the read state of an inbox: everything is unread again.
func (m *inboxModel) forgetState(h *markings) {
	h.doing.Lock()
	defer h.doing.Unlock()
	stream, subject := m.nodes[0].StateOf(h.in)
	since := h.now()
	m.insist("purge a read state", func(ctx context.Context) error { return m.purge(ctx, stream, subject) })
	h.done(since, marking{all: true, unread: true})
	m.purged()
}

// purgeUser erases both, as the product does.
func (m *inboxModel) purgeUser(r *rand.Rand, h *markings) {
	h.doing.Lock()
	defer h.doing.Unlock()
	since := h.now()
	m.insist("purge a user", func(ctx context.Context) error {
		_, err := m.nodes[r.IntN(len(m.nodes))].Purge(ctx, h.in)
		return err
	})
	h.done(since, marking{all: true, unread: true})
	m.purged()
}

// purged notes a purge: nats-server 2.15 brings back some of what was purged when
// it is killed before it has ended once.
func (m *inboxModel) purged() {
	m.clean = false
	m.purges.Add(1)
}

func (m *inboxModel) purge(ctx context.Context, stream, subject string) error {
	s, err := m.admin.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// keep sets how long notifications are kept.
func (m *inboxModel) keep(retain time.Duration) {
	for _, h := range m.users {
		stream, _ := m.nodes[0].StreamOf(h.in)
		m.insist("set the age of messages", func(ctx context.Context) error {
			s, err := m.admin.Stream(ctx, stream)
			if err != nil {
				return err
			}
			cfg := s.CachedInfo().Config
			cfg.MaxAge, cfg.Duplicates = retain, min(retain, inboxRetain)
			_, err = m.admin.UpdateStream(ctx, cfg)
			return err
		})
	}
}

// insist does something until it succeeds.
func (m *inboxModel) insist(what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), modelPatience)
	defer cancel()
	for {
		once, cancel := context.WithTimeout(ctx, inboxTimeout)
		err := do(once)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			m.t.Errorf("%s: not within %v: %v", what, modelPatience, err)
			return
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// changeModes changes what devices may do at the same time.
func (m *inboxModel) changeModes(ctx context.Context, r *rand.Rand, h *markings) {
	for ctx.Err() == nil {
		h.doing.Lock()
		h.mode = mode(r.IntN(int(modes)))
		h.doing.Unlock()
		pause(ctx, time.Duration(20+r.IntN(100))*time.Millisecond)
	}
}

// publishing publishes bursts, some of them twice.
func (m *inboxModel) publishing(ctx context.Context, r *rand.Rand, h *markings) {
	for ctx.Err() == nil {
		var burst sync.WaitGroup
		for range 1 + r.IntN(3)*r.IntN(12) {
			id, b, again := h.begin(), m.nodes[r.IntN(len(m.nodes))], m.nodes[r.IntN(len(m.nodes))]
			if r.IntN(10) == 0 {
				burst.Go(func() { again.Publish(ctx, telling(id, h.in)) })
			}
			burst.Go(func() { m.publish(h, b, id) })
		}
		burst.Wait()
		pause(ctx, time.Duration(r.IntN(50))*time.Millisecond)
	}
}

// publish publishes a notification until it is stored, as long as JetStream knows
// the id.
func (m *inboxModel) publish(h *markings, b *bus.Bus, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), inboxRetain*2/3)
	defer cancel()
	n := notification(id)
	n.Priority = peal.Priorities()[len(id)%len(peal.Priorities())]
	for {
		_, err := b.Publish(ctx, bus.Publication{To: []peal.Inbox{h.in}, Notification: n})
		if err == nil {
			h.stored(id)
			m.published.Add(1)
			return
		}
		if ctx.Err() != nil {
			return // it may be stored, and may be not
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// acting does what devices and their users do.
func (m *inboxModel) acting(ctx context.Context, r *rand.Rand, d *device) {
	for ctx.Err() == nil {
		before := d.connected()
		var err error
		switch r.IntN(10) {
		case 0, 1:
			err = m.mark(ctx, r, d)
		case 2:
			err = m.look(ctx, r, d.h)
		default:
			err = d.step(ctx, r, m.nodes)
		}
		switch {
		case err != nil && ctx.Err() == nil && !errors.Is(err, peal.ErrUnavailable):
			m.t.Errorf("%s: %v", d.name, err)
		case err == nil && !before && d.connected():
			m.connected.Add(1)
		}
		pause(ctx, time.Duration(r.IntN(15))*time.Millisecond)
	}
}

// look lists and counts.
func (m *inboxModel) look(ctx context.Context, r *rand.Rand, h *markings) error {
	b := m.nodes[r.IntN(len(m.nodes))]
	if r.IntN(4) == 0 {
		b.Forget(h.in)
	}
	c, err := b.Count(ctx, h.in)
	if err != nil {
		return err
	}
	m.counts(h, c)
	q := bus.Query{Limit: r.IntN(9), Unread: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		q.Priorities = peal.Priorities()[:2]
	}
	for pages, last := 0, uint64(0); ; pages++ {
		page, err := b.List(ctx, h.in, q)
		if err != nil {
			return err
		}
		for _, e := range entries(m.t, page) {
			if last != 0 && e.cursor.Seq >= last || q.Unread && e.read {
				m.t.Errorf("%s: %v at %v comes after %d in the list of %+v", h.in.User, e, e.cursor, last, q)
			}
			last = e.cursor.Seq
		}
		m.listed.Add(1)
		if page.Next.IsZero() || pages > m.bound {
			return nil
		}
		q.Before = page.Next
	}
}

// counts checks what always holds of a count.
func (m *inboxModel) counts(h *markings, c bus.Count) {
	sum := 0
	for _, n := range c.UnreadByPriority {
		sum += n
	}
	if c.Unread < 0 || c.Unread > c.Total || c.Total > m.bound || sum != c.Unread || len(c.UnreadByPriority) != len(peal.Priorities()) {
		m.t.Errorf("%s: the count is %+v", h.in.User, c)
	}
}

// mark marks something, and looks whether another node knows of it at once.
func (m *inboxModel) mark(ctx context.Context, r *rand.Rand, d *device) error {
	h := d.h
	h.doing.RLock()
	defer h.doing.RUnlock()
	if h.mode == alone {
		h.lone.Lock()
		defer h.lone.Unlock()
	}
	request, what := m.choose(r, d, h.mode)
	since := h.now()
	b, other := m.nodes[r.IntN(len(m.nodes))], m.nodes[r.IntN(len(m.nodes))]
	var result bus.Marked
	tries := 0
	m.insist("mark", func(ctx context.Context) (err error) {
		tries++
		result, err = b.Mark(ctx, h.in, request)
		return err
	})
	what = h.done(since, what)
	m.marked.Add(1)
	if tries > 1 {
		m.unsure.Add(1)
	}
	if result.Unread < 0 || result.Unread > m.bound || result.Changed > m.bound {
		m.t.Errorf("%s: %v answers %+v", d.name, what, result)
	}
	page, err := other.List(ctx, h.in, bus.Query{})
	if err != nil {
		return err
	}
	for _, e := range entries(m.t, page) {
		// Nobody else undoes it as long as the mode is what it is.
		if is, certain := h.covers(what, e.id, e.cursor.Seq); is && certain && e.read == what.unread {
			m.t.Errorf("%s: after %v another node lists %v at %v in %v: %s", d.name, what, e, e.cursor, page.ReadState, h.said(e.id, e.cursor.Seq))
		}
	}
	return nil
}

// choose chooses what to mark.
func (m *inboxModel) choose(r *rand.Rand, d *device, in mode) (bus.Mark, marking) {
	h := d.h
	unread := in != forward && r.IntN(2) == 0
	if in != owned {
		places := d.places()
		switch n := r.IntN(6); {
		case n == 0:
			return bus.Mark{All: true}, marking{all: true}
		case n < 3 && len(places) > 0:
			c := places[r.IntN(len(places))]
			return bus.Mark{UpTo: c, Unread: unread}, marking{upTo: c.Seq, unread: unread}
		case n == 3 && len(places) > 0:
			return bus.Mark{UpTo: bus.Cursor{Epoch: places[0].Epoch, Seq: 1 << 40, Elsewhere: true}, Unread: unread}, marking{all: true, unread: unread}
		case n == 4 && len(places) > 0:
			return bus.Mark{UpTo: bus.Cursor{Epoch: places[0].Epoch, Seq: 1 << 40}, Unread: unread}, marking{unread: unread}
		case n == 4:
			return bus.Mark{UpTo: bus.Cursor{Epoch: "abcdefgh", Seq: 1 << 40}, Unread: unread}, marking{unread: unread}
		}
	}
	ids := []string{"nobody's"}
	other := m.users[(h.number+1)%len(m.users)]
	ids = append(ids, other.last(1)...)
	for _, id := range h.last(m.bound + 4) {
		number, ours := h.numberOf(id)
		if ours && (in != owned || number%inboxDevices == d.own) && r.IntN(3) == 0 {
			ids = append(ids, id)
		}
	}
	return bus.Mark{IDs: ids, Unread: unread}, marking{ids: ids, unread: unread}
}

func (m *inboxModel) report(lasted time.Duration) {
	m.t.Logf("%v: %d times quiet, %d published, %d trimmed, %d marks (%d of them uncertain first), %d lists, %d connections, %d states told, %d restarts, %d purges",
		lasted.Round(time.Millisecond), m.quiets.Load(), m.published.Load(), m.trimmed, m.marked.Load(), m.unsure.Load(), m.listed.Load(),
		m.connected.Load(), m.told(), m.restarts.Load(), m.purges.Load())
	if !m.met() {
		m.t.Error("the model met no restart, mark, connection or second quiet, or nothing that was trimmed, so it shows nothing")
	}
}

// met reports whether a run has met what it is for.
func (m *inboxModel) met() bool {
	return m.told() > 0 && m.marked.Load() > 0 && m.connected.Load() > 0 && m.trimmed > 0 && m.restarts.Load() > 0 && m.quiets.Load() > 1
}

// told is how many read states the nodes have told of.
func (m *inboxModel) told() (n int64) {
	for _, b := range m.nodes {
		n += b.Stats().StatesTold.Load()
	}
	return n
}
