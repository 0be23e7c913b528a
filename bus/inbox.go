package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/pealhq/peal"
)

// Entry is a notification of a list.
type Entry struct {
	Cursor Cursor // its place
	Read   bool
	Data   []byte // one line of JSON, see peal.Notification, whose "read" is Read
}

// Query says which notifications of an inbox are wanted. The zero Query wants
// all of them.
type Query struct {
	Before     Cursor // only older ones; zero: from the newest
	Limit      int    // at most so many; 0: no limit
	Unread     bool   // only unread ones
	Types      []peal.Type
	Priorities []peal.Priority
	TicketID   string
}

// Page is a part of a list.
type Page struct {
	Entries []Entry // newest first
	Next    Cursor  // a Before for the next page; zero if there is none

	// Cursor is where the list is true: what comes after it is not in the list,
	// and a feed that starts there brings it.
	Cursor    Cursor
	ReadState Cursor // its version
}

// Count says how many notifications an inbox holds.
type Count struct {
	Unread           int
	Total            int
	UnreadByPriority map[peal.Priority]int // every priority has a key
	Truncated        bool                  // unread ones have dropped out of the inbox's bound
	ReadState        Cursor                // its version
}

// List returns a page of an inbox, as its stream's leader and that of its read
// state have it: what was stored or marked before List was called is in it.
//
// The error is a peal.ErrInvalid for a Before of another incarnation, a
// peal.ErrUnavailable, after Config.Timeout at the latest, or ctx's.
func (b *Bus) List(ctx context.Context, in peal.Inbox, q Query) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	for newest := q.Limit + 1; ; newest *= 4 {
		if q.Limit <= 0 {
			newest = math.MaxInt
		}
		box, err := b.look(ctx, in, func(s readState) reach {
			if q.Unread {
				return reach{newest: 1, from: s.oldestUnread()}
			}
			return reach{newest: newest}
		})
		if err != nil {
			return Page{}, unavailable("list inbox", err)
		}
		if !q.Before.IsZero() && q.Before.Epoch != box.epoch {
			return Page{}, peal.Invalid("before", "is not a cursor of this inbox any more: fetch the list from its beginning")
		}
		if page, full := q.cut(box); full || q.Unread || box.whole() {
			return page, nil
		}
	}
}

// cut makes a page of what was read of an inbox. It is full if nothing older can
// be on it.
func (q Query) cut(box box) (page Page, full bool) {
	page = Page{Cursor: box.end, ReadState: box.version}
	for _, k := range slices.Backward(box.kept) {
		read := box.state.has(k.seq)
		switch {
		case !q.Before.IsZero() && k.seq >= q.Before.Seq:
			continue
		case !q.wants(k, read):
			continue
		case q.Limit > 0 && len(page.Entries) == q.Limit:
			page.Next = page.Entries[q.Limit-1].Cursor
			return page, true
		}
		page.Entries = append(page.Entries, Entry{Cursor{Epoch: box.epoch, Seq: k.seq}, read, withRead(k.data, read)})
	}
	return page, false
}

// wants reports whether a notification is one of those that the query asks for.
func (q Query) wants(k kept, read bool) bool {
	if q.Unread && read {
		return false
	}
	if len(q.Types) == 0 && len(q.Priorities) == 0 && q.TicketID == "" {
		return true
	}
	v := k.brief
	return (len(q.Types) == 0 || slices.Contains(q.Types, v.Type)) &&
		(len(q.Priorities) == 0 || slices.Contains(q.Priorities, v.Priority)) &&
		(q.TicketID == "" || v.TicketID == q.TicketID)
}

// Count counts an inbox. It is as true as List, and returns the same errors but
// for peal.ErrInvalid.
func (b *Bus) Count(ctx context.Context, in peal.Inbox) (Count, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	box, err := b.look(ctx, in, unreadOnes)
	if err != nil {
		return Count{}, unavailable("count inbox", err)
	}
	c := Count{
		Total:            box.total,
		UnreadByPriority: make(map[peal.Priority]int),
		Truncated:        box.state.truncated(box.witness),
		ReadState:        box.version,
	}
	for _, p := range peal.Priorities() {
		c.UnreadByPriority[p] = 0
	}
	for _, k := range box.kept {
		if !box.state.has(k.seq) {
			c.Unread++
			if p := k.brief.Priority; p.Valid() {
				c.UnreadByPriority[p]++
			}
		}
	}
	return c, nil
}

// CountInTurn is Count for those who connect: when many come at once, each waits its
// turn, as with Follow.
func (b *Bus) CountInTurn(ctx context.Context, in peal.Inbox) (c Count, err error) {
	part, _ := b.partition(in)
	deadline, err := part.gate.enter(ctx)
	if err != nil {
		return Count{}, unavailable("count inbox", err)
	}
	defer func() { part.gate.leave(err == nil) }()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return b.Count(ctx, in)
}

// box is an inbox and its read state at one moment.
type box struct {
	contents
	state   readState // of the same incarnation as the contents
	version Cursor    // of the state
}

// unreadOnes reaches back to the oldest notification that is unread.
func unreadOnes(s readState) reach { return reach{newest: 1, from: s.oldestUnread()} }

// look reads an inbox as the leaders have it, as far back as is asked for by its
// read state. The state comes first: so all that it speaks of is in the contents.
func (b *Bus) look(ctx context.Context, in peal.Inbox, far func(readState) reach) (box, error) {
	part, pl := b.partition(in)
	for {
		known := part.known().epoch
		s, err := part.stateFromLeader(ctx, pl)
		if err != nil {
			return box{}, err
		}
		c, err := part.contents(ctx, pl, far(part.in(s.state, known)))
		if err != nil {
			return box{}, err
		}
		if c.epoch == known { // else the stream is another one, of which nothing is read
			return box{c, part.in(s.state, known), s.version}, nil
		}
	}
}

// storedState is a read state as it is stored.
type storedState struct {
	state   readState
	version Cursor // zero sequence: nothing is stored
	newer   bool   // of a form that a newer program wrote: it is not to be overwritten
}

// stateFromLeader reads the read state of an inbox.
func (p *partition) stateFromLeader(ctx context.Context, pl place) (storedState, error) {
	m, err := p.bus.getFromLeader(ctx, p.stateStream, leaderGet{LastFor: pl.subject("state", p.home.region)})
	if err != nil || m == nil {
		return storedState{version: Cursor{Epoch: p.stateEpoch()}}, err
	}
	s, _ := p.readStored(*m)
	return s, nil
}

// readStored reads a stored read state. What can't be read has nothing read: it
// was written by somebody else, who has rights on the bus.
func (p *partition) readStored(m stored) (storedState, stateMessage) {
	s := storedState{version: Cursor{Epoch: p.stateEpoch(), Seq: m.seq}}
	v, err := decodeState(m.data)
	if err != nil {
		p.bus.log.Warn("a read state can't be read", "stream", p.stateStream, "sequence", m.seq, "err", err)
		s.newer = v.Version > stateVersion
		return s, stateMessage{More: true}
	}
	s.state = p.known().carried(v.state())
	return s, v
}

var errNewerState = errors.New("the read state was written by a newer program")

// brief is what is needed of a notification to find it.
type brief struct {
	ID       string        `json:"id"`
	Type     peal.Type     `json:"type"`
	TicketID string        `json:"ticketId"`
	Priority peal.Priority `json:"priority"`
}

// glance reads the brief of a stored notification; what is none has an empty one.
func glance(data []byte) (v brief) {
	if json.Unmarshal(data, &v) != nil {
		return brief{}
	}
	return v
}

// In what is stored no notification is read. Quotes within a string are escaped,
// and before the field there are only strings: the first of these is the field.
var (
	storedUnread = []byte(`,"read":false,`)
	markedRead   = []byte(`,"read":true,`)
)

// withRead returns a stored notification with its read state.
func withRead(data []byte, read bool) []byte {
	if !read {
		return data
	}
	return bytes.Replace(data, storedUnread, markedRead, 1)
}

// messageIDs are the Nats-Msg-Ids of notifications of an inbox, by which they are
// found among the stored.
func messageIDs(in peal.Inbox, ids []string) map[string]bool {
	all := make(map[string]bool, len(ids))
	for _, id := range ids {
		all[notificationID(in, id)] = true
	}
	return all
}
