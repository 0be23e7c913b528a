package bus

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/pealhq/peal"
)

// claim is the right to move a durable, which one follower in all regions has: the one that
// came last.
type claim struct {
	slot *Slot
	over atomic.Bool // lost or given back
}

// claimDurable takes the claim on a durable from whoever has it. lost is called once
// another takes it, perhaps before claimDurable returns, and not after Release. It
// must not block.
func (b *Bus) claimDurable(ctx context.Context, in peal.Inbox, of Followed, name string, lost func()) (*claim, error) {
	c := &claim{}
	var err error
	c.slot, err = b.Claim(ctx, in, claimName(of, name), func() {
		if c.over.CompareAndSwap(false, true) {
			lost()
		}
	})
	if err != nil {
		return nil, err
	}
	b.announceElsewhere(in, c.slot)
	return c, nil
}

// claimName is what is claimed: a token of a subject.
func claimName(of Followed, name string) string {
	return "durable_" + strings.ReplaceAll(string(of), "/", "_") + "_" + name
}

// Held reports whether nobody else is known to have it.
func (c *claim) Held() bool { return !c.over.Load() }

// Release gives the claim back, if nobody else has it.
func (c *claim) Release() {
	c.over.Store(true)
	c.slot.Release()
}
