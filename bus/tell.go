package bus

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// This file is how the feed of an inbox tells of the read state. A sink counts what is unread
// by one rule: it begins with Start.Unread, adds one for each message that is not
// read, and takes over the number of each ReadState. For that every number is one
// as of the place of the feed at that moment, and each message says whether it is
// read by the state that the inbox has here.

// ReadState tells a sink of the read state of its inbox.
type ReadState struct {
	Unread  uint64 // of what was delivered, and what the sink was told of before
	Version Cursor // of the state

	// What has changed since the sink was told last; nil with Refetch, when more
	// has, or it is not known what.
	Changed []ReadChange
	Refetch bool
}

// news is what a feed has to tell its sink of the read state. It is owned by the
// shard's loop.
type news struct {
	told   Cursor // the version that the sink was told last
	at     Cursor // where the feed stood then; zero: Start has told it
	tally  uint64 // what the sink counts
	total  uint64 // how many notifications are stored, or too many
	eldest uint64 // sequence of the oldest that is stored, or was; 0: none

	stale   bool // the number of unread ones is to be looked at, perhaps once more
	force   bool // and told, whatever it is
	adopt   bool // or taken over, if that is all: the sink has counted right, tally has not
	doubt   bool // what Start has told was counted by replicas, which may lag
	certain bool // the number is to be counted by what the leader has
	changed []ReadChange
	refetch bool

	counting bool   // a count is under way
	since    uint64 // what was delivered and is unread, since the count began
	taken    uint64 // what was delivered since then
	waiting  bool   // the number is to be looked at in a while
}

// recountPause is for how long the number of an inbox that is at its bound is
// left alone after something was delivered.
const recountPause = 200 * time.Millisecond

// note notes a change of the read state. Without a chain from what the sink knows
// it is not known what has changed.
func (n *news) note(version Cursor, m stateMessage, chained bool) {
	if n.told == version {
		return
	}
	n.stale, n.force = true, true
	if !chained || m.More || n.refetch {
		n.changed, n.refetch = nil, true
		return
	}
	for _, c := range m.Changed {
		n.add(c)
	}
}

// add adds a change, which takes the place of an older one of the same
// notification.
func (n *news) add(c ReadChange) {
	for i := range n.changed {
		if n.changed[i].ID == c.ID {
			n.changed[i] = c
			return
		}
	}
	if len(n.changed) == maxChanges {
		n.changed, n.refetch = nil, true
	}
	if !n.refetch {
		n.changed = append(n.changed, c)
	}
}

// recount has the number looked at, and told if it is another than the sink's.
func (f *Feed) recount() {
	f.stale = true
	f.tell()
}

// anew has everything told again: what the sink has is out of date.
func (n *news) anew() {
	n.stale, n.force, n.changed, n.refetch = true, true, nil, true
}

// rewound takes into account that the sink has dropped what it took after a place,
// and will count it again. What it was told there may have been dropped too.
func (f *Feed) rewound(to Cursor) {
	if !f.at.IsZero() && f.at.Seq >= to.Seq {
		f.anew()
		return
	}
	f.stale, f.adopt = true, true
}

// count counts a message that was delivered. An inbox at its bound loses one for
// each that comes.
func (f *Feed) count(m *Message) {
	if f.part == nil {
		return
	}
	if !m.Read {
		f.tally++
		f.since++
	}
	f.total++
	f.taken++
	if f.eldest == 0 {
		f.eldest = m.Cursor.Seq
	}
	if f.waiting || !f.full() {
		return
	}
	f.waiting = true
	f.shard.after(recountPause, func() {
		f.waiting = false
		f.recount()
	})
}

// tell tells the sink of the read state, if it has to be: once the feed is live,
// for what it delivers until then says for itself whether it is read.
func (f *Feed) tell() {
	if f.part == nil || !f.stale || f.counting || f.phase != live || f.closed.Load() || f.hub == nil {
		return
	}
	h, at, round := f.hub, f.last, f.round
	state := h.state
	certain := f.certain || f.lags() && (f.force || f.adopt)
	f.stale, f.counting, f.since, f.taken, f.certain = false, true, 0, 0, false
	f.countTo(at, state.state, certain, func(c census, err error) {
		f.counting = false
		switch {
		case f.closed.Load() || f.hub != h:
		case err != nil:
			f.stale, f.certain = true, f.certain || certain
			f.shard.after(time.Second, f.tell)
		case f.phase != live:
			f.stale, f.certain = true, f.certain || certain // it is told when the feed is live again
		case h.state.version != state.version || f.round != round:
			f.certain = f.certain || certain
			f.recount() // the number is not of this state, or what came since was not added to it
		case !certain && f.lags() && c.unread+f.since != f.tally:
			f.certain = true
			f.recount()
		default:
			// What has made it stale meanwhile may have come too late for this
			// count, and so may the oldest that there is.
			again := f.stale || c.first == 0 && f.taken > 0
			if f.offerState(c, certain) && again {
				f.recount()
			}
		}
	})
}

// lags reports whether a replica that counts may lag, and say what is not true. One
// that is alone does not.
func (f *Feed) lags() bool { return f.part.known().replicas > 1 }

// countTo counts the inbox up to a place, and has the shard's loop take the result.
func (f *Feed) countTo(at Cursor, s readState, certain bool, take func(census, error)) {
	// It counts from here on, also for those who wait behind others for a leader
	// that is away.
	ctx, cancel := context.WithTimeout(f.shard.bus.life, f.shard.bus.cfg.Timeout)
	by := f.part.reader
	if certain {
		by = f.part.asker
	}
	by.ask(func() {
		defer cancel()
		var c census
		var err error
		if certain {
			c, err = f.part.certain(ctx, f.key, f.subject, at, s)
		} else {
			c, err = f.part.census(ctx, f.subject, at, s)
		}
		f.shard.post(func() { take(c, err) })
	})
}

// offerState tells the sink of the state at this place, if it does not know. What
// has dropped out of the inbox it can't know. It reports whether the sink knows
// now.
func (f *Feed) offerState(c census, certain bool) bool {
	f.total = c.total + f.taken
	adopt := f.adopt && f.eldest == c.first && !f.full()
	unread, version, at := c.unread+f.since, f.hub.state.version, f.at
	if f.force || version != f.told || unread != f.tally && !adopt {
		if !f.sink.State(ReadState{Unread: unread, Version: version, Changed: f.changed, Refetch: f.refetch}) {
			f.stale, f.certain = true, f.certain || certain
			f.rest()
			return false
		}
		f.shard.bus.stats.StatesTold.Add(1)
		at = f.last
	}
	f.news = news{told: version, at: at, tally: unread, total: f.total, eldest: c.first, doubt: f.doubt, certain: f.certain, waiting: f.waiting}
	return true
}

// doubted has the number that Start has told counted for certain with the next tail
// check, in one to two seconds: not by all who come at once.
func (f *Feed) doubted() {
	if f.lags() {
		f.doubt = true
		f.shard.checkSoon(f.hub)
	}
}

// verify has it counted, as soon as the feed is live.
func (f *Feed) verify() {
	if f.doubt {
		f.doubt, f.certain = false, true
		f.recount()
	}
}

// started takes over what Follow has read. The hub may know more, or less.
func (f *Feed) started() {
	if f.part == nil {
		return
	}
	h := f.hub
	f.told, f.tally, f.total, f.eldest = f.start.ReadState, f.start.Unread, f.census.total, f.census.first
	switch {
	case !h.knows:
		h.learn(f.state)
	case f.state.version.Epoch == h.state.version.Epoch && f.state.version.Seq > h.state.version.Seq:
		h.learn(f.state) // before it came live: the others hear of it as well
		for _, other := range h.feeds {
			if other != f {
				other.note(f.state.version, stateMessage{}, false)
				other.tell()
			}
		}
	case f.state.version != h.state.version:
		f.note(h.state.version, stateMessage{}, false)
	}
	f.state = storedState{} // the hub has it
	f.doubted()
}

// learn takes over a read state.
func (h *hub) learn(s storedState) { h.state, h.knows = s, true }

// full reports whether the inbox is at its bound, as far as the feed knows, so that
// it loses its oldest with each that comes.
func (f *Feed) full() bool {
	shown := visible(f.part.known().perSubject)
	return shown > 0 && f.total > uint64(shown)
}

// reads reports whether a notification is read, as far as this process knows.
func (h *hub) reads(at Cursor) bool {
	return h.part.in(h.state.state, at.Epoch).has(at.Seq)
}

// stateArrived takes a read state that was written.
func (s *shard) stateArrived(h *hub, raw *nats.Msg) {
	seq, err := sequence(raw, headerSequence)
	previous, err2 := sequence(raw, headerPrevious)
	if err != nil || err2 != nil {
		s.bus.stats.Malformed.Add(1)
		return
	}
	h.newState(stored{seq: seq, data: raw.Data}, previous)
}

// newState takes a read state that follows another. It may be known already.
func (h *hub) newState(m stored, previous uint64) {
	if h.knows && h.state.version.Epoch == h.part.stateEpoch() && m.seq <= h.state.version.Seq {
		return
	}
	chained := h.knows && h.state.version.Seq == previous // every feed has told what was before, or is about to
	s, v := h.part.readStored(m)
	h.learn(s)
	for _, f := range h.feeds {
		if f.begun {
			f.note(s.version, v, chained)
			f.tell()
		}
	}
}

// checkedState takes what a tail check has found of the read state.
func (s *shard) checkedState(h *hub, m stored, found bool) {
	known := h.state.version
	switch {
	case !h.knows || known.Epoch != h.part.stateEpoch() || found && m.seq >= known.Seq:
		if found {
			h.newState(m, m.replaced())
		}
	case known.Seq > 0:
		s.missesState(h)
	}
	for _, f := range h.feeds {
		if f.eldest != 0 && f.eldest < h.part.known().first {
			f.recount() // the oldest have expired
		}
	}
}

// missesState asks the leader for a read state that a replica does not have: it
// lags, the state was purged, or the stream has lost its tail.
func (s *shard) missesState(h *hub) {
	version := h.state.version
	h.part.reader.ask(func() {
		ctx, cancel := context.WithTimeout(s.bus.life, s.bus.cfg.Timeout)
		defer cancel()
		m, err := s.bus.getFromLeader(ctx, h.part.stateStream, leaderGet{LastFor: h.stateSubject})
		if err != nil {
			return // the next tail check misses it too
		}
		s.post(func() {
			switch {
			case h.state.version != version:
			case m == nil:
				h.forget()
			case m.seq < version.Seq:
				older, _ := h.part.readStored(*m)
				h.replace(older)
			}
		})
	})
}

// forget goes on without a read state: nothing is read any more.
func (h *hub) forget() { h.replace(storedState{version: Cursor{Epoch: h.part.stateEpoch()}}) }

// replace goes on with a read state that does not follow what was known.
func (h *hub) replace(s storedState) {
	h.learn(s)
	for _, f := range h.feeds {
		if f.begun {
			f.anew()
			f.tell()
		}
	}
}

// stateRenewed has the hubs of a partition listen to another incarnation of the
// stream of read states.
func (s *shard) stateRenewed(p *partition, to Epoch) {
	if s.stateEpochs[p.index] == to {
		return
	}
	hubs := s.hubsOf(p.source)
	for _, h := range hubs {
		delete(s.states, s.liveStateOf(p, h.key))
		h.stateSub.Unsubscribe() // as in detach
	}
	s.stateEpochs[p.index] = to
	for _, h := range hubs {
		subject := s.liveStateOf(p, h.key)
		s.states[subject] = h
		if sub, err := s.bus.live.ChanSubscribe(subject, s.live); err == nil { // as in move
			h.stateSub = sub
		}
		h.forget()
		s.checkSoon(h)
	}
}

// liveStateOf is the subject of an inbox's read states as they are written.
func (s *shard) liveStateOf(p *partition, key string) string {
	return liveSubject(p.stateLive, s.stateEpochs[p.index], key)
}

// purged has every feed of what was purged look at what is left. tokens name an
// inbox, or a tenant with all of its inboxes.
func (b *Bus) purged(tokens string) {
	b.recents.drop(tokens)
	for _, s := range b.shards {
		s.post(func() {
			var hubs []*hub
			for _, h := range s.hubs {
				if h.part != nil && (h.key == tokens || strings.HasPrefix(h.key, tokens+".")) {
					hubs = append(hubs, h)
				}
			}
			for _, h := range hubs {
				h.forget()
			}
			s.check(hubs)
		})
	}
}
