package node

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var dawn = time.Date(2025, 7, 10, 12, 0, 0, 0, time.UTC)

// newConns makes connections for a wheel.
func newConns(n int) []*conn {
	conns := make([]*conn, n)
	for i := range conns {
		conns[i] = &conn{}
		conns[i].spoke.conn = conns[i]
	}
	return conns
}

func TestWheelWakesAtTheFirstStepNotBefore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    time.Duration
		wakes time.Duration // of advances by wheelStep, the first that wakes
	}{
		{"now", 0, wheelStep},
		{"the past", -time.Hour, wheelStep},
		{"soon", 1, wheelStep},
		{"a step", wheelStep, wheelStep},
		{"just after", wheelStep + 1, 2 * wheelStep},
		{"one turn less a step", (wheelSlots - 1) * wheelStep, (wheelSlots - 1) * wheelStep},
		{"one turn", wheelSlots * wheelStep, wheelSlots * wheelStep},
		{"several turns", 3*wheelSlots*wheelStep + 7, (3*wheelSlots + 1) * wheelStep},
	} {
		w, c := newWheel(dawn), newConns(1)[0]
		w.set(&c.spoke, dawn, dawn.Add(tt.in))
		for d := wheelStep; ; d += wheelStep {
			if got := w.advance(dawn.Add(d)); len(got) > 0 {
				if d != tt.wakes || got[0] != c {
					t.Errorf("%s: woken after %v, want %v", tt.name, d, tt.wakes)
				}
				break
			}
			if d > tt.wakes {
				t.Errorf("%s: not woken after %v, want %v", tt.name, d, tt.wakes)
				break
			}
		}
		if got := w.advance(dawn.Add(24 * time.Hour)); len(got) > 0 {
			t.Errorf("%s: woken twice", tt.name)
		}
	}
}

func TestWheelAfterALongPause(t *testing.T) {
	w, conns := newWheel(dawn), newConns(600)
	for i, c := range conns {
		w.set(&c.spoke, dawn, dawn.Add(time.Duration(i)*time.Second))
	}
	if got := w.advance(dawn.Add(300 * time.Second)); len(got) != 301 {
		t.Errorf("woken: %d, want 301", len(got))
	}
	if got := w.advance(dawn.Add(200 * time.Second)); len(got) != 0 { // the clock never goes back; if it does nothing happens
		t.Errorf("woken by going back: %d", len(got))
	}
	if got := w.advance(dawn.Add(time.Hour)); len(got) != 299 {
		t.Errorf("woken: %d, want 299", len(got))
	}
}

func TestWheelTakesTheFarthestTime(t *testing.T) {
	w, c := newWheel(dawn), newConns(1)[0]
	w.set(&c.spoke, dawn, time.Unix(253402300799, 0)) // the most that a token says
	if got := w.stepOf(dawn, time.Unix(math.MaxInt32<<20, 0)); got <= 0 {
		t.Errorf("step %d: it overflowed", got)
	}
	for d := wheelStep; d < time.Hour; d += wheelStep {
		if len(w.advance(dawn.Add(d))) > 0 {
			t.Fatalf("woken after %v", d)
		}
	}
}

func TestClockWasSet(t *testing.T) {
	for _, tt := range []struct {
		name         string
		wall, passed time.Duration
		want         bool
	}{
		{"a step", wheelStep, wheelStep, false},
		{"slewed", wheelStep + time.Millisecond, wheelStep, false},
		{"held up", time.Minute, time.Minute, false},
		{"set forward", time.Hour + wheelStep, wheelStep, true},
		{"set back", wheelStep - time.Hour, wheelStep, true},
		{"asleep", 8 * time.Hour, wheelStep, true},
	} {
		if got := clockWasSet(tt.wall, tt.passed); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The wheel behaves as a map from connection to time would.
func TestWheelModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, conns := newWheel(dawn), newConns(50)
		model := make(map[*conn]time.Time) // to the step that wakes it
		now := dawn
		for range 2000 {
			c := conns[r.IntN(len(conns))]
			switch r.IntN(4) {
			case 0, 1:
				at := now.Add(time.Duration(r.Int64N(int64(3 * wheelSlots * wheelStep))))
				w.set(&c.spoke, now, at)
				model[c] = at
			case 2:
				w.remove(&c.spoke)
				delete(model, c)
			case 3:
				pause := time.Duration(r.ExpFloat64() * float64(4*time.Second))
				now = now.Add(pause)
				checkWoken(t, w, now, model)
			}
		}
		now = now.Add(time.Hour)
		checkWoken(t, w, now, model)
		if len(model) != 0 {
			t.Fatalf("seed %d: %d were never woken", seed, len(model))
		}
	}
}

// checkWoken advances the wheel and holds whom it wakes against the model.
func checkWoken(t *testing.T, w *wheel, now time.Time, model map[*conn]time.Time) {
	t.Helper()
	turned := dawn.Add(now.Sub(dawn).Truncate(wheelStep))
	woken := w.advance(now)
	for c, at := range model {
		due := !at.After(turned)
		if due != slices.Contains(woken, c) {
			// What was set for the step that had been turned already comes with the next.
			if due && turned.Sub(at) < wheelStep && w.stepOf(dawn, at) == int64(turned.Sub(dawn)/wheelStep) {
				continue
			}
			t.Fatalf("at %v: woken %v, due at %v", now.Sub(dawn), !due, at.Sub(dawn))
		}
		if due {
			delete(model, c)
		}
	}
	for i, c := range woken {
		if slices.Contains(woken[:i], c) {
			t.Fatal("somebody was woken twice")
		}
	}
}

func BenchmarkWheelSet(b *testing.B) {
	w, conns := newWheel(dawn), newConns(10000)
	for i := 0; b.Loop(); i++ {
		w.set(&conns[i%len(conns)].spoke, dawn, dawn.Add(30*time.Second))
	}
}
