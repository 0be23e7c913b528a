package helm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mistake in the values fails at helm install, not in a pod at night.
func TestMistakesInValuesAreRefused(t *testing.T) {
	const (
		realms = "realms:\n  - {name: acme, issuer: 'https://login.acme.example/', discovery: true, audiences: [peal], tenants: any}\n"
		nats   = "nats: {urls: ['tls://n1:4222']}\n"
		edge   = nats + realms
		alone  = "mode: embedded\n" + realms
	)
	for _, tt := range []struct {
		name, values string
		want         string // names the key
	}{
		{"nothing", "{}", "/realms"},
		{"no realm", nats, "/realms"},
		{"no NATS", realms, "/nats/urls"},
		{"a mode that there is not", edge + "mode: cluster", "/mode"},
		{"a key that there is not", edge + "replicas: 3", "replicas"},
		{"a key in a wrong place", edge + "edge: {replica: 3}", "/edge"},
		{"a text for a number", edge + "edge: {replicas: three}", "/edge/replicas"},
		{"no replica", edge + "dispatch: {replicas: 0}", "/dispatch/replicas"},
		{"more than one embedded", alone + "embedded: {replicas: 2}", "/embedded"},
		{"a setting that there is not", edge + "config: {drain-windw: 30s}", "drain-windw"},
		{"a setting of the wrong form", edge + "config: {heartbeat: 30}", "/config/heartbeat"},
		{"more connections than can be counted", edge + "config: {max-connections-per-user: 1001}", "/config/max-connections-per-user"},
		{"no heartbeat", edge + "config: {heartbeat: 0}", "/config/heartbeat"},
		{"no heartbeat in words", edge + "config: {heartbeat: '0'}", "/config/heartbeat"},
		{"no heartbeat with units", edge + "config: {heartbeat: 0m0s}", "/config/heartbeat"},
		{"a quick heartbeat", edge + "config: {heartbeat: 999ms}", "config.heartbeat: 999ms must be 1s to 1m"},
		{"a slow heartbeat", edge + "config: {heartbeat: 1m1s}", "config.heartbeat: 1m1s must be 1s to 1m"},
		{"notifications that are not kept", edge + "config: {retain: 0}", "/config/retain"},
		{"notifications that are hardly kept", edge + "config: {retain: 59s}", "config.retain: 59s must be at least 1m"},
		{"connections that end at once", edge + "config: {max-connection-age: 59s}", "config.max-connection-age: 59s must be at least 1m"},
		{"a setting out of bounds", edge + "config: {partitions: 300}", "/config/partitions"},
		{"a duration without a unit", edge + "config: {drain-window: '30'}", "/config/drain-window"},
		{"the embedded NATS for everybody", alone + "embedded: {natsListen: ':4222'}", "/embedded/natsListen"},
		{"the chart's own nats-listen", alone + "config: {nats-listen: '127.0.0.1:4222'}", "config.nats-listen"},
		{"the chart's own listen", edge + "config: {listen: ':80'}", "config.listen"},
		{"the chart's own admin", edge + "config: {admin: ':81'}", "config.admin"},
		{"the chart's own nats", edge + "config: {nats: 'nats://n1'}", "config.nats: "},
		{"the chart's own nats-creds", edge + "config: {nats-creds: /creds}", "config.nats-creds"},
		{"the chart's own roles", edge + "config: {roles: edge}", "config.roles"},
		{"the chart's own realms", edge + "config: {realms: /realms}", "config.realms"},
		{"the chart's own region", edge + "config: {region: eu}", "config.region"},
		{"the chart's own data", alone + "config: {data: /data}", "config.data"},
		{"a bundled NATS", realms + "nats: {enabled: true, urls: ['tls://n1:4222']}", "/nats/enabled"},
		{"a password in a value", realms + "nats: {urls: ['tls://n1:4222', 'tls://edge:secret@n1:4222']}", "nats.urls.1: has a user or password"},
		{"a password of a wrong form", realms + "nats: {urls: ['tls://edge:secret@n1:4222/a b']}", "nats.urls.0: has a user or password"},
		{"a URL of another kind", realms + "nats: {urls: ['http://n1:4222']}", "nats.urls.0: must be a URL"},
		{"a server without a scheme", realms + "nats: {urls: ['n1:4222']}", "nats.urls.0: must be a URL"},
		{"two URLs in one", realms + "nats: {urls: ['tls://n1:4222,tls://n2:4222']}", "nats.urls.0: must be a URL"},
		{"a password for the chart's own nats", edge + "config: {nats: 'nats://edge:secret@n1'}", "config.nats: "},
		{"URLs twice", realms + "nats: {urls: ['tls://n1:4222'], urlsSecret: {name: peal-nats}}", "nats.urlsSecret.name"},
		{"NATS beside the embedded one", alone + nats, "/nats/urls"},
		{"a secret of NATS beside the embedded one", alone + "nats: {urlsSecret: {name: peal-nats}}", "/nats/urlsSecret/name"},
		{"credentials beside the embedded one", alone + "nats: {credsSecret: {name: peal-nats}}", "/nats/credsSecret/name"},
		{"a name in capitals", realms + "nats: {urlsSecret: {name: Peal}}", "/nats/urlsSecret/name"},
		{"a region in capitals", edge + "region: EU", "/region"},
		{"a realm without an issuer", nats + "realms: [{name: acme, discovery: true, audiences: [peal], tenants: any}]", "issuer"},
		{"a realm without keys", nats + "realms: [{name: acme, issuer: 'https://a/', audiences: [peal], tenants: any}]", "jwks"},
		{"a realm without discovery", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: false, audiences: [peal], tenants: any}]", "/realms/0"},
		{"a realm with two sources of keys", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: true, jwks: 'https://a/keys', audiences: [peal], tenants: any}]", "/realms/0"},
		{"a realm without tenants", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: true, audiences: [peal]}]", "tenants"},
		{"a key of a realm that there is not", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: true, audiences: [peal], tenants: any, audience: peal}]", "audience"},
		{"a tenant that is no UUID", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: true, audiences: [peal], tenants: [acme]}]", "/realms/0/tenants"},
		{"an algorithm that can't be had", nats + "realms: [{name: acme, issuer: 'https://a/', discovery: true, audiences: [peal], tenants: any, algorithms: [HS256]}]", "/realms/0/algorithms/0"},
		{"realms twice", edge + "existingRealms: {configMap: ours}", "existingRealms.configMap"},
		{"too short a grace", edge + "termination: {gracePeriodSeconds: 45}", "termination.gracePeriodSeconds: 45 is less than a pod needs: 60"},
		{"too short a grace for a longer window", edge + "termination: {gracePeriodSeconds: 60}\nconfig: {drain-window: 1m30s}", "termination.gracePeriodSeconds: 60 is less than a pod needs: 120"},
		{"no margin", edge + "termination: {marginSeconds: 0}", "/termination/marginSeconds"},
		{"a scaler of one pod", alone + "autoscaling: {enabled: true}", "/autoscaling/enabled"},
		{"a scaler with its bounds crossed", edge + "autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 3}", "autoscaling.minReplicas"},
		{"an ingress without a host", edge + "ingress: {enabled: true}", "/ingress/hosts"},
		{"a preset that there is not", edge + "ingress: {enabled: true, preset: haproxy, hosts: [a.example]}", "/ingress/preset"},
		{"a route of no gateway", edge + "httpRoute: {enabled: true}", "/httpRoute/parentRefs"},
		{"TLS behind a proxy", edge + "tls: {secretName: cert}\ningress: {enabled: true, hosts: [a.example]}", "tls.secretName"},
		{"a traffic policy of no load balancer", edge + "service: {externalTrafficPolicy: Local}", "service.externalTrafficPolicy"},
		{"everybody on the admin port", edge + "networkPolicy: {adminFrom: [{}]}", "/networkPolicy/adminFrom/0"},
		{"an annotation that is no text", edge + "service: {annotations: {a: 1}}", "/service/annotations/a"},
		{"a label of the chart's own", edge + "edge: {podLabels: {app.kubernetes.io/name: bell}}", "/edge/podLabels"},
		{"a component of another's", edge + "dispatch: {podLabels: {app.kubernetes.io/component: edge}}", "/dispatch/podLabels"},
		{"an instance of another's", edge + "ensure: {podLabels: {app.kubernetes.io/instance: bell}}", "/ensure/podLabels"},
		{"a label of Helm's", alone + "embedded: {podLabels: {helm.sh/chart: bell}}", "/embedded/podLabels"},
		{"a sum of one's own", edge + "edge: {podAnnotations: {checksum/config: '1'}}", "/edge/podAnnotations"},
		{"a monitor's label of the chart's own", edge + "serviceMonitor: {labels: {app.kubernetes.io/name: bell}}", "/serviceMonitor/labels"},
		{"a rule's label of the chart's own", edge + "prometheusRule: {labels: {app.kubernetes.io/managed-by: hand}}", "/prometheusRule/labels"},
		{"a dashboard's label of the chart's own", edge + "dashboard: {labels: {app.kubernetes.io/version: '1'}}", "/dashboard/labels"},
		{"a setting in the environment", edge + "env: [{name: PEAL_HEARTBEAT, value: 20s}]", "/env/0/name"},
		{"a quantity that is none", edge + "edge: {resources: {limits: {memory: 1GB}}}", "/edge/resources/limits/memory"},
		{"a tag in the repository", edge + "image: {repository: 'ghcr.io/pealhq/peal:v1'}", "/image/repository"},
		{"a repository with a space", edge + "image: {repository: 'ghcr.io/pealhq /peal'}", "/image/repository"},
		{"a digest that is none", edge + "image: {digest: latest}", "/image/digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(tt.values), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := template(chart, "--values", file)
			if err == nil {
				t.Fatalf("taken:\n%s", tt.values)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("refused with\n%v\nwhich does not name %s", err, tt.want)
			}
			// What refuses goes into logs of who knows what.
			if strings.Contains(err.Error(), ":secret") {
				t.Errorf("refused with\n%v\nwhich shows the password", err)
			}
		})
	}
	for name, values := range map[string]string{
		"edge": edge, "embedded": alone,
		"edge, with labels of a whole":    edge + "edge: {podLabels: {app.kubernetes.io/part-of: desk}}",
		"edge, of a registry with a port": edge + "image: {repository: 'localhost:5000/desk/peal', tag: '1'}",
		"edge, at the lower bounds":       edge + "config: {heartbeat: 1s, retain: 60s, max-connection-age: 0}",
		"edge, at the upper bounds":       nats + "config: {heartbeat: 60s, max-connection-age: 1m}\nrealms: [{name: acme, issuer: 'https://a/', discovery: false, jwks: 'https://a/keys', audiences: [peal], tenants: any}]",
	} {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := template(chart, "--values", file); err != nil {
			t.Errorf("of mode %s something good is refused: %v", name, err)
		}
	}
}
