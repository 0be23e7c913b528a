package main

import (
	"strings"
	"testing"
)

// Whoever asks for traces in a way that nothing comes of is told so, and not left to
// wait for them.
func TestTracesThatCannotBe(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER must be otlp or none"},
		{map[string]string{endpoint: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"},
		{map[string]string{endpoint: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/protobuf"},
		{map[string]string{endpoint: "collector:4318"}, endpoint + " must be a URL"},
		{map[string]string{endpoint: "http://127.0.0.1:4317", "OTEL_TRACES_SAMPLER": "ratio"}, "parentbased_traceidratio"},
	} {
		got := do(t, tt.env, "dev", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		if got.status != 2 || !strings.Contains(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%v: got %+v, want status 2 and one line with %q", tt.env, got, tt.want)
		}
	}
}
