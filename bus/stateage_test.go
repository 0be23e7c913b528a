package bus_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/pealhq/peal/bus"
)

// Read states of users who are gone go too, after everything that they speak of:
// a full stream of them refuses the marks of new users.
func TestReadStatesOutliveNotifications(t *testing.T) {
	for _, retain := range []time.Duration{0, time.Minute, 400 * 24 * time.Hour} {
		b := open(t, func(c *bus.Config) { c.Retain = retain })
		inboxes, _ := b.StreamOf(inbox("jane"))
		states, _ := b.StateOf(inbox("jane"))
		kept := make(map[string]time.Duration)
		for _, name := range []string{inboxes, states} {
			s, err := b.JetStream().Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			kept[name] = s.CachedInfo().Config.MaxAge
		}
		if kept[inboxes] <= 0 || kept[states] != kept[inboxes]+24*time.Hour {
			t.Errorf("kept for %v, want read states for a day more than notifications", kept)
		}
	}
}

// Once a read state has expired everything is as without: devices that hold it are
// told, what has come since is unread, and can be marked.
func TestReadStateThatHasExpired(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.TailCheck = -1 })
	jane := inbox("jane")
	inboxes, _ := b.StreamOf(jane)
	states, _ := b.StateOf(jane)
	publishAll(t, b, jane, 1, 2)
	s := follow(t, b, jane, bus.Cursor{})
	markAs(t, b, jane, bus.Mark{All: true})
	if got := s.told(1); got[0] != "0 n1 n2" {
		t.Fatalf("told %q, want 0 n1 n2", got)
	}
	before := s.states[0].Version

	keepFor(t, b, inboxes, time.Second)
	eventually(t, "the notifications have expired", func() bool {
		c, err := b.Count(t.Context(), jane)
		return err == nil && c.Total == 0
	})
	keepFor(t, b, inboxes, time.Hour)
	publish(t, b, "n3", jane)
	s.wait(1)
	keepFor(t, b, states, time.Second)
	eventually(t, "the read state has expired", func() bool {
		c, err := b.Count(t.Context(), jane)
		return err == nil && c.ReadState != before
	})
	keepFor(t, b, states, 2*time.Hour)
	eventually(t, "the device is told", func() bool {
		b.CheckTails()
		s.mu.Lock()
		defer s.mu.Unlock()
		last := s.states[len(s.states)-1]
		return last.Refetch && last.Unread == 1 && last.Version != before
	})
	if got := list(t, b, jane); got != "n3*" {
		t.Errorf("the list is %q, want n3 alone, unread", got)
	}
	if n := markAs(t, b, jane, bus.Mark{All: true}); n != 1 {
		t.Errorf("%d marked, want n3", n)
	}
	eventually(t, "the device is told of n3", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.states[len(s.states)-1].Unread == 0
	})
}

// An operator who has notifications kept for longer than their read states hears
// that what was read will be unread.
func TestReadStatesThatExpireFirstAreLogged(t *testing.T) {
	var log lines
	b := open(t, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	inboxes, _ := b.StreamOf(inbox("jane"))
	says := func(what string, retain time.Duration, line string) {
		keepFor(t, b, inboxes, retain)
		eventually(t, what, func() bool { b.Look(); return log.count(line) > 0 })
	}
	if n := log.count("read states"); n != 0 {
		t.Errorf("%d lines of read states that are kept for long enough", n)
	}
	says("it is logged", 100*24*time.Hour, "read states expire before")
	says("its end is logged", time.Hour, "read states outlive")
	if n := log.count("read states expire before"); n != 1 {
		t.Errorf("%d lines, want one", n)
	}
}
