package sse

import (
	"testing"
	"time"
)

func TestCeilingDoublesUpToTheMost(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		base, most time.Duration
		n          int
		want       time.Duration
	}{
		{s, 30 * s, 0, s},
		{s, 30 * s, 1, 2 * s},
		{s, 30 * s, 4, 16 * s},
		{s, 30 * s, 5, 30 * s},
		{s, 32 * s, 5, 32 * s},
		{s, 30 * s, 62, 30 * s},
		{s, 30 * s, 63, 30 * s},
		{s, 30 * s, 1 << 40, 30 * s},
		{3 * s, 30 * s, 3, 24 * s},
		{60 * s, 30 * s, 0, 30 * s}, // the server's retry does not go over the most
		{s, 1<<63 - 1, 33, 1 << 33 * s},
		{s, 1<<63 - 1, 34, 1<<63 - 1},
		{1, 1, 0, 1},
	} {
		if got := ceiling(tt.base, tt.most, tt.n); got != tt.want {
			t.Errorf("ceiling(%v, %v, %d) = %v, want %v", tt.base, tt.most, tt.n, got, tt.want)
		}
	}
}

func TestJitterSpreadsAHerdOverTheWholeRange(t *testing.T) {
	const most, clients = time.Second, 2000
	var tenths [10]int
	for range clients {
		d := jitter(most)
		if d < 0 || d >= most {
			t.Fatalf("jitter(%v) = %v", most, d)
		}
		tenths[d*10/most]++
	}
	for i, n := range tenths {
		if n < clients/20 || n > clients/5 { // 200 expected; 100 is 7 sigma away
			t.Errorf("tenth %d of the range got %d of %d", i, n, clients)
		}
	}
	if d := jitter(1<<63 - 1); d < 0 {
		t.Errorf("jitter of the longest duration is %v", d)
	}
}

func TestBackoffRule(t *testing.T) {
	const s = time.Second
	fresh := backoff{min: s, max: 30 * s}
	failing := backoff{min: s, max: 30 * s, failures: 3}
	told := backoff{min: s, max: 30 * s, retry: 3 * s, failures: 1}
	for _, tt := range []struct {
		what     string
		before   backoff
		end      ending
		from, to time.Duration
	}{
		{"the first failure", fresh, ending{reason: unreachable}, 0, s},
		{"the fourth", failing, ending{reason: serverError}, 0, 8 * s},
		{"after a good connection", failing, ending{reason: aborted, delivered: true}, 0, s},
		{"after one that brought nothing", failing, ending{reason: aborted}, 0, 8 * s},
		{"the server's retry is the base", told, ending{reason: aborted, delivered: true}, 0, 3 * s},
		{"and is doubled", told, ending{reason: unreachable}, 0, 6 * s},
		{"a retry of nothing is not obeyed", backoff{min: s, max: 30 * s, retry: 1}, ending{reason: aborted}, 0, s},
		{"Retry-After comes on top", failing, ending{reason: busy, retryAfter: 20 * s}, 20 * s, 28 * s},
		{"a fresh token is tried at once", failing, ending{reason: tokenRefused}, 0, 1},
	} {
		var most time.Duration
		for range 1000 {
			b := tt.before
			d := b.after(tt.end)
			if d < tt.from || d >= tt.to {
				t.Fatalf("%s: wait %v, want %v to %v", tt.what, d, tt.from, tt.to)
			}
			most = max(most, d)
		}
		if half := tt.from + (tt.to-tt.from)/2; most < half {
			t.Errorf("%s: the longest of 1000 waits is %v, want more than %v", tt.what, most, half)
		}
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	now := time.Date(2025, 7, 10, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{"300", 5 * time.Minute},
		{"301", 5 * time.Minute},
		{"99999999999999999999999", 5 * time.Minute},
		{"-7", 0},
		{"1.5", 0},
		{"soon", 0},
		{"Thu, 10 Jul 2025 12:00:30 GMT", 30 * time.Second},
		{"Thu, 10 Jul 2025 11:59:30 GMT", 0},
		{"Fri, 11 Jul 2025 12:00:00 GMT", 5 * time.Minute},
		{"Thursday, 10-Jul-25 12:00:30 GMT", 30 * time.Second},
	} {
		if got := parseRetryAfter(tt.value, now); got != tt.want {
			t.Errorf("parseRetryAfter(%q) = %v, want %v", tt.value, got, tt.want)
		}
	}
}
