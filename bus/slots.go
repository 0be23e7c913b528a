package bus

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// A slot is one of the places that a user has in the cluster, such as one of the
// connections that may be open on a route: a key of the bucket PEAL_LIMIT, which is
// gained by compare-and-set, says who holds it, and goes by itself when it is not
// renewed. A claim is a slot of a name, which the next one takes over.
//
// This file is what a process keeps of its slots; slotgain.go is how one is gained,
// slotkeep.go how all of them are kept and freed, slotlost.go what follows when NATS has
// lost them.

// MaxSlots is the most slots that a user may have on a route: one question asks for all
// of them, and the server answers at most 1,024.
const MaxSlots = 1000

const (
	// slotTTL frees the slots of a process that died.
	slotTTL = 45 * time.Second

	// slotRenewals is how often a slot is renewed within its TTL: two may fail.
	slotRenewals = 3

	// freedFor is how long a freed slot is marked as such, before nothing is left of
	// it. The server counts whole seconds.
	freedFor = time.Second

	// claimRoute stands where slots have a route.
	claimRoute = "claim"
)

// Slot is a slot that this process holds, or is to hold. Its size counts: there is
// one for each connection.
type Slot struct {
	// Set when it is made, then read-only.
	slots *slots
	in    peal.Inbox
	what  string // the route, or the name of a claim
	lost  func()
	most  int32 // of the user on the route; 0: it is a claim

	// Written by who gains it, then by the keeper alone, and under slots.mu where it
	// is in the table.
	id     uint64 // no two of this process have the same
	number int32  // which of the slots it is; none: it holds none
	rev    uint64 // sequence of its key; 0: not known

	// Protected by slots.mu.
	next      *Slot // of the same seat
	turn, pos int32 // where it is in the ring
	gone      bool  // not in the table any more, or not to be put there
}

// none is the number of a slot that holds none.
const none = -1

// seat is what slots are counted by: a hash of a user and a route, or of a claim.
type seat [16]byte

// slots are those of one process.
type slots struct {
	bus     *Bus
	bucket  string
	stream  string
	ttl     time.Duration
	step    time.Duration       // a turn of the ring takes as long as slots may go without being renewed
	process string              // random
	many    jetstream.JetStream // for publishes that are awaited together
	stall   *stall
	gate    *gate
	ids     atomic.Uint64
	made    atomic.Int64 // when the bucket was looked for last, in ns since stall.since
	hurried atomic.Bool  // all are to be renewed soon
	wake    chan struct{}
	looking chan struct{} // capacity 1: the bucket is looked for
	known   intactness    // of the bucket

	lostSince atomic.Pointer[string] // when the key of the bucket was stored in which slots were stored again last

	// Owned by the keeper.
	began    time.Time
	turned   int64 // turns of the ring, in steps
	ahead    int64 // of the clock
	troubled bool  // the last round failed

	mu      sync.Mutex // protects the rest, and what of a Slot it says
	seats   map[seat]*Slot
	ring    [ringSteps][]*Slot
	leaving []departure
	freeing map[seat]int  // how many that are leaving are freed now or next
	rounded chan struct{} // closed when the round under way, or the next, is over
	asked   []*Slot       // somebody may have them by now
	closed  bool
}

// departure is a slot that is to be freed.
type departure struct {
	*Slot
	since  time.Time
	due    time.Time // the zero time: now
	unsure bool      // it may be stored yet, though nothing is there
}

func newSlots(b *Bus) (*slots, error) {
	bucket := limitBucket(b.cfg.Region)
	s := &slots{
		bus: b, bucket: bucket, stream: bucketStream(bucket), ttl: b.cfg.SlotTTL,
		process: strconv.FormatUint(rand.Uint64(), 36),
		wake:    make(chan struct{}, 1), looking: make(chan struct{}, 1),
		known: intactness{asking: make(chan struct{}, 1)},
		began: time.Now(), seats: make(map[seat]*Slot),
		freeing: make(map[seat]int), rounded: make(chan struct{}),
	}
	s.step = s.ttl / slotRenewals / ringSteps
	s.stall, s.gate = newStall(b, s.stream), newGate(b.cfg.Timeout)
	var err error
	s.many, err = jetstream.New(b.write, jetstream.WithDefaultTimeout(b.cfg.Timeout),
		jetstream.WithPublishAsyncTimeout(b.cfg.Timeout), jetstream.WithPublishAsyncMaxPending(slotsAtOnce))
	return s, err
}

// TakeSlot takes one of a user's slots on a route, of which there are at most most
// in the whole cluster, 1 to MaxSlots. It is held until Release, and renewed meanwhile.
// A route is one token of a subject, such as "notifications", and not "claim".
//
// If the slot is lost and no other is free, lost is called, once: the process was
// stopped, or cut off from JetStream, for longer than Config.SlotTTL, and others took
// the slots. It must not block, and may call Release. While JetStream is away slots
// are kept: what is not known to be lost is held.
//
// The error is a peal.ErrTooManyConnections if this process holds that many, or the
// leader says that all are taken; a peal.ErrUnavailable, after Config.Timeout without a
// sign of JetStream, or after half a minute among very many; or ctx's. After an error nothing is held: what may
// have been stored all the same is freed as soon as it is seen.
func (b *Bus) TakeSlot(ctx context.Context, in peal.Inbox, route string, most int, lost func()) (*Slot, error) {
	s := b.slots
	x := s.newSlot(in, route, min(most, MaxSlots), lost)
	if s.count(x.seat()) >= most {
		b.stats.SlotsFull.Add(1)
		return nil, errSlotsTaken
	}
	var err error
	for range conflicts {
		freed := s.freed(x.seat()) // asked first: it may be free by the time that the leader says it was not
		err = s.inTurn(ctx, func(ctx context.Context) error { return s.gain(ctx, x) })
		if !errors.Is(err, peal.ErrTooManyConnections) || !s.await(ctx, cmp.Or(freed, s.freed(x.seat()))) {
			break
		}
	}
	switch {
	case errors.Is(err, peal.ErrTooManyConnections):
		b.stats.SlotsFull.Add(1)
		return nil, err
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		b.stats.SlotsUnknown.Add(1)
		return nil, unavailable("take a slot", err)
	}
	s.add(x)
	if err := ctx.Err(); err != nil {
		x.Release()
		return nil, err
	}
	return x, nil
}

// SlotsOf returns how many of a user's slots on a route this process has.
func (b *Bus) SlotsOf(in peal.Inbox, route string) int {
	return b.slots.count((&Slot{in: in, what: route, most: 1}).seat())
}

// TakeSlotLater takes a slot on a route where JetStream can't be asked: it counts
// those that this process holds or is to hold, and nothing else. A slot is taken for
// it as soon as JetStream can be asked, and if there is none, lost is called.
// Otherwise it is as TakeSlot.
func (b *Bus) TakeSlotLater(in peal.Inbox, route string, most int, lost func()) (*Slot, error) {
	s := b.slots
	x := s.newSlot(in, route, min(most, MaxSlots), lost)
	if !s.addIfFewer(x) {
		b.stats.SlotsFull.Add(1)
		return nil, errSlotsTaken
	}
	return x, nil
}

// Claim takes a name of a user for one holder in the whole cluster, and takes it
// over from whoever has it: their lost is called within milliseconds as a rule, and
// with their next renewal, after a third of Config.SlotTTL, at the latest as long as
// JetStream is there. Of several at once the one whose claim was stored last has it;
// so lost may be called before Claim returns. A name is one token of a subject.
//
// What was claimed is renewed until Release, which frees it only if nobody else has
// it by then. A process that was stopped for long, whose claim has expired, has it
// again if nobody took it. The error is a peal.ErrUnavailable or ctx's, as that of
// TakeSlot.
func (b *Bus) Claim(ctx context.Context, in peal.Inbox, name string, lost func()) (*Slot, error) {
	s := b.slots
	x := s.newSlot(in, name, 0, lost)
	if err := s.inTurn(ctx, func(ctx context.Context) error { return s.overtake(ctx, x) }); err != nil {
		return nil, unavailable("claim a name", err)
	}
	if former := s.succeed(x); former != nil {
		b.stats.SlotsLost.Add(1)
		former.lost()
	}
	s.announce(x)
	if err := ctx.Err(); err != nil {
		x.Release()
		return nil, err
	}
	return x, nil
}

// Release gives a slot back. It does not wait, and may be called more than once: the
// slot is free within milliseconds, or when it has expired if JetStream is away. What
// somebody else holds by then is left alone.
func (x *Slot) Release() { x.slots.release(x) }

var errSlotsTaken = fmt.Errorf("every slot is taken: %w", peal.ErrTooManyConnections)

func (s *slots) newSlot(in peal.Inbox, what string, most int, lost func()) *Slot {
	return &Slot{slots: s, in: in, what: what, lost: lost, id: s.ids.Add(1), most: int32(most), number: none}
}

// inTurn does something for a caller, so many at a time: everybody connects at once
// after a restart. What was begun is not broken off when the caller goes: nobody would
// know then what is held.
func (s *slots) inTurn(ctx context.Context, do func(context.Context) error) (err error) {
	try, err := s.stall.admit()
	if err != nil {
		return err
	}
	deadline, err := s.gate.enter(ctx)
	if err != nil {
		if ctx.Err() == nil { // else it is the caller who had no patience
			s.stall.heard(err)
		}
		return err
	}
	defer func() { s.gate.leave(err == nil || isWord(err)) }()
	if soon := time.Now().Add(tryPatience); try && soon.Before(deadline) {
		deadline = soon
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	switch err = do(ctx); {
	case isWord(err):
		s.stall.heard(nil)
	case !errors.Is(err, errReplicasSilent): // else it is not the bucket that is silent
		s.stall.heard(err)
	}
	return err
}

// lasts is for how long NATS is to keep what is stored for a slot. It looks once a second
// for what has expired, so of 45 s it is told 44.
func (s *slots) lasts() time.Duration { return ttl(s.ttl - s.ttl/45) }

// isWord reports whether an error is no sign that JetStream is away.
func isWord(err error) bool {
	return errors.Is(err, peal.ErrTooManyConnections) || errors.Is(err, errSlotsLost)
}

// isClaim reports whether the slot is that of a name.
func (x *Slot) isClaim() bool { return x.most == 0 }

func (x *Slot) seat() seat {
	tenant, namespace, user := string(x.in.Tenant), string(x.in.Namespace), string(x.in.User)
	sum := digest(tenant, namespace, user, x.what)
	if x.isClaim() {
		sum = digest(tenant, namespace, user, claimRoute, x.what)
	}
	return seat(sum[:16])
}

// key is the subject of one of the user's slots, or of the claim.
func (x *Slot) key(number int32) string {
	last := x.what
	if !x.isClaim() {
		last = strconv.Itoa(int(number))
	}
	return x.subject(last)
}

func (x *Slot) subject(more ...string) string {
	route := x.what
	if x.isClaim() {
		route = claimRoute
	}
	return keySubject(x.slots.bucket, append([]string{string(x.in.Tenant), string(x.in.Namespace), escape(string(x.in.User)), route}, more...)...)
}

// holder is what the key of the slot says.
func (x *Slot) holder() string { return x.slots.process + "-" + strconv.FormatUint(x.id, 36) }

// count is how many slots of a seat this process has.
func (s *slots) count(at seat) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.countLocked(at)
}

func (s *slots) countLocked(at seat) (n int) {
	for x := s.seats[at]; x != nil; x = x.next {
		n++
	}
	return n
}

// numbers are those of the slots of a seat that this process has.
func (s *slots) numbers(at seat) (all []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := s.seats[at]; x != nil; x = x.next {
		if x.number != none {
			all = append(all, x.number)
		}
	}
	return all
}

// add takes a slot into the table, from where it is renewed, the first time at any
// time within a turn: what was taken together is not renewed together.
func (s *slots) add(x *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(x)
}

// addIfFewer is add, if there are not as many already.
func (s *slots) addIfFewer(x *Slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.countLocked(x.seat()) >= int(x.most) {
		return false
	}
	s.addLocked(x)
	return true
}

func (s *slots) addLocked(x *Slot) {
	at := x.seat()
	x.next = s.seats[at]
	s.seats[at] = x
	x.turn = rand.Int32N(ringSteps)
	x.pos = int32(len(s.ring[x.turn]))
	s.ring[x.turn] = append(s.ring[x.turn], x)
	s.bus.stats.SlotsHeld.Add(1)
}

// succeed is add for a claim. It returns which claim of this process is lost by it,
// if one is: the former one as a rule, and not the one that was stored later.
func (s *slots) succeed(x *Slot) (lost *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.seats[x.seat()]
	if former != nil && former.rev > x.rev {
		x.gone = true
		return x
	}
	if former != nil {
		s.dropLocked(former)
	}
	s.addLocked(x)
	return former
}

// drop takes a slot out of the table. It returns false for one that is not there.
func (s *slots) drop(x *Slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropLocked(x)
}

func (s *slots) dropLocked(x *Slot) bool {
	if x.gone {
		return false
	}
	x.gone = true
	at := x.seat()
	for p := s.seats[at]; p != nil; p = p.next {
		if p.next == x {
			p.next = x.next
		}
	}
	if s.seats[at] == x {
		if s.seats[at] = x.next; x.next == nil {
			delete(s.seats, at)
		}
	}
	x.next = nil
	row := s.ring[x.turn]
	last := row[len(row)-1]
	row[x.pos], last.pos = last, x.pos
	row[len(row)-1] = nil
	s.ring[x.turn] = row[:len(row)-1]
	s.bus.stats.SlotsHeld.Add(-1)
	return true
}

// release has the keeper free a slot.
func (s *slots) release(x *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropLocked(x) {
		s.leaveLocked(departure{Slot: x, since: time.Now()})
	}
}

// abandon has the keeper free what may have been stored for a slot that was not
// gained.
func (s *slots) abandon(x *Slot, number int32) {
	left := &Slot{slots: s, in: x.in, what: x.what, most: x.most, id: x.id, number: number, gone: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(departure{Slot: left, since: time.Now(), unsure: true})
}

func (s *slots) leaveLocked(d departure) {
	if s.closed {
		return // it expires
	}
	s.queueLocked(d)
	s.rouse()
}

func (s *slots) queueLocked(d departure) {
	s.leaving = append(s.leaving, d)
	if d.due.IsZero() {
		s.freeing[d.seat()]++
	}
}

// freedLocked notes that a departure is not to be waited for any more.
func (s *slots) freedLocked(d departure) {
	if !d.due.IsZero() {
		return
	}
	at := d.seat()
	if s.freeing[at]--; s.freeing[at] == 0 {
		delete(s.freeing, at)
	}
}

// freed is closed when slots of a seat that this process has given back may be free: who
// has just left, as a poll does with each answer, is not to be refused for it. It is nil
// if there are none.
func (s *slots) freed(at seat) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freeing[at] == 0 {
		return nil
	}
	return s.rounded
}

// await waits for what freed returns. It returns false if that is nothing, or takes too
// long.
func (s *slots) await(ctx context.Context, freed <-chan struct{}) bool {
	if freed == nil {
		return false
	}
	late := time.NewTimer(s.bus.cfg.Timeout)
	defer late.Stop()
	select {
	case <-freed:
		return true
	case <-late.C:
	case <-ctx.Done():
	case <-s.bus.closing:
	}
	return false
}

// askLocked has the next round renew a slot.
func (s *slots) askLocked(x *Slot) {
	if !slices.Contains(s.asked, x) {
		s.asked = append(s.asked, x)
	}
}

// rouse has the keeper look at what is to be done.
func (s *slots) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hurry has all slots renewed soon, for they may be gone.
func (s *slots) hurry() { s.hurried.Store(true) }

// claimedSubject is where it is announced that a claim has another holder, or that all
// slots were lost.
func (s *slots) claimedSubject() string { return subject("claimed", string(s.bus.cfg.Region)) }

// announce tells the other processes of a claim: its seat and its holder. It may get
// lost, and is then seen with the next renewal.
func (s *slots) announce(x *Slot) {
	at := x.seat()
	s.tell(hex.EncodeToString(at[:]) + " " + x.holder())
}

// allLost is said instead of a claim, with when the bucket's key was stored: not all have
// lost their connection to it.
const allLost = "lost "

func (s *slots) tell(what string) { _ = s.bus.write.Publish(s.claimedSubject(), []byte(what)) }

// takenElsewhere is said where a name was claimed, in which region, to those of the others:
// each counts its own claims.
const takenElsewhere = "taken "

// announceElsewhere tells the processes of other regions that a user's name was claimed
// here. It may get lost; then two have it until one of them comes again.
func (b *Bus) announceElsewhere(in peal.Inbox, x *Slot) {
	if b.cfg.several() {
		at := x.seat()
		_ = b.write.Publish(subject("claimed", string(b.cfg.homeOf(in.Tenant))), []byte(takenElsewhere+string(b.cfg.Region)+" "+hex.EncodeToString(at[:])))
	}
}

// hearElsewhere has claims lost that were made in another region.
func (s *slots) hearElsewhere(said string) {
	region, seats, _ := strings.Cut(said, " ")
	raw, err := hex.DecodeString(seats)
	if err != nil || len(raw) != len(seat{}) || Region(region) == s.bus.cfg.Region {
		return
	}
	s.mu.Lock()
	x := s.seats[seat(raw)]
	s.mu.Unlock()
	if x != nil && x.isClaim() {
		s.lose(x)
	}
}

// hearClaims looks at the claims of this process that others announce to have, and at
// all of its slots when they announce that those were lost.
func (s *slots) hearClaims() error {
	for _, home := range s.bus.cfg.forwards(s.bus.cfg.Region) {
		_, err := s.bus.live.Subscribe(subject("claimed", string(home)), func(m *nats.Msg) {
			if said, taken := strings.CutPrefix(string(m.Data), takenElsewhere); taken {
				s.hearElsewhere(said)
			}
		})
		if err != nil {
			return err
		}
	}
	_, err := s.bus.live.Subscribe(s.claimedSubject(), func(m *nats.Msg) {
		if said, taken := strings.CutPrefix(string(m.Data), takenElsewhere); taken {
			s.hearElsewhere(said)
			return
		}
		if at, lost := strings.CutPrefix(string(m.Data), allLost); lost {
			s.lostIn(at)
			return
		}
		var at seat
		const text = 2 * len(at)
		if len(m.Data) <= text || m.Data[text] != ' ' {
			return
		}
		if _, err := hex.Decode(at[:], m.Data[:text]); err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if x := s.seats[at]; x != nil && x.isClaim() && x.holder() != string(m.Data[text+1:]) {
			s.askLocked(x)
			s.rouse()
		}
	})
	return err
}
