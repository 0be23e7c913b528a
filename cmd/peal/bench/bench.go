package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what a run is about.
type Kind string

// The kinds.
const (
	Steady Kind = "steady" // all are connected, and told something all the time
	Storm  Kind = "storm"  // all were away while they were told, and come back at once
	Slow   Kind = "slow"   // as steady, without and with some who don't read
)

// Config says what to load, and with what. All of it is required but where it
// says otherwise.
type Config struct {
	Kind Kind

	// URLs are those of the notifications' event stream, one of each node: the
	// connections are spread over them in turn.
	URLs   []string
	Header http.Header // of every connection's request, beside its token; may be nil

	// Users have PerUser connections each. SlowUsers have as many and are the
	// ones who don't read, if Kind is Slow: SlowFor says how many of them.
	Users, SlowUsers []User
	PerUser          int

	// Rate is the notifications published a second, one for each user of a
	// post; Duration for how long.
	Rate     float64
	Duration time.Duration

	// Group is how many users are told by one Publish.
	Group   int
	Publish Publish

	// Patience is how long nothing must have come until what is missing counts
	// as lost. 0 means 10 s.
	Patience time.Duration

	// Processes is where to look up Nodes, the processes that hold the
	// connections, and NATS, those of JetStream, which may be the same. None
	// means unknown.
	Processes   Processes
	Nodes, NATS []int
	Self        int // the process that runs this

	// Say tells of the progress, a line each; called by one goroutine.
	Say func(string)
}

// SlowFor returns how many slow users go with so many others: of each 1,000,
// and at least once, one who stops reading and one who reads 10 bytes a second.
func SlowFor(users int) int { return 2 * max(1, users/1000) }

const (
	// connectAtOnce is how many connections are opened at a time but in a storm,
	// where it is all of them.
	connectAtOnce = 64

	// settling is how long one waits after the connecting, which would be seen
	// in the latency of what is published at once.
	settling = 500 * time.Millisecond

	// pairs is how often a slow run is done without and with the slow ones: of
	// three the median is not the one in which something else was going on.
	pairs = 3

	message = "You have been assigned ticket INC-2024-001234"
)

// runner is one run.
type runner struct {
	Config
	crowd  *crowd
	name   string // of this run, in the ids of its notifications
	count  int    // of campaigns, for the same
	report *Report
}

// Run loads the service and reports. When ctx ends it stops publishing and
// reports what it has. An error means that nothing could be measured.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	r := &runner{Config: cfg, name: strconv.FormatUint(rand.Uint64(), 36), report: &Report{
		Kind: cfg.Kind, Users: len(cfg.Users), Rate: cfg.Rate, Group: cfg.Group, Duration: seconds(cfg.Duration),
	}}
	crowd, err := newCrowd(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.crowd = crowd
	defer crowd.disconnect()
	r.report.Connections = len(crowd.connections)
	err = r.run(ctx)
	r.report.Interrupted = ctx.Err() != nil
	if err != nil && !(r.report.Interrupted && errors.Is(err, context.Canceled)) {
		return nil, err
	}
	crowd.disconnect()
	r.report.Refusals, r.report.Reconnects = crowd.refusals, crowd.reconnects.Load()
	r.report.Gaps, r.report.Foreign = crowd.gaps.Load(), crowd.foreign.Load()
	return r.report, nil
}

func (r *runner) run(ctx context.Context) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	switch r.Kind {
	case Storm:
		return r.storm(ctx)
	case Slow:
		return r.slow(ctx)
	}
	c := r.campaign(0, len(r.Users), r.Group, r.Rate, message)
	o, err := r.steady(ctx, "", c)
	r.report.Runs = append(r.report.Runs, o)
	return err
}

// connect opens all connections, and measures what that takes.
func (r *runner) connect(ctx context.Context) error {
	r.Say(fmt.Sprintf("opening %s connections", grouped(len(r.crowd.connections))))
	before, _ := r.Processes.sum(r.Nodes)
	began := time.Now()
	err := r.crowd.connect(ctx, connectAtOnce)
	r.report.Connect = newRate(r.crowd.open.Load(), time.Since(began))
	if err != nil {
		return err
	}
	pause(ctx, settling)
	if after, err := r.Processes.sum(r.Nodes); err == nil && before.resident > 0 {
		r.report.Memory = &Memory{
			Before: before.resident, After: after.resident,
			PerConnection: (after.resident - before.resident) / int64(len(r.crowd.connections)),
		}
	}
	return nil
}

// campaign plans what is published to the crowd's users from first to before
// end.
func (r *runner) campaign(first, end, group int, rate float64, message string) *campaign {
	r.count++
	prefix := fmt.Sprintf("bench-%s-%d-", r.name, r.count)
	return newCampaign(r.crowd, prefix, first, newSchedule(end-first, group, rate, r.Duration), message, r.Publish)
}

// steady runs a campaign to those who are connected. With it run others, which
// are waited for but not reported.
func (r *runner) steady(ctx context.Context, name string, c *campaign, others ...*campaign) (Outcome, error) {
	all := append([]*campaign{c}, others...)
	r.crowd.announce(all...)
	r.Say(fmt.Sprintf("publishing %s notifications for %v", grouped(c.notifications()), r.Duration))
	before := r.usages()
	began := time.Now()
	err := together(ctx, all)
	publishing := time.Since(began)
	if err != nil {
		return Outcome{}, err
	}
	c.await(ctx, r.Patience, r.Say)
	after := r.usages()
	pause(ctx, afterwards)

	o := c.outcome()
	o.Name, o.Seconds = name, seconds(publishing)
	l := newLatency(c.latencies())
	o.Latency = &l
	if len(others) == 0 { // else it is not known whose it was
		o.CPU = r.cpu(before, after, o.Delivered)
	}
	return o, nil
}

// together runs campaigns at the same time, until the first is refused.
func together(ctx context.Context, all []*campaign) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(all))
	for _, c := range all {
		go func() { errs <- c.run(ctx) }()
	}
	var first error
	for range all {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// storm publishes to users who are away, and has them come back at once.
func (r *runner) storm(ctx context.Context) error {
	r.crowd.disconnect()
	c := r.campaign(0, len(r.Users), r.Group, r.Rate, message)
	r.crowd.announce(c)
	r.Say(fmt.Sprintf("all are away: publishing %s notifications for %v", grouped(c.notifications()), r.Duration))
	if err := c.run(ctx); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	r.Say("all come back at once")
	before := r.usages()
	began := time.Now()
	if err := r.crowd.connect(ctx, len(r.crowd.connections)); err != nil {
		return err
	}
	storm := StormOutcome{Connect: newRate(int64(len(r.crowd.connections)), time.Since(began))}
	c.await(ctx, r.Patience, r.Say)
	after := r.usages()
	pause(ctx, afterwards)

	o := c.outcome()
	o.CPU = r.cpu(before, after, o.Delivered)
	r.report.Runs = append(r.report.Runs, o)
	caughtUp := c.caughtUp(began)
	if len(caughtUp) > 0 {
		storm.Seconds = seconds(slices.Max(caughtUp))
	}
	storm.CaughtUp = newLatency(caughtUp)
	r.report.Storm = &storm
	return nil
}

// What a slow user is told in a slow run: enough to fill every buffer on the way,
// and fewer notifications than an inbox keeps.
const (
	heavyMost  = 400 // in one campaign
	heavyRate  = 50  // a second, at most
	heavyRunes = 2000
)

// slow runs campaigns without and with the slow ones in turn. They are
// connected and told the same in both: only whether they read differs.
func (r *runner) slow(ctx context.Context) error {
	var p99s [2][]float64 // without, with
	s := &SlowOutcome{Stopped: len(r.crowd.brakes) / 2, Dripping: len(r.crowd.brakes) / 2}
	for i := range 2 * pairs {
		braked := i%2 == 1
		healthy := r.campaign(0, len(r.Users), r.Group, r.Rate, message)
		heavy := r.campaign(len(r.Users), len(r.crowd.users), 1, r.heavyRate(), strings.Repeat("m", heavyRunes))
		name := "without slow"
		if braked {
			name = "with slow"
			r.crowd.engage()
		}
		o, err := r.steady(ctx, name, healthy, heavy)
		heldBack := 0
		if braked {
			heldBack = heavy.missing()
			r.crowd.release()
		}
		if err != nil {
			return err
		}
		p99s[i%2] = append(p99s[i%2], o.Latency.P99)
		began := time.Now()
		heavy.await(ctx, r.Patience, r.Say)
		s.take(heavy.outcome(), heldBack, time.Since(began))
		r.report.Runs = append(r.report.Runs, o)
		if ctx.Err() != nil {
			return nil
		}
	}
	s.compare(median(p99s[0]), median(p99s[1]))
	r.report.Slow = s
	return nil
}

// median of an odd number of values.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// heavyRate is how many notifications a second the slow users are told.
func (r *runner) heavyRate() float64 {
	return float64(len(r.SlowUsers)) * min(heavyRate, heavyMost/r.Duration.Seconds())
}

// usages is what the processes have used up to now.
type usages struct{ node, nats, self usage }

func (r *runner) usages() usages {
	var u usages
	u.node, _ = r.Processes.sum(r.Nodes) // what is not known is zero
	u.nats, _ = r.Processes.sum(r.NATS)
	u.self, _ = r.Processes.usage(r.Self)
	return u
}

// cpu is what delivering so many events took.
func (r *runner) cpu(before, after usages, events int64) *CPU {
	if events == 0 || after.self.cpu == 0 {
		return nil
	}
	c := &CPU{Bench: perEvent(after.self.cpu-before.self.cpu, events)}
	if after.node.resident > 0 && before.node.resident > 0 {
		c.Node = perEvent(after.node.cpu-before.node.cpu, events)
		c.Together = slices.Equal(r.Nodes, r.NATS)
	}
	if after.nats.resident > 0 && before.nats.resident > 0 && !c.Together {
		c.NATS = perEvent(after.nats.cpu-before.nats.cpu, events)
	}
	return c
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
