package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Durable is a place that the region keeps for one follower. A feed delivers as for
// anybody else; the durable only remembers how far it was received. Its methods may
// be called concurrently, and do not block.
//
// What is remembered is never further on than what Received was told, so a follower
// that begins after it misses nothing. It may be behind: then something comes again.
type Durable struct {
	bus     *Bus
	inbox   peal.Inbox
	of      Followed
	name    string
	created bool
	claim   *claim
	lost    func(Loss)

	start    Cursor    // of a feed that begins now
	released sync.Once // of the claim

	mu       sync.Mutex // protects the rest; never held across a call to the bus
	bookmark *bookmark  // set by open, then changed by jobs alone, of which one is under way at most; nil before
	place    Cursor     // that is stored
	received Cursor     // that is to be
	working  bool       // a job is queued or under way
	used     time.Time  // when the server was told so last
	closed   bool
}

// Loss is why a durable is not its holder's any more.
type Loss string

const (
	TakenOver Loss = "taken over" // by another follower
	Removed   Loss = "removed"    // there is none of that name any more
)

// ErrNoDurable: there is no durable of that name or id, or not any more.
var ErrNoDurable = errors.New("no such durable")

// ErrTakenOver: another follower has taken the durable over before it was open.
var ErrTakenOver = fmt.Errorf("taken over by another follower: %w", peal.ErrTooManyConnections)

// ErrDurablesFull: the region keeps as many durables as it may.
var ErrDurablesFull = errors.New("as many durables as may be")

// ErrTooManyDurables: the user has MaxDurables. See TooManyDurablesError.
var ErrTooManyDurables = fmt.Errorf("too many durables: %w", peal.ErrTooManyConnections)

// TooManyDurablesError is an ErrTooManyDurables, and says of which names they are.
type TooManyDurablesError struct{ Names []string }

func (e *TooManyDurablesError) Error() string {
	return fmt.Sprintf("%d durables of this user are there: %s", len(e.Names), strings.Join(e.Names, ", "))
}

func (e *TooManyDurablesError) Unwrap() error { return ErrTooManyDurables }

var durableForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ParseDurable checks the form of a durable's name: 1 to 32 lower-case letters,
// digits and hyphens.
func ParseDurable(s string) (string, error) {
	if !durableForm.MatchString(s) {
		return "", peal.Invalid("durable", "must be 1 to 32 lower-case letters, digits and hyphens")
	}
	return s, nil
}

// KeepsDurables reports whether there are any in this region.
func (b *Bus) KeepsDurables() bool { return b.cfg.Durables > 0 }

// OpenDurable finds the durable of a user and a name, which is a result of
// ParseDurable, or makes it, and takes it from whoever holds it. asked is the place
// that the follower itself says it has come to; zero if it says nothing. A new
// durable begins there, and else at the live end; one that is further on goes back.
//
// lost is called once, by another goroutine and perhaps before OpenDurable returns,
// when the durable is not the caller's any more; not after Close. OpenDurable that
// succeeds needs one Close.
//
// The error is a *TooManyDurablesError, an ErrDurablesFull, an ErrTakenOver, a
// peal.ErrUnavailable or ctx's.
func (b *Bus) OpenDurable(ctx context.Context, in peal.Inbox, of Followed, name string, asked Cursor, lost func(Loss)) (_ *Durable, err error) {
	const doing = "open durable"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	d := &Durable{bus: b, inbox: in, of: of, name: name, lost: lost}
	// Before the place is read: who held it moves it no more.
	if d.claim, err = b.claimDurable(ctx, in, of, name, d.loses); err != nil {
		return nil, unavailable(doing, err)
	}
	defer func() {
		if err != nil {
			d.claim.Release()
		}
	}()
	err = d.open(ctx, asked)
	var full *TooManyDurablesError
	switch {
	case err == nil:
		b.holding(d)
		return d, nil
	case errors.As(err, &full), errors.Is(err, ErrDurablesFull), errors.Is(err, ErrTakenOver):
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return nil, unavailable(doing, err)
}

func (d *Durable) open(ctx context.Context, asked Cursor) (err error) {
	k, err := d.find(ctx, asked)
	if err != nil {
		return err
	}
	d.moved(k, k.place())
	d.start = asked
	if asked.IsZero() {
		if d.start, err = d.since(ctx); err != nil {
			return err
		}
	}
	// Where the follower has less than was thought, a break before it has received
	// more would lose what lies between.
	if asked.Epoch == d.place.Epoch && asked.Seq < d.place.Seq {
		if err = d.move(ctx, asked); err != nil {
			return err
		}
	}
	d.queue() // it is used, from now on
	return nil
}

// since is where a follower begins that says nothing of where it is: at the place. One
// that means nothing in the stream of today is told of as a gap, until what follows the gap
// was received; and it begins where the gap was told first, for what has come since then is
// not to be skipped.
func (d *Durable) since(ctx context.Context) (Cursor, error) {
	k, place := d.bookmark, d.place
	src, subject := d.bus.sourceOf(d.inbox, d.of)
	f, err := src.ask(ctx)
	if err != nil || place.Epoch == f.epoch {
		return place, err
	}
	at := ParseCursor(k.meta(metaGap))
	if at.Epoch != f.epoch {
		if at, err = src.end(ctx, subject); err != nil {
			return at, err
		}
		if err := d.bus.annotate(ctx, k, map[string]string{metaGap: at.String()}); err != nil {
			return at, err
		}
	}
	at.Lacking = true
	return at, nil
}

// find finds the durable or makes it.
func (d *Durable) find(ctx context.Context, asked Cursor) (*bookmark, error) {
	patience := time.Now().Add(d.bus.cfg.Timeout / 2) // with those that are not settled
	var trouble error                                 // of the last attempt
	for {
		r, err := d.bus.rack(ctx, d.inbox)
		k := r.find(d.of, d.name)
		switch {
		case k != nil && k.settled():
			return k, nil // whatever others of the user are
		case err != nil:
			return nil, err
		case k != nil:
			// Another process makes it, and may give it back: or has died over it.
			if time.Now().After(patience) {
				if err := d.discard(ctx, k); err != nil {
					return nil, err
				}
			}
		case r.free() < 0:
			if len(r.settled()) < MaxDurables && time.Now().Before(patience) {
				break
			}
			if dropped, err := d.bus.dropLeft(ctx, r); err != nil {
				return nil, err
			} else if !dropped {
				return nil, tooMany(r)
			}
		default:
			k, err := d.make(ctx, r.free(), asked)
			if err == nil && k != nil {
				d.created = true
				return k, nil
			}
			// In the directory of one that is just being deleted the server can't create another.
			if err != nil && !errors.Is(err, jetstream.ErrConsumerCreate) {
				return nil, err
			}
			trouble = err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(trouble, ctx.Err())
		case <-time.After(rand.N(makePause)): // others make theirs at the same moment
		}
	}
}

// discard drops a durable of this name that nobody has settled, if that is still so
// and the claim is held: who has taken it over may be settling it.
func (d *Durable) discard(ctx context.Context, k *bookmark) error {
	now, err := d.bus.bookmarkOf(ctx, k.source, k.consumer())
	switch {
	case err != nil:
		return err
	case !d.claim.Held():
		return ErrTakenOver
	case now == nil || now.settled():
		return nil
	}
	_, err = d.bus.drop(ctx, k.stream(), k.consumer())
	return err
}

// dropLeft drops those that a process has left unsettled over its death, which else
// would take a user's place until they are long unused. It reports whether there was one.
func (b *Bus) dropLeft(ctx context.Context, r *rack) (dropped bool, err error) {
	for _, k := range r.all() {
		if k.settled() || time.Since(k.moment(metaCreated)) < max(leftAfter, 2*b.cfg.Timeout) {
			continue
		}
		was, err := b.drop(ctx, k.stream(), k.consumer())
		if err != nil {
			return dropped, err
		}
		dropped = dropped || was
	}
	return dropped, nil
}

// leftAfter is after how long nobody is taken to be still making a durable: who makes
// one settles it within Config.Timeout, or gives it back within another. The clocks of
// processes may differ by the rest.
const leftAfter = time.Minute

// makePause is for how long at most it is left to others to make theirs.
const makePause = 50 * time.Millisecond

func tooMany(r *rack) error {
	e := &TooManyDurablesError{}
	for _, k := range r.settled() {
		e.Names = append(e.Names, k.meta(metaName))
	}
	slices.Sort(e.Names)
	e.Names = slices.Compact(e.Names)
	return e
}

// make makes the durable in a slot that was free; nil if it was not.
//
// Two can't take the same consumer, for it is created and not updated. But a slot is
// two consumers, of the two routes, and a name might get two slots. So whoever has
// made one looks again, and gives it back where there is another: of two at once each
// sees the other's, and none is left over that nobody saw. What is not settled yet
// nobody else uses: it may be given back.
func (d *Durable) make(ctx context.Context, slot int, begin Cursor) (*bookmark, error) {
	src, subject := d.bus.sourceOf(d.inbox, d.of)
	if begin.IsZero() {
		var err error
		if begin, err = src.end(ctx, subject); err != nil {
			return nil, err
		}
	}
	k, err := d.bus.keepOneMore(ctx, d.inbox, d.of, d.name, slot, begin)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := d.bus.rack(ctx, d.inbox)
	if err == nil && r.taken(slot) == 1 && r.count(d.of, d.name) == 1 {
		// The place is begin in any case; but else what follows it would be counted from
		// the first message on.
		if err = d.bus.reset(ctx, k, begin.Seq); err == nil {
			err = d.bus.annotate(ctx, k, map[string]string{metaSettled: "1"})
		}
		if err == nil {
			return k, nil
		}
	}
	ctx, cancel := context.WithTimeout(d.bus.life, d.bus.cfg.Timeout) // ctx may have ended
	defer cancel()
	if _, left := d.bus.drop(ctx, k.stream(), k.consumer()); left != nil {
		err = errors.Join(err, left)
	}
	return nil, err
}

// keepOneMore is keep within the bound of the region. This process makes one after
// the other, so that with many at once there may be as many too many as there are
// processes.
func (b *Bus) keepOneMore(ctx context.Context, in peal.Inbox, of Followed, name string, slot int, begin Cursor) (*bookmark, error) {
	select {
	case b.keeping <- struct{}{}:
		defer func() { <-b.keeping }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n, err := b.countConsumers(ctx)
	if err != nil {
		return nil, err
	}
	if n >= b.cfg.Durables {
		return nil, fmt.Errorf("%w: %d consumers are there, of %d", ErrDurablesFull, n, b.cfg.Durables)
	}
	k, err := b.keep(ctx, in, of, name, slot, begin)
	if errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
		src, _ := b.sourceOf(in, of)
		return nil, fmt.Errorf("%w: stream %s has as many consumers as its max_consumers, or the servers' default_max_consumers, allows", ErrDurablesFull, src.stream)
	}
	return k, err
}

// countConsumers counts the consumers of all streams that feeds read. Others may be
// among them than durables: they make publishing as much dearer.
func (b *Bus) countConsumers(ctx context.Context) (int, error) {
	var (
		work sync.WaitGroup
		n    = make([]int, len(b.sources))
		errs = make([]error, len(b.sources))
	)
	for i, src := range b.sources {
		work.Go(func() {
			f, err := src.ask(ctx)
			n[i], errs[i] = f.consumers, err
		})
	}
	work.Wait()
	sum := 0
	for _, of := range n {
		sum += of
	}
	return sum, errors.Join(errs...)
}

// After is the place after which a feed of the durable is to begin.
func (d *Durable) After() Cursor { return d.start }

// New reports whether OpenDurable has made it.
func (d *Durable) New() bool { return d.created }

// Received notes that the follower has provably received everything up to a place,
// which its feed has passed. It is stored in a while. Where that fails nobody is
// told: the place stays where it was until Received is called again.
func (d *Durable) Received(at Cursor) {
	d.mu.Lock()
	d.received = at
	d.mu.Unlock()
	d.queue()
}

// Close lets go of the durable. What was received before is still stored.
func (d *Durable) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.bus.letGo(d)
	d.queue()
}

// loses notes that the claim is lost.
func (d *Durable) loses() {
	by := time.Now().Add(askPatience)
	d.bus.explainer.ask(func() { d.explainLoss(by) })
}

// explainLoss finds out why the claim was lost, and tells the follower. Until then two
// follow by the durable: so what is not known by a moment counts as taken over, however
// many others are lost at once.
func (d *Durable) explainLoss(by time.Time) {
	ctx, cancel := context.WithDeadline(d.bus.life, by)
	defer cancel()
	d.mu.Lock()
	k := d.bookmark
	d.mu.Unlock()
	if k != nil {
		if _, err := d.bus.consumerInfo(ctx, k.stream(), k.consumer()); isGone(err) {
			d.tell(Removed)
			return
		}
	}
	d.tell(TakenOver)
}

// tell tells the follower of the loss, once.
func (d *Durable) tell(why Loss) {
	d.mu.Lock()
	lost := d.lost
	if d.closed {
		lost = nil
	}
	d.lost = nil
	d.mu.Unlock()
	if lost != nil {
		lost(why)
	}
}
