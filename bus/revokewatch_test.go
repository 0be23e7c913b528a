package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

const revokedStream = "KV_PEAL_REVOKED"

// told collects what a sink is told of revocations.
type told struct {
	mu  sync.Mutex // protects all
	all []bus.Revoked
}

func (s *told) sink(r bus.Revoked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, r)
}

// last returns what was told last of a revocation.
func (s *told) last(r peal.Revocation) (last bus.Revoked, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, got := range slices.Backward(s.all) {
		if got.Revocation == r {
			return got, true
		}
	}
	return bus.Revoked{}, false
}

// wait waits until a revocation was told as it was stored.
func (s *told) wait(t *testing.T, want bus.Revoked) {
	t.Helper()
	eventually(t, fmt.Sprintf("told of %+v", want.Revocation), func() bool {
		got, _ := s.last(want.Revocation)
		return got.At.Equal(want.At) && got.Until.Equal(want.Until)
	})
}

// followRevocations has a bus tell of revocations until the test ends, and waits
// until it was told what there is.
func followRevocations(t *testing.T, b *bus.Bus) *told {
	t.Helper()
	s := &told{}
	t.Cleanup(b.FollowRevocations(s.sink))
	seen(t, b)
	return s
}

func seen(t *testing.T, b *bus.Bus) {
	t.Helper()
	eventually(t, "everything that is stored was told", func() bool { return b.RevocationsUnseen() == 0 })
}

// put stores a key as somebody else would, without an announcement.
func put(t *testing.T, b *bus.Bus, key string, value []byte) {
	t.Helper()
	if _, err := b.JetStream().Publish(t.Context(), key, value, jetstream.WithMsgTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// inBucket is how many keys the bucket holds; -1 if it is not there.
func inBucket(t *testing.T, b *bus.Bus, filter string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := b.JetStream().Stream(ctx, revokedStream)
	if err != nil {
		return -1
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return -1
	}
	return len(info.State.Subjects)
}

// What is stored anywhere in the cluster is told everywhere within 2 s: also
// what is not announced, because the announcement was lost or somebody else
// stored it. Half of the tries count: the machine may have other work.
func TestRevocationIsToldEverywhere(t *testing.T) {
	s := bustest.Server(t)
	one, other := openOn(t, s, nil), openOn(t, s, nil)
	here, there := followRevocations(t, one), followRevocations(t, other)
	for name, store := range map[string]func(r peal.Revocation){
		"revoked": func(r peal.Revocation) {
			want := revoke(t, one, r)
			here.wait(t, want)
			there.wait(t, want)
		},
		"in silence": func(r peal.Revocation) {
			value, err := bus.RevocationValue(r, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			put(t, one, bus.RevokedKey(r), value)
			eventually(t, "told of what is stored in silence", func() bool { _, ok := there.last(r); return ok })
		},
	} {
		var took []time.Duration
		for i := range 5 {
			begun := time.Now()
			store(user(fmt.Sprint(name, i)))
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		if took[2] > bus.ToldWithin {
			t.Errorf("%s: told after %v, want within %v", name, took, bus.ToldWithin)
		}
	}
}

func TestRevocationIsToldToWhoComesLater(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	var want []bus.Revoked
	for i := range 600 { // more than one read takes
		want = append(want, revoke(t, b, user(fmt.Sprint(i))))
	}
	again := revoke(t, b, want[0].Revocation)
	if !again.At.After(want[0].At) {
		t.Errorf("revoked again at %v, want after %v", again.At, want[0].At)
	}
	want = append(want[1:], again) // in the place of the first
	if first, err := b.Once(t.Context(), time.Hour, "acme", "t1"); !first || err != nil {
		t.Fatal(first, err)
	}
	b.Close()
	later := followRevocations(t, openOn(t, s, nil))
	later.mu.Lock()
	defer later.mu.Unlock()
	if diff := cmp.Diff(want, later.all); diff != "" {
		t.Fatalf("told to who comes later (-want +got):\n%s", diff)
	}
}

// A watch goes on with a server that was started again, and says meanwhile that
// it does not see.
func TestRevocationsAreUnseenWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, w := openWire(t, dir, nil)
	if d := b.RevocationsUnseen(); d != math.MaxInt64 {
		t.Errorf("unseen for %v where nobody follows, want for ever", d)
	}
	got := followRevocations(t, b)
	before := revoke(t, b, user("jane"))
	got.wait(t, before)

	w.stop()
	eventually(t, "revocations are unseen", func() bool { return b.RevocationsUnseen() > bus.ToldWithin })
	first := b.RevocationsUnseen()
	eventually(t, "that lasts", func() bool { return b.RevocationsUnseen() > first })
	w.start(t, dir)
	seen(t, b)
	var after bus.Revoked
	eventually(t, "revoked", func() (ok bool) {
		var err error
		after, err = b.Revoke(t.Context(), user("joe"), time.Hour)
		return err == nil
	})
	got.wait(t, after)
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, r := range got.all {
		if r.Revocation == before.Revocation && !r.At.Equal(before.At) {
			t.Errorf("told again of %v at %v, want at %v", r.Revocation, r.At, before.At)
		}
	}
}

// A bucket that is gone is created again, and gets back what was told of it, as
// it was: for those who start later.
func TestLostRevocationsAreStoredAgain(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	one, other := openOn(t, s, nil), openOn(t, s, nil)
	got, also := followRevocations(t, one), followRevocations(t, other)
	var want []bus.Revoked
	for i := range 3 * bus.RestoreBatch {
		want = append(want, revoke(t, one, user(fmt.Sprint(i))))
	}
	for _, r := range want {
		got.wait(t, r)
		also.wait(t, r)
	}
	if err := one.JetStream().DeleteStream(t.Context(), revokedStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was told is stored again", func() bool { return inBucket(t, one, "$KV.PEAL_REVOKED.revoked.*") == len(want) })
	one.Close()
	other.Close()
	later := followRevocations(t, openOn(t, s, nil))
	for _, r := range want {
		later.wait(t, r)
	}
}

// An older one that another node has stored again is not the last word.
func TestLaterRevocationIsStoredOverAnOlder(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	got := followRevocations(t, b)
	before := revoke(t, b, user("jane"))
	after := revoke(t, b, user("jane"))
	got.wait(t, after)
	put(t, b, bus.RevokedKey(before.Revocation), fmt.Appendf(nil,
		`{"revocation":{"tenant":%q,"namespace":"staff","user":"jane"},"keep":3600,"at":%q}`, acme, before.At.Format(time.RFC3339Nano)))
	eventually(t, "who comes later is told the later one", func() bool {
		later := &told{}
		other := openOn(t, s, nil)
		stop := other.FollowRevocations(later.sink)
		seen(t, other)
		stop()
		other.Close()
		r, _ := later.last(before.Revocation)
		return r.At.Equal(after.At)
	})
	if r, _ := got.last(before.Revocation); !r.At.Equal(after.At) {
		t.Errorf("told of the older one at %v, want %v", r.At, after.At)
	}
}

// What was told is remembered here though NATS has lost it with everything else.
func TestRevocationsSurviveNATSThatComesBackEmpty(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), nil)
	got := followRevocations(t, b)
	want := revoke(t, b, user("jane"))
	got.wait(t, want)
	w.stop()
	w.start(t, t.TempDir())
	eventually(t, "it is stored again", func() bool { return inBucket(t, b, bus.RevokedKey(want.Revocation)) == 1 })
	seen(t, b)
	later := followRevocations(t, b)
	later.wait(t, want)
}

// What is not to be understood in full may mean fewer tokens than it seems to:
// it is passed over with a line in the log, and what follows is not.
func TestForeignRevocationIsPassedOver(t *testing.T) {
	t.Parallel()
	var log lines
	b := open(t, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	got := followRevocations(t, b)
	values := []string{
		``,
		`jane`,
		`{}`,
		`{"revocation":{},"keep":60}`,
		`{"revocation":{"user":"USER","namespace":"staff","device":"phone"},"keep":60}`,
		`{"revocation":{"user":"USER","namespace":"staff"},"keep":60,"unless":"sid"}`,
		`{"revocation":{"user":"USER"},"keep":60}`, // not that of its key
		`{"revocation":{"user":"USER","namespace":"staff"}}`,
		`{"revocation":{"user":"USER","namespace":"staff"},"keep":-1}`,
		`{"revocation":{"user":"USER","namespace":"staff"},"keep":9223372036854775807}`,
		`{"revocation":{"user":"USER","namespace":"staff"},"keep":60} {}`,
		`{"revocation":{"user":"USER","namespace":"staff"},"keep":60}`, // the only good one
	}
	var last peal.Revocation
	for i, value := range values {
		last = peal.Revocation{Namespace: "staff", User: peal.UserID(fmt.Sprint("user-", i))}
		put(t, b, bus.RevokedKey(last), []byte(strings.ReplaceAll(value, "USER", string(last.User))))
	}
	eventually(t, "told of what follows", func() bool { _, ok := got.last(last); return ok })
	got.mu.Lock()
	defer got.mu.Unlock()
	if len(got.all) != 1 {
		t.Errorf("told of %+v, want only of %s", got.all, last.User)
	}
	if n, want := log.count("is passed over"), len(values)-1; n != want {
		t.Errorf("%d lines in the log, want %d", n, want)
	}
}

// lines is a log.
type lines struct {
	mu  sync.Mutex // protects all
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

// count is how many lines say something.
func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.all.String(), what)
}

// A sink that was stopped is not called any more, also not by a bus that closes.
func TestStopEndsTheWatch(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b, other := openOn(t, s, nil), openOn(t, s, nil)
	var got told
	stop := b.FollowRevocations(got.sink)
	stays := followRevocations(t, b)
	stop()
	stop()
	want := revoke(t, other, user("jane"))
	stays.wait(t, want)
	b.Close()
	b.FollowRevocations(got.sink)()
	if _, ok := got.last(want.Revocation); ok {
		t.Error("told after stop")
	}
}

// Where the replica that answers lags, or still has the bucket of before, the
// leader tells what is stored.
func TestLaggingReplicaDelaysNoRevocation(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	var want []bus.Revoked
	for i := range 3 {
		want = append(want, revoke(t, b, user(fmt.Sprint(i))))
	}
	for _, id := range []string{"t1", "t2"} { // the end of the bucket is no revocation
		if _, err := b.Once(t.Context(), time.Hour, id); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := b.JetStream().Stream(t.Context(), revokedStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(bus.OnceKey("t2"))); err != nil { // and is gone
		t.Fatal(err)
	}
	var got told
	if err := b.ReadRevocationsFromLeader(t.Context(), 5, got.sink); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.all); diff != "" {
		t.Fatalf("told by the leader (-want +got):\n%s", diff)
	}
}

func TestRevocationIsForgottenInTime(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	got := followRevocations(t, b)
	r, err := b.Revoke(t.Context(), user("jane"), 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Until.Sub(r.At); d != 2*time.Second {
		t.Errorf("kept for %v, want 1.5 s rounded up to seconds", d)
	}
	got.wait(t, r)
	if first, err := b.Once(t.Context(), time.Second, "acme", "t1"); !first || err != nil {
		t.Fatal(first, err)
	}
	eventually(t, "a marker takes the place of the revocation", func() bool {
		s, err := b.JetStream().Stream(t.Context(), revokedStream)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.GetLastMsgForSubject(t.Context(), bus.RevokedKey(r.Revocation))
		return errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Header.Get(jetstream.MarkerReasonHeader) != ""
	})
	if d := time.Since(r.At); d < 2*time.Second {
		t.Errorf("forgotten after %v, want 2 s", d)
	}
	later := followRevocations(t, b)
	if _, ok := later.last(r.Revocation); ok {
		t.Error("told of what is over")
	}
	eventually(t, "the id is forgotten", func() bool {
		used, err := b.Used(t.Context(), "acme", "t1")
		return err == nil && !used
	})
	if first, err := b.Once(t.Context(), time.Hour, "acme", "t1"); !first || err != nil {
		t.Errorf("an id that was forgotten: %v, %v, want the first", first, err)
	}
}

func TestFullBucketIsUnavailable(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	b := openOn(t, s, nil)
	stream, err := b.JetStream().Stream(t.Context(), revokedStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 4096
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var stored []bus.Revoked
	var r bus.Revoked
	for i := 0; err == nil; i++ {
		if i == 1000 {
			t.Fatal("1,000 revocations in 4 kB")
		}
		if r, err = b.Revoke(t.Context(), user(fmt.Sprint(i)), time.Hour); err == nil {
			stored = append(stored, r)
		}
	}
	if !errors.Is(err, peal.ErrUnavailable) || !strings.Contains(err.Error(), "PEAL_REVOKED is full") || len(stored) == 0 {
		t.Fatalf("revoke after %d: %v, want unavailable because the bucket is full", len(stored), err)
	}
	begun := time.Now()
	if _, err := b.Once(t.Context(), time.Hour, strings.Repeat("x", 100)); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("once in a full bucket: %v, want unavailable", err)
	}
	if d := time.Since(begun); d > 5*time.Second { // of the 20 that the tests wait for an answer
		t.Errorf("that took %v, want an answer at once", d)
	}
	got := followRevocations(t, b)
	for _, r := range stored {
		got.wait(t, r)
	}
}
