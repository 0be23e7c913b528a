package helm_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// What each preset sets, and nothing else: an annotation more is one that somebody has to
// know the reason of.
func TestPresetsLetStreamsThrough(t *testing.T) {
	for preset, want := range map[string]map[string]string{
		"nginx": {
			"nginx.ingress.kubernetes.io/proxy-buffering":    "off",
			"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
			"nginx.org/proxy-buffering":                      "false",
			"nginx.org/proxy-read-timeout":                   "3600s",
		},
		"traefik": nil,
		"alb": {
			"alb.ingress.kubernetes.io/target-type":                  "ip",
			"alb.ingress.kubernetes.io/load-balancer-attributes":     "idle_timeout.timeout_seconds=3600",
			"alb.ingress.kubernetes.io/target-group-attributes":      "deregistration_delay.timeout_seconds=60,load_balancing.algorithm.type=least_outstanding_requests",
			"alb.ingress.kubernetes.io/healthcheck-path":             "/readyz",
			"alb.ingress.kubernetes.io/healthcheck-interval-seconds": "5",
			"alb.ingress.kubernetes.io/healthcheck-timeout-seconds":  "4",
		},
		"gke":     {"kubernetes.io/ingress.class": "gce-internal"},
		"contour": {"projectcontour.io/response-timeout": "infinity"},
	} {
		r := released(t, chart+"/ci/ingress-"+preset+".yaml")
		if got := named[*networking.Ingress](r, "peal").Annotations; !maps.Equal(got, want) {
			t.Errorf("preset %s sets %q, want %q", preset, got, want)
		}
		class := named[*networking.Ingress](r, "peal").Spec.IngressClassName
		if (preset == "gke") != (class == nil) {
			t.Errorf("preset %s: an ingressClassName is %v", preset, class != nil)
		}
		if b := of[*backendConfig](r); (preset == "gke") != (len(b) == 1) {
			t.Errorf("preset %s makes %d BackendConfigs", preset, len(b))
		}
		neg := named[*core.Service](r, "peal").Annotations["cloud.google.com/neg"]
		if (preset == "gke") != (neg == `{"ingress": true}`) {
			t.Errorf("preset %s: the Service has cloud.google.com/neg %q", preset, neg)
		}
	}
}

// A longer drain is told to load balancers that would cut it short, and what somebody says
// by themselves stands.
func TestPresetsFollowTheValues(t *testing.T) {
	out, err := template(chart, "--values", chart+"/ci/ingress-alb.yaml", "--set", "config.drain-window=2m", "--set-json", `ingress.annotations={"alb.ingress.kubernetes.io/healthcheck-path":"/livez","alb.ingress.kubernetes.io/scheme":"internal"}`)
	if err != nil {
		t.Fatal(err)
	}
	r, err := read(out)
	if err != nil {
		t.Fatal(err)
	}
	got := named[*networking.Ingress](r, "peal").Annotations
	for key, want := range map[string]string{"healthcheck-path": "/livez", "scheme": "internal", "target-type": "ip"} {
		if got["alb.ingress.kubernetes.io/"+key] != want {
			t.Errorf("%s is %q, want %q", key, got["alb.ingress.kubernetes.io/"+key], want)
		}
	}
	if !strings.Contains(got["alb.ingress.kubernetes.io/target-group-attributes"], "deregistration_delay.timeout_seconds=150") {
		t.Errorf("after a drain window of 2 min: %q", got["alb.ingress.kubernetes.io/target-group-attributes"])
	}
}

// Both load balancers refuse more than an hour.
func TestDrainingIsAsLongAsCanBe(t *testing.T) {
	for _, preset := range []string{"alb", "gke"} {
		out, err := template(chart, "--values", chart+"/ci/ingress-"+preset+".yaml", "--set", "config.drain-window=2h")
		if err != nil {
			t.Fatal(err)
		}
		r, err := read(out)
		if err != nil {
			t.Fatal(err)
		}
		told := named[*networking.Ingress](r, "peal").Annotations["alb.ingress.kubernetes.io/target-group-attributes"]
		if preset == "alb" && !strings.Contains(told, "deregistration_delay.timeout_seconds=3600,") {
			t.Errorf("after a drain window of 2 h: %q", told)
		}
		for _, b := range of[*backendConfig](r) {
			if b.Spec.ConnectionDraining.DrainingTimeoutSec != 3600 {
				t.Errorf("after a drain window of 2 h: %d s", b.Spec.ConnectionDraining.DrainingTimeoutSec)
			}
		}
	}
}

// ingress-nginx refuses a path of the type Prefix that has a character beyond these (its
// strict-validate-path-type, on since 1.12), and /peal.js has a dot. Elsewhere only Prefix is
// sure to be one: to ALB and GKE the other type is a path as it stands.
func TestPathsAreOfATypeThatIsTaken(t *testing.T) {
	for _, preset := range []string{"nginx", "traefik", "alb", "gke", "contour"} {
		got := make(map[string]networking.PathType)
		for _, path := range named[*networking.Ingress](released(t, chart+"/ci/ingress-"+preset+".yaml"), "peal").Spec.Rules[0].HTTP.Paths {
			got[path.Path] = *path.PathType
		}
		want := map[string]networking.PathType{
			"/api/v2/ticketing": networking.PathTypePrefix,
			"/realms":           networking.PathTypePrefix,
			"/peal.js":          networking.PathTypePrefix,
		}
		if preset == "nginx" {
			want["/peal.js"] = networking.PathTypeImplementationSpecific
		}
		if !maps.Equal(got, want) {
			t.Errorf("preset %s: the types are %v, want %v", preset, got, want)
		}
	}
}

// inside are paths of the public port that nobody outside has to reach: probes ask the pods,
// and the description is for who runs peal.
var inside = []string{"/livez", "/readyz", "/openapi.yaml"}

// Whatever clients call is let in, and nothing else.
func TestRoutesAreThoseOfTheAPI(t *testing.T) {
	data, err := os.ReadFile("../../node/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]any
	}
	if err := yaml.Unmarshal(data, &api); err != nil {
		t.Fatal(err)
	}
	var prefixes []string
	for _, path := range named[*networking.Ingress](released(t, chart+"/ci/ingress-nginx.yaml"), "peal").Spec.Rules[0].HTTP.Paths {
		prefixes = append(prefixes, path.Path)
	}
	used := make(map[string]bool)
	calls := 0
	for full := range api.Paths {
		i := slices.IndexFunc(prefixes, func(p string) bool { return full == p || strings.HasPrefix(full, p+"/") })
		if i >= 0 {
			used[prefixes[i]] = true
		}
		if (i < 0) != slices.Contains(inside, full) {
			t.Errorf("%s: that it is let in is %v", full, i >= 0)
		}
		calls++
	}
	if calls < 15 {
		t.Errorf("only %d paths were read of the API", calls)
	}
	for _, p := range prefixes {
		if !used[p] {
			t.Errorf("%s is let in, and there is nothing", p)
		}
	}
}
