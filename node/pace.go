package node

import (
	"hash/maphash"
	"time"

	"github.com/pealhq/peal"
)

// A list on a screen needs to know that a ticket has changed, and not each time. So
// an update of a ticket is begun at most once in a quarter of a second on a
// connection, and while it waits a newer one is told in its stead. Who waits, waits
// at the head of the queue, and what is behind it too: so the order of cursors is that
// of the feed, and nothing waits for longer than for one such window.

const (
	// paceWindow is the least time between two updates of a ticket.
	paceWindow = 250 * time.Millisecond

	// maxPaced is of how many tickets it is known when their last update was begun.
	// More are not begun within the window: it takes 2 s to replay 4,096 of them.
	maxPaced = 512
)

// pace knows which tickets had an update begun within the window.
type pace struct {
	begun []begunUpdate // oldest first, at most maxPaced
}

type begunUpdate struct {
	ticket uint64 // its hash: of two that share one, one waits in vain
	at     time.Time
}

var paceSeed = maphash.MakeSeed()

// wait is for how long an update of a ticket has to wait.
func (p *pace) wait(ticket string, now time.Time) time.Duration {
	p.forget(now)
	hash := maphash.String(paceSeed, ticket)
	for _, b := range p.begun {
		if b.ticket == hash {
			return b.at.Add(paceWindow).Sub(now)
		}
	}
	if len(p.begun) == maxPaced {
		return p.begun[0].at.Add(paceWindow).Sub(now)
	}
	return 0
}

// begin notes that an update of a ticket, which has not to wait, is begun.
func (p *pace) begin(ticket string, now time.Time) {
	p.begun = append(p.begun, begunUpdate{maphash.String(paceSeed, ticket), now})
}

// forget lets go of what was begun before the window.
func (p *pace) forget(now time.Time) {
	n := 0
	for n < len(p.begun) && now.Sub(p.begun[n].at) >= paceWindow {
		n++
	}
	if p.begun = p.begun[n:]; len(p.begun) == 0 {
		p.begun = nil
	}
}

// supersedeLocked tells an update in the place of an older one of its ticket that
// waits, and reports whether there is one.
//
// The place is that of the older one, and its cursor too: a peer that is lost after it
// is told of the update once more, for it has not passed the cursor of that. At the
// end of the queue it would come after updates of others, whose cursors say that the
// older one was told: a peer that is lost between would never hear what that has
// changed. The last that waits takes the newer cursor: by then both are told.
func (h *handler) supersedeLocked(w waiting) bool {
	for i := len(h.pending) - 1; i >= 0; i-- {
		older := &h.pending[i]
		if older.update == nil {
			return false // a gap, which nothing may overtake
		}
		if older.update.TicketID != w.update.TicketID {
			continue
		}
		u := w.update.Superseding(*older.update)
		h.size -= older.size
		older.update, older.frame, older.size = &u, nil, updateSize(u)
		h.size += older.size
		last := &h.pending[len(h.pending)-1]
		last.at, last.frame = w.at, nil
		return true
	}
	return false
}

// heldLocked is for how long the first that waits is held back.
func (h *handler) heldLocked() time.Duration {
	if len(h.pending) == 0 || h.pending[0].update == nil {
		return 0
	}
	return h.pace.wait(h.pending[0].update.TicketID, time.Now())
}

// awaitLocked waits until something changes, or what is held back may go.
func (h *handler) awaitLocked(held time.Duration) {
	if held > 0 {
		if h.hold == nil {
			h.hold = time.AfterFunc(held, h.changed.Signal)
		} else {
			h.hold.Reset(held)
		}
	}
	h.changed.Wait()
}

// updateSize is about how many bytes the frame of an update takes.
func updateSize(u peal.TicketUpdate) int {
	size := 200 + len(u.TicketID) + len(u.TicketNumber)
	for _, c := range u.Changes {
		size += len(c) + 3
	}
	return size
}
