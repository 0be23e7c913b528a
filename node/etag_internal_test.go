package node

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pealhq/peal"
)

// A header is a star, or its tags can be put together to one that means the same,
// or it is refused.
func FuzzEntityTags(f *testing.F) {
	for _, s := range []string{"", "*", " * ", `"a"`, `W/"a"`, `"a","b" , W/"c"`, `"a,b"`, `"`, `"a" "b"`, `*,"a"`, `,,"a",`, `w/"a"`, `""`, "\"\x7f\"", "\"ü\"", "\"\xff\""} {
		f.Add(s, `"b"`)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		read := func(lines ...string) (*entityTags, error) {
			return readEntityTags("If-Match", http.Header{"If-Match": lines})
		}
		a, err := read(first)
		if err != nil {
			if !errors.Is(err, peal.ErrInvalid) || len(err.Error()) > 100 {
				t.Fatalf("%q: %v", first, err)
			}
			return
		}
		if a.any {
			if strings.Trim(first, " \t") != "*" {
				t.Fatalf("%q is taken for a star", first)
			}
			return
		}
		again, err := read(strings.Join(a.tags, ", "))
		if err != nil || !slices.Equal(again.tags, a.tags) || len(a.tags) == 0 {
			t.Fatalf("%q has the tags %q, which are read as %v, %v", first, a.tags, again, err)
		}
		if b, err := read(second); err == nil && !b.any {
			both, err := read(first, second)
			if err != nil || !slices.Equal(both.tags, append(slices.Clone(a.tags), b.tags...)) {
				t.Fatalf("%q and %q are read as %v, %v", first, second, both, err)
			}
		}
	})
}

// What a client may store is read back as it was written, and has an entity tag of
// its own.
func FuzzPreference(f *testing.F) {
	for _, s := range []string{
		"{}", "null", `{"types":{"comment":false}}`, `{"types":{"comment":null}}`, `{"locked":["slaBreach","merge"]}`,
		`{"minPriority":"low","mutedTickets":["b","a","\u2028"],"quietHours":{"from":"22:00","to":"07:00","timeZone":"Etc/UTC"}}`,
		`{"quietHours":{"from":"22:00","to":"07:00","timeZone":"../UTC"}}`, `{"Preferences":{}}`, `{"mutedTickets":["\ud800"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("PUT", Base+"/tenant/preference", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		var p *peal.TenantPreferences
		err := (&request{Request: r}).body(httptest.NewRecorder(), &p, &room{most: maxBody})
		if err == nil && p != nil {
			err = p.Validate()
		}
		if err != nil || p == nil {
			if err != nil && problemOf(err).status >= 500 {
				t.Fatalf("our fault: %v", err)
			}
			return
		}
		stored := p.Encode()
		back, err := peal.DecodeTenantPreferences(stored)
		if err != nil {
			t.Fatalf("%s can't be read: %v", stored, err)
		}
		if !bytes.Equal(back.Encode(), stored) || back.Validate() != nil {
			t.Fatalf("%s is read as %s", stored, back.Encode())
		}
		if given, err := readEntityTags("If-Match", http.Header{"If-Match": {etag(stored)}}); err != nil || !slices.Equal(given.tags, []string{etag(stored)}) {
			t.Fatalf("the entity tag %s is read as %v, %v", etag(stored), given, err)
		}
	})
}
