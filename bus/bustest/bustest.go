// Package bustest starts a real JetStream in the process for tests.
package bustest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/embedded"
)

// Main runs the tests of a package and fails if they leave a goroutine.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m,
		// nats-server: started once for the process and kept, by design.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/pse.periodic"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/pse.periodic"),
		// nats-server: a mirror waits for up to 30 s for its origin, also when the server is down.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*stream).setupMirrorConsumer.func3"),
		// net/http: waits half a second after it has answered who is still sending.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"),
	)
}

// Server starts a JetStream in a directory of its own. It ends with the test.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	return ServerIn(t, t.TempDir())
}

// ServerIn starts a JetStream in a directory, such as that of a server that
// was closed before.
func ServerIn(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: dir, Store: 8 << 30, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New opens a bus on a JetStream of its own. Both end with the test. change,
// if not nil, changes the configuration first.
func New(t testing.TB, change func(*bus.Config)) *bus.Bus {
	t.Helper()
	return Open(t, Server(t), change)
}

// Open opens a bus on a server. It ends with the test.
func Open(t testing.TB, s *embedded.Server, change func(*bus.Config)) *bus.Bus {
	t.Helper()
	cfg := bus.Config{Server: s}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
