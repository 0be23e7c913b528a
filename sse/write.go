package sse

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// ErrEvent is what Append returns, with the reason, for an event that cannot
// be written. The text quotes nothing of the event.
var ErrEvent = errors.New("event cannot be written")

// maxID is the most bytes that an id has: a cursor of the API contract.
const maxID = 64

// maxData is what fits into a line that a Reader accepts.
const maxData = MaxLine - len("data: ")

// Append appends e as it goes over the wire: retry, event, data and id, each
// on a line that ends in LF, then a blank line. The id comes last because some
// clients take it as soon as they have read it, and would resume after an event
// that was cut off. A Retry that is not whole milliseconds is rounded up, so
// that it never becomes 0. Append allocates only to grow dst.
//
// The error is an ErrEvent, and dst is returned as it was, for a name outside
// the closed set, an id that is not 1 to 64 printable ASCII characters,
// a negative retry, and data that is empty, longer than a Reader accepts, not
// UTF-8, or holds CR, LF or NUL.
func Append(dst []byte, e Event) ([]byte, error) {
	if why := refusal(e); why != "" {
		return dst, fmt.Errorf("%w: %s", ErrEvent, why)
	}
	if e.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, wholeMilliseconds(e.Retry), 10)
		dst = append(dst, '\n')
	}
	dst = append(dst, "event: "...)
	dst = append(dst, e.Name...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, e.Data...)
	if e.ID != "" {
		dst = append(dst, "\nid: "...)
		dst = append(dst, e.ID...)
	}
	return append(dst, "\n\n"...), nil
}

// refusal says why e cannot be written, "" if it can.
func refusal(e Event) string {
	switch {
	case !e.Name.Valid():
		return "its name is not one of the contract's"
	case e.ID != "" && !validID(e.ID):
		return "its id must be at most 64 printable ASCII characters"
	case e.Retry < 0:
		return "its retry is negative"
	case len(e.Data) == 0:
		return "it has no data"
	case len(e.Data) > maxData:
		return "its data is too long"
	case bytes.IndexByte(e.Data, '\n') >= 0, bytes.IndexByte(e.Data, '\r') >= 0:
		return "its data has more than one line"
	case bytes.IndexByte(e.Data, 0) >= 0:
		return "its data has a NUL"
	case !utf8.Valid(e.Data):
		return "its data is not UTF-8"
	}
	return ""
}

// validID reports whether s can be a cursor: 1 to maxID of 0x21 to 0x7e. Such
// a string also stands in an HTTP header as it is.
func validID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// wholeMilliseconds rounds d up.
func wholeMilliseconds(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}
