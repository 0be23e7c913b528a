package node_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
)

// canary is a text that is in every token and in every notification, and must be
// in no log, metric, error or subject.
const canary = "canary-text"

// secrets are what else must not be there: the signatures of all tokens.
type secrets struct {
	mu  sync.Mutex // protects all
	all []string
}

func (s *secrets) add(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, token[strings.LastIndex(token, ".")+1:])
}

// in returns the first secret that is in a text, else "".
func (s *secrets) in(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range append([]string{canary}, s.all...) {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// guard looks for secrets when the test is over, wherever a node leaves traces.
func (s *site) guard() {
	s.t.Cleanup(func() {
		for where, text := range s.traces() {
			if secret := s.secrets.in(text); secret != "" {
				s.t.Errorf("the %s have %q:\n%.2000s", where, secret, text)
			}
		}
	})
}

// traces are what a node and its JetStream leave behind. A JetStream that has
// ended leaves no subjects.
func (s *site) traces() map[string]string {
	w := httptest.NewRecorder()
	s.node.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return map[string]string{"logs": s.logs.String(), "metrics": w.Body.String(), "subjects": strings.Join(s.subjects(), "\n")}
}

// subjects lists every stream and subject of the JetStream, as it is stored.
func (s *site) subjects() (all []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := nats.Connect("", nats.InProcessServer(s.nats))
	if err != nil {
		return nil
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	for name := range js.StreamNames(ctx).Name() {
		all = append(all, name)
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return all
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			return all
		}
		for subject := range info.State.Subjects {
			all = append(all, subject)
		}
	}
	return all
}

// Each way in which a token, a cookie or a text passes through a node leaves
// traces, and none of them has it. The other tests of the package look too.
func TestNoTraceHasASecret(t *testing.T) {
	s := start(t, func(c *config) {
		c.node.Cookies, c.node.Origins, c.node.MaxPerUser = true, []string{"https://app.example.com"}, 1
	})
	ctx := context.Background()
	jane := s.bearer("acme", acme, issuer.Claims{Subject: "jane", Session: "s1"})
	c := s.connect(jane)
	c.greeting()
	s.post(s.publisher(), good)
	if text := field(t, c.next("notification"), "message"); text != canary {
		t.Fatalf("got %s, want the canary", text)
	}
	cookie := header("Cookie", "__Host-peal="+jane.token)
	page := []edit{header("Authorization"), cookie, header("Origin", "https://app.example.com"), query("realmName=acme&tenantId=" + string(acme))}
	for _, r := range []*http.Request{
		s.request(ctx, "GET", connectPath, jane, ""), // one connection too many
		s.request(ctx, "GET", connectPath, jane, "", page...),
		s.request(ctx, "GET", connectPath, jane, "", header("x-tenantid", string(globex))),
		s.request(ctx, "GET", connectPath, jane, "", header("realmname", canary)),
		s.request(ctx, "GET", connectPath, jane, "", header("Authorization", "Bearer "+flip(jane.token))),
		s.request(ctx, "GET", connectPath, jane, "", query("access_token="+jane.token)),
		s.request(ctx, "GET", connectPath, jane, "", query("lastEventId="+canary)),
		s.request(ctx, "GET", "/"+canary, jane, ""),
		s.request(ctx, "POST", publishPath, jane, good),
		s.request(ctx, "POST", publishPath, s.publisher(), strings.Replace(good, `"title"`, `"heading"`, 1)),
		s.request(ctx, "POST", eventPath, s.publisher(), goodEvent),
		s.request(ctx, "POST", eventPath, s.publisher(), strings.Replace(goodEvent, `"id":"12345"`, `"id":"`+canary+`\n"`, 1)),
		s.request(ctx, "POST", eventsPath, s.publisher(), batch(goodEvent, `{"`+canary+`":1}`)),
		s.request(ctx, "POST", node.Base+"/ticket/sse/session", jane, ""),
		s.request(ctx, "POST", revokePath, s.administrator(acme), `{"user":"jane"}`),
		s.request(ctx, "GET", connectPath, jane, ""), // revoked
		s.request(ctx, "GET", listPath, s.user("acme", acme, "joe"), "", query("before="+canary)),
		s.request(ctx, "GET", listPath, s.user("acme", acme, "joe"), "", query("ticketId="+canary)),
		s.request(ctx, "PUT", readPath, s.user("acme", acme, "joe"), `{"ids":["`+canary+`"]}`),
		s.request(ctx, "PUT", readPath, s.user("acme", acme, "joe"), `{"upTo":"`+canary+`"}`),
	} {
		s.do(r)
	}
	s.logOut("acme", s.logoutToken("acme", map[string]any{"sub": "jane", "canary": canary}))
	c.aborted("REVOKED")

	for where, text := range s.traces() {
		if text == "" {
			t.Errorf("no %s to look at", where)
		}
	}
	for _, want := range []string{"refused", "tokens revoked", "session ended"} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("the log does not tell of %q:\n%s", want, s.logs)
		}
	}
	if !slices.ContainsFunc(s.subjects(), func(name string) bool { return strings.HasPrefix(name, "peal.inbox.") }) {
		t.Error("no subject of an inbox was looked at")
	}
}

// A refusal is told now and then, with how many came, and what class it is of;
// strangers do not fill the log, nor make up classes.
func TestRefusalsAreSampled(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	for range 50 {
		s.do(s.request(context.Background(), "GET", connectPath, jane, "", header("Authorization", "Bearer "+flip(jane.token))))
		s.do(s.request(context.Background(), "GET", connectPath, jane, "", header("realmname", "r"+time.Now().Format("150405.000000000"))))
	}
	logs := s.logs.String()
	for line, want := range map[string]int{"msg=refused": 2, "reason=signature realm=acme": 1, `reason=unknown_realm realm=""`: 1} {
		if n := strings.Count(logs, line); n != want {
			t.Errorf("%d times %q, want %d:\n%s", n, line, want, logs)
		}
	}
	if got := s.metric(`peal_requests_refused_total{code="UNAUTHENTICATED",reason="signature"}`); got != 50 {
		t.Errorf("counted %v refusals for the signature, want 50", got)
	}
}

// The metrics tell of each realm's keys.
func TestMetricsTellOfTheRealmsKeys(t *testing.T) {
	s := start(t, func(c *config) { c.dark = true })
	eventually(t, "a fetch of the dark realm", func() bool {
		return s.metric(`peal_realm_key_refreshes_total{realm="dark",result="refused"}`) >= 1
	})
	if age := s.metric(`peal_realm_keys_age_seconds{realm="acme"}`); age <= 0 || age > 60 {
		t.Errorf("acme's keys are %v s old", age)
	}
	if age := s.metric(`peal_realm_keys_age_seconds{realm="dark"}`); age < 1e300 {
		t.Errorf("dark's keys, which never came, are %v s old", age)
	}
	if n := s.metric(`peal_realm_key_refreshes_total{realm="acme",result="ok"}`); n != 1 {
		t.Errorf("%v fetches of acme's keys went well, want 1", n)
	}
	cfg := s.realmsWith("strict", nil)
	if _, err := s.node.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Get(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || strings.Contains(string(text), `realm="strict"`) {
		t.Errorf("a realm that is gone has metrics (%v)", err)
	}
}
