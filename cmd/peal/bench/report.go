package bench

import (
	"math"
	"time"
)

// Report is what came of a run. What was not measured is nil or missing.
type Report struct {
	Kind        Kind `json:"kind"`
	Interrupted bool `json:"interrupted"` // the rest is what there was until then

	Users       int     `json:"users"` // but for the slow ones
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"`     // notifications a second that were to be published
	Group       int     `json:"perPost"`  // users told by one post
	Duration    float64 `json:"duration"` // of publishing, in seconds

	Connect Rate    `json:"connect"`
	Memory  *Memory `json:"memory,omitempty"`

	Runs  []Outcome     `json:"runs"`
	Storm *StormOutcome `json:"storm,omitempty"`
	Slow  *SlowOutcome  `json:"slow,omitempty"`

	// Refusals maps the status and code of refused connections, or "no answer",
	// to how many there were. They were tried again.
	Refusals map[string]int64 `json:"refusals,omitempty"`

	Reconnects int64 `json:"reconnects"` // of connections that ended against our will
	Gaps       int64 `json:"gaps"`       // events that declare history to be gone
	Foreign    int64 `json:"foreign"`    // notifications that this run did not publish
}

// Rate is how many were done, in which time.
type Rate struct {
	Count     int64   `json:"count"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
}

func newRate(n int64, d time.Duration) Rate {
	return Rate{n, seconds(d), math.Round(float64(n) / d.Seconds())}
}

// Memory is what the node holds in memory, in bytes: before the connections
// were opened, and half a second after. Garbage of the opening counts, so it is
// more than a connection needs; what a node had left from earlier connections
// does not, so it means something only for a node that has just started.
type Memory struct {
	Before        int64 `json:"before"`
	After         int64 `json:"after"`
	PerConnection int64 `json:"perConnection"`
}

// CPU is the processor time for one delivered event, in microseconds, of all
// that went on meanwhile: publishing, storing, heartbeats, and in a storm all
// the connecting. 0 is not measured. A slow run has none: what the slow ones are
// told costs too, and is not delivered.
type CPU struct {
	Node     float64 `json:"node"`
	NATS     float64 `json:"nats"`
	Together bool    `json:"together"` // node and JetStream are one process: see Node
	Bench    float64 `json:"bench"`
}

func perEvent(d time.Duration, events int64) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)/float64(events)*10) / 10
}

// Outcome is what became of what was published. Every connection is expected to
// receive, once and in order, everything that was stored for its user; each is
// counted for itself.
type Outcome struct {
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // that publishing took

	Published   int64   `json:"published"` // notifications stored: a post is one for each user it is for
	Posts       int     `json:"posts"`
	Late        int     `json:"late"`     // posts begun more than 10 ms behind schedule
	LatestMS    float64 `json:"latestMs"` // the most that a post was behind schedule
	Unconfirmed int     `json:"unconfirmed"`

	Delivered   int64 `json:"delivered"` // events, the first of each
	Lost        int64 `json:"lost"`
	Duplicated  int64 `json:"duplicated"`
	OutOfOrder  int64 `json:"outOfOrder"`
	Misdirected int64 `json:"misdirected"` // came to a connection of somebody else

	// Latency is from when a post was due, in milliseconds, until the event was
	// read: what is behind schedule counts, or a service that holds publishers
	// up would look fast.
	Latency *Latency `json:"latencyMs,omitempty"` // nil in a storm, for they were away
	CPU     *CPU     `json:"cpuMicroseconds,omitempty"`
}

// Faults counts what must not be.
func (o Outcome) Faults() int64 { return o.Lost + o.Duplicated + o.OutOfOrder + o.Misdirected }

// StormOutcome is how all came back at once. Times are from the moment they
// began to.
type StormOutcome struct {
	Connect  Rate    `json:"connect"`
	Seconds  float64 `json:"seconds"`    // until all had caught up
	CaughtUp Latency `json:"caughtUpMs"` // until a connection had all it missed
}

// SlowOutcome compares the others' latency without and with the slow ones.
type SlowOutcome struct {
	Stopped  int `json:"stopped"` // connections
	Dripping int `json:"dripping"`

	WithoutP99 float64 `json:"withoutP99Ms"` // the median of the runs without
	WithP99    float64 `json:"withP99Ms"`
	Ratio      float64 `json:"ratio"` // with to without

	// What the slow ones themselves had to receive. HeldBack had not come when
	// they began to read again, and had come CaughtUp seconds later at most.
	Published int64   `json:"published"`
	HeldBack  int64   `json:"heldBack"`
	CaughtUp  float64 `json:"caughtUpSeconds"`
	Faults    int64   `json:"faults"` // lost, duplicated, out of order or misdirected
}

// take adds a campaign to the slow ones.
func (s *SlowOutcome) take(o Outcome, heldBack int, caughtUp time.Duration) {
	s.Published += o.Published
	s.HeldBack += int64(heldBack)
	s.CaughtUp = max(s.CaughtUp, seconds(caughtUp))
	s.Faults += o.Faults()
}

func (s *SlowOutcome) compare(without, with float64) {
	s.WithoutP99, s.WithP99 = without, with
	if without > 0 {
		s.Ratio = math.Round(with/without*100) / 100
	}
}

// Faults counts what must not be, over all runs.
func (r *Report) Faults() int64 {
	var n int64
	for _, o := range r.Runs {
		n += o.Faults()
	}
	if r.Slow != nil {
		n += r.Slow.Faults
	}
	return n
}

// Unconfirmed counts the posts, over all runs, that were never acknowledged.
func (r *Report) Unconfirmed() (n int) {
	for _, o := range r.Runs {
		n += o.Unconfirmed
	}
	return n
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
