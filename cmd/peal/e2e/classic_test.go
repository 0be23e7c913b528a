package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Where the example stands in the document, and the address that it names.
const (
	exampleBegins  = "<!-- make e2e runs this example as it is. -->\n\n```js\n"
	exampleEnds    = "```\n"
	exampleAddress = "http://localhost:8080"
)

// before the example an application has an EventSource, and who its user is.
const before = `
const [token, tenantId, realmName] = process.argv.slice(1);
process.stdin.on('close', () => process.exit(0)).resume();
`

// The example of the document runs as it is, with each library that takes
// headers in that form.
func TestTheExampleOfTheDocument(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(b), exampleBegins)
	example, _, ends := strings.Cut(rest, exampleEnds)
	if !begins || !ends || strings.Count(example, exampleAddress) != 1 {
		t.Fatalf("%s has no example after %q, or it does not name %s once", document, exampleBegins, exampleAddress)
	}
	s := startService(t, "dev")
	example = strings.Replace(example, exampleAddress, s.url, 1)
	for _, tt := range []struct{ name, imports string }{
		{"eventsource 2", "import EventSource from 'eventsource-v2';"},
		{"event-source-polyfill", "import polyfill from 'event-source-polyfill'; const { EventSourcePolyfill: EventSource } = polyfill;"},
	} {
		t.Run(tt.name, func(t *testing.T) { runExample(t, s, tt.imports+before+example) })
	}
}

// runExample runs the example until each of its four listeners has spoken.
func runExample(t *testing.T, s *service, script string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	token, err := s.token(ctx, "jane", 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	desk, err := s.token(ctx, "desk", time.Hour, "--role", "notifications:publish")
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{
		"Connected: Connected to notification stream":   true,
		"Notification: VPN Connection Issue":            true,
		"Heartbeat: 20":                                 true, // and the rest of the time
		"The server ends the connection: TOKEN_EXPIRED": true,
	}
	var told []string
	c := exec.Command("node", "--input-type=module", "-e", script, token, tenant, realm)
	err = lines(ctx, c, func(line []byte) error {
		told = append(told, string(line))
		for want := range wanted {
			if strings.HasPrefix(string(line), want) {
				delete(wanted, want)
			}
		}
		if len(wanted) == 0 {
			cancel()
		}
		if strings.HasPrefix(string(line), "Connected: ") {
			return publisher{service: s, token: desk, users: []string{"jane"}}.publish("to-jane-" + time.Now().Format(time.RFC3339Nano))
		}
		return nil
	})
	if err != nil || len(wanted) != 0 {
		t.Errorf("the example told %q, %v; never %v", told, err, wanted)
	}
}
