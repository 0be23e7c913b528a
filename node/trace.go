package node

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pealhq/peal/bus"
)

// recorded has something stored for a caller who may, as a part of what the caller says
// in W3C Trace Context. What is stored belongs to it. Who may not leaves nothing behind:
// neither spans nor a place in somebody's trace.
func (n *Node) recorded(r *request, what string, store func(context.Context) error) error {
	ctx, span := n.cfg.Tracer.Start(trace.ContextWithRemoteSpanContext(r.Context(), bus.Origin(r.Header.Get("traceparent"))), what,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("http.route", r.route), attribute.String("peal.request.id", r.id)))
	defer func() { span.End() }() // which, called by defer itself, would record a panic's words
	err := store(ctx)
	if err != nil {
		p := problemOf(err)
		span.SetAttributes(attribute.Int("http.response.status_code", p.status))
		span.SetStatus(codes.Error, p.code)
	}
	return err
}

// wrote notes that a write has returned, with the oldest of what it had that was stored
// since its connection is open.
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
