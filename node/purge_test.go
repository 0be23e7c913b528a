package node_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// purge posts to the admin port.
func (s *site) purge(body string, edits ...edit) answer {
	s.t.Helper()
	r, err := http.NewRequest("POST", s.admin+"/purge", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, e := range edits {
		e(r)
	}
	return s.do(r)
}

// held is how many notifications an inbox holds.
func (s *site) held(in peal.Inbox) int {
	s.t.Helper()
	c, err := s.bus.Count(context.Background(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Total
}

// abandoned is a tenant of no site's.
const abandoned peal.Tenant = "55555555-5555-4555-8555-555555555555"

// A purge erases whom it names and nobody else, answers what that was, and leaves
// one audit line; also of a tenant and a namespace that no realm has any more.
func TestPurgeMeansWhomItNames(t *testing.T) {
	const (
		user   = `{"purged":{"notifications":2,"readStates":0,"preferences":0,"queues":0,"deadLetters":0,"durables":0}}`
		four   = `{"purged":{"notifications":4,"readStates":0,"preferences":0,"queues":0,"deadLetters":0,"durables":0}}`
		nobody = `{"purged":{"notifications":0,"readStates":0,"preferences":0,"queues":0,"deadLetters":0,"durables":0}}`
	)
	of := func(t peal.Tenant, ns peal.Namespace, u peal.UserID) peal.Inbox {
		return peal.Inbox{Tenant: t, Namespace: ns, User: u}
	}
	all := []peal.Inbox{
		of(acme, "acme", "jane"), of(acme, "acme", "joe"), of(acme, "former", "jane"),
		of(shared, "acme", "jane"), of(shared, "globex", "jane"), of(abandoned, "acme", "jane"), of(abandoned, "former", "jane"),
	}
	for _, row := range []struct {
		name, body, want string
		ends             []peal.Inbox
		logged           string
	}{
		{"a user", fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, acme), user, all[:1], "tenant=" + string(acme) + " namespace=acme user=jane notifications=2"},
		{"a user by the tenant's default", fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, strings.ToUpper(string(shared))), user, all[3:4], "namespace=acme user=jane"},
		{"a user of a namespace", fmt.Sprintf(`{"tenant":%q,"user":{"id":"jane","namespace":"globex"}}`, shared), user, all[4:5], "namespace=globex"},
		{"a user of a namespace that no realm has any more", fmt.Sprintf(`{"tenant":%q,"user":{"id":"jane","namespace":"former"}}`, acme), user, all[2:3], "namespace=former"},
		{"a tenant", fmt.Sprintf(`{"tenant":%q}`, shared), four, all[3:5], "tenant=" + string(shared) + " notifications=4"},
		{"who is not there", fmt.Sprintf(`{"tenant":%q,"user":"Jane"}`, acme), nobody, nil, "user=Jane notifications=0"},
		{"a tenant that is not there", fmt.Sprintf(`{"tenant":%q}`, globex), nobody, nil, "tenant=" + string(globex)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			for _, in := range all {
				s.store(in, note("n1"))
				s.store(in, note("n2"))
			}
			s.wantPurged(row.body, row.want, row.logged)
			ends := make(map[peal.Inbox]bool)
			for _, in := range row.ends {
				ends[in] = true
			}
			for _, in := range all {
				want := 2
				if ends[in] {
					want = 0
				}
				if n := s.held(in); n != want {
					t.Errorf("%+v holds %d, want %d", in, n, want)
				}
			}
			s.wantPurged(row.body, nobody, row.logged[:strings.IndexByte(row.logged, '=')])
		})
	}
}

// wantPurged purges, and wants the answer, and a line about it.
func (s *site) wantPurged(body, want, logged string) {
	s.t.Helper()
	before := strings.Count(s.logs.String(), "msg=purged ")
	if a := s.purge(body); a.status != http.StatusOK || string(a.body) != want+"\n" {
		s.t.Errorf("purge %s: got %d %s, want %s", body, a.status, a.body, want)
	}
	lines := strings.SplitAfter(s.logs.String(), "msg=purged ")
	if len(lines) != before+2 || !strings.Contains(lines[len(lines)-1], logged) {
		s.t.Errorf("logged %q, want one line with %s", lines[1:], logged)
	}
}

// No realm has to serve a tenant any more for it to be erased.
func TestAbandonedTenantIsPurged(t *testing.T) {
	s := start(t, nil)
	cfg := s.realms
	cfg.Realms = slices.DeleteFunc(slices.Clone(cfg.Realms), func(r auth.Realm) bool { return r.Tenants.Any })
	if _, err := s.node.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	in := peal.Inbox{Tenant: abandoned, Namespace: "former", User: "jane"}
	for id, body := range map[string]string{
		"n1": fmt.Sprintf(`{"tenant":%q,"user":{"id":"jane","namespace":"former"}}`, abandoned),
		"n2": fmt.Sprintf(`{"tenant":%q}`, abandoned),
	} {
		s.store(in, note(id))
		if a := s.purge(body); a.status != http.StatusOK || s.held(in) != 0 {
			t.Errorf("purge %s: got %d %s, and %d are left", body, a.status, a.body, s.held(in))
		}
	}
	wantProblem(t, s.purge(fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, abandoned)), 400, "INVALID_REQUEST", "user: must name a namespace")
}

func TestPurgeThatIsRefused(t *testing.T) {
	s := start(t, nil)
	in := peal.Inbox{Tenant: acme, Namespace: "acme", User: "jane"}
	s.store(in, note("n1"))
	tenant := fmt.Sprintf(`"tenant":%q`, acme)
	for _, row := range []struct {
		name, body string
		edit       edit
		status     int
		code       string
		detail     string
	}{
		{"nothing", `{}`, nil, 400, "INVALID_REQUEST", "tenant: must be given"},
		{"null", `null`, nil, 400, "INVALID_REQUEST", "body"},
		{"no JSON", `{`, nil, 400, "INVALID_REQUEST", "body"},
		{"a user of any tenant", `{"user":"jane"}`, nil, 400, "INVALID_REQUEST", "tenant"},
		{"a tenant that is null", `{"tenant":null,"user":"jane"}`, nil, 400, "INVALID_REQUEST", "tenant"},
		{"a tenant that is no UUID", `{"tenant":"acme"}`, nil, 400, "INVALID_REQUEST", "tenant: must be a UUID"},
		{"a tenant that is a wildcard", `{"tenant":"*"}`, nil, 400, "INVALID_REQUEST", "tenant: must be a UUID"},
		{"an empty tenant", `{"tenant":""}`, nil, 400, "INVALID_REQUEST", "tenant: must be a UUID"},
		{"a user that is null", `{` + tenant + `,"user":null}`, nil, 400, "INVALID_REQUEST", "user"},
		{"an empty user", `{` + tenant + `,"user":""}`, nil, 400, "INVALID_REQUEST", "user"},
		{"a user without an id", `{` + tenant + `,"user":{"namespace":"acme"}}`, nil, 400, "INVALID_REQUEST", "user"},
		{"a user of nothing", `{` + tenant + `,"user":{}}`, nil, 400, "INVALID_REQUEST", "user"},
		{"an empty namespace", `{` + tenant + `,"user":{"id":"jane","namespace":""}}`, nil, 400, "INVALID_REQUEST", "user: the namespace"},
		{"a namespace that is a wildcard", `{` + tenant + `,"user":{"id":"jane","namespace":"*"}}`, nil, 400, "INVALID_REQUEST", "user: the namespace"},
		{"many users", `{` + tenant + `,"user":["jane"]}`, nil, 400, "INVALID_REQUEST", "user"},
		{"an unknown field", `{` + tenant + `,"namespace":"acme"}`, nil, 400, "INVALID_REQUEST", "namespace"},
		{"a field in capitals", `{` + tenant + `,"User":"jane"}`, nil, 400, "INVALID_REQUEST", "User"},
		{"a user given twice", `{` + tenant + `,"user":"jane","user":"joe"}`, nil, 400, "INVALID_REQUEST", "user"},
		{"a bare user of a tenant without a default", fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, split), nil, 400, "INVALID_REQUEST", "user"},
		{"a form", `{` + tenant + `}`, header("Content-Type", "application/x-www-form-urlencoded"), 415, "UNSUPPORTED_MEDIA_TYPE", ""},
		{"a page in a browser", `{` + tenant + `}`, header("Origin", s.admin), 403, "FORBIDDEN", "browser"},
		{"another method", `{` + tenant + `}`, method("DELETE"), 405, "METHOD_NOT_ALLOWED", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var edits []edit
			if row.edit != nil {
				edits = []edit{row.edit}
			}
			wantProblem(t, s.purge(row.body, edits...), row.status, row.code, row.detail)
		})
	}
	r, err := http.NewRequest("POST", s.url+"/purge", strings.NewReader(`{`+tenant+`}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	wantProblem(t, s.do(r), 404, "NOT_FOUND", "")
	if n := s.held(in); n != 1 {
		t.Errorf("%d notifications are left, want 1", n)
	}
}

// A purge without NATS is refused, with a line that says what is left.
func TestPurgeWithoutNATS(t *testing.T) {
	s := start(t, nil)
	s.nats.Close()
	wantProblem(t, s.purge(fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, acme)), 503, "UNAVAILABLE", "")
	for _, want := range []string{"purged in part", "user=jane", "left in PEAL_INBOX_local_0 and PEAL_STATE_local_0: ", "left in KV_PEAL_PREF_local: "} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// A purge that has begun goes on without its client: half of it would have to be done
// again.
func TestPurgeOutlivesItsClient(t *testing.T) {
	var nats *sluggish
	s := start(t, func(c *config) { c.hang = func(server *sluggish) { nats = server } })
	jane := inbox("jane")
	s.store(jane, note("n1"))
	nats.delay.Store(int64(200 * time.Millisecond)) // there are several answers to wait for
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", s.admin+"/purge", strings.NewReader(fmt.Sprintf(`{"tenant":%q,"user":"jane"}`, acme)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if a, err := s.try(s.client, r); err == nil {
		t.Fatalf("the client was answered %d before it left: this test shows nothing", a.status)
	}
	nats.delay.Store(0)
	eventually(t, "all is purged", func() bool { return s.held(jane) == 0 && strings.Contains(s.logs.String(), "msg=purged audit=true") })
}
