package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pealhq/peal/node"
)

// natsServer is the program nats-server, with its flags and its configuration files.
func natsServer() {
	fs := flag.NewFlagSet("nats-server", flag.ExitOnError)
	opts, err := server.ConfigureOptions(fs, os.Args[1:], nil, fs.Usage, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.WaitForShutdown()
}

// startNATSServer runs nats-server in a process of its own, with some variables in its
// environment. It returns before that answers.
func startNATSServer(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startIn(t, append(env, "PEAL_TEST_AS_NATS_SERVER=1"), args...)
}

// authority signs certificates for this machine.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = self, a.newKey()
	a.cert = a.sign("ca", self, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// file is the path of a file of the authority's.
func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes a certificate to NAME.pem and its key to NAME.key.
func (a *authority) sign(name string, c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

// issue makes a certificate that serves both ends of a connection.
func (a *authority) issue(name string) {
	a.t.Helper()
	a.sign(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.newKey())
}

// A node that is started with its NATS waits for it, speaks TLS by a private
// authority, and shows a certificate of its own. The first of the addresses has no
// server, which is nothing.
func TestServeWaitsForNATSWithTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("nats")
	a.issue("node")
	s := newRolesSite(t, fmt.Sprintf("replicas: 1\npartitions: 1\nnats-ca: %s\nnats-cert: %s\nnats-key: %s\n", a.file("ca.pem"), a.file("node.pem"), a.file("node.key")))
	listen := freeAddress(t)
	conf := a.file("nats.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listen: %q\njetstream { store_dir: %q, max_file: 8G }\nauthorization { user: node, password: secret }\ntls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n",
		listen, s.data, a.file("nats.pem"), a.file("nats.key"), a.file("ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}

	p := start(t, "serve", "--nats", "tls://node:secret@"+freeAddress(t)+",tls://node:secret@"+listen, "--realms", s.realms, "--config", s.config,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-window", "0s", "--ready-json")
	p.log.await(t, 1, "nats does not answer yet")
	startNATSServer(t, nil, "-c", conf)
	p.awaitReady(t)
	if status, body := s.ask("POST", p.ready.URL+node.Base+"/ticket/event", tenantAcme, "desk", comment("e")); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, body)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Fatalf("ended with %d\n%s", status, p.log)
	}
	if strings.Contains(p.log.String(), "secret") {
		t.Errorf("the log has the password:\n%s", p.log)
	}
}

// What will not get better is told at once, and what may not, after some patience.
func TestServeSaysWhatIsWrongWithNATS(t *testing.T) {
	t.Parallel()
	s := newRolesSite(t, "replicas: 1\n")
	listen := freeAddress(t)
	conf := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listen: %q\njetstream { store_dir: %q }\nauthorization { user: node, password: secret }\n", listen, s.data), 0o600); err != nil {
		t.Fatal(err)
	}
	startNATSServer(t, nil, "-c", conf)
	for _, tt := range []struct {
		name, url string
		want      []string // in the last line on standard error
	}{
		{"no server", "nats://user:hidden@127.0.0.1:1", []string{"NATS at nats://masked@127.0.0.1:1: ", "--nats"}},
		{"wrong password", "nats://node:hidden@" + listen, []string{"nats://masked@" + listen, "Authorization Violation"}},
	} {
		got := do(t, nil, "serve", "--nats", tt.url, "--realms", s.realms, "--config", s.config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		for _, want := range tt.want {
			if got.status != 1 || !strings.Contains(lines[len(lines)-1], want) || strings.Contains(got.stderr, "hidden") {
				t.Errorf("%s: %+v, want status 1 and %q in the last line", tt.name, got, want)
			}
		}
		if asks := strings.Contains(got.stderr, "is it running there"); asks != (tt.name == "no server") {
			t.Errorf("%s: whether it runs is asked: %v\n%s", tt.name, asks, got.stderr)
		}
	}
}
