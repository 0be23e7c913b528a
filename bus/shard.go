package bus

import (
	"cmp"
	"container/list"
	"context"
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// arrivals is how many live messages may wait for a shard. What does not fit
// is dropped by the NATS client and found again by the chain or the tail
// check.
const arrivals = 8192

// shard runs the feeds of a part of the inboxes, and of the tenants' tickets: one
// goroutine and one channel for all their subscriptions, so that an inbox is always
// handled by the same goroutine and its order needs no lock.
type shard struct {
	bus  *Bus
	live chan *nats.Msg
	wake chan struct{} // capacity 1: tasks is not empty

	mu    sync.Mutex // protects tasks
	tasks []func()

	// Owned by the loop.
	hubs        map[string]*hub // by subject of live messages, in the epoch below
	states      map[string]*hub // by subject of live read states, in theirs
	ring        *list.List      // of all hubs; the front is the next to have its tail checked
	waited      time.Duration   // of all hubs together, since a tail was checked in its turn
	fresh       []*hub          // to be checked out of turn, at least a second from now
	due         []*hub          // to be checked with the next tick
	epochs      []Epoch         // of each source, as far as this loop knows
	stateEpochs []Epoch         // of the read states of each partition
	highest     []uint64        // sequence seen live, of each source
}

// hub is an inbox, or the tickets of a tenant, that at least one feed of this process
// follows.
type hub struct {
	source  *source
	subject string // of stored messages
	key     string // of the inbox, or of the tenant
	sub     *nats.Subscription
	feeds   []*Feed
	last    uint64        // the highest sequence of the inbox that is known here
	element *list.Element // in the ring
	checked bool          // a check of its tail is under way or waits for the next tick

	part         *partition // of the inbox; nil for tickets: what follows is of read states
	stateSubject string     // where they are stored
	stateSub     *nats.Subscription
	state        storedState
	knows        bool // state was read or has arrived
}

var seed = maphash.MakeSeed()

func (b *Bus) startFeeds() {
	for range max(4, 2*runtime.GOMAXPROCS(0)) {
		s := &shard{
			bus:     b,
			live:    make(chan *nats.Msg, arrivals),
			wake:    make(chan struct{}, 1),
			hubs:    make(map[string]*hub),
			states:  make(map[string]*hub),
			ring:    list.New(),
			highest: make([]uint64, len(b.sources)),
		}
		for _, src := range b.sources {
			s.epochs = append(s.epochs, src.known().epoch)
		}
		for _, p := range b.partitions {
			s.stateEpochs = append(s.stateEpochs, p.stateEpoch())
		}
		b.shards = append(b.shards, s)
	}
	for _, s := range b.shards {
		b.done.Go(s.run)
	}
}

func (b *Bus) shardOf(key string) *shard {
	return b.shards[maphash.String(seed, key)%uint64(len(b.shards))]
}

// renewed tells every feed of a source that its stream is another one now.
func (b *Bus) renewed(src *source, f facts) {
	b.log.Warn("stream is another incarnation", "stream", src.stream, "epoch", f.epoch)
	for _, s := range b.shards {
		s.post(func() { s.renewed(src, f) })
	}
}

// catchUp brings every feed what it has missed, after live messages did not
// reach this process.
func (b *Bus) catchUp() {
	for _, src := range b.sources {
		src.catchUpSoon()
	}
}

func (src *source) catchUpSoon() {
	src.look.Store(true)
	if src.catchingUp.CompareAndSwap(false, true) {
		src.reader.ask(src.catchUp)
	}
}

// checkAll has the tails of all that is followed of a source checked.
func (src *source) checkAll() {
	for _, s := range src.bus.shards {
		s.post(func() { s.checkAll(src) })
	}
}

// checkSoon has one tail checked, by one of the live subjects of its hub.
func (b *Bus) checkSoon(subject string) {
	s := b.shardOf(liveKey(subject))
	s.post(func() {
		if h := cmp.Or(s.hubs[subject], s.states[subject]); h != nil {
			s.checkSoon(h)
		}
	})
}

// post has the loop run a task, after what it is doing. It never blocks.
func (s *shard) post(task func()) {
	s.mu.Lock()
	s.tasks = append(s.tasks, task)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// after posts a task after a pause.
func (s *shard) after(pause time.Duration, task func()) {
	time.AfterFunc(pause, func() { s.post(task) })
}

func (s *shard) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.bus.closing:
			return
		case m := <-s.live:
			s.arrived(m)
		case <-s.wake:
			s.mu.Lock()
			tasks := s.tasks
			s.tasks = nil
			s.mu.Unlock()
			for _, task := range tasks {
				task()
			}
		case <-tick.C:
			s.tick()
		}
	}
}

// attach adds a feed to its inbox and returns when live messages reach this
// process.
func (s *shard) attach(ctx context.Context, f *Feed) error {
	subscribed := make(chan error, 1)
	s.post(func() { subscribed <- s.add(f) })
	select {
	case err := <-subscribed:
		if err != nil {
			return err
		}
	case <-s.bus.closing:
		return errClosed
	case <-ctx.Done():
		f.Close()
		return ctx.Err()
	}
	// The server has handled the subscription when it has answered a ping
	// that was sent after it.
	if err := s.bus.live.FlushWithContext(ctx); err != nil {
		f.Close()
		return err
	}
	return nil
}

// hubsOf lists the hubs of a source.
func (s *shard) hubsOf(src *source) (hubs []*hub) {
	for _, h := range s.hubs {
		if h.source == src {
			hubs = append(hubs, h)
		}
	}
	return hubs
}

// liveOf is the subject of live messages, in the epoch that this loop knows of.
func (s *shard) liveOf(src *source, key string) string {
	return liveSubject(src.live, s.epochs[src.index], key)
}

func (s *shard) add(f *Feed) error {
	h := s.hubs[s.liveOf(f.source, f.key)]
	if h == nil {
		h = &hub{source: f.source, subject: f.subject, key: f.key, part: f.part, stateSubject: f.stateSubject}
		if err := s.listen(h); err != nil {
			return err
		}
		h.element = s.ring.PushBack(h)
		if h.part != nil {
			s.bus.stats.Followed.Add(1)
		}
		// In a cluster the interest takes a while to reach the stream's
		// leader. What is stored meanwhile is found by the tail check.
		s.checkSoon(h)
	}
	// What others have had already must not be missing in what a replica that
	// lags gives to this one.
	f.target = h.last
	f.hub = h
	h.feeds = append(h.feeds, f)
	h.source.feeds.Add(1)
	return nil
}

// listen subscribes to what is stored, and in an inbox to its read states.
func (s *shard) listen(h *hub) (err error) {
	live := s.liveOf(h.source, h.key)
	if h.sub, err = s.bus.live.ChanSubscribe(live, s.live); err != nil {
		return err
	}
	if h.part == nil {
		s.hubs[live] = h
		return nil
	}
	state := s.liveStateOf(h.part, h.key)
	if h.stateSub, err = s.bus.live.ChanSubscribe(state, s.live); err != nil {
		h.sub.Unsubscribe() // as in detach
		return err
	}
	s.hubs[live], s.states[state] = h, h
	return nil
}

func (s *shard) detach(f *Feed) {
	h := f.hub
	if h == nil {
		return
	}
	f.hub = nil
	h.source.feeds.Add(-1)
	h.feeds = slices.DeleteFunc(h.feeds, func(other *Feed) bool { return other == f })
	if len(h.feeds) > 0 {
		return
	}
	h.sub.Unsubscribe() // fails only when the connection is closed, and then there is nothing to end
	s.ring.Remove(h.element)
	delete(s.hubs, s.liveOf(h.source, h.key))
	if h.part != nil {
		h.stateSub.Unsubscribe()
		delete(s.states, s.liveStateOf(h.part, h.key))
		s.bus.stats.Followed.Add(-1)
	}
}

func (s *shard) arrived(raw *nats.Msg) {
	h := s.hubs[raw.Subject]
	if h == nil {
		if h = s.states[raw.Subject]; h != nil {
			s.stateArrived(h, raw)
		}
		return // its last feed has just closed, or it is of another incarnation
	}
	src := h.source
	m, ok := liveMessage(raw, s.epochs[src.index])
	if !ok {
		s.bus.stats.Malformed.Add(1)
		return
	}
	if m.Cursor.Seq <= s.highest[src.index] {
		src.refresh() // a sequence that goes back may be another incarnation's
	} else {
		s.highest[src.index] = m.Cursor.Seq
		src.saw(m.Cursor.Seq)
	}
	h.last = max(h.last, m.Cursor.Seq)
	for _, f := range h.feeds {
		f.arrive(m)
	}
}

// renewed has the feeds that stand in another incarnation, or beyond the end
// of the stream, go on at the end of their inboxes.
func (s *shard) renewed(src *source, f facts) {
	hubs := s.hubsOf(src)
	if f.epoch != s.epochs[src.index] {
		s.move(src, f.epoch, hubs)
	}
	s.highest[src.index] = 0
	for _, h := range hubs {
		h.last = 0
		for _, feed := range h.feeds {
			at := feed.place()
			switch {
			case !feed.begun:
				feed.target = 0 // where it begins shows when it does
			case at.Epoch != f.epoch || at.Seq > f.last:
				feed.renew()
			default:
				feed.clear = min(feed.clear, f.last)
			}
		}
	}
}

// move has the hubs of a source listen to another incarnation of its stream.
// What is stored before the server knows of that is found by the tail check.
func (s *shard) move(src *source, to Epoch, hubs []*hub) {
	for _, h := range hubs {
		delete(s.hubs, s.liveOf(src, h.key))
		h.sub.Unsubscribe() // as in detach
	}
	s.epochs[src.index] = to
	for _, h := range hubs {
		live := s.liveOf(src, h.key)
		s.hubs[live] = h
		if sub, err := s.bus.live.ChanSubscribe(live, s.live); err == nil { // else the connection was closed for good
			h.sub = sub
		}
		s.checkSoon(h)
	}
}

// checkSoon has the tail of a hub checked in one to two seconds.
func (s *shard) checkSoon(h *hub) {
	if !h.checked {
		h.checked = true
		s.fresh = append(s.fresh, h)
	}
}

// tick checks the tails of the hubs whose turn it is.
func (s *shard) tick() {
	due := s.due
	s.due, s.fresh = s.fresh, nil
	every := s.bus.cfg.TailCheck
	for s.waited += time.Duration(s.ring.Len()) * time.Second; every > 0 && s.waited >= every; s.waited -= every {
		e := s.ring.Front()
		s.ring.MoveToBack(e)
		if h := e.Value.(*hub); !h.checked {
			h.checked = true
			due = append(due, h)
		}
	}
	s.check(due)
}

// checkAll checks every tail of a source now, for messages may have been
// missed, and once more soon: until the server knows of the subscriptions
// again, more may be.
func (s *shard) checkAll(src *source) {
	hubs := s.hubsOf(src)
	s.check(hubs)
	s.fresh = append(s.fresh, hubs...)
}

// check has the tails of some hubs read, and brings what was found to their
// feeds. What could not be read is tried again soon.
func (s *shard) check(hubs []*hub) {
	bySource := make(map[*source][]*hub)
	for _, h := range hubs {
		h.checked = true
		bySource[h.source] = append(bySource[h.source], h)
	}
	for src, hubs := range bySource {
		for len(hubs) > 0 {
			n := min(len(hubs), src.maxTails)
			s.checkTails(src, hubs[:n])
			hubs = hubs[n:]
		}
	}
}

func (s *shard) checkTails(src *source, hubs []*hub) {
	epoch, p := s.epochs[src.index], hubs[0].part
	var stateEpoch Epoch
	if p != nil {
		stateEpoch = s.stateEpochs[p.index]
	}
	src.reader.ask(func() {
		ctx, cancel := context.WithTimeout(s.bus.life, s.bus.cfg.Timeout)
		defer cancel()
		subjects, stateSubjects := make([]string, len(hubs)), make([]string, len(hubs))
		for i, h := range hubs {
			subjects[i], stateSubjects[i] = h.subject, h.stateSubject
		}
		last, upTo, err := src.tails(ctx, subjects, 0)
		if err == nil && upTo != 0 && upTo < src.seen.Load() {
			src.refresh() // a replica that lags, or another incarnation
		}
		var states map[string]stored
		if err == nil && p != nil {
			states, err = p.statesOf(ctx, stateSubjects)
		}
		s.post(func() {
			for _, h := range hubs {
				h.checked = false
				if len(h.feeds) == 0 {
					continue // nobody follows it any more
				}
				if err != nil || epoch != s.epochs[src.index] {
					s.checkSoon(h)
					continue
				}
				h.last = max(h.last, last[h.subject])
				for _, f := range h.feeds {
					f.tail(h.last, last[h.subject], upTo)
				}
				if p != nil && stateEpoch == s.stateEpochs[p.index] {
					m, found := states[h.stateSubject]
					s.checkedState(h, m, found)
				}
			}
		})
	})
}
