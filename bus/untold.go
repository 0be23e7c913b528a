package bus

import (
	"context"
	"slices"
	"sync"

	"github.com/pealhq/peal"
)

// maxAsked is how many inboxes Untold reads at once.
const maxAsked = 8

// Untold returns what is left of publications without the inboxes that hold a
// notification of that id, however long ago it was stored: it is for who publishes
// again after JetStream may have forgotten the first time. All of each inbox is
// read, so it is slow: a millisecond or more for each. The error is a
// peal.ErrUnavailable or ctx's.
func (b *Bus) Untold(ctx context.Context, publications ...Publication) ([]Publication, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		reading sync.WaitGroup
		turn    = make(chan struct{}, maxAsked)
		mu      sync.Mutex // protects the rest until all are read
		failed  error
		told    = make([][]bool, len(publications))
	)
	for i, p := range publications {
		told[i] = make([]bool, len(p.To))
		for j, in := range p.To {
			turn <- struct{}{}
			reading.Go(func() {
				defer func() { <-turn }()
				has, err := b.holds(ctx, in, p.Notification.ID)
				mu.Lock()
				defer mu.Unlock()
				told[i][j] = has
				if err != nil && failed == nil {
					failed = err
					cancel()
				}
			})
		}
	}
	reading.Wait()
	if failed != nil {
		return nil, unavailable("look who is told already", failed)
	}
	left := slices.Clone(publications)
	for i, p := range publications {
		left[i].To = nil
		for j, in := range p.To {
			if !told[i][j] {
				left[i].To = append(left[i].To, in)
			}
		}
	}
	return left, nil
}

// holds reports whether an inbox has a notification of an id.
func (b *Bus) holds(ctx context.Context, in peal.Inbox, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	part, pl := b.partition(in)
	c, err := part.contents(ctx, pl, everything)
	if err != nil {
		return false, err
	}
	msgID := notificationID(in, id)
	return slices.ContainsFunc(c.kept, func(k kept) bool { return k.msgID == msgID }), nil
}
