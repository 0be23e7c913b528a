package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// User is whose connections are opened.
type User struct {
	ID    string // "" where only the service knows whose the token is
	Token string
}

// crowd is all connections of a run.
type crowd struct {
	// Set by newCrowd, then read-only, but for the ids of users: see connect.
	sites       []site
	header      http.Header
	users       []User
	perUser     int
	connections []*connection // of user i from i*perUser on
	brakes      []*brake      // of the last connections

	open       atomic.Int64 // connections
	reconnects atomic.Int64
	gaps       atomic.Int64
	foreign    atomic.Int64 // notifications of somebody else's making
	campaigns  atomic.Pointer[[]*campaign]

	// Set by connect.
	cancel context.CancelFunc
	done   sync.WaitGroup // of the connections
	turns  chan struct{}  // a token for each open under way

	mu       sync.Mutex       // protects refusals
	refusals map[string]int64 // of connections that are tried again: what the answer was → how many
}

// newCrowd finds the nodes, once for all connections. The slow users' ones
// have brakes and come last.
func newCrowd(ctx context.Context, cfg Config) (*crowd, error) {
	c := &crowd{header: make(http.Header), perUser: cfg.PerUser, refusals: make(map[string]int64)}
	for _, address := range cfg.URLs {
		s, err := findSite(ctx, address)
		if err != nil {
			return nil, err
		}
		c.sites = append(c.sites, s)
	}
	if len(c.sites) == 0 {
		return nil, errors.New("there is no service to measure")
	}
	maps.Copy(c.header, cfg.Header)
	c.users = append(append(c.users, cfg.Users...), cfg.SlowUsers...)
	for i := range len(c.users) * c.perUser {
		c.connections = append(c.connections, &connection{crowd: c, index: i, userID: c.users[i/c.perUser].ID})
	}
	for range len(cfg.SlowUsers) * c.perUser {
		c.brakes = append(c.brakes, newBrake())
	}
	c.announce()
	return c, nil
}

// site is where connections are made to: a node.
type site struct {
	url     *url.URL
	address string      // looked up
	tls     *tls.Config // nil for plain text
}

// findSite looks an address up.
func findSite(ctx context.Context, address string) (site, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return site{}, errors.New("the address of the service must be http://HOST or https://HOST")
	}
	s := site{url: u}
	if u.Scheme == "https" {
		s.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", Address(u))
	if err != nil {
		return site{}, fmt.Errorf("%w: is the service running there?", err)
	}
	defer conn.Close()
	s.address = conn.RemoteAddr().String()
	return s, nil
}

// site is where a connection is made to, each time it is.
func (c *crowd) site(index int) site { return c.sites[index%len(c.sites)] }

// Address is the HOST:PORT of a URL.
func Address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = u.Scheme // net knows the ports of http and https
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// connect opens all connections, at most atOnce at a time, and returns when all
// are open, or with the first error. Each resumes from the cursor it had. They
// stay open until disconnect, whatever becomes of ctx then.
func (c *crowd) connect(ctx context.Context, atOnce int) error {
	var lifetime context.Context
	lifetime, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.turns = make(chan struct{}, atOnce)
	opened := make(chan error, len(c.connections))
	for _, conn := range c.connections {
		c.done.Go(func() { conn.run(lifetime, func(err error) { opened <- err }) })
	}
	for range c.connections {
		select {
		case err := <-opened:
			if err != nil {
				return fmt.Errorf("connection %s of %s: %w", grouped(c.open.Load()+1), grouped(len(c.connections)), err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range c.users {
		c.users[i].ID = c.connections[i*c.perUser].userID
	}
	return nil
}

// disconnect ends all connections and waits for that. It may be called more
// than once.
func (c *crowd) disconnect() {
	if c.cancel != nil {
		c.cancel()
	}
	c.done.Wait()
}

// admit opens a connection when it is its turn.
func (c *crowd) admit(ctx context.Context, open func(context.Context) error) error {
	select {
	case c.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turns }()
	return open(ctx)
}

// refused counts an answer after which a connection is tried again.
func (c *crowd) refused(answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals[answer]++
}

// dial makes a connection to the service, with a brake if it is to have one.
func (c *crowd) dial(ctx context.Context, index int) (net.Conn, error) {
	to := c.site(index)
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	if i := index - (len(c.connections) - len(c.brakes)); i >= 0 {
		conn = c.brakes[i].hold(conn)
	}
	if to.tls == nil {
		return conn, nil
	}
	t := tls.Client(conn, to.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

// request is what a connection asks for.
func (c *crowd) request(index int, cursor string) *http.Request {
	h := c.header.Clone()
	h.Set("Authorization", "Bearer "+c.users[index/c.perUser].Token)
	h.Set("Accept", "text/event-stream")
	h.Set("User-Agent", "peal-bench")
	if cursor != "" {
		h.Set("Last-Event-ID", cursor)
	}
	u := c.site(index).url
	return &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: h}
}

// names are the ids of the users from first to before end.
func (c *crowd) names(first, end int) []string {
	all := make([]string, 0, end-first)
	for _, u := range c.users[first:end] {
		all = append(all, u.ID)
	}
	return all
}

// announce says which campaigns the events that come may belong to.
func (c *crowd) announce(all ...*campaign) { c.campaigns.Store(&all) }

// deliver takes the id of a notification that a connection has read.
func (c *crowd) deliver(connection int, id string, at time.Time) {
	for _, campaign := range *c.campaigns.Load() {
		if campaign.receive(connection, id, at) {
			return
		}
	}
	c.foreign.Add(1)
}

// engage makes half of those with brakes stop reading, the others drip.
func (c *crowd) engage() {
	for i, b := range c.brakes {
		if i < len(c.brakes)/2 {
			b.engage(0)
		} else {
			b.engage(dripEvery)
		}
	}
}

func (c *crowd) release() {
	for _, b := range c.brakes {
		b.release()
	}
}
