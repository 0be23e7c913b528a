package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// presentVersion is the version of the form below. A process of another one is shown
// with nothing but its name.
const presentVersion = 1

// present is what a process tells of itself in a roll call.
type present struct {
	V       int            `json:"v"`
	Now     peal.Timestamp `json:"now"` // by its clock
	Host    string         `json:"host"`
	PID     int            `json:"pid"`
	Listen  string         `json:"listen"` // where its public port is
	Roles   []string       `json:"roles"`
	Version string         `json:"version"`
	Go      string         `json:"go"`
	Started peal.Timestamp `json:"started"`

	NotReady string `json:"notReady"` // why; "" if it is ready
	Full     string `json:"full"`     // why its own JetStream stores nothing; "" if it does

	Connections map[string]float64 `json:"connections"` // route → open ones; those of polls wait
	Counts      map[string]float64 `json:"counts"`      // since it was started; see countedAs
	Waiting     *backlog           `json:"waiting"`     // as it has seen it; nil if it does not look

	RSS            int64 `json:"rss"` // bytes; 0 if nobody knows, and so below
	Goroutines     int64 `json:"goroutines"`
	Descriptors    int64 `json:"descriptors"`
	MaxDescriptors int64 `json:"maxDescriptors"`

	NATS   []link        `json:"nats"`
	Lost   []lost        `json:"lost"` // of NATS, but for its connections
	Unseen float64       `json:"revocationsUnseenSeconds"`
	Realms realmsPresent `json:"realms"`
}

// realmsPresent is how the keys of the realms are, in short.
type realmsPresent struct {
	Total   int      `json:"total"`
	Usable  int      `json:"usable"`
	Without []string `json:"without"` // names of those that have no keys, the first few
}

// backlog is what waits to be worked on.
type backlog struct {
	Events     int             `json:"events"`
	Oldest     *peal.Timestamp `json:"oldest"`     // nil if none waits
	Partitions []int           `json:"partitions"` // events of each
}

func backlogOf(b bus.Backlog) *backlog {
	return &backlog{Events: b.Waiting, Oldest: stamp(b.Oldest), Partitions: slices.Clone(b.Partitions[:])}
}

// link is a connection to NATS.
type link struct {
	Purpose string         `json:"purpose"`
	Up      bool           `json:"up"`
	Since   peal.Timestamp `json:"since"`
	Server  string         `json:"server"`
}

type lost struct {
	What  string          `json:"what"`
	Since *peal.Timestamp `json:"since"`
}

// stamp is nil for the zero time.
func stamp(t time.Time) *peal.Timestamp {
	if t.IsZero() {
		return nil
	}
	return new(peal.NewTimestamp(t))
}

// countedAs says which counters of /metrics are told, and by which name. Of one with
// labels the sum is told, and besides each value of the label, as NAME/VALUE.
var countedAs = map[string]struct{ name, label string }{
	"peal_connections_opened_total":       {"connects", ""},
	"peal_connections_ended_total":        {"ended", "reason"},
	"peal_requests_refused_total":         {"refused", "code"},
	"peal_notifications_delivered_total":  {"delivered", ""},
	"peal_ticket_updates_delivered_total": {"updates", ""},
	"peal_notifications_stored_total":     {"stored", ""},
	"peal_events_accepted_total":          {"events", ""},
	"peal_events_worked_total":            {"worked", ""},
	"peal_events_retried_total":           {"retried", ""},
	"peal_events_buried_total":            {"buried", ""},
	"peal_feed_gaps_total":                {"gaps", ""},
}

// Bounds of what is taken from another process, which may be of another version.
const (
	maxTold  = 200     // bytes of a text
	mostTold = 1 << 53 // of a count: sums of these are numbers that JSON has
	maxCount = 128     // entries of a map or list
)

// processName is one that no other process has: that of the machine, which is all
// that many processes in containers differ by, with the process and something random.
func processName() (name, host string, pid int) {
	host, err := os.Hostname()
	if host = oneLine(host, 64); err != nil || host == "" {
		host = "unknown"
	}
	pid = os.Getpid()
	return fmt.Sprintf("%s/%d/%05x", host, pid, rand.N(1<<20)), host, pid
}

// present tells of this process. The numbers are those of /metrics.
func (n *Node) present() present {
	p := present{
		V: presentVersion, Host: n.host, PID: n.pid, Listen: n.address(), Roles: n.cfg.Roles, Version: n.cfg.Version, Go: runtime.Version(),
		NotReady: n.Ready(), Unseen: n.bus.RevocationsUnseen().Seconds(),
		Connections: make(map[string]float64), Counts: make(map[string]float64),
	}
	if err := n.bus.Writable(); err != nil {
		p.Full = oneLine(err.Error(), maxTold)
	}
	// What can't be gathered is left out: the others are as good as ever.
	families, _ := n.metrics.registry.Gather()
	for _, f := range families {
		name := f.GetName()
		for _, m := range f.GetMetric() {
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if of, ok := countedAs[name]; ok {
				p.Counts[of.name] += value
				for _, l := range m.GetLabel() {
					if l.GetName() == of.label {
						p.Counts[of.name+"/"+l.GetValue()] += value
					}
				}
				continue
			}
			switch name {
			case "peal_route_connections":
				for _, l := range m.GetLabel() {
					p.Connections[l.GetValue()] += value
				}
			case "peal_polls_waiting":
				p.Connections["polls"] = value
			case "process_resident_memory_bytes":
				p.RSS = int64(value)
			case "go_goroutines":
				p.Goroutines = int64(value)
			case "process_open_fds":
				p.Descriptors = int64(value)
			case "process_max_fds":
				p.MaxDescriptors = int64(min(value, math.MaxInt32)) // no limit is a very high one
			}
		}
	}
	p.Started = peal.NewTimestamp(n.started)
	if b, ok := n.bus.Stats().Backlog(); ok {
		p.Waiting = backlogOf(b)
	}
	for _, l := range n.bus.Links() {
		p.NATS = append(p.NATS, link{l.Purpose, l.Up, peal.NewTimestamp(l.Since), l.Server})
	}
	for _, l := range n.bus.Lost() {
		p.Lost = append(p.Lost, lost{l.What, stamp(l.Since)})
	}
	for _, r := range n.verifier.Status() {
		p.Realms.Total++
		if r.Usable {
			p.Realms.Usable++
		} else if len(p.Realms.Without) < 5 {
			p.Realms.Without = append(p.Realms.Without, r.Realm)
		}
	}
	p.Now = peal.NewTimestamp(time.Now()) // last: it is on its way now
	return p.bounded()
}

// address is where the public port is; "" before Serve.
func (n *Node) address() string {
	if a := n.listening.Load(); a != nil {
		return *a
	}
	return ""
}

// answerRoll is what others hear.
func (n *Node) answerRoll() []byte { return encode(n.present()) }

// readPresent reads what another process has told. ok is false for another form.
func readPresent(answer []byte) (p present, ok bool) {
	if err := json.Unmarshal(answer, &p); err != nil || p.V != presentVersion {
		return present{}, false
	}
	return p.bounded(), true
}

// bounded cuts what is too long, so that one process can't flood the page, and leaves
// no list nil.
func (p present) bounded() present {
	for _, s := range []*string{&p.Host, &p.Listen, &p.Version, &p.Go, &p.NotReady, &p.Full} {
		*s = oneLine(*s, maxTold)
	}
	p.Roles, p.Realms.Without = toldAll(p.Roles), toldAll(p.Realms.Without)
	p.Connections, p.Counts = toldCounts(p.Connections), toldCounts(p.Counts)
	p.NATS, p.Lost = few(p.NATS), few(p.Lost)
	for i := range p.NATS {
		p.NATS[i].Purpose, p.NATS[i].Server = oneLine(p.NATS[i].Purpose, maxTold), oneLine(p.NATS[i].Server, maxTold)
	}
	for i := range p.Lost {
		p.Lost[i].What = oneLine(p.Lost[i].What, maxTold)
	}
	if p.Waiting != nil {
		p.Waiting.Partitions = few(p.Waiting.Partitions)
	}
	return p
}

// oneLine is a text in one line of so many bytes at most.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

func toldAll(all []string) []string {
	all = few(all)
	for i, s := range all {
		all[i] = oneLine(s, maxTold)
	}
	return all
}

// few is a copy of the first ones of a list, which is not nil.
func few[T any](all []T) []T {
	return append([]T{}, all[:min(len(all), maxCount)]...)
}

// toldCounts is a copy of the first ones of a map, by their names, without what is no
// number.
func toldCounts(all map[string]float64) map[string]float64 {
	out := make(map[string]float64)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if v := all[name]; len(out) < maxCount && len(name) <= maxTold && v >= 0 && v <= mostTold {
			out[name] = v
		}
	}
	return out
}
