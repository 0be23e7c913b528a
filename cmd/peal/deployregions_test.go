package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
)

// madeLists are the files of a folder that regions/lists.sh makes, by their path in it.
func madeLists(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, region := range []string{"eu", "us", "wit"} {
		names, err := fs.Glob(os.DirFS(folder), region+"/*.conf")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if all[name], err = os.ReadFile(filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// What a role may do in a region is made from the lists of a lone one, and from nothing else.
func TestListsOfRegionsAreMadeFromThoseOfOne(t *testing.T) {
	t.Parallel()
	const deployed = "../../deploy/nats"
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(deployed)); err != nil {
		t.Fatal(err)
	}
	regions := filepath.Join(copied, "regions")
	for _, region := range []string{"eu", "us", "wit"} {
		if err := os.RemoveAll(filepath.Join(regions, region)); err != nil {
			t.Fatal(err)
		}
	}
	again := func() (string, error) {
		said, err := exec.Command("sh", filepath.Join(regions, "lists.sh"), "eu us", "wit").CombinedOutput()
		return string(said), err
	}
	if said, err := again(); err != nil {
		t.Fatal(err, said)
	}
	want, got := madeLists(t, filepath.Join(deployed, "regions")), madeLists(t, regions)
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("regions/%s is another: sh deploy/nats/regions/lists.sh 'eu us' wit", name)
		}
	}
	if len(got) != len(want) || len(got) != 13 {
		t.Errorf("%d files are made, %d are there, want 13", len(got), len(want))
	}

	// Of a stream that it does not know it is not guessed whose it is.
	edge := filepath.Join(copied, "edge.conf")
	list, err := os.ReadFile(edge)
	if err != nil {
		t.Fatal(err)
	}
	list = bytes.Replace(list, []byte("    \"$JS.API.INFO\"\n"), []byte("    \"$JS.API.STREAM.PURGE.PEAL_NEW_local\"\n"), 1)
	if err := os.WriteFile(edge, list, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := again(); err == nil || !strings.Contains(said, "PEAL_NEW_local") {
		t.Errorf("a stream that is not known: %v, %q", err, said)
	}
}

// natsRegions is one nats-server for each of three regions, each running
// deploy/nats/regions/nats.conf with the files of its region beside it.
type natsRegions struct {
	t        *testing.T
	ca       *authority
	clusters map[string]*natsCluster
	routes   map[string]string // addresses, by region
	gateways map[string]string
	configs  map[string]string // of peal, in the two that serve
	conf     map[string]string // of each server
}

const ofRegions = "../../deploy/nats/regions"

func newNATSRegions(t *testing.T) *natsRegions {
	t.Helper()
	r := &natsRegions{
		t: t, ca: newAuthority(t), clusters: make(map[string]*natsCluster),
		routes: make(map[string]string), gateways: make(map[string]string), configs: make(map[string]string), conf: make(map[string]string),
	}
	names := []string{"eu", "us", "wit"}
	var gateways []string
	for _, name := range names {
		r.routes[name], r.gateways[name] = freeAddress(t), freeAddress(t)
		gateways = append(gateways, fmt.Sprintf("{name: %s, urls: [\"tls://%s\"]}", name, r.gateways[name]))
	}
	for _, name := range names {
		r.ca.issue(name)
		c := &natsCluster{t: t, addresses: []string{freeAddress(t)}}
		r.clusters[name] = c
		room := "40G"
		if name == "wit" {
			room = "32MB"
		}
		env := []string{
			"NATS_REGION=" + name, "NATS_NAME=" + name + "-1", "NATS_LISTEN=" + c.addresses[0], "NATS_MONITOR=" + freeAddress(t),
			"NATS_CLUSTER_LISTEN=" + r.routes[name], fmt.Sprintf("NATS_ROUTES=[\"tls://%s\"]", r.routes[name]),
			"NATS_GATEWAY_LISTEN=" + r.gateways[name], "NATS_GATEWAY_ADVERTISE=" + r.gateways[name], "NATS_GATEWAYS=[" + strings.Join(gateways, ", ") + "]",
			"NATS_CERT=" + r.ca.file(name+".pem"), "NATS_KEY=" + r.ca.file(name+".key"), "NATS_CA=" + r.ca.file("ca.pem"),
			"NATS_STORE=" + filepath.Join(t.TempDir(), "store"), "NATS_MAX_FILE=" + room,
		}
		for user, password := range natsPasswords {
			switch {
			case user == "sys":
				env = append(env, `NATS_SYS_PASSWORD="`+password+`"`)
			case name != "wit":
				env = append(env, "PEAL_"+strings.ToUpper(user)+`_PASSWORD="`+password+`"`)
			}
		}
		r.conf[name] = r.put(name)
		c.env, c.servers = [][]string{env}, []*process{nil}
		r.startServer(name)
	}
	return r
}

// startServer starts the server of a region, again with what it has stored.
func (r *natsRegions) startServer(name string) {
	r.t.Helper()
	c := r.clusters[name]
	c.servers[0] = startNATSServer(r.t, c.env[0], "-c", r.conf[name])
}

// newSites writes what peal is configured with in the two regions that serve, and
// makes the streams.
func (r *natsRegions) newSites() (eu, us *regionSite) {
	r.t.Helper()
	site := newRolesSite(r.t, "")
	sites := make(map[string]*regionSite)
	for _, region := range []string{"eu", "us"} {
		r.configs[region] = filepath.Join(r.t.TempDir(), "peal.yaml")
		if err := os.WriteFile(r.configs[region], fmt.Appendf(nil,
			"drain-delay: 0s\nreplicas: 1\npartitions: 2\nnats-ca: %s\nregion: %s\nregions: [eu, us]\nhome: eu\nhomes: [%s=us]\nevents-per-tenant: 0\n", r.ca.file("ca.pem"), region, tenantAcme), 0o600); err != nil {
			r.t.Fatal(err)
		}
		here := *site
		here.config = r.configs[region]
		sites[region] = &regionSite{deployment{rolesSite: &here, nats: r.clusters[region]}, r, region}
	}
	r.ensure()
	return sites["eu"], sites["us"]
}

// put puts the files of a server of a region where one has them, and returns the one to
// start with.
func (r *natsRegions) put(region string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(ofRegions, region))); err != nil {
		r.t.Fatal(err)
	}
	conf := filepath.Join(dir, "nats.conf")
	common, err := os.ReadFile(filepath.Join(ofRegions, "nats.conf"))
	if err == nil {
		err = os.WriteFile(conf, common, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return conf
}

// ensure makes the streams, first of all those of each region, then what is a copy of
// another's.
func (r *natsRegions) ensure() {
	r.t.Helper()
	r.awaitLeader()
	var got result
	for range 2 {
		for _, region := range []string{"eu", "us"} {
			got = do(r.t, map[string]string{"PEAL_NATS": r.clusters[region].urls("admin")}, "admin", "ensure", "--config", r.configs[region])
		}
	}
	if got.status != 0 {
		r.t.Fatalf("the second round of peal admin ensure: %+v", got)
	}
}

// awaitLeader returns when a server of each region can ask JetStream.
func (r *natsRegions) awaitLeader() {
	r.t.Helper()
	end := time.Now().Add(2 * time.Minute)
	for _, region := range []string{"eu", "us"} {
		admin := r.client(region, "admin")
		for {
			_, err := admin.js.Stream(r.t.Context(), "none")
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				break
			}
			if time.Now().After(end) {
				r.t.Fatalf("JetStream of %s: %v\n%s", region, err, r.clusters[region].servers[0].log)
			}
		}
	}
}

// client is a connection of a user's own in a region, past peal.
func (r *natsRegions) client(region, user string) *natsClient {
	r.t.Helper()
	var nc *nats.Conn
	var err error
	for end := time.Now().Add(time.Minute); ; {
		nc, err = nats.Connect(r.clusters[region].urls(user), nats.RootCAs(r.ca.file("ca.pem")), nats.CustomInboxPrefix("_INBOX_PEAL_"+user),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		r.t.Fatalf("%s in %s: %v\n%s", user, region, err, r.clusters[region].servers[0].log)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return &natsClient{r.t, nc, js}
}

// regionSite is who answers clients, and who works, in a region.
type regionSite struct {
	deployment
	regions *natsRegions
	region  string
}

func (s *regionSite) start() {
	s.t.Helper()
	s.edge, s.works = s.serve("edge", "edge"), s.serve("dispatch", "dispatch")
}

func (s *regionSite) api() string { return s.edge.ready.URL + node.Base }

// askUntil asks as a user until there is a status, and something in the answer.
func (s *regionSite) askUntil(status int, want, url string, header http.Header) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // between two looks
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		if resp.StatusCode == status && bytes.Contains(answer, []byte(want)) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: %d %s, want %d and %q\nedge: %s\nworker: %s", url, resp.StatusCode, answer, status, want, s.edge.log, s.works.log)
		}
	}
}

// as are the headers of a user in a tenant.
func (s *regionSite) as(tenant peal.Tenant, user string) http.Header {
	s.t.Helper()
	by := target{data: s.issuer, realm: realmAcme, tenant: string(tenant), user: user}
	header, err := by.minted(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return header
}

// drive does what peal is for in this region, as the users of a tenant do whose home is
// the other one.
func (s *regionSite) drive(home *regionSite) {
	s.t.Helper()
	api, admin, region := s.api(), s.edge.ready.Admin, s.region
	jane := listen(s.t, s.issuer, s.edge.ready.URL, "/ticket/sse/notifications", "jane")
	list := listen(s.t, s.issuer, s.edge.ready.URL, "/ticket/sse/list/updates", "jane")
	kept := listen(s.t, s.issuer, s.edge.ready.URL, "/ticket/sse/notifications?durable=wall", "jane")
	there := listen(s.t, s.issuer, home.edge.ready.URL, "/ticket/sse/notifications", "jane")

	// Events, of which one names a queue, and a notification of a publisher; told live.
	s.wants(200, "", "PUT", api+"/queue/net", map[string]any{"members": []string{"jane", "joe"}})
	var batch []peal.TicketEvent
	for i := range 10 {
		batch = append(batch, peal.TicketEvent{ID: fmt.Sprint("batch", i), Type: "comment", Comment: peal.EventComment{ID: "c"},
			Ticket: peal.Ticket{ID: fmt.Sprint("b", i), Number: "INC", Title: "VPN", AssigneeID: peal.UserRef{ID: "jane"}}})
	}
	s.wants(200, "", "POST", api+"/ticket/events", map[string]any{"events": batch})
	awaitMetric(s.t, s.works.ready.Admin, "peal_events_worked_total", len(batch))
	s.wants(202, "", "POST", api+"/ticket/event", peal.TicketEvent{ID: "queue", Type: "slaBreach", Ticket: peal.Ticket{ID: "q", Number: "INC", Title: "VPN", QueueID: "net"}})
	for _, l := range []*listener{jane, list, kept, there} {
		l.until(s.t, "q")
	}
	s.wants(202, `"stored":2`, "POST", api+"/ticket/notification", map[string]any{"recipients": []string{"joe", "jane"}, "notification": map[string]any{
		"id": "mine", "type": "mention", "ticketId": "m", "ticketNumber": "INC", "title": "t", "message": "m",
	}})
	for _, l := range []*listener{jane, kept, there} {
		l.until(s.t, "m")
	}

	// The inbox, and what else is the user's.
	s.wants(200, `"name":"wall"`, "GET", api+"/ticket/sse/durable", nil)
	s.wants(200, `"unread":12`, "GET", api+"/ticket/notification/count", nil)
	s.wants(200, `"changed":12`, "PUT", api+"/ticket/notification/read", map[string]any{"all": true})
	s.wants(200, `"read":true`, "GET", api+"/ticket/notification/list?limit=3", nil)
	home.until(`"unread":0`, home.api()+"/ticket/notification/count")
	s.wants(200, "", "PUT", api+"/user/preference", map[string]any{"types": map[string]bool{"comment": false}})
	s.wants(200, `"comment":false`, "GET", api+"/user/preference", nil)
	home.until(`"comment":false`, home.api()+"/user/preference")

	// What a backend publishes on the bus, of which some can't be worked on: in either region
	// a dead letter names jane.
	for _, at := range []*regionSite{s, home} {
		backend := s.regions.client(at.region, "publisher")
		of := func(ticket string) string {
			return fmt.Sprintf("peal.event.%s.%s.=%s", at.region, tenantShared, base64.RawURLEncoding.EncodeToString([]byte(ticket)))
		}
		told := peal.TicketEvent{ID: "bus" + at.region, Type: "slaBreach",
			Ticket: peal.Ticket{ID: "bus" + at.region, Number: "INC", Title: "VPN", AssigneeID: peal.UserRef{ID: "jane", Namespace: realmAcme}}}.Encode()
		for subject, body := range map[string][]byte{of("bus" + at.region): told, of("party"): []byte(`{"type":"party","by":"jane"}`)} {
			if ack, err := backend.js.Publish(s.t.Context(), subject, body); err != nil || ack.Stream != "PEAL_EVENT_"+at.region {
				s.t.Fatalf("a backend publishes: %+v, %v", ack, err)
			}
		}
		jane.until(s.t, "bus"+at.region)
		at.until(`"reason"`, at.edge.ready.Admin+"/dead")
	}
	var dead deadPage
	if err := json.Unmarshal([]byte(s.until(`"reason"`, s.works.ready.Admin+"/dead")), &dead); err != nil || len(dead.DeadLetters) != 1 {
		s.t.Fatal(err, dead)
	}
	s.wants(202, "", "POST", admin+"/dead/"+dead.DeadLetters[0].ID+"/retry", nil)
	awaitMetric(s.t, s.works.ready.Admin, "peal_events_buried_total", 2)

	// What goes across tenants, and regions.
	mallory := s.as(tenantShared, "mallory")
	home.askUntil(200, "", home.api()+"/ticket/notification/count", mallory)
	s.wants(200, "", "POST", admin+"/revoke", map[string]any{"tenant": tenantShared, "user": map[string]any{"id": "mallory", "namespace": realmAcme}})
	home.askUntil(401, "UNAUTHENTICATED", home.api()+"/ticket/notification/count", mallory)
	s.wants(200, "", "POST", s.works.ready.Admin+"/revoke", map[string]any{"realm": realmAcme, "sid": "nobody" + region})
	s.wants(204, "", "DELETE", api+"/ticket/sse/durable/wall", nil)
	s.wants(200, `"notifications":14`, "POST", admin+"/purge", map[string]any{"tenant": tenantShared, "user": "jane"})
	s.wants(200, `"queues":1`, "POST", admin+"/purge", map[string]any{"tenant": tenantShared})
	for _, at := range []*regionSite{s, home} {
		at.until(`"total":0`, at.api()+"/ticket/notification/count")
		at.until(`"deadLetters":[]`, at.edge.ready.Admin+"/dead")
	}
}

// The files in deploy/nats/regions join regions by TLS, and give each role in each region what
// it needs, and nothing else.
func TestDeployedNATSRegions(t *testing.T) {
	t.Parallel()
	r := newNATSRegions(t)
	eu, us := r.newSites()
	eu.start()
	us.start()
	us.drive(eu)

	// Where the other region is the home.
	if status, answer := eu.ask("POST", eu.api()+"/ticket/event", tenantAcme, "desk", comment("e")); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, answer)
	}
	for _, s := range []*regionSite{eu, us} {
		s.askUntil(200, `"total":1`, s.api()+"/ticket/notification/count", s.as(tenantAcme, "jane"))
	}

	for _, s := range []*regionSite{eu, us} {
		s.quiet(s.works)
		s.quiet(s.serve("dispatch", "dispatch")) // which reads what was purged
		s.quiet(s.edge)
		s.edge = s.serve("edge,dispatch", "node")
		s.works = s.edge
	}
	for i, s := range []*regionSite{eu, us} {
		event := comment(fmt.Sprint("again", i))
		if status, answer := s.ask("POST", s.api()+"/ticket/event", tenantAcme, "desk", event); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, answer)
		}
		s.askUntil(200, fmt.Sprintf(`"total":%d`, 2+i), s.api()+"/ticket/notification/count", s.as(tenantAcme, "jane"))
	}
	s := us
	s.wants(200, "", "POST", s.edge.ready.Admin+"/purge", map[string]any{"tenant": tenantShared})
	for _, s := range []*regionSite{eu, us} {
		s.quiet(s.edge)
	}

	r.checkRefusals()
	r.checkPlaces()
	r.checkRights()
	r.checkReplies()
	r.checkTLS()
}

// checkRefusals wants that the servers have refused nothing so far, but for a dispatcher
// that tries whether it may purge again what a server has brought back, and leaves that to
// edges.
func (r *natsRegions) checkRefusals() {
	r.t.Helper()
	for region, c := range r.clusters {
		for line := range strings.Lines(c.servers[0].log.String()) {
			again := strings.Contains(line, "user:dispatch") && strings.Contains(line, "$JS.API.STREAM.MSG.GET.PEAL_STATE_")
			if strings.Contains(line, "Violation") && !again {
				r.t.Errorf("%s: %s", region, line)
			}
		}
	}
}

// checkPlaces wants each stream in its region, and none in the one that only votes.
func (r *natsRegions) checkPlaces() {
	r.t.Helper()
	seen := make(map[string]int)
	for s := range r.client("eu", "admin").js.ListStreams(r.t.Context()).Info() {
		name := s.Config.Name
		want := "eu"
		if copied, ok := strings.CutSuffix(name, "_in_us"); ok || !strings.HasSuffix(name, "_in_eu") && slices.Contains(strings.Split(copied, "_"), "us") {
			want = "us"
			if strings.HasPrefix(name, "PEAL_EVENT_eu_") {
				want = "eu"
			}
		}
		if s.Cluster == nil || s.Cluster.Name != want {
			r.t.Errorf("stream %s is in %+v, want %s", name, s.Cluster, want)
		}
		seen[want]++
	}
	// Of each: two partitions with their states, list updates, preferences and queues, as own
	// and as copies; events, those for the other, dead letters, purges, slots; revocations
	// twice.
	if seen["eu"] != 21 || seen["us"] != 21 {
		r.t.Errorf("%v streams, want 21 in either region", seen)
	}
}

// checkRights tries in us what no role must be able to do, or one alone.
func (r *natsRegions) checkRights() {
	r.t.Helper()
	const edge, dispatch, node, publisher, admin = 1, 2, 4, 8, 16
	users := []string{"edge", "dispatch", "node", "publisher", "admin"}
	var clients []*natsClient
	for _, user := range users {
		clients = append(clients, r.client("us", user))
	}
	user := "." + string(tenantShared) + ".acme.jane"
	for _, row := range []struct {
		verb, subject string
		who           int // may
	}{
		{"publish", "$JS.API.STREAM.NAMES", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.LIST", admin},
		{"publish", "$JS.API.STREAM.CREATE.KV_PEAL_LIMIT_us", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.CREATE.KV_PEAL_LIMIT_eu", admin},
		{"publish", "$JS.API.STREAM.CREATE.PEAL_INBOX_eu_0_in_us", admin},
		{"publish", "$JS.API.STREAM.UPDATE.PEAL_INBOX_eu_0_in_us", admin},
		{"publish", "$JS.API.STREAM.DELETE.PEAL_INBOX_eu_0", admin},
		{"publish", "$JS.API.STREAM.DELETE.PEAL_INBOX_eu_0_in_us", admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_INBOX_eu_7", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_INBOX_eu_7_in_us", edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_INBOX_eu_7_in_us.peal.inbox.eu.7" + user, edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_STATE_eu_0_in_us", edge | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_STATE_eu_0", edge | node | admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_TICKET_eu_in_us", edge | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_PEAL_QUEUE_eu", dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_PREF_eu_in_us.$KV.PEAL_PREF_eu.t.n.u", edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_LIMIT_us.$KV.PEAL_LIMIT_us.a.b.c", edge | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_LIMIT_eu.$KV.PEAL_LIMIT_eu.a.b.c", admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_REVOKED_in_us", edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_REVOKED_us", edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_REVOKED", admin},
		{"publish", "$JS.API.STREAM.PURGE.KV_PEAL_REVOKED_in_us", admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_INBOX_eu_7", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_INBOX_us_7_in_eu", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_DEAD_eu", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_EVENT_us_eu", admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_ERASED_eu", admin},
		{"publish", "$JS.API.STREAM.MSG.DELETE.PEAL_DEAD_eu", edge | node | admin},
		{"publish", "$JS.API.STREAM.MSG.DELETE.PEAL_DEAD_us", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.MSG.DELETE.PEAL_INBOX_eu_0_in_us", admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_EVENT_eu", admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_EVENT_us_eu", dispatch | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_ERASED_eu", admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_EVENT_us_eu.dispatch_0.peal.work.us_eu.0.>", dispatch | node | admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_EVENT_eu.dispatch_0.peal.work.eu.0.>", admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_EVENT_eu_us.dispatch_0.peal.work.eu_us.0.>", admin},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.PEAL_EVENT_us_eu.dispatch_0", dispatch | node | admin},
		{"publish", "$JS.ACK.PEAL_EVENT_us_eu.dispatch_0.1.1.1.0.0", dispatch | node},
		{"publish", "$JS.ACK.PEAL_EVENT_eu.dispatch_0.1.1.1.0.0", 0},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_INBOX_eu_7.durable_x_0.peal.inbox.eu.7" + user, edge | node | admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_INBOX_eu_7_in_us.durable_x_0.peal.inbox.eu.7" + user, edge | node | admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_INBOX_eu_7.durable_x_0.peal.inbox.us.7" + user, admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_STATE_eu_0.mine.peal.state.eu.0.>", admin},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.PEAL_INBOX_eu_0.durable_x_0", admin},
		{"publish", "peal.inbox.eu.0" + user, edge | dispatch | node},
		{"publish", "peal.state.eu.0" + user, edge | node},
		{"publish", "peal.ticket.eu.t", dispatch | node},
		{"publish", "peal.dead.us.t", dispatch | node},
		{"publish", "peal.dead.eu.t", 0},
		{"publish", "peal.event.us.t.1", edge | dispatch | node | publisher},
		{"publish", "peal.event.us_eu.t.1", dispatch | node},
		{"publish", "peal.event.eu.t.1", 0},
		{"publish", "peal.event.eu_us.t.1", 0},
		{"publish", "peal.inbox.wit.0" + user, 0},
		{"publish", "peal.erased.eu", edge | node | admin},
		{"publish", "peal.purged.eu", edge | node},
		{"publish", "peal.claimed.eu", edge | node},
		{"publish", "peal.roll.eu", 0},
		{"publish", "peal.live.eu.0.abcdefg2" + user, 0},
		{"publish", "$KV.PEAL_LIMIT_eu.a.b.c", 0},
		{"publish", "$KV.PEAL_PREF_eu.t.n.u", edge | node},
		{"publish", "$KV.PEAL_QUEUE_eu.t.q", edge | node},
		{"publish", "$KV.PEAL_REVOKED_us.revoked.x", edge | dispatch | node},
		{"publish", "$KV.PEAL_REVOKED.revoked.x", 0},
		{"publish", "$SYS.REQ.SERVER.PING", 0},
		{"subscribe", "peal.live.eu.>", edge | node},
		{"subscribe", "peal.livestate.eu.>", edge | node},
		{"subscribe", "peal.liveticket.eu.>", edge | node},
		{"subscribe", "peal.live.>", 0},
		{"subscribe", "peal.purged.eu", edge | dispatch | node},
		{"subscribe", "peal.claimed.eu", edge | dispatch | node},
		{"subscribe", "peal.roll.eu", 0},
		{"subscribe", "peal.event.us_eu.*.*", 0},
		{"subscribe", "peal.inbox.eu.>", 0},
		{"subscribe", "_INBOX_PEAL_edge.>", edge},
		{"subscribe", "$SYS.>", 0},
		{"subscribe", ">", 0},
	} {
		for i, user := range users {
			if got, want := clients[i].may(row.verb, row.subject), row.who&(1<<i) != 0; got != want {
				r.t.Errorf("%s may %s to %s in us: %v, want %v", user, row.verb, row.subject, got, want)
			}
		}
	}
}

// checkReplies has what a publisher publishes in us acknowledged on a subject of another
// region, where nothing may be stored of it.
func (r *natsRegions) checkReplies() {
	r.t.Helper()
	publisher, admin := r.client("us", "publisher"), r.client("eu", "admin")
	event, inbox := "peal.event.us."+string(tenantShared)+".=reply", "peal.inbox.eu.0."+string(tenantShared)+".acme.publisher"
	if err := publisher.nc.PublishRequest(event, inbox, []byte("{}")); err != nil {
		r.t.Fatal(err)
	}
	if _, err := publisher.js.Publish(r.t.Context(), event, []byte("{}")); err != nil { // so the one before has been stored
		r.t.Fatal(err)
	}
	s, err := admin.js.Stream(r.t.Context(), "PEAL_INBOX_eu_0")
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.GetLastMsgForSubject(r.t.Context(), inbox); !errors.Is(err, jetstream.ErrMsgNotFound) {
		r.t.Errorf("a publisher stores in another region by its reply subject: %v", err)
	}
}

// checkTLS wants that nobody is a server who has no certificate of the authority.
func (r *natsRegions) checkTLS() {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.ca.cert)
	stranger := newAuthority(r.t)
	stranger.issue("stranger")
	shown, err := tls.LoadX509KeyPair(stranger.file("stranger.pem"), stranger.file("stranger.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(r.ca.file("us.pem"), r.ca.file("us.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, port := range []string{r.gateways["eu"], r.routes["eu"]} {
		for _, row := range []struct {
			name string
			cert []tls.Certificate
			in   bool
		}{{"no certificate", nil, false}, {"another authority's", []tls.Certificate{shown}, false}, {"one of its own", []tls.Certificate{own}, true}} {
			if got := r.shakesHands(port, &tls.Config{RootCAs: roots, Certificates: row.cert}); got != row.in {
				r.t.Errorf("who shows %s gets in at %s: %v", row.name, port, got)
			}
		}
	}
}

// shakesHands reports whether a server talks with who connects by TLS.
func (r *natsRegions) shakesHands(address string, with *tls.Config) bool {
	r.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	with.ServerName = "127.0.0.1"
	s := tls.Client(c, with)
	if s.Handshake() != nil {
		return false
	}
	_, err = s.Read(make([]byte, 1)) // it greets with what it is
	return err == nil
}
