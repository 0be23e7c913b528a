package verdict_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

// world is a service that keeps every promise, and what happens to it: it makes the
// history of a run of whatever size, which is right.
type world struct {
	size
	r     *rand.Rand
	yield func(*history.Record) bool
	over  bool

	now     int64
	seq     [4]uint64 // of each partition
	users   []*citizen
	serial  int // of connections and publications
	work    []func()
	tickets map[int]int
	broken  string // the node that is down; "" if none
	until   int64
	faults  int
}

// size is that of a run.
type size struct {
	users, devices int // of a user
	lasting        time.Duration
	rate           int // publications a second
}

var (
	small = size{30, 3, 50 * time.Second, 30}
	ci    = size{500, 3, 5 * time.Minute, 200}
)

const nodes = 3

// citizen is a user.
type citizen struct {
	name      string
	partition int
	log       []stored
	count     int // published
	version   int
	devices   []*gadget
}

type stored struct {
	n    int
	seq  uint64
	read bool
}

// gadget is a device.
type gadget struct {
	user    *citizen
	name    string
	node    string
	conn    string // "" without one
	place   uint64
	next    int // index in the log of what it lacks
	began   bool
	expires int64
	back    int64 // when it may connect again
	beat    int64
	pending bool            // a state event
	opening *history.Record // what it is told first, which it has not read yet
}

// history makes the run of a seed.
func (s size) history(seed uint64) iter.Seq[*history.Record] {
	return func(yield func(*history.Record) bool) {
		w := &world{size: s, r: rand.New(rand.NewPCG(seed, 1)), yield: yield, now: 1_790_000_000_000_000, tickets: make(map[int]int)}
		for i := range s.users {
			u := &citizen{name: fmt.Sprintf("t%d/ns/u%d", i%4, i/4), partition: i % len(w.seq)}
			for d := range s.devices {
				late := w.r.Int64N(s.lasting.Microseconds() / 2) // others are there and get what it may get too
				if d == 0 {
					late = 0
				}
				u.devices = append(u.devices, &gadget{back: w.now + late, user: u, name: fmt.Sprintf("%s#%d", u.name, d), node: fmt.Sprint("edge-", (i+d)%nodes)})
			}
			w.users = append(w.users, u)
		}
		w.run()
	}
}

func (w *world) write(r history.Record) {
	r.At, r.File, r.Line = w.now, "world", w.serial
	if !w.over && !w.yield(&r) {
		w.over = true
	}
}

func (w *world) run() {
	w.write(history.Record{Kind: history.Run, Bounds: &history.Bounds{Limit: 5, PerInbox: 500, Window: 30e6}})
	for n := range nodes {
		w.write(history.Record{Kind: history.Usage, Phase: history.Base, Node: fmt.Sprint("edge-", n), RSS: 50 << 20, Descriptors: 20, Goroutines: 60, Subscriptions: 30})
	}
	end := w.now + w.lasting.Microseconds()
	tick := int64(1e6 / w.rate)
	nextFault := w.now + 15e6
	for w.now < end && !w.over {
		w.now += tick/2 + w.r.Int64N(tick)
		w.publish()
		for range 1 + w.r.IntN(2) {
			if len(w.work) > 0 {
				w.work[0]()
				w.work = w.work[1:]
			}
		}
		w.move(w.users[w.r.IntN(len(w.users))])
		for range 6 {
			w.move(w.users[w.r.IntN(len(w.users))])
		}
		switch {
		case w.broken != "" && w.now > w.until:
			w.write(history.Record{Kind: history.Healed, ID: w.faults})
			w.broken = ""
			nextFault = w.now + 35e6
		case w.broken == "" && w.now > nextFault:
			w.kill()
		}
	}
	w.settle()
}

// publish publishes something to one to three users.
func (w *world) publish() {
	w.serial++
	p := fmt.Sprint("p", w.serial)
	n := 1 + w.r.IntN(3)
	first := w.r.IntN(len(w.users))
	to := make([]history.To, n)
	for i := range n {
		u := w.users[(first+i)%len(w.users)]
		u.count++
		to[i] = history.To{User: u.name, Number: u.count}
	}
	r := history.Record{Kind: history.Publish, Publication: p, To: to}
	event := w.r.IntN(4) == 0
	if event {
		ticket := first
		w.tickets[ticket]++
		r.Ticket, r.Number = fmt.Sprint("ticket-", ticket), w.tickets[ticket]
	}
	w.write(r)
	final := func() { w.write(history.Record{Kind: history.Final, Publication: p, To: to}) }
	store := func() {
		for i := range n {
			w.store(w.users[(first+i)%len(w.users)], to[i].Number)
		}
	}
	switch lot := w.r.IntN(100); {
	case event: // worked on later, in their order
		w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Stored})
		final()
		w.work = append(w.work, store)
	case lot < 2: // never answered, and stored or not
		w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Unknown})
		if lot == 0 {
			store()
		}
		final()
	case lot < 5: // stored, not answered, and tried again
		store()
		w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Unknown})
		w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Stored})
		final()
	default:
		store()
		w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Stored, Stores: n})
		if lot < 8 {
			w.write(history.Record{Kind: history.Answer, Publication: p, Outcome: history.Stored, Again: true})
		}
		final()
	}
}

func (w *world) store(u *citizen, n int) {
	w.seq[u.partition] += 10
	u.log = append(u.log, stored{n: n, seq: w.seq[u.partition]})
}

func (u *citizen) cursor(seq uint64) string { return fmt.Sprintf("epoch%03d-%d", u.partition, seq) }

func (u *citizen) unread(upTo int) (n int) {
	for _, s := range u.log[:upTo] {
		if !s.read {
			n++
		}
	}
	return n
}

func (u *citizen) state() string { return fmt.Sprint("v", u.version) }

// move has the devices of a user do something.
func (w *world) move(u *citizen) {
	for _, d := range u.devices {
		switch {
		case d.conn == "" && w.now >= d.back && d.node != w.broken:
			w.connect(d)
		case d.conn == "":
			if d.node == w.broken {
				d.node = fmt.Sprint("edge-", w.r.IntN(nodes))
			}
		case d.opening != nil:
			w.write(*d.opening)
			d.opening = nil
		case w.now >= d.expires:
			w.now = max(w.now, d.expires+100)
			w.write(history.Record{Kind: history.Error, Conn: d.conn, Device: d.name, Code: "TOKEN_EXPIRED"})
			w.end(d, history.Cut, 1e6)
		case d.next < len(u.log):
			w.deliver(d)
		case d.pending:
			d.pending = false
			w.write(history.Record{Kind: history.State, Conn: d.conn, Device: d.name, Unread: u.unread(d.next), Version: u.state()})
		case w.now >= d.beat:
			d.beat = w.now + 5e6
			w.write(history.Record{Kind: history.Beat, Conn: d.conn, Device: d.name, Server: w.now})
		case w.r.IntN(400) == 0:
			w.end(d, history.Left, w.r.Int64N(8e6))
		}
	}
	if w.r.IntN(200) == 0 && len(u.log) > 0 {
		i := w.r.IntN(len(u.log))
		for j := range u.log[:i+1] {
			u.log[j].read = true
		}
		u.version++
		w.write(history.Record{Kind: history.Mark, User: u.name, Outcome: history.Stored, Cursor: u.cursor(u.log[i].seq)})
		for _, d := range u.devices {
			d.pending = d.conn != ""
		}
	}
}

func (w *world) connect(d *gadget) {
	w.serial++
	u := d.user
	d.conn = fmt.Sprint("c", w.serial)
	asked := ""
	if d.began {
		asked = u.cursor(d.place)
	} else {
		d.place, d.next, d.began = w.seq[u.partition], len(u.log), true
	}
	d.expires, d.beat, d.pending = w.now+15e6+w.r.Int64N(60e6), w.now+5e6, false
	w.write(history.Record{Kind: history.Dial, Conn: d.conn, Device: d.name, User: u.name, Node: d.node, Asked: asked})
	d.opening = &history.Record{Kind: history.Open, Conn: d.conn, Device: d.name, User: u.name, Node: d.node, Cursor: u.cursor(d.place), Recovered: asked != "",
		Unread: u.unread(d.next), Version: u.state(), Expires: d.expires, Server: w.now, Paused: 1e6}
}

func (w *world) deliver(d *gadget) {
	s := d.user.log[d.next]
	d.next++
	d.place = s.seq
	w.write(history.Record{Kind: history.Received, Conn: d.conn, Device: d.name, Number: s.n, Cursor: d.user.cursor(s.seq), Read: s.read})
}

func (w *world) end(d *gadget, how string, pause int64) {
	if d.opening != nil {
		w.write(*d.opening)
		d.opening = nil
	}
	w.write(history.Record{Kind: history.End, Conn: d.conn, Device: d.name, How: how})
	d.conn, d.back = "", w.now+pause
}

// kill kills a node.
func (w *world) kill() {
	w.faults++
	w.broken, w.until = fmt.Sprint("edge-", w.r.IntN(nodes)), w.now+3e6
	w.write(history.Record{Kind: history.Fault, ID: w.faults, Name: verdict.NodeKill, Node: w.broken})
	for _, u := range w.users {
		for _, d := range u.devices {
			if d.conn != "" && d.node == w.broken {
				w.end(d, history.Cut, 1e6)
			}
		}
	}
}

// settle ends the run: everybody has everything, and what each says is written down.
func (w *world) settle() {
	if w.broken != "" {
		w.write(history.Record{Kind: history.Healed, ID: w.faults})
		w.broken = ""
	}
	for _, do := range w.work {
		do()
	}
	for _, u := range w.users {
		for _, d := range u.devices {
			if d.conn == "" {
				w.now = max(w.now, d.back)
				w.connect(d)
			}
			if d.opening != nil {
				w.write(*d.opening)
				d.opening = nil
			}
			for d.next < len(u.log) {
				w.deliver(d)
			}
			if d.pending {
				w.write(history.Record{Kind: history.State, Conn: d.conn, Device: d.name, Unread: u.unread(d.next), Version: u.state()})
			}
		}
	}
	w.now += 1e6
	w.write(history.Record{Kind: history.Quiet})
	for _, u := range w.users {
		r := history.Record{Kind: history.Inbox, User: u.name, Node: "edge-0", Unread: u.unread(len(u.log)), Version: u.state()}
		for _, s := range slices.Backward(u.log) {
			r.Entries = append(r.Entries, history.Entry{Number: s.n, Cursor: u.cursor(s.seq), Read: s.read})
		}
		w.write(r)
		for n := 1; n < nodes; n++ {
			w.write(history.Record{Kind: history.Count, User: u.name, Node: fmt.Sprint("edge-", n), Unread: r.Unread, Version: r.Version})
		}
	}
	for _, u := range w.users {
		for _, d := range u.devices {
			w.write(history.Record{Kind: history.Rest, Device: d.name, User: u.name})
		}
	}
	for n := range nodes {
		w.write(history.Record{Kind: history.Usage, Phase: history.After, Node: fmt.Sprint("edge-", n), RSS: 51 << 20, Descriptors: 21, Goroutines: 58, Subscriptions: 30})
	}
}
