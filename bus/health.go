package bus

import (
	"log/slog"
	"math"
	"sync"
	"time"
)

// health keeps what does not answer, and since when. It logs one line when
// something is lost and one when it is back.
type health struct {
	log *slog.Logger

	mu   sync.Mutex           // protects lost
	lost map[string]time.Time // what → since when
}

func newHealth(log *slog.Logger) *health { return &health{log: log, lost: make(map[string]time.Time)} }

// lose notes that something does not answer.
func (h *health) lose(what string, err error) {
	h.mu.Lock()
	_, known := h.lost[what]
	if !known {
		h.lost[what] = time.Now()
	}
	h.mu.Unlock()
	if !known {
		h.log.Warn("nats does not answer", "what", what, "err", err)
	}
}

// find notes that something answers.
func (h *health) find(what string) {
	h.mu.Lock()
	since, known := h.lost[what]
	delete(h.lost, what)
	h.mu.Unlock()
	if known {
		h.log.Info("nats answers again", "what", what, "after", time.Since(since).Round(time.Millisecond))
	}
}

// anyAway is for how long one of some things has been lost, the longest of them.
func (h *health) anyAway(things []string) (longest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, what := range things {
		if since, lost := h.lost[what]; lost {
			longest = max(longest, time.Since(since))
		}
	}
	return longest
}

// allAway is for how long some things have all been lost.
func (h *health) allAway(things []string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	shortest := time.Duration(math.MaxInt64)
	for _, what := range things {
		since, lost := h.lost[what]
		if !lost {
			return 0
		}
		shortest = min(shortest, time.Since(since))
	}
	return shortest
}
