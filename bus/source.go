package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// source is a stream that feeds read, and what this process knows of it. What is said
// of an inbox, where feeds read, goes for the updates of a tenant's tickets as well.
type source struct {
	bus       *Bus
	index     int // among the sources of the bus
	stream    string
	all       string // the subjects that are read of it
	live      string // what they are republished to, up to the epoch
	witness   bool   // of a subject one more is kept than is shown
	here      bool   // this region is its home
	maxTails  int    // how many subjects one tail check names
	publisher *publisher
	reader    *reader
	gate      *gate

	wake  chan struct{} // capacity 1: the facts are to be read
	seen  atomic.Uint64 // the highest sequence that a feed of this process has met
	feeds atomic.Int64  // so many there are now

	look       atomic.Bool // what is beside the stream is to be looked at too, with the next inquiry
	catchingUp atomic.Bool // a catch-up is under way or about to be tried again

	// Set before start: looks at what is beside the stream; nil if nothing is.
	beside func(context.Context) error

	// Owned by run.
	gone    time.Time // since when the stream is not there; zero while it is
	told    bool      // that it is not to be created by us
	crowded bool      // the stream is at its bound of bytes

	mu    sync.Mutex // protects the rest; never held across a call to the bus
	facts facts      // the last that were seen
	next  *inquiry   // not asked yet; nil if nobody waits
	short time.Time  // since when the leader says that the stream ends before what it had; zero: it does not
}

// facts is what only the stream's leader can say.
type facts struct {
	epoch       Epoch
	lineage     lineage // before it
	partitions  string  // how many streams share the inboxes
	first, last uint64  // sequences of the stream; of an empty one, first is last+1
	replicas    int

	// copied: the home is away, and the copy here was asked. It has what is stored up
	// to has, and more may be, which is known for what is up to last.
	copied bool
	has    uint64

	perSubject int64 // how many messages of a subject are kept, with a witness
	witness    bool  // the oldest of so many is one, and not shown

	consumers       int           // of the stream
	deleted         int           // messages that were removed from between others
	bytes, maxBytes uint64        // of the stream; maxBytes 0: no bound
	maxAge          time.Duration // of a message; 0: no bound
}

// ends reports whether nothing is stored at a sequence yet, as far as that is known: a copy
// can't say it.
func (f facts) ends(seq uint64) bool { return seq > f.last && !f.copied }

// lacks reports whether a copy was asked that does not have a sequence, though the home
// may.
func (f facts) lacks(seq uint64) bool { return f.copied && seq > f.has }

// end is the cursor after which nothing is stored yet.
func (f facts) end() Cursor { return Cursor{Epoch: f.epoch, Seq: f.last, Elsewhere: true} }

var errClosed = errors.New("the bus is closed")

// newSource makes a source of a stream whose publisher has so many groups under way.
func newSource(b *Bus, stream string, groups int) *source {
	return &source{
		bus: b, stream: stream, wake: make(chan struct{}, 1), maxTails: maxTails,
		publisher: newPublisher(b, stream, groups), reader: newReader(b), gate: newGate(b.cfg.Timeout),
	}
}

// open reads the facts for the first time.
func (src *source) open(ctx context.Context) (err error) {
	src.facts, _, err = src.info(ctx, src.stream, "")
	return err
}

// start keeps the facts fresh, reads and publishes until the bus closes.
func (src *source) start() {
	src.bus.done.Go(src.run)
	src.reader.start()
	src.bus.done.Go(src.publisher.run)
}

// inquiry is one question to the leader, shared by all who wait for it.
type inquiry struct {
	done  chan struct{} // closed when facts and err are set
	facts facts
	err   error
}

// ask returns facts that the leader gave after ask was called. However many
// ask at once, one question is under way and at most one waits: those that
// come while a question is under way share the next.
func (src *source) ask(ctx context.Context) (facts, error) {
	src.mu.Lock()
	if src.next == nil {
		src.next = &inquiry{done: make(chan struct{})}
	}
	q := src.next
	src.mu.Unlock()
	src.refresh()

	select {
	case <-q.done:
		return q.facts, q.err
	case <-ctx.Done():
		return facts{}, ctx.Err()
	case <-src.bus.closing:
		return facts{}, unavailable("ask for stream "+src.stream, errClosed)
	}
}

// refresh has the facts read again, in a while and by another goroutine.
func (src *source) refresh() {
	select {
	case src.wake <- struct{}{}:
	default: // somebody has woken it already
	}
}

// refreshInterval is how often the epoch of a stream is read again, beside
// when a connection came back, a sequence went back, or somebody connects;
// retryInterval, when it could not be read.
const (
	refreshInterval = 10 * time.Second
	retryInterval   = time.Second
)

// run answers inquiries until the bus closes. In its turn, and after trouble,
// it also looks at what is beside the stream.
func (src *source) run() {
	t := time.NewTicker(refreshInterval)
	defer t.Stop()
	what := whatStream(src.stream)
	var looked time.Time
	for {
		select {
		case <-src.bus.closing:
			return
		case <-t.C:
		case <-src.wake:
		}
		if time.Since(looked) >= refreshInterval { // also where inquiries keep the ticker from its turn
			looked = time.Now()
			src.look.Store(true)
		}
		renewed, err := src.inquire()
		if look := src.look.Swap(false); err == nil && src.beside != nil && (look || renewed) {
			err = src.beside(src.bus.life)
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = src.missing(err)
		} else {
			src.gone, src.told = time.Time{}, false
		}
		if err != nil {
			src.bus.health.lose(what, err)
			src.look.Store(true)
			t.Reset(retryInterval)
		} else {
			src.bus.health.find(what)
			t.Reset(refreshInterval)
		}
	}
}

// missing creates the streams again if one of them is still not there after a
// while: NATS came back empty, or somebody deleted it. It returns an error
// until they are there and read.
func (src *source) missing(err error) error {
	if src.gone.IsZero() {
		src.gone = time.Now()
	}
	if time.Since(src.gone) < retryInterval || !src.here {
		return err
	}
	if refused := src.bus.restore(src.bus.life); refused != nil {
		if errors.Is(refused, ErrNotPermitted) && !src.told {
			src.told = true
			src.bus.log.Error("streams are gone", "stream", src.stream, "err", refused)
		}
		return refused
	}
	src.bus.log.Warn("streams were gone and are created again", "stream", src.stream)
	src.refresh()
	return err
}

// inquire asks the leader once, for all who wait by now. It reports whether the
// stream is another one than before.
func (src *source) inquire() (renewed bool, err error) {
	src.mu.Lock()
	q := src.next
	src.next = nil
	src.mu.Unlock()

	// Before the question: what is stored meanwhile may be newer than the answer.
	seen := src.seen.Load()
	f, _, err := src.info(src.bus.life, src.stream, "")
	if err == nil {
		src.mu.Lock()
		before := src.facts
		src.facts = f
		src.mu.Unlock()
		// A stream that ends before what was in it has lost its tail, or was
		// restored: its next messages have sequences that others had.
		renewed = f.epoch != before.epoch
		if f.partitions != before.partitions {
			src.bus.giveUp(fmt.Errorf("the inboxes of which stream %s has a part are spread over %s streams now, not over %s", src.stream, f.partitions, before.partitions))
		}
		src.tellLoss(before, f, max(seen, before.last))
		if renewed || f.last < max(seen, before.last) {
			src.seen.Store(f.last)
			src.bus.recents.clear()
			src.bus.renewed(src, f)
		}
		src.crowd(before, f)
	}
	if q != nil {
		q.facts, q.err = f, err
		close(q.done)
	}
	return renewed, err
}

// tellLoss says how much a stream has lost with its former epoch, as far as this process
// knows how far that had come: a backup, or a copy that has taken its place, has ended
// before.
func (src *source) tellLoss(before, now facts, had uint64) {
	if last, ok := now.lineage.common(before.epoch); ok && before.epoch != now.epoch && had > last {
		src.bus.log.Error("messages are lost that were stored", "stream", src.stream, "after", last, "up_to", had)
	}
}

// crowd says so when a stream is so full that it drops the oldest messages of
// everybody before their time, and when it is no more.
func (src *source) crowd(before, now facts) {
	full := now.maxBytes > 0 && now.bytes > now.maxBytes-now.maxBytes/20
	switch {
	case !src.crowded && full && now.epoch == before.epoch && now.first > before.first:
		src.crowded = true
		src.bus.log.Warn("stream is full: the oldest messages of everybody are dropped", "stream", src.stream, "max_bytes", now.maxBytes)
	case src.crowded && !full:
		src.crowded = false
		src.bus.log.Info("stream is not full any more", "stream", src.stream)
	}
}

// saw notes a sequence that the stream has had.
func (src *source) saw(seq uint64) {
	for {
		seen := src.seen.Load()
		if seq <= seen || src.seen.CompareAndSwap(seen, seq) {
			return
		}
	}
}

// known returns the facts that were last seen.
func (src *source) known() facts {
	src.mu.Lock()
	defer src.mu.Unlock()
	return src.facts
}

// info asks the leader of a stream, and nobody else: an info request is never
// answered by a replica. It also says how many messages there are of a
// subject, if one is named.
func (src *source) info(ctx context.Context, stream, subject string) (f facts, count uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, src.bus.cfg.Timeout)
	defer cancel()
	// Before the question: what is stored meanwhile may be newer than the answer.
	known := src.known()
	had := max(src.seen.Load(), known.last)
	f, err = led(ctx, src.bus, stream, func(ctx context.Context, name string) (facts, error) {
		f, n, err := src.infoOf(ctx, name, subject)
		count, f.copied = n, name != src.bus.originOf(stream)
		return f, err
	})
	if err != nil {
		return facts{}, 0, err
	}
	if stream == src.stream {
		if f.copied && f.epoch == known.epoch {
			f.last = max(f.last, had)
		}
		if err := src.doubt(f, had, time.Now()); err != nil {
			return facts{}, 0, unavailable("ask for stream "+stream, err)
		}
	}
	return f, count, nil
}

// infoOf asks the leader of a stream by its very name.
func (src *source) infoOf(ctx context.Context, stream, subject string) (f facts, count uint64, err error) {
	doing := "ask for stream " + stream
	request, err := json.Marshal(map[string]string{"subjects_filter": subject})
	if err != nil {
		return facts{}, 0, err
	}
	msg, err := src.bus.read.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, request)
	if err != nil {
		return facts{}, 0, unavailable(doing, err)
	}
	var answer struct {
		Error   *jetstream.APIError    `json:"error"`
		Config  jetstream.StreamConfig `json:"config"`
		State   jetstream.StreamState  `json:"state"`
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return facts{}, 0, unavailable(doing, err)
	}
	if answer.Error != nil {
		return facts{}, 0, unavailable(doing, answer.Error)
	}
	if !leads(answer.Cluster) {
		return facts{}, 0, unavailable(doing, errDeposed)
	}
	f = facts{
		epoch:      Epoch(answer.Config.Metadata[metaEpoch]),
		lineage:    parseLineage(answer.Config.Metadata[metaLineage]),
		partitions: answer.Config.Metadata[metaPartitions],
		first:      answer.State.FirstSeq,
		last:       answer.State.LastSeq,
		replicas:   answer.Config.Replicas,
		perSubject: answer.Config.MaxMsgsPerSubject,
		witness:    src.witness,
		consumers:  answer.State.Consumers,
		deleted:    answer.State.NumDeleted,
		bytes:      answer.State.Bytes,
		maxBytes:   uint64(max(answer.Config.MaxBytes, 0)),
		maxAge:     answer.Config.MaxAge,
	}
	if f.epoch == "" {
		return facts{}, 0, unavailable(doing, fmt.Errorf("no %s in its metadata", metaEpoch))
	}
	if f.first == 0 { // a stream that never held a message
		f.first = f.last + 1
	}
	f.has = f.last
	return f, answer.State.Subjects[subject], nil
}

// certainAfter is for how long a leader has to say that a stream of several replicas
// ends before what it had, until that is believed. One that was cut off and is back
// takes the late answers of the others for fresh ones, until it hears in the same
// moment, or with the next sign of life, that another leads: see leads.
const certainAfter = 3 * time.Second

var errShort = errors.New("its leader says that it ends before what it had: asked again, for it may be none any more")

// doubt returns an error as long as facts are not to be believed though their leader
// seems to lead: they say that the stream has lost what it had.
func (src *source) doubt(f facts, had uint64, now time.Time) error {
	src.mu.Lock()
	defer src.mu.Unlock()
	if f.replicas < 2 || f.epoch != src.facts.epoch || f.last >= had {
		src.short = time.Time{}
		return nil
	}
	if src.short.IsZero() {
		src.short = now
	}
	if now.Sub(src.short) < certainAfter {
		return errShort
	}
	return nil
}
