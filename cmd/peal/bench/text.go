package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Text writes the report for people. It returns the first error of w.
func (r *Report) Text(w io.Writer) error {
	t := &text{w: w}
	if r.Interrupted {
		t.line("", "interrupted: this is what was measured until then")
	}
	t.line("connecting", "%s in %.2f s: %s/s", grouped(r.Connect.Count), r.Connect.Seconds, grouped(int64(r.Connect.PerSecond)))
	if len(r.Runs) > 0 { // else it was interrupted before
		t.memory(r.Memory)
	}
	for _, o := range r.Runs {
		t.outcome(o)
	}
	if r.Storm != nil {
		t.storm(r.Storm)
	}
	if r.Slow != nil {
		t.slow(r.Slow)
	}
	t.unusual(r)
	return t.err
}

// text writes lines with their name before them.
type text struct {
	w   io.Writer
	err error
}

func (t *text) line(name, format string, args ...any) {
	if t.err == nil {
		text := fmt.Sprintf("%-11s %s", name, fmt.Sprintf(format, args...))
		_, t.err = fmt.Fprintln(t.w, strings.TrimRight(text, " "))
	}
}

func (t *text) memory(m *Memory) {
	switch {
	case m == nil:
		t.line("memory", "unknown: the node's process was not found; say --node-pid")
	case m.After <= m.Before:
		t.line("memory", "not measurable: the node had %.1f MB left from earlier; start it anew", float64(m.Before)/1e6)
	default:
		t.line("memory", "%.1f kB a connection (the node had %.1f MB, then %.1f MB)",
			float64(m.PerConnection)/1e3, float64(m.Before)/1e6, float64(m.After)/1e6)
	}
}

func (t *text) outcome(o Outcome) {
	name := "published"
	if o.Name != "" {
		t.line("", "")
		t.line("run", "%s", o.Name)
	}
	schedule := fmt.Sprintf("on schedule, the latest by %.1f ms", o.LatestMS)
	if o.Late > 0 {
		schedule = fmt.Sprintf("BEHIND SCHEDULE: %s posts by more than 10 ms, the latest by %.1f ms", grouped(o.Late), o.LatestMS)
	}
	t.line(name, "%s in %s posts; %s%s", grouped(o.Published), grouped(o.Posts), schedule,
		unless(o.Unconfirmed == 0, fmt.Sprintf("; %s not confirmed, not expected", grouped(o.Unconfirmed))))
	t.line("delivered", "%s: %s lost, %s duplicated, %s out of order, %s misdirected", grouped(o.Delivered),
		grouped(o.Lost), grouped(o.Duplicated), grouped(o.OutOfOrder), grouped(o.Misdirected))
	if l := o.Latency; l != nil {
		t.line("latency", "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms, from due to read", l.P50, l.P99, l.P999, l.Max)
	}
	t.cpu(o.CPU, o.Latency == nil)
}

func (t *text) cpu(c *CPU, connecting bool) {
	if c == nil {
		return
	}
	var parts []string
	switch {
	case c.Node == 0:
		parts = append(parts, "node unknown (say --node-pid)")
	case c.Together:
		parts = append(parts, fmt.Sprintf("node and JetStream, which are one process, %.1f µs", c.Node))
	default:
		parts = append(parts, fmt.Sprintf("node %.1f µs", c.Node))
	}
	switch {
	case c.NATS > 0:
		parts = append(parts, fmt.Sprintf("JetStream %.1f µs", c.NATS))
	case !c.Together:
		parts = append(parts, "JetStream unknown (say --nats or --nats-pid)")
	}
	t.line("CPU", "%s; this bench %.1f µs; each for one delivered event%s", strings.Join(parts, ", "), c.Bench,
		unless(!connecting, ", with all the connecting"))
}

func (t *text) storm(s *StormOutcome) {
	t.line("storm", "all connected after %.2f s (%s/s), all caught up after %.2f s", s.Connect.Seconds, grouped(int64(s.Connect.PerSecond)), s.Seconds)
	t.line("", "one that missed something had it after p50 %.0f ms, p99 %.0f ms, max %.0f ms", s.CaughtUp.P50, s.CaughtUp.P99, s.CaughtUp.Max)
}

func (t *text) slow(s *SlowOutcome) {
	t.line("", "")
	t.line("slow", "p99 of the others, median of the runs: %.2f ms without, %.2f ms with %d that stopped reading and %d at 10 B/s: ratio %.2f",
		s.WithoutP99, s.WithP99, s.Stopped, s.Dripping, s.Ratio)
	t.line("", "of %s notifications to the slow ones %s were held back, and there %.2f s after they read again; %s faults",
		grouped(s.Published), grouped(s.HeldBack), s.CaughtUp, grouped(s.Faults))
}

// unusual tells of what is zero in most runs.
func (t *text) unusual(r *Report) {
	for _, answer := range slices.Sorted(maps.Keys(r.Refusals)) {
		t.line("note", "%s connections were refused (%s) and tried again", grouped(r.Refusals[answer]), answer)
	}
	for _, x := range []struct {
		n    int64
		what string
	}{
		{r.Reconnects, "connections ended against our will and were opened again"},
		{r.Gaps, "gaps: history that the service declared to be gone; does an inbox keep enough?"},
		{r.Foreign, "notifications that this run did not publish"},
	} {
		if x.n > 0 {
			t.line("note", "%s %s", grouped(x.n), x.what)
		}
	}
}

func unless(not bool, s string) string {
	if not {
		return ""
	}
	return s
}

// grouped writes a number with commas between thousands.
func grouped[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
