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

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/intake"
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

// No body of an event is our fault. What is accepted is stored, once, as a worker can
// read it, with a namespace for everybody; what is refused is not. In a batch the same
// becomes of it.
func FuzzEvent(f *testing.F) {
	s := start(f, func(c *config) { c.node.EventsPerTenant = -1 })
	publisher := s.publisher()
	handler := s.node.Handler()
	for _, body := range []string{
		"", "{", "null", "{}", goodEvent, shortEvent("", "t"), "\xff", `{"id":"\ud800"}`, strings.Repeat("[", 20000), goodEvent + goodEvent,
		`{"type":"merge","ticket":{"id":">","number":"*","title":"\u2028</script>","assigneeId":{"id":".","namespace":"strict"}},"expiresAt":"2025-07-10T12:35:00+02:00"}`,
		`{"type":"mention","ticket":{"id":"1","number":"1","title":"T","title":"U"},"mentions":[null]}`,
		`{"type":"approval","actor":{"id":"a","name":"A","namespace":"globex"},"ticket":{"id":"1","number":"1","title":"T"},"approvers":["",{}]}`,
		`{"id":"` + strings.Repeat("é", 64) + `","type":"ticketDeleted","actor":null,"ticket":{"id":"1","number":"1","title":"T"},"comment":{"text":"a\nb"},"sla":null}`,
	} {
		f.Add(body)
	}
	stream := s.eventStream()
	ask := func(t *testing.T, path, body string) *httptest.ResponseRecorder {
		r := s.request(context.Background(), "POST", path, publisher, body)
		if body == "" {
			r.Header.Set("Content-Type", "application/json")
			r.Body = httptest.NewRequest("POST", "/", nil).Body
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	state := func(t *testing.T) (last uint64) {
		info, err := stream.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	f.Fuzz(func(t *testing.T, body string) {
		s.t = t
		before := state(t)
		w := ask(t, eventPath, body)
		var taken takenEvent
		if w.Code >= 500 || w.Code != 202 && w.Code != 400 && w.Code != 413 || json.Unmarshal(w.Body.Bytes(), &taken) != nil {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		after := state(t)
		if stored := after - before; (stored == 1) != (w.Code == 202 && !taken.Duplicate) || stored > 1 {
			t.Fatalf("%d are stored, answered %d %s", stored, w.Code, w.Body)
		}
		if after > before {
			m, err := stream.GetMsg(context.Background(), after)
			if err != nil {
				t.Fatal(err)
			}
			wantReadable(t, m.Data, taken.ID)
		}
		if !json.Valid([]byte(body)) || len(body) > 1_000_000 {
			return
		}
		b := ask(t, eventsPath, batch(body))
		var answer struct{ Results []takenEvent }
		if b.Code != 200 || json.Unmarshal(b.Body.Bytes(), &answer) != nil || len(answer.Results) != 1 {
			t.Fatalf("in a batch: got %d %s", b.Code, b.Body)
		}
		if in := answer.Results[0]; (in.Status == 0) != (w.Code == 202) || in.Detail != taken.Detail {
			t.Fatalf("in a batch: got %s, alone %s", b.Body, w.Body)
		}
	})
}

// wantReadable holds a stored event against what a worker expects.
func wantReadable(t *testing.T, data []byte, id string) {
	t.Helper()
	var e peal.TicketEvent
	err := intake.Unmarshal(data, &e)
	if err == nil {
		err = e.Validate()
	}
	if err != nil || e.ID != id || id == "" || e.OccurredAt.IsZero() {
		t.Fatalf("stored as %s (%v), accepted as %q", data, err, id)
	}
	err = e.Resolve(func(field string, r peal.UserRef) (peal.UserRef, error) {
		if r.Namespace == "" || r.ID == "" {
			return r, fmt.Errorf("%s is %+v", field, r)
		}
		return r, nil
	})
	if err != nil || !e.Actor.IsSystem() && e.Actor.Namespace == "" {
		t.Fatalf("stored as %s: %v", data, err)
	}
}
