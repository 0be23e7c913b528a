package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pealhq/peal"
)

// durableCommands are the words after peal admin durable.
func durableCommands() []command {
	return []command{
		{"list", "[--tenant TENANT [--user USER [--namespace NAMESPACE]]] [--limit N] [--after ID] [--json] [flags]",
			"list durable subscriptions: places that JetStream keeps for clients", durableList},
		{"remove", "ID… [flags]",
			"remove some and end the connections that follow by them; a client that comes back makes a new one", durableRemove},
	}
}

// adminDurable answers peal admin durable: durable subscriptions, of all tenants.
func adminDurable(ctx context.Context, c *call) error { return c.choose(ctx, durableCommands()) }

// durablePage is a page of durables.
type durablePage struct {
	Durables []keptDurable `json:"durables"`
	Next     *string       `json:"next"`
}

// keptDurable is one, as a table shows it.
type keptDurable struct {
	ID       string         `json:"id"`
	Tenant   string         `json:"tenant"`
	User     string         `json:"user"`
	Name     string         `json:"name"`
	Route    string         `json:"route"`
	LastUsed peal.Timestamp `json:"lastUsed"`
	Pending  uint64         `json:"pending"`
}

// durableList answers peal admin durable list: with a table on a terminal, and to
// anything else with the answer.
func durableList(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	var tenant, user, namespace single
	fs.Var(&tenant, "tenant", "only those of this `TENANT`")
	fs.Var(&user, "user", "only those of this `USER` of the tenant")
	fs.Var(&namespace, "namespace", "`NAMESPACE` of the user; by default the tenant's")
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
	for _, f := range []struct{ name, value string }{{"user", user.value}, {"namespace", namespace.value}, {"after", *after}} {
		if !isGiven(fs, f.name) {
			continue
		}
		if f.value == "" {
			return usagef("--%s must not be empty: leave it out for all of them", f.name)
		}
		query.Set(f.name, f.value)
	}
	switch {
	case user.value != "" && tenant.value == "":
		return usagef("--user is of a tenant: say --tenant TENANT too")
	case namespace.value != "" && user.value == "":
		return usagef("--namespace is of a user: say --user USER too")
	case user.value != "" && *after != "":
		return usagef("--after goes without --user: a user's are one page")
	case *limit < 1 || *limit > maxPage:
		return usagef("--limit must be 1 to %d", maxPage)
	}
	query.Set("limit", strconv.Itoa(*limit))
	if err := port.resolve(fs); err != nil {
		return err
	}
	answer, err := port.ask(ctx, http.MethodGet, "/durables?"+query.Encode())
	if err != nil {
		return err
	}
	var page durablePage
	if err := readAnswer(answer, &page); err != nil {
		return err
	}
	return c.tellPage(answer, page, *asJSON)
}

func (p durablePage) show(w io.Writer, columns int, now time.Time) error {
	if len(p.Durables) == 0 {
		_, err := fmt.Fprintln(w, "No durable subscriptions.")
		return err
	}
	rows := [][]string{{"USED", "PENDING", "TENANT", "USER", "NAME", "ROUTE", "ID"}}
	for _, d := range p.Durables {
		rows = append(rows, []string{
			brief(now.Sub(d.LastUsed.Time)), strconv.FormatUint(d.Pending, 10), clamp(plain(cmp.Or(d.Tenant, "?")), 9), clamp(plain(cmp.Or(d.User, "?")), 20),
			clamp(plain(d.Name), 32), clamp(plain(d.Route), 13), plain(d.ID),
		})
	}
	if err := table(w, columns, rows); err != nil || p.Next == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "There are later ones: --after %s\n", plain(*p.Next))
	return err
}

// durableRemove answers peal admin durable remove.
func durableRemove(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	given, err := c.parseBoth(fs)
	if err != nil {
		return err
	}
	var ids []string
	for _, id := range given {
		if id == "" {
			return usagef("an ID must be one that peal admin durable list shows")
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return usagef("say the IDs of some, as peal admin durable list shows them")
	}
	if err := port.resolve(fs); err != nil {
		return err
	}
	x := &chosen{call: c, port: port, ids: ids}
	return x.settleAt(ctx, "/durables/", "removed", http.MethodDelete, "")
}
