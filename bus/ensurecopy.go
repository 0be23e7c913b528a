package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// This file is how copies of what is stored in other regions are made.

// placement has a stream made on the servers of the region where there are others: those
// that this process is connected to.
func (s streams) placement() *jetstream.Placement {
	if cluster := s.nc.ConnectedClusterName(); s.several && cluster != "" {
		return &jetstream.Placement{Cluster: cluster}
	}
	return nil
}

// createHere creates a stream of the region, or, where one of another region has taken its
// place, a copy of that.
func (s streams) createHere(ctx context.Context, want jetstream.StreamConfig) error {
	if moved, err := s.ensureMoved(ctx, want.Name, strings.Join(want.Subjects, " "), want.Replicas); moved || err != nil {
		return err
	}
	return s.create(ctx, want)
}

// ensureMoved creates a copy in the place of a stream that is missing, if another stream
// takes what is published for it. It reports whether one does.
func (s streams) ensureMoved(ctx context.Context, name, subjects string, replicas int) (moved bool, err error) {
	if !s.several {
		return false, nil
	}
	origin, err := s.originBy(ctx, subjects)
	if err != nil || origin == "" || origin == name {
		return false, err
	}
	return true, s.createCopy(ctx, name, origin, replicas)
}

func (s streams) originBy(ctx context.Context, subjects string) (origin string, err error) {
	err = s.look(ctx, "$JS.API.STREAM.NAMES", func(ctx context.Context) error {
		origin, err = originBy(ctx, s.nc, subjects)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("find the stream of %s: %w", subjects, err)
	}
	return origin, nil
}

// ensureCopies creates what is missing of the copies of another home, and returns over how
// many streams its inboxes are spread.
func (s streams) ensureCopies(ctx context.Context, cfg Config, home Region) (partitions int, err error) {
	l := cfg.layoutOf(home)
	if l.partitions, err = s.copiedPartitions(ctx, l, cfg.Region); err != nil {
		return 0, err
	}
	for _, k := range l.stored() {
		if err := s.ensureCopy(ctx, k, nameIn(k.stream, home, cfg.Region), l.replicas); err != nil {
			return 0, err
		}
	}
	return l.partitions, nil
}

// copiedPartitions reads the number of partitions of another home: from the copy, so that
// the home need not be there.
func (s streams) copiedPartitions(ctx context.Context, l layout, here Region) (int, error) {
	first := l
	first.partitions = 1
	k := first.stored()[0]
	found, err := s.find(ctx, nameIn(k.stream, l.region, here))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		found, err = s.findOrigin(ctx, k)
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(found.CachedInfo().Config.Metadata[metaPartitions])
	if err != nil || n < 1 {
		return 0, fmt.Errorf("stream %s has no %s in its metadata: it was not created by peal", found.CachedInfo().Config.Name, metaPartitions)
	}
	return n, nil
}

// errNoOrigin: another region has not come so far yet.
var errNoOrigin = errors.New("not there yet")

// findOrigin looks up the stream that takes what is published for another region.
func (s streams) findOrigin(ctx context.Context, k keptThere) (jetstream.Stream, error) {
	origin, err := s.originBy(ctx, k.subjects)
	if err != nil {
		return nil, err
	}
	if origin == "" {
		return nil, fmt.Errorf("%w: stream %s, of which a copy is to be kept here: begin with the region that is the home of tenants", errNoOrigin, k.stream)
	}
	found, err := s.find(ctx, origin)
	if err != nil {
		return nil, fmt.Errorf("stream %s, of which a copy is to be kept here, can't be asked: %w", origin, err)
	}
	return found, nil
}

// ensureCopy creates a copy that is missing. One that has taken the place of its origin is
// none any more, and as good.
func (s streams) ensureCopy(ctx context.Context, k keptThere, name string, replicas int) error {
	_, err := s.find(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	found, err := s.findOrigin(ctx, k)
	if err != nil {
		return err
	}
	return s.createCopy(ctx, name, found.CachedInfo().Config.Name, replicas)
}

// ensureRevocations creates the copy of another region's revocations. That may not have
// come so far yet: who follows them waits for it.
func (s streams) ensureRevocations(ctx context.Context, cfg Config, of Region) error {
	k := cfg.revocationsOf(of)
	name := nameIn(k.stream, of, cfg.Region)
	_, err := s.find(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	origin, err := s.originBy(ctx, k.subjects)
	if err != nil || origin == "" {
		return err
	}
	return s.createCopy(ctx, name, origin, cfg.Replicas)
}

// createCopy creates a copy of a stream.
func (s streams) createCopy(ctx context.Context, name, origin string, replicas int) error {
	found, err := s.find(ctx, origin)
	if err != nil {
		return fmt.Errorf("stream %s, of which a copy is to be kept here, can't be asked: %w", origin, err)
	}
	refused := s.createAs(ctx, copyConfig(name, found.CachedInfo().Config, replicas))
	if refused == nil {
		return nil
	}
	if _, err := s.find(ctx, name); err == nil {
		return nil // another process was faster
	}
	return refused
}

// copyConfig is that of a copy: it keeps what its origin keeps.
func copyConfig(name string, origin jetstream.StreamConfig, replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              name,
		Mirror:            &jetstream.StreamSource{Name: origin.Name},
		Retention:         jetstream.LimitsPolicy,
		Storage:           origin.Storage,
		Replicas:          replicas,
		Discard:           origin.Discard,
		MaxAge:            origin.MaxAge,
		MaxMsgsPerSubject: origin.MaxMsgsPerSubject,
		MaxMsgSize:        origin.MaxMsgSize,
		MaxBytes:          origin.MaxBytes,
		AllowMsgTTL:       origin.AllowMsgTTL,
		AllowDirect:       true,
		MirrorDirect:      true,
	}
	for key, value := range origin.Metadata {
		if !strings.HasPrefix(key, "peal.") {
			continue
		}
		if c.Metadata == nil { // a bucket has none of ours
			c.Metadata = make(map[string]string)
		}
		c.Metadata[key] = value
	}
	return c
}

// ensureAllCopies does the copies of all other regions.
func (s *Streams) ensureAllCopies(ctx context.Context, e *Ensured, dry bool) error {
	var failed []error
	for _, r := range s.cfg.forwards(s.cfg.Region) {
		l := s.cfg.layoutOf(r)
		var err error
		if l.partitions, err = s.copiedPartitions(ctx, l, s.cfg.Region); errors.Is(err, errNoOrigin) {
			s.log.Warn("there is nothing to be copied yet: do this again when the region is there", "region", r, "err", err)
			continue
		} else if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, k := range l.stored() {
			failed = append(failed, s.ensureOneCopy(ctx, e, k, nameIn(k.stream, r, s.cfg.Region), dry))
		}
	}
	for _, r := range s.cfg.others() {
		k := s.cfg.revocationsOf(r)
		origin, err := s.originBy(ctx, k.subjects)
		if err == nil && origin == "" {
			s.log.Warn("there are no revocations to be copied yet: do this again when the region is there", "region", r, "stream", k.stream)
			continue
		}
		failed = append(failed, err)
		if err == nil {
			failed = append(failed, s.ensureOneCopy(ctx, e, k, nameIn(k.stream, r, s.cfg.Region), dry))
		}
	}
	return errors.Join(failed...)
}

// revocationsOf is the stream of a region's revocations.
func (c Config) revocationsOf(r Region) keptThere {
	bucket := c.revokedBucket(r)
	return keptThere{bucketStream(bucket), below("$KV." + bucket)}
}

// ensureOneCopy does one copy. Of an origin that is away nothing is asked but that there is
// a copy.
func (s *Streams) ensureOneCopy(ctx context.Context, e *Ensured, k keptThere, name string, dry bool) error {
	origin, err := s.originBy(ctx, k.subjects)
	if err != nil {
		return err
	}
	if origin == name {
		e.Streams++
		return nil // it has taken the place of its origin
	}
	found, err := s.find(ctx, name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if origin == "" {
		return fmt.Errorf("there is no stream %s, of which %s is to be a copy", k.stream, name)
	}
	of, away := s.find(ctx, origin)
	switch {
	case away != nil && err == nil:
		e.Streams++
		return nil
	case away != nil:
		return fmt.Errorf("stream %s, of which %s is to be a copy, can't be asked: %w", origin, name, away)
	}
	want := copyConfig(name, of.CachedInfo().Config, s.cfg.Replicas)
	if err == nil && !(isCopyOf(found.CachedInfo(), origin) && sameEpoch(found.CachedInfo(), of.CachedInfo())) {
		e.Streams++
		e.Differences = append(e.Differences, Difference{
			Stream: name, Field: "mirror", Have: mirrored(found.CachedInfo().Config), Want: mirrored(want), Refused: becauseStale,
		})
		return fmt.Errorf("stream %s is a copy of what is not stored any more: delete it, and it is made anew", name)
	}
	return s.ensureOne(ctx, e, s.cfg.layout(), want, func() error { return s.createAs(ctx, want) }, dry)
}

// becauseStale is why a copy stays as it is.
const becauseStale = "nothing is deleted: nats stream rm it, and it is made anew"

// mirrored says of what a stream is a copy, and of which incarnation.
func mirrored(c jetstream.StreamConfig) string {
	of := "none"
	if c.Mirror != nil {
		of = c.Mirror.Name
	}
	if e := c.Metadata[metaEpoch]; e != "" {
		of += ", epoch " + e
	}
	return of
}
