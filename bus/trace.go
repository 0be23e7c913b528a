package bus

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// headerTrace is the header of W3C Trace Context, by which a stored message belongs to
// the trace of who stored it. NATS tells headers apart by their case.
const headerTrace = "traceparent"

// traced writes into a message's header what ctx belongs to, if anybody records it.
func traced(ctx context.Context, h nats.Header) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	c := make(propagation.MapCarrier)
	propagation.TraceContext{}.Inject(ctx, c)
	h.Set(headerTrace, c[headerTrace])
}

// originOf is what a message belongs to; not valid if it says nothing.
func originOf(h nats.Header) trace.SpanContext { return Origin(h.Get(headerTrace)) }

// Origin reads a traceparent; it is not valid if that is not. There is no tracestate, of
// which whoever calls may send half a kilobyte, for others to keep.
func Origin(traceparent string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{headerTrace: traceparent})
	return trace.SpanContextFromContext(ctx)
}
