package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// readState says which notifications of an inbox are read: those up to the
// floor but for unread, and those above it in read. What comes later is above
// the floor, and so unread. The zero readState has nothing read.
//
// It speaks of sequences of one incarnation of the inbox stream: see partition.in.
type readState struct {
	epoch  Epoch
	floor  uint64
	unread []uint64 // ascending, up to the floor
	read   []uint64 // ascending, above the floor

	// oldest is the sequence of the oldest notification that was unread when
	// the state was written; 0 if none was. Once the inbox's bound has dropped
	// it, unread ones were dropped.
	oldest uint64

	// dropped: the inbox's bound had dropped unread ones by then.
	dropped bool
}

// has reports whether the notification of a sequence is read.
func (s readState) has(seq uint64) bool {
	if seq > s.floor {
		_, found := slices.BinarySearch(s.read, seq)
		return found
	}
	_, found := slices.BinarySearch(s.unread, seq)
	return !found
}

// oldestUnread is a sequence below which everything is read.
func (s readState) oldestUnread() uint64 {
	if len(s.unread) > 0 {
		return s.unread[0]
	}
	return s.floor + 1
}

// truncated reports whether unread notifications were dropped by the bound of
// the inbox. witness is the sequence of the notification beyond the bound, which
// was the last to drop out; 0 if nothing has.
func (s readState) truncated(witness uint64) bool {
	return s.dropped || witness != 0 && (!s.has(witness) || s.oldest != 0 && s.oldest <= witness)
}

// compact returns the shortest state of an inbox: seqs are the sequences of its
// notifications, ascending, isRead says which of them are read, and what is at or
// below another sequence is read or of no account. The floor is that, or a
// notification's, so nothing that is stored later can be under it.
func compact(e Epoch, below uint64, seqs []uint64, isRead []bool) readState {
	exceptions := 0 // with the floor below all of them
	for _, r := range isRead {
		if r {
			exceptions++
		}
	}
	best, least := 0, exceptions
	for i, r := range isRead {
		if r {
			exceptions--
		} else {
			exceptions++
		}
		if exceptions <= least {
			best, least = i+1, exceptions
		}
	}
	s := readState{epoch: e, floor: below}
	if best > 0 {
		s.floor = seqs[best-1]
	}
	for i, seq := range seqs {
		if !isRead[i] && s.oldest == 0 {
			s.oldest = seq
		}
		switch {
		case i < best && !isRead[i]:
			s.unread = append(s.unread, seq)
		case i >= best && isRead[i]:
			s.read = append(s.read, seq)
		}
	}
	return s
}

// ReadChange says that a notification is read now, or unread again.
type ReadChange struct {
	ID   string `json:"id"`
	Read bool   `json:"read"`
}

// maxChanges is how many changes are told one by one. With more, who shows a
// list fetches it again.
const maxChanges = 100

// stateMessage is the stored form of a read state, with what the write of it
// has changed.
type stateMessage struct {
	Version int      `json:"v"`
	Epoch   Epoch    `json:"epoch"`
	Floor   uint64   `json:"floor"`
	Unread  []uint64 `json:"unread,omitempty"`
	Read    []uint64 `json:"read,omitempty"`
	Oldest  uint64   `json:"oldest,omitempty"`
	Dropped bool     `json:"dropped,omitempty"`

	Changed []ReadChange `json:"changed,omitempty"`
	More    bool         `json:"more,omitempty"` // more has changed than Changed says
}

// stateVersion is of the form above. A later one may mean what this program does
// not understand.
const stateVersion = 1

// encode makes the stored form of a state and of what has changed. It is never part
// of a page, so it need not be longer for ids that look like HTML.
func (s readState) encode(changed []ReadChange) ([]byte, error) {
	m := stateMessage{
		Version: stateVersion, Epoch: s.epoch, Floor: s.floor, Unread: s.unread, Read: s.read,
		Oldest: s.oldest, Dropped: s.dropped, Changed: changed,
	}
	if len(changed) > maxChanges {
		m.Changed, m.More = nil, true
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	err := e.Encode(m)
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), err
}

// decodeState reads the stored form.
func decodeState(data []byte) (stateMessage, error) {
	var m stateMessage
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&m); err != nil {
		return m, errors.New("is not the JSON of a read state")
	}
	switch {
	case m.Version != stateVersion:
		return m, fmt.Errorf("is of form %d, and this program knows %d", m.Version, stateVersion)
	case !ascending(m.Unread) || !ascending(m.Read):
		return m, errors.New("is not in order")
	case len(m.Unread) > 0 && m.Unread[len(m.Unread)-1] > m.Floor, len(m.Read) > 0 && m.Read[0] <= m.Floor:
		return m, errors.New("has exceptions on the wrong side of its floor")
	}
	return m, nil
}

// ascending reports whether s is sorted and repeats nothing.
func ascending(s []uint64) bool {
	for i := 1; i < len(s); i++ {
		if s[i] <= s[i-1] {
			return false
		}
	}
	return true
}

// state returns the read state of a stored form.
func (m stateMessage) state() readState {
	return readState{
		epoch: m.Epoch, floor: m.Floor, unread: m.Unread, read: m.Read,
		oldest: m.Oldest, dropped: m.Dropped,
	}
}
