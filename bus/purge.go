package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Purged is how much a purge has erased, in messages.
type Purged struct {
	Notifications uint64
	ReadStates    uint64
	Preferences   uint64
	Queues        uint64 // of a tenant only
	DeadLetters   uint64
	Durables      uint64
}

// erasure is what a purge erases of one kind: the messages of a stream that fit a
// filter.
type erasure struct {
	stream, filter string
	count          *uint64 // to which their number is added
	region         Region  // where the stream is, if it is no home's; "" is this one
}

// Purge erases what is kept of a user in a tenant, in every region: the inbox, its read
// state, the preferences, the durables, and the dead letters in which the user's id stands. Of
// these nothing is left behind; that the user was purged is noted until what had
// dropped out of the inbox before has expired, for a day more than notifications are
// kept. What others have of the user stays theirs: notifications of what the user
// did. Sequences go on, so no cursor of before will name another notification; and
// every node is told, so that it looks at once.
//
// Whoever writes meanwhile is not held up. What is published is kept, as of a
// user without a past; so are notifications of events that wait to be worked
// on. A read state that is being written may be refused, and is then worked out
// again from the inbox that is there; but the first one of an inbox may come
// after the purge, and remain. To leave nothing, let nobody act for the user any
// more, then purge. A notification of an id that was erased, published within 10
// minutes of the first time, is still a duplicate and is not stored.
//
// It may be repeated, and erases then what is there. The error is a
// peal.ErrUnavailable that names the streams of which something may be left,
// after six times Config.Timeout at the latest, or ctx's. All else is erased then.
func (b *Bus) Purge(ctx context.Context, in peal.Inbox) (p Purged, err error) {
	part, pl := b.partition(in)
	h := part.home
	r := h.region
	err = b.purge(ctx,
		[]erasure{
			{part.stream, pl.subject("inbox", r), &p.Notifications, ""},
			{stateStream(r, part.number), pl.subject("state", r), &p.ReadStates, ""},
		},
		[]erasure{{bucketStream(prefBucket(r)), prefKey(r, in), &p.Preferences, ""}},
	)
	for _, region := range b.cfg.Regions {
		err = errors.Join(err, b.dropDeadOf(ctx, region, in, &p.DeadLetters))
	}
	n, left := b.RemoveDurables(ctx, in, "")
	p.Durables, err = uint64(n), errors.Join(err, left)
	h.wishes.users.forget(in, time.Now())
	h.announcePurge(p, err, pl.tokens[:]...)
	return p, err
}

// PurgeTenant erases what is kept of a tenant in every namespace and region: what
// Purge erases of a user, the tenant's own preferences, the members of its
// queues, and its dead letters. Events that wait to be worked on stay, as do
// revocations, and for a day which tickets have changed. Otherwise it is as
// Purge.
func (b *Bus) PurgeTenant(ctx context.Context, t peal.Tenant) (p Purged, err error) {
	h := b.homeOf(t)
	r, tenant := h.region, string(t)
	preferences := tenantPrefKey(r, t)
	groups := [][]erasure{
		{
			{bucketStream(prefBucket(r)), preferences, &p.Preferences, ""},
			{bucketStream(prefBucket(r)), below(preferences), &p.Preferences, ""},
		},
		{{bucketStream(queueBucket(r)), below(keySubject(queueBucket(r), tenant)), &p.Queues, ""}},
	}
	for _, region := range b.cfg.Regions {
		groups = append(groups, []erasure{{deadStream(region), subject("dead", string(region), tenant), &p.DeadLetters, region}})
	}
	for n := range h.partitions {
		number := strconv.Itoa(n)
		groups = append(groups, []erasure{
			{inboxStream(r, n), below(subject("inbox", string(r), number, tenant)), &p.Notifications, ""},
			{stateStream(r, n), below(subject("state", string(r), number, tenant)), &p.ReadStates, ""},
		})
	}
	err = b.purge(ctx, groups...)
	n, left := b.removeDurablesOf(ctx, t)
	p.Durables, err = uint64(n), errors.Join(err, left)
	h.wishes.users.clear(time.Now())
	h.wishes.tenants.forget(t, time.Now())
	h.announcePurge(p, err, tenant)
	return p, err
}

// below is a filter for all subjects that begin with the tokens of one.
func below(subject string) string { return subject + ".>" }

// purge erases what is kept at a place. Of a group the next is
// only erased once the one before is, for an inbox goes before its read state:
// else all that is left of it would be unread, and a read state that is written in
// between, from notifications that are about to go, would remain. All groups are
// erased at once.
func (b *Bus) purge(ctx context.Context, groups ...[]erasure) error {
	var (
		work sync.WaitGroup
		mu   sync.Mutex // protects the counts and left, until work is done
		left []error
	)
	if err := b.note(ctx, groups); err != nil {
		left = append(left, err)
	}
	for _, group := range groups {
		work.Go(func() {
			for i, e := range group {
				n, err := b.eraseEverywhere(ctx, e)
				mu.Lock()
				*e.count += n
				if err != nil {
					left = append(left, fmt.Errorf("left in %s: %w", streamsOf(group[i:]), err))
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	work.Wait()
	return errors.Join(left...)
}

func streamsOf(group []erasure) string {
	var names []string
	for _, e := range group {
		if !slices.Contains(names, e.stream) {
			names = append(names, e.stream)
		}
	}
	return strings.Join(names, " and ")
}

// eraseEverywhere erases at the origin of a stream and then, for a mirror does not follow in
// this, of each copy. It returns how many messages that were at the origin.
func (b *Bus) eraseEverywhere(ctx context.Context, e erasure) (n uint64, err error) {
	for _, at := range b.placesOf(e) {
		m, left := b.erase(ctx, erasure{stream: at.stream, filter: e.filter}, 0)
		switch {
		case at.origin:
			n, err = m, left
		case !errors.Is(left, jetstream.ErrStreamNotFound):
			err = errors.Join(err, left)
		}
	}
	return n, err
}

// streamPlace is a stream that has what is to be erased: the origin, or a copy that may be
// there.
type streamPlace struct {
	stream string
	region Region
	origin bool
}

// placesOf lists all that have what is to be erased, the origin first.
func (b *Bus) placesOf(e erasure) []streamPlace {
	t := b.twins[e.stream]
	if t == nil {
		return []streamPlace{{e.stream, cmp.Or(e.region, b.cfg.Region), true}}
	}
	origin := t.at.Load().origin
	var all []streamPlace
	for _, r := range b.cfg.Regions {
		name := nameIn(e.stream, t.home.region, r)
		all = append(all, streamPlace{name, r, name == origin})
	}
	slices.SortStableFunc(all, func(a, b streamPlace) int {
		switch {
		case a.origin == b.origin:
			return 0
		case a.origin:
			return -1
		}
		return 1
	})
	return all
}

// erase has the leader of a stream remove what fits the filter, up to a sequence or
// with 0 all of it, and returns how many messages that were.
func (b *Bus) erase(ctx context.Context, e erasure, upTo uint64) (uint64, error) {
	doing := "purge stream " + e.stream
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	purge := jetstream.StreamPurgeRequest{Subject: e.filter}
	if upTo > 0 {
		purge.Sequence = upTo + 1
	}
	request, err := json.Marshal(purge)
	if err != nil {
		return 0, err
	}
	api := apiSubject("STREAM.PURGE", e.stream)
	var msg *nats.Msg
	err = b.rights.ask(ctx, api, func(ctx context.Context) (err error) {
		msg, err = b.write.RequestWithContext(ctx, api, request)
		return err
	})
	if err != nil {
		return 0, unavailable(doing, err)
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return 0, unavailable(doing, err)
	}
	if answer.Error != nil {
		return 0, unavailable(doing, answer.Error)
	}
	return answer.Purged, nil
}

// announcePurge tells every node that a place was purged: the message on
// peal.purged.<home> names it by its tokens, "<tenant>" or
// "<tenant>.<namespace>.<user>", as they are in every subject, so that each can
// look at once at what it holds of these inboxes. It may get lost. Each device
// fetches its list again for it, so it is not sent for nothing: only where
// something of an inbox was erased, or may have been.
func (h *home) announcePurge(p Purged, err error, tokens ...string) {
	if err == nil && p.Notifications == 0 && p.ReadStates == 0 {
		return
	}
	// Whoever misses it finds out by the next message or the next tail check.
	_ = h.bus.write.Publish(h.purgedSubject(), []byte(strings.Join(tokens, ".")))
}

func (h *home) purgedSubject() string { return subject("purged", string(h.region)) }

// hearPurges has the feeds look at once at what was purged.
func (b *Bus) hearPurges() error {
	for _, h := range b.homes {
		if _, err := b.live.Subscribe(h.purgedSubject(), func(m *nats.Msg) { b.purged(string(m.Data)) }); err != nil {
			return err
		}
	}
	return nil
}
