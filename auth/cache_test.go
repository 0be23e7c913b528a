package auth

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pealhq/peal"
)

func TestATokenIsVerifiedOnce(t *testing.T) {
	for _, row := range []struct {
		bytes int
		once  bool
	}{{0, true}, {64 << 10, true}, {-1, false}, {1, false}} {
		l := newLab(t, Options{CacheBytes: row.bytes}, "a")
		token := l.token("a", nil)
		first := l.accepts(token)
		if once := l.accepts(token) == first; once != row.once {
			t.Errorf("CacheBytes %d: remembered %v, want %v", row.bytes, once, row.once)
		}
		if l.accepts(l.token("a", map[string]any{"jti": "2"})) == first {
			t.Errorf("CacheBytes %d: another token is taken for it", row.bytes)
		}
		// One character of the signature makes another token, which nobody has made.
		c := "A"
		if token[len(token)-40] == 'A' {
			c = "B"
		}
		l.refuses(token[:len(token)-40]+c+token[len(token)-39:], ReasonSignature)
	}
}

// What a name is made of must not run together.
func TestATokenIsRememberedInItsRealmOnly(t *testing.T) {
	seen := map[tokenName]string{}
	for _, of := range [][2]string{{"acme", "token"}, {"globex", "token"}, {"acmet", "oken"}, {"acm", "etoken"}, {"", "acmetoken"}, {"acmetoken", ""}} {
		n := nameOf(of[0], of[1])
		if was, ok := seen[n]; ok {
			t.Errorf("%q has the name of %s", of, was)
		}
		seen[n] = fmt.Sprint(of)
	}
}

// labTokens returns n tokens, by names that are theirs alone.
func labTokens(r *realm, n int) (names []tokenName, tokens []*Token) {
	for i := range n {
		id := fmt.Sprintf("user-%06d", i)
		names = append(names, nameOf("acme", id))
		tokens = append(tokens, &Token{User: peal.UserID(id), realm: r, tenants: []peal.Tenant{labOne}})
	}
	return names, tokens
}

func (c *cache) entries() int { return len(c.younger) + len(c.older) }

func TestTheCacheIsBounded(t *testing.T) {
	const bytes = 1 << 20
	c, r := newCache(bytes), &realm{}
	names, tokens := labTokens(r, 20_000)
	most := 0
	for i, n := range names {
		c.put(n, tokens[i], 1)
		if c.get(n, r, 1) != tokens[i] {
			t.Fatalf("token %d is not remembered", i)
		}
		most = max(most, c.entries())
	}
	size := tokens[0].size()
	if most*size > bytes || most*size < bytes*9/10 {
		t.Errorf("up to %d tokens of %d bytes, want some %d bytes of them", most, size, bytes)
	}
	for range 10 * most { // the same again is no more
		c.put(names[len(names)-1], tokens[len(tokens)-1], 1)
	}
	if n := c.entries(); n < most/2-1 {
		t.Errorf("%d tokens are left of %d though nothing new came", n, most)
	}

	// One that takes more than its share of the room is not kept at all.
	huge := &Token{User: peal.UserID(make([]byte, bytes)), realm: r}
	c.put(nameOf("acme", "huge"), huge, 1)
	if c.get(nameOf("acme", "huge"), r, 1) != nil || c.entries() == 0 {
		t.Error("a huge token took the place of the others")
	}
}

func TestATokenInUseOutlivesTheOthers(t *testing.T) {
	c, r := newCache(64<<10), &realm{}
	names, tokens := labTokens(r, 5000)
	fits := 64 << 10 / tokens[0].size()
	c.put(names[0], tokens[0], 1)
	c.put(names[1], tokens[1], 1)
	for i := 2; i < len(names); i++ {
		c.put(names[i], tokens[i], 1)
		if i%(fits/4) == 0 && c.get(names[0], r, 1) != tokens[0] {
			t.Fatalf("the token in use was forgotten after %d others", i)
		}
	}
	if c.get(names[1], r, 1) != nil {
		t.Error("a token that nobody uses is remembered for ever")
	}
}

// What vouched for a token is asked again when it has changed.
func TestARememberedTokenIsOfOneRealmAndItsKeys(t *testing.T) {
	c, r := newCache(64<<10), &realm{}
	names, tokens := labTokens(r, 1)
	c.put(names[0], tokens[0], 1)
	for name, got := range map[string]*Token{
		"other keys":  c.get(names[0], r, 2),
		"other rules": c.get(names[0], &realm{}, 1),
	} {
		if got != nil {
			t.Errorf("%s: it is still taken for good", name)
		}
	}
	if c.get(names[0], r, 1) != tokens[0] {
		t.Error("nothing has changed, and it is forgotten")
	}
}

func TestAWithdrawnKeyTakesItsTokensAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Options{}, "a", "b")
		a, b := l.token("a", nil), l.token("b", nil)
		l.accepts(a)
		l.accepts(b)
		time.Sleep(time.Minute)
		l.publish(nil, "b")
		l.accepts(a) // nobody has told us yet
		time.Sleep(refreshEvery * 12 / 10)
		l.refuses(a, ReasonKidUnknown)
		l.accepts(b)

		// Nor does a new key vouch for what an old one of its name has signed.
		l.mu.Lock()
		delete(l.private, "b")
		l.mu.Unlock()
		time.Sleep(refreshEvery * 12 / 10)
		l.refuses(b, ReasonSignature)
		l.accepts(l.token("b", nil))
	})
}

func TestARememberedTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Options{}, "a")
		token := l.token("a", nil)
		first := l.accepts(token)
		time.Sleep(time.Hour - time.Nanosecond)
		if l.accepts(token) != first {
			t.Error("the token was verified again")
		}
		time.Sleep(time.Nanosecond)
		l.refuses(token, ReasonExpired)
		l.refuses(token, ReasonExpired)
	})
}

func TestTheCacheBesideItself(t *testing.T) {
	c, r := newCache(32<<10), &realm{}
	names, tokens := labTokens(r, 500)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				k := (i*7 + n*13) % len(names)
				if got := c.get(names[k], r, uint64(n%2)); got != nil && got != tokens[k] {
					t.Errorf("asked for %s, got %s", tokens[k].User, got.User)
				}
				c.put(names[k], tokens[k], uint64(n%2))
			}
		})
	}
	wg.Wait()
	if size := c.entries() * tokens[0].size(); size > 32<<10 {
		t.Errorf("%d bytes of tokens, want at most %d", size, 32<<10)
	}
}
