package helm_test

import (
	"slices"
	"strings"
	"testing"
)

// TestChecksSeeMistakes plants a mistake a row into what the chart renders, so that the
// checks can be trusted when they are silent.
func TestChecksSeeMistakes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		file     string // of values
		old, new string
		want     string // in what a check tells, or a reader
	}{
		{"an unknown field", "default", "enableServiceLinks:", "enableServicelinks:", "enableServicelinks"},
		{"a repeated field", "default", "  strategy:\n", "  replicas: 3\n  strategy:\n", `"replicas" already set`},
		{"a text for a number", "default", "periodSeconds: 2", "periodSeconds: soon", "periodSeconds"},
		{"an unknown kind", "default", "kind: PodDisruptionBudget", "kind: PodBudget", "PodBudget is no kind"},
		{"a field of the route", "httproute", "parentRefs:", "parents:", "parents"},
		{"a field of the monitor", "everything", "endpoints:", "endpoint:", "endpoint"},
		{"a field of the rules", "everything", "expr: peal_nats_connected", "query: peal_nats_connected", "query"},
		{"a field of GKE", "ingress-gke", "timeoutSec: 86400", "timeoutSecs: 86400", "timeoutSecs"},

		{"a name in capitals", "default", "name: peal-internal", "name: Peal", "names: Service Peal"},
		{"two of one name", "default", "name: peal-dispatch\n", "name: peal-edge\n", "is there twice"},
		{"another namespace", "default", "namespace: desk", "namespace: default", `names: NetworkPolicy peal is in namespace "default"`},

		{"a workload that selects another's pods", "default", "    matchLabels:\n      app.kubernetes.io/name: peal\n      app.kubernetes.io/instance: \"peal\"\n      app.kubernetes.io/component: edge\n  strategy", "    matchLabels:\n      app.kubernetes.io/name: peal\n  strategy", "selectors: Deployment peal-edge selects 2"},
		{"a budget for nobody", "default", "AlwaysAllow\n  selector:\n    matchLabels:\n", "AlwaysAllow\n  selector:\n    matchLabels:\n      a: b\n", "selectors: PodDisruptionBudget"},
		{"a spread that must be", "default", "ScheduleAnyway", "DoNotSchedule", "does not start where"},
		{"a spread over all", "default", "            matchLabels:\n              app.kubernetes.io/name: peal\n              app.kubernetes.io/instance: \"peal\"\n              app.kubernetes.io/component: edge", "            matchLabels:\n              app.kubernetes.io/name: peal", "is spread among other pods"},
		{"a spread with the old ones", "default", "- pod-template-hash", "- other", "among those that leave"},
		{"a policy about nobody", "default", "  podSelector:\n    matchLabels:\n", "  podSelector:\n    matchLabels:\n      a: b\n", "NetworkPolicy peal is not about Deployment peal-edge"},
		{"a policy about another port", "default", "- port: http", "- port: web", "lets in to port"},
		{"an open admin port", "default", "      from:\n        - podSelector:\n            matchLabels:\n              app.kubernetes.io/name: prometheus\n", "", "lets everybody in to the admin port"},

		{"a service of the dispatchers", "default", "    app.kubernetes.io/component: edge\n  ports:", "    app.kubernetes.io/component: dispatch\n  ports:", "sends clients to Deployment peal-dispatch"},
		{"a service of nobody", "default", "    app.kubernetes.io/component: edge\n  ports:", "    app.kubernetes.io/component: egde\n  ports:", "services: Service peal leads nowhere"},
		{"a service to another port", "default", "targetPort: http", "targetPort: web", "services: Service peal: port http"},
		{"a service of the hook", "default", "peal-ensure\n        app.kubernetes.io/instance: \"peal\"", "peal\n        app.kubernetes.io/instance: \"peal\"", "leads to Job peal-ensure"},
		{"the admin port outside", "default", "  clusterIP: None", "  type: LoadBalancer", "shows the admin port"},
		{"a stateful set of another service", "embedded", "serviceName: peal-internal", "serviceName: peal", "services: StatefulSet peal"},

		{"an ingress to the admin port", "ingress-nginx", "                name: peal\n                port:\n                  name: http", "                name: peal-internal\n                port:\n                  name: admin", "routes: Ingress peal/api/v2/ticketing leads to port admin"},
		{"an ingress to nowhere", "ingress-nginx", "                name: peal\n", "                name: bell\n", "Service bell, which is not there"},
		{"an ingress to another port", "ingress-nginx", "                  name: http", "                  name: web", "a port that Service peal has not"},
		{"a route with a timeout", "httproute", "request: 0s", "request: 15s", "ends event streams"},
		{"a route to another port", "httproute", "          port: 80", "          port: 8081", "routes: HTTPRoute peal leads to a port"},
		{"a configuration of no service", "ingress-gke", `'{"default":"peal"}'`, `'{"default":"bell"}'`, "BackendConfig peal is of no Service"},
		{"health at another port", "ingress-gke", "    port: 8080", "    port: 8081", "asks for health at port 8081"},
		{"draining for too long", "ingress-gke", "drainingTimeoutSec: 60", "drainingTimeoutSec: 3601", "longer than GKE takes"},
		{"draining that is cut short", "ingress-gke", "drainingTimeoutSec: 60", "drainingTimeoutSec: 30", "cuts connections before"},

		{"no startup probe", "default", "startupProbe:", "lifecycleProbe:", "lifecycleProbe"},
		{"liveness that needs NATS", "default", "livenessProbe:\n            httpGet:\n              path: /livez", "livenessProbe:\n            httpGet:\n              path: /readyz", "the liveness probe asks for /readyz"},
		{"a probe of the public port", "default", "              port: admin\n            periodSeconds: 5", "              port: http\n            periodSeconds: 5", "the readiness probe asks at port http"},

		{"a volume that is not there", "default", "- name: files\n              mountPath", "- name: file\n              mountPath", "mounts volume file"},
		{"a config map that is not there", "default", "name: \"peal-realms\"", "name: \"peal-realm\"", "ConfigMap peal-realm is not there"},
		{"a key that is not there", "default", "key: \"realms.yaml\"", "key: \"realm.yaml\"", "has no realm.yaml"},
		{"a secret that no value names", "default", "name: \"peal-nats\"", "name: \"nats\"", "no value names Secret nats"},
		{"credentials that no value names", "region-eu", "name: \"peal-nats-eu\"", "name: \"peal-nats-us\"", "no value names Secret peal-nats-us"},
		{"a scaler of nobody", "everything", "    name: bell-edge\n  minReplicas", "    name: bell\n  minReplicas", "scales bell, which is not there"},
		{"a scaler of what has a number", "everything", "  replicas: 3\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: peal\n      app.kubernetes.io/instance: \"peal\"\n      app.kubernetes.io/component: edge", "  replicas: 7\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: peal\n      app.kubernetes.io/instance: \"peal\"\n      app.kubernetes.io/component: edge", "a new bell-edge does not begin with 3"},
		{"a scaler of what has none", "everything", "  replicas: 3\n  selector:", "  selector:", "a new bell-edge does not begin with 3"},

		{"a job that is no hook", "default", "    helm.sh/hook: pre-install,pre-upgrade\n    helm.sh/hook-weight: \"0\"\n", "", "is no hook"},
		{"a hook that Helm gives up", "default", "activeDeadlineSeconds: 270", "activeDeadlineSeconds: 600", "longer than Helm waits"},
		{"a hook that needs what is made later", "default", "    helm.sh/hook: pre-install,pre-upgrade\n    helm.sh/hook-weight: \"-1\"\n", "", "which is made after it"},
		{"a hook that may run first", "default", "helm.sh/hook-weight: \"-1\"", "helm.sh/hook-weight: \"0\"", "made in any order"},

		{"a password in a config map", "region-eu", "tls://peal-nats-0", "tls://edge:secret@peal-nats-0", "has a URL with a user"},
		{"a password in the environment", "default", "              valueFrom:\n                secretKeyRef:\n                  name: \"peal-nats\"\n                  key: \"edge\"", "              value: nats://edge:secret@n1", "is not of a Secret"},

		{"root", "default", "runAsNonRoot: true", "runAsNonRoot: false", "restricted: Deployment peal-dispatch"},
		{"capabilities", "default", "              drop:\n              - ALL", "              drop: []", "unrestricted capabilities"},
		{"no profile", "embedded", "type: RuntimeDefault", "type: Unconfined", "seccompProfile"},
		{"a writable image", "embedded", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write to its image"},
		{"a token of Kubernetes", "default", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "gets a token"},

		{"variables of services", "default", "enableServiceLinks: false", "enableServiceLinks: true", "gets PEAL_"},
		{"all of the memory", "embedded", "GOMEMLIMIT\n              value: \"1932735283\"", "GOMEMLIMIT\n              value: \"2147483648\"", "GOMEMLIMIT is 2147483648"},
		{"a limit that Go does not know", "embedded", "name: GOMEMLIMIT", "name: MEMLIMIT", "GOMEMLIMIT false"},

		{"one replica that may not go", "default", "  replicas: 2\n", "  replicas: 1\n", "replicas: Deployment"},
		{"two that are alone", "embedded", "replicas: 1", "replicas: 2", "each is a service of its own"},
		{"a pod that a rollback can't replace", "embedded", "podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady", "waits for a pod that never gets ready"},
		{"a volume that goes", "embedded", "whenDeleted: Retain", "whenDeleted: Delete", "loses its volume"},
		{"a quick scaler", "everything", "stabilizationWindowSeconds: 900", "stabilizationWindowSeconds: 60", "takes pods away quickly"},

		{"a monitor of the public port", "everything", "      app.kubernetes.io/component: internal\n  namespaceSelector", "      app.kubernetes.io/component: edge\n  namespaceSelector", "asks at port admin of Service bell"},
		{"a monitor of nobody", "everything", "      app.kubernetes.io/component: internal\n  namespaceSelector", "      app.kubernetes.io/component: outside\n  namespaceSelector", "is about 0 Services"},
		{"a monitor of one workload", "everything", "  publishNotReadyAddresses: true\n  selector:\n", "  publishNotReadyAddresses: true\n  selector:\n    app.kubernetes.io/component: edge\n", "reaches 1 workloads"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := chart + "/ci/" + tt.file + ".yaml"
			good := rendered(t, file)
			bad := strings.ReplaceAll(good, tt.old, tt.new)
			if bad == good {
				t.Fatalf("nothing was planted: there is no %q", tt.old)
			}
			r, err := read(bad)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the reader says %v, want something of %q", err, tt.want)
				}
				return
			}
			r.values = given(t, file)
			found := r.broken()
			if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, tt.want) }) {
				t.Errorf("found %q, want something of %q", found, tt.want)
			}
		})
	}
}
