package bus

import (
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// Message is a stored notification on its way to the followers of its inbox, or a
// ticket update on its way to those of its tenant's tickets. They share it, and its
// fields are not to be changed.
type Message struct {
	Cursor Cursor // the place of this message: everything up to and with it
	Read   bool   // of a notification
	Data   []byte // one line of JSON, see peal.Notification, whose "read" is Read; for an update see Update

	// Stored is when JetStream had it, by the clock of the stream's leader.
	Stored time.Time

	// Origin is what it belongs to whose tracing wants to know of its delivery, as who
	// stored it has said, of one that arrived live. Not valid: nobody wants to.
	Origin trace.SpanContext

	previous uint64 // of a live message: the sequence before it in this inbox
	frame    []byte

	addressed *addressed // of a ticket update that was read
}

// as returns the message with its read state. A live one is not read, as a rule,
// and so all who follow its inbox share it.
func (m *Message) as(read bool) *Message {
	if m.Read == read {
		return m
	}
	return &Message{Cursor: m.Cursor, Read: read, Data: withRead(m.Data, read), Stored: m.Stored, Origin: m.Origin, previous: m.previous}
}

// Frame returns what encode makes of the message. It is made once, however
// many sinks of the inbox ask. Only to be called within Sink.Deliver.
func (m *Message) Frame(encode func(*Message) []byte) []byte {
	if m.frame == nil {
		m.frame = encode(m)
	}
	return m.frame
}

// GapCode says why history is missing.
type GapCode string

// The reasons for a gap.
const (
	// HistoryTruncated: part of what was asked for has expired, fell out of
	// the inbox's bound, or was purged.
	HistoryTruncated GapCode = "HISTORY_TRUNCATED"

	// UnknownCursor: the cursor is of no incarnation of the stream that
	// exists, or of its future.
	UnknownCursor GapCode = "UNKNOWN_CURSOR"
)

// Gap declares that everything up to Cursor that was not delivered is missing.
type Gap struct {
	Code   GapCode
	Cursor Cursor // the feed goes on after it
}

// The headers that JetStream adds to a republished message, and to the answer
// of a batched Direct Get.
const (
	headerSequence = jetstream.SequenceHeader
	headerSubject  = jetstream.SubjectHeader
	headerTime     = jetstream.TimeStampHeaer
	headerPrevious = "Nats-Last-Sequence"
	headerPending  = "Nats-Num-Pending"
	headerUpTo     = "Nats-UpTo-Sequence"
)

// storedAt is when a message was stored; zero if it does not say: nothing but a measurement
// depends on it.
func storedAt(h nats.Header) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, h.Get(headerTime))
	return at
}

// liveMessage reads a republished message; ok is false for anything else.
func liveMessage(m *nats.Msg, epoch Epoch) (msg *Message, ok bool) {
	seq, err := sequence(m, headerSequence)
	if err != nil {
		return nil, false
	}
	previous, err := sequence(m, headerPrevious)
	if err != nil {
		return nil, false
	}
	return &Message{Cursor: Cursor{Epoch: epoch, Seq: seq}, Data: m.Data, Stored: storedAt(m.Header), Origin: originOf(m.Header), previous: previous}, true
}
