package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// This file is how keys of buckets are read and written that may be created again:
// those of which the last value counts, and none is as good as a default.

// getKey reads what the leader has for a key of a bucket, also if it only says that
// the key is gone; nil if it has nothing.
func (b *Bus) getKey(ctx context.Context, bucket jetstream.KeyValueConfig, key string) (*stored, error) {
	get := func() (*stored, error) {
		return b.getFromLeader(ctx, bucketStream(bucket.Bucket), leaderGet{LastFor: key})
	}
	m, err := get()
	if err != nil && b.remake(ctx, bucket) {
		return get()
	}
	return m, err
}

// putKey stores a value for a key of a bucket.
func (b *Bus) putKey(ctx context.Context, bucket jetstream.KeyValueConfig, key string, value []byte, opts ...jetstream.PublishOpt) error {
	if err := b.writable(); err != nil {
		return err
	}
	put := func() error {
		_, err := b.writes.PublishMsg(ctx, &nats.Msg{Subject: key, Data: value}, opts...)
		return full(bucketStream(bucket.Bucket), err)
	}
	err := put()
	if err != nil && !isConflict(err) && b.remake(ctx, bucket) {
		return put()
	}
	return err
}

// remake creates a bucket again if it is gone: NATS came back empty, or somebody
// has deleted it. It reports whether it has, or another did meanwhile. What had a
// value has none then.
func (b *Bus) remake(ctx context.Context, bucket jetstream.KeyValueConfig) bool {
	if _, err := b.writes.KeyValue(ctx, bucket.Bucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
		return false
	}
	if err := b.streams(b.writes).ensureBucket(ctx, bucket); err != nil {
		return false
	}
	b.log.Warn("bucket is gone and created again", "bucket", bucket.Bucket)
	return true
}
