package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pealhq/peal/sse"
)

// Whatever a client says it resumes from, in the header or the query, it is
// served: with its own notifications only, and with those that are published
// once it is connected. "EPOCH" stands for that of the stream, which no input
// could guess.
func FuzzLastEventID(f *testing.F) {
	s := start(f, func(c *config) { c.bus.PerInbox = 5; c.node.MaxPerUser = -1 })
	names := map[string]user{"jane": s.user("acme", acme, "jane"), "eve": s.user("acme", acme, "eve")}
	c := s.connect(names["jane"])
	first, _ := c.greeting()
	c.close()
	epoch, _, _ := strings.Cut(first.ID, "-")
	for _, id := range []string{
		"", "EPOCH-0", "EPOCH-1", "EPOCH-2", "EPOCH-7", "EPOCH-18446744073709551615", "EPOCH-01", "EPOCH-", "aaaaaaaa-1", "x", "\xff",
		"EPOCH-1\nid: EPOCH-2", "EPOCH-*", "EPOCH->", strings.Repeat("a", 5000), "EPOCH-1 ", "EPOCH-99999999999999999999999",
	} {
		f.Add(id, "")
		f.Add("", "lastEventId="+url.QueryEscape(id))
	}
	f.Add("EPOCH-2", "lastEventId=EPOCH-1&lastEventId=%00")
	f.Add("", "durable=x&access_token=y;z=%zz")
	published := 0
	f.Fuzz(func(t *testing.T, id, raw string) {
		s.t = t
		published++
		for name := range names { // each has something of their own before
			s.store(inbox(name), note(fmt.Sprintf("%s-%d", name, published)))
		}
		published++
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r := s.request(ctx, "GET", connectPath, names["jane"], "", header("Last-Event-ID", strings.ReplaceAll(id, "EPOCH", epoch)), query(strings.ReplaceAll(raw, "EPOCH", epoch)))
		resp, err := s.client.Do(r)
		if err != nil {
			return // not to be sent in HTTP
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			if resp.StatusCode != 400 {
				t.Fatalf("got %d", resp.StatusCode)
			}
			return
		}
		c := &connection{t: t, resp: resp, events: sse.NewReader(resp.Body)}
		c.greeting()
		last := fmt.Sprint("jane-", published)
		for name := range names {
			s.store(inbox(name), note(fmt.Sprintf("%s-%d", name, published)))
		}
		for got := ""; got != last; {
			e, err := c.events.Next()
			if err != nil {
				t.Fatalf("%v, and %s has not come", err, last)
			}
			if e.Name != sse.Notification {
				continue
			}
			if got = field(t, e, "id").(string); !strings.HasPrefix(got, "jane-") {
				t.Fatalf("got %s, which is not jane's", got)
			}
		}
	})
}

// No body of a publication is our fault, and what is accepted for jane is what
// arrives, once, and nothing else does.
func FuzzPublish(f *testing.F) {
	s := start(f, nil)
	publisher := s.publisher()
	handler := s.node.Handler()
	resp, err := s.client.Do(s.request(f.Context(), "GET", connectPath, s.jane(), "")) // stays, however long it takes
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	jane := &connection{t: f, resp: resp, events: sse.NewReader(resp.Body)}
	jane.greeting()
	for _, body := range []string{
		"", "{", "null", good, `{"recipients":["jane","jane"],"notification":{"type":"comment","ticketId":"1","ticketNumber":"1","title":"\u00fc\u2028","message":"M"}}`,
		`{"recipients":["eve",{"id":"jane","namespace":"acme"}],"notification":{"type":"merge","ticketId":"/","ticketNumber":"1","title":"</script>","message":"data: x","metadata":{"a":"b"},"createdAt":"2025-07-10T12:35:00+02:00"}}`,
		`{"recipients":["*"],"notification":{"id":">","type":"mention","ticketId":"1","ticketNumber":"1","title":"T","message":"M"}}`,
		strings.Repeat("[", 20000), "\xff", `{"recipients":["jane"],"notification":{"id":"\ud800"}}`,
	} {
		f.Add(body)
	}
	sent := 0
	f.Fuzz(func(t *testing.T, body string) {
		s.t, jane.t = t, t
		r := s.request(context.Background(), "POST", publishPath, publisher, body)
		if body == "" {
			r.Header.Set("Content-Type", "application/json")
			r.Body = httptest.NewRequest("POST", "/", nil).Body
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code != 202 && w.Code != 400 && w.Code != 413 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		sent++
		sentinel := fmt.Sprint("sentinel-", sent, "-", t.Name())
		s.store(inbox("jane"), note(sentinel))
		var arrived []map[string]any
		for {
			e, err := jane.events.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == sse.Heartbeat || e.Name == sse.State { // the number, once the inbox is full
				continue
			}
			if e.Name != sse.Notification {
				t.Fatalf("got %s %s", e.Name, e.Data)
			}
			var n map[string]any
			if err := json.Unmarshal(e.Data, &n); err != nil {
				t.Fatal(err)
			}
			if n["id"] == sentinel {
				break
			}
			arrived = append(arrived, n)
		}
		if w.Code != 202 {
			if len(arrived) > 0 {
				t.Fatalf("refused with %s, but arrived: %v", w.Body, arrived)
			}
			return
		}
		wantArrived(t, body, w.Body.Bytes(), arrived)
	})
}

// wantArrived holds what came against what was accepted.
func wantArrived(t *testing.T, body string, answer []byte, arrived []map[string]any) {
	t.Helper()
	var result struct {
		ID                 string
		Stored, Duplicates int
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Recipients   []any
		Notification map[string]any
	}
	if err := json.Unmarshal([]byte(body), &sent); err != nil || !utf8.ValidString(body) {
		t.Fatalf("accepted, but no JSON: %v", err)
	}
	if result.Stored+result.Duplicates != len(sent.Recipients) {
		t.Fatalf("%d recipients, but %s", len(sent.Recipients), answer)
	}
	toJane := false
	for _, r := range sent.Recipients {
		ref, _ := r.(map[string]any)
		toJane = toJane || r == "jane" || ref["id"] == "jane" && ref["namespace"] == "acme"
	}
	if len(arrived) > 1 || len(arrived) == 1 && !toJane || len(arrived) == 0 && toJane && result.Duplicates == 0 {
		t.Fatalf("arrived %v of %s with %s", arrived, body, answer)
	}
	for _, n := range arrived {
		if n["id"] != result.ID {
			t.Fatalf("arrived as %v, accepted as %s", n["id"], result.ID)
		}
		for _, name := range []string{"id", "type", "ticketId", "ticketNumber", "title", "message"} {
			if want, given := sent.Notification[name]; given && want != "" && n[name] != want {
				t.Fatalf("%s: arrived as %q, sent as %q", name, n[name], want)
			}
		}
	}
}
