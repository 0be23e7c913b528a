package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Once notes an id for keep, which is rounded up to whole seconds, and reports
// whether this call is the first in the cluster to note it, however many do at
// once. An id is a list of parts, of any bytes: that of a logout token is its
// realm and its jti.
//
// The errors are those of Revoke. After a peal.ErrUnavailable the id may have
// been noted.
func (b *Bus) Once(ctx context.Context, keep time.Duration, id ...string) (first bool, err error) {
	const doing = "note an id"
	if len(id) == 0 {
		return false, peal.Invalid("id", "must have a part")
	}
	if err := checkKeep(keep); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	key := b.onceKey(id)
	for last := uint64(0); ; { // the sequence of what marks that the key is gone; 0: there is nothing
		_, err := b.put(ctx, key, nil, keep, jetstream.WithExpectLastSequencePerSubject(last))
		if err == nil {
			return true, nil
		}
		if !isConflict(err) {
			return false, unavailable(doing, err)
		}
		m, err := b.lastFromLeader(ctx, key)
		switch {
		case err != nil:
			return false, unavailable(doing, err)
		case m == nil: // another's is under way, or has just left
			last = 0
		case !isMarker(*m):
			return false, nil
		default:
			last = m.seq
		}
		select {
		case <-ctx.Done():
			return false, unavailable(doing, ctx.Err())
		case <-time.After(oncePause):
		}
	}
}

// oncePause is for how long a conflict is left to settle.
const oncePause = 5 * time.Millisecond

// Used reports whether Once has noted an id that is still remembered. The error
// is a peal.ErrUnavailable or ctx's.
func (b *Bus) Used(ctx context.Context, id ...string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	m, err := b.lastFromLeader(ctx, b.onceKey(id))
	if err != nil {
		return false, unavailable("look for an id", err)
	}
	return m != nil && !isMarker(*m), nil
}

func (b *Bus) onceKey(id []string) string { return keySubject(b.revoked(), keyOnce, hashed(id...)) }

// lastFromLeader reads what the leader has for a key of the bucket; nil if it
// has nothing.
func (b *Bus) lastFromLeader(ctx context.Context, key string) (*stored, error) {
	return b.getFromLeader(ctx, bucketStream(b.revoked()), leaderGet{LastFor: key})
}

// isConflict reports whether a key was not as it was expected. Streams with
// replicas say so by another code while a message of the subject is being stored.
func isConflict(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
