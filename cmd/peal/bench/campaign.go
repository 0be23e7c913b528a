package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Publish publishes one notification to some users, and returns when it is
// stored for all of them. id is the notification's. An error means that it may
// be stored or not: the same call is made again, unless it wraps ErrRefused.
type Publish func(ctx context.Context, to []string, id, message string) error

// ErrRefused: the service does not take a notification, and would not take it
// again.
var ErrRefused = errors.New("refused")

const (
	// maxPublishers bounds the posts under way. Users are shared among the
	// publishers for good, and each publishes one after another: so it is known
	// in which order a user is to be told.
	maxPublishers = 256

	// behind is how late a post is reported as late.
	behind = 10 * time.Millisecond

	// A post that fails is repeated until repeatFor is over.
	repeatEvery = 100 * time.Millisecond
	repeatFor   = 15 * time.Second
)

// campaign publishes one schedule to some of the users of a crowd, and keeps
// the books of what their connections received.
type campaign struct {
	schedule
	crowd   *crowd
	first   int // the crowd's user that is the schedule's user 0
	prefix  string
	message string
	publish Publish
	ledgers []ledger // of the connections of the schedule's users, in the crowd's order

	begin  time.Time    // set before the first post
	rounds []int        // group → posts tried; each written by one publisher, to be read after run
	posted atomic.Int64 // notifications stored

	received    atomic.Int64 // events, each once per connection
	misdirected atomic.Int64 // events that were for somebody else, or for nobody

	mu     sync.Mutex    // protects the rest
	failed map[int]bool  // posts of which it is not known whether they were stored
	late   int           // posts begun more than behind too late
	latest time.Duration // that a post was begun too late
}

// newCampaign plans a campaign to the crowd's users from first on. Its prefix
// must be of its own.
func newCampaign(c *crowd, prefix string, first int, s schedule, message string, p Publish) *campaign {
	return &campaign{
		schedule: s, crowd: c, first: first, prefix: prefix, message: message, publish: p,
		ledgers: make([]ledger, s.users*c.perUser),
		rounds:  make([]int, s.groups()),
		failed:  make(map[int]bool),
	}
}

// run publishes everything by the clock. It returns an error only if the
// service refuses a notification; if ctx ends it publishes no more.
func (c *campaign) run(ctx context.Context) error {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	c.begin = time.Now()
	publishers := min(c.groups(), maxPublishers)
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			if err := c.work(ctx, p, publishers); err != nil {
				refuse(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); errors.Is(err, ErrRefused) {
		return err
	}
	return nil
}

// work publishes to one publisher's share of the groups.
func (c *campaign) work(ctx context.Context, publisher, publishers int) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for round := 0; ; round++ {
		for group := publisher; group < c.groups(); group += publishers {
			post, planned := c.schedule.post(group, round)
			if !planned {
				return nil
			}
			timer.Reset(time.Until(c.begin.Add(c.due(post))))
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
			c.noteDelay(time.Since(c.begin) - c.due(post))
			if err := c.send(ctx, post); err != nil {
				return err
			}
		}
	}
}

func (c *campaign) noteDelay(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d > behind {
		c.late++
	}
	c.latest = max(c.latest, d)
}

// send publishes one post, again and again if need be.
func (c *campaign) send(ctx context.Context, post int) error {
	group, round := c.place(post)
	first, end := c.members(group)
	to := c.crowd.names(c.first+first, c.first+end)
	c.rounds[group] = round + 1
	giveUp := time.Now().Add(repeatFor)
	for {
		err := c.publish(ctx, to, c.prefix+strconv.Itoa(post), c.message)
		if err == nil {
			c.posted.Add(int64(len(to)))
			return nil
		}
		if errors.Is(err, ErrRefused) {
			return err
		}
		select {
		case <-time.After(repeatEvery):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || time.Now().After(giveUp) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.failed[post] = true
			return nil
		}
	}
}

// receive takes an event that the crowd's connection of that index has read;
// false if it is not of this campaign.
func (c *campaign) receive(connection int, id string, at time.Time) bool {
	number, ours := strings.CutPrefix(id, c.prefix)
	if !ours {
		return false
	}
	post, err := strconv.Atoi(number)
	own := connection - c.first*c.crowd.perUser // its place in this campaign
	if err != nil || post < 0 || post >= c.posts || own < 0 || own >= len(c.ledgers) {
		c.misdirected.Add(1)
		return true
	}
	group, round := c.place(post)
	if own/c.crowd.perUser/c.group != group {
		c.misdirected.Add(1)
		return true
	}
	if c.ledgers[own].take(round, at.Sub(c.begin)-c.due(post), at) {
		c.received.Add(1)
	}
	return true
}

// missing counts what connections should have received and did not. To be
// called after run.
func (c *campaign) missing() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for i := range c.ledgers {
		group := i / c.crowd.perUser / c.group
		var excused func(int) bool
		if len(c.failed) > 0 {
			excused = func(round int) bool {
				post, _ := c.schedule.post(group, round)
				return c.failed[post]
			}
		}
		n += c.ledgers[i].missing(c.rounds[group], excused)
	}
	return n
}

const (
	// stopPatience is the patience after the run was interrupted. longest bounds
	// the waiting altogether.
	stopPatience = 2 * time.Second
	longest      = 5 * time.Minute

	// afterwards is how long one goes on reading when all is there: a repeat
	// would come now.
	afterwards = 500 * time.Millisecond

	look = 20 * time.Millisecond
)

// await waits until every connection has everything, or nothing has come for
// as long as patience. To be called after run.
func (c *campaign) await(ctx context.Context, patience time.Duration, say func(string)) {
	every := time.NewTicker(look)
	defer every.Stop()
	began := time.Now()
	received, moved, said := c.received.Load(), began, began
	for {
		// The sum is a quick look; only then each connection is asked.
		if c.received.Load() >= c.posted.Load()*int64(c.crowd.perUser) && c.missing() == 0 {
			return
		}
		now := <-every.C
		if n := c.received.Load(); n != received {
			received, moved = n, now
		}
		if ctx.Err() != nil {
			patience = min(patience, stopPatience)
		}
		if now.Sub(moved) > patience || now.Sub(began) > longest {
			return
		}
		if now.Sub(said) > time.Second {
			said = now
			say(fmt.Sprintf("waiting for what is on its way: %s of %s received",
				grouped(received), grouped(c.posted.Load()*int64(c.crowd.perUser))))
		}
	}
}

// latencies returns all that were measured.
func (c *campaign) latencies() []time.Duration {
	all := make([]time.Duration, 0, c.received.Load())
	for i := range c.ledgers {
		l := &c.ledgers[i]
		l.mu.Lock()
		all = append(all, l.latencies...)
		l.mu.Unlock()
	}
	return all
}

// caughtUp returns for each connection that received something how long after
// a moment it had its newest.
func (c *campaign) caughtUp(since time.Time) []time.Duration {
	var all []time.Duration
	for i := range c.ledgers {
		l := &c.ledgers[i]
		l.mu.Lock()
		if l.unique > 0 {
			all = append(all, l.last.Sub(since))
		}
		l.mu.Unlock()
	}
	return all
}

// outcome sums the books up. To be called after run.
func (c *campaign) outcome() Outcome {
	o := Outcome{
		Published:   c.posted.Load(),
		Delivered:   c.received.Load(),
		Lost:        int64(c.missing()),
		Misdirected: c.misdirected.Load(),
	}
	for i := range c.ledgers {
		l := &c.ledgers[i]
		l.mu.Lock()
		o.Duplicated += int64(l.duplicated)
		o.OutOfOrder += int64(l.disordered)
		l.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.rounds {
		o.Posts += n
	}
	o.Unconfirmed, o.Late, o.LatestMS = len(c.failed), c.late, milliseconds(c.latest)
	return o
}
