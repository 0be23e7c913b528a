package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
)

// inboxOf runs commands of a user's inbox beside a running dev.
type inboxOf struct {
	t          *testing.T
	data, user string
}

// ok runs a command that must succeed, and reads its answer into v.
func (in inboxOf) ok(v any, args ...string) {
	in.t.Helper()
	got := in.run(args...)
	if got.status != 0 || strings.Count(got.stdout, "\n") != 1 {
		in.t.Fatalf("peal inbox %v: %+v", args, got)
	}
	if err := json.Unmarshal([]byte(got.stdout), v); err != nil {
		in.t.Fatalf("peal inbox %v: %v in %s", args, err, got.stdout)
	}
}

func (in inboxOf) run(args ...string) result {
	in.t.Helper()
	return do(in.t, nil, append([]string{"inbox", args[0], "--data", in.data, "--user", in.user}, args[1:]...)...)
}

// listed is a page as a test looks at it: ids, those that are unread with a star.
type listed struct {
	ids     []string
	cursors []string
	next    string
}

func (in inboxOf) list(args ...string) (l listed) {
	in.t.Helper()
	var p page
	in.ok(&p, append([]string{"list"}, args...)...)
	for _, n := range p.Notifications {
		id := n.ID
		if !n.Read {
			id += "*"
		}
		l.ids = append(l.ids, id)
		l.cursors = append(l.cursors, n.Cursor)
	}
	if p.Next != nil {
		l.next = *p.Next
	}
	return l
}

func (in inboxOf) wantList(want string, args ...string) {
	in.t.Helper()
	if got := strings.Join(in.list(args...).ids, " "); got != want {
		in.t.Errorf("peal inbox list %v: got %q, want %q", args, got, want)
	}
}

// wantMarked marks, and wants so many to change and so many to be unread then.
func (in inboxOf) wantMarked(changed, unread int, args ...string) {
	in.t.Helper()
	var got struct{ Changed, Unread int }
	in.ok(&got, append([]string{"read"}, args...)...)
	if got.Changed != changed || got.Unread != unread {
		in.t.Errorf("peal inbox read %v: got %+v, want %d and %d", args, got, changed, unread)
	}
	var n counts
	if in.ok(&n, "count"); n.Unread != unread {
		in.t.Errorf("after peal inbox read %v: count says %d, want %d", args, n.Unread, unread)
	}
}

// What somebody does with their inbox beside a running dev, and what is left when
// they are erased.
func TestInboxBesideDev(t *testing.T) {
	data := t.TempDir()
	dev := startDev(t, data)
	for _, n := range [][]string{
		{"--to", "jane", "--id", "n1", "--type", "comment", "--ticket", "7"},
		{"--to", "jane", "--to", "joe", "--id", "n2", "--type", "slaBreach"},
		{"--to", "jane", "--id", "n3", "--type", "mention"},
		{"--to", "jane", "--id", "n4", "--type", "comment", "--priority", "low"},
	} {
		if got := do(t, nil, append([]string{"publish", "--data", data}, n...)...); got.status != 0 {
			t.Fatalf("publish %v: %+v", n, got)
		}
	}
	jane, joe := inboxOf{t, data, "jane"}, inboxOf{t, data, "joe"}

	jane.wantList("n4* n3* n2* n1*")
	joe.wantList("n2*")
	jane.wantList("n4* n1*", "--type", "comment")
	jane.wantList("n3* n2*", "--priority", "high", "--priority", "urgent")
	jane.wantList("n1*", "--ticket", "7")
	first := jane.list("--limit", "3")
	if first.next == "" {
		t.Fatalf("a page of 3 of 4 is the last: %+v", first)
	}
	jane.wantList("n1*", "--before", first.next)

	jane.wantMarked(1, 3, "--id", "n3", "--id", "nobody's")
	jane.wantList("n4* n3 n2* n1*")
	jane.wantList("n4* n2* n1*", "--unread")
	jane.wantMarked(2, 1, "--up-to", first.cursors[2])
	jane.wantMarked(1, 2, "--id", "n3", "--unread")
	jane.wantMarked(2, 0, "--all")
	joe.wantMarked(0, 1, "--id", "n1")
	var n counts
	joe.ok(&n, "count")
	if diff := cmp.Diff(counts{Unread: 1, Total: 1, UnreadByPriority: n.UnreadByPriority}, n); diff != "" || n.UnreadByPriority["urgent"] != 1 {
		t.Errorf("joe's count %+v (-want +got):\n%s", n, diff)
	}
	if got := jane.run("list", "--before", "a-b"); got.status != 1 || !strings.Contains(got.stderr, "refused: 400 INVALID_REQUEST before: ") {
		t.Errorf("no cursor: %+v", got)
	}

	jane.preferences()

	purged := do(t, nil, "admin", "purge", "--data", data, "--yes", "--tenant", string(tenantAcme), "--user", "jane")
	want := `{"purged":{"notifications":4,"readStates":1,"preferences":1,"queues":0,"deadLetters":0,"durables":0}}` + "\n"
	if purged.status != 0 || purged.stdout != want {
		t.Errorf("%+v, want %s", purged, want)
	}
	jane.wantList("")
	jane.wantMarked(0, 0, "--all")
	if got := jane.run("pref"); got.status != 0 || strings.Contains(got.stdout, "comment") {
		t.Errorf("preferences after a purge: %+v", got)
	}
	joe.wantList("n2*")
	if got := do(t, nil, "publish", "--data", data, "--to", "jane", "--id", "n5"); got.status != 0 {
		t.Errorf("publish: %+v", got)
	}
	jane.wantList("n5*")
	if status := dev.stop(syscall.SIGTERM); status != 0 || !strings.Contains(dev.log.String(), "purged") {
		t.Errorf("dev: exit status %d, want 0 and an audit line in\n%s", status, dev.log)
	}
}

// preferences sets, shows and guards preferences.
func (in inboxOf) preferences() {
	in.t.Helper()
	etag := func(got result) string {
		in.t.Helper()
		tag, ok := strings.CutPrefix(got.stderr, "ETag: ")
		if got.status != 0 || !ok {
			in.t.Fatalf("peal inbox pref: %+v, want an ETag", got)
		}
		return strings.TrimSpace(tag)
	}
	before := etag(in.run("pref"))
	after := etag(in.run("pref", "--set", `{"types":{"comment":false},"minPriority":"medium"}`, "--if-match", before))
	if after == before {
		in.t.Errorf("the ETag is %s as before", after)
	}
	if got := in.run("pref", "--set", "{}", "--if-match", before); got.status != 1 || !strings.Contains(got.stderr, "refused: 412 PRECONDITION_FAILED") {
		in.t.Errorf("an old ETag: %+v", got)
	}
	if got := in.run("pref", "--set", "{}", "--if-match", strings.Trim(before, `"`)); got.status != 1 || !strings.Contains(got.stderr, "refused: 412 PRECONDITION_FAILED") {
		in.t.Errorf("an old ETag without quotes: %+v", got)
	}
	var p preferences
	in.ok(&p, "pref")
	if diff := cmp.Diff(peal.Preferences{Types: peal.Switches{peal.Comment: false}, MinPriority: peal.Medium}, p.Preferences); diff != "" {
		in.t.Errorf("preferences (-want +got):\n%s", diff)
	}
	if got := in.run("pref", "--set", `{"minPriority":"loud"}`); got.status != 1 || !strings.Contains(got.stderr, "refused: 400 INVALID_REQUEST minPriority: ") {
		in.t.Errorf("wrong preferences: %+v", got)
	}
}
