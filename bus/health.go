package bus

import (
	"log/slog"
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

// away is for how long that has been lost which has been so longest; 0 if
// nothing is.
func (h *health) away() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var longest time.Duration
	for _, since := range h.lost {
		longest = max(longest, time.Since(since))
	}
	return longest
}
