//go:build linux

package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// stopContext ends with a channel.
type stopContext struct{ stop <-chan struct{} }

func (s stopContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (s stopContext) Done() <-chan struct{}       { return s.stop }
func (s stopContext) Value(any) any               { return nil }
func (s stopContext) Err() error {
	select {
	case <-s.stop:
		return context.Canceled
	default:
		return nil
	}
}

// expectation is what a user's devices show at quiet.
type expectation struct {
	Cursor  string // of the newest notification; "" if there is none
	Unread  int
	Version string
}

// runClients is a process that holds all devices.
func runClients(p *plan) error {
	c, err := newClients(p)
	if err != nil {
		return err
	}
	obey(func(verb, rest string) string {
		switch verb {
		case "join": // all connect, over some time
			over, _ := time.ParseDuration(rest)
			c.join(over)
			return "ok"
		case "connected": // how many are
			return fmt.Sprint(c.connected())
		case "storm": // so many more come at once, and go again
			n, _ := strconv.Atoi(rest)
			c.storm(n)
			return "ok"
		case "sleep": // slow devices do not read
			c.asleep.Store(true)
			return "ok"
		case "wake":
			c.asleep.Store(false)
			return "ok"
		case "freeze": // nobody leaves any more, and tokens are good for long, over some time
			over, _ := time.ParseDuration(rest)
			c.freeze(over)
			return "ok"
		case "rest": // until all show what they should, or some time is over
			return c.rest(rest)
		case "leave": // all, for good
			c.crew.end()
			c.crew = newCrew()
			return "ok"
		}
		return "unknown"
	})
	c.crew.end()
	return c.history.Close()
}

// join has all devices connect, as ones that were never there.
func (c *clients) join(over time.Duration) {
	for i, d := range c.devices {
		d.cursor, d.paused, d.recent = "", 0, nil
		wait := over * time.Duration(i) / time.Duration(len(c.devices))
		c.crew.Go(func() {
			if !c.crew.over(wait) {
				d.run()
			}
		})
	}
}

func (c *clients) connected() (n int) {
	for _, d := range c.devices {
		d.mu.Lock()
		if d.shows.connected {
			n++
		}
		d.mu.Unlock()
	}
	return n
}

// storm has more devices connect at once, of all users in turn, and leave after a
// while.
func (c *clients) storm(n int) {
	stay := newCrew()
	for i := range n {
		c.storms++
		u := c.plan.Users[i%len(c.plan.Users)]
		d := c.device(u, fmt.Sprint("storm-", c.storms), i)
		d.slow = false
		d.clients = &clients{plan: c.plan, minter: c.minter, history: c.history, crew: stay}
		stay.Go(d.run)
	}
	c.crew.Go(func() {
		c.crew.over(5 * time.Second)
		stay.end()
	})
}

// restsFor is how long a token has to be good for, so that it does not end while all
// are at rest.
const restsFor = 5 * time.Minute

// freeze keeps things as they are. Whose token is not good for long leaves within some
// time, and comes back with another.
func (c *clients) freeze(over time.Duration) {
	c.frozen.Store(true)
	c.asleep.Store(false)
	for i, d := range c.devices {
		wait := over * time.Duration(i) / time.Duration(len(c.devices))
		c.crew.Go(func() {
			if !c.crew.over(wait) {
				d.renewed.Store(true)
				d.renew()
			}
		})
	}
}

// rest waits until every device shows what its user should see, of a file, or for a
// time, and writes down that they rest.
func (c *clients) rest(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	var want map[string]expectation
	if err := json.Unmarshal(b, &want); err != nil {
		return err.Error()
	}
	left := 0
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); time.Sleep(200 * time.Millisecond) {
		if left = c.unsettled(want); left == 0 {
			break
		}
	}
	for _, d := range c.devices {
		c.history.Write(history.Record{Kind: history.Rest, Device: d.name, User: d.user.String()})
	}
	return fmt.Sprint(left)
}

// unsettled counts the devices that do not show what they should.
func (c *clients) unsettled(want map[string]expectation) (n int) {
	connected := make(map[string]int)
	away := make(map[string]int)
	for _, d := range c.devices {
		d.mu.Lock()
		s := d.shows
		d.mu.Unlock()
		w := want[d.user.String()]
		switch {
		case !s.connected:
			away[d.user.String()]++
		case sequence(s.cursor) < sequence(w.Cursor) || s.unread != w.Unread || s.version != w.Version:
			n++
			connected[d.user.String()]++
		default:
			connected[d.user.String()]++
		}
	}
	for user, a := range away {
		n += min(a, max(5-connected[user], 0))
	}
	return n
}

// sequence is that of a cursor; 0 for none.
func sequence(cursor string) uint64 {
	_, digits, _ := strings.Cut(cursor, "-")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n &^ (1 << 63) // which says that it is not that of a message of the inbox
}
