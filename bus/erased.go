package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that is killed reads its streams anew. What a bound has dropped by then is
// dropped again if there is something newer to push it out, but of a subject that was
// purged there is nothing: older values of a key, and notifications that had dropped
// out of a full inbox, are back (seen with nats-server 2.15). So each purge is noted
// before it begins, and what was purged is purged again wherever servers may have
// been started anew. A note is kept for as long as something could come back that
// does not expire by itself.

// erased is a note of a purge.
type erased struct {
	Version int           `json:"v"`
	Of      []erasedUntil `json:"of"`
}

// erasedUntil says that of one incarnation of a stream what fits a filter was erased,
// up to a sequence.
type erasedUntil struct {
	Stream  string    `json:"stream"`
	Created time.Time `json:"created"`
	Epoch   Epoch     `json:"epoch,omitempty"` // of a stream that has one
	Filter  string    `json:"filter"`
	UpTo    uint64    `json:"upTo"`
}

const erasedVersion = 1

func erasedSubject(r Region) string { return subject("erased", string(r)) }

// note stores what is about to be erased, in each region what is erased there. A stream
// that can't be asked is left out: nothing is erased of it then.
func (b *Bus) note(ctx context.Context, groups [][]erasure) error {
	const doing = "note a purge"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	streams := make(map[string]*jetstream.StreamInfo)
	notes := make(map[Region][]erasedUntil)
	for _, e := range slices.Concat(groups...) {
		for _, at := range b.placesOf(e) {
			info, asked := streams[at.stream]
			if !asked {
				if s, err := b.reads.Stream(ctx, at.stream); err == nil {
					info = s.CachedInfo()
				}
				streams[at.stream] = info
			}
			if info != nil && info.State.LastSeq > 0 {
				notes[at.region] = append(notes[at.region], erasedUntil{at.stream, info.Created, Epoch(info.Config.Metadata[metaEpoch]), e.filter, info.State.LastSeq})
			}
		}
	}
	if len(notes) == 0 {
		notes[b.cfg.Region] = nil // that there was one, also of nothing
	}
	var left []error
	for r, of := range notes {
		body, err := json.Marshal(erased{Version: erasedVersion, Of: of})
		if err != nil {
			return err
		}
		if _, err := b.writes.Publish(ctx, erasedSubject(r), body); err != nil {
			left = append(left, unavailable(doing, full(erasedStream(r), err)))
		}
	}
	return errors.Join(left...)
}

// erasePatience bounds one look at all that was purged.
const erasePatience = 30 * time.Second

// eraseAgain erases what was erased before, if it has come back.
func (b *Bus) eraseAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, erasePatience)
	defer cancel()
	notes, err := b.erasedNotes(ctx)
	if err != nil {
		return fmt.Errorf("read what was purged: %w", err)
	}
	streams := make(map[string]*jetstream.StreamInfo)
	for place, last := range notes {
		info, asked := streams[place.stream]
		if !asked {
			s, err := b.reads.Stream(ctx, place.stream)
			if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("look up stream %s: %w", place.stream, err)
			}
			if err == nil {
				info = s.CachedInfo()
			}
			streams[place.stream] = info
		}
		upTo := last.in(info)
		if upTo == 0 {
			continue
		}
		n, err := b.eraseReturned(ctx, place, upTo)
		if errors.Is(err, ErrNotPermitted) {
			return nil // it is left to those who may: who purges can
		}
		if err != nil {
			return err
		}
		if n > 0 {
			b.log.Warn("what was purged had come back and is purged again", "stream", place.stream, "messages", n)
		}
	}
	return nil
}

// eraseReturned erases what there is again up to a sequence, and returns how many
// messages that were. It looks before: a purge that finds nothing still moves the
// consumers of the subject to the end of the stream, and so the places of durables past
// what nobody has received.
func (b *Bus) eraseReturned(ctx context.Context, place erasedPlace, upTo uint64) (n uint64, err error) {
	var first *stored
	err = b.rights.ask(ctx, apiSubject("STREAM.MSG.GET", place.stream), func(ctx context.Context) (err error) {
		first, err = b.getFromLeader(ctx, place.stream, leaderGet{Seq: 1, NextFor: place.filter})
		return err
	})
	if err != nil || first == nil || first.seq > upTo {
		return 0, err
	}
	return b.erase(ctx, erasure{stream: place.stream, filter: place.filter}, upTo)
}

// in returns up to which sequence of a stream what was erased is to stay away; 0 if
// the stream was made anew since, and so its sequences are others. One that was
// restored has another time, and a lineage.
func (e erasedUntil) in(info *jetstream.StreamInfo) uint64 {
	if info == nil {
		return 0
	}
	if last, ok := parseLineage(info.Config.Metadata[metaLineage]).common(e.Epoch); ok {
		return min(e.UpTo, last)
	}
	if !info.Created.Equal(e.Created) {
		return 0
	}
	return e.UpTo
}

// erasedPlace is what a note is about.
type erasedPlace struct{ stream, filter string }

// erasedNotes reads the notes, of each place the last.
func (b *Bus) erasedNotes(ctx context.Context) (map[erasedPlace]erasedUntil, error) {
	notes := make(map[erasedPlace]erasedUntil)
	for next := uint64(1); ; {
		a, err := b.direct(ctx, erasedStream(b.cfg.Region), directGet{Seq: next, NextFor: erasedSubject(b.cfg.Region), Batch: wholeBatch, MaxBytes: wholeBytes})
		if err != nil {
			return nil, err
		}
		for _, m := range a.messages {
			next = m.seq + 1
			if !takeNote(notes, m) {
				b.log.Warn("a note of a purge can't be read", "stream", erasedStream(b.cfg.Region), "sequence", m.seq)
			}
		}
		if a.pending == 0 || len(a.messages) == 0 {
			return notes, nil
		}
	}
}

// takeNote takes a note in the place of older ones. It reports whether it can be read.
func takeNote(notes map[erasedPlace]erasedUntil, m stored) bool {
	var n erased
	if json.Unmarshal(m.data, &n) != nil || n.Version != erasedVersion {
		return false
	}
	for _, e := range n.Of {
		notes[erasedPlace{e.Stream, e.Filter}] = e
	}
	return true
}

// keepErased does so whenever a connection has come back, until the bus closes.
func (b *Bus) keepErased() {
	for {
		select {
		case <-b.closing:
			return
		case <-b.cameBack:
		}
		for err := b.eraseAgain(b.life); err != nil && !b.isClosing(); err = b.eraseAgain(b.life) {
			b.log.Warn("what was purged can't be looked for", "err", err)
			select {
			case <-b.closing:
			case <-time.After(time.Second):
			}
		}
	}
}
