package bus

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// census is what a feed needs to know of its inbox beside what it delivers.
type census struct {
	unread uint64 // up to the place that was asked for, of those that are shown
	total  uint64 // stored, with the witness
	first  uint64 // sequence of the oldest that is stored; 0: none is
}

// census counts an inbox up to a sequence. The server only counts to the end, so
// what lies between two places is a difference, and good if what follows the
// second was the same before and after. That takes an inbox to hold still for a
// fraction of a millisecond; one that never does, at thousands of notifications
// a second, gets a number that is a few too low. Any replica answers; one that
// lacks the place is asked again for a while. But each probe may be answered by
// another, of which one that lags knows of fewer: so it is quick, and no proof. See
// certain.
func (p *partition) census(ctx context.Context, subject string, upTo Cursor, s readState) (c census, err error) {
	const patience = 10
	s = p.in(s, upTo.Epoch)
	for round := range patience {
		var still, lags bool
		if c, still, lags, err = p.censusOnce(ctx, subject, upTo, s.floor); err != nil {
			return census{}, err
		}
		if still && !lags {
			break
		}
		if lags {
			select {
			case <-time.After(firstPause << min(round, 3) / 4):
			case <-ctx.Done():
				return census{}, ctx.Err()
			}
		}
	}
	if c.total == 0 {
		return census{}, nil
	}
	c.unread = s.except(c.unread, c.first, upTo.Seq)
	shown := visible(p.known().perSubject)
	if shown > 0 && c.total > uint64(shown) && c.first <= upTo.Seq && !s.has(c.first) {
		c.unread -= min(1, c.unread) // the witness
	}
	return c, nil
}

// certain is a census by what the leader has: slower, and true.
func (p *partition) certain(ctx context.Context, key, subject string, upTo Cursor, s readState) (census, error) {
	s = p.in(s, upTo.Epoch)
	in, err := p.contentsOf(ctx, key, subject, unreadOnes(s))
	if err == nil && in.epoch != upTo.Epoch {
		err = errRenewed
	}
	if err != nil {
		return census{}, err
	}
	c := census{total: uint64(in.total), first: in.witness}
	for _, k := range in.kept {
		if k.seq <= upTo.Seq && !s.has(k.seq) {
			c.unread++
		}
	}
	switch {
	case in.witness > 0:
		c.total++
	case in.whole():
		c.first = in.first()
	default:
		c.first, _, err = p.probe(ctx, subject, 1)
	}
	return c, err
}

// censusOnce counts as unread what lies above the floor, up to a place. still is
// false if the inbox did not hold still, and lags true if the replica may not have
// come as far as the place: it lacks its message, and has older ones.
func (p *partition) censusOnce(ctx context.Context, subject string, upTo Cursor, floor uint64) (c census, still, lags bool, err error) {
	if floor >= upTo.Seq {
		c.first, c.total, err = p.probe(ctx, subject, 1)
		return c, true, false, err
	}
	at, after, err := p.probe(ctx, subject, upTo.Seq)
	if err != nil {
		return c, false, false, err
	}
	found := at == upTo.Seq
	if found {
		after--
	}
	if c.first, c.total, err = p.probe(ctx, subject, 1); err != nil {
		return c, false, false, err
	}
	above := c.total
	if floor >= c.first {
		if _, above, err = p.probe(ctx, subject, floor+1); err != nil {
			return c, false, false, err
		}
	}
	_, again, err := p.probe(ctx, subject, upTo.Seq+1)
	c.unread = above - min(after, above)
	return c, again == after, !upTo.Elsewhere && !found && c.first <= upTo.Seq, err
}

// except corrects a number of notifications above the floor for the exceptions
// from a sequence to another.
func (s readState) except(above, from, to uint64) uint64 {
	above -= min(above, uint64(between(s.read, from, to)))
	return above + uint64(between(s.unread, from, to))
}

// between is how many of some ascending sequences are from one to another.
func between(seqs []uint64, from, to uint64) int {
	i, _ := slices.BinarySearch(seqs, from)
	j, found := slices.BinarySearch(seqs, to)
	if found {
		j++
	}
	return max(j-i, 0)
}

// probe returns the sequence of the first notification of an inbox from a place
// on, and how many there are from there; zeros if there is none.
func (p *partition) probe(ctx context.Context, subject string, from uint64) (first, n uint64, err error) {
	a, err := p.direct(ctx, directGet{Seq: max(from, 1), NextFor: subject, Batch: 1})
	if err != nil {
		return 0, 0, unavailable("count in stream "+p.stream, err)
	}
	if len(a.messages) == 0 {
		return 0, 0, nil
	}
	return a.messages[0].seq, 1 + a.pending, nil
}

// statesOf reads the read states of some inboxes, by their subjects, from any
// replica. At most maxTails subjects.
func (p *partition) statesOf(ctx context.Context, subjects []string) (found map[string]stored, err error) {
	doing := "read stream " + p.stateStream
	a, err := p.bus.direct(ctx, p.stateStream, directGet{LastFor: subjects})
	if err != nil {
		return nil, unavailable(doing, err)
	}
	if a.pending > 0 {
		return nil, unavailable(doing, fmt.Errorf("cut short after %d", len(a.messages)))
	}
	found = make(map[string]stored, len(a.messages))
	for _, m := range a.messages {
		found[m.subject] = m
	}
	return found, nil
}

// stateOf reads the read state of one inbox from any replica.
func (p *partition) stateOf(ctx context.Context, subject string) (storedState, error) {
	found, err := p.statesOf(ctx, []string{subject})
	if err != nil {
		return storedState{}, err
	}
	m, ok := found[subject]
	if !ok {
		return storedState{version: Cursor{Epoch: p.stateEpoch()}}, nil
	}
	s, _ := p.readStored(m)
	return s, nil
}
