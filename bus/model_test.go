package bus_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// The model test: random followers, publishers and faults on one bus and one
// JetStream, which is a process that is killed, and a plain model that judges
// what every follower gets.
//
//	model_test.go           the run: its actors, its seed, its end
//	model_fault_test.go     the server process, and what happens to it
//	model_proxy_test.go     and to the connections
//	model_client_test.go    what followers do
//	model_follower_test.go  the verdicts on what one follower gets
//	model_history_test.go   what was published, and what is certain of it
//	model_verdict_test.go   that the verdicts catch what they are for
//
// The seed decides what every actor does and which faults there are, not how
// the scheduler mixes them: a seed that failed may have to be run a few times.

var (
	modelSeed = flag.Uint64("model.seed", 0, "seed of the model test; 0 chooses one")
	modelTime = flag.Duration("model.time", 0, "how long the model test runs; 0 means 6 s, or 2 s with -short")
)

const (
	modelPartitions = 3
	modelInboxes    = 12
	modelClients    = 60
	modelPublishers = 4

	modelBound  = 20              // notifications that an inbox keeps
	modelExpiry = 3 * time.Second // of one of the streams; the others keep theirs
	modelRetain = time.Hour

	// modelPatience is how long anything may take that must not fail.
	modelPatience = 30 * time.Second
)

// The streams of actors' random numbers, beside which their number counts.
const (
	faultStream = iota << 32
	publishStream
	clientStream
)

// model is one run.
type model struct {
	t       *testing.T
	seed    uint64
	server  *serverProcess
	proxy   *proxy
	admin   jetstream.JetStream // past the proxy
	bus     *bus.Bus
	streams map[string]*streamHistory // by the stream's name
	inboxes []*inboxHistory
	expires string // the stream whose messages expire

	published, uncertain, connected, refused atomic.Int64
	ids                                      atomic.Int64

	purges int // since the server was started; owned by who strikes it

	mu     sync.Mutex        // protects faults
	faults map[faultKind]int // how many there were
}

// Whatever followers do, whichever live messages are lost and whatever becomes
// of the server and its streams: each follower sees its inbox in order and
// once, or is told that something is missing; and what it is told is true.
func TestModel(t *testing.T) {
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
		lasting = 6 * time.Second
	}
	t.Logf("again with -model.seed %d", seed)
	m := newModel(t, seed)
	begun := time.Now()
	clients := m.run(lasting)
	lasted := time.Since(begun)
	m.end(clients)
	m.report(lasted)
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, seed: seed, server: newServerProcess(t), streams: make(map[string]*streamHistory), faults: make(map[faultKind]int)}
	m.admin = newAdmin(t, m.server.listen)
	m.proxy = newProxy(t, m.server.listen)
	b, err := bus.Open(t.Context(), bus.Config{
		URLs: []string{m.proxy.url()}, Replicas: 1, Partitions: modelPartitions,
		PerInbox: modelBound, Retain: modelRetain, TailCheck: time.Second, Timeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	m.bus = b
	for i := range modelInboxes {
		in := inbox(fmt.Sprintf("user-%d", i))
		name, _ := b.StreamOf(in)
		s := m.streams[name]
		if s == nil {
			s = newStreamHistory(b.Epoch(in), modelBound, modelRetain)
			m.streams[name] = s
		}
		if i == 0 {
			m.expires = name
			s.retain = modelExpiry
			m.keep(t.Context(), name, modelExpiry)
		}
		m.inboxes = append(m.inboxes, newInboxHistory(s, in))
	}
	return m
}

// newAdmin returns a JetStream for what is done to streams. It ends with the
// test.
func newAdmin(t testing.TB, address string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("nats://"+address, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func (m *model) random(stream uint64, actor int) *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, stream+uint64(actor)))
}

// run lets everybody act until the time is over and all faults have happened.
func (m *model) run(lasting time.Duration) (clients []*client) {
	var wg sync.WaitGroup
	acting, over := context.WithCancel(m.t.Context())
	defer over()
	for i := range modelPublishers {
		wg.Go(func() { m.publishing(acting, m.random(publishStream, i)) })
	}
	for i := range modelClients {
		h := m.inboxes[i%len(m.inboxes)]
		c := newClient(m.t, fmt.Sprintf("client %d of %s", i, h.in.User), h)
		c.temper = tempers[i/len(m.inboxes)%len(tempers)]
		clients = append(clients, c)
		wg.Go(func() { m.following(acting, m.random(clientStream, i), c) })
	}
	var faults sync.WaitGroup
	for i, kinds := range [][]faultKind{serverFaults, connectionFaults} {
		faults.Go(func() { m.striking(acting, m.random(faultStream, i), kinds, lasting) })
	}
	faults.Wait()
	over()
	wg.Wait()
	return clients
}

// striking lets faults happen until the time is over and each kind has had its
// turn.
func (m *model) striking(ctx context.Context, r *rand.Rand, kinds []faultKind, lasting time.Duration) {
	begun, struck := time.Now(), 0
	for f := range schedule(r, kinds, lasting, len(m.inboxes)) {
		pause(ctx, f.after)
		if time.Since(begun) >= lasting && struck >= len(kinds) {
			return
		}
		m.t.Logf("%s: %v", time.Now().Format("05.000000"), f)
		m.strike(ctx, f)
		struck++
		m.struck(f.kind)
	}
}

func (m *model) struck(kind faultKind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[kind]++
}

// publishing publishes bursts, to some inboxes often and to some rarely.
func (m *model) publishing(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		least := r.IntN(len(m.inboxes)) // the further down the rarer
		to := []*inboxHistory{m.inboxes[r.IntN(least+1)]}
		burst := 1 + r.IntN(4)*r.IntN(10) // now and then more than an inbox keeps
		if r.IntN(20) == 0 {
			to, burst = m.inboxes, 1 // an atomic batch for each stream
		}
		for range burst {
			m.publish(to, r.IntN(2) == 0)
		}
		pause(ctx, time.Duration(r.IntN(10_000))*time.Microsecond)
	}
}

// publish publishes the next notification of some inboxes, which are in their
// order. A publish that failed is given up, or tried again until it succeeds,
// as long as JetStream knows the id.
func (m *model) publish(to []*inboxHistory, persist bool) (acknowledged bool) {
	id := fmt.Sprintf("n%d", m.ids.Add(1))
	known := modelPatience
	inboxes, numbers := make([]peal.Inbox, len(to)), make([]int, len(to))
	for i, h := range to {
		h.publishing.Lock()
		defer h.publishing.Unlock()
		inboxes[i], numbers[i] = h.in, h.begin(id)
		known = min(known, h.stream.retain*2/3) // its window of duplicates is as long as it keeps messages
	}
	ctx, cancel := context.WithTimeout(context.Background(), known)
	defer cancel()
	for {
		_, err := m.bus.Publish(ctx, telling(id, inboxes...))
		if err == nil {
			break
		}
		if !persist || ctx.Err() != nil {
			m.uncertain.Add(1)
			return false
		}
		pause(ctx, 20*time.Millisecond)
	}
	for i, h := range to {
		h.acknowledge(numbers[i])
	}
	m.published.Add(int64(len(to)))
	return true
}

func (m *model) following(ctx context.Context, r *rand.Rand, c *client) {
	for ctx.Err() == nil {
		switch connected, err := c.step(ctx, r, m.bus); {
		case connected:
			m.connected.Add(1)
		case err != nil && ctx.Err() == nil:
			m.refused.Add(1)
			pause(ctx, 10*time.Millisecond)
		}
		pause(ctx, c.idles(r))
	}
}

// end lets everybody catch up, and gives each a last message: once the faults
// are over nobody may be left behind, also who had to miss a message after
// which nothing came.
func (m *model) end(clients []*client) {
	m.keep(m.t.Context(), m.expires, modelRetain)
	for _, c := range clients {
		if c.connected() {
			c.give(-1)
		} else {
			m.insist(m.t.Context(), "connect", func(ctx context.Context) error { return c.connect(ctx, m.bus, -1) })
		}
	}
	for i, h := range m.inboxes {
		if i%2 == 0 {
			m.bus.Deafen(h.in)
		} else {
			m.bus.Hear(h.in)
		}
	}
	m.all(clients, "caught up", place.has)
	for _, h := range m.inboxes {
		m.bus.Hear(h.in)
	}
	m.all(clients, "got its last", place.got)
	for _, c := range clients {
		c.disconnect()
	}
}

// all publishes to each inbox and waits until all clients have what they are
// to have of it.
func (m *model) all(clients []*client, what string, has func(place, int) bool) {
	m.insist(m.t.Context(), "publish", func(context.Context) error {
		if !m.publish(m.inboxes, true) {
			return errors.New("not acknowledged")
		}
		return nil
	})
	deadline := time.Now().Add(modelPatience)
	for _, c := range clients {
		want := len(c.h.all)
		for !c.wronged() && !has(c.stands(), want) {
			if time.Now().After(deadline) {
				m.t.Errorf("%s has not %s within %v: it stands at %v, want %d%s", c.name, what, modelPatience, c.stands(), want, c.last())
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func (m *model) report(lasted time.Duration) {
	s := m.bus.Stats()
	m.t.Logf("%v: %d connections (%.0f/min, %d refused), %d published (%d uncertain), %d delivered, %d gaps, %d reads, %d ranges, %d holes, %d rescued; %v",
		lasted.Round(time.Millisecond), m.connected.Load(), float64(m.connected.Load())/lasted.Minutes(), m.refused.Load(),
		m.published.Load(), m.uncertain.Load(), s.Delivered.Load(), s.Gaps.Load(), s.Reads.Load(), s.Ranges.Load(), s.Holes.Load(), s.Rescued.Load(), m.faults)
	if s.Gaps.Load() == 0 || s.Holes.Load() == 0 && lasted > 30*time.Second {
		m.t.Error("the model met no gap or no hole, so it shows nothing")
	}
}

// keep sets how long a stream keeps messages.
func (m *model) keep(ctx context.Context, stream string, retain time.Duration) {
	m.insist(ctx, "set the age of messages", func(ctx context.Context) error {
		s, err := m.admin.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		cfg.MaxAge, cfg.Duplicates = retain, min(retain, cfg.Duplicates)
		_, err = m.admin.UpdateStream(ctx, cfg)
		return err
	})
}

func (m *model) purge(ctx context.Context, stream, subject string) error {
	s, err := m.admin.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// recreate deletes the stream of an inbox, and waits until the bus has made it
// anew.
func (m *model) recreate(ctx context.Context, in *inboxHistory, stream string) {
	h := in.stream
	h.recreate()
	m.insist(ctx, "delete the stream", func(ctx context.Context) error { return m.admin.DeleteStream(ctx, stream) })
	var epoch bus.Epoch
	m.insist(ctx, "the bus makes the stream anew", func(ctx context.Context) error {
		s, err := m.admin.Stream(ctx, stream)
		if err == nil {
			epoch = bus.Epoch(s.CachedInfo().Config.Metadata["peal.epoch"])
		}
		return err
	})
	if stream == m.expires {
		m.keep(ctx, stream, modelExpiry)
	}
	m.insist(ctx, "the bus knows of the new stream", func(context.Context) error {
		if m.bus.Epoch(in.in) != epoch {
			m.bus.Refresh()
			return errors.New("it knows of another")
		}
		return nil
	})
	if err := h.recreated(epoch); err != nil {
		m.t.Error(err)
	}
}

// insist does something until it succeeds, for the server may be on its way
// back.
func (m *model) insist(ctx context.Context, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, modelPatience)
	defer cancel()
	for err := do(ctx); err != nil; err = do(ctx) {
		if ctx.Err() != nil {
			m.t.Errorf("%s: not within %v: %v", what, modelPatience, err)
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
