package main

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// tracing records what this process does where the standard variables of OpenTelemetry
// say where to: OTEL_EXPORTER_OTLP_ENDPOINT, or that of traces alone, or
// OTEL_TRACES_EXPORTER=otlp. Without any of them nothing is recorded. All others, such as
// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_HEADERS, count as
// OpenTelemetry describes them, but that the protocol is http/protobuf.
//
// stop sends what is left, for so long at most.
func tracing(ctx context.Context, getenv func(string) string, log *slog.Logger) (tracer trace.Tracer, stop func(time.Duration), err error) {
	wanted := getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	switch kind := getenv("OTEL_TRACES_EXPORTER"); kind {
	case "":
	case "otlp":
		wanted = true
	case "none":
		wanted = false
	default:
		return nil, nil, usagef("OTEL_TRACES_EXPORTER must be otlp or none")
	}
	if !wanted || getenv("OTEL_SDK_DISABLED") == "true" {
		return noop.Tracer{}, func(time.Duration) {}, nil
	}
	protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	if protocol != "http/protobuf" {
		return nil, nil, usagef("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, usually at port 4318")
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, usagef("OTEL_EXPORTER_OTLP_…: %v", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "peal"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // which has the last word
	if err != nil {
		return nil, nil, usagef("OTEL_RESOURCE_ATTRIBUTES: %v", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces can't be sent", "err", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return provider.Tracer("github.com/pealhq/peal"), func(patience time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", "err", err)
		}
	}, nil
}

// lastTraces is how long a process that ends waits for its last traces to be taken.
const lastTraces = 3 * time.Second
