package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"time"
	"unicode/utf8"
)

// The bounds of what a Reader keeps in memory. The largest line the service
// sends has 16 KiB of data.
const (
	MaxLine  = 256 << 10 // bytes of a line, without its end
	MaxEvent = 1 << 20   // bytes of an event's data, an LF after each line
)

// ErrTooLong: a line is longer than MaxLine or an event's data than MaxEvent.
var ErrTooLong = errors.New("event stream: line or event too long")

// Reader reads the events of one stream by the rules of WHATWG HTML, "9.2.6
// Interpreting an event stream". It gives an event as soon as the byte that
// completes it has arrived. It is for one goroutine at a time.
type Reader struct {
	in  *bufio.Reader
	err error // what ended the stream; every later Next returns it

	begun  bool   // a line was read, so a byte order mark is past
	skipLF bool   // the last line ended in CR: an LF belongs to that end
	long   []byte // the start of a line that is not all in the buffer of in

	data  []byte // of the block, an LF after each line, so empty only without one
	event Event  // the block's other fields

	idBuffer  string // the last id field; becomes lastID at the blank line
	lastID    string
	lastRetry time.Duration
	retrySet  bool
}

// NewReader makes a Reader of r. The Reader may read more of r than it has
// returned as events.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReader(r)}
}

// LastEventID is what a client resumes from: the last id of the blocks whose
// blank line has been read, with or without data; "" if there was none, or if
// the stream took it back with an empty one.
func (r *Reader) LastEventID() string { return r.lastID }

// Retry is the last retry field read, whether or not an event came with it;
// false if there was none.
func (r *Reader) Retry() (time.Duration, bool) { return r.lastRetry, r.retrySet }

// Next returns the next event. Blocks without data are none. At the end it
// returns the error of the underlying reader, io.EOF for a clean one, and what
// was not completed by a blank line is discarded. After ErrTooLong nothing
// more can be read.
func (r *Reader) Next() (Event, error) {
	for r.err == nil {
		line, err := r.line()
		if err != nil {
			r.err = err
			break
		}
		if len(line) > 0 {
			r.err = r.field(line)
			continue
		}
		if e, ok := r.dispatch(); ok {
			return e, nil
		}
	}
	return Event{}, r.err
}

// line returns the next line without its end. It is valid until the next call.
func (r *Reader) line() ([]byte, error) {
	r.long = r.long[:0]
	for {
		if _, err := r.in.Peek(1); err != nil { // reads only if nothing is buffered
			return nil, err
		}
		chunk, _ := r.in.Peek(r.in.Buffered())
		if r.skipLF {
			r.skipLF = false
			if chunk[0] == '\n' {
				_, _ = r.in.Discard(1)
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		if end < 0 {
			end = len(chunk)
		}
		if len(r.long)+end > MaxLine {
			return nil, ErrTooLong
		}
		if end == len(chunk) {
			r.long = append(r.long, chunk...)
			_, _ = r.in.Discard(end)
			continue
		}
		// A CR ends the line here and now. Waiting to see whether an LF
		// follows would hold the event back until the next one.
		r.skipLF = chunk[end] == '\r'
		line := chunk[:end]
		if len(r.long) > 0 {
			r.long = append(r.long, line...)
			line = r.long
		}
		_, _ = r.in.Discard(end + 1)
		return r.withoutMark(line), nil
	}
}

// withoutMark cuts the byte order mark off the first line of the stream.
func (r *Reader) withoutMark(line []byte) []byte {
	if r.begun {
		return line
	}
	r.begun = true
	return bytes.TrimPrefix(line, []byte("\ufeff"))
}

// field takes a line that is not blank. A comment is a field without a name.
func (r *Reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		r.data = append(appendText(r.data, value), '\n')
		if len(r.data) > MaxEvent {
			return ErrTooLong
		}
	case "event":
		r.event.Name = Name(appendText(nil, value))
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.idBuffer = string(appendText(nil, value))
			r.event.ID = r.idBuffer
		}
	case "retry":
		if d, ok := parseRetry(value); ok {
			r.event.Retry = d
			r.lastRetry, r.retrySet = d, true
		}
	}
	return nil
}

// dispatch ends the block; false if there is no event in it.
func (r *Reader) dispatch() (Event, bool) {
	r.lastID = r.idBuffer
	e := r.event
	r.event = Event{}
	if len(r.data) == 0 {
		return Event{}, false
	}
	e.Data = bytes.Clone(r.data[:len(r.data)-1])
	r.data = r.data[:0]
	return e, true
}

// resumeAfter makes id the last one of the stream so far, as a browser does
// on a connection that continues another.
func (r *Reader) resumeAfter(id string) { r.idBuffer, r.lastID = id, id }

// parseRetry reads whole milliseconds. More than a Duration holds is the
// longest one.
func parseRetry(value []byte) (time.Duration, bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	if len(value) == 0 {
		return 0, false
	}
	var ms int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		if ms = ms*10 + int64(c-'0'); ms > most {
			ms = most // times ten still fits
		}
	}
	return time.Duration(ms) * time.Millisecond, true
}

// appendText appends b as the UTF-8 decoder of WHATWG Encoding reads it: each
// longest start of a character that does not go on as one becomes one U+FFFD.
// No such start spans the end of a line, so lines can be decoded singly.
func appendText(dst, b []byte) []byte {
	if utf8.Valid(b) {
		return append(dst, b...)
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != utf8.RuneError || n != 1 {
			dst = append(dst, b[:n]...)
			b = b[n:]
			continue
		}
		// FullRune is false for a start that could still become a character.
		for n < len(b) && !utf8.FullRune(b[:n+1]) {
			n++
		}
		dst = append(dst, "\ufffd"...)
		b = b[n:]
	}
	return dst
}
