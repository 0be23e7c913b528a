package node

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// request is a request with what the adapter knows of it.
type request struct {
	*http.Request
	route  string // the path of the route; "" if there is none
	params httprouter.Params
	id     string // told to the client, and in our log
	read   bool   // the body was read to its end
	realm  string // that it names, if there is one of that name

	atEnd  []func() // called when it is answered
	stream bool     // what it asks for is an event stream
	cookie bool     // it says by the session cookie who is calling

	admitted bool // it is known who asks for an event stream, and that they do not ask too often
}

// authenticate returns who is calling, if they may do what the role is for. It
// decides in the contract's order: who, in which tenant, with which role.
func (n *Node) authenticate(r *request, role auth.Role) (auth.Caller, error) {
	by, err := n.credentials(r)
	if err != nil {
		return auth.Caller{}, err
	}
	n.concerns(r, by.realm)
	t, err := n.verifier.Verify(r.Context(), by.realm, by.token)
	if err != nil {
		return auth.Caller{}, err
	}
	caller, err := t.Caller(by.tenant)
	if errors.Is(err, peal.ErrInvalid) {
		err = peal.Invalid(by.tenantField, "must be given once, as a UUID")
	}
	if err != nil {
		return auth.Caller{}, err
	}
	return caller, caller.May(role)
}

// concerns notes which realm a request is about.
func (n *Node) concerns(r *request, realm string) {
	if _, ok := n.verifier.Realm(realm); ok {
		r.realm = realm
	}
}

// only returns the value of a header that must be there exactly once.
func (r *request) only(name string) (string, bool) {
	v := r.Header[name]
	if len(v) != 1 {
		return "", false
	}
	return v[0], true
}

// tokenParameters are names by which clients try to give a token in the query,
// where every proxy would log it.
var tokenParameters = []string{"access_token", "token", "jwt", "authorization", "bearer", "id_token"}

// query reads the query strictly, and refuses one with a token in it.
func (r *request) query() (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, peal.Invalid("query", "is malformed")
	}
	const hint = "a token in the query ends in logs: send it in the header Authorization, after the word Bearer"
	for name, values := range q {
		if known := strings.ToLower(name); slices.Contains(tokenParameters, known) {
			return nil, peal.Invalid(known, hint)
		}
		if slices.ContainsFunc(values, looksLikeToken) {
			return nil, peal.Invalid("query", hint)
		}
	}
	return q, nil
}

// empty refuses a body. While one is outstanding net/http does not notice that
// the client has gone, and cannot close the connection when its token expires.
func (r *request) empty() error {
	if r.ContentLength != 0 {
		return peal.Invalid("body", "must be empty")
	}
	return nil
}

// looksLikeToken reports whether s begins like a JWT: with {" in base64, and
// three segments.
func looksLikeToken(s string) bool {
	return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2
}

// resumeCursor reads what a client resumes from: the header, else the query.
// What is not a cursor is an unknown one, which is answered with a gap.
func (r *request) resumeCursor() (bus.Cursor, error) {
	query, err := r.query()
	if err != nil {
		return bus.Cursor{}, err
	}
	if v := r.Header["Last-Event-Id"]; len(v) > 0 && v[len(v)-1] != "" {
		return bus.ParseCursor(v[len(v)-1]), nil
	}
	return bus.ParseCursor(query.Get("lastEventId")), nil
}

// acceptsEventStream refuses a request whose Accept excludes an event stream.
// RFC 9110: no Accept at all takes anything; of the ranges that match, the most
// specific counts, and one of quality 0 excludes. What is no range is passed
// over: it excludes nothing.
func (r *request) acceptsEventStream() error {
	best, quality, any := -1, 0.0, false
	for _, accepted := range strings.Split(strings.Join(r.Header["Accept"], ","), ",") {
		specific, q, ok := eventStreamQuality(accepted)
		if !ok {
			continue
		}
		any = true
		if specific > best || specific == best && q > quality {
			best, quality = specific, q
		}
	}
	if any && (best < 0 || quality == 0) {
		return errNotAcceptable
	}
	return nil
}

// eventStreamQuality says how well one media range matches text/event-stream:
// 2 itself, 1 text/*, 0 */*, -1 not at all; and with what quality. ok is false
// for what is no media range.
func eventStreamQuality(accepted string) (specific int, q float64, ok bool) {
	media, params, err := mime.ParseMediaType(accepted)
	if err != nil || !strings.Contains(media, "/") {
		return -1, 0, false
	}
	q = 1
	if v, given := params["q"]; given {
		if q, err = strconv.ParseFloat(v, 64); err != nil || !(q >= 0 && q <= 1) {
			return -1, 0, false
		}
	}
	switch media {
	case "text/event-stream":
		return 2, q, true
	case "text/*":
		return 1, q, true
	case "*/*":
		return 0, q, true
	}
	return -1, 0, true
}
