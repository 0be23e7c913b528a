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

// Server is a NATS server with JetStream. Close ends it.
type Server struct {
	server *server.Server
	lock   *os.File
	store  int64
	once   sync.Once
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
	s := &Server{lock: lock}
	if err := s.start(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(cfg Config) error {
	store := filepath.Join(cfg.Dir, "jetstream")
	s.store = cfg.Store
	if s.store == 0 {
		var err error
		if s.store, err = budget(cfg.Dir); err != nil {
			return err
		}
	}
	opts := &server.Options{
		ServerName:         "peal",
		DontListen:         cfg.Listen == "",
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           store,
		SyncAlways:         !cfg.Unsynced,
		JetStreamMaxStore:  s.store,
		JetStreamMaxMemory: cmp.Or(cfg.Memory, 256<<20),
		MaxPayload:         1 << 20,
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return fmt.Errorf("NATS listen address: %w", err)
		}
		if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > 65535 {
			return fmt.Errorf("NATS listen address %s: the port must be a number up to 65535", cfg.Listen)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
		opts.Host = host
	}
	var err error
	if s.server, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("configure embedded NATS: %w", err)
	}
	log := &logger{log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))}
	s.server.SetLoggerV2(log, false, false, false)
	s.server.Start() // returns when the store is recovered and the listener open, or one of them is not to be
	if reason := log.fatal(); reason != "" {
		return fmt.Errorf("start embedded NATS: %s", reason)
	}
	if !s.server.ReadyForConnections(startTimeout) || !s.server.JetStreamEnabled() {
		return errors.New("start embedded NATS: not ready")
	}
	return nil
}

// InProcessConn returns a connection for a client in this process.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.InProcessConn() }

// URL returns the address for NATS clients of other processes; "" without a
// listener.
func (s *Server) URL() string {
	if a, ok := s.server.Addr().(*net.TCPAddr); ok && a != nil {
		return s.server.ClientURL()
	}
	return ""
}

// Store returns how many bytes of disk JetStream may use.
func (s *Server) Store() int64 { return s.store }

// Close ends the server and waits until its files are closed.
func (s *Server) Close() {
	s.once.Do(func() {
		if s.server != nil {
			s.server.Shutdown()
			s.server.WaitForShutdown()
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
