// Package verdict judges the history of a torture run, in one pass, by what the
// contract promises. It knows of the service only what a client can see, and that a
// cursor is an epoch and a sequence. What is not known, such as whether a publish that
// was not answered is stored, is never held against anybody.
//
// Of a notification it keeps something only as long as somebody may still get it, so
// what it needs grows with the users, and not with what happens.
package verdict

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// Kind is a promise that is broken.
type Kind string

const (
	Lost         Kind = "lost"         // acknowledged, and in nobody's list
	Hole         Kind = "hole"         // a device was led past a notification
	Reordered    Kind = "reordered"    // not in the stream's order, or not in that of its events
	Duplicated   Kind = "duplicated"   // a device got a notification again
	StoredTwice  Kind = "stored twice" // at two places of an inbox
	Foreign      Kind = "foreign"      // another one's, or never published
	Limit        Kind = "limit"        // more connections than there may be
	Expired      Kind = "expired"      // something after the end of the token, or an end before it
	Counted      Kind = "counted"      // the count is not what the list says
	Diverged     Kind = "diverged"     // at quiet two say different things of the read state
	Unmarked     Kind = "unmarked"     // an acknowledged mark is gone
	Undocumented Kind = "undocumented" // an answer or an end that is not in the contract, or not for this
	Groundless   Kind = "groundless"   // a gap where nothing is missing, or another epoch
	Away         Kind = "away"         // a device is not back at quiet, or has not got everything
	Leaked       Kind = "leaked"       // a process keeps more than it had
	Late         Kind = "late"         // something took longer than it may
	Unreadable   Kind = "unreadable"   // the history says what cannot be
)

// Violation is a promise that was broken, with the record that shows it.
type Violation struct {
	Kind Kind
	What string
	File string
	Line int
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: %s (%s:%d)", v.Kind, v.What, v.File, v.Line)
}

// Config says what a run may tolerate.
type Config struct {
	// Tolerated are kinds that are counted and told, and do not fail the run.
	Tolerated []Kind

	// PublishAgain is how long publishing may be held up by a stream leader that is
	// killed. 0 means 10 s.
	PublishAgain time.Duration

	// BackAgain is how long the connections of a node that was killed may take to be
	// back, their own back-off not counted. 0 means 5 s.
	BackAgain time.Duration

	// FirstAgain is how long the first notification may take to come after all NATS
	// servers were started again. 0 means 20 s.
	FirstAgain time.Duration

	// Memory, in percent, and Handles are how much more a process may use at the end
	// than it did. 0 means 5 and 3.
	Memory, Handles int

	// Aftermath is for how long after a fault it is a reason for what is refused. 0
	// means 30 s.
	Aftermath time.Duration
}

func (c Config) withDefaults() Config {
	or := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	or(&c.PublishAgain, 10*time.Second)
	or(&c.BackAgain, 5*time.Second)
	or(&c.FirstAgain, 20*time.Second)
	or(&c.Aftermath, 30*time.Second)
	if c.Memory == 0 {
		c.Memory = 5
	}
	if c.Handles == 0 {
		c.Handles = 3
	}
	return c
}

// Checker takes the records of a history in their order.
type Checker struct {
	cfg    Config
	bounds history.Bounds
	now    int64
	report Report

	users        map[string]*user
	devices      map[string]*device
	conns        map[string]*conn
	publications map[string]*publication
	faults       []*fault         // that are under way or in their aftermath
	loads        []history.Record // the latest
	calm         int64            // when the last of those that are forgotten was, of those that do harm
	usage        map[string]history.Record
	quiet        bool
	waiting      []*returning // devices that were cut off by a kill
}

// New makes a Checker.
func New(cfg Config) *Checker {
	return &Checker{
		cfg:          cfg.withDefaults(),
		users:        make(map[string]*user),
		devices:      make(map[string]*device),
		conns:        make(map[string]*conn),
		publications: make(map[string]*publication),
		usage:        make(map[string]history.Record),
		report:       Report{Violations: make(map[Kind]int), Faults: make(map[string]*FaultSummary), Refusals: make(map[string]int)},
	}
}

// publication is something that was sent to some users at once.
type publication struct {
	id       string
	begun    int64
	event    bool // a ticket event: acknowledged before it is told
	stored   bool // acknowledged
	final    bool
	answered int64 // when it was acknowledged first
	open     int   // recipients that are not settled
}

// Take judges the next record.
func (c *Checker) Take(r *history.Record) {
	c.now = r.At
	c.report.Records++
	c.expireFaults()
	switch r.Kind {
	case history.Run:
		if r.Bounds == nil {
			c.broken(r, Unreadable, "a run without bounds")
			return
		}
		c.bounds = *r.Bounds
		c.report.Seed, c.report.Began = r.Bounds.Seed, r.At
	case history.Publish:
		c.publish(r)
	case history.Answer:
		c.answer(r)
	case history.Final:
		c.final(r)
	case history.Dial:
		c.dial(r)
	case history.Open:
		c.open(r)
	case history.Refused:
		c.refused(r)
	case history.Received, history.Gap, history.State, history.Beat, history.Error:
		c.event(r)
	case history.End:
		c.end(r)
	case history.Gone:
		c.gone(r)
	case history.Mark:
		c.mark(r)
	case history.Fault:
		c.fault(r)
	case history.Healed:
		c.healed(r)
	case history.Quiet:
		c.quiet = true
	case history.Inbox:
		c.inbox(r)
	case history.Count:
		c.count(r)
	case history.Rest:
		c.rest(r)
	case history.Usage:
		c.use(r)
	case history.Load:
		c.load(r)
	default:
		c.broken(r, Unreadable, "unknown kind %q", r.Kind)
	}
}

// maxShown is how many violations of a kind are kept with their evidence.
const maxShown = 8

func (c *Checker) broken(r *history.Record, k Kind, format string, args ...any) {
	c.report.Violations[k]++
	if c.report.Violations[k] <= maxShown {
		c.report.First = append(c.report.First, Violation{k, fmt.Sprintf(format, args...), r.File, r.Line})
	}
}

// place is a cursor, taken apart.
type place struct {
	epoch string
	seq   uint64
}

// elsewhere is added to the number of a cursor that names no message of the inbox.
const elsewhere = 1 << 63

func (c *Checker) place(r *history.Record, cursor string) (place, bool) {
	epoch, digits, ok := strings.Cut(cursor, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || len(epoch) != 8 {
		c.broken(r, Undocumented, "%q is no cursor", cursor)
		return place{}, false
	}
	return place{epoch, seq &^ elsewhere}, true
}

func (c *Checker) publish(r *history.Record) {
	if _, ok := c.publications[r.Publication]; ok {
		c.broken(r, Unreadable, "publication %s begins twice", r.Publication)
		return
	}
	p := &publication{id: r.Publication, begun: r.At, event: r.Ticket != "", open: len(r.To)}
	c.publications[p.id] = p
	c.report.Published++
	for _, to := range r.To {
		u := c.user(to.User)
		if to.Number != u.begun+1 {
			c.broken(r, Unreadable, "%s of %s follows %d", p.id, to.User, u.begun)
			continue
		}
		u.begun++
		u.items[to.Number] = &item{publication: p, number: to.Number, after: u.top, ticket: r.Ticket, nth: r.Number}
	}
}

func (c *Checker) answer(r *history.Record) {
	p := c.publications[r.Publication]
	if p == nil {
		if !r.Again {
			c.broken(r, Unreadable, "an answer to %s, which is none", r.Publication)
		}
		return
	}
	c.report.Requests++
	switch r.Outcome {
	case history.Stored:
		if r.Again && r.Stores > 0 {
			c.broken(r, StoredTwice, "%s was acknowledged, and a retry stored it %d times", p.id, r.Stores)
		}
		if r.Again {
			c.report.Retried++
		}
		if !p.stored {
			p.stored, p.answered = true, r.At
			c.report.Acknowledged++
			c.held(r, p)
		}
	case history.Unknown:
		c.report.NoAnswer++
	case history.Denied:
		c.report.Refusals[fmt.Sprintf("publish %d %s", r.Status, r.Code)]++
		if !c.mayRefusePublish(r) {
			c.broken(r, Undocumented, "%s was answered %d %s%s", p.id, r.Status, r.Code, c.without())
		}
	}
}

func (c *Checker) final(r *history.Record) {
	p := c.publications[r.Publication]
	if p == nil {
		c.broken(r, Unreadable, "the end of %s, which is none", r.Publication)
		return
	}
	p.final = true
	if !p.stored {
		c.report.Unknown++
	}
	if p.open == 0 {
		delete(c.publications, p.id)
	}
	for _, to := range r.To {
		u := c.user(to.User)
		if it := u.items[to.Number]; it != nil {
			c.settle(u, it)
		}
	}
}

// mayRefusePublish reports whether the contract has this answer for a publish that is
// as it should be.
func (c *Checker) mayRefusePublish(r *history.Record) bool {
	switch {
	case c.mayBeUnavailable(r):
		return true
	case r.Status == 401 && r.Code == "UNAUTHENTICATED":
		return c.suffers(Rotation)
	}
	return false
}

func (c *Checker) without() string {
	if c.troubled() {
		return ""
	}
	return ", without a fault"
}

// Live returns how many notifications it keeps something of.
func (c *Checker) Live() (n int) {
	for _, u := range c.users {
		n += len(u.items)
	}
	return n
}

// End judges what is missing at the end of the history and returns what was found.
func (c *Checker) End() *Report {
	last := &history.Record{At: c.now, File: "end", Line: c.report.Records}
	for _, u := range sorted(c.users) {
		c.limit(last, u)
		c.unheard(last, u)
	}
	for _, f := range c.faults {
		c.sum(last, f)
	}
	c.faults = nil
	for _, w := range c.waiting {
		c.notBack(last, w)
	}
	c.tooBusy(last)
	c.report.Ended = c.now
	c.report.Users, c.report.Devices = len(c.users), len(c.devices)+c.report.Gone
	for k, n := range c.report.Violations {
		if !slices.Contains(c.cfg.Tolerated, k) {
			c.report.Failed += n
		}
	}
	c.report.Tolerated = c.cfg.Tolerated
	return &c.report
}
