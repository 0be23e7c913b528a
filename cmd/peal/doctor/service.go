package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// Service is a node on this machine, running or about to.
type Service struct {
	Listen, Admin string           // HOST:PORT
	Base          string           // path of the API
	Certificate   *tls.Certificate // of the public port; nil without TLS
}

// Checks looks at the ports and the certificate. It takes no port: it asks who is
// there.
func (s Service) Checks() []Check {
	checks := []Check{
		{"public port", localBound, func(ctx context.Context) []Finding { return s.public(ctx) }},
		{"admin port", localBound, func(ctx context.Context) []Finding { return []Finding{s.admin(ctx)} }},
	}
	if s.Certificate != nil {
		checks = append(checks, Check{"certificate", localBound, func(context.Context) []Finding {
			return []Finding{certificate("certificate", s.Certificate.Certificate, time.Now())}
		}})
	}
	return checks
}

// certificate judges a chain as the public port presents it.
func certificate(check string, chain [][]byte, now time.Time) Finding {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return found(Trouble, check, "Give --tls-cert a file with a certificate in PEM.", "%v", err)
	}
	names := append(leaf.DNSNames, leaf.Subject.CommonName)
	seen := fmt.Sprintf("for %s, until %s", cmp.Or(names[0], "no name"), leaf.NotAfter.Format(time.DateOnly))
	switch {
	case now.After(leaf.NotAfter):
		return found(Trouble, check, "Renew it and start the service again: no client connects.", "%s: it has expired", seen)
	case now.Before(leaf.NotBefore):
		return found(Trouble, check, "Set the clock, or wait: no client connects before.", "not good before %s", leaf.NotBefore.Format(time.RFC3339))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return found(Trouble, check, "Get one with the host as a subject alternative name: clients look at nothing else.", "%s: it names no host", seen)
	case leaf.NotAfter.Before(now.Add(certificateWarning)):
		return found(Warning, check, "Renew it and start the service again.", "%s", seen)
	case len(chain) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		return found(Warning, check, "Append the certificates of whoever has signed it to --tls-cert: many clients have only the root.", "%s, without its intermediates", seen)
	}
	return well(check, "%s", seen)
}

// portIn is the address by which this machine reaches what listens there, or why
// nothing could.
func portIn(address string) (dial string, trouble string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err.Error()
	}
	ip := net.ParseIP(host)
	if host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port), ""
	}
	if ip == nil || ip.IsLoopback() {
		return address, ""
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return address, ""
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return address, ""
		}
	}
	return "", "is no address of this machine"
}

// occupied reports who listens on a port, or a finding where that is all to say.
func occupied(ctx context.Context, check, flag, address string) (dial string, f Finding, taken bool) {
	dial, trouble := portIn(address)
	switch {
	case trouble != "":
		return "", found(Trouble, check, "Give "+flag+" an address of this machine, or :PORT for all of them.", "%s %s", address, trouble), false
	case strings.HasSuffix(address, ":0"):
		return "", well(check, "any that is free"), false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", dial)
	if err != nil {
		return "", well(check, "%s is free", address), false
	}
	c.Close()
	return dial, Finding{}, true
}

// foreign is the finding of a port that somebody else has.
func foreign(check, flag, address string) Finding {
	return found(Trouble, check, "Stop what listens there (ss -ltnp shows it), or choose another port with "+flag+".", "%s is in use by something that is not peal", address)
}

// public looks at the public port, and whether the certificate in force is that of
// the file.
func (s Service) public(ctx context.Context) []Finding {
	const check = "public port"
	dial, f, taken := occupied(ctx, check, "--listen", s.Listen)
	if !taken {
		return []Finding{f}
	}
	with, ours := s.pealAt(ctx, dial, s.Certificate != nil)
	if !ours {
		const do = "Give peal doctor the flags and the configuration that the service runs with; or start the service again, if they are new."
		switch _, ours = s.pealAt(ctx, dial, s.Certificate == nil); {
		case !ours:
			return []Finding{foreign(check, "--listen", s.Listen)}
		case s.Certificate == nil:
			return []Finding{found(Warning, check, do, "%s: peal listens there, with TLS that is not in these flags", s.Listen)}
		}
		return []Finding{found(Warning, check, do, "%s: peal listens there, without the TLS of these flags", s.Listen)}
	}
	findings := []Finding{well(check, "%s: peal listens", s.Listen)}
	if with != nil && !bytes.Equal(with, s.Certificate.Certificate[0]) {
		findings = append(findings, found(Warning, "certificate", "Start the service again: it reads --tls-cert when it starts.", "the running service shows another than is in the file"))
	}
	return findings
}

// pealAt reports whether a peal answers at an address, by TLS or without it, and with
// what certificate. Whose that is is not asked.
func (s Service) pealAt(ctx context.Context, dial string, byTLS bool) (certificate []byte, ours bool) {
	ctx, cancel := context.WithTimeout(ctx, localBound/3)
	defer cancel()
	scheme := "http"
	if byTLS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+dial+s.Base+"/ticket/notification/count", nil)
	if err != nil {
		return nil, false
	}
	res, err := once(&http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}).Do(req)
	if err != nil {
		return nil, false
	}
	defer res.Body.Close()
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		certificate = res.TLS.PeerCertificates[0].Raw
	}
	return certificate, problemIn(res).Code != ""
}

// admin looks at the admin port, and asks whether the node is ready.
func (s Service) admin(ctx context.Context) Finding {
	const check = "admin port"
	dial, f, taken := occupied(ctx, check, "--admin", s.Admin)
	if !taken {
		return f
	}
	switch trouble, peal := readiness(ctx, dial); {
	case !peal:
		return foreign(check, "--admin", s.Admin)
	case trouble != "":
		return found(Trouble, check, "See in its log what it waits for, and what else is trouble here.", "%s: peal is not ready: %s", s.Admin, trouble)
	}
	if !administers(ctx, dial) {
		return found(Trouble, check, "Give --admin the address of the admin port: by default 127.0.0.1:8081.", "%s is a public port", s.Admin)
	}
	return well(check, "%s: peal listens, and is ready", s.Admin)
}

// Running reports whether a peal answers on the admin port.
func (s Service) Running(ctx context.Context) bool {
	dial, _, taken := occupied(ctx, "", "", s.Admin)
	if !taken {
		return false
	}
	_, peal := readiness(ctx, dial)
	return peal
}

// readiness asks an admin port why the node is not ready; "" if it is.
func readiness(ctx context.Context, dial string) (trouble string, peal bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+dial+"/readyz", nil)
	if err != nil {
		return "", false
	}
	res, err := once(&http.Transport{DisableKeepAlives: true}).Do(req)
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	text := line(res.Body)
	switch {
	case res.StatusCode == http.StatusOK && text == "ok":
		return "", true
	case res.StatusCode == http.StatusServiceUnavailable && plainText(res.Header):
		return text, true
	}
	return "", false
}

// administers reports whether the port is one for whoever operates peal: a public port
// has no metrics.
func administers(ctx context.Context, dial string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+dial+"/metrics", nil)
	if err != nil {
		return false
	}
	res, err := once(&http.Transport{DisableKeepAlives: true}).Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// once is a client that follows nothing.
func once(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// problem is the refusal of a peal.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// problemIn reads the refusal of an answer; zero if peal has not made it.
func problemIn(res *http.Response) (p problem) {
	if mediaType(res.Header) != "application/problem+json" {
		return p
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &p) != nil {
		return problem{}
	}
	return p
}

func mediaType(h http.Header) string {
	t, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return t
}

func plainText(h http.Header) bool { return mediaType(h) == "text/plain" }

// line is the first line of a short text.
func line(r io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(r, 300))
	text, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return text
}
