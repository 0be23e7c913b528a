package bus

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A stream finds the next notification of an inbox by walking: 0.13 µs for each
// message of others between, so in a stream of a million an inbox of 500 takes
// 80 ms to read whole. But a notification never changes, an inbox loses its
// oldest first, and how many it holds from a place on is known without a walk. So
// an inbox is read from its end back, as far as is needed, and what was read is
// kept in memory. What is kept is never believed: each call asks the leader for
// the inbox's last and how many there are, and any replica whether it has them.

// recent is the newest notifications of an inbox, without a hole between them. It
// is not changed once it is made.
type recent struct {
	epoch Epoch
	kept  []kept // ascending
}

// kept is a stored notification, as far as it is needed.
type kept struct {
	seq   uint64
	msgID string // its Nats-Msg-Id
	data  []byte
	brief brief // of data
}

// first and last are the sequences of the oldest and the newest; 0 if there is
// none.
func (r recent) first() uint64 {
	if len(r.kept) == 0 {
		return 0
	}
	return r.kept[0].seq
}

func (r recent) last() uint64 {
	if len(r.kept) == 0 {
		return 0
	}
	return r.kept[len(r.kept)-1].seq
}

// from returns those from a sequence on.
func (r recent) from(seq uint64) recent {
	i := 0
	for i < len(r.kept) && r.kept[i].seq < seq {
		i++
	}
	return recent{r.epoch, r.kept[i:]}
}

// with returns older, r and newer as one. What is not on the right side of r is
// left out.
func (r recent) with(older, newer []kept) recent {
	all := make([]kept, 0, len(older)+len(r.kept)+len(newer))
	for _, k := range older {
		if len(r.kept) == 0 || k.seq < r.first() {
			all = append(all, k)
		}
	}
	all = append(all, r.kept...)
	for _, k := range newer {
		if k.seq > r.last() {
			all = append(all, k)
		}
	}
	return recent{r.epoch, all}
}

// reach says how far back an inbox is to be read: to the newest so many, and to a
// sequence if that is further.
type reach struct {
	newest int
	from   uint64 // 0: no matter
}

var everything = reach{newest: math.MaxInt}

// contents is what an inbox holds, as far back as it was read.
type contents struct {
	recent         // only those that are shown
	total   int    // so many are shown; recent may be the newest of them only
	witness uint64 // sequence of the last that dropped out of the bound; 0: none has
	end     Cursor // what is stored later comes after it
}

// whole reports whether nothing is older than what was read.
func (c contents) whole() bool { return len(c.kept) == c.total }

// below is a sequence under all that was read, and not under what is older.
func (c contents) below() uint64 {
	if c.whole() {
		return c.witness
	}
	return c.first() - 1
}

// contents reads an inbox, with everything that was stored before.
//
// It goes round until a round has nothing to read: then what is kept is as much
// as is stored at that moment. Any replica answers, and may lag, until it has
// what the leader says is the last.
func (p *partition) contents(ctx context.Context, pl place, far reach) (contents, error) {
	for round := 0; ; round++ {
		c, done, err := p.contentsRound(ctx, pl, far, round >= patientRounds)
		if err != nil || done {
			return c, err
		}
		if round < 2 { // to read, and to look whether it was all
			continue
		}
		select {
		case <-time.After(min(firstPause<<min(round, 5)/20, 100*time.Millisecond)):
		case <-ctx.Done():
			return contents{}, unavailable("read stream "+p.stream, fmt.Errorf("a replica lags, or the inbox never holds still: %w", ctx.Err()))
		}
	}
}

// patientRounds is for how many rounds an inbox has to hold still. One that never
// does, at hundreds of notifications a second, may have some more than were read,
// all of which were stored since.
const patientRounds = 8

func (p *partition) contentsRound(ctx context.Context, pl place, far reach, lenient bool) (c contents, done bool, err error) {
	subject := pl.subject("inbox", p.bus.cfg.Region)
	before := p.known() // what is stored by then is read
	r := p.bus.recents.get(pl.key(), before.epoch)
	i, err := p.takeInventory(ctx, subject, r, far)
	if err != nil || i.moving {
		return c, false, err
	}
	r = r.from(i.first)
	if i.total == 0 {
		r.kept = nil
	}
	if i.held < len(r.kept) { // one was removed from between the others, or a replica lags
		p.bus.recents.drop(pl.key())
		return c, false, nil
	}
	if len(r.kept) < min(i.wanted, i.total) || r.last() < i.last || i.held > len(r.kept) && !lenient {
		return c, false, p.readOn(ctx, pl, subject, r, i)
	}
	r.kept = r.kept[max(0, len(r.kept)-i.total):] // what has expired a replica may still have
	if len(r.kept) == i.total {
		i.first = r.first() // and say that it is the first
	}
	after, err := p.ask(ctx) // after the reads, which do not say of which incarnation they are
	if err != nil || after.epoch != before.epoch {
		return c, false, err
	}
	c = contents{recent: r, total: i.total, end: before.end()}
	if r.last() > 0 {
		c.end = Cursor{Epoch: r.epoch, Seq: r.last()}
	}
	if shown := int(visible(after.perInbox)); shown > 0 && c.total > shown {
		c.witness, c.total = i.first, shown
		c.kept = c.kept[max(0, len(c.kept)-shown):]
	}
	return c, true, nil
}

// inventory is how many notifications an inbox holds, and how many are wanted.
type inventory struct {
	last   uint64 // of the newest, in the leader; 0: none
	first  uint64 // of the oldest, in a replica; 0: none
	total  int    // in the leader, up to the last
	held   int    // from the first that is kept on
	wanted int    // at least, of the newest
	moving bool   // something was stored meanwhile: the rest means nothing
}

// takeInventory counts an inbox. The leader says how many there are and which is the
// last, for a replica that lags has others: fewer new ones, and more old ones where
// the inbox is at its bound. The two are of one moment if the stream was as far as
// the last when it was counted.
func (p *partition) takeInventory(ctx context.Context, subject string, r recent, far reach) (i inventory, err error) {
	f, total, err := p.info(ctx, p.stream, subject)
	if err != nil {
		return i, err
	}
	tail, err := p.getFromLeader(ctx, leaderGet{LastFor: subject})
	if err != nil {
		return i, err
	}
	if tail == nil || total == 0 {
		i.moving = tail != nil || total != 0 && f.epoch == p.known().epoch
		return i, nil
	}
	i.last, i.total = tail.seq, int(total)
	if i.moving = i.last > f.last; i.moving {
		return i, nil
	}
	if i.held, err = p.heldFrom(ctx, subject, r); err != nil {
		return i, err
	}
	if i.held == i.total && len(r.kept) == i.total && r.last() == i.last { // all of it is kept
		i.first, i.wanted = r.first(), i.total
		return i, nil
	}
	if i.first, _, err = p.probe(ctx, subject, 1); err != nil {
		return i, err
	}
	if left := r.from(i.first); len(left.kept) < len(r.kept) {
		r = left
		if i.held, err = p.heldFrom(ctx, subject, r); err != nil {
			return i, err
		}
	}
	i.wanted = max(1, min(far.newest, i.total))
	if far.from > 0 && i.wanted < i.total && (len(r.kept) == 0 || far.from < r.first()) {
		_, n, err := p.probe(ctx, subject, far.from)
		if err != nil {
			return i, err
		}
		i.wanted = max(i.wanted, int(n))
	}
	return i, nil
}

// heldFrom is how many notifications a replica has of an inbox from the first that is
// kept on.
func (p *partition) heldFrom(ctx context.Context, subject string, r recent) (int, error) {
	if len(r.kept) == 0 {
		return 0, nil
	}
	_, n, err := p.probe(ctx, subject, r.first())
	return int(n), err
}

// readOn reads what is missing of an inbox at either end, and keeps it.
func (p *partition) readOn(ctx context.Context, pl place, subject string, r recent, i inventory) error {
	var older, newer []kept
	var err error
	if len(r.kept) > 0 {
		if newer, err = p.readFrom(ctx, subject, r.last()+1, math.MaxInt); err != nil {
			return err
		}
	}
	if short := min(i.wanted, i.total) - len(r.kept); short > 0 {
		from, n, err := p.placeOf(ctx, subject, i, min(i.wanted, i.total))
		if err != nil {
			return err
		}
		// Beside what is kept already, or to the end.
		upTo := math.MaxInt
		if len(r.kept) > 0 {
			upTo = n - i.held
		}
		if older, err = p.readFrom(ctx, subject, from, upTo); err != nil {
			return err
		}
	}
	p.bus.recents.put(pl.key(), r.with(older, newer))
	return nil
}

// placeOf finds a sequence from which on an inbox holds at least so many, and not
// many more, and how many. It guesses by how evenly they are spread.
func (p *partition) placeOf(ctx context.Context, subject string, i inventory, want int) (from uint64, n int, err error) {
	low, many := i.first, i.total // from low on there are many, which is enough
	high, few := i.last+1, 0      // from high on there are too few
	for range 8 {
		if many <= 2*want+16 || high-low < 2 {
			break
		}
		share := (1.25*float64(want) - float64(few)) / float64(many-few)
		guess := high - uint64(float64(high-low)*min(max(share, 0.02), 0.98))
		guess = min(max(guess, low+1), high-1)
		first, count, err := p.probe(ctx, subject, guess)
		if err != nil {
			return 0, 0, err
		}
		if int(count) >= want {
			low, many = first, int(count)
		} else {
			high, few = guess, int(count)
		}
	}
	return low, many, nil
}

// A batch of an inbox that is read.
const (
	wholeBatch = 1000
	wholeBytes = 1 << 20
)

// readFrom reads what a replica has of an inbox from a sequence on, at most so
// many.
func (p *partition) readFrom(ctx context.Context, subject string, from uint64, most int) (all []kept, err error) {
	for most > len(all) {
		p.bus.stats.Reads.Add(1)
		a, err := p.direct(ctx, directGet{Seq: max(from, 1), NextFor: subject, Batch: min(wholeBatch, most-len(all)), MaxBytes: wholeBytes})
		if err != nil {
			return nil, unavailable("read stream "+p.stream, err)
		}
		for _, m := range a.messages {
			data := bytes.Clone(m.data) // lets go of the headers before it
			all = append(all, kept{m.seq, m.header.Get(jetstream.MsgIDHeader), data, glance(data)})
			from = m.seq + 1
		}
		if a.pending == 0 || len(a.messages) == 0 {
			break
		}
	}
	return all, nil
}
