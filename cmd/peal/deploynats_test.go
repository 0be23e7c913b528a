package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/cmd/peal/doctor"
	"github.com/pealhq/peal/node"
)

// natsPasswords are those of the users in deploy/nats. They are such as a shell, a URL or
// the configuration could trip over.
var natsPasswords = map[string]string{
	"sys": "1234", "node": "node secret", "edge": "9{edge}#", "dispatch": "dispatch$HOME", "publisher": "p:@/%", "admin": "true",
}

// natsCluster is three nats-servers that run deploy/nats/nats.conf as it is.
type natsCluster struct {
	t         *testing.T
	addresses []string // of clients
	servers   []*process
	env       [][]string // of each server
}

func newNATSCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{t: t}
	var routes []string
	for range 3 {
		routes = append(routes, freeAddress(t))
	}
	for i := range 3 {
		c.addresses = append(c.addresses, freeAddress(t))
		env := []string{
			"NATS_NAME=n" + strconv.Itoa(i+1), "NATS_LISTEN=" + c.addresses[i], "NATS_MONITOR=" + freeAddress(t), "NATS_CLUSTER_LISTEN=" + routes[i],
			"NATS_STORE=" + filepath.Join(t.TempDir(), "store"), "NATS_MAX_FILE=40G", "NATS_ROUTE_PASSWORD=between",
			fmt.Sprintf(`NATS_ROUTES=["nats://route:between@%s", "nats://route:between@%s", "nats://route:between@%s"]`, routes[0], routes[1], routes[2]),
		}
		for user, password := range natsPasswords {
			name := "PEAL_" + strings.ToUpper(user)
			if user == "sys" {
				name = "NATS_SYS"
			}
			env = append(env, name+`_PASSWORD="`+password+`"`)
		}
		c.env = append(c.env, env)
		c.servers = append(c.servers, nil)
		c.start(i)
	}
	for end := time.Now().Add(2 * time.Minute); ; {
		got := do(t, map[string]string{"PEAL_NATS": c.urls("admin")}, "admin", "ensure", "--dry-run")
		if got.status == 0 {
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("no leader: %+v\n%s", got, c.servers[0].log)
		}
	}
}

// start starts one of the servers, again with what it has stored.
func (c *natsCluster) start(i int) {
	c.t.Helper()
	c.servers[i] = startNATSServer(c.t, c.env[i], "-c", "../../deploy/nats/nats.conf")
}

// urls are the addresses for a user.
func (c *natsCluster) urls(user string) string {
	var all []string
	for _, address := range c.addresses {
		all = append(all, (&url.URL{Scheme: "nats", User: url.UserPassword(user, natsPasswords[user]), Host: address}).String())
	}
	return strings.Join(all, ",")
}

// admin runs peal admin as the administrator, and wants it to succeed.
func (c *natsCluster) admin(args ...string) string {
	c.t.Helper()
	got := do(c.t, map[string]string{"PEAL_NATS": c.urls("admin")}, append([]string{"admin"}, args...)...)
	if got.status != 0 {
		c.t.Fatalf("peal admin %v: %+v", args, got)
	}
	return got.stdout
}

// natsClient is a connection of a user's own, past peal.
type natsClient struct {
	t  *testing.T
	nc *nats.Conn
	js jetstream.JetStream
}

func (c *natsCluster) client(user string) *natsClient {
	c.t.Helper()
	nc, err := nats.Connect(c.urls(user), nats.CustomInboxPrefix("_INBOX_PEAL_"+user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return &natsClient{c.t, nc, js}
}

// may reports whether the user may publish to a subject, or subscribe to it. What is
// published says nothing, and asks for no answer.
func (c *natsClient) may(verb, subject string) bool {
	c.t.Helper()
	var sub *nats.Subscription
	var err error
	if verb == "publish" {
		err = c.nc.Publish(subject, []byte("{"))
	} else {
		sub, err = c.nc.SubscribeSync(subject)
	}
	if err == nil {
		err = c.nc.Flush() // the refusal comes before the pong
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if sub != nil {
		sub.Unsubscribe()
	}
	refused := c.nc.LastError()
	return !errors.Is(refused, nats.ErrPermissionViolation) || !strings.Contains(refused.Error(), `"`+subject+`"`)
}

// deployment is who answers clients, and who works, of a deployment.
type deployment struct {
	*rolesSite
	nats        *natsCluster
	edge, works *process
}

func (d *deployment) serve(role, user string) *process {
	d.t.Helper()
	p := start(d.t, "serve", "--roles", role, "--nats", d.nats.urls(user), "--realms", d.realms, "--config", d.config,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s", "--ready-json")
	p.awaitReady(d.t)
	return p
}

// wants sends a request as jane or the desk, and wants a status, and something in the
// answer.
func (d *deployment) wants(status int, want, method, url string, body any) string {
	d.t.Helper()
	got, answer := d.ask(method, url, tenantShared, "jane", body)
	if got != status || !strings.Contains(answer, want) {
		d.t.Errorf("%s %s: %d %s, want %d and %q", method, url, got, answer, status, want)
	}
	return answer
}

// until asks until something is in the answer.
func (d *deployment) until(want, url string) string {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		status, answer := d.ask("GET", url, tenantShared, "jane", nil)
		if status == http.StatusOK && strings.Contains(answer, want) {
			return answer
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s: %d %s, want %q\nedge: %s\nworker: %s", url, status, answer, want, d.edge.log, d.works.log)
		}
	}
}

// everything does what peal is for, as its users do. Each round has ids of its own.
func (d *deployment) everything(round string) {
	d.t.Helper()
	api, admin := d.edge.ready.URL+node.Base, d.edge.ready.Admin
	jane := listen(d.t, d.issuer, d.edge.ready.URL, "/ticket/sse/notifications", "jane")
	list := listen(d.t, d.issuer, d.edge.ready.URL, "/ticket/sse/list/updates", "jane")

	// Events, one and a batch, of which one names a queue; the worker tells, live.
	d.wants(200, "", "PUT", api+"/queue/net", map[string]any{"members": []string{"jane", "joe"}})
	ticket := func(id string) peal.Ticket {
		return peal.Ticket{ID: id + round, Number: "INC", Title: "VPN", AssigneeID: peal.UserRef{ID: "jane"}}
	}
	var batch []peal.TicketEvent
	for i := range 30 {
		batch = append(batch, peal.TicketEvent{ID: fmt.Sprint(round, "batch", i), Type: "comment", Comment: peal.EventComment{ID: "c"}, Ticket: ticket(fmt.Sprint("b", i))})
	}
	d.wants(200, "", "POST", api+"/ticket/events", map[string]any{"events": batch})
	awaitMetric(d.t, d.works.ready.Admin, "peal_events_worked_total", len(batch))
	queued := peal.TicketEvent{ID: round + "queue", Type: "slaBreach", Ticket: peal.Ticket{ID: "q" + round, Number: "INC", Title: "VPN", QueueID: "net"}}
	d.wants(202, "", "POST", api+"/ticket/event", queued)
	jane.until(d.t, "q"+round)
	list.until(d.t, "q"+round)

	// Notifications of a publisher, for many at once.
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprint("user-", i))
	}
	d.wants(202, `"stored":41`, "POST", api+"/ticket/notification", map[string]any{"recipients": append(many, "jane"), "notification": map[string]any{
		"id": "mine" + round, "type": "mention", "ticketId": "m" + round, "ticketNumber": "INC", "title": "t", "message": "m",
	}})
	jane.until(d.t, "m"+round)

	// The inbox.
	d.wants(200, `"unread":32`, "GET", api+"/ticket/notification/count", nil)
	d.wants(200, `"changed":32`, "PUT", api+"/ticket/notification/read", map[string]any{"all": true})
	var page struct{ Cursor string }
	if err := json.Unmarshal([]byte(d.wants(200, `"read":true`, "GET", api+"/ticket/notification/list?limit=3", nil)), &page); err != nil {
		d.t.Fatal(err)
	}
	d.wants(200, page.Cursor, "GET", api+"/ticket/notification/list?wait=1&after="+page.Cursor, nil)
	d.wants(200, "", "PUT", api+"/user/preference", map[string]any{"types": map[string]bool{"comment": false}})
	d.wants(200, `"comment":false`, "GET", api+"/user/preference", nil)

	// What can't be worked on, published by a backend on the bus, becomes a dead letter.
	backend := d.nats.client("publisher")
	ack, err := backend.js.Publish(d.t.Context(), fmt.Sprintf("peal.event.local.%s.=%s", tenantShared, "MQ"), []byte(`{"type":"party"}`))
	if err != nil || ack.Stream != "PEAL_EVENT_local" {
		d.t.Fatalf("a backend publishes: %+v, %v", ack, err)
	}
	ofBus := nats.NewMsg(fmt.Sprintf("peal.event.local.%s.=%s", tenantShared, base64.RawURLEncoding.EncodeToString([]byte("bus"+round))))
	ofBus.Data = peal.TicketEvent{ID: "bus" + round, Type: "slaBreach",
		Ticket: peal.Ticket{ID: "bus" + round, Number: "INC", Title: "VPN", AssigneeID: peal.UserRef{ID: "jane", Namespace: realmAcme}}}.Encode()
	for _, duplicate := range []bool{false, true} {
		ack, err := backend.js.PublishMsg(d.t.Context(), ofBus, jetstream.WithMsgID("bus"+round))
		if err != nil || ack.Duplicate != duplicate {
			d.t.Fatalf("a backend publishes: %+v, %v, want duplicate %v", ack, err, duplicate)
		}
	}
	jane.until(d.t, "bus"+round)
	for _, port := range []string{admin, d.works.ready.Admin} {
		d.until(`"reason"`, port+"/dead")
	}
	var dead deadPage
	if err := json.Unmarshal([]byte(d.until(`"reason"`, admin+"/dead")), &dead); err != nil || len(dead.DeadLetters) != 1 {
		d.t.Fatal(err, dead)
	}
	d.wants(200, "", "GET", d.works.ready.Admin+"/dead/"+dead.DeadLetters[0].ID, nil)
	d.wants(202, "", "POST", admin+"/dead/"+dead.DeadLetters[0].ID+"/retry", nil)
	awaitMetric(d.t, d.works.ready.Admin, "peal_events_buried_total", 2)
	retried := dead.DeadLetters[0].ID
	for end := time.Now().Add(30 * time.Second); len(dead.DeadLetters) != 1 || dead.DeadLetters[0].ID == retried; { // any replica is asked, which may lag
		if err := json.Unmarshal([]byte(d.until(`"reason"`, admin+"/dead")), &dead); err != nil || time.Now().After(end) {
			d.t.Fatal(err, dead)
		}
	}
	d.wants(200, "", "DELETE", d.works.ready.Admin+"/dead/"+dead.DeadLetters[0].ID, nil)

	// What goes across tenants.
	d.wants(200, "", "POST", admin+"/revoke", map[string]any{"realm": realmAcme, "sid": "nobody" + round})
	d.wants(200, "", "POST", d.works.ready.Admin+"/revoke", map[string]any{"realm": realmAcme, "sid": "nobody either" + round})
	d.wants(200, `"notifications":33`, "POST", admin+"/purge", map[string]any{"tenant": tenantShared, "user": "jane"})
	d.wants(200, `"queues":1`, "POST", admin+"/purge", map[string]any{"tenant": tenantShared})
	d.until(`"total":0`, api+"/ticket/notification/count")
}

// quiet wants that a process was refused nothing, ends well, and says so.
func (d *deployment) quiet(p *process) {
	d.t.Helper()
	if status := p.stop(syscall.SIGTERM); status != 0 {
		d.t.Errorf("%v ends with %d", p.cmd.Args, status)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(strings.ToLower(line), "permission") || strings.Contains(line, "do not suffice") {
			d.t.Errorf("%v: %s", p.cmd.Args[2:4], line)
		}
	}
}

// The files in deploy/nats give each role what it needs, and nothing else.
func TestDeployedNATS(t *testing.T) {
	t.Parallel()
	c := newNATSCluster(t)
	d := &deployment{rolesSite: newRolesSite(t, "replicas: 1\n"), nats: c}
	replicated := filepath.Join(t.TempDir(), "peal.yaml")
	if err := os.WriteFile(replicated, []byte("replicas: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if got := c.admin("ensure", "--dry-run", "--config", d.config); !strings.HasSuffix(got, "\n24 streams: 24 to create, 0 fields to change, 0 refused; nothing was done\n") {
		t.Errorf("a dry run says\n%s", got)
	}
	for _, row := range []struct {
		user, roles string
		want        []string // in the only line
	}{
		{"node", "edge,dispatch", []string{"stream PEAL_EVENT_local is missing", "peal admin ensure"}},
		{"edge", "edge", []string{"stream PEAL_EVENT_local is missing", "peal admin ensure"}},
		{"dispatch", "dispatch", []string{"stream PEAL_EVENT_local is missing", "peal admin ensure"}},
		{"edge", "edge,dispatch", []string{"hear what is answered to the role node", "NATS user of that role"}},
		{"publisher", "edge", []string{"rights of this NATS user do not suffice"}},
	} {
		began := time.Now()
		got := do(t, nil, "serve", "--roles", row.roles, "--nats", c.urls(row.user), "--realms", d.realms, "--config", d.config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		for _, want := range row.want {
			if got.status != 1 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, want) {
				t.Fatalf("%s as %s: %+v, want one line with %q", row.roles, row.user, got, want)
			}
		}
		if took := time.Since(began); took > 3*time.Second { // half a second; to wait for an answer takes 4
			t.Fatalf("%s as %s has waited for %v", row.roles, row.user, took)
		}
	}
	for _, step := range []struct{ config, want string }{
		{d.config, "24 streams: 24 created, 0 fields changed, 0 refused\n"},
		{d.config, "24 streams: 0 created, 0 fields changed, 0 refused\n"},
		{replicated, "24 streams: 0 created, 24 fields changed, 0 refused\n"},
		{d.config, "24 streams: 0 created, 0 fields changed, 24 refused\n"},
	} {
		if got := c.admin("ensure", "--config", step.config); !strings.HasSuffix(got, step.want) {
			t.Fatalf("ensure says\n%s\nwant %s", got, step.want)
		}
	}

	d.edge, d.works = d.serve("edge", "edge"), d.serve("dispatch", "dispatch")
	d.everything("1")
	for _, role := range []struct{ user, roles string }{{"edge", "edge"}, {"dispatch", "dispatch"}, {"node", "edge,dispatch"}} {
		f := examined(t, nil, "--roles", role.roles, "--nats", c.urls(role.user), "--realms", d.realms, "--config", d.config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		f.has(doctor.OK, "rights", "that were tried, not to create streams")
		for _, x := range f.Findings {
			if x.Check == "rights" && (x.Status == doctor.Trouble || x.Status == doctor.Warning) {
				t.Errorf("%s: %+v", role.user, x)
			}
		}
	}
	d.quiet(d.works)
	d.quiet(d.serve("dispatch", "dispatch")) // which reads what was purged, and may not purge it again
	d.quiet(d.edge)

	d.edge = d.serve("edge,dispatch", "node")
	d.works = d.edge
	d.everything("2")
	d.quiet(d.edge)

	checkRights(t, c)
	checkReplies(t, c)
}

// checkReplies has JetStream acknowledge what a publisher publishes on subjects of other
// streams, where nothing may be stored of it. In the account of those streams it would be,
// as is seen by an edge that does the same behind it.
func checkReplies(t *testing.T, c *natsCluster) {
	t.Helper()
	publisher, edge, admin := c.client("publisher"), c.client("edge"), c.client("admin")
	event := "peal.event.local." + string(tenantShared) + ".=reply"
	for stream, subject := range map[string]string{
		"PEAL_EVENT_local":    "peal.event.local.another-tenant.%s",
		"KV_PEAL_LIMIT_local": "$KV.PEAL_LIMIT_local." + string(tenantShared) + ".acme.%s.notifications.0",
		"PEAL_STATE_local_0":  "peal.state.local.0." + string(tenantShared) + ".acme.%s",
		"PEAL_INBOX_local_0":  "peal.inbox.local.0." + string(tenantShared) + ".acme.%s",
		"PEAL_DEAD_local":     "peal.dead.local.%s",
	} {
		if err := publisher.nc.PublishRequest(event, fmt.Sprintf(subject, "publisher"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if _, err := publisher.js.Publish(t.Context(), event, []byte("{}")); err != nil { // so the one before has been stored
			t.Fatal(err)
		}
		if err := edge.nc.PublishRequest(event, fmt.Sprintf(subject, "edge"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		s, err := admin.js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		stored := func(who string) bool {
			// An event is stored by its partition.
			_, err := s.GetLastMsgForSubject(t.Context(), strings.Replace(fmt.Sprintf(subject, who), "peal.event.local.", "peal.work.local.*.", 1))
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		for end := time.Now().Add(30 * time.Second); !stored("edge"); {
			if time.Now().After(end) {
				t.Fatalf("what an edge has had acknowledged is not in %s", stream)
			}
		}
		if stored("publisher") {
			t.Errorf("a publisher stores in %s by its reply subject", stream)
		}
	}
}

// checkRights tries what no role must be able to do, and what those need that are not
// asked for it above.
func checkRights(t *testing.T, c *natsCluster) {
	t.Helper()
	const edge, dispatch, node, publisher, admin = 1, 2, 4, 8, 16
	users := []string{"edge", "dispatch", "node", "publisher", "admin"}
	var clients []*natsClient
	for _, user := range users {
		clients = append(clients, c.client(user))
	}
	user := "." + string(tenantShared) + ".acme.jane"
	for _, row := range []struct {
		verb, subject string
		who           int // may
	}{
		{"publish", "$JS.API.STREAM.DELETE.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.DELETE.KV_PEAL_LIMIT_local", admin},
		{"publish", "$JS.API.STREAM.UPDATE.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.UPDATE.KV_PEAL_LIMIT_local", admin},
		{"publish", "$JS.API.STREAM.CREATE.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.CREATE.mine", admin},
		{"publish", "$JS.API.STREAM.CREATE.KV_PEAL_LIMIT_local", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.SNAPSHOT.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.RESTORE.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.LEADER.STEPDOWN.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_INBOX_local_7", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_STATE_local_7", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.KV_PEAL_QUEUE_local", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_DEAD_local", edge | node | admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_EVENT_local", admin},
		{"publish", "$JS.API.STREAM.PURGE.PEAL_ERASED_local", admin},
		{"publish", "$JS.API.STREAM.PURGE.KV_PEAL_REVOKED", admin},
		{"publish", "$JS.API.STREAM.MSG.DELETE.PEAL_INBOX_local_0", admin},
		{"publish", "$JS.API.STREAM.MSG.DELETE.PEAL_EVENT_local", dispatch | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_EVENT_local", dispatch | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.PEAL_STATE_local_7", edge | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_PEAL_LIMIT_local", edge | node | admin},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_PEAL_QUEUE_local", dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_EVENT_local", admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_STATE_local_0", edge | node | admin},
		{"publish", "$JS.API.DIRECT.GET.PEAL_INBOX_local_7.peal.inbox.local.7" + user, edge | dispatch | node | admin},
		{"publish", "$JS.API.DIRECT.GET.KV_PEAL_LIMIT_local.$KV.PEAL_LIMIT_local.a.b.c", edge | node | admin},
		{"publish", "$JS.API.STREAM.INFO.PEAL_EVENT_local", edge | dispatch | node | admin},
		{"publish", "$JS.API.STREAM.LIST", admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_EVENT_local.mine", admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_EVENT_local.dispatch_0.peal.work.local.0.>", dispatch | node | admin},
		{"publish", "$JS.API.CONSUMER.DELETE.PEAL_EVENT_local.dispatch_0", admin},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.PEAL_EVENT_local.dispatch_0", dispatch | node | admin},
		{"publish", "$JS.ACK.PEAL_EVENT_local.dispatch_0.1.1.1.0.0", dispatch | node},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_INBOX_local_7.durable_x_0.peal.inbox.local.7" + user, edge | node | admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_TICKET_local.durable_x_0.peal.ticket.local.t", edge | node | admin},
		{"publish", "$JS.API.CONSUMER.CREATE.PEAL_STATE_local_0.mine.peal.state.local.0.>", admin},
		{"publish", "$JS.API.CONSUMER.INFO.PEAL_INBOX_local_7.durable_x_0", edge | node | admin},
		{"publish", "$JS.API.CONSUMER.DELETE.PEAL_TICKET_local.durable_x_0", edge | node | admin},
		{"publish", "$JS.API.CONSUMER.RESET.PEAL_INBOX_local_0.durable_x_0", edge | node | admin},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.PEAL_INBOX_local_0.durable_x_0", admin},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.PEAL_TICKET_local.durable_x_0", admin},
		{"publish", "$JS.API.CONSUMER.LIST.PEAL_TICKET_local", edge | node | admin},
		{"publish", "$JS.ACK.PEAL_INBOX_local_0.durable_x_0.1.1.1.0.0", edge | node},
		{"publish", "peal.inbox.local.0" + user, edge | dispatch | node},
		{"publish", "peal.state.local.0" + user, edge | node},
		{"publish", "peal.ticket.local.t", dispatch | node},
		{"publish", "peal.dead.local.t", dispatch | node},
		{"publish", "peal.event.local.t.1", edge | dispatch | node | publisher},
		{"publish", "peal.event.other.t.1", 0},
		{"publish", "peal.work.local.0.t.1", 0},
		{"publish", "peal.erased.local", edge | node | admin},
		{"publish", "peal.live.local.0.abcdefg2" + user, 0},
		{"publish", "peal.livestate.local.0.abcdefg2" + user, 0},
		{"publish", "peal.liveticket.local.abcdefg2.t", 0},
		{"publish", "peal.purged.local", edge | node},
		{"publish", "peal.revoked", edge | dispatch | node},
		{"publish", "peal.claimed.local", edge | node},
		{"publish", "peal.roll.local", edge | dispatch | node},
		{"publish", "$KV.PEAL_LIMIT_local.a.b.c", edge | node},
		{"publish", "$KV.PEAL_PREF_local.t.n.u", edge | node},
		{"publish", "$KV.PEAL_QUEUE_local.t.q", edge | node},
		{"publish", "$KV.PEAL_REVOKED.revoked.x", edge | dispatch | node},
		{"publish", "$SYS.REQ.SERVER.PING", 0},
		{"publish", "_INBOX_PEAL_node.x.y", 0},
		{"publish", "anything", 0},
		{"subscribe", "peal.live.local.*.*" + strings.Repeat(".*", 3), edge | node},
		{"subscribe", "peal.livestate.local.>", edge | node},
		{"subscribe", "peal.liveticket.local.>", edge | node},
		{"subscribe", "peal.purged.local", edge | dispatch | node},
		{"subscribe", "peal.revoked", edge | dispatch | node},
		{"subscribe", "peal.claimed.local", edge | dispatch | node},
		{"subscribe", "peal.roll.local", edge | dispatch | node},
		{"subscribe", "peal.event.local.*.*", 0},
		{"subscribe", "peal.inbox.local.>", 0},
		{"subscribe", "peal.dead.local.>", 0},
		{"subscribe", "$KV.>", 0},
		{"subscribe", ">", 0},
		{"subscribe", "_INBOX.>", 0},
		{"subscribe", "_INBOX_PEAL_edge.>", edge},
		{"subscribe", "_INBOX_PEAL_dispatch.>", dispatch},
		{"subscribe", "_INBOX_PEAL_node.>", node},
		{"subscribe", "_INBOX_PEAL_publisher.>", publisher},
		{"subscribe", "_INBOX_PEAL_admin.>", admin},
		{"subscribe", "$SYS.>", 0},
		{"subscribe", "$JS.>", 0},
	} {
		for i, user := range users {
			if got, want := clients[i].may(row.verb, row.subject), row.who&(1<<i) != 0; got != want {
				t.Errorf("%s may %s to %s: %v, want %v", user, row.verb, row.subject, got, want)
			}
		}
	}

	// A roll call is answered by who hears it, to whoever has called.
	answering := c.client("dispatch")
	if _, err := answering.nc.Subscribe("peal.roll.local", func(m *nats.Msg) { m.Respond([]byte("here")) }); err != nil {
		t.Fatal(err)
	}
	if err := answering.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	calling := c.client("edge")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil { // until the other server knows that somebody listens
		if m, err := calling.nc.RequestWithContext(ctx, "peal.roll.local", nil); err == nil {
			if string(m.Data) != "here" {
				t.Errorf("the roll is answered by %q", m.Data)
			}
			return
		}
	}
	t.Error("a roll call is not answered")
}
