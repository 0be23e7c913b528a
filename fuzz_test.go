package peal_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal"
)

// Whatever is accepted as an actionUrl leads a browser to this site or to a host
// of the list. The browser is that of the WHATWG URL standard: it drops spaces
// and controls at the ends and tabs and newlines anywhere, takes a backslash for
// a slash, and maps what is not ASCII in a host to something else.
func FuzzActionURL(f *testing.F) {
	for _, s := range []string{
		"/", "/tickets/1?a=b#c", "//evil.example", `/\evil.example`, "/\t/evil.example", " //evil.example", "/%2fevil.example", "/.//evil.example",
		"https://desk.example/1", "https://DESK.example:8443/", "HTTPS://desk.example?x", "https:/desk.example", "https:desk.example", "https:///desk.example",
		"https://desk.example@evil.example", "https://evil.example#@desk.example", `https://evil.example\@desk.example`, "https://desk.example:8443@evil.example",
		"https://desk.example:443", "https://desk.example:", "https://desk.example.", "https://de\u017fk.example", "https://s\u0130te.example", "https://de%73k.example",
		"https://des\u212a.example", "https://s%C4%B0te.example/", "https://[::1]/", "https://desk%2eexample", "javascript:alert(1)", "data:,x", "http://desk.example", "\u3000//evil.example",
	} {
		f.Add(s)
	}
	hosts := []string{"desk.example", "site.example", "desk.example:8443"}
	f.Fuzz(func(t *testing.T, s string) {
		n := peal.Notification{Type: peal.Mention, TicketID: "1", TicketNumber: "1", Title: "T", Message: "M"}.WithDefaults(time.Now())
		if n.ActionURL = s; n.Validate(hosts) != nil {
			return
		}
		if strings.Trim(s, " \x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f") != s || strings.ContainsAny(s, "\t\n\r") {
			t.Fatalf("%q: a browser reads something else", s)
		}
		if strings.HasPrefix(s, "/") {
			if len(s) > 1 && strings.ContainsRune(`/\`, rune(s[1])) {
				t.Fatalf("%q names a host", s)
			}
			return
		}
		const scheme = "https://"
		if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
			t.Fatalf("%q is neither a path nor https", s)
		}
		host := s[len(scheme):]
		if end := strings.IndexAny(host, `/\?#`); end >= 0 {
			host = host[:end]
		}
		lower := []byte(host) // of ASCII alone
		for i, c := range lower {
			if c >= 'A' && c <= 'Z' {
				lower[i] += 'a' - 'A'
			}
		}
		if !slices.Contains(hosts, string(lower)) {
			t.Fatalf("%q leads to %q", s, host)
		}
	})
}
