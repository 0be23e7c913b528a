package bus_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
)

// client is one follower of an inbox as a connection of a node is one: it has
// room for so much, may lose what it has not passed on yet, and comes back.
type client struct {
	name   string
	t      testing.TB
	temper temper

	mu     sync.Mutex // protects the rest
	feed   *bus.Feed  // nil while it is disconnected
	room   int        // negative: no bound
	refuse int        // so often it has dropped what it held, and the feed is not back there yet
	follower
	passedOn place // what it falls back to
	blamed   bool  // nothing is judged any more: what follows a fault is its consequence
	trace    trace
}

// temper is how a client behaves.
type temper struct {
	leaves int           // of 120 things that it does so many are to disconnect
	stays  time.Duration // what it waits between two things while it is connected, at most
	away   time.Duration // and while it is not
	roomy  bool          // it takes everything
}

// tempers has three that come and go at once, one that stays and takes, and one
// that comes back when much has happened.
var tempers = []temper{
	{40, 30 * time.Millisecond, 30 * time.Millisecond, false},
	{40, 30 * time.Millisecond, 30 * time.Millisecond, false},
	{40, 30 * time.Millisecond, 30 * time.Millisecond, false},
	{20, 2 * time.Second, 30 * time.Millisecond, true},
	{20, 30 * time.Millisecond, 2 * time.Second, false},
}

// idles says how long the client waits before it does the next thing.
func (c *client) idles(r *rand.Rand) time.Duration {
	if c.connected() {
		return time.Duration(r.Int64N(int64(c.temper.stays)))
	}
	return time.Duration(r.Int64N(int64(c.temper.away)))
}

// trace is the last that has happened to a client.
type trace struct {
	events [20]event
	n      int
}

type event struct {
	at     time.Time
	what   string
	cursor bus.Cursor
}

func (t *trace) add(what string, cursor bus.Cursor) {
	t.events[t.n%len(t.events)] = event{time.Now(), what, cursor}
	t.n++
}

func (t *trace) String() string {
	var b strings.Builder
	for i := max(0, t.n-len(t.events)); i < t.n; i++ {
		e := t.events[i%len(t.events)]
		fmt.Fprintf(&b, "\n\t%s %s %v", e.at.Format("05.000000"), e.what, e.cursor)
	}
	return b.String()
}

func newClient(t testing.TB, name string, h *inboxHistory) *client {
	return &client{name: name, t: t, follower: follower{h: h}}
}

// blame reports what is wrong with what the client got.
func (c *client) blame(err error) {
	if err != nil && !c.blamed {
		c.blamed = true
		c.t.Errorf("%s: %v%s", c.name, err, &c.trace)
	}
}

// connection takes what one feed delivers, and nothing once it is closed.
type connection struct {
	c    *client
	feed *bus.Feed // set before the first Resume, then read-only
}

func (s *connection) Deliver(m *bus.Message) bool {
	_, rest, _ := strings.Cut(string(m.Data), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return s.take(id, m.Cursor, func() error { return s.c.delivered(id, m.Cursor) })
}

func (s *connection) State(bus.ReadState) bool { return true }

func (s *connection) Gap(g bus.Gap) bool {
	return s.take(string(g.Code), g.Cursor, func() error { return s.c.gapped(g) })
}

func (s *connection) take(what string, cursor bus.Cursor, judge func() error) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feed != s.feed {
		return false
	}
	if c.room == 0 || c.refuse > 0 {
		c.late = c.late || !c.taken
		return false
	}
	c.room--
	c.trace.add(what, cursor)
	c.blame(judge())
	return true
}

// connect follows the inbox from where the client stands.
func (c *client) connect(ctx context.Context, b *bus.Bus, room int) error {
	c.mu.Lock()
	c.room, c.refuse = room, 0
	c.asked()
	cursor := c.cursor
	c.mu.Unlock()

	s := &connection{c: c}
	f, err := b.Follow(ctx, c.h.in, cursor, s)
	if err != nil {
		return err
	}
	c.mu.Lock()
	s.feed, c.feed = f, f
	c.trace.add(fmt.Sprintf("connected to start at %+v after", f.Start()), cursor)
	c.blame(c.started(f.Start()))
	c.passedOn = c.place
	c.mu.Unlock()
	f.Resume()
	return nil
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

// give makes room, and has the feed go on.
func (c *client) give(room int) {
	c.mu.Lock()
	c.room = room
	f := c.feed
	c.mu.Unlock()
	if f != nil {
		f.Resume()
	}
}

// drop forgets what was taken and not passed on, and has the feed go back.
// Until it is there everything is refused.
func (c *client) drop() {
	c.mu.Lock()
	f, to := c.feed, c.passedOn
	c.place = to
	c.refuse++
	c.trace.add("drops back to", to.cursor)
	c.late = c.late || !c.taken
	c.mu.Unlock()
	if f == nil {
		return
	}
	f.Rewind(to.cursor, func() {
		c.mu.Lock()
		if c.feed == f {
			c.refuse--
		}
		c.mu.Unlock()
		f.Resume()
	})
}

// pass passes on what was taken.
func (c *client) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passedOn = c.place
}

// fallBack has the client come back without what it had not passed on.
func (c *client) fallBack() { c.comeBack(func() { c.place = c.passedOn }) }

func (c *client) comeBack(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.feed != nil
}

// wronged reports whether the client has got what is wrong.
func (c *client) wronged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blamed
}

// last returns what has happened to the client last.
func (c *client) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trace.String()
}

// stands returns where the client is.
func (c *client) stands() place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place
}

func (p place) String() string {
	return fmt.Sprintf("cursor %v of incarnation %d, between %d and %d, covered up to %d", p.cursor, p.incarnation, p.least, p.most, p.covered)
}

// step does one thing of what clients do.
func (c *client) step(ctx context.Context, r *rand.Rand, b *bus.Bus) (connected bool, err error) {
	room := r.IntN(40) - 10 // a quarter without bound
	if c.temper.roomy {
		room = -1
	}
	if !c.connected() {
		switch n := r.IntN(100); {
		case n < 2:
			c.comeBack(func() { c.forget(bus.Cursor{}) })
		case n < 3:
			c.comeBack(func() { c.forget(bus.Unknown) })
		case n < 40:
			c.fallBack()
		}
		err := c.connect(ctx, b, room)
		return err == nil, err
	}
	switch n := r.IntN(120); {
	case n < c.temper.leaves:
		c.disconnect()
	case n < 40:
	case n < 41:
		if b.Connected() { // else they wait for NATS
			b.Deafen(c.h.in)
		}
	case n < 43:
		if b.Connected() {
			b.Hear(c.h.in)
		}
	case n < 55:
		c.drop()
	case n < 80:
		c.pass()
	default:
		c.give(room)
	}
	return false, nil
}
