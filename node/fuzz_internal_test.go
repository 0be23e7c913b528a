package node

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// No body is our fault, whatever it is, and what is accepted is stored as it
// would be accepted again.
func FuzzPublication(f *testing.F) {
	for _, s := range []string{
		"", "null", "{}", "[]", `{"recipients":["jane"]}`,
		`{"recipients":["jane",{"id":"a","namespace":"acme"}],"notification":{"type":"mention","ticketId":"1","ticketNumber":"1","title":"T","message":"M"}}`,
		`{"recipients":["jane"],"notification":{"id":"n","type":"comment","ticketId":"1","ticketNumber":"1","title":"\u00fc","message":"M","createdAt":"2025-07-10T12:35:00+02:00","actor":{"id":"a","name":"A","avatar":"https://x/y"},"metadata":{"a":"b"},"reasons":["watcher"],"silent":true,"actionUrl":"/x"}}`,
		`{"recipients":["\ud800"],"notification":null}`, `{"recipients":[{"id":{}}]}`, strings.Repeat("[", 20000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, err := decodePublication(body)
		if err == nil {
			err = p.validate([]string{"desk.example.com"})
		}
		if err != nil {
			if got := problemOf(err); got.status != 400 && got.status != 413 {
				t.Fatalf("got %d for %v", got.status, err)
			}
			if !utf8.ValidString(err.Error()) || len(err.Error()) > 1000 {
				t.Fatalf("a detail that is too long or not UTF-8: %q", err)
			}
			return
		}
		stored := p.Notification.WithDefaults(time.Now())
		if notificationFrame(&bus.Message{Cursor: bus.Cursor{Epoch: "aaaaaaaa", Seq: 1}, Data: stored.Encode()}) == nil {
			t.Fatalf("accepted, but cannot be sent: %s", stored.Encode())
		}
		again, err := decodePublication(fmt.Sprintf(`{"recipients":["jane"],"notification":%s}`, stored.Encode()))
		if err != nil {
			t.Fatalf("what was stored is refused: %v", err)
		}
		if diff := cmp.Diff(string(stored.Encode()), string(again.Notification.WithDefaults(time.Now()).Encode())); diff != "" {
			t.Fatalf("round trip:\n%s", diff)
		}
	})
}

// An Accept is refused only with 406, and never if it also names the event
// stream.
func FuzzAccept(f *testing.F) {
	for _, s := range []string{"", "*/*", "text/*;q=0.5, text/html", "text/event-stream;q=0", `a/b;x="c,d"`, "text/event-stream;q=NaN", "/", ";;,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		ask := func(values ...string) error {
			return (&request{Request: &http.Request{Header: http.Header{"Accept": values}}}).acceptsEventStream()
		}
		if err := ask(accept); err != nil && !errors.Is(err, errNotAcceptable) {
			t.Fatalf("got %v", err)
		}
		if err := ask(accept, "text/event-stream"); err != nil {
			t.Fatalf("refused though it names the event stream: %v", err)
		}
	})
}

// What a client resumes from is never an error, and the query only for what
// the contract refuses in it.
func FuzzResume(f *testing.F) {
	f.Add("aaaaaaaa-1", "lastEventId=aaaaaaaa-2")
	f.Add("", "lastEventId=%zz")
	f.Add("\x00\xff", "a;b")
	f.Add("", "ACCESS_TOKEN=x&durable")
	f.Fuzz(func(t *testing.T, id, query string) {
		ask := func(header, query string) (bus.Cursor, error) {
			r := &http.Request{Header: http.Header{"Last-Event-Id": {header}}, URL: &url.URL{RawQuery: query}}
			return (&request{Request: r}).resumeCursor()
		}
		if _, err := ask(id, ""); err != nil {
			t.Fatalf("header: %v", err)
		}
		byQuery, err := ask("", "lastEventId="+url.QueryEscape(id))
		if byHeader, _ := ask(id, ""); err != nil || byQuery != byHeader {
			t.Fatalf("got %v by query (%v) and %v by header", byQuery, err, byHeader)
		}
		if _, err := ask("", query); err != nil && !errors.Is(err, peal.ErrInvalid) {
			t.Fatalf("query: %v", err)
		}
	})
}

func TestAnswerOfACallThatPanics(t *testing.T) {
	n := New(Config{}, nil, &bus.Bus{})
	r := httptest.NewRequest("GET", "/x", nil)
	w := httptest.NewRecorder()
	n.answer(w, r, "/x", func(http.ResponseWriter, *request) error { panic("secret") })
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"INTERNAL"`) || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}

	// After the first byte no status is left: a problem would be a part of the
	// event stream, and the end a clean one.
	w = httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("got %v, want an abort", p)
			}
		}()
		n.answer(w, r, "/x", func(w http.ResponseWriter, _ *request) error {
			beginEventStream(w)
			panic("secret")
		})
	}()
	if w.Body.Len() != 0 {
		t.Errorf("got %s, want nothing", w.Body)
	}
	n.finish() // no call is left under way
}
