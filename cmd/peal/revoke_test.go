package main

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// What an operator does about a laptop that was stolen: its connection ends, its
// token is refused, and the user signs in anew.
func TestRevokedUserIsCutOff(t *testing.T) {
	i := newIdentity(t)
	s := serveHere(t, t.TempDir(), i.file)
	stolen := i.mint(realmAcme, nil)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.ready.URL+node.Base+"/ticket/sse/notifications", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = (&target{realm: realmAcme, tenant: string(tenantShared)}).header(stolen)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := sse.NewReader(resp.Body)
	if e, err := events.Next(); err != nil || e.Name != sse.Connected {
		t.Fatalf("first event %+v, %v", e, err)
	}

	began := time.Now()
	got := do(t, nil, "admin", "revoke", "--admin", s.ready.Admin, "--tenant", string(tenantShared), "--user", "jane", "--namespace", realmAcme)
	if got.status != 0 || !json.Valid([]byte(got.stdout)) {
		t.Fatalf("%+v", got)
	}
	var last sse.Event
	for {
		e, err := events.Next()
		if err != nil {
			break
		}
		last = e
	}
	var told struct{ Code string }
	if err := json.Unmarshal(last.Data, &told); err != nil || last.Name != sse.Error || told.Code != "REVOKED" {
		t.Errorf("the last event is %s %s, want error REVOKED", last.Name, last.Data)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the connection ended after %v, want 2 s", took)
	}
	if status := s.asks(t, realmAcme, stolen); status != http.StatusUnauthorized {
		t.Errorf("the token of before: %d, want 401", status)
	}
	if status := s.asks(t, realmAcme, i.mint(realmAcme, nil)); status != http.StatusAccepted {
		t.Errorf("a token of after: %d, want 202", status)
	}
}
