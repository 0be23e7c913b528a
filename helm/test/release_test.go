package helm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../peal"
	namespace = "desk"

	// oldest is what Chart.yaml wants at least.
	oldest = "1.30.0"
)

// kinds are what the chart may render, each with its own type. What is not here fails.
var kinds = map[string]func() meta.Object{
	"v1 ConfigMap":                            func() meta.Object { return new(core.ConfigMap) },
	"v1 Service":                              func() meta.Object { return new(core.Service) },
	"apps/v1 Deployment":                      func() meta.Object { return new(apps.Deployment) },
	"apps/v1 StatefulSet":                     func() meta.Object { return new(apps.StatefulSet) },
	"batch/v1 Job":                            func() meta.Object { return new(batch.Job) },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"policy/v1 PodDisruptionBudget":           func() meta.Object { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":      func() meta.Object { return new(networking.NetworkPolicy) },
	"networking.k8s.io/v1 Ingress":            func() meta.Object { return new(networking.Ingress) },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() meta.Object { return new(gateway.HTTPRoute) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() meta.Object { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() meta.Object { return new(monitoring.PrometheusRule) },
	"cloud.google.com/v1 BackendConfig":       func() meta.Object { return new(backendConfig) },
}

// backendConfig is the part of GKE's type that the chart uses: the module it is in brings
// all of a controller along.
type backendConfig struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		TimeoutSec         int64 `json:"timeoutSec"`
		ConnectionDraining struct {
			DrainingTimeoutSec int64 `json:"drainingTimeoutSec"`
		} `json:"connectionDraining"`
		HealthCheck struct {
			Type             string `json:"type"`
			RequestPath      string `json:"requestPath"`
			Port             int64  `json:"port"`
			CheckIntervalSec int64  `json:"checkIntervalSec"`
			TimeoutSec       int64  `json:"timeoutSec"`
		} `json:"healthCheck"`
	} `json:"spec"`
}

// release is what an installation consists of.
type release struct {
	values  map[string]any // those that were given
	objects []object
}

type object struct {
	kind string
	meta.Object
}

func (o object) String() string { return o.kind + " " + o.GetName() }

// hook reports whether o is there before the others.
func (o object) hook() bool { return o.GetAnnotations()["helm.sh/hook"] != "" }

// helm runs Helm, and returns what it printed. The error has what it said.
func helm(args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.Command(*tool, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String(), nil
}

// template renders the chart in a folder, with more arguments of helm template.
func template(folder string, args ...string) (string, error) {
	return helm(append([]string{"template", "peal", folder, "--namespace", namespace, "--kube-version", oldest}, args...)...)
}

// rendered is what helm template makes of a file of values.
func rendered(t *testing.T, values string) string {
	t.Helper()
	out, err := template(chart, "--values", values)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// read reads the objects of a manifest, strictly.
func read(manifest string) (*release, error) {
	r := new(release)
	for text := range strings.SplitSeq("\n"+manifest, "\n---") {
		o, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, text)
		}
		if o.Object != nil {
			r.objects = append(r.objects, o)
		}
	}
	return r, nil
}

// decode reads an object as an API server does that refuses unknown and repeated fields. An
// empty document is none.
func decode(text string) (object, error) {
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil || string(data) == "null" {
		return object{}, err
	}
	var t meta.TypeMeta
	if err := json.UnmarshalCaseSensitivePreserveInts(data, &t); err != nil {
		return object{}, err
	}
	empty, known := kinds[t.APIVersion+" "+t.Kind]
	if !known {
		return object{}, fmt.Errorf("%s %s is no kind that is known here", t.APIVersion, t.Kind)
	}
	o := object{t.Kind, empty()}
	unknown, err := json.UnmarshalStrict(data, o.Object)
	return o, errors.Join(append(unknown, err)...)
}

// of lists the objects of a type.
func of[T meta.Object](r *release) []T {
	var all []T
	for _, o := range r.objects {
		if v, ok := o.Object.(T); ok {
			all = append(all, v)
		}
	}
	return all
}

// named finds an object of a type, or returns nil.
func named[T meta.Object](r *release, name string) (found T) {
	if i := slices.IndexFunc(of[T](r), func(v T) bool { return v.GetName() == name }); i >= 0 {
		return of[T](r)[i]
	}
	return found
}

// pod is a pod of a workload.
type pod struct {
	of       object
	template core.PodTemplateSpec
	selector *meta.LabelSelector // nil for a Job
	claims   []string            // volumes that a StatefulSet adds
	replicas int32               // at least
}

// serves reports whether the pod stays.
func (p pod) serves() bool { return p.selector != nil }

func (p pod) container() core.Container { return p.template.Spec.Containers[0] }

// port finds a port of the pod by its name, or returns 0.
func (p pod) port(name string) int32 {
	for _, port := range p.container().Ports {
		if port.Name == name {
			return port.ContainerPort
		}
	}
	return 0
}

func (r *release) pods() []pod {
	var all []pod
	for _, o := range r.objects {
		switch w := o.Object.(type) {
		case *apps.Deployment:
			p := pod{of: o, template: w.Spec.Template, selector: w.Spec.Selector}
			if w.Spec.Replicas != nil {
				p.replicas = *w.Spec.Replicas
			} else if scaler := named[*autoscaling.HorizontalPodAutoscaler](r, w.Name); scaler != nil {
				p.replicas = *scaler.Spec.MinReplicas
			}
			all = append(all, p)
		case *apps.StatefulSet:
			p := pod{of: o, template: w.Spec.Template, selector: w.Spec.Selector, replicas: *w.Spec.Replicas}
			for _, claim := range w.Spec.VolumeClaimTemplates {
				p.claims = append(p.claims, claim.Name)
			}
			all = append(all, p)
		case *batch.Job:
			all = append(all, pod{of: o, template: w.Spec.Template})
		}
	}
	return all
}

// selected lists the pods that labels select.
func (r *release) selected(s *meta.LabelSelector) []pod {
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(r.pods(), func(p pod) bool { return !selector.Matches(labels.Set(p.template.Labels)) })
}

// weight is when a hook is made: the least first.
func weight(o meta.Object) int {
	n, err := strconv.Atoi(o.GetAnnotations()["helm.sh/hook-weight"])
	if err != nil {
		return 0
	}
	return n
}
