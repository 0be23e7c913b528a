package e2e_test

import (
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for something that has to happen.
const patience = 90 * time.Second

// report is what a client tells of itself; one in JavaScript does it by a line
// of JSON.
type report struct {
	Run  string `json:"run"`  // the target that it is about
	What string `json:"what"` // event, trouble, or gone: the library has given up
	Name string `json:"name"` // of the event
	ID   string `json:"id"`   // as the library gives it: of the event, or the last one
	Data string `json:"data"`
	Via  string `json:"via"` // by what the event came: message, listener, onerror
}

const (
	happened = "event"
	trouble  = "trouble"
	gone     = "gone"
)

// role is one library in one run.
type role struct{ library, run string }

// attempt is a request that the server of a probe has seen.
type attempt struct {
	at      time.Time
	after   time.Duration // since the server ended the one before
	last    string        // the id that it resumes from
	headers bool          // all of ours were there
}

// stage is where clients and servers note what they see.
type stage struct {
	mu       sync.Mutex    // protects all below
	changed  chan struct{} // closed and replaced at each change
	reports  map[role][]report
	attempts map[role][]attempt
	left     map[role]time.Time // role → when the server ended its last connection
	acked    []string           // ids of what is published, in order
	refused  int                // publications that were not acknowledged
}

func newStage() *stage {
	return &stage{
		changed:  make(chan struct{}),
		reports:  make(map[role][]report),
		attempts: make(map[role][]attempt),
		left:     make(map[role]time.Time),
	}
}

// note changes the stage.
func (s *stage) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until nobody is missing any more: names of those who are, each
// with what it waits for. missing is called with the stage locked.
func (s *stage) await(t *testing.T, what string, missing func() []string) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		who, changed := missing(), s.changed
		s.mu.Unlock()
		if len(who) == 0 {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("%s: after %v still missing: %q", what, patience, who)
		}
	}
}
