package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// adminServer is an admin port that answers with a status and a body, and keeps
// what it was asked.
type adminServer struct {
	*httptest.Server
	asked []string
}

func newAdminServer(t *testing.T, status int, contentType, answer string) *adminServer {
	t.Helper()
	s := &adminServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(body))
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRevokePostsWhatIsGiven(t *testing.T) {
	const shared = string(tenantShared)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a user", []string{"--tenant", strings.ToUpper(shared), "--user", "jane"}, `{"tenant":"` + shared + `","user":"jane"}`},
		{"a user of a namespace", []string{"--tenant", shared, "--user", "jane", "--namespace", "staff"}, `{"tenant":"` + shared + `","user":{"id":"jane","namespace":"staff"}}`},
		{"a session", []string{"--realm", "acme", "--sid", "s 1"}, `{"realm":"acme","sid":"s 1"}`},
		{"a token", []string{"--jti", "7"}, `{"jti":"7"}`},
		{"all at once", []string{"--realm", "acme", "--tenant", shared, "--user", "jane", "--sid", "s", "--jti", "j"},
			`{"realm":"acme","tenant":"` + shared + `","user":"jane","sid":"s","jti":"j"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, 200, "application/json", "{\n  \"ok\": true\n}\n")
			got := do(t, nil, append([]string{"admin", "revoke", "--admin", s.URL + "/"}, tt.args...)...)
			if diff := cmp.Diff(result{0, "{\"ok\":true}\n", ""}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"POST /revoke application/json " + tt.want}, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRevokeTellsWhyNot(t *testing.T) {
	for _, tt := range []struct {
		name        string
		status      int
		contentType string
		answer      string
		want        string
	}{
		{"a problem", 400, "application/problem+json", `{"status":400,"code":"INVALID_REQUEST","detail":"user: must be given with a namespace"}`,
			"peal admin: refused: 400 INVALID_REQUEST user: must be given with a namespace\n"},
		{"no such call", 404, "text/plain", "404 page not found", "peal admin: refused: 404\n"},
		{"no JSON", 200, "text/html", "<html>", "peal admin: an answer that is none: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAdminServer(t, tt.status, tt.contentType, tt.answer)
			got := do(t, nil, "admin", "revoke", "--admin", s.URL, "--jti", "7")
			if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%+v, want %q", got, tt.want)
			}
		})
	}
}

// Whose admin port it is, if that is not said: dev's, if one runs.
func TestRevokeFindsTheAdminPort(t *testing.T) {
	s := newAdminServer(t, 200, "application/json", "{}")
	data := t.TempDir()
	if err := writeDevJSON(data, ready{Admin: s.URL}); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, "admin", "revoke", "--data", data, "--jti", "7"); got.status != 0 || len(s.asked) != 1 {
		t.Errorf("--data: %+v, %q", got, s.asked)
	}

	t.Chdir(t.TempDir())
	if err := writeDevJSON(devData, ready{Admin: s.URL}); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, "admin", "revoke", "--jti", "7"); got.status != 0 || len(s.asked) != 2 {
		t.Errorf("dev beside: %+v, %q", got, s.asked)
	}

	t.Chdir(t.TempDir())
	c := &call{command: command{name: "admin revoke"}}
	fs := c.flags()
	port := c.adminPort(fs)
	if err := port.resolve(fs); err != nil || port.url != defaultAdmin {
		t.Errorf("no dev: %q, %v, want that of a serve on this machine", port.url, err)
	}
}

func TestAdminUsage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"nothing", nil, 2, []string{"peal admin revoke", "peal admin --help"}},
		{"unknown", []string{"bark"}, 2, []string{"peal admin revoke"}},
		{"an unknown flag", []string{"revoke", "--bark"}, 2, []string{"bark", "peal admin revoke --help"}},
		{"nobody", []string{"revoke"}, 2, []string{"--realm --tenant --user --sid --jti"}},
		{"a variable that is not set", []string{"revoke", "--realm", "acme", "--user", ""}, 2, []string{"--user", "empty"}},
		{"two users", []string{"revoke", "--user", "jane", "--user", "joe"}, 2, []string{"user", "once"}},
		{"two sessions", []string{"revoke", "--sid", "a", "--sid", "b"}, 2, []string{"sid", "once"}},
		{"a namespace that is not set", []string{"revoke", "--user", "jane", "--namespace="}, 2, []string{"--namespace", "empty"}},
		{"a namespace of nobody", []string{"revoke", "--realm", "acme", "--namespace", "staff"}, 2, []string{"--namespace", "--user"}},
		{"a bad namespace", []string{"revoke", "--user", "jane", "--namespace", "Staff"}, 2, []string{"--namespace"}},
		{"a bad user", []string{"revoke", "--user", "ja\nne"}, 2, []string{"--user"}},
		{"a bad tenant", []string{"revoke", "--tenant", "acme"}, 2, []string{"--tenant", "UUID"}},
		{"no URL", []string{"revoke", "--jti", "7", "--admin", "localhost:8081"}, 2, []string{"--admin", "http://"}},
		{"no dev", []string{"revoke", "--jti", "7", "--data", t.TempDir()}, 1, []string{"peal dev", "--admin"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, nil, append([]string{"admin"}, tt.args...)...)
			if got.status != tt.status || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%+v, want exit status %d and one line", got, tt.status)
			}
			for _, w := range tt.want {
				if !strings.Contains(got.stderr, w) {
					t.Errorf("standard error %q does not say %q", got.stderr, w)
				}
			}
		})
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"admin", "--help"}, []string{"usage: peal admin COMMAND", "revoke", "Each has --help."}},
		{[]string{"admin", "revoke", "--help"}, []string{"usage: peal admin revoke", "-jti ID", "-namespace NAMESPACE", defaultAdmin}},
	} {
		got := do(t, nil, tt.args...)
		for _, w := range tt.want {
			if got.status != 0 || !strings.Contains(got.stdout, w) {
				t.Errorf("%v: %+v, want %q", tt.args, got, w)
			}
		}
	}
}
