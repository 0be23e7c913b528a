// Package history is what the processes of a torture run write down: what each has
// asked, what it was answered, what came, and which faults there were. Each process
// has a file of its own, one line of JSON a record, and all of them together, by their
// times, are the history of the run. What is written says only what its writer knows;
// what it means is for package verdict.
package history

import "time"

// Kind says what a record tells.
type Kind string

const (
	Run      Kind = "run"      // what the run is: the first record
	Publish  Kind = "publish"  // a publication is about to be sent for the first time
	Answer   Kind = "answer"   // what one try to publish came to
	Final    Kind = "final"    // nothing more will be said of a publication
	Dial     Kind = "dial"     // a device asks for a connection
	Open     Kind = "open"     // it has one: the connected event
	Refused  Kind = "refused"  // it has none
	Received Kind = "received" // a notification came
	Gap      Kind = "gap"      // a gap was declared
	State    Kind = "state"    // the read state has changed
	Beat     Kind = "beat"     // a heartbeat
	Error    Kind = "error"    // the last word of the server
	End      Kind = "end"      // a connection is over
	Gone     Kind = "gone"     // a device will not come back
	Mark     Kind = "mark"     // notifications were marked as read
	Fault    Kind = "fault"    // a fault begins
	Healed   Kind = "healed"   // it is over
	Quiet    Kind = "quiet"    // no fault, and nobody publishes any more
	Inbox    Kind = "inbox"    // the list of a user, at quiet
	Count    Kind = "count"    // the count of a user, at quiet, on one node
	Rest     Kind = "rest"     // what a device shows at quiet
	Usage    Kind = "usage"    // what a process uses
	Load     Kind = "load"     // how busy the machine was for the last second
)

// Outcomes of an Answer and of a Mark.
const (
	Stored  = "stored"  // acknowledged
	Denied  = "denied"  // an answer that is not: Status and Code say which
	Unknown = "unknown" // no answer, or not a whole one: it may be stored
)

// Ways in which a connection ends.
const (
	Cut   = "cut"   // aborted, by the server or the network
	Clean = "clean" // ended by the server as a response that is complete
	Left  = "left"  // by the device itself
)

// Phases of a Usage.
const (
	Base  = "base"
	After = "after"
)

// A Record is one line. Which fields there are depends on its kind.
type Record struct {
	At   int64 `json:"at"` // microseconds since 1970, by the clock that all processes share; in a file they never go back
	Kind Kind  `json:"k"`

	User   string `json:"u,omitempty"`    // tenant/namespace/id
	Device string `json:"d,omitempty"`    // one that resumes where it was
	Conn   string `json:"c,omitempty"`    // one connection, or the attempt at it
	Node   string `json:"node,omitempty"` // who was asked, or is meant

	Publication string `json:"p,omitempty"`
	To          []To   `json:"to,omitempty"`     // of a Publish
	Ticket      string `json:"ticket,omitempty"` // of a Publish: a ticket event
	Number      int    `json:"n,omitempty"`      // of a notification, counted for each user from 1; of an event, within its ticket
	Foreign     string `json:"foreign,omitempty"`

	Outcome string `json:"out,omitempty"`
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Again   bool   `json:"again,omitempty"`  // an Answer to what was acknowledged before
	Stores  int    `json:"stores,omitempty"` // of an Answer: in how many inboxes it was stored now

	Cursor    string `json:"id,omitempty"`
	Asked     string `json:"after,omitempty"` // of a Dial: the cursor to go on from
	Recovered bool   `json:"recovered,omitempty"`
	Expires   int64  `json:"exp,omitempty"`    // of the token, as At
	Server    int64  `json:"server,omitempty"` // the time that the server says, as At
	Paused    int64  `json:"paused,omitempty"` // microseconds of back-off since the device's last connection ended
	How       string `json:"how,omitempty"`
	Slow      bool   `json:"slow,omitempty"` // of an Open: by a device that stops reading now and then

	Read    bool    `json:"read,omitempty"`
	Unread  int     `json:"unread,omitempty"`
	Version string  `json:"version,omitempty"` // of the read state
	Entries []Entry `json:"entries,omitempty"` // of an Inbox, newest first
	Numbers []int   `json:"ns,omitempty"`      // of a Mark by ids

	Name string `json:"name,omitempty"` // of a fault
	ID   int    `json:"fault,omitempty"`

	Phase         string `json:"phase,omitempty"`
	RSS           int64  `json:"rss,omitempty"` // bytes
	Descriptors   int    `json:"fds,omitempty"`
	Goroutines    int    `json:"goroutines,omitempty"`
	Subscriptions int    `json:"subs,omitempty"` // at NATS

	Idle float64 `json:"idle,omitempty"` // of a Load: the part of all processors' time in which they had nothing to do

	Bounds *Bounds `json:"bounds,omitempty"` // of a Run

	// Where it is written; set by whoever reads it.
	File string `json:"-"`
	Line int    `json:"-"`
}

// To is one recipient of a publication.
type To struct {
	User   string `json:"u"`
	Number int    `json:"n"` // which of the user's notifications it is, from 1
}

// Entry is a notification in a list.
type Entry struct {
	Number int    `json:"n"`
	Cursor string `json:"id"`
	Read   bool   `json:"r,omitempty"`
}

// Bounds are what the service is configured with.
type Bounds struct {
	Limit    int    `json:"limit"`    // connections of a user
	PerInbox int    `json:"perInbox"` // notifications that are kept
	Window   int64  `json:"window"`   // of a drain, in microseconds
	Seed     uint64 `json:"seed"`
}

// Time is when it happened.
func (r *Record) Time() time.Time { return time.UnixMicro(r.At) }
