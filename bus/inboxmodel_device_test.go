package bus_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// device shows an inbox: a number and a list, kept by the rules that a client is
// given. Its connection has room for so much, may lose what it has not passed on
// yet, and comes back.
type device struct {
	name string
	t    testing.TB
	h    *markings
	own  int // it marks notifications of this number modulo those of its inbox

	mu       sync.Mutex // protects the rest
	feed     *bus.Feed  // nil while it is disconnected
	node     *bus.Bus   // of the feed
	room     int        // negative: no bound
	refuse   int        // so often it has dropped what it held, and the feed is not back there yet
	shown    shown
	passedOn shown // what it falls back to
	listing  bool
	since    []func(*shown) // what has come since the list was asked for
	blamed   bool
	trace    []string // the last that has happened
}

// shown is what a device shows.
type shown struct {
	cursor  bus.Cursor
	unread  int
	version bus.Cursor
	stale   bool // the list is to be fetched
	list    map[string]entry
}

func (s shown) clone() shown {
	s.list = maps.Clone(s.list)
	return s
}

func newDevice(t testing.TB, h *markings, own int) *device {
	return &device{name: fmt.Sprintf("device %d of %s", own, h.in.User), t: t, h: h, own: own, shown: shown{stale: true, list: map[string]entry{}}}
}

// note keeps what has happened; d.mu is held.
func (d *device) note(format string, args ...any) {
	d.trace = append(d.trace[max(0, len(d.trace)-40):], time.Now().Format("05.000000 ")+fmt.Sprintf(format, args...))
}

// blame reports what is wrong; d.mu is held.
func (d *device) blame(format string, args ...any) {
	if !d.blamed {
		d.blamed = true
		d.t.Errorf("%s: %s\n\t%s", d.name, fmt.Sprintf(format, args...), strings.Join(d.trace, "\n\t"))
	}
}

// apply has something change what is shown; d.mu is held.
func (d *device) apply(change func(*shown)) {
	change(&d.shown)
	if d.listing {
		d.since = append(d.since, change)
	}
}

// screen takes what one feed delivers, and nothing once it is closed.
type screen struct {
	d    *device
	feed *bus.Feed // set before the first Resume, then read-only
}

func (s *screen) take(judge func(d *device)) bool {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.feed != s.feed || d.room == 0 || d.refuse > 0 {
		return false
	}
	d.room--
	judge(d)
	return true
}

func (s *screen) Deliver(m *bus.Message) bool {
	return s.take(func(d *device) {
		var n peal.Notification
		err := json.Unmarshal(m.Data, &n)
		d.note("%s read %v at %v", n.ID, m.Read, m.Cursor)
		if err != nil || n.Read != m.Read {
			d.blame("read is %v beside %s: %v", m.Read, m.Data, err)
		}
		if _, ours := d.h.numberOf(n.ID); !ours {
			d.blame("%s was never published to this inbox", n.ID)
		}
		d.apply(func(sh *shown) {
			sh.list[n.ID] = entry{n.ID, m.Cursor, m.Read}
		})
		d.shown.cursor = m.Cursor
		if !m.Read {
			d.shown.unread++
		}
	})
}

func (s *screen) Gap(g bus.Gap) bool {
	return s.take(func(d *device) {
		d.note("gap %v at %v", g.Code, g.Cursor)
		d.shown.cursor, d.shown.stale = g.Cursor, true
	})
}

func (s *screen) State(state bus.ReadState) bool {
	return s.take(func(d *device) {
		d.note("state %+v", state)
		if state.Refetch && state.Changed != nil {
			d.blame("told to fetch the list, and of %v", state.Changed)
		}
		d.apply(func(sh *shown) {
			for _, c := range state.Changed {
				if e, there := sh.list[c.ID]; there {
					e.read = c.Read
					sh.list[c.ID] = e
				}
			}
		})
		d.shown.unread, d.shown.version = int(state.Unread), state.Version
		d.shown.stale = d.shown.stale || state.Refetch
	})
}

// connect follows the inbox from where the device stands.
func (d *device) connect(ctx context.Context, b *bus.Bus, room int) error {
	d.mu.Lock()
	d.room, d.refuse = room, 0
	after := d.shown.cursor
	d.mu.Unlock()
	s := &screen{d: d}
	f, err := b.Follow(ctx, d.h.in, after, s)
	if err != nil {
		return err
	}
	d.mu.Lock()
	s.feed, d.feed, d.node = f, f, b
	start := f.Start()
	d.note("connected after %v, starts %+v", after, start)
	d.shown.unread = int(start.Unread)
	if start.ReadState != d.shown.version {
		d.shown.version, d.shown.stale = start.ReadState, true
	}
	if after.IsZero() {
		d.shown.cursor, d.shown.stale = start.Cursor, true
	}
	d.passedOn = d.shown.clone()
	d.mu.Unlock()
	f.Resume()
	return nil
}

func (d *device) disconnect() {
	d.mu.Lock()
	f := d.feed
	d.feed, d.node = nil, nil
	d.note("disconnects")
	d.mu.Unlock()
	if f != nil {
		f.Close()
	}
}

func (d *device) connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.feed != nil
}

// give makes room, and has the feed go on.
func (d *device) give(room int) {
	d.mu.Lock()
	d.room = room
	f := d.feed
	d.mu.Unlock()
	if f != nil {
		f.Resume()
	}
}

// drop forgets what was taken and not passed on, and has the feed go back.
func (d *device) drop() {
	d.mu.Lock()
	f, to := d.feed, d.passedOn.clone()
	if f == nil {
		d.mu.Unlock()
		return
	}
	d.note("drops back to %v with %d unread", to.cursor, to.unread)
	d.shown = to
	d.refuse++
	d.mu.Unlock()
	f.Rewind(to.cursor, func() {
		d.mu.Lock()
		if d.feed == f {
			d.refuse--
		}
		d.mu.Unlock()
		f.Resume()
	})
}

// pass passes on what was taken.
func (d *device) pass() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passedOn = d.shown.clone()
}

// fallBack shows what was passed on; d.mu is held.
func (d *device) fallBack() {
	if d.passedOn.list != nil { // it was connected once
		d.shown = d.passedOn.clone()
	}
}

// fetch fetches the list, if it is to be fetched, while the feed goes on. What
// comes meanwhile is applied to the list once it is there.
func (d *device) fetch(ctx context.Context, b *bus.Bus) error {
	d.mu.Lock()
	if !d.shown.stale || d.listing {
		d.mu.Unlock()
		return nil
	}
	d.listing, d.since, d.shown.stale = true, nil, false
	d.passedOn = d.shown.clone()
	d.mu.Unlock()
	page, err := b.List(ctx, d.h.in, bus.Query{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listing = false
	if err != nil {
		d.shown.stale, d.passedOn.stale = true, true
		return err
	}
	d.shown.list = make(map[string]entry)
	for _, e := range entries(d.t, page) {
		d.shown.list[e.id] = e
	}
	if d.feed == nil {
		d.shown.cursor, d.shown.version = page.Cursor, page.ReadState
	}
	for _, change := range d.since {
		change(&d.shown)
	}
	d.note("lists %v at %v, %v; %d came meanwhile", entries(d.t, page), page.Cursor, page.ReadState, len(d.since))
	d.since = nil
	d.passedOn = d.shown.clone()
	return nil
}

// entries reads a page.
func entries(t testing.TB, page bus.Page) (all []entry) {
	for _, e := range page.Entries {
		var n peal.Notification
		if err := json.Unmarshal(e.Data, &n); err != nil || n.Read != e.Read {
			t.Errorf("%s: read is %v: %v", e.Data, e.Read, err)
		}
		all = append(all, entry{n.ID, e.Cursor, e.Read})
	}
	return all
}

// step does one thing of what devices do.
func (d *device) step(ctx context.Context, r *rand.Rand, nodes []*bus.Bus) error {
	b := nodes[r.IntN(len(nodes))]
	room := r.IntN(40) - 20 // half of them without bound
	if !d.connected() {
		d.mu.Lock()
		switch n := r.IntN(100); {
		case n < 5: // it is switched off and on
			d.shown = shown{stale: true, list: map[string]entry{}}
		case n < 10:
			d.shown.cursor = bus.Unknown
		case n < 40:
			d.fallBack()
		}
		d.mu.Unlock()
		return d.connect(ctx, b, room)
	}
	switch n := r.IntN(100); {
	case n < 12:
		d.disconnect()
	case n < 13:
		if b.Connected() { // else they wait for NATS
			b.DeafenState(d.h.in)
		}
	case n < 14:
		if b.Connected() {
			b.Deafen(d.h.in)
		}
	case n < 16:
		if b.Connected() {
			b.Hear(d.h.in)
		}
	case n < 30:
		d.drop()
	case n < 45:
		d.pass()
	case n < 70:
		d.give(room)
	default:
		return d.fetch(ctx, b)
	}
	return nil
}

// places returns the cursors that the device knows, of what it shows.
func (d *device) places() (all []bus.Cursor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.shown.list {
		all = append(all, e.cursor)
	}
	slices.SortFunc(all, func(a, b bus.Cursor) int { return cmp.Compare(a.Seq, b.Seq) }) // as the seed has it
	return all
}

// wrong returns what is wrong with what the device shows, if that is a list, of
// which so many are unread, in a version; "" if nothing is.
func (d *device) wrong(want []entry, unread int, version bus.Cursor) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shown.unread != unread || d.shown.version != version || d.shown.stale {
		return fmt.Sprintf("it shows %d unread in %v (to be fetched: %v), want %d in %v", d.shown.unread, d.shown.version, d.shown.stale, unread, version)
	}
	for _, e := range want {
		if got, there := d.shown.list[e.id]; !there || got.read != e.read {
			return fmt.Sprintf("it shows %v (there: %v), want %v of %v", got, there, e, want)
		}
	}
	return ""
}
