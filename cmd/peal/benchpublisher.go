package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/cmd/peal/bench"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// benchPublisher is one way to publish what peal bench measures.
type benchPublisher struct {
	publish bench.Publish
	close   func()
}

// benchPosts bounds the idle connections of a publisher by HTTP.
const benchPosts = 256

func (f *benchFlags) publisher(ctx context.Context, running ready) (benchPublisher, error) {
	if f.publish == "bus" {
		return f.busPublisher(ctx, f.natsURL(running))
	}
	token, err := f.publisherToken(running)
	if err != nil {
		return benchPublisher{}, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: benchPosts, DisableCompression: true}
	p := poster{
		client: &http.Client{Transport: transport, Timeout: requestTimeout},
		header: f.header(token),
		body:   benchNotificationBody,
		turn:   new(atomic.Uint64),
	}
	path := "/ticket/notification"
	switch f.publish {
	case "event":
		path, p.body = "/ticket/event", benchEventBody
	case "events":
		path, p.body = "/ticket/events", benchEventsBody
	}
	for _, address := range f.urls {
		p.urls = append(p.urls, address+node.Base+path)
	}
	if !f.ownToken { // whose namespace is not known
		p.namespace = f.realm
	}
	return benchPublisher{p.publish, transport.CloseIdleConnections}, nil
}

func (f *benchFlags) publisherToken(running ready) (string, error) {
	if f.ownToken {
		return f.token, nil
	}
	tokens, err := openIssuer(f.data, running.URL)
	if err != nil {
		return "", err
	}
	return f.mintOne(tokens, "peal-bench", rolePublish)
}

// benchNotification is what is published.
func benchNotification(id, message string) peal.Notification {
	return peal.Notification{
		ID: id, Type: peal.Assignment, TicketID: "12345", TicketNumber: "INC-2024-001234",
		Title: "VPN Connection Issue", Message: message,
	}
}

// benchNotificationBody is the body of one notification for all.
func benchNotificationBody(to []any, id, message string) any {
	return map[string]any{"recipients": to, "notification": given(benchNotification(id, message))}
}

// benchEventBody is the body of one event, of a ticket of its own, which concerns all.
func benchEventBody(to []any, id, _ string) any {
	return map[string]any{
		"id": id, "type": peal.Assignment, "recipients": to[1:],
		"ticket": map[string]any{"id": id, "number": id, "title": "VPN Connection Issue", "assigneeId": to[0]},
	}
}

// benchEventsBody is the body of as many events, each of a ticket of its own, which
// concerns one.
func benchEventsBody(to []any, id, _ string) any {
	events := make([]any, len(to))
	for i, user := range to {
		one := fmt.Sprint(id, "-", i)
		events[i] = map[string]any{
			"id": one, "type": peal.Assignment,
			"ticket": map[string]any{"id": one, "number": id, "title": "VPN Connection Issue", "assigneeId": user},
		}
	}
	return map[string]any{"events": events}
}

// poster publishes by HTTP, over connections that are kept.
type poster struct {
	client    *http.Client
	urls      []string // of the nodes, which are told in turn
	turn      *atomic.Uint64
	header    http.Header
	namespace string // of the users; "" is the tenant's default
	body      func(to []any, id, message string) any
}

// publish implements bench.Publish.
func (p poster) publish(ctx context.Context, to []string, id, message string) error {
	body, err := json.Marshal(p.body(recipients(to, p.namespace), id, message))
	if err != nil {
		return err
	}
	address := p.urls[p.turn.Add(1)%uint64(len(p.urls))]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = p.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusAccepted:
		return nil
	case resp.StatusCode == http.StatusOK: // of a batch, some of which may not be stored
		if bytes.Contains(answer, []byte(`"status":503`)) {
			return errors.New("publish: not all of it is stored")
		}
		return nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("publish: status %d", resp.StatusCode)
	}
	var problem sse.Problem
	json.Unmarshal(answer, &problem) // an answer without a problem has none to tell
	return fmt.Errorf("publish: %w: %s", bench.ErrRefused,
		strings.Join(strings.Fields(fmt.Sprint(resp.StatusCode, " ", problem.Code, " ", problem.Detail)), " "))
}

// busPublisher publishes past the node, straight into JetStream.
func (f *benchFlags) busPublisher(ctx context.Context, servers string) (benchPublisher, error) {
	b, err := bus.Open(ctx, bus.Config{URLs: strings.Split(servers, ","), Credentials: f.natsCreds, Region: bus.Region(f.region)})
	if err != nil {
		return benchPublisher{}, natsTrouble(servers, err)
	}
	publish := func(ctx context.Context, to []string, id, message string) error {
		inboxes := make([]peal.Inbox, len(to))
		for i, user := range to {
			inboxes[i] = peal.Inbox{Tenant: peal.Tenant(f.tenant), Namespace: peal.Namespace(f.realm), User: peal.UserID(user)}
		}
		_, err := b.Publish(ctx, bus.Publication{To: inboxes, Notification: benchNotification(id, message).WithDefaults(time.Now())})
		if err != nil && !errors.Is(err, peal.ErrUnavailable) && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", bench.ErrRefused, err)
		}
		return err
	}
	return benchPublisher{publish, b.Close}, nil
}
