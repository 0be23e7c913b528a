package bus

import (
	"testing"
	"time"
)

// What is remembered is bounded: in time, or a change would never act; in keys and
// bytes, or a publisher to everybody would fill the node.
func TestMemoryIsBounded(t *testing.T) {
	now := time.Now()
	small := &stored{data: make([]byte, 10)}

	m := newMemory[int, string]()
	m.put(1, "one", small, now, now)
	m.put(2, "", nil, now, now)
	for k, want := range map[int]string{1: "one", 2: ""} {
		if got, ok := m.get(k, now); !ok || got != want {
			t.Errorf("%d: got %q and %t, want it remembered", k, got, ok)
		}
	}
	m.forget(1, now)
	if _, ok := m.get(1, now); ok {
		t.Error("1 is remembered after another was stored")
	}
	for _, k := range []int{0, 3} {
		if _, ok := m.get(k, now); ok {
			t.Errorf("%d was never read", k)
		}
	}
	if _, ok := m.get(2, now.Add(2*memoryTurn)); ok {
		t.Errorf("2 is remembered after %v", 2*memoryTurn)
	}

	// However often it is asked for.
	m = newMemory[int, string]()
	m.put(1, "one", small, now, now)
	last := time.Duration(0)
	for d := time.Duration(0); d < 10*memoryTurn; d += memoryTurn / 10 {
		if _, ok := m.get(1, now.Add(d)); ok {
			last = d
		}
	}
	if last > 2*memoryTurn {
		t.Errorf("1 is remembered after %v, want %v at most", last, 2*memoryTurn)
	}

	m = newMemory[int, string]()
	m.put(1, "one", small, now.Add(-2*memoryTurn), now)
	if _, ok := m.get(1, now); ok {
		t.Error("1 is remembered, though reading it took two turns")
	}

	m = newMemory[int, string]()
	for k := range maxRemembered + 10 {
		m.put(k, "", nil, now, now)
	}
	if n := len(m.now); n > maxRemembered {
		t.Errorf("%d keys, want %d at most", n, maxRemembered)
	}
	m = newMemory[int, string]()
	large := &stored{data: make([]byte, 1<<20)}
	for k := range 100 {
		m.put(k, "", large, now, now)
	}
	if n := len(m.now) << 20; n > maxRememberedBytes {
		t.Errorf("%d bytes, want %d at most", n, maxRememberedBytes)
	}
	m.put(-1, "", nil, now, now)
	if _, ok := m.get(-1, now); !ok {
		t.Error("what takes no bytes is not remembered beside what does")
	}
}

// Who stores another value while the old one is being read, has it forgotten too.
func TestMemoryForgetsWhatWasReadBefore(t *testing.T) {
	now := time.Now()
	m := newMemory[int, string]()
	began := now
	m.forget(1, now.Add(time.Millisecond))
	m.put(1, "old", nil, began, now.Add(2*time.Millisecond))
	if got, ok := m.get(1, now.Add(3*time.Millisecond)); ok {
		t.Errorf("%q is remembered, of which reading began before another was stored", got)
	}
	m.put(1, "new", nil, now.Add(3*time.Millisecond), now.Add(4*time.Millisecond))
	if got, ok := m.get(1, now.Add(5*time.Millisecond)); !ok || got != "new" {
		t.Errorf("got %q and %t, want what was read after that", got, ok)
	}
}
