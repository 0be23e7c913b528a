package node

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pealhq/peal/bus"
)

const (
	// maxPending bounds what waits to be written to one connection. Beyond it
	// the feed keeps its place in the stream, which is the buffer.
	maxPending = 64 << 10

	// lastWords is how long a connection that the server ends has to take what
	// is left: it must be gone within a second of its token's expiry.
	lastWords = 400 * time.Millisecond
)

// handler is the transport of the request's own goroutine, for HTTP/1.1 and
// HTTP/2 on any system.
type handler struct {
	out     *http.ResponseController
	w       http.ResponseWriter
	timeout time.Duration // of a write that makes no progress

	mu      sync.Mutex // protects the rest
	changed sync.Cond  // something to write, or the end
	pending [][]byte   // shared frames, not to be changed
	size    int        // of pending, in bytes
	refused bool       // the feed waits for room
	by      time.Time  // what is being written is to be taken by then; zero between writes
	last    []byte     // not nil: write it and abort
	why     reason     // of the end; "" while there is none
}

func newHandler(w http.ResponseWriter, timeout time.Duration) *handler {
	h := &handler{w: w, out: http.NewResponseController(w), timeout: timeout}
	h.changed.L = &h.mu
	return h
}

func (h *handler) offer(frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" {
		return true // nobody will read it; the feed is about to be closed
	}
	if h.size > 0 && h.size+len(frame) > maxPending {
		h.refused = true
		return false
	}
	h.putLocked(frame)
	return true
}

func (h *handler) offerIdle(frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" || h.size > 0 {
		return false
	}
	h.putLocked(frame)
	return true
}

func (h *handler) putLocked(frame []byte) {
	h.pending = append(h.pending, frame)
	h.size += len(frame)
	h.changed.Signal()
}

func (h *handler) end(why reason, last []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" {
		return
	}
	h.why, h.last = why, last
	// A write may be under way, towards a peer that takes nothing. The lock
	// keeps the response from ending while we use it.
	h.out.SetWriteDeadline(time.Now().Add(lastWords))
	h.changed.Signal()
}

// gone notes that the peer is not there any more.
func (h *handler) gone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lostLocked()
	h.changed.Signal()
}

// lostLocked settles why the peer was lost, unless the connection was being
// ended: whether it took nothing for too long or went away. The error of a
// write does not tell: HTTP/2 resets the stream at the deadline.
func (h *handler) lostLocked() {
	switch {
	case h.why != "":
	case !h.by.IsZero() && !time.Now().Before(h.by):
		h.why = slowClient
	default:
		h.why = clientGone
	}
}

// run writes what is offered until the connection ends, and returns why. The
// response is to be aborted then.
func (h *handler) run(ctx context.Context, feed *bus.Feed) reason {
	stop := context.AfterFunc(ctx, h.gone)
	defer stop()
	for {
		frames, last, why := h.next()
		if why != "" && last == nil {
			return why
		}
		if last != nil {
			frames = append(frames, last)
		}
		if err := h.write(frames); err != nil {
			return h.broken()
		}
		if last != nil {
			return why
		}
		if h.hasRoom() {
			feed.Resume()
		}
	}
}

// next waits for something to do.
func (h *handler) next() (frames [][]byte, last []byte, why reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.pending) == 0 && h.why == "" {
		h.changed.Wait()
	}
	frames = h.pending
	h.pending, h.size = nil, 0
	return frames, h.last, h.why
}

// hasRoom reports whether the feed waits for room and there is some.
func (h *handler) hasRoom() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.refused || h.size > 0 {
		return false
	}
	h.refused = false
	return true
}

// write writes frames and sees them off to the peer. Each has the whole timeout:
// a peer that is slow but takes something is left alone.
func (h *handler) write(frames [][]byte) error {
	for _, f := range frames {
		if err := h.deadline(h.timeout); err != nil {
			return err
		}
		if _, err := h.w.Write(f); err != nil {
			return err
		}
	}
	if err := h.out.Flush(); err != nil {
		return err
	}
	// HTTP/2 resets the stream at its deadline even if nothing is being written.
	return h.deadline(0)
}

// deadline bounds the next write; 0 takes the bound away. The shorter one of
// end stays in force.
func (h *handler) deadline(d time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" {
		return nil
	}
	h.by = time.Time{}
	if d != 0 {
		h.by = time.Now().Add(d)
	}
	return h.out.SetWriteDeadline(h.by)
}

// broken says why a write failed.
func (h *handler) broken() reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lostLocked()
	return h.why
}
