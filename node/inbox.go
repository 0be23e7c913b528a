package node

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

const (
	defaultPage = 50
	maxPage     = 200
	maxWait     = 60  // seconds
	maxMarked   = 500 // ids
)

// count answers GET …/ticket/notification/count: how many notifications the
// caller has, and how many of them are unread.
func (n *Node) count(w http.ResponseWriter, r *request) error {
	if err := r.plain(); err != nil {
		return err
	}
	caller, err := n.reader(r)
	if err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	began := time.Now()
	c, err := n.bus.Count(r.Context(), caller.Inbox)
	if err != nil {
		return err
	}
	n.metrics.took("count", began)
	return answerJSON(w, http.StatusOK, counted{
		Unread: c.Unread, Total: c.Total, Truncated: c.Truncated, ReadState: c.ReadState.String(),
		UnreadByPriority: byPriority{
			c.UnreadByPriority[peal.Urgent], c.UnreadByPriority[peal.High], c.UnreadByPriority[peal.Medium], c.UnreadByPriority[peal.Low],
		},
	})
}

// counted is the answer of count.
type counted struct {
	Unread           int        `json:"unread"`
	Total            int        `json:"total"`
	UnreadByPriority byPriority `json:"unreadByPriority"`
	Truncated        bool       `json:"truncated"`
	ReadState        string     `json:"readState"`
}

// byPriority is a number for each priority.
type byPriority struct {
	Urgent int `json:"urgent"`
	High   int `json:"high"`
	Medium int `json:"medium"`
	Low    int `json:"low"`
}

// list answers GET …/ticket/notification/list: a page of the caller's
// notifications, newest first, or with a cursor to poll from what came after it,
// oldest first.
func (n *Node) list(w http.ResponseWriter, r *request) error {
	q, err := r.listing()
	if err != nil {
		return err
	}
	if err := r.empty(); err != nil {
		return err
	}
	caller, err := n.authenticate(r, auth.Connect)
	if err != nil {
		return err
	}
	if q.waits() {
		err = n.admitPoll(r, caller.Inbox)
	} else {
		err = n.admit(r, caller.Inbox)
	}
	if err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	if q.polls() {
		return n.poll(w, r, caller, q)
	}
	began := time.Now()
	page, err := n.bus.List(r.Context(), caller.Inbox, q.Query)
	if err != nil {
		return err
	}
	n.metrics.took("list", began)
	all := make([]listed, len(page.Entries))
	for i, e := range page.Entries {
		all[i] = listed{e.Cursor, e.Data}
	}
	return n.answerList(w, all, pageEnd{orNull(page.Next), page.Cursor.String(), page.ReadState.String()})
}

// pageEnd is what a page says besides its notifications.
type pageEnd struct {
	Next      *string `json:"next"` // nil: there are no older ones
	Cursor    string  `json:"cursor"`
	ReadState string  `json:"readState"`
}

// orNull is a cursor as JSON has it: null for none.
func orNull(c bus.Cursor) *string {
	if c.IsZero() {
		return nil
	}
	s := c.String()
	return &s
}

// reader returns who reads or marks their own inbox, which is for whoever may
// connect, if they are not too fast.
func (n *Node) reader(r *request) (auth.Caller, error) {
	caller, err := n.authenticate(r, auth.Connect)
	if err != nil {
		return auth.Caller{}, err
	}
	return caller, n.admit(r, caller.Inbox)
}

// maxUnfinished is how many calls to their inbox and preferences a user may have
// under way on a node: an answer that nobody reads stays in memory for the write
// timeout, and may be of 3 MB.
const maxUnfinished = 16

// admit refuses a call of a user who makes too many, or does not wait for what was
// asked before.
func (n *Node) admit(r *request, in peal.Inbox) error {
	if err := n.requests.take(in, time.Now()); err != nil {
		return err
	}
	if !n.unfinished.take(in) {
		return &tooFast{"unfinished", time.Second}
	}
	r.atEnd = append(r.atEnd, func() { n.unfinished.release(in) })
	return nil
}

// admitPoll is admit for a poll that waits, which is a connection of its user: it
// takes one of the slots of these, and leaves the other places to those who do not wait.
func (n *Node) admitPoll(r *request, in peal.Inbox) error {
	if err := n.requests.take(in, time.Now()); err != nil {
		return err
	}
	return n.mayOpen(r, in)
}

// listing is the query of a list.
type listing struct {
	bus.Query

	after bus.Cursor // zero: it does not poll
	wait  time.Duration
}

// polls reports whether what comes after a cursor is asked for.
func (q listing) polls() bool { return !q.after.IsZero() }

// waits reports whether it is to be waited for something that comes.
func (q listing) waits() bool { return q.wait > 0 }

// listing reads the query of a list. What stands there besides is passed over,
// as for a connect.
func (r *request) listing() (q listing, err error) {
	values, err := r.query()
	if err != nil {
		return listing{}, err
	}
	q.Limit = defaultPage
	for _, p := range []struct {
		name string
		read func(string) error
	}{
		{"limit", func(v string) (err error) { q.Limit, err = number("limit", v, maxPage); return err }},
		{"before", func(v string) (err error) { q.Before, err = cursor("before", v); return err }},
		{"after", func(v string) (err error) { q.after, err = cursor("after", v); return err }},
		{"wait", func(v string) error {
			seconds, err := number("wait", v, maxWait)
			q.wait = time.Duration(seconds) * time.Second
			return err
		}},
		{"unread", func(v string) error {
			if v != "true" && v != "false" {
				return peal.Invalid("unread", "must be true or false")
			}
			q.Unread = v == "true"
			return nil
		}},
		{"ticketId", func(v string) error { q.TicketID = v; return peal.CheckID("ticketId", v) }},
	} {
		given := values[p.name]
		if len(given) > 1 {
			return listing{}, peal.Invalid(p.name, "must be given once")
		}
		if len(given) == 1 {
			if err := p.read(given[0]); err != nil {
				return listing{}, err
			}
		}
	}
	for _, v := range values["type"] {
		if q.Types = append(q.Types, peal.Type(v)); !peal.Type(v).Valid() {
			return listing{}, peal.Invalid("type", "must be a type of notification")
		}
	}
	for _, v := range values["priority"] {
		if q.Priorities = append(q.Priorities, peal.Priority(v)); !peal.Priority(v).Valid() {
			return listing{}, peal.Invalid("priority", "must be low, medium, high or urgent")
		}
	}
	return q, alone(values)
}

// alone refuses parameters that do not go together: a page is asked for or what
// comes after a cursor.
func alone(values url.Values) error {
	if !values.Has("after") {
		if values.Has("wait") {
			return peal.Invalid("wait", "needs after: the cursor to wait for more at")
		}
		return nil
	}
	for _, name := range []string{"before", "unread", "type", "priority", "ticketId"} {
		if values.Has(name) {
			return peal.Invalid(name, "does not go with after, which asks for everything that came later")
		}
	}
	return nil
}

// number reads a parameter that is 1 to most, in digits.
func number(name, v string, most int) (int, error) {
	i, err := strconv.Atoi(v)
	if err != nil || i < 1 || i > most || strconv.Itoa(i) != v {
		return 0, peal.Invalid(name, fmt.Sprintf("must be a number from 1 to %d", most))
	}
	return i, nil
}

// cursor reads a cursor that has to be one.
func cursor(name, v string) (bus.Cursor, error) {
	c := bus.ParseCursor(v)
	if c.IsZero() || c == bus.Unknown {
		return bus.Cursor{}, peal.Invalid(name, "must be a cursor")
	}
	return c, nil
}

// marking is the body of PUT …/ticket/notification/read. Exactly one of the first
// three is given.
type marking struct {
	IDs  []string `json:"ids"`
	UpTo *string  `json:"upTo"`
	All  *bool    `json:"all"`
	Read *bool    `json:"read"` // nil: true
}

// mark answers PUT …/ticket/notification/read: the caller has read some of their
// notifications, or wants them unread again. What they do not have changes
// nothing, and nothing shows whether somebody else has it.
func (n *Node) mark(w http.ResponseWriter, r *request) error {
	var body marking
	caller, refused, err := n.identify(w, r, auth.Connect, &body)
	if err != nil {
		return err
	}
	m, err := body.meant()
	if err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	if err := n.admit(r, caller.Inbox); err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	began := time.Now()
	marked, err := n.bus.Mark(r.Context(), caller.Inbox, m)
	if err != nil {
		return err
	}
	n.metrics.took("read", began)
	return answerJSON(w, http.StatusOK, markedAnswer{marked.Changed, marked.Unread})
}

type markedAnswer struct {
	Changed int `json:"changed"`
	Unread  int `json:"unread"`
}

// meant makes a mark of a body that is valid.
func (b marking) meant() (m bus.Mark, err error) {
	given := 0
	for _, is := range []bool{b.IDs != nil, b.UpTo != nil, b.All != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return m, peal.Invalid("body", "must have exactly one of ids, upTo and all")
	}
	m.Unread = b.Read != nil && !*b.Read
	switch {
	case b.All != nil:
		if !*b.All {
			return m, peal.Invalid("all", "must be true")
		}
		if m.Unread {
			return m, peal.Invalid("read", "must not be false with all")
		}
		m.All = true
	case b.UpTo != nil:
		m.UpTo, err = cursor("upTo", *b.UpTo)
	default:
		m.IDs = b.IDs
		err = checkIDs(b.IDs)
	}
	return m, err
}

func checkIDs(ids []string) error {
	if len(ids) == 0 || len(ids) > maxMarked {
		return peal.Invalid("ids", "must be 1 to 500")
	}
	for i, id := range ids {
		if err := peal.CheckID(fmt.Sprintf("ids[%d]", i), id); err != nil {
			return err
		}
	}
	return nil
}

// listed is a notification of a list.
type listed struct {
	at   bus.Cursor
	data []byte // one line of JSON; not to be changed
}

// answerList answers with notifications, each with its cursor, and with what
// rest, an object, says besides. The notifications are passed on as they are
// stored, byte by byte.
func (n *Node) answerList(w http.ResponseWriter, all []listed, rest any) error {
	size := 1 << 10
	for _, one := range all {
		size += len(one.data) + 64 // for the cursor
	}
	leave, err := n.answers.enter(size)
	if err != nil {
		return err
	}
	defer leave()
	body := append(make([]byte, 0, size), `{"notifications":[`...)
	for _, one := range all {
		before := len(body)
		if body[before-1] == '}' {
			body = append(body, ',')
		}
		var ok bool
		if body, ok = appendListed(body, one); !ok {
			// Stored by whoever has rights on the bus, past us: see conn.Deliver.
			n.metrics.unsendable.Inc()
			body = body[:before]
		}
	}
	body = append(body, ']', ',')
	body = append(body, encode(rest)[1:]...)

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if n.draining.Load() {
		h.Set("Connection", "close") // it may have waited here since before
	}
	w.WriteHeader(http.StatusOK)
	w.Write(append(body, '\n'))
	return nil
}

// appendListed adds a notification with its cursor as the last member. ok is
// false if what is stored is no JSON object, or has a cursor already: then what
// was added is not to be used.
func appendListed(b []byte, one listed) (_ []byte, ok bool) {
	begin := len(b)
	object, ok := bytes.CutSuffix(bytes.TrimSpace(one.data), []byte("}"))
	if !ok || len(object) == 0 || object[0] != '{' {
		return b, false
	}
	b = append(b, object...)
	if len(object) > 1 {
		b = append(b, ',')
	}
	b = append(b, `"cursor":"`...)
	b = append(b, one.at.String()...)
	b = append(b, `"}`...)
	return b, intake.Raw(b[begin:]).IsValid()
}
