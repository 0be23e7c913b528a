package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/pealhq/peal"
)

// testKey is a key with the given kid. Only its kid matters.
func testKey(t *testing.T, kid string) jwkset.JWK {
	t.Helper()
	public := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	x := base64.RawURLEncoding.EncodeToString(public)
	keys, _, err := parseKeys(fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}]}`, kid, x), []string{"EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// origin is what a keyset fetches from, and when it did.
type origin struct {
	mu    sync.Mutex
	kids  []string
	err   error
	takes time.Duration
	at    []time.Time
}

func (o *origin) set(err error, kids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.kids = err, kids
}

func (o *origin) fetches() []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]time.Time(nil), o.at...)
}

// start runs a keyset that fetches from o until the test ends. It is called in
// a synctest bubble.
func start(t *testing.T, o *origin, log *slog.Logger) *keyset {
	k := newKeyset(log, func(ctx context.Context) ([]jwkset.JWK, []error, error) {
		o.mu.Lock()
		o.at = append(o.at, time.Now())
		kids, err, takes := o.kids, o.err, o.takes // as they are when the issuer is asked
		o.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		var keys []jwkset.JWK
		for _, kid := range kids {
			keys = append(keys, testKey(t, kid))
		}
		return keys, nil, err
	}, nil)
	k.start()
	t.Cleanup(k.close)
	synctest.Wait()
	return k
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// wantRead wants the key, or an error that is want.
func wantRead(t *testing.T, k *keyset, kid string, want error) {
	t.Helper()
	_, err := k.KeyRead(t.Context(), kid)
	if (want == nil) != (err == nil) || !errors.Is(err, want) {
		t.Fatalf("key %s after %v: %v, want %v", kid, time.Since(epoch()), err, want)
	}
}

// epoch is when every bubble begins.
func epoch() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestKeysAreFetchedAgainEveryTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		wantRead(t, k, "a", nil)
		time.Sleep(2 * time.Hour)
		at := o.fetches()
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 8*time.Minute || d > 12*time.Minute {
				t.Errorf("%v between fetches, want 8 to 12 minutes", d)
			}
		}
		if len(at) < 10 || len(at) > 16 {
			t.Errorf("%d fetches in two hours", len(at))
		}

		o.set(nil, "b")
		time.Sleep(12 * time.Minute)
		wantRead(t, k, "b", nil)
		wantRead(t, k, "a", peal.ErrUnauthenticated) // what the issuer withdraws is gone
	})
}

func TestAnIssuerThatIsDownAtTheStartIsAskedUntilItIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{err: errors.New("down")}
		var log strings.Builder
		k := start(t, o, slog.New(slog.NewTextHandler(&log, nil)))
		wantRead(t, k, "a", peal.ErrUnavailable)
		time.Sleep(10 * time.Minute)
		wantRead(t, k, "a", peal.ErrUnavailable)
		at := o.fetches()
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1])
			want := min(time.Second<<(i-1), time.Minute)
			if d < max(time.Second, want*8/10) || d > min(time.Minute, want*12/10) {
				t.Errorf("try %d came %v after the one before, want about %v and 1 to 60 s", i, d, want)
			}
		}
		if s := k.status(); s.Usable || s.Keys != 0 || s.Age != 0 || s.Err == nil {
			t.Errorf("status %+v", s)
		}

		o.set(nil, "a")
		time.Sleep(time.Minute)
		wantRead(t, k, "a", nil)
		if s := k.status(); !s.Usable || s.Keys != 1 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
		select {
		case <-k.first:
		default:
			t.Error("who waits for the first keys still waits")
		}
		synctest.Wait()
		last := o.fetches()
		time.Sleep(7 * time.Minute) // the back-off is over
		if got := o.fetches(); len(got) != len(last) {
			t.Errorf("asked again %v after it was up, want the usual pace", got[len(last)].Sub(last[len(last)-1]))
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in the log, want one for the outage and one for its end:\n%s", n, log.String())
		}
	})
}

func TestKeysServeADayWhileTheIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		o.set(errors.New("down"))
		time.Sleep(24*time.Hour - time.Second)
		wantRead(t, k, "a", nil)
		time.Sleep(2 * time.Second)
		wantRead(t, k, "a", peal.ErrUnavailable)
		if s := k.status(); s.Usable || s.Keys != 0 || s.Age < 24*time.Hour || s.Err == nil {
			t.Errorf("status %+v", s)
		}
		o.set(nil, "a")
		time.Sleep(time.Minute)
		wantRead(t, k, "a", nil)
	})
}

func TestAnUnknownKidIsAskedForAtOnceButNotOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}, takes: 100 * time.Millisecond}
		k := start(t, o, quiet())
		time.Sleep(time.Second)
		o.set(nil, "a", "b")
		wantRead(t, k, "b", nil)
		if got := time.Since(o.fetches()[1]); got != o.takes {
			t.Errorf("the key came %v after the fetch began, want %v", got, o.takes)
		}

		// The next ten seconds belong to that fetch: who comes is refused at once.
		o.set(nil, "a", "b", "c")
		began := time.Now()
		wantRead(t, k, "c", peal.ErrUnauthenticated)
		if d := time.Since(began); d != 0 {
			t.Errorf("refused after %v, want at once", d)
		}
		time.Sleep(kidEvery)
		wantRead(t, k, "c", nil)
		if got := len(o.fetches()); got != 3 {
			t.Errorf("%d fetches, want 3", got)
		}
	})
}

func TestAKidThatTheIssuerDoesNotKnowIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		wantRead(t, k, "x", peal.ErrUnauthenticated)
		time.Sleep(kidEvery)
		for range 100 {
			wantRead(t, k, "x", peal.ErrUnauthenticated)
		}
		if got := len(o.fetches()); got != 2 {
			t.Errorf("%d fetches, want the first and one for the kid", got)
		}
		time.Sleep(kidForget)
		o.set(nil, "a", "x")
		wantRead(t, k, "x", nil)
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	k := newKeyset(quiet(), nil, nil)
	for i := range 3 * kidsUnknown {
		r := newRound()
		r.kids[fmt.Sprint(i)] = true
		k.finish(r, []jwkset.JWK{testKey(t, "a")}, nil)
	}
	if got := len(k.unknown); got != kidsUnknown {
		t.Fatalf("%d kids are remembered, want %d", got, kidsUnknown)
	}
}

func TestRequestsShareOneFetchAndFewWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		o.mu.Lock()
		o.kids, o.takes = []string{"a", "b"}, time.Second
		o.mu.Unlock()

		var mu sync.Mutex
		took := map[time.Duration]int{} // of requests that were refused, and of those that were not as -1
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				began := time.Now()
				_, err := k.KeyRead(context.Background(), "b")
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					took[-1]++
				} else {
					took[time.Since(began)]++
				}
			})
		}
		wg.Wait()
		if took[-1] != kidWaiters || took[0] != 200-kidWaiters {
			t.Errorf("got %v, want %d with the key and the others refused at once", took, kidWaiters)
		}
		if got := len(o.fetches()); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
	})
}

func TestARequestWaitsTwoSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		o.mu.Lock()
		o.kids, o.takes = []string{"a", "b"}, 4*time.Second
		o.mu.Unlock()
		began := time.Now()
		wantRead(t, k, "b", peal.ErrUnauthenticated)
		if d := time.Since(began); d != kidWait {
			t.Errorf("waited %v, want %v", d, kidWait)
		}
		wantRead(t, k, "a", nil) // who has a key waits for nobody
		if d := time.Since(began); d != kidWait {
			t.Errorf("a known key took %v", d-kidWait)
		}
		time.Sleep(2 * time.Second)
		wantRead(t, k, "b", nil) // the fetch went on
	})
}

// The library lets a request that gave up take the only refresh with it.
func TestACancelledRequestDoesNotEndTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := start(t, o, quiet())
		o.mu.Lock()
		o.kids, o.takes = []string{"a", "b"}, time.Second
		o.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := k.KeyRead(ctx, "b"); !errors.Is(err, peal.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want unavailable because of the deadline", err)
		}
		time.Sleep(time.Second)
		wantRead(t, k, "b", nil)
		if got := len(o.fetches()); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
	})
}

// An answer that was under way when the issuer rotated does not know the key.
func TestAKidOutlivesAFetchThatBeganTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}, takes: 500 * time.Millisecond}
		k := start(t, o, quiet())
		time.Sleep(time.Second)
		k.wake <- struct{}{} // as the timer would
		synctest.Wait()
		o.set(nil, "a", "b")
		wantRead(t, k, "b", nil)
		if got := len(o.fetches()); got != 3 {
			t.Errorf("%d fetches, want 3", got)
		}
	})
}

func TestAStoppedKeysetRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{kids: []string{"a"}}
		k := newKeyset(quiet(), func(context.Context) ([]jwkset.JWK, []error, error) {
			return []jwkset.JWK{testKey(t, o.kids[0])}, nil, nil
		}, nil)
		k.start()
		synctest.Wait()
		k.close()
		began := time.Now()
		wantRead(t, k, "x", peal.ErrUnauthenticated)
		if d := time.Since(began); d != 0 {
			t.Errorf("refused after %v, want at once", d)
		}
	})
}
