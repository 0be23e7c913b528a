package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fenced are the blocks of code of a document, by language.
var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// What docs/publishing.md shows works as it stands there: the same event four ways is
// told once, and each user sees what it says.
func TestPublishingGuide(t *testing.T) {
	s := startService(t, "dev", "--nats-listen", "127.0.0.1:0")
	guide, err := os.ReadFile("../../../docs/publishing.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string][]string)
	for _, b := range fenced.FindAllStringSubmatch(string(guide), -1) {
		blocks[b[1]] = append(blocks[b[1]], b[2])
	}
	if len(blocks["bash"]) != 3 || len(blocks["go"]) != 2 || len(blocks["js"]) != 1 {
		t.Fatalf("the guide has other blocks than this test knows: %d bash, %d go, %d js", len(blocks["bash"]), len(blocks["go"]), len(blocks["js"]))
	}
	var running struct{ NATS string }
	told, err := os.ReadFile(filepath.Join(s.data, "dev.json"))
	if err == nil {
		err = json.Unmarshal(told, &running)
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.token(t.Context(), "desk", time.Hour, "--role", "notifications:publish")
	if err != nil {
		t.Fatal(err)
	}

	// A folder as a reader has it, with peal dev beside it.
	dir := t.TempDir()
	program, err := filepath.Abs(*binary)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "bin"), 0o700)
	}
	if err == nil {
		err = os.Symlink(program, filepath.Join(dir, "bin/peal"))
	}
	if err == nil {
		err = os.Symlink(s.data, filepath.Join(dir, ".peal"))
	}
	if err != nil {
		t.Fatal(err)
	}
	environment := append(os.Environ(), "PEAL_URL="+s.url, "PEAL_TENANT="+tenant, "PEAL_REALM="+realm, "PEAL_TOKEN="+token, "PEAL_BUS="+running.NATS)
	run := func(what, in, want string, command ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir, cmd.Env = in, environment
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%s: %v\n%s\nwant %s", what, err, out, want)
		}
	}
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	here := strings.NewReplacer("http://localhost:8080", s.url)
	run("the queue", dir, `"members":3`, "bash", "-ec", here.Replace(blocks["bash"][1]))
	run("curl", dir, `{"id":"comment-77","duplicate":false}`, "bash", "-ec", here.Replace(blocks["bash"][0]))
	module := "../../.." // which has nats.go
	run("Go over HTTP", module, `{"id":"comment-77","duplicate":true}`, "go", "run", write("http.go", blocks["go"][0]))
	run("Go on the bus", module, "stored, duplicate: true", "go", "run", write("bus.go", blocks["go"][1]))
	run("Node", dir, `{"id":"comment-77","duplicate":true}`, "node", write("event.mjs", blocks["js"][0]))
	run("dead letters", dir, "", "bash", "-ec", blocks["bash"][2])

	for user, want := range map[string]string{
		"user-1": "Jane Smith commented on ticket INC-2024-001234", "user-2": "Jane Smith commented on ticket INC-2024-001234",
		"user-9": "Jane Smith commented on ticket INC-2024-001234", "user-3": "Jane Smith mentioned you in a comment on ticket INC-2024-001234",
		"user-abc": "", "user-4": "",
	} {
		if want != "" && !strings.Contains(string(guide), want) {
			t.Errorf("the guide does not say %q", want)
		}
		end := time.Now().Add(patience)
		for {
			got := s.messages(t, user)
			if want == "" && len(got) == 0 || len(got) == 1 && got[0] == want {
				break
			}
			if len(got) > 1 || time.Now().After(end) {
				t.Errorf("%s is told %q, want %q", user, got, want)
				break
			}
			time.Sleep(pause)
		}
	}
}

// messages are what a user is told, newest first.
func (s *service) messages(t *testing.T, user string) (all []string) {
	t.Helper()
	token, err := s.token(t.Context(), user, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v2/ticketing/ticket/notification/list", nil)
	if err != nil {
		t.Fatal(err)
	}
	setHeaders(req.Header, bearer{realm, tenant, token}.headers())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct {
		Notifications []struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Notifications {
		all = append(all, n.Message)
	}
	return all
}
