package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// RaisedEpoch says of a stream that it is another incarnation now.
type RaisedEpoch struct {
	Stream   string
	From, To Epoch
	Last     uint64 // sequence of its last message then
}

// RaiseEpoch makes another incarnation of every stream of the region, with the
// messages that it has. It is for streams that were restored from a backup: the
// sequences beyond their tail have named other messages already, and cursors that do
// would pass over what comes. With a new epoch no cursor of before is believed; each
// client hears of a gap, and fetches its list again.
//
// What was read stays read, up to the last message that an inbox stream has now, and so
// do purges. No node should run meanwhile: what is stored before the new epoch counts
// as if it had been restored.
//
// It may be repeated, also after an error, and raises all of them again then.
func (s *Streams) RaiseEpoch(ctx context.Context) (raised []RaisedEpoch, err error) {
	l := s.cfg.layout()
	name := inboxStream(l.region, 0)
	if _, err := s.find(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("there is no stream %s, and so no region %s: restore its streams first", name, l.region)
	}
	if l.partitions, err = s.storedPartitions(ctx, l); err != nil {
		return nil, err
	}
	// Before anything else: a node that comes now would purge by them what has the
	// sequences of what was purged.
	if err := s.shortenNotes(ctx, l); err != nil {
		return nil, err
	}
	for _, want := range l.streams() {
		r, err := s.raise(ctx, want)
		if err != nil {
			return raised, fmt.Errorf("raise the epoch of stream %s: %w", want.Name, err)
		}
		raised = append(raised, r)
	}
	return raised, nil
}

// RaiseEpochOf makes another incarnation of what a home stores, when copies have taken the
// place of its streams in this region: what had not reached them is lost, and its sequences
// will name other messages. It makes the copies what the streams were, so that what is
// live is heard and batches are taken; before it, nobody hears what is published.
//
// Otherwise it is as RaiseEpoch. The error is of streams that are still copies, too.
func (s *Streams) RaiseEpochOf(ctx context.Context, home Region) (raised []RaisedEpoch, err error) {
	l := s.cfg.layoutOf(home)
	if l.partitions, err = s.copiedPartitions(ctx, l, s.cfg.Region); err != nil {
		return nil, err
	}
	for _, want := range l.streams() {
		if len(want.Subjects) == 0 || !isHomed(l, want.Name) {
			continue
		}
		origin, err := s.originBy(ctx, want.Subjects[0])
		if err != nil {
			return raised, err
		}
		if here := nameIn(want.Name, home, s.cfg.Region); origin != here {
			return raised, fmt.Errorf("stream %s has not taken the place of %s: what is published is stored in %q", here, want.Name, origin)
		}
		want.Name = origin
		r, err := s.raise(ctx, want)
		if err != nil {
			return raised, fmt.Errorf("raise the epoch of stream %s: %w", want.Name, err)
		}
		raised = append(raised, r)
	}
	return raised, nil
}

// isHomed reports whether a stream of a region is of what tenants have there.
func isHomed(l layout, stream string) bool {
	return slices.ContainsFunc(l.stored(), func(k keptThere) bool { return k.stream == stream })
}

// raise gives one stream a new epoch.
func (s *Streams) raise(ctx context.Context, want jetstream.StreamConfig) (r RaisedEpoch, err error) {
	found, err := s.find(ctx, want.Name)
	if err != nil {
		return r, err
	}
	info := found.CachedInfo()
	next := info.Config
	r = RaisedEpoch{Stream: want.Name, From: Epoch(next.Metadata[metaEpoch]), To: newEpoch(), Last: info.State.LastSeq}
	if len(r.From) != epochLen {
		return r, fmt.Errorf("it has no %s in its metadata: %s", metaEpoch, becauseNotOur)
	}
	next.Metadata = maps.Clone(next.Metadata)
	next.Metadata[metaEpoch] = string(r.To)
	next.Metadata[metaLineage] = parseLineage(next.Metadata[metaLineage]).then(r.From, r.Last).String()
	next.RePublish = withEpoch(want, r.To).RePublish
	next.AllowAtomicPublish = want.AllowAtomicPublish // as a copy it could not
	next.Duplicates = max(next.Duplicates, want.Duplicates)
	_, err = s.update(ctx, next)
	return r, err
}

// notesAtOnce is how many places one note of purges names, when they are noted again: a
// message has at most 1 MiB.
const notesAtOnce = 1000

// shortenNotes has notes of purges name nothing beyond the tail of their stream: it
// will be somebody else's.
func (s *Streams) shortenNotes(ctx context.Context, l layout) error {
	notes, err := s.notes(ctx, l)
	if err != nil {
		return fmt.Errorf("read what was purged: %w", err)
	}
	tails := make(map[string]*jetstream.StreamInfo)
	var again []erasedUntil
	for place, last := range notes {
		info, asked := tails[place.stream]
		if !asked {
			found, err := s.find(ctx, place.stream)
			if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return err
			}
			if err == nil {
				info = found.CachedInfo()
			}
			tails[place.stream] = info
		}
		if info != nil && info.Created.Equal(last.Created) && last.UpTo > info.State.LastSeq {
			last.UpTo = info.State.LastSeq
			again = append(again, last)
		}
	}
	return s.note(ctx, l, again)
}

// note stores notes of purges.
func (s *Streams) note(ctx context.Context, l layout, again []erasedUntil) error {
	for len(again) > 0 {
		n := min(len(again), notesAtOnce)
		body, err := json.Marshal(erased{Version: erasedVersion, Of: again[:n]})
		if err != nil {
			return err
		}
		again = again[n:]
		subject := subject("erased", string(l.region))
		if err := s.change(ctx, subject, func(ctx context.Context) error { _, err := s.js.Publish(ctx, subject, body); return err }); err != nil {
			return fmt.Errorf("note what was purged: %w", err)
		}
	}
	return nil
}

// notes reads the notes of purges from their leader, of each place the last.
func (s *Streams) notes(ctx context.Context, l layout) (map[erasedPlace]erasedUntil, error) {
	notes := make(map[erasedPlace]erasedUntil)
	stream := erasedStream(l.region)
	for next := uint64(1); ; {
		var m *stored
		err := s.look(ctx, apiSubject("STREAM.MSG.GET", stream), func(ctx context.Context) (err error) {
			m, err = leaderBy(ctx, s.nc, stream, leaderGet{Seq: next, NextFor: subject("erased", string(l.region))})
			return err
		})
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return notes, nil // of a version that had none yet
		}
		if err != nil || m == nil {
			return notes, err
		}
		next = m.seq + 1
		if !takeNote(notes, *m) {
			s.log.Warn("a note of a purge can't be read", "stream", stream, "sequence", m.seq)
		}
	}
}

// String says it in a line.
func (r RaisedEpoch) String() string {
	return r.Stream + ": epoch " + string(r.From) + " -> " + string(r.To) + ", after message " + strconv.FormatUint(r.Last, 10)
}
