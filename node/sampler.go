package node

import (
	"log/slog"
	"sync"
	"time"
)

// sampleEvery is how often a refusal of one class is logged.
const sampleEvery = 10 * time.Second

// sampler logs one refusal of a class now and then, and with it how many came
// since. There are as many classes as reasons and realms, which strangers can't
// make more of.
type sampler struct {
	log *slog.Logger

	mu sync.Mutex // protects of
	of map[class]*sample
}

// class is what refusals are told apart by.
type class struct{ code, reason, realm string }

type sample struct {
	told  time.Time
	count int // since
}

func newSampler(log *slog.Logger) *sampler { return &sampler{log: log, of: make(map[class]*sample)} }

// refused counts a refusal, and logs it if none of its class was just logged.
func (s *sampler) refused(r *request, c class) {
	s.mu.Lock()
	seen := s.of[c]
	if seen == nil {
		seen = &sample{}
		s.of[c] = seen
	}
	seen.count++
	count, now := seen.count, time.Now()
	tell := seen.told.IsZero() || now.Sub(seen.told) >= sampleEvery
	if tell {
		seen.told, seen.count = now, 0
	}
	s.mu.Unlock()
	if tell {
		s.log.Info("refused", "request", r.id, "route", r.route, "code", c.code, "reason", c.reason, "realm", c.realm, "count", count)
	}
}
