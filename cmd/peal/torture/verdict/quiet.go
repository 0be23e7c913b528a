package verdict

import (
	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// maxMarks is how many marks by id of a user are remembered.
const maxMarks = 64

// mark notes what is read for certain, and what may be.
func (c *Checker) mark(r *history.Record) {
	u := c.user(r.User)
	c.report.Requests++
	if r.Outcome == history.Denied {
		c.report.Refusals["mark "+r.Code]++
		if !c.mayRefusePublish(r) {
			c.broken(r, Undocumented, "a mark of %s was answered %d %s%s", u.name, r.Status, r.Code, c.without())
		}
	}
	if r.Cursor != "" {
		at, ok := c.place(r, r.Cursor)
		if !ok {
			return
		}
		u.triedUpTo = max(u.triedUpTo, at.seq)
		if r.Outcome == history.Stored {
			u.readUpTo = max(u.readUpTo, at.seq)
		}
	}
	u.tried += len(r.Numbers)
	if r.Outcome != history.Stored {
		return
	}
	c.report.Marks++
	for _, n := range r.Numbers {
		u.marks = append(u.marks, n)
		if len(u.marks) > maxMarks {
			u.marks = u.marks[1:]
		}
	}
}

// inbox holds the list of a user against what is known, and takes from it where each
// notification is stored.
func (c *Checker) inbox(r *history.Record) {
	u := c.user(r.User)
	u.listed, u.unread, u.total, u.version = true, 0, len(r.Entries), r.Version
	last := place{seq: 1 << 63}
	seen := make(map[int]bool, len(r.Entries))
	beyond := 0 // read entries beyond what was marked up to
	for _, e := range r.Entries {
		at, ok := c.place(r, e.Cursor)
		if !ok || !c.sameEpoch(r, u, at) {
			return
		}
		if at.seq >= last.seq {
			c.broken(r, Reordered, "the list of %s has %d at %s, below %d", u.name, e.Number, e.Cursor, last.seq)
		}
		last = at
		switch {
		case e.Number < 1 || e.Number > u.begun:
			c.broken(r, Foreign, "the list of %s has %d, which was never published", u.name, e.Number)
			continue
		case seen[e.Number]:
			c.broken(r, StoredTwice, "the list of %s has %d twice", u.name, e.Number)
			continue
		}
		seen[e.Number] = true
		if it := u.items[e.Number]; it != nil {
			c.learn(r, u, it, at.seq)
		}
		switch {
		case !e.Read:
			u.unread++
			if at.seq <= u.readUpTo {
				c.broken(r, Unmarked, "%d of %s is at %d and unread, and everything up to %d was marked", e.Number, u.name, at.seq, u.readUpTo)
			}
		case at.seq > u.triedUpTo:
			beyond++
		}
	}
	for _, e := range r.Entries {
		for _, n := range u.marks {
			if n == e.Number && !e.Read {
				c.broken(r, Unmarked, "%d of %s is unread, and was marked", n, u.name)
			}
		}
	}
	if beyond > u.tried {
		c.broken(r, Unmarked, "%d of %s are read, and only %d were ever marked", beyond, u.name, u.tried)
	}
	if r.Unread != u.unread {
		c.broken(r, Counted, "%s counts %d unread of %s, and the list has %d", r.Node, r.Unread, u.name, u.unread)
	}
	if len(r.Entries) >= c.bounds.PerInbox {
		return
	}
	lost := 0
	for _, it := range sortedItems(u) {
		if it.stored && it.seq == 0 {
			lost++
			c.broken(r, Lost, "%d of %s (%s) was acknowledged, and is not in the list", it.number, u.name, it.id)
		}
	}
	if len(seen) < u.known && lost == 0 {
		c.broken(r, Lost, "the list of %s has %d, and %d were seen", u.name, len(seen), u.known)
	}
}

func sortedItems(u *user) []*item {
	all := make([]*item, 0, len(u.items))
	for n := 1; len(all) < len(u.items) && n <= u.begun; n++ {
		if it := u.items[n]; it != nil {
			all = append(all, it)
		}
	}
	return all
}

// count holds what another node says of an inbox against the list.
func (c *Checker) count(r *history.Record) {
	u := c.user(r.User)
	if !u.listed {
		c.broken(r, Unreadable, "%s is counted and not listed", u.name)
		return
	}
	if r.Unread != u.unread || r.Version != u.version {
		c.broken(r, Diverged, "%s says of %s: %d unread, version %s; the list: %d, %s", r.Node, u.name, r.Unread, r.Version, u.unread, u.version)
	}
}

// rest judges what a device shows and lacks at quiet. It knows that itself, of what
// came.
func (c *Checker) rest(r *history.Record) {
	d := c.devices[r.Device]
	if d == nil {
		c.broken(r, Unreadable, "device %s rests, which is none", r.Device)
		return
	}
	u := d.user
	u.atRest++
	if d.conn == nil {
		if u.refused == nil {
			kept := *r
			u.refused = &kept
		}
		return
	}
	u.resting++
	if !u.listed {
		return // which is told at the end
	}
	for _, it := range sortedItems(u) {
		if it.seq > d.start && d.lacks(it) {
			c.broken(r, Away, "device %s of %s has not got %d (%s), which is at %d; it is at %d", d.name, u.name, it.number, it.id, it.seq, d.place)
			d.miss(it)
		}
	}
	if d.unread != u.unread || d.version != u.version {
		c.broken(r, Diverged, "device %s of %s shows %d unread, version %s; the list: %d, %s", d.name, u.name, d.unread, d.version, u.unread, u.version)
	}
}

// unheard judges a user of whom nothing more will be heard.
func (c *Checker) unheard(r *history.Record, u *user) {
	if !u.listed && u.begun > 0 {
		c.broken(r, Unreadable, "%s was not listed", u.name)
	}
	if want := min(u.atRest, c.bounds.Limit); u.resting < want {
		c.broken(u.refused, Away, "%d of %d devices of %s are back at quiet, want %d", u.resting, u.atRest, u.name, want)
	}
}

// use holds what a process uses when all is over against what it used before.
func (c *Checker) use(r *history.Record) {
	if r.Phase == history.Base {
		had := c.usage[r.Node]
		if r.RSS != 0 {
			had.RSS = r.RSS
		}
		if r.Descriptors != 0 {
			had.Descriptors, had.Goroutines, had.Subscriptions = r.Descriptors, r.Goroutines, r.Subscriptions
		}
		c.usage[r.Node] = had
		return
	}
	had, ok := c.usage[r.Node]
	if !ok {
		c.broken(r, Unreadable, "it is not known what %s used before", r.Node)
		return
	}
	if r.RSS != 0 && r.RSS*100 > had.RSS*int64(100+c.cfg.Memory) {
		c.broken(r, Leaked, "%s takes %d bytes, and took %d", r.Node, r.RSS, had.RSS)
	}
	for _, x := range []struct {
		what      string
		have, had int
	}{
		{"descriptors", r.Descriptors, had.Descriptors},
		{"goroutines", r.Goroutines, had.Goroutines},
		{"subscriptions", r.Subscriptions, had.Subscriptions},
	} {
		if r.Descriptors != 0 && x.have > x.had+c.cfg.Handles {
			c.broken(r, Leaked, "%s has %d %s, and had %d", r.Node, x.have, x.what, x.had)
		}
	}
}
