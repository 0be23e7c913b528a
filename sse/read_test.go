package sse_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/sse"
)

// readAll returns every event of r and the error that ended it.
func readAll(r io.Reader) ([]sse.Event, error) {
	var events []sse.Event
	in := sse.NewReader(r)
	for {
		e, err := in.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

func event(name sse.Name, data string) sse.Event { return sse.Event{Name: name, Data: []byte(data)} }

// streams are the rules of the standard, and the examples it gives.
var streams = []struct {
	rule   string
	in     string
	want   []sse.Event
	lastID string
}{
	{"nothing", "", nil, ""},
	{"lines of data are joined", "data: YHOO\ndata: +2\ndata: 10\n\n", []sse.Event{event("", "YHOO\n+2\n10")}, ""},
	{"the standard's second example", ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
		[]sse.Event{{ID: "1", Data: []byte("first event")}, event("", "second event"), event("", " third event")}, ""},
	{"the standard's third example", "data\n\ndata\ndata\n\ndata:", []sse.Event{event("", ""), event("", "\n")}, ""},
	{"the standard's fourth example", "data:test\n\ndata: test\n\n", []sse.Event{event("", "test"), event("", "test")}, ""},
	{"CR ends a line", "event: gap\rdata: a\rdata: b\r\r", []sse.Event{event("gap", "a\nb")}, ""},
	{"CRLF ends a line once", "event: gap\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []sse.Event{event("gap", "a"), event("", "b")}, ""},
	{"ends are mixed", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", []sse.Event{event("", "a\nb\nc"), event("", "d")}, ""},
	{"LF CR is two ends", "data: a\n\rdata: b\n\n", []sse.Event{event("", "a"), event("", "b")}, ""},
	{"a byte order mark at the start is cut", "\ufeffdata: a\n\n", []sse.Event{event("", "a")}, ""},
	{"one mark only", "\ufeff\ufeffdata: a\n\ndata: b\n\n", []sse.Event{event("", "b")}, ""},
	{"a mark later is text", "data: a\n\n\ufeffdata: b\n\ndata: \ufeffc\n\n", []sse.Event{event("", "a"), event("", "\ufeffc")}, ""},
	{"part of a mark is not one", "\xef\xbbdata: a\n\ndata: b\n\n", []sse.Event{event("", "b")}, ""},
	{"comments are skipped", ":\n: x\n:data: y\ndata: a\n:\n\n", []sse.Event{event("", "a")}, ""},
	{"unknown fields are skipped", "foo: x\nDATA: y\n data: z\ndata : z\ndata: a\n\n", []sse.Event{event("", "a")}, ""},
	{"one space after the colon goes", "data:a\ndata: b\ndata:  c\ndata:\td\n\n", []sse.Event{event("", "a\nb\n c\n\td")}, ""},
	{"only the first colon counts", "data: a: b:c\n\n", []sse.Event{event("", "a: b:c")}, ""},
	{"a block without data is no event", "event: gap\nid: 1\nretry: 5\n\ndata: a\n\n", []sse.Event{event("", "a")}, "1"},
	{"the last event field counts", "event: gap\nevent: state\ndata: a\n\n", []sse.Event{event("state", "a")}, ""},
	{"an empty event field takes the name back", "event: gap\nevent\ndata: a\n\n", []sse.Event{event("", "a")}, ""},
	{"a block cut off is discarded", "id: 1\ndata: a\n\nid: 2\ndata: b\n", []sse.Event{{ID: "1", Data: []byte("a")}}, "1"},
	{"the last id persists", "id: 1\ndata: a\n\ndata: b\n\n", []sse.Event{{ID: "1", Data: []byte("a")}, event("", "b")}, "1"},
	{"an id with NUL is ignored", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []sse.Event{{ID: "1", Data: []byte("a")}, event("", "b")}, "1"},
	{"an empty id takes it back", "id: 1\ndata: a\n\nid\ndata: b\n\n", []sse.Event{{ID: "1", Data: []byte("a")}, event("", "b")}, ""},
	{"retry is digits", "retry: 1000\ndata: a\n\nretry: 1000x\ndata: b\n\nretry: -1\ndata: c\n\nretry:\ndata: d\n\nretry:  1\ndata: e\n\nretry: ١\ndata: f\n\n",
		[]sse.Event{{Data: []byte("a"), Retry: time.Second}, event("", "b"), event("", "c"), event("", "d"), event("", "e"), event("", "f")}, ""},
	{"retry may be huge", "retry: 99999999999999999999999\ndata: a\n\n",
		[]sse.Event{{Data: []byte("a"), Retry: math.MaxInt64 / time.Millisecond * time.Millisecond}}, ""},
	{"what is not UTF-8 is replaced", "event: \xff\nid: \xc0\x80\ndata: \xe2\x82|\xf0\x9f\x98|\xed\xa0\x80|\xe2\x82\xac\n\n",
		[]sse.Event{{ID: "\ufffd\ufffd", Name: "\ufffd", Data: []byte("\ufffd|\ufffd|\ufffd\ufffd\ufffd|€")}}, "\ufffd\ufffd"},
	{"NUL in data is data", "data: a\x00b\n\n", []sse.Event{event("", "a\x00b")}, ""},
}

func TestReaderKeepsTheRulesOfTheStandard(t *testing.T) {
	for _, tt := range streams {
		r := sse.NewReader(strings.NewReader(tt.in))
		var got []sse.Event
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.rule, err)
			}
			got = append(got, e)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.rule, diff)
		}
		if r.LastEventID() != tt.lastID {
			t.Errorf("%s: last id %q, want %q", tt.rule, r.LastEventID(), tt.lastID)
		}
		if events, id := reference([]byte(tt.in)); !cmp.Equal(events, tt.want) || id != tt.lastID {
			t.Errorf("%s: the reference is wrong: %v, last id %q", tt.rule, events, id)
		}
	}
}

func TestReaderDoesNotMindHowTheStreamArrives(t *testing.T) {
	for _, tt := range streams {
		for how, r := range map[string]io.Reader{
			"one byte at a time":   iotest.OneByteReader(strings.NewReader(tt.in)),
			"halves":               iotest.HalfReader(strings.NewReader(tt.in)),
			"the end with a byte":  iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(tt.in))),
			"the end with it all":  iotest.DataErrReader(strings.NewReader(tt.in)),
			"random pieces":        randomReader{strings.NewReader(tt.in)},
			"random pieces, again": randomReader{strings.NewReader(tt.in)},
		} {
			got, err := readAll(r)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != io.EOF {
				t.Errorf("%s, %s: %v (-want +got):\n%s", tt.rule, how, err, diff)
			}
		}
	}
}

// randomReader reads 0 to 5 bytes at a time.
type randomReader struct{ r io.Reader }

func (r randomReader) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), rand.IntN(6))])
}

// After a frame that ends in CR the stream may be silent for long, and whether
// an LF follows says nothing about the event.
func TestReaderGivesAnEventWithItsLastByte(t *testing.T) {
	for _, frame := range []string{"data: a\r\r", "data: a\n\n", "data: a\r\n\r", "data: a\r\n\r\n", "\ufeffdata: a\n\r"} {
		for name, first := range map[string]io.Reader{
			"whole": strings.NewReader(frame),
			"bytes": iotest.OneByteReader(strings.NewReader(frame)),
		} {
			silence := readerFunc(func([]byte) (int, error) {
				t.Errorf("%q, %s: the reader wants more before it gives the event", frame, name)
				return 0, io.EOF
			})
			// Not io.MultiReader: at the end of one it reads the next.
			got, err := sse.NewReader(&then{first, len(frame), silence}).Next()
			if string(got.Data) != "a" || err != nil {
				t.Errorf("%q, %s: %q, %v", frame, name, got.Data, err)
			}
		}
	}
}

// then reads left bytes of first, then next.
type then struct {
	first io.Reader
	left  int
	next  io.Reader
}

func (r *then) Read(p []byte) (int, error) {
	if r.left == 0 {
		return r.next.Read(p)
	}
	n, err := r.first.Read(p)
	r.left -= n
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTheLastIDChangesAtTheBlankLine(t *testing.T) {
	r := sse.NewReader(strings.NewReader("id: 1\ndata: a\n\nid: 2\n\nid: 3\ndata: b\n\nid: 4\ndata: c\n"))
	for _, want := range []string{"1", "3"} {
		if e, err := r.Next(); e.ID != want || r.LastEventID() != want || err != nil {
			t.Fatalf("event's id %q, last id %q, %v; want %q", e.ID, r.LastEventID(), err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF || r.LastEventID() != "3" {
		t.Errorf("at the end: last id %q, %v; want 3, EOF", r.LastEventID(), err)
	}

	r = sse.NewReader(strings.NewReader("id: 1\ndata: a\n\nid: 2\n\n"))
	for range 2 {
		_, _ = r.Next()
	}
	if r.LastEventID() != "2" {
		t.Errorf("after a block without data: last id %q, want 2", r.LastEventID())
	}
}

func TestARetryCountsWithoutAnEvent(t *testing.T) {
	r := sse.NewReader(strings.NewReader("data: a\n\nretry: 0\n\nretry: 250\n"))
	_, _ = r.Next()
	if d, ok := r.Retry(); ok {
		t.Errorf("retry %v before there is one", d)
	}
	_, _ = r.Next()
	if d, ok := r.Retry(); d != 250*time.Millisecond || !ok {
		t.Errorf("retry %v, %v; want 250ms", d, ok)
	}
}

func TestReaderReturnsTheErrorOfTheStreamForGood(t *testing.T) {
	broken := errors.New("broken")
	calls := 0
	r := sse.NewReader(readerFunc(func(p []byte) (int, error) {
		if calls++; calls > 1 {
			t.Error("read after the error")
		}
		return copy(p, "data: a\n\ndata: b\n"), broken
	}))
	if e, err := r.Next(); string(e.Data) != "a" || err != nil {
		t.Fatalf("first: %q, %v", e.Data, err)
	}
	for range 2 {
		if _, err := r.Next(); err != broken {
			t.Fatalf("got %v, want %v", err, broken)
		}
	}
}

func TestTheDataIsTheCallers(t *testing.T) {
	r := sse.NewReader(strings.NewReader("data: first\n\ndata: other\n\n"))
	first, _ := r.Next()
	if _, err := r.Next(); string(first.Data) != "first" || err != nil {
		t.Errorf("first data is now %q, %v", first.Data, err)
	}
}

func TestReaderIsBounded(t *testing.T) {
	line := func(n int) string { return "data:" + strings.Repeat("x", n-len("data:")) + "\n" }
	many := func(n int) string { return strings.Repeat("data:"+strings.Repeat("x", 1023)+"\n", n) }
	for _, tt := range []struct {
		what string
		in   string
		want error
	}{
		{"the longest line", line(sse.MaxLine) + "\n", io.EOF},
		{"a longer line", line(sse.MaxLine+1) + "\n", sse.ErrTooLong},
		{"a longer comment", ":" + line(sse.MaxLine) + "\n", sse.ErrTooLong},
		{"the largest event", many(sse.MaxEvent/1024) + "\n", io.EOF},
		{"a larger event", many(sse.MaxEvent/1024) + "data\n\n", sse.ErrTooLong},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.HalfReader(strings.NewReader(tt.in))} {
			events, err := readAll(r)
			if wantEvents := map[error]int{io.EOF: 1}[tt.want]; err != tt.want || len(events) != wantEvents {
				t.Errorf("%s: %d events, %v; want %d, %v", tt.what, len(events), err, wantEvents, tt.want)
			}
		}
	}
}

// A peer that sends for ever and never ends a line, a block or the stream is
// let go after a bounded number of bytes.
func TestReaderGivesUpOnWhatNeverEnds(t *testing.T) {
	for _, piece := range []string{"x", "data\n", "data: \xff\xff\xff\n", "data: x\r\n"} {
		taken := 0
		r := sse.NewReader(readerFunc(func(p []byte) (int, error) {
			n := 0
			for n+len(piece) <= len(p) {
				n += copy(p[n:], piece)
			}
			taken += n
			return n, nil
		}))
		if _, err := r.Next(); err != sse.ErrTooLong {
			t.Errorf("%q for ever: %v", piece, err)
		}
		if most := 10 * sse.MaxEvent; taken > most {
			t.Errorf("%q for ever: took %d bytes", piece, taken)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, tt := range streams {
		f.Add([]byte(tt.in), uint64(len(tt.in)))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		if len(in) > sse.MaxLine { // the reference knows no bounds
			t.Skip()
		}
		want, wantID := reference(in)
		for _, r := range []io.Reader{bytes.NewReader(in), &splitReader{in, rand.New(rand.NewPCG(seed, 0))}} {
			reader := sse.NewReader(r)
			var got []sse.Event
			for {
				e, err := reader.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, e); len(got) > len(in) {
					t.Fatal("more events than bytes")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("events (-want +got):\n%s", diff)
			}
			if id := reader.LastEventID(); id != wantID {
				t.Fatalf("last id %q, want %q", id, wantID)
			}
		}
	})
}

// splitReader reads pieces of 1 to 8 bytes.
type splitReader struct {
	rest []byte
	rand *rand.Rand
}

func (r *splitReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+r.rand.IntN(8))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func FuzzRoundTrip(f *testing.F) {
	for _, e := range frames() {
		f.Add(e.ID, string(e.Name), e.Data, int64(e.Retry))
	}
	f.Add("a\nb", "gap\n\n", []byte("x\r\n\ny"), int64(-1))
	f.Add("~", "gap", []byte("\ufeff\u2028"), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, id, name string, data []byte, retry int64) {
		e := sse.Event{ID: id, Name: sse.Name(name), Data: data, Retry: time.Duration(retry)}
		before := []byte("data: before\n\n")
		frame, err := sse.Append(before, e)
		if err != nil {
			if !errors.Is(err, sse.ErrEvent) || !bytes.Equal(frame, before) {
				t.Fatalf("refused with %v, and %q", err, frame)
			}
			return
		}
		want := []sse.Event{event("", "before"), e}
		if part := e.Retry % time.Millisecond; part > 0 {
			want[1].Retry += time.Millisecond - part
			if want[1].Retry < 0 {
				want[1].Retry = math.MaxInt64 / time.Millisecond * time.Millisecond
			}
		}
		got, err := readAll(bytes.NewReader(frame))
		if diff := cmp.Diff(want, got); diff != "" || err != io.EOF {
			t.Fatalf("%q: %v (-want +got):\n%s", frame, err, diff)
		}
	})
}
