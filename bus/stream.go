package bus

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys of a stream's metadata.
const (
	metaEpoch      = "peal.epoch"      // the Epoch of this incarnation
	metaPartitions = "peal.partitions" // how many streams share the inboxes; fixed at creation
)

// maxMessage bounds a stored notification, of which the contract allows 16 KiB,
// with its headers.
const maxMessage = 64 << 10

// duplicateWindow is how long JetStream remembers message ids: the contract
// promises at least 10 minutes. It costs about 200 bytes an id and replica.
const duplicateWindow = 10 * time.Minute

// layout is what the streams and buckets of one region are made from.
type layout struct {
	region     Region
	home       bool     // it is the home of tenants
	revoked    string   // the bucket of revocations
	forwards   []Region // the other homes, for which events wait apart
	partitions int
	replicas   int
	retain     time.Duration // of a notification
	perInbox   int64         // the newest so many are shown
	perTenant  int64         // ticket updates, the newest so many
	slotTTL    time.Duration // of a slot that is not renewed
	store      int64         // bytes of disk for all together; 0: no more than the defaults add up to
}

// The default bounds, in bytes of disk. An inbox stream above about 1 GB makes
// reads that cross cold blocks slow.
const (
	eventBytes  = 1 << 30
	inboxBytes  = 1 << 30
	stateBytes  = 256 << 20
	ticketBytes = 512 << 20
	deadBytes   = 256 << 20
	prefBytes   = 128 << 20
	queueBytes  = 128 << 20
	revokeBytes = 64 << 20
	limitBytes  = 64 << 20 // of memory
)

// bytes scales a default bound so that all of them fit into the store.
func (l layout) bytes(n int64) int64 {
	total := int64(eventBytes+ticketBytes+deadBytes+prefBytes+queueBytes+revokeBytes) +
		int64(l.partitions)*(inboxBytes+stateBytes) + int64(len(l.forwards))*eventBytes
	if l.store <= 0 || l.store >= total {
		return n
	}
	return int64(float64(n) / float64(total) * float64(l.store))
}

func eventStream(q queue) string         { return "PEAL_EVENT_" + string(q) }
func inboxStream(r Region, p int) string { return fmt.Sprintf("PEAL_INBOX_%s_%d", r, p) }
func stateStream(r Region, p int) string { return fmt.Sprintf("PEAL_STATE_%s_%d", r, p) }
func ticketStream(r Region) string       { return "PEAL_TICKET_" + string(r) }
func deadStream(r Region) string         { return "PEAL_DEAD_" + string(r) }
func erasedStream(r Region) string       { return "PEAL_ERASED_" + string(r) }
func prefBucket(r Region) string         { return "PEAL_PREF_" + string(r) }
func queueBucket(r Region) string        { return "PEAL_QUEUE_" + string(r) }
func limitBucket(r Region) string        { return "PEAL_LIMIT_" + string(r) }
func bucketStream(b string) string       { return "KV_" + b }
func wildcardRef(prefix string) string   { return prefix + ".{{wildcard(1)}}" }
func wildcardRefs(prefix string) string  { return wildcardRef(prefix) + ".{{wildcard(2)}}" }
func wildcardRefs3(prefix string) string { return wildcardRefs(prefix) + ".{{wildcard(3)}}" }

// republish sends what is stored on to subjects that name the epoch: a follower
// of one incarnation of a stream never hears another. refs are the wildcards of
// src.
func republish(src, dst string, refs func(string) string) *jetstream.RePublish {
	return &jetstream.RePublish{Source: src, Destination: refs(dst + "." + epochPlace)}
}

// epochPlace stands for the epoch in the configuration of a stream that has none
// yet.
const epochPlace = "{epoch}"

// streams returns the configuration of every stream, without an epoch.
func (l layout) streams() []jetstream.StreamConfig {
	var all []jetstream.StreamConfig
	for _, q := range l.queues() {
		all = append(all, l.event(q))
	}
	if l.home {
		all = append(all, l.ticket())
	}
	all = append(all, l.dead(), l.erased())
	for p := range l.partitions {
		if l.home {
			all = append(all, l.inbox(p), l.state(p))
		}
	}
	for i := range all {
		all[i].Storage = jetstream.FileStorage
		all[i].Replicas = l.replicas
		if all[i].Metadata == nil {
			all[i].Metadata = map[string]string{}
		}
	}
	return all
}

// event holds what happened to tickets until a worker has dealt with it. It
// refuses new events when full: what was acknowledged is never dropped.
func (l layout) event(q queue) jetstream.StreamConfig {
	source := wildcards(subject("event", string(q)), 2)
	return jetstream.StreamConfig{
		Name:     eventStream(q),
		Subjects: []string{source},
		SubjectTransform: &jetstream.SubjectTransformConfig{
			Source:      source,
			Destination: wildcardRefs(subject("work", string(q)) + ".{{partition(32,1,2)}}"),
		},
		Retention:          jetstream.WorkQueuePolicy,
		Discard:            jetstream.DiscardNew,
		MaxBytes:           l.bytes(eventBytes),
		Duplicates:         duplicateWindow,
		AllowAtomicPublish: true,
	}
}

// inbox holds the notifications of a partition's inboxes.
func (l layout) inbox(p int) jetstream.StreamConfig {
	source := wildcards(subject("inbox", string(l.region), strconv.Itoa(p)), 3)
	return jetstream.StreamConfig{
		Name:               inboxStream(l.region, p),
		Subjects:           []string{source},
		RePublish:          republish(source, subject("live", string(l.region), strconv.Itoa(p)), wildcardRefs3),
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		MaxAge:             l.retain,
		MaxMsgsPerSubject:  l.perInbox + 1, // and a witness: see visible
		MaxMsgSize:         maxMessage,
		MaxBytes:           l.bytes(inboxBytes),
		Duplicates:         min(duplicateWindow, l.retain),
		AllowDirect:        true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{metaPartitions: strconv.Itoa(l.partitions)},
	}
}

// visible is how many notifications of an inbox are shown where its stream keeps
// perSubject of it; 0 if there is no bound. The one beyond is the last that dropped
// out: it tells whether unread ones have.
func visible(perSubject int64) int64 {
	if perSubject <= 0 {
		return 0
	}
	return max(perSubject-1, 1)
}

// stateMargin is how much longer a read state is kept than a notification: for
// the clocks of two leaders, which are not one.
const stateMargin = 24 * time.Hour

// state holds one message of read state for each inbox of a partition. When it
// is full it refuses what is new: to drop the oldest would make all of somebody's
// notifications unread again. A state that was not written for longer than a
// notification is kept says nothing any more: what it speaks of has expired, and
// what came later is unread. So it goes, or those of users who are gone would fill
// the stream.
func (l layout) state(p int) jetstream.StreamConfig {
	source := wildcards(subject("state", string(l.region), strconv.Itoa(p)), 3)
	return jetstream.StreamConfig{
		Name:              stateStream(l.region, p),
		Subjects:          []string{source},
		RePublish:         republish(source, subject("livestate", string(l.region), strconv.Itoa(p)), wildcardRefs3),
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxAge:            l.retain + stateMargin,
		MaxMsgsPerSubject: 1,
		MaxBytes:          l.bytes(stateBytes),
		AllowDirect:       true,
		Metadata:          map[string]string{metaPartitions: strconv.Itoa(l.partitions)},
	}
}

// ticket holds which tickets changed, for lists on a screen. All updates of a tenant
// are in one subject: see docs/decisions/list-updates-by-tenant.md.
func (l layout) ticket() jetstream.StreamConfig {
	source := wildcards(subject("ticket", string(l.region)), 1)
	return jetstream.StreamConfig{
		Name:               ticketStream(l.region),
		Subjects:           []string{source},
		RePublish:          republish(source, subject("liveticket", string(l.region)), wildcardRef),
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		MaxAge:             24 * time.Hour,
		MaxMsgsPerSubject:  l.perTenant,
		MaxMsgSize:         maxUpdate,
		MaxBytes:           l.bytes(ticketBytes),
		Duplicates:         duplicateWindow,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	}
}

// dead holds the events that could not be worked on, with the reason.
func (l layout) dead() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        deadStream(l.region),
		Subjects:    []string{wildcards(subject("dead", string(l.region)), 1)},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      30 * 24 * time.Hour,
		MaxBytes:    l.bytes(deadBytes),
		Duplicates:  duplicateWindow,
		AllowDirect: true,
	}
}

// erased holds which purges there were, for as long as what has dropped out of an
// inbox may be on a disk. They take 3 kB at most; no bytes are set aside for them,
// which a store that is given out already does not have.
func (l layout) erased() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        erasedStream(l.region),
		Subjects:    []string{subject("erased", string(l.region))},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      l.retain + stateMargin,
		MaxMsgs:     20_000,
		AllowDirect: true,
	}
}

// buckets returns the configuration of every key-value bucket.
func (l layout) buckets() []jetstream.KeyValueConfig {
	var all []jetstream.KeyValueConfig
	if l.home {
		all = append(all, l.pref(), l.queue())
	}
	return append(all, l.revocations(), l.limit())
}

// limit holds the slots of connections, and claims. What is in it is renewed all the
// time, so it is in memory, and may get lost.
func (l layout) limit() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:         limitBucket(l.region),
		History:        1,
		Storage:        jetstream.MemoryStorage,
		Replicas:       l.replicas,
		MaxBytes:       limitBytes,
		TTL:            l.slotTTL,
		LimitMarkerTTL: l.slotTTL,
	}
}

// pref holds the preferences of users and tenants.
func (l layout) pref() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: prefBucket(l.region), History: 1, Storage: jetstream.FileStorage, Replicas: l.replicas, MaxBytes: l.bytes(prefBytes)}
}

// queue holds the members of queues.
func (l layout) queue() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: queueBucket(l.region), History: 1, Storage: jetstream.FileStorage, Replicas: l.replicas, MaxBytes: l.bytes(queueBytes)}
}

// revoked holds whose tokens are not good any more, and which logout tokens were
// used. It refuses what is new when it is full, and each key has a TTL of its own.
func (l layout) revocations() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:         l.revoked,
		History:        1,
		Storage:        jetstream.FileStorage,
		Replicas:       l.replicas,
		MaxBytes:       l.bytes(revokeBytes),
		LimitMarkerTTL: time.Hour,
	}
}

// withEpoch returns cfg with an epoch.
func withEpoch(cfg jetstream.StreamConfig, e Epoch) jetstream.StreamConfig {
	cfg.Metadata = maps.Clone(cfg.Metadata)
	cfg.Metadata[metaEpoch] = string(e)
	if r := cfg.RePublish; r != nil {
		in := *r
		in.Destination = strings.Replace(r.Destination, epochPlace, string(e), 1)
		cfg.RePublish = &in
	}
	return cfg
}
