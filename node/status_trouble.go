package node

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// trouble is something that wants an operator's attention.
type trouble struct {
	Level level  `json:"level"`
	What  string `json:"what"`
	See   string `json:"see"` // the heading of docs/operating.md that says what to do
}

// level is how bad it is.
type level string

const (
	bad  level = "bad"  // somebody is not served, or soon will not be
	warn level = "warn" // it can wait until the morning
	note level = "note" // it is good to know
)

func (l level) rank() int { return slices.Index([]level{bad, warn, note}, l) }

// The headings of docs/operating.md.
const (
	seeAway     = "NATS is away"
	seeMissing  = "A process is missing"
	seeReady    = "A process is not ready"
	seeLost     = "A stream does not answer"
	seeReplica  = "A replica is behind"
	seeFull     = "A stream is nearly full"
	seeDisk     = "The disk is full"
	seeDead     = "Dead letters"
	seeKeys     = "A realm has no keys"
	seeClock    = "A clock is wrong"
	seeVersions = "Versions differ"
	seeWait     = "Events wait"
	seeDescr    = "Descriptors run out"
	seeRevoked  = "Revocations can't be seen"
	seeForm     = "A process speaks another form"
)

// Bounds beyond which something is told.
const (
	missingAfter  = 4 * time.Second // silence of a process
	nearlyFull    = 0.8             // of a bound
	asGoodAsFull  = 0.95
	clockOff      = 2.0  // seconds
	clockBad      = 30.0 // seconds: tokens and events are judged by it
	keysOld       = time.Hour
	keysDie       = 20 * time.Hour // they serve for a day
	unseenSeconds = 10.0
	electionLasts = 10 * time.Second
	replicaLag    = 1000 // operations
	waitWarn      = time.Minute
	waitBad       = 5 * time.Minute
)

// troubles finds what is wrong, the worst first. It decides by the status alone.
func troubles(s status) []trouble {
	all := []trouble{}
	add := func(l level, see, format string, args ...any) {
		all = append(all, trouble{l, fmt.Sprintf(format, args...), see})
	}
	ofNATS(s, add)
	for _, p := range s.Processes {
		ofProcess(s, p, add)
	}
	ofVersions(s, add)
	if s.NATS { // else what is known of them is old
		ofLacks(s, add)
		ofReplicas(s, add)
		for _, st := range s.Streams {
			ofStream(st, add)
		}
	}
	ofQueue(s, add)
	ofRealms(s, add)
	slices.SortStableFunc(all, func(a, b trouble) int { return cmp.Compare(a.Level.rank(), b.Level.rank()) })
	return all
}

type addTrouble func(l level, see, format string, args ...any)

// ofNATS is about the connections of the process that looks.
func ofNATS(s status, add addTrouble) {
	if s.NATS {
		return
	}
	for _, p := range s.Processes {
		if !p.Self {
			continue
		}
		since := ""
		for _, l := range p.NATS {
			if !l.Up {
				since = " since " + span(s.At.Sub(l.Since.Time))
				break
			}
		}
		add(bad, seeAway, "NATS is away from here%s: what is said of streams and of other processes is old", since)
	}
}

func ofProcess(s status, p process, add addTrouble) {
	switch {
	case p.Silent && !s.NATS:
		return
	case p.Silent:
		if p.missing(s) {
			add(bad, seeMissing, "%s is missing: it was heard of last %s ago, and has not said that it leaves", p.title(), span(s.At.Sub(p.Heard.Time)))
		}
		return
	case !p.Told:
		add(warn, seeForm, "%s answers in a form that this version does not know", p.Name)
		return
	}
	switch p.NotReady {
	case "":
	case "draining":
		add(note, seeReady, "%s lets go of its connections and ends", p.title())
	default:
		add(bad, seeReady, "%s is not ready: %s", p.title(), p.NotReady)
	}
	if p.Full != "" {
		add(bad, seeDisk, "the JetStream in %s stores nothing: %s", p.title(), p.Full)
	}
	for _, l := range p.NATS {
		if !l.Up && (s.NATS || !p.Self) {
			add(bad, seeAway, "%s has lost its connection for what is %s, %s ago", p.title(), l.Purpose, span(s.At.Sub(l.Since.Time)))
		}
	}
	if len(p.Lost) > 0 && (s.NATS || !p.Self) {
		var what []string
		var longest time.Duration
		for _, l := range p.Lost {
			what = append(what, l.What)
			if l.Since != nil {
				longest = max(longest, s.At.Sub(l.Since.Time))
			}
		}
		add(lastingBad(longest), seeLost, "%s has no answer from %s%s", p.title(), several(what), since(longest))
	}
	if p.Unseen > unseenSeconds && p.NotReady == "" {
		add(warn, seeRevoked, "%s has not seen revocations for %s", p.title(), span(seconds(p.Unseen)))
	}
	if p.Clock != nil && math.Abs(*p.Clock) > clockOff+p.Within {
		l := warn
		if math.Abs(*p.Clock) > clockBad+p.Within {
			l = bad
		}
		add(l, seeClock, "the clock of %s is %s %s of most others", p.title(), span(seconds(math.Abs(*p.Clock))), ahead(*p.Clock))
	}
	if p.MaxDescriptors > 0 {
		switch used := float64(p.Descriptors) / float64(p.MaxDescriptors); {
		case used > asGoodAsFull:
			add(bad, seeDescr, "%s has used %.0f %% of its descriptors: soon nobody can connect", p.title(), 100*used)
		case used > nearlyFull:
			add(warn, seeDescr, "%s has used %.0f %% of its descriptors", p.title(), 100*used)
		}
	}
	if len(p.Realms.Without) > 0 && !p.Self && p.is(roleEdge) { // our own are told one by one
		add(bad, seeKeys, "%s has no keys of %d of %d realms: %s", p.title(), p.Realms.Total-p.Realms.Usable, p.Realms.Total, strings.Join(p.Realms.Without, ", "))
	}
}

// lastingBad is bad for what has lasted for a while: an election takes some seconds.
func lastingBad(d time.Duration) level {
	if d < electionLasts {
		return warn
	}
	return bad
}

func since(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return " since " + span(d)
}

// several names the first few of a list.
func several(all []string) string {
	const few = 3
	if len(all) <= few+1 {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:few], ", "), len(all)-few)
}

func ofVersions(s status, add addTrouble) {
	of := make(map[string]int)
	for _, p := range s.Processes {
		if p.Told && !p.Silent {
			of[p.Version]++
		}
	}
	if len(of) < 2 {
		return
	}
	var said []string
	for v, n := range of {
		said = append(said, fmt.Sprintf("%s (%d)", v, n))
	}
	slices.Sort(said)
	add(warn, seeVersions, "versions differ: %s", strings.Join(said, ", "))
}

// title is how a stream is called in a sentence.
func (s stream) title() string {
	if s.Bucket {
		return "bucket " + s.Name
	}
	return "stream " + s.Name
}

// noMajority is what a stream lacks whose leader has too few copies with it: it stores
// nothing.
const noMajority = "no majority"

// lack is why a stream does not do its work; "" if it does.
func (s stream) lack() string {
	if s.Lacks != "" || s.Seen == nil || len(s.Replicas) == 0 {
		return s.Lacks
	}
	current := 1
	for _, r := range s.Replicas {
		if r.Current && !r.Offline {
			current++
		}
	}
	if current < s.Copies/2+1 {
		return noMajority
	}
	return ""
}

// ofLacks is about streams that do not do their work, those of one reason together:
// when a server is away that goes for many.
func ofLacks(s status, add addTrouble) {
	for _, row := range []struct {
		lack string
		l    level
		says string // of several, and of one
		one  string
	}{
		{"not there", bad, "are not there", "is not there"},
		{"no leader", bad, "have no leader", "has no leader"},
		{noMajority, bad, "have no majority of their copies, and store nothing", "has no majority of its copies, and stores nothing"},
		{"no answer", bad, "do not answer", "does not answer"},
		{"refused", warn, "can't be looked at (has this process the right to?)", "can't be looked at (has this process the right to?)"},
	} {
		var which []string
		var longest time.Duration
		for _, st := range s.Streams {
			if st.lack() != row.lack {
				continue
			}
			which = append(which, st.title())
			if st.Since != nil {
				longest = max(longest, s.At.Sub(st.Since.Time))
			}
		}
		says := row.says
		if len(which) == 1 {
			says = row.one
		}
		if len(which) > 0 {
			l := row.l
			if l == bad && row.lack != noMajority {
				l = lastingBad(longest)
			}
			add(l, seeLost, "%s %s%s", several(which), says, since(longest))
		}
	}
}

// ofReplicas is about servers whose copies are behind, all of one together.
func ofReplicas(s status, add addTrouble) {
	behind := make(map[string][]string) // server → streams
	most := make(map[string]uint64)     // server → operations
	var fewer []string
	for _, st := range s.Streams {
		if st.Lacks != "" {
			continue
		}
		for _, r := range st.Replicas {
			if r.Offline || !r.Current || r.Lag > replicaLag {
				behind[r.Server] = append(behind[r.Server], st.title())
				most[r.Server] = max(most[r.Server], r.Lag)
			}
		}
		if len(st.Replicas) > 0 && len(st.Replicas) < st.Copies-1 {
			fewer = append(fewer, st.title())
		}
	}
	for _, server := range slices.Sorted(maps.Keys(behind)) {
		lag := ""
		if most[server] > 0 {
			lag = ", by up to " + plural(most[server], "operation", "operations") + ","
		}
		add(warn, seeReplica, "server %s is away or behind%s with its copy of %s", server, lag, several(behind[server]))
	}
	if len(fewer) > 0 {
		add(warn, seeReplica, "there are fewer copies than there should be of %s", several(fewer))
	}
}

// ofStream is about what a stream holds.
func ofStream(st stream, add addTrouble) {
	if st.Lacks != "" || st.Seen == nil {
		return
	}
	what := st.title()
	switch full := st.full(); {
	case full >= asGoodAsFull && st.Refuses:
		add(bad, seeFull, "%s is full to %.0f %% and refuses what is new", what, 100*full)
	case full >= nearlyFull && st.Refuses:
		add(warn, seeFull, "%s is full to %.0f %%: when it is full it refuses what is new", what, 100*full)
	case full >= nearlyFull:
		add(warn, seeFull, "%s is full to %.0f %%: when it is full it drops the oldest before their time", what, 100*full)
	}
	if strings.HasPrefix(st.Name, "PEAL_DEAD_") && st.Messages > 0 {
		add(warn, seeDead, "%s set aside: peal admin dead list shows why", plural(st.Messages, "dead letter is", "dead letters are"))
	}
}

func ofQueue(s status, add addTrouble) {
	if s.Queue.Events == 0 || s.Queue.Seen == nil {
		return
	}
	works := slices.ContainsFunc(s.Processes, func(p process) bool { return !p.missing(s) && (!p.Told || p.is(roleDispatch)) })
	if !works && s.NATS {
		add(bad, seeWait, "%s, and no process works on them", plural(uint64(s.Queue.Events), "event waits", "events wait"))
		return
	}
	if s.Queue.Oldest == nil {
		return
	}
	switch old := s.At.Sub(s.Queue.Oldest.Time); {
	case old > waitBad:
		add(bad, seeWait, "%s, the oldest for %s", plural(uint64(s.Queue.Events), "event waits", "events wait"), span(old))
	case old > waitWarn:
		add(warn, seeWait, "%s, the oldest for %s", plural(uint64(s.Queue.Events), "event waits", "events wait"), span(old))
	}
}

// ofRealms is about the keys that this process has: an issuer may serve many realms.
func ofRealms(s status, add addTrouble) {
	var without, ending, old []string
	for _, r := range s.Realms {
		name := r.Realm + because(r.Wrong)
		switch {
		case !r.Usable:
			without = append(without, name)
		case r.Age == nil || r.Wrong == "":
		case *r.Age > keysDie.Seconds():
			ending = append(ending, name)
		case *r.Age > keysOld.Seconds():
			old = append(old, name)
		}
	}
	if len(without) > 0 {
		add(bad, seeKeys, "there are no keys here, and users are refused, of realm %s", several(without))
	}
	if len(ending) > 0 {
		add(bad, seeKeys, "keys serve for a day, and are nearly that old, of realm %s", several(ending))
	}
	if len(old) > 0 {
		add(warn, seeKeys, "keys could not be fetched for more than an hour, of realm %s", several(old))
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// missing reports whether a process has been silent for longer than an answer may be
// late.
func (p process) missing(s status) bool {
	return p.Silent && s.At.Sub(p.Heard.Time) > missingAfter
}

// title is how a process is called in a sentence.
func (p process) title() string {
	if p.Told && p.Host != "" {
		return fmt.Sprintf("%s (pid %d)", p.Host, p.PID)
	}
	return p.Name
}

func (p process) is(role string) bool { return slices.Contains(p.Roles, role) }

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(float64(n)) + " " + many
}

func ahead(seconds float64) string {
	if seconds > 0 {
		return "ahead"
	}
	return "behind"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
