package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// list returns the ids of a list, newest first, each with a "*" if it is unread,
// and holds the count against it.
func list(t testing.TB, b *bus.Bus, in peal.Inbox) string {
	t.Helper()
	page, err := b.List(t.Context(), in, bus.Query{})
	if err != nil {
		t.Fatal(err)
	}
	unread := 0
	var ids []string
	for _, e := range page.Entries {
		var n peal.Notification
		if err := json.Unmarshal(e.Data, &n); err != nil {
			t.Fatalf("%s: %v", e.Data, err)
		}
		if n.Read != e.Read {
			t.Errorf("%s: read is %v beside %v", n.ID, n.Read, e.Read)
		}
		if !e.Read {
			unread++
			n.ID += "*"
		}
		ids = append(ids, n.ID)
	}
	c, err := b.Count(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if c.Unread != unread || c.Total != len(ids) || c.ReadState != page.ReadState {
		t.Errorf("the count is %+v beside a list of %d with %d unread at %v", c, len(ids), unread, page.ReadState)
	}
	return strings.Join(ids, " ")
}

// markAs marks, and holds the answer against the count.
func markAs(t testing.TB, b *bus.Bus, in peal.Inbox, m bus.Mark) (changed int) {
	t.Helper()
	got, err := b.Mark(t.Context(), in, m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Count(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if got.Unread != c.Unread {
		t.Errorf("%+v answers %+v, and the count is %+v", m, got, c)
	}
	return got.Changed
}

// cursorOf returns the cursor of a notification in the list.
func cursorOf(t testing.TB, b *bus.Bus, in peal.Inbox, id string) bus.Cursor {
	t.Helper()
	page, err := b.List(t.Context(), in, bus.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		if strings.Contains(string(e.Data), fmt.Sprintf("%q", id)) {
			return e.Cursor
		}
	}
	t.Fatalf("%s is not in the list", id)
	return bus.Cursor{}
}

// Each row is applied to what the one before has left.
func TestMark(t *testing.T) {
	b := open(t, nil)
	jane, joe := inbox("jane"), inbox("joe")
	if got := list(t, b, jane); got != "" {
		t.Errorf("an inbox that never was has %q", got)
	}
	if got := markAs(t, b, jane, bus.Mark{All: true}); got != 0 {
		t.Errorf("all of nothing changes %d", got)
	}
	for i := range 6 {
		publish(t, b, fmt.Sprintf("n%d", i+1), jane)
		publish(t, b, fmt.Sprintf("n%d", i+1), joe)
	}
	at := func(id string) bus.Cursor { return cursorOf(t, b, jane, id) }
	for _, tt := range []struct {
		name    string
		mark    bus.Mark
		changed int
		want    string
	}{
		{"one", bus.Mark{IDs: []string{"n3"}}, 1, "n6* n5* n4* n3 n2* n1*"},
		{"the same", bus.Mark{IDs: []string{"n3"}}, 0, "n6* n5* n4* n3 n2* n1*"},
		{"one and some that are not there", bus.Mark{IDs: []string{"n5", "n7", "", "n5"}}, 1, "n6* n5 n4* n3 n2* n1*"},
		{"none that is there", bus.Mark{IDs: []string{"n77"}}, 0, "n6* n5 n4* n3 n2* n1*"},
		{"up to", bus.Mark{UpTo: at("n3")}, 2, "n6* n5 n4* n3 n2 n1"},
		{"a late up to", bus.Mark{UpTo: at("n2")}, 0, "n6* n5 n4* n3 n2 n1"},
		{"unread again, below", bus.Mark{IDs: []string{"n2"}, Unread: true}, 1, "n6* n5 n4* n3 n2* n1"},
		{"unread again, above", bus.Mark{IDs: []string{"n5"}, Unread: true}, 1, "n6* n5* n4* n3 n2* n1"},
		{"up to, of another incarnation", bus.Mark{UpTo: bus.Cursor{Epoch: "abcdefgh", Seq: 1 << 40}}, 0, "n6* n5* n4* n3 n2* n1"},
		{"up to another's", bus.Mark{UpTo: cursorOf(t, b, joe, "n6")}, 0, "n6* n5* n4* n3 n2* n1"},
		{"up to nobody's", bus.Mark{UpTo: bus.Cursor{Epoch: at("n1").Epoch, Seq: 1 << 40}}, 0, "n6* n5* n4* n3 n2* n1"},
		{"up to a place between", bus.Mark{UpTo: bus.Cursor{Epoch: at("n1").Epoch, Seq: cursorOf(t, b, joe, "n4").Seq, Elsewhere: true}}, 2, "n6* n5* n4 n3 n2 n1"},
		{"up to a place that is to come", bus.Mark{UpTo: bus.Cursor{Epoch: at("n1").Epoch, Seq: 1 << 40, Elsewhere: true}}, 2, "n6 n5 n4 n3 n2 n1"},
		{"all, when all are", bus.Mark{All: true}, 0, "n6 n5 n4 n3 n2 n1"},
		{"up to, unread", bus.Mark{UpTo: at("n4"), Unread: true}, 4, "n6 n5 n4* n3* n2* n1*"},
		{"all", bus.Mark{All: true}, 4, "n6 n5 n4 n3 n2 n1"},
	} {
		if got := markAs(t, b, jane, tt.mark); got != tt.changed {
			t.Errorf("%s: changed %d, want %d", tt.name, got, tt.changed)
		}
		if got := list(t, b, jane); got != tt.want {
			t.Errorf("%s: the list is %q, want %q", tt.name, got, tt.want)
		}
	}
	publish(t, b, "n7", jane)
	if got, want := list(t, b, jane), "n7* n6 n5 n4 n3 n2 n1"; got != want {
		t.Errorf("after another: the list is %q, want %q", got, want)
	}
	if got, want := list(t, b, joe), "n6* n5* n4* n3* n2* n1*"; got != want {
		t.Errorf("the list of another user is %q, want %q", got, want)
	}
}

// Nobody's id, in whatever tenant or namespace, is another's.
func TestMarkIsOfOneInbox(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.Partitions = 2 })
	all := []peal.Inbox{
		inbox("jane"), inbox("joe"),
		{Tenant: globex, Namespace: "staff", User: "jane"},
		{Tenant: acme, Namespace: "customers", User: "jane"},
	}
	publish(t, b, "n1", all...)
	markAs(t, b, all[0], bus.Mark{IDs: []string{"n1"}})
	for i, in := range all {
		want := "n1*"
		if i == 0 {
			want = "n1"
		}
		if got := list(t, b, in); got != want {
			t.Errorf("%v: the list is %q, want %q", in, got, want)
		}
	}
}

// The list is cut into pages by what was asked for, and the pages join.
func TestListPages(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	types := []peal.Type{peal.Mention, peal.SLABreach, peal.Merge}
	for i := range 30 {
		n := notification(fmt.Sprintf("n%02d", i))
		n.Type, n.Priority = types[i%3], ""
		n.TicketID = fmt.Sprint("t", i%2)
		if _, err := b.Publish(t.Context(), bus.Publication{To: []peal.Inbox{jane}, Notification: n.WithDefaults(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	markAs(t, b, jane, bus.Mark{UpTo: cursorOf(t, b, jane, "n14")})
	ids := func(keep func(i int) bool) (want []string) {
		for i := 29; i >= 0; i-- {
			if keep(i) {
				want = append(want, fmt.Sprintf("n%02d", i))
			}
		}
		return want
	}
	for _, tt := range []struct {
		name string
		q    bus.Query
		want []string
	}{
		{"all", bus.Query{}, ids(func(int) bool { return true })},
		{"unread", bus.Query{Unread: true}, ids(func(i int) bool { return i > 14 })},
		{"types", bus.Query{Types: []peal.Type{peal.Mention, peal.Merge}}, ids(func(i int) bool { return i%3 != 1 })},
		{"a priority", bus.Query{Priorities: []peal.Priority{peal.Urgent}}, ids(func(i int) bool { return i%3 == 1 })},
		{"a ticket", bus.Query{TicketID: "t1"}, ids(func(i int) bool { return i%2 == 1 })},
		{"everything", bus.Query{Unread: true, TicketID: "t1", Types: types[:1], Priorities: []peal.Priority{peal.High}},
			ids(func(i int) bool { return i > 14 && i%2 == 1 && i%3 == 0 })},
		{"nothing", bus.Query{TicketID: "t2"}, nil},
	} {
		for _, limit := range []int{0, 1, 7, 30} {
			var got []string
			q := tt.q
			q.Limit = limit
			for {
				page, err := b.List(t.Context(), jane, q)
				if err != nil {
					t.Fatal(err)
				}
				if limit > 0 && len(page.Entries) > limit {
					t.Fatalf("%s: %d entries with a limit of %d", tt.name, len(page.Entries), limit)
				}
				for _, e := range page.Entries {
					var n peal.Notification
					if err := json.Unmarshal(e.Data, &n); err != nil {
						t.Fatal(err)
					}
					got = append(got, n.ID)
				}
				if page.Next.IsZero() {
					break
				}
				if len(page.Entries) == 0 {
					t.Fatalf("%s: an empty page that is not the last", tt.name)
				}
				q.Before = page.Next
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, by %d (-want +got):\n%s", tt.name, limit, diff)
			}
		}
	}
	_, err := b.List(t.Context(), jane, bus.Query{Before: bus.Cursor{Epoch: "abcdefgh", Seq: 7}})
	if !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("before a cursor of another incarnation: got %v, want %v", err, peal.ErrInvalid)
	}
}

// Who connects where the list is true gets what is not in it, and no more.
func TestListAndFeedJoin(t *testing.T) {
	b := open(t, nil)
	for _, before := range []int{0, 3} {
		in := inbox(fmt.Sprint("user-", before))
		for i := range before {
			publish(t, b, fmt.Sprint("old", i), in)
		}
		page, err := b.List(t.Context(), in, bus.Query{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, b, "new", inbox("joe"), in)
		got := follow(t, b, in, page.Cursor)
		publish(t, b, "newer", in)
		if ids := got.wait(2); !slices.Equal(ids, []string{"new", "newer"}) {
			t.Errorf("after a list of %d the feed brings %v, want new and newer", before, ids)
		}
	}
}

// An inbox shows the newest, and says so when unread ones have dropped out.
func TestTruncated(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 3 })
	jane := inbox("jane")
	n := 0
	arrive := func(times int) {
		for range times {
			n++
			publish(t, b, fmt.Sprint("n", n), jane)
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
		is   bool
	}{
		{"as many as it keeps", func() { arrive(3) }, "n3* n2* n1*", false},
		{"one more", func() { arrive(1) }, "n4* n3* n2*", true},
		{"one is read", func() { markAs(t, b, jane, bus.Mark{IDs: []string{"n2"}}) }, "n4* n3* n2", true},
		{"all are read", func() { markAs(t, b, jane, bus.Mark{All: true}) }, "n4 n3 n2", false},
		{"read ones drop out", func() { arrive(3) }, "n7* n6* n5*", false},
		{"unread ones drop out", func() { arrive(2) }, "n9* n8* n7*", true},
		{"up to what is there", func() { markAs(t, b, jane, bus.Mark{UpTo: cursorOf(t, b, jane, "n7")}) }, "n9* n8* n7", false},
		{"unread again, and it drops out", func() {
			markAs(t, b, jane, bus.Mark{All: true})
			markAs(t, b, jane, bus.Mark{IDs: []string{"n7"}, Unread: true})
			arrive(1)
		}, "n10* n9 n8", true},
		{"those that are left are read", func() { markAs(t, b, jane, bus.Mark{IDs: []string{"n10"}}) }, "n10 n9 n8", false},
		{"unread ones drop out again", func() { arrive(4) }, "n14* n13* n12*", true},
		{"the older of them are read", func() { markAs(t, b, jane, bus.Mark{IDs: []string{"n12", "n13"}}) }, "n14* n13 n12", true},
		{"up to one that is read already", func() { markAs(t, b, jane, bus.Mark{UpTo: cursorOf(t, b, jane, "n12")}) }, "n14* n13 n12", false},
	} {
		step.do()
		if got := list(t, b, jane); got != step.want {
			t.Fatalf("%s: the list is %q, want %q", step.name, got, step.want)
		}
		c, err := b.Count(t.Context(), jane)
		if err != nil {
			t.Fatal(err)
		}
		if c.Truncated != step.is {
			t.Errorf("%s: truncated is %v, want %v", step.name, c.Truncated, step.is)
		}
	}
}

func TestCountByPriority(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	for i, p := range []peal.Priority{peal.Low, peal.Urgent, peal.Urgent, peal.Medium} {
		n := notification(fmt.Sprint("n", i))
		n.Priority = p
		if _, err := b.Publish(t.Context(), bus.Publication{To: []peal.Inbox{jane}, Notification: n.WithDefaults(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	markAs(t, b, jane, bus.Mark{IDs: []string{"n1"}})
	c, err := b.Count(t.Context(), jane)
	if err != nil {
		t.Fatal(err)
	}
	want := map[peal.Priority]int{peal.Low: 1, peal.Medium: 1, peal.High: 0, peal.Urgent: 1}
	if diff := cmp.Diff(want, c.UnreadByPriority); diff != "" || c.Total != 4 {
		t.Errorf("got %+v (-want +got):\n%s", c, diff)
	}
}

// Every Mark of many at once has its effect, whichever node it comes from.
func TestMarksAtOnce(t *testing.T) {
	server := bustest.Server(t)
	nodes := []*bus.Bus{bustest.Open(t, server, nil), bustest.Open(t, server, nil), bustest.Open(t, server, nil)}
	jane := inbox("jane")
	const n = 24
	for i := range n {
		publish(t, nodes[0], fmt.Sprint("n", i), jane)
	}
	markAs(t, nodes[0], jane, bus.Mark{IDs: []string{"n1", "n3"}})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			m := bus.Mark{IDs: []string{fmt.Sprint("n", i)}, Unread: i == 1 || i == 3}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for { // a 503, which many at once may get, is to be repeated
				got, err := nodes[i%len(nodes)].Mark(ctx, jane, m)
				if err == nil && got.Changed > 1 {
					t.Errorf("n%d changed %d", i, got.Changed)
				}
				if err == nil || !errors.Is(err, peal.ErrUnavailable) || ctx.Err() != nil {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	for i, b := range nodes {
		c, err := b.Count(t.Context(), jane)
		if err != nil {
			t.Fatal(err)
		}
		if c.Unread != 2 || c.Total != n {
			t.Errorf("node %d counts %+v, want 2 of %d", i, c, n)
		}
	}
}

// What a newer program wrote is left alone; what nobody of us wrote says nothing.
func TestForeignReadState(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publish(t, b, "n1", jane)
	stream, subject := b.StateOf(jane)
	for _, tt := range []struct {
		name, data string
		refused    bool
	}{
		{"not JSON", "rubbish", false},
		{"a newer form", `{"v":2,"epoch":"x","floor":99}`, true},
	} {
		if _, err := b.JetStream().Publish(t.Context(), subject, []byte(tt.data)); err != nil {
			t.Fatal(err)
		}
		if got := list(t, b, jane); got != "n1*" {
			t.Errorf("%s: the list is %q, want n1*", tt.name, got)
		}
		_, err := b.Mark(t.Context(), jane, bus.Mark{All: true})
		if refused := errors.Is(err, peal.ErrUnavailable); refused != tt.refused || err != nil && !refused {
			t.Errorf("%s: marking in %s: got %v, want an error: %v", tt.name, stream, err, tt.refused)
		}
	}
}

// What was read once is kept, and is never believed: whatever happens to the inbox
// shows in the next list, whichever node was asked before.
func TestListIsNeverOld(t *testing.T) {
	server := bustest.Server(t)
	b, other := bustest.Open(t, server, nil), bustest.Open(t, server, nil)
	jane := inbox("jane")
	for i := range 5 {
		publish(t, b, fmt.Sprint("n", i+1), jane)
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"first", func() {}, "n5* n4* n3* n2* n1*"},
		{"another comes by another node", func() { publish(t, other, "n6", jane) }, "n6* n5* n4* n3* n2* n1*"},
		{"one is marked on another node", func() { markAs(t, other, jane, bus.Mark{IDs: []string{"n2"}}) }, "n6* n5* n4* n3* n2 n1*"},
		{"one is removed from between", func() { remove(t, b, jane, cursorOf(t, b, jane, "n4").Seq) }, "n6* n5* n3* n2 n1*"},
		{"the newest is removed", func() { remove(t, b, jane, cursorOf(t, b, jane, "n6").Seq) }, "n5* n3* n2 n1*"},
		{"the inbox is purged", func() { purge(t, b, jane, true) }, ""},
		{"and used again", func() { publish(t, other, "n7", jane) }, "n7*"},
		{"one is marked", func() { markAs(t, b, jane, bus.Mark{All: true}) }, "n7"},
		{"the stream is made anew", func() {
			stream, _ := b.StreamOf(jane)
			if err := b.JetStream().DeleteStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			if err := b.Ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			publish(t, other, "n8", jane)
		}, "n8*"},
	} {
		step.do()
		for i, node := range []*bus.Bus{b, other} {
			if got := list(t, node, jane); got != step.want {
				t.Errorf("%s: node %d lists %q, want %q", step.name, i, got, step.want)
			}
		}
	}
}

// However far back a list reaches, and however unevenly an inbox is spread over
// its stream, it is the same list.
func TestListReachesBack(t *testing.T) {
	b := open(t, func(c *bus.Config) { c.PerInbox = 60 })
	jane := inbox("jane")
	r := rand.New(rand.NewPCG(5, 6))
	var crowd []peal.Inbox
	for i := range 200 {
		crowd = append(crowd, inbox(fmt.Sprint("other", i)))
	}
	const n = 70
	for i := range n {
		publish(t, b, fmt.Sprint("n", i), jane)
		if r.IntN(6) == 0 {
			publish(t, b, fmt.Sprint("o", i), crowd[:r.IntN(len(crowd))]...)
		}
	}
	var want []string
	for i := n - 1; i >= n-60; i-- {
		want = append(want, fmt.Sprint("n", i))
	}
	for range 200 {
		if r.IntN(2) == 0 {
			b.Forget(jane)
		}
		limit := 1 + r.IntN(70)
		q := bus.Query{Limit: limit}
		skip := 0
		if r.IntN(2) == 0 {
			skip = 1 + r.IntN(len(want)-1)
			q.Before = cursorOf(t, b, jane, want[skip-1])
			b.Forget(jane)
		}
		page, err := b.List(t.Context(), jane, q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range page.Entries {
			var v peal.Notification
			if err := json.Unmarshal(e.Data, &v); err != nil {
				t.Fatal(err)
			}
			got = append(got, v.ID)
		}
		if diff := cmp.Diff(want[skip:min(skip+limit, len(want))], got); diff != "" {
			t.Fatalf("%d before entry %d (-want +got):\n%s", limit, skip, diff)
		}
		if more := skip+limit < len(want); more == page.Next.IsZero() {
			t.Fatalf("%d before entry %d: next is %v, want one: %v", limit, skip, page.Next, more)
		}
	}
}

// A stream that has lost its tail gives other notifications the sequences of those
// that are gone. They are listed, not those.
func TestListAfterALostTail(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane")
	publishAll(t, b, jane, 1, 3)
	if got, want := list(t, b, jane), "n3* n2* n1*"; got != want {
		t.Fatalf("the list is %q, want %q", got, want)
	}
	name, _ := b.StreamOf(jane)
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().CreateStream(t.Context(), cfg); err != nil { // with the epoch of before
		t.Fatal(err)
	}
	if got := list(t, b, jane); got != "" {
		t.Errorf("the list of an inbox that is gone is %q", got)
	}
	publishAll(t, b, jane, 4, 6)
	if got, want := list(t, b, jane), "n6* n5* n4*"; got != want {
		t.Errorf("the list is %q, want %q", got, want)
	}
}

// What is kept of inboxes takes as much memory as it is taken to, or its bound is
// none.
func TestKeptInboxesTakeWhatTheyAreTakenTo(t *testing.T) {
	b := open(t, nil)
	var all []peal.Inbox
	for i := range 200 {
		all = append(all, inbox(fmt.Sprint("user-", i)))
	}
	for i := range 100 {
		publish(t, b, fmt.Sprint("n", i), all...)
	}
	heap := func() float64 {
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for _, in := range all {
		if _, err := b.Count(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	with, taken := heap(), float64(b.Remembered())
	for _, in := range all {
		b.Forget(in)
	}
	if got := with - heap(); got < taken/2 || got > 1.5*taken {
		t.Errorf("20,000 notifications take %.1f MB, and are taken to take %.1f MB", got/1e6, taken/1e6)
	}
}
