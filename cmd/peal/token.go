package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
)

// token answers peal token: one token of dev's issuer, and nothing else.
func token(ctx context.Context, c *call) error {
	if len(c.args) > 0 && c.args[0] == "explain" {
		return explain(ctx, c.under(command{name: "explain", usage: "[flags] [TOKEN]", summary: explainSummary}))
	}
	fs := c.flags()
	data := fs.String("data", devData, "data `DIR` of peal dev")
	realm := fs.String("realm", realmAcme, "`REALM` that issues the token")
	tenant := fs.String("tenant", string(tenantAcme), "`TENANT` that the token is for")
	user := fs.String("user", "", "`USER` the token is for")
	ttl := fs.Duration("ttl", time.Hour, "how long the token is good, `D`")
	sid := fs.String("sid", "", "session id, `S`")
	var roles list
	fs.Var(&roles, "role", "`ROLE` the token grants; may be repeated")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	if *user == "" {
		return usagef("--user USER is required")
	}
	if _, err := peal.ParseUserID(*user); err != nil {
		return usagef("--%v", err)
	}
	t, err := peal.ParseTenant(*tenant)
	if err != nil {
		return usagef("--%v", err)
	}
	if *ttl <= 0 {
		return usagef("--ttl must be more than 0")
	}
	running, err := readDevJSON(*data)
	if err != nil {
		return fmt.Errorf("no running peal dev is known in %s: start peal dev, or say --data DIR", *data)
	}
	tokens, err := openIssuer(*data, running.URL)
	if err != nil {
		return err
	}
	jwt, err := mint(tokens, *realm, *user, t, *ttl, *sid, roles)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, jwt)
	return err
}

func mint(tokens *issuer.Issuer, realm, user string, t peal.Tenant, ttl time.Duration, sid string, roles []string) (string, error) {
	return tokens.Mint(realm, issuer.Claims{Subject: user, Tenants: []peal.Tenant{t}, Roles: roles, TTL: ttl, Session: sid})
}

// list is a flag that may be repeated.
type list []string

var _ flag.Value = (*list)(nil)

func (l *list) Set(s string) error { *l = append(*l, s); return nil }
func (l *list) String() string     { return strings.Join(*l, ",") }
