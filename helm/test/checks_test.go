package helm_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	security "k8s.io/pod-security-admission/api"
	standards "k8s.io/pod-security-admission/policy"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// check is a rule across the objects of a release. It tells what breaks it.
type check struct {
	name string
	find func(r *release, tell func(format string, args ...any))
}

var checks = []check{
	{"names", checkNames},
	{"selectors", checkSelectors},
	{"services", checkServices},
	{"routes", checkRoutes},
	{"probes", checkProbes},
	{"references", checkReferences},
	{"hooks", checkHooks},
	{"secrets", checkSecrets},
	{"restricted", checkRestricted},
	{"environment", checkEnvironment},
	{"replicas", checkReplicas},
	{"monitoring", checkMonitoring},
}

// broken lists what is wrong with a release, each with the name of its check.
func (r *release) broken() []string {
	var all []string
	for _, c := range checks {
		c.find(r, func(format string, args ...any) {
			all = append(all, c.name+": "+fmt.Sprintf(format, args...))
		})
	}
	return all
}

func checkNames(r *release, tell func(string, ...any)) {
	seen := make(map[string]bool)
	for _, o := range r.objects {
		valid := validation.IsDNS1123Label
		if o.kind == "Service" {
			valid = validation.IsDNS1035Label
		}
		for _, why := range valid(o.GetName()) {
			tell("%v: %s", o, why)
		}
		if seen[o.String()] {
			tell("%v is there twice", o)
		}
		seen[o.String()] = true
		if o.GetNamespace() != namespace {
			tell("%v is in namespace %q", o, o.GetNamespace())
		}
		for key, value := range o.GetLabels() {
			for _, why := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
				tell("%v: label %s: %s", o, key, why)
			}
		}
	}
}

// checkSelectors wants each workload, and what is about workloads, to select what it means.
func checkSelectors(r *release, tell func(string, ...any)) {
	for _, p := range r.pods() {
		if p.serves() && !onlyPod(r.selected(p.selector), p) {
			tell("%v selects %d workloads' pods, and has to select its own", p.of, len(r.selected(p.selector)))
		}
		for _, c := range p.template.Spec.TopologySpreadConstraints {
			if !onlyPod(r.selected(c.LabelSelector), p) {
				tell("%v is spread among other pods than its own", p.of)
			}
			if c.WhenUnsatisfiable != core.ScheduleAnyway {
				tell("%v does not start where %s has no room", p.of, c.TopologyKey)
			}
			if !slices.Contains(c.MatchLabelKeys, "pod-template-hash") {
				tell("%v: pods of an upgrade are spread among those that leave", p.of)
			}
		}
	}
	for _, b := range of[*policy.PodDisruptionBudget](r) {
		if chosen := r.selected(b.Spec.Selector); len(chosen) != 1 || chosen[0].of.GetName() != b.Name {
			tell("PodDisruptionBudget %s is about %d workloads' pods, and has to be about those of its name", b.Name, len(chosen))
		}
	}
	for _, n := range of[*networking.NetworkPolicy](r) {
		chosen := r.selected(&n.Spec.PodSelector)
		for _, p := range r.pods() {
			if p.serves() && !slices.ContainsFunc(chosen, func(c pod) bool { return c.of == p.of }) {
				tell("NetworkPolicy %s is not about %v", n.Name, p.of)
			}
		}
		for _, rule := range n.Spec.Ingress {
			for _, port := range rule.Ports {
				for _, p := range chosen {
					if p.serves() && p.port(port.Port.StrVal) == 0 {
						tell("NetworkPolicy %s lets in to port %v, which %v has not", n.Name, port.Port, p.of)
					}
				}
				if port.Port.StrVal == "admin" && len(rule.From) == 0 {
					tell("NetworkPolicy %s lets everybody in to the admin port", n.Name)
				}
			}
		}
	}
}

func onlyPod(chosen []pod, p pod) bool { return len(chosen) == 1 && chosen[0].of == p.of }

func checkServices(r *release, tell func(string, ...any)) {
	for _, s := range of[*core.Service](r) {
		chosen := r.selected(&meta.LabelSelector{MatchLabels: s.Spec.Selector})
		if len(chosen) == 0 {
			tell("Service %s leads nowhere", s.Name)
		}
		for _, p := range chosen {
			if !p.serves() {
				tell("Service %s leads to %v", s.Name, p.of)
				continue
			}
			for _, port := range s.Spec.Ports {
				if port.TargetPort.Type != intstr.String || p.port(port.TargetPort.StrVal) == 0 {
					tell("Service %s: port %s leads to %v, which %v has not", s.Name, port.Name, &port.TargetPort, p.of)
				}
				if port.TargetPort.StrVal == "http" && !answersClients(p) {
					tell("Service %s sends clients to %v", s.Name, p.of)
				}
				if port.TargetPort.StrVal == "admin" && s.Spec.Type != "" && s.Spec.Type != core.ServiceTypeClusterIP {
					tell("Service %s shows the admin port to the outside", s.Name)
				}
			}
		}
	}
	for _, s := range of[*apps.StatefulSet](r) {
		if service := named[*core.Service](r, s.Spec.ServiceName); service == nil || service.Spec.ClusterIP != core.ClusterIPNone {
			tell("StatefulSet %s is of the Service %s, which is none of the release, or has an address", s.Name, s.Spec.ServiceName)
		}
	}
}

func answersClients(p pod) bool {
	component := p.template.Labels["app.kubernetes.io/component"]
	return component == "edge" || component == "node"
}

// checkRoutes wants whatever comes from outside to end at the public port.
func checkRoutes(r *release, tell func(string, ...any)) {
	lead := func(from, service string, has func(core.ServicePort) bool) {
		s := named[*core.Service](r, service)
		if s == nil {
			tell("%s leads to Service %s, which is not there", from, service)
			return
		}
		i := slices.IndexFunc(s.Spec.Ports, has)
		if i < 0 {
			tell("%s leads to a port that Service %s has not", from, service)
		} else if s.Spec.Ports[i].TargetPort.StrVal != "http" {
			tell("%s leads to port %v of the pods", from, &s.Spec.Ports[i].TargetPort)
		}
	}
	for _, in := range of[*networking.Ingress](r) {
		for _, rule := range in.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				to := path.Backend.Service
				lead("Ingress "+in.Name+path.Path, to.Name, func(p core.ServicePort) bool { return p.Name == to.Port.Name })
			}
		}
	}
	for _, route := range of[*gateway.HTTPRoute](r) {
		for _, rule := range route.Spec.Rules {
			if rule.Timeouts == nil || rule.Timeouts.Request == nil || *rule.Timeouts.Request != "0s" || rule.Timeouts.BackendRequest == nil || *rule.Timeouts.BackendRequest != "0s" {
				tell("HTTPRoute %s ends event streams after a time", route.Name)
			}
			for _, to := range rule.BackendRefs {
				lead("HTTPRoute "+route.Name, string(to.Name), func(p core.ServicePort) bool { return p.Port == int32(*to.Port) })
			}
		}
	}
	for _, b := range of[*backendConfig](r) {
		s := named[*core.Service](r, b.Name)
		if s == nil || !strings.Contains(s.Annotations["cloud.google.com/backend-config"], strconv.Quote(b.Name)) {
			tell("BackendConfig %s is of no Service", b.Name)
		}
		for _, p := range r.pods() {
			if answersClients(p) && b.Spec.HealthCheck.Port != int64(p.port("http")) {
				tell("BackendConfig %s asks for health at port %d", b.Name, b.Spec.HealthCheck.Port)
			}
			if answersClients(p) && b.Spec.ConnectionDraining.DrainingTimeoutSec < min(3600, *p.template.Spec.TerminationGracePeriodSeconds) {
				tell("BackendConfig %s cuts connections before %v lets them go", b.Name, p.of)
			}
			if b.Spec.ConnectionDraining.DrainingTimeoutSec > 3600 {
				tell("BackendConfig %s drains for longer than GKE takes", b.Name)
			}
		}
	}
}

func checkProbes(r *release, tell func(string, ...any)) {
	for _, p := range r.pods() {
		if !p.serves() {
			continue
		}
		c := p.container()
		for _, probe := range []struct {
			name, path string
			*core.Probe
		}{{"startup", "/livez", c.StartupProbe}, {"liveness", "/livez", c.LivenessProbe}, {"readiness", "/readyz", c.ReadinessProbe}} {
			switch {
			case probe.Probe == nil || probe.HTTPGet == nil:
				tell("%v has no %s probe", p.of, probe.name)
			case probe.HTTPGet.Path != probe.path:
				tell("%v: the %s probe asks for %s", p.of, probe.name, probe.HTTPGet.Path)
			case probe.HTTPGet.Port.StrVal != "admin" || p.port("admin") == 0:
				tell("%v: the %s probe asks at port %v", p.of, probe.name, &probe.HTTPGet.Port)
			}
		}
	}
}

// checkReferences wants what an object names to be there, or to be named by the values.
func checkReferences(r *release, tell func(string, ...any)) {
	given := make(map[string]bool)
	collect(r.values, given)
	for _, p := range r.pods() {
		volumes := slices.Clone(p.claims)
		for _, v := range p.template.Spec.Volumes {
			volumes = append(volumes, v.Name)
			if v.Projected == nil {
				tell("%v: volume %s is of a kind that is not looked at", p.of, v.Name)
				continue
			}
			for _, s := range v.Projected.Sources {
				switch {
				case s.Secret != nil:
					if !given[s.Secret.Name] {
						tell("%v: no value names Secret %s", p.of, s.Secret.Name)
					}
				case named[*core.ConfigMap](r, s.ConfigMap.Name) != nil:
					for _, item := range s.ConfigMap.Items {
						if _, ok := named[*core.ConfigMap](r, s.ConfigMap.Name).Data[item.Key]; !ok {
							tell("%v: ConfigMap %s has no %s", p.of, s.ConfigMap.Name, item.Key)
						}
					}
				case !given[s.ConfigMap.Name]:
					tell("%v: ConfigMap %s is not there", p.of, s.ConfigMap.Name)
				}
			}
		}
		for _, m := range p.container().VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				tell("%v mounts volume %s, which it has not", p.of, m.Name)
			}
		}
		for _, e := range p.container().Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !given[e.ValueFrom.SecretKeyRef.Name] {
				tell("%v: no value names Secret %s", p.of, e.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	for _, s := range of[*autoscaling.HorizontalPodAutoscaler](r) {
		d := named[*apps.Deployment](r, s.Spec.ScaleTargetRef.Name)
		if d == nil {
			tell("HorizontalPodAutoscaler %s scales %s, which is not there", s.Name, s.Spec.ScaleTargetRef.Name)
		} else if d.Spec.Replicas == nil || *d.Spec.Replicas != *s.Spec.MinReplicas {
			// There is no cluster here to say how many there are.
			tell("HorizontalPodAutoscaler %s: a new %s does not begin with %d", s.Name, d.Name, *s.Spec.MinReplicas)
		}
	}
}

// collect finds the texts among values.
func collect(v any, into map[string]bool) {
	switch v := v.(type) {
	case string:
		into[v] = true
	case []any:
		for _, e := range v {
			collect(e, into)
		}
	case map[string]any:
		for _, e := range v {
			collect(e, into)
		}
	}
}

// checkHooks wants what runs before an installation to need nothing of it.
func checkHooks(r *release, tell func(string, ...any)) {
	for _, p := range r.pods() {
		if p.serves() {
			continue
		}
		if !p.of.hook() {
			tell("%v is no hook", p.of)
		}
		// Helm waits for 5 min by default, and what it says then names no cause.
		if job, ok := p.of.Object.(*batch.Job); ok && (job.Spec.ActiveDeadlineSeconds == nil || *job.Spec.ActiveDeadlineSeconds >= 300) {
			tell("%v may take longer than Helm waits", p.of)
		}
		for _, v := range p.template.Spec.Volumes {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap == nil {
					continue
				}
				c := named[*core.ConfigMap](r, s.ConfigMap.Name)
				switch {
				case c == nil: // the values', and there before
				case c.Annotations["helm.sh/hook"] != p.of.GetAnnotations()["helm.sh/hook"]:
					tell("%v needs ConfigMap %s, which is made after it", p.of, c.Name)
				case weight(c) >= weight(p.of):
					tell("%v and ConfigMap %s, which it needs, are made in any order", p.of, c.Name)
				}
			}
		}
	}
}

var userInURL = regexp.MustCompile(`://[^/\s"']*@`)

func checkSecrets(r *release, tell func(string, ...any)) {
	for _, c := range of[*core.ConfigMap](r) {
		for key, text := range c.Data {
			if userInURL.MatchString(text) {
				tell("ConfigMap %s: %s has a URL with a user", c.Name, key)
			}
		}
	}
	for _, p := range r.pods() {
		for _, e := range p.container().Env {
			if strings.HasPrefix(e.Name, "PEAL_") && (e.Name != "PEAL_NATS" || e.ValueFrom == nil) {
				tell("%v: %s is not of a Secret, or not for the environment", p.of, e.Name)
			}
		}
	}
}

// checkRestricted asks those who made the standard.
func checkRestricted(r *release, tell func(string, ...any)) {
	evaluator, err := standards.NewEvaluator(standards.DefaultChecks(), nil)
	if err != nil {
		tell("%v", err)
		return
	}
	restricted := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for _, p := range r.pods() {
		result := standards.AggregateCheckResults(evaluator.EvaluatePod(restricted, &p.template.ObjectMeta, &p.template.Spec))
		if !result.Allowed {
			tell("%v: %s", p.of, result.ForbiddenDetail())
		}
		if c := p.container().SecurityContext; c == nil || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem {
			tell("%v may write to its image", p.of)
		}
		if a := p.template.Spec.AutomountServiceAccountToken; a == nil || *a {
			tell("%v gets a token of Kubernetes", p.of)
		}
	}
}

func checkEnvironment(r *release, tell func(string, ...any)) {
	for _, p := range r.pods() {
		if links := p.template.Spec.EnableServiceLinks; links == nil || *links {
			tell("%v gets PEAL_… from a Service that is called peal", p.of)
		}
		limit, limited := p.container().Resources.Limits[core.ResourceMemory]
		i := slices.IndexFunc(p.container().Env, func(e core.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
		if limited != (i >= 0) {
			tell("%v: a limit of memory is %v, and GOMEMLIMIT %v", p.of, limited, i >= 0)
		} else if limited {
			n, err := strconv.ParseInt(p.container().Env[i].Value, 10, 64)
			if share := float64(n) / float64(limit.Value()); err != nil || share < 0.89 || share > 0.91 {
				tell("%v: GOMEMLIMIT is %s of %v", p.of, p.container().Env[i].Value, &limit)
			}
		}
	}
}

// checkReplicas wants what may be away to have somebody beside it, and what is alone to be.
func checkReplicas(r *release, tell func(string, ...any)) {
	for _, p := range r.pods() {
		budget := named[*policy.PodDisruptionBudget](r, p.of.GetName()) != nil
		if p.serves() && budget != (p.replicas > 1) {
			tell("%v has %d replicas, and a PodDisruptionBudget is %v", p.of, p.replicas, budget)
		}
	}
	for _, s := range of[*apps.StatefulSet](r) {
		if *s.Spec.Replicas != 1 {
			tell("StatefulSet %s has %d replicas: each is a service of its own", s.Name, *s.Spec.Replicas)
		}
		keep := s.Spec.PersistentVolumeClaimRetentionPolicy
		if keep == nil || keep.WhenDeleted != apps.RetainPersistentVolumeClaimRetentionPolicyType || keep.WhenScaled != apps.RetainPersistentVolumeClaimRetentionPolicyType {
			tell("StatefulSet %s loses its volume", s.Name)
		}
		if s.Spec.PodManagementPolicy != apps.ParallelPodManagement {
			tell("StatefulSet %s waits for a pod that never gets ready, and a rollback with it", s.Name)
		}
		if len(of[*apps.Deployment](r))+len(of[*batch.Job](r))+len(of[*autoscaling.HorizontalPodAutoscaler](r)) > 0 {
			tell("StatefulSet %s is not alone", s.Name)
		}
	}
	for _, s := range of[*autoscaling.HorizontalPodAutoscaler](r) {
		b := s.Spec.Behavior
		if b == nil || b.ScaleDown == nil || b.ScaleDown.StabilizationWindowSeconds == nil || *b.ScaleDown.StabilizationWindowSeconds < 600 ||
			len(b.ScaleDown.Policies) != 1 || b.ScaleDown.Policies[0].Value != 1 || b.ScaleDown.Policies[0].Type != autoscaling.PodsScalingPolicy {
			tell("HorizontalPodAutoscaler %s takes pods away quickly", s.Name)
		}
	}
}

func checkMonitoring(r *release, tell func(string, ...any)) {
	for _, m := range of[*monitoring.ServiceMonitor](r) {
		selector, err := meta.LabelSelectorAsSelector(&m.Spec.Selector)
		if err != nil {
			tell("ServiceMonitor %s: %v", m.Name, err)
			continue
		}
		all := slices.DeleteFunc(of[*core.Service](r), func(s *core.Service) bool { return !selector.Matches(labels.Set(s.Labels)) })
		if len(all) != 1 {
			tell("ServiceMonitor %s is about %d Services", m.Name, len(all))
			continue
		}
		for _, e := range m.Spec.Endpoints {
			if !slices.ContainsFunc(all[0].Spec.Ports, func(p core.ServicePort) bool { return p.Name == e.Port && p.TargetPort.StrVal == "admin" }) {
				tell("ServiceMonitor %s asks at port %s of Service %s", m.Name, e.Port, all[0].Name)
			}
		}
		if reached := r.selected(&meta.LabelSelector{MatchLabels: all[0].Spec.Selector}); len(reached) != len(slices.DeleteFunc(r.pods(), func(p pod) bool { return !p.serves() })) {
			tell("ServiceMonitor %s reaches %d workloads", m.Name, len(reached))
		}
	}
}
