package node

import (
	"testing"

	"github.com/pealhq/peal/bus"
)

// The event state says what has changed, or that the list is to be fetched again,
// and never carries a cursor.
func TestStateFrame(t *testing.T) {
	version := bus.Cursor{Epoch: "b6wq3xrd", Seq: 17}
	for _, row := range []struct {
		state bus.ReadState
		want  string
	}{
		{
			bus.ReadState{Unread: 2, Version: version, Changed: []bus.ReadChange{{ID: `n"1`, Read: true}, {ID: "n2"}}},
			`{"unread":2,"readState":"b6wq3xrd-17","changed":[{"id":"n\"1","read":true},{"id":"n2","read":false}]}`,
		},
		{bus.ReadState{Version: version}, `{"unread":0,"readState":"b6wq3xrd-17","changed":[]}`},
		{bus.ReadState{Unread: 1, Version: version, Refetch: true}, `{"unread":1,"readState":"b6wq3xrd-17","refetch":true}`},
	} {
		if got, want := string(stateFrame(row.state)), "event: state\ndata: "+row.want+"\n\n"; got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}
