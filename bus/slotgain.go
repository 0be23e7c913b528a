package bus

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// sighting is what was seen of a slot.
type sighting struct {
	seq    uint64 // of what is stored for its key; 0: nothing
	holder string // "": it is free
}

// gain gains one of the user's slots for x. It is gained by nothing but a
// compare-and-set, which the leader decides: an absent key, or the very marker that
// was seen, is replaced.
//
// Most often the first attempt does it: one round trip, for one that this process
// does not hold, at random, so that processes seldom try the same. Otherwise all are
// looked at, by any replica, for what it has is only where to try next. It is refused
// when all are held by that view and then by what the leader says of each, by the same
// holders: so all were held when the leader was asked first, though each is asked for
// on its own.
//
// What is stored may be in a bucket that was made meanwhile, by whomever, and has none of
// what others hold. So it is gained when the bucket is the one afterwards that was
// intact before.
func (s *slots) gain(ctx context.Context, x *Slot) error {
	bucket, err := s.intact(ctx, time.Now().Add(-intactFor))
	if err != nil {
		return err
	}
	number := s.guess(x)
	var at sighting // nothing, it is hoped
	var seen []sighting
	for {
		rev, err := s.write(ctx, x, number, at.seq)
		if isMissing(err) && s.restore(ctx) {
			if bucket, err = s.intact(ctx, time.Now()); err != nil { // now it has none of what others hold
				return err
			}
			rev, err = s.write(ctx, x, number, 0)
		}
		if err == nil {
			if err := s.sameAs(ctx, bucket); err != nil {
				s.giveUp(x, number)
				return err
			}
			s.mu.Lock()
			x.number, x.rev = number, rev
			s.mu.Unlock()
			return nil
		}
		if !isConflict(err) {
			if mayBeStored(err) {
				s.giveUp(x, number)
			}
			return err
		}
		if seen == nil {
			seen, err = s.look(ctx, x)
		} else if seen[number], err = s.ask(ctx, x, number); err == nil && seen[number].holder == "" {
			err = settle(ctx) // another's is under way
		}
		if err != nil {
			return err
		}
		if number, err = s.choose(ctx, x, seen); err != nil {
			return err
		}
		at = seen[number]
	}
}

// sameAs returns nil if the bucket is intact and the one that it was.
func (s *slots) sameAs(ctx context.Context, bucket string) error {
	now, err := s.intact(ctx, time.Now())
	if err == nil && now != bucket {
		return errSlotsLost
	}
	return err
}

// giveUp has freed what is or may be stored of an attempt, and x begins another.
func (s *slots) giveUp(x *Slot, number int32) {
	s.abandon(x, number)
	x.id = s.ids.Add(1)
}

// guess is the number of a slot that may be free.
func (s *slots) guess(x *Slot) int32 {
	held := s.numbers(x.seat())
	left := make([]int32, 0, x.most)
	for n := range x.most {
		if !slices.Contains(held, n) {
			left = append(left, n)
		}
	}
	if len(left) == 0 {
		return rand.Int32N(x.most)
	}
	return left[rand.IntN(len(left))]
}

// choose returns the number of a slot that is free as far as was seen, or, when the
// leader has said so, that there is none. It brings what was seen up to date.
func (s *slots) choose(ctx context.Context, x *Slot, seen []sighting) (int32, error) {
	for {
		var free []int32
		for n, at := range seen {
			if at.holder == "" {
				free = append(free, int32(n))
			}
		}
		if len(free) > 0 {
			return free[rand.IntN(len(free))], nil
		}
		now, err := s.askAll(ctx, x)
		if err != nil {
			return none, err
		}
		if slices.EqualFunc(seen, now, func(a, b sighting) bool { return a.holder == b.holder }) {
			return none, errSlotsTaken
		}
		copy(seen, now)
	}
}

// look asks any replica what it has of the user's slots: many in one request, a few
// each on its own, for an answer to several needs a subscription.
func (s *slots) look(ctx context.Context, x *Slot) ([]sighting, error) {
	if x.most <= maxKeysSingly {
		return s.each(x, func(number int32) (sighting, error) {
			m, err := s.bus.directLast(ctx, s.bus.write, s.stream, x.key(number))
			return sightingOf(m), err
		})
	}
	a, err := s.bus.directBy(ctx, s.bus.write, s.stream, directGet{LastFor: []string{wildcards(x.subject(), 1)}, Batch: maxKeysRead})
	if err != nil {
		return nil, err
	}
	has := make(map[string]sighting, len(a.messages))
	for _, m := range a.messages {
		has[m.subject] = sightingOf(&m)
	}
	return s.each(x, func(number int32) (sighting, error) { return has[x.key(number)], nil })
}

// askAll asks the leader what it has of each of the user's slots.
func (s *slots) askAll(ctx context.Context, x *Slot) ([]sighting, error) {
	return s.each(x, func(number int32) (sighting, error) { return s.ask(ctx, x, number) })
}

// askedAtOnce is how many questions are under way for one slot that is to be taken.
const askedAtOnce = 16

// each sees each of the user's slots.
func (s *slots) each(x *Slot, see func(number int32) (sighting, error)) ([]sighting, error) {
	seen := make([]sighting, x.most)
	errs := make([]error, x.most)
	var seeing sync.WaitGroup
	for worker := range min(askedAtOnce, len(seen)) {
		seeing.Go(func() {
			for n := worker; n < len(seen); n += askedAtOnce {
				seen[n], errs[n] = see(int32(n))
			}
		})
	}
	seeing.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // one tells it
		}
	}
	return seen, nil
}

// ask asks the leader what it has of one slot.
func (s *slots) ask(ctx context.Context, x *Slot, number int32) (sighting, error) {
	m, err := s.bus.leaderBy(ctx, s.bus.write, s.stream, leaderGet{LastFor: x.key(number)})
	return sightingOf(m), err
}

func sightingOf(m *stored) sighting {
	switch {
	case m == nil:
		return sighting{}
	case isMarker(*m):
		return sighting{seq: m.seq}
	}
	return sighting{m.seq, string(m.data)}
}

// write stores that x holds a slot, if its key is as it is expected to be.
func (s *slots) write(ctx context.Context, x *Slot, number int32, expected uint64) (rev uint64, err error) {
	return s.put(ctx, s.record(x, number), jetstream.WithExpectLastSequencePerSubject(expected))
}

// overtake stores that x has a claim, whoever has it.
func (s *slots) overtake(ctx context.Context, x *Slot) error {
	rev, err := s.put(ctx, s.record(x, 0))
	if isMissing(err) && s.restore(ctx) {
		rev, err = s.put(ctx, s.record(x, 0))
	}
	if err == nil {
		x.number, x.rev = 0, rev
	} else if mayBeStored(err) {
		s.abandon(x, 0)
	}
	return err
}

// record is what is stored for a slot that is held.
func (s *slots) record(x *Slot, number int32) *nats.Msg {
	return &nats.Msg{Subject: x.key(number), Data: []byte(x.holder())}
}

// put stores something for as long as a slot is held without being renewed.
func (s *slots) put(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	opts = append(opts, jetstream.WithMsgTTL(s.lasts()))
	ack, err := s.bus.writes.PublishMsg(ctx, m, opts...)
	if err != nil {
		return 0, full(s.stream, err)
	}
	return ack.Sequence, nil
}

// isMissing reports whether nothing was stored for want of a bucket.
func isMissing(err error) bool { return errors.Is(err, jetstream.ErrNoStreamResponse) }

// restore creates the bucket again if it is gone, once for all who miss it. It
// reports whether it is there again.
func (s *slots) restore(ctx context.Context) bool {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return false
	}
	if last := s.made.Load(); last != 0 && time.Since(s.stall.since)-time.Duration(last) < retryInterval {
		return true // it was created just now
	}
	if !s.bus.remake(ctx, s.bus.layout().limit()) {
		return false
	}
	s.made.Store(int64(time.Since(s.stall.since)))
	s.hurry() // who has slots stores them again before others take them
	return true
}

// mayBeStored reports whether what failed with err may have been stored, or may yet.
func mayBeStored(err error) bool {
	var refused *jetstream.APIError
	return !errors.As(err, &refused) && !isMissing(err) && !errors.Is(err, nats.ErrReconnectBufExceeded)
}

// settle leaves a conflict a moment.
func settle(ctx context.Context) error {
	if !pause(ctx, oncePause/2+rand.N(oncePause)) {
		return ctx.Err()
	}
	return nil
}
