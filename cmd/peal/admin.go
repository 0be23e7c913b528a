package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
)

// adminCommands are the words after peal admin.
func adminCommands() []command {
	return []command{
		{"revoke", "[--realm REALM] [--tenant TENANT] [--user USER] [--sid S] [--jti ID] [flags]",
			"end connections and refuse their tokens: those that fit all that is given, issued up to now", adminRevoke},
		{"purge", "--tenant TENANT [--user USER [--namespace NAMESPACE]] [--yes] [flags]",
			"erase what is kept of a user, or of a whole tenant: notifications, read state, preferences, durables", adminPurge},
		{"ensure", "--nats URL[,URL] [--dry-run] [flags]",
			"create the streams of a region that are missing, and bring the others to what the configuration says", adminEnsure},
		{"epoch", "--nats URL[,URL] [--home REGION] [--yes] [flags]",
			"after streams were restored from a backup, or a copy was promoted: let no cursor of before pass over what comes", adminEpoch},
		{"region", "COMMAND [flags]", "how the regions are: where each home stores, and how far behind its copies are", adminRegion},
		{"migrate", "--data DIR --nats URL[,URL] [--dry-run] [flags]",
			"copy everything from the embedded JetStream of a data directory to a NATS cluster", adminMigrate},
		{"dead", "COMMAND [flags]", "list, show, retry and drop ticket events that could not be worked on", adminDead},
		{"durable", "COMMAND [flags]", "list and remove durable subscriptions: the places that JetStream keeps for clients", adminDurable},
	}
}

// admin answers peal admin: calls of the admin port, across tenants, and what is done
// to NATS itself.
func admin(ctx context.Context, c *call) error { return c.choose(ctx, adminCommands()) }

// adminPort is where calls across tenants are answered.
type adminPort struct{ data, url string }

func (c *call) adminPort(fs *flag.FlagSet) *adminPort {
	p := &adminPort{}
	fs.StringVar(&p.data, "data", devData, "data `DIR` of a running peal dev, whose admin port it is")
	fs.StringVar(&p.url, "admin", "", "`URL` of the admin port; by default that of the running peal dev, and without one "+defaultAdmin)
	return p
}

// defaultAdmin is the admin port of a serve on this machine.
const defaultAdmin = "http://127.0.0.1:8081"

// resolve finds the address.
func (p *adminPort) resolve(fs *flag.FlagSet) error {
	if p.url == "" {
		running, err := readDevJSON(p.data)
		switch {
		case err == nil:
			p.url = running.Admin
		case isGiven(fs, "data"):
			return fmt.Errorf("no running peal dev is known in %s: start peal dev, or say --admin URL", p.data)
		default:
			p.url = defaultAdmin
		}
	}
	if !isServiceURL(p.url) {
		return usagef("--admin must be a URL such as %s", defaultAdmin)
	}
	p.url = strings.TrimSuffix(p.url, "/")
	return nil
}

// byTool says that it is no page in a browser that calls: the admin port takes that
// by any name.
func byTool() http.Header { return http.Header{node.HeaderTool: {"peal"}} }

// call posts to the admin port and prints the answer on one line.
func (p *adminPort) call(ctx context.Context, c *call, path string, body any) error {
	var answer json.RawMessage
	if err := post(ctx, p.url+path, byTool(), body, &answer); err != nil {
		return err
	}
	return printJSON(c.stdout, answer)
}

// revocation is the body of a call to revoke.
type revocation struct {
	Realm   string      `json:"realm,omitempty"`
	Tenant  peal.Tenant `json:"tenant,omitempty"`
	User    any         `json:"user,omitempty"` // a user reference
	Session string      `json:"sid,omitempty"`
	TokenID string      `json:"jti,omitempty"`
}

// adminRevoke answers peal admin revoke.
func adminRevoke(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	var realm, tenant, user, namespace, session, token single
	fs.Var(&realm, "realm", "tokens of this `REALM`")
	fs.Var(&tenant, "tenant", "in this `TENANT`")
	fs.Var(&user, "user", "of this `USER`")
	fs.Var(&namespace, "namespace", "`NAMESPACE` of the user; by default the tenant's")
	fs.Var(&session, "sid", "of this session, `S`: the claim sid")
	fs.Var(&token, "jti", "this token, `ID`: the claim jti")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	r := revocation{Realm: realm.value, Tenant: peal.Tenant(tenant.value), Session: session.value, TokenID: token.value}
	if err := r.read(fs, user.value, namespace.value); err != nil {
		return err
	}
	if err := port.resolve(fs); err != nil {
		return err
	}
	return port.call(ctx, c, "/revoke", r)
}

// read takes what was given. A flag that is given and empty is a variable that
// is not set: to leave it out would revoke all others too.
func (r *revocation) read(fs *flag.FlagSet, name, namespace string) error {
	of := []string{"realm", "tenant", "user", "sid", "jti"}
	for _, name := range append(of, "namespace") {
		if isGiven(fs, name) && fs.Lookup(name).Value.String() == "" {
			return usagef("--%s must not be empty: leave it out for all of them", name)
		}
	}
	if !slices.ContainsFunc(of, func(name string) bool { return isGiven(fs, name) }) {
		return usagef("say whose tokens: at least one of --%s", strings.Join(of, " --"))
	}
	if r.Tenant != "" {
		t, err := peal.ParseTenant(string(r.Tenant))
		if err != nil {
			return usagef("--%v", err)
		}
		r.Tenant = t
	}
	user, err := userReference(name, namespace)
	r.User = user
	return err
}

// userReference makes a user reference of flags; nil of none.
func userReference(user, namespace string) (any, error) {
	if user == "" {
		if namespace != "" {
			return nil, usagef("--namespace is of a user: say --user USER too")
		}
		return nil, nil
	}
	if _, err := peal.ParseUserID(user); err != nil {
		return nil, usagef("--%v", err)
	}
	if namespace == "" {
		return user, nil
	}
	if _, err := peal.ParseNamespace(namespace); err != nil {
		return nil, usagef("--%v", err)
	}
	return map[string]string{"id": user, "namespace": namespace}, nil
}
