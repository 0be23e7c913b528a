package bus

import (
	"context"
	"strconv"
)

// partition is one inbox stream, with the read states of its inboxes.
type partition struct {
	*source
	home        *home
	number      int // in its home
	index       int // among those of all homes
	stateStream string
	stateLive   string  // what read states are republished to, up to the epoch
	asker       *reader // of what the leader is asked for feeds: while it is away, no read waits behind that

	forgets bool  // read states are kept for less time than notifications; owned by run
	states  Epoch // of the stream of read states; protected by mu
}

func newPartition(h *home, number, index int) *partition {
	b, groups := h.bus, 1
	if b.cfg.Replicas > 1 || !h.here() {
		groups = 4 // a batch waits for the network then
	}
	region, n := string(h.region), strconv.Itoa(number)
	p := &partition{
		source: newSource(b, inboxStream(h.region, number), groups), home: h,
		number: number, index: index, stateStream: stateStream(h.region, number),
		stateLive: subject("livestate", region, n), asker: newReader(b),
	}
	p.all = wildcards(subject("inbox", region, n), 3)
	p.live = subject("live", region, n)
	p.witness, p.here = true, h.here()
	p.beside = p.readStateEpoch
	return p
}

// open reads the facts for the first time.
func (p *partition) open(ctx context.Context) error {
	if err := p.source.open(ctx); err != nil {
		return err
	}
	return p.readStateEpoch(ctx)
}

// start keeps the facts fresh, reads and publishes until the bus closes.
func (p *partition) start() {
	p.source.start()
	p.asker.start()
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
