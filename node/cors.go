package node

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// What a page of an allowed origin may do: https://fetch.spec.whatwg.org/#http-cors-protocol.
const (
	corsHeaders = "Authorization, x-tenantid, realmname, Last-Event-ID, If-Match, If-None-Match, Idempotency-Key, Content-Type"
	corsExposed = "X-Request-Id, Retry-After, ETag, WWW-Authenticate"
	corsMaxAge  = "600" // seconds a browser may remember the answer to a preflight
)

// sharesWithSome reports whether any origin may use the API from a browser.
func (c Config) sharesWithSome() bool { return c.LocalOrigins || len(c.Origins) > 0 }

// origin returns the one Origin of a request, if it is allowed. It is compared
// byte by byte: whatever reads more into an origin can be told a wrong one.
func (c Config) origin(raw *http.Request) (origin string, allowed bool) {
	v := raw.Header["Origin"]
	if len(v) != 1 {
		return "", false
	}
	return v[0], slices.Contains(c.Origins, v[0]) || c.LocalOrigins && isLocalOrigin(v[0])
}

// isLocalOrigin reports whether an origin is this machine's, as browsers write
// it, whatever the port.
func isLocalOrigin(s string) bool {
	rest, ok := strings.CutPrefix(s, "http://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "https://"); !ok {
			return false
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		if after, ok := strings.CutPrefix(rest, host); ok {
			port, given := strings.CutPrefix(after, ":")
			return after == "" || given && isPort(port)
		}
	}
	return false
}

// isPort reports whether s is a port as browsers write it.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// underBase reports whether a path is one of the API.
func underBase(path string) bool { return path == Base || strings.HasPrefix(path, Base+"/") }

// share lets the page that has sent a request read the answer, if its origin is
// allowed. Caches, if there are any before us, are told so for every answer.
func (n *Node) share(h http.Header, raw *http.Request) {
	if !underBase(raw.URL.Path) || !n.cfg.sharesWithSome() {
		return
	}
	h.Set("Vary", "Origin")
	origin, allowed := n.cfg.origin(raw)
	if !allowed {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExposed)
	if n.cfg.Cookies {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers what a browser asks before it calls from another origin, for
// paths whose methods stand in Allow. Everything else is for next to refuse.
func (n *Node) preflight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, raw *http.Request) {
		_, allowed := n.cfg.origin(raw)
		asked := raw.Header["Access-Control-Request-Method"]
		if raw.Method != http.MethodOptions || !underBase(raw.URL.Path) || !allowed || len(asked) != 1 || asked[0] == "" {
			next.ServeHTTP(w, raw)
			return
		}
		n.answer(w, raw, "", func(w http.ResponseWriter, _ *request) error {
			h := w.Header()
			h.Set("Access-Control-Allow-Methods", h.Get("Allow"))
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", corsMaxAge)
			h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
			w.WriteHeader(http.StatusNoContent)
			return nil
		})
	})
}
