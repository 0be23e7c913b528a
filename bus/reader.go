package bus

import (
	"context"
	"sync"
)

// readers is how many reads of a stream for its feeds are under way at once.
// The server answers the reads of one connection one after the other, so more
// would only wait there.
const readers = 4

// reader reads a stream for the feeds, which never wait. Each stream has its
// own: one that does not answer delays no other.
type reader struct {
	bus  *Bus
	wake chan struct{} // capacity 1: jobs is not empty

	mu   sync.Mutex // protects jobs
	jobs []func()   // reads for feeds, also such as were overtaken, tail checks, a catch-up
}

func newReader(b *Bus) *reader { return &reader{bus: b, wake: make(chan struct{}, 1)} }

func (r *reader) start() {
	for range readers {
		r.bus.done.Go(r.run)
	}
}

// ask has a job done by one of the readers, in its turn. It never blocks.
func (r *reader) ask(job func()) {
	r.mu.Lock()
	r.jobs = append(r.jobs, job)
	r.mu.Unlock()
	r.poke()
}

func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reader) run() {
	for {
		select {
		case <-r.bus.closing:
			return
		case <-r.wake:
		}
		for job := r.next(); job != nil && !r.bus.isClosing(); job = r.next() {
			job()
		}
	}
}

// next takes a job; if more are left, another reader is woken for them.
func (r *reader) next() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.jobs) == 0 {
		r.jobs = nil
		return nil
	}
	job := r.jobs[0]
	r.jobs[0] = nil
	r.jobs = r.jobs[1:]
	if len(r.jobs) > 0 {
		r.poke()
	}
	return job
}

// reread reads on for a feed, with a deadline of its own.
func (src *source) reread(subject string, after origin, target uint64, fill bool) (replay, error) {
	ctx, cancel := context.WithTimeout(src.bus.life, src.bus.cfg.Timeout)
	defer cancel()
	if fill {
		return src.fill(ctx, subject, after, target)
	}
	return src.replay(ctx, subject, after)
}
