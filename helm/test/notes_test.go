package helm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// notes is what Helm prints after an installation. helm template prints it only as a part of
// a manifest, so a copy of the chart has it as one.
func notes(t *testing.T, args ...string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "peal")
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "templates/zz-notes.yaml"), []byte(`notes: {{ include "peal.notes" . | quote }}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := template(folder, append([]string{"--show-only", "templates/zz-notes.yaml"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Notes string }
	if err := yaml.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Notes
}

func TestNotesSayWhatToDoFirst(t *testing.T) {
	const tenant = " --realm acme --tenant 11111111-1111-4111-8111-111111111111\n"
	for _, tt := range []struct {
		file  string
		first string
		also  []string
	}{
		{"default", "peal doctor --through http://localhost:8080" + tenant, []string{"port-forward service/peal 8080:80", "exec deployment/peal-edge -- /peal doctor"}},
		{"embedded", "peal doctor --through http://localhost:8080" + tenant, []string{"exec statefulset/peal -- /peal doctor", "Its volume stays"}},
		{"ingress-nginx", "peal doctor --through https://peal.example.com" + tenant, nil},
		{"ingress-traefik", "peal doctor --through https://peal.example.com" + tenant, []string{"respondingTimeouts.writeTimeout"}},
		{"httproute", "peal doctor --through https://peal.example.com" + tenant, nil},
		{"loadbalancer", "peal doctor --through https://localhost:8080 --realm REALM --tenant TENANT\n", []string{"8080:443"}},
	} {
		got := notes(t, "--values", chart+"/ci/"+tt.file+".yaml")
		if !strings.HasPrefix(got, tt.first) {
			t.Errorf("%s: the notes begin with %q, want %q", tt.file, strings.SplitN(got, "\n", 2)[0], tt.first)
		}
		for _, want := range tt.also {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", tt.file, want, got)
			}
		}
	}
	// Its template is what Helm prints.
	if text, err := os.ReadFile(chart + "/templates/NOTES.txt"); err != nil || strings.TrimSpace(string(text)) != `{{ include "peal.notes" . }}` {
		t.Errorf("NOTES.txt is %q, %v", text, err)
	}
	if got := notes(t, "--values", chart+"/ci/default.yaml", "--set", "serviceMonitor.enabled=true"); !strings.Contains(got, "networkPolicy.adminFrom") {
		t.Errorf("nothing about a Prometheus that is kept out:\n%s", got)
	}
}
