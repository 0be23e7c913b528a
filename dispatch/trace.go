package dispatch

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// recorded does a job as a part of what its event belongs to. What is stored for it
// belongs to the job then.
func (d *Dispatcher) recorded(ctx context.Context, j *job) error {
	ctx, span := d.cfg.Tracer.Start(trace.ContextWithRemoteSpanContext(ctx, j.task.Origin), "work on ticket event", trace.WithSpanKind(trace.SpanKindConsumer))
	defer span.End()
	err := j.safely(ctx)
	span.SetAttributes(attribute.Int("peal.event.tries", j.task.Tries))
	if err != nil {
		span.SetStatus(codes.Error, "") // the log says why, and of which event
		return err
	}
	span.SetAttributes(attribute.String("peal.event.type", string(j.event.Type)), attribute.String("peal.event.outcome", string(j.outcome)))
	return nil
}
