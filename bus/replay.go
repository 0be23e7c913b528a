package bus

import (
	"context"
	"errors"
	"fmt"
)

const (
	// replayBatch is how many stored messages one read asks for.
	replayBatch = 64

	// replayBytes bounds one read: more than a connection's buffer of 64 kB,
	// so that a batch is rarely cut and little is read twice.
	replayBytes = 128 << 10
)

// replay is what is stored after a cursor, as far as one read reaches.
type replay struct {
	gap      *Gap       // declared before the messages
	messages []*Message // in order, without a hole
	more     bool       // there is more to read after the last message
	own      bool       // the cursor named a message of the inbox
}

// origin is where a read begins, with what is known of the place.
type origin struct {
	Cursor
	clear uint64 // nothing of the inbox lies between the cursor and this sequence, if that is further on
}

// replay reads what is stored in an inbox after a cursor.
//
// It starts at the cursor itself: if the first message is the cursor's own,
// nothing between it and the next can be missing, for an inbox loses its
// oldest first. A cursor need not name a message of the inbox (an empty inbox
// starts at the stream's last sequence). Then continuity is proven if the first
// message has the very next sequence, as after a gap, or if the stream still
// begins at or before the place after the cursor, and fewer messages follow
// than an inbox keeps. Otherwise history is gone.
//
// A read is answered by any replica and sees no write half done, but it may
// lag: what it does not have yet is found by the chain of live messages or by
// the tail check. And it does not say of which incarnation it is. What makes a
// cursor unknown is asked of the leader alone.
func (src *source) replay(ctx context.Context, subject string, after origin) (replay, error) {
	if after.Epoch != src.known().epoch {
		f, err := src.ask(ctx)
		if err != nil {
			return replay{}, err
		}
		if after.Epoch != f.epoch {
			return src.unknown(ctx, subject)
		}
	}
	messages, pending, err := src.fetch(ctx, subject, after.Cursor)
	own := err == nil && len(messages) > 0 && messages[0].Cursor == after.Cursor
	if own && len(messages) == 1 && pending > 0 {
		// It fills a read by itself: the rest begins after it. Whether it was
		// purged in between, and others with it, shows below.
		own = false
		messages, pending, err = src.fetch(ctx, subject, Cursor{Epoch: after.Epoch, Seq: after.Seq + 1})
	} else if own {
		messages = messages[1:]
	}
	if err != nil {
		return replay{}, err
	}
	// Asked after the read: what was read is of an incarnation that still is
	// there. What has left it since then makes a gap too many, never one too few.
	f, err := src.ask(ctx)
	if err != nil {
		return replay{}, err
	}
	if after.Epoch != f.epoch || f.ends(after.Seq) {
		return src.unknown(ctx, subject)
	}
	if own {
		return replay{messages: messages, more: pending > 0, own: true}, nil
	}
	missing, err := src.missesSome(ctx, f, after, messages, pending)
	if err != nil {
		return replay{}, err
	}
	if missing && len(messages) == 0 {
		return src.truncated(ctx, subject, after.Cursor, f)
	}
	r := replay{messages: messages, more: pending > 0}
	if missing {
		r.truncate(f, int64(len(messages))+int64(pending))
	}
	return r, nil
}

// truncate declares that something is missing before the messages, so many of
// which are stored in all. If they are as many as an inbox keeps, the first is the
// witness, which is not shown: the gap ends with it.
func (r *replay) truncate(f facts, stored int64) {
	first := r.messages[0]
	r.gap = truncation(f, first)
	if shown := visible(f.perSubject); f.witness && shown > 0 && stored > shown {
		r.gap.Cursor = first.Cursor
		r.messages = r.messages[1:]
	}
}

// missesSome decides whether something is missing between a place and the
// messages that were found after it, pending more of which follow. The message
// of the place itself was not found.
func (src *source) missesSome(ctx context.Context, f facts, after origin, messages []*Message, pending uint64) (bool, error) {
	if len(messages) > 0 && messages[0].Cursor.Seq == after.Seq+1 {
		return false, nil // no sequence is left for a message between
	}
	if lost(f, after, int64(len(messages))+int64(pending)) {
		return true, nil
	}
	return src.purged(ctx, f, after)
}

// purged reports whether the message at a place was removed before its time,
// and others of the inbox perhaps with it: it is not there, though the stream
// has not come so far.
func (src *source) purged(ctx context.Context, f facts, after origin) (bool, error) {
	if after.Elsewhere || after.Seq < f.first || f.lacks(after.Seq) {
		return false, nil
	}
	src.bus.stats.Reads.Add(1)
	m, err := src.getFromLeader(ctx, leaderGet{Seq: after.Seq})
	return err == nil && m == nil, err
}

// truncated is the answer for an inbox that has lost what followed a cursor,
// and of which a replica has nothing more. The gap ends at what the leader has
// next, or where there is nothing, at the end of the stream: an older place
// would be out of date as soon as the stream loses its next message.
func (src *source) truncated(ctx context.Context, subject string, after Cursor, f facts) (replay, error) {
	m, err := src.fetchFromLeader(ctx, subject, after)
	if err != nil {
		return replay{}, err
	}
	if m == nil {
		return replay{gap: &Gap{HistoryTruncated, f.end()}}, nil
	}
	return replay{gap: truncation(f, m), messages: []*Message{m}, more: true}, nil
}

// lost decides by what the leader says of the stream whether something is
// missing after a place, so many messages of the inbox following it.
func lost(f facts, after origin, following int64) bool {
	// The stream may begin right after the cursor because the message there has
	// expired, or because it was purged with others of the inbox further on.
	beheaded := !after.Elsewhere && after.Seq > 0 && after.Seq+1 == f.first && after.Seq < f.last && f.deleted > 0
	bounded := f.perSubject > 0 && following >= f.perSubject
	return beheaded || bounded || max(after.Seq, after.clear)+1 < f.first
}

// truncation is the gap before a message.
func truncation(f facts, next *Message) *Gap {
	return &Gap{HistoryTruncated, Cursor{Epoch: f.epoch, Seq: next.Cursor.Seq - 1, Elsewhere: true}}
}

// fetch reads one batch from the cursor inclusive, and says how many messages
// of the inbox follow it.
func (src *source) fetch(ctx context.Context, subject string, from Cursor) (messages []*Message, pending uint64, err error) {
	src.bus.stats.Reads.Add(1)
	a, err := src.direct(ctx, directGet{
		Seq: max(from.Seq, 1), NextFor: subject, Batch: replayBatch, MaxBytes: replayBytes,
	})
	if err != nil {
		return nil, 0, unavailable("read stream "+src.stream, err)
	}
	for _, m := range a.messages {
		messages = append(messages, &Message{Cursor: Cursor{Epoch: from.Epoch, Seq: m.seq}, Data: m.data, Stored: storedAt(m.header)})
	}
	return messages, a.pending, nil
}

// fetchFromLeader reads the first message of an inbox at or after a cursor;
// nil if the leader has none.
func (src *source) fetchFromLeader(ctx context.Context, subject string, from Cursor) (*Message, error) {
	src.bus.stats.Reads.Add(1)
	m, err := src.getFromLeader(ctx, leaderGet{Seq: max(from.Seq, 1), NextFor: subject})
	if m == nil || err != nil {
		return nil, err
	}
	return &Message{Cursor: Cursor{Epoch: from.Epoch, Seq: m.seq}, Data: m.data, Stored: storedAt(m.header)}, nil
}

// getFromLeader reads one message of the partition's stream; nil if the leader
// does not have it.
func (src *source) getFromLeader(ctx context.Context, get leaderGet) (*stored, error) {
	return src.bus.getFromLeader(ctx, src.stream, get)
}

// fill reads the place of a hole from the leader: a message up to target is
// known to have been stored, and the replicas that answered do not have it.
// What the leader does not have either is gone, and a leader that ends before
// target leads another stream. What it has follows without a hole by the same
// rules as in replay.
func (src *source) fill(ctx context.Context, subject string, after origin, target uint64) (replay, error) {
	m, err := src.fetchFromLeader(ctx, subject, after.Cursor)
	whole := m != nil && m.Cursor.Seq == after.Seq
	if err == nil && whole {
		m, err = src.fetchFromLeader(ctx, subject, Cursor{Epoch: after.Epoch, Seq: after.Seq + 1})
	}
	if err != nil {
		return replay{}, err
	}
	f, count, err := src.info(ctx, src.stream, subject)
	if err != nil {
		return replay{}, err
	}
	switch {
	case after.Epoch != f.epoch || f.ends(target):
		return src.unknown(ctx, subject)
	case f.lacks(target) && (m == nil || m.Cursor.Seq > target):
		return replay{}, unavailable("read stream "+src.stream, errLacking)
	case m == nil:
		return replay{gap: &Gap{HistoryTruncated, Cursor{Epoch: after.Epoch, Seq: target, Elsewhere: true}}}, nil
	case m.Cursor.Seq > target:
		return replay{gap: truncation(f, m), messages: []*Message{m}, more: true}, nil
	case whole:
		return replay{messages: []*Message{m}, more: true}, nil
	}
	r := replay{messages: []*Message{m}, more: true}
	missing, err := src.missesSome(ctx, f, after, r.messages, max(count, 1)-1)
	if err != nil {
		return replay{}, err
	}
	if missing {
		r.truncate(f, int64(count))
	}
	return r, nil
}

// errLacking: what is stored in a home that is away has not reached the copy here.
var errLacking = errors.New("its home is away, and it has not reached this region")

// unknown is the answer for a cursor that means nothing here: a gap, and on
// from the live end.
func (src *source) unknown(ctx context.Context, subject string) (replay, error) {
	end, err := src.end(ctx, subject)
	return replay{gap: &Gap{UnknownCursor, end}}, err
}

// end returns the live end of an inbox: its own last message, or if it holds
// none, the end of the stream. What is stored after end has returned comes after it.
//
// So a cursor names another inbox's message only if its own inbox was empty,
// which is how foreign tells whose it is. (A replica that lacks the first
// message of an inbox makes it look empty: should the cursor be used before the
// next one comes, it is taken for foreign and declared unknown.)
func (src *source) end(ctx context.Context, subject string) (Cursor, error) {
	f, err := src.ask(ctx) // first: what is stored in between is found by the second
	if err != nil {
		return Cursor{}, err
	}
	tails, _, err := src.tails(ctx, []string{subject}, 0)
	if err != nil {
		return Cursor{}, err
	}
	if last, ok := tails[subject]; ok {
		return Cursor{Epoch: f.epoch, Seq: last}, nil
	}
	return f.end(), nil
}

// foreign reports whether a cursor, for which no message of an inbox was found,
// was given out for another: it names another's message, or the inbox holds
// older ones, so it was not empty then. Only the leader can tell, for a replica
// may not have the message yet.
func (src *source) foreign(ctx context.Context, subject string, c Cursor) (bool, error) {
	if src.known().lacks(c.Seq) {
		return false, nil
	}
	if !c.Elsewhere && c.Seq > 0 {
		m, err := src.getFromLeader(ctx, leaderGet{Seq: c.Seq})
		if err != nil || m != nil {
			return m != nil && m.subject != subject, err
		}
	}
	first, err := src.fetchFromLeader(ctx, subject, Cursor{Epoch: c.Epoch, Seq: 0})
	if err != nil || first == nil || first.Cursor.Seq > c.Seq {
		return false, err
	}
	named, err := src.fetchFromLeader(ctx, subject, c)
	return err == nil && (named == nil || named.Cursor != c), err
}

// tails returns the sequence of the last message of each inbox that has one,
// by subject, in a replica that has everything up to upTo; before is where the
// inboxes are taken to end, 0 for nowhere. At most maxTails subjects.
func (src *source) tails(ctx context.Context, subjects []string, before uint64) (last map[string]uint64, upTo uint64, err error) {
	doing := "read tails of stream " + src.stream
	a, err := src.direct(ctx, directGet{LastFor: subjects, UpTo: before})
	if err != nil {
		return nil, 0, unavailable(doing, err)
	}
	if a.pending > 0 {
		return nil, 0, unavailable(doing, fmt.Errorf("cut short after %d", len(a.messages)))
	}
	last = make(map[string]uint64, len(a.messages))
	for _, m := range a.messages {
		last[m.subject] = m.seq
	}
	return last, a.upTo, nil
}

// maxTails is how many subjects one tail check names: the server answers at
// most 1,024, and 256 payloads of 16 kB stay below the bound of a connection.
const maxTails = 256
