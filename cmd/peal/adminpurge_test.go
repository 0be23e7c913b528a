package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPurgePostsWhatIsGiven(t *testing.T) {
	const shared = string(tenantShared)
	const answer = `{"purged":{"notifications":1,"readStates":1,"preferences":0,"queues":0,"deadLetters":0,"durables":0}}` + "\n"
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a tenant", []string{"--tenant", strings.ToUpper(shared)}, `{"tenant":"` + shared + `"}`},
		{"a user", []string{"--tenant", shared, "--user", "jane"}, `{"tenant":"` + shared + `","user":"jane"}`},
		{"a user of a namespace", []string{"--tenant", shared, "--user", "jane", "--namespace", "staff"}, `{"tenant":"` + shared + `","user":{"id":"jane","namespace":"staff"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, 200, "application/json", answer)
			got := do(t, nil, append([]string{"admin", "purge", "--yes", "--admin", s.URL + "/"}, tt.args...)...)
			if diff := cmp.Diff(result{0, answer, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"POST /purge application/json " + tt.want}, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing is asked of the service by a call that is wrong, or that nobody confirms.
func TestPurgeUsage(t *testing.T) {
	s := newAdminServer(t, 200, "application/json", "{}")
	tenant := string(tenantShared)
	for _, tt := range []struct {
		name  string
		input string
		args  []string
		want  []string
	}{
		{"nobody", "", []string{"--yes"}, []string{"--tenant", "required"}},
		{"a user of any tenant", "", []string{"--yes", "--user", "jane"}, []string{"--tenant", "required"}},
		{"a tenant that is not set", "", []string{"--yes", "--tenant", ""}, []string{"--tenant", "empty"}},
		{"a user that is not set", "", []string{"--yes", "--tenant", tenant, "--user="}, []string{"--user", "empty"}},
		{"a namespace that is not set", "", []string{"--yes", "--tenant", tenant, "--user", "jane", "--namespace", ""}, []string{"--namespace", "empty"}},
		{"a namespace of nobody", "", []string{"--yes", "--tenant", tenant, "--namespace", "staff"}, []string{"--namespace", "--user"}},
		{"a bad tenant", "", []string{"--yes", "--tenant", "acme"}, []string{"--tenant", "UUID"}},
		{"a bad user", "", []string{"--yes", "--tenant", tenant, "--user", "ja\nne"}, []string{"--user"}},
		{"a bad namespace", "", []string{"--yes", "--tenant", tenant, "--user", "jane", "--namespace", "*"}, []string{"--namespace"}},
		{"two users", "", []string{"--yes", "--tenant", tenant, "--user", "jane", "--user", "kim"}, []string{"user", "once"}},
		{"a tenant that nobody confirms", tenant + "\n", []string{"--tenant", tenant}, []string{"tenant " + tenant, "--yes"}},
		{"a user whom nobody confirms", "jane\n", []string{"--tenant", tenant, "--user", "jane"}, []string{"user jane in tenant " + tenant, "--yes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := feed(t, tt.input, nil, append([]string{"admin", "purge", "--admin", s.URL}, tt.args...)...)
			wantUsage(t, got, 2, tt.want)
		})
	}
	if len(s.asked) > 0 {
		t.Errorf("asked %q", s.asked)
	}
}

func TestConfirm(t *testing.T) {
	for _, tt := range []struct {
		typed string
		want  bool
	}{
		{"jane\n", true},
		{"jane\r\n", true},
		{"jane", true},
		{"jane\nno\n", true},
		{"", false},
		{"\n", false},
		{"Jane\n", false},
		{"jane \n", false},
		{"yes\n", false},
	} {
		err := confirm(t.Context(), strings.NewReader(tt.typed), "jane", "erased")
		if (err == nil) != tt.want || err != nil && !strings.Contains(err.Error(), "nothing was erased") {
			t.Errorf("%q: %v, want %v", tt.typed, err, tt.want)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, end := io.Pipe()
	defer end.Close()
	if err := confirm(ctx, never, "jane", "erased"); err == nil || !strings.Contains(err.Error(), "nothing was erased") {
		t.Errorf("stopped: %v", err)
	}
}
