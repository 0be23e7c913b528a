package bus

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pealhq/peal"
)

// Region names a region in subjects and stream names.
type Region string

var regionForm = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)

// ParseRegion checks the form of a region's name: a letter, then up to 15
// letters and digits, all lower case.
func ParseRegion(s string) (Region, error) {
	if !regionForm.MatchString(s) {
		return "", peal.Invalid("region", "must be a letter and up to 15 letters and digits, lower case")
	}
	return Region(s), nil
}

// tokenForm is what any token of a subject that we build looks like. JetStream
// stores a subject with a literal * or >, and a filter made of such a token
// reads everybody's messages: so no id gets into a subject but by subject() and
// keySubject().
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_=-]{1,180}$`)

// subject builds a subject of this package: "peal.", the kind, the tokens.
// It panics for a token that is not of tokenForm: ids are validated and escaped
// long before, so that is a bug, and going on would read or write another user's
// messages.
func subject(kind string, tokens ...string) string { return join("peal."+kind, tokens) }

// keySubject is the subject of a key of a key-value bucket, which is made of
// tokens. It panics as subject does.
func keySubject(bucket string, tokens ...string) string { return join("$KV."+bucket, tokens) }

// join is for subject, keySubject and liveSubject alone.
func join(prefix string, tokens []string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, t := range tokens {
		if !tokenForm.MatchString(t) {
			panic(fmt.Sprintf("bus: %q is not a subject token", t))
		}
		b.WriteByte('.')
		b.WriteString(t)
	}
	return b.String()
}

// wildcards is a filter or subject with n trailing wildcards.
func wildcards(prefix string, n int) string { return prefix + strings.Repeat(".*", n) }

var canonicalUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// escape makes a subject token of an id of 1 to peal.MaxID bytes: a canonical
// lower-case UUID as it is, anything else "=" and its bytes in unpadded
// base64url. It is injective, and its result is a legal key of a key-value
// bucket too.
func escape(id string) string {
	if canonicalUUID.MatchString(id) {
		return id
	}
	return "=" + base64.RawURLEncoding.EncodeToString([]byte(id))
}

// unescape is the inverse of escape.
func unescape(token string) (string, error) {
	enc, ok := strings.CutPrefix(token, "=")
	if !ok {
		if !canonicalUUID.MatchString(token) {
			return "", fmt.Errorf("%q is not an escaped id", token)
		}
		return token, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(enc)
	if err != nil {
		return "", fmt.Errorf("%q is not an escaped id: %w", token, err)
	}
	if id := string(raw); id != "" && escape(id) == token {
		return id, nil
	}
	return "", fmt.Errorf("%q is not an escaped id", token)
}

// place is where an inbox lives: its partition and the three tokens that name
// it in every subject.
type place struct {
	partition int
	tokens    [3]string // tenant, namespace, user
}

// locate finds an inbox among partitions, by the first 8 bytes of the SHA-256
// of its tokens. The mapping is fixed with the number of partitions.
func locate(in peal.Inbox, partitions int) place {
	t := [3]string{string(in.Tenant), string(in.Namespace), escape(string(in.User))}
	sum := sha256.Sum256([]byte(strings.Join(t[:], ".")))
	p := binary.BigEndian.Uint64(sum[:8]) % uint64(partitions)
	return place{int(p), t}
}

// key names the inbox among all of a region.
func (pl place) key() string { return strings.Join(pl.tokens[:], ".") }

// liveSubject is what the stored messages of a place are republished to, in one
// incarnation of their stream. before is the part that all of a stream share.
func liveSubject(before string, e Epoch, key string) string {
	return join(before, []string{string(e)}) + "." + key
}

// liveKey is the key in a live subject of any kind.
func liveKey(subject string) string {
	before := 5 // peal, live or livestate, region, partition, epoch
	if strings.HasPrefix(subject, "peal.liveticket.") {
		before = 4
	}
	for range before {
		_, subject, _ = strings.Cut(subject, ".")
	}
	return subject
}

// subject is the inbox's subject of a kind: inbox or state.
func (pl place) subject(kind string, r Region) string {
	return subject(kind, string(r), strconv.Itoa(pl.partition), pl.tokens[0], pl.tokens[1], pl.tokens[2])
}

// messageID makes a Nats-Msg-Id of a list: of a notification in an inbox, of a
// ticket event. JetStream looks for duplicates in the whole stream, so the list
// names the inbox too, or the tenant: a tenant's notification must not be dropped
// because another tenant has one of the same id.
func messageID(parts ...string) string {
	sum := digest(parts...)
	return base64.RawURLEncoding.EncodeToString(sum[:18]) // 144 bits: no collision to expect among 2^50 ids
}

// digest is the SHA-256 of a list. Each part is preceded by its length, so no
// two lists hash the same bytes.
func digest(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// hashed is a token that stands for a list. Two lists have the same only if
// SHA-256 fails.
func hashed(parts ...string) string {
	sum := digest(parts...)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
