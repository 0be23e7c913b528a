package node

import "github.com/pealhq/peal/bus"

// proof finds out what the peer of a connection has provably received: what its TCP
// has acknowledged at a heartbeat after the one before which it was written. So the
// peer has had that long to read it, and nothing is asked of clients.
//
// It takes an HTTP/1.1 connection, with TLS in this process or not: HTTP/2 keeps in
// this process what the peer has no window for, and what is flushed may not be on its
// way yet. And it takes a system that tells (see sent). Without proof the durable
// stays where it is, until the client says itself where it has come to.
type proof struct {
	handler *handler
	durable *bus.Durable

	// Owned by the wheel's goroutine.
	noted bus.Cursor // everything up to it was written by an earlier heartbeat; zero: nothing
	bytes uint64     // that were written by then, at most
}

func newProof(h *handler, d *bus.Durable) *proof { return &proof{handler: h, durable: d} }

// look is called at each heartbeat.
func (p *proof) look() {
	at, acked, outstanding, ok := p.handler.sent()
	if !ok {
		return
	}
	if !p.noted.IsZero() {
		if outstanding > 0 && acked < p.bytes {
			return // not yet: a slow peer would never get to what is written meanwhile
		}
		p.durable.Received(p.noted)
	}
	p.noted, p.bytes = at, acked+uint64(outstanding)
}

// sent returns a place up to which everything was handed to the kernel, and how much
// of that and what came after it the peer has acknowledged.
func (h *handler) sent() (at bus.Cursor, acked uint64, outstanding int, ok bool) {
	if !h.alone {
		return bus.Cursor{}, 0, 0, false
	}
	h.mu.Lock()
	at = h.flushed // first: what is written meanwhile counts as more that is outstanding
	h.mu.Unlock()
	acked, outstanding, ok = h.peer.sent()
	return at, acked, outstanding, ok
}
