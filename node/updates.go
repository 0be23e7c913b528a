package node

import (
	"context"
	"net/http"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// connectLists answers GET …/ticket/sse/list/updates: which tickets changed, of those
// that the caller sees, has lost sight of, or with the role for it, of all of the
// tenant. connected tells of the caller's inbox, as everywhere.
func (n *Node) connectLists(w http.ResponseWriter, r *request) error {
	return n.connect(w, r, bus.FollowedTickets, func(ctx context.Context, c *conn, after bus.Cursor) (*bus.Feed, badge, error) {
		// Both at once: a JetStream that hangs has as long as for one of them.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		in := c.caller.Inbox
		var count bus.Count
		counted := make(chan error, 1)
		go func() {
			var err error
			count, err = n.bus.CountInTurn(ctx, in)
			counted <- err
		}()
		all := c.caller.May(auth.Tickets) == nil
		feed, err := n.bus.FollowTickets(ctx, in.Tenant, after, &list{c, bus.NewViewer(in, all)})
		if err != nil {
			cancel()
			<-counted
			return nil, badge{}, err
		}
		if err := <-counted; err != nil {
			feed.Close()
			return nil, badge{}, err
		}
		return feed, badge{unread: uint64(count.Unread), readState: count.ReadState}, nil
	})
}

// list is a conn as the sink of a feed of tickets.
type list struct {
	*conn
	viewer bus.Viewer
}

// Deliver implements bus.Sink. What is not for the caller is taken in silence.
func (l *list) Deliver(m *bus.Message) bool {
	if l.outlived() {
		return true // as in conn.Deliver
	}
	u, err := m.Update(l.viewer)
	if u == nil && err == nil {
		return true
	}
	var f []byte
	if err == nil {
		f = u.Frame(frameOfUpdate)
	}
	if f == nil {
		l.node.metrics.unsendable.Inc() // as in conn.Deliver
		return true
	}
	if !l.transport.offerUpdate(u, f) {
		return false
	}
	l.node.metrics.updates.Inc()
	return true
}

// frameOfUpdate is what all viewers of an update are sent; nil for one that can't be.
func frameOfUpdate(u *bus.Update) []byte { return updateFrame(u.TicketUpdate, u.Cursor) }

func updateFrame(u peal.TicketUpdate, at bus.Cursor) []byte {
	b, err := sse.Append(nil, sse.Event{Name: sse.TicketUpdate, ID: at.String(), Data: u.Encode()})
	if err != nil {
		return nil
	}
	return b
}
