package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pealhq/peal/cmd/peal/bench"
	"github.com/pealhq/peal/sse"
)

// service is as much of a service as a bench needs: it keeps what is published
// for each user and streams it. plant, if not nil, is what it does wrong: it
// returns what is stored for a user instead of one notification.
type service struct {
	*httptest.Server
	plant func(user string, post int, id string) []string

	mu      sync.Mutex
	changed *sync.Cond
	stored  map[string][]string // user → ids
	posts   int
	cut     map[string]int // user → after so many events their first connection breaks
	refuse  int            // so many connections are answered with 503
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{stored: make(map[string][]string), cut: make(map[string]int)}
	s.changed = sync.NewCond(&s.mu)
	s.Server = httptest.NewServer(http.HandlerFunc(s.stream))
	t.Cleanup(s.Close)
	return s
}

// publish implements bench.Publish.
func (s *service) publish(_ context.Context, to []string, id, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts++
	post, err := strconv.Atoi(id[strings.LastIndex(id, "-")+1:])
	if err != nil {
		return fmt.Errorf("%w: id %s has no number", bench.ErrRefused, id)
	}
	for _, user := range to {
		ids := []string{id}
		if s.plant != nil {
			ids = s.plant(user, post, id)
		}
		s.stored[user] = append(s.stored[user], ids...)
	}
	s.changed.Broadcast()
	return nil
}

// stream answers a connection. Tokens are user ids, and a cursor is how many
// events came before.
func (s *service) stream(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		http.Error(w, "", http.StatusServiceUnavailable)
		return
	}
	next, err := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	if err != nil {
		next = len(s.stored[user])
	}
	defer context.AfterFunc(r.Context(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()
	send(w, sse.Event{Name: sse.Connected, ID: fmt.Sprint(next), Data: fmt.Appendf(nil, `{"userId":%q}`, user)})
	for r.Context().Err() == nil {
		if next == len(s.stored[user]) {
			s.changed.Wait()
			continue
		}
		if s.cut[user] > 0 && next == s.cut[user] {
			delete(s.cut, user)
			panic(http.ErrAbortHandler)
		}
		id := s.stored[user][next]
		next++
		send(w, sse.Event{Name: sse.Notification, ID: fmt.Sprint(next), Data: fmt.Appendf(nil, `{"id":%q}`, id)})
	}
}

func send(w http.ResponseWriter, e sse.Event) {
	b, err := sse.Append(nil, e)
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.(http.Flusher).Flush()
}

func users(from, n int) []bench.User {
	var all []bench.User
	for i := range n {
		id := fmt.Sprint("user", from+i)
		all = append(all, bench.User{ID: id, Token: id})
	}
	return all
}

// config publishes 40 notifications to 4 users.
func (s *service) config(kind bench.Kind) bench.Config {
	return bench.Config{
		Kind: kind, URLs: []string{s.URL}, Users: users(0, 4), PerUser: 1, Rate: 200, Duration: 200 * time.Millisecond,
		Group: 1, Publish: s.publish, Patience: time.Second,
		Processes: bench.System, Nodes: []int{os.Getpid()}, NATS: []int{os.Getpid()}, Self: os.Getpid(), Say: func(string) {},
	}
}

func run(t *testing.T, cfg bench.Config) *bench.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := bench.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// measured are the fields of an outcome that no test can know.
var measured = cmpopts.IgnoreFields(bench.Outcome{}, "Seconds", "Late", "LatestMS", "Latency", "CPU")

// Posts go to user0 to user3 in turn, so user1 is told by posts 1, 5, 9, …, 37.
func TestEveryPlantedFaultIsFound(t *testing.T) {
	t.Parallel()
	all := bench.Outcome{Published: 40, Posts: 40, Delivered: 40}
	with := func(change func(*bench.Outcome)) bench.Outcome { o := all; change(&o); return o }
	for _, tt := range []struct {
		name  string
		plant func(user string, post int, id string) []string
		want  bench.Outcome
	}{
		{"no fault", nil, all},
		{"one is lost", func(_ string, post int, id string) []string {
			if post == 9 {
				return nil
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.Delivered, o.Lost = 39, 1 })},
		{"the last ones are lost", func(_ string, post int, id string) []string {
			if post >= 36 {
				return nil
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.Delivered, o.Lost = 36, 4 })},
		{"one comes twice", func(_ string, post int, id string) []string {
			if post == 39 { // the very last: nothing comes after it that would show the repeat
				return []string{id, id}
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.Duplicated = 1 })},
		{"two are exchanged", func(_ string, post int, id string) []string {
			switch post {
			case 5:
				return nil
			case 9:
				return []string{id, id[:len(id)-1] + "5"}
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.OutOfOrder = 1 })},
		{"one goes to somebody else too", func(_ string, post int, id string) []string {
			if post == 6 {
				return []string{id, id[:len(id)-1] + "5"}
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.Misdirected = 1 })},
		{"one that was never published", func(_ string, post int, id string) []string {
			if post == 6 {
				return []string{id, id + "000"}
			}
			return []string{id}
		}, with(func(o *bench.Outcome) { o.Misdirected = 1 })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.plant = tt.plant
			r := run(t, s.config(bench.Steady))
			if diff := cmp.Diff([]bench.Outcome{tt.want}, r.Runs, measured); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := tt.want.Lost + tt.want.Duplicated + tt.want.OutOfOrder + tt.want.Misdirected; r.Faults() != want {
				t.Errorf("%d faults, want %d", r.Faults(), want)
			}
			if r.Runs[0].Latency.Samples != int(tt.want.Delivered) {
				t.Errorf("latency %+v, want a sample of each event", r.Runs[0].Latency)
			}
		})
	}
}

// A connection that ends is opened again where it was, a refusal that passes is
// waited out, and what others publish is no fault.
func TestWhatIsNoFaultIsCountedBeside(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.cut["user2"] = 4
	s.refuse = 2
	s.plant = func(_ string, post int, id string) []string {
		if post == 7 {
			return []string{"notif-of-somebody", id}
		}
		return []string{id}
	}
	cfg := s.config(bench.Steady)
	r := run(t, cfg)
	if r.Faults() != 0 || r.Runs[0].Delivered != 40 || r.Reconnects != 1 || r.Foreign != 1 || r.Refusals["503 "] != 2 {
		t.Errorf("%+v, want no faults, 1 reconnect, 1 foreign, 2 refusals", r)
	}
}

func TestEveryConnectionCountsForItself(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cfg := s.config(bench.Steady)
	cfg.PerUser, cfg.Group = 3, 3
	r := run(t, cfg)
	want := []bench.Outcome{{Published: 40, Posts: 20, Delivered: 120}}
	if diff := cmp.Diff(want, r.Runs, measured); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.posts != 20 || r.Connections != 12 || r.Connect.Count != 12 {
		t.Errorf("%d posts, report %+v", s.posts, r)
	}
}

// Several nodes share the connections.
func TestConnectionsAreSpreadOverNodes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var others atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		others.Add(1)
		s.stream(w, r)
	}))
	t.Cleanup(other.Close)
	cfg := s.config(bench.Steady)
	cfg.URLs = append(cfg.URLs, other.URL)
	r := run(t, cfg)
	want := []bench.Outcome{{Published: 40, Posts: 40, Delivered: 40}}
	if diff := cmp.Diff(want, r.Runs, measured); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if others.Load() != 2 {
		t.Errorf("the second of two nodes had %d of 4 connections", others.Load())
	}
}

// One token is enough: whose it is, is what the service says.
func TestTheServiceSaysWhoTheUserIs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cfg := s.config(bench.Steady)
	cfg.Users, cfg.PerUser = []bench.User{{Token: "jane"}}, 2
	if r := run(t, cfg); r.Faults() != 0 || r.Runs[0].Delivered != 80 || len(s.stored["jane"]) != 40 {
		t.Errorf("%+v, %d stored for jane", r, len(s.stored["jane"]))
	}
}

func TestStormMissesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lose int // a post
		lost int64
	}{{"no fault", -1, 0}, {"one is lost", 17, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.plant = func(_ string, post int, id string) []string {
				if post == tt.lose {
					return nil
				}
				return []string{id}
			}
			r := run(t, s.config(bench.Storm))
			want := []bench.Outcome{{Published: 40, Posts: 40, Delivered: 40 - tt.lost, Lost: tt.lost}}
			if diff := cmp.Diff(want, r.Runs, measured); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if r.Storm == nil || r.Storm.CaughtUp.Samples != 4 || r.Storm.Seconds <= 0 || r.Storm.Connect.Count != 4 {
				t.Errorf("storm %+v, want 4 that caught up", r.Storm)
			}
		})
	}
}

func TestSlowOnesAreHeldBackAndLoseNothing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cfg := s.config(bench.Slow)
	cfg.SlowUsers = users(4, bench.SlowFor(4))
	r := run(t, cfg)
	var names []string
	for _, o := range r.Runs {
		names = append(names, o.Name)
		if o.Delivered != 40 {
			t.Errorf("run %+v, want 40 delivered", o)
		}
	}
	if diff := cmp.Diff([]string{"without slow", "with slow", "without slow", "with slow", "without slow", "with slow"}, names); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	// 50 a second to each of two, for 0.2 s, six times.
	if r.Faults() != 0 || r.Slow == nil || r.Slow.Published != 120 || r.Slow.HeldBack == 0 || r.Slow.Stopped != 1 || r.Slow.Dripping != 1 {
		t.Errorf("%d faults, slow ones %+v", r.Faults(), r.Slow)
	}
}

func TestInterruptedReportsWhatThereIs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cfg := s.config(bench.Steady)
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Publish = func(ctx context.Context, to []string, id, message string) error {
		if s.posted() == 10 {
			cancel()
			return errors.New("the call was cut off")
		}
		return s.publish(ctx, to, id, message)
	}
	r, err := bench.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if o := r.Runs[0]; !r.Interrupted || r.Faults() != 0 || o.Published < 10 || o.Delivered != o.Published || o.Unconfirmed == 0 {
		t.Errorf("interrupted: %v, %+v, want what was stored to be delivered, and one not confirmed", r.Interrupted, o)
	}
}

// Connections that were given up with the run are nobody's refusals.
func TestInterruptedWhileConnecting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	cfg := newService(t).config(bench.Steady)
	cfg.URLs = []string{silent.URL}
	r, err := bench.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Connect.Count != 0 || len(r.Runs) != 0 || len(r.Refusals) != 0 {
		t.Errorf("report %+v, want nothing but that it was interrupted", r)
	}
}

func (s *service) posted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts
}

func TestWhatCannotWorkEndsTheRun(t *testing.T) {
	t.Parallel()
	s := newService(t)
	gone := newService(t)
	gone.Close()
	for _, tt := range []struct {
		name   string
		change func(*bench.Config)
		want   string
	}{
		{"nobody listens", func(c *bench.Config) { c.URLs = []string{s.URL, gone.URL} }, "is the service running there?"},
		{"no node", func(c *bench.Config) { c.URLs = nil }, "no service"},
		{"no address", func(c *bench.Config) { c.URLs = []string{"localhost"} }, "http://HOST"},
		{"a route that is not there", func(c *bench.Config) { c.URLs = []string{refusing(t, http.StatusNotFound)} }, "connection 1 of 4: refused: 404"},
		{"notifications are refused", func(c *bench.Config) {
			c.Publish = func(context.Context, []string, string, string) error {
				return fmt.Errorf("publish: %w: 403 FORBIDDEN", bench.ErrRefused)
			}
		}, "publish: refused: 403 FORBIDDEN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := s.config(bench.Steady)
			tt.change(&cfg)
			if r, err := bench.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want an error with %q", r, err, tt.want)
			}
		})
	}
}

// refusing is the address of a service that answers everything with a status.
func refusing(t *testing.T, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(s.Close)
	return s.URL
}

// The report for people, of a run that has everything.
func TestTextTellsEverything(t *testing.T) {
	r := bench.Report{
		Interrupted: true,
		Connect:     bench.Rate{Count: 12_000, Seconds: 2, PerSecond: 6000},
		Memory:      &bench.Memory{Before: 20e6, After: 80e6, PerConnection: 5000},
		Runs: []bench.Outcome{
			{Name: "without slow", Published: 1_234_567, Posts: 1, Delivered: 7, LatestMS: 1.5, Latency: &bench.Latency{P50: 1, P99: 2, P999: 3, Max: 4}, CPU: &bench.CPU{Node: 10, NATS: 20, Bench: 30}},
			{Name: "with slow", Lost: 1, Duplicated: 2, OutOfOrder: 3, Misdirected: 4, Late: 5, Unconfirmed: 6, CPU: &bench.CPU{Node: 10, Together: true}},
		},
		Storm:    &bench.StormOutcome{Seconds: 1.25},
		Slow:     &bench.SlowOutcome{Stopped: 12, Dripping: 12, WithoutP99: 2, WithP99: 3, Ratio: 1.5, HeldBack: 99},
		Refusals: map[string]int64{"503 UNAVAILABLE": 8},
		Gaps:     9,
	}
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"interrupted", "12,000 in 2.00 s: 6,000/s", "5.0 kB a connection", "1,234,567 in 1 posts; on schedule, the latest by 1.5 ms",
		"p50 1.00 ms, p99 2.00 ms, p99.9 3.00 ms, max 4.00 ms", "node 10.0 µs, JetStream 20.0 µs; this bench 30.0 µs",
		"BEHIND SCHEDULE: 5 posts", "6 not confirmed", "1 lost, 2 duplicated, 3 out of order, 4 misdirected",
		"node and JetStream, which are one process, 10.0 µs", "all caught up after 1.25 s", "ratio 1.50", "99 were held back",
		"8 connections were refused (503 UNAVAILABLE)", "9 gaps",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), " \n") {
		t.Errorf("spaces at the end of a line:\n%s", b.String())
	}
}
