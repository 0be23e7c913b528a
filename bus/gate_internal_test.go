package bus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fill takes every place inside a gate.
func fill(t *testing.T, g *gate) {
	t.Helper()
	for range maxInside {
		if _, err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Three thousand that come at once are let in over as long as it takes, if others
// are served meanwhile.
func TestGateHasPatienceWhileOthersAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4 * time.Second)
		const followers = 3000
		began := time.Now()
		var all sync.WaitGroup
		for range followers {
			all.Go(func() {
				deadline, err := g.enter(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if left := time.Until(deadline); left < 3*time.Second {
					t.Errorf("%v for one turn, want about the timeout", left)
				}
				time.Sleep(100 * time.Millisecond)
				g.leave(true)
			})
		}
		all.Wait()
		if took, want := time.Since(began), time.Duration((followers+maxInside-1)/maxInside)*100*time.Millisecond; took != want {
			t.Errorf("all are in after %v, want %v: %d at once", took, want, maxInside)
		}
	})
}

// Nobody waits for long at a gate behind which nobody is served.
func TestGateGivesUpWhenNobodyIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4 * time.Second)
		time.Sleep(time.Hour) // idle: who comes then has the whole timeout
		fill(t, g)
		began := time.Now()
		if _, err := g.enter(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the time is up", err)
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("after %v, want 4 s", took)
		}
		// Who gets a place late has only what is left of the 4 s.
		began = time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			g.leave(false)
		}()
		deadline, err := g.enter(t.Context())
		if err != nil || deadline.Sub(began) != 4*time.Second {
			t.Errorf("%v and %v, want 4 s from the beginning", deadline.Sub(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want canceled", err)
		}
	})
}

// Even where others are served, one's turn comes within half a minute or not.
func TestGateDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4 * time.Second)
		fill(t, g)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					g.served.Store(int64(time.Since(g.origin))) // others are, past the queue
				}
			}
		}()
		began := time.Now()
		if _, err := g.enter(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the time is up", err)
		}
		if took := time.Since(began); took != maxWait {
			t.Errorf("after %v, want %v", took, maxWait)
		}
	})
}
