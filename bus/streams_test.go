package bus_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
)

// openStreams is for who sees to the streams of a server.
func openStreams(t *testing.T, s *embedded.Server, change func(*bus.Config)) *bus.Streams {
	t.Helper()
	cfg := bus.Config{Server: s, Role: bus.RoleAdmin, Timeout: 20 * time.Second}
	if change != nil {
		change(&cfg)
	}
	streams, err := bus.OpenStreams(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(streams.Close)
	return streams
}

// configs returns the configuration of every stream of a server, by name.
func configs(t *testing.T, js jetstream.JetStream) map[string]jetstream.StreamConfig {
	t.Helper()
	all := make(map[string]jetstream.StreamConfig)
	list := js.ListStreams(t.Context())
	for info := range list.Info() {
		all[info.Config.Name] = info.Config
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return all
}

func differences(e bus.Ensured) (all []string) {
	for _, d := range e.Differences {
		all = append(all, d.String())
	}
	return all
}

// Ensure makes what a bus makes, says beforehand what it would do, and finds nothing
// to do the second time.
func TestEnsureMakesWhatIsMissing(t *testing.T) {
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	streams := openStreams(t, s, func(c *bus.Config) { c.Partitions = 2 })
	for _, tt := range []struct {
		when          string
		dry           bool
		missing, have int
	}{
		{"dry", true, 12, 0},
		{"", false, 12, 12},
		{"again", false, 0, 12},
		{"dry again", true, 0, 12},
	} {
		e, err := streams.Ensure(t.Context(), tt.dry)
		if err != nil || e.Streams != 12 || len(e.Differences) != tt.missing {
			t.Fatalf("%s: %d streams, %q, %v, want 12 of which %d are missing", tt.when, e.Streams, differences(e), err, tt.missing)
		}
		for _, d := range e.Differences {
			if d.Field != "" || d.Refused != "" {
				t.Errorf("%s: %s, want nothing but that it is missing", tt.when, d)
			}
		}
		if n := len(configs(t, js)); n != tt.have {
			t.Fatalf("%s: %d streams are there, want %d", tt.when, n, tt.have)
		}
	}
	before := configs(t, js)
	b := openOn(t, s, nil)
	if n := b.Partitions(); n != 2 {
		t.Errorf("a bus finds %d partitions, want 2", n)
	}
	if diff := cmp.Diff(before, configs(t, js)); diff != "" {
		t.Errorf("the bus has changed something (-before +after):\n%s", diff)
	}
}

// What is there is brought to what the configuration says only where nothing is lost
// by it; the rest is told, with the reason.
func TestEnsureOnlyRaises(t *testing.T) {
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	made := openStreams(t, s, func(c *bus.Config) { c.PerInbox, c.Retain = 100, 10*24*time.Hour })
	if _, err := made.Ensure(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	change := func(name string, change func(*jetstream.StreamConfig)) {
		t.Helper()
		cfg := configs(t, js)[name]
		change(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	change("PEAL_EVENT_local", func(c *jetstream.StreamConfig) { c.MaxAge, c.Discard = time.Hour, jetstream.DiscardOld })
	change("PEAL_DEAD_local", func(c *jetstream.StreamConfig) { c.MaxBytes, c.MaxMsgs = -1, 5 })
	change("PEAL_TICKET_local", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.RePublish, c.AllowDirect = 5000, nil, false })
	change("KV_PEAL_PREF_local", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 })
	change("KV_PEAL_REVOKED", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 30 })

	streams := openStreams(t, s, func(c *bus.Config) { c.PerInbox, c.Retain, c.Partitions = 50, 20*24*time.Hour, 8 })
	want := []string{
		"PEAL_INBOX_local_0: peal.partitions: 1 -> 8: refused: where each inbox is depends on it",
		"PEAL_EVENT_local: max_age: 1h0m0s -> no bound",
		"PEAL_EVENT_local: discard: DiscardOld -> DiscardNew",
		"PEAL_TICKET_local: max_msgs_per_subject: 5000 -> 4096: refused: a lower bound would drop what is stored",
		"PEAL_TICKET_local: allow_direct: false -> true",
		"PEAL_TICKET_local: republish: none -> peal.ticket.local.* to peal.liveticket.local.EPOCH.{{wildcard(1)}}",
		"PEAL_DEAD_local: max_bytes: no bound -> 268435456: refused: a lower bound would drop what is stored",
		"PEAL_DEAD_local: max_msgs: 5 -> no bound",
		"PEAL_ERASED_local: max_age: 264h0m0s -> 504h0m0s",
		"PEAL_INBOX_local_0: max_age: 240h0m0s -> 480h0m0s",
		"PEAL_INBOX_local_0: max_msgs_per_subject: 101 -> 51: refused: a lower bound would drop what is stored",
		"PEAL_STATE_local_0: max_age: 264h0m0s -> 504h0m0s",
		"KV_PEAL_PREF_local: max_bytes: 1048576 -> 134217728",
		"KV_PEAL_REVOKED: max_bytes: 1073741824 -> 67108864: refused: a lower bound would drop what is stored",
	}
	before := configs(t, js)
	epoch := before["PEAL_TICKET_local"].Metadata["peal.epoch"]
	for i, line := range want {
		want[i] = strings.Replace(line, "EPOCH", epoch, 1)
	}
	dry, err := streams.Ensure(t.Context(), true)
	if diff := cmp.Diff(want, differences(dry)); diff != "" || err != nil {
		t.Fatalf("dry: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(before, configs(t, js)); diff != "" {
		t.Fatalf("a dry run has changed something (-before +after):\n%s", diff)
	}
	if done, err := streams.Ensure(t.Context(), false); err != nil || cmp.Diff(want, differences(done)) != "" {
		t.Fatalf("%q, %v, want what was announced", differences(done), err)
	}

	after := configs(t, js)
	for name, have := range after {
		was := before[name]
		if was.MaxBytes > 0 && have.MaxBytes < was.MaxBytes && have.MaxBytes > 0 || was.MaxBytes <= 0 && have.MaxBytes > 0 ||
			was.MaxAge > have.MaxAge && have.MaxAge > 0 || was.MaxMsgsPerSubject > have.MaxMsgsPerSubject && have.MaxMsgsPerSubject > 0 {
			t.Errorf("%s has a lower bound: %+v, was %+v", name, have, was)
		}
		if have.Metadata["peal.epoch"] != was.Metadata["peal.epoch"] {
			t.Errorf("%s has another epoch", name)
		}
	}
	left, err := streams.Ensure(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range left.Differences {
		if d.Refused == "" {
			t.Errorf("%s: is there a second time", d)
		}
	}
	openOn(t, s, nil) // or it fails
}

// What can't serve peal is told, and all else is done.
func TestEnsureGoesOnAroundWhatIsForeign(t *testing.T) {
	s := bustest.Server(t)
	js := bustest.JetStream(t, s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PEAL_DEAD_local", Subjects: []string{"mine.>"}}); err != nil {
		t.Fatal(err)
	}
	e, err := openStreams(t, s, nil).Ensure(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "PEAL_DEAD_local: peal.epoch: none -> an epoch: refused: it was not created by peal") {
		t.Errorf("%v, want an error that names the stream and says why", err)
	}
	if n := len(configs(t, js)); n != e.Streams {
		t.Errorf("%d streams are there, want all of %d", n, e.Streams)
	}
}

// A cluster that does not exist is not waited for longer than asked.
func TestOpenStreamsNeedsAServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, cfg := range map[string]bus.Config{
		"neither server nor address": {},
		"a region that is no token":  {Server: bustest.Server(t), Region: "a.b"},
		"a role that is no token":    {Server: bustest.Server(t), Role: "a.>"},
		"nobody there":               {URLs: []string{"nats://127.0.0.1:1"}, Await: time.Second},
	} {
		if s, err := bus.OpenStreams(ctx, cfg); err == nil {
			s.Close()
			t.Errorf("%s: opened, want an error", name)
		}
	}
}
