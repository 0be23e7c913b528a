package sse

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter is the longest that a Retry-After is obeyed: a mistaken one
// must not park a client for a day.
const maxRetryAfter = 5 * time.Minute

// backoff says how long to wait before the next connect. The rule is in the
// comment of Client.Follow.
type backoff struct {
	min, max time.Duration
	retry    time.Duration // the server's last retry field
	failures int           // waits since a connection delivered something
}

// after returns the wait after an attempt that ended so.
func (b *backoff) after(end ending) time.Duration {
	if end.reason == tokenRefused {
		return 0
	}
	if end.delivered {
		b.failures = 0
	}
	wait := end.retryAfter + jitter(ceiling(max(b.min, b.retry), b.max, b.failures))
	b.failures++
	return wait
}

// ceiling is min(most, base·2^n), for positive base and most.
func ceiling(base, most time.Duration, n int) time.Duration {
	if base > most>>n {
		return most
	}
	return base << n
}

// jitter is random in [0, most), for positive most.
func jitter(most time.Duration) time.Duration { return rand.N(most) }

// parseRetryAfter reads a Retry-After: seconds, or an HTTP date. What is
// neither, or past, is 0, and nothing is more than maxRetryAfter.
func parseRetryAfter(value string, now time.Time) time.Duration {
	s, err := strconv.ParseUint(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
