package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// The bucket of slots is in memory: when all servers that have it were restarted, or
// somebody has deleted it, it is there again and empty, and every slot looks free that
// some process holds. So the bucket has a key that stays as long as anything does. Where
// that is missing it is stored again, and nobody gains a slot until each process has had
// the time to store again what it holds.

const (
	keyIntact = "intact"

	// afterLoss is what the key says where slots may have been lost before it was stored.
	afterLoss = "lost"

	// intactFor is for how long an answer counts: servers that are all restarted take
	// longer to be there again, or this process has lost its connection. Whoever deletes
	// the bucket by hand may be faster, where another process is the first to miss it.
	intactFor = time.Second

	// lostFor is for how long it counts that slots were lost.
	lostFor = 200 * time.Millisecond
)

var errSlotsLost = fmt.Errorf("slots were lost with the memory of NATS, and each process stores its own again first: %w", peal.ErrUnavailable)

// intactness is what is known of it.
type intactness struct {
	asking     chan struct{} // capacity 1: who asks, and whose the rest is meanwhile
	since      time.Time     // when it was asked that has found the bucket intact
	reconnects uint64        // of the connection, until then
	stored     string        // when the key was, which tells one bucket from another
	another    string        // the same of another bucket, which may lack slots yet
	seen       time.Time     // when that was seen first
	lost       time.Time     // when it was told that slots were lost: very many may ask then
}

// intact returns nil if what the bucket does not have is free, and an errSlotsLost while
// it may be somebody's. An answer counts if it was asked for at since, or later. The
// bucket that it tells of is the same one as long as it tells the same.
func (s *slots) intact(ctx context.Context, since time.Time) (bucket string, err error) {
	if s.bus.cfg.Server != nil {
		return "", nil // with its memory all are gone who hold slots
	}
	k, came := &s.known, time.Now()
	select {
	case k.asking <- struct{}{}:
		defer func() { <-k.asking }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	// What was asked after this one came is as good as its own question, however long the
	// answer took: many wait for it.
	now, reconnects := time.Now(), s.bus.write.Stats().Reconnects
	if reconnects == k.reconnects && !k.since.Before(since) {
		return k.stored, nil
	}
	if now.Sub(k.lost) < lostFor || k.lost.After(came) {
		return "", errSlotsLost
	}
	m, err := s.last(ctx, keyIntact)
	if err != nil {
		return "", err
	}
	if m == nil {
		if err := s.declareLost(ctx); err != nil {
			return "", err
		}
		if m, err = s.last(ctx, keyIntact); err != nil {
			return "", err
		}
	}
	if m == nil {
		return "", errSlotsLost // again
	}
	if stored := m.header.Get(headerTime); stored != k.stored {
		switch restored, err := s.restored(ctx, m, stored); {
		case err != nil:
			return "", err
		case !restored:
			k.lost = now
			return "", errSlotsLost
		}
		k.stored = stored
	}
	k.since, k.reconnects = now, reconnects
	return k.stored, nil
}

// last is what the leader has of a key of the bucket. If there is no bucket any more it
// is created.
func (s *slots) last(ctx context.Context, key string) (*stored, error) {
	get := leaderGet{LastFor: keySubject(s.bucket, key)}
	m, err := leaderBy(ctx, s.bus.write, s.stream, get)
	if errors.Is(err, jetstream.ErrStreamNotFound) && s.restore(ctx) {
		m, err = leaderBy(ctx, s.bus.write, s.stream, get)
	}
	return m, err
}

// restored reports whether each process has had the time to store again what it holds in
// a bucket whose key was stored then.
//
// Who knew another bucket goes by its own clock, from when it has seen this one. Who has
// just started can't know how old the bucket is, and asks the leader too: that may be
// another one than stored the key, with another clock, and so it does not count alone.
func (s *slots) restored(ctx context.Context, key *stored, at string) (bool, error) {
	k := &s.known
	if k.stored == "" {
		if string(key.data) != afterLoss {
			return true, nil
		}
		if old, err := s.olderThanLoss(ctx, at); old || err != nil {
			return old, err
		}
	}
	if at != k.another {
		k.another, k.seen = at, time.Now()
		if s.lostIn(at) { // else who has heard of it stores already
			s.tell(allLost + at)
		}
	}
	return time.Since(k.seen) >= s.restoreTime(), nil
}

// olderThanLoss reports whether slots that were lost are stored again in a bucket whose
// key was stored then, by the leader's clock.
func (s *slots) olderThanLoss(ctx context.Context, at string) (bool, error) {
	since, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return false, fmt.Errorf("when slots were lost: %w", err)
	}
	bucket, err := s.bus.streams(s.bus.writes).find(ctx, s.stream)
	if err != nil {
		return false, unavailable("see when slots were lost", err)
	}
	return bucket.CachedInfo().TimeStamp.Sub(since) >= s.restoreTime(), nil
}

// lostIn has what this process holds stored again, in the bucket whose key was stored
// then, and reports whether that is news.
func (s *slots) lostIn(at string) bool {
	if was := s.lostSince.Swap(&at); was != nil && *was == at {
		return false
	}
	s.hurry()
	s.rouse()
	return true
}

// declareLost has nobody gain a slot for a while. In a region that is younger than a slot
// can be nobody has any.
func (s *slots) declareLost(ctx context.Context) error {
	young, err := s.young(ctx)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: keySubject(s.bucket, keyIntact), Header: nats.Header{jetstream.MsgTTLHeader: {"never"}}}
	if !young {
		m.Data = []byte(afterLoss)
	}
	switch _, err := s.bus.writes.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(0)); {
	case isConflict(err):
		return nil // another says so
	case err != nil:
		return unavailable("say that slots were lost", err)
	}
	if !young {
		s.bus.log.Warn("connection slots were lost with the memory of NATS: nobody gets one until all processes have stored theirs again",
			"bucket", s.bucket, "for", s.restoreTime())
	}
	return nil
}

// restoreTime is within what each process that has lost its connection at the same moment
// stores again what it holds: it comes back and waits in vain once, for Config.Timeout, for
// a bucket that nobody leads yet, and then takes two seconds. It is no longer than a turn
// of the ring, after which all were renewed in any case.
func (s *slots) restoreTime() time.Duration {
	return ttl(min(2*s.bus.cfg.Timeout, s.ttl/slotRenewals))
}

// young reports whether the region is younger than a slot can be.
func (s *slots) young(ctx context.Context) (bool, error) {
	first, err := s.bus.streams(s.bus.writes).find(ctx, inboxStream(s.bus.cfg.Region, 0))
	if err != nil {
		return false, unavailable("see how old the region is", err)
	}
	info := first.CachedInfo()
	return !info.TimeStamp.IsZero() && info.TimeStamp.Sub(info.Created) < s.ttl, nil
}
