package sse_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pealhq/peal/sse"
)

// script answers the nth request with its nth answer, without sockets, in the
// time of a synctest bubble; after the last with 204. It keeps when it was
// asked.
type script struct {
	answers []func(context.Context) *http.Response
	at      []time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	n := len(s.at)
	s.at = append(s.at, time.Now())
	if n < len(s.answers) {
		return s.answers[n](r.Context()), nil
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

// waits are the times between the requests.
func (s *script) waits() []time.Duration {
	var ds []time.Duration
	for i := range len(s.at) - 1 {
		ds = append(ds, s.at[i+1].Sub(s.at[i]))
	}
	return ds
}

func answer(code int, header, value, body string) func(context.Context) *http.Response {
	return func(context.Context) *http.Response {
		return &http.Response{StatusCode: code, Header: http.Header{header: {value}}, Body: io.NopCloser(strings.NewReader(body))}
	}
}

func events(body string) func(context.Context) *http.Response {
	return answer(http.StatusOK, "Content-Type", "text/event-stream", body)
}

// timed is an event stream of which the nth piece comes after the nth delay,
// silent after the last.
func timed(delay time.Duration, pieces ...string) func(context.Context) *http.Response {
	return func(ctx context.Context) *http.Response {
		resp := events("")(ctx)
		resp.Body = &timedBody{ctx, delay, pieces}
		return resp
	}
}

type timedBody struct {
	ctx    context.Context // the request's, which ends a Read
	delay  time.Duration
	pieces []string
}

func (b *timedBody) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	select {
	case <-time.After(b.delay):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	n := copy(p, b.pieces[0])
	b.pieces = b.pieces[1:]
	return n, nil
}

func (b *timedBody) Close() error { return nil }

func TestWaitsBetweenConnects(t *testing.T) {
	const s = time.Second
	away := answer(http.StatusBadGateway, "", "", "")
	full := answer(http.StatusServiceUnavailable, "Retry-After", "120", "")
	day := answer(http.StatusTooManyRequests, "Retry-After", "86400", "")
	good := events("event: heartbeat\ndata: 1\n\n")
	told := events("retry: 3000\nevent: connected\ndata: 1\n\n")
	onlyTold := events("retry: 3000\n\n")
	onlyError := events("event: error\ndata: 1\n\n")

	for _, tt := range []struct {
		what    string
		answers []func(context.Context) *http.Response
		from    []time.Duration // 0 where shorter
		to      []time.Duration
	}{
		{"failures double the range up to 30 s", slices.Repeat([]func(context.Context) *http.Response{away}, 8),
			nil, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}},
		{"an event brings it back", []func(context.Context) *http.Response{away, away, good, away},
			nil, []time.Duration{s, 2 * s, s, 2 * s}},
		{"no event, or only an error, does not", []func(context.Context) *http.Response{away, events(""), onlyError, away},
			nil, []time.Duration{s, 2 * s, 4 * s, 8 * s}},
		{"retry is the base, and stays it", []func(context.Context) *http.Response{told, away, away, good},
			nil, []time.Duration{3 * s, 6 * s, 12 * s, 3 * s}},
		{"also without an event", []func(context.Context) *http.Response{onlyTold, away},
			nil, []time.Duration{3 * s, 6 * s}},
		{"Retry-After comes first", []func(context.Context) *http.Response{away, full, full, away},
			[]time.Duration{0, 120 * s, 120 * s, 0}, []time.Duration{s, 122 * s, 124 * s, 8 * s}},
		{"but is bounded", []func(context.Context) *http.Response{day}, []time.Duration{300 * s}, []time.Duration{301 * s}},
	} {
		longest := make([]time.Duration, len(tt.to))
		for range 50 {
			synctest.Test(t, func(t *testing.T) {
				net := &script{answers: tt.answers}
				c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net}}
				if _, err := collect(t.Context(), c); err != nil {
					t.Fatalf("%s: %v", tt.what, err)
				}
				got := net.waits()
				if len(got) != len(tt.to) {
					t.Fatalf("%s: waits %v, want %d", tt.what, got, len(tt.to))
				}
				for i, d := range got {
					if d >= tt.to[i] || tt.from != nil && d < tt.from[i] {
						t.Errorf("%s: wait %d is %v; from %v to %v", tt.what, i, d, tt.from, tt.to)
					}
					longest[i] = max(longest[i], d)
				}
			})
		}
		for i, d := range longest { // all 50 in the lower half: 1 in 2^50
			from := time.Duration(0)
			if tt.from != nil {
				from = tt.from[i]
			}
			if d < from+(tt.to[i]-from)/2 {
				t.Errorf("%s: wait %d is never more than %v of %v", tt.what, i, d, tt.to[i])
			}
		}
	}
}

// A handler may take its time: what counts is the silence of the connection.
func TestASlowHandlerIsNotASilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &script{answers: []func(context.Context) *http.Response{
			timed(70*time.Second, "data: 1\n\n", ":\n", "data: 2\n\n", "data: 3\n\n"),
		}}
		c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net, Timeout: time.Minute}}
		var got []string
		err := c.Follow(t.Context(), func(e sse.Event) error {
			got = append(got, string(e.Data))
			time.Sleep(time.Hour)
			return nil
		})
		if !slices.Equal(got, []string{"1", "2", "3"}) || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		// Four pieces, three events, then 75 s of silence and a back-off.
		want := 4*70*time.Second + 3*time.Hour + 75*time.Second
		if d := net.waits()[0]; d < want || d >= want+time.Second {
			t.Errorf("came back after %v, want %v and at most 1s", d, want)
		}
	})
}

func TestWithoutAWatchdogSilenceIsBorne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &script{answers: []func(context.Context) *http.Response{timed(0, "data: 1\n\n")}}
		c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net}, Idle: -1}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if _, err := collect(ctx, c); err != context.DeadlineExceeded || len(net.at) != 1 {
			t.Errorf("%v after %d requests; want context.DeadlineExceeded, 1", err, len(net.at))
		}
	})
}

func TestAWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &script{answers: []func(context.Context) *http.Response{
			answer(http.StatusServiceUnavailable, "Retry-After", "120", ""),
		}}
		c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := collect(ctx, c); err != context.DeadlineExceeded || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v; want context.DeadlineExceeded after 30s", err, time.Since(start))
		}
	})
}

// A refusal's body that drips must not hold the next attempt up, watchdog or not.
func TestARefusalIsReadForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &script{answers: []func(context.Context) *http.Response{func(ctx context.Context) *http.Response {
			resp := timed(time.Second, slices.Repeat([]string{" "}, 60)...)(ctx)
			resp.StatusCode = http.StatusBadGateway
			resp.Header.Set("Content-Type", "application/problem+json")
			return resp
		}}}
		c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net}, Idle: -1}
		if _, err := collect(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := net.waits()[0]; d < 10*time.Second || d >= 11*time.Second {
			t.Errorf("came back after %v, want 10s and at most 1s", d)
		}
	})
}

func TestTheRangeOfWaitsIsConfigured(t *testing.T) {
	const ms = time.Millisecond
	away := answer(http.StatusBadGateway, "", "", "")
	for _, tt := range []struct {
		least, most time.Duration
		want        []time.Duration // bounds, and reached by a half
	}{
		{100 * ms, 300 * ms, []time.Duration{100 * ms, 200 * ms, 300 * ms}},
		{-1, -1, []time.Duration{1000 * ms, 2000 * ms, 4000 * ms}},
		{5000 * ms, 2000 * ms, []time.Duration{2000 * ms, 2000 * ms, 2000 * ms}},
	} {
		longest := make([]time.Duration, len(tt.want))
		for range 50 {
			synctest.Test(t, func(t *testing.T) {
				net := &script{answers: slices.Repeat([]func(context.Context) *http.Response{away}, 3)}
				c := &sse.Client{URL: "http://peal.example/", HTTP: &http.Client{Transport: net}, MinBackoff: tt.least, MaxBackoff: tt.most}
				if _, err := collect(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				for i, d := range net.waits() {
					longest[i] = max(longest[i], d)
				}
			})
		}
		for i, d := range longest {
			if d >= tt.want[i] || d < tt.want[i]/2 {
				t.Errorf("%v to %v: the longest wait %d is %v, want just under %v", tt.least, tt.most, i, d, tt.want[i])
			}
		}
	}
}
