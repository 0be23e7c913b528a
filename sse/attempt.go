package sse

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/pealhq/peal"
)

// ErrContentType: the server answered 200 with something that is not an event
// stream.
var ErrContentType = errors.New("answer is not an event stream")

// errIdle is the cause of an attempt's end when nothing came for too long.
var errIdle = errors.New("no byte for the idle time")

// refusalTimeout bounds the reading of a refusal's body, which may drip.
const refusalTimeout = 10 * time.Second

// reason is how an attempt ended; also the log attribute.
type reason string

const (
	// Follow goes on after these.
	noHeader     reason = "no_header"    // Header failed
	unreachable  reason = "unreachable"  // no answer
	tokenRefused reason = "unauthorized" // a 401 that a fresh token may cure
	busy         reason = "busy"         // 429 or 503
	serverError  reason = "server_error" // any other 5xx
	aborted      reason = "aborted"      // how the server ends a connection
	ended        reason = "ended"        // cleanly; a proxy may do so
	idled        reason = "idle"         // no byte for the idle time

	// It ends with these.
	stopped       reason = "stopped" // 204
	refused       reason = "refused"
	forbidden     reason = "forbidden" // Header says that there is no token to be had
	notStream     reason = "not_an_event_stream"
	tooLong       reason = "too_long"
	handlerFailed reason = "handler_failed"
)

func (r reason) final() bool {
	switch r {
	case stopped, refused, forbidden, notStream, tooLong, handlerFailed:
		return true
	}
	return false
}

// ending is how an attempt ended.
type ending struct {
	reason     reason
	err        error         // nil if stopped
	delivered  bool          // an event other than error came
	retryAfter time.Duration // what the server asked for, bounded
}

// follower is one call of Follow.
type follower struct {
	// Set before the first attempt, then read-only.
	client  *Client
	handle  func(Event) error
	http    *http.Client
	request *http.Request // without headers and context
	idle    time.Duration // negative: no watchdog
	log     *slog.Logger

	backoff      backoff
	unauthorized bool // the last answer was a 401
}

// connect makes one request and follows the answer to its end.
func (f *follower) connect(ctx context.Context) ending {
	header, err := f.header(ctx)
	switch {
	case errors.Is(err, peal.ErrUnauthenticated), errors.Is(err, peal.ErrForbidden):
		return ending{reason: forbidden, err: err}
	case err != nil:
		return ending{reason: noHeader, err: err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := newWatchdog(f.idle, func() { cancel(errIdle) })

	req := f.request.WithContext(ctx)
	req.Header = header
	dog.watch()
	resp, err := f.http.Do(req)
	dog.rest()
	if err != nil {
		return ending{reason: whyBroken(ctx, unreachable), err: withoutURL(err)}
	}
	resp.Body = watchedBody{resp.Body, dog}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		defer time.AfterFunc(refusalTimeout, func() { cancel(nil) }).Stop()
		return f.refused(resp)
	}
	f.unauthorized = false
	if mediaType(resp.Header) != "text/event-stream" {
		return ending{reason: notStream, err: ErrContentType}
	}
	f.log.LogAttrs(ctx, slog.LevelInfo, "event stream open", slog.String("cursor", f.client.LastEventID))
	return f.stream(ctx, NewReader(resp.Body))
}

// header returns the headers of the next request.
func (f *follower) header(ctx context.Context) (http.Header, error) {
	h := http.Header{}
	if f.client.Header != nil {
		given, err := f.client.Header(ctx)
		if err != nil {
			return nil, err
		}
		for name, values := range given {
			for _, v := range values {
				h.Add(name, v)
			}
		}
	}
	h.Set("Accept", "text/event-stream")
	h.Set("Accept-Encoding", "identity") // a compressor would hold events back
	h.Set("Cache-Control", "no-store")
	h.Del("Last-Event-ID")
	if id := f.client.LastEventID; id != "" {
		h.Set("Last-Event-ID", id)
	}
	return h, nil
}

// refused ends an attempt whose answer is not a 200.
func (f *follower) refused(resp *http.Response) ending {
	code := resp.StatusCode
	again := code == http.StatusUnauthorized && f.client.Header != nil && !f.unauthorized
	f.unauthorized = code == http.StatusUnauthorized
	if code == http.StatusNoContent {
		return ending{reason: stopped}
	}
	end := ending{reason: refused, err: readStatus(resp)}
	switch {
	case again:
		end.reason = tokenRefused
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		end.reason = busy
		end.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	case code >= 500:
		end.reason = serverError
	}
	return end
}

// stream hands over the events of one connection until it ends.
func (f *follower) stream(ctx context.Context, r *Reader) ending {
	r.resumeAfter(f.client.LastEventID)
	delivered := false
	for {
		e, err := r.Next()
		if d, ok := r.Retry(); ok {
			f.backoff.retry = d
		}
		if err != nil {
			f.resumeFrom(r.LastEventID()) // of blocks without data
		} else {
			err = ctx.Err() // what is still buffered comes again
		}
		if err != nil {
			return ending{reason: whyBroken(ctx, whyEnded(err)), err: err, delivered: delivered}
		}
		if err := f.deliver(e); err != nil {
			return ending{reason: handlerFailed, err: err}
		}
		delivered = delivered || e.Name != Error
		f.resumeFrom(r.LastEventID())
	}
}

// resumeFrom makes id the place of the next attempt: nothing that is not a
// cursor, which the server would answer with a gap at best.
func (f *follower) resumeFrom(id string) {
	if id == "" || validID(id) {
		f.client.LastEventID = id
	}
}

// deliver hands e over unless it was before.
func (f *follower) deliver(e Event) error {
	id := notificationID(e)
	seen := &f.client.seen
	if seen.contains(id) {
		return nil
	}
	if err := f.handle(e); err != nil {
		return err
	}
	seen.add(id)
	return nil
}

// whyEnded names the end of a stream by the error of Next.
func whyEnded(err error) reason {
	switch {
	case errors.Is(err, io.EOF):
		return ended
	case errors.Is(err, ErrTooLong):
		return tooLong
	}
	return aborted
}

// whyBroken is idle if the watchdog ended the attempt, otherwise r.
func whyBroken(ctx context.Context, r reason) reason {
	if context.Cause(ctx) == errIdle && !r.final() {
		return idled
	}
	return r
}

// withoutURL drops from an error of net/http the URL, whose query may hold
// what no log should.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// watchdog calls bark when it watches for too long. Every watch has its rest.
type watchdog struct {
	timer *time.Timer // nil: there is none
	idle  time.Duration
}

func newWatchdog(idle time.Duration, bark func()) *watchdog {
	if idle < 0 {
		return &watchdog{}
	}
	return &watchdog{timer: time.AfterFunc(idle, bark), idle: idle}
}

func (w *watchdog) watch() {
	if w.timer != nil {
		w.timer.Reset(w.idle)
	}
}

func (w *watchdog) rest() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// watchedBody is watched while a Read waits, and not while events are handled.
type watchedBody struct {
	io.ReadCloser
	dog *watchdog
}

func (b watchedBody) Read(p []byte) (int, error) {
	b.dog.watch()
	defer b.dog.rest()
	return b.ReadCloser.Read(p)
}
