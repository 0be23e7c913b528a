package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// This file and those named after it look at a NATS and a region from outside, for
// whoever wants to know why something does not work. They work beside a running Bus
// and where none can be opened, and create, change and store nothing.

// MinServer is the oldest nats-server that has what peal is built on: batches that
// are stored whole or not at all, since 2.12, and consumers that are reset to a place,
// since 2.14.
const MinServer = "2.14.0"

// MinPayload is what a server has to take in one message, in bytes: the members of
// a large queue and a large read state come near it, and a message that is larger
// than the server takes ends the connection.
const MinPayload = 1 << 20

// ServerSeen is one address of a cluster, looked at by itself.
type ServerSeen struct {
	Address  string   // scheme and host, without user and password
	Resolved []string // to what IP addresses
	Failed   Stage    // how far it got; "" if all the way
	Err      error    // why no further

	Name, ID   string
	Cluster    string // "" if it is in none
	Version    string
	MaxPayload int64 // bytes
	RoundTrip  time.Duration
	Encrypted  bool
	Expires    time.Time // of the server's certificate
}

// Stage is a step on the way to a server.
type Stage string

// The stages, in their order.
const (
	StageURL         Stage = "url"
	StageResolve     Stage = "resolve"
	StageConnect     Stage = "connect"
	StageTLS         Stage = "tls"
	StageCredentials Stage = "credentials"
	StageProtocol    Stage = "protocol" // what answers is no NATS server, or none that we understand
)

// LookAtServer connects to one address, as the Bus of cfg would.
func LookAtServer(ctx context.Context, cfg Config, address string) ServerSeen {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	s := ServerSeen{Address: "an address that is not a URL"} // not quoted: it may hold a password
	if !strings.Contains(address, "://") {
		address = "nats://" + address // as nats.go reads it
	}
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || u.Host == "" {
		s.Failed, s.Err = StageURL, errors.New("must be a URL such as nats://host:4222")
		return s
	}
	s.Address = u.Scheme + "://" + u.Host
	if s.Resolved, s.Err = net.DefaultResolver.LookupHost(ctx, u.Hostname()); s.Err != nil {
		s.Failed = StageResolve
		return s
	}
	if s.Err = reachable(ctx, u); s.Err != nil {
		s.Failed = StageConnect
		return s
	}
	cfg.URLs, cfg.Server = []string{address}, nil
	nc, err := cfg.visit(ctx, new(rights))
	if err != nil {
		s.Failed, s.Err = stageOf(err), err
		return s
	}
	defer nc.Close()
	s.fill(nc)
	return s
}

// fill reads what a server has told of itself.
func (s *ServerSeen) fill(nc *nats.Conn) {
	s.Name, s.ID, s.Cluster = nc.ConnectedServerName(), nc.ConnectedServerId(), nc.ConnectedClusterName()
	s.Version, s.MaxPayload = nc.ConnectedServerVersion(), nc.MaxPayload()
	if s.RoundTrip, s.Err = nc.RTT(); s.Err != nil {
		s.Failed = StageProtocol
	}
	if state, err := nc.TLSConnectionState(); err == nil {
		s.Encrypted = true
		if len(state.PeerCertificates) > 0 {
			s.Expires = state.PeerCertificates[0].NotAfter
		}
	}
}

// reachable connects to the port of a URL, and says nothing.
func reachable(ctx context.Context, u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if port == "" {
		port = "4222"
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return c.Close()
}

// visit opens a connection that does not come back once it is lost, and that ends
// with ctx, and that tells r what NATS does not permit to it.
func (c Config) visit(ctx context.Context, r *rights) (*nats.Conn, error) {
	opts, err := c.options("doctor")
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		nats.NoReconnect(),
		nats.DontRandomize(),
		nats.IgnoreDiscoveredServers(),
		nats.Timeout(c.Timeout),
		nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r.refused(err) }),
	)
	if c.Server == nil {
		opts = append(opts, nats.SetCustomDialer(dialer{ctx}))
	}
	return nats.Connect(strings.Join(c.URLs, ","), opts...)
}

// dialer gives up with its context, also on what it has dialled.
type dialer struct{ ctx context.Context }

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &visited{Conn: c, stop: context.AfterFunc(d.ctx, func() { c.Close() })}, nil
}

// SkipHostLookup has nats.go leave names to Dial, whose look-up ends with its
// context.
func (dialer) SkipHostLookup() bool { return true }

// visited is a connection that its context closes.
type visited struct {
	net.Conn
	stop func() bool
}

func (c *visited) Close() error {
	c.stop()
	return c.Conn.Close()
}

// stageOf finds where a connect has failed that had reached the port.
func stageOf(err error) Stage {
	var (
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		alert    tls.AlertError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		file     *os.PathError
	)
	text := strings.ToLower(err.Error())
	switch {
	case errors.As(err, &record), errors.As(err, &verify), errors.As(err, &alert), errors.As(err, &unknown), errors.As(err, &hostname),
		errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted), strings.Contains(text, "tls: "):
		return StageTLS
	case errors.As(err, &file), errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), strings.Contains(text, "authoriz"), strings.Contains(text, "authentic"), strings.Contains(text, "nkeys:"),
		strings.Contains(text, "no such file"), strings.Contains(text, "permission denied"):
		return StageCredentials
	}
	return StageProtocol
}

// Inspector looks at one region. Close ends it. Its methods may be called
// concurrently, but for Rights, beside which nothing else may be asked.
type Inspector struct {
	cfg    Config // with its defaults
	nc     *nats.Conn
	rights *rights // of nc
}

// Inspect connects to any of the servers of cfg, until ctx ends.
func Inspect(ctx context.Context, cfg Config) (*Inspector, error) {
	cfg = cfg.withDefaults()
	if cfg.Server == nil && len(cfg.URLs) == 0 {
		return nil, errors.New("there is no address of a NATS server")
	}
	i := &Inspector{cfg: cfg, rights: new(rights)}
	var err error
	if i.nc, err = cfg.visit(ctx, i.rights); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return i, nil
}

// Close ends the connection.
func (i *Inspector) Close() { i.nc.Close() }
