package verdict

import (
	"fmt"
	"slices"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

const second = int64(time.Second / time.Microsecond)

func micros(n int64) time.Duration {
	return (time.Duration(n) * time.Microsecond).Round(time.Millisecond)
}

// conn is a connection, or the attempt at one.
type conn struct {
	name    string
	node    string
	device  *device
	asked   string
	open    bool // it may be there
	greeted bool // it is certain that it was
	slow    bool
	expires int64

	// It is there from, as the service says, until it was heard of last, as the
	// service says. How much longer is not known: what is read late was sent earlier.
	from, until int64
	ended       int64  // as the device knows
	checked     bool   // whether there were too many when it was opened
	last        string // the code of its error event
}

func (c *Checker) dial(r *history.Record) {
	c.report.Requests++
	d := c.devices[r.Device]
	if d == nil {
		d = &device{name: r.Device, user: c.user(r.User), bit: -1}
		c.devices[r.Device] = d
	}
	if d.user.name != r.User {
		c.broken(r, Unreadable, "device %s is of %s and of %s", r.Device, d.user.name, r.User)
		return
	}
	if !c.join(r, d) {
		return
	}
	d.dials = !d.began
	k := &conn{name: r.Conn, node: r.Node, device: d, asked: r.Asked, open: true}
	c.conns[r.Conn] = k
	d.user.spans = append(d.user.spans, k) // it may be let in before we know
}

// find returns the connection of a record.
func (c *Checker) find(r *history.Record) *conn {
	k := c.conns[r.Conn]
	if k == nil {
		c.broken(r, Unreadable, "%s of connection %s, which is none", r.Kind, r.Conn)
	}
	return k
}

func (c *Checker) open(r *history.Record) {
	k := c.find(r)
	if k == nil {
		return
	}
	d, u := k.device, k.device.user
	d.dials = false
	c.report.Connects++
	k.greeted, k.expires, k.from, k.until, k.slow = true, r.Expires, r.Server, r.Server, r.Slow
	d.conn, d.unread, d.version = k, r.Unread, r.Version
	c.back(r, d)
	if k.expires != 0 && r.Server > k.expires+second {
		c.broken(r, Expired, "device %s was let in %v after its token had expired", d.name, micros(r.Server-k.expires))
	}
	switch {
	case r.Cursor == "" && !r.Recovered && k.asked != "":
		return // a gap follows
	case r.Cursor == "":
		c.broken(r, Undocumented, "connection %s begins without a cursor", k.name)
		return
	case r.Recovered != (k.asked != ""):
		c.broken(r, Undocumented, "connection %s asked to go on after %q and is told recovered: %v", k.name, k.asked, r.Recovered)
	}
	at, ok := c.place(r, r.Cursor)
	if !ok || !c.sameEpoch(r, u, at) {
		return
	}
	if !d.began {
		d.began, d.start, d.place = true, at.seq, at.seq
		return
	}
	c.advance(r, d, at.seq)
}

func (c *Checker) refused(r *history.Record) {
	k := c.find(r)
	if k == nil {
		return
	}
	delete(c.conns, r.Conn)
	if k.device.dials {
		k.device.dials = false
		c.settleAll(k.device.user)
	}
	k.open, k.ended = false, r.At
	if u := k.device.user; r.Status != 0 && r.Status != 503 { // the service says that it is not there, and has left nothing
		u.spans = slices.DeleteFunc(u.spans, func(other *conn) bool { return other == k })
	}
	if r.Status == 0 {
		c.report.Refusals["connect, no answer"]++
		return
	}
	c.report.Refusals[fmt.Sprintf("connect %d %s", r.Status, r.Code)]++
	switch {
	case r.Status == 429 && r.Code == "RATE_LIMIT":
		return
	case r.Status == 429 && r.Code == "CONNECTION_LIMIT":
		if !c.mayBeFull(k.device.user) {
			c.broken(r, Undocumented, "device %s of %s is over the limit, and no other may be there", k.device.name, k.device.user.name)
		}
		return
	case c.mayBeUnavailable(r):
		return
	case r.Status == 401 && r.Code == "UNAUTHENTICATED" && (c.suffers(Rotation) || k.expires != 0 && r.At > k.expires):
		return
	}
	c.broken(r, Undocumented, "device %s of %s is refused with %d %s%s", k.device.name, k.device.user.name, r.Status, r.Code, c.without())
}

// How long a connection may still count after the last that was heard of it: until
// its end is noticed, and where a node is stopped or away until its slot expires.
const (
	freedIn  = 5 * second
	slotsFor = 60 * second
)

// mayBeFull reports whether there may have been as many connections of a user as may
// be, counting all that were there of late.
func (c *Checker) mayBeFull(u *user) bool {
	linger := freedIn
	if c.troubled() || c.calm > 0 && c.now-c.calm < slotsFor {
		linger = slotsFor
	}
	n := 0
	for _, k := range u.spans {
		if k.open || c.now-max(k.until, k.ended) < linger {
			n++
		}
	}
	return n >= c.bounds.Limit
}

// event takes what comes on a connection.
func (c *Checker) event(r *history.Record) {
	k := c.find(r)
	if k == nil {
		return
	}
	if !k.greeted {
		c.broken(r, Undocumented, "connection %s begins with %s", k.name, r.Kind)
		return
	}
	if k.last != "" {
		c.broken(r, Undocumented, "connection %s goes on with %s after %s", k.name, r.Kind, k.last)
	}
	switch d := k.device; r.Kind {
	case history.Received:
		c.received(r, k)
	case history.Gap:
		c.gap(r, k)
	case history.State:
		d.unread, d.version = r.Unread, r.Version
	case history.Beat:
		k.until = max(k.until, r.Server)
		if k.expires != 0 && r.Server > k.expires+second {
			c.broken(r, Expired, "a heartbeat %v after the token of device %s had expired", micros(r.Server-k.expires), d.name)
		}
	case history.Error:
		k.last = r.Code
		c.lastWord(r, k)
	}
}

// lastWord judges the reason for which the service ends a connection.
func (c *Checker) lastWord(r *history.Record, k *conn) {
	c.report.Refusals["ended "+r.Code]++
	may := false
	switch r.Code {
	case "TOKEN_EXPIRED":
		if may = true; r.At < k.expires {
			c.broken(r, Expired, "connection %s is ended %v before its token expires", k.name, micros(k.expires-r.At))
		}
	case "DRAINING":
		may = c.suffers(Rolling)
	case "SLOW_CLIENT":
		may = k.slow || c.troubled()
	case "SUBSCRIPTION_ERROR", "CONNECTION_LIMIT":
		may = c.troubled()
	}
	if !may {
		c.broken(r, Undocumented, "connection %s is ended by %s%s", k.name, r.Code, c.without())
	}
}

// endSlack is how much later than at the end of its token a connection may seem to
// end, for it is we who are late.
const endSlack = 10 * second

func (c *Checker) end(r *history.Record) {
	k := c.find(r)
	if k == nil {
		return
	}
	delete(c.conns, r.Conn)
	if !k.greeted {
		return
	}
	k.open, k.ended = false, r.At
	d := k.device
	if d.conn == k {
		d.conn = nil
	}
	switch r.How {
	case history.Clean:
		c.broken(r, Undocumented, "connection %s is ended as though it were complete", k.name)
	case history.Cut:
		if k.last == "" {
			c.report.CutOff++
			if !c.cuts(k.node) && !k.slow {
				c.broken(r, Undocumented, "connection %s on %s is cut off without a word, and its node was not killed", k.name, k.node)
			}
		}
		c.cutOff(r, k)
	}
	if k.expires != 0 && r.At > k.expires+second+endSlack && !k.slow && !c.troubled() {
		c.broken(r, Expired, "connection %s ends %v after its token", k.name, micros(r.At-k.expires))
	}
	c.limit(r, d.user)
}

// limit looks whether there were ever more connections of a user than there may be:
// when one was opened, for only then can there be one too many. Only what is certain
// counts: that a connection was there between two things that the service said on it.
func (c *Checker) limit(r *history.Record, u *user) {
	for _, k := range u.spans {
		if !k.greeted {
			continue
		}
		n := 0
		for _, other := range u.spans {
			if other.greeted && other.from <= k.from && k.from <= other.until {
				n++
			}
		}
		if n > c.bounds.Limit && !k.checked {
			k.checked = true
			c.broken(r, Limit, "%s has %d connections at once, the last of them %s, on %s", u.name, n, k.name, k.node)
		}
	}
	u.spans = slices.DeleteFunc(u.spans, func(k *conn) bool { return !k.open && c.now-max(k.until, k.ended) > 2*slotsFor })
}
