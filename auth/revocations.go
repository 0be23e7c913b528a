package auth

import (
	"sync"
	"time"

	"github.com/pealhq/peal"
)

// Revocations are those that count at this moment. The zero value has none. Its
// methods may be called concurrently.
type Revocations struct {
	mu     sync.RWMutex // protects the rest
	of     map[peal.Revocation]moment
	shapes map[fields]int // which fields revocations have → how many have these
	swept  time.Time
}

// moment is when a revocation was made, and how long it is remembered.
type moment struct{ at, until time.Time }

// sweepEvery is how often revocations that are past are forgotten.
const sweepEvery = time.Minute

// fields are those that a revocation has.
type fields uint8

const (
	byRealm fields = 1 << iota
	byTenant
	byUser
	bySubject
	bySession
	byNoSession
	byTokenID
)

func fieldsOf(r peal.Revocation) (f fields) {
	for _, x := range [...]struct {
		is  bool
		bit fields
	}{
		{r.Realm != "", byRealm}, {r.Tenant != "", byTenant}, {r.User != "" || r.Namespace != "", byUser}, {r.Subject != "", bySubject},
		{r.Session != "", bySession}, {r.NoSession, byNoSession}, {r.TokenID != "", byTokenID},
	} {
		if x.is {
			f |= x.bit
		}
	}
	return f
}

// only returns r with no other fields.
func (f fields) only(r peal.Revocation) (of peal.Revocation) {
	if f&byRealm != 0 {
		of.Realm = r.Realm
	}
	if f&byTenant != 0 {
		of.Tenant = r.Tenant
	}
	if f&byUser != 0 {
		of.Namespace, of.User = r.Namespace, r.User
	}
	if f&bySubject != 0 {
		of.Subject = r.Subject
	}
	if f&bySession != 0 {
		of.Session = r.Session
	}
	if f&byNoSession != 0 {
		of.NoSession = r.NoSession
	}
	if f&byTokenID != 0 {
		of.TokenID = r.TokenID
	}
	return of
}

// Add takes in a revocation, of tokens that were issued before at, and keeps it
// until all of them have expired. It may be called again for the same one: the
// later moments count. One without fields means nobody.
func (t *Revocations) Add(r peal.Revocation, at, until time.Time) { t.add(r, at, until, time.Now()) }

func (t *Revocations) add(r peal.Revocation, at, until, now time.Time) {
	f := fieldsOf(r)
	if f == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of, t.shapes = map[peal.Revocation]moment{}, map[fields]int{}
	}
	known, ok := t.of[r]
	if !ok {
		t.shapes[f]++
	}
	t.of[r] = moment{later(known.at, at), later(known.until, until)}
	t.sweepLocked(now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sweepLocked forgets what is past.
func (t *Revocations) sweepLocked(now time.Time) {
	if now.Sub(t.swept) < sweepEvery {
		return
	}
	t.swept = now
	for r, m := range t.of {
		if now.Before(m.until) {
			continue
		}
		delete(t.of, r)
		f := fieldsOf(r)
		if t.shapes[f]--; t.shapes[f] == 0 {
			delete(t.shapes, f)
		}
	}
}

// Len returns how many there are.
func (t *Revocations) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.of)
}

// cover reports whether a token of these traits, issued at that time, is
// revoked. A trait that is not known yet fits nothing. An id names one token,
// whenever it was issued: the issuer's clock need not be ours.
func (t *Revocations) cover(traits peal.Revocation, issued time.Time) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	has := fieldsOf(traits)
	for f := range t.shapes {
		if f&has != f {
			continue
		}
		m, ok := t.of[f.only(traits)]
		if ok && (f&byTokenID != 0 || issued.Before(m.at)) {
			return true
		}
	}
	return false
}

// LongestTokenLife is how long a token that a revocation may mean can be good: so
// long it must be remembered.
func (v *Verifier) LongestTokenLife(of peal.Revocation) (longest time.Duration) {
	for _, r := range v.snapshot().order {
		if (of.Realm == "" || of.Realm == r.Name) && (of.Tenant == "" || r.speaksFor(of.Tenant)) {
			longest = max(longest, r.MaxTokenLife)
		}
	}
	return longest + leeway
}
