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
	bus         *Bus
	number      int
	stream      string
	stateStream string // of the read states of its inboxes
	publisher   *publisher
	reader      *reader
	asker       *reader // of what the leader is asked for feeds: while it is away, no read waits behind that
	gate        *gate

	wake chan struct{} // capacity 1: the facts are to be read
	seen atomic.Uint64 // the highest sequence that a feed of this process has met

	look       atomic.Bool // the read-state stream is to be looked at too, with the next inquiry
	catchingUp atomic.Bool // a catch-up is under way or about to be tried again

	// Owned by run.
	gone    time.Time // since when the stream is not there; zero while it is
	crowded bool      // the stream is at its bound of bytes
	forgets bool      // read states are kept for less time than notifications

	mu     sync.Mutex // protects the rest; never held across a call to the bus
	facts  facts      // the last that were seen
	next   *inquiry   // not asked yet; nil if nobody waits
	states Epoch      // of the stream of read states beside it
}

// facts is what only the stream's leader can say.
type facts struct {
	epoch       Epoch
	partitions  string // how many streams share the inboxes
	first, last uint64 // sequences of the stream; of an empty one, first is last+1
	replicas    int
	perInbox    int64 // how many messages of an inbox are kept, with the one that is not shown

	deleted         int           // messages that were removed from between others
	bytes, maxBytes uint64        // of the stream; maxBytes 0: no bound
	maxAge          time.Duration // of a message; 0: no bound
}

// end is the cursor after which nothing is stored yet.
func (f facts) end() Cursor { return Cursor{f.epoch, f.last, true} }

var errClosed = errors.New("the bus is closed")

func newPartition(b *Bus, number int) *partition {
	p := &partition{
		bus: b, number: number, wake: make(chan struct{}, 1),
		stream: inboxStream(b.cfg.Region, number), stateStream: stateStream(b.cfg.Region, number),
	}
	groups := 1
	if b.cfg.Replicas > 1 {
		groups = 4 // a batch waits for the network then
	}
	p.publisher = newPublisher(b, p.stream, groups)
	p.reader, p.asker = newReader(b), newReader(b)
	p.gate = newGate(b.cfg.Timeout)
	return p
}

// open reads the facts for the first time.
func (p *partition) open(ctx context.Context) (err error) {
	if p.facts, _, err = p.info(ctx, p.stream, ""); err != nil {
		return err
	}
	return p.readStateEpoch(ctx)
}

// readStateEpoch reads the epoch of the read-state stream, and tells the feeds if
// it is another.
func (p *partition) readStateEpoch(ctx context.Context) error {
	f, _, err := p.info(ctx, p.stateStream, "")
	if err != nil {
		return err
	}
	p.outlives(p.known(), f)
	p.mu.Lock()
	renewed := p.states != f.epoch
	p.states = f.epoch
	p.mu.Unlock()
	if renewed {
		for _, s := range p.bus.shards { // none yet while the bus opens
			s.post(func() { s.stateRenewed(p, f.epoch) })
		}
	}
	return nil
}

// stateEpoch returns the epoch of the read-state stream that was last seen.
func (p *partition) stateEpoch() Epoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states
}

// start keeps the facts fresh, reads and publishes until the bus closes.
func (p *partition) start() {
	p.bus.done.Go(p.run)
	p.reader.start()
	p.asker.start()
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
// when a connection came back, a sequence went back, or somebody connects;
// retryInterval, when it could not be read.
const (
	refreshInterval = 10 * time.Second
	retryInterval   = time.Second
)

// run answers inquiries until the bus closes. In its turn, and after trouble,
// it also looks at the read-state stream.
func (p *partition) run() {
	t := time.NewTicker(refreshInterval)
	defer t.Stop()
	what := whatStream(p.stream)
	var looked time.Time
	for {
		select {
		case <-p.bus.closing:
			return
		case <-t.C:
		case <-p.wake:
		}
		if time.Since(looked) >= refreshInterval { // also where inquiries keep the ticker from its turn
			looked = time.Now()
			p.look.Store(true)
		}
		renewed, err := p.inquire()
		if look := p.look.Swap(false); err == nil && (look || renewed) {
			err = p.readStateEpoch(p.bus.life)
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = p.missing(err)
		} else {
			p.gone = time.Time{}
		}
		if err != nil {
			p.bus.health.lose(what, err)
			p.look.Store(true)
			t.Reset(retryInterval)
		} else {
			p.bus.health.find(what)
			t.Reset(refreshInterval)
		}
	}
}

// missing creates the streams again if one of them is still not there after a
// while: NATS came back empty, or somebody deleted it. It returns an error
// until they are there and read.
func (p *partition) missing(err error) error {
	if p.gone.IsZero() {
		p.gone = time.Now()
	}
	if time.Since(p.gone) < retryInterval {
		return err
	}
	p.bus.log.Warn("streams are gone and created again", "stream", p.stream)
	if refused := p.bus.restore(p.bus.life); refused != nil {
		return refused
	}
	p.refresh()
	return err
}

// inquire asks the leader once, for all who wait by now. It reports whether the
// stream is another one than before.
func (p *partition) inquire() (renewed bool, err error) {
	p.mu.Lock()
	q := p.next
	p.next = nil
	p.mu.Unlock()

	// Before the question: what is stored meanwhile may be newer than the answer.
	seen := p.seen.Load()
	f, _, err := p.info(p.bus.life, p.stream, "")
	if err == nil {
		p.mu.Lock()
		before := p.facts
		p.facts = f
		p.mu.Unlock()
		// A stream that ends before what was in it has lost its tail, or was
		// restored: its next messages have sequences that others had.
		renewed = f.epoch != before.epoch
		if f.partitions != before.partitions {
			p.bus.giveUp(fmt.Errorf("the inboxes of region %s are spread over %s streams now, not over %s", p.bus.cfg.Region, f.partitions, before.partitions))
		}
		if renewed || f.last < max(seen, before.last) {
			p.seen.Store(f.last)
			p.bus.recents.clear()
			p.bus.renewed(p, f)
		}
		p.crowd(before, f)
	}
	if q != nil {
		q.facts, q.err = f, err
		close(q.done)
	}
	return renewed, err
}

// crowd says so when a stream is so full that it drops the oldest
// notifications of everybody before their time, and when it is no more.
func (p *partition) crowd(before, now facts) {
	full := now.maxBytes > 0 && now.bytes > now.maxBytes-now.maxBytes/20
	switch {
	case !p.crowded && full && now.epoch == before.epoch && now.first > before.first:
		p.crowded = true
		p.bus.log.Warn("stream is full: the oldest notifications of all inboxes are dropped", "stream", p.stream, "max_bytes", now.maxBytes)
	case p.crowded && !full:
		p.crowded = false
		p.bus.log.Info("stream is not full any more", "stream", p.stream)
	}
}

// outlives says so when a read state can expire before the notifications that it
// speaks of, and when it can't any more: somebody has set how long a stream keeps
// its messages.
func (p *partition) outlives(inboxes, states facts) {
	switch forgets := states.maxAge > 0 && (inboxes.maxAge == 0 || states.maxAge <= inboxes.maxAge); {
	case forgets && !p.forgets:
		p.bus.log.Warn("read states expire before notifications: what was read will be unread", "stream", p.stateStream, "max_age", states.maxAge, "notifications", inboxes.maxAge)
	case !forgets && p.forgets:
		p.bus.log.Info("read states outlive notifications again", "stream", p.stateStream)
	default:
		return
	}
	p.forgets = !p.forgets
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
		epoch: Epoch(answer.Config.Metadata[metaEpoch]),

		partitions: answer.Config.Metadata[metaPartitions],
		first:      answer.State.FirstSeq,
		last:       answer.State.LastSeq,
		replicas:   answer.Config.Replicas,
		perInbox:   answer.Config.MaxMsgsPerSubject,
		deleted:    answer.State.NumDeleted,
		bytes:      answer.State.Bytes,
		maxBytes:   uint64(max(answer.Config.MaxBytes, 0)),
		maxAge:     answer.Config.MaxAge,
	}
	if f.epoch == "" {
		return facts{}, 0, unavailable(doing, fmt.Errorf("no %s in its metadata", metaEpoch))
	}
	if f.first == 0 { // a stream that never held a message
		f.first = f.last + 1
	}
	return f, answer.State.Subjects[subject], nil
}
