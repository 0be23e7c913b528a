package node

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// Base is what the paths of the API begin with.
const Base = "/api/v2/ticketing"

// Config tunes a Node. The zero value is the production default.
type Config struct {
	// MaxPerUser is how many connections of one user may be open on one route in
	// the whole cluster, polls that wait among them, 1,000 at most. 0 means 5,
	// negative no limit, and then nothing is asked or stored for it. It protects the
	// nodes from a client that opens connections in a loop.
	MaxPerUser int

	// LimitLocally counts the connections of this node alone where JetStream does
	// not say how many there are in the cluster, instead of refusing new ones. As
	// soon as it does, those beyond the limit are ended.
	LimitLocally bool

	// ConnectsPerUser is how many connects of one user are taken a second, after
	// a burst of 30 seconds' worth. 0 means 2, negative no limit. It protects a
	// node, and JetStream behind it, from a client that comes back in a loop.
	ConnectsPerUser int

	// ConnectsPerAddress is the same for one address, or one /64 of IPv6, with a
	// burst of 10 seconds' worth. 0 means 1,000, negative no limit. The address is
	// that of the TCP connection, for anybody can write X-Forwarded-For: behind a
	// proxy it is the proxy's, and a default that lets 10,000 users of one office
	// come back at once lets those of a proxy too. It protects a node from one
	// machine that has many users' tokens.
	ConnectsPerAddress int

	// RequestsPerUser is how many requests for their own inbox are taken of one
	// user a second, after a burst of 10 seconds' worth. 0 means 50, negative no
	// limit. It protects JetStream, which reads a whole inbox for most of them,
	// from a page that asks in a loop.
	RequestsPerUser int

	// EventsPerTenant is how many ticket events of one tenant this node takes a
	// second, after a burst of 10 seconds' worth, and of 500 at least. Each event of
	// a batch counts. 0 means 1,000, negative no limit. It protects the tenants from
	// one whose backend sends in a loop: they all share the queue.
	EventsPerTenant int

	// Heartbeat is how often a connection without other events gets one. 0
	// means 30 s. Less keeps strict proxies from closing it and costs a write
	// each; more lets a dead connection go unnoticed for longer.
	Heartbeat time.Duration

	// WriteTimeout is how long a connection may take for one event, of about 16
	// KiB at most, before it is ended as one that takes nothing, and how long any
	// other answer may take, of 3 MB at most. 0 means 30 s.
	WriteTimeout time.Duration

	// DrainDelay is how long a node that was told to end goes on as before,
	// but not ready, so that load balancers notice. 0 means 5 s, negative not
	// at all.
	DrainDelay time.Duration

	// DrainWindow is over how long a node that ends lets go of its
	// connections, evenly. 0 means 30 s, negative all at once.
	DrainWindow time.Duration

	// AwayPatience is how long NATS may be away, or the revocations unseen, before
	// the node is not ready. 0 means 30 s. Shorter takes every node out of service at once when a
	// server of the cluster is started again.
	AwayPatience time.Duration

	// AwayLimit is how long NATS may be away before the node lets go of its
	// connections, over the drain window, so that they look for a node that has it.
	// 0 means 5 minutes, negative never. Shorter has everybody come back for nothing
	// where NATS is away from all nodes.
	AwayLimit time.Duration

	// MaxAge is for how long a connection stays open, a tenth more or less. 0 means
	// without a bound. It lets nodes that were added get their share of those that
	// never end.
	MaxAge time.Duration

	// ActionHosts are the hosts that an absolute actionUrl of a notification
	// may name, as host or host:port in lower case. Empty means none.
	ActionHosts []string

	// Origins are whose pages may use the API from a browser, each exactly as
	// browsers send it: scheme://host[:port] in lower case, without a default
	// port or a slash at the end. Empty means none but those of LocalOrigins.
	Origins []string

	// LocalOrigins adds every origin of this machine: http and https, localhost,
	// 127.0.0.1 and [::1], any port. Not for production: it is for development.
	LocalOrigins bool

	// Cookies lets a browser's own EventSource, which sends no headers, connect
	// by a session cookie that holds the token. It needs TLS before or in this
	// process: the cookie is a Secure one.
	Cookies bool

	// HealthOnly leaves the public port with nothing but whether the process lives
	// and is ready: it has other roles than the edge.
	HealthOnly bool

	// Mount serves further paths on the public port, by their prefix, such as
	// "/demo/". Not for production: it is how the dev command adds its issuer.
	Mount map[string]http.Handler

	// Roles are what this process does, as the status page tells: edge, dispatch.
	Roles []string

	// MetricsTenants are the tenants whose connections are counted on their own too, and
	// those of all others together. Empty means none are. Each costs two series on each
	// node.
	MetricsTenants []peal.Tenant

	// Tracer records publications and deliveries, each as a part of what its publisher
	// says that it belongs to. nil records nothing.
	Tracer trace.Tracer

	// Version is what is told of this program in metrics and on the status page.
	Version string

	// Logger gets one line when something begins to matter and one when it
	// ends. nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.MaxPerUser = cmp.Or(c.MaxPerUser, 5)
	c.ConnectsPerUser = cmp.Or(c.ConnectsPerUser, 2)
	c.ConnectsPerAddress = cmp.Or(c.ConnectsPerAddress, 1000)
	c.RequestsPerUser = cmp.Or(c.RequestsPerUser, 50)
	c.EventsPerTenant = cmp.Or(c.EventsPerTenant, 1000)
	c.Heartbeat = cmp.Or(c.Heartbeat, 30*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.DrainDelay = cmp.Or(c.DrainDelay, 5*time.Second)
	c.DrainWindow = cmp.Or(c.DrainWindow, 30*time.Second)
	c.AwayPatience = cmp.Or(c.AwayPatience, 30*time.Second)
	if c.Tracer == nil {
		c.Tracer = noop.Tracer{}
	}
	c.AwayLimit = cmp.Or(c.AwayLimit, 5*time.Minute)
	c.Version = cmp.Or(c.Version, "dev")
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

// Node is one edge. Make it with New, then Serve.
type Node struct {
	cfg      Config
	log      *slog.Logger
	verifier *auth.Verifier
	bus      *bus.Bus

	bodies, strangers room // of unfinished bodies
	answers           room // of lists that are being sent

	unfinished *limiter                // of calls to a user's own inbox and preferences
	users      *throttle[peal.Inbox]   // of connects
	addresses  *throttle[netip.Prefix] // of connects
	requests   *throttle[peal.Inbox]   // for the inbox
	events     *throttle[peal.Tenant]  // of tickets
	wheel      *wheel
	metrics    *metrics
	lookout    *lookout

	name, host string // of the process, in roll calls
	pid        int
	started    time.Time
	listening  atomic.Pointer[string] // where the public port is; nil before Serve

	leaving  atomic.Bool // told to end: not ready
	draining atomic.Bool // lets go of its connections and takes no new ones

	reviewing chan struct{} // capacity 1: every connection is to be looked at again
	refusals  *sampler

	headStart time.Duration // that a slot has before its connection is followed

	crowd crowd // of those who ask for an event stream

	told atomic.Int64  // when a 503 was logged last, in ns since the wheel's start
	left chan struct{} // capacity 1: a connection has ended

	mu     sync.Mutex // protects conns and closed, and orders open after draining
	conns  map[*conn]struct{}
	closed bool           // no call begins any more
	calls  sync.WaitGroup // under way
}

// New returns a node that answers for who the verifier knows, from the bus. It
// owns neither: both are closed after Serve has returned.
func New(cfg Config, v *auth.Verifier, b *bus.Bus) *Node {
	n := &Node{
		cfg:      cfg.withDefaults(),
		verifier: v,
		bus:      b,
		left:     make(chan struct{}, 1),

		headStart: headStart,
		reviewing: make(chan struct{}, 1),
		conns:     make(map[*conn]struct{}),
	}
	n.log = n.cfg.Logger
	n.bodies.most, n.strangers.most, n.answers.most = maxBodies, maxStrangers, maxAnswers
	n.unfinished = newLimiter(maxUnfinished)
	n.users = newThrottle[peal.Inbox]("user", n.cfg.ConnectsPerUser, userBurst)
	n.addresses = newThrottle[netip.Prefix]("address", n.cfg.ConnectsPerAddress, addressBurst)
	n.requests = newThrottle[peal.Inbox]("requests", n.cfg.RequestsPerUser, requestBurst)
	n.events = newThrottle[peal.Tenant]("tenant", n.cfg.EventsPerTenant, eventBurst)
	n.events.burst = max(n.events.burst, maxEvents) // a batch has to fit
	n.wheel = newWheel(time.Now())
	n.refusals = newSampler(n.log)
	n.metrics = newMetrics(n)
	n.lookout = newLookout(n)
	n.name, n.host, n.pid = processName()
	n.started = time.Now()
	return n
}

// Ready reports why the node should get no new work; "" if it should. GET /readyz
// answers the same.
func (n *Node) Ready() string {
	switch {
	case n.leaving.Load():
		return "draining"
	case n.bus.Away() > n.cfg.AwayPatience:
		return "NATS is away"
	case n.bus.RevocationsUnseen() > n.cfg.AwayPatience: // also one that has never seen them
		return "revocations can't be seen"
	}
	for _, realm := range n.verifier.Status() {
		if realm.Usable || n.cfg.HealthOnly {
			return ""
		}
	}
	return "no realm has keys yet"
}
