package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/sse"
)

// What a connection has to do.
const (
	firstBeat = time.Minute // the first heartbeat comes within that, however a service is configured
	beatsSeen = 2           // so many heartbeats are enough
)

// What to do about a proxy, by what is wrong. Of each a line that is right for most.
const (
	unbuffer = "Have every proxy pass on at once what is written:\n" +
		"nginx: proxy_buffering off and proxy_http_version 1.1; no proxy_ignore_headers X-Accel-Buffering\n" +
		"HAProxy: passes it on as it is; see what stands behind and before it\n" +
		"Apache: flushpackets=on at ProxyPass\n" +
		"clouds: a load balancer for streams; AWS API Gateway (REST) and response buffering of Azure Application Gateway hold answers back"
	uncompress = "Have no proxy compress text/event-stream:\n" +
		"nginx: gzip off for this location, or take text/event-stream out of gzip_types\n" +
		"HAProxy: take text/event-stream out of compression type\n" +
		"clouds: peal says no-transform in Cache-Control: see that nobody takes that away"
	keepOpen = "Have no proxy end a connection that is silent for less than 75 s; heartbeats come every 30 s:\n" +
		"nginx: proxy_read_timeout 75s or more (its default is 60 s), proxy_http_version 1.1\n" +
		"HAProxy: timeout client and timeout server 75s or more (and timeout tunnel, where it is set)\n" +
		"Envoy, Istio: timeout 0s of the route, stream_idle_timeout 75s or more\n" +
		"clouds: raise the idle timeout (AWS ALB), or the backend timeout, which ends a stream whatever comes on it (Google Cloud)"
	passHeaders = "Have the proxy pass on the headers of peal as they are: no add_header, proxy_hide_header or expires for this location (nginx), no http-response set-header (HAProxy)."
)

// arrival is an event, and when all of it was there.
type arrival struct {
	sse.Event
	at time.Time
}

// connection is an open event stream.
type connection struct {
	res    *http.Response
	sent   time.Time // the request was written
	events chan arrival
	err    error // how it ended; set before events is closed
	last   time.Time
	ctx    context.Context // of the request
	cancel context.CancelFunc
	done   func()
}

// open connects, with a cursor in the header or the query if there is one. The error
// says why there is no answer. It is closed by close.
func (p Proxy) open(ctx context.Context, encodings, header, query string) (*connection, error) {
	at := p.URL + p.Base + streamPath
	if query != "" {
		at += "?lastEventId=" + url.QueryEscape(query)
	}
	c := &connection{sent: time.Now(), events: make(chan arrival, 64)}
	client, done := p.client()
	client.Transport.(*http.Transport).ResponseHeaderTimeout = p.patience()
	c.done = done
	c.ctx, c.cancel = context.WithCancel(ctx)
	var mu sync.Mutex // the trace may be called after Do has returned
	traced := httptrace.WithClientTrace(c.ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		mu.Lock()
		defer mu.Unlock()
		c.sent = time.Now()
	}})
	req, err := http.NewRequestWithContext(traced, http.MethodGet, at, nil)
	if err != nil {
		c.close()
		return nil, err
	}
	req.Header = p.Header.Clone()
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", encodings)
	req.Header.Set("Cache-Control", "no-store")
	if header != "" {
		req.Header.Set("Last-Event-ID", header)
	}
	if c.res, err = client.Do(req); err != nil {
		c.close()
		return nil, bare(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return c, nil
}

func (c *connection) close() {
	c.cancel()
	if c.res != nil {
		c.res.Body.Close()
	}
	c.done()
}

// follow reads events until the connection ends.
func (c *connection) follow() {
	go func() {
		defer close(c.events)
		body := &clocked{Reader: c.res.Body}
		r := sse.NewReader(body)
		for {
			e, err := r.Next()
			if err != nil {
				c.err, c.last = err, body.last
				return
			}
			select {
			case c.events <- arrival{e, time.Now()}:
			case <-c.ctx.Done():
				c.err, c.last = c.ctx.Err(), body.last
				return
			}
		}
	}()
}

// clocked remembers when something came.
type clocked struct {
	io.Reader
	last time.Time
}

func (c *clocked) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if n > 0 {
		c.last = time.Now()
	}
	return n, err
}

// next is the next event; not ok if none comes in time, or the connection is over.
func (c *connection) next(ctx context.Context, wait time.Duration) (a arrival, ok, over bool) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case a, ok = <-c.events:
		return a, ok, !ok
	case <-t.C:
	case <-ctx.Done():
	}
	return a, false, false
}

// greeting is what a connection begins with.
type greeting struct {
	UserID    peal.UserID    `json:"userId"`
	Timestamp peal.Timestamp `json:"timestamp"`
	Recovered bool           `json:"recovered"`
}

// patience is how long to wait for what comes at once.
func (p Proxy) patience() time.Duration { return min(p.Wait, throughBound) }

// aheadBy is by how much a clock is ahead, at least, that showed a time between two
// of ours. It shows milliseconds.
func aheadBy(shown, from, to time.Time) time.Duration {
	switch last := shown.Add(time.Millisecond); {
	case shown.After(to):
		return shown.Sub(to)
	case last.Before(from):
		return last.Sub(from)
	}
	return 0
}

// stream connects as a client does, watches, and comes back.
func (p Proxy) stream(ctx context.Context) []Finding {
	const check = "event stream"
	if p.Header == nil {
		return []Finding{skipped(check, "there is no token: give --token, or PEAL_TOKEN, with --realm and --tenant")}
	}
	var findings []Finding
	c, err := p.open(ctx, "gzip, deflate, br, zstd", "", "") // as browsers do
	if err == nil && c.res.Header.Get("Content-Encoding") != "" {
		findings = append(findings, found(Trouble, "stream compression", uncompress, "the answer is packed with %s, so events wait until a block is full", c.res.Header.Get("Content-Encoding")))
		c.close()
		c, err = p.open(ctx, "identity", "", "")
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && ctx.Err() == nil {
		return append(findings, found(Trouble, "first byte", unbuffer, "not even the headers of the answer in %v, though peal writes at once", p.patience()))
	}
	if err != nil {
		return append(findings, found(Trouble, check, "See what is said of the address above.", "no answer: %v", err))
	}
	defer c.close()
	if c.res.StatusCode != http.StatusOK {
		return append(findings, p.refused(c.res))
	}
	if mediaType(c.res.Header) != "text/event-stream" {
		return append(findings, found(Trouble, check, reachPeal, "not peal answers: %s", p.answerOf(c.res)))
	}
	if len(findings) == 0 {
		findings = append(findings, well("stream compression", "none"))
	}
	c.follow()
	findings = append(findings, headers(c.res.Header, c.res.Proto))
	first, ok, over := c.next(ctx, p.patience())
	switch {
	case over:
		return append(findings, found(Trouble, "first byte", keepOpen, "the connection ended before anything came (%v)", ended(c.err)))
	case !ok:
		return append(findings, found(Trouble, "first byte", unbuffer, "nothing in %v, though peal writes at once", p.patience()))
	}
	findings = append(findings, p.beginning(first, first.at.Sub(c.sent)))
	var hello greeting
	if first.Name != sse.Connected || json.Unmarshal(first.Data, &hello) != nil {
		return findings
	}
	findings = append(findings, p.resume(ctx, first.ID, "header"), p.resume(ctx, first.ID, "query"))
	w := watch{within: p.Within, base: first.at.Sub(hello.Timestamp.Time), began: first.at}
	findings = append(findings, clock("clock of the service", aheadBy(hello.Timestamp.Time, c.sent, first.at)))
	if p.Publish {
		findings = append(findings, p.tell(ctx, c, hello.UserID, &w))
	}
	w.run(ctx, c, p.Wait)
	return append(findings, w.judge(c, p.Wait)...)
}

// refused says what an answer is that is no event stream.
func (p Proxy) refused(res *http.Response) Finding {
	const check = "event stream"
	pr := problemIn(res)
	do := map[string]string{
		"UNAUTHENTICATED":  "See peal token explain, with the realms file of the service: it says which check the token fails. And whether the proxy passes on Authorization, realmname and x-tenantid.",
		"FORBIDDEN":        "The token does not speak for this tenant, or lacks the realm's role: give --tenant, or another token.",
		"INVALID_REQUEST":  "See that the proxy passes on x-tenantid and realmname, each once: " + pr.Detail + ".",
		"CONNECTION_LIMIT": "Close some of the user's connections, or wait 45 s for those of a node that was killed.",
		"RATE_LIMIT":       "Wait as long as Retry-After says. If many users come from one address, the proxy's, raise connects-per-address.",
		"UNAVAILABLE":      "Run peal doctor where the node runs: it says what the node stands on and does not have.",
	}[pr.Code]
	switch {
	case pr.Code == "":
		return found(Trouble, check, reachPeal, "not peal answers: %s", p.answerOf(res))
	case pr.Code == "CONNECTION_LIMIT", pr.Code == "RATE_LIMIT": // it says nothing of the way
		return found(Warning, check, do, "refused: %d %s, %s", res.StatusCode, pr.Code, pr.Detail)
	case do == "":
		do = "See the log of the node."
	}
	return found(Trouble, check, do, "refused: %d %s, %s", res.StatusCode, pr.Code, pr.Detail)
}

// headers judges what has become of the answer's headers.
func headers(h http.Header, proto string) Finding {
	const check = "stream headers"
	var bad []string
	control := strings.ToLower(strings.Join(h.Values("Cache-Control"), ","))
	for _, want := range []string{"no-store", "no-transform"} {
		if !strings.Contains(control, want) {
			bad = append(bad, "Cache-Control without "+want)
		}
	}
	if got := h.Get("X-Accel-Buffering"); got != "" && got != "no" {
		bad = append(bad, fmt.Sprintf("X-Accel-Buffering %q", got))
	}
	if h.Get("Content-Length") != "" {
		bad = append(bad, "a Content-Length")
	}
	if h.Get("Age") != "" {
		bad = append(bad, "an Age, so a cache has answered")
	}
	switch {
	case len(bad) > 0:
		return found(Trouble, check, passHeaders, "changed on the way: %s", strings.Join(bad, ", "))
	case h.Get("X-Request-Id") == "":
		return found(Warning, check, passHeaders+" By X-Request-Id a request is found in the log.", "changed on the way: no X-Request-Id")
	}
	seen := proto + ", as peal has sent them"
	if h.Get("X-Accel-Buffering") == "" { // nginx takes it for itself
		seen += ", but for X-Accel-Buffering, which nginx takes for itself"
	}
	return well(check, "%s", seen)
}

// beginning judges the first event.
func (p Proxy) beginning(first arrival, took time.Duration) Finding {
	const check = "first byte"
	switch {
	case first.Name == sse.Error:
		return found(Trouble, check, "See the log of the node.", "peal ends the connection at once: %s", first.Data)
	case first.Name != sse.Connected:
		return found(Trouble, check, "See what answers there: peal begins with connected.", "the first event is %q", first.Name)
	case took > p.Within:
		return found(Trouble, check, unbuffer, "after %s, though peal writes at once", round(took))
	}
	return well(check, "connected after %s", round(took))
}

// resume comes back with a cursor, in the header or the query.
func (p Proxy) resume(ctx context.Context, cursor, in string) Finding {
	check := "resume by " + in
	if cursor == "" {
		return skipped(check, "connected had no cursor, for there was a gap")
	}
	header, query, what := cursor, "", "the header Last-Event-ID"
	if in == "query" {
		header, query, what = "", cursor, "the query lastEventId"
	}
	c, err := p.open(ctx, "identity", header, query)
	if err != nil {
		return found(Trouble, check, "See what is said of the address above.", "no answer: %v", err)
	}
	defer c.close()
	if c.res.StatusCode != http.StatusOK {
		f := p.refused(c.res)
		f.Check = check
		return f
	}
	c.follow()
	first, ok, _ := c.next(ctx, p.patience())
	var hello greeting
	switch {
	case !ok:
		return found(Trouble, check, unbuffer, "nothing in %v", p.patience())
	case first.Name != sse.Connected || json.Unmarshal(first.Data, &hello) != nil:
		return found(Trouble, check, "See the log of the node.", "it begins with %q", first.Name)
	case !hello.Recovered:
		return found(Trouble, check, "Have the proxy pass on "+what+": without it a client that comes back loses what it missed.", "peal does not see %s", what)
	}
	return well(check, "peal sees %s", what)
}

// watch is what is seen of a connection.
type watch struct {
	within time.Duration // so soon everything has to come
	base   time.Duration // the least from when an event was written, by the service's clock, until it came, by ours
	began  time.Time

	beats  []beat
	fault  *arrival // the event error
	closed bool
}

// beat is a heartbeat.
type beat struct {
	arrival
	written time.Time
}

// run watches until enough has come, the connection ends, or time is up.
func (w *watch) run(ctx context.Context, c *connection, wait time.Duration) {
	end := w.began.Add(wait)
	for len(w.beats) < beatsSeen {
		a, ok, over := c.next(ctx, time.Until(end))
		if !ok {
			w.closed = over && ctx.Err() == nil
			return
		}
		w.see(a)
	}
}

func (w *watch) see(a arrival) {
	switch a.Name {
	case sse.Heartbeat:
		var data struct {
			Timestamp peal.Timestamp `json:"timestamp"`
		}
		if json.Unmarshal(a.Data, &data) == nil {
			w.beats = append(w.beats, beat{a, data.Timestamp.Time})
			w.base = min(w.base, a.at.Sub(data.Timestamp.Time))
		}
	case sse.Error:
		w.fault = &a
	}
}

// judge says what was seen.
func (w *watch) judge(c *connection, wait time.Duration) []Finding {
	var findings []Finding
	if w.closed {
		findings = append(findings, w.ending(c)...)
	}
	const check = "heartbeat"
	late := time.Duration(0)
	for _, b := range w.beats {
		late = max(late, b.at.Sub(b.written)-w.base)
	}
	switch n := len(w.beats); {
	case n > 0 && late > w.within:
		findings = append(findings, found(Trouble, check, unbuffer, "up to %s late: something holds back what is written", round(late)))
	case n >= beatsSeen:
		findings = append(findings, well(check, "%d, %s apart, at most %s late", n, round(w.beats[n-1].written.Sub(w.beats[n-2].written)), round(late)))
	case n > 0:
		findings = append(findings, well(check, "one after %s, at most %s late", round(w.beats[0].at.Sub(w.began)), round(late)))
	case w.closed:
	case wait <= firstBeat:
		findings = append(findings, skipped(check, "none in %v, which was not waited for long enough: they come every 30 s, or as the service is configured, every %v at most; --wait 65s is enough for one", wait, firstBeat))
	default:
		findings = append(findings, found(Trouble, check, unbuffer, "none in %v, though peal writes one within %v", wait, firstBeat))
	}
	return findings
}

// ending judges how and why a connection has ended while it was watched.
func (w *watch) ending(c *connection) []Finding {
	lasted := c.last
	if lasted.IsZero() {
		lasted = w.began
	}
	silence := time.Since(lasted)
	clean := errors.Is(c.err, io.EOF)
	if w.fault == nil {
		how := "cut"
		if clean {
			how = "ended as if all were done"
		}
		return []Finding{found(Trouble, "idle timeout", keepOpen, "the connection was %s after %s, of which %s were silent, and not by peal",
			how, round(time.Since(w.began)), round(silence))}
	}
	var why struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(w.fault.Data, &why) // what it says is shown anyhow
	findings := []Finding{found(OK, "idle timeout", "", "peal has ended the connection, with %s", cmp.Or(why.Code, string(w.fault.Data)))}
	if clean {
		return append(findings, found(Trouble, "abort", "Have the proxy pass on that an answer was cut off (nginx does; a proxy that stores answers may not): "+
			"after a clean end some client libraries never come back.", "peal has cut the connection off, and it came as a clean end"))
	}
	return append(findings, well("abort", "peal has cut the connection off, and it came as that (%v)", ended(c.err)))
}

// ended is how a connection has ended, in few words.
func ended(err error) string {
	switch {
	case errors.Is(err, io.EOF):
		return "a clean end"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut off"
	case err == nil:
		return "no more events"
	}
	return bare(err).Error()
}

// tell has peal tell the caller something, and sees when it comes.
func (p Proxy) tell(ctx context.Context, c *connection, user peal.UserID, w *watch) Finding {
	const check = "delivery"
	began := time.Now()
	id, refused := p.publish(ctx, user)
	if refused.Status != "" {
		return refused
	}
	for {
		a, ok, _ := c.next(ctx, p.patience())
		if !ok {
			return found(Trouble, check, unbuffer, "it was stored, and did not come in %v", p.patience())
		}
		w.see(a)
		var n peal.Notification
		if a.Name != sse.Notification || json.Unmarshal(a.Data, &n) != nil || n.ID != id {
			continue
		}
		if took := a.at.Sub(began); took > p.Within {
			return found(Trouble, check, unbuffer, "it came after %s", round(took))
		}
		return well(check, "a notification came %s after it was sent", round(a.at.Sub(began)))
	}
}

// publish sends the notification, and returns its id.
func (p Proxy) publish(ctx context.Context, user peal.UserID) (string, Finding) {
	const check = "delivery"
	ctx, cancel := context.WithTimeout(ctx, throughBound)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"recipients": []peal.UserID{user},
		"notification": map[string]string{
			"type": "mention", "ticketId": "doctor", "ticketNumber": "DOCTOR-1", "title": "peal doctor",
			"message": "Somebody has tried whether notifications reach you. They do.",
		},
	})
	if err != nil {
		return "", skipped(check, "%v", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+p.Base+"/ticket/notification", bytes.NewReader(body))
	if err != nil {
		return "", skipped(check, "%v", err)
	}
	req.Header = p.Header.Clone()
	req.Header.Set("Content-Type", "application/json")
	client, done := p.client()
	defer done()
	res, err := client.Do(req)
	if err != nil {
		return "", found(Trouble, check, "See what is said of the address above.", "no answer: %v", bare(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		pr := problemIn(res)
		if pr.Code == "FORBIDDEN" {
			return "", found(Warning, check, "Give a token with the role that may publish, or leave out --publish.", "the token may not publish")
		}
		f := p.refused(res)
		f.Check = check
		return "", f
	}
	var stored struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&stored); err != nil {
		return "", found(Trouble, check, reachPeal, "an answer that is none: %v", err)
	}
	return stored.ID, Finding{}
}
