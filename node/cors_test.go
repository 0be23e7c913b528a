package node_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal/node"
)

// shop is the origin of a page that may use the API.
const shop = "https://shop.example.com"

func withOrigins(c *config) { c.node.Origins = []string{shop, "https://desk.example.com:8443"} }

// corsOf returns what an answer says to a browser, by header, without
// what is not there.
func corsOf(h http.Header) map[string]string {
	said := make(map[string]string)
	for _, name := range []string{
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
		"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Vary",
	} {
		if v := h.Values(name); len(v) > 0 {
			said[name] = strings.Join(v, " | ")
		}
	}
	return said
}

const exposed = "X-Request-Id, Retry-After, ETag, WWW-Authenticate"

// sharedWith is what every answer says to a page of an allowed origin.
func sharedWith(origin string) map[string]string {
	return map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}
}

var unshared = map[string]string{"Vary": "Origin"}

func TestOriginsAreMatchedExactly(t *testing.T) {
	configured := start(t, withOrigins)
	dev := start(t, func(c *config) { c.node.LocalOrigins = true })
	for _, row := range []struct {
		name    string
		site    *site
		origins []string
		allowed bool
	}{
		{"the origin", configured, []string{shop}, true},
		{"one with a port", configured, []string{"https://desk.example.com:8443"}, true},
		{"no origin", configured, nil, false},
		{"empty", configured, []string{""}, false},
		{"null, of sandboxed frames and files", configured, []string{"null"}, false},
		{"a wildcard", configured, []string{"*"}, false},
		{"another scheme", configured, []string{"http://shop.example.com"}, false},
		{"no scheme", configured, []string{"shop.example.com"}, false},
		{"another port", configured, []string{"https://shop.example.com:8443"}, false},
		{"the port left out", configured, []string{"https://desk.example.com"}, false},
		{"the default port written out", configured, []string{"https://shop.example.com:443"}, false},
		{"another case", configured, []string{"https://Shop.example.com"}, false},
		{"another case of the scheme", configured, []string{"HTTPS://shop.example.com"}, false},
		{"a dot at the end", configured, []string{"https://shop.example.com."}, false},
		{"a slash at the end", configured, []string{"https://shop.example.com/"}, false},
		{"a path", configured, []string{"https://shop.example.com/x"}, false},
		{"the origin as a prefix", configured, []string{"https://shop.example.com.evil.example"}, false},
		{"the origin as a prefix of a label", configured, []string{"https://shop.example.community"}, false},
		{"the origin as a suffix", configured, []string{"https://evilshop.example.com"}, false},
		{"a subdomain", configured, []string{"https://evil.shop.example.com"}, false},
		{"the domain above", configured, []string{"https://example.com"}, false},
		{"the dot as any character", configured, []string{"https://shopxexample.com"}, false},
		{"as a user", configured, []string{"https://shop.example.com@evil.example"}, false},
		{"with a user", configured, []string{"https://u@shop.example.com"}, false},
		{"as a fragment", configured, []string{"https://evil.example#https://shop.example.com"}, false},
		{"another alphabet", configured, []string{"https://ѕhop.example.com"}, false},
		{"another alphabet in punycode", configured, []string{"https://xn--hop-p8d.example.com"}, false},
		{"a space after it", configured, []string{shop + " x"}, false},
		{"two in one", configured, []string{shop + " " + shop}, false},
		{"two in one list", configured, []string{shop + ", " + shop}, false},
		{"twice", configured, []string{shop, shop}, false},
		{"with another", configured, []string{shop, "https://evil.example"}, false},
		{"localhost", configured, []string{"http://localhost:3000"}, false},

		{"dev: localhost", dev, []string{"http://localhost"}, true},
		{"dev: localhost with a port", dev, []string{"http://localhost:3000"}, true},
		{"dev: localhost by TLS", dev, []string{"https://localhost:5173"}, true},
		{"dev: IPv4", dev, []string{"http://127.0.0.1:8080"}, true},
		{"dev: IPv6", dev, []string{"http://[::1]:8080"}, true},
		{"dev: another machine", dev, []string{"http://192.168.0.1:8080"}, false},
		{"dev: another of the loopback", dev, []string{"http://127.0.0.2"}, false},
		{"dev: all addresses", dev, []string{"http://0.0.0.0:8080"}, false},
		{"dev: IPv6 spelled otherwise", dev, []string{"http://[0:0:0:0:0:0:0:1]"}, false},
		{"dev: localhost as a prefix", dev, []string{"http://localhost.evil.example"}, false},
		{"dev: localhost as a prefix of a name", dev, []string{"http://localhostevil.example"}, false},
		{"dev: localhost as a suffix", dev, []string{"http://evil-localhost"}, false},
		{"dev: below localhost", dev, []string{"http://evil.localhost:8080"}, false},
		{"dev: the address as a prefix", dev, []string{"http://127.0.0.1.evil.example"}, false},
		{"dev: as a user", dev, []string{"http://localhost:3000@evil.example"}, false},
		{"dev: another scheme", dev, []string{"ws://localhost:3000"}, false},
		{"dev: of an extension", dev, []string{"chrome-extension://localhost"}, false},
		{"dev: no port after the colon", dev, []string{"http://localhost:"}, false},
		{"dev: port 0", dev, []string{"http://localhost:0"}, false},
		{"dev: a port with a zero before", dev, []string{"http://localhost:03000"}, false},
		{"dev: a port that is none", dev, []string{"http://localhost:65536"}, false},
		{"dev: a port with a sign", dev, []string{"http://localhost:+80"}, false},
		{"dev: a path", dev, []string{"http://localhost/"}, false},
		{"dev: in capitals", dev, []string{"http://LOCALHOST"}, false},
		{"dev: a dot at the end", dev, []string{"http://localhost."}, false},
		{"dev: null", dev, []string{"null"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			edits := []edit{}
			if row.origins != nil {
				edits = append(edits, header("Origin", row.origins...))
			}
			a := row.site.do(row.site.request(context.Background(), "GET", connectPath, user{}, "", edits...))
			wantProblem(t, a, 401, "UNAUTHENTICATED", "")
			want := unshared
			if row.allowed {
				want = sharedWith(row.origins[0])
			}
			if diff := cmp.Diff(want, corsOf(a.header)); diff != "" {
				t.Errorf("GET (-want +got):\n%s", diff)
			}

			edits = append(edits, header("Access-Control-Request-Method", "GET"))
			a = row.site.do(row.site.request(context.Background(), "OPTIONS", connectPath, user{}, "", edits...))
			if row.allowed != (a.status == 204) || !row.allowed && a.status != 405 {
				t.Errorf("preflight: got %d for an origin that is allowed: %v", a.status, row.allowed)
			}
			if origin, said := corsOf(a.header)["Access-Control-Allow-Origin"]; said != row.allowed || said && origin != row.origins[0] {
				t.Errorf("preflight: got %v", corsOf(a.header))
			}
		})
	}
}

// Whatever the answer is, the page may read it; and what is not of the API is
// no page's.
func TestEveryAnswerOfTheAPIIsShared(t *testing.T) {
	s := start(t, func(c *config) {
		withOrigins(c)
		c.node.MaxPerUser = 1
		c.node.Mount = map[string]http.Handler{"/demo/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })}
	})
	origin := header("Origin", shop)
	jane := s.jane()
	open := s.connect(jane, origin)
	open.greeting()
	if diff := cmp.Diff(sharedWith(shop), corsOf(open.resp.Header)); diff != "" {
		t.Errorf("event stream (-want +got):\n%s", diff)
	}
	for _, row := range []struct {
		method, path string
		user         user
		body         string
		status       int
	}{
		{"POST", publishPath, s.publisher(), publication("n1", `"jane"`), 202},
		{"POST", publishPath, s.publisher(), "{", 400},
		{"GET", connectPath, user{}, "", 401},
		{"POST", publishPath, jane, good, 403},
		{"GET", node.Base + "/nothing", jane, "", 404},
		{"GET", node.Base, jane, "", 404},
		{"GET", "/api/v2/ticketing/ticket%2Fsse", jane, "", 404},
		{"DELETE", connectPath, jane, "", 405},
		{"OPTIONS", connectPath, jane, "", 405},
		{"GET", connectPath, jane, "", 429},
	} {
		t.Run(fmt.Sprint(row.method, " ", row.path, " ", row.status), func(t *testing.T) {
			a := s.do(s.request(context.Background(), row.method, row.path, row.user, row.body, origin))
			if a.status != row.status {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			if diff := cmp.Diff(sharedWith(shop), corsOf(a.header)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			a = s.do(s.request(context.Background(), row.method, row.path, row.user, row.body))
			if diff := cmp.Diff(unshared, corsOf(a.header)); diff != "" {
				t.Errorf("without an origin (-want +got):\n%s", diff)
			}
		})
	}
	for _, path := range []string{"/livez", "/readyz", "/openapi.yaml", "/demo/", "/nothing", node.Base + "x"} {
		for _, method := range []string{"GET", "OPTIONS"} {
			a := s.do(s.request(context.Background(), method, path, user{}, "", origin, header("Access-Control-Request-Method", "GET")))
			if said := corsOf(a.header); len(said) > 0 || a.status == 204 {
				t.Errorf("%s %s: got %d and %v", method, path, a.status, said)
			}
		}
	}
}

// Without an origin in the configuration nothing speaks of origins.
func TestWithoutOriginsNothingIsShared(t *testing.T) {
	s := start(t, nil)
	for _, method := range []string{"GET", "OPTIONS"} {
		a := s.do(s.request(context.Background(), method, connectPath, user{}, "", header("Origin", "http://localhost"), header("Access-Control-Request-Method", "GET")))
		if said := corsOf(a.header); len(said) > 0 || a.status == 204 {
			t.Errorf("%s: got %d and %v", method, a.status, said)
		}
	}
}

// A preflight asks nobody who is calling, and tells the methods of its path.
func TestPreflights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client func(*site) *http.Client
	}{
		{"HTTP/1.1", func(s *site) *http.Client { return s.client }},
		{"HTTP/2", (*site).http2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, withOrigins)
			client := tt.client(s)
			ask := func(path string, edits ...edit) answer {
				t.Helper()
				a, err := s.try(client, s.request(context.Background(), "OPTIONS", path, user{}, "", edits...))
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			origin, method := header("Origin", shop), header("Access-Control-Request-Method", "GET")
			for path, methods := range map[string]string{connectPath: "GET", publishPath: "POST", userPreferencePath: "GET, PUT"} {
				a := ask(path, origin, method, header("Access-Control-Request-Headers", "authorization,realmname,x-tenantid"))
				want := sharedWith(shop)
				want["Access-Control-Allow-Methods"] = methods
				want["Access-Control-Allow-Headers"] = "Authorization, x-tenantid, realmname, Last-Event-ID, If-Match, If-None-Match, Idempotency-Key, Content-Type"
				want["Access-Control-Max-Age"] = "600"
				want["Vary"] = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
				if diff := cmp.Diff(want, corsOf(a.header)); diff != "" || a.status != 204 || len(a.body) > 0 {
					t.Errorf("%s: got %d %q (-want +got):\n%s", path, a.status, a.body, diff)
				}
			}
			for _, row := range []struct {
				name   string
				path   string
				edits  []edit
				status int
				want   map[string]string
			}{
				{"of an origin that is not allowed", connectPath, []edit{header("Origin", "https://evil.example"), method}, 405, unshared},
				{"without an origin", connectPath, []edit{method}, 405, unshared},
				{"without a method", connectPath, []edit{origin}, 405, sharedWith(shop)},
				{"of an empty method", connectPath, []edit{origin, header("Access-Control-Request-Method", "")}, 405, sharedWith(shop)},
				{"of two methods", connectPath, []edit{origin, header("Access-Control-Request-Method", "GET", "PUT")}, 405, sharedWith(shop)},
				{"of no path", node.Base + "/nothing", []edit{origin, method}, 404, sharedWith(shop)},
				{"of a path with a slash in disguise", node.Base + "/ticket%2Fsse/notifications", []edit{origin, method}, 404, sharedWith(shop)},
			} {
				t.Run(row.name, func(t *testing.T) {
					a := ask(row.path, row.edits...)
					if diff := cmp.Diff(row.want, corsOf(a.header)); diff != "" || a.status != row.status {
						t.Errorf("got %d, want %d (-want +got):\n%s", a.status, row.status, diff)
					}
				})
			}
			if got := s.metric(`peal_requests_refused_total{code="METHOD_NOT_ALLOWED",reason=""}`); got != 5 {
				t.Errorf("counted %v refusals, want the five above", got)
			}
		})
	}
	t.Run("of the whole server", func(t *testing.T) {
		s := start(t, withOrigins)
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: %s\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n", shop)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if said := corsOf(resp.Header); resp.StatusCode != 405 || len(said) > 0 {
			t.Errorf("got %d and %v, want 405 and nothing for browsers", resp.StatusCode, said)
		}
	})
}
