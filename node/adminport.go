package node

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// The admin port asks nobody who they are, and an operator's browser reaches it. So a
// page from elsewhere must not: neither one that sends a request to this address, of
// which a browser says so itself, nor one whose own name was made to point here, which
// is of the same origin then, and is told apart by the name alone.

// HeaderTool is sent by programs that call the admin port by any name. A page can't
// send it: names that begin with Sec- are the browser's own.
const HeaderTool = "Sec-Peal"

// unguarded are the paths that stay open for every name: they are asked for by what looks
// after the process, and tell no more than numbers.
var unguarded = []string{"/livez", "/readyz", "/metrics"}

// guard refuses what a page in a browser has sent to the admin port.
func (n *Node) guard(next http.Handler) http.Handler {
	own, _ := os.Hostname() // "" fits nothing
	return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
		refuse := func(err error) {
			n.answer(w, raw, "", func(http.ResponseWriter, *request) error { return err })
		}
		switch {
		case slices.Contains(unguarded, raw.URL.Path):
		case len(raw.Header["Origin"]) > 0, fromElsewhere(raw.Header):
			refuse(errBrowser)
			return
		case !isInside(raw.Host, own) && raw.Header.Get(HeaderTool) == "":
			refuse(errHost)
			return
		}
		next.ServeHTTP(w, raw)
	})
}

// fromElsewhere reports whether a browser says that a page of another origin has asked, for
// something else than to leave for it.
func fromElsewhere(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-Dest") != "document"
	}
	return false
}

// insides are top-level names that are not given out to anybody in the public DNS.
var insides = []string{".localhost", ".local", ".internal", ".svc", ".home.arpa"}

// isInside reports whether a Host is one that nobody outside can have point here: an
// address, this machine's own name, a name without a dot, or one of a network's own.
func isInside(host, own string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || host == strings.ToLower(own) ||
		slices.ContainsFunc(insides, func(s string) bool { return strings.HasSuffix(host, s) })
}
