package helm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// rest is what a pod may take to end beyond preStop, drain-delay and drain-window: 5 s for
// the last answers, and as much for NATS to be left.
const rest = 10 * time.Second

// machine is the files and the environment of a pod, in a folder here.
type machine struct {
	root string
	env  []string
	args []string
}

// secret is what stands in a file of a Secret or of a ConfigMap that is not the chart's.
type secret struct{ cert, key, realms []byte }

func newSecret(t *testing.T) secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret{
		cert:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		key:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		realms: []byte("realms: [{name: acme, issuer: 'https://a.example', discovery: true, audiences: [peal], tenants: any}]\n"),
	}
}

// file is what a key of a Secret, or of somebody's ConfigMap, holds.
func (s secret) file(key string) []byte {
	switch {
	case strings.HasSuffix(key, ".key"):
		return s.key
	case strings.HasSuffix(key, ".crt"):
		return s.cert
	case strings.HasSuffix(key, ".yaml"):
		return s.realms
	}
	return []byte("credentials")
}

// lay lays a pod out. Paths in peal.yaml are moved to where the files are here.
func lay(t *testing.T, r *release, p pod, s secret) machine {
	t.Helper()
	m := machine{root: t.TempDir(), args: p.container().Args}
	write := func(dir string, item core.KeyToPath, data []byte) {
		data = bytes.ReplaceAll(data, []byte(" /etc/peal/"), []byte(" "+m.root+"/etc/peal/"))
		if err := os.MkdirAll(m.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.root+dir, item.Path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range p.container().VolumeMounts {
		for _, v := range p.template.Spec.Volumes {
			if v.Name != mount.Name {
				continue
			}
			for _, source := range v.Projected.Sources {
				if source.Secret != nil {
					for _, item := range source.Secret.Items {
						write(mount.MountPath, item, s.file(item.Key))
					}
					continue
				}
				own := named[*core.ConfigMap](r, source.ConfigMap.Name)
				for _, item := range source.ConfigMap.Items {
					if own != nil {
						write(mount.MountPath, item, []byte(own.Data[item.Key]))
					} else {
						write(mount.MountPath, item, s.file(item.Key))
					}
				}
			}
		}
	}
	for i, arg := range m.args {
		if strings.HasPrefix(arg, "/") {
			m.args[i] = m.root + arg
		}
	}
	for _, e := range p.container().Env {
		switch {
		case e.ValueFrom != nil && e.Name != "PEAL_NATS": // not peal's, and not here
		case e.ValueFrom != nil:
			m.env = append(m.env, e.Name+"=nats://user:secret@n1:4222,nats://user:secret@n2:4222")
		default:
			m.env = append(m.env, e.Name+"="+strings.Replace(e.Value, "/etc/peal", m.root+"/etc/peal", 1))
		}
	}
	return m
}

// peal runs another command of peal in the place of the pod's, with the same files.
func (m machine) peal(command ...string) (string, error) {
	i := slices.IndexFunc(m.args, func(a string) bool { return strings.HasPrefix(a, "--") })
	cmd := exec.Command(*binary, append(command, m.args[i:]...)...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("peal %s: %w: %s", strings.Join(command, " "), err, out)
	}
	return string(out), nil
}

// settings is what peal says is in force in a pod.
func (m machine) settings(t *testing.T) map[string]any {
	t.Helper()
	out, err := m.peal("config", "print")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]any)
	if err := yaml.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func duration(t *testing.T, v any) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(fmt.Sprint(v))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What peal reads in each pod is a good configuration, and the one that was meant.
func TestPodsAreConfigured(t *testing.T) {
	s := newSecret(t)
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := released(t, file)
			for _, p := range r.pods() {
				m := lay(t, r, p, s)
				got := m.settings(t)
				if p.serves() {
					if _, err := m.peal("config", "check"); err != nil {
						t.Errorf("%v: %v", p.of, err)
					}
					judge(t, p, got)
				}
				for key, want := range told(r.values) {
					if key == "templates" {
						continue // printed with all that goes without saying
					}
					if have := plain(got[key]); have != want {
						t.Errorf("%v: %s is %q, and the values say %q", p.of, key, have, want)
					}
				}
			}
		})
	}
}

// told is what values say in config, in peal's own form.
func told(values map[string]any) map[string]string {
	all := make(map[string]string)
	config, _ := values["config"].(map[string]any)
	for key, v := range config {
		switch v := v.(type) {
		case []any:
			var words []string
			for _, w := range v {
				words = append(words, fmt.Sprint(w))
			}
			all[key] = strings.Join(words, ",")
		case string:
			all[key] = v
			if d, err := time.ParseDuration(v); err == nil {
				all[key] = d.String()
			}
		default:
			all[key] = plain(v)
		}
	}
	return all
}

// plain writes a number as people do.
func plain(v any) string {
	if n, ok := v.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// judge holds a pod against what peal does in it.
func judge(t *testing.T, p pod, got map[string]any) {
	t.Helper()
	for setting, name := range map[string]string{"listen": "http", "admin": "admin"} {
		host, port, err := net.SplitHostPort(fmt.Sprint(got[setting]))
		if err != nil || host != "" || port != strconv.Itoa(int(p.port(name))) {
			t.Errorf("%v: %s is %v, and the port %s is %d", p.of, setting, got[setting], name, p.port(name))
		}
	}
	roles := map[string]string{"edge": "edge", "dispatch": "dispatch", "node": "edge,dispatch"}
	if want := roles[p.template.Labels["app.kubernetes.io/component"]]; got["roles"] != want {
		t.Errorf("%v: roles are %v, want %s", p.of, got["roles"], want)
	}
	if embedded := p.of.kind == "StatefulSet"; embedded != (got["data"] == "/data") || embedded != (got["nats"] == "") {
		t.Errorf("%v: data is %q and nats %q", p.of, got["data"], got["nats"])
	}
	for _, claim := range p.claims {
		if !slices.ContainsFunc(p.container().VolumeMounts, func(m core.VolumeMount) bool { return m.Name == claim && m.MountPath == got["data"] }) {
			t.Errorf("%v: the claim %s is not where data is, %v", p.of, claim, got["data"])
		}
	}
	for _, why := range hurried(p, duration(t, got["drain-delay"])+duration(t, got["drain-window"])) {
		t.Error(why)
	}
}

// hurried tells whether a pod that takes so long to drain is killed before its end.
func hurried(p pod, drain time.Duration) []string {
	needed := drain + rest
	if hook := p.container().Lifecycle; hook != nil && hook.PreStop != nil {
		if hook.PreStop.Sleep == nil {
			return []string{fmt.Sprintf("%v runs something before its end, and there is nothing in the image to run", p.of)}
		}
		needed += time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
	}
	if grace := time.Duration(*p.template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < needed {
		return []string{fmt.Sprintf("%v is killed after %v, and needs %v", p.of, grace, needed)}
	}
	return nil
}

// Every form of a duration that peal takes makes a grace that is long enough, and no more
// than a second too long.
func TestGraceFollowsTheDrain(t *testing.T) {
	for _, tt := range []struct{ delay, window string }{
		{"5s", "30s"}, {"0", "0"}, {"0s", "0s"}, {"1m30s", "2m"}, {"1.5s", "1.25m"}, {"100ms", "1h"}, {"1h2m3s", "500us"}, {"10µs", "999ms1ns"},
	} {
		out, err := template(chart, "--values", chart+"/ci/default.yaml", "--set-string", "config.drain-delay="+tt.delay, "--set-string", "config.drain-window="+tt.window)
		if err != nil {
			t.Fatal(err)
		}
		r, err := read(out)
		if err != nil {
			t.Fatal(err)
		}
		drain := duration(t, tt.delay) + duration(t, tt.window)
		for _, p := range r.pods() {
			if !p.serves() {
				continue
			}
			for _, why := range hurried(p, drain) {
				t.Errorf("delay %s, window %s: %s", tt.delay, tt.window, why)
			}
			preStop := time.Duration(p.container().Lifecycle.PreStop.Sleep.Seconds) * time.Second
			least := preStop + drain + 20*time.Second
			if grace := time.Duration(*p.template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < least || grace > least+2*time.Second {
				t.Errorf("delay %s, window %s: the grace is %v, want %v and at most 2 s more for rounding", tt.delay, tt.window, grace, least)
			}
			if found := hurried(p, drain+time.Hour); len(found) != 1 {
				t.Errorf("a drain of an hour more is not too long for %v: %q", p.of, found)
			}
		}
	}
}

// The garbage collector is told of the limit, however that is written, or not at all.
func TestMemoryIsTold(t *testing.T) {
	for limit, want := range map[string]string{
		"1Gi": "966367641", "512Mi": "483183820", "1.5Gi": "1449551462", "2G": "1800000000", "1073741824": "966367641", "100000k": "90000000", "null": "",
	} {
		out, err := template(chart, "--values", chart+"/ci/default.yaml", "--set", "edge.resources.limits.memory="+limit)
		if err != nil {
			t.Fatal(err)
		}
		r, err := read(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.pods() {
			got := ""
			for _, e := range p.container().Env {
				if e.Name == "GOMEMLIMIT" {
					got = e.Value
				}
			}
			if p.of.GetName() == "peal-edge" && got != want {
				t.Errorf("of a limit of %s GOMEMLIMIT is %q, want %q", limit, got, want)
			}
		}
	}
}

// To Helm a number of a file is one with a fraction, which it writes as 1e+06.
func TestNumbersAreWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	for _, values := range []string{
		"edge: {replicas: 1000000}\ndispatch: {replicas: 1000000}\nensure: {backoffLimit: 1000000, activeDeadlineSeconds: 1000000}\ntermination: {preStopSeconds: 1000000}",
		"autoscaling: {enabled: true, minReplicas: 1000000, maxReplicas: 2000000, connectionsPerPod: 1000000}\ntermination: {marginSeconds: 1000000}",
		"service: {port: 443.0}\nnetworkPolicy: {egress: {enabled: true, natsPorts: [4222.0]}}\ntermination: {gracePeriodSeconds: 1000000}",
	} {
		if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := template(chart, "--values", chart+"/ci/httproute.yaml", "--values", file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(out); err != nil {
			t.Errorf("%s\nmakes %v", values, err)
		}
		if strings.Contains(out, "1e+06") {
			t.Errorf("%s\nmakes a number that is written 1e+06:\n%s", values, out)
		}
	}
}

// Where pods may run, and what else is said of them, is said of each workload by itself. A
// cluster whose policies want a label, or whose nodes are tainted, wants it of the Job too.
func TestPodsAreWhereTheValuesSay(t *testing.T) {
	for mode, workloads := range map[string][]string{"default": {"edge", "dispatch", "ensure"}, "embedded": {"embedded"}} {
		for _, w := range workloads {
			out, err := template(chart, "--values", chart+"/ci/"+mode+".yaml", "--set-json", w+`={"podLabels":{"team":"desk"},"podAnnotations":{"note":"here"},"nodeSelector":{"pool":"desk"},"tolerations":[{"key":"desk","operator":"Exists"}],"affinity":{"nodeAffinity":{}},"priorityClassName":"high"}`)
			if err != nil {
				t.Fatal(err)
			}
			r, err := read(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.pods() {
				spec := p.template.Spec
				for what, set := range map[string]bool{
					"podLabels":         p.template.Labels["team"] == "desk",
					"podAnnotations":    p.template.Annotations["note"] == "here",
					"nodeSelector":      spec.NodeSelector["pool"] == "desk",
					"tolerations":       len(spec.Tolerations) == 1,
					"affinity":          spec.Affinity != nil,
					"priorityClassName": spec.PriorityClassName == "high",
				} {
					want := w == "embedded" || p.of.GetName() == "peal-"+w
					if set != want {
						t.Errorf("%s.%s is set: that %v has it is %v", w, what, p.of, set)
					}
				}
			}
		}
	}
}

// A new tenant restarts nobody, and another setting restarts those who read it.
func TestWhatRestartsPods(t *testing.T) {
	sums := func(args ...string) map[string]string {
		out, err := template(chart, append([]string{"--values", chart + "/ci/default.yaml"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		r, err := read(out)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, p := range r.pods() {
			if p.serves() {
				all[p.of.GetName()] = p.template.Annotations["checksum/config"]
			}
		}
		return all
	}
	before := sums()
	if after := sums("--set", "realms[0].tenants[1]=22222222-2222-4222-8222-222222222222"); !maps.Equal(before, after) {
		t.Errorf("a tenant more restarts pods: %v, before it %v", after, before)
	}
	for name, after := range sums("--set", "config.heartbeat=20s") {
		if after == before[name] || after == "" {
			t.Errorf("%s goes on with the heartbeat of before", name)
		}
	}
}

// The schema knows what peal knows: a setting that is new in one of them is new in both.
func TestSchemaKnowsEverySetting(t *testing.T) {
	out, err := exec.Command(*binary, "config", "print").Output()
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]any)
	if err := yaml.Unmarshal(out, &settings); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Config struct {
				Properties map[string]any `json:"properties"`
			} `json:"config"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	want, got := slices.Sorted(maps.Keys(settings)), slices.Sorted(maps.Keys(schema.Properties.Config.Properties))
	if !slices.Equal(want, got) {
		t.Errorf("the schema has the settings\n%q\nand peal has\n%q", got, want)
	}
}
