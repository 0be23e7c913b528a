package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/launchdarkly/eventsource"
)

// launchDarkly runs github.com/launchdarkly/eventsource.
func launchDarkly(ctx context.Context, t *testing.T, o order, tell func(report)) {
	var running sync.WaitGroup
	for run, url := range o.Targets {
		running.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			options := []eventsource.StreamOption{
				eventsource.StreamOptionErrorHandler(func(error) eventsource.StreamErrorHandlerResult {
					tell(report{Run: run, What: trouble})
					return eventsource.StreamErrorHandlerResult{CloseNow: ctx.Err() != nil}
				}),
			}
			if o.Mode == follow {
				options = append(options,
					eventsource.StreamOptionHTTPClient(&http.Client{Transport: fresh{order: o}}),
					eventsource.StreamOptionCanRetryFirstConnection(-1))
			} else {
				setHeaders(req.Header, o.Headers)
			}
			stream, err := eventsource.SubscribeWithRequestAndOptions(req, options...)
			if err != nil {
				if ctx.Err() == nil {
					tell(report{Run: run, What: gone})
				}
				return
			}
			stop := context.AfterFunc(ctx, stream.Close)
			defer stop()
			for e := range stream.Events {
				tell(report{Run: run, What: happened, Name: e.Event(), ID: e.Id(), Data: e.Data(), Via: "message"})
			}
			if ctx.Err() == nil {
				tell(report{Run: run, What: gone})
			}
		})
	}
	running.Wait()
}
