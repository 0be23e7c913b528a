package bus_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/bus"
)

func TestRewindOffersAgainWhatWasDropped(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	s := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	publish(t, b, "n2", jane)
	publish(t, b, "n3", jane)
	s.wait(3)

	s.rewind(s.cursor(0), func() { publish(t, b, "n4", jane) })
	if diff := cmp.Diff([]string{"n1", "n2", "n3", "n2", "n3", "n4"}, s.wait(6)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	publish(t, b, "n5", jane)
	if got := s.wait(7); got[6] != "n5" {
		t.Fatalf("then %v, want n5", got[6:])
	}
}

func TestRewindDeclaresAGapAgain(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 3 })
	jane := inbox("jane")
	first := follow(t, b, jane, bus.Cursor{})
	publish(t, b, "n1", jane)
	first.wait(1)
	for i := 2; i <= 6; i++ {
		publish(t, b, fmt.Sprintf("n%d", i), jane)
	}
	s := follow(t, b, jane, first.cursor(0))
	want := []string{"gap HISTORY_TRUNCATED", "n4", "n5", "n6"}
	if diff := cmp.Diff(want, s.wait(4)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	s.rewind(first.cursor(0), func() {})
	if diff := cmp.Diff(want, s.wait(8)[4:]); diff != "" {
		t.Fatalf("after the rewind (-want +got):\n%s", diff)
	}
}
