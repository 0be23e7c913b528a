package node

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/sse"
)

// problem is what a client hears of an error: RFC 9457.
type problem struct {
	status int
	code   string
	detail string // "" means the error's own text, which is made for clients
}

var (
	errNotAcceptable = errors.New("not acceptable")
	errPrecondition  = errors.New("precondition failed")
	errTooLarge      = errors.New("too large")
	errMediaType     = errors.New("unsupported media type")
	errFormType      = errors.New("no form")
	errFormTooLarge  = errors.New("form too large")
	errBrowser       = errors.New("sent by a page in a browser")
	errHost          = errors.New("a name that the admin port does not go by")
	errManyLook      = fmt.Errorf("too many look at the status: %w", peal.ErrUnavailable)
)

// internal is every error that is not in problems. Its text stays in our log.
var internal = problem{500, "INTERNAL", "Something went wrong on our side"}

// problems maps every other error that a client may hear of. The first that
// fits counts.
var problems = []struct {
	err error
	problem
}{
	{peal.ErrInvalid, problem{400, "INVALID_REQUEST", ""}},
	{peal.ErrTokenExpired, problem{401, "UNAUTHENTICATED", "The token has expired"}},
	{peal.ErrUnauthenticated, problem{401, "UNAUTHENTICATED", "A valid bearer token of the named realm is required"}},
	{errBrowser, problem{403, "FORBIDDEN", "The admin port takes nothing from a page in a browser"}},
	{errHost, problem{403, "FORBIDDEN", "The admin port is asked by an address, localhost, or a name of the network's own: a page could have any other name point here. Programs may send the header Sec-Peal"}},
	{errOrigin, problem{403, "FORBIDDEN", "Only a page of this origin or of an allowed one may begin or end a session"}},
	{peal.ErrForbidden, problem{403, "FORBIDDEN", "The token does not allow this"}},
	{bus.ErrNoDeadLetter, problem{404, "NOT_FOUND", "There is no dead letter of this id, or not any more"}},
	{bus.ErrNoDurable, problem{404, "NOT_FOUND", "There is no durable subscription of this name or id, or not any more"}},
	{errNotFound, problem{404, "NOT_FOUND", "There is nothing at this path"}},
	{errMethod, problem{405, "METHOD_NOT_ALLOWED", "This path has no such method"}},
	{errNotAcceptable, problem{406, "NOT_ACCEPTABLE", "This path answers with text/event-stream only"}},
	{errPrecondition, problem{412, "PRECONDITION_FAILED", "It is not any more what If-Match or If-None-Match asks for: read it again"}},
	{errSessionToken, problem{413, "TOO_LARGE", "A session's token must be at most 3,800 bytes: a browser keeps no larger cookie"}},
	{errTooLarge, problem{413, "TOO_LARGE", "The body must be at most 1 MiB"}},
	{errFormTooLarge, problem{413, "TOO_LARGE", "The form must be at most 13,312 bytes"}},
	{errFormType, problem{415, "UNSUPPORTED_MEDIA_TYPE", "The body must be application/x-www-form-urlencoded, without a content encoding"}},
	{errMediaType, problem{415, "UNSUPPORTED_MEDIA_TYPE", "The body must be application/json, without a content encoding"}},
	{bus.ErrTooManyDurables, problem{429, "CONNECTION_LIMIT", ""}},
	{bus.ErrTakenOver, problem{429, "CONNECTION_LIMIT", farewell[takenOver].message}},
	{peal.ErrTooManyConnections, problem{429, "CONNECTION_LIMIT", "This user has too many open connections"}},
	{errTooFast, problem{429, "RATE_LIMIT", "Too many requests: wait as long as Retry-After, or retry:, says"}},
	{errManyLook, problem{503, "UNAVAILABLE", "So many look at the status page already that there is no place left: load it without its script, or ask for status.json"}},
	{bus.ErrDurablesFull, problem{503, "UNAVAILABLE", "This service keeps as many durable subscriptions as it may: connect without one"}},
	{errRemoved, problem{503, "UNAVAILABLE", "This durable subscription was removed meanwhile: connect again"}},
	{peal.ErrUnavailable, problem{503, "UNAVAILABLE", "The service cannot do this at the moment"}},
}

func problemOf(err error) problem {
	for _, row := range problems {
		if errors.Is(err, row.err) {
			return row.problem
		}
	}
	return internal
}

// passes reports whether a client that comes back later may be served.
func (p problem) passes() bool {
	return p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable
}

// refuse answers with a problem, or as a native EventSource needs it.
func (n *Node) refuse(w http.ResponseWriter, r *request, err error) {
	p := problemOf(err)
	why := refusalReason(err)
	n.metrics.refused.WithLabelValues(p.code, why).Inc()
	switch p.status {
	case http.StatusBadRequest:
		if why != "" { // of a logout token
			n.refusals.refused(r, class{p.code, why, r.realm})
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		n.refusals.refused(r, class{p.code, why, r.realm})
	case http.StatusServiceUnavailable:
		n.tellUnavailable(r, err)
	case http.StatusInternalServerError:
		n.log.Error("request failed", "request", r.id, "route", r.route, "err", err)
	}
	seconds := 0
	if p.passes() {
		seconds = n.comeBack(r, p, err)
	}
	if r.stream && r.cookie && p.passes() {
		refuseByEvent(w, r.told(p, err), seconds)
	}
	refuseByStatus(w, r, p, err, seconds)
}

// refuseByStatus answers with a problem, and after how many seconds to come back; 0: not
// at all.
func refuseByStatus(w http.ResponseWriter, r *request, p problem, err error, seconds int) {
	h := w.Header()
	if r.ContentLength != 0 && !r.read && r.ProtoMajor == 1 {
		h.Set("Connection", "close") // else net/http reads the body before it answers
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(err))
	}
	if seconds > 0 {
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	w.Write(encode(r.told(p, err)))
}

// told is a problem in JSON.
type told struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Code     string `json:"code"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
}

// told is what a client hears of an error, whose problem is p.
func (r *request) told(p problem, err error) told {
	detail := p.detail
	var invalid *peal.InvalidError
	if detail == "" && errors.As(err, &invalid) {
		detail = invalid.Error()
	}
	if detail == "" {
		detail = tooManyDurables(err)
	}
	return told{"about:blank", http.StatusText(p.status), p.status, p.code, detail, r.id}
}

// refuseByEvent answers an EventSource of a browser, which takes every status but
// 200 for the end of everything, and comes back after an abort as late as it is
// told. It does not return.
func refuseByEvent(w http.ResponseWriter, p told, seconds int) {
	beginEventStream(w)
	w.Write(frame(sse.Event{Name: sse.Error, Data: encode(notice{p.Code, p.Detail}), Retry: time.Duration(seconds) * time.Second}))
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// tellEvery is how often the reason of a 503 is logged: when what we depend on
// is away, every client is back after some seconds.
const tellEvery = time.Second

// tellUnavailable logs why a request got a 503, if none was logged just now.
func (n *Node) tellUnavailable(r *request, err error) {
	now := int64(time.Since(n.wheel.start))
	last := n.told.Load()
	if last != 0 && now-last < int64(tellEvery) || !n.told.CompareAndSwap(last, now) {
		return
	}
	n.log.Warn("request refused", "request", r.id, "route", r.route, "err", err)
}

// challenge is the WWW-Authenticate of a 401: RFC 6750. Only the owner of a
// token that was good may learn that it is not any more.
func challenge(err error) string {
	if errors.Is(err, peal.ErrTokenExpired) {
		return `Bearer error="invalid_token", error_description="expired"`
	}
	return "Bearer"
}

// refusalReason is the metric label that says why a token was refused, or who was
// too fast; "" for refusals of another kind.
func refusalReason(err error) string {
	if fast, ok := errors.AsType[*tooFast](err); ok {
		return fast.label
	}
	var refusal *auth.Refusal
	if errors.As(err, &refusal) {
		return string(refusal.Reason)
	}
	return ""
}
