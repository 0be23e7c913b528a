package sse_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/sse"
)

var update = flag.Bool("update", false, "rewrite testdata/frames.sse")

// names is the table of the API contract, section 3.
var names = []sse.Name{"connected", "notification", "state", "ticketUpdate", "gap", "heartbeat", "error"}

// frames is one event of each name as the service sends it.
func frames() []sse.Event {
	return []sse.Event{
		{ID: "abcdefgh-41", Name: sse.Connected, Retry: 1742 * time.Millisecond,
			Data: []byte(`{"message":"Connected to notification stream","userId":"jane@example.com","timestamp":"2025-07-10T12:35:00.000Z","expiresAt":"2025-07-10T13:35:00.000Z","recovered":true,"unread":3,"readState":"7"}`)},
		{ID: "abcdefgh-42", Name: sse.Notification,
			Data: []byte(`{"id":"notif-1","type":"assignment","title":"Drucker für Zoë  ✓","read":false}`)},
		{Name: sse.State, Data: []byte(`{"unread":2,"readState":"8","changed":[{"id":"notif-1","read":true}]}`)},
		{ID: "abcdefgh-43", Name: sse.TicketUpdate, Data: []byte(`{"action":"updated","ticketId":"12345","ticketNumber":"INC-2024-001234","changes":["status"],"updatedAt":"2025-07-10T12:35:00.000Z"}`)},
		{ID: "abcdefgh-44", Name: sse.Gap, Data: []byte(`{"code":"HISTORY_TRUNCATED","message":"Refetch"}`)},
		{Name: sse.Heartbeat, Data: []byte(`{"timestamp":"2025-07-10T12:35:30.000Z"}`)},
		{Name: sse.Error, Retry: 2 * time.Second, Data: []byte(`{"code":"DRAINING","message":"Reconnect"}`)},
	}
}

func TestEachEventHasItsWireForm(t *testing.T) {
	var got []byte
	for _, e := range frames() {
		var err error
		if got, err = sse.Append(got, e); err != nil {
			t.Fatalf("Append(%q): %v", e.Name, err)
		}
	}
	const golden = "testdata/frames.sse"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	events, err := readAll(bytes.NewReader(got))
	if diff := cmp.Diff(frames(), events); diff != "" || err != io.EOF {
		t.Errorf("read back, %v (-want +got):\n%s", err, diff)
	}
}

func TestTheNamesAreAClosedSet(t *testing.T) {
	for _, n := range names {
		if !n.Valid() {
			t.Errorf("%q is not valid", n)
		}
	}
	for _, n := range []sse.Name{"", "message", "Connected", "error ", "gap\n", "ticketupdate"} {
		if n.Valid() {
			t.Errorf("%q is valid", n)
		}
	}
}

func TestAppendRefusesWhatCouldBeReadAsSomethingElse(t *testing.T) {
	const secret = "vpn-password"
	good := sse.Event{ID: "abcdefgh-1", Name: sse.Notification, Data: []byte(secret), Retry: time.Second}
	for _, tt := range []struct {
		what  string
		spoil func(*sse.Event)
	}{
		{"no name", func(e *sse.Event) { e.Name = "" }},
		{"foreign name", func(e *sse.Event) { e.Name = "message" }},
		{"name with a line end", func(e *sse.Event) { e.Name = "gap\ndata: x" }},
		{"id with LF", func(e *sse.Event) { e.ID = "a\nb" }},
		{"id with CR", func(e *sse.Event) { e.ID = "a\rb" }},
		{"id with NUL", func(e *sse.Event) { e.ID = "a\x00b" }},
		{"id with a space", func(e *sse.Event) { e.ID = " a" }},
		{"id with DEL", func(e *sse.Event) { e.ID = "a\x7f" }},
		{"id beyond ASCII", func(e *sse.Event) { e.ID = "é" }},
		{"id of 65", func(e *sse.Event) { e.ID = strings.Repeat("a", 65) }},
		{"negative retry", func(e *sse.Event) { e.Retry = -1 }},
		{"no data", func(e *sse.Event) { e.Data = nil }},
		{"data with LF", func(e *sse.Event) { e.Data = []byte(secret + "\n") }},
		{"data with CR", func(e *sse.Event) { e.Data = []byte("\r" + secret) }},
		{"data with NUL", func(e *sse.Event) { e.Data = []byte(secret + "\x00") }},
		{"data that is not UTF-8", func(e *sse.Event) { e.Data = []byte(secret + "\xff") }},
		{"surrogate in data", func(e *sse.Event) { e.Data = []byte(secret + "\xed\xa0\x80") }},
		{"data longer than a line", func(e *sse.Event) { e.Data = bytes.Repeat([]byte("x"), sse.MaxLine-5) }},
	} {
		e := good
		tt.spoil(&e)
		got, err := sse.Append([]byte("before"), e)
		if !errors.Is(err, sse.ErrEvent) || string(got) != "before" {
			t.Errorf("%s: %q, %v; want nothing appended and ErrEvent", tt.what, got, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error quotes the data: %v", tt.what, err)
		}
	}
}

func TestAppendTakesWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct {
		what string
		e    sse.Event
		want string
	}{
		{"bare", sse.Event{Name: sse.Gap, Data: []byte("x")}, "event: gap\ndata: x\n\n"},
		{"space before data", sse.Event{Name: sse.Gap, Data: []byte(" x")}, "event: gap\ndata:  x\n\n"},
		{"line separators of Unicode", sse.Event{Name: sse.Gap, Data: []byte("\u0085\u2028")}, "event: gap\ndata: \u0085\u2028\n\n"},
		{"id of 64", sse.Event{ID: strings.Repeat("~", 64), Name: sse.Gap, Data: []byte("x")}, "event: gap\ndata: x\nid: " + strings.Repeat("~", 64) + "\n\n"},
		{"part of a millisecond", sse.Event{Name: sse.Gap, Data: []byte("x"), Retry: 1}, "retry: 1\nevent: gap\ndata: x\n\n"},
		{"more than a millisecond", sse.Event{Name: sse.Gap, Data: []byte("x"), Retry: 1500*time.Millisecond + 1}, "retry: 1501\nevent: gap\ndata: x\n\n"},
	} {
		got, err := sse.Append(nil, tt.e)
		if string(got) != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.what, got, err, tt.want)
		}
	}

	longest := sse.Event{Name: sse.Gap, Data: bytes.Repeat([]byte("x"), sse.MaxLine-6)}
	frame, err := sse.Append(nil, longest)
	if err != nil {
		t.Fatalf("longest data: %v", err)
	}
	if got, err := sse.NewReader(bytes.NewReader(frame)).Next(); !bytes.Equal(got.Data, longest.Data) || err != nil {
		t.Errorf("longest data read back: %d bytes, %v", len(got.Data), err)
	}
}

func TestAppendAllocatesNothingWhereThereIsRoom(t *testing.T) {
	e, dst := frames()[0], make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { _, _ = sse.Append(dst, e) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	e, dst := frames()[1], make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sse.Append(dst, e); err != nil {
			b.Fatal(err)
		}
	}
}
