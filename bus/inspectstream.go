package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// AccountSeen is what JetStream grants to the account of the NATS user.
type AccountSeen struct {
	Store    int64 // bytes on disk
	Reserved int64 // bytes on disk that are set aside for streams
	MaxStore int64 // bytes on disk that there may be; at most 0 without a bound
	Streams  int
}

// ErrNoJetStream: the server, or the account of the NATS user, has no JetStream.
var ErrNoJetStream = errors.New("JetStream is not enabled")

// Account asks what there is. The error may be an ErrNoJetStream or an ErrNotPermitted.
func (i *Inspector) Account(ctx context.Context) (AccountSeen, error) {
	var info jetstream.AccountInfo
	err := i.api(ctx, "INFO", &info)
	var refused *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return AccountSeen{}, fmt.Errorf("%w on this server", ErrNoJetStream)
	case errors.As(err, &refused) && (refused.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabledForAccount || refused.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabled):
		return AccountSeen{}, fmt.Errorf("%w: %s", ErrNoJetStream, refused.Description)
	case err != nil:
		return AccountSeen{}, err
	}
	tier := info.Tier
	if len(info.Tiers) > 0 {
		tier = info.Tiers["R"+strconv.Itoa(i.cfg.Replicas)]
	}
	return AccountSeen{int64(tier.Store), int64(tier.ReservedStore), tier.Limits.MaxStore, tier.Streams}, nil
}

// StreamSeen is one stream that there has to be, that of a bucket too.
type StreamSeen struct {
	Name  string
	Err   error // why the rest is not known; an ErrMissing, an ErrNotPermitted, or another
	Unfit error // why peal can't use it as it is; nil if it can

	Copied bool // by a migration that has not ended

	Replicas, Wanted int // how many there are to be, and how many a new one would get
	Messages         uint64
	Bytes, MaxBytes  int64  // MaxBytes is at most 0 without a bound
	Refuses          bool   // when it is full, it refuses what is new; else it drops what is old
	Leader           string // "" where there is none; the server's name outside of a cluster, "" if it does not say
	Clustered        bool
	Followers        []Replica

	// Ahead is by how much the clock of the leader is ahead of this machine's, at
	// least: negative if it is behind.
	Ahead time.Duration
}

// Full is how full a stream is, 0 to 1; 0 without a bound.
func (s StreamSeen) Full() float64 {
	if s.MaxBytes <= 0 {
		return 0
	}
	return float64(s.Bytes) / float64(s.MaxBytes)
}

// wanted is a stream, and what is wrong with one that exists.
type wanted struct {
	name     string
	replicas int
	unfit    func(have jetstream.StreamConfig) error
}

// Streams asks for every stream of the region, in the order in which they are made.
func (i *Inspector) Streams(ctx context.Context) []StreamSeen {
	l := i.cfg.layout()
	l.partitions = i.partitions(ctx)
	var all []wanted
	for _, want := range l.streams() {
		all = append(all, wanted{want.Name, want.Replicas, func(have jetstream.StreamConfig) error {
			next, _ := l.upgrade(want, have) // an older form is brought to ours by whoever opens a Bus
			return compatible(want, next)
		}})
	}
	for _, want := range l.buckets() {
		all = append(all, wanted{bucketStream(want.Bucket), want.Replicas, func(have jetstream.StreamConfig) error { return fits(want, have) }})
	}
	seen := make([]StreamSeen, len(all))
	var asking sync.WaitGroup
	for n, w := range all {
		asking.Go(func() { seen[n] = i.stream(ctx, w) })
	}
	asking.Wait()
	return seen
}

// partitions is over how many streams the inboxes of the region are spread, or would
// be.
func (i *Inspector) partitions(ctx context.Context) int {
	var info jetstream.StreamInfo
	if i.api(ctx, "STREAM.INFO."+inboxStream(i.cfg.Region, 0), &info) == nil {
		if n, err := strconv.Atoi(info.Config.Metadata[metaPartitions]); err == nil && n >= 1 {
			return n
		}
	}
	return i.cfg.Partitions
}

func (i *Inspector) stream(ctx context.Context, want wanted) StreamSeen {
	s := StreamSeen{Name: want.name, Wanted: want.replicas}
	var info jetstream.StreamInfo
	asked := time.Now()
	if s.Err = i.api(ctx, "STREAM.INFO."+want.name, &info); s.Err != nil {
		return s
	}
	s.Ahead = ahead(info.TimeStamp, asked, time.Now())
	s.Unfit, s.Copied = want.unfit(info.Config), info.Config.Metadata[metaMigrating] != ""
	s.Replicas, s.Messages = info.Config.Replicas, info.State.Msgs
	s.Bytes, s.MaxBytes = int64(info.State.Bytes), info.Config.MaxBytes
	s.Refuses = info.Config.Discard == jetstream.DiscardNew
	if c := info.Cluster; c != nil {
		s.Leader, s.Clustered, s.Followers = c.Leader, c.Name != "", replicasOf(c)
	}
	return s
}

// ahead is by how much a clock is ahead that showed a time between two of ours, at
// least.
func ahead(shown, from, to time.Time) time.Duration {
	switch {
	case shown.IsZero():
		return 0
	case shown.After(to):
		return shown.Sub(to)
	case shown.Before(from):
		return shown.Sub(from)
	}
	return 0
}

// fits reports what about the stream of an existing bucket would lose keys or take
// none.
func fits(want jetstream.KeyValueConfig, have jetstream.StreamConfig) error {
	switch subjects := []string{"$KV." + want.Bucket + ".>"}; {
	case !slices.Equal(subjects, have.Subjects):
		return fmt.Errorf("exists with subjects %v instead of %v", have.Subjects, subjects)
	case want.Storage != have.Storage:
		return fmt.Errorf("exists in %v storage instead of %v", have.Storage, want.Storage)
	case have.MaxMsgsPerSubject < 1:
		return errors.New("exists without a bound of what is kept of a key: it is no bucket")
	case !have.AllowDirect:
		return errors.New("exists without direct get")
	case have.Discard != jetstream.DiscardNew:
		return fmt.Errorf("exists with %v: it would drop keys when it is full", have.Discard)
	case want.LimitMarkerTTL > 0 && !have.AllowMsgTTL:
		return errors.New("exists without a time to live of its keys")
	}
	return nil
}

// WorkSeen is one of the consumers by which ticket events are worked on.
type WorkSeen struct {
	Name    string
	Err     error  // as of a stream
	Unfit   string // what was changed so that events would be lost or lose their order; "" if nothing
	Pulling int    // requests of workers that wait for an event
	Waiting uint64 // events that no worker has
	InHand  int    // events that a worker has
	Leader  string // "" where there is none
}

// Work asks for the consumers of ticket events. They are made by the first process
// that works on events.
func (i *Inspector) Work(ctx context.Context) []WorkSeen {
	seen := make([]WorkSeen, workPartitions)
	var asking sync.WaitGroup
	for n := range seen {
		asking.Go(func() { seen[n] = i.work(ctx, n) })
	}
	asking.Wait()
	return seen
}

func (i *Inspector) work(ctx context.Context, partition int) WorkSeen {
	w := WorkSeen{Name: workConsumer(partition)}
	var info jetstream.ConsumerInfo
	if w.Err = i.api(ctx, "CONSUMER.INFO."+eventStream(queue(i.cfg.Region))+"."+w.Name, &info); w.Err != nil {
		return w
	}
	w.Pulling, w.Waiting, w.InHand = info.NumWaiting, info.NumPending, info.NumAckPending
	w.Leader = "itself"
	if info.Cluster != nil {
		w.Leader = info.Cluster.Leader
	}
	var changed []string
	for what, is := range map[string]bool{
		"max_ack_pending": info.Config.MaxAckPending != 1,
		"max_deliver":     info.Config.MaxDeliver != -1,
		"filter_subject":  info.Config.FilterSubject != workFilter(queue(i.cfg.Region), partition),
		"headers_only":    info.Config.HeadersOnly,
	} {
		if is {
			changed = append(changed, what)
		}
	}
	slices.Sort(changed)
	w.Unfit = strings.Join(changed, ", ")
	return w
}
