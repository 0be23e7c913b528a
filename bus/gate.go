package bus

import (
	"context"
	"sync/atomic"
	"time"
)

// gate lets in followers of a stream that are starting, so many at once. The
// rest waits its turn: after a restart everybody comes back together, and who
// would be refused then would only come again.
type gate struct {
	timeout time.Duration // for JetStream to answer
	inside  chan struct{} // a token for each follower that is starting
	origin  time.Time     // of the count in served
	served  atomic.Int64  // when a follower has started last, in ns since then
}

const (
	// maxInside is how many followers of one stream may be starting at once. Each asks
	// nine times, one after the other, and nothing is gained by having more of them wait
	// in JetStream than here: what waits there times out, and was for nothing.
	maxInside = 16

	// maxWait is how long one waits at most, when others get their turn.
	maxWait = 30 * time.Second
)

func newGate(timeout time.Duration) *gate {
	return &gate{timeout: timeout, inside: make(chan struct{}, maxInside), origin: time.Now()}
}

// enter waits for a turn, and returns by when it is to be used. It gives up when
// nobody had one for the timeout: JetStream does not answer. Each enter without
// an error needs one leave.
func (g *gate) enter(ctx context.Context) (deadline time.Time, err error) {
	came := time.Now()
	hopeless := time.NewTimer(g.timeout)
	defer hopeless.Stop()
	for {
		select {
		case g.inside <- struct{}{}:
			return g.deadline(came), nil
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-hopeless.C:
			left := min(time.Until(g.deadline(came)), time.Until(came.Add(maxWait)))
			if left <= 0 {
				return time.Time{}, context.DeadlineExceeded
			}
			hopeless.Reset(left)
		}
	}
}

// deadline is the timeout after the last sign that JetStream answers, or after
// the follower came if that was later.
func (g *gate) deadline(came time.Time) time.Time {
	last := g.origin.Add(time.Duration(g.served.Load()))
	if came.After(last) {
		last = came
	}
	return last.Add(g.timeout)
}

// leave ends a turn.
func (g *gate) leave(started bool) {
	if started {
		g.served.Store(int64(time.Since(g.origin)))
	}
	<-g.inside
}
