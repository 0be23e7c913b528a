package bus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/pealhq/peal"
)

// Headers of a stored message, beside those of JetStream: Nats-Msg-Id, and of
// a message that was stored in an atomic batch also Nats-Batch-Id,
// Nats-Batch-Sequence and on its last Nats-Batch-Commit, which the server
// keeps. They say nothing to a reader: how a message came is not part of it.
const (
	headerVersion = "Peal-V"    // of the message format
	headerType    = "Peal-Type" // the type of notification

	formatVersion = "1"
)

// Publication is a notification for the inboxes of some.
type Publication struct {
	To           []peal.Inbox
	Notification peal.Notification // has its defaults and is valid
}

// Published says what became of publications.
type Published struct {
	Stored     int // new in so many inboxes
	Duplicates int // so many had it already
}

// Publish stores each notification in each of its inboxes and returns when all of
// them are on disk. An inbox that holds a notification of that id already, since
// less than 10 minutes ago, is a duplicate, and so is an inbox named twice with
// one id: of several publications the first counts. Nobody is asked whether they
// want it: see Tell.
//
// The error is a peal.ErrUnavailable, after Config.Timeout at the latest and at
// once where it is known that nothing can be stored, or ctx's: some inboxes may
// have it then, and the same call is safe to repeat.
func (b *Bus) Publish(ctx context.Context, publications ...Publication) (Published, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	if err := b.writable(); err != nil {
		return Published{}, unavailable(publishing, err)
	}
	type copyOf struct {
		in peal.Inbox
		id string
	}
	named := 0
	seen := make(map[copyOf]bool)
	o := newOrder()
	for _, p := range publications {
		named += len(p.To)
		body := p.Notification.Encode()
		for _, in := range p.To {
			c := copyOf{in, p.Notification.ID}
			if seen[c] {
				continue
			}
			seen[c] = true
			part, pl := b.partition(in)
			o.add(part.publisher, part.message(ctx, in, pl, p.Notification, body))
		}
	}
	if err := b.store(ctx, o); err != nil {
		return Published{}, unavailable(publishing, err)
	}
	result := Published{Duplicates: named - len(seen)}
	for _, post := range o.posts {
		switch {
		case post.err != nil:
			return Published{}, unavailable(publishing, post.err)
		case post.duplicate:
			result.Duplicates++
		default:
			result.Stored++
		}
	}
	b.stats.Stored.Add(int64(result.Stored))
	b.stats.Duplicates.Add(int64(result.Duplicates))
	return result, nil
}

// store has an order stored, and returns when every post of it is answered. Before
// an error some of them may be: see answers.
func (b *Bus) store(ctx context.Context, o *order) error {
	if len(o.posts) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil { // it has come too late
		return err
	}
	tries, err := admit(o.by)
	if err != nil {
		return err
	}
	if tries {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tryPatience)
		defer cancel()
	}
	o.pending = len(o.posts)
	for p, batch := range o.by {
		p.enqueue(batch)
	}
	if err := b.await(ctx, o); err != nil {
		o.abandoned.Store(true)
		return err
	}
	return nil
}

// publishing is what an error of a publish was about.
const publishing = "publish notification"

// admit returns an error if publishing to one of the streams is in vain, and
// whether one of them is being tried. A turn to try is only taken when all of
// them let it through, or streams whose turns fall apart would never be tried.
func admit(posts map[*publisher][]*post) (try bool, err error) {
	for p := range posts {
		if p.stall.refuses() {
			return false, errStalled
		}
	}
	for p := range posts {
		tried, err := p.stall.admit()
		if err != nil {
			return false, err
		}
		try = try || tried
	}
	return try, nil
}

// writable returns why nothing can be stored, as far as it is known.
func (b *Bus) writable() error {
	if b.cfg.Server == nil {
		return nil
	}
	return b.cfg.Server.Writable()
}

// await waits until an order is answered. A JetStream whose disk is full never
// answers, so that is looked for meanwhile.
func (b *Bus) await(ctx context.Context, o *order) error {
	look := time.NewTicker(lookAtDisk)
	defer look.Stop()
	for {
		select {
		case <-o.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := b.writable(); err != nil {
				return err
			}
		}
	}
}

// lookAtDisk is how often who waits to have something stored asks whether that
// is possible at all.
const lookAtDisk = 250 * time.Millisecond

// message makes the stored form of a notification: its body is the data of the
// SSE event, byte for byte.
func (p *partition) message(ctx context.Context, in peal.Inbox, pl place, n peal.Notification, body []byte) *nats.Msg {
	m := &nats.Msg{
		Subject: pl.subject("inbox", p.home.region),
		Data:    body,
		Header: nats.Header{
			jetstream.MsgIDHeader: {notificationID(in, n.ID)},
			headerVersion:         {formatVersion},
			headerType:            {string(n.Type)},
		},
	}
	traced(ctx, m.Header)
	return m
}

// notificationID is the message id of a notification in an inbox.
func notificationID(in peal.Inbox, id string) string {
	return messageID(string(in.Tenant), string(in.Namespace), string(in.User), id)
}

// order is what one call has to store: posts that are answered together. It is
// made by newOrder and add, and then given to store, once.
type order struct {
	posts []*post                // all, as they were added
	by    map[*publisher][]*post // the same

	abandoned atomic.Bool // nobody waits for the answer any more

	mu      sync.Mutex // protects pending, and the answers of posts until done is closed
	pending int

	done chan struct{} // closed when pending is 0
}

func newOrder() *order {
	return &order{by: make(map[*publisher][]*post), done: make(chan struct{})}
}

// add adds a message to be stored by a publisher, in the order of its calls.
func (o *order) add(p *publisher, m *nats.Msg) {
	post := &post{order: o, msg: m}
	o.posts = append(o.posts, post)
	o.by[p] = append(o.by[p], post)
}

// answers returns what every post was answered by now, in the order of add. A post
// that was not has the error of store, err.
func (o *order) answers(err error) []answered {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]answered, len(o.posts))
	for i, p := range o.posts {
		all[i] = p.answered
		if !p.is {
			all[i].err = err
		}
	}
	return all
}

// post is one message of an order.
type post struct {
	order *order
	msg   *nats.Msg
	answered
}

// answered is what became of a post.
type answered struct {
	is        bool
	duplicate bool
	err       error
}

func (p *post) answer(duplicate bool, err error) {
	o := p.order
	o.mu.Lock()
	defer o.mu.Unlock()
	p.answered = answered{true, duplicate, err}
	if o.pending--; o.pending == 0 {
		close(o.done)
	}
}

const (
	maxGroup  = 1000     // messages of an atomic batch, the server's bound
	maxBytes  = 16 << 20 // of a group, which JetStream holds in memory; a notification has 16 kB at most, an update 256
	minBatch  = 8        // fewer go as single publishes: a batch costs about 2.2 ms on one replica, whatever its size
	maxSingly = 256      // of a refused batch so many go as single publishes: a known one costs next to nothing so
	maxQueued = 32768    // posts that wait for a group; more are refused
)

// publisher stores messages in one stream by groups that clock themselves: one
// group is under way, and what arrives meanwhile is the next. So a lone
// notification waits for nobody, and under load one fsync serves a thousand.
// With replicas several groups are under way, for a batch then waits for the
// network.
type publisher struct {
	bus    *Bus
	stream string
	wake   chan struct{} // capacity 1: queue is not empty, or closed is set
	under  chan struct{} // a token for each group under way
	stall  *stall

	mu     sync.Mutex // protects the rest
	queue  []*post
	closed bool
}

// newPublisher makes one that has so many groups under way at most. With several,
// what waits together may be stored in another order.
func newPublisher(b *Bus, stream string, groups int) *publisher {
	return &publisher{
		bus: b, stream: stream, stall: newStall(b, stream),
		wake: make(chan struct{}, 1), under: make(chan struct{}, groups),
	}
}

var errQueueFull = errors.New("too many notifications wait to be stored")

// enqueue hands over posts; each will be answered.
func (p *publisher) enqueue(posts []*post) {
	p.mu.Lock()
	var refused error
	switch {
	case p.closed:
		refused = errClosed
	case len(p.queue)+len(posts) > maxQueued:
		refused = errQueueFull
	default:
		p.queue = append(p.queue, posts...)
	}
	p.mu.Unlock()

	if refused != nil {
		fail(posts, refused)
		return
	}
	p.poke()
}

func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close refuses further posts and lets run end once the queue is empty.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.poke()
}

// run publishes groups until the publisher is closed, and returns when the
// last is answered.
func (p *publisher) run() {
	var groups sync.WaitGroup
	defer groups.Wait()
	for range p.wake {
		for {
			p.under <- struct{}{} // first the turn, then the group: it gathers while we wait
			group, closed := p.take()
			if len(group) == 0 {
				<-p.under
				if closed {
					return
				}
				break
			}
			groups.Go(func() {
				defer func() { <-p.under }()
				p.publish(group)
			})
		}
	}
}

// take removes the next group from the queue: no two of one message id, which
// would make the server refuse the batch, no more bytes than it may hold, and none
// that nobody waits for any more, or a backlog would be worked off in vain.
func (p *publisher) take() (group []*post, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make(map[string]bool)
	n, size := 0, 0
	for ; n < len(p.queue) && len(group) < maxGroup; n++ {
		post := p.queue[n]
		id := post.msg.Header.Get(jetstream.MsgIDHeader)
		if ids[id] || len(group) > 0 && size+len(post.msg.Data) > maxBytes {
			break
		}
		if post.order.abandoned.Load() {
			post.answer(false, context.Canceled)
			continue
		}
		ids[id] = true
		size += len(post.msg.Data)
		group = append(group, post)
	}
	p.queue = p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil // let go of what the group was cut from
	}
	return group, p.closed
}

// publish stores a group and answers its posts.
func (p *publisher) publish(group []*post) {
	if len(group) < minBatch {
		p.single(group)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.bus.cfg.Timeout)
	defer cancel()
	msgs := make([]*nats.Msg, len(group))
	for i, post := range group {
		msgs[i] = post.msg
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, p.bus.writes, msgs)
	p.stall.heard(err)

	var refused *jetstream.APIError
	if errors.As(err, &refused) && (refused.ErrorCode == duplicateInBatch || refused.ErrorCode == duplicateUnderWay) || tooLarge(err) {
		// One known id refuses the whole batch, and so does one that is too large: find it
		// by halves.
		for _, post := range group {
			clearBatch(post.msg)
		}
		if len(group) <= maxSingly {
			p.single(group)
			return
		}
		p.publish(group[:len(group)/2])
		p.publish(group[len(group)/2:])
		return
	}
	for _, post := range group {
		post.answer(false, err)
	}
}

// Error codes of nats-server.
const (
	duplicateInBatch  = 10201 // JSAtomicPublishContainsDuplicateMessageErr: an id of the batch is stored
	messageTooLarge   = 10054 // JSStreamMessageExceedsMaximumErr: over the stream's MaxMsgSize
	duplicateUnderWay = 10158 // JSStreamDuplicateMessageConflict: an id is being stored just now, by another
)

// tooLarge reports whether NATS or a stream takes no message that is as large as this
// was: it never will.
func tooLarge(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &refused) && refused.ErrorCode == messageTooLarge
}

func clearBatch(m *nats.Msg) {
	m.Reply = ""
	m.Header.Del(jetstreamext.BatchIDHeader)
	m.Header.Del(jetstreamext.BatchSeqHeader)
	m.Header.Del(jetstreamext.BatchCommitHeader)
}

// single publishes each post by itself, all of them at once.
func (p *publisher) single(group []*post) {
	acks := make([]jetstream.PubAckFuture, len(group))
	for i, post := range group {
		var err error
		if acks[i], err = p.bus.writes.PublishMsgAsync(post.msg); err != nil {
			post.answer(false, err)
		}
	}
	for i, post := range group {
		if acks[i] == nil {
			continue
		}
		select {
		case ack := <-acks[i].Ok():
			p.stall.heard(nil)
			post.answer(ack.Duplicate, nil)
		case err := <-acks[i].Err(): // within Config.Timeout
			p.stall.heard(err)
			post.answer(false, err)
		}
	}
}

func fail(posts []*post, err error) {
	for _, p := range posts {
		p.answer(false, err)
	}
}
