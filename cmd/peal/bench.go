package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/cmd/peal/bench"
	"github.com/pealhq/peal/node"
)

const (
	// maxSamples bounds the latencies that are kept, all of them, 8 bytes each.
	maxSamples = 20_000_000

	// spareFiles is what the bench has open beside its connections.
	spareFiles = 300

	// benchTTL is how much longer than the publishing the tokens are good.
	benchTTL = time.Hour

	// ownConnections is how many one user opens where only one token is given:
	// as many as a service allows by default.
	ownConnections = 5
)

// benchFlags is how peal bench was called.
type benchFlags struct {
	*target
	connections, perUser int
	rate                 int
	duration             time.Duration
	publish              string // post, batch or bus
	batch                int
	storm, slow, json    bool
	nats, natsCreds      string
	region               string
	nodePIDs, natsPIDs   processIDs
	set                  map[string]bool // by name: given by somebody, not a default

	urls     []string // of the nodes: url is the first
	ownToken bool     // the connections are all of the one user whose token was given
}

// runBench answers peal bench.
func runBench(ctx context.Context, c *call) error {
	err := c.measure(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return errStopped // before there was anything to report
	}
	return err
}

func (c *call) measure(ctx context.Context) error {
	f, err := c.benchFlags()
	if err != nil {
		return err
	}
	running, err := f.place()
	if err != nil {
		return err
	}
	if err := f.check(running); err != nil {
		return err
	}
	say := func(s string) { fmt.Fprintf(c.stderr, "peal bench: %s\n", s) }
	cfg, err := f.config(ctx, running, say)
	if err != nil {
		return err
	}
	p, err := f.publisher(ctx, running)
	if err != nil {
		return err
	}
	defer p.close()
	cfg.Publish = p.publish
	report, err := bench.Run(ctx, cfg)
	if err != nil {
		return err
	}
	return c.tellBench(f, report)
}

func (c *call) benchFlags() (*benchFlags, error) {
	fs := c.flags()
	f := &benchFlags{target: c.target(fs), set: make(map[string]bool)}
	fs.Lookup("url").Usage = "`URL[,URL]` of the service, or of each node to share the connections and posts among, if it is not the peal dev in --data; without a token, that dev mints them"
	fs.IntVar(&f.connections, "connections", 1000, "open `N` connections; with a token of your own, they are all its user's, 5 by default, and it needs the role to publish")
	fs.IntVar(&f.perUser, "per-user", 1, "`N` connections for each user")
	fs.IntVar(&f.rate, "rate", 500, "publish `N` notifications a second, by the clock: whoever is held up is behind schedule, and latency counts from when a notification was due")
	fs.DurationVar(&f.duration, "duration", 10*time.Second, "publish for `D`; --slow does so six times")
	fs.StringVar(&f.publish, "publish", "post", "`post|batch|bus|event|events`: one POST for each notification, one for --batch users, or straight into JetStream; one for each ticket event, or for --batch events")
	fs.IntVar(&f.batch, "batch", 100, "tell `N` users with one POST of --publish batch or events")
	fs.BoolVar(&f.storm, "storm", false, "publish while all are away, then let all come back at once")
	fs.BoolVar(&f.slow, "slow", false, "measure the others in turn without and with slow ones: for each 1,000 one that stops reading and one that reads 10 bytes a second")
	fs.StringVar(&f.nats, "nats", "", "`URL[,URL]` of the service's NATS, to publish by the bus and to find its processes")
	fs.StringVar(&f.natsCreds, "nats-creds", "", "`FILE` with NATS credentials")
	fs.StringVar(&f.region, "region", "local", "`NAME` of the service's region, to publish by the bus")
	fs.Var(&f.nodePIDs, "node-pid", "process `ID[,ID]` of the nodes; by default those of who listens at their addresses, if that is on this machine")
	fs.Var(&f.natsPIDs, "nats-pid", "process `ID[,ID]` of the NATS servers; the same by default")
	fs.BoolVar(&f.json, "json", false, "print the report as JSON")
	if err := c.parse(fs, c.args); err != nil {
		return nil, err
	}
	fs.Visit(func(x *flag.Flag) { f.set[x.Name] = true })
	if f.token == "" {
		f.token = c.getenv("PEAL_TOKEN")
	}
	return f, f.checkFlags()
}

// checkFlags refuses what is wrong by itself.
func (f *benchFlags) checkFlags() error {
	switch {
	case f.connections < 1:
		return usagef("--connections must be at least 1")
	case f.perUser < 1 || f.perUser > f.connections:
		return usagef("--per-user must be at least 1 and at most --connections")
	case f.connections%f.perUser != 0:
		return usagef("--connections must be a multiple of --per-user")
	case f.rate < 1:
		return usagef("--rate must be at least 1")
	case f.duration <= 0:
		return usagef("--duration must be more than 0")
	case !slices.Contains([]string{"post", "batch", "bus", "event", "events"}, f.publish):
		return usagef("--publish must be post, batch, bus, event or events")
	case f.batch < 1 || f.batch > 1000:
		return usagef("--batch must be 1 to 1000: the service takes no more in one request")
	case f.publish == "events" && f.batch > 500:
		return usagef("--batch must be 1 to 500 events: the service takes no more in one request")
	case f.set["batch"] && !f.grouped():
		return usagef("--batch is of --publish batch and events")
	case f.storm && f.slow:
		return usagef("--storm and --slow exclude each other: measure one after the other")
	case float64(f.rate)*f.duration.Seconds()*float64(f.perUser) > maxSamples:
		return usagef("--rate, --duration and --per-user make more than 20,000,000 events: every latency is kept, so measure less")
	}
	if _, err := bus.ParseRegion(f.region); err != nil {
		return usagef("--region %s", strings.TrimPrefix(err.Error(), "region: "))
	}
	tenant, err := peal.ParseTenant(f.tenant)
	if err != nil {
		return usagef("--%v", err)
	}
	f.tenant = string(tenant)
	return nil
}

// grouped reports whether one request tells several users.
func (f *benchFlags) grouped() bool { return f.publish == "batch" || f.publish == "events" }

// place finds the service. running is the peal dev that mints tokens; zero
// where a token was given with an address.
func (f *benchFlags) place() (running ready, err error) {
	if f.url == "" || f.token == "" {
		if running, err = readDevJSON(f.data); err != nil {
			return ready{}, err
		}
	}
	if f.url == "" {
		f.url = running.URL
	}
	for address := range strings.SplitSeq(f.url, ",") {
		if !isServiceURL(address) {
			return ready{}, usagef("--url must be an address such as https://peal.example.com, or several with commas between")
		}
		f.urls = append(f.urls, strings.TrimSuffix(address, "/"))
	}
	f.url = f.urls[0]
	return running, nil
}

// check refuses what can't work together, and settles how many connections
// whose are.
func (f *benchFlags) check(running ready) error {
	if f.ownToken = f.token != ""; f.ownToken {
		if !f.set["connections"] {
			f.connections = ownConnections
		}
		f.perUser = f.connections
		if f.slow || f.publish == "bus" {
			return usagef("--slow and --publish bus need many users: leave out the token, and say --data DIR of the peal dev that can mint theirs")
		}
	}
	if f.publish == "bus" && f.natsURL(running) == "" {
		return usagef("--publish bus needs the address of NATS: say --nats URL, or start peal dev with --nats-listen")
	}
	need := f.connections + f.slowUsers()*f.perUser + spareFiles
	if have := bench.OpenFiles(); have > 0 && need > have {
		return usagef("--connections %d needs about %d open files, and this process may have %d: raise it with ulimit -n", f.connections, need, have)
	}
	return nil
}

func (f *benchFlags) slowUsers() int {
	if !f.slow {
		return 0
	}
	return bench.SlowFor(f.connections / f.perUser)
}

// config puts together what is measured, but for how it is published.
func (f *benchFlags) config(ctx context.Context, running ready, say func(string)) (bench.Config, error) {
	cfg := bench.Config{
		Kind:      bench.Steady,
		Header:    http.Header{"Realmname": {f.realm}, "X-Tenantid": {f.tenant}},
		PerUser:   f.perUser,
		Rate:      float64(f.rate),
		Duration:  f.duration,
		Group:     1,
		Processes: bench.System,
		Self:      os.Getpid(),
		Say:       say,
	}
	for _, address := range f.urls {
		cfg.URLs = append(cfg.URLs, address+node.Base+"/ticket/sse/notifications")
	}
	switch {
	case f.storm:
		cfg.Kind = bench.Storm
	case f.slow:
		cfg.Kind = bench.Slow
	}
	if f.grouped() {
		cfg.Group = min(f.batch, f.connections/f.perUser)
	}
	cfg.Nodes, cfg.NATS = f.processes(running)
	users, err := f.users(ctx, running, say)
	if err != nil {
		return bench.Config{}, err
	}
	healthy := len(users) - f.slowUsers()
	cfg.Users, cfg.SlowUsers = users[:healthy], users[healthy:]
	return cfg, nil
}

// processes finds the processes of the nodes and of JetStream; none means unknown.
func (f *benchFlags) processes(running ready) (nodes, nats []int) {
	nodes, nats = f.nodePIDs, f.natsPIDs
	if nodes == nil {
		var at []string
		for _, address := range f.urls {
			u, err := url.Parse(address)
			if err != nil {
				return nil, nats
			}
			at = append(at, bench.Address(u))
		}
		nodes = listeners(at)
	}
	embedded := f.url == running.URL && running.NATS == ""
	switch servers := f.natsURL(running); {
	case nats != nil:
	case servers != "":
		nats = listeners(natsAddresses(servers))
	case embedded:
		nats = nodes
	}
	return nodes, nats
}

// listeners finds the processes that listen at addresses; none if one is unknown.
func listeners(addresses []string) (pids []int) {
	for _, address := range addresses {
		pid := bench.System.Listener(address)
		if pid == 0 {
			return nil
		}
		pids = append(pids, pid)
	}
	return pids
}

// processIDs is a flag of process ids with commas between.
type processIDs []int

func (p *processIDs) String() string { return strings.Trim(fmt.Sprint([]int(*p)), "[]") }

func (p *processIDs) Set(s string) error {
	*p = nil
	for text := range strings.SplitSeq(s, ",") {
		id, err := strconv.Atoi(text)
		if err != nil || id < 1 {
			return errors.New("must be process ids, with commas between")
		}
		*p = append(*p, id)
	}
	return nil
}

// natsURL is where the service's NATS is, as far as is known.
func (f *benchFlags) natsURL(running ready) string {
	if f.nats == "" && f.url == running.URL {
		return running.NATS
	}
	return f.nats
}

// natsAddresses are the HOST:PORT of NATS URLs, none if one is not a URL.
func natsAddresses(urls string) (all []string) {
	for server := range strings.SplitSeq(urls, ",") {
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as the NATS client reads it
		}
		u, err := url.Parse(server)
		if err != nil {
			return nil
		}
		if u.Port() == "" {
			u.Host += ":4222"
		}
		all = append(all, u.Host)
	}
	return all
}

// users are those whose connections are opened, with their tokens: of a fresh
// name each, so that no run finds what another has left.
func (f *benchFlags) users(ctx context.Context, running ready, say func(string)) ([]bench.User, error) {
	if f.ownToken {
		return []bench.User{{Token: f.token}}, nil
	}
	tokens, err := openIssuer(f.data, running.URL)
	if err != nil {
		return nil, err
	}
	users := make([]bench.User, f.connections/f.perUser+f.slowUsers())
	say(fmt.Sprintf("minting tokens of %d users", len(users)))
	run := time.Now().UnixMilli()
	for i := range users {
		users[i].ID = fmt.Sprintf("bench-%d-%d", run, i)
	}
	return users, f.mintAll(ctx, tokens, users)
}

// mintAll mints the tokens of users, on all processors.
func (f *benchFlags) mintAll(ctx context.Context, tokens *issuer.Issuer, users []bench.User) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done sync.WaitGroup
	share := int(math.Ceil(float64(len(users)) / float64(minters)))
	for start := 0; start < len(users); start += share {
		mine := users[start:min(start+share, len(users))]
		done.Go(func() {
			for i := range mine {
				if ctx.Err() != nil {
					return
				}
				var err error
				if mine[i].Token, err = f.mintOne(tokens, mine[i].ID); err != nil {
					cancel(err)
				}
			}
		})
	}
	done.Wait()
	return context.Cause(ctx)
}

// mintOne mints a token that outlives the run.
func (f *benchFlags) mintOne(tokens *issuer.Issuer, user string, roles ...string) (string, error) {
	return mint(tokens, f.realm, user, peal.Tenant(f.tenant), benchTTL+6*f.duration, "", roles)
}

// minters are more than the processors of most machines, and cost nothing.
const minters = 16

// tellBench prints the report. Faults are an error: the service broke its
// promise, or history was too short.
func (c *call) tellBench(f *benchFlags, r *bench.Report) error {
	if f.json {
		if err := printJSON(c.stdout, benchReport{version, strings.Join(f.urls, ","), f.publish, r}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.stdout, "%s: %d connections of %d users, %d notifications/s for %v by %s, %s\n",
			strings.Join(f.urls, ","), f.connections, r.Users, f.rate, f.duration, f.publish, r.Kind)
		if err := r.Text(c.stdout); err != nil {
			return err
		}
	}
	if n := r.Faults(); n > 0 {
		return fmt.Errorf("%d events were lost, duplicated, out of order or misdirected: see the report", n)
	}
	if n := r.Unconfirmed(); n > 0 && !r.Interrupted {
		return fmt.Errorf("%d posts were never confirmed: is the service still running?", n)
	}
	return nil
}

// benchReport is what peal bench --json prints.
type benchReport struct {
	Version string `json:"version"` // of this binary
	URL     string `json:"url"`     // of each node, with commas between
	Publish string `json:"publish"`
	*bench.Report
}
