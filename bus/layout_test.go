package bus_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", name, diff)
	}
}

// What is in this golden file is on the disks of whoever runs peal: streams
// keep the configuration they were created with, and messages their subjects.
// A change here is no change of a name but a migration, which must be written
// first. Only the bounds (max_age, max_bytes, max_msgs_per_subject) may differ
// between an old stream and a new one.
func TestLayoutIsTheOneOnDisk(t *testing.T) {
	type located struct {
		Partition int
		Subjects  []string
	}
	streams, buckets := bus.Layout("local", 2)
	ids := []string{"jane", "jane@example.com", "ü", "*", ">", "a.b", " ", "=", strings.Repeat("x", peal.MaxID),
		"6f1c2a3b-0000-4000-8000-00000000abcd", "6F1C2A3B-0000-4000-8000-00000000ABCD"}
	escapes := make(map[string]string)
	places := make(map[string]located)
	for _, id := range ids {
		escapes[id] = bus.Escape(id)
		var l located
		for _, kind := range []string{"inbox", "live", "state", "livestate"} {
			p, subject := bus.Locate(inbox(id), 8, kind, "local")
			l.Partition, l.Subjects = p, append(l.Subjects, subject)
		}
		places[id] = l
	}
	got, err := json.MarshalIndent(map[string]any{
		"streams": streams, "buckets": buckets, "escapes": escapes, "placesOf8": places,
		"messageID": bus.MessageID(string(acme), "staff", "jane", "notif-1"),
		"cursor":    bus.Cursor{Epoch: "abcdefg2", Seq: 1234567890}.String(),
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "layout.golden.json", append(got, '\n'))
}

// Where an inbox lives must not change while there are notifications in it:
// its user would find it empty. So neither may this table, without a migration
// that moves them.
func TestLocateIsForEver(t *testing.T) {
	var b bytes.Buffer
	for _, tenant := range []peal.Tenant{acme, globex} {
		for _, ns := range []peal.Namespace{"staff", "customers"} {
			for i := range 16 {
				in := peal.Inbox{Tenant: tenant, Namespace: ns, User: peal.UserID(fmt.Sprintf("user-%d", i))}
				p, _ := bus.Locate(in, 8, "inbox", "local")
				fmt.Fprintf(&b, "%s %s %s %d\n", in.Tenant, in.Namespace, in.User, p)
			}
		}
	}
	golden(t, "locate.golden", b.Bytes())
}

func TestPartitionsShareTheInboxes(t *testing.T) {
	const users, partitions = 8000, 8
	var n [partitions]int
	for i := range users {
		p, _ := bus.Locate(inbox(fmt.Sprintf("user-%d", i)), partitions, "inbox", "local")
		n[p]++
	}
	for p, got := range n {
		if got < users/partitions*8/10 || got > users/partitions*12/10 {
			t.Errorf("partition %d has %d of %d inboxes, want about %d", p, got, users, users/partitions)
		}
	}
}

// A stored message is read for as long as it is retained, by later versions
// too, and by whoever reads the stream with other tools. A change of what is
// in this golden file needs a new Peal-V, and readers that know both.
func TestStoredMessage(t *testing.T) {
	b := open(t, nil)
	jane := inbox("jane@example.com")
	publish(t, b, "notif-1", jane)
	single := stored(t, b, jane, 1)
	golden(t, "message.golden", single)

	// What comes in an atomic batch also keeps where it was in it.
	var all []peal.Inbox
	for i := range 10 {
		all = append(all, inbox(fmt.Sprintf("user-%d", i)))
	}
	publish(t, b, "notif-1", append(all, inbox("last"))...)
	for seq, want := range map[uint64][]string{
		2:  {"Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Msg-Id", "Peal-Type", "Peal-V"},
		12: {"Nats-Batch-Commit", "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Msg-Id", "Peal-Type", "Peal-V"},
	} {
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(raw(t, b, jane, seq).Header))); diff != "" {
			t.Errorf("headers of message %d (-want +got):\n%s", seq, diff)
		}
	}
}

// stored shows a stored message as subject, headers and body.
func stored(t *testing.T, b *bus.Bus, in peal.Inbox, seq uint64) []byte {
	t.Helper()
	m := raw(t, b, in, seq)
	var out bytes.Buffer
	fmt.Fprintln(&out, m.Subject)
	for _, k := range slices.Sorted(maps.Keys(m.Header)) {
		for _, v := range m.Header[k] {
			fmt.Fprintf(&out, "%s: %s\n", k, v)
		}
	}
	fmt.Fprintf(&out, "\n%s\n", m.Data)
	return out.Bytes()
}

func raw(t *testing.T, b *bus.Bus, in peal.Inbox, seq uint64) *jetstream.RawStreamMsg {
	t.Helper()
	name, _ := b.StreamOf(in)
	s, err := b.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatalf("read message %d: %v", seq, err)
	}
	for _, h := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
		m.Header.Del(h) // the answer's, not the message's
	}
	return m
}

// An id never gets into a subject as it is: JetStream stores subjects with a
// literal * and >, and a filter made of one reads everybody's messages.
func FuzzEscape(f *testing.F) {
	for _, id := range []string{"jane", "*", ">", "a.b", " ", "=", "==", "\x00", "ü", "\xff", "$JS.API.>",
		"6f1c2a3b-0000-4000-8000-00000000abcd", "6F1C2A3B-0000-4000-8000-00000000ABCD",
		"=amFuZQ", "6f1c2a3b-0000-4000-8000-00000000abcd\n", strings.Repeat("x", peal.MaxID)} {
		f.Add(id, "jane")
		f.Add(id, id+"=")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		// What comes from outside as a token is an id's, or an error.
		if id, err := bus.Unescape(a); err == nil && bus.Escape(id) != a {
			t.Errorf("unescape(%q) = %q, whose token is %q", a, id, bus.Escape(id))
		}
		for _, id := range []string{a, b} {
			if id == "" || len(id) > peal.MaxID {
				return
			}
			token := bus.Escape(id)
			if !bus.TokenForm.MatchString(token) {
				t.Errorf("escape(%q) = %q, which is no token", id, token)
			}
			if back, err := bus.Unescape(token); err != nil || back != id {
				t.Errorf("unescape(escape(%q)) = %q, %v", id, back, err)
			}
		}
		if (a == b) != (bus.Escape(a) == bus.Escape(b)) {
			t.Errorf("escape(%q) = %q, escape(%q) = %q", a, bus.Escape(a), b, bus.Escape(b))
		}
	})
}

// An inbox can be read from its subject, so no two inboxes have one subject,
// and nothing that the ids of one are can reach into another.
func FuzzLocate(f *testing.F) {
	id := []byte("0123456789abcdef")
	for _, user := range []string{"jane", "*", ">", "a.b.c", "=amFuZQ", "6f1c2a3b-0000-4000-8000-00000000abcd", "6F1C2A3B-0000-4000-8000-00000000ABCD", "staff.jane", " ", "\u0130"} {
		f.Add(id, "staff", user)
		f.Add(id, user, "staff")
	}
	f.Fuzz(func(t *testing.T, id []byte, namespace, user string) {
		tenant, err := uuid.FromBytes(id)
		if err != nil {
			return
		}
		ns, err := peal.ParseNamespace(namespace)
		if err != nil {
			return
		}
		name, err := peal.ParseUserID(user)
		if err != nil {
			return
		}
		in := peal.Inbox{Tenant: peal.Tenant(tenant.String()), Namespace: ns, User: name}
		_, subject := bus.Locate(in, 8, "inbox", "eu")
		tokens := strings.Split(subject, ".")
		if len(tokens) != 7 {
			t.Fatalf("%v has the subject %q, want 7 tokens", in, subject)
		}
		back, err := bus.Unescape(tokens[6])
		if got := (peal.Inbox{Tenant: peal.Tenant(tokens[4]), Namespace: peal.Namespace(tokens[5]), User: peal.UserID(back)}); err != nil || got != in {
			t.Fatalf("%v has the subject %q, which is that of %v, %v", in, subject, got, err)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "abcdefg2-0", "abcdefg2-1", "abcdefg2-01", "abcdefg2--1", "abcdefg2-18446744073709551615",
		"abcdefg2-18446744073709551616", "abcdefg-1", "ABCDEFG2-1", "?-0", "abcdefg2-1\n", "abcdefg2", "-", "abcdefg1-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		switch c := bus.ParseCursor(s); {
		case s == "":
			if !c.IsZero() {
				t.Errorf("%q is %+v, want the zero cursor", s, c)
			}
		case c == bus.Unknown:
		case c.String() != s || len(s) > 29:
			t.Errorf("%q is %+v, which is %q", s, c, c.String())
		}
	})
}

func TestParseCursor(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want bus.Cursor
	}{
		{"", bus.Cursor{}},
		{"abcdefg2-0", bus.Cursor{Epoch: "abcdefg2"}},
		{"abcdefg2-9223372036854775807", bus.Cursor{Epoch: "abcdefg2", Seq: 1<<63 - 1}},
		{"abcdefg2-9223372036854775808", bus.Cursor{Epoch: "abcdefg2", Elsewhere: true}},
		{"abcdefg2-18446744073709551615", bus.Cursor{Epoch: "abcdefg2", Seq: 1<<63 - 1, Elsewhere: true}},
		{"abcdefg2-18446744073709551616", bus.Unknown},
		{"abcdefg2-01", bus.Unknown},
		{"abcdefg2-1\n", bus.Unknown},
		{"abcdefg1-1", bus.Unknown},
		{"ABCDEFG2-1", bus.Unknown},
		{"abcdefg2", bus.Unknown},
		{" abcdefg2-1", bus.Unknown},
		{bus.Unknown.String(), bus.Unknown},
	} {
		if got := bus.ParseCursor(tt.s); got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.s, got, tt.want)
		}
	}
}
