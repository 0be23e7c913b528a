//go:build linux

package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

// How the cluster is made up.
const (
	servers = 3 // of NATS
	edges   = 3
	workers = 2

	region   = "local"
	audience = "peal"
)

// The realms and tenants: each user id is there in four places, and is four users.
var placements = []placement{
	{"acme", "11111111-1111-4111-8111-111111111111"},
	{"acme", "33333333-3333-4333-8333-333333333333"},
	{"globex", "33333333-3333-4333-8333-333333333333"},
	{"globex", "22222222-2222-4222-8222-222222222222"},
}

// placement is a realm, whose namespace has its name, in a tenant.
type placement struct{ Realm, Tenant string }

// cluster is the service under test, with the issuer of its tokens.
type cluster struct {
	t       *testing.T
	dir     string // for configuration and logs
	network *network
	starter starter
	store   string // of all NATS servers, each with a directory in it

	natsServers []*process
	edges       []*process
	workers     []*process

	issuer     *issuer.Issuer
	issuerURL  string
	issuerDown atomic.Bool

	client http.Client
}

// tuning is what a run sets of the service.
type tuning struct {
	partitions  int
	limit       int
	perInbox    int
	drainWindow time.Duration
	disk        string // size of each server's disk, for mount
	more        string // lines of the configuration
}

// newCluster starts everything and returns when it serves.
func newCluster(t *testing.T, dir string, tune tuning) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: dir, starter: newStarter(t), client: http.Client{Timeout: 10 * time.Second}}
	t.Cleanup(c.client.CloseIdleConnections)
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	pealBinary, natsBinary := binaries(t, bin)
	var names []string
	for i := range servers {
		names = append(names, fmt.Sprint("nats-", i))
	}
	for i := range edges {
		names = append(names, fmt.Sprint("edge-", i))
	}
	for i := range workers {
		names = append(names, fmt.Sprint("work-", i))
	}
	c.network = newNetwork(t, append(names, "clients", "publisher")...)
	t.Cleanup(c.end)
	c.disks(tune.disk)
	realms := c.startIssuer()
	for i := range servers {
		c.natsServers = append(c.natsServers, c.natsServer(natsBinary, i))
		if err := c.natsServers[i].start(c.starter); err != nil {
			t.Fatal(err)
		}
	}
	config := c.write("peal.yaml", fmt.Sprintf("partitions: %d\nreplicas: 3\nper-inbox: %d\nevents-per-tenant: 0\nconnects-per-address: 0\nrequests-per-user: 0\ndrain-delay: 1s\n%s",
		tune.partitions, tune.perInbox, tune.more))
	for i := range edges + workers {
		p := c.service(pealBinary, i, realms, config, tune)
		if i < edges {
			c.edges = append(c.edges, p)
		} else {
			c.workers = append(c.workers, p)
		}
	}
	c.ensure(pealBinary, config)
	for _, p := range append(append([]*process{}, c.edges...), c.workers...) {
		if err := c.serve(p, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) write(name, content string) string {
	c.t.Helper()
	file := filepath.Join(c.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// disks gives each NATS server a disk, in memory, so that what is measured is not the
// disk of this machine; its own where it may be mounted, so that it can be filled.
func (c *cluster) disks(size string) {
	c.t.Helper()
	c.store = filepath.Join(stores(), fmt.Sprint("peal-torture-", os.Getpid()))
	if err := os.Mkdir(c.store, 0o700); err != nil {
		c.t.Fatal(err)
	}
	for i := range servers {
		if err := os.Mkdir(c.disk(i), 0o700); err != nil {
			c.t.Fatal(err)
		}
		if c.network.apart {
			if err := syscall.Mount("tmpfs", c.disk(i), "tmpfs", 0, "size="+size); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// stores is where disks are.
func stores() string {
	if _, err := os.Stat("/dev/shm"); err != nil {
		return os.TempDir()
	}
	return "/dev/shm"
}

func (c *cluster) disk(i int) string { return filepath.Join(c.store, fmt.Sprint("nats-", i)) }

// startIssuer serves the keys of the realms, and returns the realms file.
func (c *cluster) startIssuer() (realms string) {
	c.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(c.network.outside(), "0"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.issuerURL = "http://" + l.Addr().String()
	if c.issuer, err = openIssuer(c.issuerDir(), c.issuerURL); err != nil {
		c.t.Fatal(err)
	}
	keys := c.issuer.Handler()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.issuerDown.Load() {
			panic(http.ErrAbortHandler)
		}
		keys.ServeHTTP(w, r)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	c.t.Cleanup(func() { server.Close(); serving.Wait() })

	var cfg auth.Config
	for _, realm := range []string{"acme", "globex"} {
		r := auth.Realm{Name: realm, Issuer: c.issuer.URL(realm), JWKS: c.issuer.JWKS(realm), Audiences: []string{audience}, AllowPrivate: true}
		for _, p := range placements {
			if p.Realm == realm {
				r.Tenants.IDs = append(r.Tenants.IDs, peal.Tenant(p.Tenant))
			}
		}
		cfg.Realms = append(cfg.Realms, r)
	}
	cfg.Tenants = []auth.TenantRow{{ID: peal.Tenant(placements[1].Tenant), DefaultNamespace: "acme"}}
	content, err := cfg.YAML()
	if err != nil {
		c.t.Fatal(err)
	}
	return c.write("realms.yaml", string(content))
}

func (c *cluster) issuerDir() string { return filepath.Join(c.dir, "issuer") }

// openIssuer opens the issuer whose keys are in a directory. Several processes do, and
// mint.
func openIssuer(dir, url string) (*issuer.Issuer, error) {
	return issuer.Open(dir, url, []issuer.Realm{
		{Name: "acme", Algorithm: "EdDSA", Audience: audience},
		{Name: "globex", Algorithm: "ES256", Audience: audience},
	})
}

// secret is the password of all users of NATS.
const secret = "torture"

// natsServer is server i, which runs the configuration that is deployed.
func (c *cluster) natsServer(binary string, i int) *process {
	c.t.Helper()
	file, err := filepath.Abs("../../../deploy/nats/nats.conf")
	if err != nil {
		c.t.Fatal(err)
	}
	var routes []string
	for j := range servers {
		routes = append(routes, strconv.Quote("nats://route:"+secret+"@"+c.network.hosts[fmt.Sprint("nats-", j)].address(c.t, "cluster")))
	}
	name := fmt.Sprint("nats-", i)
	h := c.network.hosts[name]
	env := []string{
		"NATS_NAME=" + name, "NATS_LISTEN=" + h.address(c.t, "nats"), "NATS_MONITOR=" + h.address(c.t, "monitor"), "NATS_CLUSTER_LISTEN=" + h.address(c.t, "cluster"),
		"NATS_STORE=" + c.disk(i), "NATS_MAX_FILE=40G", "NATS_ROUTES=[" + strings.Join(routes, ", ") + "]", "NATS_ROUTE_PASSWORD=" + secret, "NATS_SYS_PASSWORD=" + secret,
	}
	for _, user := range []string{"NODE", "EDGE", "DISPATCH", "PUBLISHER", "ADMIN"} {
		env = append(env, "PEAL_"+user+"_PASSWORD="+secret)
	}
	return &process{host: h, name: name, args: []string{binary, "-c", file}, env: env, log: filepath.Join(c.dir, name+".log")}
}

// urls are the addresses of NATS for one of its users.
func (c *cluster) urls(user string) string {
	var all []string
	for _, p := range c.natsServers {
		all = append(all, fmt.Sprintf("nats://%s:%s@%s", user, secret, p.host.address(c.t, "nats")))
	}
	return strings.Join(all, ",")
}

// ensure creates the streams, once the servers have agreed on who leads.
func (c *cluster) ensure(binary, config string) {
	c.t.Helper()
	var out []byte
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		var err error
		if out, err = c.edges[0].host.command(binary, "admin", "ensure", "--nats", c.urls("admin"), "--config", config).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.t.Fatalf("peal admin ensure: %s", out)
}

// service is a node or a worker.
func (c *cluster) service(binary string, i int, realms, config string, tune tuning) *process {
	c.t.Helper()
	role, name := "edge", fmt.Sprint("edge-", i)
	if i >= edges {
		role, name = "dispatch", fmt.Sprint("work-", i-edges)
	}
	h := c.network.hosts[name]
	return &process{host: h, name: name, log: filepath.Join(c.dir, name+".log"), args: []string{
		binary, "serve", "--roles", role, "--realms", realms, "--config", config, "--nats", c.urls(role), "--region", region,
		"--listen", h.address(c.t, "public"), "--admin", h.address(c.t, "admin"), "--max-connections-per-user", fmt.Sprint(tune.limit),
		"--heartbeat", heartbeat.String(), "--drain-window", tune.drainWindow.String(), "--ready-json",
	}}
}

// heartbeat is short, for it is what proves that a connection is there.
const heartbeat = 5 * time.Second

// serve starts a node or a worker and waits until it serves. One that can't reach NATS
// yet ends, and is started again, as whatever runs it would.
func (c *cluster) serve(p *process, within time.Duration) error {
	late := time.Now().Add(within)
	for {
		if err := p.start(c.starter); err != nil {
			return err
		}
		_, err := p.line(time.Until(late))
		if err == nil {
			return nil
		}
		p.stop(syscall.SIGKILL, 0)
		if time.Now().After(late) {
			return err
		}
		time.Sleep(200 * time.Millisecond) // as a supervisor does
	}
}

// end ends all that runs.
func (c *cluster) end() {
	for _, p := range append(append(append([]*process{}, c.edges...), c.workers...), c.natsServers...) {
		p.stop(syscall.SIGKILL, time.Second)
	}
	removeStore(c.store)
}

// removeStore removes the disks of a run.
func removeStore(dir string) {
	disks, _ := filepath.Glob(filepath.Join(dir, "nats-*"))
	for _, disk := range disks {
		syscall.Unmount(disk, syscall.MNT_DETACH) // fails for one that is a folder
	}
	os.RemoveAll(dir)
}

// get reads what a monitoring or admin port says.
func (c *cluster) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// leader returns which server leads a stream, as one of them knows; -1 if none does.
func (c *cluster) leader(ctx context.Context, stream string) int {
	for _, p := range c.natsServers {
		body, err := c.get(ctx, "http://"+p.host.address(c.t, "monitor")+"/jsz?accounts=true&streams=true")
		if err != nil {
			continue
		}
		var jsz struct {
			Accounts []struct {
				Streams []struct {
					Name    string `json:"name"`
					Cluster struct {
						Leader string `json:"leader"`
					} `json:"cluster"`
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if json.Unmarshal(body, &jsz) != nil {
			continue
		}
		for _, a := range jsz.Accounts {
			for _, s := range a.Streams {
				if s.Name != stream {
					continue
				}
				for i, p := range c.natsServers {
					if p.name == s.Cluster.Leader {
						return i
					}
				}
			}
		}
	}
	return -1
}
