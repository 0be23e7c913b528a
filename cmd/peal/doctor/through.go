package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Proxy is a service as its clients reach it, with all that stands between.
type Proxy struct {
	URL     string        // of the service, without a slash at the end
	Base    string        // path of the API
	Header  http.Header   // of a caller: Authorization, realmname, x-tenantid; nil: nobody
	Origin  string        // of pages that use the API; "" if none is to be tried
	Wait    time.Duration // how long to watch a connection at most
	Within  time.Duration // how soon has to come what peal writes at once
	Publish bool          // tell the caller something, and see how soon it comes
	Roots   *tls.Config   // what to trust; nil: what the system does
}

// throughBound bounds a request that is answered at once.
const throughBound = 15 * time.Second

// Checks looks at what a client of the service would meet.
func (p Proxy) Checks() []Check {
	checks := []Check{
		{"proxy address", throughBound, func(ctx context.Context) []Finding { return []Finding{p.address(ctx)} }},
		{"proxy health", throughBound, func(ctx context.Context) []Finding { return p.health(ctx) }},
		{"proxy refusal", throughBound, func(ctx context.Context) []Finding { return []Finding{p.refusal(ctx)} }},
	}
	if p.Origin != "" {
		checks = append(checks, Check{"proxy cors", throughBound, func(ctx context.Context) []Finding { return []Finding{p.cors(ctx)} }})
	}
	return append(checks, Check{"event stream", p.Wait + 4*throughBound, p.stream})
}

// client makes a client that neither follows redirects nor unpacks what is packed.
// Its connections are closed by done.
func (p Proxy) client() (c *http.Client, done func()) {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the proxies of the environment, as the other commands
	t.DisableCompression = true
	if p.Roots != nil {
		t.TLSClientConfig = p.Roots.Clone()
	}
	return once(t), t.CloseIdleConnections
}

// get makes one request of nobody.
func (p Proxy) get(ctx context.Context, method, path string, header http.Header) (*http.Response, func(), error) {
	c, done := p.client()
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, nil)
	if err != nil {
		return nil, done, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, done, bare(err)
	}
	return res, func() { res.Body.Close(); done() }, nil
}

// bare drops from an error of net/http the URL, which may hold what nobody else is
// to see.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// address resolves, connects, and looks at the certificate.
func (p Proxy) address(ctx context.Context) Finding {
	const check = "proxy address"
	u, err := url.Parse(p.URL)
	if err != nil {
		return found(Trouble, check, "Give --through a URL such as https://peal.example.com.", "no URL")
	}
	began := time.Now()
	ips, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	if err != nil {
		return found(Trouble, check, "Set the name in the DNS, or mend --through.", "%s does not resolve: %v", u.Hostname(), err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return found(Trouble, check, "See whether the proxy runs and listens there, and whether a firewall lets this machine through.", "%s: %v", u.Host, err)
	}
	defer c.Close()
	took := round(time.Since(began))
	if u.Scheme != "https" {
		if loopback(p.URL) {
			return well(check, "%s (%s) in %s, without TLS, on this machine", u.Host, ips[0], took)
		}
		return found(Warning, check, "Serve https: tokens travel in every request, and browsers speak HTTP/2 by TLS alone.", "%s (%s) in %s, without TLS", u.Host, ips[0], took)
	}
	cfg := &tls.Config{}
	if p.Roots != nil {
		cfg = p.Roots.Clone()
	}
	cfg.ServerName = u.Hostname()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return found(Trouble, check, "Give the proxy a certificate that names this host, has not expired, and comes with its intermediates.", "%s: TLS: %v", u.Host, err)
	}
	state := t.ConnectionState()
	seen := fmt.Sprintf("%s (%s) in %s, %s, certificate until %s", u.Host, ips[0], round(time.Since(began)), tls.VersionName(state.Version),
		state.PeerCertificates[0].NotAfter.Format(time.DateOnly))
	if state.PeerCertificates[0].NotAfter.Before(time.Now().Add(certificateWarning)) {
		return found(Warning, check, "Renew the certificate of the proxy.", "%s", seen)
	}
	return well(check, "%s", seen)
}

// health asks what the public port tells of itself, which a proxy need not pass on.
func (p Proxy) health(ctx context.Context) []Finding {
	const check = "proxy health"
	res, done, err := p.get(ctx, http.MethodGet, "/readyz", nil)
	defer done()
	if err != nil {
		return []Finding{found(Trouble, check, "See what is said of the address above.", "/readyz: %v", err)}
	}
	text := line(res.Body)
	switch {
	case res.StatusCode == http.StatusOK && text == "ok":
		return []Finding{well(check, "/readyz: ok")}
	case res.StatusCode == http.StatusServiceUnavailable && plainText(res.Header):
		return []Finding{found(Trouble, check, "See the log of the node, or run peal doctor where it runs.", "/readyz: a node is not ready: %s", text)}
	case res.StatusCode >= 500:
		return []Finding{found(Trouble, check, reachPeal, "/readyz: %s", p.answerOf(res))}
	}
	return []Finding{skipped(check, "/readyz is not passed on (%s), and need not be", p.answerOf(res))}
}

const reachPeal = "The proxy answers itself: see that it has peal's public port (--listen) as its upstream, and reaches it."

// answerOf says what answers in the place of peal.
func (p Proxy) answerOf(res *http.Response) string {
	s := fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if t := mediaType(res.Header); t != "" {
		s += ", " + t
	}
	if by := res.Header.Get("Server"); by != "" {
		s += ", by " + by
	}
	return s
}

const streamPath = "/ticket/sse/notifications"

// refusal asks without a token: what comes must be peal's own answer.
func (p Proxy) refusal(ctx context.Context) Finding {
	const check = "proxy refusal"
	res, done, err := p.get(ctx, http.MethodGet, p.Base+streamPath, http.Header{"Accept": {"text/event-stream"}})
	defer done()
	if err != nil {
		return found(Trouble, check, "See what is said of the address above.", "%v", err)
	}
	if to := res.Header.Get("Location"); res.StatusCode >= 300 && res.StatusCode < 400 {
		host := "elsewhere"
		if u, err := url.Parse(to); err == nil && u.Host != "" {
			host = "to " + u.Host
		}
		return found(Trouble, check, "Let the paths below "+p.Base+" through as they are, without a login page of the proxy or a redirect to https: clients do not follow.",
			"sent %s (%d) instead of refused", host, res.StatusCode)
	}
	pr := problemIn(res)
	switch {
	case pr.Code == "":
		return found(Trouble, check, reachPeal+" It must pass on refusals too: no error_page (nginx proxy_intercept_errors), no login page of its own.",
			"without a token, not peal answers: %s", p.answerOf(res))
	case res.StatusCode != http.StatusUnauthorized:
		return found(Trouble, check, "See why peal itself does not get that far: "+pr.Detail+".", "without a token peal answers %d %s instead of 401", res.StatusCode, pr.Code)
	case res.Header.Get("WWW-Authenticate") == "":
		return found(Warning, check, "Have the proxy pass on WWW-Authenticate: clients tell an expired token by it.", "401 of peal, without WWW-Authenticate")
	}
	return well(check, "without a token, peal's 401, by %s", res.Proto)
}

// What a page sends.
var corsHeaders = []string{"authorization", "x-tenantid", "realmname", "last-event-id"}

// cors asks as a browser asks for a page of an origin.
func (p Proxy) cors(ctx context.Context) Finding {
	const check = "proxy cors"
	const configure = "Add the origin to cors-origins of peal, and let OPTIONS through: the proxy must neither answer it nor add Access-Control headers of its own."
	res, done, err := p.get(ctx, http.MethodOptions, p.Base+streamPath, http.Header{
		"Origin": {p.Origin}, "Access-Control-Request-Method": {"GET"}, "Access-Control-Request-Headers": {strings.Join(corsHeaders, ",")},
	})
	defer done()
	if err != nil {
		return found(Trouble, check, "See what is said of the address above.", "%v", err)
	}
	if res.StatusCode >= 300 {
		return found(Trouble, check, configure, "the preflight of %s is refused: %s", p.Origin, p.answerOf(res))
	}
	if f := p.allowed(res.Header, configure); f.Status != OK {
		return f
	}
	var allowed []string
	for name := range strings.SplitSeq(strings.ToLower(strings.Join(res.Header.Values("Access-Control-Allow-Headers"), ",")), ",") {
		allowed = append(allowed, strings.TrimSpace(name))
	}
	for _, name := range corsHeaders {
		if !slices.Contains(allowed, name) && !slices.Contains(allowed, "*") {
			return found(Trouble, check, configure, "a page may not send %s", name)
		}
	}
	answer, done2, err := p.get(ctx, http.MethodGet, p.Base+streamPath, http.Header{"Origin": {p.Origin}, "Accept": {"text/event-stream"}})
	defer done2()
	if err != nil {
		return found(Trouble, check, "See what is said of the address above.", "%v", err)
	}
	return p.allowed(answer.Header, configure)
}

// allowed judges what tells a browser that a page may read an answer.
func (p Proxy) allowed(h http.Header, configure string) Finding {
	const check = "proxy cors"
	switch got := h.Values("Access-Control-Allow-Origin"); {
	case len(got) == 0:
		return found(Trouble, check, configure, "pages of %s are not allowed", p.Origin)
	case len(got) > 1:
		return found(Trouble, check, configure, "Access-Control-Allow-Origin comes %d times, which browsers refuse", len(got))
	case got[0] != p.Origin:
		return found(Trouble, check, configure, "Access-Control-Allow-Origin is %q, not %s", got[0], p.Origin)
	}
	return well(check, "pages of %s are allowed", p.Origin)
}
