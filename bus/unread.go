package bus

import (
	"context"

	"github.com/pealhq/peal"
)

// Unread returns how many notifications of an inbox are unread up to a cursor,
// and the version of its read state. What a feed that starts at the cursor
// delivers adds to the number.
//
// Nothing can be marked as read yet: the read state of every inbox is the
// first one, and all that is stored is unread.
func (b *Bus) Unread(ctx context.Context, in peal.Inbox, upTo Cursor) (unread uint64, state Cursor, err error) {
	part, pl := b.partition(in)
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	return part.unread(ctx, pl.subject("inbox", b.cfg.Region), upTo)
}

func (p *partition) unread(ctx context.Context, subject string, upTo Cursor) (unread uint64, state Cursor, err error) {
	unread, err = p.countUpTo(ctx, subject, upTo.Seq)
	return unread, Cursor{Epoch: p.stateEpoch()}, err
}

// countUpTo returns how many messages an inbox holds up to a sequence. The
// server only counts to the end, so it is a difference, and good if what
// follows was the same before and after the whole was counted. That takes an
// inbox to hold still for a fraction of a millisecond; one that never does, at
// thousands of notifications a second, gets a number that is a few too low.
func (p *partition) countUpTo(ctx context.Context, subject string, seq uint64) (uint64, error) {
	const patience = 10
	after, err := p.count(ctx, subject, seq+1)
	if err != nil {
		return 0, err
	}
	var total uint64
	for range patience {
		if total, err = p.count(ctx, subject, 1); err != nil {
			return 0, err
		}
		if total == 0 {
			return 0, nil
		}
		again, err := p.count(ctx, subject, seq+1)
		if err != nil {
			return 0, err
		}
		if again == after {
			break
		}
		after = again
	}
	return total - min(after, total), nil
}
