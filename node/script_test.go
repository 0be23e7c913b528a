package node_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever the page is of: a browser takes a module from elsewhere only so.
func TestTheBrowserClientIsForEveryPage(t *testing.T) {
	built, err := os.ReadFile("../web/dist/peal.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, configure := range map[string]func(*config){
		"without origins": nil,
		"with origins":    withOrigins,
		"with cookies":    func(c *config) { withOrigins(c); c.node.Cookies = true },
	} {
		s := start(t, configure)
		for _, origin := range []string{"", shop, "https://elsewhere.example"} {
			var edits []edit
			if origin != "" {
				edits = append(edits, header("Origin", origin))
			}
			a := s.do(s.request(context.Background(), "GET", "/peal.js", user{}, "", edits...))
			if a.status != 200 || string(a.body) != string(built) {
				t.Fatalf("%s, origin %q: got %d and %d bytes, want 200 and the %d of web/dist", name, origin, a.status, len(a.body), len(built))
			}
			want := map[string]string{
				"Content-Type":                 "text/javascript; charset=utf-8",
				"Cache-Control":                "no-cache",
				"X-Content-Type-Options":       "nosniff",
				"Access-Control-Allow-Origin":  "*",
				"Cross-Origin-Resource-Policy": "cross-origin",
			}
			got := make(map[string]string)
			for name := range want {
				got[name] = strings.Join(a.header.Values(name), " | ")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, origin %q (-want +got):\n%s", name, origin, diff)
			}
			if v := a.header.Values("Access-Control-Allow-Credentials"); v != nil {
				t.Errorf("%s, origin %q: shares with credentials", name, origin)
			}
		}
	}
}

func TestTheBrowserClientIsSentOnce(t *testing.T) {
	s := start(t, nil)
	get := func(edits ...edit) (status int, body string, h http.Header) {
		a := s.do(s.request(context.Background(), "GET", "/peal.js", user{}, "", edits...))
		return a.status, string(a.body), a.header
	}
	_, _, h := get()
	tag := h.Get("ETag")
	if len(tag) < 10 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		t.Fatalf("ETag: got %s", tag)
	}
	for _, row := range []struct {
		name   string
		given  []string
		status int
	}{
		{"the tag", []string{tag}, 304},
		{"weak, as a proxy makes it", []string{"W/" + tag}, 304},
		{"among others", []string{`"a", ` + tag + `,"b"`}, 304},
		{"in a second line", []string{`"a"`, tag}, 304},
		{"any", []string{"*"}, 304},
		{"another", []string{`"a"`}, 200},
		{"a part of it", []string{tag[:8] + `"`}, 200},
		{"without its quotes", []string{strings.Trim(tag, `"`)}, 400},
		{"empty", []string{""}, 400},
	} {
		status, body, h := get(header("If-None-Match", row.given...))
		if status != row.status || (status == 304) != (body == "") {
			t.Errorf("%s: got %d with %d bytes, want %d", row.name, status, len(body), row.status)
		}
		if status == 400 {
			continue
		}
		if h.Get("ETag") != tag || h.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: got %v", row.name, h)
		}
	}
}
