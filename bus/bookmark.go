package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// This file is how durables are kept in JetStream: as consumers that give out
// nothing. durable.go is how they are used.

// Followed is what a durable follows, by the name of its route.
type Followed string

const (
	FollowedInbox   Followed = "notifications"
	FollowedTickets Followed = "list/updates"
)

// followed lists what there is to follow, in the order in which it is listed.
var followed = [...]Followed{FollowedInbox, FollowedTickets}

// MaxDurables is how many durables a user has at most, of both routes together.
const MaxDurables = 3

// Keys of a durable's metadata. Ids are escaped as in subjects.
const (
	metaTenant    = "peal.tenant"
	metaNamespace = "peal.namespace"
	metaUser      = "peal.user"
	metaFollowed  = "peal.route"
	metaName      = "peal.durable"
	metaBegin     = "peal.begin" // a Cursor: the place, until the consumer is further on
	metaGap       = "peal.gap"   // a Cursor: where it goes on, since the place means nothing any more
	metaCreated   = "peal.created"
	metaUsed      = "peal.used"    // to usedEvery
	metaOnce      = "peal.once"    // random: a consumer of the same configuration could be created twice
	metaSettled   = "peal.settled" // there once it is certain that nobody gives it back
)

const (
	durablePrefix = "durable_" // of the names of consumers
	foreignPrefix = "_nats."   // of metadata that is the server's own
)

// bookmark is a durable as it was found in JetStream.
type bookmark struct {
	source *source
	slot   int
	info   jetstream.ConsumerInfo
}

func (k *bookmark) meta(key string) string { return k.info.Config.Metadata[key] }
func (k *bookmark) named(name string) bool { return k != nil && k.meta(metaName) == name }
func (k *bookmark) consumer() string       { return k.info.Name }
func (k *bookmark) stream() string         { return k.source.stream }

// settled reports whether whoever has made it does not give it back any more.
func (k *bookmark) settled() bool { return k.meta(metaSettled) != "" }

// begin is the place that the durable has until its consumer is further on.
func (k *bookmark) begin() Cursor { return ParseCursor(k.meta(metaBegin)) }

// place is where the durable is. What its consumer has delivered is where it was
// reset to, for nobody pulls. Its floor is as good as long as the server leaves it
// alone: where a stream loses its oldest it moves floors on, and if that were told or
// stored, what has expired unseen would count as seen.
func (k *bookmark) place() Cursor {
	begin := k.begin()
	if seq := k.info.Delivered.Stream; seq > begin.Seq {
		return Cursor{Epoch: begin.Epoch, Seq: seq}
	}
	return begin
}

// moment reads a time of the metadata; zero if there is none.
func (k *bookmark) moment(key string) time.Time {
	t, _ := time.Parse(time.RFC3339, k.meta(key))
	return t
}

func stampMoment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// durableConsumer is the name of one of the consumers that a user's durables may be.
func durableConsumer(in peal.Inbox, slot int) string {
	return durablePrefix + hashed(string(in.Tenant), string(in.Namespace), string(in.User)) + "_" + strconv.Itoa(slot)
}

// sourceOf is what a durable of a user reads, and the subject that it follows there.
func (b *Bus) sourceOf(in peal.Inbox, of Followed) (*source, string) {
	if of == FollowedTickets {
		h := b.homeOf(in.Tenant)
		return h.tickets, ticketSubject(h.region, in.Tenant)
	}
	part, pl := b.partition(in)
	return part.source, pl.subject("inbox", part.home.region)
}

// rack is the durables of a user, by what they follow and their slot. Of a slot one
// at most is taken, of the routes together: so there are at most MaxDurables.
type rack [len(followed)][MaxDurables]*bookmark

// all lists them.
func (r *rack) all() (all []*bookmark) {
	for _, of := range r {
		for _, k := range of {
			if k != nil {
				all = append(all, k)
			}
		}
	}
	return all
}

// settled lists those that nobody gives back.
func (r *rack) settled() []*bookmark {
	return slices.DeleteFunc(r.all(), func(k *bookmark) bool { return !k.settled() })
}

// find returns the one of a name; nil if there is none.
func (r *rack) find(of Followed, name string) *bookmark {
	for i, kind := range followed {
		for _, k := range r[i] {
			if kind == of && k.named(name) {
				return k
			}
		}
	}
	return nil
}

// free is the first slot that is not taken; -1 if all are.
func (r *rack) free() int {
	for slot := range MaxDurables {
		if r.taken(slot) == 0 {
			return slot
		}
	}
	return -1
}

// taken is how often a slot is.
func (r *rack) taken(slot int) (n int) {
	for _, of := range r {
		if of[slot] != nil {
			n++
		}
	}
	return n
}

// count is how many there are of a name.
func (r *rack) count(of Followed, name string) (n int) {
	for i, kind := range followed {
		for _, k := range r[i] {
			if kind == of && k.named(name) {
				n++
			}
		}
	}
	return n
}

// rack looks which durables a user has. Who answers is the leader of each, and for
// one that is not there the leader of the cluster: so it is seen by everybody from
// when its creation was answered. With an error it has those that are known: one that
// has no leader answers nobody, and leaves half of the time for what is to be done.
func (b *Bus) rack(ctx context.Context, in peal.Inbox) (*rack, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout/2)
	defer cancel()
	var (
		r    rack
		errs [len(followed) * MaxDurables]error
		work sync.WaitGroup
	)
	for i, of := range followed {
		src, _ := b.sourceOf(in, of)
		for slot := range MaxDurables {
			work.Go(func() {
				r[i][slot], errs[i*MaxDurables+slot] = b.bookmarkOf(ctx, src, durableConsumer(in, slot))
			})
		}
	}
	work.Wait()
	return &r, errors.Join(errs[:]...)
}

// bookmarkOf looks for a durable by its consumer; nil if it is not there.
func (b *Bus) bookmarkOf(ctx context.Context, src *source, consumer string) (*bookmark, error) {
	info, err := b.consumerInfo(ctx, src.stream, consumer)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return newBookmark(src, info), nil
}

func newBookmark(src *source, info jetstream.ConsumerInfo) *bookmark {
	slot, _ := strconv.Atoi(info.Name[strings.LastIndexByte(info.Name, '_')+1:])
	return &bookmark{source: src, slot: slot, info: info}
}

// consumerInfo asks for a consumer. Nobody answers for one that is just being created
// or deleted: so it asks again.
func (b *Bus) consumerInfo(ctx context.Context, stream, consumer string) (jetstream.ConsumerInfo, error) {
	for {
		try, cancel := context.WithTimeout(ctx, askPatience)
		info, err := b.askConsumer(try, "INFO", stream, consumer, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return info, err
		}
	}
}

// askPatience is for how long a request about a consumer is left without an answer.
const askPatience = time.Second

// askConsumer sends a request of the JetStream API about a consumer, which is answered
// with what the consumer is.
func (b *Bus) askConsumer(ctx context.Context, what, stream, consumer string, request []byte) (info jetstream.ConsumerInfo, err error) {
	doing := fmt.Sprintf("%s of consumer %s of stream %s", strings.ToLower(what), consumer, stream)
	msg, err := b.read.RequestWithContext(ctx, "$JS.API.CONSUMER."+what+"."+b.originOf(stream)+"."+consumer, request)
	if err != nil {
		return info, fmt.Errorf("%s: %w", doing, err)
	}
	if err = apiError(msg.Data); err == nil {
		err = json.Unmarshal(msg.Data, &info)
	}
	if err != nil {
		return info, fmt.Errorf("%s: %w", doing, err)
	}
	return info, nil
}

// isGone reports whether a consumer is not there, or its stream is not.
func isGone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// keep creates the consumer of a durable that begins at a place. The error is a
// jetstream.ErrConsumerExists if the slot is taken.
func (b *Bus) keep(ctx context.Context, in peal.Inbox, of Followed, name string, slot int, begin Cursor) (*bookmark, error) {
	src, subject := b.sourceOf(in, of)
	now := stampMoment(time.Now())
	c, err := b.reads.CreateConsumer(ctx, b.originOf(src.stream), jetstream.ConsumerConfig{
		Durable:           durableConsumer(in, slot),
		FilterSubject:     subject,
		DeliverPolicy:     jetstream.DeliverAllPolicy, // any other can't be reset to any place
		AckPolicy:         jetstream.AckExplicitPolicy,
		HeadersOnly:       true,
		InactiveThreshold: b.cfg.DurableUnused,
		Metadata: map[string]string{
			metaTenant: string(in.Tenant), metaNamespace: string(in.Namespace), metaUser: escape(string(in.User)),
			metaFollowed: string(of), metaName: name, metaBegin: begin.String(),
			metaCreated: now, metaUsed: now, metaOnce: string(newEpoch()),
		},
	})
	if err != nil {
		return nil, err
	}
	return newBookmark(src, *c.CachedInfo()), nil
}

// drop deletes the consumer of a durable. It reports whether it was there.
func (b *Bus) drop(ctx context.Context, stream, consumer string) (bool, error) {
	err := b.reads.DeleteConsumer(ctx, b.originOf(stream), consumer)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete consumer %s of stream %s: %w", consumer, stream, err)
	}
	return true, nil
}

// reset has a consumer stand after a sequence. The request is taken by the consumer
// itself: where there is none it is not answered, as it is not where the consumer is
// without a leader, or of a server before 2.14.
func (b *Bus) reset(ctx context.Context, k *bookmark, seq uint64) error {
	request, err := json.Marshal(map[string]uint64{"seq": seq + 1}) // the next to be delivered
	if err != nil {
		return err
	}
	for {
		try, cancel := context.WithTimeout(ctx, askPatience)
		_, err := b.askConsumer(try, "RESET", k.stream(), k.consumer(), request)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, gone := b.consumerInfo(ctx, k.stream(), k.consumer()); isGone(gone) {
			return gone
		}
		var refused *jetstream.APIError
		if errors.As(err, &refused) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(resetPause):
		}
	}
}

// resetPause is for how long a consumer that does not take a reset is left alone.
const resetPause = 50 * time.Millisecond

// annotate writes some of the metadata of a durable anew. The rest is written as it
// is now, and not as k knows it: others may have changed it since.
func (b *Bus) annotate(ctx context.Context, k *bookmark, values map[string]string) error {
	info, err := b.consumerInfo(ctx, k.stream(), k.consumer())
	if err != nil {
		return err
	}
	cfg := info.Config
	cfg.Metadata = make(map[string]string)
	for key, value := range info.Config.Metadata {
		if !strings.HasPrefix(key, foreignPrefix) {
			cfg.Metadata[key] = value
		}
	}
	for key, value := range values {
		cfg.Metadata[key] = value
	}
	c, err := b.reads.UpdateConsumer(ctx, b.originOf(k.stream()), cfg)
	if err != nil {
		return err
	}
	k.info.Config = c.CachedInfo().Config
	return nil
}

// use has the server count anew for how long a durable is unused. That counts what is
// pulled and what is acknowledged, and not a reset: so it is told that somebody is
// at work on a message, of which there is none.
func (b *Bus) use(k *bookmark) error {
	return b.write.Publish("$JS.ACK."+b.originOf(k.stream())+"."+k.consumer()+".1.1.1.0.0", []byte("+WPI"))
}
