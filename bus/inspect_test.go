package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

// natsServer starts a nats-server with a listener, and ends it with the test.
func natsServer(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	opts := &server.Options{ServerName: "one", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	if change != nil {
		change(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

// at is the configuration of a bus on a server, as a user.
func at(s *server.Server, user string) bus.Config {
	address := "nats://" + s.Addr().String()
	if user != "" {
		address = "nats://" + user + "@" + s.Addr().String()
	}
	return bus.Config{URLs: []string{address}, Partitions: 2, Replicas: 1, Store: 1 << 30, Timeout: 3 * time.Second}
}

func openAt(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func inspect(t *testing.T, cfg bus.Config) *bus.Inspector {
	t.Helper()
	i, err := bus.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// How far one gets to a server is said, with the reason, and without a password.
func TestLookAtServer(t *testing.T) {
	t.Parallel()
	guarded := natsServer(t, func(o *server.Options) { o.Username, o.Password = "peal", "right" })
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(nil) // which has a certificate that nobody trusts
	t.Cleanup(secure.Close)
	private := natsServer(t, func(o *server.Options) { o.TLSConfig = secure.TLS.Clone() })
	closed := httptest.NewServer(nil)
	closed.Close()
	host := guarded.Addr().String()
	for _, tt := range []struct {
		name, address string
		failed        bus.Stage
	}{
		{"all is well", "nats://peal:right@" + host, ""},
		{"without a scheme", "peal:right@" + host, ""},
		{"wrong password", "nats://peal:secret@" + host, bus.StageCredentials},
		{"no credentials", "nats://" + host, bus.StageCredentials},
		{"TLS where there is none", "tls://peal:secret@" + host, bus.StageTLS},
		{"a certificate that nobody trusts", "tls://" + private.Addr().String(), bus.StageTLS},
		{"nobody listens", "nats://peal:secret@" + closed.Listener.Addr().String(), bus.StageConnect},
		{"a web server", "nats://peal:secret@" + web.Listener.Addr().String(), bus.StageProtocol},
		{"no such name", "nats://peal:secret@nowhere.invalid:4222", bus.StageResolve},
		{"no URL", "nats://peal:secret%zz@" + host, bus.StageURL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := bus.LookAtServer(t.Context(), bus.Config{Timeout: 3 * time.Second}, tt.address)
			if seen.Failed != tt.failed || (seen.Err == nil) != (tt.failed == "") {
				t.Errorf("got as far as %q: %v; want %q", seen.Failed, seen.Err, tt.failed)
			}
			if said := fmt.Sprint(seen.Address, seen.Err); strings.Contains(said, "secret") || strings.Contains(said, "right") {
				t.Errorf("the password is told: %s", said)
			}
			if tt.failed == "" && (seen.Name != "one" || seen.Version != server.VERSION || seen.MaxPayload != 1<<20 || seen.RoundTrip <= 0 || seen.Encrypted) {
				t.Errorf("seen: %+v", seen)
			}
		})
	}
	missing := bus.LookAtServer(t.Context(), bus.Config{Credentials: "/no/such.creds", Timeout: 3 * time.Second}, "nats://"+host)
	if missing.Failed != bus.StageCredentials {
		t.Errorf("credentials that are not there: %q: %v", missing.Failed, missing.Err)
	}
}

// A look ends with its context, whatever answers or does not.
func TestLookEndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent := httptest.NewUnstartedServer(nil) // takes connections and says nothing
	defer silent.Listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	seen := bus.LookAtServer(ctx, bus.Config{Timeout: time.Minute}, "nats://"+silent.Listener.Addr().String())
	if took := time.Since(began); seen.Failed == "" || took > 5*time.Second {
		t.Errorf("ended after %v with %q: %v", took, seen.Failed, seen.Err)
	}
}

func TestInspectWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := natsServer(t, func(o *server.Options) { o.JetStream = false })
	if _, err := inspect(t, at(s, "")).Account(t.Context()); !errors.Is(err, bus.ErrNoJetStream) {
		t.Errorf("the server has none: %v", err)
	}
	with := server.NewAccount("WITH")
	without := server.NewAccount("WITHOUT")
	s = natsServer(t, func(o *server.Options) {
		o.Accounts = []*server.Account{with, without}
		o.Users = []*server.User{{Username: "peal", Password: "p", Account: without}}
	})
	if _, err := inspect(t, at(s, "peal:p")).Account(t.Context()); !errors.Is(err, bus.ErrNoJetStream) {
		t.Errorf("the account has none: %v", err)
	}
}

// states are the counters of all streams, and of all consumers.
func states(t *testing.T, js jetstream.JetStream) map[string]any {
	t.Helper()
	all := make(map[string]any)
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		all[info.Config.Name] = info.State
		s, err := js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		consumers := s.ListConsumers(t.Context())
		for c := range consumers.Info() {
			all[info.Config.Name+"/"+c.Name] = []any{c.Delivered.Stream, c.AckFloor.Stream, c.NumAckPending, c.NumPending, c.NumRedelivered, c.NumWaiting}
		}
		if consumers.Err() != nil {
			t.Fatal(consumers.Err())
		}
	}
	if streams.Err() != nil {
		t.Fatal(streams.Err())
	}
	return all
}

// An inspection finds all well, and leaves everything as it was: nothing is stored,
// no event is taken from those who work on them, no consumer is made.
func TestInspectStoresAndTakesNothing(t *testing.T) {
	t.Parallel()
	s := natsServer(t, nil)
	b := openAt(t, at(s, ""))
	js := b.JetStream()

	// Consumers as a dispatch has made them, which is gone: an event waits.
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- b.Work(ctx, func(context.Context, *bus.Task) {}) }()
	i := inspect(t, at(s, ""))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if there := slices.IndexFunc(i.Work(t.Context()), func(w bus.WorkSeen) bool { return w.Err != nil || w.Pulling == 0 }) < 0; there {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all consumers are seen to be pulled from: %+v", i.Work(t.Context()))
		}
	}
	stop()
	if err := <-worked; err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "peal.event.local.11111111-1111-4111-8111-111111111111.=MQ", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	// The requests of the workers that ended are forgotten by the server in its time.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		work := i.Work(t.Context())
		if slices.IndexFunc(work, func(w bus.WorkSeen) bool { return w.Pulling > 0 }) < 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("pulled from for ever: %+v", work)
		}
	}
	before := states(t, js)

	for _, r := range i.Rights(t.Context(), true, true) {
		if r.Err != nil {
			t.Errorf("may not %s: %s: %v", r.Kind, r.Subject, r.Err)
		}
	}
	seen := i.Streams(t.Context())
	if len(seen) != 4+2*2+4 {
		t.Errorf("%d streams, want 4, 2 for each partition, and 4 buckets", len(seen))
	}
	for _, s := range seen {
		if s.Err != nil || s.Unfit != nil || s.Ahead != 0 || s.Replicas != 1 || s.Leader != "one" {
			t.Errorf("stream: %+v", s)
		}
	}
	waiting := uint64(0)
	for _, w := range i.Work(t.Context()) {
		if w.Err != nil || w.Unfit != "" || w.Leader == "" {
			t.Errorf("consumer: %+v", w)
		}
		waiting += w.Waiting
	}
	if waiting != 1 {
		t.Errorf("%d events wait, want the one", waiting)
	}
	if a, err := i.Account(t.Context()); err != nil || a.Streams != len(seen) {
		t.Errorf("account: %+v, %v", a, err)
	}
	if diff := cmp.Diff(before, states(t, js)); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
}

// What a user may not do is found, and nothing else is blamed.
func TestRightsOfARestrictedUser(t *testing.T) {
	t.Parallel()
	s := natsServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "all", Password: "p"},
			{Username: "some", Password: "p", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Deny: []string{"peal.state.>", "$KV.PEAL_QUEUE_local.>", "$JS.API.DIRECT.GET.PEAL_TICKET_local", "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.ACK.>", "$JS.API.STREAM.CREATE.>"}},
				Subscribe: &server.SubjectPermission{Deny: []string{"peal.live.local.1.>", "peal.revoked"}},
			}},
			{Username: "deaf", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"_INBOX_PEAL_node.>"}}}},
		}
	})
	openAt(t, at(s, "all:p")).Close()
	denied := make(map[string]int)
	began := time.Now()
	for _, r := range inspect(t, at(s, "some:p")).Rights(t.Context(), true, true) {
		if r.Err == nil {
			continue
		}
		if !errors.Is(r.Err, bus.ErrNotPermitted) {
			t.Errorf("%s %s: %v", r.Kind, r.Subject, r.Err)
		}
		tokens := strings.Split(r.Subject, ".")
		denied[string(r.Kind)+" "+strings.Join(tokens[:min(3, len(tokens))], ".")]++
	}
	want := map[string]int{
		"publish peal.state.local":                                   2,
		"publish $KV.PEAL_QUEUE_local.doctor":                        1,
		"read $JS.API.DIRECT":                                        1,
		"work on events $JS.API.CONSUMER":                            32,
		"work on events $JS.ACK.PEAL_EVENT_local":                    1,
		"create streams $JS.API.STREAM":                              1,
		"create the bucket of connection slots again $JS.API.STREAM": 1,
		"keep durable subscriptions $JS.ACK.PEAL_INBOX_local_0":      1,
		"keep durable subscriptions $JS.ACK.PEAL_INBOX_local_1":      1,
		"keep durable subscriptions $JS.ACK.PEAL_TICKET_local":       1,
		"listen peal.live.local":                                     1,
		"listen peal.revoked":                                        1,
	}
	if diff := cmp.Diff(want, denied); diff != "" {
		t.Errorf("denied (-want +got):\n%s", diff)
	}
	// NATS does not answer what it does not permit. Nobody waits for that.
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := inspect(t, at(s, "deaf:p")).Account(t.Context()); !errors.Is(err, bus.ErrDeaf) {
		t.Errorf("who can't hear answers is told %v", err)
	}
}

// What is wrong with the streams of a region is seen.
func TestInspectStreams(t *testing.T) {
	t.Parallel()
	s := natsServer(t, nil)
	b := openAt(t, at(s, ""))
	i := inspect(t, at(s, ""))
	b.Close() // or it would make again what is gone

	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "PEAL_DEAD_local"); err != nil {
		t.Fatal(err)
	}
	change := func(name string, do func(*jetstream.StreamConfig)) {
		t.Helper()
		have, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := have.CachedInfo().Config
		do(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	change("PEAL_INBOX_local_1", func(c *jetstream.StreamConfig) { c.RePublish = nil })
	change("KV_PEAL_PREF_local", func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	change("PEAL_STATE_local_0", func(c *jetstream.StreamConfig) { c.MaxBytes = 64 << 10 })
	for n := 0; ; n++ {
		_, err := js.Publish(t.Context(), fmt.Sprintf("peal.state.local.0.t.n.%d", n), make([]byte, 4<<10))
		if err != nil {
			break // full
		}
		if n > 1000 {
			t.Fatal("a full stream takes everything")
		}
	}
	for _, s := range i.Streams(t.Context()) {
		switch s.Name {
		case "PEAL_DEAD_local":
			if !errors.Is(s.Err, bus.ErrMissing) {
				t.Errorf("a stream that is gone: %+v", s)
			}
		case "PEAL_INBOX_local_1":
			if s.Unfit == nil || !strings.Contains(s.Unfit.Error(), "republish") {
				t.Errorf("a stream without republish: %+v", s)
			}
		case "KV_PEAL_PREF_local":
			if s.Unfit == nil || !strings.Contains(s.Unfit.Error(), "direct get") {
				t.Errorf("a bucket without direct get: %+v", s)
			}
		case "PEAL_STATE_local_0":
			if s.Full() < 0.9 || !s.Refuses {
				t.Errorf("a full stream is %.2f full: %+v", s.Full(), s)
			}
		default:
			if s.Err != nil || s.Unfit != nil || s.Full() > 0.1 {
				t.Errorf("%+v", s)
			}
		}
	}
}

// The Inspector gets into a server in this process too.
func TestInspectInProcess(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	openOn(t, s, nil)
	for _, seen := range inspect(t, bus.Config{Server: s}).Streams(t.Context()) {
		if seen.Err != nil || seen.Unfit != nil {
			t.Errorf("%+v", seen)
		}
	}
}
