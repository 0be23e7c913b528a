package bus

import (
	"crypto/rand"
	"encoding/base32"
	"regexp"
	"strconv"
	"strings"
)

// Epoch is one incarnation of a stream: 40 random bits in 8 characters of
// base32, kept in the stream's metadata. "" is no epoch.
type Epoch string

const epochLen = 8

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newEpoch() Epoch {
	var b [5]byte
	rand.Read(b[:])
	return Epoch(lowerBase32.EncodeToString(b[:]))
}

// Cursor is a place in an inbox, or in the updates of a tenant's tickets: everything up to the stream sequence Seq has
// been delivered or declared missing. It means something only in the stream
// incarnation Epoch. The zero Cursor is the live end.
type Cursor struct {
	Epoch Epoch
	Seq   uint64

	// Elsewhere: Seq is not that of a message of the inbox, but of the end of
	// the stream when the inbox was empty, or of what is before a gap. What
	// becomes of the message there says nothing.
	Elsewhere bool

	// Lacking: something before it is missing, which a feed that begins there declares
	// first. It is for this process: what clients see says nothing of it.
	Lacking bool
}

// whole is c without what it lacks.
func (c Cursor) whole() Cursor {
	c.Lacking = false
	return c
}

// elsewhere is added to the number of a cursor that is Elsewhere. A stream has
// no such sequence: a message a microsecond takes it 290,000 years.
const elsewhere = 1 << 63

// IsZero reports whether c is the zero Cursor.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// String returns c as clients see it: at most 29 printable ASCII bytes; "" for
// the zero Cursor.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	n := c.Seq
	if c.Elsewhere {
		n |= elsewhere
	}
	return string(c.Epoch) + "-" + strconv.FormatUint(n, 10)
}

var cursorForm = regexp.MustCompile(`^[a-z2-7]{8}-(0|[1-9][0-9]{0,19})$`)

// Unknown is a cursor of no stream: following it declares a gap and goes on
// live. It stands for whatever a client sent that no node ever gave out.
var Unknown = Cursor{Epoch: "?", Seq: 0}

// ParseCursor reads a cursor that a client sent. What is not the form of a
// cursor is Unknown; the empty string is the zero Cursor.
func ParseCursor(s string) Cursor {
	if s == "" {
		return Cursor{}
	}
	if !cursorForm.MatchString(s) {
		return Unknown
	}
	epoch, digits, _ := strings.Cut(s, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil { // 20 digits can be more than 64 bits
		return Unknown
	}
	return Cursor{Epoch: Epoch(epoch), Seq: seq &^ elsewhere, Elsewhere: seq&elsewhere != 0}
}
