package auth_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// A token that was seen before a revocation was issued before it, whatever its
// iat says: the clock of an issuer may be ahead. What is learned of the clock holds
// for the realm's other tokens too.
func TestATokenFromTheFutureIsRevokedTooIfItWasSeenBefore(t *testing.T) {
	w := newWorld(t, nil)
	revoked := func(token string) bool {
		_, err := w.v.Verify(t.Context(), "acme", token)
		refusal, ok := errors.AsType[*auth.Refusal](err)
		if err != nil && (!ok || refusal.Reason != auth.ReasonRevoked) {
			t.Fatal(err)
		}
		return err != nil
	}
	issued := func(at time.Time, sid string) string {
		return w.token("acme", map[string]any{"iat": at.Unix(), "sid": sid})
	}
	seen := issued(w.now.Add(20*time.Second), "s1")
	if revoked(seen) {
		t.Fatal("revoked before there is a revocation")
	}
	unseen := issued(w.now.Add(20*time.Second), "s2")

	w.v.Revocations().Add(peal.Revocation{Realm: "acme", Namespace: "acme", User: "jane"}, w.now.Add(time.Second), w.now.Add(time.Hour))
	if !revoked(seen) {
		t.Error("a token that was seen before is good")
	}
	w.now = w.now.Add(time.Minute)
	if !revoked(seen) || !revoked(unseen) {
		t.Error("the tokens are good when their iat is past")
	}
	if revoked(issued(w.now, "s3")) {
		t.Error("a token that was issued a minute later is refused")
	}
}

// What was learned of an issuer's clock outlives a reload, whatever that changes of
// the realm but the issuer. A realm that was changed used to learn it anew, and a
// token that was seen before it was revoked was good again.
func TestAReloadForgetsNothingOfTheIssuersClock(t *testing.T) {
	w := newWorld(t, nil)
	token := w.token("acme", map[string]any{"iat": w.now.Add(20 * time.Second).Unix()})
	w.verify("acme", token)
	w.v.Revocations().Add(peal.Revocation{Realm: "acme", Namespace: "acme", User: "jane"}, w.now.Add(time.Second), w.now.Add(time.Hour))
	w.now = w.now.Add(time.Minute)

	cfg := w.cfg
	cfg.Realms = slices.Clone(cfg.Realms)
	for i := range cfg.Realms {
		cfg.Realms[i].Audiences = []string{"peal", "another"}
	}
	if _, err := w.v.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	_, err := w.v.Verify(t.Context(), "acme", token)
	if refusal, ok := errors.AsType[*auth.Refusal](err); !ok || refusal.Reason != auth.ReasonRevoked {
		t.Errorf("%v, want the token to stay revoked", err)
	}
}
