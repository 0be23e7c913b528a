package node

import (
	"context"
	"errors"
	"path"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// This file is the limit of open connections: of a user, on a route, in the whole
// cluster. Each connection holds a slot of the bus for as long as its request lasts,
// and so does a poll that waits.

// slotRoute names a route in the slots of its connections: notifications, updates or
// list. Nodes of a cluster have to agree on it.
func slotRoute(route string) string { return path.Base(route) }

// mayOpen refuses, in the contract's order, what needs no question to JetStream: a
// connection of a user who has all of them at this node, and any while the node lets
// go of its connections or is blind.
func (n *Node) mayOpen(r *request, in peal.Inbox) error {
	if most := n.cfg.MaxPerUser; most >= 0 && n.bus.SlotsOf(in, slotRoute(r.route)) >= most {
		return peal.ErrTooManyConnections
	}
	if n.draining.Load() {
		return errDraining
	}
	return n.sighted()
}

// headStart is how long a slot is waited for, as a rule, before anything is read for a
// connection that may be refused.
const headStart = 500 * time.Millisecond

// seated takes a slot for c until the request ends, and has it followed: after that, or
// at once if the slot takes long, so that a JetStream that hangs has as long as for one
// of them. Of two errors that of the slot counts. follow's feed is closed if there is no
// slot. Who would take a durable over has a slot first: else one that is refused would
// have ended the connection of another.
func (n *Node) seated(r *request, c *conn, follow func(context.Context) (*bus.Feed, error)) (*bus.Feed, error) {
	if n.cfg.MaxPerUser < 0 {
		return follow(r.Context())
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var slot *bus.Slot
	var refused error
	taken := make(chan struct{}) // closed once slot and refused are set
	go func() {
		defer close(taken)
		if slot, refused = n.takeSlot(ctx, r, c); refused != nil {
			cancel() // there is nothing to follow for
		}
	}()
	defer func() { // also where following panics, or the slot would be kept for ever
		<-taken
		if slot != nil {
			r.atEnd = append(r.atEnd, slot.Release)
		}
	}()
	if c.takesOver {
		<-taken
	}
	wait(taken, n.headStart)
	feed, err := (*bus.Feed)(nil), ctx.Err()
	if err == nil {
		feed, err = follow(ctx)
	}
	if err != nil {
		cancel()
	}
	<-taken
	switch {
	case refused == nil, err != nil && errors.Is(refused, context.Canceled):
		return feed, err
	case err == nil:
		feed.Close()
	}
	return nil, refused
}

// wait waits until something is done, but not for longer than patience.
func wait(done <-chan struct{}, patience time.Duration) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}

// takeSlot takes a slot for c, which is ended should it be lost.
func (n *Node) takeSlot(ctx context.Context, r *request, c *conn) (*bus.Slot, error) {
	in, route, lost := c.caller.Inbox, slotRoute(r.route), func() { c.end(overLimit) }
	slot, err := n.bus.TakeSlot(ctx, in, route, n.cfg.MaxPerUser, lost)
	if n.cfg.LimitLocally && errors.Is(err, peal.ErrUnavailable) {
		return n.bus.TakeSlotLater(in, route, n.cfg.MaxPerUser, lost)
	}
	return slot, err
}

// limiter bounds what a user has under way on this node.
type limiter struct {
	most int // negative: no bound

	mu   sync.Mutex // protects open
	open map[peal.Inbox]int
}

func newLimiter(most int) *limiter { return &limiter{most: most, open: make(map[peal.Inbox]int)} }

// take counts one more, or returns false. Each take that succeeds needs one release.
func (l *limiter) take(in peal.Inbox) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most >= 0 && l.open[in] >= l.most {
		return false
	}
	l.open[in]++
	return true
}

func (l *limiter) release(in peal.Inbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[in]--; l.open[in] <= 0 {
		delete(l.open, in)
	}
}
