package auth_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
)

// trouble is an answer of an issuer, or of who sits in its place.
type trouble struct {
	name      string
	answer    func(keys []byte) http.HandlerFunc // keys are a stranger's, and would be good
	discovery bool                               // the answer is to the question where the keys are
	want      auth.Refresh
}

// troubles are all but those that hold a connection for seconds.
var troubles = []trouble{
	{name: "it resets connections", want: auth.RefreshUnreachable, answer: func([]byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { reset(w) }
	}},
	{name: "500 with keys", want: auth.RefreshRefused, answer: func(keys []byte) http.HandlerFunc { return status(500, keys) }},
	{name: "204", want: auth.RefreshRefused, answer: func([]byte) http.HandlerFunc { return status(204, nil) }},
	{name: "a redirect to keys", want: auth.RefreshRefused, answer: func(keys []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				http.Redirect(w, r, r.URL.Path+"?again", http.StatusFound)
				return
			}
			_, _ = w.Write(keys)
		}
	}},
	{name: "garbage", want: auth.RefreshUnusable, answer: func([]byte) http.HandlerFunc { return status(200, []byte("<html>")) }},
	{name: "an empty object", want: auth.RefreshUnusable, answer: func([]byte) http.HandlerFunc { return status(200, []byte(`{}`)) }},
	{name: "no keys", want: auth.RefreshUnusable, answer: func([]byte) http.HandlerFunc { return status(200, []byte(`{"keys":[]}`)) }},
	{name: "10 MB", want: auth.RefreshUnusable, answer: func(keys []byte) http.HandlerFunc {
		return status(200, append(bytes.Repeat([]byte(" "), 10<<20), keys...))
	}},
	{name: "JSON that is cut off", want: auth.RefreshUnusable, answer: func(keys []byte) http.HandlerFunc {
		return status(200, keys[:len(keys)-1])
	}},
	{name: "a body that is cut off", want: auth.RefreshUnreachable, answer: func(keys []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(keys)+1))
			_, _ = w.Write(keys)
		}
	}},
	{name: "gzip", want: auth.RefreshUnusable, answer: func(keys []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(keys)
			_ = z.Close()
		}
	}},
	{name: "the document of another issuer", discovery: true, want: auth.RefreshUnusable, answer: func([]byte) http.HandlerFunc {
		return status(200, []byte(`{"issuer":"https://other.example","jwks_uri":"https://other.example/jwks"}`))
	}},
	{name: "keys to be fetched in plain text", discovery: true, want: auth.RefreshUnusable, answer: func([]byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			realm := "http://" + r.Host + strings.TrimSuffix(r.URL.Path, "/.well-known/openid-configuration")
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://192.0.2.1/jwks"}`, realm)
		}
	}},
	{name: "no document", discovery: true, want: auth.RefreshRefused, answer: func([]byte) http.HandlerFunc { return status(404, nil) }},
}

func status(code int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}
}

// results returns how the fetches of a realm's keys went.
func results(v *auth.Verifier, realm string) map[auth.Refresh]int64 {
	for _, s := range v.Status() {
		if s.Realm == realm {
			return s.Refreshes
		}
	}
	return nil
}

func TestAnIssuerInTroubleHarmsNobodyElse(t *testing.T) {
	for _, row := range troubles {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			other, keys := stranger(t, s)
			answer := row.answer(keys)
			v := s.opened(s.config(func(c *auth.Config) {
				if row.discovery {
					c.Realms[0].JWKS, c.Realms[0].Discovery = "", true
				}
			}), auth.Options{})

			old := s.token("acme", nil)
			cached := s.accepts(v, "acme", old)
			s.answers("acme", answer)
			if err := s.iss.Rotate("acme"); err != nil {
				t.Fatal(err)
			}
			before := results(v, "acme")
			v.Refetch("acme")
			after := results(v, "acme")
			maps.DeleteFunc(after, func(r auth.Refresh, n int64) bool { return n == before[r] })
			if len(after) != 1 || after[row.want] == 0 {
				t.Errorf("counted %v, want %s only", after, row.want)
			}

			// What was good before is, from memory or not; what is wrong is not.
			if got := s.accepts(v, "acme", old); got != cached {
				t.Error("the token was verified again though its keys stay")
			}
			s.refuses(v, "acme", tokenOf(t, other, "acme", nil), auth.ReasonKidUnknown)
			s.refuses(v, "acme", s.token("acme", nil), auth.ReasonKidUnknown) // nobody has shown us the key
			s.refuses(v, "acme", s.token("globex", nil), auth.ReasonIssuer)
			s.accepts(v, "globex", s.token("globex", nil))
			if st := v.Status()[0]; !st.Usable || st.Keys != 1 || st.Err == nil {
				t.Errorf("status %+v, want keys, and the error", st)
			}

			s.answers("acme", nil)
			v.Refetch("acme")
			s.accepts(v, "acme", s.token("acme", nil))
			s.refuses(v, "acme", tokenOf(t, other, "acme", nil), auth.ReasonKidUnknown)
			if st := v.Status()[0]; st.Err != nil || results(v, "acme")[auth.RefreshGood] < 2 {
				t.Errorf("status %+v, want no error any more", st)
			}
		})
	}
}

func TestAnIssuerInTroubleAtTheStartIsWaitedForAlone(t *testing.T) {
	for _, row := range troubles {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			other, keys := stranger(t, s)
			s.answers("acme", row.answer(keys))
			v := s.open(s.config(func(c *auth.Config) {
				if row.discovery {
					c.Realms[0].JWKS, c.Realms[0].Discovery = "", true
				}
			}), auth.Options{})
			v.Refetch("acme")
			v.Refetch("globex")
			s.lacksKeys(v, "acme", s.token("acme", nil))
			s.lacksKeys(v, "acme", tokenOf(t, other, "acme", nil))
			s.accepts(v, "globex", s.token("globex", nil))
			if n := results(v, "acme"); n[row.want] == 0 || len(n) != 1 {
				t.Errorf("counted %v, want %s only", n, row.want)
			}
			s.answers("acme", nil)
			v.Refetch("acme")
			s.accepts(v, "acme", s.token("acme", nil))
		})
	}
}

// An answer that takes long takes it from nobody: not from who starts, not from
// who has a key, not from the other realms.
func TestASlowIssuerIsWaitedForByNobody(t *testing.T) {
	t.Parallel()
	silent := func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return false
	}
	var rows sync.WaitGroup // they take seconds, and no processor
	for _, row := range []struct {
		name  string
		write func(w http.ResponseWriter, r *http.Request) bool // whether the keys follow
		want  auth.Refresh
	}{
		{"it never answers", silent, auth.RefreshUnreachable},
		{"it answers after 4 s", func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-r.Context().Done():
				return false
			case <-time.After(4 * time.Second):
				return true
			}
		}, auth.RefreshGood},
		{"it drips", func(w http.ResponseWriter, r *http.Request) bool {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-r.Context().Done():
					return false
				case <-tick.C:
					_, _ = io.WriteString(w, " ")
					_ = http.NewResponseController(w).Flush()
				}
			}
		}, auth.RefreshUnreachable},
	} {
		rows.Go(func() {
			t.Run(row.name, func(t *testing.T) {
				s := newSite(t)
				well := s.iss.Handler()
				begun := make(chan struct{}, 64)
				ill := func(w http.ResponseWriter, r *http.Request) {
					begun <- struct{}{}
					if row.write(w, r) {
						well.ServeHTTP(w, r)
					}
				}

				// At the start: Open has returned, and globex has its keys, before the
				// issuer of acme has said anything.
				s.answers("acme", ill)
				first := s.open(s.config(), auth.Options{})
				first.Refetch("globex")
				s.accepts(first, "globex", s.token("globex", nil))
				s.lacksKeys(first, "acme", s.token("acme", nil))
				if n := results(first, "acme"); len(n) != 0 {
					t.Errorf("counted %v though no fetch can have ended", n)
				}
				<-begun
				first.Close() // does not wait for the issuer

				// Later: who has a key goes on.
				s.answers("acme", nil)
				v := s.opened(s.config(), auth.Options{})
				s.answers("acme", ill)
				fetched := make(chan struct{})
				go func() {
					defer close(fetched)
					v.Refetch("acme")
				}()
				<-begun
				s.accepts(v, "acme", s.token("acme", nil))
				s.accepts(v, "globex", s.token("globex", nil))
				if n := results(v, "acme"); n[auth.RefreshGood] != 1 || len(n) != 1 {
					t.Errorf("counted %v, want the first fetch only", n)
				}
				<-fetched
				if n := results(v, "acme"); n[row.want] == 0 || row.want == auth.RefreshGood && n[row.want] != 2 {
					t.Errorf("counted %v, want %s", n, row.want)
				}
				s.accepts(v, "acme", s.token("acme", nil))
			})
		})
	}
	rows.Wait()
}

// The keys of an issuer whose certificate nobody vouches for are whoever's.
func TestAnUntrustedCertificateBringsNoKeys(t *testing.T) {
	s := newSite(t)
	var asked atomic.Bool
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		s.iss.Handler().ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // which says that the client went away
	srv.StartTLS()
	defer srv.Close()
	v := s.open(s.config(func(c *auth.Config) { c.Realms[0].JWKS = srv.URL + "/realms/acme/jwks" }), auth.Options{})
	v.Refetch("acme")
	v.Refetch("globex")
	s.lacksKeys(v, "acme", s.token("acme", nil))
	s.accepts(v, "globex", s.token("globex", nil))
	if n := results(v, "acme"); n[auth.RefreshUnreachable] == 0 || len(n) != 1 {
		t.Errorf("counted %v, want it unreachable", n)
	}
	if asked.Load() {
		t.Error("the request was sent")
	}
}

// Where the issuer was goes a refused connection, until it is there again.
func TestAnIssuerThatGoesDownComesBack(t *testing.T) {
	s := newSite(t)
	srv := httptest.NewServer(s.iss.Handler())
	defer func() { srv.Close() }()
	at := srv.Listener.Addr().String()
	v := s.opened(s.config(func(c *auth.Config) { c.Realms[0].JWKS = srv.URL + "/realms/acme/jwks" }), auth.Options{})
	srv.Close()
	if err := s.iss.Rotate("acme"); err != nil {
		t.Fatal(err)
	}
	v.Refetch("acme")
	if n := results(v, "acme"); n[auth.RefreshUnreachable] == 0 {
		t.Errorf("counted %v, want it unreachable", n)
	}
	s.accepts(v, "globex", s.token("globex", nil))
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	srv = httptest.NewUnstartedServer(s.iss.Handler())
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	v.Refetch("acme")
	s.accepts(v, "acme", s.token("acme", nil))
}

func TestOneBadKeyTakesNoOtherAlong(t *testing.T) {
	s := newSite(t)
	for _, bad := range []string{
		`null`, `{}`, `{"kty":"oct","kid":"o","k":"c2VjcmV0"}`, `{"kty":"EC","kid":"e","crv":"P-256","x":"AA","y":"AA"}`,
		fmt.Sprintf(`{"kty":"RSA","kid":"r","e":"AQAB","n":%q}`, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 128))),
	} {
		s.answers("acme", func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			s.iss.Handler().ServeHTTP(rec, r)
			var set struct{ Keys []json.RawMessage }
			if err := json.Unmarshal(rec.Body.Bytes(), &set); err != nil {
				t.Error(err)
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": append([]json.RawMessage{json.RawMessage(bad)}, set.Keys...)})
		})
		v := s.opened(s.config(), auth.Options{})
		s.accepts(v, "acme", s.token("acme", nil))
		if st := v.Status()[0]; st.Keys != 1 || st.Refreshes[auth.RefreshGood] == 0 || st.Err != nil {
			t.Errorf("beside %s: %+v", bad, st)
		}
	}
}
