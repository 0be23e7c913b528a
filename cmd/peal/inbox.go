package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pealhq/peal"
)

// inboxCommands are the words after peal inbox.
func inboxCommands() []command {
	return []command{
		{"list", "--user USER [--unread] [--limit N] [--type TYPE]… [--priority PRIORITY]… [--ticket ID] [--before CURSOR] [flags]",
			"list notifications, newest first", inboxList},
		{"count", "--user USER [flags]", "count notifications, and those that are unread", inboxCount},
		{"read", "--user USER (--id ID… | --up-to CURSOR | --all) [--unread] [flags]",
			"mark notifications as read, or as unread again", inboxRead},
		{"pref", "--user USER [--set JSON|FILE|- [--if-match ETAG]] [flags]",
			"show or set the preferences", inboxPref},
	}
}

// inbox answers peal inbox: a user's own notifications. A terminal gets tables,
// anything else the service's answer on one line.
func inbox(ctx context.Context, c *call) error { return c.choose(ctx, inboxCommands()) }

// reader calls the API as the owner of an inbox.
type reader struct {
	call   *call
	target *target
	json   *bool
}

// reader adds the flags that every command of an inbox has.
func (c *call) reader(fs *flag.FlagSet) *reader {
	r := &reader{call: c, target: c.target(fs)}
	fs.StringVar(&r.target.user, "user", "", "`USER` whose inbox it is, of a running peal dev")
	r.json = fs.Bool("json", false, "print the service's answer, also on a terminal")
	return r
}

// parse reads the flags.
func (r *reader) parse(fs *flag.FlagSet) error {
	if err := r.call.parse(fs, r.call.args); err != nil {
		return err
	}
	return r.target.owned()
}

// ask calls the API. What it has answered is JSON, or nothing.
func (r *reader) ask(ctx context.Context, method, path string, extra http.Header, body any) (answer []byte, answered http.Header, err error) {
	headers, err := r.target.resolve()
	if err != nil {
		return nil, nil, err
	}
	header, err := headers(ctx)
	if err != nil {
		return nil, nil, err
	}
	for name, values := range extra {
		header[name] = values
	}
	answer, answered, err = r.target.send(ctx, method, header, path, body)
	if err != nil {
		return nil, nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, answer); err != nil && len(answer) > 0 {
		return nil, nil, fmt.Errorf("an answer that is none: %w", err)
	}
	return line.Bytes(), answered, nil
}

// print prints an answer: on a terminal as show does it, which is given how many
// columns there are.
func (r *reader) print(answer []byte, show func(w io.Writer, columns int) error) error {
	if columns, is := terminalOf(r.call.stdout); is && !*r.json {
		return show(r.call.stdout, columns)
	}
	_, err := fmt.Fprintf(r.call.stdout, "%s\n", answer)
	return err
}

// A page of a list has as many notifications as this.
const (
	defaultPage = 50
	maxPage     = 200
)

// inboxList answers peal inbox list.
func inboxList(ctx context.Context, c *call) error {
	fs := c.flags()
	r := c.reader(fs)
	unread := fs.Bool("unread", false, "only those that are unread")
	limit := fs.Int("limit", defaultPage, "at most `N`, up to 200")
	var types, priorities list
	fs.Var(&types, "type", "only those of `TYPE`; may be repeated: "+typeNames())
	fs.Var(&priorities, "priority", "only those of `PRIORITY`; may be repeated: low medium high urgent")
	ticket := fs.String("ticket", "", "only those of the ticket of this `ID`")
	before := fs.String("before", "", "only those before this `CURSOR`: what the page before ended with")
	if err := r.parse(fs); err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(*limit)}}
	if *limit < 1 || *limit > maxPage {
		return usagef("--limit must be 1 to %d", maxPage)
	}
	if *unread {
		query.Set("unread", "true")
	}
	for _, t := range types {
		if !peal.Type(t).Valid() {
			return usagef("--type must be one of %s", typeNames())
		}
		query.Add("type", t)
	}
	for _, p := range priorities {
		if !peal.Priority(p).Valid() {
			return usagef("--priority must be low, medium, high or urgent")
		}
		query.Add("priority", p)
	}
	if err := setText(fs, query, "ticket", "ticketId", *ticket); err != nil {
		return err
	}
	if err := setCursor(fs, query, "before", *before); err != nil {
		return err
	}
	answer, _, err := r.ask(ctx, http.MethodGet, "/ticket/notification/list?"+query.Encode(), nil, nil)
	if err != nil {
		return err
	}
	var page page
	if err := readAnswer(answer, &page); err != nil {
		return err
	}
	return r.print(answer, page.show)
}

// setText sets a parameter of a query to what a flag was given.
func setText(fs *flag.FlagSet, query url.Values, name, parameter, value string) error {
	if !isGiven(fs, name) {
		return nil
	}
	if value == "" {
		return usagef("--%s must not be empty", name)
	}
	query.Set(parameter, value)
	return nil
}

// setCursor sets a parameter of a query to a cursor.
func setCursor(fs *flag.FlagSet, query url.Values, name, value string) error {
	if isGiven(fs, name) && !isCursor(value) {
		return usagef("--%s must be a cursor, as the list has them", name)
	}
	return setText(fs, query, name, name, value)
}

// isCursor reports whether a text can be a cursor; what it says is the service's
// to read.
func isCursor(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// page is the answer to list, as far as a table shows it.
type page struct {
	Notifications []struct {
		peal.Notification
		Cursor string `json:"cursor"`
	} `json:"notifications"`
	Next *string `json:"next"`
}

func (p page) show(w io.Writer, columns int) error {
	if len(p.Notifications) == 0 {
		_, err := fmt.Fprintln(w, "No notifications.")
		return err
	}
	rows := [][]string{{"TIME", " ", "TYPE", "PRIORITY", "TICKET", "TITLE"}}
	for _, n := range p.Notifications {
		dot := "●"
		if n.Read {
			dot = " "
		}
		rows = append(rows, []string{
			n.CreatedAt.Local().Format("2006-01-02 15:04"), dot, string(n.Type), string(n.Priority), clamp(plain(n.TicketNumber), 24), n.Title,
		})
	}
	if err := table(w, columns, rows); err != nil || p.Next == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "There are older ones: --before %s\n", plain(*p.Next))
	return err
}

// inboxCount answers peal inbox count.
func inboxCount(ctx context.Context, c *call) error {
	fs := c.flags()
	r := c.reader(fs)
	if err := r.parse(fs); err != nil {
		return err
	}
	answer, _, err := r.ask(ctx, http.MethodGet, "/ticket/notification/count", nil, nil)
	if err != nil {
		return err
	}
	var n counts
	if err := readAnswer(answer, &n); err != nil {
		return err
	}
	return r.print(answer, n.show)
}

// counts is the answer to count, as far as a table shows it.
type counts struct {
	Unread           int                   `json:"unread"`
	Total            int                   `json:"total"`
	UnreadByPriority map[peal.Priority]int `json:"unreadByPriority"`
	Truncated        bool                  `json:"truncated"`
}

func (n counts) show(w io.Writer, columns int) error {
	rows := [][]string{{"unread", fmt.Sprintf("%d of %d", n.Unread, n.Total)}}
	for _, p := range []peal.Priority{peal.Urgent, peal.High, peal.Medium, peal.Low} {
		rows = append(rows, []string{"  " + string(p), strconv.Itoa(n.UnreadByPriority[p])})
	}
	if n.Truncated {
		rows = append(rows, []string{"truncated", "older ones were unread too, and are not kept any more"})
	}
	return table(w, columns, rows)
}

// marking is the body of a call to read.
type marking struct {
	IDs  []string `json:"ids,omitempty"`
	UpTo string   `json:"upTo,omitempty"`
	All  bool     `json:"all,omitempty"`
	Read *bool    `json:"read,omitempty"`
}

const maxMarked = 500 // ids in one call

// inboxRead answers peal inbox read.
func inboxRead(ctx context.Context, c *call) error {
	fs := c.flags()
	r := c.reader(fs)
	var m marking
	fs.Var((*list)(&m.IDs), "id", "the notification of this `ID`; may be repeated")
	fs.StringVar(&m.UpTo, "up-to", "", "the one at this `CURSOR` and all before it")
	fs.BoolVar(&m.All, "all", false, "all that are there now")
	unread := fs.Bool("unread", false, "make them unread again")
	if err := r.parse(fs); err != nil {
		return err
	}
	if *unread {
		m.Read = new(bool)
	}
	if err := m.check(fs); err != nil {
		return err
	}
	answer, _, err := r.ask(ctx, http.MethodPut, "/ticket/notification/read", nil, m)
	if err != nil {
		return err
	}
	var marked struct {
		Changed int `json:"changed"`
		Unread  int `json:"unread"`
	}
	if err := readAnswer(answer, &marked); err != nil {
		return err
	}
	return r.print(answer, func(w io.Writer, _ int) error {
		_, err := fmt.Fprintf(w, "%d changed, %d unread\n", marked.Changed, marked.Unread)
		return err
	})
}

func (m marking) check(fs *flag.FlagSet) error {
	which := 0
	for _, given := range []bool{isGiven(fs, "id"), isGiven(fs, "up-to"), m.All} {
		if given {
			which++
		}
	}
	switch {
	case which != 1:
		return usagef("say which: either --id ID, --up-to CURSOR or --all")
	case isGiven(fs, "id") && (slices.Contains(m.IDs, "") || len(m.IDs) > maxMarked):
		return usagef("--id must not be empty, and may be given up to %d times", maxMarked)
	case isGiven(fs, "up-to") && !isCursor(m.UpTo):
		return usagef("--up-to must be a cursor, as the list has them")
	case m.All && m.Read != nil:
		return usagef("--unread does not go with --all: say which with --id or --up-to")
	}
	return nil
}

// inboxPref answers peal inbox pref. The ETag goes to standard error, so that a
// pipe gets the preferences only.
func inboxPref(ctx context.Context, c *call) error {
	const path = "/user/preference"
	fs := c.flags()
	r := c.reader(fs)
	set := fs.String("set", "", "put these in their place: `JSON`, or a FILE with it, or - for standard input; what is absent becomes the default")
	match := fs.String("if-match", "", "only if the `ETAG` is still this one, as it was shown")
	if err := r.parse(fs); err != nil {
		return err
	}
	method, extra, body := http.MethodGet, http.Header{}, any(nil)
	if isGiven(fs, "set") {
		content, err := c.content(*set)
		if err != nil {
			return err
		}
		method, body = http.MethodPut, content
	}
	if isGiven(fs, "if-match") {
		if body == nil || *match == "" || strings.ContainsFunc(*match, func(c rune) bool { return c < ' ' || c > '~' }) {
			return usagef("--if-match must be an ETag, and goes with --set")
		}
		extra.Set("If-Match", quotedTag(*match))
	}
	answer, answered, err := r.ask(ctx, method, path, extra, body)
	if err != nil {
		return err
	}
	if tag := answered.Get("ETag"); tag != "" {
		fmt.Fprintf(c.stderr, "ETag: %s\n", plain(tag))
	}
	if len(answer) == 0 { // it has nothing to say of what was set
		return nil
	}
	var p preferences
	if err := readAnswer(answer, &p); err != nil {
		return err
	}
	return r.print(answer, p.show)
}

// content reads a JSON object: it is the text itself, in a file, or on standard
// input.
func (c *call) content(from string) (json.RawMessage, error) {
	var b []byte
	var err error
	switch {
	case strings.HasPrefix(strings.TrimSpace(from), "{"):
		b = []byte(from)
	case from == "-":
		b, err = io.ReadAll(io.LimitReader(c.stdin, maxAnswer))
	case from == "":
		err = errors.New("must be JSON, a file or -")
	default:
		b, err = os.ReadFile(from)
	}
	if err != nil {
		return nil, usagef("--set: %v", err)
	}
	if b = bytes.TrimSpace(b); !json.Valid(b) || b[0] != '{' {
		return nil, usagef(`--set: must be a JSON object, such as {"minPriority":"medium"}, or a file with one`)
	}
	return b, nil
}

// quotedTag is an ETag as a header has it: a shell takes the quotes away.
func quotedTag(tag string) string {
	if tag == "*" || strings.HasPrefix(tag, `"`) || strings.HasPrefix(tag, `W/"`) {
		return tag
	}
	return `"` + tag + `"`
}

// preferences are the answer to pref.
type preferences struct{ peal.Preferences }

func (p preferences) show(w io.Writer, columns int) error {
	var on, off []string
	for t, is := range p.Types {
		if is {
			on = append(on, string(t))
		} else {
			off = append(off, string(t))
		}
	}
	quiet := ""
	if q := p.QuietHours; q != nil {
		quiet = fmt.Sprintf("%s to %s, %s", q.From, q.To, q.TimeZone)
		if q.ExceptUrgent {
			quiet += ", but for urgent ones"
		}
	}
	rows := [][]string{
		{"types on", strings.Join(slices.Sorted(slices.Values(on)), " ")},
		{"types off", strings.Join(slices.Sorted(slices.Values(off)), " ")},
		{"least priority", string(p.MinPriority)},
		{"muted tickets", strings.Join(p.MutedTickets, " ")},
		{"quiet hours", quiet},
	}
	for _, row := range rows {
		if row[1] == "" {
			row[1] = "default"
		}
	}
	return table(w, columns, rows)
}
