package node_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
)

const queuePath = node.Base + "/queue/"

// setQueue says who the members of a queue are.
func (s *site) setQueue(u user, queue, members string, edits ...edit) answer {
	s.t.Helper()
	return s.do(s.request(context.Background(), "PUT", queuePath+url.PathEscape(queue), u, `{"members":`+members+`}`, edits...))
}

// members are those that are remembered, as namespace/user.
func (s *site) members(t peal.Tenant, queue string) string {
	s.t.Helper()
	all, err := s.bus.Queue(context.Background(), t, queue)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, in := range all {
		names = append(names, fmt.Sprintf("%s/%s", in.Namespace, in.User))
	}
	return strings.Join(names, " ")
}

// manyUsers is a list of users.
func manyUsers(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"user-%d"`, i)
	}
	return "[" + strings.Join(names, ",") + "]"
}

func TestQueueIsWhatWasSaidLast(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	elsewhere := publisher
	elsewhere.tenant = shared
	for _, row := range []struct {
		name    string
		by      user
		queue   string
		members string
		answer  int
		want    string
	}{
		{"some", publisher, "net", `["jane","joe"]`, 2, "acme/jane acme/joe"},
		{"others, one of them thrice", publisher, "net", `["ann","ann",{"id":"ann","namespace":"acme"},"*"]`, 2, "acme/* acme/ann"},
		{"of two namespaces", elsewhere, "net", `["jane",{"id":"jane","namespace":"globex"}]`, 2, "acme/jane globex/jane"},
		{"nobody", publisher, "net", `[]`, 0, ""},
		{"another queue", publisher, "net.*>?% ü", `["joe"]`, 1, "acme/joe"},
		{"of the longest name", publisher, strings.Repeat("q", 128), `["joe"]`, 1, "acme/joe"},
	} {
		a := s.setQueue(row.by, row.queue, row.members)
		if want := fmt.Sprintf("{\"members\":%d}\n", row.answer); a.status != http.StatusOK || string(a.body) != want {
			t.Errorf("%s: got %d %s, want %s", row.name, a.status, a.body, want)
		}
		if got := s.members(row.by.tenant, row.queue); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
	if diff := cmp.Diff("acme/jane globex/jane", s.members(shared, "net")); diff != "" {
		t.Errorf("the queue of another tenant (-want +got):\n%s", diff)
	}

	a := s.setQueue(publisher, "all", manyUsers(5000))
	if a.status != 200 || string(a.body) != "{\"members\":5000}\n" || strings.Count(s.members(acme, "all"), "/") != 5000 {
		t.Errorf("5,000 members: got %d %s", a.status, a.body)
	}
}

func TestMalformedQueueIsRefused(t *testing.T) {
	s := start(t, nil)
	publisher := s.publisher()
	const good = `{"members":["jane"]}`
	if a := s.setQueue(publisher, "net", `["before"]`); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	rows := s.refusedBodies(good)
	invalid := func(name, detail string, edits ...edit) {
		rows = append(rows, refusal{name, edits, 400, "INVALID_REQUEST", detail})
	}
	queue := func(escaped string) edit {
		return func(r *http.Request) {
			u, err := url.Parse(s.url + queuePath + escaped)
			if err != nil {
				panic(err)
			}
			r.URL = u
		}
	}
	members := func(json string) edit { return body(`{"members":` + json + `}`) }
	invalid("queue of more than 128 bytes", "queueId: must be at most 128 bytes", queue(strings.Repeat("q", 129)))
	invalid("queue that is not UTF-8", "queueId", queue("%ff"))
	invalid("queue with a control character", "queueId", queue("a%00"))
	invalid("queue with a line break", "queueId", queue("a%0ab"))
	invalid("null", "must not be null", body(`null`))
	invalid("nothing", "members: must be given", body(`{}`))
	invalid("members that are null", "members: must not be null", members(`null`))
	invalid("members of another type", "members", members(`"jane"`))
	invalid("an unknown field", "extra", body(`{"members":[],"extra":1}`))
	invalid("a case variant", "Members", body(`{"Members":[]}`))
	invalid("members twice", "members: must not be repeated", body(`{"members":[],"members":[]}`))
	invalid("an empty member", "members[1]", members(`["a",""]`))
	invalid("a member that is null", "members[1]", members(`["a",null]`))
	invalid("a member that is a number", "members[0]", members(`[7]`))
	invalid("a member of nothing", "members[0]", members(`[{}]`))
	invalid("a long member", "members[0]", members(`["`+strings.Repeat("x", 129)+`"]`))
	invalid("a member of an unknown namespace", "members[0]", members(`[{"id":"jane","namespace":"nobody"}]`))
	invalid("a member of another tenant's namespace", "members[0]", members(`[{"id":"jane","namespace":"globex"}]`))
	invalid("a member without a default namespace", "members[0]", header("x-tenantid", string(split)))
	invalid("5,001 members", "members: must be at most 5000", members(manyUsers(5001)))
	invalid("members that are too large", "members: must be at most 1000000 bytes",
		members(strings.ReplaceAll(manyUsers(5000), "user-", strings.Repeat("<", 40)))) // which take six times as much as they are stored
	for _, path := range []string{"", "a/b", "a%2fb", "a/"} {
		rows = append(rows, refusal{"queue " + path, []edit{queue(path)}, 404, "NOT_FOUND", ""})
	}
	s.wantRefused(rows, func() *http.Request {
		return s.request(context.Background(), "PUT", queuePath+"net", publisher, good)
	})
	if got := s.members(acme, "net"); got != "acme/before" {
		t.Errorf("got %s, want what was there before", got)
	}

	for _, method := range []string{"GET", "POST", "DELETE"} {
		a := s.do(s.request(context.Background(), method, queuePath+"net", publisher, good))
		wantProblem(t, a, 405, "METHOD_NOT_ALLOWED", "")
	}
	s.nats.Close()
	wantProblem(t, s.setQueue(publisher, "net", `["jane"]`), 503, "UNAVAILABLE", "")
}
