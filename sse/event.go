// Package sse is the event-stream wire format: write, read, follow.
//
// Append writes an event as the server sends it and refuses whatever could be
// read as something else. A Reader reads any stream that WHATWG HTML, "9.2.6
// Interpreting an event stream", allows. A Client follows a stream over
// connections that end, as they all do.
package sse

import "time"

// Name is an event's name. The service sends the ones below and no others;
// what is read can have any.
type Name string

// The names. What each carries is in the API contract, section 3.
const (
	Connected    Name = "connected"
	Notification Name = "notification"
	State        Name = "state"
	TicketUpdate Name = "ticketUpdate"
	Gap          Name = "gap"
	Heartbeat    Name = "heartbeat"
	Error        Name = "error"
)

// Valid reports whether n is one of the names above.
func (n Name) Valid() bool {
	switch n {
	case Connected, Notification, State, TicketUpdate, Gap, Heartbeat, Error:
		return true
	}
	return false
}

// Event is one block of an event stream.
type Event struct {
	// ID is the block's own id, "" if it has none. What a client resumes from
	// is the last id of the stream: see Reader.LastEventID.
	ID string

	// Name is "" on reading for a block that names none, which a browser calls
	// "message".
	Name Name

	// Data is the payload, of one line when written. A Reader gives it away:
	// it is the caller's, and never nil.
	Data []byte

	// Retry is how long a client waits before it reconnects, in whole
	// milliseconds on the wire. 0: the block does not say, or says 0.
	Retry time.Duration
}
