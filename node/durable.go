package node

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// follow has a feed deliver to a connection what comes after a cursor, and says what
// the connection is told first of the caller's inbox.
type follow func(ctx context.Context, c *conn, after bus.Cursor) (*bus.Feed, badge, error)

// durableName reads the name of the durable by which a client wants to follow; "" if
// it follows by its own cursor.
func (n *Node) durableName(r *request) (string, error) {
	query, err := r.query()
	if err != nil || !query.Has("durable") {
		return "", err
	}
	if !n.bus.KeepsDurables() {
		return "", errNoDurables
	}
	if len(query["durable"]) > 1 {
		return "", peal.Invalid("durable", "must be given once")
	}
	return bus.ParseDurable(query.Get("durable"))
}

var errNoDurables = peal.Invalid("durable", "this server keeps no durable subscriptions")

// byDurable is follow by a durable: from the place that the region keeps, unless the
// client says itself where it has come to. Who follows by it until now is let go. It is
// held until the request ends.
func (n *Node) byDurable(r *request, of bus.Followed, name string, next follow) follow {
	return func(ctx context.Context, c *conn, asked bus.Cursor) (*bus.Feed, badge, error) {
		d, err := n.bus.OpenDurable(ctx, c.caller.Inbox, of, name, asked, func(why bus.Loss) { c.end(losses[why]) })
		if err != nil {
			return nil, badge{}, err
		}
		r.atEnd = append(r.atEnd, d.Close)
		feed, b, err := next(ctx, c, d.After())
		if err != nil {
			return nil, badge{}, err
		}
		if !asked.IsZero() && !feed.Start().Gap {
			d.Received(asked)
		}
		c.durable = d
		b.fresh = d.New() && asked.IsZero()
		return feed, b, nil
	}
}

var losses = map[bus.Loss]reason{bus.TakenOver: takenOver, bus.Removed: removed}

// durable is what a user is told of one of their durables.
type durable struct {
	Name     string         `json:"name"`
	Route    bus.Followed   `json:"route"`
	Created  peal.Timestamp `json:"created"`
	LastUsed peal.Timestamp `json:"lastUsed"`
	Pending  uint64         `json:"pending"`
}

func durableOf(d bus.KeptDurable) durable {
	return durable{d.Name, d.Followed, peal.NewTimestamp(d.Created), peal.NewTimestamp(d.Used), d.Pending}
}

// listDurables answers GET …/ticket/sse/durable: the caller's durables.
func (n *Node) listDurables(w http.ResponseWriter, r *request) error {
	caller, err := n.durablesCaller(r)
	if err != nil {
		return err
	}
	found, err := n.bus.DurablesOf(r.Context(), caller.Inbox)
	if err != nil {
		return err
	}
	all := make([]durable, len(found))
	for i, d := range found {
		all[i] = durableOf(d)
	}
	return answerJSON(w, http.StatusOK, struct {
		Durables []durable `json:"durables"`
	}{all})
}

// removeDurable answers DELETE …/ticket/sse/durable/{name}: it removes the caller's
// durables of a name, on either route, and ends the connections that follow by them.
func (n *Node) removeDurable(w http.ResponseWriter, r *request) error {
	name, err := bus.ParseDurable(r.params.ByName("name"))
	if err != nil {
		return err
	}
	caller, err := n.durablesCaller(r)
	if err != nil {
		return err
	}
	// It goes on without the client: else it might be done by half.
	removed, err := n.bus.RemoveDurables(context.WithoutCancel(r.Context()), caller.Inbox, name)
	if err != nil {
		return err
	}
	if removed == 0 {
		return bus.ErrNoDurable
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// durablesCaller returns whose durables a request is about.
func (n *Node) durablesCaller(r *request) (auth.Caller, error) {
	if err := r.plain(); err != nil {
		return auth.Caller{}, err
	}
	caller, err := n.reader(r)
	if err != nil {
		return auth.Caller{}, err
	}
	return caller, n.sighted()
}

// tooManyDurables says which the user has, and how to have one less.
func tooManyDurables(err error) string {
	var full *bus.TooManyDurablesError
	if !errors.As(err, &full) {
		return ""
	}
	return "This user has as many durable subscriptions as may be: " + strings.Join(full.Names, ", ") +
		"; DELETE " + Base + "/ticket/sse/durable/{name} removes one"
}
