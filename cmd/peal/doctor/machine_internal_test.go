package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// system writes files below a root, as procfs and sysfs have them.
func system(t *testing.T, files map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{Root: root, PID: 7, Connections: 1000}
}

// The limits are those of the running service, as the system tells them.
func TestLimitsAreJudged(t *testing.T) {
	limits := func(hard string) Machine {
		return system(t, map[string]string{"proc/7/limits": "Limit                     Soft Limit           Hard Limit           Units\nMax open files            256                  " + hard + "                 files\n"})
	}
	memory := func(max, goal string) Finding {
		environment := "HOME=/\x00SECRET=x\x00"
		if goal != "" {
			environment += "GOMEMLIMIT=" + goal + "\x00"
		}
		return system(t, map[string]string{
			"proc/7/cgroup": "0::/system.slice/peal.service\n", "proc/7/environ": environment,
			"sys/fs/cgroup/system.slice/peal.service/memory.max": max + "\n", "sys/fs/cgroup/system.slice/memory.max": "max\n",
		}).memory()
	}
	check(t, []judged{
		{"enough files", limits("1048576").files(), OK, "process 7"},
		{"no limit of files", limits("unlimited").files(), OK, "no limit"},
		{"few files", limits("1024").files(), Trouble, "LimitNOFILE"},
		{"no procfs", system(t, nil).files(), Skipped, "can't be read"},

		{"no limit of memory", memory("max", ""), OK, "no limit"},
		{"Go does not know", memory("1073741824", ""), Warning, "GOMEMLIMIT=921MiB"},
		{"Go knows", memory("1073741824", "900MiB"), OK, "900.0 MiB"},
		{"Go believes in more", memory("1073741824", "2GiB"), Trouble, "is killed"},
		{"little memory", memory("104857600", "90MiB"), Warning, "fewer connections"},
		{"Go alone", memory("max", "50MiB"), Warning, "fewer connections"},
	})
	first := system(t, map[string]string{
		"proc/7/cgroup": "5:cpu,memory:/docker/abc\n1:name=systemd:/docker/abc\n", "proc/7/environ": "",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
	})
	check(t, []judged{{"cgroups of the first version, in a container", first.memory(), Warning, "limit 1.0 GiB"}})
}

// chain makes a certificate.
func chain(t *testing.T, host string, from, to time.Time) [][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peal"}, NotBefore: from, NotAfter: to}
	if host != "" {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der}
}

func TestCertificatesAreJudged(t *testing.T) {
	year := 365 * 24 * time.Hour
	of := func(host string, from, to time.Duration) Finding {
		return certificate("certificate", chain(t, host, now.Add(from), now.Add(to)), now)
	}
	check(t, []judged{
		{"good", of("peal.example", -year, year), OK, "peal.example"},
		{"about to expire", of("peal.example", -year, 24*time.Hour), Warning, "Renew"},
		{"expired", of("peal.example", -year, -time.Hour), Trouble, "expired"},
		{"not yet good", of("peal.example", time.Hour, year), Trouble, "not good before"},
		{"names no host", of("", -year, year), Trouble, "names no host"},
	})
}

// A port is free, somebody else's, or that of a peal, which is ready or says why not.
func TestPortsAreJudged(t *testing.T) {
	answering := func(status int, kind, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	encrypted := func(status int, kind, body string) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			w.Write([]byte(body))
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // it is asked without TLS too
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	file := &tls.Certificate{Certificate: chain(t, "peal.example", now, now.Add(time.Hour))}
	withTLS := func(address string) Finding {
		return Service{Listen: address, Certificate: file}.public(t.Context())[0]
	}
	free := httptest.NewServer(nil)
	free.Close()
	admin := func(address string) Finding { return Service{Admin: address}.admin(t.Context()) }
	public := func(address string) Finding { return Service{Listen: address}.public(t.Context())[0] }
	check(t, []judged{
		{"free", admin(free.Listener.Addr().String()), OK, "is free"},
		{"any", admin("127.0.0.1:0"), OK, "any"},
		{"of another machine", admin("192.0.2.1:8081"), Trouble, "no address of this machine"},
		{"ready", admin(answering(200, "text/plain; charset=utf-8", "ok\n")), OK, "ready"},
		{"not ready", admin(answering(503, "text/plain; charset=utf-8", "NATS is away\n")), Trouble, "NATS is away"},
		{"somebody else's", admin(answering(200, "text/html", "<html>")), Trouble, "not peal"},
		{"public", public(answering(401, "application/problem+json", `{"code":"UNAUTHENTICATED"}`)), OK, "peal listens"},
		{"public by TLS", withTLS(encrypted(401, "application/problem+json", `{"code":"UNAUTHENTICATED"}`)), OK, "peal listens"},
		{"TLS is not in the flags", public(encrypted(401, "application/problem+json", `{"code":"UNAUTHENTICATED"}`)), Warning, "with TLS that is not in these flags"},
		{"TLS is in the flags alone", withTLS(answering(401, "application/problem+json", `{"code":"UNAUTHENTICATED"}`)), Warning, "without the TLS of these flags"},
		{"TLS of somebody else", public(encrypted(404, "text/html", "<html>")), Trouble, "not peal"},
		{"public of somebody else", public(answering(404, "text/html", "<html>")), Trouble, "not peal"},
	})
}

func TestSecretsAreJudged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "peal.creds")
	write := func(mode os.FileMode) Finding {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		return Secret("c", "--nats-creds", name)
	}
	check(t, []judged{
		{"good", write(0o600), OK, "can be read"},
		{"of everybody", write(0o644), Warning, "chmod"},
		{"not there", Secret("c", "--nats-creds", name+"x"), Trouble, "no such file"},
	})
}
