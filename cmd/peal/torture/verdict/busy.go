package verdict

import (
	"slices"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// A machine that has nothing left is a reason for what takes too long, and everybody who
// asks is on the same one.

const (
	busyFor  = 5 * second // that it was so, before a refusal
	busySeen = 4          // times in them, at least
	busyIdle = 0.1        // of all processors' time, at most
	busyPart = 100        // of all requests one in so many, at most, is refused for that
)

// load notes how busy the machine was.
func (c *Checker) load(r *history.Record) {
	c.loads = slices.DeleteFunc(append(c.loads, *r), func(l history.Record) bool { return l.At < r.At-busyFor })
}

// busy reports whether the machine has had nothing left of late.
func (c *Checker) busy() bool {
	idle := 0.0
	for _, l := range c.loads {
		idle += l.Idle
	}
	return len(c.loads) >= busySeen && c.loads[len(c.loads)-1].At > c.now-busyFor && idle/float64(len(c.loads)) < busyIdle
}

// mayBeUnavailable reports whether there is a reason for a 503 UNAVAILABLE.
func (c *Checker) mayBeUnavailable(r *history.Record) bool {
	switch {
	case r.Status != 503 || r.Code != "UNAVAILABLE":
		return false
	case c.troubled():
		return true
	case c.busy() && !c.tested():
		c.report.Busy++
		return true
	}
	return false
}

// tested reports whether something that nobody is to notice is under way, or was a moment
// ago: then a refusal is no matter of the machine.
func (c *Checker) tested() bool {
	return slices.ContainsFunc(c.faults, func(f *fault) bool {
		return f.harmless() && f.Name != Slow && (f.healed == 0 || c.now-f.healed < busyFor)
	})
}

// tooBusy judges whether there were more of those than a busy machine explains.
func (c *Checker) tooBusy(last *history.Record) {
	if c.report.Busy*busyPart > c.report.Requests {
		c.broken(last, Undocumented, "%d of %d requests were answered 503 UNAVAILABLE without a fault, while the machine was busy", c.report.Busy, c.report.Requests)
	}
}
