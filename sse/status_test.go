package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/sse"
)

func TestARefusalThatARetryCannotHelpIsFinal(t *testing.T) {
	body := `{"type":"about:blank","title":"Refused","status":%d,"code":"CODE","detail":"x-tenantid: must be a UUID","instance":"req-1"}`
	for _, code := range []int{201, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 410, 418, 451} {
		text := fmt.Sprintf(body, code)
		answer := problem(code, text)
		want := sse.Problem{Type: "about:blank", Title: "Refused", Status: code, Code: "CODE", Detail: "x-tenantid: must be a UUID", Instance: "req-1"}
		if code == http.StatusNotModified { // has no body
			answer, want = status(code), sse.Problem{}
		}
		s := serve(t, answer)
		_, err := collect(t.Context(), s.client())
		refused, ok := errors.AsType[*sse.StatusError](err)
		if !ok {
			t.Errorf("%d: %v, want a StatusError", code, err)
			continue
		}
		if diff := cmp.Diff(&sse.StatusError{Code: code, Problem: want}, refused); diff != "" {
			t.Errorf("%d (-want +got):\n%s", code, diff)
		}
		if n := len(s.header("Accept")); n != 1 {
			t.Errorf("%d: %d requests, want 1", code, n)
		}
	}
}

func TestStatusErrorIsOneLine(t *testing.T) {
	err := &sse.StatusError{Code: 403, Problem: sse.Problem{Code: "FORBIDDEN", Detail: "not\ngranted", Instance: "req-1"}}
	want := `event stream refused: 403 Forbidden, code "FORBIDDEN", detail "not\ngranted", request "req-1"`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestARefusalsBodyIsBoundedAndOptional(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"too long":       problem(403, `{"code":"FORBIDDEN","detail":"`+strings.Repeat("x", 1<<20)+`"}`),
		"not JSON":       problem(403, "<html>"),
		"of other types": problem(403, `{"code":5,"title":"x"}`),
		"no problem": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(403)
			_, _ = w.Write([]byte(`{"code":"FORBIDDEN"}`))
		},
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			problem(403, `{"code":"FORBIDDEN"}`)(w, r)
			w.(http.Flusher).Flush()
			abort(w, r)
		},
	} {
		_, err := collect(t.Context(), serve(t, answer).client())
		refused, ok := errors.AsType[*sse.StatusError](err)
		if !ok || refused.Code != 403 || refused.Problem != (sse.Problem{}) {
			t.Errorf("%s: %v, want a bare 403", name, err)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	thief := serve(t)
	s := serve(t, status(http.StatusTemporaryRedirect, "Location", thief.URL))
	c := s.client()
	c.HTTP = freshConnections()
	c.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
	c.Header = func(context.Context) (http.Header, error) {
		return http.Header{"Authorization": {"Bearer t"}}, nil
	}
	_, err := collect(t.Context(), c)
	if refused, ok := errors.AsType[*sse.StatusError](err); !ok || refused.Code != http.StatusTemporaryRedirect {
		t.Errorf("%v, want a StatusError of 307", err)
	}
	if n := len(thief.header("Authorization")); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestOnlyAnEventStreamIsFollowed(t *testing.T) {
	for _, tt := range []struct {
		contentType string
		want        error
	}{
		{"text/event-stream", nil},
		{"text/event-stream;charset=utf-8", nil},
		{"Text/Event-Stream; charset=\"UTF-8\"", nil},
		{"text/event-stream; =", nil},
		{"text/html", sse.ErrContentType},
		{"text/event-stream-2", sse.ErrContentType},
		{"", sse.ErrContentType},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{tt.contentType}
			_, _ = w.Write([]byte("data: 1\n\n"))
		})
		got, err := collect(t.Context(), s.client())
		if err != tt.want || len(got) != map[error]int{nil: 1}[tt.want] {
			t.Errorf("%q: %q, %v; want %v", tt.contentType, got, err, tt.want)
		}
	}
}

func TestAnEventBeyondTheBoundsIsFinal(t *testing.T) {
	s := serve(t, stream(hang, notification("c1", "n1"), "data: "+strings.Repeat("x", sse.MaxLine)))
	c := s.client()
	got, err := collect(t.Context(), c)
	if len(got) != 1 || !errors.Is(err, sse.ErrTooLong) || c.LastEventID != "c1" {
		t.Errorf("%q, %v, left at %q; want 1 event, ErrTooLong, c1", got, err, c.LastEventID)
	}
}

func TestA401IsAskedAgainOnceWithAFreshToken(t *testing.T) {
	unauthorized := problem(401, `{"code":"UNAUTHENTICATED"}`)
	good := stream(abort, "data: 1\n\n")
	for _, tt := range []struct {
		what    string
		header  bool
		answers []http.HandlerFunc
		want    []string // tokens sent
		refused bool
	}{
		{"the fresh one is good", true, []http.HandlerFunc{unauthorized, good}, []string{"t1", "t2", "t3"}, false},
		{"it is not", true, []http.HandlerFunc{unauthorized, unauthorized}, []string{"t1", "t2"}, true},
		{"there is none", false, []http.HandlerFunc{unauthorized}, []string{""}, true},
		{"it expires later", true, []http.HandlerFunc{unauthorized, good, unauthorized, good}, []string{"t1", "t2", "t3", "t4", "t5"}, false},
		{"another answer between", true, []http.HandlerFunc{unauthorized, status(503), unauthorized, good}, []string{"t1", "t2", "t3", "t4", "t5"}, false},
		{"no answer between", true, []http.HandlerFunc{unauthorized, abort, unauthorized}, []string{"t1", "t2", "t3"}, true},
	} {
		s := serve(t, tt.answers...)
		c := s.client()
		c.HTTP = freshConnections()
		if n := 0; tt.header {
			c.Header = func(context.Context) (http.Header, error) {
				n++
				return http.Header{"Authorization": {fmt.Sprintf("t%d", n)}}, nil
			}
		}
		_, err := collect(t.Context(), c)
		refused, ok := errors.AsType[*sse.StatusError](err)
		if ok != tt.refused || ok && (refused.Code != 401 || refused.Problem.Code != "UNAUTHENTICATED") {
			t.Errorf("%s: %v", tt.what, err)
		}
		if diff := cmp.Diff(tt.want, s.header("Authorization")); diff != "" {
			t.Errorf("%s: tokens (-want +got):\n%s", tt.what, diff)
		}
	}
}

func TestHeaderMayFailForAWhileOrForGood(t *testing.T) {
	s := serve(t)
	c := s.client()
	calls := 0
	c.Header = func(context.Context) (http.Header, error) {
		if calls++; calls < 4 {
			return nil, errors.New("issuer is away")
		}
		return nil, nil
	}
	if _, err := collect(t.Context(), c); err != nil || calls != 4 || len(s.header("Accept")) != 1 {
		t.Errorf("%v after %d calls and %d requests; want nil, 4, 1", err, calls, len(s.header("Accept")))
	}

	for _, end := range []error{peal.ErrForbidden, peal.ErrTokenExpired} {
		s := serve(t)
		c := s.client()
		c.Header = func(context.Context) (http.Header, error) { return nil, end }
		if _, err := collect(t.Context(), c); err != end || len(s.header("Accept")) != 0 {
			t.Errorf("%v after %d requests; want %v, 0", err, len(s.header("Accept")), end)
		}
	}
}

func TestFollowOutlivesTrouble(t *testing.T) {
	s := serve(t, status(429), status(503), status(500), status(502), status(504), abort,
		status(429, "Retry-After", "0"), status(503, "Retry-After", "Thu, 10 Jul 2025 11:59:30 GMT"),
		stream(abort), stream(abort, notification("c1", "n1")))
	got, err := collect(t.Context(), s.client())
	if !slices.Equal(got, []string{`{"id":"n1"}`}) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n := len(s.header("Accept")); n != 11 {
		t.Errorf("%d requests, want 11", n)
	}
}

func TestFollowOutlivesAServerThatIsAway(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	c.Header = func(context.Context) (http.Header, error) {
		if tries++; tries == 5 {
			cancel()
		}
		return nil, nil
	}
	if _, err := collect(ctx, c); err != context.Canceled || tries != 5 {
		t.Errorf("%v after %d tries; want context.Canceled, 5", err, tries)
	}
}

func TestRetryAfterIsWaited(t *testing.T) {
	t.Parallel()
	s := serve(t, status(503, "Retry-After", "1"))
	start := time.Now()
	if _, err := collect(t.Context(), s.client()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < time.Second {
		t.Errorf("came back after %v, want 1s or more", d)
	}
}
