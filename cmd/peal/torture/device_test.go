//go:build linux

package torture_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/sse"
)

const (
	dialTimeout = 5 * time.Second
	headTimeout = 20 * time.Second // until the first event
	silence     = 45 * time.Second // after which a device gives a connection up
	leastPause  = time.Second
	mostPause   = 30 * time.Second
)

// device is a client that resumes where it was, as a browser does.
type device struct {
	clients *clients
	name    string
	user    member
	slow    bool // it may be told to stop reading
	r       *rand.Rand

	// Owned by run.
	conns  int
	cursor string
	next   int           // which node is asked
	pause  time.Duration // that the service has asked for
	failed int           // attempts in a row
	paused time.Duration // back-off since the last connection
	recent []received    // a few of the last, to be marked
	kept   struct {      // its latest token
		header http.Header
		until  time.Time
	}

	left    atomic.Bool // the connection is ended by the device itself
	renewed atomic.Bool // its token has to be good for long

	mu    sync.Mutex // protects the rest, which others look at
	shows shown
	conn  net.Conn // nil without one
}

// received is a notification that came.
type received struct {
	id     string
	number int
}

// shown is what a user sees on the device.
type shown struct {
	connected bool
	cursor    string
	unread    int
	version   string
	expires   time.Time
}

// clients is all devices of a process.
type clients struct {
	plan    *plan
	minter  minter
	history *history.Writer
	devices []*device
	crew    *crew
	http    http.Client

	frozen atomic.Bool // nobody leaves by themselves any more
	asleep atomic.Bool // slow devices do not read
	storms int
}

func newClients(p *plan) (*clients, error) {
	m, err := p.minter()
	if err != nil {
		return nil, err
	}
	h, err := history.Create(p.Dir, "clients")
	if err != nil {
		return nil, err
	}
	c := &clients{plan: p, minter: m, history: h, crew: newCrew(), http: http.Client{Timeout: 10 * time.Second}}
	for i, u := range p.Users {
		for d := range p.Devices[i] {
			c.devices = append(c.devices, c.device(u, fmt.Sprint(i, "-", d), len(c.devices)))
		}
	}
	return c, nil
}

func (c *clients) device(u member, name string, i int) *device {
	return &device{
		clients: c, name: name, user: u, next: i, slow: c.plan.SlowOnes > 0 && i%c.plan.SlowOnes == 0,
		r: rand.New(rand.NewPCG(c.plan.Seed, uint64(i)+1)),
	}
}

// run keeps the device connected until the crew ends.
func (d *device) run() {
	defer d.clients.history.Write(history.Record{Kind: history.Gone, Device: d.name})
	for !d.clients.over(d) {
		if d.connect() {
			d.failed = 0
		} else {
			d.failed++
		}
		d.back()
	}
}

// over reports whether a device is to end.
func (c *clients) over(d *device) bool {
	select {
	case <-c.crew.stop:
		return true
	default:
		return false
	}
}

// back waits as a client is to: for as long as the service has asked for, and from there at
// random in a range that doubles with each failure.
func (d *device) back() {
	wait := d.pause + some(d.r, min(leastPause<<min(d.failed, 8), mostPause))
	d.pause = 0
	d.paused += wait
	d.clients.crew.over(wait)
}

// connect opens a connection and reads it to its end. It returns whether there was
// one.
func (d *device) connect() bool {
	c := d.clients
	node := c.plan.Nodes[d.next%len(c.plan.Nodes)]
	d.conns++
	name := fmt.Sprint(d.name, ".", d.conns)
	header := d.authorization()
	header["Accept"] = []string{"text/event-stream"}
	if d.cursor != "" {
		header["Last-Event-Id"] = []string{d.cursor}
	}
	c.history.Write(history.Record{Kind: history.Dial, Conn: name, Device: d.name, User: d.user.String(), Node: node.Name, Asked: d.cursor})
	refused := history.Record{Kind: history.Refused, Conn: name, Device: d.name, User: d.user.String(), Node: node.Name}
	conn, err := net.DialTimeout("tcp", node.Address, dialTimeout)
	if err != nil {
		c.history.Write(refused)
		d.next++ // another one
		return false
	}
	defer conn.Close()
	if d.slow {
		conn.(*net.TCPConn).SetReadBuffer(2048)
	}
	conn.SetDeadline(time.Now().Add(headTimeout))
	req := &http.Request{Method: http.MethodGet, URL: mustURL("http://" + node.Address + api + "/ticket/sse/notifications"), Header: header, Host: node.Address}
	if err := req.Write(conn); err != nil {
		c.history.Write(refused)
		d.next++
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), req)
	if err != nil {
		c.history.Write(refused)
		d.next++
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p sse.Problem
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		json.Unmarshal(body, &p) // what is no problem has no code, which is seen
		refused.Status, refused.Code = resp.StatusCode, p.Code
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			d.pause = time.Duration(seconds) * time.Second
		}
		c.history.Write(refused)
		d.next++
		return false
	}
	return d.follow(conn, sse.NewReader(resp.Body), name, node.Name, refused)
}

// authorization is a token for the next connection: another each time, but for when
// things are kept as they are. A node remembers tokens that it has seen, and would need
// more memory with each that is new.
func (d *device) authorization() http.Header {
	c := d.clients
	if c.frozen.Load() && time.Until(d.kept.until) > restsFor {
		return d.kept.header.Clone()
	}
	ttl := c.plan.TokenFor[0] + some(d.r, c.plan.TokenFor[1]-c.plan.TokenFor[0])
	if c.frozen.Load() {
		ttl = time.Hour
	}
	header, err := c.minter.header(d.user, ttl)
	if err != nil {
		panic(err)
	}
	d.kept.header, d.kept.until = header, time.Now().Add(ttl)
	return header.Clone()
}

// follow reads a connection to its end.
func (d *device) follow(conn net.Conn, events *sse.Reader, name, node string, none history.Record) bool {
	c := d.clients
	e, err := events.Next()
	if err != nil {
		c.history.Write(none)
		d.next++
		return false
	}
	leave := time.Duration(float64(c.plan.StaysFor) * d.r.ExpFloat64())
	if err := d.begin(e, name, node); err != nil {
		c.history.Write(history.Record{Kind: history.Refused, Conn: name, Device: d.name, User: d.user.String(), Node: node, Status: http.StatusOK, Code: err.Error()})
		return false
	}
	d.left.Store(false)
	d.mu.Lock()
	d.conn = conn
	d.mu.Unlock()
	d.renew()
	going := time.AfterFunc(leave, func() {
		if !c.frozen.Load() {
			d.leave()
		}
	})
	defer going.Stop()
	defer context.AfterFunc(stopContext{c.crew.stop}, d.leave)()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conn, d.shows.connected = nil, false
	}()

	how := history.Cut
	for {
		for d.slow && c.asleep.Load() && !c.over(d) {
			c.crew.over(100 * time.Millisecond)
		}
		conn.SetReadDeadline(time.Now().Add(silence))
		e, err := events.Next()
		if err != nil {
			var timeout net.Error
			switch {
			case d.left.Load() || errors.As(err, &timeout) && timeout.Timeout():
				how = history.Left
			case errors.Is(err, io.EOF):
				how = history.Clean
			}
			d.over(name, how)
			return true
		}
		d.take(e, name)
	}
}

// over takes the end of a connection.
func (d *device) over(name, how string) {
	if how == history.Left && d.pause == 0 {
		d.pause = leastPause + some(d.r, 4*time.Second)
	}
	d.clients.history.Write(history.Record{Kind: history.End, Conn: name, How: how})
	d.next++
}

// renew has the device leave if its token has to be good for longer than it is.
func (d *device) renew() {
	d.mu.Lock()
	short := time.Until(d.shows.expires) < restsFor
	d.mu.Unlock()
	if short && d.renewed.Load() {
		d.leave()
	}
}

// leave has the device end its connection.
func (d *device) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		d.left.Store(true)
		d.conn.Close()
	}
}

// begin takes the first event.
func (d *device) begin(e sse.Event, conn, node string) error {
	var connected struct {
		UserID    string
		Timestamp time.Time
		ExpiresAt time.Time
		Recovered bool
		Unread    int
		ReadState string
	}
	if err := json.Unmarshal(e.Data, &connected); err != nil || e.Name != sse.Connected {
		return fmt.Errorf("the first event is %s %s", e.Name, e.Data)
	}
	if connected.UserID != d.user.ID {
		return fmt.Errorf("the service takes %v for %q", d.user, connected.UserID)
	}
	if e.Retry < time.Second || e.Retry > 3*time.Second {
		return fmt.Errorf("retry is %v", e.Retry)
	}
	d.clients.history.Write(history.Record{Kind: history.Open, Conn: conn, Device: d.name, User: d.user.String(), Node: node, Cursor: e.ID, Recovered: connected.Recovered,
		Unread: connected.Unread, Version: connected.ReadState, Expires: connected.ExpiresAt.UnixMicro(), Server: connected.Timestamp.UnixMicro(),
		Paused: d.paused.Microseconds(), Slow: d.slow})
	d.paused, d.pause = 0, e.Retry
	if e.ID != "" {
		d.cursor = e.ID
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shows = shown{true, d.cursor, connected.Unread, connected.ReadState, connected.ExpiresAt}
	return nil
}

// take takes any other event.
func (d *device) take(e sse.Event, conn string) {
	if e.ID != "" {
		d.cursor = e.ID
	}
	if e.Retry > 0 {
		d.pause = e.Retry
	}
	r := history.Record{Conn: conn, Cursor: e.ID}
	var data struct {
		ID           string
		Title        string
		TicketNumber string
		Read         bool
		Code         string
		Unread       int
		ReadState    string
		Timestamp    time.Time
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		r.Foreign = fmt.Sprintf("an event %s that is no JSON: %q", e.Name, e.Data)
	}
	d.mu.Lock()
	d.shows.cursor = d.cursor
	switch e.Name {
	case sse.Notification:
		r.Kind, r.Read = history.Received, data.Read
		if !data.Read {
			d.shows.unread++
		}
		n, err := d.clients.plan.unseal(d.user, data.Title, data.TicketNumber)
		if err != nil {
			r.Foreign = err.Error()
		}
		r.Number = n
		if d.recent = append(d.recent, received{data.ID, n}); len(d.recent) > 5 {
			d.recent = d.recent[1:]
		}
	case sse.State:
		r.Kind, r.Unread, r.Version = history.State, data.Unread, data.ReadState
		d.shows.unread, d.shows.version = data.Unread, data.ReadState
	case sse.Gap:
		r.Kind, r.Code = history.Gap, data.Code
	case sse.Heartbeat:
		r.Kind, r.Server = history.Beat, data.Timestamp.UnixMicro()
	case sse.Error:
		r.Kind, r.Code = history.Error, data.Code
		if data.Code == "DRAINING" {
			d.next++ // what is not ready gets no connects of a load balancer
		}
	default:
		r.Kind, r.Code = history.Error, "an event "+string(e.Name)
	}
	d.mu.Unlock()
	d.clients.history.Write(r)
	if r.Kind == history.Beat && !d.clients.frozen.Load() && d.r.Float64() < heartbeat.Seconds()/d.clients.plan.MarksIn.Seconds() {
		d.mark()
	}
}

// mark marks some of the last notifications, or all up to the last, as read.
func (d *device) mark() {
	if len(d.recent) == 0 {
		return
	}
	r := history.Record{Kind: history.Mark, User: d.user.String(), Device: d.name}
	var body any
	if d.r.IntN(2) == 0 {
		r.Cursor = d.cursor
		body = map[string]any{"upTo": d.cursor}
	} else {
		one := d.recent[d.r.IntN(len(d.recent))]
		r.Numbers = []int{one.number}
		body = map[string]any{"ids": []string{one.id}}
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	header, err := d.clients.minter.header(d.user, time.Minute)
	if err != nil {
		panic(err)
	}
	node := d.clients.plan.Nodes[d.r.IntN(len(d.clients.plan.Nodes))]
	header["Content-Type"] = []string{"application/json"}
	d.clients.crew.Go(func() { // the connection is read meanwhile
		r.Outcome, r.Status, r.Code = outcome(d.clients.http, http.MethodPut, node, "/ticket/notification/read", header, b, nil)
		d.clients.history.Write(r)
	})
}

// outcome sends a request, and says what is known of it then. What it is answered when
// all went well goes to answer.
func outcome(client http.Client, method string, node node, path string, header http.Header, body []byte, answer any) (outcome string, status int, code string) {
	req, err := http.NewRequest(method, "http://"+node.Address+api+path, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return history.Unknown, 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return history.Unknown, 0, ""
	}
	if resp.StatusCode/100 == 2 {
		if answer != nil && json.Unmarshal(b, answer) != nil {
			return history.Denied, resp.StatusCode, "an answer that is not the contract's"
		}
		return history.Stored, resp.StatusCode, ""
	}
	var p sse.Problem
	json.Unmarshal(b, &p) // what is no problem has no code, which is seen
	return history.Denied, resp.StatusCode, p.Code
}
