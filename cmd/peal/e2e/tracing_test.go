package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// sink takes traces by OTLP, as a collector of OpenTelemetry does.
type sink struct {
	mu    sync.Mutex // protects the rest
	spans []*otlp.Span
	names map[string]bool // of services
	raw   []byte          // all that came
	wrong []string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(body); err == nil {
			body = z
		}
	}
	data, err := io.ReadAll(body)
	var sent collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &sent)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || r.URL.Path != "/v1/traces" {
		s.wrong = append(s.wrong, r.URL.Path)
		http.Error(w, "wrong", http.StatusBadRequest)
		return
	}
	s.raw = append(s.raw, data...)
	for _, r := range sent.ResourceSpans {
		for _, a := range r.Resource.Attributes {
			if a.Key == "service.name" {
				s.names[a.Value.GetStringValue()] = true
			}
		}
		for _, scope := range r.ScopeSpans {
			s.spans = append(s.spans, scope.Spans...)
		}
	}
	answer, _ := proto.Marshal(new(collector.ExportTraceServiceResponse))
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(answer)
}

// child waits for the span of a name below another one, of a trace.
func (s *sink) child(t *testing.T, trace, parent, name string) *otlp.Span {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s.mu.Lock()
		for _, span := range s.spans {
			if span.Name == name && hex.EncodeToString(span.TraceId) == trace && hex.EncodeToString(span.ParentSpanId) == parent {
				s.mu.Unlock()
				return span
			}
		}
		s.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("there is no %q below %s of trace %s", name, parent, trace)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A trace goes from the backend's own span to the socket of who is told: by the edge that
// takes an event in, the worker, and the edge that delivers.
func TestTraceFromPublishToDelivery(t *testing.T) {
	s, sink := startTraced(t)
	jane, desk := s.tokenOf(t, "jane"), s.tokenOf(t, "desk", "--role", "notifications:publish")
	stream := s.ask(t.Context(), t, "GET", "/sse/notifications", jane, "", 200)
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	told := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("nobody was told %q: %v", text, lines.Err())
	}
	told("connected")

	const trace, backend = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	s.ask(t.Context(), t, "POST", "/event", desk,
		`{"id":"e1","type":"comment","actor":{"id":"desk","name":"Desk","avatar":null},"ticket":{"id":"1","number":"INC-1","title":"a secret title","assigneeId":"jane"},"comment":{"id":"c1","text":"a secret text","internal":false}}`,
		202, "traceparent", "00-"+trace+"-"+backend+"-01").Close()
	told("INC-1")
	stored := sink.child(t, trace, backend, "store ticket events")
	worked := sink.child(t, trace, hex.EncodeToString(stored.SpanId), "work on ticket event")
	delivered := sink.child(t, trace, hex.EncodeToString(worked.SpanId), "deliver notification")
	if stored.StartTimeUnixNano > worked.StartTimeUnixNano || worked.StartTimeUnixNano > delivered.EndTimeUnixNano || delivered.StartTimeUnixNano > delivered.EndTimeUnixNano {
		t.Errorf("one began before its cause: %v %v %v", stored, worked, delivered)
	}

	const other, publisher = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	s.ask(t.Context(), t, "POST", "/notification", desk,
		`{"recipients":["jane"],"notification":{"type":"mention","ticketId":"2","ticketNumber":"INC-2","title":"a secret title","message":"a secret text"}}`,
		202, "traceparent", "00-"+other+"-"+publisher+"-01").Close()
	told("INC-2")
	published := sink.child(t, other, publisher, "publish notification")
	sink.child(t, other, hex.EncodeToString(published.SpanId), "deliver notification")

	// Who does not record, or may not publish, is not recorded.
	const quiet, stranger = "5bf92f3577b34da6a3ce929d0e0e4736", "10f067aa0ba902b7"
	s.ask(t.Context(), t, "POST", "/notification", desk,
		`{"recipients":["jane"],"notification":{"type":"mention","ticketId":"3","ticketNumber":"INC-3","title":"T","message":"M"}}`,
		202, "traceparent", "00-"+quiet+"-"+publisher+"-00").Close()
	told("INC-3")
	s.ask(t.Context(), t, "POST", "/notification", "x"+desk,
		`{"recipients":["jane"],"notification":{"type":"mention","ticketId":"3","ticketNumber":"INC-3","title":"T","message":"M"}}`,
		401, "traceparent", "00-"+other+"-"+stranger+"-01").Close()

	stream.Close()
	if status := s.end(syscall.SIGTERM); status != 0 { // and with it the last are sent
		t.Errorf("exit status %d", status)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if len(sink.wrong) > 0 || !sink.names["peal"] {
		t.Errorf("services %v, wrong requests %v", sink.names, sink.wrong)
	}
	for _, span := range sink.spans {
		if hex.EncodeToString(span.TraceId) == quiet {
			t.Errorf("%s was recorded, and its publisher records nothing", span.Name)
		}
		if span.Status.GetMessage() == "UNAUTHENTICATED" || hex.EncodeToString(span.ParentSpanId) == stranger {
			t.Errorf("%s is of somebody who may not publish", span.Name)
		}
	}
	for _, secret := range []string{"a secret", jane, desk, "jane"} {
		if bytes.Contains(sink.raw, []byte(secret)) {
			t.Errorf("%.12q… is in the traces", secret)
		}
	}
}

// A collector that is away, or hangs, keeps nobody from being told, and the process
// ends in time.
func TestCollectorThatHangs(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(release) })
	s := &service{data: t.TempDir(), args: []string{"dev"}, env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + hangs.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}}
	s.open(t)
	exercise(t, s)
	began := time.Now()
	if status := s.end(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d:\n%s", status, s.log)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to end", took)
	}
	if !strings.Contains(s.log.String(), "traces") {
		t.Errorf("nobody is told that traces are lost:\n%s", s.log)
	}
}

func startTraced(t *testing.T) (*service, *sink) {
	t.Helper()
	k := &sink{names: make(map[string]bool)}
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	s := &service{data: t.TempDir(), args: []string{"dev"}, env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}}
	s.open(t)
	return s, k
}

// tokenOf mints a token that is good for an hour.
func (s *service) tokenOf(t *testing.T, user string, more ...string) string {
	t.Helper()
	token, err := s.token(t.Context(), user, time.Hour, more...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
