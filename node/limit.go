package node

import (
	"sync"

	"github.com/pealhq/peal"
)

// limiter bounds the open connections of a user on a route of this node.
type limiter struct {
	most int // negative: no bound

	mu   sync.Mutex // protects open
	open map[seat]int
}

// seat is what connections are counted by.
type seat struct {
	route string
	inbox peal.Inbox
}

func newLimiter(most int) *limiter { return &limiter{most: most, open: make(map[seat]int)} }

// take counts one more connection, or returns a peal.ErrTooManyConnections.
// Each take that succeeds needs one release.
func (l *limiter) take(s seat) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most >= 0 && l.open[s] >= l.most {
		return peal.ErrTooManyConnections
	}
	l.open[s]++
	return nil
}

func (l *limiter) release(s seat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[s]--; l.open[s] <= 0 {
		delete(l.open, s)
	}
}
