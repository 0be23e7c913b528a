package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	s = serveHere(t, data, i.file)
	s.wants(t, i, "while the issuer is down", map[string]int{realmAcme: 202, realmGlobex: 202})
}

// A start does not wait for an issuer that does not answer: not even until it is
// given up.
func TestStartDoesNotWaitForAnIssuer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	file := filepath.Join(t.TempDir(), "realms.yaml")
	realms := fmt.Sprintf("realms: [{name: acme, issuer: 'http://%[1]s', jwks: 'http://%[1]s/jwks', audiences: [peal], tenants: any, allowPrivate: true}]\n", silent.Addr())
	if err := os.WriteFile(file, []byte(realms), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serveHere(t, t.TempDir(), file)
	if log := s.log.String(); !strings.Contains(log, `msg="realm has no keys yet" realm=acme err=<nil>`) {
		t.Errorf("ready only when the issuer was given up, or without a word:\n%s", log)
	}
}
