package auth

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
)

// every revocation there can be of what r names: each field set or not.
func every(r peal.Revocation) (all []peal.Revocation) {
	for f := range fields(1 << 7) {
		all = append(all, f.only(r))
	}
	return all
}

// revokes says in as many words what a revocation means: each field that is set must
// be the token's, and one at least must be set.
func revokes(r, token peal.Revocation) bool {
	if r == (peal.Revocation{}) {
		return false
	}
	return (r.Realm == "" || r.Realm == token.Realm) &&
		(r.Tenant == "" || r.Tenant == token.Tenant) &&
		(r.Namespace == "" || r.Namespace == token.Namespace) &&
		(r.User == "" || r.User == token.User) &&
		(r.Subject == "" || r.Subject == token.Subject) &&
		(r.Session == "" || r.Session == token.Session) &&
		(!r.NoSession || token.Session == "") &&
		(r.TokenID == "" || r.TokenID == token.TokenID)
}

// revoke makes these the only revocations.
func (l *lab) revoke(at time.Time, all ...peal.Revocation) {
	l.v.revoked.mu.Lock()
	l.v.revoked.of, l.v.revoked.shapes = nil, nil
	l.v.revoked.mu.Unlock()
	for _, r := range all {
		l.v.revoked.Add(r, at, at.Add(time.Hour))
	}
}

// Whatever fields a revocation has, the three that ask are of one mind: Verify of
// what needs no tenant, Caller and Review of all.
func TestARevocationIsOfTheTokensThatFitIt(t *testing.T) {
	l := newLab(t, Options{}, "a")
	now := time.Now()
	full := peal.Revocation{
		Realm: "acme", Tenant: labOne, Namespace: "acme", User: "jane", Subject: "7f3a",
		Session: "s1", NoSession: true, TokenID: "t1",
	}
	for _, row := range []struct {
		name   string
		claims map[string]any
		tenant peal.Tenant
		of     func(*peal.Revocation) // what the token is, if not full
	}{
		{"the token", nil, labOne, func(r *peal.Revocation) {}},
		{"in another tenant", nil, labThree, func(r *peal.Revocation) { r.Tenant = labThree }},
		{"of another user", map[string]any{"uid": "joe"}, labOne, func(r *peal.Revocation) { r.User = "joe" }},
		{"of another subject", map[string]any{"sub": "9b1c"}, labOne, func(r *peal.Revocation) { r.Subject = "9b1c" }},
		{"of no subject", map[string]any{"sub": nil}, labOne, func(r *peal.Revocation) { r.Subject = "" }},
		{"of another session", map[string]any{"sid": "s2"}, labOne, func(r *peal.Revocation) { r.Session = "s2" }},
		{"of no session", map[string]any{"sid": nil}, labOne, func(r *peal.Revocation) { r.Session = "" }},
		{"with another id", map[string]any{"jti": "t2"}, labOne, func(r *peal.Revocation) { r.TokenID = "t2" }},
		{"with no id", map[string]any{"jti": nil}, labOne, func(r *peal.Revocation) { r.TokenID = "" }},
	} {
		claims := map[string]any{"sid": "s1", "jti": "t1"}
		for name, v := range row.claims {
			claims[name] = v
		}
		token, is := l.token("a", claims), full
		row.of(&is)
		l.revoke(now)
		caller, err := l.accepts(token).Caller(string(row.tenant))
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := full // of another realm and namespace
		elsewhere.Realm, elsewhere.Namespace = "globex", "globex"
		for _, r := range append(every(full), every(elsewhere)...) {
			l.revoke(now.Add(time.Second), r)
			want := revokes(r, is)
			wantVerify := want && r.Tenant == ""
			got, err := l.v.Verify(t.Context(), "acme", token)
			if revoked := reasonOf(err) == ReasonRevoked; revoked != wantVerify || !revoked && err != nil {
				t.Fatalf("%s, %+v: Verify says %v, want revoked %v", row.name, r, err, wantVerify)
			}
			if got != nil {
				if _, err := got.Caller(string(row.tenant)); (reasonOf(err) == ReasonRevoked) != want || !want && err != nil {
					t.Fatalf("%s, %+v: Caller says %v, want revoked %v", row.name, r, err, want)
				}
			}
			if err := l.v.Review(caller); (reasonOf(err) == ReasonRevoked) != want || !want && err != nil {
				t.Fatalf("%s, %+v: Review says %v, want revoked %v", row.name, r, err, want)
			}
		}
	}
}

func TestARevocationIsOfTokensThatWereIssuedBefore(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	user := peal.Revocation{Namespace: "acme", User: "jane"}
	byID := peal.Revocation{TokenID: "t1"}
	both := peal.Revocation{Namespace: "acme", User: "jane", TokenID: "t1"}
	token := peal.Revocation{Realm: "acme", Namespace: "acme", User: "jane", TokenID: "t1", NoSession: true}
	for _, row := range []struct {
		name   string
		of     peal.Revocation
		issued time.Time
		want   bool
	}{
		{"a nanosecond before", user, at.Add(-1), true},
		{"at the moment", user, at, false},
		{"after", user, at.Add(1), false},
		{"nobody knows when", user, time.Time{}, true},
		{"in 1970", user, time.Unix(0, 0), true},
		{"before, by its id", byID, at.Add(-1), true},
		{"at the moment, by its id", byID, at, true},
		{"after, by its id", byID, at.Add(time.Hour), true},
		{"nobody knows when, by its id", byID, time.Time{}, true},
		{"after, by its id and its user", both, at.Add(time.Hour), true},
	} {
		var revoked Revocations
		revoked.Add(row.of, at, at.Add(time.Hour))
		if got := revoked.cover(token, row.issued); got != row.want {
			t.Errorf("issued %s: covered %v, want %v", row.name, got, row.want)
		}
	}
}

// They come from a bucket that is watched, so again, and late, and in no order.
func TestARevocationThatIsAddedAgainKeepsTheLaterMoments(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	r := peal.Revocation{Namespace: "acme", User: "jane"}
	token := peal.Revocation{Namespace: "acme", User: "jane"}
	for name, moments := range map[string][2]time.Time{"earlier first": {at.Add(-time.Minute), at}, "later first": {at, at.Add(-time.Minute)}} {
		var revoked Revocations
		for _, m := range moments {
			revoked.add(r, m, m.Add(time.Hour), at)
		}
		if n := revoked.Len(); n != 1 {
			t.Errorf("%s: %d revocations, want 1", name, n)
		}
		if !revoked.cover(token, at.Add(-1)) || revoked.cover(token, at) {
			t.Errorf("%s: the later moment does not count", name)
		}
		// Nor is it forgotten before the later end.
		revoked.add(peal.Revocation{Session: "s"}, at, at.Add(9*time.Hour), at.Add(time.Hour-1))
		if !revoked.cover(token, at.Add(-1)) {
			t.Errorf("%s: forgotten too early", name)
		}
	}
}

func TestRevocationsAreForgottenWhenTheirTokensHaveExpired(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	var revoked Revocations
	for i := range 100 {
		revoked.add(peal.Revocation{Session: fmt.Sprint(i)}, at, at.Add(time.Duration(i+1)*time.Minute), at)
	}
	revoked.add(peal.Revocation{Realm: "acme", Subject: "jane"}, at, at.Add(time.Minute), at)
	for minutes := range 101 {
		// Each is one more, and what is past by then goes.
		revoked.add(peal.Revocation{TokenID: "t1"}, at, at.Add(24*time.Hour), at.Add(time.Duration(minutes)*time.Minute))
		want := 100 - minutes + 1
		if minutes == 0 {
			want++ // jane
		}
		if got := revoked.Len(); got != want {
			t.Fatalf("%d after %d minutes, want %d", got, minutes, want)
		}
	}
	// And nobody looks for their kind any more.
	if len(revoked.shapes) != 1 || revoked.shapes[byTokenID] != 1 {
		t.Errorf("shapes %v, want that of the last one", revoked.shapes)
	}
	revoked.add(peal.Revocation{}, at, at.Add(time.Hour), at)
	if n := revoked.Len(); n != 1 {
		t.Errorf("%d revocations, want none of nobody", n)
	}
}

func TestRevocationsBesideEachOther(t *testing.T) {
	var revoked Revocations
	at, now := time.Unix(1_800_000_000, 0), time.Now()
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				r := peal.Revocation{Realm: "acme", Session: fmt.Sprintf("%d-%d", n, i)}
				until := now.Add(time.Hour)
				if i%2 == 1 {
					until = now.Add(-time.Hour) // is swept by somebody, some time
				}
				revoked.add(r, at, until, now.Add(time.Duration(i)*time.Second))
				// Who has added one finds it at once, whatever the others do.
				if i%2 == 0 && !revoked.cover(r, at.Add(-1)) {
					t.Errorf("%+v does not count", r)
				}
				revoked.Len()
			}
		})
	}
	wg.Wait()
	revoked.add(peal.Revocation{Session: "last"}, at, now.Add(time.Hour), now.Add(30*time.Minute))
	if n := revoked.Len(); n != 4*500+1 {
		t.Errorf("%d are left, want 2001", n)
	}
}

// BenchmarkCover asks whether a token is revoked that is not, where there are
// none, few and many revocations of four kinds.
func BenchmarkCover(b *testing.B) {
	token := peal.Revocation{
		Realm: "acme", Tenant: labOne, Namespace: "acme", User: "jane", Subject: "7f3a", Session: "s1", TokenID: "t1",
	}
	for _, n := range []int{0, 10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var revoked Revocations
			now := time.Now()
			for i := range n {
				id := fmt.Sprintf("r%d", i)
				r := []peal.Revocation{
					{Realm: "acme", Session: id}, {Realm: "acme", Subject: id, NoSession: true},
					{TokenID: id, Tenant: labOne}, {Tenant: labOne, Namespace: "acme", User: peal.UserID(id)},
				}[i%4]
				revoked.Add(r, now, now.Add(time.Hour))
			}
			b.ReportAllocs()
			for b.Loop() {
				if revoked.cover(token, now.Add(-time.Hour)) {
					b.Fatal("covered")
				}
			}
		})
	}
}
