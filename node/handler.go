package node

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

const (
	// maxPending bounds what waits to be written to one connection. Beyond it
	// the feed keeps its place in the stream, which is the buffer.
	maxPending = 64 << 10

	// stallAfter is how long a write may be under way before the peer counts as
	// one that takes nothing, for which nothing is kept waiting.
	stallAfter = time.Second

	// lastWords is how long a connection that the server ends has to take what
	// is left: it must be gone within a second of its token's expiry.
	lastWords = 400 * time.Millisecond
)

// handler is the transport of the request's own goroutine, for HTTP/1.1 and
// HTTP/2 on any system.
//
// A frame belongs to the feed until it is taken, waits in pending, and is begun
// when run takes it out to write it: then it will be on the wire whole or the
// connection ends. place is the cursor of the last frame that was begun. When a
// write does not return, what waits is dropped and the feed sent back to place,
// so that it offers exactly what was dropped once more. Between, everything is
// refused: while the write is stalled, because it would wait; and until the feed
// has gone back, because it would overtake what was dropped. Resume comes after
// both. So frames are begun in the order of the feed, each once, and a peer that
// takes nothing costs its cursor and the frame under way.
type handler struct {
	out     *http.ResponseController
	w       http.ResponseWriter
	peer    *peer
	alone   bool // no other response shares the peer's connection
	timeout time.Duration
	grace   time.Duration             // stallAfter, but for tests
	feed    *bus.Feed                 // set by begin, before anything is offered
	wrote   func(oldest *bus.Message) // called after each write that has news

	mu        sync.Mutex // protects the rest
	changed   sync.Cond  // something to write, or the end
	pending   []waiting
	size      int          // of pending, in bytes
	place     bus.Cursor   // everything up to it is on the wire, or in the write under way
	flushed   bus.Cursor   // everything up to it is the kernel's to send
	began     time.Time    // the write under way; zero between writes
	stalled   bool         // the write under way takes too long
	returning bool         // the feed was sent back and is not there yet
	refused   bool         // the feed waits for Resume
	written   bool         // something is to be seen off with a flush
	oldest    *bus.Message // the first of it that was stored since the connection is open
	watch     *time.Timer
	watching  bool        // the timer is running
	pace      pace        // of ticket updates
	hold      *time.Timer // wakes run for one that is held back
	last      []byte      // not nil: to be written after what waits, before the end
	why       reason      // of the end; "" while there is none
}

// waiting is a frame that is not begun.
type waiting struct {
	frame []byte     // shared, not to be changed; nil for an update that is encoded when it is begun
	size  int        // in bytes
	at    bus.Cursor // where its reader is after it; zero if it does not tell
	owed  bool       // the feed's: if it is dropped, it has to be offered again

	news *bus.Message // that it tells of, if that was stored since the connection is open

	update *peal.TicketUpdate // that it tells of, if it does; shared, not to be changed
}

// tells reports whether the frame moves its reader on.
func (w waiting) tells() bool { return !w.at.IsZero() }

func newHandler(w http.ResponseWriter, r *http.Request, timeout time.Duration, wrote func(oldest *bus.Message)) *handler {
	h := &handler{
		w: w, out: http.NewResponseController(w), timeout: timeout, grace: stallAfter, wrote: wrote,
		peer: peerOf(r.Context()), alone: r.ProtoMajor == 1,
	}
	h.changed.L = &h.mu
	return h
}

func (h *handler) offer(frame []byte, at bus.Cursor, news *bus.Message) bool {
	return h.accept(waiting{frame: frame, size: len(frame), at: at, owed: true, news: news})
}

func (h *handler) offerUpdate(u *bus.Update, frame []byte) bool {
	return h.accept(waiting{frame: frame, size: len(frame), at: u.Cursor, owed: true, update: &u.TicketUpdate})
}

// accept takes a frame of the feed, all or none.
func (h *handler) accept(w waiting) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.why != "":
		return true // nobody will read it; the feed is about to be closed
	case h.stalled || h.returning:
	case w.update != nil && h.supersedeLocked(w):
		return true
	case h.size == 0 || h.size+w.size <= maxPending:
		h.putLocked(w)
		return true
	}
	h.refused = true
	return false
}

func (h *handler) offerIdle(frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" || h.size > 0 || !h.began.IsZero() {
		return false
	}
	h.putLocked(waiting{frame: frame, size: len(frame)})
	return true
}

func (h *handler) putLocked(w waiting) {
	h.pending = append(h.pending, w)
	h.size += w.size
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

// gone notes that the peer is not there any more, or that a write to it failed.
func (h *handler) gone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alone {
		h.peer.cut() // or TLS tries to take leave of it for 5 s
	}
	if h.why != "" {
		return
	}
	h.lostLocked()
	h.pending, h.size = nil, 0
	// It may have said so, and left a write under way that nobody takes.
	h.out.SetWriteDeadline(time.Now())
	h.changed.Signal()
}

// lostLocked settles why the peer was lost, unless the connection was being
// ended: whether it took nothing for too long or went away. The error of a
// write does not tell: HTTP/2 resets the stream at the deadline.
func (h *handler) lostLocked() {
	switch {
	case h.why != "":
	case !h.began.IsZero() && time.Since(h.began) >= h.timeout:
		h.why = slowClient
	default:
		h.why = clientGone
	}
}

// begin puts the first event before what the feed offers after its first Resume.
func (h *handler) begin(first []byte, feed *bus.Feed) {
	h.feed = feed
	at := feed.Start().Cursor
	if feed.Start().Gap {
		at = bus.Cursor{} // the gap will tell it
	}
	h.offer(first, at, nil)
}

// run writes what is offered until the connection ends, and returns why. The
// response is to be aborted then.
func (h *handler) run(ctx context.Context) reason {
	defer h.settle()
	stop := context.AfterFunc(ctx, h.gone)
	defer stop()
	for {
		frame, why := h.next()
		var err error
		switch {
		case frame != nil:
			_, err = h.w.Write(frame)
		case why != "":
			return why
		default:
			if err = h.out.Flush(); err == nil {
				h.rest()
			}
		}
		if err != nil {
			return h.broken()
		}
	}
}

// next waits for something to write and begins it: a frame, or nil to see off
// what is written. With a reason there is nothing more to write. The end does not
// wait for what is held back, which comes after the peer's last cursor.
func (h *handler) next() (frame []byte, why reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.heldLocked()
	for (len(h.pending) == 0 || held > 0) && h.last == nil && !h.written && h.why == "" {
		h.awaitLocked(held)
		held = h.heldLocked()
	}
	switch {
	case len(h.pending) > 0 && held <= 0:
		frame = h.takeLocked()
	case h.last != nil:
		frame, h.last = h.last, nil
		h.pending, h.size = nil, 0
	case !h.written:
		return nil, h.why
	}
	h.written = frame != nil
	h.beginLocked()
	return frame, ""
}

// takeLocked takes out the first frame that waits.
func (h *handler) takeLocked() []byte {
	w := h.pending[0]
	h.pending[0] = waiting{}
	h.pending = h.pending[1:]
	h.size -= w.size
	if len(h.pending) == 0 {
		h.pending = nil
	}
	if w.tells() {
		h.place = w.at
	}
	if h.oldest == nil {
		h.oldest = w.news
	}
	if w.update != nil {
		h.pace.begin(w.update.TicketID, time.Now())
	}
	if w.frame == nil {
		return updateFrame(*w.update, w.at)
	}
	return w.frame
}

// beginLocked begins a write, which has the whole timeout: a peer that is slow
// but takes a frame in this time is left alone.
func (h *handler) beginLocked() {
	h.movedLocked()
	if h.why != "" {
		return // the deadline of end stays in force
	}
	h.began = time.Now()
	h.out.SetWriteDeadline(h.began.Add(h.timeout)) // if it fails, so does the write
	if !h.watching {
		h.watching = true
		h.watchLocked(h.grace)
	}
}

// rest is between writes.
func (h *handler) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.movedLocked()
	h.began = time.Time{}
	h.flushed = h.place
	if h.oldest != nil {
		h.wrote(h.oldest)
		h.oldest = nil
	}
	if h.why == "" {
		// HTTP/2 resets the stream at its deadline even if nothing is being written.
		h.out.SetWriteDeadline(time.Time{})
	}
	h.resumeLocked()
}

// movedLocked notes that a write has returned.
func (h *handler) movedLocked() {
	if h.stalled {
		h.stalled = false
		h.peer.moves()
	}
}

// resumeLocked has the feed go on, if it waits and there is room.
func (h *handler) resumeLocked() {
	if h.refused && !h.stalled && !h.returning && h.size == 0 {
		h.refused = false
		h.feed.Resume()
	}
}

// watchLocked has look called after a while.
func (h *handler) watchLocked(after time.Duration) {
	if h.watch == nil {
		h.watch = time.AfterFunc(after, h.look)
		return
	}
	h.watch.Reset(after)
}

// look looks after the write under way. It is called again as long as there is
// one, so that a write that returns in time needs no timer of its own.
func (h *handler) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != "" || h.began.IsZero() {
		h.watching = false
		return
	}
	since := time.Since(h.began)
	if since < h.grace {
		h.watchLocked(h.grace - since)
		return
	}
	if !h.stalled {
		h.stalled = true
		h.peer.stalls(h.timeout)
		h.dropLocked()
	}
	if since >= ackTimeout && h.peer.silent() {
		h.why = clientGone
		h.pending, h.size = nil, 0
		h.peer.cut() // and with it the write
		return
	}
	h.watchLocked(h.grace)
}

// dropLocked drops what waits and sends the feed back to where the peer will be
// after the write under way; that has it tell the read state again too. Before a
// place is known a gap waits, which the feed has declared and would not find
// again: it stays, and where not even that has been offered, so does everything.
func (h *handler) dropLocked() {
	keep, to := 0, h.place
	if h.place.IsZero() {
		keep = len(h.pending)
		if gap := slices.IndexFunc(h.pending, waiting.tells); gap >= 0 {
			keep, to = gap+1, h.pending[gap].at
		}
	}
	kept, dropped := h.pending[:keep], h.pending[keep:]
	for _, w := range dropped {
		h.size -= w.size
	}
	h.pending = append([]waiting(nil), kept...) // lets go of the rest
	if slices.ContainsFunc(dropped, func(w waiting) bool { return w.owed }) {
		h.refused, h.returning = true, true
		h.feed.Rewind(to, h.returned)
	}
}

// returned notes that the feed offers nothing any more from before it was sent
// back.
func (h *handler) returned() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.returning = false
	if h.why == "" {
		h.resumeLocked()
	}
}

// broken says why a write failed.
func (h *handler) broken() reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lostLocked()
	return h.why
}

// settle leaves nothing behind of the watch over the last write, nor of what was held
// back.
func (h *handler) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.movedLocked()
	if h.hold != nil {
		h.hold.Stop()
	}
	if h.watch != nil {
		h.watch.Stop() // look does nothing after the end
	}
}
