package embedded

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// JetStream does not come back from a write that failed, as on a full disk: the
// stream answers no publish any more, also when there is room again, but it can
// be read. So peal stops storing shortly before the disk is full, and where
// that was too late, starts the server again as soon as there is room.

const (
	// watchEvery is how often the server is asked whether it still stores.
	watchEvery = 500 * time.Millisecond

	// mostPatience bounds the pause before another start, when one has not
	// helped.
	mostPatience = time.Minute
)

// reserve is how many bytes of a disk are left free: 2 %, but no more than 64
// MiB.
func reserve(total int64) int64 { return min(total/50, 64<<20) }

var errBroken = errors.New("JetStream has failed to write, and is started again once there is room")

// Writable returns why nothing can be stored at this moment, or nil. What is
// stored can be read all the same.
func (s *Server) Writable() error {
	if err := s.room(); err != nil {
		return err
	}
	if s.broken.Load() {
		return errBroken
	}
	return nil
}

// room returns an error if the disk is full.
func (s *Server) room() error {
	free, total, err := space(s.cfg.Dir)
	if err != nil {
		return err
	}
	if free < reserve(total) {
		return fmt.Errorf("the disk of %s is full: %d bytes are free, %d are needed", s.cfg.Dir, free, reserve(total))
	}
	return nil
}

// watch has the server started again when it does not store any more and there
// is room, and tells of a full disk.
func (s *Server) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var (
		full     bool
		next     time.Time
		patience = watchEvery
	)
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		full = s.tellRoom(full)
		reason := s.trouble()
		if reason == "" {
			s.broken.Store(false)
			if time.Now().After(next.Add(mostPatience)) {
				patience = watchEvery
			}
			continue
		}
		if !s.broken.Swap(true) {
			s.log.Error("embedded NATS stores nothing any more", "err", reason)
		}
		if full || time.Now().Before(next) {
			continue
		}
		s.restart()
		patience = min(2*patience, mostPatience)
		next = time.Now().Add(patience)
	}
}

// tellRoom logs when the disk becomes full and when there is room again, and
// returns what it is now.
func (s *Server) tellRoom(before bool) (full bool) {
	err := s.room()
	switch full = err != nil; {
	case full && !before:
		s.log.Error("nothing is stored until there is room", "err", err)
	case before && !full:
		s.log.Info("there is room on the disk again", "dir", s.cfg.Dir)
	}
	return full
}

// trouble says what another start may cure; "" if nothing is. What else the
// server may find, such as a stream that it could not load, it said when it
// started, and would say again.
func (s *Server) trouble() string {
	current := s.current()
	switch {
	case current == nil:
		return "it is not running"
	case !current.JetStreamEnabled():
		return "JetStream has turned itself off"
	}
	for _, e := range current.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(e.Error, "write error") { // of a stream or a consumer
			return e.Error
		}
	}
	return ""
}

// restart ends the server and starts another on the same files. Clients come
// back by themselves.
func (s *Server) restart() {
	s.mu.Lock()
	old := s.server
	s.server = nil
	s.mu.Unlock()
	if old != nil {
		end(old)
	}
	if err := s.start(); err != nil {
		s.log.Error("embedded NATS does not start", "err", err)
		return
	}
	s.broken.Store(false)
	s.log.Info("embedded NATS was started again")
}
