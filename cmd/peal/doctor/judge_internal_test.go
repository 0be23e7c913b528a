package doctor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/embedded"
)

// judged is a row: what is seen, and what it is found to be.
type judged struct {
	name   string
	got    Finding
	status Status
	says   string
}

func check(t *testing.T, rows []judged) {
	t.Helper()
	for _, row := range rows {
		if row.got.Status != row.status || !strings.Contains(row.got.Seen+" "+row.got.Do, row.says) {
			t.Errorf("%s: %+v, want %s with %q", row.name, row.got, row.status, row.says)
		}
		if (row.got.Status == Trouble || row.got.Status == Warning) != (row.got.Do != "") {
			t.Errorf("%s: %s says to do %q", row.name, row.got.Status, row.got.Do)
		}
	}
}

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestServersAreJudged(t *testing.T) {
	good := bus.ServerSeen{Address: "nats://n1", Name: "n1", ID: "A", Cluster: "c", Version: "2.15.2", MaxPayload: 1 << 20, RoundTrip: time.Millisecond}
	change := func(do func(*bus.ServerSeen)) Finding {
		s := good
		do(&s)
		return server(s, true, now)
	}
	failed := func(stage bus.Stage) Finding {
		return server(bus.ServerSeen{Address: "nats://n1", Failed: stage, Err: errors.New("reason")}, stage != bus.StageCredentials, now)
	}
	check(t, []judged{
		{"good", server(good, true, now), OK, "n1, nats-server 2.15.2, 1ms away"},
		{"oldest", change(func(s *bus.ServerSeen) { s.Version = bus.MinServer }), OK, ""},
		{"too old", change(func(s *bus.ServerSeen) { s.Version = "2.13.9" }), Trouble, "2.14.0 or later"},
		{"ten is more than two", change(func(s *bus.ServerSeen) { s.Version = "2.100.0-beta.1" }), OK, ""},
		{"small payload", change(func(s *bus.ServerSeen) { s.MaxPayload = 64 << 10 }), Trouble, "max_payload"},
		{"far away", change(func(s *bus.ServerSeen) { s.RoundTrip = 200 * time.Millisecond }), Warning, "200ms"},
		{"certificate", change(func(s *bus.ServerSeen) { s.Encrypted, s.Expires = true, now.Add(24*time.Hour) }), Warning, "2026-05-02"},
		{"certificate for long", change(func(s *bus.ServerSeen) { s.Encrypted, s.Expires = true, now.Add(240*24*time.Hour) }), OK, "TLS"},
		{"url", failed(bus.StageURL), Trouble, "--nats"},
		{"name", failed(bus.StageResolve), Trouble, "DNS"},
		{"port", failed(bus.StageConnect), Trouble, "firewall"},
		{"tls", failed(bus.StageTLS), Trouble, "TLS"},
		{"password", failed(bus.StageCredentials), Trouble, "password in the URL"},
		{"credentials", server(bus.ServerSeen{Failed: bus.StageCredentials}, true, now), Trouble, "names a file"},
		{"protocol", failed(bus.StageProtocol), Trouble, "monitoring"},
	})
	up := func(id, cluster string) bus.ServerSeen { return bus.ServerSeen{ID: id, Cluster: cluster} }
	down := bus.ServerSeen{Failed: bus.StageConnect, Err: errors.New("refused")}
	check(t, []judged{
		{"three", members([]bus.ServerSeen{up("A", "c"), up("B", "c"), up("C", "c")}), OK, "3 servers of cluster c"},
		{"one is down", members([]bus.ServerSeen{up("A", "c"), up("B", "c"), down}), Warning, "2 of 3"},
		{"two are down", members([]bus.ServerSeen{up("A", "c"), down, down}), Trouble, "half"},
		{"all are down", members([]bus.ServerSeen{down, down, down}), Trouble, "none"},
		{"two", members([]bus.ServerSeen{up("A", "c"), up("B", "c")}), Warning, "three servers"},
		{"the same twice", members([]bus.ServerSeen{up("A", "c"), up("A", "c"), up("B", "c")}), Warning, "different servers"},
		{"islands", members([]bus.ServerSeen{up("A", ""), up("B", ""), up("C", "")}), Trouble, "island"},
		{"two clusters", members([]bus.ServerSeen{up("A", "c"), up("B", "d"), up("C", "d")}), Trouble, "island"},
	})
}

func TestAccountsAndRightsAreJudged(t *testing.T) {
	denied := fmt.Errorf("%w to publish to peal.inbox.local.0.x", bus.ErrNotPermitted)
	check(t, []judged{
		{"no JetStream", account(bus.AccountSeen{}, bus.ErrNoJetStream), Trouble, "Enable"},
		{"may not ask", account(bus.AccountSeen{}, denied), Skipped, "do not suffice"},
		{"no answer", account(bus.AccountSeen{}, errors.New("no answer")), Trouble, "more than half"},
		{"no bound", account(bus.AccountSeen{Store: 1 << 30}, nil), OK, "1.0 GiB"},
		{"room", account(bus.AccountSeen{Store: 1 << 30, MaxStore: 4 << 30}, nil), OK, "of 4.0 GiB"},
		{"little room", account(bus.AccountSeen{Store: 9 << 30, MaxStore: 10 << 30}, nil), Warning, "limit"},
		{"no room", account(bus.AccountSeen{Store: 10 << 30, MaxStore: 10 << 30}, nil), Trouble, "limit"},
	})
	one := func(kind bus.RightKind, err error) Finding {
		return rights([]bus.Right{{Kind: kind, Subject: "s", Err: err}, {Kind: bus.RightAsk, Subject: "t"}}, []string{"u"})[0]
	}
	check(t, []judged{
		{"all", one(bus.RightPublish, nil), OK, "all 2"},
		{"may not publish", one(bus.RightPublish, denied), Trouble, "may not publish: s"},
		{"may not create", one(bus.RightCreate, denied), OK, "not to create streams"},
		{"not known", one(bus.RightRead, errors.New("no answer")), Warning, "leader"},
		{"deaf", one(bus.RightAsk, fmt.Errorf("%w to the role node", bus.ErrDeaf)), Trouble, "do not suffice to hear"},
	})
}

func TestStreamsAreJudged(t *testing.T) {
	good := bus.StreamSeen{Name: "S", Replicas: 3, Wanted: 3, Bytes: 1, MaxBytes: 100, Leader: "n1", Clustered: true,
		Followers: []bus.Replica{{Server: "n2", Current: true}, {Server: "n3", Current: true}}}
	change := func(do func(*bus.StreamSeen)) Finding {
		s := good
		s.Followers = append([]bus.Replica{}, good.Followers...)
		do(&s)
		return streams([]bus.StreamSeen{s}, true)[0]
	}
	check(t, []judged{
		{"good", streams([]bus.StreamSeen{good}, true)[0], OK, "S"},
		{"no leader", change(func(s *bus.StreamSeen) { s.Leader = "" }), Trouble, "S: no leader"},
		{"no answer", change(func(s *bus.StreamSeen) { s.Err = errors.New("no answer") }), Trouble, "no answer"},
		{"may not ask", change(func(s *bus.StreamSeen) { s.Err = bus.ErrNotPermitted }), Trouble, "Grant"},
		{"another form", change(func(s *bus.StreamSeen) { s.Unfit = errors.New("exists without direct get") }), Trouble, "S: exists without"},
		{"one is offline", change(func(s *bus.StreamSeen) { s.Followers[0].Offline = true }), Trouble, "n2 is offline"},
		{"two are offline", change(func(s *bus.StreamSeen) { s.Followers[0].Offline, s.Followers[1].Offline = true, true }), Trouble, "nothing of it can be stored until"},
		{"one lags", change(func(s *bus.StreamSeen) { s.Followers[1].Lag = 5000 }), Warning, "n3 is 5000"},
		{"one is not current", change(func(s *bus.StreamSeen) { s.Followers[1].Current = false }), Warning, "n3 is not current"},
		{"fewer replicas", change(func(s *bus.StreamSeen) { s.Replicas, s.Followers = 1, nil }), Warning, "--replicas 3"},
		{"drops soon", change(func(s *bus.StreamSeen) { s.Bytes = 97 }), Warning, "97 %"},
		{"refuses soon", change(func(s *bus.StreamSeen) { s.Refuses, s.Bytes = true, 85 }), Warning, "85 %"},
		{"refuses", change(func(s *bus.StreamSeen) { s.Refuses, s.Bytes = true, 99 }), Trouble, "99 %"},
		{"no bound", change(func(s *bus.StreamSeen) { s.Refuses, s.MaxBytes = true, -1 }), Warning, "no bound"},
	})
	// What is wrong with all of them is said once.
	away := good
	away.Followers = []bus.Replica{{Server: "n2", Offline: true}, {Server: "n3", Current: true}}
	if of := streams([]bus.StreamSeen{away, away, away, away, away}, true); len(of) != 2 || of[0].Seen != "S, S, S and 2 more: n2 is offline" {
		t.Errorf("of five: %+v", of)
	}
	missing, copied := bus.StreamSeen{Name: "M", Err: bus.ErrMissing}, good
	copied.Copied = true
	check(t, []judged{
		{"all are missing", streams([]bus.StreamSeen{missing, missing}, true)[0], Warning, "none is there yet"},
		{"all are missing, and none can be made", streams([]bus.StreamSeen{missing, missing}, false)[0], Trouble, "Run peal admin ensure"},
		{"copied in part", streams([]bus.StreamSeen{copied, missing}, true)[0], Trouble, "peal admin migrate again"},
		{"one is missing", streams([]bus.StreamSeen{good, missing}, true)[0], Trouble, "missing: M"},
		{"all are well", streams([]bus.StreamSeen{good, good}, true)[0], OK, "2 of 2"},
	})
	ahead := good
	ahead.Ahead, ahead.Leader = -40*time.Second, "n9"
	of := streams([]bus.StreamSeen{good, ahead}, true)
	check(t, []judged{
		{"a leader's clock", of[len(of)-1], Trouble, "40s behind"},
	})
	if of[len(of)-1].Check != "clock of NATS n9" {
		t.Errorf("whose clock: %q", of[len(of)-1].Check)
	}
}

func TestWorkIsJudged(t *testing.T) {
	all := func(w bus.WorkSeen) Finding { return work([]bus.WorkSeen{w, w}, true) }
	check(t, []judged{
		{"well", all(bus.WorkSeen{Name: "d", Leader: "n", Pulling: 1}), OK, "0 wait"},
		{"never", all(bus.WorkSeen{Name: "d", Err: bus.ErrMissing}), Warning, "nobody has ever"},
		{"nobody works", all(bus.WorkSeen{Name: "d", Leader: "n", Waiting: 3}), Trouble, "6 events wait"},
		{"nobody would", all(bus.WorkSeen{Name: "d", Leader: "n"}), Warning, "none waits"},
		{"many wait", all(bus.WorkSeen{Name: "d", Leader: "n", Pulling: 1, Waiting: 9000}), Warning, "18000"},
		{"changed", all(bus.WorkSeen{Name: "d", Leader: "n", Unfit: "max_deliver"}), Warning, "max_deliver"},
		{"no leader", all(bus.WorkSeen{Name: "d"}), Trouble, "without a leader"},
		{"an edge may not ask", work([]bus.WorkSeen{{Name: "d", Err: bus.ErrNotPermitted}}, false), Skipped, "role dispatch"},
		{"not known", all(bus.WorkSeen{Name: "d", Err: bus.ErrNotPermitted}), Trouble, "CONSUMER.INFO"},
	})
}

func TestClocksAreJudged(t *testing.T) {
	check(t, []judged{
		{"agrees", clock("c", 0), OK, "agrees"},
		{"a little", clock("c", 900*time.Millisecond), OK, "900ms ahead"},
		{"more than a second", clock("c", -1500*time.Millisecond), Warning, "1.5s behind"},
		{"more than the leeway", clock("c", 31*time.Second), Trouble, "31s ahead"},
	})
}

// A service may write heartbeats as seldom as once a minute.
func TestHeartbeatsAreJudged(t *testing.T) {
	none := func(wait time.Duration) Finding {
		w := &watch{within: time.Second, began: time.Now()}
		return w.judge(nil, wait)[0]
	}
	check(t, []judged{
		{"hardly watched", none(6 * time.Second), Skipped, "not waited for long enough"},
		{"longer than by default", none(45 * time.Second), Skipped, "not waited for long enough"},
		{"longer than any", none(65 * time.Second), Trouble, "none in 1m5s"},
	})
}

func TestKeysAreJudged(t *testing.T) {
	one := []auth.KeySeen{{ID: "k1", Algorithm: "RS256", Type: "RSA"}}
	check(t, []judged{
		{"one", keys("r", auth.KeysSeen{Keys: one, How: auth.RefreshGood, Took: time.Millisecond}), OK, "1 key in 1ms: k1 (RS256)"},
		{"slow", keys("r", auth.KeysSeen{Keys: one, How: auth.RefreshGood, Took: 3 * time.Second}), Warning, "slow"},
		{"some are dropped", keys("r", auth.KeysSeen{Keys: one, Dropped: []error{errors.New("weak")}, How: auth.RefreshGood}), OK, "1 not used: weak"},
		{"down", keys("r", auth.KeysSeen{How: auth.RefreshUnreachable, Err: errors.New("refused")}), Trouble, "issuer is up"},
		{"refused", keys("r", auth.KeysSeen{How: auth.RefreshRefused, Err: errors.New("403")}), Trouble, "realms file"},
		{"unusable", keys("r", auth.KeysSeen{How: auth.RefreshUnusable, Err: errors.New("no\nkey")}), Trouble, "no; key"},
		{"keys by http", sane("r", auth.Realm{JWKS: "http://10.0.0.1/jwks"})[0], Warning, "https"},
		{"audience", sane("r", auth.Realm{Issuer: "https://id", JWKS: "https://id/jwks", Audiences: []string{"https://id"}})[0], Warning, "aud"},
	})
	if odd := sane("r", auth.Realm{Issuer: "https://id", JWKS: "http://localhost:1/jwks", Audiences: []string{"peal"}}); len(odd) != 0 {
		t.Errorf("nothing is odd, and yet: %+v", odd)
	}
}

func TestDisksAreJudged(t *testing.T) {
	good := embedded.DirSeen{Exists: true, At: "/data", Free: 50 << 30, Total: 100 << 30, Reserve: 64 << 20, InUse: embedded.InUse}
	change := func(do func(*embedded.DirSeen)) Finding {
		s := good
		do(&s)
		return disk("/data", s)
	}
	check(t, []judged{
		{"good", disk("/data", good), OK, "in use"},
		{"to be made", change(func(s *embedded.DirSeen) { s.Exists, s.At = false, "/" }), OK, "does not exist yet"},
		{"full", change(func(s *embedded.DirSeen) { s.Free = 1 << 20 }), Trouble, "nothing is stored"},
		{"nearly full", change(func(s *embedded.DirSeen) { s.Free = 5 << 30 }), Warning, "Make room"},
		{"memory", change(func(s *embedded.DirSeen) { s.Kind = "tmpfs" }), Trouble, "tmpfs"},
		{"network", change(func(s *embedded.DirSeen) { s.Kind = "nfs" }), Warning, "nfs"},
		{"container", change(func(s *embedded.DirSeen) { s.Kind = "overlay" }), Warning, "volume"},
		{"another's", change(func(s *embedded.DirSeen) { s.Err = errors.New("write to /data: permission denied") }), Trouble, "chown"},
	})
}
