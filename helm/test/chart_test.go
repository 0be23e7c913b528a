package helm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// files lists the values that the chart is checked with.
func files(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(all) < 10 {
		t.Fatalf("%d files of values in %s/ci: %v", len(all), chart, err)
	}
	return all
}

// released is the release that a file of values makes.
func released(t *testing.T, file string) *release {
	t.Helper()
	r, err := read(rendered(t, file))
	if err != nil {
		t.Fatal(err)
	}
	r.values = given(t, file)
	return r
}

// given reads a file of values.
func given(t *testing.T, file string) map[string]any {
	t.Helper()
	var values map[string]any
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &values)
	}
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestChartIsInOrder(t *testing.T) {
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := helm("lint", "--strict", chart, "--values", file, "--kube-version", oldest); err != nil {
				t.Error(err)
			}
			for _, b := range released(t, file).broken() {
				t.Error(b)
			}
		})
	}
}

// Who names objects after the release, or by a name of their own, gets them so.
func TestNamesFollowTheRelease(t *testing.T) {
	for _, tt := range []struct {
		name, release string
		set           string
		want          string // of the public Service
	}{
		{"the chart's name", "peal", "", "peal"},
		{"a release of another name", "desk", "", "desk-peal"},
		{"a name of one's own", "desk", "fullnameOverride=bell", "bell"},
		{"another name of the chart", "desk", "nameOverride=bell", "desk-bell"},
		{"the longest name of a release", strings.Repeat("r", 53), "", strings.Repeat("r", 40)},
		{"a name that is cut at its dashes", strings.Repeat("r", 38) + "--desk", "", strings.Repeat("r", 38)},
		{"a name that is cut at a dot", strings.Repeat("r", 39) + ".desk", "", strings.Repeat("r", 39)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := helm("template", tt.release, chart, "--namespace", namespace, "--kube-version", oldest, "--values", chart+"/ci/default.yaml", "--set", tt.set)
			if err != nil {
				t.Fatal(err)
			}
			r, err := read(out)
			if err != nil {
				t.Fatal(err)
			}
			r.values = map[string]any{"nats": "peal-nats"}
			for _, b := range r.broken() {
				t.Error(b)
			}
			got := ""
			for _, o := range r.objects {
				if o.kind == "Service" && !strings.HasSuffix(o.GetName(), "-internal") {
					got = o.GetName()
				}
			}
			if got != tt.want {
				t.Errorf("the public Service is %q, want %q", got, tt.want)
			}
		})
	}
}

// A release may be called what a Service may not, and what is another release's.
func TestNamesThatCantBeAreRefused(t *testing.T) {
	for _, tt := range []struct {
		release, set string
		want         string // "" if it is taken
	}{
		{"1desk", "", "set fullnameOverride"},
		{"desk.acme", "", "set fullnameOverride"},
		{"desk.acme", "fullnameOverride=desk", ""},
		{"peal-edge", "", "does not end in -edge"},
		{"peal-edge", "fullnameOverride=bell", ""},
		{"desk", "nameOverride=ensure", "does not end in -ensure"},
		{"desk", "nameOverride=hedge", ""},
		{"desk", "fullnameOverride=peal-internal", "does not end in -internal"},
		{"desk", "fullnameOverride=peal-dispatch", "does not end in -dispatch"},
		{"desk", "fullnameOverride=peal-realms", "does not end in -realms"},
		{"desk", "fullnameOverride=peal-dashboard", "does not end in -dashboard"},
	} {
		_, err := helm("template", tt.release, chart, "--kube-version", oldest, "--values", chart+"/ci/default.yaml", "--set", tt.set)
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("release %s with %q: %v, want %q", tt.release, tt.set, err, tt.want)
		}
	}
}

// A node whose Kubernetes does not know the sleep handler would start pods that end at once.
func TestOlderKubernetesIsRefused(t *testing.T) {
	_, err := helm("template", "peal", chart, "--values", chart+"/ci/default.yaml", "--kube-version", "1.29.9")
	if err == nil || !strings.Contains(err.Error(), "1.30") {
		t.Errorf("on Kubernetes 1.29: %v, want a refusal that names 1.30", err)
	}
}
