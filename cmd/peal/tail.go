package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/node"
	"github.com/pealhq/peal/sse"
)

// tail answers peal tail: it follows a user's notifications until it is
// stopped.
func tail(ctx context.Context, c *call) error {
	fs := c.flags()
	t := c.target(fs)
	fs.StringVar(&t.user, "user", "", "`USER` to follow, of a running peal dev")
	after := fs.String("after", "", "`CURSOR` to resume from; without it, what comes from now on")
	asJSON := fs.Bool("json", false, "print each notification's JSON as it came")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	if err := t.owned(); err != nil {
		return err
	}
	if strings.ContainsFunc(*after, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return usagef("--after must be a cursor: the id of an event")
	}
	headers, err := t.resolve()
	if err != nil {
		return err
	}
	client := &sse.Client{
		URL:         t.url + node.Base + "/ticket/sse/notifications",
		Header:      headers,
		LastEventID: *after,
		HTTP:        http.DefaultClient, // as for publish: with the proxies of the environment
		Logger:      slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	err = client.Follow(ctx, func(e sse.Event) error { return c.show(e, *asJSON) })
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// show prints one event. What is not a notification goes to standard error, so
// that a pipe gets notifications only.
func (c *call) show(e sse.Event, asJSON bool) error {
	switch e.Name {
	case sse.Notification:
		if asJSON {
			_, err := fmt.Fprintf(c.stdout, "%s\n", e.Data)
			return err
		}
		var n peal.Notification
		if err := json.Unmarshal(e.Data, &n); err != nil {
			return fmt.Errorf("a notification that is none: %w", err)
		}
		_, err := fmt.Fprintf(c.stdout, "%s  %-16s %-6s  %s  %q  %q\n",
			n.CreatedAt.Local().Format("15:04:05"), n.Type, n.Priority, n.TicketNumber, n.Title, n.Message)
		return err
	case sse.Heartbeat:
		return nil
	}
	_, err := fmt.Fprintf(c.stderr, "%s %s\n", e.Name, e.Data)
	return err
}
