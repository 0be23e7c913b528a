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
	return p.contentsOf(ctx, pl.key(), pl.subject("inbox", p.home.region), far)
}

func (p *partition) contentsOf(ctx context.Context, key, subject string, far reach) (contents, error) {
	r := survey{part: p, key: key, subject: subject, far: far}
	for round := 0; ; round++ {
		c, done, err := r.round(ctx, round >= patientRounds)
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

// survey is the reading of one inbox, over all its rounds.
type survey struct {
	part    *partition
	key     string // of the inbox among those that are kept
	subject string
	far     reach
	got     recent // what was kept, or read in the rounds before
}

func (r *survey) round(ctx context.Context, lenient bool) (c contents, done bool, err error) {
	p := r.part
	before := p.known() // what is stored by then is read
	if r.got.epoch != before.epoch {
		r.got = p.bus.recents.get(r.key, before.epoch)
	}
	i, err := r.takeInventory(ctx)
	if err != nil || i.moving {
		return c, false, err
	}
	r.got = r.got.from(i.first)
	if i.total == 0 {
		r.got.kept = nil
	}
	if i.held < len(r.got.kept) { // one was removed from between the others, or a replica lags
		p.bus.recents.drop(r.key)
		r.got.kept = nil
		return c, false, nil
	}
	if len(r.got.kept) < i.wanted || r.got.last() < i.last || i.held > len(r.got.kept) && !lenient {
		return c, false, r.readOn(ctx, i)
	}
	got := r.got
	got.kept = got.kept[max(0, len(got.kept)-i.total):] // what has expired a replica may still have
	if len(got.kept) == i.total {
		i.first = got.first() // and say that it is the first
	}
	after, err := p.ask(ctx) // after the reads, which do not say of which incarnation they are
	if err != nil || after.epoch != before.epoch {
		return c, false, err
	}
	c = contents{recent: got, total: i.total, end: before.end()}
	if got.last() > 0 {
		c.end = Cursor{Epoch: got.epoch, Seq: got.last()}
	}
	if shown := int(visible(after.perSubject)); shown > 0 && c.total > shown {
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
	held   int    // in a replica, from the first that was got on
	wanted int    // at least, of the newest; at most total
	moving bool   // something was stored meanwhile: the rest means nothing
}

// takeInventory counts an inbox. The leader says how many there are and which is the
// last, for a replica that lags has others: fewer new ones, and more old ones where
// the inbox is at its bound. The two are of one moment if the stream was as far as
// the last when it was counted.
func (r *survey) takeInventory(ctx context.Context) (i inventory, err error) {
	p, got := r.part, r.got
	f, total, err := p.info(ctx, p.stream, r.subject)
	if err != nil {
		return i, err
	}
	tail, err := p.getFromLeader(ctx, leaderGet{LastFor: r.subject})
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
	if i.held, err = r.heldFrom(ctx, got); err != nil {
		return i, err
	}
	if i.held == i.total && len(got.kept) == i.total && got.last() == i.last { // all of it is kept
		i.first, i.wanted = got.first(), i.total
		return i, nil
	}
	if i.first, _, err = p.probe(ctx, r.subject, 1); err != nil {
		return i, err
	}
	if left := got.from(i.first); len(left.kept) < len(got.kept) {
		got = left
		if i.held, err = r.heldFrom(ctx, got); err != nil {
			return i, err
		}
	}
	i.wanted, err = r.want(ctx, got, i.total)
	return i, err
}

// want is how many of the newest have to be got. To reach back to a sequence is to
// have what is there or before it: how many there are from there on a replica that
// lags does not know, so its answer is where to begin.
func (r *survey) want(ctx context.Context, got recent, total int) (int, error) {
	wanted := max(1, min(r.far.newest, total))
	if r.far.from > 0 && wanted < total && (len(got.kept) == 0 || r.far.from < got.first()) {
		_, n, err := r.part.probe(ctx, r.subject, r.far.from)
		if err != nil {
			return 0, err
		}
		wanted = max(wanted, int(n)+1, len(got.kept)+1)
	}
	return min(wanted, total), nil
}

// heldFrom is how many notifications a replica has of an inbox from the first that was
// got on.
func (r *survey) heldFrom(ctx context.Context, got recent) (int, error) {
	if len(got.kept) == 0 {
		return 0, nil
	}
	_, n, err := r.part.probe(ctx, r.subject, got.first())
	return int(n), err
}

// readOn reads what is missing of an inbox at either end, and keeps it.
func (r *survey) readOn(ctx context.Context, i inventory) error {
	leave, err := r.part.bus.enterRead(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var older, newer []kept
	if len(r.got.kept) > 0 {
		if newer, err = r.readFrom(ctx, r.got.last()+1, math.MaxUint64, wholeBatch); err != nil {
			return err
		}
	}
	if len(r.got.kept) < i.wanted {
		if older, err = r.readOlder(ctx, i); err != nil {
			return err
		}
	}
	r.got = r.got.with(older, newer)
	r.part.bus.recents.put(r.key, r.got)
	return nil
}

// readOlder reads what is wanted and older than what was got, up to that: a replica
// that lags may end before it, and what it has does not join then.
func (r *survey) readOlder(ctx context.Context, i inventory) ([]kept, error) {
	from, n, err := r.placeOf(ctx, i)
	if err != nil {
		return nil, err
	}
	if len(r.got.kept) == 0 {
		return r.readFrom(ctx, from, math.MaxUint64, wholeBatch)
	}
	first := r.got.first()
	older, err := r.readFrom(ctx, from, first, n-i.held+1)
	if err != nil || len(older) == 0 || older[len(older)-1].seq < first {
		return nil, err
	}
	return older, nil
}

// placeOf finds a sequence from which on an inbox holds as many as are wanted, and not
// many more, and how many. It guesses by how evenly they are spread.
func (r *survey) placeOf(ctx context.Context, i inventory) (from uint64, n int, err error) {
	want := i.wanted
	low, many := i.first, i.total // from low on there are many, which is enough
	high, few := i.last+1, 0      // from high on there are too few
	for range 8 {
		if many <= 2*want+16 || high-low < 2 {
			break
		}
		share := (1.25*float64(want) - float64(few)) / float64(many-few)
		guess := high - uint64(float64(high-low)*min(max(share, 0.02), 0.98))
		guess = min(max(guess, low+1), high-1)
		first, count, err := r.part.probe(ctx, r.subject, guess)
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

// readFrom reads what a replica has of an inbox from a sequence on, up to one that is
// at or behind another, and so many at a time.
func (r *survey) readFrom(ctx context.Context, from, upTo uint64, batch int) (all []kept, err error) {
	p := r.part
	for from <= upTo {
		p.bus.stats.Reads.Add(1)
		a, err := p.direct(ctx, directGet{Seq: max(from, 1), NextFor: r.subject, Batch: min(max(batch, 1), wholeBatch), MaxBytes: wholeBytes})
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

// maxReads is how many inboxes are read at once. One holds 8 MB at most, and 400
// kB as a rule.
const maxReads = 32

// enterRead waits for a turn to read an inbox. leave ends it. Whoever holds one waits
// for replicas only, and never for a leader, of which each partition has another.
func (b *Bus) enterRead(ctx context.Context) (leave func(), err error) {
	select {
	case b.inboxReads <- struct{}{}:
		return func() { <-b.inboxReads }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
