package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/sse"
)

// toldUpdate is an update that a peer got.
type toldUpdate struct {
	peal.TicketUpdate
	at   bus.Cursor
	when time.Time
}

// screen is a peer that notes what it is told, and when.
type screen struct {
	http.ResponseWriter
	mu    sync.Mutex // protects the rest
	told  []toldUpdate
	other []sse.Name
}

func newScreen() *screen { return &screen{ResponseWriter: httptest.NewRecorder()} }

func (s *screen) SetWriteDeadline(time.Time) error { return nil }
func (s *screen) FlushError() error                { return nil }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := sse.NewReader(strings.NewReader(string(b))).Next()
	if err != nil {
		return 0, err
	}
	if e.Name != sse.TicketUpdate {
		s.other = append(s.other, e.Name)
		return len(b), nil
	}
	u := toldUpdate{at: bus.ParseCursor(e.ID), when: time.Now()}
	if err := json.Unmarshal(e.Data, &u.TicketUpdate); err != nil {
		return 0, err
	}
	s.told = append(s.told, u)
	return len(b), nil
}

// show runs a connection towards a screen in the bubble of a test. ended is closed when
// it has ended.
func show(t *testing.T, s *screen) (h *handler, why func() reason) {
	h = newHandler(s, httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan reason, 1)
	go func() { ended <- h.run(ctx) }()
	t.Cleanup(cancel)
	return h, func() reason { cancel(); return <-ended }
}

// updateAt is an update whose time tells its cursor.
func updateAt(seq uint64, ticket string, changes ...peal.Change) *bus.Update {
	return &bus.Update{Cursor: placeOf(seq), TicketUpdate: peal.TicketUpdate{
		Action: peal.ActionUpdated, TicketID: ticket, TicketNumber: "INC-" + ticket, Changes: changes,
		UpdatedAt: peal.NewTimestamp(time.Unix(int64(seq), 0)),
	}}
}

func offerUpdate(t *testing.T, h *handler, u *bus.Update) {
	t.Helper()
	if !h.offerUpdate(u, frameOfUpdate(u)) {
		t.Fatalf("update %d is refused", u.Cursor.Seq)
	}
}

// wantPaced wants of what was told that it keeps the window, that ids go up, and that
// each of them is true: of everything up to it, the latest was told and all changes.
// At quiet that is so of everything.
func (s *screen) wantPaced(t *testing.T, offered []*bus.Update) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := make(map[string]time.Time)
	latest := make(map[string]peal.Timestamp)
	changes := make(map[string][]peal.Change)
	next, last := 0, uint64(0)
	for _, u := range s.told {
		if d := u.when.Sub(begun[u.TicketID]); d < paceWindow {
			t.Errorf("update %v of ticket %s comes %v after one", u.at, u.TicketID, d)
		}
		begun[u.TicketID] = u.when
		if u.at.Seq <= last {
			t.Errorf("id %v after %d", u.at, last)
		}
		last = u.at.Seq
		latest[u.TicketID] = u.UpdatedAt
		changes[u.TicketID] = append(changes[u.TicketID], u.Changes...)
		for ; next < len(offered) && offered[next].Cursor.Seq <= last; next++ {
			o := offered[next]
			if latest[o.TicketID].Before(o.UpdatedAt.Time) {
				t.Errorf("id %v comes before update %d of ticket %s is told", u.at, o.Cursor.Seq, o.TicketID)
			}
			for _, c := range o.Changes {
				if !slices.Contains(changes[o.TicketID], c) {
					t.Errorf("id %v comes before %s of ticket %s is told", u.at, c, o.TicketID)
				}
			}
		}
	}
	if next < len(offered) {
		t.Errorf("%d of %d updates were told", next, len(offered))
	}
}

// A burst on one ticket is told as few updates, of which the last says all that has
// changed; another ticket waits for it once.
func TestBurstOnOneTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen()
		h, end := show(t, s)
		var offered []*bus.Update
		offer := func(ticket string, changes ...peal.Change) {
			u := updateAt(uint64(len(offered)+1), ticket, changes...)
			offered = append(offered, u)
			offerUpdate(t, h, u)
		}
		began := time.Now()
		for i := range 100 {
			offer("1", []peal.Change{peal.ChangeStatus, peal.ChangeComments, peal.ChangeQueue}[i%3])
			if i == 20 {
				offer("2", peal.ChangeStatus)
			}
			time.Sleep(500 * time.Microsecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s.wantPaced(t, offered)
		var got []string
		for _, u := range s.told {
			got = append(got, u.TicketID)
		}
		if want := []string{"1", "1", "2"}; !slices.Equal(got, want) {
			t.Fatalf("updates of %v were told, want %v", got, want)
		}
		last := s.told[1]
		if want := offered[100].UpdatedAt; !last.UpdatedAt.Equal(want.Time) {
			t.Errorf("told last is %v, want %v", last.UpdatedAt, want)
		}
		if want := []peal.Change{peal.ChangeStatus, peal.ChangeQueue, peal.ChangeComments}; !slices.Equal(last.Changes, want) {
			t.Errorf("told last is %v, want %v", last.Changes, want)
		}
		if d := s.told[2].when.Sub(began); d > paceWindow+time.Millisecond {
			t.Errorf("another ticket was told after %v, want a window at most", d)
		}
		if s.told[2].at != offered[100].Cursor {
			t.Errorf("the last id is %v, want %v: everything was told", s.told[2].at, offered[100].Cursor)
		}
		end()
	})
}

// Whenever which tickets change, every id that a peer gets is one that it may resume
// from.
func TestUpdatesArePaced(t *testing.T) {
	for range 50 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			s := newScreen()
			h, end := show(t, s)
			var offered []*bus.Update
			all := []peal.Change{peal.ChangeStatus, peal.ChangeAssignee, peal.ChangeQueue, peal.ChangeWatchers, peal.ChangeComments}
			for seq := uint64(1); len(offered) < 200; {
				seq += 1 + r.Uint64N(3) // others are not for this one
				u := updateAt(seq, fmt.Sprint(r.IntN(1+r.IntN(20))), all[r.IntN(len(all))])
				offered = append(offered, u)
				offerUpdate(t, h, u)
				if r.IntN(3) > 0 {
					time.Sleep(time.Duration(r.Int64N(int64(40 * time.Millisecond))))
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			s.wantPaced(t, offered)
			if n := len(s.told); n >= len(offered) {
				t.Errorf("%d of %d were told: none was superseded", n, len(offered))
			}
			end()
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// The end waits for nothing that is held back: it comes after the last id.
func TestEndDoesNotWaitForTheWindow(t *testing.T) {
	for name, end := range map[string]func(h *handler, gone func() reason) reason{
		"ended by the server": func(h *handler, _ func() reason) reason {
			h.end(draining, errorFrame("DRAINING", "…"))
			return draining
		},
		"left by the client": func(_ *handler, gone func() reason) reason { return gone() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScreen()
				h, gone := show(t, s)
				offerUpdate(t, h, updateAt(1, "1"))
				synctest.Wait()
				offerUpdate(t, h, updateAt(2, "1"))
				offerUpdate(t, h, updateAt(3, "2"))
				synctest.Wait()
				began := time.Now()
				if end(h, gone) == draining {
					synctest.Wait() // before gone would end it
					if why := gone(); why != draining {
						t.Errorf("ended as %s, want %s", why, draining)
					}
					if !slices.Equal(s.other, []sse.Name{sse.Error}) {
						t.Errorf("told %v, want an error", s.other)
					}
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("ended after %v, want at once", d)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if len(s.told) != 1 {
					t.Errorf("told %v, want the first: the others are held back", s.told)
				}
			})
		})
	}
}

// A heartbeat goes on a connection that tells nothing.
func TestHeartbeatsBetweenUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen()
		h, end := show(t, s)
		offerUpdate(t, h, updateAt(1, "1"))
		synctest.Wait()
		if !h.offerIdle(heartbeatFrame(time.Now())) {
			t.Error("no heartbeat after an update")
		}
		synctest.Wait()
		if !slices.Equal(s.other, []sse.Name{sse.Heartbeat}) {
			t.Errorf("told %v, want a heartbeat", s.other)
		}
		end()
	})
}

// A gap is not overtaken: what is told before it is of before.
func TestUpdateAfterAGapSupersedesNothingBefore(t *testing.T) {
	h := newHandler(newScreen(), httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	offerUpdate(t, h, updateAt(1, "1"))
	h.offer(gapFrame(bus.Gap{Code: bus.UnknownCursor, Cursor: placeOf(5)}), placeOf(5), nil)
	offerUpdate(t, h, updateAt(6, "2"))
	offerUpdate(t, h, updateAt(7, "1"))
	var at []uint64
	for _, w := range h.pending {
		at = append(at, w.at.Seq)
	}
	if want := []uint64{1, 5, 6, 7}; !slices.Equal(at, want) {
		t.Errorf("%v wait, want %v", at, want)
	}
}

// What waits is bounded also while everything is superseded, and it is known how much
// that is.
func TestSupersededUpdatesTakeNoRoom(t *testing.T) {
	h := newHandler(newScreen(), httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
	for seq := range uint64(100_000) {
		offerUpdate(t, h, updateAt(seq+1, fmt.Sprint(seq%100), peal.ChangeStatus))
	}
	size := 0
	for _, w := range h.pending {
		size += w.size
	}
	if len(h.pending) != 100 || h.size != size || size > maxPending {
		t.Errorf("%d wait, of %d bytes by their count and %d in fact, want 100", len(h.pending), h.size, size)
	}
	for h.heldLocked() == 0 && len(h.pending) > 0 {
		h.takeLocked()
	}
	if len(h.pending) != 0 || h.size != 0 {
		t.Errorf("%d wait at the end, of %d bytes", len(h.pending), h.size)
	}
	if want := placeOf(100_000); h.place != want {
		t.Errorf("the place is %v, want %v", h.place, want)
	}
}

// What is known of the window is bounded: who has more tickets than that waits.
func TestPaceIsBounded(t *testing.T) {
	var p pace
	now := time.Now()
	for i := range maxPaced {
		if d := p.wait(fmt.Sprint(i), now); d != 0 {
			t.Fatalf("ticket %d waits for %v", i, d)
		}
		p.begin(fmt.Sprint(i), now)
	}
	if d := p.wait("one more", now); d != paceWindow {
		t.Errorf("one more waits for %v, want a window", d)
	}
	if d := p.wait("7", now.Add(100*time.Millisecond)); d != 150*time.Millisecond {
		t.Errorf("one of them waits for %v, want what is left of it", d)
	}
	if d := p.wait("one more", now.Add(paceWindow)); d != 0 || p.begun != nil {
		t.Errorf("after the window one waits for %v, and %d are known", d, len(p.begun))
	}
}

// Whenever a peer stops and goes on, it is told the latest of each ticket, and no id
// comes before its time.
func TestStallsLoseNoUpdate(t *testing.T) {
	const total, peers = 300, 3
	n := New(Config{}, nil, bustest.New(t, nil))
	var all []*screen
	for range peers {
		s := newScreen()
		all = append(all, s)
		h := newHandler(&stops{s}, httptest.NewRequest("GET", "/", nil), time.Minute, unmeasured)
		h.grace = time.Millisecond
		c := &conn{node: n, transport: h, caller: auth.Caller{Expires: time.Now().Add(time.Hour)}}
		feed, err := n.bus.FollowTickets(t.Context(), janes.Tenant, bus.Cursor{}, &list{c, bus.NewViewer(janes, false)})
		if err != nil {
			t.Fatal(err)
		}
		h.begin(connectedFrame(connected{}, feed.Start()), feed)
		feed.Resume()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan reason, 1)
		go func() { ended <- h.run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended; feed.Close() })
	}
	latest := make(map[string]peal.Timestamp)
	for i := range total {
		u := updateAt(uint64(i+1), fmt.Sprint(rand.IntN(30)), peal.ChangeStatus)
		sees := []peal.Inbox{janes}
		if i%4 == 3 {
			sees = nil
		} else {
			latest[u.TicketID] = u.UpdatedAt
		}
		if err := n.bus.PublishUpdate(t.Context(), janes.Tenant, fmt.Sprint("e", i), u.TicketUpdate, sees, nil); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(soon)
	for _, s := range all {
		for !s.shows(latest) {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("not within %v: the latest of each ticket", soon)
			}
		}
		last := uint64(0)
		s.mu.Lock()
		for _, u := range s.told {
			if u.at.Seq <= last {
				t.Errorf("id %v after %d", u.at, last)
			}
			last = u.at.Seq
		}
		s.mu.Unlock()
	}
}

// shows reports whether the latest of each ticket was told.
func (s *screen) shows(latest map[string]peal.Timestamp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := make(map[string]peal.Timestamp)
	for _, u := range s.told {
		told[u.TicketID] = u.UpdatedAt
	}
	for ticket, at := range latest {
		if !told[ticket].Equal(at.Time) {
			return false
		}
	}
	return true
}

// stops is a screen that stops now and then.
type stops struct{ *screen }

func (s *stops) Write(b []byte) (int, error) {
	if rand.IntN(5) == 0 {
		<-time.After(rand.N(5 * time.Millisecond))
	}
	return s.screen.Write(b)
}
