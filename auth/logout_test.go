package auth_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logout is the claims of a logout token of acme that is good but for the edits.
func logout(w *world, edits map[string]any) map[string]any {
	claims := map[string]any{
		"exp": w.now.Add(2 * time.Minute).Unix(), "jti": "l1", "sid": "s1",
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	maps.Copy(claims, edits)
	return w.claims("acme", claims)
}

// OpenID Connect Back-Channel Logout 1.0, section 2.4: what a logout token must
// have and must not; 2.6: how it is checked.
func TestWhatIsALogoutToken(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		for i := range c.Realms {
			if c.Realms[i].Name == "acme" {
				c.Realms[i].LogoutAudiences = []string{"helpdesk-web", "helpdesk-app"}
				c.Realms[i].Types = []string{"at+jwt"} // which is of access tokens
			}
		}
	})
	typ := func(v any) map[string]any { return map[string]any{"typ": v} }
	const none auth.Reason = ""
	type edits = map[string]any
	for _, row := range []struct {
		name   string
		header edits
		claims edits
		want   auth.Reason
	}{
		{"as it should be", typ("logout+jwt"), nil, none},
		{"typ in full and in capitals", typ("application/Logout+JWT"), nil, none},
		{"typ JWT", typ("JWT"), nil, none},
		{"no typ", typ(nil), nil, none},
		{"typ of an access token", typ("at+jwt"), nil, auth.ReasonType},
		{"typ of another event", typ("secevent+jwt"), nil, auth.ReasonType},
		{"an empty typ", typ(""), nil, auth.ReasonType},
		{"a number as typ", typ(7), nil, auth.ReasonMalformed},

		{"none", edits{"alg": "none"}, nil, auth.ReasonAlgorithm},
		{"HS256", edits{"alg": "HS256"}, nil, auth.ReasonAlgorithm},
		{"no kid", edits{"kid": nil}, nil, auth.ReasonKidMissing},
		{"crit", edits{"crit": []string{"exp"}}, nil, auth.ReasonCrit},
		{"an unknown kid", edits{"kid": "forged"}, nil, auth.ReasonKidUnknown},
		{"an unknown kid, expired", edits{"kid": "forged"}, edits{"exp": w.now.Unix() - 1}, auth.ReasonKidUnknown},

		{"no iss", nil, edits{"iss": nil}, auth.ReasonIssuer},
		{"another realm's iss", nil, edits{"iss": w.iss.URL("globex")}, auth.ReasonIssuer},
		{"no aud", nil, edits{"aud": nil}, auth.ReasonAudience},
		{"aud of access tokens", nil, edits{"aud": "peal"}, auth.ReasonAudience},
		{"aud of one client among others", nil, edits{"aud": []string{"x", "helpdesk-app"}}, none},
		{"no iat", nil, edits{"iat": nil}, auth.ReasonClaim},
		{"iat in 31 s", nil, edits{"iat": w.now.Unix() + 31}, auth.ReasonNotYetValid},
		{"no exp", nil, edits{"exp": nil}, auth.ReasonExpiry},
		{"expired", nil, edits{"exp": w.now.Unix()}, auth.ReasonExpired},
		{"good for 31 days", nil, edits{"exp": w.now.Add(31 * 24 * time.Hour).Unix()}, auth.ReasonLifetime},
		{"no jti", nil, edits{"jti": nil}, auth.ReasonClaim},
		{"an empty jti", nil, edits{"jti": ""}, auth.ReasonClaim},
		{"a number as jti", nil, edits{"jti": 7}, auth.ReasonMalformed},

		{"no sub", nil, edits{"sub": nil}, none},
		{"no sid", nil, edits{"sid": nil}, none},
		{"neither", nil, edits{"sub": nil, "sid": nil}, auth.ReasonClaim},
		{"neither but empty ones", nil, edits{"sub": "", "sid": ""}, auth.ReasonMalformed},
		{"an empty session", nil, edits{"sid": ""}, auth.ReasonMalformed},
		{"a number as sid", nil, edits{"sid": 7}, auth.ReasonMalformed},
		{"a number as sub", nil, edits{"sub": 7}, auth.ReasonMalformed},

		{"no events", nil, edits{"events": nil}, auth.ReasonType},
		{"no event among them", nil, edits{"events": edits{}}, auth.ReasonType},
		{"another event", nil, edits{"events": edits{"http://schemas.openid.net/event/other": edits{}}}, auth.ReasonType},
		{"another event beside it", nil, edits{"events": edits{logoutEvent: edits{}, "x": edits{}}}, none},
		{"an event with members", nil, edits{"events": edits{logoutEvent: edits{"x": 1}}}, none},
		{"an event that is true", nil, edits{"events": edits{logoutEvent: true}}, auth.ReasonType},
		{"an event that is a list", nil, edits{"events": edits{logoutEvent: []any{}}}, auth.ReasonType},
		{"events as a list", nil, edits{"events": []string{logoutEvent}}, auth.ReasonType},
		{"events as a string", nil, edits{"events": logoutEvent}, auth.ReasonType},
		{"nonce", nil, edits{"nonce": "n"}, auth.ReasonType},
		{"an empty nonce", nil, edits{"nonce": ""}, auth.ReasonType},
		{"claims that nobody knows", nil, edits{"x": 1, "typ": "Logout"}, none},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := logout(w, map[string]any{"aud": "helpdesk-web"})
			for name, v := range row.claims {
				claims[name] = v
				if v == nil {
					delete(claims, name)
				}
			}
			token := w.sign("acme", row.header, claims)
			got, err := w.v.VerifyLogout(t.Context(), "acme", token)
			if refusal, _ := errors.AsType[*auth.Refusal](err); row.want == none && err != nil || row.want != none && (refusal == nil || refusal.Reason != row.want) {
				t.Fatalf("%v, want %q", err, row.want)
			}
			if row.want == none {
				sub, _ := claims["sub"].(string)
				sid, _ := claims["sid"].(string)
				want := auth.Logout{
					Realm: "acme", ID: "l1", Expires: w.now.Add(2 * time.Minute), Subject: sub, Session: sid, Keep: 30*24*time.Hour + 30*time.Second,
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("logout (-want +got):\n%s", diff)
				}
			}
			// Good or not: it opens no door.
			if access, err := w.v.Verify(t.Context(), "acme", token); err == nil {
				t.Errorf("it is an access token: %+v", access)
			}
		})
	}
}

// One issuer signs all kinds of tokens with one key, and may make them for one
// audience.
func TestNoKindOfTokenPassesForAnother(t *testing.T) {
	w := newWorld(t, nil)
	for name, token := range map[string]string{
		"an access token":              w.token("acme", map[string]any{"jti": "t1", "sid": "s1"}),
		"an access token of RFC 9068":  w.sign("acme", map[string]any{"typ": "at+jwt"}, w.claims("acme", map[string]any{"jti": "t1", "sid": "s1"})),
		"an ID token":                  w.token("acme", map[string]any{"jti": "t1", "sid": "s1", "nonce": "n", "at_hash": "h"}),
		"an ID token that has events":  w.token("acme", map[string]any{"jti": "t1", "sid": "s1", "nonce": "n", "events": map[string]any{logoutEvent: map[string]any{}}}),
		"an access token, said to be":  w.sign("acme", map[string]any{"typ": "logout+jwt"}, w.claims("acme", map[string]any{"jti": "t1", "sid": "s1"})),
		"an access token with events":  w.sign("acme", map[string]any{"typ": "at+jwt"}, logout(w, nil)),
		"a logout token of another":    w.sign("globex", nil, logout(w, map[string]any{"iss": w.iss.URL("globex")})),
		"one that another realm signs": w.sign("globex", nil, logout(w, nil)),
	} {
		if got, err := w.v.VerifyLogout(t.Context(), "acme", token); err == nil {
			t.Errorf("%s is a logout token: %+v", name, got)
		}
	}
	for _, typ := range []any{nil, "JWT", "logout+jwt", "at+jwt"} {
		token := w.sign("acme", map[string]any{"typ": typ}, logout(w, nil))
		wantRefusal(t, w, "acme", token, auth.ReasonType)
	}
	if _, err := w.v.VerifyLogout(t.Context(), "initech", w.sign("acme", nil, logout(w, nil))); err == nil {
		t.Error("a realm that does not exist has ended a session")
	}
}

func TestALogoutRevokes(t *testing.T) {
	for _, row := range []struct {
		name  string
		edits map[string]any
		want  []peal.Revocation
		ends  []string // of the tokens below
	}{
		{"a session", map[string]any{"sub": nil}, []peal.Revocation{{Realm: "acme", Session: "s1"}},
			[]string{"jane s1", "joe s1"}},
		{"a session of a subject", nil, []peal.Revocation{{Realm: "acme", Session: "s1"}, {Realm: "acme", Subject: "jane", NoSession: true}},
			[]string{"jane", "jane s1", "joe s1"}},
		{"a subject", map[string]any{"sid": nil}, []peal.Revocation{{Realm: "acme", Subject: "jane"}},
			[]string{"jane", "jane s1", "jane s2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, nil)
			tokens := map[string]string{
				"jane":    w.token("acme", nil),
				"jane s1": w.token("acme", map[string]any{"sid": "s1"}),
				"jane s2": w.token("acme", map[string]any{"sid": "s2"}),
				"joe":     w.token("acme", map[string]any{"sub": "joe"}),
				"joe s1":  w.token("acme", map[string]any{"sub": "joe", "sid": "s1"}),
			}
			for _, token := range tokens {
				w.verify("acme", token)
			}
			abroad := w.token("globex", map[string]any{"sid": "s1"})
			w.now = w.now.Add(time.Second)
			l, err := w.v.VerifyLogout(t.Context(), "acme", w.sign("acme", nil, logout(w, row.edits)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, l.Revocations()); diff != "" {
				t.Errorf("revocations (-want +got):\n%s", diff)
			}
			for _, r := range l.Revocations() {
				w.v.Revocations().Add(r, w.now, w.now.Add(l.Keep))
			}
			ended := map[string]bool{}
			for _, name := range row.ends {
				ended[name] = true
			}
			for name, token := range tokens {
				if !ended[name] {
					w.verify("acme", token)
					continue
				}
				wantRefusal(t, w, "acme", token, auth.ReasonRevoked)
			}
			w.verify("globex", abroad)
			w.verify("acme", w.token("acme", map[string]any{"sid": "s1"})) // who signs in again is in
		})
	}
}

// A realm whose access tokens are good for less than its logout tokens can sign
// its users out.
func TestALogoutTokenMayBeGoodForLongerThanAnAccessToken(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) { realmOf(c, "acme").MaxTokenLife = time.Minute })
	for life, want := range map[time.Duration]auth.Reason{
		2 * time.Minute:              "",
		10 * time.Minute:             "",
		10*time.Minute + time.Second: auth.ReasonLifetime,
	} {
		claims := logout(w, map[string]any{"exp": w.now.Add(life).Unix()})
		_, err := w.v.VerifyLogout(t.Context(), "acme", w.sign("acme", nil, claims))
		refusal, _ := errors.AsType[*auth.Refusal](err)
		if (want == "") != (err == nil) || refusal != nil && refusal.Reason != want {
			t.Errorf("good for %v: got %v, want %q", life, err, want)
		}
	}
}
