package node

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pealhq/peal/bus"
)

// crowd counts those who ask for an event stream and are refused for now. They all come
// back: and where thousands do so every other second a node and the NATS behind it are
// busy with nothing but refusing them, long after what was wrong is over. So the more
// there are, the longer is the time over which they are asked to come back.
type crowd struct {
	mu     sync.Mutex // protects the rest
	second int64      // that is counted, since origin
	now    int        // in that
	before int        // in the one before
}

const (
	spread     = 3  // seconds over which a few come back
	mostSpread = 30 // and very many: as long as the clients' own back-off gets

	// backPerSecond of those that were refused in one second come back in each: a node on a
	// core of its own lets in more, if NATS answers.
	backPerSecond = 20
)

// met notes one more at a time since some origin, and returns how many were met in a
// second of late.
func (c *crowd) met(at time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch second := max(int64(at/time.Second), c.second); { // whoever has the lock later may have looked earlier
	case second == c.second:
	case second == c.second+1:
		c.second, c.before, c.now = second, c.now, 0
	default:
		c.second, c.before, c.now = second, 0, 0
	}
	c.now++
	return max(c.now, c.before)
}

// comeBack is after how many seconds somebody who is refused with err is to come back: 1
// to 3, for who was too fast the wait, rounded up, and up to 2 more, and in a crowd up to
// 30. Who was refused together shall not come back together.
func (n *Node) comeBack(r *request, p problem, err error) int {
	wait, over := 1, spread
	if fast, ok := errors.AsType[*tooFast](err); ok {
		wait = int((fast.wait + time.Second - 1) / time.Second)
	} else if r.admitted && p.code == "UNAVAILABLE" && !inNoCrowd(err) {
		over = min(spread+n.crowd.met(time.Since(n.wheel.start))/backPerSecond, mostSpread)
	}
	return wait + rand.IntN(over)
}

// inNoCrowd reports whether an error is a matter of who is refused alone, or of this node:
// others are there.
func inNoCrowd(err error) bool {
	return errors.Is(err, errDraining) || errors.Is(err, bus.ErrDurablesFull) || errors.Is(err, errRemoved)
}
