package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
// The whole inbox is read for it, which is bounded, and of which the newest are
// not found by themselves. The error is a peal.ErrInvalid for a Before of
// another incarnation, a peal.ErrUnavailable, after Config.Timeout at the latest,
// or ctx's.
func (b *Bus) List(ctx context.Context, in peal.Inbox, q Query) (Page, error) {
	box, err := b.look(ctx, in)
	if err != nil {
		return Page{}, unavailable("list inbox", err)
	}
	if !q.Before.IsZero() && q.Before.Epoch != box.epoch {
		return Page{}, peal.Invalid("before", "is not a cursor of this inbox any more: fetch the list from its beginning")
	}
	page := Page{Cursor: box.end, ReadState: box.version}
	for _, m := range slices.Backward(box.messages) {
		read := box.state.has(m.seq)
		switch {
		case !q.Before.IsZero() && m.seq >= q.Before.Seq:
			continue
		case !q.wants(m, read):
			continue
		case q.Limit > 0 && len(page.Entries) == q.Limit:
			page.Next = page.Entries[q.Limit-1].Cursor
			return page, nil
		}
		page.Entries = append(page.Entries, Entry{Cursor{Epoch: box.epoch, Seq: m.seq}, read, withRead(m.data, read)})
	}
	return page, nil
}

// wants reports whether a notification is one of those that the query asks for.
func (q Query) wants(m stored, read bool) bool {
	if q.Unread && read {
		return false
	}
	if len(q.Types) == 0 && len(q.Priorities) == 0 && q.TicketID == "" {
		return true
	}
	v := glance(m.data)
	return (len(q.Types) == 0 || slices.Contains(q.Types, v.Type)) &&
		(len(q.Priorities) == 0 || slices.Contains(q.Priorities, v.Priority)) &&
		(q.TicketID == "" || v.TicketID == q.TicketID)
}

// Count counts an inbox. It is as true as List, and returns the same errors but
// for peal.ErrInvalid.
func (b *Bus) Count(ctx context.Context, in peal.Inbox) (Count, error) {
	box, err := b.look(ctx, in)
	if err != nil {
		return Count{}, unavailable("count inbox", err)
	}
	c := Count{
		Total:            len(box.messages),
		UnreadByPriority: make(map[peal.Priority]int),
		Truncated:        box.state.truncated(box.witness),
		ReadState:        box.version,
	}
	for _, p := range peal.Priorities() {
		c.UnreadByPriority[p] = 0
	}
	for _, m := range box.messages {
		if !box.state.has(m.seq) {
			c.Unread++
			if p := glance(m.data).Priority; p.Valid() {
				c.UnreadByPriority[p]++
			}
		}
	}
	return c, nil
}

// box is an inbox and its read state at one moment.
type box struct {
	contents
	state   readState // of the same incarnation as the contents
	version Cursor    // of the state
}

// look reads an inbox as the leaders have it. The state comes first: so all that
// it speaks of is in the contents.
func (b *Bus) look(ctx context.Context, in peal.Inbox) (box, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	part, pl := b.partition(in)
	leave, err := b.enterWhole(ctx)
	if err != nil {
		return box{}, err
	}
	defer leave()
	s, err := part.stateFromLeader(ctx, pl)
	if err != nil {
		return box{}, err
	}
	c, err := part.contents(ctx, pl.subject("inbox", b.cfg.Region))
	if err != nil {
		return box{}, err
	}
	return box{c, s.state.in(c.epoch), s.version}, nil
}

// maxWhole is how many inboxes are read whole at once. One holds 8 MB at most,
// and 200 kB as a rule.
const maxWhole = 16

// enterWhole waits for a turn to read an inbox whole. leave ends it.
func (b *Bus) enterWhole(ctx context.Context) (leave func(), err error) {
	select {
	case b.whole <- struct{}{}:
		return func() { <-b.whole }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// contents is what an inbox holds.
type contents struct {
	epoch    Epoch
	messages []stored // ascending; only those that are shown
	witness  uint64   // sequence of the last that dropped out of the bound; 0: none has
	end      Cursor   // what is stored later comes after it
}

// A batch of an inbox that is read whole.
const (
	wholeBatch = 1000
	wholeBytes = 1 << 20
)

// contents reads an inbox, with everything that was stored before. Any replica
// answers, and may lag: it is asked again until it has what the leader says is
// the last.
func (p *partition) contents(ctx context.Context, subject string) (contents, error) {
	for try := 0; ; try++ {
		c, whole, err := p.contentsOnce(ctx, subject)
		if err != nil || whole {
			return c, err
		}
		select {
		case <-time.After(min(firstPause<<min(try, 6), 250*time.Millisecond)):
		case <-ctx.Done():
			return contents{}, unavailable("read stream "+p.stream, fmt.Errorf("a replica lags: %w", ctx.Err()))
		}
	}
}

// contentsOnce reads an inbox. It is not whole if the replica that answered lags,
// or the stream became another one meanwhile.
func (p *partition) contentsOnce(ctx context.Context, subject string) (c contents, whole bool, err error) {
	before, err := p.ask(ctx)
	if err != nil {
		return c, false, err
	}
	tail, err := p.getFromLeader(ctx, leaderGet{LastFor: subject})
	if err != nil {
		return c, false, err
	}
	all, err := p.readAll(ctx, subject)
	if err != nil {
		return c, false, err
	}
	f, err := p.ask(ctx) // after the read, which does not say of which incarnation it is
	if err != nil {
		return c, false, err
	}
	c = contents{epoch: f.epoch, messages: all, end: before.end()}
	if n := len(all); n > 0 {
		c.end = Cursor{Epoch: f.epoch, Seq: all[n-1].seq}
	}
	if shown := visible(f.perInbox); shown > 0 && int64(len(all)) > shown {
		cut := len(all) - int(shown)
		c.witness, c.messages = all[cut-1].seq, all[cut:]
	}
	behind := tail != nil && (len(all) == 0 || all[len(all)-1].seq < tail.seq)
	return c, !behind && before.epoch == f.epoch, nil
}

// readAll reads what a replica has of an inbox.
func (p *partition) readAll(ctx context.Context, subject string) (all []stored, err error) {
	p.bus.stats.Reads.Add(1)
	for next := uint64(1); ; next = all[len(all)-1].seq + 1 {
		a, err := p.direct(ctx, directGet{Seq: next, NextFor: subject, Batch: wholeBatch, MaxBytes: wholeBytes})
		if err != nil {
			return nil, unavailable("read stream "+p.stream, err)
		}
		all = append(all, a.messages...)
		if a.pending == 0 || len(a.messages) == 0 {
			return all, nil
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
	m, err := p.bus.getFromLeader(ctx, p.stateStream, leaderGet{LastFor: pl.subject("state", p.bus.cfg.Region)})
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
	s.state = v.state()
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
		all[messageID(string(in.Tenant), string(in.Namespace), string(in.User), id)] = true
	}
	return all
}

// isOneOf reports whether a stored notification has one of some Nats-Msg-Ids.
func (m stored) isOneOf(ids map[string]bool) bool { return ids[m.header.Get(jetstream.MsgIDHeader)] }
