//go:build k8s

package helm_test

import (
	"bytes"
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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	etcdTool   = flag.String("etcd", "etcd", "the `binary` of etcd; it is in Debian's package etcd-server")
	serverTool = flag.String("kube-apiserver", "../../bin/tools/kube-apiserver", "the `binary` of the API server; make k8s-e2e builds it")
	ctlTool    = flag.String("kubectl", "../../bin/tools/kubectl", "the `binary` of kubectl; make k8s-e2e builds it")
	gatewayDir = flag.String("gateway-api", "", "the `folder` of the module sigs.k8s.io/gateway-api")
	operator   = flag.String("prometheus-operator", "", "the `folder` of the module github.com/prometheus-operator/prometheus-operator")
)

// serve starts an API server, which ends with the test, and has kubectl and Helm use it. It
// has no controllers, scheduler or nodes behind it: what is made stays as it was made, and
// no pod runs.
func serve(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	a := newAuthority(t, dir)
	a.sign(t, "server", x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	a.sign(t, "admin", x509.Certificate{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}})
	file := func(name string) string { return filepath.Join(dir, name) }

	store := freeAddress(t)
	start(t, file("etcd.log"), func() error { return dial(store) }, *etcdTool,
		"--data-dir", file("etcd"),
		"--listen-client-urls", "https://"+store, "--advertise-client-urls", "https://"+store,
		"--listen-peer-urls", "http://127.0.0.1:0", // it has no peers
		"--cert-file", file("server.crt"), "--key-file", file("server.key"),
		"--client-cert-auth", "--trusted-ca-file", file("ca.crt"))

	address := freeAddress(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://%s", certificate-authority: %q}}]
users: [{name: admin, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`, address, file("ca.crt"), file("admin.crt"), file("admin.key"))
	if err := os.WriteFile(file("config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file("config"))
	t.Setenv("HOME", dir) // kubectl and Helm keep there what they know of a server
	ready := func() error { _, _, err := kubectl("", "get", "--raw", "/readyz"); return err }
	start(t, file("kube-apiserver.log"), ready, *serverTool,
		"--bind-address", host, "--secure-port", port, "--advertise-address", host,
		"--endpoint-reconciler-type", "none", // nobody looks for it in the cluster
		"--cert-dir", dir, "--tls-cert-file", file("server.crt"), "--tls-private-key-file", file("server.key"),
		"--client-ca-file", file("ca.crt"), "--authorization-mode", "RBAC",
		"--allow-privileged", // so that it is the namespace that refuses
		"--etcd-servers", "https://"+store, "--etcd-cafile", file("ca.crt"),
		"--etcd-certfile", file("admin.crt"), "--etcd-keyfile", file("admin.key"),
		"--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", file("admin.key"), "--service-account-signing-key-file", file("admin.key"))

	types := []string{"--filename", "testdata/scene.yaml"}
	for _, crd := range []string{
		*gatewayDir + "/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
		*operator + "/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
		*operator + "/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	} {
		types = append(types, "--filename", crd)
	}
	ask(t, "", append([]string{"create"}, types...)...)
	ask(t, "", "wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all")
	// What is established is served a moment later.
	until(t, "the types of the scene", func() error {
		_, _, err := kubectl("", "get", "httproutes,servicemonitors,prometheusrules,backendconfigs")
		return err
	})
}

// start runs a program until the test has ended, and returns when it is ready.
func start(t *testing.T, log string, ready func() error, name string, args ...string) {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also if the test is killed
	err = cmd.Start()
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // its log says more
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said at the end:\n%s", name, tail(log))
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s still runs 20 s after SIGTERM", name)
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	until(t, name, func() error {
		select {
		case <-ended:
			t.Fatalf("%s has ended: %v", name, cmd.ProcessState)
		default:
		}
		return ready()
	})
}

// until asks ready, each tenth of a second and for a minute, until it is nil.
func until(t *testing.T, what string, ready func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not ready after a minute: %v", what, err)
		case <-tick.C:
		}
	}
}

// tail is the end of a log.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "")
}

func dial(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// freeAddress is one that nobody listens at. A program that takes no listener has to be told
// one, and if another takes it meanwhile, it says so and ends.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// authority signs the certificates of one test.
type authority struct {
	dir  string // where its files are
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	a.cert, a.key = a.sign(t, "ca", x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign makes a certificate for a day, and writes name.crt and name.key. The first signs itself.
func (a *authority) sign(t *testing.T, name string, c x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	c.KeyUsage |= x509.KeyUsageDigitalSignature
	if !c.IsCA {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = &c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return made, key
}

// kubectl runs kubectl with a text as its input, and returns what it printed, and of what the
// server warned. The error has what it said.
func kubectl(input string, args ...string) (out string, warnings []string, err error) {
	var printed, said bytes.Buffer
	cmd := exec.Command(*ctlTool, append([]string{"--namespace", namespace}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &printed, &said
	err = cmd.Run()
	for line := range strings.Lines(said.String()) {
		if warning, ok := strings.CutPrefix(line, "Warning: "); ok {
			warnings = append(warnings, strings.TrimSpace(warning))
		}
	}
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return printed.String(), warnings, err
}

// ask runs kubectl, which has to do as it is told.
func ask(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, _, err := kubectl(input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// there lists what is in the namespace, by type and name.
func there(t *testing.T) []string {
	t.Helper()
	types := strings.Fields(ask(t, "", "api-resources", "--namespaced", "--verbs=list", "--output=name"))
	types = slices.DeleteFunc(types, func(name string) bool { return strings.HasPrefix(name, "events") })
	names := strings.Fields(ask(t, "", "get", strings.Join(types, ","), "--output=name"))
	slices.Sort(names)
	return names
}
