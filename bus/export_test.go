package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// What the tests, which are in package bus_test, must see of the inside.

const (
	MaxAside        = maxAside
	MaxQueued       = maxQueued
	RefreshInterval = refreshInterval
)

var (
	Escape    = escape
	Unescape  = unescape
	TokenForm = tokenForm
	MessageID = messageID
	WithEpoch = withEpoch
)

// Layout returns the configuration of a region's streams and buckets.
func Layout(r Region, partitions int) ([]jetstream.StreamConfig, []jetstream.KeyValueConfig) {
	l := Config{Replicas: 1, Region: r, Partitions: partitions}.withDefaults().layout()
	return l.streams(), l.buckets()
}

// Locate returns the partition of an inbox, and its subject of a kind.
func Locate(in peal.Inbox, partitions int, kind string, r Region) (int, string) {
	pl := locate(in, partitions)
	return pl.partition, pl.subject(kind, r)
}

// Ensure creates what is missing of the streams of b.
func (b *Bus) Ensure(ctx context.Context) error {
	_, err := b.streams(b.reads).ensure(ctx, b.cfg)
	return err
}

func (b *Bus) JetStream() jetstream.JetStream { return b.reads }

// Config returns the configuration of b, for another on the same server.
func (b *Bus) Config() Config { return b.cfg }

func (b *Bus) Partitions() int { return len(b.partitions) }

// Epoch returns the epoch of the stream of an inbox, as far as b knows.
func (b *Bus) Epoch(in peal.Inbox) Epoch {
	p, _ := b.partition(in)
	return p.known().epoch
}

// StreamOf returns the stream of an inbox, and its subject in it.
func (b *Bus) StreamOf(in peal.Inbox) (stream, subject string) {
	p, pl := b.partition(in)
	return p.stream, pl.subject("inbox", b.cfg.Region)
}

// Refresh has the facts of all streams read again.
func (b *Bus) Refresh() {
	for _, src := range b.sources {
		src.refresh()
	}
}

// Look has each partition looked at as if its turn had come, the read state too.
func (b *Bus) Look() {
	for _, p := range b.partitions {
		p.look.Store(true)
		p.refresh()
	}
}

// ReadSubscriptions is how many subscriptions the connection for reads has.
func (b *Bus) ReadSubscriptions() int { return b.read.NumSubscriptions() }

// within runs a task in the loop that handles an inbox, and waits for it.
func (b *Bus) within(in peal.Inbox, task func(s *shard, h *hub)) {
	p, pl := b.partition(in)
	b.withinHub(p.source, pl.key(), task)
}

// withinTickets runs a task in the loop that handles the tickets of a tenant.
func (b *Bus) withinTickets(t peal.Tenant, task func(s *shard, h *hub)) {
	b.withinHub(b.homeOf(t).tickets, string(t), task)
}

func (b *Bus) withinHub(src *source, key string, task func(s *shard, h *hub)) {
	s := b.shardOf(key)
	done := make(chan struct{})
	s.post(func() { defer close(done); task(s, s.hubs[s.liveOf(src, key)]) })
	select {
	case <-done:
	case <-b.closing:
	}
}

// Deafen has what is published to a followed inbox not reach b any more.
func (b *Bus) Deafen(in peal.Inbox) {
	b.within(in, func(_ *shard, h *hub) {
		if h != nil {
			h.sub.Unsubscribe()
		}
	})
	b.live.Flush()
}

// Hear ends Deafen and DeafenState.
func (b *Bus) Hear(in peal.Inbox) {
	b.within(in, func(s *shard, h *hub) {
		if h == nil {
			return
		}
		for _, sub := range []**nats.Subscription{&h.sub, &h.stateSub} {
			if (*sub).IsValid() {
				continue
			}
			if again, err := b.live.ChanSubscribe((*sub).Subject, s.live); err == nil {
				*sub = again
			}
		}
	})
	b.live.Flush()
}

// Heard returns when the loop of an inbox has handled what was sent to b before.
func (b *Bus) Heard(in peal.Inbox) {
	b.live.Flush()
	for waits := true; waits; {
		b.within(in, func(s *shard, _ *hub) { waits = len(s.live) > 0 })
	}
}

// Tick lets a second pass for the tail checks of the loop of an inbox.
func (b *Bus) Tick(in peal.Inbox) { b.within(in, func(s *shard, _ *hub) { s.tick() }) }

// Checked reports whether the tail of an inbox is checked or about to be.
func (b *Bus) Checked(in peal.Inbox) (checked bool) {
	b.within(in, func(_ *shard, h *hub) { checked = h.checked })
	return checked
}

// ReportSlowConsumer does what the NATS client does when it had to drop
// messages of an inbox.
func (b *Bus) ReportSlowConsumer(in peal.Inbox) {
	b.async("live", &nats.Subscription{Subject: b.LiveSubject(in)}, nats.ErrSlowConsumer)
}

// Aside returns what the only feed of an inbox keeps aside.
func (b *Bus) Aside(in peal.Inbox) (n int, overflow bool) {
	b.within(in, func(_ *shard, h *hub) { n, overflow = len(h.feeds[0].aside), h.feeds[0].overflow })
	return n, overflow
}

// Target has the feeds of an inbox know of a message, as the tail check does.
func (b *Bus) Target(in peal.Inbox, seq uint64) {
	b.within(in, func(_ *shard, h *hub) {
		for _, f := range h.feeds {
			f.tail(seq, seq, 0)
		}
	})
}

// Live reports whether the only feed of an inbox has all that it knows of.
func (b *Bus) Live(in peal.Inbox) (yes bool) {
	b.within(in, func(_ *shard, h *hub) { yes = h.feeds[0].phase == live })
	return yes
}

// Renewed has the feeds of an inbox hear that its stream ends at a sequence.
func (b *Bus) Renewed(in peal.Inbox, last uint64) {
	p, _ := b.partition(in)
	f := p.known()
	f.last = last
	b.within(in, func(s *shard, _ *hub) { s.renewed(p.source, f) })
}

// LiveSubject is where the live messages of an inbox go, as far as b knows.
func (b *Bus) LiveSubject(in peal.Inbox) string {
	p, pl := b.partition(in)
	return liveSubject(p.live, p.known().epoch, pl.key())
}

// Arrive gives a followed inbox a live message, as the NATS client does.
func (b *Bus) Arrive(in peal.Inbox, header nats.Header, data []byte) {
	subject := b.LiveSubject(in)
	b.within(in, func(s *shard, _ *hub) { s.arrived(&nats.Msg{Subject: subject, Header: header, Data: data}) })
}

// Fill asks the leader for what follows in an inbox, target being known to
// have been stored.
func (b *Bus) Fill(ctx context.Context, in peal.Inbox, after Cursor, target uint64) (*Gap, []*Message, error) {
	p, pl := b.partition(in)
	r, err := p.fill(ctx, pl.subject("inbox", b.cfg.Region), origin{Cursor: after}, target)
	return r.gap, r.messages, err
}

// Direct sends a Direct Get to a stream, and returns the sequences it gets.
func (b *Bus) Direct(ctx context.Context, stream string) (seqs []uint64, pending uint64, err error) {
	src := &source{bus: b, stream: stream}
	a, err := src.direct(ctx, directGet{Seq: 1, NextFor: ">", Batch: 64})
	for _, m := range a.messages {
		seqs = append(seqs, m.seq)
	}
	return seqs, a.pending, err
}

// Queued is how many notifications wait to be stored.
func (b *Bus) Queued() (n int) {
	for _, p := range b.partitions {
		p.publisher.mu.Lock()
		n += len(p.publisher.queue)
		p.publisher.mu.Unlock()
	}
	return n
}

// CatchUp does what a reconnect does; CheckTails only the second half of it.
func (b *Bus) CatchUp() { b.catchUp() }

func (b *Bus) CheckTails() {
	for _, src := range b.sources {
		src.checkAll()
	}
}

// Silence has the streams count as silent, each tried last some time ago.
func (b *Bus) Silence(ago ...time.Duration) {
	for i, p := range b.partitions {
		s := p.publisher.stall
		s.tried.Store(int64(time.Since(s.since) - ago[i]))
		s.silent.Store(true)
	}
}

const (
	ToldWithin   = toldWithin
	RestoreBatch = restoreBatch
)

// RevokedKey is the subject of a revocation in its bucket.
func RevokedKey(r peal.Revocation) string { return revokedKey(revokedPrefix, r) }

// OnceKey is the subject of an id in the bucket of revocations.
func OnceKey(id ...string) string { return keySubject(revokedPrefix, keyOnce, hashed(id...)) }

// RevocationValue is the stored form of a revocation.
func RevocationValue(r peal.Revocation, keep time.Duration) ([]byte, error) {
	return revocationValue(r, keep)
}

// ReadRevocationsFromLeader tells sink what the bucket of revocations has up to
// a sequence, while every replica answers with messages of an older bucket.
func (b *Bus) ReadRevocationsFromLeader(ctx context.Context, last uint64, sink func(Revoked)) error {
	w := newWatch(b, b.cfg.Region, sink)
	w.created = time.Now().Add(time.Hour)
	for w.seen < last {
		if err := w.read(ctx, last); err != nil {
			return err
		}
	}
	return nil
}

// StateOf returns the stream of the read state of an inbox, and its subject in it.
func (b *Bus) StateOf(in peal.Inbox) (stream, subject string) {
	p, pl := b.partition(in)
	return p.stateStream, pl.subject("state", b.cfg.Region)
}

// Unread returns what a feed that starts at a cursor tells of the read state.
func (b *Bus) Unread(ctx context.Context, in peal.Inbox, upTo Cursor) (unread uint64, version Cursor, err error) {
	p, pl := b.partition(in)
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	s, err := p.stateOf(ctx, pl.subject("state", b.cfg.Region))
	if err != nil {
		return 0, Cursor{}, err
	}
	c, err := p.census(ctx, pl.subject("inbox", b.cfg.Region), upTo, s.state)
	return c.unread, s.version, err
}

// DeafenState has what is written of the read state of a followed inbox not reach
// b any more.
func (b *Bus) DeafenState(in peal.Inbox) {
	b.within(in, func(_ *shard, h *hub) {
		if h != nil {
			h.stateSub.Unsubscribe()
		}
	})
	b.live.Flush()
}

// Forget has nothing of an inbox kept in memory.
func (b *Bus) Forget(in peal.Inbox) {
	_, pl := b.partition(in)
	b.recents.drop(pl.key())
}

// ErrStalled is how a publish is refused at once.
var ErrStalled = errStalled

// ForgetWishes has what is stored read anew.
func (b *Bus) ForgetWishes() {
	for _, h := range b.homes {
		h.wishes.users = newMemory[peal.Inbox, peal.Preferences]()
		h.wishes.tenants = newMemory[peal.Tenant, peal.TenantPreferences]()
	}
}

// ArriveState gives a followed inbox a read state, as the NATS client does.
func (b *Bus) ArriveState(in peal.Inbox, header nats.Header, data []byte) {
	b.within(in, func(s *shard, h *hub) { s.stateArrived(h, &nats.Msg{Header: header, Data: data}) })
}

// Waiting reports whether the only feed of an inbox is about to look at its number
// for something that was delivered.
func (b *Bus) Waiting(in peal.Inbox) (waits bool) {
	b.within(in, func(_ *shard, h *hub) { waits = h.feeds[0].waiting })
	return waits
}

// Idle reports whether each feed of an inbox is live, and knows the number of what
// is unread.
func (b *Bus) Idle(in peal.Inbox) (idle bool) {
	idle = true
	b.within(in, func(_ *shard, h *hub) {
		if h == nil {
			return
		}
		for _, f := range h.feeds {
			idle = idle && f.phase == live && !f.stale && !f.counting && !f.waiting
		}
	})
	return idle
}

// Remembered is how many bytes are taken to be kept of inboxes that were read.
func (b *Bus) Remembered() int {
	b.recents.mu.Lock()
	defer b.recents.mu.Unlock()
	return b.recents.size
}

// EncodeUpdate is the stored form of a ticket update.
func EncodeUpdate(u peal.TicketUpdate, sees, lost []peal.Inbox) []byte {
	return encodeUpdate(u, audienceOf(sees), audienceOf(lost))
}

// DeafenTickets has what is published of a tenant's tickets not reach b any more.
func (b *Bus) DeafenTickets(t peal.Tenant) {
	b.withinTickets(t, func(_ *shard, h *hub) { h.sub.Unsubscribe() })
	b.live.Flush()
}

// HearTickets ends DeafenTickets.
func (b *Bus) HearTickets(t peal.Tenant) {
	b.withinTickets(t, func(s *shard, h *hub) {
		if again, err := b.live.ChanSubscribe(h.sub.Subject, s.live); err == nil {
			h.sub = again
		}
	})
	b.live.Flush()
}

// SettleTickets lets two seconds pass for the tail checks of a tenant's tickets, and
// reports whether none is under way.
func (b *Bus) SettleTickets(t peal.Tenant) (idle bool) {
	b.withinTickets(t, func(s *shard, h *hub) {
		s.tick()
		idle = !h.checked && h.feeds[0].phase == live
	})
	return idle
}

// ReportSlowTickets does what the NATS client does when it had to drop updates of a
// tenant's tickets.
func (b *Bus) ReportSlowTickets(t peal.Tenant) {
	src := b.homeOf(t).tickets
	subject := liveSubject(src.live, src.known().epoch, string(t))
	b.async("live", &nats.Subscription{Subject: subject}, nats.ErrSlowConsumer)
}

// Purged has b hear of a purge, and returns when its feeds have.
func (b *Bus) Purged(tokens string) {
	b.purged(tokens)
	for _, s := range b.shards {
		done := make(chan struct{})
		s.post(func() { close(done) })
		<-done
	}
}

// ReadTickets reads what is stored of a tenant's tickets from a sequence on, so many
// times, by as many readers as a source has.
func (b *Bus) ReadTickets(ctx context.Context, t peal.Tenant, seq uint64, times int) error {
	var work sync.WaitGroup
	errs := make(chan error, readers)
	for r := range readers {
		work.Go(func() {
			for i := r; i < times; i += readers {
				if _, _, err := b.homeOf(t).tickets.fetch(ctx, ticketSubject(b.cfg.Region, t), Cursor{Seq: seq}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// LookAtQueue looks at the queue of events once, and takes what is left behind for
// that at once.
func (b *Bus) LookAtQueue(ctx context.Context) error {
	_, done, err := b.lookAtQueue(ctx, queue(b.cfg.Region))
	for partition, upTo := range done {
		if err == nil {
			err = b.workAgain(ctx, queue(b.cfg.Region), partition, upTo, 0)
		}
	}
	return err
}

// WorkAgain takes what is stored up to a sequence for left behind.
func (b *Bus) WorkAgain(ctx context.Context, partition int, done uint64) error {
	return b.workAgain(ctx, queue(b.cfg.Region), partition, done, 0)
}

// HurrySlots has all slots renewed soon.
func (b *Bus) HurrySlots() { b.slots.hurry() }

// FlushLive waits until the server has taken what was said on the connection for what
// is live.
func (b *Bus) FlushLive() error { return b.live.Flush() }

// CutLive ends that connection, as the end of the process would.
func (b *Bus) CutLive() { b.live.Close() }

// ForgetSurvey has the next survey ask again at once.
func (b *Bus) ForgetSurvey() {
	b.surveys.mu.Lock()
	defer b.surveys.mu.Unlock()
	b.surveys.began = time.Time{}
}

// PurgedIn returns for each stream that notes of purges name, whether all of them that
// are the last of their place name it as it is.
func (s *Streams) PurgedIn(ctx context.Context) (map[string]bool, error) {
	notes, err := s.notes(ctx, s.cfg.layout())
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for place, last := range notes {
		found, err := s.find(ctx, place.stream)
		if err != nil {
			return nil, err
		}
		before, known := all[place.stream]
		all[place.stream] = (before || !known) && last.in(found.CachedInfo()) == last.UpTo
	}
	return all, nil
}

// AskReplicas asks any replica of a stream for what is stored.
func (b *Bus) AskReplicas(ctx context.Context, stream string) error {
	_, err := b.directBy(ctx, b.read, stream, directGet{Seq: 1, NextFor: "x", Batch: 1})
	return err
}

// WriteUsed writes down that a durable is in use, whoever holds it.
func (d *Durable) WriteUsed(ctx context.Context) error {
	return d.bus.annotate(ctx, d.bookmark, map[string]string{metaUsed: stampMoment(time.Now())})
}

// LeaveUnsettled makes a durable as a process does that dies before it settles it, some
// time ago.
func (b *Bus) LeaveUnsettled(ctx context.Context, in peal.Inbox, of Followed, name string, slot int, ago time.Duration) error {
	k, err := b.keep(ctx, in, of, name, slot, Cursor{})
	if err != nil {
		return err
	}
	return b.annotate(ctx, k, map[string]string{metaCreated: stampMoment(time.Now().Add(-ago))})
}

// Unsettled counts those of a user.
func (b *Bus) Unsettled(ctx context.Context, in peal.Inbox) (int, error) {
	r, err := b.rack(ctx, in)
	return len(r.all()) - len(r.settled()), err
}

// ClaimDurable claims a durable, and leaves it at that.
func (b *Bus) ClaimDurable(ctx context.Context, in peal.Inbox, of Followed, name string, lost func()) error {
	_, err := b.claimDurable(ctx, in, of, name, lost)
	return err
}

// OccupyKeeper has no work on durables done until release is called.
func (b *Bus) OccupyKeeper() (release func()) {
	free := make(chan struct{})
	for range readers {
		b.keeper.ask(func() { <-free })
	}
	return sync.OnceFunc(func() { close(free) })
}

// ErrSlotsLost is what TakeSlot fails with while slots may be somebody's.
var ErrSlotsLost = errSlotsLost

// HoldSlots has b neither renew nor free slots until resume is called, once or more often.
func (b *Bus) HoldSlots() (resume func()) {
	b.slots.mu.Lock()
	return sync.OnceFunc(b.slots.mu.Unlock)
}

// Homed lists the streams of a home, and what is stored in each.
func Homed(r Region, partitions int) map[string]string {
	all := make(map[string]string)
	for _, k := range (layout{region: r, partitions: partitions}).stored() {
		all[k.stream] = k.subjects
	}
	return all
}
