package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// KeptDurable is what is known of a durable.
type KeptDurable struct {
	ID       string // names it in calls of this bus
	Inbox    peal.Inbox
	Name     string
	Followed Followed
	Created  time.Time
	Used     time.Time // when it was in use last, at most an hour before it was
	Pending  uint64    // so many messages follow its place: ticket updates of the whole tenant
}

func (k *bookmark) told() KeptDurable {
	user, _ := unescape(k.meta(metaUser)) // "" is no user: somebody has changed it
	return KeptDurable{
		ID: k.stream() + "." + k.consumer(), Name: k.meta(metaName), Followed: Followed(k.meta(metaFollowed)),
		Inbox:   peal.Inbox{Tenant: peal.Tenant(k.meta(metaTenant)), Namespace: peal.Namespace(k.meta(metaNamespace)), User: peal.UserID(user)},
		Created: k.moment(metaCreated), Used: k.moment(metaUsed), Pending: k.info.NumPending,
	}
}

// DurablesOf lists the durables of a user, by name. The error is a
// peal.ErrUnavailable or ctx's.
func (b *Bus) DurablesOf(ctx context.Context, in peal.Inbox) ([]KeptDurable, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	r, err := b.rack(ctx, in)
	if err != nil {
		return nil, unavailable("list durables", err)
	}
	all := []KeptDurable{}
	for _, k := range r.settled() {
		all = append(all, k.told())
	}
	slices.SortStableFunc(all, func(a, b KeptDurable) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Durables lists a page of durables, at most limit: of a tenant, or with "" of all,
// after the one of that id, or with "" from the first. next is the after of the next
// page; "" if there is none. The error is a peal.ErrInvalid for an after that is no
// id, a peal.ErrUnavailable or ctx's.
func (b *Bus) Durables(ctx context.Context, t peal.Tenant, after string, limit int) (page []KeptDurable, next string, err error) {
	if after != "" && !durableID.MatchString(after) {
		return nil, "", peal.Invalid("after", "must be the id of a durable")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*b.cfg.Timeout) // a stream after the other, of many pages perhaps
	defer cancel()
	sources := slices.Clone(b.sources)
	if t != "" {
		sources = b.homeOf(t).sources()
	}
	slices.SortFunc(sources, func(a, b *source) int { return strings.Compare(a.stream, b.stream) })
	for _, src := range sources {
		if stream, _, _ := strings.Cut(after, "."); src.stream < stream {
			continue
		}
		all, err := b.bookmarks(ctx, src)
		if err != nil {
			return nil, "", unavailable("list durables", err)
		}
		for _, k := range all {
			d := k.told()
			if d.ID <= after || t != "" && d.Inbox.Tenant != t {
				continue
			}
			if len(page) == limit {
				return page, page[limit-1].ID, nil
			}
			page = append(page, d)
		}
	}
	return page, "", nil
}

// durableID is the form of an id: the stream and the consumer.
var durableID = regexp.MustCompile(`^PEAL_[A-Za-z0-9_]{1,40}\.` + durablePrefix + `[A-Za-z0-9_-]{43}_[0-9]$`)

// bookmarks lists the durables of a stream, by consumer.
func (b *Bus) bookmarks(ctx context.Context, src *source) (all []*bookmark, err error) {
	doing := "list consumers of stream " + src.stream
	for offset := 0; ; {
		request, err := json.Marshal(map[string]int{"offset": offset})
		if err != nil {
			return nil, err
		}
		msg, err := b.read.RequestWithContext(ctx, "$JS.API.CONSUMER.LIST."+b.originOf(src.stream), request)
		if err != nil {
			return nil, unavailable(doing, err)
		}
		var answer struct {
			Error     *jetstream.APIError      `json:"error"`
			Total     int                      `json:"total"`
			Consumers []jetstream.ConsumerInfo `json:"consumers"`
			Missing   []string                 `json:"missing"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return nil, unavailable(doing, err)
		}
		if answer.Error != nil {
			return nil, unavailable(doing, answer.Error)
		}
		if len(answer.Missing) > 0 {
			return nil, unavailable(doing, fmt.Errorf("%d of them have no leader, such as %s.%s", len(answer.Missing), src.stream, answer.Missing[0]))
		}
		for _, info := range answer.Consumers {
			if strings.HasPrefix(info.Name, durablePrefix) {
				all = append(all, newBookmark(src, info))
			}
		}
		if offset += len(answer.Consumers); len(answer.Consumers) == 0 || offset >= answer.Total {
			break
		}
	}
	slices.SortFunc(all, func(a, b *bookmark) int { return strings.Compare(a.consumer(), b.consumer()) })
	return all, nil
}

// RemoveDurables removes the durables of a user with a name, on either route, or with
// "" all of the user. Who follows by one is told that it is lost. It returns how many
// there were; with an error some may be left, or it is not known whether there are. The
// error is a peal.ErrUnavailable or ctx's.
func (b *Bus) RemoveDurables(ctx context.Context, in peal.Inbox, name string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	r, unknown := b.rack(ctx, in)
	if unknown != nil {
		unknown = unavailable("remove durables", unknown)
	}
	var chosen []*bookmark
	for _, k := range r.all() {
		if name == "" || k.named(name) {
			chosen = append(chosen, k)
		}
	}
	n, err = b.remove(ctx, chosen)
	return n, errors.Join(unknown, err)
}

// RemoveDurable removes the durable of an id, as RemoveDurables does. One that does not
// say whose it is, because it has no leader, is removed all the same: only its ID is
// returned, and who follows by it notices with the next place. The error is an
// ErrNoDurable if there is none, a peal.ErrInvalid for what is no id, a
// peal.ErrUnavailable or ctx's.
func (b *Bus) RemoveDurable(ctx context.Context, id string) (KeptDurable, error) {
	if !durableID.MatchString(id) {
		return KeptDurable{}, peal.Invalid("id", "must be the id of a durable")
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	stream, consumer, _ := strings.Cut(id, ".")
	for _, src := range b.sources {
		if src.stream != stream {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, b.cfg.Timeout/2)
		k, err := b.bookmarkOf(asking, src, consumer)
		cancel()
		if err != nil {
			was, err := b.drop(ctx, stream, consumer)
			if err != nil {
				return KeptDurable{}, unavailable("remove durable", err)
			}
			if !was {
				return KeptDurable{}, ErrNoDurable
			}
			return KeptDurable{ID: id}, nil
		}
		if k == nil {
			break
		}
		n, err := b.remove(ctx, []*bookmark{k})
		if err == nil && n == 0 {
			err = ErrNoDurable
		}
		return k.told(), err
	}
	return KeptDurable{}, ErrNoDurable
}

// removeDurablesOf removes the durables of a tenant.
func (b *Bus) removeDurablesOf(ctx context.Context, t peal.Tenant) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*b.cfg.Timeout)
	defer cancel()
	var left []error
	for _, src := range b.homeOf(t).sources() {
		all, err := b.bookmarks(ctx, src)
		if err != nil {
			left = append(left, err)
			continue
		}
		removed, err := b.remove(ctx, slices.DeleteFunc(all, func(k *bookmark) bool { return k.meta(metaTenant) != string(t) }))
		n += removed
		left = append(left, err)
	}
	return n, errors.Join(left...)
}

// removing is how many durables are removed at once: in a cluster each is a vote of
// its own.
const removing = 16

// remove removes durables and returns how many of them there were. First the place
// goes, then who holds it is told, so that it knows why.
func (b *Bus) remove(ctx context.Context, all []*bookmark) (n int, err error) {
	var (
		mu   sync.Mutex // protects n and left, until work is done
		left []error
		work sync.WaitGroup
		turn = make(chan struct{}, removing)
	)
	for _, k := range all {
		turn <- struct{}{}
		work.Go(func() {
			defer func() { <-turn }()
			was, err := b.drop(ctx, k.stream(), k.consumer())
			d := k.told()
			if err == nil {
				err = b.dispossess(ctx, d.Inbox, d.Followed, d.Name)
			}
			mu.Lock()
			defer mu.Unlock()
			if was {
				n++
			}
			if err != nil {
				left = append(left, unavailable("remove durables", err))
			}
		})
	}
	work.Wait()
	return n, errors.Join(left...)
}

// dispossess takes a durable from whoever holds it, and keeps it for nobody. The claim
// is held until the former holder has seen that it is another's: who finds nothing in
// its place has it again.
func (b *Bus) dispossess(ctx context.Context, in peal.Inbox, of Followed, name string) error {
	c, err := b.claimDurable(ctx, in, of, name, func() {})
	if err != nil {
		return err
	}
	time.AfterFunc(b.cfg.SlotTTL/2, c.Release) // it is seen after a third of it at the latest
	return nil
}
