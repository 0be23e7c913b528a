package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// The keeper renews the slots of a process and frees those that are given back, in
// rounds. Slots stand in a ring that turns once in a third of their TTL, a step at a
// time: 18,000 of them are 300 a quarter of a second, and none has a timer. What a
// round stores is sent at once and awaited together; only what meets a conflict is
// looked at one by one.
//
// A renewal without an answer says nothing: the slot is held until the leader says
// that somebody else has it. So a process that was stopped, or cut off, for longer
// than the TTL notices with its first round, which takes a whole turn in two seconds.

const (
	ringSteps   = 64
	maxSteps    = 8    // of the ring in one round, when it is late
	slotsAtOnce = 1024 // publishes under way
	settling    = 16   // conflicts that are looked at, at once

	// ghostAfter is when, as a part of the TTL, it is looked once more whether
	// something was stored that had no answer.
	ghostAfter = 3
)

// keep works until the bus closes, and frees all slots then.
func (s *slots) keep() {
	if s.bus.cfg.Role != RoleDispatch { // sooner than with the first who wants one
		ctx, cancel := context.WithTimeout(s.bus.life, s.bus.cfg.Timeout)
		_, _ = s.intact(ctx, time.Now()) // it is asked again
		cancel()
	}
	tick := time.NewTicker(s.step)
	defer tick.Stop()
	for {
		select {
		case <-s.bus.closing:
			s.leaveAll()
			return
		case <-tick.C:
		case <-s.wake:
		}
		s.round(s.bus.life, time.Now())
	}
}

// errand is something that is stored for a slot in a round.
type errand struct {
	departure
	frees bool // it is given back; else it is renewed
	asked bool // it is one of slots.asked
	ack   jetstream.PubAckFuture
}

// round frees what is given back and renews what is due.
func (s *slots) round(ctx context.Context, now time.Time) {
	if !s.bus.write.IsConnected() {
		s.troubled = true
		return // what is due stays so
	}
	before := s.turned
	errands := append(s.departures(now), s.due(now)...)
	if len(errands) == 0 {
		return
	}
	err := s.run(ctx, errands)
	s.over(errands)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		s.troubled = false
		s.bus.health.find(whatStream(s.stream))
		return
	}
	s.bus.health.lose(whatStream(s.stream), err)
	if s.troubled = !isRefusal(err); s.troubled {
		s.turned = before
	}
}

// isRefusal reports whether JetStream has answered, though with an error, such as that
// the bucket is full. Then the other slots are not kept waiting.
func isRefusal(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) || errors.Is(err, errReplicasSilent)
}

// departures takes out of the queue what is to be freed now. What is older than its
// TTL has expired.
func (s *slots) departures(now time.Time) (all []errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := s.leaving[:0]
	for _, d := range s.leaving {
		switch {
		case now.Sub(d.since) > s.ttl:
			s.freedLocked(d)
		case d.due.After(now), len(all) == slotsAtOnce:
			later = append(later, d)
		default:
			all = append(all, errand{departure: d, frees: true})
		}
	}
	clear(s.leaving[len(later):])
	if s.leaving = later; len(later) == 0 {
		s.leaving = nil
	}
	return all
}

// over tells who waits for what was freed that it is.
func (s *slots) over(errands []errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range errands {
		if e.frees {
			s.freedLocked(e.departure)
		}
	}
	close(s.rounded)
	s.rounded = make(chan struct{})
}

// putBack has what could not be freed freed later, and who was asked for asked again. What
// else could not be renewed comes again by itself.
func (s *slots) putBack(errands []errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range errands {
		switch {
		case e.frees && !s.closed:
			s.queueLocked(e.departure)
		case e.asked:
			s.askLocked(e.Slot)
		}
	}
}

// due returns what is to be renewed now. After a failure that is one slot, to see
// whether JetStream is there again; the ring does not turn meanwhile, so all that was
// not renewed comes first then.
func (s *slots) due(now time.Time) (all []errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	for _, x := range asked {
		if !x.gone {
			all = append(all, errand{departure: departure{Slot: x}, asked: true})
		}
	}
	s.asked = nil
	to := int64(now.Sub(s.began)/s.step) + s.ahead
	if to-s.turned > ringSteps { // one turn has them all
		s.turned = to - ringSteps
	}
	if s.hurried.Swap(false) {
		s.ahead += s.turned + ringSteps - to
		to = s.turned + ringSteps
	}
	for last := min(to, s.turned+maxSteps); s.turned < last; s.turned++ {
		for _, x := range s.ring[(s.turned+1)%ringSteps] {
			if slices.Contains(asked, x) {
				continue // two at once for one slot would gain two
			}
			all = append(all, errand{departure: departure{Slot: x}})
			if s.troubled {
				return all
			}
		}
	}
	return all
}

// run runs errands. The error says that JetStream did not answer all of them as it
// should.
func (s *slots) run(ctx context.Context, errands []errand) (failed error) {
	var unsettled []errand
	sent := make([]errand, 0, len(errands))
	for i, e := range errands {
		if e.number == none || e.frees && e.rev == 0 {
			unsettled = append(unsettled, e)
			continue
		}
		var err error
		if e.ack, err = s.many.PublishMsgAsync(s.message(e), s.options(e)...); err != nil {
			failed = err
			s.putBack(errands[i:])
			break
		}
		sent = append(sent, e)
	}
	for _, e := range sent {
		rev, err := await(ctx, e.ack)
		switch {
		case err == nil:
			s.renewed(e, rev)
		case isConflict(err):
			unsettled = append(unsettled, e)
		default:
			if failed == nil || isRefusal(failed) {
				failed = full(s.stream, err)
			}
			s.putBack([]errand{e})
		}
	}
	if failed == nil {
		return s.settleAll(ctx, unsettled)
	}
	s.putBack(unsettled)
	if isMissing(failed) && !s.bus.isClosing() {
		ctx, cancel := context.WithTimeout(ctx, s.bus.cfg.Timeout)
		defer cancel()
		s.restore(ctx)
	}
	return failed
}

// message is what an errand stores: that the slot is held, or a marker, of which
// nothing is left when its time is over. As that of a purge it makes the server leave
// no other.
func (s *slots) message(e errand) *nats.Msg {
	m := s.record(e.Slot, e.number)
	if e.frees {
		m.Data, m.Header = nil, nats.Header{"KV-Operation": {"PURGE"}}
	}
	return m
}

// options fence an errand by the revision that is known.
func (s *slots) options(e errand) []jetstream.PublishOpt {
	return []jetstream.PublishOpt{
		jetstream.WithMsgTTL(s.keeps(e)), jetstream.WithExpectLastSequencePerSubject(e.rev),
		jetstream.WithStallWait(s.bus.cfg.Timeout),
	}
}

// keeps is how long the server is to keep what an errand stores.
func (s *slots) keeps(e errand) time.Duration {
	if e.frees {
		return freedFor
	}
	return s.lasts()
}

// await waits for the answer to a publish, which comes within Config.Timeout.
func await(ctx context.Context, ack jetstream.PubAckFuture) (rev uint64, err error) {
	select {
	case stored := <-ack.Ok():
		return stored.Sequence, nil
	case err := <-ack.Err():
		return 0, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// renewed notes the revision of a slot that is held.
func (s *slots) renewed(e errand, rev uint64) {
	if e.frees {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.rev = rev
}

// settleAll looks at each errand that met something else than it expected.
func (s *slots) settleAll(ctx context.Context, errands []errand) error {
	if len(errands) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.bus.cfg.Timeout)
	defer cancel()
	errs := make([]error, len(errands))
	var working sync.WaitGroup
	for worker := range min(settling, len(errands)) {
		working.Go(func() {
			for i := worker; i < len(errands); i += settling {
				if errands[i].frees {
					errs[i] = s.free(ctx, errands[i])
				} else {
					errs[i] = s.regain(ctx, errands[i].Slot)
				}
				if errs[i] != nil {
					s.putBack(errands[i : i+1])
				}
			}
		})
	}
	working.Wait()
	var failed error
	for _, err := range errs {
		if err != nil && (failed == nil || isRefusal(failed)) {
			failed = err // one tells it
		}
	}
	return failed
}

// conflicts is how many conflicts in a row are looked at before a slot is left for
// the next round.
const conflicts = 5

// free frees a slot if the leader says that it is still ours.
func (s *slots) free(ctx context.Context, e errand) error {
	for range conflicts {
		at, err := s.ask(ctx, e.Slot, e.number)
		if err != nil {
			return err
		}
		if at.holder != e.holder() {
			if e.unsure { // it may be on its way yet
				e.unsure, e.due = false, time.Now().Add(s.ttl/ghostAfter)
				s.putBack([]errand{e})
			}
			return nil
		}
		_, err = s.bus.writes.PublishMsg(ctx, s.message(e), jetstream.WithMsgTTL(s.keeps(e)), jetstream.WithExpectLastSequencePerSubject(at.seq))
		if err == nil || !isConflict(err) {
			return err
		}
		if err := settle(ctx); err != nil {
			return err
		}
	}
	return nil // it expires
}

// regain has a slot held again whose key is not as it was left: an answer was lost,
// it has expired, or the bucket was. If somebody else holds it, another one is gained
// in its place; a claim is lost.
func (s *slots) regain(ctx context.Context, x *Slot) error {
	for range conflicts {
		if x.number == none {
			return s.replace(ctx, x)
		}
		at, err := s.ask(ctx, x, x.number)
		switch {
		case err != nil:
			return err
		case at.holder == "" && at.seq == 0:
			s.hurry() // so it may be with all
		case at.holder != "" && at.holder != x.holder():
			if x.isClaim() {
				s.lose(x)
				return nil
			}
			return s.replace(ctx, x)
		}
		rev, err := s.write(ctx, x, x.number, at.seq)
		if err == nil {
			s.renewed(errand{departure: departure{Slot: x}}, rev)
			return nil
		}
		if !isConflict(err) {
			return err
		}
		if err := settle(ctx); err != nil {
			return err
		}
	}
	return nil // with the next turn
}

// replace gains a slot for who holds none any more, or none yet.
func (s *slots) replace(ctx context.Context, x *Slot) error {
	late := x.number == none
	err := s.gain(ctx, x)
	switch {
	case errors.Is(err, peal.ErrTooManyConnections):
		s.lose(x)
		return nil
	case errors.Is(err, errSlotsLost) && late:
		return nil // with the next turn
	case errors.Is(err, errSlotsLost):
		// What is there is given up again by who was too fast, and nobody is to be it
		// instead of this one when slots are free.
		s.mu.Lock()
		defer s.mu.Unlock()
		s.askLocked(x)
		return nil
	case err != nil:
		s.mu.Lock()
		x.number, x.rev = none, 0
		s.mu.Unlock()
		return err
	case !late:
		s.bus.stats.SlotsMoved.Add(1)
	}
	return nil
}

// lose takes leave of a slot that somebody else holds.
func (s *slots) lose(x *Slot) {
	if s.drop(x) {
		s.bus.stats.SlotsLost.Add(1)
		x.lost()
	}
}

// leaveAll frees all slots, as far as JetStream answers in time.
func (s *slots) leaveAll() {
	s.mu.Lock()
	s.closed = true
	var all []errand
	for _, d := range s.leaving {
		all = append(all, errand{departure: d, frees: true})
	}
	for _, row := range s.ring {
		for _, x := range row {
			all = append(all, errand{departure: departure{Slot: x}, frees: true})
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.bus.cfg.Timeout)
	defer cancel()
	for part := range slices.Chunk(all, slotsAtOnce) {
		if !s.bus.write.IsConnected() || s.run(ctx, part) != nil {
			return // they expire
		}
	}
}
