package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// ensure creates the streams and buckets of the region that do not exist yet,
// and returns the number of partitions, which is the bus's own where there are
// streams already. What exists stays as it is, but for a stream of a form that an
// older version has made, which is brought to this one's; where it can't serve us,
// ensure says why. Several processes may call it at once: one creates, the others
// find.
func ensure(ctx context.Context, js jetstream.JetStream, l layout, log *slog.Logger) (partitions int, err error) {
	if l.partitions, err = storedPartitions(ctx, js, l); err != nil {
		return 0, err
	}
	for _, cfg := range l.streams() {
		if err := l.ensureStream(ctx, js, cfg, log); err != nil {
			return 0, fmt.Errorf("ensure stream %s: %w", cfg.Name, err)
		}
	}
	for _, cfg := range l.buckets() {
		if err := ensureBucket(ctx, js, cfg); err != nil {
			return 0, fmt.Errorf("ensure bucket %s: %w", cfg.Bucket, err)
		}
	}
	return l.partitions, nil
}

// restore creates what is missing of the streams of a running bus.
func (b *Bus) restore(ctx context.Context) error {
	_, err := ensure(ctx, b.reads, b.layout(), b.log) // another number of partitions shows when they are read
	return err
}

// streamsBeside looks whether the streams are there that no feed reads, and so nobody
// would miss. The error is a jetstream.ErrStreamNotFound if one is not.
func (b *Bus) streamsBeside(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	r := b.cfg.Region
	for _, name := range []string{eventStream(r), deadStream(r), erasedStream(r)} {
		if _, err := b.reads.Stream(ctx, name); err != nil {
			return fmt.Errorf("ask for stream %s: %w", name, err)
		}
	}
	return nil
}

// layout is that of the region as this bus has found it.
func (b *Bus) layout() layout {
	l := b.cfg.layout()
	l.partitions = len(b.partitions)
	return l
}

// storedPartitions reads the number of partitions that the region was created
// with; for a region without streams it is the layout's.
func storedPartitions(ctx context.Context, js jetstream.JetStream, l layout) (int, error) {
	first := inboxStream(l.region, 0)
	s, err := js.Stream(ctx, first)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return l.partitions, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", first, err)
	}
	n, err := strconv.Atoi(s.CachedInfo().Config.Metadata[metaPartitions])
	if err != nil || n < 1 {
		return 0, fmt.Errorf("stream %s has no %s in its metadata: it was not created by peal", first, metaPartitions)
	}
	return n, nil
}

// ensureStream looks first: for a stream that exists the server refuses to
// create it, by its name or because its bytes could not be reserved twice.
func (l layout) ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, log *slog.Logger) error {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		var refused error
		if _, refused = js.CreateStream(ctx, withEpoch(want, newEpoch())); refused == nil {
			return nil
		}
		if s, err = js.Stream(ctx, want.Name); err != nil { // else another process was faster
			return refused
		}
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	if next, what := l.upgrade(want, have); what != "" {
		if s, err = js.UpdateStream(ctx, next); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		log.Info("stream of an older version is brought up to date", "stream", want.Name, "what", what)
		have = s.CachedInfo().Config
	}
	return compatible(want, have)
}

// upgrade returns what a stream that an older version has made is to become, and
// what that changes; "" if nothing. Nothing is removed or bounded by it that was not
// before.
func (l layout) upgrade(want, have jetstream.StreamConfig) (next jetstream.StreamConfig, what string) {
	switch next = have; have.Name {
	case eventStream(l.region):
		if !have.AllowAtomicPublish && slices.Equal(have.Subjects, want.Subjects) {
			next.AllowAtomicPublish = true
			return next, "events can be stored in batches"
		}
	case ticketStream(l.region):
		// Updates had a subject for each ticket. None was ever stored: nothing is lost
		// that is not found under its new subject.
		if len(have.Metadata[metaEpoch]) == epochLen && slices.Equal(have.Subjects, []string{wildcards(subject("ticket", string(l.region)), 2)}) {
			want = withEpoch(want, newEpoch())
			next.Subjects, next.RePublish, next.Metadata = want.Subjects, want.RePublish, maps.Clone(have.Metadata)
			next.Metadata[metaEpoch] = want.Metadata[metaEpoch]
			if have.MaxMsgsPerSubject > 0 {
				next.MaxMsgsPerSubject = max(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
			}
			next.Duplicates = max(have.Duplicates, want.Duplicates)
			next.AllowAtomicPublish = true
			return next, "ticket updates have a subject for each tenant"
		}
	}
	return next, ""
}

// compatible reports what about an existing stream would break the feed or
// lose messages. Bounds and replicas are the operator's to change.
func compatible(want, have jetstream.StreamConfig) error {
	want = withEpoch(want, Epoch(have.Metadata[metaEpoch]))
	switch {
	case !slices.Equal(want.Subjects, have.Subjects):
		return fmt.Errorf("exists with subjects %v instead of %v", have.Subjects, want.Subjects)
	case want.Retention != have.Retention:
		return fmt.Errorf("exists with retention %v instead of %v", have.Retention, want.Retention)
	case want.Discard != have.Discard:
		return fmt.Errorf("exists with %v instead of %v", have.Discard, want.Discard)
	case want.Storage != have.Storage:
		return fmt.Errorf("exists in %v storage instead of %v", have.Storage, want.Storage)
	case want.SubjectTransform != nil && (have.SubjectTransform == nil || *have.SubjectTransform != *want.SubjectTransform):
		return errors.New("exists without the partitions of its subjects")
	case len(have.Metadata[metaEpoch]) != epochLen:
		return fmt.Errorf("exists without %s in its metadata: it was not created by peal", metaEpoch)
	case want.RePublish != nil && (have.RePublish == nil || *have.RePublish != *want.RePublish):
		return errors.New("exists without the republish of live messages")
	case want.AllowDirect && !have.AllowDirect:
		return errors.New("exists without direct get")
	case want.AllowAtomicPublish && !have.AllowAtomicPublish:
		return errors.New("exists without atomic batches")
	case want.Metadata[metaPartitions] != have.Metadata[metaPartitions]: // another process was faster, with another number
		return fmt.Errorf("exists as one of %s partitions instead of %s", have.Metadata[metaPartitions], want.Metadata[metaPartitions])
	}
	return nil
}

func ensureBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) error {
	_, err := js.KeyValue(ctx, want.Bucket)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return err
	}
	_, refused := js.CreateKeyValue(ctx, want)
	if refused == nil {
		return nil
	}
	if _, err := js.KeyValue(ctx, want.Bucket); err != nil { // else another process was faster
		return refused
	}
	return nil
}
