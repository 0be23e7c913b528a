package verdict

import (
	"slices"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// The names of faults.
const (
	NodeKill     = "node killed"
	NodeStop     = "node stopped"
	WorkerKill   = "worker killed"
	WorkerStop   = "worker stopped"
	FollowerKill = "follower killed"
	FollowerStop = "follower stopped"
	LeaderKill   = "leader killed"
	LeaderStop   = "leader stopped"
	AllKill      = "all NATS killed"
	AllStop      = "all NATS stopped"
	CutBoth      = "NATS server cut off"
	CutOneWay    = "NATS server cut off one way"
	CutMinority  = "minority cut off"
	CutNode      = "node cut off from NATS"
	Rolling      = "rolling restart"
	Storm        = "connect storm"
	Slow         = "slow clients"
	IssuerDown   = "issuer down"
	Rotation     = "keys rotated"
	FullDisk     = "disk full"
)

// harmless are the faults that nobody but the operator may notice at all: they are a
// reason for nothing.
var harmless = []string{WorkerKill, WorkerStop, Slow, IssuerDown, Rotation}

// fault is one of them, from its begin to the end of its aftermath.
type fault struct {
	history.Record
	healed int64 // 0: under way
	alone  bool  // no other that is not harmless overlaps it

	held    int64 // the longest that a publish took
	back    int64 // the longest that a device that was cut off took to be back
	first   int64 // from the end to the first notification published after it
	cut     int   // connections
	drained map[string]int
	returns []int64 // when connections that were drained came back, for the last few seconds
	peak    int
}

// FaultSummary is what all faults of a name have come to.
type FaultSummary struct {
	Count   int
	Held    time.Duration // the longest that a publish took
	Back    time.Duration // the longest that a device took to be back
	First   time.Duration // the longest until the first notification came
	Cut     int           // connections cut off
	Drained int           // connections drained
	Peak    float64       // returns a second
	Allowed float64       // of those
}

func (c *Checker) fault(r *history.Record) {
	f := &fault{Record: *r, alone: true, drained: make(map[string]int)}
	if !f.harmless() {
		for _, other := range c.faults {
			if !other.harmless() {
				f.alone, other.alone = false, false
			}
		}
	}
	c.faults = append(c.faults, f)
}

// slotsBack is for how long nobody gets a slot once JetStream is back: its memory is gone
// when all of it was killed.
func (f *fault) slotsBack() time.Duration {
	if f.Name == AllKill {
		return 10 * time.Second
	}
	return 0
}

func (f *fault) harmless() bool { return slices.Contains(harmless, f.Name) }

func (c *Checker) healed(r *history.Record) {
	i := slices.IndexFunc(c.faults, func(f *fault) bool { return f.ID == r.ID && f.healed == 0 })
	if i < 0 {
		c.broken(r, Unreadable, "fault %d ends, which is none", r.ID)
		return
	}
	c.faults[i].healed = r.At
}

// expireFaults forgets the faults whose aftermath is over.
func (c *Checker) expireFaults() {
	c.faults = slices.DeleteFunc(c.faults, func(f *fault) bool {
		if f.healed == 0 || c.now-f.healed < (c.cfg.Aftermath+f.slotsBack()).Microseconds() {
			return false
		}
		if !f.harmless() {
			c.calm = max(c.calm, f.healed)
		}
		c.sum(&history.Record{File: f.File, Line: f.Line}, f)
		return true
	})
}

// troubled reports whether a fault is a reason for a refusal.
func (c *Checker) troubled() bool {
	return slices.ContainsFunc(c.faults, func(f *fault) bool { return !f.harmless() })
}

func (c *Checker) suffers(name string) bool {
	return slices.ContainsFunc(c.faults, func(f *fault) bool { return f.Name == name })
}

// cuts reports whether a fault cuts off the connections of a node.
func (c *Checker) cuts(node string) bool {
	return slices.ContainsFunc(c.faults, func(f *fault) bool {
		return f.Name == Rolling || f.Name == NodeKill && f.Node == node
	})
}

// held notes how long a publish took that is acknowledged now.
func (c *Checker) held(r *history.Record, p *publication) {
	for _, f := range c.faults {
		if f.healed == 0 || p.begun < f.healed {
			f.held = max(f.held, r.At-max(p.begun, f.At))
		}
	}
}

// arrived notes that a notification has come.
func (c *Checker) arrived(r *history.Record, it *item) {
	for _, f := range c.faults {
		if f.first == 0 && f.healed != 0 && it.begun > f.healed {
			f.first = r.At - f.healed
		}
	}
}

// returning is a device that was cut off by the kill of its node.
type returning struct {
	device *device
	since  int64
	fault  *fault
}

// cutOff notes what a connection was cut off by.
func (c *Checker) cutOff(r *history.Record, k *conn) {
	for _, f := range c.faults {
		switch {
		case f.Name == Rolling && k.last == "DRAINING":
			f.drained[k.node]++
			k.device.drainedBy = f
		case f.Name == NodeKill && f.Node == k.node && k.last == "":
			f.cut++
			c.waiting = append(c.waiting, &returning{k.device, r.At, f})
		case k.last == "" && f.healed == 0 && !f.harmless():
			f.cut++
		}
	}
}

// back notes that a device has a connection again.
func (c *Checker) back(r *history.Record, d *device) {
	c.waiting = slices.DeleteFunc(c.waiting, func(w *returning) bool {
		if w.device != d {
			return false
		}
		took := r.At - w.since - r.Paused
		w.fault.back = max(w.fault.back, took)
		if took > c.cfg.BackAgain.Microseconds() && w.fault.alone {
			c.broken(r, Late, "device %s is back %v after its node was killed, and %v of back-off", d.name, micros(took), micros(r.Paused))
		}
		return true
	})
	f := d.drainedBy
	if d.drainedBy = nil; f == nil {
		return
	}
	f.returns = append(f.returns, r.At)
	for f.returns[0] < r.At-rateOver {
		f.returns = f.returns[1:]
	}
	f.peak = max(f.peak, len(f.returns))
}

// rateOver is over how long a rate is measured: in less, chance would decide.
const rateOver = 5 * second

func (c *Checker) notBack(r *history.Record, w *returning) {
	if c.devices[w.device.name] == w.device && w.device.conn == nil && len(w.device.user.past) <= c.bounds.Limit {
		c.broken(r, Late, "device %s never came back after %s was killed", w.device.name, w.fault.Node)
	}
}

// sum adds a fault that is over to what its kind has come to.
func (c *Checker) sum(r *history.Record, f *fault) {
	s := c.report.Faults[f.Name]
	if s == nil {
		s = &FaultSummary{}
		c.report.Faults[f.Name] = s
	}
	s.Count++
	s.Cut += f.cut
	s.Held = max(s.Held, micros(f.held))
	s.Back = max(s.Back, micros(f.back))
	s.First = max(s.First, micros(f.first))
	if f.Name == LeaderKill && f.alone && f.held > c.cfg.PublishAgain.Microseconds() {
		c.broken(r, Late, "a publish took %v when %s, the leader, was killed", micros(f.held), f.Node)
	}
	if (f.Name == AllKill || f.Name == AllStop) && f.alone && f.first > c.cfg.FirstAgain.Microseconds() {
		c.broken(r, Late, "the first notification came %v after NATS was back", micros(f.first))
	}
	most := 0
	for _, n := range f.drained {
		most = max(most, n)
		s.Drained += n
	}
	if f.Name != Rolling || c.bounds.Window == 0 {
		return
	}
	peak := float64(f.peak) / (float64(rateOver) / float64(second))
	allowed := 1.5 * float64(most) / (float64(c.bounds.Window) / float64(second))
	if peak > s.Peak {
		s.Peak, s.Allowed = peak, allowed
	}
	if peak > allowed && f.peak >= fewReturns && f.alone {
		c.broken(r, Late, "%.1f connections a second came back in a rolling restart, and %.1f may", peak, allowed)
	}
}

// fewReturns in rateOver are no rate.
const fewReturns = 60
