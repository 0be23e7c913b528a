package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/node"
)

const deployDir = "../../deploy"

// composition is deploy/compose.yaml: what it uses of the format, and nothing else.
type composition struct {
	Name     string
	Services map[string]composed
	Volumes  map[string]any

	NATS        any `yaml:"x-nats"`
	Environment any `yaml:"x-nats-environment"`
	Peal        any `yaml:"x-peal"`
}

type composed struct {
	Image       string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck *struct {
		Test              []string
		Interval, Timeout time.Duration
		Retries           int
	}
	Restart         string
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	Ulimits         map[string]int
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	Sysctls         map[string]int
}

// variable is one of the environment of compose, with what it is by default.
var variable = regexp.MustCompile(`\$\{([A-Z_]+):-([a-z]+)\}`)

func readComposition(t *testing.T) composition {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deployDir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{}
	for _, m := range variable.FindAllStringSubmatch(string(b), -1) {
		if was, ok := defaults[m[1]]; ok && was != m[2] {
			t.Errorf("%s is %s by default in one place and %s in another", m[1], was, m[2])
		}
		defaults[m[1]] = m[2]
	}
	b = variable.ReplaceAll(b, []byte("$2"))
	for line := range bytes.Lines(b) {
		if code, _, _ := bytes.Cut(line, []byte("#")); bytes.Contains(code, []byte("$")) {
			t.Errorf("a variable without a default, by which nothing would start: %s", line)
		}
	}
	var c composition
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// of lists the services whose names begin so.
func (c composition) of(prefix string) (names []string) {
	for name := range c.Services {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mounts tells what is where in a service: path there → folder or file of the tree, or the
// name of a volume.
func (s composed) mounts() (files, volumes map[string]string) {
	files, volumes = map[string]string{}, map[string]string{}
	for _, v := range s.Volumes {
		from, to, _ := strings.Cut(v, ":")
		if rest, ok := strings.CutPrefix(from, "./"); ok {
			files[strings.TrimSuffix(to, ":ro")] = filepath.Join(deployDir, rest)
		} else {
			volumes[to] = from
		}
	}
	return files, volumes
}

// What deploy/compose.yaml names is there, and as the files that it mounts have it.
func TestTheCompositionIsSound(t *testing.T) {
	c := readComposition(t)
	if got := slices.Sorted(maps.Keys(c.Services)); !slices.Equal(got, []string{
		"ensure", "issuer", "nats-1", "nats-2", "nats-3", "peal-1", "peal-2", "prometheus", "proxy"}) {
		t.Fatalf("services %q", got)
	}
	used := map[string]int{}
	for name, s := range c.Services {
		if !regexp.MustCompile(`^[a-z./]+:v?\d+\.\d+\.\d+(-alpine)?$`).MatchString(s.Image) && s.Image != "ghcr.io/pealhq/peal:dev" {
			t.Errorf("%s: the image %s is not pinned", name, s.Image)
		}
		files, volumes := s.mounts()
		for to, file := range files {
			if _, err := os.Stat(file); err != nil || !slices.Contains(s.Volumes, "./"+strings.TrimPrefix(file, deployDir+"/")+":"+to+":ro") {
				t.Errorf("%s: %s is not there (%v), or may be written to", name, file, err)
			}
		}
		for _, volume := range volumes {
			if _, ok := c.Volumes[volume]; !ok {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
			used[volume]++
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") || name != "proxy" && name != "prometheus" {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for on, d := range s.DependsOn {
			target, ok := c.Services[on]
			wants := map[string]bool{
				"service_started":                ok,
				"service_healthy":                target.Healthcheck != nil,
				"service_completed_successfully": target.Restart == "no",
			}
			if !wants[d.Condition] {
				t.Errorf("%s depends on %s, %s, which does not come", name, on, d.Condition)
			}
		}
		if h := s.Healthcheck; h != nil && (len(h.Test) < 2 || h.Test[0] != "CMD" || h.Interval <= 0 || h.Timeout <= 0 || h.Retries < 1) {
			t.Errorf("%s: healthcheck %+v", name, *h)
		}
		if (s.Restart == "no") != (name == "ensure") || s.Restart != "no" && s.Restart != "unless-stopped" {
			t.Errorf("%s: restart %q", name, s.Restart)
		}
	}
	for volume := range c.Volumes {
		if used[volume] != 1 {
			t.Errorf("%d services have the volume %s", used[volume], volume)
		}
	}

	// NATS: each variable of nats.conf is set, and no other; names and folders are their own.
	conf, err := os.ReadFile(filepath.Join(deployDir, "nats/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(string(conf), -1) {
		want[m[1]] = true
	}
	names := map[string]bool{}
	for _, name := range c.of("nats-") {
		s := c.Services[name]
		got := map[string]bool{}
		for k, v := range s.Environment {
			got[k] = v != ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: variables (-want +got):\n%s", name, diff)
		}
		files, _ := s.mounts()
		if files["/etc/nats"] != filepath.Join(deployDir, "nats") || !slices.Equal(s.Command, []string{"nats-server", "-c", "/etc/nats/nats.conf"}) {
			t.Errorf("%s runs %q with %q", name, s.Command, files)
		}
		if !strings.Contains(strings.Join(s.Healthcheck.Test, " "), "http://"+s.Environment["NATS_MONITOR"]+"/healthz") {
			t.Errorf("%s: it is asked %q, and tells at %s", name, s.Healthcheck.Test, s.Environment["NATS_MONITOR"])
		}
		names[s.Environment["NATS_NAME"]] = true
	}
	if len(names) != 3 {
		t.Errorf("NATS_NAME: %v", names)
	}

	// The proxy, Prometheus and the nodes agree about who is where.
	leaving := newSettings(serveDefaults).leaving()
	var public, admin []string
	for _, name := range c.of("peal-") {
		s := c.Services[name]
		if s.StopGracePeriod <= leaving {
			t.Errorf("%s: stop_grace_period is %v: to leave takes %v", name, s.StopGracePeriod, leaving)
		}
		if s.Ulimits["nofile"] < 2*10_000 {
			t.Errorf("%s: nofile is %d", name, s.Ulimits["nofile"])
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s may do more than it needs", name)
		}
		public, admin = append(public, name+s.flag("--listen")), append(admin, name+s.flag("--admin"))
	}
	for _, file := range []string{"proxies/haproxy.cfg", "proxies/nginx.conf"} {
		b, err := os.ReadFile(filepath.Join(deployDir, file))
		if err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`\bpeal-\d:\d+`).FindAllString(string(b), -1)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, public) {
			t.Errorf("%s is for %q, want %q", file, got, public)
		}
	}
	var scraped struct {
		Scrape []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	b, err := os.ReadFile(filepath.Join(deployDir, "prometheus/prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &scraped); err != nil {
		t.Fatal(err)
	}
	if len(scraped.Scrape) != 1 || len(scraped.Scrape[0].Static) != 1 || !slices.Equal(scraped.Scrape[0].Static[0].Targets, admin) {
		t.Errorf("Prometheus asks %+v, want %q", scraped, admin)
	}
	for service, port := range map[string]string{"proxy": "127.0.0.1:8080:80", "prometheus": "127.0.0.1:9090:9090"} {
		if !slices.Equal(c.Services[service].Ports, []string{port}) {
			t.Errorf("%s publishes %q", service, c.Services[service].Ports)
		}
	}
}

// flag is the value of a flag of the command.
func (s composed) flag(name string) string {
	if i := slices.Index(s.Command, name); i >= 0 && i+1 < len(s.Command) {
		return s.Command[i+1]
	}
	return ""
}

// stand runs services of the composition as processes of this machine: each address is one
// of its own, each mounted file and volume a file or folder.
type stand struct {
	composition
	t         *testing.T
	addresses map[string]string // SERVICE:PORT → HOST:PORT
	volumes   map[string]string // name → folder
	realms    string            // the folder that nodes have as /etc/peal
}

func newStand(t *testing.T) *stand {
	s := &stand{composition: readComposition(t), t: t, addresses: map[string]string{}, volumes: map[string]string{}, realms: t.TempDir()}
	for volume := range s.Volumes {
		s.volumes[volume] = t.TempDir()
	}
	b, err := os.ReadFile(filepath.Join(deployDir, "compose/realms.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(s.placed("issuer", string(b)), "//localhost:8090/", "//localhost:"+portOf(s.at("issuer", "8090"))+"/")
	if err := os.WriteFile(filepath.Join(s.realms, "realms.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func (s *stand) at(service, port string) string {
	name := service + ":" + port
	if s.addresses[name] == "" {
		s.addresses[name] = freeAddress(s.t)
	}
	return s.addresses[name]
}

var (
	ofAnyone = regexp.MustCompile(`\b(nats-\d|peal-\d|issuer):(\d+)`)
	ofItself = regexp.MustCompile(`^(?:0\.0\.0\.0|127\.0\.0\.1|):(\d+)$`)
)

// placed is a text of a service with addresses of this machine.
func (s *stand) placed(service, text string) string {
	if m := ofItself.FindStringSubmatch(text); m != nil {
		return s.at(service, m[1])
	}
	return ofAnyone.ReplaceAllStringFunc(text, func(found string) string {
		m := ofAnyone.FindStringSubmatch(found)
		return s.at(m[1], m[2])
	})
}

// start starts a service; more are flags that it has here besides.
func (s *stand) start(service, as string, more ...string) *process {
	s.t.Helper()
	c := s.Services[service]
	files, volumes := c.mounts()
	place := func(text string) string {
		for to, file := range files {
			if file == filepath.Join(deployDir, "compose") {
				file = s.realms
			}
			text = strings.Replace(text, to+"/", file+"/", 1)
		}
		for to, volume := range volumes {
			if text == to {
				return s.volumes[volume]
			}
		}
		return s.placed(service, text)
	}
	env := []string{as + "=1"}
	for k, v := range c.Environment {
		env = append(env, k+"="+place(v))
	}
	var args []string
	for _, word := range c.Command {
		args = append(args, place(word))
	}
	if len(args) > 0 && args[0] == "nats-server" { // which this process is
		args = args[1:]
	}
	return startIn(s.t, env, append(args, more...)...)
}

// The services of deploy/compose.yaml, but for the proxy and Prometheus, come up with what it
// gives them, and who is told something at one node hears it at the other.
func TestTheCompositionComesUp(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, name := range s.of("nats-") {
		s.start(name, "PEAL_TEST_AS_NATS_SERVER")
	}
	issuer := s.start("issuer", "PEAL_TEST_AS_BINARY", "--ready-json")
	issuer.awaitReady(t)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) { // as healthy says
		resp, err := http.Get("http://" + s.at("nats-1", "8222") + "/healthz?js-server-only=true")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("nats-1 is not healthy: %v", err)
		}
	}
	if ensure := s.start("ensure", "PEAL_TEST_AS_BINARY"); ensure.wait(t) != 0 {
		t.Fatalf("ensure has failed:\n%s", ensure.log)
	}
	nodes := map[string]*process{}
	for _, name := range s.of("peal-") {
		nodes[name] = s.start(name, "PEAL_TEST_AS_BINARY", "--ready-json", "--drain-window", "0s")
	}
	for name, p := range nodes {
		p.awaitReady(t)
		if want := portOf(s.at(name, "8080")); portOf(p.ready.URL) != want {
			t.Errorf("%s is at %s, want port %s", name, p.ready.URL, want)
		}
		resp, err := http.Get("http://" + s.at(name, "8081") + "/metrics") // as Prometheus does
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(text, []byte("\npeal_nats_connected 1\n")) {
			t.Errorf("%s: %v, metrics\n%s", name, err, text)
		}
	}

	data := s.volumes["issuer"]
	awaitAdmission(t, data, nodes["peal-2"].ready.URL)
	jane := listen(t, data, nodes["peal-2"].ready.URL, "/ticket/sse/notifications", "jane")
	token := do(t, nil, "token", "--data", data, "--user", "desk", "--tenant", string(tenantShared), "--role", rolePublish)
	told := do(t, map[string]string{"PEAL_TOKEN": strings.TrimSpace(token.stdout)}, "publish", "--url", nodes["peal-1"].ready.URL,
		"--tenant", string(tenantShared), "--to", "jane", "--type", "mention")
	if told.status != 0 || !strings.Contains(told.stdout, `"stored":1`) {
		t.Fatalf("%+v\n%+v", token, told)
	}
	jane.until(t, "12345")
	for name, p := range nodes {
		if status := p.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("%s ends with %d\n%s", name, status, p.log)
		}
	}
}

// awaitAdmission comes back until it is let in, as clients do: for 10 s after the bucket of
// slots was made nobody may be.
func awaitAdmission(t *testing.T, data, url string) {
	t.Helper()
	as := target{data: data, realm: realmAcme, tenant: string(tenantShared), user: "joe"}
	header, err := as.minted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) { // a user may connect twice a second
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+node.Base+"/ticket/sse/notifications", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		if resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(end) {
			t.Fatalf("a connect is answered %s", resp.Status)
		}
	}
}

// The realms file of the composition is that of a peal dev, as the network of compose sees
// it.
func TestTheRealmsOfTheComposition(t *testing.T) {
	file := filepath.Join(deployDir, "compose/realms.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := auth.Parse(file, b)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := openIssuer(t.TempDir(), "http://localhost:8090")
	if err != nil {
		t.Fatal(err)
	}
	want := devRealms(tokens)
	for i, r := range want.Realms {
		want.Realms[i].JWKS = fmt.Sprintf("http://issuer:8090/realms/%s/jwks", r.Name)
	}
	printed := func(c auth.Config) string {
		out, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if diff := cmp.Diff(printed(want), printed(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
