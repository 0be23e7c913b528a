package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
)

// TestAStormOfUnknownKids has the exact counts, at a clock of its own; this is
// the same with sockets, as fast as this machine sends.
func TestAStormReachesTheIssuerOnce(t *testing.T) {
	s := newSite(t)
	v := s.opened(s.config(), auth.Options{CacheBytes: -1})
	well := s.iss.Handler()
	s.answers("acme", func(w http.ResponseWriter, r *http.Request) {
		select { // long enough for some to give up while they wait
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
		well.ServeHTTP(w, r)
	})
	honest := s.token("acme", nil)
	claims := map[string]any{
		"iss": s.iss.URL("acme"), "aud": "peal", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix(),
	}
	wrong := map[string]any{"iss": s.iss.URL("acme"), "aud": "billing", "sub": "jane", "exp": claims["exp"]}

	const senders, each = 100, 50
	before, began := s.asked("acme"), time.Now()
	var storm sync.WaitGroup
	var cancelled atomic.Int32
	for n := range senders {
		storm.Go(func() {
			for i := range each {
				patience := time.Minute
				if i%3 == 0 {
					patience = 50 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				body := claims
				if i%2 == 1 {
					body = wrong
				}
				token, err := s.iss.Sign("acme", map[string]any{"kid": fmt.Sprintf("%d-%d", n, i)}, body)
				if err != nil {
					t.Error(err)
				}
				_, err = v.Verify(ctx, "acme", token)
				cancel()
				if _, ok := errors.AsType[*auth.Refusal](err); !ok && ctx.Err() == nil || err == nil {
					t.Errorf("got %v, want a refusal", err)
				} else if !ok {
					cancelled.Add(1)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		storm.Wait()
	}()
	var took []time.Duration
	for done := false; !done; {
		asked := time.Now()
		s.accepts(v, "acme", honest)
		s.accepts(v, "globex", s.token("globex", nil))
		took = append(took, time.Since(asked))
		select {
		case <-over:
			done = true
		default:
		}
	}
	slices.Sort(took)
	t.Logf("%d requests in %v, %d gave up; beside them %d honest pairs, p99 %v",
		senders*each, time.Since(began), cancelled.Load(), len(took), took[len(took)*99/100])
	if lasted, n := time.Since(began), s.asked("acme")-before; n == 0 || n > 1+int(lasted/(10*time.Second)) {
		t.Errorf("the issuer was asked %d times in %v, want at most every 10 s", n, lasted)
	}
}
