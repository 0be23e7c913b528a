package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sceneBound ends a scene that does not end by itself. Each of its waits is
// bounded by less, and says what it waits for.
const sceneBound = 4 * time.Minute

// The browser client and the bell keep in Chromium what they promise: each file
// of bell/scenes says one promise, and acts it out with peal dev, a helpdesk that
// shows the bell, and a browser of its own.
func TestBell(t *testing.T) {
	scenes, err := filepath.Glob("bell/scenes/*.mjs")
	if err != nil || len(scenes) == 0 {
		t.Fatalf("there are no scenes: %v", err)
	}
	for _, scene := range scenes {
		t.Run(strings.TrimSuffix(filepath.Base(scene), ".mjs"), func(t *testing.T) {
			t.Parallel()
			playScene(t, scene)
		})
	}
}

// props are what a scene is given.
type props struct {
	Service string `json:"service"` // where peal is, as pages know it
	Admin   string `json:"admin"`
	Page    string `json:"page"` // where the helpdesk is
	Browser string `json:"browser"`
	Folder  string `json:"folder"` // for what the browser stores
	Shots   string `json:"shots"`  // where screenshots go
	Realm   string `json:"realm"`
	Tenant  string `json:"tenant"`
	Desk    string `json:"desk"` // a token to publish with
}

// playScene runs a scene to its end. A line of JSON from it is an order, which is
// answered by another: {"do": "kill"} ends the service as a power cut would,
// {"do": "start"} starts it again where it was.
func playScene(t *testing.T, scene string) {
	t.Helper()
	browser, err := exec.LookPath(*chromium)
	if err != nil {
		t.Fatalf("no browser to test with: please install chromium, or -args -chromium FILE names one: %v", err)
	}
	s := startService(t, "dev")
	p := props{
		Service: strings.Replace(s.url, "127.0.0.1", "localhost", 1),
		Admin:   s.admin, Browser: browser, Folder: t.TempDir(), Shots: shotsOf(t), Realm: realm, Tenant: tenant,
	}
	p.Page = openHelpdesk(t, s, p.Service)
	if p.Desk, err = s.token(t.Context(), "desk", time.Hour, "--role", "notifications:publish"); err != nil {
		t.Fatal(err)
	}
	arg, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), sceneBound)
	defer cancel()
	c := exec.CommandContext(ctx, "node", "bell/run.mjs", scene, string(arg))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its browser's too
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.Env = append(os.Environ(), "HOME="+p.Folder)
	var said bytes.Buffer
	c.Stderr = &said
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Cancel() // whatever is left of the browser
	for orders := json.NewDecoder(out); ; {
		var order struct{ Do string }
		if err := orders.Decode(&order); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("an order that is none: %v", err)
			}
			break
		}
		switch order.Do {
		case "kill":
			s.end(syscall.SIGKILL)
		case "start":
			s.restart(t)
		default:
			t.Errorf("an order that nobody knows: %q", order.Do)
		}
		if err := json.NewEncoder(in).Encode(map[string]string{"admin": s.admin}); err != nil {
			break // it has ended
		}
	}
	if err := c.Wait(); err != nil {
		s.end(syscall.SIGKILL) // before its log is read
		t.Errorf("%v\n%s\nScreenshots are in %s\nThe service:\n%s", err, &said, p.Shots, s.log)
	}
}

// shotsOf is a folder for the screenshots of a test. Without -shots it is kept
// only if the test fails.
func shotsOf(t *testing.T) string {
	t.Helper()
	if *shots != "" {
		dir, err := filepath.Abs(filepath.Join(*shots, filepath.Base(t.Name())))
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir, err := os.MkdirTemp("", "peal-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// openHelpdesk serves the pages of an application that has the client and the
// bell from npm, and gives its users their tokens. It is of another origin than
// the service, and its policy is as strict as one can be.
func openHelpdesk(t *testing.T, s *service, peal string) (origin string) {
	t.Helper()
	m := http.NewServeMux()
	m.Handle("GET /", http.FileServer(http.Dir("bell/pages")))
	for _, name := range []string{"peal.js", "peal-bell.js"} {
		m.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "../../../web/dist/"+name) })
	}
	m.HandleFunc("GET /token/{user}", func(w http.ResponseWriter, r *http.Request) {
		ttl, err := time.ParseDuration(r.FormValue("ttl"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		token, err := s.token(r.Context(), r.PathValue("user"), ttl)
		if err != nil {
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, token)
	})
	policy := "default-src 'none'; script-src 'self' " + peal + "; style-src 'self'; connect-src 'self' " + peal +
		"; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Cache-Control", "no-store")
		m.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return "http://localhost:" + server.URL[strings.LastIndexByte(server.URL, ':')+1:]
}
