package bus

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal"
)

// Tell publishes as the recipients wish: who does not want a notification does
// not get it, and counts neither as stored nor as a duplicate; who has quiet hours
// now gets it silent. Their preferences and those of their tenants are read then,
// or were about a second ago (memory): a change by this bus acts on the next call,
// and one by another after that second, or as soon as the replica that is asked
// has it. The errors are those of Publish, also where preferences can't be read; all
// of it takes Config.Timeout at most.
func (b *Bus) Tell(ctx context.Context, now time.Time, publications ...Publication) (Published, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	if err := b.storable(publications); err != nil {
		return Published{}, unavailable(publishing, err)
	}
	var wanted []Publication
	for _, of := range b.byHome(publications) {
		heeded, err := of.home.wishes.heed(ctx, now, of.publications)
		if err != nil {
			return Published{}, unavailable(publishing, err)
		}
		wanted = append(wanted, heeded...)
	}
	return b.Publish(ctx, wanted...)
}

// ofHome is the part of publications that is for the inboxes of one home.
type ofHome struct {
	home         *home
	publications []Publication
}

// byHome parts publications, each of which stays in its place.
func (b *Bus) byHome(publications []Publication) (all []ofHome) {
	if len(b.homes) == 1 {
		return []ofHome{{b.homes[b.cfg.Home], publications}}
	}
	for _, r := range b.cfg.homes() {
		of := ofHome{home: b.homes[r]}
		for _, p := range publications {
			to := slices.DeleteFunc(slices.Clone(p.To), func(in peal.Inbox) bool { return b.cfg.homeOf(in.Tenant) != r })
			if len(to) > 0 {
				of.publications = append(of.publications, Publication{to, p.Notification})
			}
		}
		if len(of.publications) > 0 {
			all = append(all, of)
		}
	}
	return all
}

// storable returns why publications can't be stored, as far as that is known
// without asking anybody.
func (b *Bus) storable(publications []Publication) error {
	if err := b.writable(); err != nil {
		return err
	}
	if !slices.ContainsFunc(b.partitions, func(p *partition) bool { return p.publisher.stall.refuses() }) {
		return nil
	}
	for _, p := range publications {
		for _, in := range p.To {
			if part, _ := b.partition(in); part.publisher.stall.refuses() {
				return errStalled
			}
		}
	}
	return nil
}

// wishes knows what the recipients of notifications wish. Its methods may be
// called concurrently.
type wishes struct {
	home    *home
	bus     *Bus
	stream  string
	stall   *stall
	zones   peal.Zones
	users   *memory[peal.Inbox, peal.Preferences]
	tenants *memory[peal.Tenant, peal.TenantPreferences]
	told    atomic.Int64 // when something that can't be read was logged last, in ns since stall.since; 0: never
}

func newWishes(h *home) *wishes {
	b, stream := h.bus, bucketStream(prefBucket(h.region))
	return &wishes{
		home: h, bus: b, stream: stream, stall: newStall(b, stream),
		users: newMemory[peal.Inbox, peal.Preferences](), tenants: newMemory[peal.Tenant, peal.TenantPreferences](),
	}
}

// heed returns what is left of publications: without who does not want them, and
// apart for those who want them silent.
func (w *wishes) heed(ctx context.Context, now time.Time, publications []Publication) ([]Publication, error) {
	of, err := w.read(ctx, publications)
	if err != nil {
		return nil, err
	}
	left := make([]Publication, 0, 2*len(publications))
	for _, p := range publications {
		var loud, quiet []peal.Inbox
		for _, in := range p.To {
			switch wanted, silent := of[in].Decide(p.Notification, now, &w.zones); {
			case !wanted:
			case silent:
				quiet = append(quiet, in)
			default:
				loud = append(loud, in)
			}
		}
		silent := p.Notification
		silent.Silent = true
		left = append(left, Publication{loud, p.Notification}, Publication{quiet, silent})
	}
	return left, nil
}

// read returns the wishes of all recipients: what is remembered of them, and the
// rest from the bucket.
func (w *wishes) read(ctx context.Context, publications []Publication) (of map[peal.Inbox]peal.Wishes, err error) {
	region, began := w.home.region, time.Now()
	of = make(map[peal.Inbox]peal.Wishes)
	tenants := make(map[peal.Tenant]peal.TenantPreferences)
	var keys []string
	askedUsers, askedTenants := make(map[string]peal.Inbox), make(map[string]peal.Tenant) // by key
	for _, p := range publications {
		for _, in := range p.To {
			if _, seen := of[in]; seen {
				continue
			}
			user, known := w.users.get(in, began)
			if of[in] = (peal.Wishes{User: user}); !known {
				keys = append(keys, prefKey(region, in))
				askedUsers[keys[len(keys)-1]] = in
			}
			if _, seen := tenants[in.Tenant]; seen {
				continue
			}
			if tenants[in.Tenant], known = w.tenants.get(in.Tenant, began); !known {
				keys = append(keys, tenantPrefKey(region, in.Tenant))
				askedTenants[keys[len(keys)-1]] = in.Tenant
			}
		}
	}
	found, err := w.fetch(ctx, keys)
	if err != nil {
		return nil, err
	}
	read := time.Now()
	for key, t := range askedTenants {
		tenants[t] = decoded(w, found[key], peal.DecodeTenantPreferences)
		w.tenants.put(t, tenants[t], found[key], began, read)
	}
	for key, in := range askedUsers {
		user := decoded(w, found[key], peal.DecodePreferences)
		w.users.put(in, user, found[key], began, read)
		of[in] = peal.Wishes{User: user}
	}
	for in, wish := range of {
		wish.Tenant = tenants[in.Tenant]
		of[in] = wish
	}
	return of, nil
}

const (
	// maxKeysSingly is how many keys are asked for one after the other: each takes
	// 15 µs, and one request for several 250 µs, for its answers need a subscription.
	maxKeysSingly = 12

	// maxKeysRead is how many keys one request names: the server answers 1,024.
	maxKeysRead = 1024

	// maxBytesRead is after how many bytes the server ends an answer, with what
	// it then has begun: far below what it lets wait for one connection.
	maxBytesRead = 8 << 20
)

// fetch reads what is stored for keys, by key. What the server leaves out of an
// answer that gets too long is asked for again.
func (w *wishes) fetch(ctx context.Context, keys []string) (map[string]*stored, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	tries, err := w.stall.admit()
	if err != nil {
		return nil, err
	}
	if tries {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tryPatience)
		defer cancel()
	}
	found, err := w.ask(ctx, keys)
	if err != nil && !silence(err) && w.home.remakePreferences(ctx) {
		found, err = w.ask(ctx, keys)
	}
	if !errors.Is(err, errReplicasSilent) { // else it is not the bucket that is silent
		w.stall.heard(err)
	}
	return found, err
}

// ask asks any replica for keys. What the server leaves out of an answer that gets
// too long is asked for again.
func (w *wishes) ask(ctx context.Context, keys []string) (map[string]*stored, error) {
	found := make(map[string]*stored)
	if len(keys) <= maxKeysSingly {
		for _, key := range keys {
			m, err := w.bus.directLast(ctx, w.bus.write, w.stream, key)
			if err != nil {
				return nil, err
			}
			found[key] = m
		}
		return found, nil
	}
	for len(keys) > 0 {
		some := keys[:min(len(keys), maxKeysRead)]
		a, err := w.several(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, m := range a.messages {
			found[m.subject] = &m
		}
		switch {
		case a.pending == 0:
			keys = keys[len(some):]
		case len(a.messages) == 0:
			return nil, errCutShort
		default:
			keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return found[key] != nil })
		}
	}
	return found, nil
}

// several reads what is stored for many keys from any replica. Only the silence of
// the leader says that the bucket is silent, so if no replica answers, the last
// quarter of the time is for asking it.
func (w *wishes) several(ctx context.Context, keys []string) (answer, error) {
	first := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		first, cancel = context.WithDeadline(ctx, end.Add(-time.Until(end)/4))
		defer cancel()
	}
	a, err := w.bus.directBy(first, w.bus.write, w.stream, directGet{LastFor: keys, MaxBytes: maxBytesRead})
	if errors.Is(err, errReplicasSilent) {
		if _, silent := w.bus.leaderBy(ctx, w.bus.write, w.stream, leaderGet{LastFor: keys[0]}); silent != nil {
			return answer{}, silent
		}
	}
	return a, err
}

var errCutShort = errors.New("an answer was cut short before its beginning")

// tellMalformed is how often it is logged that preferences can't be read.
const tellMalformed = time.Minute

// decoded reads what is stored for a key. What can't be read was stored by
// somebody else, and is no reason not to tell anybody anything: it is as though
// it were not there.
func decoded[P any](w *wishes, m *stored, decode func([]byte) (P, error)) (p P) {
	if m == nil || isMarker(*m) {
		return p
	}
	p, err := decode(m.data)
	if err == nil {
		return p
	}
	now := int64(time.Since(w.stall.since)) + 1
	last := w.told.Load()
	if (last == 0 || now-last >= int64(tellMalformed)) && w.told.CompareAndSwap(last, now) {
		w.bus.log.Error("preferences can't be read and are passed over", "key", m.subject, "err", err)
	}
	return p
}
