package bus

import (
	"sync"
	"time"
)

const (
	// memoryTurn is how long a generation of a memory takes in what is read. What
	// is remembered is at most two of them old, and the reading counts too.
	memoryTurn = 400 * time.Millisecond

	// A generation takes in so much, by keys and by the bytes of what was stored
	// for them. What does not fit is read again.
	maxRemembered      = 20_000
	maxRememberedBytes = 16 << 20
)

// memory keeps what was read from a bucket for about a second, also that there
// was nothing. It is for those who are told of something many times a
// second. It has two generations: one takes in, and the older is forgotten as a
// whole. Its methods may be called concurrently.
type memory[K comparable, V any] struct {
	mu       sync.Mutex // protects the rest
	now, old map[K]V
	bytes    int       // of what now has taken in
	turn     time.Time // when now began
	forgot   time.Time // when forget or clear was called last
}

func newMemory[K comparable, V any]() *memory[K, V] { return &memory[K, V]{now: make(map[K]V)} }

// get returns what is remembered.
func (m *memory[K, V]) get(k K, now time.Time) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked(now)
	if v, ok = m.now[k]; !ok {
		v, ok = m.old[k]
	}
	return v, ok
}

// put remembers what was made of a message, nil if there was none. Reading it
// began some time ago: what took a turn is too old, and so is what may have been
// read before forget or clear.
func (m *memory[K, V]) put(k K, v V, of *stored, began, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked(now)
	size := 0
	if of != nil {
		size = len(of.data)
	}
	if now.Sub(began) > memoryTurn || !began.After(m.forgot) || len(m.now) >= maxRemembered || m.bytes+size > maxRememberedBytes {
		return
	}
	m.now[k] = v
	m.bytes += size
}

// forget is called when another value was stored.
func (m *memory[K, V]) forget(k K, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgot = now
	delete(m.now, k)
	delete(m.old, k)
}

// clear is called when other values were stored for many keys.
func (m *memory[K, V]) clear(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgot = now
	m.now, m.old, m.bytes = make(map[K]V), nil, 0
}

func (m *memory[K, V]) turnLocked(now time.Time) {
	switch age := now.Sub(m.turn); {
	case age < memoryTurn:
	case age < 2*memoryTurn:
		m.old, m.now, m.bytes, m.turn = m.now, make(map[K]V), 0, m.turn.Add(memoryTurn)
	default:
		m.old, m.now, m.bytes, m.turn = nil, make(map[K]V), 0, now
	}
}
