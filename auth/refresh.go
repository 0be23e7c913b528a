package auth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	refreshEvery = 10 * time.Minute // ± 20 %, as many nodes ask one issuer
	retryFirst   = time.Second      // after a failure; doubles
	retryLast    = time.Minute
)

// run keeps the keys fresh until ctx ends.
func (k *keyset) run(ctx context.Context) {
	defer k.stop()
	failures := 0
	for {
		r := k.begin()
		keys, dropped, err := k.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		k.finish(r, keys, err)
		k.tell(keys, dropped, err)
		if err != nil {
			failures++
		} else {
			failures = 0
			k.keep(keys)
		}

		timer := time.NewTimer(pause(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pause is how long to wait before the next fetch, after so many failures in a
// row.
func pause(failures int) time.Duration {
	if failures == 0 {
		return jitter(refreshEvery)
	}
	d := retryLast
	if failures < 7 {
		d = retryFirst << (failures - 1)
	}
	return max(retryFirst, min(jitter(d), retryLast))
}

// jitter returns d ± 20 %.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// begin takes the round that requests wait for, or makes one for those that
// come while the fetch is under way.
func (k *keyset) begin() *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.wake:
	default:
	}
	r := k.next
	if r == nil {
		r = newRound()
	}
	k.next, k.running = nil, r
	return r
}

// finish puts what a fetch brought in the place of what there was, unless it
// failed, and lets go who waited for it.
func (k *keyset) finish(r *round, keys []jwkset.JWK, err error) {
	now := time.Now()
	if err == nil {
		k.replace(keys, now)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err, k.running = err, nil
	if len(k.results) == 0 {
		close(k.tried)
	}
	k.results[refreshOf(err)]++
	if err == nil {
		k.rememberLocked(r, keys, now)
	}
	close(r.done)
}

// keep writes keys to the vault. That it does not work is told once.
func (k *keyset) keep(keys []jwkset.JWK) {
	err := k.vault.save(keys, time.Now())
	if err != nil && !k.unkept {
		k.log.Warn("realm keys not kept on disk", "err", err)
	}
	k.unkept = err != nil
}

// rememberLocked notes which of the kids that r was started for do not exist.
func (k *keyset) rememberLocked(r *round, keys []jwkset.JWK, now time.Time) {
	for kid, until := range k.unknown {
		if !now.Before(until) {
			delete(k.unknown, kid)
		}
	}
	for _, key := range keys {
		delete(r.kids, key.Marshal().KID)
		delete(k.unknown, key.Marshal().KID)
	}
	for kid := range r.kids {
		if len(k.unknown) < kidsUnknown {
			k.unknown[kid] = now.Add(kidForget)
		}
	}
}

// stop lets go who waits.
func (k *keyset) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	for _, r := range []*round{k.running, k.next} {
		if r != nil {
			close(r.done)
		}
	}
	k.running, k.next = nil, nil
}

// tell logs what a fetch changed. An issuer that stays away is one line.
func (k *keyset) tell(keys []jwkset.JWK, dropped []error, err error) {
	var kids []string
	for _, key := range keys {
		kids = append(kids, key.Marshal().KID)
	}
	state := fmt.Sprint(kids, dropped)
	if err != nil {
		state = "away"
	}
	if state == k.told {
		return
	}
	k.told = state
	if err != nil {
		k.log.Warn("realm keys not fetched", "err", err)
		return
	}
	k.log.Info("realm keys fetched", "kids", kids)
	for _, reason := range dropped {
		k.log.Warn("realm key dropped", "err", reason)
	}
}
