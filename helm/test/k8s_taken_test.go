//go:build k8s

package helm_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tried says how an object is shown to the server: it is judged as always, and not stored.
var tried = []string{"--dry-run=server", "--validate=strict", "--filename", "-"}

// bearable are the warnings that a release gets for a reason.
func bearable(values map[string]any) []string {
	if in, ok := values["ingress"].(map[string]any); ok && in["preset"] == "gke" {
		// GKE goes by it alone.
		return []string{`annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead`}
	}
	return nil
}

// shown is the pods of a release, as the controllers of its workloads would make them. A
// workload with a pod that may not be is taken, with a warning: the pod is refused, later.
func shown(t *testing.T, r *release) string {
	t.Helper()
	list := core.PodList{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "List"}}
	for _, p := range r.pods() {
		pod := core.Pod{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: p.template.ObjectMeta, Spec: p.template.Spec}
		pod.Name = p.of.GetName() + "-0"
		for _, claim := range p.claims {
			volume := core.Volume{Name: claim}
			volume.PersistentVolumeClaim = &core.PersistentVolumeClaimVolumeSource{ClaimName: claim + "-" + pod.Name}
			pod.Spec.Volumes = append(pod.Spec.Volumes, volume)
		}
		list.Items = append(list.Items, pod)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A server asks more of objects than their types do, and warns of what it will not take one day.
func TestServerTakesWhatIsRendered(t *testing.T) {
	serve(t)
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, warnings, err := kubectl(rendered(t, file), append([]string{"apply"}, tried...)...)
			if err != nil {
				t.Error(err)
			}
			r := released(t, file)
			if want := bearable(r.values); !slices.Equal(warnings, want) {
				t.Errorf("the server warns of %q, want %q", warnings, want)
			}
			out, warnings, err := kubectl(shown(t, r), append([]string{"create", "--output=name"}, tried...)...)
			if err != nil {
				t.Error(err)
			}
			if len(warnings) > 0 {
				t.Errorf("of pods the server warns of %q", warnings)
			}
			if got := len(strings.Fields(out)); got != len(r.pods()) || got == 0 {
				t.Errorf("%d of %d pods are taken", got, len(r.pods()))
			}
		})
	}
}

// TestServerSeesMistakes plants a mistake a row, so that the server can be trusted when it
// takes something without a word.
func TestServerSeesMistakes(t *testing.T) {
	serve(t)
	for _, tt := range []struct {
		name     string
		file     string // of values
		old, new string
		refused  string // in what the server says; "" if it takes the objects
		warned   string
		pods     bool // the mistake is in pods; otherwise in what makes them, and all else
	}{
		{"a workload of root", "default", "runAsNonRoot: true", "runAsNonRoot: false", "", `would violate PodSecurity "restricted:latest"`, false},
		{"a pod of root", "default", `"runAsNonRoot":true`, `"runAsNonRoot":false`, `violates PodSecurity "restricted:latest"`, "", true},
		{"a pod that may do all", "embedded", `"allowPrivilegeEscalation":false`, `"privileged":true`, `violates PodSecurity "restricted:latest": privileged`, "", true},
		{"a pod with a hole to its node", "default", `"containers":`, `"hostNetwork":true,"containers":`, `violates PodSecurity "restricted:latest": host namespaces`, "", true},
		{"a pod of a class that there is not", "everything", `"priorityClassName":"high"`, `"priorityClassName":"higher"`, "no PriorityClass with name higher", "", true},
		{"an unknown field", "default", "  replicas: 2\n", "  replica: 2\n", `unknown field "spec.replica"`, "", false},
		{"an upgrade that can't begin", "default", "maxSurge: 1", "maxSurge: 0", "may not be 0 when `maxSurge` is 0", "", false},
		{"a workload that does not select its pods", "default", "    matchLabels:\n      app.kubernetes.io/name: peal\n", "    matchLabels:\n      app.kubernetes.io/name: bell\n", "`selector` does not match template `labels`", "", false},
		{"a field that a monitor has not", "everything", "jobLabel:", "jobLabels:", `unknown field "spec.jobLabels"`, "", false},
		{"a time that an alert does not take", "everything", "for: 2m\n", "for: soon\n", "spec.groups[0].rules", "", false},
		{"a time that a route does not take", "httproute", "request: 0s", "request: soon", "spec.rules[0].timeouts.request", "", false},
		{"a text for a number of GKE", "ingress-gke", "timeoutSec: 86400", "timeoutSec: long", "spec.timeoutSec", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := chart + "/ci/" + tt.file + ".yaml"
			good, command := rendered(t, file), "apply"
			if tt.pods {
				good, command = shown(t, released(t, file)), "create"
			}
			bad := strings.ReplaceAll(good, tt.old, tt.new)
			if bad == good {
				t.Fatalf("nothing was planted: there is no %q", tt.old)
			}
			_, warnings, err := kubectl(bad, append([]string{command}, tried...)...)
			if (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("the server says %v, want something of %q", err, tt.refused)
			}
			if tt.warned != "" && !strings.Contains(strings.Join(warnings, "\n"), tt.warned) {
				t.Errorf("the server warns of %q, want something of %q", warnings, tt.warned)
			}
		})
	}
}
