package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// connection is what a client has been told of one.
type connection struct {
	ExpiresAt time.Time
	Recovered bool
}

// course is how a client has fared.
type course struct {
	got     []string     // ids of notifications, as they came
	opened  []connection // by its connected event
	up      bool         // the last one is open, as far as the client knows
	ends    map[string]int
	gaps    int
	trouble int
}

func courseOf(reports []report) (c course, err error) {
	c.ends = make(map[string]int)
	for _, r := range reports {
		if r.What == trouble || r.What == gone {
			c.up = false
			c.trouble++
			continue
		}
		if r.Name == "error" && r.Via == "onerror" {
			continue // the listener has it too
		}
		var data struct {
			ID, Code string
			connection
		}
		if err := json.Unmarshal([]byte(r.Data), &data); err != nil {
			return c, fmt.Errorf("%s with the data %q: %w", r.Name, r.Data, err)
		}
		switch r.Name {
		case "connected":
			c.opened, c.up = append(c.opened, data.connection), true
		case "notification":
			c.got = append(c.got, data.ID)
		case "error":
			c.ends[data.Code]++
		case "gap":
			c.gaps++
		}
	}
	return c, nil
}

// play is the whole of one test: clients that follow, and one that publishes.
type play struct {
	*stage
	t       *testing.T
	service *service
	libs    []library
}

// courses returns how each library has fared. The stage is locked.
func (p *play) courses() map[string]course {
	all := make(map[string]course)
	for _, l := range p.libs {
		c, err := courseOf(p.reports[role{l.key, follow}])
		if err != nil {
			p.t.Errorf("%s: %v", l.key, err)
		}
		all[l.key] = c
	}
	return all
}

// each waits until something is true of each client.
func (p *play) each(what string, ready func(key string, c course) bool) {
	p.t.Helper()
	began := time.Now()
	p.await(p.t, what, func() (missing []string) {
		for key, c := range p.courses() {
			if !ready(key, c) {
				missing = append(missing, fmt.Sprintf("%s (%d connections, ends %v, %d notifications)", key, len(c.opened), c.ends, len(c.got)))
			}
		}
		return missing
	})
	p.t.Logf("%s: after %.1f s", what, time.Since(began).Seconds())
}

// everyoneIsConnected waits for connections that no token will end soon.
func (p *play) everyoneIsConnected() {
	p.t.Helper()
	p.each("everyone is connected", func(_ string, c course) bool {
		return c.up && time.Until(c.opened[len(c.opened)-1].ExpiresAt) > time.Minute
	})
}

// now returns how each library has fared so far, and how often publishing has
// failed.
func (p *play) now() (map[string]course, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.courses(), p.refused
}

// Each library follows a user whose connection the server ends again and again:
// when the token expires, when it drains, and when it is killed. Meanwhile
// notifications are published all the time. Each that was acknowledged arrives,
// in order, and none twice.
func TestNothingIsLostOrRepeated(t *testing.T) {
	p := &play{stage: newStage(), t: t, service: startService(t, "dev"), libs: libraries()}
	p.service.ttl.Store(int64(4 * time.Second))
	token, err := p.service.token(t.Context(), "desk", time.Hour, "--role", "notifications:publish")
	if err != nil {
		t.Fatal(err)
	}
	tokens := p.service.tokens(t)
	stopClients := perform(t, p.stage, p.libs, func(l library) order {
		return order{
			Mode: follow, Targets: map[string]string{follow: p.service.url + notifications}, Tokens: tokens + "/" + l.key,
			Headers: map[string]string{"x-tenantid": tenant, "realmname": realm},
		}
	})
	p.each("first connection", func(_ string, c course) bool { return c.up })

	desk := publisher{service: p.service, token: token}
	for _, l := range p.libs {
		desk.users = append(desk.users, l.key)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() { desk.run(ctx, p.stage) })
	stopPublisher := func() { cancel(); publishing.Wait() }

	ok := t.Run("expiry, drain and kill", func(t *testing.T) {
		p.t = t
		p.expire()
		p.drain()
		p.kill()
		p.kill()
	})
	p.t = t
	if !ok {
		p.service.end(syscall.SIGKILL)
		p.service.restart(t) // the publisher ends with an acknowledgement
		stopPublisher()
		return
	}
	stopPublisher()
	p.each("all notifications", func(_ string, c course) bool {
		return slices.Contains(c.got, p.acked[len(p.acked)-1])
	})
	stopClients()
	p.verdict()
}

// expire lets tokens expire, three times each.
func (p *play) expire() {
	p.each("three tokens have expired", func(_ string, c course) bool { return c.ends["TOKEN_EXPIRED"] >= 3 && len(c.opened) >= 3 })
	p.service.ttl.Store(int64(10 * time.Minute))
	p.everyoneIsConnected()
}

// drain ends the service as an operator does, and starts it again.
func (p *play) drain() {
	if status := p.service.end(syscall.SIGTERM); status != 0 {
		p.t.Errorf("exit status %d after SIGTERM, want 0\n%s", status, p.service.log)
	}
	p.each("everyone was told of the drain", func(_ string, c course) bool { return c.ends["DRAINING"] >= 1 })
	p.service.restart(p.t)
	p.everyoneIsConnected()
}

// kill ends the service in the middle of whatever it does, and starts it again
// when everyone has noticed, and has knocked in vain once.
func (p *play) kill() {
	before, refused := p.now()
	p.service.end(syscall.SIGKILL)
	p.each("everyone was cut off and then refused", func(key string, c course) bool {
		return c.trouble >= before[key].trouble+2 && p.refused > refused
	})
	p.service.restart(p.t)
	p.each("everyone is back", func(key string, c course) bool { return len(c.opened) > len(before[key].opened) && c.up })
}

// verdict compares what arrived with what was acknowledged.
func (p *play) verdict() {
	all, refused := p.now()
	p.t.Logf("%d notifications acknowledged, %d times publishing was refused", len(p.acked), refused)
	for _, l := range p.libs {
		c := all[l.key]
		p.t.Logf("%s: %d connections, ends %v, %d deliveries", l.key, len(c.opened), c.ends, len(c.got))
		if diff := cmp.Diff(p.acked, c.got); diff != "" {
			p.t.Errorf("%s: acknowledged and delivered (-want +got):\n%s", l.key, diff)
		}
		if c.gaps != 0 {
			p.t.Errorf("%s: %d gaps, want none", l.key, c.gaps)
		}
		for i, o := range c.opened {
			if o.Recovered != (i > 0) {
				p.t.Errorf("%s: connection %d says recovered: %v, want %v", l.key, i+1, o.Recovered, i > 0)
			}
		}
	}
}
