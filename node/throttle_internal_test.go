package node

import (
	"errors"
	"testing"
	"time"
)

func TestThrottleIsForLoopsNotForStorms(t *testing.T) {
	cfg := Config{}.withDefaults()
	user := func() *throttle[int] { return newThrottle[int]("user", cfg.ConnectsPerUser, userBurst) }
	address := func() *throttle[int] { return newThrottle[int]("address", cfg.ConnectsPerAddress, addressBurst) }
	for _, tt := range []struct {
		name    string
		t       *throttle[int]
		n       int           // attempts
		pause   time.Duration // between two
		refused int
	}{
		{"a client that backs off", user(), 1000, time.Second, 0},
		{"five tabs that come back every two seconds, for a minute", user(), 150, 400 * time.Millisecond, 0},
		{"five tabs that come back every two and a half seconds", user(), 1000, 500 * time.Millisecond, 0},
		{"a tight loop", user(), 10_000, time.Millisecond, 10_000 - 60 - 19},
		{"ten thousand users behind one address", address(), 10_000, 0, 0},
		{"and again ten seconds later", address(), 20_000, time.Millisecond, 0},
		{"a flood from one address", address(), 30_000, 100 * time.Microsecond, 30_000 - 10_000 - 2_999},
	} {
		now := time.Unix(0, 0)
		refused := 0
		for range tt.n {
			if err := tt.t.take(1, now); errors.Is(err, errTooFast) {
				refused++
			}
			now = now.Add(tt.pause)
		}
		if refused != tt.refused {
			t.Errorf("%s: %d of %d refused, want %d", tt.name, refused, tt.n, tt.refused)
		}
	}
}

func TestThrottleTellsTheWait(t *testing.T) {
	th := newThrottle[string]("user", 2, 1)
	now := time.Unix(0, 0)
	for range 2 {
		if err := th.take("jane", now); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // the refused are not counted
		e, ok := errors.AsType[*tooFast](th.take("jane", now))
		if !ok || e.wait != 500*time.Millisecond {
			t.Fatalf("got %v, want a wait of 0.5 s", e)
		}
	}
	if err := th.take("joe", now); err != nil {
		t.Errorf("another: %v", err)
	}
	if err := th.take("jane", now.Add(500*time.Millisecond)); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if off := newThrottle[string]("user", -1, 30); off.take("jane", now) != nil || len(off.now) != 0 {
		t.Error("one that is off refuses or remembers")
	}
}

// However many attack, what is remembered is bounded, and forgotten once it means
// nothing any more; not before, or a loop would begin anew.
func TestThrottleForgets(t *testing.T) {
	th := newThrottle[int]("user", 1, 10)
	now := time.Unix(0, 0)
	for range 10 {
		th.take(-1, now)
	}
	for k := range 3 * maxThrottled {
		th.take(k, now)
	}
	if n := len(th.now) + len(th.old); n > 2*maxThrottled {
		t.Errorf("%d are remembered", n)
	}
	for at := range 15 { // through a change of generations
		if now = now.Add(time.Second); th.take(-1, now) != nil || th.take(-1, now) == nil {
			t.Errorf("%d s later: more or less than one a second", at+1)
		}
	}
	for range 2 {
		now = now.Add(10 * time.Second)
		th.take(-2, now)
	}
	if n := len(th.now) + len(th.old); n > 2 {
		t.Errorf("%d are remembered after they fell silent", n)
	}
}

func TestAddressesAreCountedByTheirNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1":             "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":    "192.0.2.7/32",
		"[2001:db8:1:2:3::4]:1":   "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:9": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":        "fe80::/64",
		"@":                       "",
		"":                        "",
	} {
		p, ok := network(remote)
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("%q: got %v %v, want %q", remote, p, ok, want)
		}
	}
}
