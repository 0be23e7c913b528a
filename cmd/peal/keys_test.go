package main

import (
	"path/filepath"
	"testing"
	"time"
)

// A node that starts while the issuers are down takes the tokens that it took
// before: their keys are on its disk.
func TestServeStartsWithoutTheIssuer(t *testing.T) {
	i := newIdentity(t)
	data := t.TempDir()
	s := serveHere(t, data, i.file)
	s.wants(t, i, "while the issuer is up", map[string]int{realmAcme: 202, realmGlobex: 202})
	if status := s.stop(); status != 0 {
		t.Fatalf("exit status %d\n%s", status, s.log)
	}
	if files, err := filepath.Glob(filepath.Join(data, "keys", "*.json")); len(files) != 2 {
		t.Errorf("kept: %q, %v; want a file for each realm", files, err)
	}

	i.server.Close()
	began := time.Now()
	s = serveHere(t, data, i.file)
	if took := time.Since(began); took >= keysPatience {
		t.Errorf("ready after %v, want it not to wait for the issuer", took)
	}
	s.wants(t, i, "while the issuer is down", map[string]int{realmAcme: 202, realmGlobex: 202})
}
