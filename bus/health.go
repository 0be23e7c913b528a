package bus

import (
	"cmp"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// health keeps what does not answer, and since when. It logs one line when
// something is lost and one when it is back.
type health struct {
	log *slog.Logger

	mu    sync.Mutex           // protects the rest
	lost  map[string]time.Time // what → since when
	found map[string]time.Time // what was lost and is back → since when
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, lost: make(map[string]time.Time), found: make(map[string]time.Time)}
}

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
	if known {
		h.found[what] = time.Now()
	}
	h.mu.Unlock()
	if known {
		h.log.Info("nats answers again", "what", what, "after", time.Since(since).Round(time.Millisecond))
	}
}

// since is since when something is lost, or back; began, if it never was lost.
func (h *health) since(what string, began time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, lost := h.lost[what]; lost {
		return at
	}
	return cmp.Or(h.found[what], began)
}

// all is what is lost, the oldest first.
func (h *health) all() []Lost {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Lost, 0, len(h.lost))
	for what, since := range h.lost {
		all = append(all, Lost{what, since})
	}
	slices.SortFunc(all, func(a, b Lost) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.What, b.What)) })
	return all
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
