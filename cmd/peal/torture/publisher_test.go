//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/cmd/peal/torture/history"
)

const (
	tryTimeout = 8 * time.Second
	giveUp     = time.Minute // after which a publication stays unknown
	batch      = 8           // ticket events of a request
	storeAgain = 50          // one in so many is sent once more though it was acknowledged
)

// publisher is the backend: it publishes at a steady rate, tries again what fails, and
// now and then what did not fail.
type publisher struct {
	plan    *plan
	minter  minter
	history *history.Writer
	crew    *crew
	http    http.Client

	next    atomic.Int64 // when the next publication is due, in nanoseconds since began
	began   time.Time
	serial  atomic.Int64
	tenants map[string][]int // tenant → indexes of its users

	mu      sync.Mutex // protects the rest, and that numbers are written down in their order
	numbers []int      // of each user
	stopped atomic.Bool
}

// pending is what is sent and may not be acknowledged yet.
type pending struct {
	id    string
	event bool
	to    []history.To
	body  json.RawMessage
	begun time.Time
}

// runPublisher is a process that publishes.
func runPublisher(p *plan) error {
	m, err := p.minter()
	if err != nil {
		return err
	}
	h, err := history.Create(p.Dir, "publisher")
	if err != nil {
		return err
	}
	b := &publisher{plan: p, minter: m, history: h, crew: newCrew(), began: time.Now(), tenants: make(map[string][]int), numbers: make([]int, len(p.Users)),
		http: http.Client{Timeout: tryTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: p.Workers, IdleConnTimeout: 20 * time.Second}}}
	for i, u := range p.Users {
		b.tenants[u.Tenant] = append(b.tenants[u.Tenant], i)
	}
	obey(func(verb, _ string) string {
		switch verb {
		case "publish":
			b.began, b.crew = time.Now(), newCrew()
			b.next.Store(0)
			b.stopped.Store(false)
			for w := range p.Workers {
				b.crew.Go(func() { b.work(rand.New(rand.NewPCG(p.Seed, uint64(w)+1_000_000))) })
			}
			return "ok"
		case "stop": // and say when everything is answered or given up
			b.stopped.Store(true)
			b.crew.end()
			return fmt.Sprint(b.serial.Load())
		}
		return "unknown"
	})
	b.stopped.Store(true)
	b.crew.end()
	b.http.CloseIdleConnections()
	return h.Close()
}

// due waits until n more publications are due. Where we are late, what was missed is
// not made up for.
func (b *publisher) due(n int) {
	each := int64(time.Second) / int64(b.plan.Rate)
	for {
		at := b.next.Load()
		now := int64(time.Since(b.began))
		if at < now-int64(time.Second) {
			if !b.next.CompareAndSwap(at, now) {
				continue
			}
			at = now
		}
		if b.next.CompareAndSwap(at, at+each*int64(n)) {
			b.crew.over(time.Duration(at - now))
			return
		}
	}
}

// work publishes one thing after the other.
func (b *publisher) work(r *rand.Rand) {
	tickets := make(map[string][]ticket) // tenant → those of this worker alone, so that their events are sent in order
	for tenant := range b.tenants {
		for range batch {
			tickets[tenant] = append(tickets[tenant], ticket{name: b.id("ticket")})
		}
	}
	share := float64(b.plan.Events) / 100
	batches := share / (batch - (batch-1)*share) // of all requests
	for !b.stopped.Load() {
		tenant := placements[r.IntN(len(placements))].Tenant
		if r.Float64() < batches {
			if b.due(len(tickets[tenant])); b.stopped.Load() {
				return
			}
			b.events(r, tenant, tickets[tenant])
			continue
		}
		if b.due(1); b.stopped.Load() {
			return
		}
		b.notification(r, tenant)
	}
}

// recipients chooses different users of a tenant.
func (b *publisher) recipients(r *rand.Rand, tenant string, n int) []int {
	of := b.tenants[tenant]
	first := r.IntN(len(of))
	all := make([]int, 0, n)
	for i := range min(n, len(of)) {
		all = append(all, of[(first+i)%len(of)])
	}
	return all
}

// ref is a user as publishers name one.
func (b *publisher) ref(i int) map[string]string {
	return map[string]string{"id": b.plan.Users[i].ID, "namespace": b.plan.Users[i].Realm}
}

// begin numbers a publication for each recipient and writes it down. body makes what
// is sent, of its title.
func (b *publisher) begin(id string, to []int, t ticket, body func(title string) any) *pending {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &pending{id: id, event: t.n > 0, begun: time.Now()}
	var seals []string
	for _, i := range to {
		b.numbers[i]++
		p.to = append(p.to, history.To{User: b.plan.Users[i].String(), Number: b.numbers[i]})
		seals = append(seals, b.plan.seal(b.plan.Users[i], b.numbers[i], id))
	}
	var err error
	if p.body, err = json.Marshal(body(strings.Join(seals, " "))); err != nil {
		panic(err)
	}
	r := history.Record{Kind: history.Publish, Publication: id, To: p.to}
	if p.event {
		r.Ticket, r.Number = t.id(), t.n
	}
	b.history.Write(r)
	return p
}

func (b *publisher) id(kind string) string { return fmt.Sprint(kind, "-", b.serial.Add(1)) }

// notification publishes one to one to three users, until it is acknowledged.
func (b *publisher) notification(r *rand.Rand, tenant string) {
	to := b.recipients(r, tenant, 1+r.IntN(3))
	id := b.id("n")
	refs := make([]any, len(to))
	for i, u := range to {
		refs[i] = b.ref(u)
	}
	types := peal.Types()
	p := b.begin(id, to, ticket{}, func(title string) any {
		return map[string]any{"recipients": refs, "notification": map[string]any{
			"id": id, "type": types[r.IntN(len(types))], "ticketId": "direct", "ticketNumber": id, "title": title, "message": "Torture",
		}}
	})
	defer b.final(p)
	for time.Since(p.begun) < giveUp {
		if b.try(r, tenant, p, false) {
			if r.IntN(storeAgain) == 0 {
				b.crew.over(some(r, 2*time.Second))
				b.try(r, tenant, p, true)
			}
			return
		}
		b.pause(r)
	}
}

// pause is a publisher's between two tries.
func (b *publisher) pause(r *rand.Rand) {
	time.Sleep(200*time.Millisecond + some(r, 500*time.Millisecond))
}

func (b *publisher) final(p *pending) {
	b.history.Write(history.Record{Kind: history.Final, Publication: p.id, To: p.to})
}

// post sends a request to some node.
func (b *publisher) post(r *rand.Rand, tenant, path string, body []byte, answer any) (outcomeOf string, status int, code string) {
	who := member{Tenant: tenant, ID: "desk"}
	for _, p := range placements {
		if p.Tenant == tenant {
			who.Realm = p.Realm
		}
	}
	header, err := b.minter.header(who, time.Minute, "notifications:publish")
	if err != nil {
		panic(err)
	}
	header["Content-Type"] = []string{"application/json"}
	return outcome(b.http, http.MethodPost, b.plan.Nodes[r.IntN(len(b.plan.Nodes))], path, header, body, answer)
}

// try sends a notification once.
func (b *publisher) try(r *rand.Rand, tenant string, p *pending, again bool) bool {
	var stored struct{ Stored, Duplicates int }
	rec := history.Record{Kind: history.Answer, Publication: p.id, Again: again}
	rec.Outcome, rec.Status, rec.Code = b.post(r, tenant, "/ticket/notification", p.body, &stored)
	if rec.Outcome == history.Stored {
		rec.Stores = stored.Stored
		if stored.Stored+stored.Duplicates != len(p.to) {
			rec.Outcome, rec.Code = history.Denied, fmt.Sprintf("%d stored and %d duplicates, for %d recipients", stored.Stored, stored.Duplicates, len(p.to))
		}
	}
	b.history.Write(rec)
	return rec.Outcome == history.Stored
}

// ticket is what events are of. Its events are sent one after the other.
type ticket struct {
	name       string
	generation int
	n          int   // events so far
	to         []int // its people; nil: it is to be another one
}

func (t *ticket) id() string { return fmt.Sprint(t.name, "-", t.generation) }

// ticketLasts is how many events a ticket has.
const ticketLasts = 20

// events publishes an event of each of some tickets in one request, until all are
// acknowledged.
func (b *publisher) events(r *rand.Rand, tenant string, tickets []ticket) {
	var left []*pending
	of := make(map[*pending]*ticket)
	for i := range tickets {
		t := &tickets[i]
		if t.to == nil || t.n >= ticketLasts {
			*t = ticket{name: t.name, generation: t.generation + 1, to: b.recipients(r, tenant, 1+r.IntN(3))}
		}
		t.n++
		id := b.id("e")
		p := b.begin(id, t.to, *t, func(title string) any {
			watchers := make([]any, 0, 2)
			for _, u := range t.to[1:] {
				watchers = append(watchers, b.ref(u))
			}
			return map[string]any{"id": id, "type": "comment", "comment": map[string]any{"id": id},
				"ticket": map[string]any{"id": t.id(), "number": id, "title": title, "assigneeId": b.ref(t.to[0]), "watcherIds": watchers}}
		})
		left = append(left, p)
		of[p] = t
	}
	defer func() {
		for p, t := range of {
			b.final(p)
			if p.begun.IsZero() { // given up: what comes after it would not be sent in order
				t.to = nil
			}
		}
	}()
	for began := time.Now(); len(left) > 0; b.pause(r) {
		if left = b.tryEvents(r, tenant, left); time.Since(began) > giveUp {
			for _, p := range left {
				p.begun = time.Time{}
			}
			return
		}
		if len(left) == 0 {
			return
		}
	}
}

// tryEvents sends events once, and returns those that are not acknowledged.
func (b *publisher) tryEvents(r *rand.Rand, tenant string, all []*pending) (left []*pending) {
	bodies := make([]json.RawMessage, len(all))
	for i, p := range all {
		bodies[i] = p.body
	}
	body, err := json.Marshal(map[string]any{"events": bodies})
	if err != nil {
		panic(err)
	}
	var answer struct {
		Results []struct {
			ID     string
			Status int
			Code   string
		}
	}
	rec := history.Record{Kind: history.Answer}
	rec.Outcome, rec.Status, rec.Code = b.post(r, tenant, "/ticket/events", body, &answer)
	for i, p := range all {
		mine := rec
		mine.Publication = p.id
		switch {
		case rec.Outcome != history.Stored:
		case len(answer.Results) != len(all):
			mine.Outcome, mine.Code = history.Denied, fmt.Sprintf("%d results of %d events", len(answer.Results), len(all))
		case answer.Results[i].ID != p.id:
			mine.Outcome, mine.Status, mine.Code = history.Denied, answer.Results[i].Status, answer.Results[i].Code
		}
		b.history.Write(mine)
		if mine.Outcome != history.Stored {
			left = append(left, p)
		}
	}
	return left
}
