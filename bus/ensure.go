package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// ensure creates the streams and buckets of the region that do not exist yet,
// and returns the number of partitions, which is the bus's own where there are
// streams already. It never changes what exists; where that can't serve us, it
// says why. Several processes may call it at once: one creates, the others
// find.
func ensure(ctx context.Context, js jetstream.JetStream, l layout) (partitions int, err error) {
	if l.partitions, err = storedPartitions(ctx, js, l); err != nil {
		return 0, err
	}
	for _, cfg := range l.streams() {
		if err := ensureStream(ctx, js, cfg); err != nil {
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
	_, err := ensure(ctx, b.reads, b.layout()) // another number of partitions shows when they are read
	return err
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
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
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
	return compatible(want, s.CachedInfo().Config)
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
