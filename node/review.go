package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// blindPatience is for how long a node may not see the revocations that are
// stored before it lets nobody in: longer than a stream needs to elect another
// leader. It stays ready for longer, see Config.AwayPatience: its answers tell who
// comes when to come back, a proxy's for a service without a node do not.
const blindPatience = 10 * time.Second

// blind reports whether the node can't tell who is to stay out.
func (n *Node) blind() bool { return n.bus.RevocationsUnseen() > blindPatience }

// sighted is the error of a request while the node is blind.
func (n *Node) sighted() error {
	if n.blind() {
		return fmt.Errorf("revocations can't be seen: %w", peal.ErrUnavailable)
	}
	return nil
}

// Reload puts another configuration of the realms in force. The connections of a
// realm that is gone end at once, those of one that is changed are let go over
// the drain window, and the others are left alone. The error is that of
// auth.Verifier.Reload.
func (n *Node) Reload(cfg auth.Config) (auth.Changes, error) {
	changes, err := n.verifier.Reload(cfg)
	if err == nil && !changes.None() {
		n.review()
	}
	return changes, err
}

// take takes in a revocation.
func (n *Node) take(r bus.Revoked) {
	n.verifier.Revocations().Add(r.Revocation, r.At, r.Until)
	n.review()
}

// review has every connection looked at again, soon.
func (n *Node) review() {
	select {
	case n.reviewing <- struct{}{}:
	default: // somebody has asked for it already
	}
}

// After a look at every connection there is a pause, so that many revocations at
// once cost few. A look takes about 0.3 µs a connection (BenchmarkCover of auth); people
// who sign out all day long cost at most a tenth of a core by it.
const (
	reviewPause = 100 * time.Millisecond // at least
	reviewRest  = 9                      // times as long as the look took
)

// watchCallers ends the connections of callers who would not be let in any more,
// until ctx ends.
func (n *Node) watchCallers(ctx context.Context) {
	var going sync.WaitGroup
	defer going.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.reviewing:
		}
		began := time.Now()
		var changed []*conn
		for _, c := range n.connections() {
			if errors.Is(n.reviewConn(c), auth.ErrRealmChanged) && !c.going {
				c.going = true
				changed = append(changed, c)
			}
		}
		if len(changed) > 0 {
			going.Go(func() { n.letGo(ctx, changed, realmChanged, always) })
		}
		pause(ctx, max(reviewPause, reviewRest*time.Since(began)))
	}
}

// reviewConn ends a connection whose caller would not be let in any more. It
// returns what is wrong with the caller. A connection is looked at once after it
// was opened: what came in before may have missed it.
func (n *Node) reviewConn(c *conn) error {
	err := n.verifier.Review(c.caller)
	if err != nil && !errors.Is(err, auth.ErrRealmChanged) {
		c.end(revoked)
	}
	return err
}
