package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// split decodes the header and the payload of a token; the error is a Refusal.
// base64 skips line breaks, which would give one token several spellings, so the
// alphabet is checked here.
func split(token string) (header, payload []byte, err error) {
	if n := len(token); n < MinToken || n > MaxToken {
		return nil, nil, refuse(ReasonMalformed, "20 to 12288 bytes", n)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, refuse(ReasonMalformed, "three segments", len(parts))
	}
	strict := base64.RawURLEncoding.Strict()
	header, badHeader := strict.DecodeString(parts[0])
	payload, badPayload := strict.DecodeString(parts[1])
	foreign := strings.ContainsFunc(token, func(c rune) bool { return !isBase64URL(c) && c != '.' })
	if foreign || badHeader != nil || badPayload != nil {
		return nil, nil, refuse(ReasonMalformed, "three segments of base64url", nil)
	}
	return header, payload, nil
}

func isBase64URL(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// checkObject wants one JSON object that has one meaning. encoding/json takes
// the last of two equal names, and puts U+FFFD in the place of what is not
// UTF-8 or is half a surrogate pair, so that two user ids could become one.
func checkObject(data []byte) error {
	if !utf8.Valid(data) || hasLoneSurrogate(data) {
		return errors.New("not Unicode")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	open, err := dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errors.New("not an object")
	}
	if err := checkNames(dec, open); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

// checkNames reads what open began, to its end, and refuses repeated names at
// any depth.
func checkNames(dec *json.Decoder, open json.Token) error {
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		if open == json.Delim('{') {
			name, _ := t.(string)
			if seen[name] {
				return errors.New("a name is repeated")
			}
			seen[name] = true
			if t, err = dec.Token(); err != nil {
				return err
			}
		}
		if _, ok := t.(json.Delim); ok {
			if err := checkNames(dec, t); err != nil {
				return err
			}
		}
	}
	_, err := dec.Token()
	return err
}

// hasLoneSurrogate looks for \ud800 to \udfff that is no half of a pair. In
// JSON backslashes are in strings only.
func hasLoneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		r := escape(data[i:])
		if !utf16.IsSurrogate(r) {
			i++ // an escaped backslash begins no escape
			continue
		}
		if utf16.DecodeRune(r, escape(data[i+6:])) == utf8.RuneError {
			return true
		}
		i += 11
	}
	return false
}

// escape returns the code unit of the \uXXXX that b begins with, or -1.
func escape(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// lookup returns the claim at path: the top-level claim of exactly that name,
// else the value in nested objects. A path that ends at something other than an
// object is found and nil: what is meant is there, and malformed.
func lookup(claims jwt.MapClaims, path string) (value any, found bool) {
	if v, ok := claims[path]; ok {
		return v, true
	}
	names := strings.Split(path, ".")
	if len(names) == 1 {
		return nil, false
	}
	value = map[string]any(claims)
	for _, name := range names {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, true
		}
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

// firstOf returns the first claim of paths that is there.
func firstOf(claims jwt.MapClaims, paths []string) (value any, found bool) {
	for _, p := range paths {
		if v, ok := lookup(claims, p); ok {
			return v, true
		}
	}
	return nil, false
}

// oneOrMany reads a claim that is a string or an array of strings. ok is false
// for anything else, and for an array with anything else in it.
func oneOrMany(claim any) (values []string, ok bool) {
	switch c := claim.(type) {
	case string:
		return []string{c}, true
	case []any:
		for _, e := range c {
			s, isString := e.(string)
			if !isString {
				return nil, false
			}
			values = append(values, s)
		}
		return values, true
	}
	return nil, false
}

// roleNames adds up the roles at paths. A string is a list with spaces between,
// as in scope (RFC 6749 section 3.3).
func roleNames(claims jwt.MapClaims, paths []string) []string {
	var roles []string
	for _, p := range paths {
		claim, _ := lookup(claims, p)
		if s, ok := claim.(string); ok {
			roles = append(roles, strings.Split(s, " ")...)
			continue
		}
		many, _ := oneOrMany(claim)
		roles = append(roles, many...)
	}
	roles = slices.DeleteFunc(roles, func(s string) bool { return s == "" })
	slices.Sort(roles)
	return slices.Compact(roles)
}

// maxDate is the last second of the year 9999. A time further out is that one:
// arithmetic on 9e18 seconds wraps around into the past.
const maxDate = 253402300799

// numericDate reads a NumericDate (RFC 7519 section 2), seconds that may have a
// fraction.
func numericDate(claim any) (t time.Time, ok bool) {
	n, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil {
		return time.Time{}, false
	}
	sec, frac := math.Modf(max(-maxDate, min(f, maxDate)))
	return time.Unix(int64(sec), int64(frac*1e9)), true
}
