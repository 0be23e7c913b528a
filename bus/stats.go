package bus

import "sync/atomic"

// Stats counts what a Bus does. All fields only grow, but Followed
// and SlotsHeld.
type Stats struct {
	Stored     atomic.Int64 // notifications stored, once for each inbox
	Duplicates atomic.Int64 // that an inbox had already
	Updates    atomic.Int64 // ticket updates stored

	Events          atomic.Int64 // ticket events stored
	EventDuplicates atomic.Int64 // that were stored already
	Worked          atomic.Int64 // ticket events that were worked on and are done
	Retried         atomic.Int64 // that were put off, once for each time
	Buried          atomic.Int64 // that have become dead letters

	SlotsHeld    atomic.Int64 // slots and claims that this process has now
	SlotsFull    atomic.Int64 // connections that were refused because all slots are taken
	SlotsUnknown atomic.Int64 // because JetStream did not say
	SlotsMoved   atomic.Int64 // slots that somebody else had, in whose place another was gained
	SlotsLost    atomic.Int64 // for which there was no other, and claims that were taken over

	backlog atomic.Pointer[Backlog] // as it was seen last; nil if this process does not look

	Followed   atomic.Int64 // inboxes that have a feed now
	Delivered  atomic.Int64 // messages that a sink took
	Gaps       atomic.Int64 // declared to a sink
	StatesTold atomic.Int64 // read states told to a sink

	Moved   atomic.Int64 // places of durables stored
	Unmoved atomic.Int64 // that could not be stored

	Reads        atomic.Int64 // of stored messages, for one inbox
	Ranges       atomic.Int64 // of stored messages, for all feeds of a partition
	Holes        atomic.Int64 // in the chain of live messages
	Rescued      atomic.Int64 // feeds that the tail check found behind
	SlowConsumer atomic.Int64 // reports of live messages that this process dropped
	Malformed    atomic.Int64 // live messages without the headers of JetStream
}

// Backlog returns what waits to be worked on, as this process has seen it within the
// last seconds. ok is false if it does not work on events, or has not looked yet.
func (s *Stats) Backlog() (seen Backlog, ok bool) {
	if b := s.backlog.Load(); b != nil {
		return *b, true
	}
	return Backlog{}, false
}
