package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// partition is one inbox stream and what this process knows of it.
type partition struct {
	bus       *Bus
	number    int
	stream    string
	publisher *publisher

	wake chan struct{} // capacity 1: the facts are to be read
	seen atomic.Uint64 // the highest sequence that a feed of this process has met

	mu    sync.Mutex // protects the rest; never held across a call to the bus
	facts facts      // the last that were seen
	next  *inquiry   // not asked yet; nil if nobody waits
	state Epoch      // of the read-state stream beside it
}

// facts is what only the stream's leader can say.
type facts struct {
	epoch       Epoch
	first, last uint64 // sequences of the stream; of an empty one, first is last+1
	perInbox    int64  // how many messages of an inbox are kept
}

// end is the cursor after which nothing is stored yet.
func (f facts) end() Cursor { return Cursor{f.epoch, f.last} }

var errClosed = errors.New("the bus is closed")

func newPartition(b *Bus, number int) *partition {
	p := &partition{bus: b, number: number, stream: inboxStream(b.cfg.Region, number), wake: make(chan struct{}, 1)}
	p.publisher = newPublisher(b, p.stream)
	return p
}

// open reads the facts for the first time.
func (p *partition) open(ctx context.Context) (err error) {
	if p.facts, _, err = p.info(ctx, p.stream, ""); err != nil {
		return err
	}
	state, _, err := p.info(ctx, stateStream(p.bus.cfg.Region, p.number), "")
	if err != nil {
		return err
	}
	p.state = state.epoch
	return nil
}

// start keeps the facts fresh, and publishes, until the bus closes.
func (p *partition) start() {
	p.bus.done.Go(p.run)
	p.bus.done.Go(p.publisher.run)
}

// inquiry is one question to the leader, shared by all who wait for it.
type inquiry struct {
	done  chan struct{} // closed when facts and err are set
	facts facts
	err   error
}

// ask returns facts that the leader gave after ask was called. However many
// ask at once, one question is under way and at most one waits: those that
// come while a question is under way share the next.
func (p *partition) ask(ctx context.Context) (facts, error) {
	p.mu.Lock()
	if p.next == nil {
		p.next = &inquiry{done: make(chan struct{})}
	}
	q := p.next
	p.mu.Unlock()
	p.refresh()

	select {
	case <-q.done:
		return q.facts, q.err
	case <-ctx.Done():
		return facts{}, ctx.Err()
	case <-p.bus.closing:
		return facts{}, unavailable("ask for stream "+p.stream, errClosed)
	}
}

// refresh has the facts read again, in a while and by another goroutine.
func (p *partition) refresh() {
	select {
	case p.wake <- struct{}{}:
	default: // somebody has woken it already
	}
}

// refreshInterval is how often the epoch of a stream is read again, beside
// when a connection came back or a sequence went back; retryInterval, when it
// could not be read.
const (
	refreshInterval = 30 * time.Second
	retryInterval   = time.Second
)

// run answers inquiries until the bus closes.
func (p *partition) run() {
	t := time.NewTicker(refreshInterval)
	defer t.Stop()
	for {
		select {
		case <-p.bus.closing:
			return
		case <-t.C:
		case <-p.wake:
		}
		if err := p.inquire(); err != nil {
			t.Reset(retryInterval)
		} else {
			t.Reset(refreshInterval)
		}
	}
}

// inquire asks the leader once, for all who wait by now.
func (p *partition) inquire() error {
	p.mu.Lock()
	q := p.next
	p.next = nil
	p.mu.Unlock()

	// Before the question: what is stored meanwhile may be newer than the answer.
	seen := p.seen.Load()
	f, _, err := p.info(context.Background(), p.stream, "")
	if err == nil {
		p.mu.Lock()
		before := p.facts
		p.facts = f
		p.mu.Unlock()
		// A stream that ends before what was in it has lost its tail, or was
		// restored: its next messages have sequences that others had.
		if f.epoch != before.epoch || f.last < max(seen, before.last) {
			p.seen.Store(f.last)
			p.bus.renewed(p, f)
		}
	}
	if q != nil {
		q.facts, q.err = f, err
		close(q.done)
	}
	return err
}

// saw notes a sequence that the stream has had.
func (p *partition) saw(seq uint64) {
	for {
		seen := p.seen.Load()
		if seq <= seen || p.seen.CompareAndSwap(seen, seq) {
			return
		}
	}
}

// known returns the facts that were last seen.
func (p *partition) known() facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts
}

// info asks the leader of a stream, and nobody else: an info request is never
// answered by a replica. It also says how many messages there are of a
// subject, if one is named.
func (p *partition) info(ctx context.Context, stream, subject string) (f facts, count uint64, err error) {
	doing := "ask for stream " + stream
	ctx, cancel := context.WithTimeout(ctx, p.bus.cfg.Timeout)
	defer cancel()
	request, err := json.Marshal(map[string]string{"subjects_filter": subject})
	if err != nil {
		return facts{}, 0, err
	}
	msg, err := p.bus.read.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, request)
	if err != nil {
		return facts{}, 0, unavailable(doing, err)
	}
	var answer struct {
		Error  *jetstream.APIError    `json:"error"`
		Config jetstream.StreamConfig `json:"config"`
		State  jetstream.StreamState  `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return facts{}, 0, unavailable(doing, err)
	}
	if answer.Error != nil {
		return facts{}, 0, unavailable(doing, answer.Error)
	}
	f = facts{
		epoch:    Epoch(answer.Config.Metadata[metaEpoch]),
		first:    answer.State.FirstSeq,
		last:     answer.State.LastSeq,
		perInbox: answer.Config.MaxMsgsPerSubject,
	}
	if f.epoch == "" {
		return facts{}, 0, unavailable(doing, fmt.Errorf("no %s in its metadata", metaEpoch))
	}
	if f.first == 0 { // a stream that never held a message
		f.first = f.last + 1
	}
	return f, answer.State.Subjects[subject], nil
}
