package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
)

// Whatever is stored, a list is JSON, and what is listed is what was stored with
// its cursor at the end.
func FuzzListed(f *testing.F) {
	for _, s := range []string{
		"", "{}", "{ }", " {\"id\":\"n\"}\n", `{"id":"n"`, `}`, `{"cursor":"x"}`, `{"a":{"cursor":1}}`, `[{}]`, `{"a":1}}`, `{"a":1,}`, "{\"a\":\"\xff\"}", `{"a":1}{"b":2}`, `{"a":1}//}`,
	} {
		f.Add([]byte(s))
	}
	const before = `{"notifications":[`
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := appendListed([]byte(before), listed{bus.Cursor{Epoch: "aaaaaaaa", Seq: 1}, data})
		if !ok {
			return
		}
		entry := string(got[len(before):])
		var v map[string]any
		if err := json.Unmarshal([]byte(entry), &v); err != nil || v["cursor"] != "aaaaaaaa-1" {
			t.Fatalf("%q is listed as %s (%v)", data, entry, err)
		}
		rest, atTheEnd := strings.CutSuffix(entry, `"cursor":"aaaaaaaa-1"}`)
		if stored := strings.TrimSuffix(rest, ",") + "}"; !atTheEnd || stored != strings.TrimSpace(string(data)) {
			t.Fatalf("%q is listed as %s", data, entry)
		}
	})
}

// No query of a list and no body of a mark is our fault, and what is accepted is
// within the bounds.
func FuzzListing(f *testing.F) {
	for _, q := range []string{"", "limit=5&before=aaaaaaaa-1&unread=true&type=merge&priority=low&ticketId=x", "after=aaaaaaaa-1&wait=60", "limit=%30", "type=%00", ";", "after=aaaaaaaa-1&limit=200"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := (&request{Request: &http.Request{URL: &url.URL{RawQuery: raw}}}).listing()
		if err != nil {
			if got := problemOf(err); got.status != 400 || !utf8.ValidString(err.Error()) || len(err.Error()) > 1000 {
				t.Fatalf("got %d for %v", got.status, err)
			}
			return
		}
		if q.Limit < 1 || q.Limit > maxPage || q.wait < 0 || q.wait > time.Minute || q.wait > 0 && !q.polls() || len(q.TicketID) > peal.MaxID {
			t.Fatalf("%q is taken for %+v", raw, q)
		}
		if bare := (bus.Query{Limit: q.Limit}); q.polls() && !reflect.DeepEqual(q.Query, bare) {
			t.Fatalf("%q polls and asks for %+v", raw, q.Query)
		}
	})
}

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

// No body of a batch is our fault, and one that is read has the events that stand in
// it, whatever they are.
func FuzzEventBatch(f *testing.F) {
	for _, s := range []string{
		"", "null", "{}", "[]", `{"events":[]}`, `{"events":[{"a":1,"a":2},null,7,"\ud800"]}`, "{\"events\":[\"\xff\"]}", `{"events":[1],"events":[2]}`,
		`{"Events":[1]}`, `{"events":[1]}{}`, `{"events":{}}`, `{"events":[1],"x":2}`, `{"ev\u0065nts":[ [1 ] ]} `, strings.Repeat(`{"events":[`, 6000), `nullx`, `{"events":[1],}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var batch eventBatch
		if err := readBody([]byte(body), &batch); err != nil {
			if got := problemOf(err); got.status != 400 || !utf8.ValidString(err.Error()) || len(err.Error()) > 1000 {
				t.Fatalf("got %d for %q", got.status, err)
			}
			return
		}
		var naive struct{ Events []json.RawMessage }
		if err := json.Unmarshal([]byte(body), &naive); err != nil || len(naive.Events) != len(batch.events) {
			t.Fatalf("%q is read as %q, and by others as %q (%v)", body, batch.events, naive.Events, err)
		}
		for i, e := range naive.Events {
			if string(e) != string(batch.events[i]) {
				t.Fatalf("%q is read as %q, and by others as %q", body, batch.events, naive.Events)
			}
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

// A bearer token is what follows the word, in whatever case, and one space in the
// only Authorization header there is; and only one of a realm's keys makes it good.
func FuzzBearer(f *testing.F) {
	n := New(Config{}, keyless(f), &bus.Bus{})
	for _, s := range []string{"Bearer e30.e30.AAAA", "bearer x", "Bearer", "Bearer  x", "Basic eDp5", "BEARER\tx", "Bearer a, Bearer b", ""} {
		f.Add(s, "")
		f.Add(s, s)
	}
	spelled := regexp.MustCompile(`(?is)^bearer (.*)$`)
	f.Fuzz(func(t *testing.T, first, second string) {
		ask := func(values ...string) *request {
			return &request{Request: &http.Request{Header: http.Header{"Authorization": values, "Realmname": {"acme"}}}}
		}
		if token, ok := ask(first, second).bearer(); ok {
			t.Fatalf("two headers gave %q", token)
		}
		token, ok := ask(first).bearer()
		if want := spelled.FindStringSubmatch(first); ok != (want != nil) || ok && token != want[1] {
			t.Fatalf("%q gave %q, %v, want %q", first, token, ok, want)
		}
		if _, err := n.authenticate(ask(first), auth.Connect); !errors.Is(err, peal.ErrUnauthenticated) && !errors.Is(err, peal.ErrUnavailable) {
			t.Fatalf("%q: got %v", first, err)
		}
	})
}

// keyless is a verifier whose realm acme has no keys.
func keyless(f *testing.F) *auth.Verifier {
	v, err := auth.Open(auth.Config{Realms: []auth.Realm{{
		Name: "acme", Issuer: "https://acme.example", JWKS: "http://127.0.0.1:1/keys", Audiences: []string{"peal"},
		Tenants: auth.Tenants{Any: true}, AllowPrivate: true,
	}}}, auth.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(v.Close)
	return v
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

// An origin is allowed if it is one of the list or this machine's, taken apart
// here by what must not be in it; and nothing but what is allowed is ever said
// to be.
func FuzzOrigin(f *testing.F) {
	const exact = "https://shop.example.com:8443"
	for _, s := range []string{
		"", "null", "*", exact, exact + "/", exact + "0", "x" + exact, strings.ToUpper(exact), "http://localhost", "https://localhost:3000", "http://127.0.0.1:1",
		"http://[::1]:65535", "http://[::1]", "http://[::1]x", "http://localhost:65536", "http://localhost:00080", "http://localhost:", "http://localhost:-1",
		"http://localhost:1_0", "http://localhost:3000@evil.example", "http://localhost.evil.example", "http://localhost,http://localhost", "//localhost",
		"http:localhost", "http://localhost\r\nX: y", "http://localhost\x00", "file://localhost", "http://u@localhost", "http://[::1]:80:80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		local := s
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			port := 0
			for _, d := range []byte(s[i+1:]) {
				if port = port*10 + int(d) - '0'; d < '0' || d > '9' || port == 0 || port > 65535 {
					port = 0
					break
				}
			}
			if port > 0 {
				local = s[:i]
			}
		}
		isLocal := slices.Contains([]string{
			"http://localhost", "http://127.0.0.1", "http://[::1]", "https://localhost", "https://127.0.0.1", "https://[::1]",
		}, local)
		for _, tt := range []struct {
			cfg  Config
			want bool
		}{
			{Config{}, false},
			{Config{Origins: []string{exact}}, s == exact},
			{Config{LocalOrigins: true}, isLocal},
			{Config{Origins: []string{exact}, LocalOrigins: true}, s == exact || isLocal},
		} {
			n := &Node{cfg: tt.cfg}
			for _, values := range [][]string{{s}, {s, s}, {s, exact}, {}} {
				h := http.Header{}
				n.share(h, &http.Request{Header: http.Header{"Origin": values}, URL: &url.URL{Path: Base + "/x"}})
				got, said := h["Access-Control-Allow-Origin"]
				if allowed := tt.want && len(values) == 1; said != allowed || said && got[0] != s {
					t.Fatalf("%q of %+v: got %q, want it allowed: %v", values, tt.cfg, got, allowed)
				}
			}
		}
	})
}
