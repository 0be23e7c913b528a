package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/sse"
)

var (
	listSeed = flag.Uint64("list.seed", 0, "seed of the model test of lists; 0 chooses one")
	listTime = flag.Duration("list.time", 0, "how long the model test of lists runs; 0 means 5 s, or 2 s with -short")
)

// restarts is a JetStream that can be stopped and started again on its disk.
type restarts struct {
	dir string

	mu     sync.Mutex // protects server
	server *embedded.Server
}

func (r *restarts) running() (*embedded.Server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return nil, errors.New("stopped")
	}
	return r.server, nil
}

func (r *restarts) InProcessConn() (net.Conn, error) {
	s, err := r.running()
	if err != nil {
		return nil, err
	}
	return s.InProcessConn()
}

func (r *restarts) Writable() error {
	s, err := r.running()
	if err != nil {
		return err
	}
	return s.Writable()
}

// restart stops the server, and starts it again after a while.
func (r *restarts) restart(t testing.TB, after time.Duration) {
	r.mu.Lock()
	s := r.server
	r.server = nil
	r.mu.Unlock()
	s.Close()
	<-time.After(after)
	s = bustest.ServerIn(t, r.dir)
	r.mu.Lock()
	r.server = s
	r.mu.Unlock()
}

// desk is the truth about some tickets, and what is published of it.
type desk struct {
	t       *testing.T
	site    *site
	people  []peal.UserID
	members [][]int // queue → people

	mu      sync.Mutex // protects the rest; held while a change is published
	random  *rand.Rand
	tickets []*deskTicket
	changes int
}

type deskTicket struct {
	id       string
	queue    int
	assignee int // -1: nobody
	watchers map[int]bool
	gone     bool
	at       peal.Timestamp
}

// sees reports whether somebody sees a ticket; -1 sees all.
func (d *desk) sees(t *deskTicket, who int) bool {
	return !t.gone && (who < 0 || slices.Contains(d.members[t.queue], who) || t.assignee == who || t.watchers[who])
}

// view is what somebody's list shows: ticket → its last change.
func (d *desk) view(who int) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]string)
	for _, t := range d.tickets {
		if d.sees(t, who) {
			all[t.id] = t.at.String()
		}
	}
	return all
}

// work changes tickets until stop is closed: one now and then, or one many times.
func (d *desk) work(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(d.random.Int64N(int64(8 * time.Millisecond)))):
		}
		d.mu.Lock()
		t, burst := d.pick(), 1
		if d.random.IntN(20) == 0 {
			burst = 30
		}
		for range burst {
			d.changeLocked(t)
		}
		d.mu.Unlock()
	}
}

// pick chooses a ticket, or makes one.
func (d *desk) pick() *deskTicket {
	if len(d.tickets) < 5 || d.random.IntN(15) == 0 {
		d.tickets = append(d.tickets, &deskTicket{id: fmt.Sprint("t", len(d.tickets)), assignee: -1, watchers: make(map[int]bool)})
		return d.tickets[len(d.tickets)-1]
	}
	return d.tickets[d.random.IntN(len(d.tickets))]
}

// changeLocked changes a ticket somehow, and publishes that until it is acknowledged.
func (d *desk) changeLocked(t *deskTicket) {
	before := make(map[int]bool)
	for who := range d.people {
		before[who] = d.sees(t, who)
	}
	d.changes++
	u := ticketUpdate(t.id, d.changes)
	u.Changes = []peal.Change{peal.ChangeStatus}
	switch n := d.random.IntN(12); {
	case t.at.IsZero():
		u.Action, t.queue = peal.ActionCreated, d.random.IntN(len(d.members))
	case t.gone && n > 0: // as it is
		t.gone, u.Action = false, peal.ActionCreated
	case n == 0:
		t.gone, u.Action = true, peal.ActionRemoved
	case n < 4:
		t.queue, u.Changes = d.random.IntN(len(d.members)), []peal.Change{peal.ChangeQueue}
	case n < 6:
		t.assignee, u.Changes = d.random.IntN(1+len(d.people))-1, []peal.Change{peal.ChangeAssignee}
	case n < 7:
		who := d.random.IntN(len(d.people))
		t.watchers[who], u.Changes = !t.watchers[who], []peal.Change{peal.ChangeWatchers}
	}
	t.at = u.UpdatedAt
	var sees, lost []peal.Inbox
	for who, name := range d.people {
		switch {
		case d.sees(t, who), t.gone && before[who]:
			sees = append(sees, inbox(string(name)))
		case before[who]:
			lost = append(lost, inbox(string(name)))
		}
	}
	for {
		err := d.site.bus.PublishUpdate(context.Background(), acme, fmt.Sprint("e", d.changes), u, sees, lost)
		if err == nil {
			return
		}
		if !errors.Is(err, peal.ErrUnavailable) {
			d.t.Errorf("publish: %v", err)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// lookout is somebody with a list on a screen, over connections that end.
type lookout struct {
	desk   *desk
	who    int // -1 sees all
	user   user
	random *rand.Rand
	calm   chan struct{} // closed when it is to stay connected

	mu    sync.Mutex // protects the rest
	shows map[string]string
	ids   []string // that it got, of all connections
	gaps  int
}

func (l *lookout) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.connect(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// connect follows for a while: from where it was, from somewhere before, or anew.
func (l *lookout) connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	after := ""
	if n := len(l.ids); n > 0 {
		switch l.random.IntN(10) {
		case 0:
		case 1, 2: // never on from a place that it has gone back from
			after = l.ids[n-1]
			if older := l.ids[l.random.IntN(n)]; bus.ParseCursor(older).Seq < bus.ParseCursor(after).Seq {
				after = older
			}
		default:
			after = l.ids[n-1]
		}
	}
	s := l.desk.site
	resp, err := s.client.Do(s.request(ctx, "GET", updatesPath, l.user, "", header("Last-Event-ID", after)))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK { // without JetStream, or before the last was let go
		return
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-l.calm: // it stays
		case <-time.After(time.Duration(l.random.Int64N(int64(800 * time.Millisecond)))):
			cancel()
		}
	}()
	events := sse.NewReader(resp.Body)
	last, owesGap := bus.ParseCursor(after).Seq, false
	for {
		e, err := events.Next()
		if err != nil {
			return
		}
		if owesGap && (e.Name == sse.TicketUpdate || e.Name == sse.Connected) {
			l.desk.t.Errorf("after %q: %s %s, want a gap", after, e.Name, e.Data)
		}
		owesGap = e.Name == sse.Connected && e.ID == "" || owesGap && e.Name != sse.Gap
		l.take(e, after, &last)
	}
}

func (l *lookout) take(e sse.Event, after string, last *uint64) {
	switch e.Name {
	case sse.Connected:
		if recovered := field(l.desk.t, e, "recovered") == true; recovered != (after != "" && e.ID != "") {
			l.desk.t.Errorf("after %q: %s with id %q", after, e.Data, e.ID)
		}
		if after == "" {
			l.fetch()
		}
	case sse.Gap:
		l.mu.Lock()
		l.gaps++
		l.mu.Unlock()
		l.fetch()
	case sse.TicketUpdate:
		var u peal.TicketUpdate
		if err := json.Unmarshal(e.Data, &u); err != nil {
			l.desk.t.Errorf("%s: %v", e.Data, err)
		}
		l.mu.Lock()
		if u.Action == peal.ActionRemoved {
			delete(l.shows, u.TicketID)
		} else {
			l.shows[u.TicketID] = u.UpdatedAt.String()
		}
		l.mu.Unlock()
	default:
		return
	}
	if e.ID == "" {
		return
	}
	seq := bus.ParseCursor(e.ID).Seq
	if e.Name == sse.TicketUpdate && seq <= *last {
		l.desk.t.Errorf("%s has id %s after %d", e.Data, e.ID, *last)
	}
	*last = seq
	l.ids = append(l.ids, e.ID)
}

// fetch fetches the whole list.
func (l *lookout) fetch() {
	view := l.desk.view(l.who)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shows = view
}

// Whatever happens to tickets, to connections and to JetStream: at quiet every list
// shows what its user sees, with the last change of each, and no id goes back.
func TestListModel(t *testing.T) {
	seed, lasting := *listSeed, *listTime
	if seed == 0 {
		seed = rand.Uint64()
	}
	switch {
	case lasting != 0:
	case testing.Short():
		lasting = 2 * time.Second
	default:
		lasting = 5 * time.Second
	}
	t.Logf("again with -list.seed %d", seed)
	random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
	var nats *restarts
	s := start(t, func(c *config) {
		c.restart = func(r *restarts) { nats = r }
		c.bus.PerTenant = 300
		c.bus.Timeout = 2 * time.Second
	})
	d := &desk{
		t: t, site: s, random: random(0),
		people:  []peal.UserID{"ann", "bob", "cid", "dan", "eve", "fay"},
		members: [][]int{{0, 1}, {1, 2, 3}, {4}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	calm := make(chan struct{})
	var running sync.WaitGroup
	var lists []*lookout
	for i := range 2 * (len(d.people) + 1) { // two devices each
		who := i%(len(d.people)+1) - 1
		u := user{"acme", acme, s.token("acme", issuer.Claims{Subject: "lead", Roles: []string{"tickets:all"}})}
		if who >= 0 {
			u = s.user("acme", acme, string(d.people[who]))
		}
		l := &lookout{desk: d, who: who, user: u, random: random(uint64(i + 1)), calm: calm, shows: make(map[string]string)}
		lists = append(lists, l)
		running.Go(func() { l.run(ctx) })
	}
	defer running.Wait()
	defer cancel()

	stop := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() { d.work(stop) })
	<-time.After(lasting / 2)
	nats.restart(t, lasting/10)
	<-time.After(lasting / 2)
	close(stop)
	working.Wait()
	close(calm)
	gaps, ids := 0, 0
	for i, l := range lists {
		want := d.view(l.who)
		got := func() map[string]string {
			l.mu.Lock()
			defer l.mu.Unlock()
			return maps.Clone(l.shows)
		}
		for late := time.Now().Add(patience); !maps.Equal(want, got()); <-time.After(20 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("list %d, of who sees as %d, at quiet (-want +got):\n%s", i, l.who, cmp.Diff(want, got()))
			}
		}
		l.mu.Lock()
		gaps += l.gaps
		l.mu.Unlock()
	}
	cancel()
	running.Wait()
	for _, l := range lists {
		ids += len(l.ids)
	}
	t.Logf("%d changes of %d tickets, %d ids and %d gaps on %d lists", d.changes, len(d.tickets), ids, gaps, len(lists))
	if ids == 0 || d.changes == 0 {
		t.Error("nothing has happened")
	}
}
