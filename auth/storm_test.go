package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pealhq/peal"
)

// Who sends tokens with kids of his own invention costs the issuer one fetch in
// ten seconds, and nobody else anything. What his other claims are must not
// matter, nor whether he waits for the answer.
func TestAStormOfUnknownKids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Options{}, "a")
		l.mu.Lock()
		l.takes = 300 * time.Millisecond
		l.mu.Unlock()
		time.Sleep(time.Minute)

		// Wrong claims are judged before the key is looked for.
		for i := range 1000 {
			l.refuses(l.token("forger", map[string]any{"aud": "billing", "jti": fmt.Sprint(i)}), ReasonAudience)
		}
		began := time.Now()
		if n := l.fetches(epoch()); n != 1 {
			t.Fatalf("%d fetches, want the first only", n)
		}

		const requests, during = 5000, 10 * time.Second
		answers := map[Reason]int{}
		var mu sync.Mutex // protects answers
		var storm sync.WaitGroup
		for i := range requests {
			claims := map[string]any{}
			if i%2 == 1 {
				claims["iss"] = "https://other.example"
			}
			kid := fmt.Sprintf("kid-%d", i)
			token := l.sign("forger", map[string]any{"alg": "EdDSA", "kid": kid}, l.claims(claims))
			storm.Go(func() {
				time.Sleep(time.Duration(i) * during / requests)
				ctx := t.Context()
				if i%3 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
					defer cancel()
				}
				got, err := l.v.Verify(ctx, "acme", token)
				if got != nil || err == nil {
					t.Errorf("request %d: accepted", i)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[reasonOf(err)]++
			})
		}

		// Meanwhile who is honest is served at once, by no fetch.
		var honest sync.WaitGroup
		honest.Go(func() {
			for i := range 1000 {
				asked := time.Now()
				l.accepts(l.token("a", map[string]any{"jti": fmt.Sprint(i)}))
				if d := time.Since(asked); d != 0 {
					t.Errorf("an honest request took %v, want no waiting", d)
				}
				time.Sleep(during / 1000)
			}
		})

		// And so is, before long, who has a key that is new.
		time.Sleep(3 * time.Second)
		l.publish(nil, "a", "b")
		rotated := time.Now()
		for usable := false; !usable; time.Sleep(100 * time.Millisecond) {
			switch _, err := l.v.Verify(t.Context(), "acme", l.token("b", nil)); {
			case err == nil:
				usable = true
			case !errors.Is(err, peal.ErrUnauthenticated):
				t.Fatal(err)
			case time.Since(rotated) > 12*time.Second:
				t.Fatalf("a new key is not usable after %v", time.Since(rotated))
			}
		}
		if n := l.fetches(began); n != 2 {
			t.Errorf("%d fetches until the new key came, want 2", n)
		}
		honest.Wait()
		storm.Wait()
		if n := l.fetches(began) - l.fetches(began.Add(during)); n == 0 || n > 2 {
			t.Errorf("%d fetches in %v, want 1 or 2", n, during)
		}
		// Who gave up while the fetch was under way was told of no refusal: nobody
		// knows yet whether there is such a key. All others were refused.
		gone := answers["unavailable"]
		if gone == 0 || gone > kidWaiters || answers[ReasonIssuer] != requests/2 || answers[ReasonKidUnknown] != requests/2-gone {
			t.Errorf("answers %v", answers)
		}
		if k := l.v.snapshot().byName["acme"].keys; k.waiting != 0 || len(k.unknown) > kidsUnknown {
			t.Errorf("%d wait, %d kids are remembered", k.waiting, len(k.unknown))
		}
	})
}

// A fetch that fails in a storm is repeated as after any failure, no faster.
func TestAStormDoesNotHurryAnIssuerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Options{}, "a")
		l.publish(errors.New("down"))
		began := time.Now()
		for range 600 {
			l.refuses(l.token("x", map[string]any{"jti": time.Now().String()}), ReasonKidUnknown)
			l.accepts(l.token("a", nil))
			time.Sleep(100 * time.Millisecond)
		}
		// In this minute the back-off has 6 or 7, the kids 6.
		if n := l.fetches(began); n < 6 || n > 14 {
			t.Errorf("%d fetches in %v", n, time.Since(began))
		}
	})
}

// A day after its issuer was last seen the realm is unavailable, also to who has
// a token that was verified before; and its tokens are not wrong for that.
func TestOldKeysVouchForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Options{}, "a")
		token := l.token("a", map[string]any{"exp": time.Now().Add(72 * time.Hour).Unix()})
		first := l.accepts(token)
		l.publish(errors.New("down"))
		time.Sleep(24*time.Hour - time.Second)
		if l.accepts(token) != first {
			t.Error("the token was verified again")
		}
		time.Sleep(time.Second)
		l.refuses(token, "unavailable")
		l.refuses(l.token("a", nil), "unavailable")
		if _, err := l.v.VerifyLogout(t.Context(), "acme", l.token("a", logoutOf("jane"))); reasonOf(err) != "unavailable" {
			t.Errorf("logout: %v, want it unavailable", err)
		}
		l.refuses(l.token("a", map[string]any{"aud": "billing"}), ReasonAudience)
		l.publish(nil, "a")
		time.Sleep(time.Minute + kidEvery)
		if l.accepts(token) != first { // the key came back, which had vouched for it
			t.Error("the token was verified again")
		}
	})
}

// logoutOf is what makes the claims of a logout token of them.
func logoutOf(subject string) map[string]any {
	return map[string]any{"sub": subject, "jti": "l1", "events": map[string]any{logoutEvent: map[string]any{}}}
}
