package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
)

// goSSE runs github.com/tmaxmax/go-sse. It takes every status but 200 for
// final, so an application that wants to stay has its transport make trouble
// of a busy server.
func goSSE(ctx context.Context, t *testing.T, o order, tell func(report)) {
	var running sync.WaitGroup
	for run, url := range o.Targets {
		running.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			client := sse.Client{OnRetry: func(error, time.Duration) { tell(report{Run: run, What: trouble}) }}
			if o.Mode == follow {
				client.HTTPClient = &http.Client{Transport: fresh{order: o, patient: true}}
			} else {
				setHeaders(req.Header, o.Headers)
			}
			c := client.NewConnection(req)
			c.SubscribeToAll(func(e sse.Event) {
				tell(report{Run: run, What: happened, Name: e.Type, ID: e.LastEventID, Data: e.Data, Via: "message"})
			})
			c.Connect()
			if ctx.Err() == nil {
				tell(report{Run: run, What: gone})
			}
		})
	}
	running.Wait()
}
