package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// patient notes until when its connection may be read from.
type patient struct {
	http.ResponseWriter
	until time.Time
}

func (p *patient) SetReadDeadline(t time.Time) error {
	p.until = t
	return nil
}

// Once a body is read the time for it counts no more: net/http goes on reading,
// and would call the request off when the time is up.
func TestTheTimeForABodyEndsWithIt(t *testing.T) {
	for name, row := range map[string]struct {
		kind, body string
		read       func(*request, http.ResponseWriter) error
	}{
		"JSON": {"application/json", `{}`, func(r *request, w http.ResponseWriter) error {
			var v struct{}
			return r.body(w, &v, &room{most: maxBody})
		}},
		"form": {"application/x-www-form-urlencoded", "logout_token=x", func(r *request, w http.ResponseWriter) error {
			_, err := r.logoutToken(w)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := httptest.NewRequest("POST", "/", strings.NewReader(row.body))
			raw.Header.Set("Content-Type", row.kind)
			w := &patient{httptest.NewRecorder(), time.Now().Add(bodyTimeout)}
			if err := row.read(&request{Request: raw}, w); err != nil {
				t.Fatal(err)
			}
			if !w.until.IsZero() {
				t.Errorf("reading must end in %v", time.Until(w.until))
			}
		})
	}
}
