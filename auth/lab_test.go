package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/pealhq/peal"
)

// lab is a Verifier of the realm acme with an issuer in the process, so that it
// can stand in a synctest bubble. Its clock is the bubble's.
type lab struct {
	t *testing.T
	v *Verifier

	mu      sync.Mutex
	private map[string]ed25519.PrivateKey // kid → key; made when it is first named
	kids    []string                      // that are published
	err     error                         // of a fetch
	takes   time.Duration                 // a fetch
	at      []time.Time                   // when fetches began
}

const (
	labOne   peal.Tenant = "11111111-1111-4111-8111-111111111111"
	labThree peal.Tenant = "33333333-3333-4333-8333-333333333333"
)

// newLab publishes the keys with the given kids.
func newLab(t *testing.T, opts Options, kids ...string) *lab {
	t.Helper()
	opts.Logger = quiet()
	l := &lab{t: t, private: map[string]ed25519.PrivateKey{}, kids: kids}
	opts = opts.withDefaults()
	l.v = &Verifier{opts: opts, now: opts.Now, cache: newCache(opts.CacheBytes), revoked: &Revocations{}}
	c := Realm{
		Name: "acme", Issuer: "https://acme.example", JWKS: "https://acme.example/jwks",
		Audiences: []string{"peal"}, Tenants: Tenants{IDs: []peal.Tenant{labOne, labThree}}, Claims: ClaimPaths{User: "uid"},
	}.withDefaults()
	r, err := newRealm(c, newKeyset(quiet(), l.fetch, nil), l.v.revoked)
	if err != nil {
		t.Fatal(err)
	}
	l.v.realms.Store(&snapshot{byName: map[string]*realm{c.Name: r}, order: []*realm{r}})
	r.keys.start()
	t.Cleanup(l.v.Close)
	if err := l.v.WaitKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// fetch is what the realm's keyset asks.
func (l *lab) fetch(ctx context.Context) (keys []jwkset.JWK, dropped []error, err error) {
	l.mu.Lock()
	l.at = append(l.at, time.Now())
	kids, fails, takes := slices.Clone(l.kids), l.err, l.takes // as they are when the issuer is asked
	l.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if fails != nil {
		return nil, nil, fails
	}
	var set []map[string]any
	for _, kid := range kids {
		x := base64.RawURLEncoding.EncodeToString(l.key(kid).Public().(ed25519.PublicKey))
		set = append(set, map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
	}
	data, err := json.Marshal(map[string]any{"keys": set})
	if err != nil {
		return nil, nil, err
	}
	return parseKeys(data, algorithms)
}

func (l *lab) key(kid string) ed25519.PrivateKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.private[kid] == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		l.private[kid] = key
	}
	return l.private[kid]
}

// publish has the issuer show these keys, or fail.
func (l *lab) publish(err error, kids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.kids = err, kids
}

// fetches is how often the issuer was asked since a time.
func (l *lab) fetches(since time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.at {
		if !at.Before(since) {
			n++
		}
	}
	return n
}

// claims are jane's and good for an hour, but for the edits; nil takes one away.
func (l *lab) claims(edits map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": "https://acme.example", "aud": "peal", "sub": "7f3a", "uid": "jane",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(claims, edits)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// token is made of claims, and signed with the key of a kid.
func (l *lab) token(kid string, edits map[string]any) string {
	return l.sign(kid, map[string]any{"alg": "EdDSA", "kid": kid}, l.claims(edits))
}

func (l *lab) sign(kid string, header, claims map[string]any) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(l.key(kid), []byte(text)))
}

// accepts wants a token to be good.
func (l *lab) accepts(token string) *Token {
	l.t.Helper()
	got, err := l.v.Verify(l.t.Context(), "acme", token)
	if err != nil {
		l.t.Fatal(err)
	}
	return got
}

// refuses wants a token to be refused for a reason.
func (l *lab) refuses(token string, want Reason) {
	l.t.Helper()
	got, err := l.v.Verify(l.t.Context(), "acme", token)
	if reasonOf(err) != want || got != nil {
		l.t.Fatalf("%v after %v, want %s", err, time.Since(epoch()), want)
	}
}

// reasonOf is that of a refusal, "unavailable", or "" for another error and none.
func reasonOf(err error) Reason {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Reason
	}
	if errors.Is(err, peal.ErrUnavailable) {
		return "unavailable"
	}
	return ""
}
