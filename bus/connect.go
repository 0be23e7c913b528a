package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// This file is how a process gets to NATS, and how it learns what it may not do
// there.

// Roles, by which NATS tells what a connection may do: see deploy/nats.
const (
	RoleNode     = "node"     // edge and dispatch in one process
	RoleEdge     = "edge"     // answers clients and publishers
	RoleDispatch = "dispatch" // works on ticket events
	RoleAdmin    = "admin"    // sees to the streams
)

// inboxPrefix is what the subjects begin with on which a role is answered. Each has
// its own, so that a list of what a user of NATS may do can leave out what others
// are told: with the common one whoever may hear replies hears those of everybody.
func inboxPrefix(role string) string { return "_INBOX_PEAL_" + role }

var roleForm = regexp.MustCompile(`^[a-z]{1,16}$`)

// options of every connection. It reconnects for ever, after a pause that grows to 2 s
// and is random, so that many nodes do not come back at once, to any of the servers.
// Nothing is buffered meanwhile: a publish without a server fails at once.
func (c Config) options(name string) ([]nats.Option, error) {
	if !roleForm.MatchString(c.Role) {
		return nil, fmt.Errorf("role %q of a connection must be of up to 16 lower-case letters", c.Role)
	}
	opts := []nats.Option{
		nats.Name("peal-" + name),
		nats.CustomInboxPrefix(inboxPrefix(c.Role)),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			most := min(time.Duration(attempts)*100*time.Millisecond, 2*time.Second)
			return most/2 + rand.N(most/2+1)
		}),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
	}
	if user := c.user(); user != nil {
		// Also for the servers that the ones we know tell us of: without it they refuse
		// us, and who is refused twice is closed for good.
		password, _ := user.Password()
		opts = append(opts, nats.UserInfo(user.Username(), password))
	}
	if c.Credentials != "" {
		opts = append(opts, nats.UserCredentials(c.Credentials))
	}
	if c.RootCA != "" {
		opts = append(opts, nats.RootCAs(c.RootCA))
	}
	if c.Certificate != "" {
		opts = append(opts, nats.ClientCert(c.Certificate, c.Key))
	}
	if c.Server != nil {
		opts = append(opts, nats.InProcessServer(c.Server))
	}
	return opts, nil
}

// user is the first that the addresses name; nil if none does. A token in the place
// of a name is left to nats.go.
func (c Config) user() *url.Userinfo {
	for _, address := range c.URLs {
		if !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		if u, err := url.Parse(strings.TrimSpace(address)); err == nil && u.User != nil {
			if _, both := u.User.Password(); both {
				return u.User
			}
		}
	}
	return nil
}

// dial opens a connection to any of the servers.
func (c Config) dial(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(strings.Join(c.URLs, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

// startPause is between two tries to reach a cluster that starts, or up to half of it
// more or less.
const startPause = 500 * time.Millisecond

// patiently calls do again and again as long as NATS may only be starting, for
// Config.Await.
func (c Config) patiently(ctx context.Context, do func() error) error {
	end := time.Now().Add(c.Await)
	for told := false; ; told = true {
		err := do()
		if err == nil || !Starting(err) || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
		if !told {
			c.Logger.Warn("nats does not answer yet", "err", err, "waiting", time.Until(end).Round(time.Second))
		}
		if !pause(ctx, startPause/2+rand.N(startPause)) {
			return err
		}
	}
}

// Starting reports whether an error is one of a NATS that may be about to be there: no
// server of it answers, none leads yet, or another region is not there yet.
func Starting(err error) bool {
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return refused.Code == 503
	}
	var unreachable net.Error
	return errors.Is(err, errNoOrigin) || errors.Is(err, nats.ErrNoServers) || errors.Is(err, errDeposed) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &unreachable)
}

// ErrNotPermitted: NATS does not let its user, as whom this process has connected, do
// it. To try again is in vain.
var ErrNotPermitted = errors.New("the rights of this NATS user do not suffice")

// ErrDeaf is an ErrNotPermitted of who may not hear answers, and so can ask nothing.
var ErrDeaf = fmt.Errorf("%w to hear what is answered", ErrNotPermitted)

// rights knows of those who ask something that may not be permitted. NATS does not
// answer such a request: the connection is told, in its own time, and whoever asked
// would wait in vain for as long as they have patience.
type rights struct {
	mu     sync.Mutex                     // protects the rest
	asking map[string]map[*asker]struct{} // by the subject that is published to
	deaf   error                          // why no answer comes at all; nil if they do
}

// asker is one of them.
type asker struct {
	end context.CancelCauseFunc // of its patience
}

var violation = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "(\S+)"`)

// refused ends the waiting of those whom an error of a connection is about, and
// reports whether they know.
func (r *rights) refused(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	m := violation.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.EqualFold(m[1], "publish") {
		for a := range r.asking[m[2]] {
			a.end(fmt.Errorf("%w to publish to %s", ErrNotPermitted, m[2]))
		}
		return len(r.asking[m[2]]) > 0 || r.deaf != nil
	}
	role, own := strings.CutPrefix(m[2], inboxPrefix(""))
	if !own {
		return false
	}
	role, _, _ = strings.Cut(role, ".")
	r.deaf = fmt.Errorf("%w to the role %s: connect as the NATS user of that role", ErrDeaf, role)
	for _, askers := range r.asking {
		for a := range askers {
			a.end(r.deaf)
		}
	}
	return true
}

// anew forgets that no answer comes: the server may have other rights by now.
func (r *rights) anew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = nil
}

// ask makes a request that is published to a subject. If that is not permitted the
// error is an ErrNotPermitted, at once.
func (r *rights) ask(ctx context.Context, subject string, request func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	a := &asker{end}
	if err := r.enter(subject, a); err != nil {
		return err
	}
	defer r.leave(subject, a)
	err := request(ctx)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrNotPermitted) {
		return cause
	}
	return err
}

func (r *rights) enter(subject string, a *asker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf != nil {
		return r.deaf
	}
	if r.asking == nil {
		r.asking = make(map[string]map[*asker]struct{})
	}
	if r.asking[subject] == nil {
		r.asking[subject] = make(map[*asker]struct{})
	}
	r.asking[subject][a] = struct{}{}
	return nil
}

func (r *rights) leave(subject string, a *asker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.asking[subject], a); len(r.asking[subject]) == 0 {
		delete(r.asking, subject)
	}
}
