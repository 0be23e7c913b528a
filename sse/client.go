package sse

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pealhq/peal"
)

// Client follows an event stream of the service. Its fields are set before
// Follow and not touched while it runs.
type Client struct {
	// URL is the stream's, absolute, http or https.
	URL string

	// HTTP makes the requests. nil means a client that Follow owns: no proxy,
	// and 30 s for the headers of an answer. Of one that is given,
	// CheckRedirect and Timeout are not used.
	HTTP *http.Client

	// Header gives the headers of one request, such as a fresh token; it is
	// called before every connect. nil means none. An error that is a
	// peal.ErrUnauthenticated or peal.ErrForbidden ends Follow; any other is
	// backed off from like a network error, and its text is logged.
	Header func(context.Context) (http.Header, error)

	// LastEventID is the cursor to start after, "" for the live end. Follow
	// moves it: once it has returned, the next Follow goes on there.
	LastEventID string

	// Seen is how many ids of notifications are remembered, so that one which
	// is sent again is not handed over again. 0 means 1024, negative none.
	Seen int

	// Logger gets a line when a connection opens and one when it ends. nil
	// means none.
	Logger *slog.Logger

	// MinBackoff and MaxBackoff bound the range of the random wait before a
	// reconnect, see Follow. 0 or less means 1 s and 30 s.
	MinBackoff, MaxBackoff time.Duration

	// Idle is how long a connection may bring no byte before it is given up;
	// the server sends a heartbeat every 30 s. 0 means 75 s, negative means
	// for ever. The time that handle takes does not count.
	Idle time.Duration

	following sync.Mutex // held by Follow; protects LastEventID and seen
	seen      window
}

// Follow hands every event of the stream to handle, in order, and connects
// again whenever the connection ends, from the last id whose event handle
// took without an error. It returns
//
//   - nil when the server answers 204, which says not to come back;
//   - ctx.Err() when ctx ends;
//   - the error of handle, as it is;
//   - a *StatusError for an answer that asking again would not change: any
//     but 200, 204, 429 and 5xx. A redirect is one and is not followed, since
//     the token must not travel. A first 401 is asked again at once, with what
//     Header then gives; the second in a row is such an answer;
//   - ErrContentType for a 200 that is not an event stream, ErrTooLong for an
//     event beyond the bounds of a Reader (it would come again);
//   - an error of Header that says so, see there;
//   - a peal.ErrInvalid for a URL or LastEventID that cannot be used.
//
// After anything else it waits a random time in [0, min(MaxBackoff, base·2^n)).
// base is the server's last retry field, or MinBackoff if that is more, and n
// is how many waits there were since a connection delivered an event other
// than error. So the first reconnect after a good connection comes anywhere in
// [0, base): clients that were cut off together do not come back together,
// and wait base/2 on average. A 429 or 503 adds that to its Retry-After, of
// which at most 5 min are obeyed.
//
// An id that is not a cursor of the API contract is not resumed from. An event
// named notification whose data has an id that was handed over already is
// skipped, though its cursor counts. Every other event is handed over,
// heartbeat and error too; the server ends the connection after an error.
//
// handle is called by the goroutine that called Follow. One Follow at a time
// per Client: a second returns an error.
func (c *Client) Follow(ctx context.Context, handle func(Event) error) error {
	if !c.following.TryLock() {
		return errors.New("this sse.Client follows already")
	}
	defer c.following.Unlock()
	f, err := c.follower(handle)
	if err != nil {
		return err
	}
	if c.HTTP == nil {
		defer f.http.CloseIdleConnections()
	}
	for {
		end := f.connect(ctx)
		if end.reason.final() {
			return end.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		wait := f.backoff.after(end)
		f.log.LogAttrs(ctx, slog.LevelInfo, "event stream ended", slog.String("reason", string(end.reason)),
			slog.Any("err", end.err), slog.String("cursor", c.LastEventID), slog.Duration("wait", wait))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// follower returns what one Follow works with, c's defaults applied.
func (c *Client) follower(handle func(Event) error) (*follower, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, peal.Invalid("URL", "must be an absolute http or https URL")
	}
	if c.LastEventID != "" && !validID(c.LastEventID) {
		return nil, peal.Invalid("LastEventID", "must be at most 64 printable ASCII characters")
	}
	req, err := http.NewRequest(http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, peal.Invalid("URL", "must be an absolute http or https URL")
	}
	c.seen.resize(cmp.Or(c.Seen, 1024))
	f := &follower{
		client:  c,
		handle:  handle,
		http:    streamingHTTP(c.HTTP),
		request: req,
		idle:    cmp.Or(c.Idle, 75*time.Second),
		log:     c.Logger,
		backoff: backoff{
			min: cmp.Or(max(c.MinBackoff, 0), time.Second),
			max: cmp.Or(max(c.MaxBackoff, 0), 30*time.Second),
		},
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	return f, nil
}

// streamingHTTP copies given, or makes a client if it is nil, so that the
// copy neither follows redirects nor cuts a stream off for its age.
func streamingHTTP(given *http.Client) *http.Client {
	var h http.Client
	if given != nil {
		h = *given
	} else {
		h.Transport = &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			ForceAttemptHTTP2:     true,
		}
	}
	h.Timeout = 0
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

// sleep waits for d, or returns ctx.Err() as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
