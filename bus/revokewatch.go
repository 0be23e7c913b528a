package bus

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How a watch looks. What is announced is read at once; the rest finds what was
// not heard.
const (
	// watchInterval is how often a watch asks whether it has seen everything,
	// or up to a quarter sooner, so that not all nodes ask at once.
	watchInterval = time.Second

	// watchPause is for how long, at most, it waits after an announcement: so
	// many nodes do not ask at the same moment, and many revocations cost one
	// question.
	watchPause = 50 * time.Millisecond

	// watchPatience is how long an answer may take before it asks again: less
	// than Config.Timeout, for an answer can get lost with a connection. It
	// doubles up to that while there is none.
	watchPatience = time.Second

	// toldWithin is what is promised: a revocation is told so soon.
	toldWithin = 2 * time.Second

	// clockSlack is how far our clock may be ahead of JetStream's.
	clockSlack = time.Minute

	watchBatch   = 256       // messages of one read
	watchBytes   = 256 << 10 // bytes of it
	restoreBatch = 128       // revocations that are stored again before it looks for new ones
	forgetEvery  = time.Minute
)

// watches are those that are running.
type watches struct {
	mu     sync.Mutex // protects the rest
	all    map[*watch]struct{}
	closed bool
}

// close lets no further watch begin. Those that run end with the bus.
func (w *watches) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// FollowRevocations tells sink every revocation that is stored, then those that
// come, each within 2 s of its storing as long as NATS is there. It may tell one
// again, and tells a repeated one, whose At is later, as another. Nobody takes a
// revocation back: the sink forgets it after Until.
//
// sink is called by one goroutine and must not block, or others come later. If
// the bucket is lost, what sink was told and is not over is stored again, with
// its At, for those who start later. stop waits until sink is not called any
// more, so it must not be called by sink; Close ends it too, and tells a bus that
// is closed of nothing.
//
// Those of other regions come by a copy of what is stored there, later by as much as that
// is behind, and not at all while it gets nothing.
//
// Each call has a watch of its own for each region, which costs JetStream about one small
// request a second, and this process the memory of what is revoked.
func (b *Bus) FollowRevocations(sink func(Revoked)) (stop func()) {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	if b.watches.closed {
		return func() {}
	}
	ctx, cancel := context.WithCancel(b.life)
	if b.watches.all == nil {
		b.watches.all = make(map[*watch]struct{})
	}
	var one sync.Mutex // sink is called by one of them at a time
	var all []*watch
	for _, r := range append([]Region{b.cfg.Region}, b.cfg.others()...) {
		w := newWatch(b, r, func(r Revoked) {
			one.Lock()
			defer one.Unlock()
			sink(r)
		})
		all = append(all, w)
		if w.own {
			b.watches.all[w] = struct{}{}
		}
		b.done.Go(func() { defer close(w.done); w.run(ctx) })
	}
	return func() {
		cancel()
		for _, w := range all {
			<-w.done
		}
		b.watches.mu.Lock()
		defer b.watches.mu.Unlock()
		for _, w := range all {
			delete(b.watches.all, w)
		}
	}
}

// RevocationsUnseen returns for how long this process has not been able to say
// that every revocation that is stored was told to its followers; 0 as long as
// the last time is within the 2 s that are promised, and the longest duration
// before the first, or if nobody follows. Who can't see revocations may let
// somebody in who is to stay out.
func (b *Bus) RevocationsUnseen() time.Duration {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	if len(b.watches.all) == 0 {
		return math.MaxInt64
	}
	longest := time.Duration(0)
	for w := range b.watches.all {
		longest = max(longest, w.unseen())
	}
	return longest
}

// AwaitRevocations returns when the followers have been told every revocation
// that was stored when they began, or with ctx's error.
func (b *Bus) AwaitRevocations(ctx context.Context) error {
	b.watches.mu.Lock()
	all := slices.Collect(maps.Keys(b.watches.all))
	b.watches.mu.Unlock()
	for _, w := range all {
		select {
		case <-w.first:
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// watch tells one sink of revocations.
//
// Nothing is created on the server for it, so nothing can end there unnoticed:
// it asks the leader where the bucket ends, and reads from where it stands. An
// announcement only has it ask sooner.
type watch struct {
	bus    *Bus
	sink   func(Revoked)
	own    bool // of this region; else of another
	bucket string
	stream string        // the bucket's, or the copy of it
	prefix string        // of the keys of revocations
	wake   chan struct{} // capacity 1: something was announced
	first  chan struct{} // closed when sink was told everything for the first time
	done   chan struct{} // closed when run has ended
	begun  time.Time     // of the count in proven

	// proven is when the leader was asked last of all the times that sink turned
	// out to have been told everything by then, in ns since begun; 0 before the first.
	proven atomic.Int64

	// Owned by run.
	created  time.Time           // when the incarnation of the bucket was created
	seen     uint64              // everything up to this sequence of it was told
	known    map[string]*known   // by key: what was told, until it is over
	lacking  map[string]struct{} // keys of what was told and is not in this incarnation, or only an older one
	gone     time.Time           // since when the bucket is not there; zero while it is
	forgot   time.Time           // when known was last looked through for what is over
	patience time.Duration       // with the next question
}

// known is a revocation that was told.
type known struct {
	Revoked
	seq uint64 // of the key's last message in this incarnation of the bucket; 0: it has none
}

func newWatch(b *Bus, of Region, sink func(Revoked)) *watch {
	bucket := b.cfg.revokedBucket(of)
	return &watch{
		bus: b, sink: sink, own: of == b.cfg.Region, bucket: bucket,
		stream: nameIn(bucketStream(bucket), of, b.cfg.Region), prefix: keySubject(bucket, keyRevoked) + ".",
		wake: make(chan struct{}, 1), first: make(chan struct{}), done: make(chan struct{}), begun: time.Now(),
		patience: min(watchPatience, b.cfg.Timeout),
		known:    make(map[string]*known), lacking: make(map[string]struct{}),
	}
}

func (w *watch) unseen() time.Duration {
	proven := w.proven.Load()
	if proven == 0 {
		return math.MaxInt64
	}
	if d := time.Since(w.begun) - time.Duration(proven); d > toldWithin {
		return d
	}
	return 0
}

func (w *watch) run(ctx context.Context) {
	sub, err := w.bus.live.Subscribe(subject(keyRevoked), func(*nats.Msg) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
	if err != nil { // the bus has no connection any more, and says so
		return
	}
	defer sub.Unsubscribe() // fails only without a connection

	what := whatStream(w.stream)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-w.wake:
			if !pause(ctx, rand.N(watchPause)) {
				return
			}
		}
		more, err := w.check(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.patience = min(2*w.patience, w.bus.cfg.Timeout)
			w.bus.health.lose(what, err)
		} else {
			w.patience = min(watchPatience, w.bus.cfg.Timeout)
			w.bus.health.find(what)
		}
		next := watchInterval - rand.N(watchInterval/4)
		if more {
			next = 0
		}
		t.Reset(next)
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// check tells what the bucket has and was not told, and stores again what it has
// lost. more is set if it has more of the latter to do.
func (w *watch) check(ctx context.Context) (more bool, err error) {
	asked := time.Since(w.begun)
	created, last, err := w.end(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return w.missing(ctx, err)
	}
	w.gone = time.Time{}
	if err != nil {
		return false, err
	}
	// One that ends before what was in it has lost its tail, or was restored.
	if !created.Equal(w.created) || last < w.seen {
		w.renewed(created)
	}
	for w.seen < last {
		if err := w.read(ctx, last); err != nil {
			return false, err
		}
	}
	if w.proven.Swap(int64(max(asked, 1))) == 0 {
		close(w.first)
	}
	w.forget()
	if w.own && len(w.lacking) > 0 {
		return w.restore(ctx)
	}
	return false, nil
}

// end asks the leader of which incarnation the bucket is, and where it ends.
func (w *watch) end(ctx context.Context) (created time.Time, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	return w.bus.streamEnd(ctx, w.stream)
}

// renewed begins anew with a bucket that is another one than before.
func (w *watch) renewed(created time.Time) {
	w.created, w.seen = created, 0
	for key, k := range w.known {
		k.seq = 0
		w.lacking[key] = struct{}{}
	}
}

// missing creates the bucket again if it is still not there after a while: NATS
// came back empty, or somebody deleted it.
func (w *watch) missing(ctx context.Context, err error) (more bool, _ error) {
	if w.gone.IsZero() {
		w.gone = time.Now()
	}
	if time.Since(w.gone) < retryInterval || !w.own {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.bus.cfg.Timeout)
	defer cancel()
	if refused := w.bus.streams(w.bus.reads).ensureBucket(ctx, w.bus.layout().revocations()); refused != nil {
		return false, refused
	}
	w.bus.log.Warn("bucket of revocations was gone and is created again", "stream", w.stream, "known", len(w.known))
	return true, err // until it is read
}

// read takes the next messages, up to the bucket's end. Any replica may answer;
// but whether nothing is left before the end only the leader can say, and of
// which incarnation a replica is shows in nothing but the age of its messages.
func (w *watch) read(ctx context.Context, last uint64) error {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	// With a narrower filter the server counts for each read what matches: 47 ms
	// among 100,000.
	const filter = ">"
	a, err := w.bus.direct(ctx, w.stream, directGet{Seq: w.seen + 1, NextFor: filter, Batch: watchBatch, MaxBytes: watchBytes})
	if err != nil {
		return unavailable("read stream "+w.stream, err)
	}
	if len(a.messages) > 0 && !w.isOld(a.messages[0]) {
		for _, m := range a.messages {
			w.take(m)
		}
		return nil
	}
	m, err := w.bus.getFromLeader(ctx, w.stream, leaderGet{Seq: w.seen + 1, NextFor: filter})
	switch {
	case err != nil:
		return err
	case m == nil:
		w.seen = last
	default:
		w.take(*m)
	}
	return nil
}

// isOld reports whether a message is older than the bucket.
func (w *watch) isOld(m stored) bool {
	at, err := time.Parse(time.RFC3339Nano, m.header.Get(headerTime))
	return err != nil || at.Before(w.created)
}

// take tells the sink of a message, unless it knows.
func (w *watch) take(m stored) {
	w.seen = m.seq
	if !strings.HasPrefix(m.subject, w.prefix) {
		return
	}
	k := w.known[m.subject]
	if k != nil {
		k.seq = m.seq
	}
	if isMarker(m) {
		return
	}
	r, err := readRevoked(w.bucket, m)
	if err != nil {
		w.bus.log.Warn("stored revocation is passed over", "stream", w.stream, "key", m.subject, "sequence", m.seq, "err", err)
		return
	}
	switch {
	case k != nil && r.At.Before(k.At):
		w.lacking[m.subject] = struct{}{}
		return
	case k != nil && r.At.Equal(k.At) && !r.Until.After(k.Until):
	default:
		w.known[m.subject] = &known{Revoked: r, seq: m.seq}
		w.sink(r)
	}
	delete(w.lacking, m.subject)
}

// forget drops what is over, now and then.
func (w *watch) forget() {
	if time.Since(w.forgot) < forgetEvery {
		return
	}
	w.forgot = time.Now()
	for key, k := range w.known {
		if time.Until(k.Until) < -clockSlack {
			delete(w.known, key)
			delete(w.lacking, key)
		}
	}
}

// restore stores again some of what the bucket has lost. All nodes do so at
// once, in an order of their own: whoever is first with a key stores it, and the
// others see that when they look next. more is set if it got on.
func (w *watch) restore(ctx context.Context) (more bool, err error) {
	type post struct {
		key string
		ack jetstream.PubAckFuture
	}
	var posts []post
	for key := range w.lacking {
		k := w.known[key]
		value, err := k.encode()
		if err != nil {
			return false, err
		}
		ack, err := w.bus.writes.PublishMsgAsync(&nats.Msg{Subject: key, Data: value},
			jetstream.WithMsgTTL(ttl(time.Until(k.Until)+clockSlack)),
			jetstream.WithExpectLastSequencePerSubject(k.seq))
		if err != nil {
			return false, unavailable("store a revocation again", err)
		}
		if posts = append(posts, post{key, ack}); len(posts) == restoreBatch {
			break
		}
	}
	// What is not answered in time is found out by looking, like what another
	// has stored: nobody waits longer for what is new.
	ctx, cancel := context.WithTimeout(ctx, watchPatience/2)
	defer cancel()
	for _, p := range posts {
		select {
		case ack := <-p.ack.Ok():
			w.known[p.key].seq = ack.Sequence
			delete(w.lacking, p.key)
			more = true
		case refused := <-p.ack.Err():
			if !isConflict(refused) {
				err = unavailable("store a revocation again", full(w.stream, refused))
			}
		case <-ctx.Done():
			err = unavailable("store a revocation again", ctx.Err())
		}
	}
	if more {
		w.bus.announce()
	}
	return more && len(w.lacking) > 0, err
}
