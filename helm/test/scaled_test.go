package helm_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	apps "k8s.io/api/apps/v1"
)

// cluster is as much of the API as Helm asks for the Deployment of the edges, of which
// replicas are there; nil is that there is none.
func cluster(t *testing.T, replicas *int) (address string) {
	t.Helper()
	answers := map[string]any{
		"/version": map[string]any{"major": "1", "minor": "30", "gitVersion": "v" + oldest},
		"/api":     map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"/api/v1":  map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{}},
		"/apis": map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{map[string]any{
			"name":             "apps",
			"versions":         []any{map[string]any{"groupVersion": "apps/v1", "version": "v1"}},
			"preferredVersion": map[string]any{"groupVersion": "apps/v1", "version": "v1"},
		}}},
		"/apis/apps/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": []any{
			map[string]any{"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": []string{"get"}},
		}},
	}
	if replicas != nil {
		answers["/apis/apps/v1/namespaces/"+namespace+"/deployments/peal-edge"] = map[string]any{
			"kind": "Deployment", "apiVersion": "apps/v1",
			"metadata": map[string]any{"name": "peal-edge", "namespace": namespace},
			"spec":     map[string]any{"replicas": *replicas},
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, there := answers[r.URL.Path]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Upgrades once put a scaled Deployment back to one pod: the number was in the manifest
// before the scaler was turned on, and not after it.
func TestUpgradeKeepsWhatIsScaled(t *testing.T) {
	number := func(n int) *int { return &n }
	for _, tt := range []struct {
		name   string
		there  *int
		scaled string
		want   int32
	}{
		{"a first installation begins with the least", nil, "true", 3},
		{"what the scaler has made stays", number(17), "true", 17},
		{"what somebody has stopped stays so", number(0), "true", 0},
		{"without a scaler the values say", number(17), "false", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(config, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := template(chart, "--values", chart+"/ci/default.yaml", "--set", "autoscaling.enabled="+tt.scaled+",autoscaling.minReplicas=3",
				"--dry-run=server", "--kubeconfig", config, "--kube-apiserver", cluster(t, tt.there))
			if err != nil {
				t.Fatal(err)
			}
			r, err := read(out)
			if err != nil {
				t.Fatal(err)
			}
			switch got := named[*apps.Deployment](r, "peal-edge").Spec.Replicas; {
			case got == nil:
				t.Errorf("no replicas, which is 1, want %d", tt.want)
			case *got != tt.want:
				t.Errorf("%d replicas, want %d", *got, tt.want)
			}
		})
	}
}
