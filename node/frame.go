package node

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// connected is the data of a connection's first event.
type connected struct {
	Message   string         `json:"message"`
	UserID    peal.UserID    `json:"userId"`
	Timestamp peal.Timestamp `json:"timestamp"`
	ExpiresAt peal.Timestamp `json:"expiresAt"`
	Recovered bool           `json:"recovered"`
	Unread    uint64         `json:"unread"`
	ReadState string         `json:"readState"`
}

// connectedFrame begins a connection. It carries no cursor when a gap follows:
// a break between the two would otherwise lose the declaration.
func connectedFrame(data connected, start bus.Start) []byte {
	e := sse.Event{Name: sse.Connected, Data: encode(data), Retry: reconnectPause()}
	if !start.Gap {
		e.ID = start.Cursor.String()
	}
	return frame(e)
}

// notificationFrame is what all connections of an inbox are sent.
func notificationFrame(m *bus.Message) []byte {
	b, err := sse.Append(nil, sse.Event{Name: sse.Notification, ID: m.Cursor.String(), Data: m.Data})
	if err != nil {
		return nil // stored by somebody else: see conn.Deliver
	}
	return b
}

func gapFrame(g bus.Gap) []byte {
	return frame(sse.Event{Name: sse.Gap, ID: g.Cursor.String(), Data: encode(notice{string(g.Code), gapText[g.Code]})})
}

var gapText = map[bus.GapCode]string{
	bus.HistoryTruncated: "Part of what you missed is no longer stored: fetch the list again",
	bus.UnknownCursor:    "The place you asked to resume from is not known: fetch the list again",
}

// stateFrame tells of the read state.
func stateFrame(s bus.ReadState) []byte {
	data := struct {
		Unread    uint64            `json:"unread"`
		ReadState string            `json:"readState"`
		Changed   *[]bus.ReadChange `json:"changed,omitempty"`
		Refetch   bool              `json:"refetch,omitempty"`
	}{s.Unread, s.Version.String(), nil, s.Refetch}
	if !s.Refetch {
		changed := append([]bus.ReadChange{}, s.Changed...) // [] rather than null
		data.Changed = &changed
	}
	return frame(sse.Event{Name: sse.State, Data: encode(data)})
}

func heartbeatFrame(now time.Time) []byte {
	return frame(sse.Event{Name: sse.Heartbeat, Data: encode(struct {
		Timestamp peal.Timestamp `json:"timestamp"`
	}{peal.NewTimestamp(now)})})
}

// errorFrame is the last of a connection that the server ends.
func errorFrame(code, message string) []byte {
	return frame(sse.Event{Name: sse.Error, Data: encode(notice{code, message}), Retry: reconnectPause()})
}

// notice is the data of gap and error.
type notice struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// reconnectPause is 1 to 3 s: clients that were cut off together shall not come
// back together.
func reconnectPause() time.Duration {
	return time.Second + rand.N(2*time.Second)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("node: encode %T: %v", v, err))
	}
	return b
}

// frame encodes an event of our own making, which is always one that can be.
func frame(e sse.Event) []byte {
	b, err := sse.Append(nil, e)
	if err != nil {
		panic(fmt.Sprintf("node: %s: %v", e.Name, err))
	}
	return b
}
