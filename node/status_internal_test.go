package node

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *peal.Timestamp { return new(peal.NewTimestamp(noon.Add(-d))) }

// calm is a status in which nothing is wrong.
func calm() status {
	named := func(name string, roles ...string) process {
		return process{Name: name, Told: true, Heard: *before(0), Clock: new(float64), present: present{
			V: 1, Now: *before(0), Host: name, PID: 1, Roles: roles, Version: "v1", Started: *before(time.Hour), Descriptors: 10, MaxDescriptors: 100,
			NATS: []link{{Purpose: "live", Up: true, Since: *before(time.Hour)}},
		}}
	}
	s := status{
		At: *before(0), By: "a", NATS: true,
		Processes: []process{named("a", "edge"), named("b", "dispatch")},
		Streams: []stream{
			{Name: "PEAL_EVENT_x", Seen: before(0), Bytes: 10, MaxBytes: 100, Refuses: true, Copies: 3, Replicas: []replica{{Server: "n2", Current: true}, {Server: "n3", Current: true}}},
			{Name: "PEAL_DEAD_x", Seen: before(0), Bytes: 10, MaxBytes: 100, Copies: 1},
		},
		Queue:  queue{backlog: backlog{Events: 3, Oldest: before(time.Second)}, Seen: before(0)},
		Realms: []realm{{Realm: "acme", Usable: true, Keys: 1, Age: new(600.0)}},
	}
	s.Processes[0].Self = true
	return s
}

// Each row is one thing that is wrong, how bad it is, and what is said of it. Nothing
// else is said.
func TestStatusTroubles(t *testing.T) {
	for _, row := range []struct {
		name  string
		wrong func(*status)
		level level
		see   string
		says  string
	}{
		{"nothing", func(s *status) {}, "", "", ""},
		{"NATS is away", func(s *status) {
			s.NATS = false
			s.Processes[0].NATS[0] = link{Purpose: "live", Since: *before(time.Minute)}
			s.Processes[1].Silent, s.Processes[1].Heard = true, *before(time.Minute)
		}, bad, seeAway, "NATS is away from here since 1 min"},
		{"a process was not heard in one call", func(s *status) { s.Processes[1].Silent, s.Processes[1].Heard = true, *before(2 * time.Second) }, "", "", ""},
		{"a process is missing", func(s *status) {
			s.Processes[1].Silent, s.Processes[1].Heard, s.Queue.Events = true, *before(90 * time.Second), 0
		}, bad, seeMissing, "b (pid 1) is missing: it was heard of last 1 min 30 s ago"},
		{"a process is not ready", func(s *status) { s.Processes[1].NotReady = "no realm has keys yet" }, bad, seeReady, "no realm has keys yet"},
		{"a process drains", func(s *status) { s.Processes[1].NotReady = "draining" }, note, seeReady, "lets go"},
		{"another has lost a connection", func(s *status) { s.Processes[1].NATS[0] = link{Purpose: "write", Since: *before(time.Minute)} }, bad, seeAway, "b (pid 1) has lost its connection for what is write"},
		{"another has no answer from a stream", func(s *status) { s.Processes[1].Lost = []lost{{"stream X", before(time.Minute)}} }, bad, seeLost, "no answer from stream X since 1 min"},
		{"another speaks a form of the future", func(s *status) { s.Processes[0].present, s.Processes[0].Told = present{}, false }, warn, seeForm, "a answers in a form"},
		{"a disk is full", func(s *status) { s.Processes[0].Full = "disk is full" }, bad, seeDisk, "stores nothing: disk is full"},
		{"a clock is a little wrong", func(s *status) { s.Processes[1].Clock = new(2.5) }, warn, seeClock, "2 s ahead"},
		{"a clock is very wrong", func(s *status) { s.Processes[1].Clock = new(-3600.0) }, bad, seeClock, "1 h behind"},
		{"a clock that may be right", func(s *status) { s.Processes[1].Clock, s.Processes[1].Within = new(2.2), 0.3 }, "", "", ""},
		{"versions differ", func(s *status) { s.Processes[1].Version = "v2" }, warn, seeVersions, "v1 (1), v2 (1)"},
		{"the version of one that is missing", func(s *status) {
			s.Processes[1].Version, s.Processes[1].Silent = "v2", true
		}, "", "", ""},
		{"descriptors run low", func(s *status) { s.Processes[0].Descriptors = 85 }, warn, seeDescr, "85 %"},
		{"descriptors run out", func(s *status) { s.Processes[0].Descriptors = 99 }, bad, seeDescr, "nobody can connect"},
		{"revocations are not seen", func(s *status) { s.Processes[0].Unseen = 12 }, warn, seeRevoked, "for 12 s"},
		{"another has no keys", func(s *status) {
			s.Processes[1].Roles, s.Processes[1].Realms = []string{"edge", "dispatch"}, realmsPresent{Total: 3, Usable: 2, Without: []string{"x"}}
		}, bad, seeKeys, "no keys of 1 of 3 realms: x"},
		{"a worker without keys, which needs none", func(s *status) { s.Processes[1].Realms = realmsPresent{Total: 3, Without: []string{"x"}} }, "", "", ""},
		{"a stream does not answer", func(s *status) { s.Streams[0].Lacks, s.Streams[0].Since = "no answer", before(5*time.Second) }, warn, seeLost, "stream PEAL_EVENT_x does not answer since 5 s"},
		{"a stream has had no leader for long", func(s *status) { s.Streams[0].Lacks, s.Streams[0].Since = "no leader", before(time.Minute) }, bad, seeLost, "has no leader"},
		{"a bucket is not there", func(s *status) {
			s.Streams[1].Lacks, s.Streams[1].Bucket, s.Streams[1].Since = "not there", true, before(time.Minute)
		}, bad, seeLost, "bucket PEAL_DEAD_x is not there"},
		{"no right to look", func(s *status) { s.Streams[0].Lacks = "refused" }, warn, seeLost, "can't be looked at"},
		{"a stream that refuses is nearly full", func(s *status) { s.Streams[0].Bytes = 80 }, warn, seeFull, "full to 80 %: when it is full it refuses"},
		{"a stream that refuses is as good as full", func(s *status) { s.Streams[0].Bytes = 96 }, bad, seeFull, "96 % and refuses"},
		{"a stream that drops is full", func(s *status) { s.Streams[1].Bytes = 99 }, warn, seeFull, "drops the oldest"},
		{"a stream without a bound", func(s *status) { s.Streams[1].Bytes, s.Streams[1].MaxBytes = 99, 0 }, "", "", ""},
		{"one dead letter", func(s *status) { s.Streams[1].Messages = 1 }, warn, seeDead, "1 dead letter is set aside"},
		{"dead letters", func(s *status) { s.Streams[1].Messages = 1234 }, warn, seeDead, "1\u202f234 dead letters are"},
		{"a replica is not there", func(s *status) { s.Streams[0].Replicas[1].Offline = true }, warn, seeReplica, "server n3 is away or behind with its copy of stream PEAL_EVENT_x"},
		{"a replica lags", func(s *status) { s.Streams[0].Replicas[0].Current, s.Streams[0].Replicas[0].Lag = false, 17 }, warn, seeReplica, "server n2 is away or behind, by up to 17 operations, with its copy of stream PEAL_EVENT_x"},
		{"a replica is gone", func(s *status) { s.Streams[0].Replicas = s.Streams[0].Replicas[:1] }, warn, seeReplica, "fewer copies than there should be of stream PEAL_EVENT_x"},
		{"a server with many copies is away", func(s *status) {
			for i := range 9 {
				s.Streams = append(s.Streams, stream{Name: fmt.Sprint("S", i), Seen: before(0), Copies: 3, Replicas: []replica{{Server: "n2", Current: true}, {Server: "n3", Lag: uint64(i)}}})
			}
		}, warn, seeReplica, "by up to 8 operations, with its copy of stream S0, stream S1, stream S2 and 6 more"},
		{"many streams do not answer", func(s *status) {
			for i := range 9 {
				s.Streams = append(s.Streams, stream{Name: fmt.Sprint("S", i), Lacks: "no answer", Since: before(time.Minute)})
			}
		}, bad, seeLost, "stream S0, stream S1, stream S2 and 6 more do not answer since 1 min"},
		{"a process has no answer from many", func(s *status) {
			for i := range 32 {
				s.Processes[1].Lost = append(s.Processes[1].Lost, lost{fmt.Sprint("consumer ", i), before(time.Duration(i) * time.Second)})
			}
		}, bad, seeLost, "consumer 0, consumer 1, consumer 2 and 29 more since 31 s"},
		{"events wait for a while", func(s *status) { s.Queue.Oldest = before(2 * time.Minute) }, warn, seeWait, "3 events wait, the oldest for 2 min"},
		{"events wait for long", func(s *status) { s.Queue.Oldest = before(time.Hour) }, bad, seeWait, "the oldest for 1 h"},
		{"nobody works", func(s *status) { s.Processes = s.Processes[:1] }, bad, seeWait, "no process works on them"},
		{"a realm has no keys", func(s *status) { s.Realms[0].Usable, s.Realms[0].Wrong = false, "404" }, bad, seeKeys, "no keys here, and users are refused, of realm acme (404)"},
		{"keys grow old", func(s *status) { s.Realms[0].Age, s.Realms[0].Wrong = new(7200.0), "404" }, warn, seeKeys, "more than an hour, of realm acme (404)"},
		{"keys are about to end", func(s *status) { s.Realms[0].Age, s.Realms[0].Wrong = new(80000.0), "404" }, bad, seeKeys, "serve for a day"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := calm()
			row.wrong(&s)
			got := troubles(s)
			if row.see == "" {
				if len(got) != 0 {
					t.Errorf("got %+v, want nothing", got)
				}
				return
			}
			if len(got) != 1 || got[0].Level != row.level || got[0].See != row.see || !strings.Contains(strings.ReplaceAll(got[0].What, "\u202f", " "), strings.ReplaceAll(row.says, "\u202f", " ")) {
				t.Errorf("got %+v, want %s, %q: …%s…", got, row.level, row.see, row.says)
			}
		})
	}
}

// A stream whose leader is alone says that it is well, and stores nothing.
func TestStatusTroublesOfALostMajority(t *testing.T) {
	s := calm()
	for i := range s.Streams[0].Replicas {
		s.Streams[0].Replicas[i].Current = false
	}
	got := troubles(s)
	if len(got) != 3 || got[0].Level != bad || !strings.Contains(got[0].What, "stream PEAL_EVENT_x has no majority of its copies") || got[1].See != seeReplica || got[2].See != seeReplica {
		t.Errorf("got %+v", got)
	}
}

// What is worst is said first.
func TestStatusTroublesAreInOrder(t *testing.T) {
	s := calm()
	s.Processes[1].NotReady = "draining"
	s.Processes[1].Version = "v2"
	s.Streams[0].Lacks, s.Streams[0].Since = "no leader", before(time.Hour)
	var levels []level
	for _, tr := range troubles(s) {
		levels = append(levels, tr.Level)
	}
	if !slices.Equal(levels, []level{bad, warn, note}) {
		t.Errorf("got %v", levels)
	}
}

// Every trouble leads to a heading of the manual that is there.
func TestStatusTroublesAreInTheManual(t *testing.T) {
	source, err := os.ReadFile("status_trouble.go")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tsee\w+\s+= "(.*)"$`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 10 {
		t.Fatalf("found %d headings", len(found))
	}
	for _, m := range append(found, []string{"", "The status page"}) {
		if !regexp.MustCompile(`(?m)^##+ ` + regexp.QuoteMeta(m[1]) + `$`).Match(manual) {
			t.Errorf("docs/operating.md has no heading %q", m[1])
		}
	}
}

// A clock is held against most others, so that one that is wrong is told of, and not
// all the others: also if it is the one of the process that looks.
func TestStatusFindsTheClockThatIsWrong(t *testing.T) {
	for _, row := range []struct {
		ours  float64 // how far ours is wrong
		other float64
		nats  time.Duration // NATS's against ours
		want  [2]float64
	}{
		{0, 0, 0, [2]float64{0, 0}},
		{0, 60, 0, [2]float64{0, 60}},
		{60, 0, -60 * time.Second, [2]float64{60, 0}},
		{-5, 0, 5 * time.Second, [2]float64{-5, 0}},
	} {
		all := []process{{Clock: new(0.0)}, {Clock: new(row.other - row.ours)}}
		setClocks(all, bus.Survey{Clock: row.nats, ClockWithin: time.Millisecond})
		for i, p := range all {
			if math.Abs(*p.Clock-row.want[i]) > 0.01 {
				t.Errorf("%+v: process %d is %v ahead, want %v", row, i, *p.Clock, row.want[i])
			}
		}
	}
}

// Rates are of the last 10 s, by the process's own clock; of counters that begin anew,
// and of who is not there, there are none that are negative.
func TestStatusRates(t *testing.T) {
	l := newLookout(nil)
	at := noon
	counts := func(n float64) map[string]float64 { return map[string]float64{"delivered": n} }
	if r := l.rates("a", at, counts(100), false); r != nil {
		t.Errorf("of one sample: %v", r)
	}
	n := 100.0
	for i := range 60 {
		at, n = at.Add(2*time.Second), n+20
		r := l.rates("a", at, counts(n), false)
		if math.Abs(r["delivered"]-10) > 0.01 {
			t.Fatalf("after %d samples: %v, want 10/s", i+2, r)
		}
	}
	if got := len(l.samples["a"]); got > 8 {
		t.Errorf("%d samples are kept", got)
	}
	for range 6 { // of the last 10 s alone
		at, n = at.Add(2*time.Second), n+2
		l.rates("a", at, counts(n), false)
	}
	if r := l.rates("a", at, counts(n), false); math.Abs(r["delivered"]-1) > 0.01 {
		t.Errorf("after it has slowed down: %v, want 1/s", r)
	}
	if r := l.rates("a", at.Add(2*time.Second), counts(0), false); r["delivered"] != 0 {
		t.Errorf("of a counter that begins anew: %v", r)
	}
	if r := l.rates("a", at.Add(4*time.Second), counts(n), true); r != nil {
		t.Errorf("of one who is silent: %v", r)
	}
	if r := l.rates("a", at.Add(time.Hour), counts(n), false); r != nil {
		t.Errorf("after an hour: %v", r)
	}
	l.forget([]process{{Name: "b"}})
	if len(l.samples) != 0 {
		t.Errorf("who is gone is not forgotten: %v", l.samples)
	}
}

// A process that was started again at the same place takes the place of the one that
// was killed.
func TestStatusReplacesWhoWasStartedAgain(t *testing.T) {
	at := func(host, listen string, started time.Duration, silent bool) process {
		return process{Name: fmt.Sprint(host, listen, started), Silent: silent, Told: true, present: present{Host: host, Listen: listen, Started: *before(started)}}
	}
	old, next := at("h", ":1", time.Hour, true), at("h", ":1", time.Minute, false)
	beside, elsewhere := at("h", ":2", time.Hour, true), at("g", ":1", time.Hour, true)
	all := []process{old, next, beside, elsewhere}
	var names []string
	for _, p := range withoutReplaced(all) {
		names = append(names, p.Name)
	}
	if want := []string{next.Name, beside.Name, elsewhere.Name}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// Numbers are written so that they can be read at a glance.
func TestStatusWrites(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1234567): "1 234 567", count(20000): "20 000",
		size(int64(0)): "0", size(uint64(999)): "999 B", size(int64(1 << 30)): "1.00 GB", size(1536): "1.50 kB", size(int64(41 << 20)): "41.0 MB", size(int64(1000)): "0.98 kB",
		span(0): "0 s", span(61 * time.Second): "1 min 1 s", span(26 * time.Hour): "1 d 2 h", span(time.Hour): "1 h", span(-time.Second): "0 s",
		perSecond(nil): "–", perSecond(new(0.0)): "0", perSecond(new(0.05)): "< 0.1", perSecond(new(6.14)): "6.1", perSecond(new(12345.6)): "12 346",
		anchor("Revocations can't be seen"): "revocations-cant-be-seen", oneLine("a\nb\tc  d", 100): "a b c d", oneLine("äöü", 3): "ä…",
	} {
		if got = strings.ReplaceAll(got, "\u202f", " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
