package auth_test

import (
	"errors"
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
