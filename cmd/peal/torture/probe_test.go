//go:build linux

package torture_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// metrics reads the metrics of a node or a worker that have no labels.
func (c *cluster) metrics(ctx context.Context, p *process) (map[string]float64, error) {
	body, err := c.get(ctx, "http://"+p.host.address(c.t, "admin")+"/metrics")
	if err != nil {
		return nil, err
	}
	all := make(map[string]float64)
	for in := bufio.NewScanner(bytes.NewReader(body)); in.Scan(); {
		name, value, _ := strings.Cut(in.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			all[name] = v
		}
	}
	return all, nil
}

// subscriptions counts those that a host has at all NATS servers; 0 where hosts have
// no addresses of their own.
func (c *cluster) subscriptions(ctx context.Context, h *host) (n int, err error) {
	if !c.network.apart {
		return 0, nil
	}
	for _, p := range c.natsServers {
		body, err := c.get(ctx, "http://"+p.host.address(c.t, "monitor")+"/connz?limit=1000")
		if err != nil {
			return 0, err
		}
		var connz struct {
			Connections []struct {
				IP            string `json:"ip"`
				Subscriptions int    `json:"subscriptions"`
			} `json:"connections"`
		}
		if err := json.Unmarshal(body, &connz); err != nil {
			return 0, err
		}
		for _, conn := range connz.Connections {
			if conn.IP == h.ip {
				n += conn.Subscriptions
			}
		}
	}
	return n, nil
}

// usage is what a node uses.
func (c *cluster) usage(ctx context.Context, p *process) (history.Record, error) {
	m, err := c.metrics(ctx, p)
	if err != nil {
		return history.Record{}, err
	}
	subs, err := c.subscriptions(ctx, p.host)
	return history.Record{
		Kind: history.Usage, Node: p.name, RSS: int64(m["process_resident_memory_bytes"]),
		Descriptors: int(m["process_open_fds"]), Goroutines: int(m["go_goroutines"]), Subscriptions: subs,
	}, err
}

// collected is the memory of a node when what it does not use is collected.
func (c *cluster) collected(ctx context.Context, p *process) (int64, error) {
	if _, err := c.get(ctx, "http://"+p.host.address(c.t, "admin")+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	m, err := c.metrics(ctx, p)
	return int64(m["process_resident_memory_bytes"]), err
}

// waiting is how many ticket events wait to be worked on.
func (c *cluster) waiting(ctx context.Context) (int, error) {
	m, err := c.metrics(ctx, c.workers[0])
	if err != nil {
		return 0, err
	}
	n, ok := m["peal_events_waiting"]
	if !ok || n != n {
		return 0, fmt.Errorf("%s does not know how many events wait", c.workers[0].name)
	}
	return int(n), nil
}

// patience is for how long a node may be unable to answer at quiet: this machine may
// have other work.
const patience = 30 * time.Second

var errUnavailable = errors.New("is not available")

// ask asks a node something for a user, again as long as it is not available.
func (c *cluster) ask(ctx context.Context, p *process, who member, path string, answer any) (err error) {
	for late := time.Now().Add(patience); ; {
		if err = c.askOnce(ctx, p, who, path, answer); !errors.Is(err, errUnavailable) || time.Now().After(late) || !sleep(ctx, time.Second) {
			return err
		}
	}
}

// askOnce sends a request of a user to a node and reads its answer.
func (c *cluster) askOnce(ctx context.Context, p *process, who member, path string, answer any) error {
	header, err := minter{c.issuer}.header(who, time.Minute)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.host.address(c.t, "public")+api+path, nil)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return fmt.Errorf("%s of %v at %s %w", path, who, p.name, errUnavailable)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %v at %s: %s", path, who, p.name, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// count is what a node counts of a user's inbox.
type count struct {
	Unread    int
	ReadState string
}

// list reads a user's whole inbox, newest first.
func (c *cluster) list(ctx context.Context, plan *plan, p *process, who member) (all []history.Entry, version string, err error) {
	for before := ""; ; {
		var page struct {
			Notifications []struct {
				Title, TicketNumber, Cursor string
				Read                        bool
			}
			Next      *string
			ReadState string
		}
		path := "/ticket/notification/list?limit=200"
		if before != "" {
			path += "&before=" + before
		}
		if err := c.ask(ctx, p, who, path, &page); err != nil {
			return nil, "", err
		}
		for _, n := range page.Notifications {
			number, err := plan.unseal(who, n.Title, n.TicketNumber)
			if err != nil {
				number = 0 // which was never published, and so is somebody else's
			}
			all = append(all, history.Entry{Number: number, Cursor: n.Cursor, Read: n.Read})
		}
		if page.Next == nil {
			return all, page.ReadState, nil
		}
		before = *page.Next
	}
}

// listAll writes down what every node says of every user's inbox, and returns what
// their devices should show.
func (c *cluster) listAll(ctx context.Context, plan *plan, h *history.Writer) (map[string]expectation, error) {
	want := make(map[string]expectation)
	var mu sync.Mutex // protects want and failed
	var failed error
	var work sync.WaitGroup
	next := make(chan int)
	for range 4 {
		work.Go(func() {
			for i := range next {
				e, err := c.inbox(ctx, plan, h, i)
				mu.Lock()
				want[plan.Users[i].String()] = e
				if err != nil && failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for i := range plan.Users {
		next <- i
	}
	close(next)
	work.Wait()
	c.client.CloseIdleConnections()
	return want, failed
}

// inbox writes down one user's.
func (c *cluster) inbox(ctx context.Context, plan *plan, h *history.Writer, i int) (expectation, error) {
	who := plan.Users[i]
	first := c.edges[i%len(c.edges)]
	entries, version, err := c.list(ctx, plan, first, who)
	if err != nil {
		return expectation{}, err
	}
	var all []history.Record
	for _, p := range append([]*process{first}, c.edges...) {
		var n count
		if err := c.ask(ctx, p, who, "/ticket/notification/count", &n); err != nil {
			return expectation{}, err
		}
		all = append(all, history.Record{Kind: history.Count, User: who.String(), Node: p.name, Unread: n.Unread, Version: n.ReadState})
	}
	h.Write(history.Record{Kind: history.Inbox, User: who.String(), Node: first.name, Entries: entries, Unread: all[0].Unread, Version: version})
	for _, r := range all {
		h.Write(r)
	}
	e := expectation{Unread: all[0].Unread, Version: version}
	if len(entries) > 0 {
		e.Cursor = entries[0].Cursor
	}
	return e, nil
}
