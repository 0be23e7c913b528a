package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

const explainSummary = `tell which check of a service a token passes, and which it fails: what was
expected and what came. Without TOKEN, or with -, it is read from standard input,
where it stays out of the shell's history and of the list of processes.
The exit status is 0 for a token that is good and 1 for one that is refused.`

// explainPatience is how long an explanation waits for the realm's keys.
const explainPatience = 5 * time.Second

// explanation is what is asked about a token.
type explanation struct {
	realms auth.Config
	realm  string    // "" means the one whose issuer the token names
	tenant string    // "" means that the tenant is not asked for
	role   auth.Role // 0 means that the role is not asked for

	chosen bool // the realm has been looked for
}

// explain answers peal token explain.
func explain(ctx context.Context, c *call) error {
	fs := c.flags()
	file := fs.String("realms", "", "realms `FILE` of peal serve; without it, the realms of peal dev")
	data := fs.String("data", devData, "data `DIR` of a running peal dev")
	var x explanation
	fs.StringVar(&x.realm, "realm", "", "`REALM` that the request names; by default the one whose issuer the token names")
	tenant := fs.String("tenant", "", "`TENANT` that the request names")
	fs.Func("role", "`ROLE` that the request needs: "+roleNames(), x.setRole)
	arg, err := c.parseToken(fs)
	if err != nil {
		return err
	}
	if *tenant != "" {
		if _, err := peal.ParseTenant(*tenant); err != nil {
			return usagef("--%v", err)
		}
		x.tenant = *tenant
	}
	if x.realms, err = explainRealms(fs, *file, *data); err != nil {
		return err
	}
	jwt, err := c.readToken(ctx, arg)
	if err != nil {
		return err
	}
	token, refused := x.judge(ctx, jwt)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out := bufio.NewWriter(c.stdout)
	x.tell(out, refused)
	if refused == nil {
		tellBearer(out, token)
	}
	return errors.Join(refused, out.Flush())
}

func roleNames() string {
	var names []string
	for _, r := range auth.Roles() {
		names = append(names, r.String())
	}
	return strings.Join(names, " ")
}

func (x *explanation) setRole(s string) error {
	for _, r := range auth.Roles() {
		if r.String() == s {
			x.role = r
			return nil
		}
	}
	return errors.New("must be one of " + roleNames())
}

// parseToken reads the flags and at most one argument, which may stand before
// them too. An argument too many is not quoted: it may be a token.
func (c *call) parseToken(fs *flag.FlagSet) (arg string, err error) {
	args, err := c.parseBoth(fs)
	if err != nil {
		return "", err
	}
	if len(args) > 1 {
		return "", usagef("one token at a time: see peal %s --help", c.name)
	}
	return strings.Join(args, ""), nil
}

// explainRealms are the realms of a file, or of a running dev.
func explainRealms(fs *flag.FlagSet, file, data string) (auth.Config, error) {
	if file == "" {
		running, err := readDevJSON(data)
		if err != nil {
			return auth.Config{}, fmt.Errorf("no running peal dev is known in %s: start peal dev, or say --data DIR, or --realms FILE", data)
		}
		tokens, err := openIssuer(data, running.URL)
		if err != nil {
			return auth.Config{}, err
		}
		return devRealms(tokens), nil
	}
	if isGiven(fs, "data") {
		return auth.Config{}, usagef("--realms and --data exclude each other")
	}
	cfg, _, err := (&settings{realms: file}).readRealms()
	return cfg, err
}

// readToken returns the token that is the argument, or on standard input. A read
// of a terminal can't be called off: when ctx ends it is left to the end of the
// process.
func (c *call) readToken(ctx context.Context, arg string) (string, error) {
	if arg != "" && arg != "-" {
		return arg, nil
	}
	type input struct {
		data []byte
		err  error
	}
	read := make(chan input, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(c.stdin, 1<<20))
		read <- input{data, err}
	}()
	select {
	case in := <-read:
		jwt := strings.TrimSpace(string(in.data))
		if in.err == nil && jwt == "" {
			return "", usagef("there is no token: give one as the argument, or on standard input")
		}
		return jwt, in.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// judge asks all that was asked about a token. The error is an auth.Refusal, or
// says why the keys can't be had.
func (x *explanation) judge(ctx context.Context, jwt string) (*auth.Token, error) {
	realm, err := x.choose(jwt)
	if err != nil {
		return nil, err
	}
	v, err := auth.Open(auth.Config{Realms: []auth.Realm{realm}}, auth.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer v.Close()
	token, err := verify(ctx, v, realm.Name, jwt)
	if err != nil {
		return nil, err
	}
	if x.tenant != "" {
		if _, err := token.Caller(x.tenant); err != nil {
			return nil, err
		}
	}
	if x.role != 0 && token.May(x.role) != nil {
		realm, _ = v.Realm(realm.Name) // with its defaults
		return nil, &auth.Refusal{
			Reason: auth.ReasonRole,
			Want:   x.role.String() + ", in the token " + roleInTokens(realm.Roles, x.role),
			Got:    cmp.Or(strings.Join(granted(token), " "), "none"),
		}
	}
	return token, nil
}

// choose finds the realm of a token.
func (x *explanation) choose(jwt string) (auth.Realm, error) {
	named := func(r auth.Realm) string { return r.Name }
	of := x.realm
	if of == "" {
		iss, err := auth.Issuer(jwt)
		if err != nil {
			return auth.Realm{}, err
		}
		of, named = iss, func(r auth.Realm) string { return r.Issuer }
	}
	x.chosen = true
	var all []string
	for _, r := range x.realms.Realms {
		if named(r) == of {
			return r, nil
		}
		all = append(all, named(r))
	}
	return auth.Realm{}, &auth.Refusal{Reason: auth.ReasonUnknownRealm, Want: strings.Join(all, " "), Got: of}
}

// verify checks a token as a service with fresh keys of the realm would. What
// can be said without keys is said without them.
func verify(ctx context.Context, v *auth.Verifier, realm, jwt string) (*auth.Token, error) {
	token, err := v.Verify(ctx, realm, jwt)
	if !errors.Is(err, peal.ErrUnavailable) {
		return token, err
	}
	patient, cancel := context.WithTimeout(ctx, explainPatience)
	defer cancel()
	if err := v.WaitKeys(patient); err != nil {
		return nil, fmt.Errorf("%w: is the issuer up, and can it be reached from here?", err)
	}
	return v.Verify(ctx, realm, jwt)
}

// roleInTokens is what a realm's tokens call a role.
func roleInTokens(names auth.RoleNames, role auth.Role) string {
	return map[auth.Role]string{
		auth.Connect: names.Connect, auth.Publish: names.Publish, auth.Admin: names.Admin, auth.Tickets: names.Tickets,
	}[role]
}

// granted are the roles that a token has, as --role spells them.
func granted(t *auth.Token) []string {
	var names []string
	for _, r := range auth.Roles() {
		if t.May(r) == nil {
			names = append(names, r.String())
		}
	}
	return names
}

// tell writes a line for each check, up to the one that fails.
func (x *explanation) tell(w io.Writer, refused error) {
	refusal, _ := errors.AsType[*auth.Refusal](refused)
	passed := map[auth.Reason]string{auth.ReasonRevoked: "not asked: revocations are known to the service only"}
	if x.tenant == "" {
		passed[auth.ReasonTenant] = "not asked: no --tenant"
	}
	if x.role == 0 {
		passed[auth.ReasonRole] = "not asked: no --role"
	}
	if !x.chosen {
		passed[auth.ReasonUnknownRealm] = "not asked: no issuer can be read"
	}
	for _, reason := range auth.Reasons() {
		verdict, last := cmp.Or(passed[reason], "ok"), false
		switch {
		case refusal != nil && reason == refusal.Reason:
			verdict, last = "FAILED  "+fault(refusal), true
		case refusal == nil && refused != nil && reason == auth.ReasonKidUnknown:
			verdict, last = "not asked: the keys of the realm can't be had", true
		}
		fmt.Fprintf(w, "%-16s%s\n", checkOf(reason), verdict)
		if last {
			return
		}
	}
}

// checkOf is what is looked at for a reason.
func checkOf(r auth.Reason) string {
	switch r {
	case auth.ReasonUnknownRealm:
		return "realm"
	case auth.ReasonMalformed:
		return "form"
	case auth.ReasonCrit:
		return "extensions"
	case auth.ReasonKidMissing:
		return "key id"
	case auth.ReasonNotYetValid:
		return "not before"
	case auth.ReasonClaim:
		return "required claims"
	case auth.ReasonUserClaim:
		return "user"
	case auth.ReasonKidUnknown:
		return "key known"
	case auth.ReasonKey:
		return "key fits"
	case auth.ReasonExpired:
		return "not expired"
	case auth.ReasonRevoked:
		return "not revoked"
	}
	return string(r)
}

// fault says what was expected and what came.
func fault(r *auth.Refusal) string {
	want := strconv.Quote(r.Want)
	switch {
	case r.Reason == auth.ReasonSignature:
		return "made with another key, or for other bytes"
	case r.Reason == auth.ReasonKey && r.Want == "":
		return "the realm publishes that key for another algorithm"
	case r.Reason == auth.ReasonKidUnknown:
		want = "a key that the realm publishes"
	}
	switch {
	case r.Got != "":
		return fmt.Sprintf("expected %s, got %s", want, shown(r.Got))
	case r.Reason == auth.ReasonMalformed || r.Reason == auth.ReasonCrit:
		return "expected " + want
	}
	return fmt.Sprintf("expected %s, got none", want)
}

// maxShown is how much of a value of a token is shown, in bytes.
const maxShown = 200

// shown is a value of a token for a terminal: quoted, so that it commands
// nothing there, and cut.
func shown(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(s[:maxShown]) + "…"
	}
	return strconv.Quote(s)
}

// maxTenants is how many tenants of a token are listed.
const maxTenants = 20

// tellBearer writes who a good token makes its bearer.
func tellBearer(w io.Writer, t *auth.Token) {
	tenants := "any"
	if of := t.Tenants(); !of.Any {
		var names []string
		for _, id := range of.IDs {
			names = append(names, string(id))
		}
		tenants = cmp.Or(strings.Join(names[:min(len(names), maxTenants)], " "), "none")
		if more := len(names) - maxTenants; more > 0 {
			tenants += fmt.Sprintf(" and %d more", more)
		}
	}
	fmt.Fprintln(w)
	for _, line := range [][2]string{
		{"realm", t.Realm},
		{"namespace", string(t.Namespace)},
		{"user", shown(string(t.User))},
		{"tenants", tenants},
		{"roles", cmp.Or(strings.Join(granted(t), " "), "none")},
		{"expires", fmt.Sprintf("%s, in %s", t.Expires.UTC().Format(time.RFC3339), time.Until(t.Expires).Round(time.Second))},
	} {
		fmt.Fprintf(w, "%-16s%s\n", line[0], line[1])
	}
}
