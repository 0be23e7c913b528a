package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is how a node lets go of its connections when nothing is wrong with them:
// because it leaves, because NATS has left it, or because they are old. All three end
// a connection in the same way, of which every part has its reason.
//
//   - It is told why, by the event error, and when to come back, by a retry: of its own,
//     1 to 3 s at random (errorFrame): who was let go together shall not come back
//     together.
//   - It is then aborted, not ended: after a clean end some client libraries never come
//     back. Nothing is lost by it: a client resumes after the last id it has seen.
//   - Many are let go one after the other, evenly over the drain window (letGo): so many
//     come back each second as the other nodes, and their proxies and issuers, can take.
//   - Its slot is freed when its request ends, before the response is aborted: whoever
//     comes back finds it free, at whichever node.
//
// # Leaving
//
// A node that is told to end goes through these steps (drain, then Serve):
//
//  1. It is not ready, at once, so that load balancers look for others.
//  2. It goes on as before for the drain delay, for they take a while: until then new
//     connections come, and to refuse them would be an error that a client sees.
//  3. It opens no connection any more. Who comes is told to go elsewhere, by a 503 with
//     Retry-After, and each answer closes its TCP connection. All other calls are
//     answered to the end.
//  4. It lets go of its connections over the window. Polls that wait are connections,
//     and are answered with what they have: nothing, as a rule.
//  5. It waits for the last words to be written, and for the calls under way.
//  6. Whoever runs the node closes the bus then, last: till here calls were answered, and
//     slots freed, by it. What slots are left it frees itself, all at once.
//
// A second signal cuts short whatever step there is. A node that is killed does none of
// it: its clients notice at once, and its slots are free when they expire.
//
// # Fencing
//
// A node that NATS has left serves nobody: its clients get heartbeats and nothing else,
// while another node may be able to tell them everything. But most often NATS is away
// from all nodes, and back within seconds; to end everything then would have everybody
// come back for nothing. So it goes by how long it lasts (bus.Bus.Away):
//
//   - From the first moment on, nobody new is let in: JetStream has no answer.
//   - After AwayPatience the node is not ready: new clients are sent elsewhere.
//   - After AwayLimit it lets go of its connections, with SUBSCRIPTION_ERROR, as in a
//     drain (fence). If NATS comes back in between, the others stay.
//
// The process goes on, whatever happens: it is ready again when NATS is back, and a
// restart could do nothing about that.
//
// # Maximum age
//
// Connections that never end stay where they were opened: behind a load balancer, a node
// that was added gets nobody. MaxAge ends each after about that time, a tenth sooner or
// later, so that those that were opened together do not come back together. They need no
// window: the wheel finds each in its time.

// drain is steps 1 to 5 of leaving, up to the last words. It returns soon after now has
// ended.
func (n *Node) drain(now context.Context) {
	n.log.Info("draining", "delay", max(n.cfg.DrainDelay, 0), "window", max(n.cfg.DrainWindow, 0))
	n.leaving.Store(true)
	pause(now, n.cfg.DrainDelay)
	n.refuseConnections()

	conns := n.connections()
	n.letGo(now, conns, draining, always)
	n.awaitLeave()
	n.log.Info("drained", "connections", len(conns))
}

// fenceStep is how often it is looked whether NATS has been away for too long.
const fenceStep = time.Second

// fence lets go of the connections when NATS has been away for longer than AwayLimit,
// until ctx ends.
func (n *Node) fence(ctx context.Context) {
	if n.cfg.AwayLimit < 0 {
		return
	}
	tick := time.NewTicker(min(fenceStep, n.cfg.AwayLimit))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !n.abandoned() {
			continue
		}
		conns := slices.DeleteFunc(n.connections(), func(c *conn) bool { return c.ended.Load() != nil })
		if len(conns) == 0 {
			continue
		}
		n.log.Warn("NATS is away for too long: connections are let go, to look elsewhere",
			"away", n.bus.Away().Round(time.Second), "connections", len(conns), "window", max(n.cfg.DrainWindow, 0))
		ended := n.letGo(ctx, conns, natsAway, n.abandoned)
		n.log.Info("connections were let go for want of NATS", "connections", ended, "kept", len(conns)-ended)
	}
}

// abandoned reports whether NATS has been away for too long.
func (n *Node) abandoned() bool { return n.bus.Away() > n.cfg.AwayLimit }

// lifetime is how long a connection may be open: MaxAge, give or take a tenth. 0 means
// that there is no bound.
func (n *Node) lifetime() time.Duration {
	if n.cfg.MaxAge <= 0 {
		return 0
	}
	return n.cfg.MaxAge - n.cfg.MaxAge/10 + rand.N(n.cfg.MaxAge/5+1)
}

// letGo ends connections evenly over the drain window, and those that are left at once
// when ctx ends. It stops as soon as there is no reason to go on, and returns how many
// were ended.
func (n *Node) letGo(ctx context.Context, conns []*conn, why reason, still func() bool) (ended int) {
	began := time.Now()
	for i, c := range conns {
		share := float64(i) / float64(len(conns))
		pause(ctx, time.Until(began.Add(time.Duration(share*float64(n.cfg.DrainWindow)))))
		if !still() {
			return i
		}
		c.end(why)
	}
	return len(conns)
}

// always is a reason that does not pass.
func always() bool { return true }

// refuseConnections lets no connection open any more.
func (n *Node) refuseConnections() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.draining.Store(true)
}

// awaitLeave waits until the last words of all connections are written, or
// should have been.
func (n *Node) awaitLeave() {
	late := time.NewTimer(lastWords + wheelStep)
	defer late.Stop()
	for len(n.connections()) > 0 {
		select {
		case <-n.left:
		case <-late.C:
			return
		}
	}
}

// connections lists the open connections.
func (n *Node) connections() []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	conns := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		conns = append(conns, c)
	}
	return conns
}
