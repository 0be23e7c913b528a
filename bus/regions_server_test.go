package bus_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// regions are NATS clusters that are joined by gateways, of one server each, which is
// killed and started again at the same address and with the same disk.
type regions struct {
	t       testing.TB
	names   []string
	host    string // an address of this machine that no other test has
	dirs    map[string]string
	servers map[string]*server.Server
}

// The ports of the first region; those of the next are one further each.
const (
	clientPort  = 4222
	clusterPort = 5222
	gatewayPort = 6222
)

// startRegions starts one cluster for each name, and returns when JetStream has a leader
// that all can reach. They end with the test.
func startRegions(t testing.TB, names ...string) *regions {
	t.Helper()
	r := &regions{
		t: t, names: names, host: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)),
		dirs: make(map[string]string), servers: make(map[string]*server.Server),
	}
	for _, name := range names {
		r.dirs[name] = t.TempDir()
	}
	t.Cleanup(func() {
		for name := range r.servers {
			r.kill(name)
		}
	})
	for _, name := range names {
		r.start(name)
	}
	r.await(names...)
	return r
}

func (r *regions) address(first int, name string) (port int, u *url.URL) {
	for i, n := range r.names {
		if n == name {
			port = first + i
		}
	}
	return port, &url.URL{Scheme: "nats", Host: fmt.Sprintf("%s:%d", r.host, port)}
}

// url is the address of a region for clients.
func (r *regions) url(name string) string {
	_, u := r.address(clientPort, name)
	return u.String()
}

// start starts the server of a region, and does not wait for it.
func (r *regions) start(name string) {
	r.t.Helper()
	client, _ := r.address(clientPort, name)
	cluster, route := r.address(clusterPort, name)
	gateway, _ := r.address(gatewayPort, name)
	o := &server.Options{
		ServerName: name + "-1", Host: r.host, Port: client, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: r.dirs[name], JetStreamMaxStore: 64 << 30, JetStreamMaxMemory: 1 << 30,
		Cluster: server.ClusterOpts{Name: name, Host: r.host, Port: cluster},
		Routes:  []*url.URL{route}, // a server alone in its cluster needs one, be it to itself
		Gateway: server.GatewayOpts{Name: name, Host: r.host, Port: gateway},
	}
	for _, other := range r.names {
		_, u := r.address(gatewayPort, other)
		o.Gateway.Gateways = append(o.Gateway.Gateways, &server.RemoteGatewayOpts{Name: other, URLs: []*url.URL{u}})
	}
	s, err := server.NewServer(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.servers[name] = s
	go s.Start()
}

// kill ends the server of a region at once. What is stored stays.
func (r *regions) kill(name string) {
	s := r.servers[name]
	s.Shutdown()
	s.WaitForShutdown()
}

// await waits until JetStream answers in regions.
func (r *regions) await(names ...string) {
	r.t.Helper()
	end := time.Now().Add(time.Minute)
	for _, name := range names {
		for {
			err := r.ask(name)
			if err == nil {
				break
			}
			if time.Now().After(end) {
				r.t.Fatalf("region %s: %v", name, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (r *regions) ask(name string) error {
	nc, err := nats.Connect(r.url(name))
	if err != nil {
		return err
	}
	defer nc.Close()
	// The name of no stream: only a leader of all streams says so.
	msg, err := nc.Request("$JS.API.STREAM.NAMES", nil, time.Second)
	if err != nil {
		return err
	}
	if !r.servers[name].JetStreamIsCurrent() {
		return fmt.Errorf("its JetStream is not up to date yet: %s", msg.Data)
	}
	return nil
}

// jetStream speaks to a region past the bus. It ends with the test.
func (r *regions) jetStream(name string) jetstream.JetStream {
	r.t.Helper()
	nc, err := nats.Connect(r.url(name), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return js
}
