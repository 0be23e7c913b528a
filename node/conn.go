package node

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// reason is why a connection ended: the log attribute and the metric label.
type reason string

const (
	clientGone   reason = "client_gone"
	tokenExpired reason = "token_expired"
	slowClient   reason = "slow_client" // took nothing for the write timeout; its cursor brings it back
	draining     reason = "draining"
	natsAway     reason = "nats_away" // for longer than AwayLimit
	tooOld       reason = "max_age"
	revoked      reason = "revoked"
	overLimit    reason = "over_limit"    // others have all slots of the user, after JetStream was away for long
	takenOver    reason = "taken_over"    // another connection follows by its durable
	removed      reason = "removed"       // its durable was
	realmChanged reason = "realm_changed" // its configuration; the token may still be good
)

// farewell is what the client is told before the server ends its connection.
var farewell = map[reason]struct{ code, message string }{
	tokenExpired: {"TOKEN_EXPIRED", "Your token has expired"},
	slowClient:   {"SLOW_CLIENT", "You took nothing for too long"},
	draining:     {"DRAINING", "This server is going away: connect again"},
	natsAway:     {"SUBSCRIPTION_ERROR", "Failed to subscribe to notification channel"},
	tooOld:       {"DRAINING", "This connection has been open for long: connect again"},
	takenOver:    {"CONNECTION_LIMIT", "Another connection has taken over this durable subscription"},
	removed:      {"SUBSCRIPTION_ERROR", "This durable subscription was removed"},
	revoked:      {"REVOKED", "Your token is not good any more: sign in again"},
	overLimit:    {"CONNECTION_LIMIT", "This user has too many open connections"},
	realmChanged: {"DRAINING", "The rules of your realm have changed: connect again"},
}

// transport holds an open response and writes to it. There is one kind for an
// event stream, the request's own goroutine; whatever else can hold a socket fits
// behind it. A poll that waits is the other.
type transport interface {
	// offer takes a frame of the feed to be written, all or none, and never
	// blocks. at is where the reader is after it; zero if it does not tell. news is the
	// message if it was stored since the connection is open; nil for anything else. After
	// it has answered false the transport calls Feed.Resume when there is room. What it
	// has taken and not begun to write it may drop, with Feed.Rewind, after which it is
	// offered again.
	offer(frame []byte, at bus.Cursor, news *bus.Message) bool

	// offerUpdate is offer for a ticket update with its frame. It may be told
	// together with others of its ticket.
	offerUpdate(u *bus.Update, frame []byte) bool

	// offerIdle takes a frame that means something only now, and only if nothing
	// is being written or waits to be.
	offerIdle(frame []byte) bool

	// end has the response aborted, after what was taken and the last bytes,
	// as far as the peer still takes any.
	end(why reason, last []byte)
}

// conn is an open response: of SSE, then it is the sink of a feed, or of a poll
// that waits.
type conn struct {
	node      *Node
	caller    auth.Caller
	transport transport
	polls     bool
	route     string // the metric label: notifications, list/updates
	spoke     spoke
	ended     atomic.Pointer[reason] // nil: it is not
	opened    time.Time
	tenant    *tenantMetrics // of its tenant; nil if that is not counted
	lifetime  time.Duration  // after opened; 0: no bound
	takesOver bool           // it follows by a durable, which is another's until then
	durable   *bus.Durable   // that it follows by; nil: by its own cursor
	proof     *proof         // of what the peer has received, for the durable

	// Owned by watchCallers.
	going bool // it is being let go, in its turn

	// Owned by the wheel's goroutine once the connection is in the wheel.
	beat time.Time // of the next heartbeat
}

// outlived ends a connection whose token is not good any more, and reports whether it
// has. The wheel does as much in time; but a process that was stopped hears what was
// stored meanwhile before its wheel has turned.
func (c *conn) outlived() bool {
	if time.Now().Before(c.caller.Expires) {
		return false
	}
	c.end(tokenExpired)
	return true
}

// Deliver implements bus.Sink.
func (c *conn) Deliver(m *bus.Message) bool {
	if c.outlived() {
		return true // nobody will read it; the feed is about to be closed
	}
	f := m.Frame(notificationFrame)
	if f == nil {
		// Not one line of JSON: whoever has rights on the bus stored it past
		// us. It must not become events of another name, nor stop the feed.
		c.node.metrics.unsendable.Inc()
		return true
	}
	if !c.transport.offer(f, m.Cursor, c.news(m)) {
		return false
	}
	c.node.metrics.delivers(c)
	return true
}

// news returns the message if it was stored while the connection was open, however it came
// here; nil for what was missed before.
func (c *conn) news(m *bus.Message) *bus.Message {
	if m.Stored.Before(c.opened) {
		return nil
	}
	return m
}

// Gap implements bus.Sink.
func (c *conn) Gap(g bus.Gap) bool { return c.transport.offer(gapFrame(g), g.Cursor, nil) }

// State implements bus.Sink.
func (c *conn) State(s bus.ReadState) bool {
	return c.outlived() || c.transport.offer(stateFrame(s), bus.Cursor{}, nil)
}

// end ends the connection for a reason of the server's. Only the first call
// counts.
func (c *conn) end(why reason) {
	if c.ended.CompareAndSwap(nil, &why) {
		last := farewell[why]
		c.transport.end(why, errorFrame(last.code, last.message))
	}
}

// refusal is the error for who was ended before the connection was open.
func refusal(why reason) error {
	switch why {
	case takenOver:
		return bus.ErrTakenOver
	case removed:
		return errRemoved
	}
	return peal.ErrTooManyConnections
}

// errRemoved: the durable was removed while its follower connected.
var errRemoved = fmt.Errorf("the durable was removed meanwhile: %w", peal.ErrUnavailable)

// open takes in a connection and has the wheel look after it, unless the node
// lets go of its connections by now, or the connection's slot or durable is lost. Each
// open that succeeds needs one leave.
//
// The first heartbeat comes at a random time, so that connections that were
// opened together do not stay in step, and some steps of the wheel before the
// interval is over.
func (n *Node) open(c *conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.draining.Load() {
		return errDraining
	}
	if why := c.ended.Load(); why != nil {
		return refusal(*why)
	}
	n.conns[c] = struct{}{}
	n.metrics.opens(c)

	c.opened, c.lifetime = time.Now(), n.lifetime()
	c.spoke.conn = c
	c.beat = c.opened.Add(rand.N(max(n.cfg.Heartbeat-2*wheelStep, wheelStep)))
	c.schedule(c.opened)
	return nil
}

// schedule sets when the wheel wakes the connection next.
func (c *conn) schedule(now time.Time) {
	next := c.beat
	if c.caller.Expires.Before(next) {
		next = c.caller.Expires
	}
	if retires := c.opened.Add(c.lifetime); c.lifetime > 0 && retires.Before(next) {
		next = retires
	}
	c.node.wheel.set(&c.spoke, now, next)
	if c.ended.Load() != nil { // meanwhile: leave may have been here before us
		c.node.wheel.remove(&c.spoke)
	}
}

// leave takes leave of a connection whose response ends now.
func (n *Node) leave(c *conn, why reason) {
	c.ended.Store(&why)
	n.wheel.remove(&c.spoke)
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
	select {
	case n.left <- struct{}{}:
	default:
	}
	n.metrics.leaves(c, why)
}
