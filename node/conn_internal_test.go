package node

import (
	"errors"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// A connection that was being let in when the drain began would be ended by
// nobody.
func TestNothingOpensOnceTheDrainHasBegun(t *testing.T) {
	n := New(Config{}, nil, &bus.Bus{})
	n.refuseConnections()
	c := &conn{node: n, caller: auth.Caller{Expires: time.Now().Add(time.Hour)}}
	if err := n.open(c); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if len(n.connections()) != 0 || c.spoke.next != nil {
		t.Error("the connection is known to the node")
	}
}

// Heartbeats and expiry look after a connection while it is open, and nothing
// holds on to it afterwards, in whatever order its end and the wheel come.
func TestNothingHoldsAConnectionThatLeft(t *testing.T) {
	n := New(Config{}, nil, &bus.Bus{})
	c := &conn{node: n, caller: auth.Caller{Expires: time.Now().Add(time.Hour)}}
	if err := n.open(c); err != nil {
		t.Fatal(err)
	}
	if len(n.connections()) != 1 || c.spoke.next == nil {
		t.Fatal("the connection is not looked after")
	}
	n.leave(c, clientGone)
	c.schedule(time.Now()) // the wheel had it in its hand
	if len(n.connections()) != 0 || c.spoke.next != nil {
		t.Error("the connection is still held")
	}
}

// Who was ended before the connection was open is refused, and hears why.
func TestEndedBeforeItIsOpen(t *testing.T) {
	n := New(Config{}, nil, &bus.Bus{})
	for why, want := range map[reason]problem{
		takenOver: {429, "CONNECTION_LIMIT", "Another connection has taken over this durable subscription"},
		removed:   {503, "UNAVAILABLE", "This durable subscription was removed meanwhile: connect again"},
		overLimit: {429, "CONNECTION_LIMIT", "This user has too many open connections"},
	} {
		c := &conn{node: n, caller: auth.Caller{Expires: time.Now().Add(time.Hour)}, transport: newPoll(listing{})}
		c.end(why)
		c.end(draining) // too late
		if got := problemOf(n.open(c)); got != want {
			t.Errorf("%s: got %+v, want %+v", why, got, want)
		}
		if len(n.connections()) != 0 || c.spoke.next != nil {
			t.Errorf("%s: the connection is known to the node", why)
		}
	}
}
