package verdict

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what a history has come to.
type Report struct {
	Seed         uint64
	Records      int
	Began, Ended int64 // microseconds since 1970

	Users, Devices, Gone int
	Published            int // publications that were sent
	Acknowledged         int
	Unknown              int // of those, never acknowledged
	NoAnswer             int // tries to publish without an answer
	Retried              int // retries of what was acknowledged
	Delivered            int // notifications, to all devices
	Connects             int
	CutOff               int // connections that ended without a word
	Gaps                 int
	Marks                int
	Requests             int // tries to publish, to connect and to mark
	Busy                 int // of those, answered 503 without a fault, while the machine was busy
	Refusals             map[string]int
	Faults               map[string]*FaultSummary // by name

	Violations map[Kind]int
	First      []Violation // with evidence
	Tolerated  []Kind
	Failed     int // violations of kinds that are not tolerated
}

// Write prints the report as a person reads it.
func (r *Report) Write(out io.Writer) error {
	lasted := (time.Duration(r.Ended-r.Began) * time.Microsecond).Round(time.Second)
	fmt.Fprintf(out, "seed %d, %v, %d records\n", r.Seed, lasted, r.Records)
	fmt.Fprintf(out, "published %d: acknowledged %d, unknown %d; tries without an answer %d, retries of what was stored %d\n",
		r.Published, r.Acknowledged, r.Unknown, r.NoAnswer, r.Retried)
	fmt.Fprintf(out, "delivered %d to %d devices of %d users, in %d connects; %d cut off, %d gaps, %d marks\n",
		r.Delivered, r.Devices, r.Users, r.Connects, r.CutOff, r.Gaps, r.Marks)
	for _, what := range slices.Sorted(maps.Keys(r.Refusals)) {
		fmt.Fprintf(out, "  %6d  %s\n", r.Refusals[what], what)
	}
	if r.Busy > 0 {
		fmt.Fprintf(out, "%d of %d requests were answered 503 UNAVAILABLE without a fault, while the machine had nothing left\n", r.Busy, r.Requests)
	}
	if len(r.Faults) > 0 {
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "fault\tcount\tpublish held up\tfirst after it\tcut off\tback in\tdrained\treturns/s (allowed)")
		for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
			f := r.Faults[name]
			fmt.Fprintf(t, "%s\t%d\t%v\t%v\t%d\t%v\t%d\t", name, f.Count, f.Held, f.First, f.Cut, f.Back, f.Drained)
			if f.Drained > 0 {
				fmt.Fprintf(t, "%.1f (%.1f)", f.Peak, f.Allowed)
			}
			fmt.Fprintln(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d lost, %d reordered, %d duplicated, %d foreign\n",
		r.Violations[Lost]+r.Violations[Hole]+r.Violations[Away], r.Violations[Reordered], r.Violations[Duplicated]+r.Violations[StoredTwice], r.Violations[Foreign])
	for _, k := range slices.Sorted(maps.Keys(r.Violations)) {
		note := ""
		if slices.Contains(r.Tolerated, k) {
			note = " (tolerated)"
		}
		fmt.Fprintf(out, "VIOLATED %d times: %s%s\n", r.Violations[k], k, note)
	}
	for _, v := range r.First {
		fmt.Fprintf(out, "  %v\n", v)
	}
	return nil
}
