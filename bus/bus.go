package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Config tunes a Bus. One of Server and URLs says where JetStream is; the rest
// of the zero value is the production default.
type Config struct {
	// Server is a NATS server in this process.
	Server interface {
		InProcessConn() (net.Conn, error)

		// Writable returns why the server can't store anything at this
		// moment, or nil. Publishing is refused at once then.
		Writable() error
	}

	// URLs are the addresses of a NATS cluster.
	URLs []string

	// Await is for how long Open waits for a cluster that does not answer yet, for it
	// may be starting. 0 means not at all. What a cluster refuses is not waited for.
	Await time.Duration

	// Role is in the subjects on which this process is answered, so that the rights
	// of its NATS user can be confined to them: one of RoleNode and so on. "" means
	// RoleNode.
	Role string

	// Credentials is the path of a NATS credentials file. "" means none.
	Credentials string

	// RootCA is the path of the certificates, in PEM, of which one has signed those of
	// the NATS servers. "" means those that the machine trusts. Certificate and Key are
	// the paths of what this process shows to the servers, "" of none. They are read
	// again with each connect, and any of them means that nothing but TLS will do.
	RootCA, Certificate, Key string

	// Region is where this JetStream is. "" means local.
	Region Region

	// Regions are all that serve, this one among them; nil: this one alone. Home is
	// that of tenants that Homes does not name; "" means Region. All of it has to be
	// the same in every process of all regions, or a tenant would have two homes, of
	// which each process sees one.
	Regions []Region
	Home    Region
	Homes   map[peal.Tenant]Region

	// Partitions is over how many streams the inboxes are spread when the
	// region is created; afterwards the region's own number counts. 0 means 1
	// for a server in this process and 8 for a cluster.
	Partitions int

	// Replicas of each stream when it is created. 0 means 1 for a server in
	// this process and 3 for a cluster.
	Replicas int

	// Retain is how long a notification can be replayed. 0 means 30 days.
	// Longer costs disk on every replica; shorter loses what a user on leave
	// missed. It counts for streams that are created; a read state is kept for a
	// day more.
	Retain time.Duration

	// PerInbox is how many notifications an inbox keeps, the newest. 0 means
	// 500. A list is read from the end of the inbox back to its page, and a count
	// back to the oldest that is unread, so more cost time only where that is far.
	PerInbox int

	// PerTenant is how many ticket updates of a tenant are kept for a day, the
	// newest. 0 means 4,096. Who was away for more fetches their list again.
	PerTenant int

	// Store is how many bytes of disk the streams may take together when they
	// are created. 0 means as much as their default bounds, about 3.3 GB for
	// one partition.
	Store int64

	// TailCheck is how often the end of a followed inbox is compared with what
	// was delivered, which finds a live message that was lost with nothing
	// after it. 0 means 30 s; negative: only when there is a reason to.
	TailCheck time.Duration

	// AckWait is after how long without a sign of its worker a ticket event is given
	// to another. 0 means 30 s. It counts when the queue is created. Shorter gives
	// what a worker does that only pauses to two; longer leaves the tickets of one
	// that died waiting.
	AckWait time.Duration

	// SlotTTL is after how long without being renewed a slot is free, such as those of
	// a process that died: it is renewed three times as often. 0 means 45 s; whole
	// seconds, and all processes of a region the same. Shorter costs JetStream more
	// renewals, and loses the slots of a process that only pauses; longer keeps users
	// out whose node died.
	SlotTTL time.Duration

	// Durables is how many durables there may be in the region, all users together:
	// each is a consumer, which takes memory of the servers and makes every publish
	// dearer. 0 means 1,000, negative none at all.
	Durables int

	// DurableUnused is after how long without a follower a durable is removed. 0
	// means 7 days.
	DurableUnused time.Duration

	// Timeout bounds one call to JetStream. 0 means 4 s, so that a client has
	// its 503 within 5.
	Timeout time.Duration

	// Logger gets one line when something begins to matter and one when it
	// ends. nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	one, many := 1, 8
	replicas := 3
	if c.Server != nil {
		many, replicas = one, one
	}
	c.Role = cmp.Or(c.Role, RoleNode)
	c.Region = cmp.Or(c.Region, "local")
	c.Home = cmp.Or(c.Home, c.Region)
	if len(c.Regions) == 0 {
		c.Regions = []Region{c.Region}
	}
	c.Partitions = cmp.Or(c.Partitions, many)
	c.Replicas = cmp.Or(c.Replicas, replicas)
	c.Retain = cmp.Or(c.Retain, 30*24*time.Hour)
	c.PerInbox = cmp.Or(c.PerInbox, 500)
	c.PerTenant = cmp.Or(c.PerTenant, 4096)
	c.TailCheck = cmp.Or(c.TailCheck, 30*time.Second)
	c.AckWait = cmp.Or(c.AckWait, 30*time.Second)
	c.SlotTTL = cmp.Or(c.SlotTTL, slotTTL)
	c.Durables = cmp.Or(c.Durables, 1000)
	c.DurableUnused = cmp.Or(c.DurableUnused, 7*24*time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 4*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

func (c Config) check() error {
	if c.Server == nil && len(c.URLs) == 0 {
		return errors.New("bus needs a NATS server or the address of one")
	}
	return c.CheckRegions()
}

// layout is that of this region.
func (c Config) layout() layout { return c.layoutOf(c.Region) }

func (c Config) layoutOf(r Region) layout {
	return layout{
		region: r, home: slices.Contains(c.homes(), r), revoked: c.revokedBucket(r), forwards: c.forwards(r),
		partitions: c.Partitions, replicas: c.Replicas,
		retain: c.Retain, perInbox: int64(c.PerInbox), perTenant: int64(c.PerTenant), slotTTL: c.SlotTTL, store: c.Store,
	}
}

// Bus is the inboxes and the ticket updates that a region serves. Its methods may be called concurrently.
type Bus struct {
	cfg Config
	log *slog.Logger

	// A connection for each purpose, so that a slow read never delays what is
	// live, and publishing waits for neither.
	live, read, write *nats.Conn
	reads, writes     jetstream.JetStream

	homes      map[Region]*home
	twins      map[string]*twin // of streams that are stored elsewhere or have copies there, by name; nil where there is one region
	partitions []*partition     // of all homes
	sources    []*source        // of all homes: their partitions, and tickets
	events     *publisher       // of ticket events
	shards     []*shard

	life    context.Context // ends when Close begins: of what the bus asks for itself
	end     context.CancelFunc
	closing <-chan struct{} // life's
	closed  chan struct{}   // closed when NATS will not come back; failure is set by then
	failure error           // why
	once    sync.Once       // runs Close
	ending  sync.Once       // sets failure and closes closed
	done    sync.WaitGroup  // of every goroutine that the bus has started

	watches    watches       // of revocations
	recents    *recents      // of inboxes
	inboxReads chan struct{} // a token for each inbox that is being read
	slots      *slots        // that this process holds
	hung       hung          // replicas
	roll       roll          // of the processes of the region
	surveys    surveys       // of the streams
	began      time.Time

	keeper    *reader       // of durables: does the work on those that are held here
	explainer *reader       // of their losses, which wait for none of that work
	keeping   chan struct{} // a token while a durable is made
	heldMu    sync.Mutex    // protects held, and what the health says of them
	held      map[*Durable]struct{}

	cameBack chan struct{} // capacity 1: servers may have been started anew

	rights rights

	opened atomic.Bool // the rest is set: callbacks of NATS may use it
	missed atomic.Bool // live messages may have passed this process by
	health *health
	stats  Stats
}

// Open connects to JetStream, creates the streams that are not there, and is
// then ready. Close ends it.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	b := &Bus{
		cfg:        cfg.withDefaults(),
		closed:     make(chan struct{}),
		homes:      make(map[Region]*home),
		recents:    newRecents(maxRecents),
		inboxReads: make(chan struct{}, maxReads),
		cameBack:   make(chan struct{}, 1),
		hung:       hung{since: time.Now()},
		began:      time.Now(),

		keeping: make(chan struct{}, 1),
		held:    make(map[*Durable]struct{}),
	}
	b.keeper, b.explainer = newReader(b), newReader(b)
	b.life, b.end = context.WithCancel(context.Background())
	b.closing = b.life.Done()
	b.log = b.cfg.Logger
	b.health = newHealth(b.log)
	if err := b.open(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bus) open(ctx context.Context) (err error) {
	if err := b.cfg.check(); err != nil {
		return err
	}
	if err := b.connectAll(ctx); err != nil {
		return err
	}
	if err := b.openSources(ctx); err != nil {
		return err
	}
	if b.slots, err = newSlots(b); err != nil {
		return err
	}
	if err := b.cfg.patiently(ctx, func() error { return b.eraseAgain(ctx) }); err != nil {
		return err
	}
	b.done.Go(b.keepErased)
	b.startFeeds()
	if err := b.hearPurges(); err != nil {
		return fmt.Errorf("listen to purges: %w", err)
	}
	if err := b.slots.hearClaims(); err != nil {
		return fmt.Errorf("listen to claims: %w", err)
	}
	b.done.Go(b.slots.keep)
	for _, p := range b.partitions { // only now, for they report to the feeds
		p.start()
	}
	b.done.Go(b.events.run)
	b.keeper.start()
	b.explainer.start()
	b.done.Go(b.keepHeld)
	for _, h := range b.homes {
		h.tickets.start()
		if b.cfg.several() {
			b.done.Go(h.watch)
		}
	}
	b.opened.Store(true)
	return nil
}

// connectAll opens the connections, of which each has a purpose.
func (b *Bus) connectAll(ctx context.Context) (err error) {
	for _, c := range []struct {
		conn    **nats.Conn
		purpose string
	}{{&b.live, "live"}, {&b.read, "read"}, {&b.write, "write"}} {
		err := b.cfg.patiently(ctx, func() (err error) { *c.conn, err = b.connect(c.purpose); return err })
		if err != nil {
			return err
		}
	}
	if b.reads, err = jetstream.New(b.read, jetstream.WithDefaultTimeout(b.cfg.Timeout)); err != nil {
		return err
	}
	if b.writes, err = jetstream.New(b.write, jetstream.WithDefaultTimeout(b.cfg.Timeout),
		jetstream.WithPublishAsyncTimeout(b.cfg.Timeout),
		jetstream.WithPublishAsyncMaxPending(maxQueued)); err != nil {
		return err
	}
	return nil
}

// openSources creates the streams that are not there, and reads what all of them are
// now. A cluster that has just been started, or streams that have just been created,
// may have no leader yet.
func (b *Bus) openSources(ctx context.Context) error {
	var partitions map[Region]int
	err := b.cfg.patiently(ctx, func() (err error) { partitions, err = b.streams(b.reads).ensure(ctx, b.cfg); return err })
	if err != nil {
		return err
	}
	for _, r := range b.cfg.homes() {
		if err := b.openHome(ctx, r, partitions[r]); err != nil {
			return err
		}
	}
	b.events = newPublisher(b, eventStream(queue(b.cfg.Region)), 1) // those of a ticket in their order
	return nil
}

// Close ends every feed and every watch of revocations, waits for the publishes
// under way, frees every slot, and disconnects. It may be called more than once.
func (b *Bus) Close() {
	b.once.Do(func() {
		b.end()
		b.watches.close()
		for _, p := range b.publishers() {
			p.close()
		}
		b.done.Wait()
		for _, nc := range []*nats.Conn{b.live, b.read, b.write} {
			if nc != nil {
				nc.Close()
			}
		}
	})
}

// publishers lists those that there are; not all while the bus opens.
func (b *Bus) publishers() (all []*publisher) {
	for _, src := range b.sources {
		all = append(all, src.publisher)
	}
	if b.events != nil {
		all = append(all, b.events)
	}
	return all
}

// Closed is closed when the bus can't go on, against our will: a connection to
// NATS has ended for good, or the streams are others than they were. The
// process should end then: nothing will come back by itself. Err says why.
func (b *Bus) Closed() <-chan struct{} { return b.closed }

// Err returns why Closed is closed; nil as long as it is not.
func (b *Bus) Err() error {
	select {
	case <-b.closed:
		return b.failure
	default:
		return nil
	}
}

// Connected reports whether every connection to NATS is up at this moment.
func (b *Bus) Connected() bool {
	return b.live.IsConnected() && b.read.IsConnected() && b.write.IsConnected()
}

// Away returns for how long NATS has been away: a connection is lost, or the
// leader of no inbox stream answers. 0 if it is there. A single stream without a
// leader, such as that of ticket updates, is logged, and is no reason to go elsewhere. A silence is noticed
// within 30 s.
func (b *Bus) Away() time.Duration {
	connections := []string{whatConnection("live"), whatConnection("read"), whatConnection("write")}
	var streams []string
	for _, p := range b.partitions {
		streams = append(streams, whatStream(p.stream))
	}
	return max(b.health.anyAway(connections), b.health.allAway(streams))
}

// What the health knows of.
func whatConnection(purpose string) string { return "connection " + purpose }
func whatStream(name string) string        { return "stream " + name }

// Region returns the region this bus serves.
func (b *Bus) Region() Region { return b.cfg.Region }

// Stats returns the counters of this bus, which go on counting.
func (b *Bus) Stats() *Stats { return &b.stats }

// add takes in a source of feeds.
func (b *Bus) add(src *source) {
	src.index = len(b.sources)
	b.sources = append(b.sources, src)
}

// connect opens one connection, which reports to the bus.
func (b *Bus) connect(purpose string, more ...nats.Option) (*nats.Conn, error) {
	opts, err := b.cfg.options(purpose)
	if err != nil {
		return nil, err
	}
	return b.cfg.dial(append(append(opts, more...),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.disconnected(purpose, err) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.reconnected(purpose) }),
		nats.ClosedHandler(func(nc *nats.Conn) { b.ended(purpose, nc.LastError()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { b.async(purpose, sub, err) }),
	)...)
}

func (b *Bus) isClosing() bool {
	select {
	case <-b.closing:
		return true
	default:
		return false
	}
}

func (b *Bus) disconnected(purpose string, err error) {
	if purpose == "live" {
		b.missed.Store(true)
	}
	if !b.isClosing() {
		b.health.lose(whatConnection(purpose), err)
	}
}

func (b *Bus) reconnected(purpose string) {
	b.rights.anew()
	b.health.find(whatConnection(purpose))
	if !b.opened.Load() {
		return
	}
	if purpose == "write" {
		for _, h := range b.homes {
			h.wishes.stall.end()
		}
		b.slots.stall.end()
		b.slots.hurry()
		for _, p := range b.publishers() {
			p.stall.end()
		}
		select {
		case b.cameBack <- struct{}{}:
		default: // it is to be looked for already
		}
	}
	if b.live.IsConnected() && b.read.IsConnected() && b.missed.CompareAndSwap(true, false) {
		b.catchUp()
	}
}

func (b *Bus) ended(purpose string, err error) {
	if b.isClosing() {
		return
	}
	b.giveUp(fmt.Errorf("the connection to NATS for what is %s was closed for good: %w", purpose, cmp.Or(err, nats.ErrConnectionClosed)))
}

// giveUp tells who runs the bus that it can't go on.
func (b *Bus) giveUp(err error) {
	b.ending.Do(func() {
		b.log.Error("nats is lost for good", "err", err)
		b.failure = err
		close(b.closed)
	})
}

func (b *Bus) async(purpose string, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil && b.opened.Load() {
		b.stats.SlowConsumer.Add(1)
		b.checkSoon(sub.Subject)
		return
	}
	if b.rights.refused(err) {
		return // who has asked is told
	}
	if !b.isClosing() {
		b.log.Warn("nats error", "purpose", purpose, "err", err)
	}
}

// unavailable wraps what NATS answered as peal.ErrUnavailable, once, with what
// was being done. A context that the caller ended stays what it is.
func unavailable(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, peal.ErrUnavailable) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, peal.ErrUnavailable, err)
}
