package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What an issuer answers is seen as a Verifier would take it, with its clock.
func TestLook(t *testing.T) {
	const key = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"k1","alg":"EdDSA","use":"sig"}`
	const secret = `{"kty":"oct","k":"AAAA","kid":"k2"}`
	hour := func(h int) string {
		return time.Now().Add(time.Duration(h) * time.Hour).UTC().Format(http.TimeFormat)
	}
	for _, tt := range []struct {
		name    string
		status  int
		body    string
		header  map[string]string
		how     Refresh
		keys    int
		dropped int
		ahead   time.Duration // to the minute
	}{
		{"one key", 200, `{"keys":[` + key + `]}`, nil, RefreshGood, 1, 0, 0},
		{"one of two", 200, `{"keys":[` + key + `,` + secret + `]}`, nil, RefreshGood, 1, 1, 0},
		{"no key", 200, `{"keys":[]}`, nil, RefreshUnusable, 0, 0, 0},
		{"a page", 200, `<html>`, nil, RefreshUnusable, 0, 0, 0},
		{"refused", 403, ``, nil, RefreshRefused, 0, 0, 0},
		{"a clock that is ahead", 200, `{"keys":[` + key + `]}`, map[string]string{"Date": hour(1)}, RefreshGood, 1, 0, time.Hour},
		{"a clock that is behind", 200, `{"keys":[` + key + `]}`, map[string]string{"Date": hour(-1)}, RefreshGood, 1, 0, -time.Hour},
		{"an answer that a cache has kept for an hour", 200, `{"keys":[` + key + `]}`, map[string]string{"Date": hour(-1), "Age": "3600"}, RefreshGood, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, v := range tt.header {
					w.Header().Set(name, v)
				}
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			defer issuer.Close()
			seen := Look(t.Context(), Realm{Name: "acme", Issuer: "https://id.example", JWKS: issuer.URL, Audiences: []string{"peal"}, AllowPrivate: true})
			if seen.How != tt.how || (seen.Err == nil) != (tt.how == RefreshGood) || len(seen.Keys) != tt.keys || len(seen.Dropped) != tt.dropped {
				t.Errorf("seen: %+v", seen)
			}
			if !seen.Dated || seen.Ahead.Round(time.Minute) != tt.ahead {
				t.Errorf("the issuer's clock is ahead by %v (%v), want %v", seen.Ahead, seen.Dated, tt.ahead)
			}
			if !strings.HasPrefix(seen.URL, issuer.URL) || seen.Took <= 0 {
				t.Errorf("asked %s, in %v", seen.URL, seen.Took)
			}
		})
	}
	down := httptest.NewServer(nil)
	down.Close()
	seen := Look(t.Context(), Realm{Name: "acme", Issuer: down.URL, Discovery: true, Audiences: []string{"peal"}, AllowPrivate: true})
	if seen.How != RefreshUnreachable || seen.Err == nil || seen.Dated || seen.URL != down.URL+"/.well-known/openid-configuration" {
		t.Errorf("an issuer that is down: %+v", seen)
	}
}
