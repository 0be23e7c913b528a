package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pealhq/peal/bus/embedded"
)

// In a cluster a server may be told where a copy goes to before it is told that somebody
// listens there: a migration ended with "no responders" on a machine that was busy.
func TestChunkBeforeTheWordOfItsReader(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Store: 1 << 30, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	connect := func() *nats.Conn {
		nc, err := nats.Connect("", nats.InProcessServer(server))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	s := &Streams{streams: streams{nc: connect(), timeout: 10 * time.Second}}
	const subject = "$JS.SNAPSHOT.RESTORE.S.1"
	put := make(chan error, 1)
	go func() { put <- s.put(t.Context(), subject, []byte("chunk")) }()
	for s.nc.Stats().InMsgs == 0 { // that nobody listens
		select {
		case err := <-put:
			t.Fatalf("ended with %v before somebody listens", err)
		case <-time.After(time.Millisecond):
		}
	}
	var got []string
	reader := connect()
	if _, err := reader.Subscribe(subject, func(m *nats.Msg) {
		got = append(got, string(m.Data))
		m.Respond(nil)
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-put; err != nil {
		t.Error(err)
	}
	reader.Close()
	if len(got) != 1 || got[0] != "chunk" {
		t.Errorf("it got %q, want the chunk once", got)
	}

	s.timeout = 500 * time.Millisecond
	if err := s.put(t.Context(), subject+"0", nil); err != nats.ErrNoResponders {
		t.Errorf("where nobody ever listens: %v, want %v", err, nats.ErrNoResponders)
	}
}
