package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pealhq/peal/auth"
)

// A claim is a row of a policy: what is edited in the claims of a good token of
// acme, and what becomes of it. null is JSON's null: nil takes a claim away.
type claim struct {
	name  string
	edits map[string]any
	want  auth.Reason // "" is a good token
}

var null = json.RawMessage("null")

func wantClaims(t *testing.T, w *world, claims []claim) {
	t.Helper()
	var rows []verdict
	for _, c := range claims {
		rows = append(rows, verdict{c.name, "acme", w.token("acme", c.edits), c.want})
	}
	wantVerdicts(t, w, rows)
}

func TestIssuer(t *testing.T) {
	w := newWorld(t, nil)
	iss := func(v any) map[string]any { return map[string]any{"iss": v} }
	own := w.iss.URL("acme")
	wantClaims(t, w, []claim{
		{"as it should be", nil, ""},
		{"none", iss(nil), auth.ReasonIssuer},
		{"null", iss(null), auth.ReasonIssuer},
		{"empty", iss(""), auth.ReasonIssuer},
		{"another realm's", iss(w.iss.URL("globex")), auth.ReasonIssuer},
		{"with a slash more", iss(own + "/"), auth.ReasonIssuer},
		{"with a character less", iss(own[:len(own)-1]), auth.ReasonIssuer},
		{"with a space", iss(own + " "), auth.ReasonIssuer},
		{"with NUL", iss(own + "\x00"), auth.ReasonIssuer},
		{"in another case", iss(strings.ToUpper(own)), auth.ReasonIssuer},
		{"in a list", iss([]string{own}), auth.ReasonIssuer},
		{"in an object", iss(map[string]any{"iss": own}), auth.ReasonIssuer},
		{"a number", iss(1), auth.ReasonIssuer},
		{"Iss", map[string]any{"iss": nil, "Iss": own}, auth.ReasonIssuer},
		{"ISS beside it", map[string]any{"ISS": "x"}, ""},
		{"the realm's name", iss("acme"), auth.ReasonIssuer},
	})
}

func TestAudience(t *testing.T) {
	w := newWorld(t, nil)
	aud := func(v any) map[string]any { return map[string]any{"aud": v} }
	wantClaims(t, w, []claim{
		{"the one", aud("peal"), ""},
		{"the other", aud("peal-test"), ""},
		{"a list with it", aud([]string{"peal"}), ""},
		{"a list with it and others", aud([]string{"x", "peal", "peal-test", "peal"}), ""},
		{"none", aud(nil), auth.ReasonAudience},
		{"null", aud(null), auth.ReasonAudience},
		{"another", aud("billing"), auth.ReasonAudience},
		{"empty", aud(""), auth.ReasonAudience},
		{"an empty list", aud([]string{}), auth.ReasonAudience},
		{"a list of an empty string", aud([]string{""}), auth.ReasonAudience},
		{"a list of others", aud([]string{"billing", "account"}), auth.ReasonAudience},
		{"a list with a number", aud([]any{"peal", 1}), auth.ReasonAudience},
		{"a list with null", aud([]any{"peal", nil}), auth.ReasonAudience},
		{"a list in a list", aud([]any{[]any{"peal"}}), auth.ReasonAudience},
		{"an object", aud(map[string]any{"peal": true}), auth.ReasonAudience},
		{"a number", aud(1), auth.ReasonAudience},
		{"true", aud(true), auth.ReasonAudience},
		{"in another case", aud("Peal"), auth.ReasonAudience},
		{"the beginning of one", aud("pea"), auth.ReasonAudience},
		{"one and more", aud("peal-production"), auth.ReasonAudience},
		{"both in a string", aud("peal peal-test"), auth.ReasonAudience},
		{"with a space", aud(" peal"), auth.ReasonAudience},
		{"any", aud("*"), auth.ReasonAudience},
		{"Aud", map[string]any{"aud": nil, "Aud": "peal"}, auth.ReasonAudience},
		{"azp is none", map[string]any{"aud": nil, "azp": "peal"}, auth.ReasonAudience},
		{"client_id is none", map[string]any{"aud": "x", "client_id": "peal"}, auth.ReasonAudience},
	})
}

func TestUserClaim(t *testing.T) {
	w := newWorld(t, nil)
	sub := func(v any) map[string]any { return map[string]any{"sub": v} }
	wantClaims(t, w, []claim{
		{"a name", sub("jane"), ""},
		{"anything else that is text", sub(" ../*>.$JS.API ' OR 1=1 -- 😀"), ""},
		{"of 128 bytes", sub(strings.Repeat("j", 128)), ""},
		{"of 129 bytes", sub(strings.Repeat("j", 129)), auth.ReasonUserClaim},
		{"of 65 characters in 130 bytes", sub(strings.Repeat("é", 65)), auth.ReasonUserClaim},
		{"none", sub(nil), auth.ReasonUserClaim},
		{"null", sub(null), auth.ReasonUserClaim},
		{"empty", sub(""), auth.ReasonUserClaim},
		{"a number", sub(7), auth.ReasonUserClaim},
		{"a list", sub([]string{"jane"}), auth.ReasonUserClaim},
		{"an object", sub(map[string]any{"id": "jane"}), auth.ReasonUserClaim},
		{"a line break", sub("jane\nadmin"), auth.ReasonUserClaim},
		{"NUL", sub("jane\x00"), auth.ReasonUserClaim},
		{"a C1 control", sub("jane\u0085"), auth.ReasonUserClaim},
		{"Sub", map[string]any{"sub": nil, "Sub": "jane"}, auth.ReasonUserClaim},
		{"user is none", map[string]any{"sub": nil, "user": "jane", "preferred_username": "jane"}, auth.ReasonUserClaim},
		{"a number as jti", map[string]any{"jti": 7}, auth.ReasonMalformed},
		{"null as jti", map[string]any{"jti": null}, auth.ReasonMalformed},
		{"a list as sid", map[string]any{"sid": []string{"s"}}, auth.ReasonMalformed},
		{"an object as sid", map[string]any{"sid": map[string]any{}}, auth.ReasonMalformed},
	})
}

// A name that is there twice means one thing to whoever checks and another one
// to whoever uses it. In another case it is another name.
func TestRepeatedClaimsAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	var rows []verdict
	for _, more := range []string{
		`,"sub":"admin"`, `,"sub":"jane"`, `,"s\u0075b":"admin"`, `,"\u0073\u0075\u0062":"admin"`, `,"sub":null`, `,"iss":"x"`, `,"aud":"x"`, `,"exp":9e9`,
		`,"tenant_id":"` + string(one) + `","tenant_id":"` + string(three) + `"`, `,"tenants":[],"ten\u0061nts":["` + string(one) + `"]`,
		`,"x":1,"x":1`, `,"":1,"":1`, `,"\u00e9":1,"é":1`, `,"\ud83d\ude00":1,"😀":1`, `,"a\/b":1,"a/b":1`,
		`,"realm_access":{"roles":[],"roles":["notifications:admin"]}`, `,"realm_access":{"roles":[],"role\u0073":["notifications:admin"]}`,
		`,"x":{"y":{"z":{"a":1,"b":2,"a":1}}}`, `,"x":[1,[{"a":1,"a":2}]]`, `,"x":[{},{"a":{},"a":[]}]`,
	} {
		rows = append(rows, verdict{more, "acme", written(w, "acme", goodHeader, goodWith(more)), auth.ReasonMalformed})
	}
	for _, more := range []string{
		`,"Sub":"admin","SUB":"admin","ſub":"admin"`, `,"sub ":"admin","sub\u0000":"admin"`, `,"x":{"sub":"admin"}`, `,"x":[{"a":1},{"a":1}],"a":{"a":{"a":1}}`,
	} {
		rows = append(rows, verdict{more, "acme", written(w, "acme", goodHeader, goodWith(more)), ""})
	}
	wantVerdicts(t, w, rows)
	for _, row := range rows {
		if row.want != "" {
			continue
		}
		if got := w.verify("acme", row.token); got.User != "jane" {
			t.Errorf("%s: the user is %s, want jane", row.name, got.User)
		}
	}
}

func TestRequiredClaims(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		realmOf(c, "acme").RequiredClaims = map[string]auth.Values{
			"azp":                         {OneOf: []string{"web", "app"}},
			"email":                       {Any: true},
			"https://acme.example/groups": {OneOf: []string{"staff"}},
			"org.unit":                    {OneOf: []string{"desk"}},
		}
	})
	with := func(edits map[string]any) map[string]any {
		return edited(map[string]any{
			"azp": "web", "email": "jane@example.com", "https://acme.example/groups": []string{"staff", "x"}, "org": map[string]any{"unit": "desk"},
		}, edits)
	}
	set := func(name string, v any) map[string]any { return with(map[string]any{name: v}) }
	rows := []claim{
		{"all", with(nil), ""},
		{"none", nil, auth.ReasonClaim},
		{"the other value", set("azp", "app"), ""},
		{"a list with it", set("azp", []string{"x", "app"}), ""},
		{"a list of others", set("azp", []string{"x"}), auth.ReasonClaim},
		{"a list with a number beside it", set("azp", []any{"web", 1}), auth.ReasonClaim},
		{"an empty list", set("azp", []string{}), auth.ReasonClaim},
		{"missing", set("azp", nil), auth.ReasonClaim},
		{"null", set("azp", null), auth.ReasonClaim},
		{"another value", set("azp", "admin-cli"), auth.ReasonClaim},
		{"empty", set("azp", ""), auth.ReasonClaim},
		{"both in a string", set("azp", "web app"), auth.ReasonClaim},
		{"one and more", set("azp", "web2"), auth.ReasonClaim},
		{"in another case", set("azp", "Web"), auth.ReasonClaim},
		{"an object", set("azp", map[string]any{"web": true}), auth.ReasonClaim},
		{"true", set("azp", true), auth.ReasonClaim},
		{"Azp", with(map[string]any{"azp": nil, "Azp": "web"}), auth.ReasonClaim},
		{"any, whatever it is", set("email", 1), ""},
		{"any, even empty", set("email", ""), ""},
		{"any, but there", set("email", nil), auth.ReasonClaim},
		{"any, but not null", set("email", null), auth.ReasonClaim},
		{"dots in its name", set("https://acme.example/groups", "staff"), ""},
		{"dots in its name, another value", set("https://acme.example/groups", "guests"), auth.ReasonClaim},
		{"further down, missing", set("org", map[string]any{}), auth.ReasonClaim},
		{"further down, null", set("org", map[string]any{"unit": nil}), auth.ReasonClaim},
		{"further down, of the wrong type", set("org", "desk"), auth.ReasonClaim},
		{"further down, under a list", set("org", []any{map[string]any{"unit": "desk"}}), auth.ReasonClaim},
		{"by its dotted name", with(map[string]any{"org": nil, "org.unit": "desk"}), ""},
		{"the dotted name comes first", with(map[string]any{"org.unit": "x"}), auth.ReasonClaim},
	}
	wantClaims(t, w, rows)
	wantVerdicts(t, w, []verdict{{"another realm requires nothing", "globex", w.token("globex", nil), ""}})
}

// What only its owner may learn of a token is told last.
func TestAnExpiredTokenIsExpiredOnlyIfItIsGoodOtherwise(t *testing.T) {
	w := newWorld(t, nil)
	past := w.now.Unix() - 1
	rows := []verdict{{"expired", "acme", w.token("acme", map[string]any{"exp": past}), auth.ReasonExpired}}
	for _, c := range []claim{
		{"of another issuer", map[string]any{"iss": "x"}, auth.ReasonIssuer},
		{"for another audience", map[string]any{"aud": "x"}, auth.ReasonAudience},
		{"without a user", map[string]any{"sub": nil}, auth.ReasonUserClaim},
		{"an ID token", map[string]any{"at_hash": "x"}, auth.ReasonType},
		{"of the future", map[string]any{"nbf": w.now.Unix() + 60}, auth.ReasonNotYetValid},
	} {
		rows = append(rows, verdict{"expired and " + c.name, "acme", w.token("acme", edited(c.edits, map[string]any{"exp": past})), c.want})
	}
	expired := w.token("acme", map[string]any{"exp": past})
	forged := replaced(expired, 1, b64(fmt.Sprintf(`{"iss":%q,"aud":"peal","sub":"admin","exp":%d}`, w.iss.URL("acme"), past)))
	wantVerdicts(t, w, append(rows,
		verdict{"expired and forged", "acme", forged, auth.ReasonSignature},
		verdict{"expired and of a key that is unknown", "acme", w.sign("acme", map[string]any{"kid": "x"}, w.claims("acme", map[string]any{"exp": past})), auth.ReasonKidUnknown},
	))
}
