package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/google/go-cmp/cmp"
)

// jwk is a public or private key as JSON, with edits.
func jwk(t *testing.T, key any, edits map[string]any) map[string]any {
	t.Helper()
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Marshal: jwkset.JWKMarshalOptions{Private: true}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(j.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for name, v := range edits {
		m[name] = v
		if v == nil {
			delete(m, name)
		}
	}
	return m
}

func keySet(t *testing.T, keys ...any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOnlyKeysThatCanBeUsedAreTaken(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrongCurve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Only the length of a modulus is looked at here.
	rsaKey := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: e}
	}
	ec := func(edits map[string]any) map[string]any { return jwk(t, &ecKey.PublicKey, edits) }
	kid := func(s string) map[string]any { return map[string]any{"kid": s} }

	for _, row := range []struct {
		name  string
		key   any
		taken bool
	}{
		{"an EC key", ec(kid("k")), true},
		{"an Ed25519 key", jwk(t, ed, kid("k")), true},
		{"an RSA key of 2048 bits", jwk(t, rsaKey(2048, 65537), kid("k")), true},
		{"use sig", ec(map[string]any{"kid": "k", "use": "sig"}), true},
		{"key_ops verify", ec(map[string]any{"kid": "k", "key_ops": []string{"verify"}}), true},
		{"its algorithm", ec(map[string]any{"kid": "k", "alg": "ES256"}), true},
		{"certificates that are not read", ec(map[string]any{"kid": "k", "x5c": []string{"garbage"}, "x5t": "x", "x5u": "http://127.0.0.1:1/"}), true},

		{"an RSA key of 2047 bits", jwk(t, rsaKey(2047, 65537), kid("k")), false},
		{"an RSA key of 8193 bits", jwk(t, rsaKey(8193, 65537), kid("k")), false},
		{"an RSA exponent of 1", jwk(t, rsaKey(2048, 65537), map[string]any{"kid": "k", "e": "AQ"}), false},
		{"an even RSA exponent", jwk(t, rsaKey(2048, 65537), map[string]any{"kid": "k", "e": "AQAA"}), false},
		{"an RSA exponent that ends in 65537 after 64 bits", jwk(t, rsaKey(2048, 65537), map[string]any{"kid": "k", "e": "AQAAAAAAAQAB"}), false},
		{"a curve that no algorithm of the realm has", jwk(t, &wrongCurve.PublicKey, kid("k")), false},
		{"an algorithm that does not fit the key", ec(map[string]any{"kid": "k", "alg": "RS256"}), false},
		{"an algorithm that the realm does not have", ec(map[string]any{"kid": "k", "alg": "ES384"}), false},
		{"a point off its curve", ec(map[string]any{"kid": "k", "x": "AAAA"}), false},
		{"oct", map[string]any{"kty": "oct", "kid": "k", "k": "c2VjcmV0"}, false},
		{"oct without k", map[string]any{"kty": "oct", "kid": "k"}, false},
		{"a private key", jwk(t, ecKey, kid("k")), false},
		{"a private Ed25519 key", jwk(t, edPrivate, kid("k")), false},
		{"an empty private part", ec(map[string]any{"kid": "k", "d": ""}), false},
		{"use enc", ec(map[string]any{"kid": "k", "use": "enc"}), false},
		{"a number as use", ec(map[string]any{"kid": "k", "use": 1}), false},
		{"key_ops encrypt", ec(map[string]any{"kid": "k", "key_ops": []string{"encrypt"}}), false},
		{"no kid", ec(nil), false},
		{"a number as kid", ec(map[string]any{"kid": 1}), false},
		{"a kid of 257 bytes", ec(kid(strings.Repeat("k", 257))), false},
		{"KTY", ec(map[string]any{"kid": "k", "kty": nil, "KTY": "EC"}), false},
		{"null", nil, false},
		{"a string", "key", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			algorithms := []string{"RS256", "ES256", "EdDSA"}
			keys, _, err := parseKeys(keySet(t, row.key), algorithms)
			if taken := err == nil && len(keys) == 1; taken != row.taken {
				t.Errorf("alone: %v, %d keys, want taken %v", err, len(keys), row.taken)
			}
			// Whatever it is, it takes no sibling along.
			keys, _, err = parseKeys(keySet(t, row.key, jwk(t, ed, kid("sibling"))), algorithms)
			want := 1
			if row.taken {
				want = 2
			}
			if err != nil || len(keys) != want {
				t.Errorf("with a sibling: %v, %d keys, want %d", err, len(keys), want)
			}
		})
	}
}

func TestKeysThatShareAKidAreAllDropped(t *testing.T) {
	var keys []any
	for _, kid := range []string{"a", "b", "a", "c"} {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, jwk(t, public, map[string]any{"kid": kid}))
	}
	// An unusable key does not share: it is no candidate.
	keys = append(keys, map[string]any{"kty": "oct", "kid": "b"})
	got, dropped, err := parseKeys(keySet(t, keys...), []string{"EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range got {
		kids = append(kids, k.Marshal().KID)
	}
	if diff := cmp.Diff([]string{"b", "c"}, kids); diff != "" || len(dropped) != 2 {
		t.Fatalf("kids (-want +got):\n%s\ndropped %v", diff, dropped)
	}
}

func TestAnswersThatBringNoKeys(t *testing.T) {
	good := keySet(t, testKey(t, "a").Marshal())
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // in the error; "" is keys
	}{
		{"keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }, ""},
		{"500 with keys", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(good)
		}, "status 500"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				_, _ = w.Write(good)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, "status 302"},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "not a JSON object"},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "not a JSON object"},
		{"an array", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }, "not a JSON object"},
		{"an empty object", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "no array of keys"},
		{"no keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) }, "no usable key"},
		{"null as keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":null}`)) }, "no usable key"},
		{"keys and more", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(good, good...)) }, "not a JSON object"},
		{"10 MB", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(good, []byte(strings.Repeat(" ", 10<<20))...))
		}, "more than 262144 bytes"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			_, _ = w.Write(good)
		}, "unexpected EOF"},
	} {
		t.Run(row.name, func(t *testing.T) {
			srv := httptest.NewServer(row.answer)
			defer srv.Close()
			r := Realm{Name: "acme", JWKS: srv.URL, AllowPrivate: true}.withDefaults()
			keys, _, err := source{realm: r}.fetch(t.Context())
			if row.want == "" {
				if err != nil || len(keys) != 1 {
					t.Fatalf("%d keys, %v", len(keys), err)
				}
				return
			}
			if err == nil || len(keys) > 0 || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("%d keys, %v, want %q", len(keys), err, row.want)
			}
		})
	}
}

func TestDiscoveryTakesOnlyTheIssuersOwnDocument(t *testing.T) {
	good := keySet(t, testKey(t, "a").Marshal())
	for _, row := range []struct {
		name string
		doc  string // $ is the server's URL
		want string
	}{
		{"its own", `{"issuer":"$/realm","jwks_uri":"$/keys"}`, ""},
		{"another issuer's", `{"issuer":"https://other.example","jwks_uri":"$/keys"}`, "issuer is not the realm's"},
		{"one without an issuer", `{"jwks_uri":"$/keys"}`, "issuer is not the realm's"},
		{"one that spells it Issuer", `{"Issuer":"$/realm","jwks_uri":"$/keys"}`, "issuer is not the realm's"},
		{"one without keys", `{"issuer":"$/realm"}`, "jwks_uri must be an https URL"},
		{"one with keys in a file", `{"issuer":"$/realm","jwks_uri":"file:///etc/passwd"}`, "jwks_uri must be an https URL"},
		{"one with keys in plain text", `{"issuer":"$/realm","jwks_uri":"http://192.0.2.1/keys"}`, "http is for private addresses"},
		{"garbage", `<html>`, "not a JSON object"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mux := http.NewServeMux()
			srv := httptest.NewServer(mux)
			defer srv.Close()
			mux.HandleFunc("/realm/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprint(w, strings.ReplaceAll(row.doc, "$", srv.URL))
			})
			mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) })

			r := Realm{Name: "acme", Issuer: srv.URL + "/realm", Discovery: true, AllowPrivate: true}.withDefaults()
			keys, _, err := source{realm: r}.fetch(t.Context())
			if row.want == "" && (err != nil || len(keys) != 1) {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Fatalf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestPrivateAddressesAreNotDialled(t *testing.T) {
	asked := false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer srv.Close()
	for _, at := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)} {
		_, err := source{realm: Realm{JWKS: at}.withDefaults()}.get(t.Context(), at)
		if err == nil || !strings.Contains(err.Error(), "the address is private") || asked {
			t.Errorf("%s: %v, asked %v", at, err, asked)
		}
	}

	for _, row := range []struct {
		url, addr           string
		allowPrivate, wants bool
	}{
		{"https://x", "203.0.113.7", false, true},
		{"https://x", "2606:4700::1", false, true},
		{"https://x", "10.1.2.3", false, false},
		{"https://x", "172.31.0.1", false, false},
		{"https://x", "192.168.1.1", false, false},
		{"https://x", "169.254.169.254", false, false},
		{"https://x", "100.100.100.200", false, false},
		{"https://x", "0.0.0.0", false, false},
		{"https://x", "::1", false, false},
		{"https://x", "::", false, false},
		{"https://x", "fe80::1", false, false},
		{"https://x", "fd00:ec2::254", false, false},
		{"https://x", "64:ff9b::a9fe:a9fe", false, false},
		{"https://x", "10.1.2.3", true, true},
		{"http://x", "127.0.0.1", true, true},
		{"http://x", "10.1.2.3", true, true},
		{"http://x", "8.8.8.8", true, false}, // a name that Validate took for a private one
		{"http://x", "2606:4700::1", true, false},
	} {
		u, err := url.Parse(row.url)
		if err != nil {
			t.Fatal(err)
		}
		s := source{realm: Realm{AllowPrivate: row.allowPrivate}}
		if got := s.permits(u)(netip.MustParseAddr(row.addr)); got != row.wants {
			t.Errorf("%s at %s, allowPrivate %v: permitted %v, want %v", row.url, row.addr, row.allowPrivate, got, row.wants)
		}
	}
}

func TestACancelledFetchEnds(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Realm{JWKS: srv.URL, AllowPrivate: true}.withDefaults()
	if _, _, err := (source{realm: r}).fetch(ctx); err == nil {
		t.Fatal("no error")
	}
}

func TestAKeyServesItsOwnAlgorithmsOnly(t *testing.T) {
	curve := func(c elliptic.Curve) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c} }
	for name, row := range map[string]struct {
		key  any
		want string
	}{
		"RSA":     {&rsa.PublicKey{}, "RS256 RS384 RS512 PS256 PS384 PS512"},
		"P-256":   {curve(elliptic.P256()), "ES256"},
		"P-384":   {curve(elliptic.P384()), "ES384"},
		"P-521":   {curve(elliptic.P521()), "ES512"},
		"P-224":   {curve(elliptic.P224()), ""},
		"Ed25519": {ed25519.PublicKey{}, "EdDSA"},
		"oct":     {[]byte("secret"), ""},
		"none":    {nil, ""},
	} {
		var got []string
		for _, alg := range algorithms {
			if fits(alg, row.key) {
				got = append(got, alg)
			}
		}
		if s := strings.Join(got, " "); s != row.want {
			t.Errorf("%s serves %q, want %q", name, s, row.want)
		}
	}
}

// The library would check an ES256 signature with a key of any curve.
func TestATokensAlgorithmMustFitItsKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := parseKeys(keySet(t, jwk(t, &key.PublicKey, map[string]any{"kid": "k"})), algorithms)
	if err != nil {
		t.Fatal(err)
	}
	set := newKeyset(quiet(), nil, nil)
	set.finish(newRound(), keys, nil)
	r, err := newRealm(Realm{Name: "acme", Algorithms: algorithms}.withDefaults(), set, &Revocations{})
	if err != nil {
		t.Fatal(err)
	}
	for alg, want := range map[string]Reason{"ES384": ReasonSignature, "ES256": ReasonKey, "RS256": ReasonKey, "EdDSA": ReasonKey} {
		header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"kid":"k"}`, alg))
		err := r.checkSignature(t.Context(), header+".e30."+strings.Repeat("A", 86))
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Reason != want {
			t.Errorf("%s: %v, want %s", alg, err, want)
		}
	}
}
