package node_test

import (
	"context"
	"strconv"
	"testing"
)

// Thousands that are refused together come back over half a minute, and not all every
// other second. Who publishes does not wait for them.
func TestManyThatAreRefusedComeBackOverALongerTime(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	publisher := s.publisher()
	waits := func(n int, ask func() answer) (most int) {
		for range n {
			a := ask()
			wantProblem(t, a, 503, "UNAVAILABLE", "")
			wait, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || wait < 1 {
				t.Fatalf("Retry-After: %q", a.header.Get("Retry-After"))
			}
			most = max(most, wait)
		}
		return most
	}
	connect := func() answer { return s.do(s.request(context.Background(), "GET", connectPath, jane, "")) }
	s.nats.Close()
	eventually(t, "the loss to be noticed", func() bool { return !s.bus.Connected() })
	if most := waits(10, connect); most > 3 {
		t.Errorf("one of ten waits for %d s, want 3 at most", most)
	}
	if most := waits(400, connect); most < 5 || most > 30 {
		t.Errorf("one of 400 waits for %d s, want more than a few, and 30 at most", most)
	}
	if most := waits(10, func() answer {
		return s.do(s.request(context.Background(), "POST", publishPath, publisher, publication("n", `"jane"`)))
	}); most > 3 {
		t.Errorf("a publisher waits for %d s, want 3 at most", most)
	}
}
