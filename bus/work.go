package bus

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/pealhq/peal"
)

// workPartitions is over how many consumers the ticket events of a region are
// spread, by their ticket. It is in the subject transform of their stream.
const workPartitions = 32

const (
	// pulled is how many events one request asks for. The server gives one at a
	// time all the same: the rest spares a request for each.
	pulled = 16

	// mostHeartbeat is within how much time, twice, a consumer that gives nothing
	// has to say that it is there.
	mostHeartbeat = 5 * time.Second

	// workingEvery is how often a worker says that it still works on an event.
	workingEvery = 10 * time.Second

	// lastTask is how much time a task has that is under way when the work is to
	// end. What is not settled then is given to another worker.
	lastTask = 10 * time.Second
)

// Task is a ticket event that is to be worked on, as it was published. It has to be
// settled by one of Done, Retry and Bury.
type Task struct {
	Data      []byte
	MessageID string    // its Nats-Msg-Id; "" if it was published without one
	Stored    time.Time // when it was, by JetStream's clock
	Tries     int       // how often it was given to a worker, this time among them
	Partition int       // those of one are worked on one after the other

	Origin trace.SpanContext // what it belongs to, as who published it has said; not valid: nothing

	// Again: it was worked on before under another guise, any time ago: it was a dead
	// letter, or JetStream had kept it though it was done.
	Again bool

	bus     *Bus
	msg     jetstream.Msg
	seq     uint64
	subject string // as it was stored
	event   string // id of the event, where a dead letter is retried
	tenant  string // tokens of the subject
	ticket  string
}

// Of returns what the subject of the task says whose event it is. The error is a
// peal.InvalidError.
func (t *Task) Of() (tenant peal.Tenant, ticket string, err error) {
	tenant, err = peal.ParseTenant(t.tenant)
	if err != nil || string(tenant) != t.tenant {
		return "", "", peal.Invalid("subject", "must have the tenant's id in canonical lower case")
	}
	if ticket, err = unescape(t.ticket); err == nil {
		err = peal.CheckID("subject", ticket)
	}
	if err != nil {
		return "", "", peal.Invalid("subject", "must have the ticket's id in its escaped form")
	}
	return tenant, ticket, nil
}

// Name is an id for an event that was published without one: the same each time
// the task is given out, also as a dead letter that is retried.
func (t *Task) Name() string {
	if t.event != "" {
		return t.event
	}
	if t.MessageID != "" {
		return "event-" + hashed("message", t.MessageID)
	}
	return "event-" + hashed("stored", strconv.FormatUint(t.seq, 10), t.stamp())
}

// stamp is when the task was stored, as it is in every time zone.
func (t *Task) stamp() string { return strconv.FormatInt(t.Stored.UnixNano(), 10) }

// Done takes the task from the queue, and returns when that is certain: only then
// the next event of its partition is given out. After an error it may be given out
// again.
func (t *Task) Done(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.bus.cfg.Timeout)
	defer cancel()
	if err := t.msg.DoubleAck(ctx); err != nil {
		return unavailable("settle ticket event", err)
	}
	t.bus.stats.Worked.Add(1)
	return nil
}

// Retry has the task given out again after a delay, before any other event of its
// partition.
func (t *Task) Retry(delay time.Duration) error {
	t.bus.stats.Retried.Add(1)
	return t.msg.NakWithDelay(delay)
}

// Bury makes a dead letter of the task, with the id of the event as far as it is
// known, and the reason in one line. After an error it is not settled.
func (t *Task) Bury(ctx context.Context, event, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, t.bus.cfg.Timeout)
	defer cancel()
	if err := t.bus.bury(ctx, t, event, reason); err != nil {
		return err
	}
	t.bus.stats.Buried.Add(1)
	return t.msg.TermWithReason("it is a dead letter now")
}

// Work has the ticket events of the region worked on, by this process and all others
// that work, until ctx ends or the bus closes, and returns when no task is under
// way. do is called concurrently, but for events of one partition one after the
// other in the whole cluster; its context ends lastTask after ctx.
//
// An event whose worker is not heard of for Config.AckWait is given to another.
func (b *Bus) Work(ctx context.Context, do func(context.Context, *Task)) error {
	nc, err := b.connect("work", nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer func() {
		nc.SetDisconnectErrHandler(nil) // it is meant
		nc.SetClosedHandler(nil)
		nc.Close()
	}()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(b.cfg.Timeout))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(b.life, stop)()
	tasks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastTask, cancel) })()

	var workers sync.WaitGroup
	for _, q := range b.layout().queues() {
		for n := range workPartitions {
			w := &worker{bus: b, js: js, queue: q, partition: n, do: do}
			workers.Go(func() { w.run(ctx, tasks) })
		}
	}
	workers.Go(func() { b.watchQueue(ctx) })
	workers.Wait()
	return nil
}

// worker works on the events of one partition of a queue.
type worker struct {
	bus       *Bus
	js        jetstream.JetStream
	queue     queue
	partition int
	do        func(context.Context, *Task)
}

func (w *worker) run(ctx, tasks context.Context) {
	what := "consumer " + workConsumer(w.partition)
	if w.queue != queue(w.bus.cfg.Region) {
		what += " of stream " + eventStream(w.queue)
	}
	for tries := 0; ctx.Err() == nil; tries++ {
		began := time.Now()
		err := w.pull(ctx, tasks, func() { w.bus.health.find(what) })
		if ctx.Err() != nil {
			return
		}
		w.bus.health.lose(what, err)
		if time.Since(began) > time.Minute {
			tries = 0
		}
		pause := min(firstPause<<min(tries, 10), mostPause)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// pull takes events until ctx ends, or the consumer does not answer. there is
// called when it is known to be there.
func (w *worker) pull(ctx, tasks context.Context, there func()) error {
	consumer, err := w.consumer(ctx)
	if err != nil {
		return err
	}
	// A request ends well before an event is taken from a worker that is not heard of,
	// or it would be given to the same again.
	heartbeat := max(min(mostHeartbeat, w.bus.cfg.AckWait/6), 500*time.Millisecond)
	events, err := consumer.Messages(jetstream.PullMaxMessages(pulled),
		jetstream.PullExpiry(2*heartbeat), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	there()
	defer w.leave(tasks, events)
	for {
		msg, err := events.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		w.take(tasks, msg)
	}
}

// leave lets go of what the server has given since the last event was taken: it
// would wait for its worker for as long as one may be silent. Where NATS is away there
// is no end to wait for.
func (w *worker) leave(ctx context.Context, events jetstream.MessagesContext) {
	ctx, cancel := context.WithTimeout(ctx, w.bus.cfg.Timeout)
	defer cancel()
	events.Drain()
	for {
		msg, err := events.Next(jetstream.NextContext(ctx))
		if err != nil {
			return
		}
		_ = msg.Nak() // else it waits
	}
}

// consumer finds the consumer of the partition, or creates it. One that somebody has
// changed so that events would be lost or lose their order is changed back.
func (w *worker) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, w.bus.cfg.Timeout)
	defer cancel()
	stream, name := eventStream(w.queue), workConsumer(w.partition)
	want := jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: workFilter(w.queue, w.partition),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       w.bus.cfg.AckWait,
		MaxAckPending: 1, // the next event is given out when the one before is settled: the order of a ticket
		MaxDeliver:    -1,
	}
	c, err := w.js.Consumer(ctx, stream, name)
	switch {
	case err == nil:
		have := c.CachedInfo().Config
		if have.MaxAckPending == want.MaxAckPending && have.MaxDeliver == want.MaxDeliver && have.FilterSubject == want.FilterSubject && !have.HeadersOnly {
			return c, nil
		}
		w.bus.log.Warn("a consumer of ticket events was changed by somebody, and is changed back", "consumer", name)
		want.AckWait = have.AckWait // the operator's to choose
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, err
	}
	return w.js.CreateOrUpdateConsumer(ctx, stream, want)
}

const workPrefix = "dispatch_" // of the names of consumers

func workConsumer(partition int) string { return workPrefix + strconv.Itoa(partition) }

// workFilter is what the events of a partition are stored on.
func workFilter(q queue, partition int) string {
	return below(subject("work", string(q), strconv.Itoa(partition)))
}

// take has one event worked on.
func (w *worker) take(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil { // no message of JetStream: there is nobody to settle it with
		w.bus.log.Error("a message that is no ticket event", "err", err)
		return
	}
	t := &Task{
		Data: msg.Data(), MessageID: msg.Headers().Get(nats.MsgIdHdr), Stored: meta.Timestamp, Tries: int(meta.NumDelivered),
		Partition: w.partition,
		bus:       w.bus, msg: msg, seq: meta.Sequence.Stream, subject: msg.Subject(), event: msg.Headers().Get(headerEvent),
		Origin: originOf(msg.Headers()),
	}
	t.Again = t.event != ""
	t.tenant, t.ticket = workTokens(msg.Subject())
	stop := t.keepAlive()
	defer stop()
	if q := queueFor(w.bus.cfg.Region, w.bus.cfg.homeOf(peal.Tenant(t.tenant))); q != queue(w.bus.cfg.Region) && w.queue != q {
		w.forward(ctx, t, q)
		return
	}
	w.do(ctx, t)
}

// forwardPause is after how long it is tried again to put an event where those of its home
// wait.
const forwardPause = time.Second

// forward puts an event to those that wait for its home, in its order: of its partition
// this one is under way alone.
func (w *worker) forward(ctx context.Context, t *Task, to queue) {
	id := cmp.Or(t.MessageID, messageID("forward", strconv.FormatUint(t.seq, 10), t.stamp()))
	header := maps.Clone(nats.Header(t.msg.Headers()))
	if header == nil {
		header = nats.Header{}
	}
	header.Set(jetstream.MsgIDHeader, id)
	header.Set(headerEvent, t.event)
	if t.event == "" {
		header.Del(headerEvent)
	}
	for key := range header { // what the server has noted of how it was stored, and would act on
		if strings.HasPrefix(key, "Nats-") && key != jetstream.MsgIDHeader {
			delete(header, key)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.bus.cfg.Timeout)
	defer cancel()
	_, err := w.js.PublishMsg(ctx, &nats.Msg{Subject: subject("event", string(to), t.tenant, t.ticket), Data: t.Data, Header: header})
	if err == nil {
		err = t.msg.DoubleAck(ctx)
	}
	if err != nil {
		w.bus.health.lose("stream "+eventStream(to), err)
		_ = t.Retry(forwardPause) // else it is given out again when its worker is not heard of
		return
	}
	w.bus.health.find("stream " + eventStream(to))
}

// keepAlive says every while that the task is worked on, until stop.
func (t *Task) keepAlive() (stop func()) {
	done := make(chan struct{})
	var saying sync.WaitGroup
	saying.Add(1)
	// Most tasks are done long before there is anything to say.
	first := time.AfterFunc(workingEvery, func() {
		defer saying.Done()
		again := time.NewTicker(workingEvery)
		defer again.Stop()
		for {
			_ = t.msg.InProgress() // else it is given to another, and stored once all the same
			select {
			case <-done:
				return
			case <-again.C:
			}
		}
	})
	return func() {
		close(done)
		if first.Stop() {
			saying.Done()
		}
		saying.Wait()
	}
}

// workTokens are the tenant and the ticket of a subject of the work queue:
// peal.work.<region>.<partition>.<tenant>.<ticket>.
func workTokens(subject string) (tenant, ticket string) {
	tokens := strings.SplitN(subject, ".", 6)
	if len(tokens) < 6 {
		return "", ""
	}
	return tokens[4], tokens[5]
}
