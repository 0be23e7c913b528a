package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/pealhq/peal"
)

// deadCommands are the words after peal admin dead.
func deadCommands() []command {
	return []command{
		{"list", "[--tenant TENANT] [--limit N] [--after ID] [--json] [flags]",
			"list ticket events that could not be worked on, oldest first", deadList},
		{"show", "ID [flags]", "show one of them, with the event and why", deadShow},
		{"retry", "(ID… | --all [--tenant TENANT]) [flags]",
			"have events worked on again, when what kept them from it is mended", deadRetry},
		{"drop", "(ID… | --all [--tenant TENANT]) [--yes] [flags]", "erase them", deadDrop},
	}
}

// adminDead answers peal admin dead: dead letters, of all tenants.
func adminDead(ctx context.Context, c *call) error { return c.choose(ctx, deadCommands()) }

// deadPage is a page of dead letters.
type deadPage struct {
	DeadLetters []deadLetter `json:"deadLetters"`
	Next        *string      `json:"next"`
}

// deadLetter is one, as far as a table shows it. What it says others have written.
type deadLetter struct {
	ID       string          `json:"id"`
	Tenant   string          `json:"tenant"`
	TicketID string          `json:"ticketId"`
	EventID  string          `json:"eventId"`
	Reason   string          `json:"reason"`
	Buried   *peal.Timestamp `json:"buried"`
}

// ask calls the admin port without a body.
func (p *adminPort) ask(ctx context.Context, method, path string) ([]byte, error) {
	answer, _, err := send(ctx, method, p.url+path, byTool(), nil)
	return answer, err
}

// deadList answers peal admin dead list: with a table on a terminal, and to anything
// else with the answer.
func deadList(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	var tenant single
	fs.Var(&tenant, "tenant", "only those of this `TENANT`")
	limit := fs.Int("limit", defaultPage, "at most `N`, up to 200")
	after := fs.String("after", "", "only those after the one of this `ID`: what the page before ended with")
	asJSON := fs.Bool("json", false, "print the service's answer, also on a terminal")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	query, err := ofTenant(fs, tenant.value)
	if err != nil {
		return err
	}
	if *limit < 1 || *limit > maxPage {
		return usagef("--limit must be 1 to %d", maxPage)
	}
	query.Set("limit", strconv.Itoa(*limit))
	if err := setCursor(fs, query, "after", *after); err != nil {
		return err
	}
	if err := port.resolve(fs); err != nil {
		return err
	}
	answer, err := port.ask(ctx, http.MethodGet, "/dead?"+query.Encode())
	if err != nil {
		return err
	}
	var page deadPage
	if err := readAnswer(answer, &page); err != nil {
		return err
	}
	return c.tellPage(answer, page, *asJSON)
}

// tellPage prints a page of the admin port: as a table on a terminal, and to anything
// else, or if it is asked for, the answer itself on a line.
func (c *call) tellPage(answer []byte, page interface {
	show(w io.Writer, columns int, now time.Time) error
}, asJSON bool) error {
	if columns, is := terminalOf(c.stdout); is && !asJSON {
		return page.show(c.stdout, columns, time.Now())
	}
	var line bytes.Buffer
	json.Compact(&line, answer) // it has been read already
	_, err := fmt.Fprintf(c.stdout, "%s\n", plainJSON(line.Bytes()))
	return err
}

// ofTenant is a query for a tenant, if one is given.
func ofTenant(fs *flag.FlagSet, tenant string) (url.Values, error) {
	if !isGiven(fs, "tenant") {
		return url.Values{}, nil
	}
	t, err := peal.ParseTenant(tenant)
	if err != nil {
		return nil, usagef("--%v", err)
	}
	return url.Values{"tenant": {string(t)}}, nil
}

func (p deadPage) show(w io.Writer, columns int, now time.Time) error {
	if len(p.DeadLetters) == 0 {
		_, err := fmt.Fprintln(w, "No dead letters.")
		return err
	}
	rows := [][]string{{"ID", "AGE", "TENANT", "TICKET", "EVENT", "REASON"}}
	for _, d := range p.DeadLetters {
		age := "?"
		if d.Buried != nil {
			age = brief(now.Sub(d.Buried.Time))
		}
		rows = append(rows, []string{
			d.ID, age, clamp(plain(cmp.Or(d.Tenant, "?")), 9), clamp(plain(cmp.Or(d.TicketID, "?")), 14), clamp(plain(cmp.Or(d.EventID, "?")), 12), d.Reason,
		})
	}
	if err := table(w, columns, rows); err != nil || p.Next == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "There are later ones: --after %s\n", plain(*p.Next))
	return err
}

// brief is how long something is ago, in one unit.
func brief(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= unit.of {
			return strconv.Itoa(int(d/unit.of)) + unit.name
		}
	}
	return strconv.Itoa(int(max(d, 0)/time.Second)) + "s"
}

// deadShow answers peal admin dead show.
func deadShow(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	ids, err := c.parseBoth(fs)
	if err != nil {
		return err
	}
	if len(ids) != 1 || !isCursor(ids[0]) {
		return usagef("say the ID of one dead letter, as peal admin dead list shows it")
	}
	if err := port.resolve(fs); err != nil {
		return err
	}
	answer, err := port.ask(ctx, http.MethodGet, "/dead/"+url.PathEscape(ids[0]))
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	if err := json.Indent(&lines, bytes.TrimSpace(answer), "", "  "); err != nil {
		return fmt.Errorf("an answer that is none: %w", err)
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", plainJSON(lines.Bytes()))
	return err
}

// chosen are the dead letters that a command is about: some by their ids, or all
// that are there, of a tenant perhaps.
type chosen struct {
	call *call
	port *adminPort
	ids  []string
	all  bool
	of   url.Values
}

// choice reads the flags of a command that is about some, and what else it has.
func (c *call) choice(add func(*flag.FlagSet)) (*chosen, error) {
	fs := c.flags()
	x := &chosen{call: c, port: c.adminPort(fs)}
	var tenant single
	fs.BoolVar(&x.all, "all", false, "all that are there now")
	fs.Var(&tenant, "tenant", "with --all, those of this `TENANT`")
	add(fs)
	ids, err := c.parseBoth(fs)
	if err != nil {
		return nil, err
	}
	if x.of, err = ofTenant(fs, tenant.value); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !isCursor(id) {
			return nil, usagef("an ID must be one that peal admin dead list shows")
		}
		if !slices.Contains(x.ids, id) {
			x.ids = append(x.ids, id)
		}
	}
	switch {
	case x.all == (len(ids) > 0):
		return nil, usagef("say which: either the IDs of some, or --all")
	case len(x.of) > 0 && !x.all:
		return nil, usagef("--tenant goes with --all: an ID is of one tenant")
	}
	return x, x.port.resolve(fs)
}

// find finds out which there are, if all are meant. Those that come meanwhile may be
// among them, or not.
func (x *chosen) find(ctx context.Context) error {
	if !x.all {
		return nil
	}
	x.of.Set("limit", strconv.Itoa(maxPage))
	for {
		answer, err := x.port.ask(ctx, http.MethodGet, "/dead?"+x.of.Encode())
		if err != nil {
			return err
		}
		var page deadPage
		if err := readAnswer(answer, &page); err != nil {
			return err
		}
		for _, d := range page.DeadLetters {
			x.ids = append(x.ids, d.ID)
		}
		if page.Next == nil {
			return nil
		}
		x.of.Set("after", *page.Next)
	}
}

// settle does the same with each, and prints with how many it went well. Where it
// does not for a reason of its own, the others go on.
func (x *chosen) settle(ctx context.Context, word, method, suffix string) error {
	return x.settleAt(ctx, "/dead/", word, method, suffix)
}

// settleAt is settle for what has its path there.
func (x *chosen) settleAt(ctx context.Context, path, word, method, suffix string) error {
	done, failed := 0, 0
	var first error
	for i, id := range x.ids {
		_, err := x.port.ask(ctx, method, path+url.PathEscape(id)+suffix)
		refused, is := errors.AsType[refusedError](err)
		switch {
		case err == nil:
			done++
		case is && x.all && refused.status == http.StatusNotFound: // somebody else was faster
		case is && (refused.status == http.StatusNotFound || refused.status == http.StatusBadRequest):
			failed++
			first = cmp.Or(first, fmt.Errorf("%s: %w", id, err))
		default:
			x.print(word, done)
			return fmt.Errorf("%w: %d of %d are left, run it again", err, len(x.ids)-i, len(x.ids))
		}
	}
	if err := x.print(word, done); err != nil || failed == 0 {
		return err
	}
	return fmt.Errorf("%d of %d not %s, for one %w", failed, len(x.ids), word, first)
}

func (x *chosen) print(word string, done int) error {
	return printJSON(x.call.stdout, map[string]int{word: done})
}

// deadRetry answers peal admin dead retry.
func deadRetry(ctx context.Context, c *call) error {
	x, err := c.choice(func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	if err := x.find(ctx); err != nil {
		return err
	}
	return x.settle(ctx, "retried", http.MethodPost, "/retry")
}

// deadDrop answers peal admin dead drop. What it erases is gone, so it wants to be
// told twice, as a purge.
func deadDrop(ctx context.Context, c *call) error {
	var yes bool
	x, err := c.choice(func(fs *flag.FlagSet) {
		fs.BoolVar(&yes, "yes", false, "do not ask; without a terminal it is required")
	})
	if err != nil {
		return err
	}
	if _, is := terminalOf(c.stdin); !yes && !is {
		return usagef("this erases dead letters for good, and there is no terminal to ask: say --yes if it is meant")
	}
	if err := x.find(ctx); err != nil {
		return err
	}
	if !yes && len(x.ids) > 0 {
		what, name := fmt.Sprintf("%d dead letters", len(x.ids)), strconv.Itoa(len(x.ids))
		if len(x.ids) == 1 {
			what, name = "dead letter "+plain(x.ids[0]), x.ids[0]
		}
		if t := x.of.Get("tenant"); t != "" {
			what += " of tenant " + t
		}
		fmt.Fprintf(c.stderr, "This erases %s at %s, for good. Type %s to go on: ", what, x.port.url, plain(name))
		if err := confirm(ctx, c.stdin, name, "erased"); err != nil {
			return err
		}
	}
	return x.settle(ctx, "dropped", http.MethodDelete, "")
}
