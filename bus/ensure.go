package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streams is a way to the streams and buckets of a region.
type streams struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	several bool          // there are other regions
	timeout time.Duration // of a look; a change may take changeTimes that
	rights  *rights       // of the connection
	log     *slog.Logger
}

// changeTimes is how much longer a change of a stream may take than a look at it: a
// majority of the servers has to agree first, twice.
const changeTimes = 3

// streams is by one of the connections.
func (b *Bus) streams(js jetstream.JetStream) streams {
	return streams{b.read, js, b.cfg.several(), b.cfg.Timeout, &b.rights, b.log}
}

// look asks JetStream about a stream, by a subject of its API.
func (s streams) look(ctx context.Context, subject string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.rights.ask(ctx, subject, ask)
}

// change has JetStream change something.
func (s streams) change(ctx context.Context, subject string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimes*s.timeout)
	defer cancel()
	return s.rights.ask(ctx, subject, ask)
}

// apiError is the error of an answer of JetStream's API; nil if it has none.
func apiError(data []byte) error {
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return errors.New("an answer that is none of JetStream's")
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// ensure creates the streams and buckets of the region that do not exist yet, and copies of
// what is in others, and returns over how many streams the inboxes of each home are
// spread, which is the bus's own number where there are no streams yet. What exists stays as it is, but for a stream of a form that an
// older version has made, which is brought to this one's; where it can't serve us,
// or may not be created by us, ensure says why. Several processes may call it at
// once: one creates, the others find.
func (s streams) ensure(ctx context.Context, cfg Config) (partitions map[Region]int, err error) {
	l := cfg.layout()
	if l.partitions, err = s.storedPartitions(ctx, l); err != nil {
		return nil, err
	}
	if err := s.ensureOwn(ctx, l); err != nil {
		return nil, err
	}
	partitions = map[Region]int{cfg.Region: l.partitions}
	for _, r := range cfg.forwards(cfg.Region) {
		if partitions[r], err = s.ensureCopies(ctx, cfg, r); err != nil {
			return nil, err
		}
	}
	for _, r := range cfg.others() {
		if err := s.ensureRevocations(ctx, cfg, r); err != nil {
			return nil, err
		}
	}
	return partitions, nil
}

// ensureOwn creates what is missing of the region's own.
func (s streams) ensureOwn(ctx context.Context, l layout) error {
	for _, cfg := range l.streams() {
		if err := s.ensureStream(ctx, l, cfg); err != nil {
			return err
		}
	}
	for _, cfg := range l.buckets() {
		if err := s.ensureBucket(ctx, cfg); err != nil {
			return err
		}
	}
	return nil
}

// restore creates what is missing of the streams of a running bus.
func (b *Bus) restore(ctx context.Context) error {
	return b.streams(b.reads).ensureOwn(ctx, b.layout()) // another number of partitions shows when they are read
}

// missing says of a stream that is not there, and may not be created by us, who can.
func missing(stream string) error {
	return fmt.Errorf("stream %s is missing, and %w to create it: peal admin ensure, as a user that may, makes what is missing", stream, ErrNotPermitted)
}

// find looks a stream up. The error is a jetstream.ErrStreamNotFound if it is not there.
func (s streams) find(ctx context.Context, name string) (found jetstream.Stream, err error) {
	err = s.look(ctx, apiSubject("STREAM.INFO", name), func(ctx context.Context) (err error) {
		found, err = s.js.Stream(ctx, name)
		return err
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return found, err
}

// apiSubject is where JetStream is asked to do something with a stream.
func apiSubject(do, stream string) string { return "$JS.API." + do + "." + stream }

// streamsBeside looks whether the streams are there that no feed reads, and so nobody
// would miss. The error is a jetstream.ErrStreamNotFound if one is not.
func (b *Bus) streamsBeside(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	r := b.cfg.Region
	for _, name := range []string{eventStream(queue(r)), deadStream(r), erasedStream(r)} {
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
func (s streams) storedPartitions(ctx context.Context, l layout) (int, error) {
	name := inboxStream(l.region, 0)
	first, err := s.find(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return l.partitions, nil
	}
	if err != nil {
		return 0, err
	}
	if first.CachedInfo().Config.Metadata[metaMigrating] != "" {
		return 0, fmt.Errorf("region %s is copied only in part: run peal admin migrate again, from the same data directory", l.region)
	}
	n, err := strconv.Atoi(first.CachedInfo().Config.Metadata[metaPartitions])
	if err != nil || n < 1 {
		return 0, fmt.Errorf("stream %s has no %s in its metadata: it was not created by peal", name, metaPartitions)
	}
	return n, nil
}

// ensureStream looks first: for a stream that exists the server refuses to
// create it, by its name or because its bytes could not be reserved twice.
func (s streams) ensureStream(ctx context.Context, l layout, want jetstream.StreamConfig) error {
	found, err := s.find(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		refused := s.createHere(ctx, want)
		if refused == nil {
			return nil
		}
		if found, err = s.find(ctx, want.Name); err != nil { // else another process was faster
			return refused
		}
	}
	if err != nil {
		return err
	}
	have := found.CachedInfo().Config
	if have.Mirror != nil && s.several {
		return nil // another region has taken its place, of which it is a copy
	}
	if next, what := l.upgrade(want, have); what != "" {
		if found, err = s.update(ctx, next); err != nil {
			return fmt.Errorf("stream %s is of an older version: %s: %w", want.Name, what, err)
		}
		s.log.Info("stream of an older version is brought up to date", "stream", want.Name, "what", what)
		have = found.CachedInfo().Config
	}
	if err := compatible(want, have); err != nil {
		return fmt.Errorf("stream %s %w", want.Name, err)
	}
	return nil
}

// create creates a stream, in an incarnation of its own.
func (s streams) create(ctx context.Context, cfg jetstream.StreamConfig) error {
	return s.createAs(ctx, withEpoch(cfg, newEpoch()))
}

func (s streams) createAs(ctx context.Context, cfg jetstream.StreamConfig) error {
	cfg.Placement = s.placement()
	err := s.change(ctx, apiSubject("STREAM.CREATE", cfg.Name), func(ctx context.Context) error {
		_, err := s.js.CreateStream(ctx, cfg)
		return err
	})
	if errors.Is(err, ErrNotPermitted) {
		return missing(cfg.Name)
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w", cfg.Name, err)
	}
	return nil
}

// update changes the configuration of a stream.
func (s streams) update(ctx context.Context, cfg jetstream.StreamConfig) (updated jetstream.Stream, err error) {
	err = s.change(ctx, apiSubject("STREAM.UPDATE", cfg.Name), func(ctx context.Context) (err error) {
		updated, err = s.js.UpdateStream(ctx, cfg)
		return err
	})
	if errors.Is(err, ErrNotPermitted) {
		return nil, fmt.Errorf("%w to change it: peal admin ensure does, as a user that may", ErrNotPermitted)
	}
	return updated, err
}

// upgrade returns what a stream that an older version has made is to become, and
// what that changes; "" if nothing. Nothing is removed or bounded by it that was not
// before.
func (l layout) upgrade(want, have jetstream.StreamConfig) (next jetstream.StreamConfig, what string) {
	switch next = have; have.Name {
	case eventStream(queue(l.region)):
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

func (s streams) ensureBucket(ctx context.Context, want jetstream.KeyValueConfig) error {
	name := bucketStream(want.Bucket)
	_, err := s.find(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if moved, err := s.ensureMoved(ctx, name, below("$KV."+want.Bucket), want.Replicas); moved || err != nil {
		return err
	}
	want.Placement = s.placement()
	refused := s.change(ctx, "$JS.API.INFO", func(ctx context.Context) error { // what the server can do
		return s.change(ctx, apiSubject("STREAM.CREATE", name), func(ctx context.Context) error {
			_, err := s.js.CreateKeyValue(ctx, want)
			return err
		})
	})
	if refused == nil {
		return nil
	}
	if _, err := s.find(ctx, name); err == nil {
		return nil // another process was faster
	}
	if errors.Is(refused, ErrNotPermitted) {
		return missing(name)
	}
	return fmt.Errorf("create bucket %s: %w", want.Bucket, refused)
}
