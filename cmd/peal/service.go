package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/dispatch"
	"github.com/pealhq/peal/node"
)

// service is one node with all it stands on.
type service struct {
	settings *settings
	log      *slog.Logger

	listeners node.Listeners
	server    *embedded.Server // nil with a NATS cluster
	bus       *bus.Bus
	verifier  *auth.Verifier
	node      *node.Node
	work      *dispatch.Dispatcher // nil without that role
	tracer    trace.Tracer
	untrace   func(time.Duration) // nil before open
}

// ready is what --ready-json prints and dev.json holds.
type ready struct {
	URL     string `json:"url"`
	Admin   string `json:"admin"`
	NATS    string `json:"nats"`
	Data    string `json:"data"`
	Version string `json:"version"`
}

// open opens both ports, so that the addresses are known before anything else
// is, and the bus. What is traced is said by the environment.
func (s *service) open(ctx context.Context, getenv func(string) string) (err error) {
	if s.tracer, s.untrace, err = tracing(ctx, getenv, s.log); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	return s.connect(ctx)
}

func (s *service) listen() (err error) {
	if s.listeners.Public, err = openPort(s.settings.listen); err != nil {
		return fmt.Errorf("%w: choose another port with --listen", err)
	}
	if s.listeners.Admin, err = openPort(s.settings.admin); err != nil {
		return fmt.Errorf("%w: choose another port with --admin", err)
	}
	s.listeners.TLS, err = s.settings.certificate()
	return err
}

// openPort listens for TCP of one path. By several paths, which a client may ask for
// (MPTCP), Linux takes no TCP_USER_TIMEOUT, by which dead peers are noticed, and what it
// says of bytes that were acknowledged is of one of the paths alone.
func openPort(address string) (net.Listener, error) {
	var l net.ListenConfig
	l.SetMultipathTCP(false)
	return l.Listen(context.Background(), "tcp", address)
}

// connect starts the embedded JetStream, if there is no cluster, and opens the
// bus.
func (s *service) connect(ctx context.Context) (err error) {
	cfg := s.settings.busConfig(s.log)
	if s.settings.nats == "" {
		s.server, err = embedded.Start(embedded.Config{Dir: s.settings.data, Listen: s.settings.natsListen, Logger: s.log})
		if err != nil {
			return err
		}
		cfg.Server, cfg.Store = s.server, s.server.Store()
	}
	s.bus, err = bus.Open(ctx, cfg)
	if err != nil && ctx.Err() != nil {
		return errStopped
	}
	if err != nil && s.server == nil {
		return natsTrouble(s.settings.nats, err)
	}
	return err
}

// natsTrouble is the error of a NATS cluster that can't be used, with what to do.
func natsTrouble(urls string, err error) error {
	if !bus.Starting(err) {
		return fmt.Errorf("NATS at %s: %w", masked(urls), err) // which says so itself
	}
	return fmt.Errorf("NATS at %s: %w: is it running there, with JetStream, and is --nats right?", masked(urls), err)
}

// authorize makes the node, which answers for who cfg knows.
func (s *service) authorize(cfg auth.Config, mount map[string]http.Handler) error {
	var err error
	if s.verifier, err = auth.Open(cfg, auth.Options{Logger: s.log, Dir: s.settings.keysDir()}); err != nil {
		return err
	}
	nodeConfig := s.settings.nodeConfig(s.log)
	nodeConfig.Mount, nodeConfig.Tracer = mount, s.tracer
	nodeConfig.Roles = strings.Split(s.settings.roles, ",")
	nodeConfig.HealthOnly = !s.settings.has(roleEdge)
	s.node = node.New(nodeConfig, s.verifier, s.bus)
	if !s.settings.has(roleDispatch) {
		return nil
	}
	dispatchConfig := s.settings.dispatchConfig(s.log)
	dispatchConfig.Tracer = s.tracer
	dispatchConfig.Settled = func(what dispatch.Outcome, waited time.Duration) { s.node.Settled(string(what), waited) }
	s.work, err = dispatch.New(dispatchConfig, s.bus, s.verifier.Directory)
	return err
}

// dispatch works on ticket events until stop is called, which waits for what is
// under way. failed is called if it can't go on.
func (s *service) dispatch(failed func(error)) (stop func()) {
	if s.work == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.work.Run(ctx); err != nil {
			failed(fmt.Errorf("work on ticket events: %w", err))
		}
	}()
	return func() { cancel(); <-done }
}

// ready describes the running service.
func (s *service) ready() (ready, error) {
	r := ready{URL: s.url(), Admin: "http://" + dialable(s.listeners.Admin.Addr()), Version: version}
	if s.server != nil {
		r.NATS = s.server.URL()
	} else {
		r.NATS = masked(s.settings.nats)
	}
	if s.settings.data == "" {
		return r, nil
	}
	var err error
	r.Data, err = filepath.Abs(s.settings.data)
	return r, err
}

func (s *service) url() string {
	scheme := "http://"
	if s.listeners.TLS != nil {
		scheme = "https://"
	}
	return scheme + dialable(s.listeners.Public.Addr())
}

// dialable is the address by which this machine reaches a listener.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() || host == "127.0.0.1" {
		host = "localhost"
	}
	return net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}

// run serves until ctx ends and then drains; again cuts that short. onReady is
// called once the node answers.
func (s *service) run(ctx, again context.Context, onReady func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.dispatch(cancel)() // to the end, for those who are still connected
	served := make(chan error, 1)
	go func() { served <- s.node.Serve(ctx, again, s.listeners) }()
	report := &reporter{ready: s.node.Ready, leave: s.settings.leaving(), log: s.log}
	report.start(ctx)
	defer func() { cancel(nil); report.wait() }()

	if err := onReady(ctx); err != nil && ctx.Err() == nil {
		cancel(err)
	}
	select {
	case err := <-served:
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	case <-s.bus.Closed():
		cancel(s.bus.Err())
		<-served
		return fmt.Errorf("%w: start again when that is settled", s.bus.Err())
	}
}

// errStopped: a signal came before the service was ready. It is no failure.
var errStopped = errors.New("stopped")

// close ends what is left, from the outside in.
func (s *service) close() {
	for _, l := range []net.Listener{s.listeners.Public, s.listeners.Admin} {
		if l != nil {
			l.Close()
		}
	}
	if s.verifier != nil {
		s.verifier.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
	if s.server != nil {
		s.server.Close()
	}
	if s.untrace != nil {
		s.untrace(lastTraces)
	}
}

// keysPatience is how long the first ready line waits for the issuers, of which
// one may be so slow that the others are not to wait for it.
const keysPatience = 2 * time.Second

// awaitKeys waits until the realms' issuers have answered, and tells of those
// that have not: their realms are answered with 503, the others work.
func (s *service) awaitKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	s.verifier.WaitAnswers(ctx)
	for _, realm := range s.verifier.Status() {
		if !realm.Usable {
			s.log.Warn("realm has no keys yet", "realm", realm.Realm, "err", realm.Err)
		}
	}
}

func printJSON(w io.Writer, v any) error {
	return json.NewEncoder(w).Encode(v)
}
