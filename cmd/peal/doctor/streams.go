package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pealhq/peal/bus"
)

const (
	startOrEnsure = "Start a peal serve that may create streams, or run peal admin ensure: either makes what is missing."
	onlyEnsure    = "Run peal admin ensure, with the NATS user of an administrator: this one may not create what is missing, and no node starts without."
)

// missing names the streams that are not there.
func missing(seen []bus.StreamSeen) (names []string) {
	for _, s := range seen {
		if errors.Is(s.Err, bus.ErrMissing) {
			names = append(names, s.Name)
		}
	}
	return names
}

// absent judges the streams that are not there.
func absent(seen []bus.StreamSeen, mayCreate bool) []Finding {
	names := missing(seen)
	status, do := Warning, startOrEnsure
	if !mayCreate {
		status, do = Trouble, onlyEnsure
	}
	switch {
	case slices.ContainsFunc(seen, func(s bus.StreamSeen) bool { return s.Copied }):
		return []Finding{found(Trouble, "streams", "Run peal admin migrate again, from the same data directory: it goes on where it ended. Nothing is lost.", "the region is copied only in part")}
	case len(names) == 0:
		return nil
	case len(names) == len(seen):
		return []Finding{found(status, "streams", do, "none is there yet")}
	}
	return []Finding{found(Trouble, "streams", do+" What was in it is gone: restore a backup first, if there is one.", "missing: %s", some(names))}
}

// streams judges the streams of a region: a finding for each thing that is wrong, one
// for the streams with which nothing is, and one of the clocks of their leaders.
func streams(seen []bus.StreamSeen, mayCreate bool) []Finding {
	var findings []Finding
	var verdicts []verdict
	with := make(map[verdict][]string) // names
	well, fullest := 0, bus.StreamSeen{}
	for _, s := range seen {
		if errors.Is(s.Err, bus.ErrMissing) {
			continue
		}
		v := stream(s)
		if v.status == OK {
			well++
			if s.Full() >= fullest.Full() {
				fullest = s
			}
			continue
		}
		if with[v] == nil {
			verdicts = append(verdicts, v)
		}
		with[v] = append(with[v], s.Name)
	}
	for _, v := range verdicts {
		findings = append(findings, found(v.status, "streams", v.do, "%s: %s", some(with[v]), v.why))
	}
	findings = append(findings, absent(seen, mayCreate)...)
	if well > 0 {
		findings = append(findings, found(OK, "streams", "", "%d of %d are well; the fullest is %s, %.0f %%", well, len(seen), fullest.Name, 100*fullest.Full()))
	}
	if f, ok := leadersClock(seen); ok {
		findings = append(findings, f)
	}
	return findings
}

// verdict is what is wrong with a stream, which may be wrong with others too.
type verdict struct {
	status  Status
	why, do string
}

// lagging is how many operations a replica may be behind, of what is stored at that
// moment.
const lagging = 1000

// stream judges one stream that there is.
func stream(s bus.StreamSeen) verdict {
	switch {
	case errors.Is(s.Err, bus.ErrDeaf):
		return verdict{Trouble, "nothing is answered to this NATS user", "See what is said of its rights."}
	case errors.Is(s.Err, bus.ErrNotPermitted):
		return verdict{Trouble, "the NATS user may not ask for it", "Grant STREAM.INFO to the NATS user, in the server's configuration or in the account's key."}
	case s.Err != nil:
		return verdict{Trouble, s.Err.Error(), "See that more than half of the servers are up and reach each other (nats stream report)."}
	case s.Unfit != nil:
		return verdict{Trouble, s.Unfit.Error(), "peal admin ensure gives it its form again and drops nothing, or says what it can't change: then see who has changed it (nats stream edit)."}
	case s.Clustered && s.Leader == "":
		return verdict{Trouble, "no leader", "Start the servers that hold it: nothing of it can be stored until more than half of them are up."}
	}
	var bad []string
	offline := 0
	for _, f := range s.Followers {
		switch {
		case f.Offline:
			offline++
			bad = append(bad, f.Server+" is offline")
		case f.Lag > lagging:
			bad = append(bad, fmt.Sprintf("%s is %d operations behind", f.Server, f.Lag))
		case !f.Current:
			bad = append(bad, f.Server+" is not current")
		}
	}
	switch full := s.Full(); {
	case s.Refuses && full >= fullTrouble:
		return verdict{Trouble, percent(full), "Raise its max_bytes (nats stream edit), and see why it grows: it refuses what is new once it is full."}
	case s.Refuses && full >= fullWarning:
		return verdict{Warning, percent(full), "Raise its max_bytes (nats stream edit) before it is full: then it refuses what is new."}
	case 2*offline >= s.Replicas && offline > 0:
		return verdict{Trouble, strings.Join(bad, ", "), "Start them again: nothing of it can be stored until more than half of its servers are up."}
	case offline > 0 && 2*(offline+1) > s.Replicas:
		return verdict{Trouble, strings.Join(bad, ", "), "Start it again: one more server that stops, and nothing can be stored."}
	case len(bad) > 0:
		return verdict{Warning, strings.Join(bad, ", "), "See whether these servers reach the others, and how busy their disks are."}
	case s.Replicas < s.Wanted:
		return verdict{Warning, fmt.Sprintf("%d replicas, and the configuration wants %d", s.Replicas, s.Wanted),
			fmt.Sprintf("nats stream edit --replicas %d, or set replicas in the configuration to what is meant.", s.Wanted)}
	case s.MaxBytes <= 0 && s.Refuses:
		return verdict{Warning, "no bound", "Give it a max_bytes (nats stream edit): a full disk makes JetStream hang, and not refuse."}
	case full >= fullTrouble:
		return verdict{Warning, percent(full), "Raise its max_bytes (nats stream edit): it drops the oldest before their time."}
	}
	return verdict{status: OK}
}

func percent(full float64) string { return fmt.Sprintf("%.0f %% full", 100*full) }

// leadersClock judges the clock that is furthest off.
func leadersClock(seen []bus.StreamSeen) (f Finding, any bool) {
	var furthest bus.StreamSeen
	for _, s := range seen {
		if s.Err != nil {
			continue
		}
		if any = true; s.Ahead.Abs() >= furthest.Ahead.Abs() {
			furthest = s
		}
	}
	check := "clock of NATS"
	if furthest.Ahead != 0 && furthest.Leader != "" {
		check = "clock of NATS " + furthest.Leader
	}
	return clock(check, furthest.Ahead), any
}

// work judges the consumers by which ticket events are worked on. Who does not work on
// them may not be allowed to ask.
func work(seen []bus.WorkSeen, dispatch bool) Finding {
	const check = "ticket events"
	var failed, changed, headless []string
	failures := make(map[string]int) // of each reason
	missing, pulling := 0, 0
	var waiting uint64
	for _, w := range seen {
		switch {
		case errors.Is(w.Err, bus.ErrMissing):
			missing++
		case errors.Is(w.Err, bus.ErrNotPermitted) && !dispatch:
			return skipped(check, "the NATS user of an edge may not ask, and need not: run peal doctor as a process with the role dispatch")
		case w.Err != nil:
			if failures[w.Err.Error()]++; failures[w.Err.Error()] == 1 {
				failed = append(failed, w.Err.Error())
			}
		case w.Unfit != "":
			changed = append(changed, w.Name+" ("+w.Unfit+")")
		case w.Leader == "":
			headless = append(headless, w.Name)
		}
		waiting += w.Waiting
		if w.Pulling > 0 || w.InHand > 0 {
			pulling++
		}
	}
	const startOne = "Start a process with the role dispatch (peal serve --roles dispatch, or with both roles), or see its log."
	switch {
	case missing == len(seen):
		return found(Warning, check, startOne, "nobody has ever worked on any")
	case len(failed) > 0:
		return found(Trouble, check, "Grant CONSUMER.INFO to the NATS user, or see whether the stream of events has a leader.", "the workers' consumers can't be asked for: %s", some(failed))
	case len(headless) > 0:
		return found(Trouble, check, "Start the servers that hold them: events of these partitions wait.", "without a leader: %s", some(headless))
	case len(changed) > 0:
		return found(Warning, check, "Somebody has changed them. Restart a process with the role dispatch: it changes them back.", "%s", some(changed))
	case missing > 0:
		return found(Warning, check, startOne, "%d of %d consumers are not there", missing, len(seen))
	case pulling == 0 && waiting > 0:
		return found(Trouble, check, startOne, "%d events wait, and nobody works on them", waiting)
	case pulling == 0:
		return found(Warning, check, startOne, "nobody would work on one; none waits")
	case waiting > manyWaiting:
		return found(Warning, check, "Start more processes with the role dispatch, or see in the log what holds them up.", "%d wait", waiting)
	}
	return well(check, "worked on, %d wait", waiting)
}

// manyWaiting is a backlog that takes more than seconds.
const manyWaiting = 10_000
