package bus_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/bustest"
)

func user(id string) peal.Revocation {
	return peal.Revocation{Tenant: acme, Namespace: "staff", User: peal.UserID(id)}
}

func revoke(t *testing.T, b *bus.Bus, r peal.Revocation) bus.Revoked {
	t.Helper()
	got, err := b.Revoke(t.Context(), r, time.Hour)
	if err != nil {
		t.Fatalf("revoke %+v: %v", r, err)
	}
	if got.Revocation != r || got.Until.Sub(got.At) != time.Hour {
		t.Fatalf("%+v, want %+v for an hour", got, r)
	}
	return got
}

// However many note an id at once, one of them is the first.
func TestOnce(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	buses := []*bus.Bus{openOn(t, s, nil), openOn(t, s, nil)}
	for round := range 10 {
		id := []string{"acme", fmt.Sprint("token ", round)}
		if used, err := buses[0].Used(t.Context(), id...); used || err != nil {
			t.Fatalf("used: %v, %v, want that it is new", used, err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		firsts := 0
		for i := range 32 {
			wg.Go(func() {
				first, err := buses[i%2].Once(t.Context(), time.Hour, id...)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("once: %v", err)
				}
				if first {
					firsts++
				}
			})
		}
		wg.Wait()
		if firsts != 1 {
			t.Fatalf("%d of 32 are the first, want 1", firsts)
		}
		if used, err := buses[1].Used(t.Context(), id...); !used || err != nil {
			t.Fatalf("used: %v, %v, want that it is", used, err)
		}
	}
	if bus.OnceKey("a", "bc") == bus.OnceKey("ab", "c") {
		t.Error("two ids of the same bytes, parted elsewhere, are one")
	}
	if _, err := buses[0].Once(t.Context(), time.Hour); !errors.Is(err, peal.ErrInvalid) {
		t.Errorf("no id at all: %v, want invalid", err)
	}
}

func TestRevocationThatIsNoneIsInvalid(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	for name, tt := range map[string]struct {
		r    peal.Revocation
		keep time.Duration
	}{
		"no field":        {peal.Revocation{}, time.Hour},
		"no namespace":    {peal.Revocation{User: "jane"}, time.Hour},
		"no user":         {peal.Revocation{Namespace: "staff"}, time.Hour},
		"not UTF-8":       {peal.Revocation{Subject: "\xff"}, time.Hour},
		"too long":        {peal.Revocation{Subject: strings.Repeat("x", 64<<10)}, time.Hour},
		"for no time":     {user("jane"), 0},
		"since yesterday": {user("jane"), -time.Hour},
		"for ever":        {user("jane"), math.MaxInt64},
	} {
		if _, err := b.Revoke(t.Context(), tt.r, tt.keep); !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestRevokeWithoutNATSIsUnavailable(t *testing.T) {
	t.Parallel()
	b, w := openWire(t, t.TempDir(), nil)
	w.stop()
	if _, err := b.Revoke(t.Context(), user("jane"), time.Hour); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("revoke: %v, want unavailable", err)
	}
	if _, err := b.Once(t.Context(), time.Hour, "t1"); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("once: %v, want unavailable", err)
	}
	if _, err := b.Used(t.Context(), "t1"); !errors.Is(err, peal.ErrUnavailable) {
		t.Errorf("used: %v, want unavailable", err)
	}
}

// Each field has a part in the key, also one that is added one day.
func TestRevocationKeyHasEveryField(t *testing.T) {
	keys := make(map[string]string)
	v := reflect.TypeFor[peal.Revocation]()
	for i := range v.NumField() {
		var r peal.Revocation
		switch f := reflect.ValueOf(&r).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		default:
			t.Fatalf("%s is of a kind that this test does not know", v.Field(i).Name)
		}
		key := bus.RevokedKey(r)
		if same, ok := keys[key]; ok {
			t.Errorf("%s has the key of %s", v.Field(i).Name, same)
		}
		keys[key] = v.Field(i).Name
	}
	if _, ok := keys[bus.RevokedKey(peal.Revocation{})]; ok {
		t.Error("a field has no part in the key")
	}
}

// Distinct revocations have distinct keys, whatever is in their fields, and the
// keys are legal.
func FuzzRevocationKey(f *testing.F) {
	f.Add("acme", "", "", "", "", "", false, "", "acme", "", "", "", "", "", true, "")
	f.Add("a", "b", "", "", "", "", false, "", "ab", "", "", "", "", "", false, "")
	f.Add("", "", "", "", "s", "", false, "", "", "", "", "", "", "s", false, "")
	f.Add("", "", "", "", "*.>", "", false, "", "", "", "", "", "\xff", "", false, "tokenId")
	f.Fuzz(func(t *testing.T, realm, tenant, namespace, user, sub, sid string, none bool, jti,
		realm2, tenant2, namespace2, user2, sub2, sid2 string, none2 bool, jti2 string) {
		r1 := peal.Revocation{Realm: realm, Tenant: peal.Tenant(tenant), Namespace: peal.Namespace(namespace), User: peal.UserID(user),
			Subject: sub, Session: sid, NoSession: none, TokenID: jti}
		r2 := peal.Revocation{Realm: realm2, Tenant: peal.Tenant(tenant2), Namespace: peal.Namespace(namespace2), User: peal.UserID(user2),
			Subject: sub2, Session: sid2, NoSession: none2, TokenID: jti2}
		k1, k2 := bus.RevokedKey(r1), bus.RevokedKey(r2)
		if (k1 == k2) != (r1 == r2) {
			t.Errorf("%+v has key %s, %+v has key %s", r1, k1, r2, k2)
		}
		tokens := strings.Split(k1, ".")
		if len(tokens) != 4 || tokens[0] != "$KV" || tokens[1] != "PEAL_REVOKED" || tokens[2] != "revoked" || !bus.TokenForm.MatchString(tokens[3]) {
			t.Errorf("%q is no key of the bucket", k1)
		}
	})
}
