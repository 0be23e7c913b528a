package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
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
	wanted, err := traced(getenv)
	if err != nil {
		return nil, nil, err
	}
	if !wanted {
		return noop.Tracer{}, func(time.Duration) {}, nil
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
	sent := &watchedExporter{SpanExporter: exporter, log: log}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("opentelemetry", "err", briefly(err)) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(sent), sdk.WithResource(about))
	return provider.Tracer("github.com/pealhq/peal"), func(patience time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", "err", briefly(err))
		}
	}, nil
}

// lastTraces is how long a process that ends waits for its last traces to be taken.
const lastTraces = 3 * time.Second

// samplers are those that the SDK knows. Of another name it takes the default one, which
// records everything.
var samplers = []string{"", "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// traced reports whether traces are wanted. The error says what is asked for and can't be,
// where the SDK would only go on with something else.
func traced(getenv func(string) string) (wanted bool, err error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		at := getenv(name)
		if at == "" {
			continue
		}
		wanted = true
		if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return false, usagef("%s must be a URL such as http://collector:4318", name)
		}
	}
	switch getenv("OTEL_TRACES_EXPORTER") {
	case "":
	case "otlp":
		wanted = true
	case "none":
		wanted = false
	default:
		return false, usagef("OTEL_TRACES_EXPORTER must be otlp or none")
	}
	if !wanted {
		return false, nil
	}
	if protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); protocol != "http/protobuf" {
		return false, usagef("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, usually at port 4318")
	}
	if !slices.Contains(samplers, strings.ToLower(getenv("OTEL_TRACES_SAMPLER"))) {
		return false, usagef("OTEL_TRACES_SAMPLER must be one of%s", strings.Join(samplers, " "))
	}
	return true, nil
}

// watchedExporter tells when traces can't be sent, and when they can again, and not of each
// batch between.
type watchedExporter struct {
	sdk.SpanExporter
	log  *slog.Logger
	away atomic.Bool
}

// ExportSpans implements sdk.SpanExporter. What could not be sent is lost, and told of here.
func (w *watchedExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	switch was := w.away.Swap(err != nil); {
	case err != nil && !was:
		w.log.Warn("traces can't be sent", "err", briefly(err))
	case err == nil && was:
		w.log.Info("traces are sent again")
	}
	return nil
}

// briefly is an error's text, of which a collector may have written most.
func briefly(err error) string {
	const most = 300
	text := err.Error()
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
