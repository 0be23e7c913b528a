package issuer_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth/issuer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const base = "http://localhost:8080"

func open(t *testing.T, dir string, realms ...issuer.Realm) *issuer.Issuer {
	t.Helper()
	if len(realms) == 0 {
		realms = []issuer.Realm{{Name: "acme", Algorithm: "ES256", Audience: "peal"}}
	}
	iss, err := issuer.Open(dir, base, realms)
	if err != nil {
		t.Fatal(err)
	}
	return iss
}

func kid(t *testing.T, iss *issuer.Issuer) string {
	t.Helper()
	id, _, err := iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// get returns the answer to a GET as JSON.
func get(t *testing.T, iss *issuer.Issuer, path string, into any) {
	t.Helper()
	w := httptest.NewRecorder()
	iss.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}

func publishedKids(t *testing.T, iss *issuer.Issuer) []string {
	t.Helper()
	var set jwkset.JWKSMarshal
	get(t, iss, "/realms/acme/jwks", &set)
	var kids []string
	for _, k := range set.Keys {
		kids = append(kids, k.KID)
	}
	return kids
}

func TestMintSaysWhatClaimsSay(t *testing.T) {
	one := []peal.Tenant{"11111111-1111-4111-8111-111111111111"}
	two := append(one, "22222222-2222-4222-8222-222222222222")
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		iss := open(t, "", issuer.Realm{Name: "acme", Algorithm: alg, Audience: "peal"})
		for _, row := range []struct {
			name   string
			claims issuer.Claims
			want   jwt.MapClaims
		}{
			{"nothing but a subject", issuer.Claims{Subject: "jane"}, jwt.MapClaims{}},
			{"one tenant", issuer.Claims{Subject: "jane", Tenants: one}, jwt.MapClaims{"tenant_id": string(one[0])}},
			{"several tenants", issuer.Claims{Subject: "jane", Tenants: two}, jwt.MapClaims{"tenants": []any{string(two[0]), string(two[1])}}},
			{"roles", issuer.Claims{Subject: "jane", Roles: []string{"a", "b"}}, jwt.MapClaims{"realm_access": map[string]any{"roles": []any{"a", "b"}}}},
			{"session and extra", issuer.Claims{Subject: "jane", Session: "s1", Extra: map[string]any{"x": "y", "aud": []string{"z"}}}, jwt.MapClaims{"sid": "s1", "x": "y", "aud": []any{"z"}}},
		} {
			t.Run(alg+" "+row.name, func(t *testing.T) {
				token, err := iss.Mint("acme", row.claims)
				if err != nil {
					t.Fatal(err)
				}
				got := jwt.MapClaims{}
				parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{alg}), jwt.WithExpirationRequired(), jwt.WithIssuedAt()).
					ParseWithClaims(token, got, func(*jwt.Token) (any, error) {
						_, key, err := iss.PublicKey("acme")
						return key, err
					})
				if err != nil {
					t.Fatal(err)
				}
				if parsed.Header["kid"] != kid(t, iss) || parsed.Header["typ"] != "JWT" {
					t.Errorf("header %v, want the newest key's kid and typ JWT", parsed.Header)
				}
				if ttl := got["exp"].(float64) - got["iat"].(float64); ttl <= 3599 || ttl > 3600 {
					t.Errorf("exp is %v s after iat, want an hour, but for the fraction that exp has not", ttl)
				}
				if id, _ := got["jti"].(string); id == "" {
					t.Error("no jti")
				}
				want := jwt.MapClaims{"iss": base + "/realms/acme", "aud": "peal", "sub": "jane",
					"iat": got["iat"], "exp": got["exp"], "jti": got["jti"]}
				for name, v := range row.want {
					want[name] = v
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("claims (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestDiscoveryNamesTheIssuerAndItsKeys(t *testing.T) {
	iss := open(t, "")
	var doc struct {
		Issuer string   `json:"issuer"`
		JWKS   string   `json:"jwks_uri"`
		Algs   []string `json:"id_token_signing_alg_values_supported"`
	}
	get(t, iss, "/realms/acme/.well-known/openid-configuration", &doc)
	if doc.Issuer != iss.URL("acme") || doc.JWKS != iss.JWKS("acme") || !cmp.Equal(doc.Algs, []string{"ES256"}) {
		t.Fatalf("got %+v", doc)
	}

	w := httptest.NewRecorder()
	iss.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/realms/globex/jwks", nil))
	if w.Code != http.StatusNotFound {
		t.Fatalf("keys of an unknown realm: status %d, want 404", w.Code)
	}
}

func TestPublishedKeysHaveNoPrivateHalf(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		iss := open(t, t.TempDir(), issuer.Realm{Name: "acme", Algorithm: alg})
		var set struct{ Keys []map[string]any }
		get(t, iss, "/realms/acme/jwks", &set)
		if len(set.Keys) != 1 || set.Keys[0]["alg"] != alg || set.Keys[0]["use"] != "sig" {
			t.Fatalf("%s: got %v", alg, set.Keys)
		}
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := set.Keys[0][name]; ok {
				t.Errorf("%s: the published key has %q", alg, name)
			}
		}
	}
}

func TestRotateKeepsThePreviousKeyPublished(t *testing.T) {
	for name, dir := range map[string]string{"in memory": "", "on disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			iss := open(t, dir)
			var kids []string
			for range 3 {
				kids = append([]string{kid(t, iss)}, kids...)
				if diff := cmp.Diff(kids[:min(len(kids), 2)], publishedKids(t, iss)); diff != "" {
					t.Fatalf("published (-want +got):\n%s", diff)
				}
				if err := iss.Rotate("acme"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestKeysOutliveTheProcessAndStayPrivate(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		dir := filepath.Join(t.TempDir(), "issuer")
		r := issuer.Realm{Name: "acme", Algorithm: alg}
		first := kid(t, open(t, dir, r))
		if again := kid(t, open(t, dir, r)); again != first {
			t.Fatalf("%s: kid %s after opening again, want %s", alg, again, first)
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if got := info.Mode().Perm(); got&0o077 != 0 {
				t.Errorf("%s: mode %v, want nothing for others", path, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Two processes that start on an empty directory at the same time would
// otherwise mint with a key that the other one does not publish.
func TestProcessesThatOpenTogetherHaveTheSameKeys(t *testing.T) {
	dir := t.TempDir()
	issuers := make([]*issuer.Issuer, 16)
	var wg sync.WaitGroup
	for n := range issuers {
		wg.Go(func() {
			iss, err := issuer.Open(dir, base, []issuer.Realm{{Name: "acme", Algorithm: "EdDSA"}})
			if err != nil {
				t.Error(err)
			}
			issuers[n] = iss
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := kid(t, issuers[0])
	for n, iss := range issuers {
		if got := kid(t, iss); got != want {
			t.Errorf("issuer %d signs with %s, issuer 0 with %s", n, got, want)
		}
	}

	if err := issuers[3].Rotate("acme"); err != nil {
		t.Fatal(err)
	}
	for n, iss := range issuers {
		if got := publishedKids(t, iss); len(got) != 2 || got[0] == want || got[1] != want {
			t.Errorf("issuer %d publishes %v after another one has rotated, want a new key and %s", n, got, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "acme", "new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestAnotherAlgorithmMakesAnotherKey(t *testing.T) {
	dir := t.TempDir()
	before := kid(t, open(t, dir, issuer.Realm{Name: "acme", Algorithm: "EdDSA"}))
	iss := open(t, dir, issuer.Realm{Name: "acme", Algorithm: "ES256"})
	id, key, err := iss.PublicKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := key.(*ecdsa.PublicKey); !ok || id == before {
		t.Fatalf("key %T %s, want a new one for ES256", key, id)
	}
}

func TestAnUnknownRealmIsRefused(t *testing.T) {
	iss := open(t, "")
	_, mint := iss.Mint("globex", issuer.Claims{Subject: "jane"})
	_, sign := iss.Sign("globex", nil, nil)
	_, raw := iss.SignRaw("globex", nil, nil)
	_, _, public := iss.PublicKey("globex")
	for name, err := range map[string]error{"Mint": mint, "Sign": sign, "SignRaw": raw, "PublicKey": public, "Rotate": iss.Rotate("globex")} {
		if !errors.Is(err, peal.ErrInvalid) {
			t.Errorf("%s: %v, want it invalid", name, err)
		}
	}
}

func TestSignWritesTheHeaderItIsTold(t *testing.T) {
	token, err := open(t, "").Sign("acme", map[string]any{"typ": nil, "kid": "other", "crit": []string{"x"}}, map[string]any{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"alg": "ES256", "kid": "other", "crit": []any{"x"}}
	if diff := cmp.Diff(want, parsed.Header); diff != "" || !cmp.Equal(claims, jwt.MapClaims{"a": 1.0}) {
		t.Fatalf("claims %v, header (-want +got):\n%s", claims, diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	ok := issuer.Realm{Name: "acme", Algorithm: "EdDSA"}
	for name, realms := range map[string][]issuer.Realm{
		"a path as a name":      {{Name: "../acme", Algorithm: "EdDSA"}},
		"no name":               {{Algorithm: "EdDSA"}},
		"a symmetric algorithm": {{Name: "acme", Algorithm: "HS256"}},
		"the same name twice":   {ok, ok},
		"names alike on a Mac":  {ok, {Name: "Acme", Algorithm: "EdDSA"}},
	} {
		if _, err := issuer.Open(t.TempDir(), base, realms); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenRefusesADamagedKeyWithoutShowingIt(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	file := filepath.Join(dir, "acme", "1.jwk")
	if err := os.WriteFile(file, []byte(`{"kty":"EC","d":"s3cret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := issuer.Open(dir, base, []issuer.Realm{{Name: "acme", Algorithm: "ES256"}})
	if err == nil {
		t.Fatal("no error")
	}
	if want := "keys of realm acme: " + file + ": not a JSON Web Key"; err.Error() != want {
		t.Fatalf("got %q, want %q", err, want)
	}
}
