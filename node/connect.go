package node

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// connectNotifications answers GET …/ticket/sse/notifications: the caller's
// notifications.
func (n *Node) connectNotifications(w http.ResponseWriter, r *request) error {
	return n.connect(w, r, bus.FollowedInbox, func(ctx context.Context, c *conn, after bus.Cursor) (*bus.Feed, badge, error) {
		feed, err := n.bus.Follow(ctx, c.caller.Inbox, after, c)
		if err != nil {
			return nil, badge{}, err
		}
		return feed, badge{unread: feed.Start().Unread, readState: feed.Start().ReadState}, nil
	})
}

// badge is what a connection is told first of the caller's inbox, and of its feed.
type badge struct {
	unread    uint64
	readState bus.Cursor // its version
	fresh     bool       // the feed begins at the live end, though it follows a cursor
}

// connect answers a request for an event stream, for as long as the token is good and
// the client stays, to follow what comes after its cursor or by a durable.
func (n *Node) connect(w http.ResponseWriter, r *request, of bus.Followed, follow follow) error {
	if err := r.acceptsEventStream(); err != nil {
		return err
	}
	after, err := r.resumeCursor()
	if err != nil {
		return err
	}
	name, err := n.durableName(r)
	if err != nil {
		return err
	}
	if name != "" {
		follow = n.byDurable(r, of, name, follow)
	}
	if err := r.empty(); err != nil {
		return err
	}
	caller, err := n.authenticate(r, auth.Connect)
	if err != nil {
		return err
	}
	if err := n.paced(r, caller.Inbox); err != nil {
		return err
	}
	r.admitted = true
	if err := n.mayOpen(r, caller.Inbox); err != nil {
		return err
	}

	h := newHandler(w, r.Request, n.cfg.WriteTimeout, n.wrote)
	c := &conn{node: n, caller: caller, transport: h, route: strings.TrimPrefix(r.route, Base+"/ticket/sse/"), takesOver: name != ""}
	var first badge
	feed, err := n.seated(r, c, func(ctx context.Context) (feed *bus.Feed, err error) {
		feed, first, err = follow(ctx, c, after)
		return feed, err
	})
	if err != nil {
		return err
	}
	defer feed.Close()
	if c.durable != nil {
		c.proof = newProof(h, c.durable)
	}

	h.begin(greet(caller, feed.Start(), first), feed)
	if err := n.open(c); err != nil {
		return err
	}
	why := clientGone
	defer func() { n.leave(c, why) }()
	if n.reviewConn(c) != nil { // a reload that came in between is over: it is let go in a look of its own
		n.review()
	}
	beginEventStream(w)
	feed.Resume()
	why = h.run(r.Context())

	// Aborted, not ended: after a clean end of the response some client
	// libraries never come back.
	panic(http.ErrAbortHandler)
}

// paced refuses a connect of a user, or from an address, that connects too
// often. What a user is refused is not counted for the neighbours behind the
// same address.
func (n *Node) paced(r *request, in peal.Inbox) error {
	now := time.Now()
	if err := n.users.take(in, now); err != nil {
		return err
	}
	if from, ok := network(r.RemoteAddr); ok {
		return n.addresses.take(from, now)
	}
	return nil
}

func beginEventStream(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
}

// greet makes the first event of a connection.
func greet(caller auth.Caller, start bus.Start, b badge) []byte {
	return connectedFrame(connected{
		Message:   "Connected to notification stream",
		UserID:    caller.Inbox.User,
		Timestamp: peal.NewTimestamp(time.Now()),
		ExpiresAt: peal.NewTimestamp(caller.Expires),
		Recovered: start.Recovered && !b.fresh,
		Unread:    b.unread,
		ReadState: b.readState.String(),
	}, start)
}
