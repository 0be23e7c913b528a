package auth_test

import (
	"errors"
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
