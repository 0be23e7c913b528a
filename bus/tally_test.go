package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// The number that a device shows by the rule of a client is that of the list,
// whatever has dropped out of the inbox, and whenever.

// tally is an inbox with devices.
type tally struct {
	t *testing.T
	b *bus.Bus
	h *markings
}

func newTally(t *testing.T, change func(*bus.Config)) *tally {
	return &tally{t, open(t, change), newMarkings(0)}
}

// publish publishes so many notifications.
func (x *tally) publish(n int) (ids []string) {
	x.t.Helper()
	for range n {
		id := x.h.begin()
		publish(x.t, x.b, id, x.h.in)
		ids = append(ids, id)
	}
	return ids
}

// device connects another device. It takes what it has room for.
func (x *tally) device(room int) *device {
	x.t.Helper()
	d := newDevice(x.t, x.h, 0)
	if err := d.connect(x.t.Context(), x.b, room); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(d.disconnect)
	return d
}

// shows waits until a device shows a number.
func (x *tally) shows(d *device, unread int) {
	x.t.Helper()
	deadline := time.Now().Add(patience(x.t))
	for {
		d.mu.Lock()
		got, trace := d.shown.unread, d.trace
		d.mu.Unlock()
		if got == unread {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("the device shows %d unread, want %d\n%q", got, unread, trace)
		}
		time.Sleep(time.Millisecond)
	}
}

// settles waits until a device shows a number, in the version that the list has.
func (x *tally) settles(d *device, unread int) {
	x.t.Helper()
	c, err := x.b.Count(x.t.Context(), x.h.in)
	if err != nil {
		x.t.Fatal(err)
	}
	eventually(x.t, fmt.Sprintf("the device shows %d unread in version %v", unread, c.ReadState), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.shown.unread == unread && d.shown.version == c.ReadState
	})
}

// at waits until a device has come as far as the inbox.
func (x *tally) at(d *device) {
	x.t.Helper()
	page, err := x.b.List(x.t.Context(), x.h.in, bus.Query{})
	if err != nil {
		x.t.Fatal(err)
	}
	eventually(x.t, "the device has everything", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.shown.cursor.Seq >= page.Cursor.Seq
	})
}

// Who drops what came at the bound, and gets it again, is told the number once
// more: what has dropped out meanwhile it can't know.
func TestNumberAfterARewindAtTheBound(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after int
	}{
		{"of an inbox that reaches it", 3, 1},
		{"of an inbox that was empty", 0, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newTally(t, func(c *bus.Config) { c.PerInbox = 3 })
			x.publish(tt.before)
			d := x.device(-1)
			x.publish(tt.after - 1)
			x.at(d)
			d.pass()
			x.publish(1)
			x.at(d)
			d.drop() // before the number is looked at, as a rule
			x.at(d)
			x.shows(d, 3)
		})
	}
}

// A device that begins with a number from before the inbox was full learns that
// it is, though another device of the node knew it earlier.
func TestNumberOfALateDeviceAtTheBound(t *testing.T) {
	x := newTally(t, func(c *bus.Config) { c.PerInbox = 3 })
	x.publish(3)
	first := x.device(-1)
	x.shows(first, 3)
	d := newDevice(t, x.h, 1)
	s := &screen{d: d}
	f, err := x.b.Follow(t.Context(), x.h.in, bus.Cursor{}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	s.feed, d.feed, d.room, d.shown.unread = f, f, -1, int(f.Start().Unread)
	x.publish(1)
	x.at(first)
	x.shows(first, 3)
	f.Resume()
	x.at(d)
	x.shows(d, 3)
}

// That the oldest have expired is noticed for each device, also when another one
// has come since.
func TestNumberAfterExpiryOfEachDevice(t *testing.T) {
	x := newTally(t, func(c *bus.Config) { c.Retain, c.TailCheck = time.Second, -1 })
	x.publish(1)
	first := x.device(-1)
	x.shows(first, 1)
	settle(t, x.b, x.h.in)
	eventually(t, "the first has expired", func() bool {
		c, err := x.b.Count(t.Context(), x.h.in)
		return err == nil && c.Total == 0
	})
	stream, _ := x.b.StreamOf(x.h.in)
	keepFor(t, x.b, stream, time.Hour)
	x.publish(1)
	x.at(first)
	second := x.device(-1)
	x.shows(second, 1)
	x.b.CheckTails()
	x.shows(first, 1)
}

// keepFor sets how long a stream keeps its messages.
func keepFor(t *testing.T, b *bus.Bus, stream string, retain time.Duration) {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxAge, cfg.Duplicates = retain, min(cfg.Duplicates, retain)
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// What drops out of the inbox while it is counted is looked at again.
func TestNumberWhileItIsCounted(t *testing.T) {
	b, hold := openHolding(t, readConn, func(c *bus.Config) { c.PerInbox, c.TailCheck = 3, -1 })
	other := bustest.Open(t, hold.server, nil)
	x := &tally{t, b, newMarkings(0)}
	ids := x.publish(3)
	markAs(t, other, x.h.in, bus.Mark{All: true})
	d := x.device(-1)
	x.shows(d, 0)
	settle(t, b, x.h.in)

	release := hold.hold()
	defer release()
	markAs(t, other, x.h.in, bus.Mark{IDs: ids[:1], Unread: true})
	eventually(t, "the count is under way", hold.answered)
	x.b = other
	x.publish(2) // the unread one drops out
	x.at(d)
	eventually(t, "the bound was to be looked at", func() bool { return !b.Waiting(x.h.in) })
	release()
	x.settles(d, 2)
}

// What is delivered while the number is counted is in it.
func TestNumberHasWhatCameSince(t *testing.T) {
	b, hold := openHolding(t, readConn, func(c *bus.Config) { c.TailCheck = -1 })
	other := bustest.Open(t, hold.server, nil)
	x := &tally{t, b, newMarkings(0)}
	ids := x.publish(2)
	d := x.device(-1)
	x.shows(d, 2)
	settle(t, b, x.h.in)

	release := hold.hold()
	defer release()
	markAs(t, other, x.h.in, bus.Mark{IDs: ids[:1]})
	eventually(t, "the count is under way", hold.answered)
	x.b = other
	x.publish(3)
	x.at(d)
	release()
	x.settles(d, 4)
}

// In another incarnation of the inbox stream nothing is read, though its
// notifications have the sequences of others that were.
func TestReadStateIsOfOneIncarnation(t *testing.T) {
	x := newTally(t, nil)
	x.publish(3)
	d := x.device(-1)
	markAs(t, x.b, x.h.in, bus.Mark{All: true})
	x.shows(d, 0)
	recreate(t, x.b, x.h.in)
	ids := x.publish(2)
	if got, want := list(t, x.b, x.h.in), ids[1]+"* "+ids[0]+"*"; got != want {
		t.Errorf("the list is %q, want %q", got, want)
	}
	x.settles(d, 2)
	x.settles(x.device(-1), 2)
	if got := markAs(t, x.b, x.h.in, bus.Mark{IDs: ids[1:]}); got != 1 {
		t.Errorf("one changes %d", got)
	}
	x.settles(d, 1)
}

// A stream of read states that has lost its tail is believed, not what is known
// from before.
func TestReadStateGoesBack(t *testing.T) {
	x := newTally(t, func(c *bus.Config) { c.TailCheck = -1 })
	ids := x.publish(2)
	markAs(t, x.b, x.h.in, bus.Mark{IDs: ids[:1]})
	d := x.device(-1)
	x.shows(d, 1)
	x.b.ArriveState(x.h.in, nats.Header{jetstream.SequenceHeader: {"1000"}, "Nats-Last-Sequence": {"1"}},
		[]byte(`{"v":1,"epoch":"`+string(x.b.Epoch(x.h.in))+`","floor":2}`))
	x.shows(d, 0)
	x.b.CheckTails()
	x.shows(d, 1)
	markAs(t, x.b, x.h.in, bus.Mark{All: true})
	x.settles(d, 0)
}
