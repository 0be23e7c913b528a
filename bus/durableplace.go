package bus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// This file is how the place of a durable is moved, and the durable kept from being
// forgotten: by jobs that nothing waits for, at most one of each durable.

// queue has the work on a durable done, soon.
func (d *Durable) queue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.working {
		d.working = true
		d.bus.keeper.ask(d.work)
	}
}

// work does what there is to do on a durable.
func (d *Durable) work() {
	ctx, cancel := context.WithTimeout(d.bus.life, d.bus.cfg.Timeout)
	defer cancel()
	for {
		d.mu.Lock()
		to, closed := d.received, d.closed
		d.received = Cursor{}
		d.mu.Unlock()
		if !to.IsZero() && d.claim.Held() {
			d.moveOn(ctx, to)
		}
		if d.claim.Held() {
			d.beUsed(ctx, closed)
		}
		d.mu.Lock()
		if d.received.IsZero() && d.closed == closed {
			d.working = false
			d.mu.Unlock()
			if closed {
				d.released.Do(d.claim.Release)
			}
			return
		}
		d.mu.Unlock()
	}
}

// moveOn moves the place, if it is another.
func (d *Durable) moveOn(ctx context.Context, to Cursor) {
	d.mu.Lock()
	same := to == d.place
	d.mu.Unlock()
	if same {
		return
	}
	err := d.move(ctx, to)
	switch {
	case err == nil:
		d.bus.stats.Moved.Add(1)
		d.bus.health.find(whatDurables)
	case isGone(err):
		if d.claim.Held() {
			d.tell(Removed)
		}
	case errors.Is(err, ErrTakenOver), d.bus.isClosing():
	default:
		d.bus.stats.Unmoved.Add(1)
		d.bus.unmoved(d, err)
	}
}

// whatDurables is what the health knows of them.
const whatDurables = "places of durables"

// move stores a place. Only who holds the claim may: the error is an ErrTakenOver for
// who has lost it meanwhile.
//
// The consumer is reset to it. That alone says where the durable is if the place is a
// message, of the incarnation in which the durable has begun, and further on than it
// has begun; otherwise it begins anew there. In this order, so that a break between
// the two leaves a place that is behind, or one that means nothing and is declared by
// a gap.
func (d *Durable) move(ctx context.Context, to Cursor) error {
	k, begin := d.bookmark, d.bookmark.begin()
	err := d.bus.reset(ctx, k, to.Seq)
	anew := to.Elsewhere || to.Epoch != begin.Epoch || to.Seq <= begin.Seq
	switch {
	case isGone(err) && to.Epoch != begin.Epoch:
		// It was gone with the stream that it was of.
		return d.again(ctx, to)
	case err == nil && anew && !d.claim.Held():
		return ErrTakenOver // where it begins is what its holder says
	case err == nil && anew:
		err = d.bus.annotate(ctx, k, map[string]string{metaBegin: to.String(), metaGap: ""})
	}
	if err == nil {
		d.moved(k, to)
	}
	return err
}

// again makes the durable once more, in a stream that was made again.
func (d *Durable) again(ctx context.Context, at Cursor) error {
	r, err := d.bus.rack(ctx, d.inbox)
	if err != nil {
		return err
	}
	slot := r.free()
	if slot < 0 || r.find(d.of, d.name) != nil {
		return jetstream.ErrConsumerNotFound // others have made theirs meanwhile
	}
	k, err := d.make(ctx, slot, at)
	if err == nil && k == nil {
		err = errors.New("others make theirs at the same moment")
	}
	if err == nil {
		d.moved(k, at)
	}
	return err
}

func (d *Durable) moved(k *bookmark, to Cursor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bookmark, d.place = k, to
}

// usedEvery is how often it is written down that a durable is in use, at most.
const usedEvery = time.Hour

// beUsed has it counted anew for how long the durable is unused, now and then, and
// when it is left.
func (d *Durable) beUsed(ctx context.Context, last bool) {
	now := time.Now()
	d.mu.Lock()
	due := last || now.Sub(d.used) >= d.bus.useEvery()
	k := d.bookmark
	if due {
		d.used = now
	}
	d.mu.Unlock()
	if !due {
		return
	}
	_ = d.bus.use(k) // fails where NATS is away: it is said again
	// Who leaves writes nothing: another may hold it any moment.
	if last || now.Sub(k.moment(metaUsed)) < usedEvery {
		return
	}
	if err := d.bus.annotate(ctx, k, map[string]string{metaUsed: stampMoment(now)}); isGone(err) && d.claim.Held() {
		d.tell(Removed)
	}
}

// useEvery is how often the server is told that a durable is in use.
func (b *Bus) useEvery() time.Duration { return min(usedEvery, b.cfg.DurableUnused/4) }

// holding notes that this process holds a durable, letGo that it does not any more.
func (b *Bus) holding(d *Durable) {
	b.heldMu.Lock()
	defer b.heldMu.Unlock()
	b.held[d] = struct{}{}
}

// Once none is held there is none whose place could be moved again: that it could not
// is over then.
func (b *Bus) letGo(d *Durable) {
	b.heldMu.Lock()
	defer b.heldMu.Unlock()
	if delete(b.held, d); len(b.held) == 0 {
		b.health.find(whatDurables)
	}
}

// unmoved notes that the place of a durable could not be moved, which matters for as
// long as it is held.
func (b *Bus) unmoved(d *Durable, err error) {
	b.heldMu.Lock()
	defer b.heldMu.Unlock()
	if _, held := b.held[d]; held {
		b.health.lose(whatDurables, err)
	}
}

// keepHeld keeps the durables that this process holds from being forgotten, until the
// bus closes.
func (b *Bus) keepHeld() {
	tick := time.NewTicker(b.useEvery())
	defer tick.Stop()
	for {
		select {
		case <-b.closing:
			return
		case <-tick.C:
		}
		b.heldMu.Lock()
		held := slices.Collect(maps.Keys(b.held))
		b.heldMu.Unlock()
		for _, d := range held {
			d.queue()
		}
	}
}
