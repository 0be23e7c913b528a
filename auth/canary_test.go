package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
)

// certificate is one of the attacker's key, by itself, in DER.
func certificate(t *testing.T, s signer) []byte {
	t.Helper()
	key := s.key.(*ecdsa.PrivateKey)
	from := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An attacker's token brings its key along, in every way there is, and its key
// set waits at a URL. Nobody ever asks there.
func TestATokenDoesNotChooseItsKey(t *testing.T) {
	attacker := newEC(t, "attacker", elliptic.P256())
	var asked atomic.Int64
	mux := http.NewServeMux()
	canary := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mux.ServeHTTP(rw, r)
	}))
	t.Cleanup(canary.Close)
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(map[string]any{"keys": []any{attacker.jwk(nil)}, "issuer": canary.URL, "jwks_uri": canary.URL + "/jwks"})
	})

	der := certificate(t, attacker)
	chain := []string{base64.StdEncoding.EncodeToString(der)}
	thumb := sha256.Sum256(der)
	own := newEd(t, "own")
	w := newWorld(t, func(c *auth.Config) {
		// One realm publishes a key that points there itself, and one asks its issuer.
		realmOf(c, "service").JWKS = serve(t, own.jwk(map[string]any{"x5u": canary.URL + "/x5u", "jku": canary.URL + "/jku", "x5c": chain}))
		acme := realmOf(c, "acme")
		acme.JWKS, acme.Discovery = "", true
	})
	kid, key, err := w.iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	type m = map[string]any
	var rows []verdict
	for _, row := range []struct {
		name   string
		header m
	}{
		{"nothing", nil},
		{"jwk", m{"jwk": attacker.jwk(nil)}},
		{"jwk of the realm's kid", m{"jwk": attacker.jwk(m{"kid": kid})}},
		{"jwk as text", m{"jwk": fmt.Sprint(attacker.jwk(nil))}},
		{"jwk of the realm's own key", m{"jwk": signer{t, kid, nil}.marshal(key, nil)}},
		{"jwk with x5u", m{"jwk": attacker.jwk(m{"x5u": canary.URL + "/x5u"})}},
		{"jwk with x5c", m{"jwk": attacker.jwk(m{"x5c": chain})}},
		{"jku", m{"jku": canary.URL + "/jwks"}},
		{"jku and jwk", m{"jku": canary.URL + "/jwks", "jwk": attacker.jwk(nil)}},
		{"jku behind the realm's host", m{"jku": w.iss.URL("acme") + "@" + canary.Listener.Addr().String()}},
		{"x5u", m{"x5u": canary.URL + "/x5u"}},
		{"x5c", m{"x5c": chain}},
		{"x5c with thumbprints", m{"x5c": chain, "x5t#S256": b64(string(thumb[:])), "x5t": b64(string(thumb[:20]))}},
		{"iss in the header", m{"iss": canary.URL}},
		{"jwks_uri in the header", m{"jwks_uri": canary.URL + "/jwks"}},
		{"everything", m{"jwk": attacker.jwk(m{"x5u": canary.URL, "x5c": chain}), "jku": canary.URL, "x5u": canary.URL, "x5c": chain, "iss": canary.URL}},
	} {
		for _, by := range []struct {
			kid  any
			want auth.Reason
		}{{kid, auth.ReasonSignature}, {attacker.kid, auth.ReasonKidUnknown}, {canary.URL + "/jwks", auth.ReasonKidUnknown}, {nil, auth.ReasonKidMissing}} {
			header := m{"kid": by.kid}
			maps.Copy(header, row.header)
			rows = append(rows, verdict{fmt.Sprintf("%s, kid %v", row.name, by.kid), "acme", attacker.token("ES256", header, w.claims("acme", nil)), by.want})
		}
	}
	for _, iss := range []string{canary.URL, canary.URL + "/realms/acme", w.iss.URL("acme") + "@" + canary.Listener.Addr().String()} {
		rows = append(rows, verdict{"iss " + iss, "acme", attacker.token("ES256", nil, w.claims("acme", m{"iss": iss})), auth.ReasonIssuer})
	}
	rows = append(rows,
		verdict{"the realm's key, with all that means nothing", "acme",
			w.sign("acme", m{"jwk": attacker.jwk(nil), "jku": canary.URL, "x5u": canary.URL, "x5c": chain}, w.claims("acme", nil)), ""},
		verdict{"a realm whose key points there", "service", own.token("EdDSA", nil, w.claims("service", nil)), ""},
		verdict{"and the key that is there", "service", attacker.token("ES256", nil, w.claims("service", nil)), auth.ReasonKidUnknown},
	)
	wantVerdicts(t, w, rows)
	if n := asked.Load(); n > 0 {
		t.Errorf("the attacker's server was asked %d times", n)
	}
	if res, err := http.Get(canary.URL + "/jwks"); err != nil || asked.Load() != 1 {
		t.Errorf("the attacker's server counts %d requests of 1, %v", asked.Load(), err)
	} else {
		_ = res.Body.Close()
	}
}
