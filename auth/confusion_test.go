package auth_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// likeness is what three realms, and the tokens of each, have in common.
type likeness struct{ kid, key, sub, aud bool }

func (l likeness) String() string {
	name := "same"
	for _, x := range []struct {
		name string
		is   bool
	}{{" kid", l.kid}, {" key", l.key}, {" sub", l.sub}, {" aud", l.aud}} {
		if x.is {
			name += x.name
		}
	}
	if name == "same" {
		return "nothing in common"
	}
	return name
}

// However alike three realms are, each takes its own tokens and no others. With
// all in common, and for any tenant, only the issuer tells them apart.
func TestRealmsAreNotConfused(t *testing.T) {
	const rounds = 200
	for bits := range 16 {
		like := likeness{bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0}
		t.Run(like.String(), func(t *testing.T) {
			w, keys := alike(t, like)
			for range rounds {
				var tokens []content
				shared := uuid.NewString()
				for i := range keys {
					c := random(like, i)
					if like.sub {
						c.sub = shared
					}
					c.token = keys[i].token("EdDSA", nil, w.claims(c.realm, map[string]any{
						"aud": c.aud, "sub": c.sub, "jti": c.jti, "tenants": c.tenants, "roles": []string{"notifications:admin"},
					}))
					tokens = append(tokens, c)
				}
				for _, c := range tokens {
					for _, at := range realmNames {
						c.wantOnlyIn(t, w, at)
					}
				}
			}
		})
	}
}

var realmNames = []string{"acme", "globex", "service"}

// alike makes three realms for any tenant, and the key of each.
func alike(t *testing.T, like likeness) (*world, []signer) {
	t.Helper()
	var keys []signer
	for i, name := range realmNames {
		s := newEd(t, "kid-of-"+name)
		if like.key && i > 0 {
			s.key = keys[0].key
		}
		if like.kid {
			s.kid = "kid"
		}
		keys = append(keys, s)
	}
	w := newWorld(t, func(c *auth.Config) {
		for i, name := range realmNames {
			r := realmOf(c, name)
			r.JWKS, r.Tenants = serve(t, keys[i].jwk(nil)), auth.Tenants{Any: true}
			r.Audiences = []string{"peal-" + name}
			if like.aud {
				r.Audiences = []string{"peal"}
			}
		}
	})
	return w, keys
}

// content is what one token says.
type content struct {
	realm, aud, sub, jti string
	tenants              []string
	token                string
}

// random is new content for a realm.
func random(like likeness, i int) content {
	c := content{realm: realmNames[i], aud: "peal-" + realmNames[i], sub: uuid.NewString(), jti: uuid.NewString()}
	if like.aud {
		c.aud = "peal"
	}
	for range 1 + rand.IntN(3) {
		c.tenants = append(c.tenants, uuid.NewString())
	}
	return c
}

// wantOnlyIn wants the token to be good in its own realm, for what it says, and
// in no other.
func (c content) wantOnlyIn(t *testing.T, w *world, at string) {
	t.Helper()
	got, err := w.v.Verify(t.Context(), at, c.token)
	if at != c.realm {
		if got != nil || !errors.Is(err, peal.ErrUnauthenticated) {
			t.Fatalf("realm %s took the token of %s: %v, %v", at, c.realm, got, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("realm %s refuses its own token: %v", at, err)
	}
	for _, tenant := range c.tenants {
		caller, err := got.Caller(tenant)
		if err != nil {
			t.Fatal(err)
		}
		want := peal.Inbox{Tenant: peal.Tenant(tenant), Namespace: peal.Namespace(c.realm), User: peal.UserID(c.sub)}
		if diff := cmp.Diff(want, caller.Inbox); diff != "" {
			t.Fatalf("inbox (-want +got):\n%s", diff)
		}
	}
	if _, err := got.Caller(uuid.NewString()); !errors.Is(err, peal.ErrForbidden) {
		t.Fatalf("a tenant that the token does not name: %v", err)
	}
}

// A token of one realm, with the same subject as any other, is good there and
// nowhere else, whatever it says of itself.
func TestNoRealmTakesAnothersToken(t *testing.T) {
	w := newWorld(t, nil)
	for _, from := range realmNames {
		for _, at := range realmNames {
			kid, _, err := w.iss.PublicKey(at)
			if err != nil {
				t.Fatal(err)
			}
			// The claims and the kid are those of the realm that is asked: only the
			// key is another.
			token := w.sign(from, map[string]any{"kid": kid}, w.claims(at, nil))
			_, err = w.v.Verify(t.Context(), at, token)
			if good := err == nil; good != (from == at) {
				t.Errorf("signed by %s, asked of %s: %v", from, at, err)
			}
		}
	}
}
