//go:build linux

package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

// The size of a run. The defaults are those of CI, but for the time.
var (
	tortureTime        = flag.Duration("torture.time", 0, "how long faults strike; 0: no run")
	tortureSeed        = flag.Uint64("torture.seed", 0, "of what happens when; 0 chooses one")
	tortureUsers       = flag.Int("torture.users", 500, "users")
	tortureConnections = flag.Int("torture.connections", 1500, "connections, of all users")
	tortureRate        = flag.Int("torture.rate", 200, "publications a second")
	tortureEvents      = flag.Int("torture.events", 10, "in a hundred publications: those that are ticket events")
	tortureWorkers     = flag.Int("torture.workers", 24, "requests of publishers at once")
	tortureEvery       = flag.Duration("torture.every", 15*time.Second, "time between two faults")
	tortureFaults      = flag.String("torture.faults", "", "only these, separated by commas; none: no fault at all")
	torturePartitions  = flag.Int("torture.partitions", 4, "partitions of inboxes")
	tortureWindow      = flag.Duration("torture.window", 10*time.Second, "window of a drain")
	tortureTolerate    = flag.String("torture.tolerate", "", "kinds of violations, separated by commas, that are told and do not fail the run")
	tortureLoopback    = flag.Bool("torture.loopback", false, "have no network namespaces, though there may be some")
	tortureJudge       = flag.String("torture.judge", "", "judge the history in this folder, and run nothing")
	tortureDir         = flag.String("torture.dir", "", "where the history and logs go, and stay; empty: a temporary folder, which stays after a failure")
)

// run is one torture.
type run struct {
	t       *testing.T
	dir     string
	began   time.Time
	every   time.Duration
	kinds   []string // of faults
	tune    tuning
	plan    *runPlan
	cluster *cluster
	history *history.Writer

	clients, publisher *process

	struck  atomic.Int64
	mu      sync.Mutex // protects meant
	meant   map[*process]bool
	tending sync.WaitGroup
}

// runPlan is the plan with what only the run needs to know.
type runPlan struct {
	plan
	partitions int
}

// down says that a process is meant to end; up, that it is there again.
func (x *run) down(p *process) { x.mu.Lock(); x.meant[p] = true; x.mu.Unlock() }
func (x *run) up(p *process)   { x.mu.Lock(); delete(x.meant, p); x.mu.Unlock() }

// tend looks for processes that end by themselves, which is a failure, and starts them
// again as whatever runs them would.
func (x *run) tend(ctx context.Context) {
	for sleep(ctx, 200*time.Millisecond) {
		for _, p := range slices.Concat(x.cluster.edges, x.cluster.workers, x.cluster.natsServers) {
			x.mu.Lock()
			dead := !x.meant[p] && !p.runs()
			if dead {
				x.meant[p] = true
			}
			x.mu.Unlock()
			if !dead {
				continue
			}
			x.t.Errorf("%.1f s: %s has ended by itself: see %s", time.Since(x.began).Seconds(), p.name, p.log)
			p.stop(syscall.SIGKILL, time.Second)
			x.tending.Go(func() {
				if err := x.revive(p); err != nil {
					x.t.Error(err)
				}
			})
		}
	}
}

// What was acknowledged is delivered to every device: once, in order, without a hole,
// to nobody else, and within every other promise of the contract, whatever breaks.
func TestTorture(t *testing.T) {
	if *tortureJudge != "" {
		judge(t, *tortureJudge)
		return
	}
	if *tortureTime == 0 {
		t.Skip("takes minutes: make torture TIME=5m")
	}
	x := newRun(t)
	x.execute(t.Context())
	judge(t, x.plan.Dir)
}

func newRun(t *testing.T) *run {
	t.Helper()
	seed := *tortureSeed
	for seed == 0 {
		seed = rand.Uint64() >> 32
	}
	dir := *tortureDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "torture-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !t.Failed() {
				os.RemoveAll(dir)
			}
		})
	}
	t.Logf("seed %d, all files in %s", seed, dir)
	x := &run{t: t, dir: dir, every: *tortureEvery, meant: make(map[*process]bool)}
	x.tune = tuning{partitions: *torturePartitions, limit: 5, perInbox: 5000, drainWindow: *tortureWindow, disk: "2G"}
	x.cluster = newCluster(t, dir, x.tune)
	x.kinds = chosen(t, *tortureFaults, x.cluster.network.apart)
	x.plan = x.newPlan(seed)
	x.start()
	return x
}

// chosen are the kinds of faults of the run.
func chosen(t *testing.T, list string, apart bool) (names []string) {
	for _, k := range kinds {
		if list == "" || slices.Contains(strings.Split(list, ","), k.name) {
			if k.apart && !apart {
				t.Logf("without a network of its own there is no %q", k.name)
				continue
			}
			names = append(names, k.name)
		}
	}
	if len(names) == 0 && list != "none" {
		t.Fatalf("-torture.faults %q: there is none of these", list)
	}
	return names
}

// newPlan is what clients and publishers are told.
func (x *run) newPlan(seed uint64) *runPlan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := &runPlan{partitions: x.tune.partitions}
	p.plan = plan{
		Dir: filepath.Join(x.dir, "history"), Issuer: x.cluster.issuerDir(), URL: x.cluster.issuerURL, Users: members(*tortureUsers),
		Key: fmt.Sprint(r.Uint64()), Seed: seed, SlowOnes: 20, TokenFor: [2]time.Duration{30 * time.Second, 5 * time.Minute},
		StaysFor: 90 * time.Second, MarksIn: 2 * time.Minute,
		Rate: *tortureRate, Workers: *tortureWorkers, Events: *tortureEvents,
	}
	for _, e := range x.cluster.edges {
		p.Nodes = append(p.Nodes, node{e.name, e.host.address(x.t, "public")})
	}
	// Most users have as many devices as the average; one in twenty has two more than
	// may be connected.
	p.Devices = make([]int, len(p.Users))
	left := *tortureConnections
	for i := range p.Devices {
		if i%20 == 7 {
			p.Devices[i] = x.tune.limit + 2
		} else {
			p.Devices[i] = 1
		}
		left -= min(p.Devices[i], x.tune.limit)
	}
	for i := 0; left > 0; i = (i + 1) % len(p.Devices) {
		if p.Devices[i] < x.tune.limit {
			p.Devices[i]++
			left--
		} else if !slices.ContainsFunc(p.Devices, func(n int) bool { return n < x.tune.limit }) {
			x.t.Fatalf("-torture.connections: %d users can't have so many", len(p.Users))
		}
	}
	return p
}

// start starts the processes of clients and publishers.
func (x *run) start() {
	x.t.Helper()
	if err := os.MkdirAll(x.plan.Dir, 0o700); err != nil {
		x.t.Fatal(err)
	}
	var err error
	if x.history, err = history.Create(x.plan.Dir, "run"); err != nil {
		x.t.Fatal(err)
	}
	b, err := json.Marshal(x.plan.plan)
	if err != nil {
		x.t.Fatal(err)
	}
	file := x.cluster.write("plan.json", string(b))
	for name, p := range map[string]**process{"clients": &x.clients, "publisher": &x.publisher} {
		*p = &process{host: x.cluster.network.hosts[name], name: name, args: []string{os.Args[0], name, file}, log: filepath.Join(x.dir, name+".log")}
		if err := (*p).start(x.cluster.starter); err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() { (*p).stop(syscall.SIGKILL, time.Second) })
	}
	x.history.Write(history.Record{Kind: history.Run, Bounds: &history.Bounds{
		Limit: x.tune.limit, PerInbox: x.tune.perInbox, Window: x.tune.drainWindow.Microseconds(), Seed: x.plan.Seed}})
}

// ask asks a process of ours, which has to answer.
func (x *run) ask(p *process, line string, within time.Duration) string {
	x.t.Helper()
	answer, err := p.ask(line, within)
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// joins is how many devices come a second where no storm is meant: on two cores, with
// three NATS servers beside them, 150 are one.
const joins = 75

// execute has everything happen, in its order.
func (x *run) execute(ctx context.Context) {
	x.began = time.Now()
	devices := 0
	for _, n := range x.plan.Devices {
		devices += min(n, x.tune.limit)
	}
	// Some things are there from their first use on, and stay.
	over := time.Duration(devices) * time.Second / joins
	x.ask(x.clients, fmt.Sprint("join ", over), time.Minute)
	sleep(ctx, over)
	x.ask(x.publisher, "publish", time.Minute)
	sleep(ctx, 5*time.Second)
	x.ask(x.publisher, "stop", time.Minute)
	x.ask(x.clients, "leave", time.Minute)
	sleep(ctx, 3*time.Second)
	x.measure(ctx, history.Base)

	x.ask(x.clients, fmt.Sprint("join ", over), time.Minute)
	x.await(ctx, "the devices to connect", 2*time.Minute, func() (bool, string) {
		n, err := strconv.Atoi(x.ask(x.clients, "connected", time.Minute))
		return err == nil && n >= devices*9/10, fmt.Sprint(n, " of ", devices) // some have left again by then, and come back
	})
	x.ask(x.publisher, "publish", time.Minute)

	tending, stopTending := context.WithCancel(ctx)
	defer stopTending()
	x.tending.Go(func() { x.tend(tending) })
	x.tending.Go(func() { x.watchLoad(tending) })
	striking, stop := context.WithTimeout(ctx, *tortureTime)
	defer stop()
	if len(x.kinds) > 0 {
		x.faults(striking, rand.New(rand.NewPCG(x.plan.Seed, 2)))
	}
	<-striking.Done()
	x.t.Logf("%6.1f s: no more faults", time.Since(x.began).Seconds())
	x.settle(ctx, over)
	stopTending()
	x.tending.Wait()
	x.leave(ctx, over)
	for _, p := range []*process{x.clients, x.publisher} {
		p.in.Close() // they complete their histories
		p.stop(0, time.Minute)
	}
	if err := x.history.Close(); err != nil {
		x.t.Error(err)
	}
}

// await waits until something is so, or a time is over.
func (x *run) await(ctx context.Context, what string, within time.Duration, so func() (bool, string)) {
	x.t.Helper()
	state := ""
	for late := time.Now().Add(within); time.Now().Before(late); {
		ok := false
		if ok, state = so(); ok {
			return
		}
		if !sleep(ctx, 300*time.Millisecond) {
			return
		}
	}
	x.t.Errorf("waited %v for %s: %s", within, what, state)
}

// settle has everything come to rest, all devices come back once more within a time, and writes down what everybody says then.
func (x *run) settle(ctx context.Context, over time.Duration) {
	published := x.ask(x.publisher, "stop", 3*time.Minute)
	x.t.Logf("%6.1f s: %s publications sent", time.Since(x.began).Seconds(), published)
	x.ask(x.clients, fmt.Sprint("freeze ", over), time.Minute)
	sleep(ctx, over)
	x.await(ctx, "the events to be worked on", 3*time.Minute, func() (bool, string) {
		n, err := x.cluster.waiting(ctx)
		return err == nil && n == 0, fmt.Sprint(n, " wait, ", err)
	})
	x.history.Write(history.Record{Kind: history.Quiet})
	want, err := x.cluster.listAll(ctx, &x.plan.plan, x.history)
	if err != nil {
		x.t.Error(err)
	}
	b, err := json.Marshal(want)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Logf("%6.1f s: listed", time.Since(x.began).Seconds())
	left := x.ask(x.clients, "rest "+x.cluster.write("rest.json", string(b)), 3*time.Minute)
	x.t.Logf("%6.1f s: at rest, but for %s", time.Since(x.began).Seconds(), left)
}

// measure writes down what each node uses.
func (x *run) measure(ctx context.Context, phase string) {
	for _, p := range x.cluster.edges {
		r, err := x.cluster.usage(ctx, p)
		if err != nil {
			x.t.Error(err)
			continue
		}
		r.Phase, r.RSS = phase, 0 // of which leave knows more
		x.history.Write(r)
	}
}

// leave has all devices go, and looks whether the nodes let go of everything. How much
// memory a node takes depends on how much it had to do at once, and since it was started,
// so that is compared between two times that all come, over so long, and go.
func (x *run) leave(ctx context.Context, over time.Duration) {
	x.ask(x.clients, "leave", time.Minute)
	base := make(map[string]history.Record)
	for r, err := range history.Read(x.plan.Dir) {
		if err != nil || len(base) == len(x.cluster.edges) {
			break
		}
		if r.Kind == history.Usage && r.Phase == history.Base {
			base[r.Node] = *r
		}
	}
	x.await(ctx, "the nodes to let go of everything", time.Minute, func() (bool, string) {
		for _, p := range x.cluster.edges {
			r, err := x.cluster.usage(ctx, p)
			b := base[p.name]
			if err != nil || r.Descriptors > b.Descriptors+3 || r.Goroutines > b.Goroutines+3 || r.Subscriptions > b.Subscriptions+3 {
				return false, fmt.Sprintf("%s has %d descriptors, %d goroutines and %d subscriptions, and had %d, %d and %d; %v",
					p.name, r.Descriptors, r.Goroutines, r.Subscriptions, b.Descriptors, b.Goroutines, b.Subscriptions, err)
			}
		}
		return true, ""
	})
	x.measure(ctx, history.After)
	for _, p := range x.cluster.edges { // for who wants to know what is left
		if stacks, err := x.cluster.get(ctx, "http://"+p.host.address(x.t, "admin")+"/debug/pprof/goroutine?debug=1"); err == nil {
			x.cluster.write(p.name+".goroutines", string(stacks))
		}
	}
	x.t.Logf("%6.1f s: all have left", time.Since(x.began).Seconds())
	x.comeAndGo(ctx, over) // for nodes that were just started
	x.comeAndGo(ctx, over)
	before := x.memory(ctx, 20*time.Second, nil)
	x.tell(history.Base, before)
	after := make(map[string]int64)
	for range roundsOfMemory {
		x.comeAndGo(ctx, over)
		more := false
		for name, rss := range x.memory(ctx, time.Minute, before) {
			if after[name] == 0 || rss < after[name] {
				after[name] = rss
			}
			more = more || after[name] > before[name]*105/100
		}
		if !more {
			break
		}
	}
	x.tell(history.After, after)
}

// roundsOfMemory is how often it is looked at most whether a node takes more memory than
// before. What it does not give back is more each time; how much the heap of the same
// data takes depends on chance, by some megabytes.
const roundsOfMemory = 3

// comeAndGo has all devices come and go.
func (x *run) comeAndGo(ctx context.Context, over time.Duration) {
	x.ask(x.clients, fmt.Sprint("join ", over), time.Minute)
	sleep(ctx, over+5*time.Second)
	x.ask(x.clients, "leave", time.Minute)
}

// tell writes down how much memory nodes take.
func (x *run) tell(phase string, memory map[string]int64) {
	for name, rss := range memory {
		x.history.Write(history.Record{Kind: history.Usage, Node: name, Phase: phase, RSS: rss})
	}
}

// memory is how much memory each node takes, at the least within a time: what is not used
// goes back little by little. It ends sooner when none takes much more than before.
func (x *run) memory(ctx context.Context, within time.Duration, before map[string]int64) map[string]int64 {
	least := make(map[string]int64)
	for end := time.Now().Add(within); time.Now().Before(end); sleep(ctx, 2*time.Second) {
		more := before == nil
		for _, p := range x.cluster.edges {
			rss, err := x.cluster.collected(ctx, p)
			if err != nil {
				x.t.Error(err)
				continue
			}
			if least[p.name] == 0 || rss < least[p.name] {
				least[p.name] = rss
			}
			more = more || least[p.name] > before[p.name]*102/100
		}
		if !more {
			break
		}
	}
	x.t.Logf("%6.1f s: memory of the nodes: %v", time.Since(x.began).Seconds(), least)
	return least
}

// judge reads the history and says what it has come to.
func judge(t *testing.T, dir string) {
	t.Helper()
	var tolerated []verdict.Kind
	for name := range strings.SplitSeq(*tortureTolerate, ",") {
		tolerated = append(tolerated, verdict.Kind(name))
	}
	c := verdict.New(verdict.Config{Tolerated: tolerated})
	for r, err := range history.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		c.Take(r)
	}
	report := c.End()
	var out bytes.Buffer
	if err := report.Write(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &out)
	if report.Failed > 0 {
		t.Errorf("%d promises broken; the history is in %s", report.Failed, dir)
	}
}
