package bus

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lookInterval is how often a process that works looks at the queue.
const lookInterval = 10 * time.Second

// Backlog is what waits to be worked on.
type Backlog struct {
	Waiting    int                 // so many ticket events, those under way among them
	Oldest     time.Time           // when the oldest of them was stored; zero if none waits
	Partitions [workPartitions]int // so many in each; all 0 as long as nobody has worked yet
}

// Backlog looks at the queue of ticket events. The error is a peal.ErrUnavailable or
// ctx's.
func (b *Bus) Backlog(ctx context.Context) (Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	all, err := b.lookAtQueues(ctx, func(queue, map[int]uint64) error { return nil })
	if err != nil {
		return Backlog{}, unavailable("look at the queue of ticket events", err)
	}
	return all, nil
}

// lookAtQueues looks at all queues of the region. done is told of each.
func (b *Bus) lookAtQueues(ctx context.Context, done func(queue, map[int]uint64) error) (all Backlog, err error) {
	for _, q := range b.layout().queues() {
		one, upTo, err := b.lookAtQueue(ctx, q)
		if err == nil {
			err = done(q, upTo)
		}
		if err != nil {
			return Backlog{}, err
		}
		all.add(one)
	}
	return all, nil
}

func (b *Backlog) add(more Backlog) {
	b.Waiting += more.Waiting
	if !more.Oldest.IsZero() && (b.Oldest.IsZero() || more.Oldest.Before(b.Oldest)) {
		b.Oldest = more.Oldest
	}
	for n, waiting := range more.Partitions {
		b.Partitions[n] += waiting
	}
}

// lookAtQueue counts what waits, and finds out up to where each partition of which
// there is a consumer is done: everything up to that sequence was worked on.
//
// What the stream holds is not what waits. A JetStream that was killed may have
// messages again that were worked on, which no consumer will give out any more.
func (b *Bus) lookAtQueue(ctx context.Context, q queue) (all Backlog, done map[int]uint64, err error) {
	s, err := b.reads.Stream(ctx, eventStream(q))
	if err != nil {
		return all, nil, err
	}
	done = make(map[int]uint64)
	list, consumers := s.ListConsumers(ctx), []*jetstream.ConsumerInfo(nil)
	for c := range list.Info() { // to its end, or it leaves a goroutine
		consumers = append(consumers, c)
	}
	if err := list.Err(); err != nil {
		return all, nil, err
	}
	for _, c := range consumers {
		n, ok := strings.CutPrefix(c.Name, workPrefix)
		partition, err := strconv.Atoi(n)
		if !ok || err != nil {
			continue
		}
		done[partition] = c.AckFloor.Stream
		waiting := int(c.NumPending) + c.NumAckPending
		if partition >= 0 && partition < workPartitions {
			all.Partitions[partition] = waiting
		}
		if all.Waiting += waiting; waiting == 0 {
			continue
		}
		m, err := b.getFromLeader(ctx, eventStream(q), leaderGet{Seq: c.AckFloor.Stream + 1, NextFor: workFilter(q, partition)})
		if err != nil {
			return all, nil, err
		}
		if m == nil {
			continue // done meanwhile
		}
		if at, err := time.Parse(time.RFC3339Nano, m.header.Get(headerTime)); err == nil && (all.Oldest.IsZero() || at.Before(all.Oldest)) {
			all.Oldest = at
		}
	}
	if state := s.CachedInfo().State; len(done) < workPartitions && state.Msgs > 0 {
		// Nobody has worked yet, so everything waits.
		return Backlog{Waiting: int(state.Msgs), Oldest: state.FirstTime}, done, nil
	}
	return all, done, nil
}

// watchQueue counts what waits, and has worked on again what JetStream has kept by
// mistake, until ctx ends.
func (b *Bus) watchQueue(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		if err := b.watchQueueOnce(ctx); err != nil && ctx.Err() == nil {
			b.health.lose("queue of ticket events", err)
		} else {
			b.health.find("queue of ticket events")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *Bus) watchQueueOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	type place struct {
		queue     queue
		partition int
	}
	done := make(map[place]uint64)
	all, err := b.lookAtQueues(ctx, func(q queue, upTo map[int]uint64) error {
		for partition, seq := range upTo {
			done[place{q, partition}] = seq
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.stats.backlog.Store(&all)
	for at, upTo := range done {
		if err := b.workAgain(ctx, at.queue, at.partition, upTo, leftBehind); err != nil {
			return err
		}
	}
	return nil
}

// leftBehind is how old a message is that was left behind: a younger one may be about
// to be removed.
const leftBehind = time.Minute

// workAgain puts events of a partition at the end of the queue again that are stored
// at or before the sequence up to which all are done, since a while. That they were
// worked on is most likely, so whoever was told is not told again; that they were not
// would be the worse mistake.
func (b *Bus) workAgain(ctx context.Context, q queue, partition int, done uint64, after time.Duration) error {
	stream := eventStream(q)
	for {
		m, err := b.getFromLeader(ctx, stream, leaderGet{Seq: 1, NextFor: workFilter(q, partition)})
		if err != nil || m == nil || m.seq > done {
			return err
		}
		stored, err := time.Parse(time.RFC3339Nano, m.header.Get(headerTime))
		if err != nil || time.Since(stored) < after {
			return err
		}
		t := &Task{Data: m.data, MessageID: m.header.Get(jetstream.MsgIDHeader), Stored: stored, seq: m.seq, event: m.header.Get(headerEvent)}
		t.tenant, t.ticket = workTokens(m.subject)
		if _, _, wrong := t.Of(); wrong != nil { // no subject to store it on again: it can't have been worked on
			err = b.bury(ctx, t, t.Name(), wrong.Error())
		} else {
			err = b.requeue(ctx, t, messageID("left", strconv.FormatUint(m.seq, 10), t.stamp()))
		}
		if err != nil {
			return err
		}
		s, err := b.writes.Stream(ctx, stream)
		if err == nil {
			err = s.DeleteMsg(ctx, m.seq)
		}
		if err != nil {
			return fmt.Errorf("remove what was left behind: %w", err)
		}
		b.log.Warn("a ticket event that JetStream had kept, though it was done, is worked on again", "sequence", m.seq, "partition", partition)
	}
}

// requeue stores the event of a task again, under another message id: its own may
// still be remembered. Whoever works on it is told that it was worked on before.
func (b *Bus) requeue(ctx context.Context, t *Task, id string) error {
	o := newOrder()
	o.add(b.events, &nats.Msg{
		Subject: subject("event", string(b.cfg.Region), t.tenant, t.ticket),
		Data:    t.Data,
		Header: nats.Header{
			jetstream.MsgIDHeader: {id},
			headerVersion:         {formatVersion},
			headerEvent:           {t.Name()},
		},
	})
	if err := b.writable(); err != nil {
		return err
	}
	return o.answers(b.store(ctx, o))[0].err
}
