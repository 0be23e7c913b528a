package verdict

import (
	"maps"
	"slices"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// user is one inbox.
type user struct {
	name  string
	epoch string
	begun int           // the highest number that was published
	items map[int]*item // number → what may still come
	known int           // how many are known to be stored
	top   uint64        // the highest sequence that any device has got
	past  []*device     // that have a bit
	spans []*conn       // connections that count for the limit

	tickets map[string]nth // ticket → the last of its events that was told

	readUpTo  uint64 // the highest place up to which a mark was acknowledged
	triedUpTo uint64 // and was asked for
	marks     []int  // the last few numbers that were marked and acknowledged
	tried     int    // how many were asked to be marked by their ids

	// At quiet.
	listed  bool
	total   int
	unread  int
	version string
	atRest  int             // devices that rest
	resting int             // those of them that are connected
	refused *history.Record // of one that is not
}

// nth is an event of a ticket, and where it was stored.
type nth struct {
	n   int
	seq uint64
}

// item is a notification of a user, from when it is published until nobody can get
// it any more.
type item struct {
	*publication
	number int
	after  uint64 // it was published when this was stored, so it comes later
	seq    uint64 // where it is stored; 0: not known
	ticket string
	nth    int
	got    uint64 // devices that got it, by their bits
	missed uint64 // those that were led past it, or were told of a gap
}

func (c *Checker) user(name string) *user {
	u := c.users[name]
	if u == nil {
		u = &user{name: name, items: make(map[int]*item), tickets: make(map[string]nth)}
		c.users[name] = u
	}
	return u
}

// device is a client that resumes where it was.
type device struct {
	name  string
	user  *user
	bit   int    // in item.got; -1 before its first connection
	start uint64 // what is stored up to here need not come
	place uint64 // everything up to here was told
	began bool   // it has a place
	dials bool   // it asks for its first one, which may be given already
	conn  *conn

	unread    int // what it shows
	version   string
	drainedBy *fault // its last connection
}

func (d *device) has(it *item) bool   { return it.got&(1<<d.bit) != 0 }
func (d *device) lacks(it *item) bool { return (it.got|it.missed)&(1<<d.bit) == 0 }
func (d *device) get(it *item)        { it.got |= 1 << d.bit }
func (d *device) miss(it *item)       { it.missed |= 1 << d.bit }

// maxDevices is how many devices of a user there may be at once.
const maxDevices = 64

// join gives a device a bit.
func (c *Checker) join(r *history.Record, d *device) bool {
	if d.bit >= 0 {
		return true
	}
	u := d.user
	i := slices.Index(u.past, nil)
	if i < 0 {
		if len(u.past) == maxDevices {
			c.broken(r, Unreadable, "%s has more than %d devices", u.name, maxDevices)
			return false
		}
		i = len(u.past)
		u.past = append(u.past, nil)
	}
	u.past[i], d.bit = d, i
	for _, it := range u.items {
		it.got &^= 1 << i
		it.missed &^= 1 << i
	}
	return true
}

func (c *Checker) gone(r *history.Record) {
	d := c.devices[r.Device]
	if d == nil {
		return
	}
	c.report.Gone++
	delete(c.devices, r.Device)
	if d.bit < 0 {
		return
	}
	d.user.past[d.bit] = nil
	c.settleAll(d.user)
}

func (c *Checker) settleAll(u *user) {
	for _, it := range u.items {
		c.settle(u, it)
	}
}

// learn notes where a notification is stored, as a device or a list shows.
func (c *Checker) learn(r *history.Record, u *user, it *item, seq uint64) {
	if it.seq == seq {
		return
	}
	if it.seq != 0 {
		c.broken(r, StoredTwice, "%d of %s (%s) is at %d and at %d", it.number, u.name, it.id, it.seq, seq)
		return
	}
	it.seq = seq
	u.known++
	if seq <= it.after {
		c.broken(r, Reordered, "%d of %s (%s) is at %d, and was published when %d had come", it.number, u.name, it.id, seq, it.after)
	}
	if it.ticket != "" {
		last, ok := u.tickets[it.ticket]
		if ok && (it.nth < last.n) != (seq < last.seq) {
			c.broken(r, Reordered, "event %d of ticket %s is told to %s at %d, event %d at %d", it.nth, it.ticket, u.name, seq, last.n, last.seq)
		}
		if !ok || it.nth > last.n {
			u.tickets[it.ticket] = nth{it.nth, seq}
		}
	}
	for _, d := range u.past {
		if d != nil && d.began && d.start < seq && seq < d.place && d.lacks(it) {
			c.passedOver(r, d, it)
		}
	}
}

func (c *Checker) passedOver(r *history.Record, d *device, it *item) {
	d.miss(it)
	c.broken(r, Hole, "device %s of %s is at %d, and never got %d (%s), which is at %d", d.name, d.user.name, d.place, it.number, it.id, it.seq)
}

// advance moves a device on, and finds what it was led past.
func (c *Checker) advance(r *history.Record, d *device, to uint64) {
	if to <= d.place {
		return
	}
	d.place = to
	for _, it := range d.user.items {
		if it.seq != 0 && d.start < it.seq && it.seq < to && d.lacks(it) {
			c.passedOver(r, d, it)
		}
	}
}

// settle forgets a notification that nobody can get any more.
func (c *Checker) settle(u *user, it *item) {
	if !it.final || it.seq == 0 {
		return
	}
	for _, d := range u.past {
		if d != nil && (d.dials || d.began && d.start < it.seq) && d.lacks(it) {
			return
		}
	}
	delete(u.items, it.number)
	if it.open--; it.open == 0 {
		delete(c.publications, it.id)
	}
}

// received takes a notification.
func (c *Checker) received(r *history.Record, k *conn) {
	d, u := k.device, k.device.user
	c.report.Delivered++
	if r.Foreign != "" {
		c.broken(r, Foreign, "device %s of %s got %s", d.name, u.name, r.Foreign)
		return
	}
	at, ok := c.place(r, r.Cursor)
	if !ok || !c.sameEpoch(r, u, at) {
		return
	}
	if !r.Read {
		d.unread++
	}
	it := u.items[r.Number]
	switch {
	case r.Number < 1 || r.Number > u.begun:
		c.broken(r, Foreign, "device %s of %s got %d, which was never published", d.name, u.name, r.Number)
		return
	case at.seq <= d.place && (at.seq == d.place || it == nil || d.has(it)):
		c.broken(r, Duplicated, "device %s of %s got %d at %d again, being at %d", d.name, u.name, r.Number, at.seq, d.place)
		return
	case at.seq <= d.place:
		c.broken(r, Reordered, "device %s of %s got %d at %d, being at %d", d.name, u.name, r.Number, at.seq, d.place)
		d.get(it)
		return
	case it == nil:
		c.broken(r, StoredTwice, "device %s of %s got %d at %d, though everybody had it", d.name, u.name, r.Number, at.seq)
		c.advance(r, d, at.seq)
		return
	}
	if k.expires != 0 && it.begun > k.expires+second {
		c.broken(r, Expired, "device %s of %s got %d, published %v after its token had expired", d.name, u.name, r.Number, micros(it.begun-k.expires))
	}
	c.learn(r, u, it, at.seq)
	d.get(it)
	c.advance(r, d, at.seq)
	u.top = max(u.top, at.seq)
	c.arrived(r, it)
	c.settle(u, it)
}

// sameEpoch reports whether a cursor is of the incarnation of the stream that there
// is: none is made anew in a run.
func (c *Checker) sameEpoch(r *history.Record, u *user, at place) bool {
	if u.epoch == "" {
		u.epoch = at.epoch
	}
	if u.epoch == at.epoch {
		return true
	}
	c.broken(r, Groundless, "the inbox of %s is of epoch %s, and was of %s", u.name, at.epoch, u.epoch)
	return false
}

// gap takes the declaration that something is missing, which has to be true.
func (c *Checker) gap(r *history.Record, k *conn) {
	d, u := k.device, k.device.user
	c.report.Gaps++
	at, ok := c.place(r, r.Cursor)
	if !ok || !c.sameEpoch(r, u, at) {
		return
	}
	missing := 0
	for _, it := range u.items {
		if d.lacks(it) && (it.seq == 0 || it.seq > d.start) {
			missing++
			if it.seq == 0 || it.seq <= at.seq {
				d.miss(it)
			}
		}
	}
	if r.Code != "HISTORY_TRUNCATED" || missing < c.bounds.PerInbox {
		c.broken(r, Groundless, "device %s of %s is told of a gap (%s), and lacks %d", d.name, u.name, r.Code, missing)
	}
	d.place = max(d.place, at.seq)
}

// sorted returns the values of a map in the order of its keys.
func sorted[V any](m map[string]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}
