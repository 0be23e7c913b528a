package bus

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// When live messages did not reach this process for a while, most of its feeds
// are behind, each by a little. Then the stream is read once from where the
// first of them stands, and what it holds is dealt out here: one read instead
// of one for each feed.

const (
	// catchUpPerFeed is how many stored messages one read may cross for each feed: a
	// message of it costs about 10 µs, a read for one feed about 200 µs.
	catchUpPerFeed = 20

	// catchUpLeast is what is always crossed.
	catchUpLeast = 1000

	// catchUpBytes bounds what is held in memory meanwhile. Beyond it the
	// feeds read for themselves.
	catchUpBytes = 32 << 20

	// catchUpPause is how long a leader that does not answer is left alone, at
	// least, and half as long again at random.
	catchUpPause = 100 * time.Millisecond

	// A range is read in parts of so much.
	rangeBatch = 1000
	rangeBytes = 1 << 20
)

// held is a live feed that waits for what the others get too.
type held struct {
	feed  *Feed
	round int
}

// catchUp brings the live feeds of a source what was stored while live
// messages did not reach this process. Feeds that stand too far back for it,
// and all of them where it can't be proven whole, read for themselves; who is
// behind then, the tail check tells, which follows in any case. As long as the
// leader does not answer nobody could read, and it is tried again.
func (src *source) catchUp() {
	ctx, cancel := context.WithTimeout(src.bus.life, 2*src.bus.cfg.Timeout)
	defer cancel()
	f, err := src.ask(ctx)
	if err != nil {
		time.AfterFunc(catchUpPause+rand.N(catchUpPause/2), func() { src.reader.ask(src.catchUp) })
		return
	}
	src.catchingUp.Store(false) // what is missed from now on is for the next
	defer src.checkAll()
	crossed := max(catchUpLeast, catchUpPerFeed*uint64(src.feeds.Load()))
	feeds, after := src.hold(f.epoch, f.last-min(f.last, crossed))
	if len(feeds) == 0 {
		return
	}
	found, err := src.span(ctx, f, after, feeds)
	if err != nil {
		src.bus.log.Info("each inbox is read for itself", "stream", src.stream, "inboxes", len(feeds), "err", err)
	}
	src.deal(feeds, found, err == nil)
}

// hold has the live feeds that are proven to have everything up to a place,
// floor or one further on, wait. It returns them and the first of their places.
func (src *source) hold(epoch Epoch, floor uint64) (feeds []held, after uint64) {
	type answer struct {
		feeds []held
		after uint64
	}
	answers := make(chan answer, len(src.bus.shards))
	for _, s := range src.bus.shards {
		s.post(func() {
			feeds, after := s.hold(src, epoch, floor)
			answers <- answer{feeds, after}
		})
	}
	for range src.bus.shards {
		select {
		case a := <-answers:
			if len(feeds) == 0 || len(a.feeds) > 0 && a.after < after {
				after = a.after
			}
			feeds = append(feeds, a.feeds...)
		case <-src.bus.closing:
			return nil, 0
		}
	}
	return feeds, after
}

func (s *shard) hold(src *source, epoch Epoch, floor uint64) (feeds []held, after uint64) {
	for _, h := range s.hubsOf(src) {
		for _, f := range h.feeds {
			if f.phase != live || f.last.Epoch != epoch || f.proven() < floor {
				continue
			}
			f.phase = reading
			f.round++
			if len(feeds) == 0 || f.proven() < after {
				after = f.proven()
			}
			feeds = append(feeds, held{f, f.round})
		}
	}
	return feeds, after
}

// spanned is what was stored in a part of a stream.
type spanned struct {
	messages map[string][]*Message // by subject, only those that were asked for
	before   map[string]uint64     // the last of an inbox before the part, of those that have messages in it
	end      uint64                // sequence of the last message of the part
	facts    facts                 // of the stream, from after it was read
}

// has reports whether a message of an inbox that a feed has had is still there.
func (s spanned) has(subject string, seq uint64) bool {
	if s.before[subject] == seq {
		return true
	}
	for _, m := range s.messages[subject] {
		if m.Cursor.Seq >= seq {
			return m.Cursor.Seq == seq
		}
	}
	return false
}

// span reads the stream after a sequence to its end. It returns an error if
// something between may be missing.
func (src *source) span(ctx context.Context, f facts, after uint64, feeds []held) (found spanned, err error) {
	src.bus.stats.Ranges.Add(1)
	found = spanned{messages: make(map[string][]*Message), end: after}
	for _, h := range feeds {
		found.messages[h.feed.subject] = nil
	}
	size := 0
	for more := true; more; {
		a, err := src.direct(ctx, directGet{Seq: found.end + 1, NextFor: src.all, Batch: rangeBatch, MaxBytes: rangeBytes})
		if err != nil {
			return found, unavailable("read stream "+src.stream, err)
		}
		for _, m := range a.messages {
			found.end = m.seq
			if list, wanted := found.messages[m.subject]; wanted {
				found.messages[m.subject] = append(list, &Message{Cursor: Cursor{Epoch: f.epoch, Seq: m.seq}, Data: m.data, Stored: storedAt(m.header)})
				size += len(m.data)
			}
		}
		if size > catchUpBytes {
			return found, fmt.Errorf("more than %d bytes since sequence %d", catchUpBytes, after)
		}
		more = a.pending > 0 && len(a.messages) > 0
	}
	if found.before, err = src.lastBefore(ctx, after, found.messages); err != nil {
		return found, err
	}
	// Asked after the read: what had left the stream before it was read has
	// left it by now.
	if found.facts, err = src.ask(ctx); err != nil {
		return found, err
	}
	if found.facts.epoch != f.epoch || found.facts.first > after+1 {
		return found, fmt.Errorf("the stream has lost what followed sequence %d", after)
	}
	return found, nil
}

// lastBefore reads, for the inboxes of which messages were found, the last one
// up to a sequence.
func (src *source) lastBefore(ctx context.Context, seq uint64, found map[string][]*Message) (map[string]uint64, error) {
	all := make(map[string]uint64)
	var subjects []string
	for subject, messages := range found {
		if len(messages) > 0 && seq > 0 {
			subjects = append(subjects, subject)
		}
	}
	for some := range slices.Chunk(subjects, src.maxTails) {
		last, _, err := src.tails(ctx, some, seq)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, last)
	}
	return all, nil
}

// deal gives each feed what was found for it, and lets it go on.
func (src *source) deal(feeds []held, found spanned, whole bool) {
	byShard := make(map[*shard][]held)
	for _, h := range feeds {
		byShard[h.feed.shard] = append(byShard[h.feed.shard], h)
	}
	for s, feeds := range byShard {
		s.post(func() {
			for _, h := range feeds {
				if h.feed.round == h.round && h.feed.phase == reading && !h.feed.closed.Load() {
					h.feed.dealt(found, whole)
				}
			}
		})
	}
}

// dealt takes the feed's part of what was found, if that is whole: an inbox
// that holds no more than what was found may have dropped older ones meanwhile,
// and one that does not hold the feed's last any more was purged.
func (f *Feed) dealt(found spanned, whole bool) {
	messages := found.messages[f.subject]
	for len(messages) > 0 && messages[0].Cursor.Seq <= f.last.Seq {
		messages = messages[1:]
	}
	bounded := found.facts.perSubject > 0 && int64(len(messages)) >= found.facts.perSubject
	purged := len(messages) > 0 && !f.last.Elsewhere && f.last.Seq >= found.facts.first && !found.has(f.subject, f.last.Seq)
	if !whole || bounded || purged {
		f.read()
		return
	}
	f.take(replay{messages: messages})
	if f.phase == live && len(messages) > 0 {
		f.prove(found.end)
	}
}
