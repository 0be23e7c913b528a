package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
)

// identity is an issuer of the realms of dev, and a realms file that names it.
type identity struct {
	t      *testing.T
	tokens *issuer.Issuer
	server *httptest.Server
	config auth.Config
	file   string
}

func newIdentity(t *testing.T) *identity {
	t.Helper()
	i := &identity{t: t, server: httptest.NewUnstartedServer(nil), file: filepath.Join(t.TempDir(), "realms.yaml")}
	var err error
	if i.tokens, err = openIssuer(t.TempDir(), "http://"+i.server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	i.server.Config.Handler = i.tokens.Handler()
	i.server.Start()
	t.Cleanup(i.server.Close)
	i.config = devRealms(i.tokens)
	i.write(i.config)
	return i
}

// write puts a configuration into the realms file, in place.
func (i *identity) write(cfg auth.Config) {
	i.t.Helper()
	if err := os.WriteFile(i.file, i.yaml(cfg), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

func (i *identity) yaml(cfg auth.Config) []byte {
	i.t.Helper()
	out, err := cfg.YAML()
	if err != nil {
		i.t.Fatal(err)
	}
	return out
}

// mint makes a token for jane in the shared tenant, with claims added, replaced
// or, where they are nil, taken away.
func (i *identity) mint(realm string, claims map[string]any) string {
	i.t.Helper()
	jwt, err := i.tokens.Mint(realm, issuer.Claims{Subject: "jane", Tenants: []peal.Tenant{tenantShared}, Roles: []string{rolePublish}, Extra: claims})
	if err != nil {
		i.t.Fatal(err)
	}
	return jwt
}

// verdicts are the lines of an explanation by what they are about.
func verdicts(stdout string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(stdout) {
		if len(line) > 16 {
			m[strings.TrimSpace(line[:16])] = strings.TrimSpace(line[16:])
		}
	}
	return m
}

func TestExplainSaysWhichCheckFails(t *testing.T) {
	i := newIdentity(t)
	type claims = map[string]any
	signed := func(header claims) string {
		t.Helper()
		jwt, err := i.tokens.Sign(realmAcme, header, claims{"iss": i.tokens.URL(realmAcme), "aud": audience, "sub": "jane", "exp": time.Now().Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return jwt
	}
	good, other := i.mint(realmAcme, nil), i.mint(realmAcme, claims{"sub": "joe"})
	forged := good[:strings.LastIndex(good, ".")] + other[strings.LastIndex(other, "."):]
	text := func(payload string) string {
		return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".AAAA"
	}
	hour := 3600.0
	past := float64(time.Now().Unix()) - hour
	for _, tt := range []struct {
		name   string
		jwt    string
		args   []string
		check  string // that fails
		reason auth.Reason
		want   string // its verdict
		before string // the check before it
	}{
		{"of another audience", i.mint(realmAcme, claims{"aud": "billing"}), nil, "audience", auth.ReasonAudience, `expected "peal", got "billing"`, "issuer"},
		{"of no audience", i.mint(realmAcme, claims{"aud": nil}), nil, "audience", auth.ReasonAudience, `expected "peal", got none`, "issuer"},
		{"that commands the terminal", i.mint(realmAcme, claims{"aud": "\x1b]0;x\x07\r\n\u202eok\u009b2J"}), nil, "audience", auth.ReasonAudience, `got "\x1b]0;x\a\r\n\u202eok\u009b2J"`, "issuer"},
		{"with a long claim", i.mint(realmAcme, claims{"aud": strings.Repeat("x", 5000)}), nil, "audience", auth.ReasonAudience, `got "` + strings.Repeat("x", 200) + `"…`, "issuer"},
		{"that has expired", i.mint(realmAcme, claims{"exp": past, "iat": past - 1}), nil, "not expired", auth.ReasonExpired, `expected "after `, "signature"},
		{"from the future", i.mint(realmAcme, claims{"nbf": time.Now().Unix() + 3600}), nil, "not before", auth.ReasonNotYetValid, `expected "nbf at most `, "expiry"},
		{"garbage", "this is no token at all", nil, "form", auth.ReasonMalformed, `expected "three segments", got "1"`, ""},
		{"garbage in segments", "aaaaaaaaaa.%%%%%%%%%%.aaaa", nil, "form", auth.ReasonMalformed, `expected "three segments of base64url"`, ""},
		{"no JSON", text("jane"), nil, "form", auth.ReasonMalformed, `expected "a JSON object as payload"`, ""},
		{"short", "x", nil, "form", auth.ReasonMalformed, `expected "20 to 12288 bytes", got "1"`, ""},
		{"garbage for a realm", "this is no token at all", []string{"--realm", realmAcme}, "form", auth.ReasonMalformed, `expected "three segments", got "1"`, "realm"},
		{"of an issuer that nobody knows", i.mint(realmAcme, claims{"iss": "https://id.example\x1b[2J"}), nil, "realm", auth.ReasonUnknownRealm,
			`expected "` + i.tokens.URL(realmAcme) + " " + i.tokens.URL(realmGlobex) + `", got "https://id.example\x1b[2J"`, ""},
		{"of no issuer", i.mint(realmAcme, claims{"iss": nil}), nil, "realm", auth.ReasonUnknownRealm, `got none`, ""},
		{"of another realm", good, []string{"--realm", realmGlobex}, "issuer", auth.ReasonIssuer, `got "` + i.tokens.URL(realmAcme) + `"`, "type"},
		{"of a realm that is none", good, []string{"--realm", "initech"}, "realm", auth.ReasonUnknownRealm, `expected "acme globex", got "initech"`, ""},
		{"for another tenant", good, []string{"--tenant", string(tenantAcme)}, "tenant", auth.ReasonTenant, `expected "one of the token's", got "` + string(tenantAcme) + `"`, "not revoked"},
		{"for another's tenant", good, []string{"--tenant", string(tenantGlobex)}, "tenant", auth.ReasonTenant, `expected "one of the realm's", got "` + string(tenantGlobex) + `"`, "not revoked"},
		{"without the role", good, []string{"--tenant", string(tenantShared), "--role", "admin"}, "role", auth.ReasonRole,
			`expected "admin, in the token notifications:admin", got "connect publish"`, "tenant"},
		{"without the role in whatever tenant", good, []string{"--role", "tickets"}, "role", auth.ReasonRole, `expected "tickets, in the token tickets:all"`, "tenant"},
		{"of a key that nobody has", signed(claims{"kid": "k\x1b"}), nil, "key known", auth.ReasonKidUnknown, `expected a key that the realm publishes, got "k\x1b"`, "user"},
		{"of no key", signed(claims{"kid": nil}), nil, "key id", auth.ReasonKidMissing, `expected "kid a string of 1 to 256 bytes", got none`, "extensions"},
		{"that anybody could make", signed(claims{"alg": "none"}), nil, "algorithm", auth.ReasonAlgorithm, `got "none"`, "form"},
		{"that wants an extension", signed(claims{"crit": []string{"x"}}), nil, "extensions", auth.ReasonCrit, `expected "no crit in the header"`, "algorithm"},
		{"of another key", forged, nil, "signature", auth.ReasonSignature, "another key", "key fits"},
		{"of another kind", i.mint(realmAcme, claims{"typ": "Refresh"}), nil, "type", auth.ReasonType, `expected "an access token", got "Refresh"`, "key id"},
		{"good for too long", i.mint(realmAcme, claims{"exp": time.Now().Add(1000 * time.Hour).Unix()}), nil, "lifetime", auth.ReasonLifetime, `expected "at most 720h0m0s"`, "not before"},
		{"of nobody", i.mint(realmAcme, claims{"sub": nil}), nil, "user", auth.ReasonUserClaim, `expected "sub a string", got none`, "required claims"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := feed(t, tt.jwt+"\n", nil, append([]string{"token", "explain", "--realms", i.file}, tt.args...)...)
			if got.status != 1 || got.stderr != "peal token: token refused: "+string(tt.reason)+"\n" {
				t.Errorf("exit status %d and %q, want 1 and that it is refused for %s", got.status, got.stderr, tt.reason)
			}
			lines := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, tt.check+" ") || !strings.Contains(last, " FAILED  ") || !strings.Contains(last, tt.want) {
				t.Errorf("the last line is %q, want that %s failed: %s", last, tt.check, tt.want)
			}
			before := ""
			for _, line := range lines[:len(lines)-1] {
				before = strings.TrimSpace(line[:16])
				if v := strings.TrimSpace(line[16:]); v != "ok" && !strings.HasPrefix(v, "not asked: ") {
					t.Errorf("line %q before the check that fails", line)
				}
			}
			if tt.before == "" && before != "realm" && before != "" || tt.before != "" && before != tt.before {
				t.Errorf("the check before is %q, want %q\n%s", before, tt.before, got.stdout)
			}
			if i := strings.IndexFunc(got.stdout, func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' }); i >= 0 {
				t.Errorf("a control character at %d of %q", i, got.stdout)
			}
			if signature := tt.jwt[strings.LastIndex(tt.jwt, ".")+1:]; len(signature) > 10 && strings.Contains(got.stdout, signature) {
				t.Errorf("the signature is told:\n%s", got.stdout)
			}
			if strings.Contains(got.stdout, "jane") || len(got.stdout) > 2000 {
				t.Errorf("more is told than was checked:\n%s", got.stdout)
			}
		})
	}
}

// What the token makes its bearer, of a file's realm and of a running dev's.
func TestExplainSaysWhatAGoodTokenIsGoodFor(t *testing.T) {
	i := newIdentity(t)
	jwt := i.mint(realmGlobex, map[string]any{"tenant_id": nil, "sub": "j\u202eane"})
	want := result{0, `realm           ok
form            ok
algorithm       ok
extensions      ok
key id          ok
type            ok
issuer          ok
audience        ok
expiry          ok
not before      ok
lifetime        ok
required claims ok
user            ok
key known       ok
key fits        ok
signature       ok
not expired     ok
not revoked     not asked: revocations are known to the service only
tenant          ok
role            ok

realm           globex
namespace       globex
user            "j\u202eane"
tenants         22222222-2222-4222-8222-222222222222 33333333-3333-4333-8333-333333333333
roles           connect publish
expires         `, ""}
	flags := []string{"--realms", i.file, "--tenant", string(tenantGlobex), "--role", "publish"}
	asArgument := append(append([]string{"token", "explain"}, flags...), jwt)
	argumentFirst := append([]string{"token", "explain", jwt}, flags...)
	dashed := append(append([]string{"token", "explain"}, flags...), "-")
	for name, got := range map[string]result{
		"as an argument": do(t, nil, asArgument...),
		"argument first": do(t, nil, argumentFirst...),
		"on input":       feed(t, "  "+jwt+"\r\n", nil, dashed...),
	} {
		upTo := strings.LastIndex(got.stdout, "  ") + 2
		expires := strings.TrimSpace(got.stdout[upTo:])
		got.stdout = got.stdout[:upTo]
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		at, in, _ := strings.Cut(expires, ", in ")
		when, err := time.Parse(time.RFC3339, at)
		if left := time.Until(when); err != nil || left < 50*time.Minute || left > time.Hour || !strings.HasPrefix(in, "59m") && in != "1h0m0s" {
			t.Errorf("%s: expires %q", name, expires)
		}
	}
}

func TestExplainAsksARunningDev(t *testing.T) {
	data := t.TempDir()
	startDev(t, data)
	token := do(t, nil, "token", "--data", data, "--user", "jane", "--tenant", string(tenantAcme))
	got := feed(t, token.stdout, nil, "token", "explain", "--data", data)
	v := verdicts(got.stdout)
	if got.status != 0 || v["signature"] != "ok" || v["user"] != `"jane"` || v["tenants"] != string(tenantAcme) || v["roles"] != "connect" ||
		v["tenant"] != "not asked: no --tenant" || v["role"] != "not asked: no --role" {
		t.Errorf("%+v", got)
	}
}

// Without the issuer that is said which needs no key.
func TestExplainWithoutKeys(t *testing.T) {
	i := newIdentity(t)
	good, billing := i.mint(realmAcme, nil), i.mint(realmAcme, map[string]any{"aud": "billing"})
	i.server.Close()
	got := feed(t, billing, nil, "token", "explain", "--realms", i.file)
	if got.status != 1 || !strings.HasPrefix(verdicts(got.stdout)["audience"], "FAILED") {
		t.Errorf("a claim that is wrong: %+v", got)
	}
	got = feed(t, good, nil, "token", "explain", "--realms", i.file)
	if got.status != 1 || !strings.HasSuffix(got.stdout, "key known       not asked: the keys of the realm can't be had\n") ||
		strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "acme") || !strings.Contains(got.stderr, "is the issuer up") {
		t.Errorf("a token that may be good: %+v", got)
	}
}

func TestExplainUsage(t *testing.T) {
	i := newIdentity(t)
	jwt := i.mint(realmAcme, nil)
	for _, tt := range []struct {
		name   string
		input  string
		args   []string
		status int
		want   []string
	}{
		{"no token", " \n", []string{"--realms", i.file}, 2, []string{"no token", "standard input"}},
		{"two tokens", "", []string{"--realms", i.file, jwt, jwt}, 2, []string{"one token"}},
		{"a tenant that is none", "", []string{"--realms", i.file, "--tenant", "acme", jwt}, 2, []string{"--tenant", "UUID"}},
		{"a role that is none", "", []string{"--realms", i.file, "--role", "boss", jwt}, 2, []string{"role", "connect publish admin tickets"}},
		{"realms from two places", "", []string{"--realms", i.file, "--data", ".", jwt}, 2, []string{"--realms", "--data"}},
		{"realms that are not there", "", []string{"--realms", i.file + "x", jwt}, 2, []string{"--realms", "no such file"}},
		{"no dev", "", []string{"--data", t.TempDir(), jwt}, 1, []string{"peal dev", "--realms"}},
		{"an unknown flag", "", []string{"--bark", jwt}, 2, []string{"bark", "peal token explain --help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := feed(t, tt.input, nil, append([]string{"token", "explain"}, tt.args...)...)
			if got.status != tt.status || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%+v, want exit status %d and one line", got, tt.status)
			}
			for _, w := range tt.want {
				if !strings.Contains(got.stderr, w) {
					t.Errorf("standard error %q does not say %q", got.stderr, w)
				}
			}
			if strings.Contains(got.stderr, jwt[:20]) {
				t.Errorf("standard error tells the token")
			}
		})
	}
	for _, args := range [][]string{{"token", "--help"}, {"token", "explain", "--help"}} {
		if got := do(t, nil, args...); got.status != 0 || got.stderr != "" || !strings.Contains(got.stdout, "explain [flags] [TOKEN]") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// Ctrl-C while nothing comes on standard input.
func TestExplainCanBeStoppedWhileItReads(t *testing.T) {
	i := newIdentity(t)
	input, nobody := io.Pipe()
	defer nobody.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	var out, errs bytes.Buffer
	status := run(ctx, ctx, []string{"token", "explain", "--realms", i.file}, func(string) string { return "" }, input, &out, &errs)
	if status != 1 || out.Len() > 0 {
		t.Errorf("exit status %d, %s%s", status, &out, &errs)
	}
}

// Nothing is told in the process's own log, and nobody but the token's realm is
// asked for keys.
func TestExplainAsksOneIssuerOnly(t *testing.T) {
	i := newIdentity(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another realm is asked") }))
	defer elsewhere.Close()
	cfg := i.config
	cfg.Realms = append([]auth.Realm{cfg.Realms[0]}, cfg.Realms[1:]...)
	cfg.Realms[1].JWKS = elsewhere.URL
	i.write(cfg)
	if got := feed(t, i.mint(realmAcme, nil), nil, "token", "explain", "--realms", i.file); got.status != 0 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}
