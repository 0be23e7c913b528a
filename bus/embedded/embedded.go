// Package embedded runs a NATS server with JetStream in this process: the
// single-binary default, and what tests use.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config tunes a Server.
type Config struct {
	// Dir is where JetStream keeps its files; it is created. One process at a
	// time may use it.
	Dir string

	// Listen is HOST:PORT for NATS clients of other processes; port 0 chooses
	// one. "" means no listener at all: only this process gets in.
	Listen string

	// Store is how many bytes of disk JetStream may use. 0 means 70 % of what
	// is free on the disk of Dir or used by Dir already: above that JetStream
	// would hang on a full disk instead of refusing.
	Store int64

	// Memory is how many bytes JetStream may use for streams in memory. 0
	// means 256 MiB.
	Memory int64

	// Unsynced leaves it to the operating system when writes reach the disk.
	// What was acknowledged can then be lost with the machine. For tests only.
	Unsynced bool

	// Logger gets what the server warns of. nil discards it.
	Logger *slog.Logger
}

// startTimeout bounds the wait for a server that has started.
const startTimeout = 10 * time.Second

// Server is a NATS server with JetStream. Close ends it. Its methods may be
// called concurrently.
type Server struct {
	cfg   Config
	log   *slog.Logger
	lock  *os.File
	store int64

	stop chan struct{} // closed when Close begins
	done sync.WaitGroup
	once sync.Once // runs Close

	broken atomic.Bool // JetStream stores nothing until it is started again

	mu     sync.Mutex     // protects the rest; not held while a server starts or ends
	server *server.Server // nil while another one starts
	listen string         // of the first one, so that the next has the same port
}

// Start starts a server and returns when it is ready. Every write is on disk
// before it is acknowledged, unless Config says otherwise.
func Start(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded NATS needs a data directory")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:    cfg,
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		lock:   lock,
		store:  cfg.Store,
		listen: cfg.Listen,
		stop:   make(chan struct{}),
	}
	if err := s.begin(); err != nil {
		s.Close()
		return nil, err
	}
	s.done.Go(s.watch)
	return s, nil
}

// begin starts the first server.
func (s *Server) begin() (err error) {
	if s.store == 0 {
		if s.store, err = budget(s.cfg.Dir); err != nil {
			return err
		}
	}
	if err := s.start(); err != nil {
		return err
	}
	if a, ok := s.current().Addr().(*net.TCPAddr); ok && a != nil {
		s.mu.Lock()
		s.listen = a.String()
		s.mu.Unlock()
	}
	return nil
}

// start starts a server on the files.
func (s *Server) start() error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	started, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure embedded NATS: %w", err)
	}
	log := &logger{log: s.log}
	started.SetLoggerV2(log, false, false, false)
	started.Start() // returns when the store is recovered and the listener open, or one of them is not to be
	reason := log.fatal()
	if reason == "" && (!started.ReadyForConnections(startTimeout) || !started.JetStreamEnabled()) {
		reason = "not ready"
	}
	if reason != "" {
		end(started)
		return fmt.Errorf("start embedded NATS: %s", reason)
	}
	s.mu.Lock()
	s.server = started
	s.mu.Unlock()
	return nil
}

func (s *Server) options() (*server.Options, error) {
	s.mu.Lock()
	listen := s.listen
	s.mu.Unlock()
	opts := &server.Options{
		ServerName:         "peal",
		DontListen:         listen == "",
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           filepath.Join(s.cfg.Dir, "jetstream"),
		SyncAlways:         !s.cfg.Unsynced,
		JetStreamMaxStore:  s.store,
		JetStreamMaxMemory: cmp.Or(s.cfg.Memory, 256<<20),
		MaxPayload:         1 << 20,
	}
	if listen == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("NATS listen address: %w", err)
	}
	if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("NATS listen address %s: the port must be a number up to 65535", listen)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.Host = host
	return opts, nil
}

// current returns the server that runs; nil while another one starts.
func (s *Server) current() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// end ends a server and waits until its files are closed.
func end(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

var errStarting = errors.New("the embedded NATS is being started again")

// InProcessConn returns a connection for a client in this process.
func (s *Server) InProcessConn() (net.Conn, error) {
	current := s.current()
	if current == nil {
		return nil, errStarting
	}
	return current.InProcessConn()
}

// URL returns the address for NATS clients of other processes; "" without a
// listener.
func (s *Server) URL() string {
	current := s.current()
	if current == nil {
		return ""
	}
	if a, ok := current.Addr().(*net.TCPAddr); ok && a != nil {
		return current.ClientURL()
	}
	return ""
}

// Store returns how many bytes of disk JetStream may use.
func (s *Server) Store() int64 { return s.store }

// Close ends the server and waits until its files are closed.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.stop)
		s.done.Wait()
		if current := s.current(); current != nil {
			end(current)
		}
		s.lock.Close() // lets go of the lock
	})
}

// logger gives what the server says to slog. It keeps why the server did not
// start, which it reports in no other way.
type logger struct {
	log *slog.Logger

	mu     sync.Mutex // protects reason
	reason string
}

func (l *logger) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

func (l *logger) Fatalf(format string, args ...any) {
	l.mu.Lock()
	l.reason = fmt.Sprintf(format, args...)
	l.mu.Unlock()
	l.Errorf(format, args...)
}

func (l *logger) Noticef(format string, args ...any) {
	l.log.Debug("nats server", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Warnf(format string, args ...any) {
	l.log.Warn("nats server", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Error("nats server", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Debugf(string, ...any) {}
func (l *logger) Tracef(string, ...any) {}
