package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/pealhq/peal"
)

// MaxQueue bounds the stored members of a queue, in bytes: one NATS message is at
// most a mebibyte.
const MaxQueue = 1_000_000

// SetQueue remembers the members of a tenant's queue, instead of those it had, and
// returns when they are on disk. They count for events that are worked on from
// then on. Of two calls at once one counts.
//
// The error is a peal.ErrInvalid for members that take more than MaxQueue bytes, a
// peal.ErrUnavailable or ctx's.
func (b *Bus) SetQueue(ctx context.Context, t peal.Tenant, queue string, members []peal.Inbox) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	byNamespace := make(map[peal.Namespace][]peal.UserID)
	for _, in := range members {
		byNamespace[in.Namespace] = append(byNamespace[in.Namespace], in.User)
	}
	for ns, users := range byNamespace {
		slices.Sort(users)
		byNamespace[ns] = slices.Compact(users)
	}
	value, err := json.Marshal(byNamespace)
	if err != nil {
		return err
	}
	if len(value) > MaxQueue {
		return peal.Invalid("members", fmt.Sprintf("must be at most %d bytes as JSON", MaxQueue))
	}
	h := b.homeOf(t)
	if err := b.putKey(ctx, h.layout().queue(), queueKey(h.region, t, queue), value); err != nil {
		return unavailable("store members of a queue", err)
	}
	return nil
}

// Queue returns the members of a tenant's queue, as the leader has them, in a fixed
// order; none of a queue that is not known. What can't be read counts as none. The
// error is a peal.ErrUnavailable or ctx's.
func (b *Bus) Queue(ctx context.Context, t peal.Tenant, queue string) ([]peal.Inbox, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	h := b.homeOf(t)
	key := queueKey(h.region, t, queue)
	m, err := b.getKey(ctx, h.layout().queue(), key)
	if err != nil {
		return nil, unavailable("read members of a queue", err)
	}
	if m == nil || isMarker(*m) {
		return nil, nil
	}
	var byNamespace map[peal.Namespace][]peal.UserID
	if err := json.Unmarshal(m.data, &byNamespace); err != nil {
		b.log.Error("members of a queue can't be read and are passed over", "key", key, "err", err)
		return nil, nil
	}
	var members []peal.Inbox
	for _, ns := range slices.Sorted(maps.Keys(byNamespace)) {
		for _, user := range byNamespace[ns] {
			members = append(members, peal.Inbox{Tenant: t, Namespace: ns, User: user})
		}
	}
	return members, nil
}

// queueKey is the key of the members of a queue: two tokens.
func queueKey(r Region, t peal.Tenant, queue string) string {
	return keySubject(queueBucket(r), string(t), escape(queue))
}
