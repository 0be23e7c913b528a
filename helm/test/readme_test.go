package helm_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// leaves are the keys of values that have no keys below them.
func leaves(v any, path string, into map[string]bool) {
	node, ok := v.(map[string]any)
	if !ok || len(node) == 0 {
		into[path] = true
		return
	}
	for key, child := range node {
		leaves(child, strings.TrimPrefix(path+"."+key, "."), into)
	}
}

// The table of README.md has each key of values.yaml: one of its own, or of all below it.
func TestEveryValueIsExplained(t *testing.T) {
	data, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	leaves(values, "", there)

	page, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Values\n")
	table, _, _ = strings.Cut(table, "\n## ")
	row := regexp.MustCompile("`([^`]+)`")
	explained := make(map[string]bool)
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " | ")
		for _, key := range row.FindAllStringSubmatch(cell, -1) {
			found := 0
			for leaf := range there {
				if leaf == key[1] || strings.HasPrefix(leaf, key[1]+".") {
					explained[leaf] = true
					found++
				}
			}
			if found == 0 {
				t.Errorf("%s is explained, and is no value", key[1])
			}
		}
	}
	for _, leaf := range slices.Sorted(maps.Keys(there)) {
		if !explained[leaf] {
			t.Errorf("%s is not explained", leaf)
		}
	}
}

// An installation from nothing is six commands at most, in each mode.
func TestInstallationIsShort(t *testing.T) {
	page, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	modes := 0
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		if !strings.HasPrefix(title, "Install") {
			continue
		}
		modes++
		commands := 0
		for line := range strings.Lines(text) {
			if regexp.MustCompile(`^    (git|cd|kubectl|helm|cat|make|go|sed|curl|openssl|peal) `).MatchString(line) {
				commands++
			}
		}
		if commands == 0 || commands > 6 {
			t.Errorf("%s takes %d commands", title, commands)
		}
	}
	if modes != 2 {
		t.Errorf("README.md has %d ways to install, want one for each mode", modes)
	}
}

// migration is the manifest of the Job that copies, as README.md has it.
func migration(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## From one pod to a cluster\n")
	_, text, _ = strings.Cut(text, "\n```yaml\n")
	text, _, _ = strings.Cut(text, "\n```\n")
	return text
}

// The Job that copies one pod's notifications to a cluster is a manifest of somebody's own,
// made of README.md: what it says has to be taken, by Kubernetes and by peal.
func TestMigrationIsAsReadmeSays(t *testing.T) {
	r, err := read(migration(t))
	if err != nil || len(r.pods()) != 1 {
		t.Fatalf("%d Jobs, %v", len(r.pods()), err)
	}
	checkRestricted(r, t.Errorf)
	p := r.pods()[0]

	e := released(t, chart+"/ci/embedded.yaml")
	own := e.pods()[0]
	if got, want := p.template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName, own.claims[0]+"-"+own.of.GetName()+"-0"; got != want {
		t.Errorf("the volume is %s, want %s", got, want)
	}
	if got, want := p.container().Image, own.container().Image; got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
	got, want := p.template.Spec.SecurityContext, own.template.Spec.SecurityContext
	if *got.RunAsUser != *want.RunAsUser || *got.RunAsGroup != *want.RunAsGroup || *got.FSGroup != *want.FSGroup {
		t.Error("it runs as somebody else than the owner of the volume")
	}
	// As far as peal comes without a volume.
	cmd := exec.Command(*binary, p.container().Args...)
	cmd.Env = []string{p.container().Env[0].Name + "=nats://admin:secret@n1:4222"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "there is no JetStream in /data") {
		t.Errorf("peal says %q, %v", out, err)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// anchors are where the headings of a page can be linked to.
func anchors(page string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range []string{chart + "/README.md", "../nats/README.md"} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		links := link.FindAllStringSubmatch(string(page), -1)
		if len(links) == 0 {
			t.Errorf("%s has no links", name)
		}
		for _, l := range links {
			to := name
			if l[1] != "" {
				to = filepath.Join(filepath.Dir(name), l[1])
			}
			text, err := os.ReadFile(to)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if l[2] != "" && !slices.Contains(anchors(string(text)), l[2]) {
				t.Errorf("%s: %s has no %s", name, to, l[2])
			}
		}
	}
}
