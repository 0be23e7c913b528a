package dispatch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

// work works on one event and settles it: it is done, it is tried again as long as
// what it needs is away, or it is a dead letter if the reason is its own.
func (d *Dispatcher) work(ctx context.Context, task *bus.Task) {
	j := &job{d: d, task: task}
	err := d.recorded(ctx, j)
	switch {
	case err == nil:
		err = task.Done(ctx)
	case errors.Is(err, peal.ErrInvalid) || errors.Is(err, errPanic):
		j.outcome = Buried
		d.log.Warn("ticket event is a dead letter now", "tenant", string(j.tenant), "event", j.event.ID, "err", err)
		err = task.Bury(ctx, j.event.ID, err.Error())
	}
	if err != nil {
		if d.trouble(task.Partition, true) {
			d.log.Warn("ticket events can't be worked on", "tenant", string(j.tenant), "event", j.event.ID, "tries", task.Tries, "err", err)
		}
		after := pause(task.Tries)
		if ctx.Err() != nil { // this process ends: another may go on at once
			after = 0
		}
		_ = task.Retry(after) // else it is given out again after a while
		return
	}
	if d.trouble(task.Partition, false) {
		d.log.Info("ticket events are worked on again")
	}
	if d.cfg.Settled != nil {
		d.cfg.Settled(j.outcome, time.Since(task.Stored))
	}
}

// job is the work on one event, as far as it has come.
type job struct {
	d       *Dispatcher
	task    *bus.Task
	tenant  peal.Tenant      // once it is known
	event   peal.TicketEvent // the same
	outcome Outcome
}

var errPanic = errors.New("a rule has panicked")

// safely makes an error of a panic: it is the event's own fault.
func (j *job) safely(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.d.log.Error("panic", "tenant", string(j.tenant), "event", j.event.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return j.run(ctx)
}

// run tells whoever is to be told. A peal.ErrInvalid says what is wrong with the
// event; any other error is of what it needs.
func (j *job) run(ctx context.Context) error {
	if err := j.read(); err != nil {
		return err
	}
	people, err := Resolve(j.d.directory(), j.tenant, j.event)
	if err != nil {
		return err
	}
	if people.Queue, err = j.members(ctx, j.event.Ticket.QueueID); err != nil {
		return err
	}
	if people.PreviousQueue, err = j.members(ctx, j.event.PreviousQueueID); err != nil {
		return err
	}
	told, err := j.notifications(people)
	if err != nil {
		return err
	}
	ctx, cancel, told, err := j.intime(ctx, told)
	if err != nil {
		return err
	}
	defer cancel()
	for _, part := range portions(told, toldAtOnce) {
		if _, err := j.d.bus.Tell(ctx, time.Now(), part...); err != nil {
			return err
		}
	}
	update, sees, lost := Update(j.event, people)
	if j.task.Again { // what lists show may be newer by now, so all of them look
		sees, lost = append(sees, lost...), nil
	}
	return j.d.bus.PublishUpdate(ctx, j.tenant, j.event.ID, update, sees, lost)
}

// read reads the event, which anybody with rights on the bus may have published.
func (j *job) read() error {
	var ticket string
	var err error
	if j.tenant, ticket, err = j.task.Of(); err != nil {
		return err
	}
	j.event.ID = j.task.Name()
	if len(j.task.Data) > bus.MaxEvent {
		return peal.Invalid("event", fmt.Sprintf("must be at most %d bytes as JSON", peal.MaxEncoded))
	}
	var e peal.TicketEvent
	if err := intake.Unmarshal(j.task.Data, &e); err != nil {
		return err
	}
	if e.ID == "" {
		e.ID = j.event.ID
	}
	j.event = e.WithDefaults(j.task.Stored)
	if err := j.event.Validate(); err != nil {
		return err
	}
	if j.event.Ticket.ID != ticket {
		return peal.Invalid("ticket.id", "must be that of the subject, by which events are kept in order")
	}
	return nil
}

// members reads who is in a queue; nobody is in none.
func (j *job) members(ctx context.Context, queue string) ([]peal.Inbox, error) {
	if queue == "" {
		return nil, nil
	}
	return j.d.bus.Queue(ctx, j.tenant, queue)
}

// notifications decides who is told what.
func (j *job) notifications(people People) ([]bus.Publication, error) {
	switch {
	case j.event.Type.Notifies() == "":
		j.outcome = Silent
		return nil, nil
	case j.event.Expired(time.Now()):
		j.outcome = Expired
		return nil, nil
	}
	j.outcome = Told
	return j.d.rules.Notifications(j.tenant, j.event, people)
}

// toldAtOnce is how many users are told by one call of the bus: between two of
// them others get their turn.
const toldAtOnce = 500

// intime bounds the time in which users may be told: as long as JetStream remembers
// what was stored for the event before, by a worker that was not heard of any more.
// Once that is not certain, who has been told already is asked, and left out. A
// process that was stopped in between, and goes on when another has done its work
// long ago, is so too late to tell anybody again.
func (j *job) intime(ctx context.Context, told []bus.Publication) (context.Context, context.CancelFunc, []bus.Publication, error) {
	end := j.task.Stored.Add(j.d.late + tellWithin)
	if j.task.Again || time.Since(j.task.Stored) > j.d.late {
		var err error
		if told, err = j.d.bus.Untold(ctx, told...); err != nil {
			return nil, nil, nil, err
		}
		end = time.Now().Add(tellWithin)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	return ctx, cancel, told, nil
}

// portions cuts publications into lists that name at most so many inboxes each.
func portions(all []bus.Publication, most int) (lists [][]bus.Publication) {
	var now []bus.Publication
	room := most
	for _, p := range all {
		for len(p.To) > 0 {
			n := min(room, len(p.To))
			now = append(now, bus.Publication{To: p.To[:n], Notification: p.Notification})
			p.To = p.To[n:]
			if room -= n; room == 0 {
				lists, now, room = append(lists, now), nil, most
			}
		}
	}
	if len(now) > 0 {
		lists = append(lists, now)
	}
	return lists
}
