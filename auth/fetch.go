package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	fetchTimeout = 5 * time.Second // of one request, its body included
	maxKeySet    = 256 << 10       // bytes
)

// source is where the keys of a realm come from.
type source struct {
	realm    Realm                // with its defaults
	answered func(*http.Response) // nil, or hears of every answer
}

// same reports whether keys of one source are as good for the other.
func (s source) same(other source) bool {
	a, b := s.realm, other.realm
	return a.Issuer == b.Issuer && a.JWKS == b.JWKS && a.Discovery == b.Discovery &&
		a.AllowPrivate == b.AllowPrivate && slices.Equal(a.Algorithms, b.Algorithms)
}

// What went wrong with a fetch, where it was not the way to the issuer.
var (
	errRefused  = errors.New("the issuer refuses")
	errUnusable = errors.New("unusable answer")
)

// refreshOf classifies the error of a fetch.
func refreshOf(err error) Refresh {
	switch {
	case err == nil:
		return RefreshGood
	case errors.Is(err, errRefused):
		return RefreshRefused
	case errors.Is(err, errUnusable):
		return RefreshUnusable
	}
	return RefreshUnreachable
}

// fetch asks the issuer for its keys. There is at least one where err is nil.
func (s source) fetch(ctx context.Context) (keys []jwkset.JWK, dropped []error, err error) {
	at := s.realm.JWKS
	if s.realm.Discovery {
		if at, err = s.discover(ctx); err != nil {
			return nil, nil, err
		}
	}
	body, err := s.get(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	if keys, dropped, err = parseKeys(body, s.realm.Algorithms); err != nil {
		err = fmt.Errorf("%w: %w", errUnusable, err)
	}
	return keys, dropped, err
}

// discovery is where an issuer says where things are, below its own URL.
const discovery = "/.well-known/openid-configuration"

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0,
// section 4). A document that names another issuer is another issuer's.
func (s source) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, strings.TrimSuffix(s.realm.Issuer, "/")+discovery)
	if err != nil {
		return "", err
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("discovery: %w: not a JSON object", errUnusable)
	}
	if iss, _ := doc["issuer"].(string); iss != s.realm.Issuer {
		return "", fmt.Errorf("discovery: %w: the document's issuer is not the realm's", errUnusable)
	}
	at, _ := doc["jwks_uri"].(string)
	if reason := refuseURL(at, s.realm.AllowPrivate); reason != "" {
		return "", fmt.Errorf("discovery: %w: jwks_uri %s", errUnusable, reason)
	}
	return at, nil
}

// get returns the body of a 200. A redirect is not followed: it would let
// whoever answers choose what we ask next.
func (s source) get(ctx context.Context, at string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	res, err := client(s.permits(req.URL)).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if s.answered != nil {
		s.answered(res)
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return nil, fmt.Errorf("get %s: %w: status %d, and redirects are not followed", at, errRefused, res.StatusCode)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %w: status %d", at, errRefused, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", at, err)
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("get %s: %w: more than %d bytes", at, errUnusable, maxKeySet)
	}
	return body, nil
}

// permits returns which addresses may be dialled for u.
func (s source) permits(u *url.URL) func(netip.Addr) bool {
	switch {
	case u.Scheme == "http": // see refuseURL
		return func(a netip.Addr) bool { return !isPublic(a) }
	case s.realm.AllowPrivate:
		return func(netip.Addr) bool { return true }
	}
	return isPublic
}

// client makes a client for one request: there are six an hour, so nothing is
// kept open. Addresses are judged when they are dialled, after DNS, which may
// answer differently every time it is asked.
func client(permitted func(netip.Addr) bool) *http.Client {
	dialer := net.Dialer{
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			addr := ap.Addr().Unmap().WithZone("")
			switch {
			case permitted(addr):
				return nil
			case isPublic(addr):
				return errors.New("the address is public, which needs https")
			}
			return errors.New("the address is private, which needs allowPrivate: true")
		},
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// notPublic are the blocks of the IANA special-purpose registries that lead to
// this machine, this network or through a translator to either.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT, and some clouds' metadata
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),   // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64, local
	netip.MustParsePrefix("2002::/16"),      // 6to4
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

func isPublic(a netip.Addr) bool {
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}
