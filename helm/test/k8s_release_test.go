//go:build k8s

package helm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// How the Job of a release ends. Before each end is the condition by which the controller
// begins it, without which the server refuses the end.
const (
	succeeds = `{"status":{"startTime":"2026-01-01T00:00:00Z","completionTime":"2026-01-01T00:00:05Z","succeeded":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{},"conditions":[{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}]}}`
	fails    = `{"status":{"startTime":"2026-01-01T00:00:00Z","failed":5,"ready":0,"terminating":0,"uncountedTerminatedPods":{},"conditions":[{"type":"FailureTarget","status":"True"},{"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"too many tries"}]}}`
)

// command is a run of Helm about the release peal.
type command struct {
	args []string
	job  string // that has to end before it goes on; "" if there is none
	ends string // how it ends
	seen func() // what to look at while it runs
}

// run runs Helm, and is the controller of Jobs and their pods meanwhile.
func (c command) run(t *testing.T) error {
	t.Helper()
	args := slices.Concat(c.args, []string{"--namespace", namespace, "--timeout", "2m"})
	if c.job == "" {
		_, err := helm(args...)
		return err
	}
	uid := func() (string, error) {
		out, _, err := kubectl("", "get", "job", c.job, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")
		return out, err
	}
	old, err := uid() // one that failed before
	if err != nil {
		t.Fatal(err)
	}
	var said error // once done is closed
	done := make(chan struct{})
	go func() { defer close(done); _, said = helm(args...) }()
	defer func() { <-done }()
	for now := old; now == old || now == ""; {
		select {
		case <-done:
			if said == nil {
				said = errors.New("helm waited for nothing")
			}
			return fmt.Errorf("no new Job %s: %w", c.job, said)
		case <-time.After(50 * time.Millisecond):
		}
		if now, err = uid(); err != nil {
			t.Error(err)
		}
	}
	if c.seen != nil {
		c.seen()
	}
	if _, _, err := kubectl("", "patch", "job", c.job, "--subresource=status", "--type=merge", "--patch", c.ends); err != nil {
		t.Error(err)
	}
	<-done
	return said
}

// must runs Helm, which has to do as it is told.
func (c command) must(t *testing.T) {
	t.Helper()
	if err := c.run(t); err != nil {
		t.Fatal(err)
	}
}

// installs is the installation with arguments that say the values.
func installs(t *testing.T, values ...string) command {
	t.Helper()
	return command{args: append([]string{"install", "peal", chart}, values...), job: hooks(t, values...).job(), ends: succeeds}
}

func upgrades(t *testing.T, values ...string) command {
	t.Helper()
	return command{args: append([]string{"upgrade", "peal", chart}, values...), job: hooks(t, values...).job(), ends: succeeds}
}

// hooks is what is there before the rest of a release, and only then.
func hooks(t *testing.T, values ...string) *release {
	t.Helper()
	manifest, err := template(chart, values...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := read(manifest)
	if err != nil {
		t.Fatal(err)
	}
	r.objects = slices.DeleteFunc(r.objects, func(o object) bool { return !o.hook() })
	return r
}

// job is the name of the Job of a release, or "".
func (r *release) job() string {
	for _, j := range of[*batch.Job](r) {
		return j.Name
	}
	return ""
}

// stays is the manifest of what is not a hook.
func stays(t *testing.T, values ...string) string {
	t.Helper()
	manifest, err := template(chart, slices.Concat(values, []string{"--no-hooks"})...)
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// names lists what a manifest has, as there does. All of it has to be there.
func names(t *testing.T, manifest string) []string {
	t.Helper()
	return strings.Fields(ask(t, manifest, "get", "--output=name", "--filename", "-"))
}

// withoutNotes leaves out what Helm notes of a release.
func withoutNotes(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return strings.HasPrefix(name, "secret/sh.helm.release.") })
}

// holds wants the namespace to have what was there before and what a release consists of,
// each object as it was rendered, and nothing else.
func holds(t *testing.T, when string, before []string, manifest string) {
	t.Helper()
	want := slices.Clone(before)
	if manifest != "" {
		want = append(want, names(t, manifest)...)
	}
	slices.Sort(want)
	if got := withoutNotes(there(t)); !slices.Equal(got, want) {
		t.Fatalf("%s there are\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if manifest == "" {
		return
	}
	for _, d := range differences(t, manifest) {
		t.Errorf("%s %s", when, d)
	}
}

// differences compares each object of a manifest with what is there, of which it may not
// change a thing if it took its place.
func differences(t *testing.T, manifest string) []string {
	t.Helper()
	got := bare(t, ask(t, manifest, "get", "--output=json", "--filename", "-"))
	want := bare(t, ask(t, manifest, "replace", "--dry-run=server", "--output=json", "--filename", "-"))
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d objects are there, of %d", len(got), len(want))
	}
	var all []string
	for i := range got {
		if g, w := got[i], want[i]; g != w {
			all = append(all, fmt.Sprintf("%s is\n%swant\n%s", names(t, manifest)[i], only(g, w), only(w, g)))
		}
	}
	return all
}

// only is the lines of a text that another has not.
func only(text, other string) string {
	there := make(map[string]bool)
	for line := range strings.Lines(other) {
		there[line] = true
	}
	var own strings.Builder
	for line := range strings.Lines(text) {
		if !there[line] {
			own.WriteString(line)
		}
	}
	return own.String()
}

// bare reads objects that kubectl printed, without what the server, or Helm, notes of them.
func bare(t *testing.T, printed string) []string {
	t.Helper()
	var all []string
	for d := json.NewDecoder(strings.NewReader(printed)); ; {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		items := []any{o}
		if o["kind"] == "List" {
			items = o["items"].([]any)
		}
		for _, item := range items {
			m := item.(map[string]any)["metadata"].(map[string]any)
			delete(m, "managedFields")
			delete(m, "generation") // of a Deployment another annotation is enough for the next
			delete(m, "resourceVersion")
			if notes, ok := m["annotations"].(map[string]any); ok {
				delete(notes, "meta.helm.sh/release-name")
				delete(notes, "meta.helm.sh/release-namespace")
				if len(notes) == 0 {
					delete(m, "annotations")
				}
			}
			text, err := yaml.Marshal(item)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
	}
}

// claim makes the volumes of a release's StatefulSets, as their controller would, and
// returns their names.
func claim(t *testing.T, r *release) []string {
	t.Helper()
	var all []string
	for _, s := range of[*apps.StatefulSet](r) {
		for _, c := range s.Spec.VolumeClaimTemplates {
			c.TypeMeta = meta.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
			c.Name += "-" + s.Name + "-0"
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.Fields(ask(t, string(text), "apply", "--output=name", "--filename", "-"))...)
		}
	}
	return all
}

func TestServerHasReleasesComeAndGo(t *testing.T) {
	serve(t)
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			before := there(t)
			r := released(t, file)
			values := []string{"--values", file}
			board := slices.ContainsFunc(r.objects, func(o object) bool { return strings.HasSuffix(o.GetName(), "-dashboard") })
			// Each kind of change: all that runs gets another configuration, something comes, and something goes.
			other := append(slices.Clone(values), "--set", fmt.Sprintf("config.heartbeat=20s,dashboard.enabled=%t,networkPolicy.enabled=%t",
				!board, len(of[*networking.NetworkPolicy](r)) == 0))

			install := installs(t, values...)
			install.seen = func() {
				if got, want := len(withoutNotes(there(t))), len(before)+len(hooks(t, values...).objects); got != want {
					t.Errorf("while the Job runs, %d objects are there, want %d: the pods don't wait for it", got, want)
				}
			}
			install.must(t)
			holds(t, "after the installation", before, stays(t, values...))
			before = append(before, claim(t, r)...)

			upgrade := upgrades(t, other...)
			upgrade.seen = func() {
				for _, d := range differences(t, stays(t, values...)) {
					t.Errorf("while the Job of an upgrade runs, something %s", d)
				}
			}
			upgrade.must(t)
			holds(t, "after the upgrade", before, stays(t, other...))

			command{args: []string{"rollback", "peal", "1"}}.must(t)
			holds(t, "after the rollback", before, stays(t, values...))

			command{args: []string{"uninstall", "peal"}}.must(t)
			slices.Sort(before)
			if got := there(t); !slices.Equal(got, before) {
				t.Errorf("after it was uninstalled there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
			}
		})
	}
}
