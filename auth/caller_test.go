package auth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

func TestTenantIsGranted(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			if c.Realms[i].Name == "globex" {
				c.Realms[i].Claims.Tenant = []string{"https://globex.example/tenant", "org.tenant"}
			}
		}
	})
	type claims = map[string]any
	for _, row := range []struct {
		name   string
		realm  string
		claims claims
		tenant string
		want   error
	}{
		{"a realm speaks for its tenants", "acme", nil, string(one), nil},
		{"and for all of them", "acme", nil, string(three), nil},
		{"in whatever case", "service", nil, "ABCDEF00-1111-4111-8111-111111111111", nil},
		{"but not for others", "acme", nil, string(two), peal.ErrForbidden},
		{"a claim narrows", "acme", claims{"tenant_id": string(one)}, string(one), nil},
		{"to what it says", "acme", claims{"tenant_id": string(one)}, string(three), peal.ErrForbidden},
		{"a claim never widens", "acme", claims{"tenant_id": string(two)}, string(two), peal.ErrForbidden},
		{"nor falls back to the realm's list", "acme", claims{"tenant_id": string(two)}, string(one), peal.ErrForbidden},
		{"a list narrows", "acme", claims{"tenants": []string{string(two), string(three)}}, string(three), nil},
		{"to what it says too", "acme", claims{"tenants": []string{string(two), string(three)}}, string(one), peal.ErrForbidden},
		{"a list never widens", "acme", claims{"tenants": []string{string(two), string(three)}}, string(two), peal.ErrForbidden},
		{"tenant_id comes before tenants", "acme", claims{"tenant_id": string(one), "tenants": []string{string(three)}}, string(three), peal.ErrForbidden},
		{"a claim in upper case", "service", claims{"tenant_id": "ABCDEF00-1111-4111-8111-111111111111"}, "abcdef00-1111-4111-8111-111111111111", nil},

		{"an empty claim grants nothing", "acme", claims{"tenant_id": ""}, string(one), peal.ErrForbidden},
		{"null grants nothing", "acme", claims{"tenant_id": (*int)(nil)}, string(one), peal.ErrForbidden},
		{"an empty list grants nothing", "acme", claims{"tenants": []string{}}, string(one), peal.ErrForbidden},
		{"a number grants nothing", "acme", claims{"tenant_id": 1}, string(one), peal.ErrForbidden},
		{"an object grants nothing", "acme", claims{"tenant_id": claims{"id": string(one)}}, string(one), peal.ErrForbidden},
		{"a list with a number grants nothing", "acme", claims{"tenants": []any{string(one), 1}}, string(one), peal.ErrForbidden},
		{"a list with a bad id grants nothing", "acme", claims{"tenants": []any{string(one), "x"}}, string(one), peal.ErrForbidden},
		{"any is no tenant in a claim", "service", claims{"tenant_id": "any"}, string(one), peal.ErrForbidden},

		{"a realm for any speaks for all", "service", nil, string(other), nil},
		{"a claim narrows it", "service", claims{"tenant_id": string(one)}, string(two), peal.ErrForbidden},

		{"a claim with dots in its name", "globex", claims{"https://globex.example/tenant": string(two)}, string(three), peal.ErrForbidden},
		{"a claim further down", "globex", claims{"org": claims{"tenant": string(two)}}, string(two), nil},
		{"narrows", "globex", claims{"org": claims{"tenant": string(two)}}, string(three), peal.ErrForbidden},
		{"a branch without it says nothing", "globex", claims{"org": claims{}}, string(three), nil},
		{"a branch of the wrong type grants nothing", "globex", claims{"org": "x"}, string(three), peal.ErrForbidden},
		{"the default paths are not looked at", "globex", claims{"tenant_id": string(two)}, string(three), nil},

		{"no tenant", "acme", nil, "", peal.ErrInvalid},
		{"not a UUID", "acme", nil, "acme", peal.ErrInvalid},
		{"a UUID in braces", "acme", nil, "{" + string(one) + "}", peal.ErrInvalid},
		{"two of them", "acme", nil, string(one) + "," + string(three), peal.ErrInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			// A nil pointer is how the claims say null: a nil value takes one away.
			token := w.verify(row.realm, w.token(row.realm, row.claims))
			c, err := token.Caller(row.tenant)
			if !errors.Is(err, row.want) || (err == nil) != (row.want == nil) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
			if err != nil {
				if c != (auth.Caller{}) {
					t.Fatalf("a caller with the error: %+v", c)
				}
				return
			}
			if want := strings.ToLower(row.tenant); string(c.Inbox.Tenant) != want {
				t.Fatalf("tenant %s, want %s", c.Inbox.Tenant, want)
			}
		})
	}
	_, err := w.verify("acme", w.token("acme", nil)).Caller("x")
	if invalid, ok := errors.AsType[*peal.InvalidError](err); !ok || invalid.Field != "x-tenantid" {
		t.Fatalf("got %v, want the field x-tenantid", err)
	}
}

// The realm's own key vouches for the token, and the token names tenants that
// are not the realm's, or are nothing: it opens none at all, neither those nor
// the realm's own, but the one that it names and the realm lists.
func TestATenantClaimOnlyNarrows(t *testing.T) {
	w := newWorld(t, nil)
	type m = map[string]any
	id := func(t peal.Tenant) string { return string(t) }
	all := []peal.Tenant{one, two, three, other}
	for _, row := range []struct {
		name   string
		claims m
		opens  []peal.Tenant // of acme's one and three
	}{
		{"none", nil, []peal.Tenant{one, three}},
		{"Tenant_ID means nothing", m{"Tenant_ID": id(two), "TENANTS": []string{id(two)}}, []peal.Tenant{one, three}},
		{"tenant means nothing", m{"tenant": id(two), "org": m{"tenant_id": id(two)}}, []peal.Tenant{one, three}},

		{"another realm's", m{"tenant_id": id(two)}, nil},
		{"nobody's", m{"tenant_id": id(other)}, nil},
		{"another realm's in a list", m{"tenants": []string{id(two)}}, nil},
		{"others' in a list", m{"tenants": []string{id(two), id(other)}}, nil},
		{"another realm's, and one of its own in the other claim", m{"tenant_id": id(two), "tenants": []string{id(one)}}, nil},
		{"another realm's beside its own", m{"tenants": []string{id(two), id(one)}}, []peal.Tenant{one}},
		{"its own", m{"tenant_id": id(one)}, []peal.Tenant{one}},
		{"its own in a list", m{"tenants": []string{id(three)}}, []peal.Tenant{three}},
		{"its own as a list in the other claim", m{"tenant_id": []string{id(one), id(three)}}, []peal.Tenant{one, three}},
		{"its own as a string in the other claim", m{"tenants": id(one)}, []peal.Tenant{one}},
		{"nobody's in upper case", m{"tenant_id": "ABCDEF00-1111-4111-8111-111111111111"}, nil},
		{"twice", m{"tenants": []string{id(one), id(one)}}, []peal.Tenant{one}},

		{"empty", m{"tenant_id": ""}, nil},
		{"null", m{"tenant_id": null}, nil},
		{"null, and one in the other claim", m{"tenant_id": null, "tenants": []string{id(one)}}, nil},
		{"an empty list", m{"tenants": []string{}}, nil},
		{"a list of null", m{"tenants": []any{nil}}, nil},
		{"a list with null", m{"tenants": []any{id(one), nil}}, nil},
		{"a list with a number", m{"tenants": []any{id(one), 1}}, nil},
		{"a list with a list", m{"tenants": []any{id(one), []string{id(three)}}}, nil},
		{"a list with an object", m{"tenants": []any{m{"id": id(one)}}}, nil},
		{"a list with an empty string", m{"tenants": []string{id(one), ""}}, nil},
		{"a list with what is no UUID", m{"tenants": []string{id(one), "x"}}, nil},
		{"an object", m{"tenant_id": m{"id": id(one)}}, nil},
		{"an object by ids", m{"tenants": m{id(one): m{"roles": []string{"a"}}}}, nil},
		{"a number", m{"tenant_id": 1}, nil},
		{"true", m{"tenant_id": true}, nil},
		{"a space in front", m{"tenant_id": " " + id(one)}, nil},
		{"a space behind", m{"tenant_id": id(one) + " "}, nil},
		{"two in a string", m{"tenant_id": id(one) + " " + id(three)}, nil},
		{"two in a string, with a comma", m{"tenants": id(one) + "," + id(three)}, nil},
		{"in braces", m{"tenant_id": "{" + id(one) + "}"}, nil},
		{"a URN", m{"tenant_id": "urn:uuid:" + id(one)}, nil},
		{"without hyphens", m{"tenant_id": strings.ReplaceAll(id(one), "-", "")}, nil},
		{"NUL behind", m{"tenant_id": id(one) + "\x00"}, nil},
		{"any", m{"tenant_id": "any"}, nil},
		{"a star", m{"tenant_id": "*"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			token := w.verify("acme", w.token("acme", row.claims))
			for _, tenant := range all {
				c, err := token.Caller(string(tenant))
				switch opens := slices.Contains(row.opens, tenant); {
				case opens && (err != nil || c.Inbox != peal.Inbox{Tenant: tenant, Namespace: "acme", User: "jane"}):
					t.Errorf("%s: %v, %v, want a caller", tenant, c.Inbox, err)
				case !opens && (!errors.Is(err, peal.ErrForbidden) || c != auth.Caller{}):
					t.Errorf("%s: %+v, %v, want it forbidden", tenant, c, err)
				}
			}
		})
	}
}

func TestRolesAllow(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			if r := &c.Realms[i]; r.Name == "globex" {
				r.Claims.Roles = []string{"https://globex.example/roles"}
				r.Roles = auth.RoleNames{Connect: "agent", Publish: "bot", Admin: "boss", Tickets: "lead"}
			}
		}
	})
	type claims = map[string]any
	const publish, admin, tickets = "notifications:publish", "notifications:admin", "tickets:all"
	for _, row := range []struct {
		name   string
		realm  string
		claims claims
		want   []auth.Role
	}{
		{"everybody may connect", "acme", nil, []auth.Role{auth.Connect}},
		{"realm_access.roles", "acme", claims{"realm_access": claims{"roles": []string{publish}}}, []auth.Role{auth.Connect, auth.Publish}},
		{"roles", "acme", claims{"roles": []string{admin}}, []auth.Role{auth.Connect, auth.Admin}},
		{"scope", "acme", claims{"scope": "openid  " + tickets}, []auth.Role{auth.Connect, auth.Tickets}},
		{"all of them add up", "acme", claims{"realm_access": claims{"roles": []string{publish}}, "roles": admin, "scope": tickets},
			[]auth.Role{auth.Connect, auth.Publish, auth.Admin, auth.Tickets}},
		{"the claim of that very name, dots and all", "acme", claims{"realm_access.roles": []string{publish}}, []auth.Role{auth.Connect, auth.Publish}},
		{"an element of a list is one role", "acme", claims{"roles": []string{"x " + publish}}, []auth.Role{auth.Connect}},
		{"a list with a number is no list of roles", "acme", claims{"roles": []any{publish, 1}}, []auth.Role{auth.Connect}},
		{"case counts", "acme", claims{"roles": []string{"Notifications:Publish"}, "Roles": []string{publish}}, []auth.Role{auth.Connect}},
		{"a prefix is not enough", "acme", claims{"roles": []string{publish + ":x", "notifications"}}, []auth.Role{auth.Connect}},
		{"a realm that wants a role for connecting", "globex", nil, nil},
		{"names of the realm's own", "globex", claims{"https://globex.example/roles": []string{"agent", "boss"}}, []auth.Role{auth.Connect, auth.Admin}},
		{"take the place of ours", "globex", claims{"https://globex.example/roles": []string{publish}, "roles": []string{"bot"}}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			token := w.verify(row.realm, w.token(row.realm, row.claims))
			c, err := token.Caller(string(three))
			if err != nil {
				t.Fatal(err)
			}
			for _, role := range []auth.Role{auth.Connect, auth.Publish, auth.Admin, auth.Tickets} {
				want := false
				for _, r := range row.want {
					want = want || r == role
				}
				if err := c.May(role); (err == nil) != want || (err != nil && !errors.Is(err, peal.ErrForbidden)) {
					t.Errorf("may %v: %v, want allowed %v", role, err, want)
				}
				if err := token.May(role); (err == nil) != want {
					t.Errorf("the token may %v: %v, want allowed %v", role, err, want)
				}
			}
		})
	}
	if (auth.Caller{}).May(auth.Connect) == nil || (auth.Caller{}).May(0) == nil {
		t.Error("the zero Caller may do something")
	}
}

func TestTokenTellsItsTenants(t *testing.T) {
	w := newWorld(t, nil)
	type claims = map[string]any
	for _, row := range []struct {
		name   string
		realm  string
		claims claims
		want   auth.Tenants
	}{
		{"the realm's", "acme", nil, auth.Tenants{IDs: []peal.Tenant{one, three}}},
		{"any", "service", nil, auth.Tenants{Any: true}},
		{"narrowed", "acme", claims{"tenant_id": string(three)}, auth.Tenants{IDs: []peal.Tenant{three}}},
		{"narrowed from any, each once", "service", claims{"tenants": []string{string(two), string(one), string(two)}}, auth.Tenants{IDs: []peal.Tenant{two, one}}},
		{"never widened", "acme", claims{"tenants": []string{string(two), string(one)}}, auth.Tenants{IDs: []peal.Tenant{one}}},
		{"none", "acme", claims{"tenant_id": "x"}, auth.Tenants{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := w.verify(row.realm, w.token(row.realm, row.claims)).Tenants()
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Fatalf("tenants (-want +got):\n%s", diff)
			}
		})
	}
}
