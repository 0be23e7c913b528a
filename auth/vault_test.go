package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/auth"
)

// acmeFile is where the keys of acme are: its name in hex.
const acmeFile = "61636d65.json"

// kept leaves a directory as a process leaves it that had the keys of all realms.
func (s *site) kept() string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "keys")
	v := s.opened(s.config(), auth.Options{Dir: dir})
	v.Close() // after the keys are on disk
	return dir
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestKeysOnDiskServeWhileTheIssuerIsDown(t *testing.T) {
	s := newSite(t)
	dir := s.kept()
	if diff := cmp.Diff([]string{acmeFile, "676c6f626578.json", "73657276696365.json"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, acmeFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}

	token := s.token("acme", nil)
	s.answers("acme", down)
	v := s.open(s.config(), auth.Options{Dir: dir})
	s.accepts(v, "acme", token) // before any fetch can have ended well
	waitKeys(t, v)
	v.Refetch("acme")
	s.accepts(v, "acme", token)
	if st := v.Status()[0]; !st.Usable || st.Age <= 0 || st.Age > time.Minute || st.Err == nil {
		t.Errorf("status %+v, want the age of the keys on disk and the error", st)
	}

	// What the disk has is not for ever: the issuer's word counts once it is back.
	for range 2 {
		if err := s.iss.Rotate("acme"); err != nil {
			t.Fatal(err)
		}
	}
	s.answers("acme", nil)
	v.Refetch("acme")
	s.refuses(v, "acme", token, auth.ReasonKidUnknown)
	s.accepts(v, "acme", s.token("acme", nil))
}

// edit changes what is kept of acme.
func edit(t *testing.T, dir string, change func(map[string]any)) {
	t.Helper()
	file := filepath.Join(dir, acmeFile)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	change(kept)
	if data, err = json.Marshal(kept); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeysOnDiskThatAreNotUsed(t *testing.T) {
	fetchedAt := func(age time.Duration) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, func(kept map[string]any) { kept["fetched"] = time.Now().Add(-age) })
		}
	}
	says := func(name, value string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, dir, func(kept map[string]any) { kept[name] = value }) }
	}
	keys := func(keys ...any) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, func(kept map[string]any) { kept["keySet"] = map[string]any{"keys": keys} })
		}
	}
	file := func(change func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := change(filepath.Join(dir, acmeFile)); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(with func(path string) error) func(*testing.T, string) {
		return file(func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return with(path)
		})
	}
	for _, row := range []struct {
		name   string
		break_ func(t *testing.T, dir string)
		config func(*auth.Config)
		used   bool
		told   bool // in a line of the log
	}{
		{name: "as they were left", used: true},
		{name: "a second less than a day old", break_: fetchedAt(24*time.Hour - 10*time.Second), used: true},
		{name: "a day old", break_: fetchedAt(24 * time.Hour)},
		{name: "from the future", break_: fetchedAt(-time.Hour)},
		{name: "of no time", break_: func(t *testing.T, dir string) {
			edit(t, dir, func(kept map[string]any) { delete(kept, "fetched") })
		}},
		{name: "of another realm", break_: says("realm", "ACME")},
		{name: "of another issuer", break_: says("issuer", "https://other.example")},
		{name: "from another URL", break_: says("jwks", "https://other.example/jwks")},
		{name: "with another issuer in the configuration", config: func(c *auth.Config) { c.Realms[0].Issuer += "/" }},
		{name: "with another URL in the configuration", config: func(c *auth.Config) { c.Realms[0].JWKS += "?2" }},
		{name: "with discovery in the configuration", config: func(c *auth.Config) {
			c.Realms[0].JWKS, c.Realms[0].Discovery = "", true
		}},
		{name: "for algorithms that the realm does not have any more", told: true, config: func(c *auth.Config) {
			c.Realms[0].Algorithms = []string{"RS256"}
		}},

		{name: "garbage", told: true, break_: file(func(p string) error { return os.WriteFile(p, []byte("keys"), 0o600) })},
		{name: "empty", told: true, break_: file(func(p string) error { return os.Truncate(p, 0) })},
		{name: "cut off", told: true, break_: file(func(p string) error { return os.Truncate(p, 100) })},
		{name: "too long", told: true, break_: file(func(p string) error { return os.Truncate(p, 1<<20) })},
		{name: "a directory", told: true, break_: replace(func(p string) error { return os.Mkdir(p, 0o700) })},
		{name: "a link to nowhere", break_: replace(func(p string) error { return os.Symlink("nowhere", p) })},
		{name: "a pipe", told: true, break_: replace(func(p string) error { return syscall.Mkfifo(p, 0o600) })},
		{name: "of a user who keeps them from us", told: os.Geteuid() != 0, used: os.Geteuid() == 0, // from root nothing is kept
			break_: file(func(p string) error { return os.Chmod(p, 0) })},

		{name: "none", told: true, break_: keys()},
		{name: "oct", told: true, break_: keys(map[string]any{"kty": "oct", "kid": "k", "k": "c2VjcmV0"})},
		{name: "weak", told: true, break_: keys(map[string]any{
			"kty": "RSA", "kid": "k", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 128)))})},
		{name: "of the wrong case", told: true, break_: func(t *testing.T, dir string) {
			edit(t, dir, func(kept map[string]any) {
				for _, key := range kept["keySet"].(map[string]any)["keys"].([]any) {
					k := key.(map[string]any)
					k["KTY"] = k["kty"]
					delete(k, "kty")
				}
			})
		}},
		{name: "beside a bad one", used: true, break_: func(t *testing.T, dir string) {
			edit(t, dir, func(kept map[string]any) {
				set := kept["keySet"].(map[string]any)
				set["keys"] = append([]any{7, nil, map[string]any{"kty": "oct", "kid": 1, "k": "c2VjcmV0"}}, set["keys"].([]any)...)
			})
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dir := s.kept()
			if row.break_ != nil {
				row.break_(t, dir)
			}
			cfg := s.config()
			if row.config != nil {
				row.config(&cfg)
			}
			token := s.token("acme", map[string]any{"iss": cfg.Realms[0].Issuer})
			s.answers("acme", func(w http.ResponseWriter, r *http.Request) { // silent until it is asked no more
				<-r.Context().Done()
			})
			v := s.open(cfg, auth.Options{Dir: dir})
			if row.used {
				s.accepts(v, "acme", token)
			} else if got, err := v.Verify(t.Context(), "acme", token); err == nil {
				t.Errorf("got %+v, want nothing to be accepted", got)
			}
			if st := v.Status()[0]; st.Usable != row.used || st.Keys > 0 != row.used {
				t.Errorf("status %+v, want usable %v", st, row.used)
			}
			s.accepts(v, "globex", s.token("globex", nil)) // from the disk too
			told := slices.DeleteFunc(s.log.warnings(), func(line string) bool { return !strings.Contains(line, "on disk not read") })
			if want := map[bool]int{true: 1}[row.told]; len(told) != want {
				t.Errorf("%d lines in the log, want %d: %v", len(told), want, told)
			}
		})
	}
}

// A key that the disk has is held against the rules, but whoever can write there
// could put in one of his own: what is kept is for its owner alone, see the modes
// above. Here: nothing that is on the disk counts in another realm.
func TestKeysOnDiskAreOfOneRealm(t *testing.T) {
	s := newSite(t)
	dir := s.kept()
	data, err := os.ReadFile(filepath.Join(dir, "676c6f626578.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, acmeFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.answers("acme", down)
	v := s.open(s.config(), auth.Options{Dir: dir})
	s.lacksKeys(v, "acme", s.token("acme", nil))
}

// Not every file system tells a from A.
func TestRealmsWhoseNamesDifferInCaseHaveKeysOfTheirOwn(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	cfg := s.config(func(c *auth.Config) {
		c.Realms = c.Realms[:2]
		c.Realms[1].Name, c.Realms[1].Namespace = "ACME", "shouting"
	})
	s.opened(cfg, auth.Options{Dir: dir}).Close()
	all := names(t, dir)
	if len(all) != 2 || strings.EqualFold(all[0], all[1]) {
		t.Fatalf("files %v, want two whatever the case", all)
	}
	s.answers("acme", down)
	s.answers("globex", down)
	v := s.open(cfg, auth.Options{Dir: dir})
	s.accepts(v, "acme", s.token("acme", nil))
	s.accepts(v, "ACME", s.token("globex", nil))
	s.refuses(v, "acme", s.token("acme", map[string]any{"iss": s.iss.URL("globex")}), auth.ReasonIssuer)
}

// Where keys cannot be kept they are in memory, which is told once.
func TestADiskThatTakesNothingIsToldOnce(t *testing.T) {
	s := newSite(t)
	for name, dir := range map[string]string{
		"a file in its place": filepath.Join(t.TempDir(), "file"),
		"nobody's":            "/proc/peal-keys",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil && strings.HasSuffix(dir, "file") {
				t.Fatal(err)
			}
			s.log = &lines{}
			v := s.opened(s.config(func(c *auth.Config) { c.Realms, c.Tenants = c.Realms[:1], nil }), auth.Options{Dir: dir})
			for range 3 {
				v.Refetch("acme")
			}
			v.Close()
			s.accepts(v, "acme", s.token("acme", nil))
			told := slices.DeleteFunc(s.log.warnings(), func(line string) bool { return !strings.Contains(line, "not kept on disk") })
			if len(told) != 1 {
				t.Errorf("%d lines in the log, want 1: %v", len(told), told)
			}
		})
	}
}

// A process that was killed while it wrote leaves a part of a file, which is in
// nobody's way and gone when the next keys are kept. One that is writing now may
// be another process'.
func TestHalfWrittenKeysAreHarmlessAndDoNotPileUp(t *testing.T) {
	s := newSite(t)
	dir := s.kept()
	left := []string{acmeFile + ".new-1", acmeFile + ".new-2", acmeFile + ".new-now"}
	for _, name := range left {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"realm":"acme","keySet":{"ke`), 0o600); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "now") {
			ago := time.Now().Add(-2 * time.Minute)
			if err := os.Chtimes(path, ago, ago); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.answers("acme", down)
	v := s.open(s.config(), auth.Options{Dir: dir})
	s.accepts(v, "acme", s.token("acme", nil))
	s.answers("acme", nil)
	v.Refetch("acme")
	v.Close()
	want := []string{acmeFile, acmeFile + ".new-now", "676c6f626578.json", "73657276696365.json"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
