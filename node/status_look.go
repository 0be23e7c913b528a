package node

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// lookout looks at the processes and the streams for all who want to know, and not
// while nobody does.
type lookout struct {
	node *Node
	turn chan struct{} // capacity 1: held by who looks, and protects what follows
	last *view         // nil before the first

	// Of each process, by its name, the oldest first; none is older than rateMemory.
	samples map[string][]sampled

	mu      sync.Mutex // protects viewers
	viewers int
}

// view is what was seen at a moment; to be read only.
type view struct {
	at     time.Time
	status status
	html   func() ([]byte, error) // the part of the page that changes; made once
}

// sampled is what a process had counted at a moment by its clock.
type sampled struct {
	at     time.Time
	counts map[string]float64
}

const (
	rateOver   = 10 * time.Second // rates are of so long, if there are samples
	rateMemory = 70 * time.Second // who asks once a minute has rates too
)

func newLookout(n *Node) *lookout {
	return &lookout{node: n, turn: make(chan struct{}, 1), samples: make(map[string][]sampled)}
}

// enter takes the place of one who looks all the time; leave gives it back. It
// returns false if there is none.
func (l *lookout) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.viewers >= maxViewers {
		return false
	}
	l.viewers++
	return true
}

func (l *lookout) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.viewers--
}

// look returns what was seen within the last 2 s, and looks if nobody has.
func (l *lookout) look(ctx context.Context) (*view, error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.turn }()
	lost := l.last != nil && l.last.status.NATS && !l.node.bus.Connected() // since: that is to be seen at once
	if l.last != nil && !lost && time.Since(l.last.at) < lookEvery {
		return l.last, nil
	}
	began := time.Now()
	processes, reached, survey := l.node.lookAround(ctx)
	s := l.compose(began, processes, reached, survey)
	l.last = &view{at: began, status: s, html: sync.OnceValues(func() ([]byte, error) {
		var b bytes.Buffer
		err := statusPage.ExecuteTemplate(&b, "status", s)
		return b.Bytes(), err
	})}
	return l.last, nil
}

// compose makes the status of what was found.
func (l *lookout) compose(began time.Time, found []bus.Process, reached bool, survey bus.Survey) status {
	n := l.node
	own := n.present()
	s := status{
		V: presentVersion, At: peal.NewTimestamp(time.Now()), By: n.name, Region: string(n.bus.Region()), Version: own.Version, NATS: reached,
		Processes: []process{{Name: n.name, Self: true, Heard: own.Now, Told: true, Clock: new(float64), present: own}},
		Queue:     queueOf(survey), Realms: n.realms(),
	}
	for _, p := range found {
		if p.Name == n.name {
			continue
		}
		p.Silent = p.Silent || !reached
		s.Processes = append(s.Processes, processOf(p))
	}
	s.Processes = withoutReplaced(s.Processes)
	setClocks(s.Processes, survey)
	for i := range s.Processes {
		if p := &s.Processes[i]; p.Told {
			p.Rates = l.rates(p.Name, p.Now.Time, p.Counts, p.Silent)
		}
	}
	l.forget(s.Processes)
	sortProcesses(s.Processes)
	for _, st := range survey.Streams {
		s.Streams = append(s.Streams, streamOf(st))
	}
	s.Queue = s.Queue.orAsSeenBy(s.Processes)
	s.add()
	s.Attention = troubles(s)
	return s
}

// processOf is a process that was called; its clock is still that of its answer,
// against ours.
func processOf(p bus.Process) process {
	out := process{Name: oneLine(p.Name, maxTold), Silent: p.Silent, Heard: peal.NewTimestamp(p.Heard)}
	if out.present, out.Told = readPresent(p.Answer); !out.Told {
		out.present = present{}.bounded()
		return out
	}
	// Its clock was read somewhere between the call and its answer.
	out.Clock = new(out.Now.Sub(p.Heard.Add(-p.Took / 2)).Seconds())
	out.Within = (p.Took/2 + 2*time.Millisecond).Seconds()
	return out
}

// withoutReplaced drops who is silent because it was started again: a process that
// was killed has not said that it leaves.
func withoutReplaced(all []process) []process {
	return slices.DeleteFunc(slices.Clone(all), func(old process) bool {
		return old.Silent && slices.ContainsFunc(all, func(p process) bool {
			return !p.Silent && p.Told && p.Host == old.Host && p.Listen == old.Listen && p.Started.After(old.Started.Time)
		})
	})
}

// setClocks has each clock say how far it is from most others, with that of NATS
// among them: it may be ours that is wrong.
func setClocks(all []process, survey bus.Survey) {
	var ahead []float64
	for _, p := range all {
		if p.Clock != nil && !p.Silent {
			ahead = append(ahead, *p.Clock)
		}
	}
	if survey.ClockWithin > 0 {
		ahead = append(ahead, survey.Clock.Seconds())
	}
	if len(ahead) == 0 {
		return
	}
	slices.Sort(ahead)
	middle := ahead[(len(ahead)-1)/2]
	for i, p := range all {
		switch {
		case p.Silent:
			all[i].Clock, all[i].Within = nil, 0
		case p.Clock != nil:
			all[i].Clock = new(*p.Clock - middle)
		}
	}
}

// rates of a process, from its counters now and about 10 s ago; nil if there is
// nothing to compare with.
func (l *lookout) rates(name string, at time.Time, counts map[string]float64, silent bool) map[string]float64 {
	if silent {
		return nil
	}
	known := l.samples[name]
	if len(known) == 0 || at.After(known[len(known)-1].at) {
		known = append(known, sampled{at, counts})
	}
	// The youngest that is old enough is the first to be kept, unless all are younger.
	for len(known) > 2 && at.Sub(known[1].at) >= rateOver {
		known = known[1:]
	}
	if at.Sub(known[0].at) > rateMemory {
		known = known[len(known)-1:]
	}
	l.samples[name] = known
	seconds := at.Sub(known[0].at).Seconds()
	if seconds < 1 {
		return nil
	}
	rates := make(map[string]float64)
	for what, now := range counts {
		rates[what] = max(now-known[0].counts[what], 0) / seconds
	}
	return rates
}

// forget drops the samples of processes that nobody knows any more.
func (l *lookout) forget(known []process) {
	maps.DeleteFunc(l.samples, func(name string, _ []sampled) bool {
		return !slices.ContainsFunc(known, func(p process) bool { return p.Name == name })
	})
}

// sortProcesses puts those first that answer clients, then by name.
func sortProcesses(all []process) {
	slices.SortStableFunc(all, func(a, b process) int {
		edge := func(p process) int {
			if slices.Contains(p.Roles, roleEdge) {
				return 0
			}
			return 1
		}
		return cmp.Or(edge(a)-edge(b), strings.Compare(a.Name, b.Name))
	})
}

// Roles, as processes tell them.
const (
	roleEdge     = "edge"
	roleDispatch = "dispatch"
)

func streamOf(st bus.StreamState) stream {
	s := stream{
		Name: st.Name, Bucket: st.Bucket, Seen: stamp(st.Seen), Lacks: string(st.Lack), Since: stamp(st.Since),
		Messages: st.Messages, Bytes: st.Bytes, MaxBytes: st.MaxBytes, Refuses: st.Refuses, Memory: st.Memory,
		Oldest: stamp(st.Oldest), Newest: stamp(st.Newest), Leader: st.Leader, Copies: st.Copies, Replicas: []replica{},
	}
	for _, r := range st.Replicas {
		s.Replicas = append(s.Replicas, replica{r.Server, r.Current, r.Offline, r.Lag, r.Active.Seconds()})
	}
	return s
}

func queueOf(survey bus.Survey) queue {
	q := queue{backlog: *backlogOf(survey.Queue), Seen: stamp(survey.QueueSeen)}
	if survey.QueueErr != nil {
		q.Wrong = oneLine(survey.QueueErr.Error(), maxTold)
	}
	return q
}

// orAsSeenBy is what a process that works on events has seen last, if this one could
// not see it: it may have no right to.
func (q queue) orAsSeenBy(all []process) queue {
	if q.Seen != nil && q.Wrong == "" {
		return q
	}
	for _, p := range all {
		if p.Waiting != nil && !p.Silent && (q.Seen == nil || p.Now.After(q.Seen.Time)) {
			q.backlog, q.Seen = *p.Waiting, &p.Now
			if !p.Self {
				q.Wrong = ""
			}
		}
	}
	return q
}

// realms tells of the keys that this process has.
func (n *Node) realms() []realm {
	all := []realm{}
	for _, st := range n.verifier.Status() {
		r := realm{Realm: oneLine(st.Realm, maxTold), Usable: st.Usable, Keys: st.Keys}
		if st.Age > 0 {
			r.Age = new(st.Age.Seconds())
		}
		if st.Err != nil {
			r.Wrong = oneLine(st.Err.Error(), maxTold)
		}
		all = append(all, r)
	}
	return all
}

// add adds up what the processes that answer tell.
func (s *status) add() {
	t := totals{Counts: make(map[string]float64)}
	for _, p := range s.Processes {
		if p.Silent {
			continue
		}
		t.Processes++
		for _, n := range p.Connections {
			t.Connections += n
		}
		for what, n := range p.Counts {
			t.Counts[what] += n
		}
		for what, r := range p.Rates {
			if t.Rates == nil {
				t.Rates = make(map[string]float64)
			}
			t.Rates[what] += r
		}
	}
	s.Totals = t
	s.Ended, s.Refused = t.tallies("ended/"), t.tallies("refused/")
}

// tallies are the counts with a prefix, the most frequent first.
func (t totals) tallies(prefix string) []tally {
	all := []tally{}
	for name, n := range t.Counts {
		what, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		one := tally{What: what, Count: n}
		if t.Rates != nil {
			one.Rate = new(t.Rates[name])
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b tally) int { return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.What, b.What)) })
	return all
}
