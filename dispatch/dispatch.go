package dispatch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// Config tunes a Dispatcher. The zero value is the production default.
type Config struct {
	// Templates are the words of notifications, where they are to be others than
	// the default ones.
	Templates Templates

	// ActionHosts are the hosts that an absolute actionUrl of a template may name,
	// as host or host:port in lower case. Empty means none.
	ActionHosts []string

	// Settled, if not nil, is called for each event that is done or has become a
	// dead letter, with how long ago it was stored. It is called concurrently.
	Settled func(Outcome, time.Duration)

	// Tracer records the work on each event, as part of what the event belongs to. nil
	// records nothing.
	Tracer trace.Tracer

	// Logger gets one line when something begins to matter and one when it
	// ends. nil discards them.
	Logger *slog.Logger
}

// Outcome is what became of an event: the label of a metric.
type Outcome string

// The outcomes.
const (
	Told    Outcome = "told"    // whoever was to be told is
	Expired Outcome = "expired" // it was not worth a notification any more
	Silent  Outcome = "silent"  // of a type that notifies nobody
	Buried  Outcome = "buried"  // it is a dead letter
)

// Dispatcher works on ticket events: each becomes the notifications of those who
// are to be told, and an update for lists of tickets. Any number of processes have
// one each on the same bus.
type Dispatcher struct {
	cfg       Config
	log       *slog.Logger
	bus       *bus.Bus
	directory func() *auth.Directory
	rules     *Rules
	late      time.Duration

	mu       sync.Mutex   // protects troubled
	troubled map[int]bool // the partitions of which an event could not be worked on, and none was since
}

// New returns a dispatcher that finds users by the directory of the moment. It owns
// neither that nor the bus. The error says which template can't be used, and why.
func New(cfg Config, b *bus.Bus, directory func() *auth.Directory) (*Dispatcher, error) {
	rules, err := NewRules(cfg.Templates, cfg.ActionHosts)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.Tracer{}
	}
	return &Dispatcher{cfg: cfg, log: cfg.Logger, bus: b, directory: directory, rules: rules, late: lateAfter, troubled: make(map[int]bool)}, nil
}

// trouble notes whether an event of a partition could be worked on, and reports whether
// that is news: it is the first that could not, or the last that now can.
func (d *Dispatcher) trouble(partition int, is bool) (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.troubled)
	if is {
		d.troubled[partition] = true
	} else {
		delete(d.troubled, partition)
	}
	return (before == 0) != (len(d.troubled) == 0)
}

// Run works until ctx ends, and returns when no event is under way. What it could
// not finish others do, or the next that runs.
func (d *Dispatcher) Run(ctx context.Context) error { return d.bus.Work(ctx, d.work) }

const (
	// lateAfter is how long after an event was stored the inboxes are asked who is
	// told already: JetStream remembers for 10 minutes what was stored.
	lateAfter = 8 * time.Minute

	// tellWithin is how long after that, or after they were asked, users are told: a
	// minute less than is remembered.
	tellWithin = time.Minute

	// An event that could not be worked on for a reason that passes is tried again
	// after a pause that doubles, or up to a quarter of it less, at random.
	firstPause = time.Second
	mostPause  = 5 * time.Minute
)

// pause is how long to wait before the next try.
func pause(tries int) time.Duration {
	p := min(firstPause<<min(max(tries-1, 0), 10), mostPause)
	return p - rand.N(p/4)
}
