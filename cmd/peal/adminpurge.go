package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/pealhq/peal"
)

// erasure is the body of a call to purge.
type erasure struct {
	Tenant peal.Tenant `json:"tenant"`
	User   any         `json:"user,omitempty"` // a user reference

	what, name string // what that is in words, and its name
}

// adminPurge answers peal admin purge. What it erases is gone, so it wants to be
// told twice: by the name typed again on a terminal, or by --yes.
func adminPurge(ctx context.Context, c *call) error {
	fs := c.flags()
	port := c.adminPort(fs)
	var tenant, user, namespace single
	fs.Var(&tenant, "tenant", "erase what is kept of this `TENANT`")
	fs.Var(&user, "user", "only of this `USER` of it")
	fs.Var(&namespace, "namespace", "`NAMESPACE` of the user; by default the tenant's")
	yes := fs.Bool("yes", false, "do not ask; without a terminal it is required")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	e, err := readErasure(fs, tenant.value, user.value, namespace.value)
	if err != nil {
		return err
	}
	if err := port.resolve(fs); err != nil {
		return err
	}
	if !*yes {
		if _, is := terminalOf(c.stdin); !is {
			return usagef("this erases %s for good, and there is no terminal to ask: say --yes if it is meant", e.what)
		}
		fmt.Fprintf(c.stderr, "This erases %s at %s, for good. Type %s to go on: ", e.what, port.url, plain(e.name))
		if err := confirm(ctx, c.stdin, e.name, "erased"); err != nil {
			return err
		}
	}
	return port.call(ctx, c, "/purge", e)
}

// readErasure takes what was given, as revocation.read does: a flag that is given
// and empty is a variable that is not set, and would erase all others too.
func readErasure(fs *flag.FlagSet, tenant, user, namespace string) (e erasure, err error) {
	for _, flag := range []string{"tenant", "user", "namespace"} {
		if isGiven(fs, flag) && fs.Lookup(flag).Value.String() == "" {
			return e, usagef("--%s must not be empty", flag)
		}
	}
	if tenant == "" {
		return e, usagef("--tenant TENANT is required")
	}
	if e.Tenant, err = peal.ParseTenant(tenant); err != nil {
		return e, usagef("--%v", err)
	}
	if e.User, err = userReference(user, namespace); err != nil {
		return e, err
	}
	if user == "" {
		e.what, e.name = fmt.Sprintf("all that is kept of tenant %s", e.Tenant), string(e.Tenant)
	} else {
		e.what, e.name = fmt.Sprintf("all that is kept of user %s in tenant %s", plain(user), e.Tenant), user
	}
	return e, nil
}

// confirm waits for a name to be typed. done is what was not done without it.
func confirm(ctx context.Context, in io.Reader, name, done string) error {
	typed := make(chan string, 1)
	go func() { // ends with the process, if nobody types
		line, _ := bufio.NewReader(in).ReadString('\n') // before an error comes no name, or all of it
		typed <- strings.TrimRight(line, "\r\n")
	}()
	select {
	case line := <-typed:
		if line != name {
			return fmt.Errorf("nothing was %s, for that was something else", done)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nothing was %s, for it was stopped", done)
	}
}
