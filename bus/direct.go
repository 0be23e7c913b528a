package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// directGet is a request for stored messages that any replica answers: the
// batch and multi_last forms of Direct Get.
type directGet struct {
	Seq      uint64   `json:"seq,omitempty"` // the first to look at
	NextFor  string   `json:"next_by_subj,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	MaxBytes int      `json:"max_bytes,omitempty"`
	LastFor  []string `json:"multi_last,omitempty"`
	UpTo     uint64   `json:"up_to_seq,omitempty"` // with LastFor: as if the stream ended there
}

// answer is what a replica has found.
type answer struct {
	messages []stored
	pending  uint64 // so many match beyond the last one
	upTo     uint64 // of multi_last: the replica has everything up to this sequence; 0 if it does not say
}

// stored is a message of the answer.
type stored struct {
	subject string
	seq     uint64
	data    []byte
	header  nats.Header // with headerTime
}

// The statuses that end an answer.
const (
	statusEnd  = "204"
	statusNone = "404"

	statusNobody = "503" // listens: there is no such stream, or none that may be read so
)

// direct asks for stored messages of the stream.
func (src *source) direct(ctx context.Context, req directGet) (answer, error) {
	return src.bus.direct(ctx, src.stream, req)
}

// direct asks for stored messages of a stream, by the connection for what is
// read.
func (b *Bus) direct(ctx context.Context, stream string, req directGet) (answer, error) {
	return b.directBy(ctx, b.read, stream, req)
}

const (
	// beginPatience is within how much time a replica has to begin its answer,
	// before the same is asked again. It doubles with each time. The server gives
	// each request to any replica, also to one that hangs, until its cluster gives
	// that up after a minute or two.
	beginPatience = 250 * time.Millisecond

	// A replica that was silent, while another answered, counts as hung for
	// hungFor. A third of all reads meet it, and an inbox takes nine to be followed:
	// they wait for hungPatience only.
	hungFor      = 10 * time.Second
	hungPatience = 25 * time.Millisecond

	// goOnPatience is for how long one may be silent in the middle of its answer.
	goOnPatience = time.Second
)

// hung knows whether a replica hangs, of whichever stream: it is servers that do.
//
// And it bounds how often the same is asked again. Where servers are not hung but have
// more to do than they can, each is late, and who asks all of them again, five times in
// a second, has made it five times as much: after a restart of all nodes a cluster was
// so busy with questions that nobody waited for any more that it never recovered. So
// what may be asked again is earned by answers. With one of three servers hung that
// takes half a question for each answer.
type hung struct {
	since time.Time    // of the count in until
	until atomic.Int64 // in ns since then
	spent atomic.Int64 // parts of what may be asked again that are spent; 0: all is there
}

const (
	askAgain  = 4             // parts that asking again costs
	perAnswer = 3             // parts that an answer earns
	mostParts = 64 * askAgain // that there are
)

// earn notes an answer.
func (h *hung) earn() { h.giveBack(perAnswer) }

func (h *hung) giveBack(parts int64) {
	if h.spent.Add(-parts) < 0 {
		h.spent.Store(0)
	}
}

// spend reports whether something may be asked again, which it is then.
func (h *hung) spend() bool {
	if h.spent.Add(askAgain) <= mostParts {
		return true
	}
	h.spent.Add(-askAgain)
	return false
}

// seen notes that one hangs.
func (h *hung) seen() { h.until.Store(int64(time.Since(h.since) + hungFor)) }

// sawHung notes that a replica hangs. A server that is alone is merely slow, and
// would be the slower for being asked more often.
func (b *Bus) sawHung() {
	if slices.ContainsFunc(b.partitions, func(p *partition) bool { return p.known().replicas > 1 }) {
		b.hung.seen()
	}
}

// lately reports whether one did of late.
func (h *hung) lately() bool { return int64(time.Since(h.since)) < h.until.Load() }

// patience is for how long to wait for the first that is asked.
func (h *hung) patience() time.Duration {
	if h.lately() {
		return hungPatience
	}
	return beginPatience
}

// errReplicasSilent is beside the end of the time where no replica has answered.
// It says nothing of the leader.
var errReplicasSilent = errors.New("no replica has answered")

// directBy asks for stored messages of a stream, again and again if nobody
// answers. What is whole first is the answer, so one that is slow is no worse off
// than if it were waited for. When the time is up, or a batch stops in its middle,
// it returns what has come, if anything has.
//
// The subscription is made here, not by jetstreamext, which leaves it behind
// when there is no connection, and receives each answer twice beside a
// connection's own replies.
func (b *Bus) directBy(ctx context.Context, nc *nats.Conn, stream string, req directGet) (answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	stream = b.nearest(stream)
	inbox := nc.NewInbox()
	q := question{
		messages: make(chan *nats.Msg, atOnce*(max(req.Batch, len(req.LastFor))+1)),
		closed:   make(chan struct{}, 1), answers: make(map[string]*answer),
	}
	sub, err := nc.ChanSubscribe(inbox+".*", q.messages)
	if err != nil {
		return answer{}, err
	}
	defer sub.Unsubscribe() // fails only without a connection, and then it is gone from this side
	sub.SetClosedHandler(func(string) {
		select {
		case q.closed <- struct{}{}:
		default:
		}
	})
	ask := func() error {
		reply := inbox + "." + strconv.Itoa(len(q.answers))
		q.answers[reply] = new(answer)
		return nc.PublishRequest("$JS.API.DIRECT.GET."+stream, reply, body)
	}
	if err := ask(); err != nil {
		return answer{}, err
	}
	first := q.answers[inbox+".0"]
	for patience := b.hung.patience(); ; {
		before := q.heard
		a, err := q.listen(ctx, patience)
		if err == nil {
			b.hung.earn()
			if a != first {
				b.sawHung()
			}
			return *a, nil
		}
		stopped := q.heard == before
		switch {
		case !errors.Is(err, context.DeadlineExceeded):
			return answer{}, err
		case ctx.Err() != nil, stopped && q.heard > 0 && len(req.LastFor) == 0:
			return q.best(err)
		case !stopped:
			patience = max(patience, goOnPatience)
		default:
			patience *= 2
			if !b.hung.spend() {
				continue // it is waited for
			}
			if err := ask(); err != nil {
				return q.best(err)
			}
		}
	}
}

// atOnce is how many whole answers there is room for that nobody has taken yet: one of each
// of five replicas, and one more. Whoever asks again has taken all that had come. The room
// of nats.go's own is 512 KiB for each question.
const atOnce = 6

// question is a request that was sent once or more, and what has come for it.
type question struct {
	messages chan *nats.Msg     // as they come
	closed   chan struct{}      // capacity 1: the connection is
	answers  map[string]*answer // by the subject to which each comes
	heard    int                // messages
}

// listen takes what comes for some time, and returns the first answer that is
// whole.
func (q *question) listen(ctx context.Context, patience time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var m *nats.Msg
		select {
		case m = <-q.messages:
		case <-q.closed:
			return nil, nats.ErrConnectionClosed
		case <-ctx.Done():
			select { // who was late to look takes what has come
			case m = <-q.messages:
			default:
				return nil, ctx.Err()
			}
		}
		a := q.answers[m.Subject]
		if end, err := a.take(m); err != nil {
			return nil, err
		} else if end {
			return a, nil
		}
		q.heard++
	}
}

// best returns the longest answer; an error if there is none.
func (q *question) best(err error) (best answer, _ error) {
	for _, a := range q.answers {
		if len(a.messages) > len(best.messages) {
			best = *a
		}
	}
	switch {
	case len(best.messages) > 0:
		return best, nil
	case errors.Is(err, context.DeadlineExceeded):
		return best, fmt.Errorf("%w: %w", errReplicasSilent, err)
	}
	return best, err
}

// take adds a message to an answer, and reports whether that was its end. Each
// message names the one before it, which is checked: after a reconnect in between,
// the rest of an answer can come without its middle.
func (a *answer) take(m *nats.Msg) (end bool, err error) {
	status := m.Header.Get("Status")
	if status == statusNone && len(a.messages) == 0 {
		return true, nil
	}
	if status == statusNobody && len(m.Data) == 0 {
		return false, nats.ErrNoResponders
	}
	if status != "" && status != statusEnd {
		return false, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
	}
	last := uint64(0)
	if n := len(a.messages); n > 0 {
		last = a.messages[n-1].seq
	}
	before, err := sequence(m, headerPrevious)
	if err != nil {
		return false, err
	}
	if before != last {
		return false, fmt.Errorf("part of the answer is missing after sequence %d", last)
	}
	if a.pending, err = sequence(m, headerPending); err != nil {
		return false, err
	}
	if status == statusEnd {
		if m.Header.Get(headerUpTo) != "" {
			a.upTo, err = sequence(m, headerUpTo)
		}
		return true, err
	}
	seq, err := sequence(m, headerSequence)
	if err != nil {
		return false, err
	}
	a.messages = append(a.messages, stored{m.Header.Get(headerSubject), seq, m.Data, m.Header})
	return false, nil
}

// directLast asks any replica for the last message of a subject; nil if there is
// none. Who does not answer in time is passed over: then the leader is asked, then
// any replica again, and so on, and so it is with a leader that answers with an
// error. While a replica counts as hung the leader is the first.
func (b *Bus) directLast(ctx context.Context, nc *nats.Conn, stream, subject string) (m *stored, err error) {
	leads, passed := b.hung.lately(), false
	silent := false // the leader was, though it had time
	for patience := b.hung.patience(); ; leads = !leads {
		wait, again := b.cfg.Timeout, b.hung.spend()
		if again {
			wait = patience
		}
		once, cancel := context.WithTimeout(ctx, wait)
		if leads {
			m, err = b.leaderBy(once, nc, stream, leaderGet{LastFor: subject})
		} else {
			m, err = replicaLast(once, nc, b.nearest(stream), subject)
		}
		cancel()
		late := errors.Is(err, context.DeadlineExceeded)
		if again && !late {
			b.hung.giveBack(askAgain) // it was not asked again
		}
		if err == nil {
			b.hung.earn()
		}
		if leads && late && (wait >= beginPatience || !again) {
			silent = true
		}
		switch {
		case err == nil && passed:
			b.sawHung()
			return m, nil
		case err == nil, !late && !leads, errors.Is(err, context.Canceled):
			return m, err
		case ctx.Err() != nil && silent:
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", errReplicasSilent, ctx.Err())
		case late:
			passed = true
			patience *= 2
		}
	}
}

// replicaLast asks any replica, once.
func replicaLast(ctx context.Context, nc *nats.Conn, stream, subject string) (*stored, error) {
	m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case statusNone:
		return nil, nil
	default:
		return nil, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
	}
	seq, err := sequence(m, headerSequence)
	if err != nil {
		return nil, err
	}
	return &stored{m.Header.Get(headerSubject), seq, m.Data, m.Header}, nil
}

// sequence reads a header that is a number.
func sequence(m *nats.Msg, header string) (uint64, error) {
	n, err := strconv.ParseUint(m.Header.Get(header), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", header, err)
	}
	return n, nil
}
