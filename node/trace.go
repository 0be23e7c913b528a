package node

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pealhq/peal/bus"
)

// recorded has a call that stores something recorded, as a part of what the caller says
// in W3C Trace Context. What it stores belongs to it.
func (n *Node) recorded(what string, run call) call {
	return func(w http.ResponseWriter, r *request) error {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := n.cfg.Tracer.Start(ctx, what, trace.WithSpanKind(trace.SpanKindProducer))
		defer span.End()
		span.SetAttributes(
			attribute.String("http.request.method", r.Method), attribute.String("http.route", r.route),
			attribute.String("peal.request.id", r.id),
		)
		r.Request = r.Request.WithContext(ctx)
		err := run(w, r)
		if err != nil {
			p := problemOf(err)
			span.SetAttributes(attribute.Int("http.response.status_code", p.status))
			span.SetStatus(codes.Error, p.code)
		}
		return err
	}
}

// wrote notes that a write has returned, with the oldest of what it had that has just
// been stored.
func (n *Node) wrote(oldest *bus.Message) {
	n.metrics.wrote(oldest.Stored)
	if !oldest.Origin.IsValid() {
		return
	}
	// It began when it was stored, by the clock of NATS, which may be ahead of ours.
	began, now := oldest.Stored, time.Now()
	if began.After(now) {
		began = now
	}
	_, span := n.cfg.Tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), oldest.Origin), "deliver notification",
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began))
	span.End(trace.WithTimestamp(now))
}
