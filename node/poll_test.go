package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

// polling is a poll under way.
type polling struct {
	t        testing.TB
	began    time.Time
	answered chan answer // nothing, if the client left
	leave    context.CancelFunc
}

// poll sends a poll, which ends with the test at the latest.
func (s *site) poll(u user, raw string, edits ...edit) *polling {
	s.t.Helper()
	return s.pollBy(s.client, u, raw, edits...)
}

func (s *site) pollBy(client *http.Client, u user, raw string, edits ...edit) *polling {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &polling{t: s.t, began: time.Now(), answered: make(chan answer, 1), leave: cancel}
	r := s.request(ctx, "GET", listPath, u, "", append([]edit{query(raw)}, edits...)...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if a, err := s.try(client, r); err == nil {
			p.answered <- a
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	return p
}

// answer waits for it.
func (p *polling) answer() answer {
	p.t.Helper()
	select {
	case a := <-p.answered:
		return a
	case <-time.After(patience):
		p.t.Fatal("the poll is not answered")
		return answer{}
	}
}

// page waits for the answer, which must be one.
func (p *polling) page() (got page) {
	p.t.Helper()
	a := p.answer()
	if a.status != http.StatusOK {
		p.t.Fatalf("poll: got %d %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		p.t.Fatalf("%v in %s", err, a.body)
	}
	return got
}

// awaitPolls waits until so many polls wait.
func (s *site) awaitPolls(want float64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprint(want, " polls to wait"), func() bool { return s.metric("peal_polls_waiting") == want })
}

// Without a time to wait a poll is answered with what there is, however many
// reads that takes, oldest first.
func TestPollAnswersAtOnce(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	begin := s.list(jane, "")
	if p := s.list(jane, "after="+begin.Cursor); len(p.Notifications) != 0 || p.More || p.Gap || p.Cursor != begin.Cursor || p.ReadState != begin.ReadState {
		t.Errorf("with nothing there: got %+v, want the same cursor as in %+v", p, begin)
	}
	want := s.stored(1, 150)
	s.mark(jane, `{"ids":["n2"]}`)
	all := s.list(jane, "limit=200&after="+begin.Cursor)
	if diff := cmp.Diff(want, all.ids()); diff != "" || all.More || all.Gap {
		t.Errorf("got more=%v and gap=%v (-want +got):\n%s", all.More, all.Gap, diff)
	}
	newest := s.list(jane, "limit=1")
	if all.Cursor != newest.Cursor || all.ReadState != newest.ReadState {
		t.Errorf("up to %s in %s, want %s in %s", all.Cursor, all.ReadState, newest.Cursor, newest.ReadState)
	}
	if !all.Notifications[1].Read || all.Notifications[0].Read {
		t.Errorf("read: got %+v, want n2 alone", all.Notifications[:2])
	}

	var got []string
	for at, pages := begin.Cursor, 0; ; pages++ {
		p := s.list(jane, "limit=40&after="+at)
		got, at = append(got, p.ids()...), p.Cursor
		if more := pages < 3; p.More != more {
			t.Fatalf("page %d: more is %v", pages, p.More)
		}
		if !p.More {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("by pages (-want +got):\n%s", diff)
	}
	if n := len(s.list(jane, "after="+begin.Cursor).Notifications); n != 50 {
		t.Errorf("%d by default, want 50", n)
	}
}

// A poll waits for the next notification and is answered with it alone; with
// nothing, when its time is up.
func TestPollWaits(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		jane := s.jane()
		begin := s.list(jane, "")
		p := s.pollBy(client, jane, "wait=60&after="+begin.Cursor)
		s.awaitPolls(1)
		if n := s.metric("peal_connections"); n != 0 {
			eventually(t, "the probe to be gone", func() bool { return s.metric("peal_connections") == 0 })
		}
		s.store(inbox("joe"), note("joes"))
		s.mark(jane, `{"ids":["nobodys"]}`)
		s.stored(1, 1)
		got := p.page()
		if diff := cmp.Diff([]string{"n1"}, got.ids()); diff != "" || got.More || got.Gap || got.Cursor != got.Notifications[0].Cursor {
			t.Errorf("got %+v (-want +got):\n%s", got, diff)
		}
		s.awaitPolls(0)

		again := s.pollBy(client, jane, "wait=1&after="+got.Cursor)
		none := again.page()
		if took := time.Since(again.began); took < time.Second {
			t.Errorf("answered after %v, want 1 s", took)
		}
		if len(none.Notifications) != 0 || none.More || none.Gap || none.Cursor != got.Cursor {
			t.Errorf("with nothing: got %+v", none)
		}
		if there := s.pollBy(client, jane, "wait=60&after="+begin.Cursor).page(); len(there.Notifications) != 1 {
			t.Errorf("with something there: got %v", there.ids())
		}
	})
}

// A client that polls in a loop gets each notification once and in order, whoever
// of the nodes it asks.
func TestPollsLoseAndRepeatNothing(t *testing.T) {
	s := start(t, func(c *config) { c.node.RequestsPerUser = -1 })
	nodes := []*site{s, s.another()}
	jane := s.jane()
	at := s.list(jane, "").Cursor
	const total = 300
	published := make(chan []string)
	go func() { published <- s.stored(1, total) }()
	var got []string
	for i := 0; len(got) < total; i++ {
		p := nodes[i%2].poll(jane, fmt.Sprintf("wait=60&limit=%d&after=%s", 1+i%7, at)).page()
		if p.Gap || len(p.Notifications) == 0 {
			t.Fatalf("got %+v", p)
		}
		got, at = append(got, p.ids()...), p.Cursor
	}
	if diff := cmp.Diff(<-published, got); diff != "" {
		t.Errorf("(-published +got):\n%s", diff)
	}
}

// What is no longer stored is declared, and what is still there follows.
func TestPollDeclaresAGap(t *testing.T) {
	s := start(t, func(c *config) { c.bus.PerInbox = 3 })
	jane := s.jane()
	s.stored(1, 1)
	old := s.list(jane, "").Cursor
	s.stored(2, 6)
	for _, wait := range []string{"", "&wait=60"} {
		p := s.list(jane, "after="+old+wait)
		if !p.Gap || len(p.Notifications) == 0 || p.ids()[len(p.ids())-1] != "n6" || p.Cursor != s.list(jane, "").Cursor {
			t.Errorf("truncated%s: got %+v, want a gap and what is stored", wait, p)
		}
		if p := s.list(jane, "after="+p.Cursor); p.Gap || len(p.Notifications) != 0 {
			t.Errorf("truncated%s, then: got %+v, want nothing", wait, p)
		}
		for _, unknown := range []string{"aaaaaaaa-1", old + "000000"} {
			p := s.list(jane, "after="+unknown+wait)
			if !p.Gap || len(p.Notifications) != 0 || p.More {
				t.Errorf("unknown%s: got %+v, want a gap and nothing else", wait, p)
			}
			if p := s.list(jane, "after="+p.Cursor); p.Gap || len(p.Notifications) != 0 {
				t.Errorf("unknown%s, then: got %+v, want nothing", wait, p)
			}
		}
	}
}

// A poll has a slot of its route while it waits, and gives it back however it
// ends.
func TestPollIsAConnectionWhileItWaits(t *testing.T) {
	everyProtocol(t, func(c *config) { c.node.MaxPerUser = 2 }, func(t *testing.T, s *site, client *http.Client) {
		jane := s.jane()
		at := s.list(jane, "").Cursor
		raw := "wait=60&after=" + at
		first, second := s.pollBy(client, jane, raw), s.pollBy(client, jane, raw)
		s.awaitPolls(2)
		wantProblem(t, s.pollBy(client, jane, "wait=1&after="+at).answer(), 429, "CONNECTION_LIMIT", "")
		s.list(jane, "after="+at) // does not wait
		s.connectBy(client, jane).greeting()
		third := s.pollBy(client, s.user("acme", acme, "joe"), "wait=60&after=aaaaaaaa-1")
		if !third.page().Gap {
			t.Error("somebody else has no slot")
		}

		first.leave()
		s.awaitPolls(1)
		first = s.pollBy(client, jane, raw)
		s.awaitPolls(2)
		s.stored(1, 1)
		for _, p := range []*polling{first, second} {
			if diff := cmp.Diff([]string{"n1"}, p.page().ids()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		for range 5 { // one by one
			if got := s.pollBy(client, jane, raw).page().ids(); len(got) != 1 {
				t.Errorf("got %v", got)
			}
		}
		if n := s.metric("peal_polls_waiting"); n != 0 {
			t.Errorf("%v polls wait", n)
		}
	})
}

// Polls that wait are connections, as many as a user may have, and keep that user from
// nothing else.
func TestPollsThatWaitLeaveRoomForCalls(t *testing.T) {
	const many = 20 // more than a user may have calls under way
	s := start(t, func(c *config) { c.node.MaxPerUser = many })
	jane := s.jane()
	raw := "wait=60&after=" + s.list(jane, "").Cursor
	var waiting []*polling
	for range many {
		waiting = append(waiting, s.poll(jane, raw))
	}
	s.awaitPolls(many)
	if n := s.node.Unfinished(inbox("jane")); n != 0 {
		t.Errorf("%d calls are under way", n)
	}
	s.count(jane)
	ids := s.stored(1, 1)
	s.mark(jane, `{"all":true}`)
	for _, p := range waiting {
		if diff := cmp.Diff(ids, p.page().ids()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// A node that goes away answers the polls that wait, with nothing, and takes no
// new ones; nothing is lost.
func TestDrainAnswersPolls(t *testing.T) {
	everyProtocol(t, nil, func(t *testing.T, s *site, client *http.Client) {
		jane := s.jane()
		at := s.list(jane, "").Cursor
		p := s.pollBy(client, jane, "wait=60&after="+at)
		s.awaitPolls(1)
		s.stop()
		a := p.answer()
		var got page
		if err := json.Unmarshal(a.body, &got); err != nil || a.status != 200 || len(got.Notifications) != 0 || got.Gap || got.Cursor != at {
			t.Errorf("got %d %s, want nothing and the same cursor", a.status, a.body)
		}
		if a.proto == 1 && !a.last {
			t.Error("the next request may come by the same connection")
		}
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// While a node lets go of its connections it takes no poll that would wait, and
// answers everything else.
func TestDrainTakesNoPolls(t *testing.T) {
	s := start(t, func(c *config) { c.node.DrainWindow = time.Minute })
	jane := s.jane()
	at := s.list(jane, "").Cursor
	for range 2 { // the second in half a minute
		s.connect(jane).greeting()
	}
	s.stop()
	wait := func() answer {
		return s.do(s.request(context.Background(), "GET", listPath, jane, "", query("wait=1&after="+at)))
	}
	eventually(t, "the drain", func() bool { return wait().status == 503 })
	wantProblem(t, wait(), 503, "UNAVAILABLE", "")
	if p := s.list(jane, "after="+at); p.Cursor != at {
		t.Errorf("without a time to wait: got %+v", p)
	}
	s.list(jane, "")
	s.count(jane)
	s.mark(jane, `{"all":true}`)
	s.now()
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// The answer to a poll does not come later than its token allows.
func TestPollEndsWithItsToken(t *testing.T) {
	s := start(t, nil)
	at := s.list(s.jane(), "").Cursor
	brief := s.brief("jane")
	a := s.poll(brief, "wait=60&after="+at).answer()
	wantProblem(t, a, 401, "UNAUTHENTICATED", "expired")
	if got, want := a.header.Get("WWW-Authenticate"), `Bearer error="invalid_token", error_description="expired"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.awaitPolls(0)
}

// A poll of a caller who is signed out ends within 2 s, on every node, and with
// nothing but a 401.
func TestPollEndsWithARevocation(t *testing.T) {
	s := start(t, nil)
	other := s.another()
	jane := s.bearer("acme", acme, issuer.Claims{Subject: "jane", Session: "s1"})
	elsewhere := s.bearer("acme", acme, issuer.Claims{Subject: "jane", Session: "s2"})
	at := s.list(jane, "").Cursor
	raw := "wait=60&after=" + at
	ends := []*polling{s.poll(jane, raw), other.poll(jane, raw)}
	stays := s.poll(elsewhere, raw)
	s.awaitPolls(2)
	other.awaitPolls(1)
	began := time.Now()
	s.revokeAnywhere(`{"sid":"s1"}`)
	for i, p := range ends {
		wantProblem(t, p.answer(), 401, "UNAUTHENTICATED", "A valid bearer token")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("on node %d: after %v, want 2 s", i, took)
		}
	}
	s.stored(1, 1)
	if got := stays.page().ids(); len(got) != 1 {
		t.Errorf("another session got %v", got)
	}
}

// A revocation that comes after a caller was let in, and before the poll waits,
// ends it.
func TestRevocationBetweenTheTokenAndThePoll(t *testing.T) {
	var nats *sluggish
	s := start(t, func(c *config) { c.hang = func(server *sluggish) { nats = server } })
	jane := s.jane()
	at := s.list(jane, "").Cursor
	nats.delay.Store(int64(300 * time.Millisecond))
	p := s.poll(jane, "wait=3&after="+at)
	eventually(t, "the caller to be let in", func() bool { return s.bus.Stats().Followed.Load() == 1 })
	s.verifier.Revocations().Add(peal.Revocation{Realm: "acme", Tenant: acme}, time.Now(), time.Now().Add(time.Hour))
	nats.delay.Store(0)
	wantProblem(t, p.answer(), 401, "UNAUTHENTICATED", "")
}

// When the rules of a realm change, its polls are answered as when the node goes
// away: the token may still be good.
func TestReloadAnswersPolls(t *testing.T) {
	s := start(t, nil)
	jane := s.jane()
	at := s.list(jane, "").Cursor
	p := s.poll(jane, "wait=60&after="+at)
	s.awaitPolls(1)
	if _, err := s.node.Reload(s.realmsWith("acme", func(r *auth.Realm) { r.Audiences = []string{"peal", "peal-2"} })); err != nil {
		t.Fatal(err)
	}
	if got := p.page(); len(got.Notifications) != 0 || got.Cursor != at {
		t.Errorf("got %+v, want nothing and the same cursor", got)
	}
}
