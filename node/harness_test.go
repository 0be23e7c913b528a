package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
	"github.com/pealhq/peal/bus/embedded"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// The tenants. acme and globex are of the realm of that name only, shared of
// both with acme as default, split of both without a default.
const (
	acme   peal.Tenant = "11111111-1111-4111-8111-111111111111"
	globex peal.Tenant = "22222222-2222-4222-8222-222222222222"
	shared peal.Tenant = "33333333-3333-4333-8333-333333333333"
	split  peal.Tenant = "44444444-4444-4444-8444-444444444444"
)

const (
	connectPath = node.Base + "/ticket/sse/notifications"
	updatesPath = node.Base + "/ticket/sse/list/updates"
	publishPath = node.Base + "/ticket/notification"

	publisherRole = "notifications:publish"

	// patience bounds whatever a test waits for.
	patience = 20 * time.Second
)

// config is what a test changes of its site.
type config struct {
	node    node.Config
	bus     bus.Config
	tls     bool
	dark    bool                            // adds a realm whose keys cannot be fetched
	listen  func(net.Listener) net.Listener // wraps the public listener
	hang    func(*sluggish)                 // is given what delays the answers of JetStream
	restart func(*restarts)                 // is given what starts JetStream again
}

// site is a node on real sockets, with an issuer and a JetStream of its own.
type site struct {
	t      testing.TB
	issuer *issuer.Issuer
	nats   *embedded.Server
	bus    *bus.Bus
	node   *node.Node

	realms   auth.Config
	verifier *auth.Verifier

	url    string
	admin  string
	roots  *x509.CertPool // of a site with TLS
	client *http.Client
	logs   *logs

	secrets *secrets

	stop, now context.CancelFunc // as a first and a second signal
	served    chan error         // closed after Serve has returned its error
}

func start(t testing.TB, change func(*config)) *site {
	t.Helper()
	s := &site{t: t, logs: &logs{}, secrets: &secrets{}, served: make(chan error, 1)}
	cfg := siteConfig()
	if change != nil {
		change(&cfg)
	}
	dir := t.TempDir()
	s.nats = bustest.ServerIn(t, dir)
	s.bus = bustest.Open(t, s.nats, func(c *bus.Config) {
		cfg.bus.Server = c.Server
		if cfg.hang != nil {
			slow := &sluggish{Server: s.nats}
			cfg.hang(slow)
			cfg.bus.Server = slow
		}
		if cfg.restart != nil {
			again := &restarts{dir: dir, server: s.nats}
			cfg.restart(again)
			cfg.bus.Server = again
		}
		*c = cfg.bus
	})
	s.openIssuer(cfg)
	s.verifier = openVerifier(t, s.realms)
	s.serve(cfg)
	return s
}

// another is a second node of the cluster: it has the realms and the JetStream
// of s, and shares nothing else with it.
func (s *site) another() *site {
	s.t.Helper()
	return s.anotherWith(func(*config) {})
}

// anotherWith is another, with a configuration of its own.
func (s *site) anotherWith(change func(*config)) *site {
	s.t.Helper()
	cfg := siteConfig()
	change(&cfg)
	o := s.prepared(nil, cfg.bus)
	o.serve(cfg)
	return o
}

// prepared is another node that does not serve yet, and reaches JetStream by nats
// if that is not nil.
func (s *site) prepared(nats *sluggish, cfg bus.Config) *site {
	s.t.Helper()
	o := &site{t: s.t, issuer: s.issuer, nats: s.nats, realms: s.realms, logs: &logs{}, secrets: s.secrets, served: make(chan error, 1)}
	o.bus = bustest.Open(s.t, s.nats, func(c *bus.Config) {
		cfg.Server = c.Server
		if nats != nil {
			cfg.Server = nats
		}
		*c = cfg
	})
	o.verifier = openVerifier(s.t, s.realms)
	return o
}

// siteConfig is that of every site, but for what a test changes.
func siteConfig() config {
	return config{node: node.Config{DrainDelay: -1, DrainWindow: -1, ActionHosts: []string{"desk.example.com"}, ConnectsPerUser: -1}}
}

// serve runs the node until the test ends.
func (s *site) serve(cfg config) {
	t := s.t
	t.Helper()
	cfg.node.Logger = slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.node = node.New(cfg.node, s.verifier, s.bus)

	l := node.Listeners{Public: listen(t), Admin: listen(t)}
	scheme := "http://"
	if cfg.tls {
		l.TLS, s.roots = certificate(t)
		scheme = "https://"
	}
	s.url = scheme + l.Public.Addr().String()
	s.admin = "http://" + l.Admin.Addr().String()
	if cfg.listen != nil {
		l.Public = cfg.listen(l.Public)
	}
	var ctx, now context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	now, s.now = context.WithCancel(context.Background())
	go func() { defer close(s.served); s.served <- s.node.Serve(ctx, now, l) }()
	t.Cleanup(func() {
		s.stop()
		s.now()
		for range s.served {
		}
	})
	s.client = s.newClient(func(*http.Transport) {})
	s.guard()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// certificate borrows that of httptest.
func certificate(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return &tls.Config{Certificates: srv.TLS.Certificates}, roots
}

// openIssuer starts an issuer and says who its realms are.
func (s *site) openIssuer(cfg config) {
	t := s.t
	t.Helper()
	keys := httptest.NewUnstartedServer(nil)
	base := "http://" + keys.Listener.Addr().String()
	names := []string{"acme", "globex", "service", "strict"}
	var realms []issuer.Realm
	for _, name := range append(names, "dark") {
		realms = append(realms, issuer.Realm{Name: name, Algorithm: "EdDSA", Audience: "peal"})
	}
	var err error
	if s.issuer, err = issuer.Open("", base, realms); err != nil {
		t.Fatal(err)
	}
	keys.Config.Handler = s.issuer.Handler()
	keys.Start()
	t.Cleanup(keys.Close)

	realm := func(name string, tenants ...peal.Tenant) auth.Realm {
		return auth.Realm{
			Name: name, Issuer: s.issuer.URL(name), JWKS: s.issuer.JWKS(name), Audiences: []string{"peal"},
			Tenants: auth.Tenants{IDs: tenants, Any: len(tenants) == 0}, AllowPrivate: true,
		}
	}
	strict := realm("strict", acme)
	strict.Roles.Connect = "may-connect"
	ac := auth.Config{
		Realms:  []auth.Realm{realm("acme", acme, shared, split), realm("globex", globex, shared, split), realm("service"), strict},
		Tenants: []auth.TenantRow{{ID: shared, DefaultNamespace: "acme"}, {ID: acme, DefaultNamespace: "acme"}, {ID: split}},
	}
	if cfg.dark {
		dark := realm("dark", acme)
		dark.JWKS = base + "/nothing"
		ac.Realms = append(ac.Realms, dark)
	}
	s.realms = ac
}

// openVerifier returns a verifier that has the keys of all realms but the dark
// one.
func openVerifier(t testing.TB, realms auth.Config) *auth.Verifier {
	t.Helper()
	v, err := auth.Open(realms, auth.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	eventually(t, "the realms' keys", func() bool {
		return !slices.ContainsFunc(v.Status(), func(st auth.Status) bool { return !st.Usable && st.Realm != "dark" })
	})
	return v
}

// newClient makes a client that follows no redirect and keeps nothing after the
// test.
func (s *site) newClient(change func(*http.Transport)) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, MaxConnsPerHost: 0}
	change(tr)
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s *site) http2() *http.Client {
	return s.newClient(func(tr *http.Transport) {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetHTTP2(s.roots != nil)
		tr.Protocols.SetUnencryptedHTTP2(s.roots == nil)
	})
}

// token mints a token; the realm is the user's.
func (s *site) token(realm string, c issuer.Claims) string {
	s.t.Helper()
	c.Extra = maps.Clone(c.Extra)
	if c.Extra == nil {
		c.Extra = make(map[string]any)
	}
	c.Extra["canary"] = canary
	token, err := s.issuer.Mint(realm, c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.secrets.add(token)
	return token
}

// user is who calls: a realm, a tenant and a token.
type user struct {
	realm  string
	tenant peal.Tenant
	token  string
}

func (s *site) user(realm string, tenant peal.Tenant, name string) user {
	s.t.Helper()
	return user{realm, tenant, s.token(realm, issuer.Claims{Subject: name})}
}

func (s *site) jane() user { return s.user("acme", acme, "jane") }

func (s *site) publisher() user {
	s.t.Helper()
	return user{"service", acme, s.token("service", issuer.Claims{Subject: "backend", Roles: []string{publisherRole}})}
}

// edit changes a request before it is sent.
type edit func(*http.Request)

func header(name string, values ...string) edit {
	return func(r *http.Request) {
		if len(values) == 0 {
			r.Header.Del(name)
			return
		}
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
}

func method(m string) edit { return func(r *http.Request) { r.Method = m } }

func query(raw string) edit { return func(r *http.Request) { r.URL.RawQuery = raw } }

// onLists has a request for an event stream ask for list updates, onNotifications for
// notifications.
func onLists(r *http.Request)         { r.URL.Path = updatesPath }
func onNotifications(r *http.Request) { r.URL.Path = connectPath }

// request makes a request of a user, good but for the edits.
func (s *site) request(ctx context.Context, method, path string, u user, body string, edits ...edit) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body == "" {
		r.Body, r.ContentLength = nil, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if u.token != "" {
		r.Header.Set("Authorization", "Bearer "+u.token)
		r.Header.Set("realmname", u.realm)
		r.Header.Set("x-tenantid", string(u.tenant))
	}
	for _, e := range edits {
		e(r)
	}
	return r
}

// answer is a whole answer.
type answer struct {
	status int
	proto  int  // 1 or 2
	last   bool // of its connection, as it says
	header http.Header
	body   []byte
	sse.Problem
}

// do sends a request and reads the answer. An event stream is not read.
func (s *site) do(r *http.Request) answer {
	s.t.Helper()
	a, err := s.try(s.client, r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return a
}

func (s *site) try(c *http.Client, r *http.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	resp, err := c.Do(r.WithContext(ctx))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, proto: resp.ProtoMajor, last: resp.Close, header: resp.Header}
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return a, nil
	}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return answer{}, err
	}
	if resp.Header.Get("Content-Type") == "application/problem+json" && r.Method != http.MethodHead {
		err = json.Unmarshal(a.body, &a.Problem)
		if secret := s.secrets.in(string(a.body)); secret != "" {
			s.t.Errorf("the answer has %q: %s", secret, a.body)
		}
	}
	return a, err
}

// post publishes through the API and wants it accepted.
func (s *site) post(u user, body string, edits ...edit) (p struct {
	ID                 string
	Stored, Duplicates int
}) {
	s.t.Helper()
	a := s.do(s.request(context.Background(), "POST", publishPath, u, body, edits...))
	if a.status != http.StatusAccepted {
		s.t.Fatalf("publish: got %d %s, want 202", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// notification makes the JSON of a body for recipients, which are JSON too.
func publication(id string, recipients ...string) string {
	return fmt.Sprintf(`{"recipients":[%s],"notification":{"id":%q,"type":"mention","ticketId":"1","ticketNumber":"INC-1","title":"T","message":"`+canary+`"}}`,
		strings.Join(recipients, ","), id)
}

// store publishes past the API.
func (s *site) store(in peal.Inbox, n peal.Notification) peal.Notification {
	s.t.Helper()
	n = n.WithDefaults(time.Now())
	if _, err := s.bus.Publish(context.Background(), bus.Publication{To: []peal.Inbox{in}, Notification: n}); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func note(id string) peal.Notification {
	return peal.Notification{ID: id, Type: peal.Mention, TicketID: "1", TicketNumber: "INC-1", Title: "T", Message: canary}
}

// bulky is a notification of about 14 kB.
func bulky(id string) peal.Notification {
	n := note(id)
	n.Metadata = peal.Metadata{"filler": strings.Repeat("x", 14000)}
	return n
}

func inbox(user string) peal.Inbox {
	return peal.Inbox{Tenant: acme, Namespace: "acme", User: peal.UserID(user)}
}

func field(t testing.TB, e sse.Event, name string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(e.Data, &v); err != nil {
		t.Fatalf("data of %s: %v", e.Name, err)
	}
	return v[name]
}

// metric reads one series of the admin port; 0 if it is not there.
func (s *site) metric(series string) float64 {
	s.t.Helper()
	resp, err := s.client.Get(s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	value := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			if value, err = strconv.ParseFloat(v, 64); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return value
}

// awaitSlots waits until so many slots are stored in the cluster, and no marker of one
// that was freed.
func (s *site) awaitSlots(want uint64) {
	s.t.Helper()
	js := bustest.JetStream(s.t, s.nats)
	stored := func() map[string]uint64 {
		bucket, err := js.Stream(s.t.Context(), "KV_PEAL_LIMIT_local")
		if err != nil {
			s.t.Fatal(err)
		}
		info, err := bucket.Info(s.t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			s.t.Fatal(err)
		}
		return info.State.Subjects
	}
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%d slots are stored: %v", len(stored()), slices.Sorted(maps.Keys(stored())))
		}
	}()
	eventually(s.t, fmt.Sprintf("%d slots to be stored", want), func() bool { return len(stored()) == int(want) })
}

// eventually waits for something that nobody tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// raw opens a socket and sends the head of a GET for an event stream on it.
func (s *site) raw(u user, receiveBuffer int) net.Conn {
	s.t.Helper()
	d := net.Dialer{}
	c, err := d.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if receiveBuffer > 0 {
		c.(*net.TCPConn).SetReadBuffer(receiveBuffer)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	sendConnect(c, u)
	return c
}

// sendConnect writes the request of a connection.
func sendConnect(w io.Writer, u user) {
	fmt.Fprintf(w, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nrealmname: %s\r\nx-tenantid: %s\r\n\r\n",
		connectPath, u.token, u.realm, u.tenant)
}

// logs collects what is logged.
type logs struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
