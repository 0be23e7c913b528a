package bus_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "seed of the model test; 0 chooses one")
	modelTime = flag.Duration("model.time", 0, "how long the model test runs; 0 means 6 s, or 2 s with -short")
)

const modelBound = 20 // notifications that an inbox keeps

// history is what was published to one inbox: the notifications are numbered
// from 1, and one is published at a time.
type history struct {
	in         peal.Inbox
	publishing sync.Mutex
	started    atomic.Int64 // number of the last that was begun
	done       atomic.Int64 // number of the last that was acknowledged
}

// client is one follower of an inbox, over all its connections. It holds what
// it gets against the history.
type client struct {
	h    *history
	fail func(format string, args ...any)

	mu     sync.Mutex // protects the rest
	feed   *bus.Feed  // nil while it is disconnected
	cursor bus.Cursor // zero before the first connection
	room   int        // negative: no bound

	// The number of the last notification it has, or, as long as it is not
	// exact, the least and the most that it may begin after.
	least, most int64
	exact       bool
	gap         bool // one was declared since
}

// sinkOf takes what one connection delivers, and nothing once it is closed.
type sinkOf struct {
	c    *client
	feed *bus.Feed // compared with the client's; set before the first Resume
}

func (s *sinkOf) Deliver(m *bus.Message) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feed != s.feed || c.room == 0 {
		return false
	}
	c.room--
	_, rest, _ := strings.Cut(string(m.Data), `"id":"n`)
	id, _, _ := strings.Cut(rest, `"`)
	n, err := strconv.ParseInt(id, 10, 64)
	switch {
	case err != nil:
		c.fail("%v: not a number: %v", c.h.in.User, err)
	case n <= c.least:
		c.fail("%v: %d after %d: repeated or out of order", c.h.in.User, n, c.least)
	case n > c.most+1 && !c.gap:
		c.fail("%v: %d after %d: lost without a gap", c.h.in.User, n, c.most)
	}
	c.least, c.most, c.exact, c.gap = n, n, true, false
	c.cursor = m.Cursor
	return true
}

func (s *sinkOf) Gap(g bus.Gap) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feed != s.feed || c.room == 0 {
		return false
	}
	c.room--
	if g.Code != bus.HistoryTruncated {
		c.fail("%v: gap %s", c.h.in.User, g.Code)
	}
	// What it has last proves that nothing is missing as long as it is stored.
	if started := c.h.started.Load(); c.exact && !c.gap && started < c.least+modelBound {
		c.fail("%v: gap after %d of %d, which is still stored", c.h.in.User, c.least, started)
	}
	c.gap = true
	c.cursor = g.Cursor
	return true
}

func (c *client) connect(b *bus.Bus, room int) {
	c.mu.Lock()
	c.room = room
	cursor := c.cursor
	c.mu.Unlock()

	before := c.h.done.Load()
	s := &sinkOf{c: c}
	f, err := b.Follow(context.Background(), c.h.in, cursor, s)
	if err != nil {
		c.fail("%v: follow: %v", c.h.in.User, err)
		return
	}
	c.mu.Lock()
	s.feed, c.feed = f, f
	if cursor.IsZero() {
		c.cursor = f.Start().Cursor
		c.least, c.most = before, c.h.started.Load()
	}
	c.mu.Unlock()
	f.Resume()
}

func (c *client) disconnect() {
	c.mu.Lock()
	f := c.feed
	c.feed = nil
	c.mu.Unlock()
	if f != nil {
		f.Close()
	}
}

func (c *client) give(room int) {
	c.mu.Lock()
	c.room = room
	f := c.feed
	c.mu.Unlock()
	if f != nil {
		f.Resume()
	}
}

func (c *client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.feed != nil
}

func (c *client) at() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.exact {
		return 0
	}
	return c.least
}

// publishNext publishes the next notification of the inbox.
func (h *history) publishNext(b *bus.Bus) error {
	h.publishing.Lock()
	defer h.publishing.Unlock()
	n := h.started.Add(1)
	if _, err := b.Publish(context.Background(), []peal.Inbox{h.in}, notification(fmt.Sprintf("n%d", n))); err != nil {
		return err
	}
	h.done.Store(n)
	return nil
}

// Whatever followers do, and whichever live messages are lost, each sees its
// inbox in order and once, or is told that something is missing; and what it
// is told is true.
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

	b := open(t, func(c *bus.Config) { c.PerInbox, c.TailCheck = modelBound, time.Second })
	all := make([]*history, 10)
	for i := range all {
		all[i] = &history{in: inbox(fmt.Sprintf("user-%d", i))}
	}
	var wg sync.WaitGroup
	end := time.Now().Add(lasting)
	for p := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, p))
			for time.Now().Before(end) {
				h := all[r.IntN(len(all))]
				for range 1 + r.IntN(4)*r.IntN(10) { // now and then more than the inbox keeps
					if err := h.publishNext(b); err != nil {
						t.Errorf("publish: %v", err)
						return
					}
				}
				time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
		})
	}
	clients := make([]*client, 40)
	for i := range clients {
		clients[i] = &client{h: all[i%len(all)], fail: t.Errorf}
	}
	for p := range uint64(4) {
		mine := clients[p*10 : p*10+10]
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 100+p))
			for time.Now().Before(end) {
				c := mine[r.IntN(len(mine))]
				switch n := r.IntN(20); {
				case !c.connected():
					c.connect(b, r.IntN(40)-10) // a quarter without bound
				case n < 6:
					c.disconnect()
				case n < 8:
					b.Deafen(c.h.in)
				case n < 14:
					b.Hear(c.h.in)
				default:
					c.give(r.IntN(40) - 10)
				}
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
		})
	}
	wg.Wait()

	// Everybody catches up, and gets what comes then.
	for _, h := range all {
		b.Hear(h.in)
	}
	for _, c := range clients {
		c.disconnect()
		c.connect(b, -1)
	}
	for _, h := range all {
		if err := h.publishNext(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		eventually(t, fmt.Sprintf("a client of %v has all of %d", c.h.in.User, c.h.done.Load()),
			func() bool { return c.at() == c.h.done.Load() })
		c.disconnect()
	}
	s := b.Stats()
	t.Logf("%d stored, %d delivered, %d gaps, %d reads, %d holes, %d rescued", s.Stored.Load(), s.Delivered.Load(),
		s.Gaps.Load(), s.Reads.Load(), s.Holes.Load(), s.Rescued.Load())
	if s.Gaps.Load() == 0 || s.Holes.Load() == 0 {
		t.Error("the model met no gap or no hole, so it shows nothing")
	}
}
