package node

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/pealhq/peal"
)

// etag is the entity tag of a representation: a strong one, a hash of its bytes.
// So it is the same on every node, and outlasts whatever the representation is
// stored in.
func etag(representation []byte) string {
	sum := sha256.Sum256(representation)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

// preconditions are the If-Match and If-None-Match of a request: RFC 9110, 13.1.
type preconditions struct {
	match, noneMatch *entityTags // nil: not given
}

// entityTags are the value of such a header.
type entityTags struct {
	any  bool     // "*"
	tags []string // as they were sent, perhaps with a W/ before them
}

// preconditions reads both headers.
func (r *request) preconditions() (p preconditions, err error) {
	if p.match, err = readEntityTags("If-Match", r.Header); err != nil {
		return p, err
	}
	p.noneMatch, err = readEntityTags("If-None-Match", r.Header)
	return p, err
}

// met reports whether a request may change what has an entity tag.
func (p preconditions) met(current string) bool { return p.matched(current) && !p.unchanged(current) }

// matched reports whether If-Match, if it is given, names an entity tag. There
// always is something that "*" names: what nobody has stored has its default.
func (p preconditions) matched(current string) bool {
	return p.match == nil || p.match.any || slices.Contains(p.match.tags, current)
}

// unchanged reports whether who asks has what has an entity tag, by their
// If-None-Match. There a weak tag does as well.
func (p preconditions) unchanged(current string) bool {
	return p.noneMatch != nil && (p.noneMatch.any || slices.ContainsFunc(p.noneMatch.tags, func(tag string) bool {
		return strings.TrimPrefix(tag, "W/") == current
	}))
}

// readEntityTags reads a header that is "*" or a list of entity tags, in one or
// more lines; nil if there is none.
func readEntityTags(name string, h http.Header) (*entityTags, error) {
	lines := h[name]
	if len(lines) == 0 {
		return nil, nil
	}
	bad := peal.Invalid(name, `must be * or entity tags in quotes, with commas between`)
	rest := strings.Join(lines, ",")
	if strings.Trim(rest, " \t") == "*" {
		return &entityTags{any: true}, nil
	}
	e := &entityTags{}
	for {
		rest = strings.TrimLeft(rest, " \t,") // elements of a list may be empty
		if rest == "" {
			break
		}
		tag, after, ok := cutEntityTag(rest)
		after = strings.TrimLeft(after, " \t")
		if !ok || after != "" && after[0] != ',' {
			return nil, bad
		}
		e.tags = append(e.tags, tag)
		rest = after
	}
	if len(e.tags) == 0 {
		return nil, bad
	}
	return e, nil
}

// cutEntityTag cuts s after the entity tag that it begins with.
func cutEntityTag(s string) (tag, after string, ok bool) {
	opaque, found := strings.CutPrefix(strings.TrimPrefix(s, "W/"), `"`)
	end := strings.IndexByte(opaque, '"')
	if !found || end < 0 || strings.ContainsFunc(opaque[:end], func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "", "", false
	}
	n := len(s) - len(opaque) + end + 1
	return s[:n], s[n:], true
}
