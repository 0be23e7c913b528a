package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Streams is the streams and buckets of a region, for who sees to them: beside the
// nodes, which may be there or not. Its methods are called one after the other.
type Streams struct {
	streams
	cfg    Config
	spread int // the partitions that were asked for; 0: whatever there are
}

// OpenStreams connects to JetStream, as Open does, and creates nothing. Close ends it.
func OpenStreams(ctx context.Context, cfg Config) (*Streams, error) {
	s := &Streams{cfg: cfg.withDefaults(), spread: cfg.Partitions}
	s.streams = streams{several: s.cfg.several(), timeout: s.cfg.Timeout, rights: new(rights), log: s.cfg.Logger}
	if err := s.cfg.check(); err != nil {
		return nil, err
	}
	opts, err := s.cfg.options("streams")
	if err != nil {
		return nil, err
	}
	opts = append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if !s.rights.refused(err) {
			s.log.Warn("nats error", "err", err)
		}
	}))
	if err := s.cfg.patiently(ctx, func() (err error) { s.nc, err = s.cfg.dial(opts...); return err }); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(s.cfg.Timeout)); err != nil {
		s.nc.Close()
		return nil, err
	}
	return s, nil
}

// Close disconnects.
func (s *Streams) Close() { s.nc.Close() }

// Ensured is what Ensure has found and done.
type Ensured struct {
	Streams     int          // so many there are, or would be
	Differences []Difference // in the order of the streams
}

// Ensure creates what is missing of the region, copies of other regions among it, and changes what is there to what the
// configuration says, as far as that is safe: no bound becomes lower, no replicas
// fewer, nothing is deleted, and inboxes stay in their partitions. With dry nothing is
// done. The error says which streams can't serve peal, or could not be changed; all
// others are done.
func (s *Streams) Ensure(ctx context.Context, dry bool) (e Ensured, err error) {
	l := s.cfg.layout()
	partitions := 0
	err = s.cfg.patiently(ctx, func() (err error) { partitions, err = s.storedPartitions(ctx, l); return err })
	if err != nil {
		return e, err
	}
	l.partitions = partitions
	if s.spread != 0 && s.spread != l.partitions {
		e.Differences = append(e.Differences, Difference{
			Stream: inboxStream(l.region, 0), Field: metaPartitions,
			Have: decimal(int64(l.partitions)), Want: decimal(int64(s.spread)), Refused: becauseSpread,
		})
	}
	var failed []error
	for _, want := range l.streams() {
		create := func() error { return s.createHere(ctx, want) }
		failed = append(failed, s.ensureOne(ctx, &e, l, want, create, dry))
	}
	for _, want := range l.buckets() {
		create := func() error { return s.ensureBucket(ctx, want) }
		failed = append(failed, s.ensureOne(ctx, &e, l, bucketStreamConfig(want), create, dry))
	}
	failed = append(failed, s.ensureAllCopies(ctx, &e, dry))
	return e, errors.Join(failed...)
}

// ensureOne does one stream.
func (s *Streams) ensureOne(ctx context.Context, e *Ensured, l layout, want jetstream.StreamConfig, create func() error, dry bool) error {
	e.Streams++
	found, err := s.find(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = nil
		missing := Difference{Stream: want.Name}
		if !dry {
			if err = create(); err != nil {
				missing.Refused = err.Error()
			}
		}
		e.Differences = append(e.Differences, missing)
		return err
	}
	if err != nil {
		return err
	}
	have := found.CachedInfo().Config
	if have.Mirror != nil && s.several && want.Mirror == nil {
		return s.ensureOneCopy(ctx, e, keptThere{want.Name, strings.Join(want.Subjects, " ")}, want.Name, dry)
	}
	c := l.compare(want, have)
	defer func() { e.Differences = append(e.Differences, c.differences...) }()
	if c.unfit != "" {
		c.leave("it can't serve peal as it is")
		return fmt.Errorf("%s: it can't serve peal as it is", c.unfit)
	}
	if dry || !c.changes() {
		return nil
	}
	if _, err := s.update(ctx, c.next); err != nil {
		c.leave(err.Error())
		return fmt.Errorf("change stream %s: %w", want.Name, err)
	}
	return nil
}
