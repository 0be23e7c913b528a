package node

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

const (
	// readPatience is how long a poll that has nothing to wait for may take to
	// read what is stored: as long as the bus gives everything.
	readPatience = 5 * time.Second

	// gatherFor is how long a poll that has something goes on to read what is
	// stored besides.
	gatherFor = time.Second
)

// poll answers GET …/ticket/notification/list with a cursor to begin after: what
// came later, oldest first, as soon as there is some. With a time to wait it is a
// connection of the caller for as long as it waits, and ends when one would.
func (n *Node) poll(w http.ResponseWriter, r *request, caller auth.Caller, q listing) error {
	p := newPoll(q)
	c := &conn{node: n, caller: caller, transport: p, polls: true}
	follow := func(ctx context.Context) (*bus.Feed, error) { return n.bus.Follow(ctx, caller.Inbox, q.after, p) }
	var feed *bus.Feed
	var err error
	if p.waits {
		feed, err = n.seated(r, c, follow)
	} else {
		feed, err = follow(r.Context())
	}
	if err != nil {
		return err
	}
	defer feed.Close()
	p.begin(feed.Start())

	patience := readPatience
	if p.waits {
		patience = q.wait
		if err := n.open(c); err != nil {
			return err
		}
		defer n.leave(c, "")
		if n.reviewConn(c) != nil { // as in connect
			n.review()
		}
	}
	feed.Settled(p.settle)
	feed.Resume()
	if err := p.await(r.Context(), patience); err != nil {
		return err
	}
	c.outlived()
	found, rest, err := p.answer()
	if err != nil {
		return err
	}
	n.metrics.delivered.Add(float64(len(found)))
	if p.waits {
		r.end() // the next poll, which comes with the answer, needs the slot
	}
	return n.answerList(w, found, rest)
}

// poll collects what its reader is answered. It is the sink of a feed, and, where
// it waits, what stands for the open response of a conn.
//
// Everything it has taken is in the answer, and the cursor of the answer is where
// the last of it was: what it did not take, the next poll is given.
type poll struct {
	limit int
	waits bool // for something to arrive, if nothing is stored

	begun chan struct{} // closed once something was taken
	over  chan struct{} // closed once there is no reason to wait any more

	mu        sync.Mutex // protects the rest
	found     []listed   // oldest first, at most limit
	gap       bool       // something is missing before all of found
	at        bus.Cursor // everything up to it is in found or declared missing
	readState bus.Cursor
	settled   bool   // everything that was stored is taken: what is taken next has just arrived
	ended     bool   // over is closed: nothing is taken any more
	why       reason // the server ends it; "" if it does not
}

func newPoll(q listing) *poll {
	return &poll{limit: q.Limit, waits: q.waits(), at: q.after, begun: make(chan struct{}), over: make(chan struct{})}
}

// begin takes over what is known before anything is offered.
func (p *poll) begin(start bus.Start) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readState = start.ReadState
}

// Deliver implements bus.Sink.
func (p *poll) Deliver(m *bus.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.found = append(p.found, listed{m.Cursor, m.Data})
	p.tookLocked(m.Cursor, p.settled || len(p.found) == p.limit)
	return true
}

// Gap implements bus.Sink. A gap is only taken before everything else, for its
// place in an answer is there. Another one is found again from the answer's
// cursor.
func (p *poll) Gap(g bus.Gap) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || len(p.found) > 0 {
		p.endLocked()
		return false
	}
	p.gap = true
	p.tookLocked(g.Cursor, p.settled)
	return true
}

// State implements bus.Sink. It is nothing to be answered for: whoever finds
// another version fetches the list.
func (p *poll) State(s bus.ReadState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readState = s.Version
	return true
}

func (p *poll) tookLocked(at bus.Cursor, last bool) {
	if p.at = at; len(p.found) <= 1 {
		p.beginLocked()
	}
	if last {
		p.endLocked()
	}
}

func (p *poll) beginLocked() {
	select {
	case <-p.begun:
	default:
		close(p.begun)
	}
}

func (p *poll) endLocked() {
	if !p.ended {
		p.ended = true
		close(p.over)
	}
}

// settle notes that everything that is stored was taken.
func (p *poll) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
	if !p.waits || p.gap || len(p.found) > 0 {
		p.endLocked()
	}
}

// offer implements transport. Nothing is offered to a poll: its feed delivers to
// the poll itself.
func (p *poll) offer([]byte, bus.Cursor, *bus.Message) bool { return true }

// offerUpdate implements transport. There are no polls for updates.
func (p *poll) offerUpdate(*bus.Update, []byte) bool { return true }

// offerIdle implements transport. The answer is one, at the end: there is no place
// for a heartbeat.
func (p *poll) offerIdle([]byte) bool { return false }

// end implements transport.
func (p *poll) end(why reason, _ []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == "" {
		p.why = why
	}
	p.endLocked()
}

// await waits until there is something to answer, the time is up, or the client
// has gone, which is the error.
func (p *poll) await(ctx context.Context, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	deadline, begun := time.Now().Add(patience), p.begun
	for {
		select {
		case <-p.over:
			return nil
		case <-late.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-begun:
			begun = nil
			late.Reset(min(gatherFor, time.Until(deadline)))
		}
	}
}

// pollEnd is what the answer to a poll says besides its notifications.
type pollEnd struct {
	More      bool   `json:"more"`
	Gap       bool   `json:"gap"`
	Cursor    string `json:"cursor"`
	ReadState string `json:"readState"`
}

// answer ends the poll and returns what it is answered. Nobody whose token is not
// good any more is answered with notifications.
func (p *poll) answer() ([]listed, pollEnd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
	switch {
	case p.why == tokenExpired:
		return nil, pollEnd{}, fmt.Errorf("poll: %w", peal.ErrTokenExpired)
	case p.why == revoked:
		return nil, pollEnd{}, fmt.Errorf("poll: the token is not good any more: %w", peal.ErrUnauthenticated)
	case p.why == overLimit:
		return nil, pollEnd{}, fmt.Errorf("poll: %w", peal.ErrTooManyConnections)
	case p.why == natsAway && !p.gap && len(p.found) == 0:
		return nil, pollEnd{}, fmt.Errorf("poll: NATS is away: %w", peal.ErrUnavailable)
	case p.why == "" && !p.settled && !p.gap && len(p.found) == 0:
		return nil, pollEnd{}, fmt.Errorf("poll: what is stored can't be read: %w", peal.ErrUnavailable)
	}
	more := len(p.found) == p.limit || !p.settled && len(p.found) > 0
	return p.found, pollEnd{more, p.gap, p.at.String(), p.readState.String()}, nil
}
