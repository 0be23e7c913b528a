package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

const realmsFile = `# who may call
realms:
  - name: acme
    issuer: https://login.acme.example/
    jwks: https://login.acme.example/keys
    audiences: [peal, peal-test]
    algorithms: [RS256, PS512]
    tenants:
      - 11111111-1111-4111-8111-111111111111
      - 33333333-3333-4333-8333-33333333333A
    claims:
      tenant: [tid]
      roles: [https://acme.example/roles, groups]
      user: oid
    roles: {connect: "", publish: bot, admin: boss, tickets: lead}
    types: [at+jwt]
    requiredClaims: {azp: [web, app], https://acme.example/tid: any}
    maxTokenLife: 12h
    logoutAudiences: [web]
  - name: Service
    issuer: https://sso.example
    discovery: true
    audiences: ["peal"]
    tenants: any
    namespace: backend
    allowPrivate: true
tenants:
  - id: 11111111-1111-4111-8111-111111111111
    defaultNamespace: acme
`

func parsed() auth.Config {
	return auth.Config{
		Realms: []auth.Realm{
			{
				Name: "acme", Issuer: "https://login.acme.example/", JWKS: "https://login.acme.example/keys",
				Audiences: []string{"peal", "peal-test"}, Algorithms: []string{"RS256", "PS512"},
				Tenants: auth.Tenants{IDs: []peal.Tenant{one, "33333333-3333-4333-8333-33333333333a"}},
				Claims:  auth.ClaimPaths{Tenant: []string{"tid"}, Roles: []string{"https://acme.example/roles", "groups"}, User: "oid"},
				Roles:   auth.RoleNames{Publish: "bot", Admin: "boss", Tickets: "lead"},
				Types:   []string{"at+jwt"}, MaxTokenLife: 12 * time.Hour, LogoutAudiences: []string{"web"},
				RequiredClaims: map[string]auth.Values{"azp": {OneOf: []string{"web", "app"}}, "https://acme.example/tid": {Any: true}},
			},
			{
				Name: "Service", Issuer: "https://sso.example", Discovery: true, Audiences: []string{"peal"},
				Tenants: auth.Tenants{Any: true}, Namespace: "backend", AllowPrivate: true,
			},
		},
		Tenants: []auth.TenantRow{{ID: one, DefaultNamespace: "acme"}},
	}
}

func TestParseReadsARealmsFile(t *testing.T) {
	got, err := auth.Parse("realms.yaml", []byte(realmsFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parsed(), got); diff != "" {
		t.Fatalf("config (-want +got):\n%s", diff)
	}
}

func TestParseReadsWhatYAMLWrites(t *testing.T) {
	odd := parsed()
	odd.Realms[0].Audiences = []string{"123", "true", "null", "any", "a: b", "# no", "ü\n"}
	odd.Realms[0].Roles.Connect = "yes"
	odd.Realms[1].Name = "1e3"
	for _, c := range []auth.Config{parsed(), odd} {
		data, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		got, err := auth.Parse("x", data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("config (-want +got):\n%s\nfrom\n%s", diff, data)
		}
	}
}

// Each row replaces a part of the good file.
func TestParseNamesTheLineAndTheKey(t *testing.T) {
	for _, row := range []struct {
		name     string
		old, new string
		want     string
	}{
		{"an unknown key", "    discovery: true", "    discover: true", `realms.yaml:22: realms[1].discover: is not a key that is known here`},
		{"an unknown key at the top", "tenants:\n  - id", "tenant:\n  - id", `realms.yaml:27: tenant: is not a key that is known here`},
		{"an unknown key further down", "user: oid", "users: oid", `realms.yaml:14: realms[0].claims.users: is not`},
		{"a key in another case", "    issuer: https://sso", "    Issuer: https://sso", `realms.yaml:21: realms[1].Issuer: is not`},
		{"a key twice", "    discovery: true", "    discovery: true\n    discovery: true", `realms.yaml:23: realms[1].discovery: is given twice`},
		{"a merge key", "    discovery: true", "    <<: {discovery: true}", `realms.yaml:22: realms[1].<<: is not`},
		{"a number as a name", "name: Service", "name: 7", `realms.yaml:20: realms[1].name: must be a string`},
		{"nothing as a name", "name: Service", "name:", `realms.yaml:20: realms[1].name: must be a string`},
		{"an empty name", "name: Service", `name: ""`, `realms.yaml:20: realms[1].name: must not be empty`},
		{"an empty role", "publish: bot", `publish: ""`, `realms.yaml:15: realms[0].roles.publish: must not be empty`},
		{"a string as a boolean", "discovery: true", `discovery: "yes"`, `realms.yaml:22: realms[1].discovery: must be true or false`},
		{"yes as a boolean", "discovery: true", `discovery: yes`, `realms.yaml:22: realms[1].discovery: must be true or false`},
		{"a string as a list", `audiences: ["peal"]`, `audiences: peal`, `realms.yaml:23: realms[1].audiences: must be a list`},
		{"a list as a string", `namespace: backend`, `namespace: [backend]`, `realms.yaml:25: realms[1].namespace: must be a string`},
		{"a string as a mapping", `    allowPrivate: true`, `    claims: sub`, `realms.yaml:26: realms[1].claims: must be a mapping`},
		{"a word as tenants", `tenants: any`, `tenants: all`, `realms.yaml:24: realms[1].tenants: must be a list of UUIDs, or the word any`},
		{"a tenant that is no UUID", `      - 11111111-1111-4111-8111-111111111111`, `      - acme`, `realms.yaml:9: realms[0].tenants[0]: must be a UUID`},
		{"an algorithm that cannot be had", `[RS256, PS512]`, `[RS256, HS256]`, `realms.yaml:7: realms[0].algorithms[1]: must be one of`},
		{"a rule that needs two rows", `defaultNamespace: acme`, `defaultNamespace: globex`, `realms.yaml:29: tenants[0].defaultNamespace: must be the namespace of a realm`},
		{"a rule about something missing", "    discovery: true\n", "", `realms.yaml:20: realms[1]: must have jwks, a URL, or discovery: true`},
		{"a required claim of a number", `azp: [web, app]`, `azp: 7`, `realms.yaml:17: realms[0].requiredClaims.azp: must be a list of strings, or the word any`},
		{"an empty list", `[RS256, PS512]`, `[]`, `realms.yaml:7: realms[0].algorithms: must not be an empty list`},
		{"a required claim twice", `azp: [web, app]`, `azp: any, azp: any`, `realms.yaml:17: realms[0].requiredClaims.azp: is given twice`},
		{"a token life without a unit", `12h`, `12`, `realms.yaml:18: realms[0].maxTokenLife: must be`},
		{"a negative token life", `12h`, `-12h`, `realms.yaml:18: realms[0].maxTokenLife: must be a time such as 720h`},
		{"a tenant of two namespaces", "    tenants: any", "    tenants: [33333333-3333-4333-8333-33333333333a]", `realms.yaml:24: realms[1].tenants[0]: is a tenant of realms[0] too`},
		{"not YAML", `[RS256, PS512]`, `[RS256, PS512`, `realms.yaml:8: realms file: must be YAML`},
		{"two documents", "tenants:\n  - id", "---\ntenants:\n  - id", `realms.yaml:1: realms file: must be one YAML document`},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := strings.Replace(realmsFile, row.old, row.new, 1)
			if file == realmsFile {
				t.Fatal("the row changes nothing")
			}
			c, err := auth.Parse("realms.yaml", []byte(file))
			if err == nil || !strings.HasPrefix(err.Error(), row.want) || !errors.Is(err, peal.ErrInvalid) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			if diff := cmp.Diff(auth.Config{}, c); diff != "" {
				t.Fatalf("a config with the error:\n%s", diff)
			}
		})
	}
	for _, empty := range []string{"", "\n", "null", "[]", "{}", "realms: []", "# nothing"} {
		if _, err := auth.Parse("realms.yaml", []byte(empty)); err == nil || !strings.HasPrefix(err.Error(), "realms.yaml:1: realms") {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestValidateSaysWhatIsWrong(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*auth.Config)
		want string // "" is valid
	}{
		{"as it should be", func(*auth.Config) {}, ""},
		{"no realms", func(c *auth.Config) { c.Realms = nil }, "realms: must list"},
		{"no name", func(c *auth.Config) { c.Realms[0].Name = "" }, "realms[0].name: must be 1 to 63"},
		{"a name of 63", func(c *auth.Config) { c.Realms[1].Name = strings.Repeat("r", 63) }, ""},
		{"a name of 64", func(c *auth.Config) { c.Realms[1].Name = strings.Repeat("r", 64) }, "realms[1].name: must be 1 to 63"},
		{"a name with a slash", func(c *auth.Config) { c.Realms[0].Name = "a/b" }, "realms[0].name: must"},
		{"a name with a line break", func(c *auth.Config) { c.Realms[0].Name = "acme\n" }, "realms[0].name: must"},
		{"a name that begins with a dot", func(c *auth.Config) { c.Realms[0].Name = "..a" }, "realms[0].name: must"},
		{"a name twice", func(c *auth.Config) { c.Realms[1].Name = "acme" }, "realms[1].name: is the name of realms[0] too"},
		{"a name that is no namespace", func(c *auth.Config) { c.Realms[1].Namespace = "" }, "realms[1].namespace: must be given"},
		{"a namespace that is none", func(c *auth.Config) { c.Realms[1].Namespace = "Staff" }, "realms[1].namespace: must be 1 to 63"},
		{"one namespace for two realms", func(c *auth.Config) { c.Realms[1].Namespace = "acme" }, ""},

		{"no issuer", func(c *auth.Config) { c.Realms[0].Issuer = "" }, "realms[0].issuer: must not be empty"},
		{"an issuer twice", func(c *auth.Config) { c.Realms[1].Issuer = c.Realms[0].Issuer }, "realms[1].issuer: is the issuer of realms[0] too"},
		{"an issuer that is no URL", func(c *auth.Config) { c.Realms[0].Issuer = "acme" }, ""},
		{"unless it is asked for its keys", func(c *auth.Config) { c.Realms[1].Issuer = "acme" }, "realms[1].issuer: must be an https URL"},

		{"no keys", func(c *auth.Config) { c.Realms[0].JWKS = "" }, "realms[0]: must have jwks"},
		{"keys from two places", func(c *auth.Config) { c.Realms[0].Discovery = true }, "realms[0]: must not have both"},
		{"keys from a file", func(c *auth.Config) { c.Realms[0].JWKS = "file:///etc/keys" }, "realms[0].jwks: must be an https URL"},
		{"keys from nowhere", func(c *auth.Config) { c.Realms[0].JWKS = "https:///keys" }, "realms[0].jwks: must be an https URL"},
		{"keys for a password", func(c *auth.Config) { c.Realms[0].JWKS = "https://u:p@x/keys" }, "realms[0].jwks: must be a URL without user"},
		{"keys in plain text", func(c *auth.Config) {
			c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://login.acme.example/keys", true
		}, "realms[0].jwks: must be an https URL; http is for private"},
		{"in plain text from a public address", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://8.8.8.8/keys", true }, "realms[0].jwks: must be an https URL; http is for private"},
		{"from a private network", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://10.0.0.1/keys", true }, ""},
		{"from a service of the cluster", func(c *auth.Config) {
			c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://keycloak.auth.svc/keys", true
		}, ""},
		{"from a private network, unasked", func(c *auth.Config) { c.Realms[0].JWKS = "http://10.0.0.1/keys" }, "realms[0].jwks: is http to a private address, which needs allowPrivate"},
		{"from this machine", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://127.0.0.1:1/keys", true }, ""},
		{"from this machine by name", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://localhost:1/keys", true }, ""},
		{"from this machine by IPv6", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://[::1]:1/keys", true }, ""},
		{"from this machine, unasked", func(c *auth.Config) { c.Realms[0].JWKS = "http://127.0.0.1:1/keys" }, "realms[0].jwks: is http to a private address, which needs allowPrivate"},
		{"from a name that only looks like it", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "http://localhost.evil/keys", true }, "realms[0].jwks: must be an https URL"},

		{"no audience", func(c *auth.Config) { c.Realms[0].Audiences = nil }, "realms[0].audiences: must list"},
		{"an empty audience", func(c *auth.Config) { c.Realms[0].Audiences[1] = "" }, "realms[0].audiences[1]: must not be empty"},
		{"none", func(c *auth.Config) { c.Realms[0].Algorithms = []string{"none"} }, "realms[0].algorithms[0]: must be one of"},
		{"HS512", func(c *auth.Config) { c.Realms[0].Algorithms[1] = "HS512" }, "realms[0].algorithms[1]: must be one of"},
		{"an algorithm in lower case", func(c *auth.Config) { c.Realms[0].Algorithms[1] = "es256" }, "realms[0].algorithms[1]: must be one of"},

		{"no tenants", func(c *auth.Config) { c.Realms[0].Tenants.IDs = nil }, "realms[0].tenants: must list"},
		{"a list and any", func(c *auth.Config) { c.Realms[0].Tenants.Any = true }, "realms[0].tenants: must be a list or any"},
		{"a tenant in upper case", func(c *auth.Config) { c.Realms[0].Tenants.IDs[1] = "33333333-3333-4333-8333-33333333333A" }, "realms[0].tenants[1]: must be a UUID"},
		{"a tenant of two namespaces without a default", func(c *auth.Config) {
			c.Realms[1].Tenants, c.Tenants = auth.Tenants{IDs: []peal.Tenant{other, one}}, nil
		}, "realms[1].tenants[1]: is a tenant of realms[0] too, which has another namespace"},
		{"of one namespace", func(c *auth.Config) {
			c.Realms[1].Tenants, c.Realms[1].Namespace, c.Tenants = auth.Tenants{IDs: []peal.Tenant{other, one}}, "acme", nil
		}, ""},
		{"a blank issuer", func(c *auth.Config) { c.Realms[0].Issuer = " " }, "realms[0].issuer: must not contain spaces"},
		{"an issuer with a control character", func(c *auth.Config) { c.Realms[0].Issuer += "\x1b" }, "realms[0].issuer: must not contain spaces or control"},
		{"keys from a private address by https, unasked", func(c *auth.Config) { c.Realms[0].JWKS = "https://10.0.0.1/keys" }, "realms[0].jwks: is a private address, which needs allowPrivate"},
		{"keys from a private address by https", func(c *auth.Config) { c.Realms[0].JWKS, c.Realms[0].AllowPrivate = "https://10.0.0.1/keys", true }, ""},
		{"logout tokens as access tokens", func(c *auth.Config) { c.Realms[0].Types = []string{"JWT", "application/logout+jwt"} }, "realms[0].types[1]: must not be logout+jwt"},
		{"an empty typ", func(c *auth.Config) { c.Realms[0].Types = []string{"JWT", ""} }, "realms[0].types[1]: must not be empty"},
		{"an empty audience of logouts", func(c *auth.Config) { c.Realms[0].LogoutAudiences = []string{""} }, "realms[0].logoutAudiences[0]: must not be empty"},
		{"a required claim that may be nothing", func(c *auth.Config) { c.Realms[0].RequiredClaims = map[string]auth.Values{"azp": {}} }, "realms[0].requiredClaims.azp: must be a list"},
		{"a required claim without a name", func(c *auth.Config) { c.Realms[0].RequiredClaims = map[string]auth.Values{"": {Any: true}} }, "realms[0].requiredClaims.: must name a claim"},
		{"tokens that live for less than a minute", func(c *auth.Config) { c.Realms[0].MaxTokenLife = time.Second }, "realms[0].maxTokenLife: must be 1m to"},
		{"an empty claim path", func(c *auth.Config) { c.Realms[0].Claims.Tenant[0] = "" }, "realms[0].claims.tenant[0]: must not be empty"},
		{"an empty path of roles", func(c *auth.Config) { c.Realms[0].Claims.Roles[1] = "" }, "realms[0].claims.roles[1]: must not be empty"},

		{"a tenant twice", func(c *auth.Config) { c.Tenants = append(c.Tenants, c.Tenants[0]) }, "tenants[1].id: is the id of tenants[0] too"},
		{"a tenant that is no UUID", func(c *auth.Config) { c.Tenants[0].ID = "acme" }, "tenants[0].id: must be a UUID"},
		{"a tenant of the realm for any", func(c *auth.Config) { c.Tenants[0] = auth.TenantRow{ID: other, DefaultNamespace: "backend"} }, ""},
		{"with a namespace of others", func(c *auth.Config) { c.Tenants[0].ID = other }, "tenants[0].defaultNamespace: must be the namespace of a realm"},
		{"a tenant that nobody speaks for", func(c *auth.Config) { c.Tenants[0].ID, c.Realms = other, c.Realms[:1] }, "tenants[0].id: must be a tenant that some realm"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := parsed()
			row.edit(&c)
			err := c.Validate()
			if row.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), row.want) || !errors.Is(err, peal.ErrInvalid) {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			if _, err := auth.Open(c, auth.Options{}); err == nil {
				t.Error("Open takes it")
			}
			if _, err := auth.NewDirectory(c); err == nil {
				t.Error("NewDirectory takes it")
			}
		})
	}
}

func TestDirectoryFindsTheInbox(t *testing.T) {
	realm := func(name string, ns peal.Namespace, ids ...peal.Tenant) auth.Realm {
		return auth.Realm{Name: name, Issuer: name, JWKS: "https://x/keys", Audiences: []string{"peal"}, Namespace: ns,
			Tenants: auth.Tenants{Any: len(ids) == 0, IDs: ids}}
	}
	const (
		shared   peal.Tenant = "44444444-4444-4444-8444-444444444444" // two realms, one namespace
		override peal.Tenant = "55555555-5555-4555-8555-555555555555" // one realm, but named in the service's namespace by default
	)
	realms := []auth.Realm{
		realm("acme", "", one, three, override),
		realm("globex", "", two, three),
		realm("staff-a", "staff", shared), realm("staff-b", "staff", shared),
	}
	service := realm("service", "backend")
	rows := []auth.TenantRow{{ID: override, DefaultNamespace: "backend"}, {ID: three}}
	none := rows[1:] // said to have no default

	for _, row := range []struct {
		name      string
		config    auth.Config
		tenant    peal.Tenant
		namespace peal.Namespace
		want      peal.Namespace
		refused   string // or the field
	}{
		{"the only namespace", auth.Config{Realms: realms, Tenants: none}, one, "", "acme", ""},
		{"the realm for any does not count", auth.Config{Realms: append(realms, service), Tenants: none}, one, "", "acme", ""},
		{"unless no realm lists the tenant", auth.Config{Realms: append(realms, service), Tenants: none}, other, "", "backend", ""},
		{"but it can be named", auth.Config{Realms: append(realms, service), Tenants: none}, one, "backend", "backend", ""},
		{"two realms with one namespace", auth.Config{Realms: realms, Tenants: none}, shared, "", "staff", ""},
		{"two namespaces and no default", auth.Config{Realms: realms, Tenants: none}, three, "", "", "recipients"},
		{"one of them is named", auth.Config{Realms: realms, Tenants: none}, three, "globex", "globex", ""},
		{"a default is configured", auth.Config{Realms: realms, Tenants: []auth.TenantRow{{ID: three, DefaultNamespace: "acme"}}}, three, "", "acme", ""},
		{"a row without a default changes nothing", auth.Config{Realms: realms, Tenants: []auth.TenantRow{{ID: one}, {ID: three}}}, one, "", "acme", ""},
		{"a default outweighs the only one", auth.Config{Realms: append(realms, service), Tenants: rows}, override, "", "backend", ""},
		{"another tenant's namespace", auth.Config{Realms: realms, Tenants: none}, one, "globex", "", "recipients"},
		{"a malformed namespace", auth.Config{Realms: realms, Tenants: none}, one, "*", "", "recipients"},
		{"a tenant that nobody serves", auth.Config{Realms: realms, Tenants: none}, other, "", "", "tenant"},
		{"two realms for any", auth.Config{Realms: []auth.Realm{service, realm("bot", "")}}, other, "", "", "recipients"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := auth.NewDirectory(row.config)
			if err != nil {
				t.Fatal(err)
			}
			if serves := d.Serves(row.tenant); serves != (row.refused != "tenant") {
				t.Errorf("serves %v", serves)
			}
			got, err := d.Inbox(row.tenant, peal.UserRef{ID: "jane/../*", Namespace: row.namespace})
			if row.refused != "" {
				if invalid, ok := errors.AsType[*peal.InvalidError](err); !ok || invalid.Field != row.refused {
					t.Fatalf("got %v, %v, want %s refused", got, err, row.refused)
				}
				return
			}
			if want := (peal.Inbox{Tenant: row.tenant, Namespace: row.want, User: "jane/../*"}); err != nil || got != want {
				t.Fatalf("got %v, %v, want %v", got, err, want)
			}
			if _, err := d.Inbox(row.tenant, peal.UserRef{ID: "jane\n", Namespace: row.namespace}); !errors.Is(err, peal.ErrInvalid) {
				t.Errorf("a bad user id: %v", err)
			}
		})
	}
}
