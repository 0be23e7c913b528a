package auth_test

import (
	"testing"

	"github.com/pealhq/peal/auth"
)

// The header typ says which kind of token it is, if anything does (RFC 8725
// section 3.11).
func TestTypes(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) {
		realmOf(c, "globex").Types = []string{"at+jwt"}
		realmOf(c, "service").Types = []string{"application/AT+JWT", "JWT"}
	})
	const yes auth.Reason = ""
	const no, bad = auth.ReasonType, auth.ReasonMalformed
	var rows []verdict
	for _, row := range []struct {
		typ     string      // as it is in the header
		acme    auth.Reason // which has the default
		globex  auth.Reason // at+jwt
		service auth.Reason // application/AT+JWT, JWT
	}{
		{``, yes, no, no},
		{`"typ":"JWT",`, yes, no, yes},
		{`"typ":"jwt",`, yes, no, yes},
		{`"typ":"application/jwt",`, yes, no, yes},
		{`"typ":"at+jwt",`, yes, yes, yes},
		{`"typ":"AT+JWT",`, yes, yes, yes},
		{`"typ":"At+Jwt",`, yes, yes, yes},
		{`"typ":"application/at+jwt",`, yes, yes, yes},
		{`"typ":"APPLICATION/AT+JWT",`, yes, yes, yes},
		{`"Typ":"dpop+jwt",`, yes, no, no}, // it means nothing

		{`"typ":"dpop+jwt",`, no, no, no},
		{`"typ":"logout+jwt",`, no, no, no},
		{`"typ":"LOGOUT+JWT",`, no, no, no},
		{`"typ":"application/logout+jwt",`, no, no, no},
		{`"typ":"secevent+jwt",`, no, no, no},
		{`"typ":"rt+jwt",`, no, no, no},
		{`"typ":"id+jwt",`, no, no, no},
		{`"typ":"oauth-authz-req+jwt",`, no, no, no},
		{`"typ":"JOSE",`, no, no, no},
		{`"typ":"JOSE+JSON",`, no, no, no},
		{`"typ":"Bearer",`, no, no, no},
		{`"typ":"",`, no, no, no},
		{`"typ":" jwt",`, no, no, no},
		{`"typ":"jwt\u0000",`, no, no, no},
		{`"typ":"at jwt",`, no, no, no},
		{`"typ":"application/",`, no, no, no},
		{`"typ":"application/application/jwt",`, no, no, no},
		{`"typ":"text/jwt",`, no, no, no},
		{`"typ":"at+jwt; charset=utf-8",`, no, no, no},

		{`"typ":null,`, bad, bad, bad},
		{`"typ":1,`, bad, bad, bad},
		{`"typ":true,`, bad, bad, bad},
		{`"typ":["JWT"],`, bad, bad, bad},
		{`"typ":{"typ":"JWT"},`, bad, bad, bad},
		{`"typ":"JWT","typ":"at+jwt",`, bad, bad, bad},
		{`"typ":"at+jwt","t\u0079p":"dpop+jwt",`, bad, bad, bad},
	} {
		for realm, want := range map[string]auth.Reason{"acme": row.acme, "globex": row.globex, "service": row.service} {
			alg := map[string]string{"acme": "ES256", "globex": "RS256", "service": "EdDSA"}[realm]
			token := written(w, realm, `{`+row.typ+`"alg":"`+alg+`","kid":"KID"}`, goodPayload)
			rows = append(rows, verdict{realm + " " + row.typ, realm, token, want})
		}
	}
	wantVerdicts(t, w, rows)
}

// The same key signs ID tokens, refresh tokens and logout tokens, some of them
// for the same audience: none is an access token.
func TestOtherKindsOfTokensAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	const backchannel = "http://schemas.openid.net/event/backchannel-logout"
	type m = map[string]any
	var rows []verdict
	for _, row := range []struct {
		name   string
		header m
		claims m
		want   auth.Reason
	}{
		{"Keycloak's access token", nil, m{"typ": "Bearer", "azp": "web", "sid": "s"}, ""},
		{"Keycloak's access token with the nonce of the login", nil, m{"typ": "Bearer", "nonce": "n"}, ""},
		{"an access token by RFC 9068 with a nonce", m{"typ": "at+jwt"}, m{"nonce": "n"}, ""},
		{"a typ that says nothing", nil, m{"typ": "Serialized-ID"}, ""},

		{"Keycloak's ID token", nil, m{"typ": "ID"}, auth.ReasonType},
		{"Keycloak's ID token, in lower case", nil, m{"typ": "id"}, auth.ReasonType},
		{"Keycloak's ID token, though its header says at+jwt", m{"typ": "at+jwt"}, m{"typ": "ID"}, auth.ReasonType},
		{"Keycloak's refresh token", nil, m{"typ": "Refresh"}, auth.ReasonType},
		{"Keycloak's offline token", nil, m{"typ": "Offline"}, auth.ReasonType},
		{"Keycloak's logout token", nil, m{"typ": "Logout"}, auth.ReasonType},
		{"an ID token with a nonce", nil, m{"nonce": "n"}, auth.ReasonType},
		{"an ID token with an empty nonce", nil, m{"nonce": ""}, auth.ReasonType},
		{"an ID token with null as nonce", nil, m{"nonce": null}, auth.ReasonType},
		{"an ID token without typ, with a nonce", m{"typ": nil}, m{"nonce": "n"}, auth.ReasonType},
		{"an ID token with at_hash", nil, m{"at_hash": "x"}, auth.ReasonType},
		{"an ID token with c_hash", nil, m{"c_hash": "x"}, auth.ReasonType},
		{"an ID token with s_hash", nil, m{"s_hash": "x"}, auth.ReasonType},
		{"an ID token with at_hash that calls itself Bearer", m{"typ": "at+jwt"}, m{"at_hash": "x", "typ": "Bearer"}, auth.ReasonType},
		{"a logout token", m{"typ": "logout+jwt"}, m{"events": m{backchannel: m{}}, "jti": "j"}, auth.ReasonType},
		{"a logout token without events", m{"typ": "logout+jwt"}, nil, auth.ReasonType},
		{"a logout token that calls itself JWT", nil, m{"events": m{backchannel: m{}}, "jti": "j"}, auth.ReasonType},
		{"a logout token without typ", m{"typ": nil}, m{"events": m{backchannel: m{}}, "jti": "j"}, auth.ReasonType},
		{"a logout token that calls itself at+jwt", m{"typ": "at+jwt"}, m{"events": m{backchannel: m{}}, "typ": "Bearer"}, auth.ReasonType},
		{"a security event", m{"typ": "secevent+jwt"}, m{"events": m{}}, auth.ReasonType},
		{"events of null", nil, m{"events": null}, auth.ReasonType},
		{"a proof of possession", m{"typ": "dpop+jwt"}, m{"htm": "GET", "htu": "https://x"}, auth.ReasonType},
	} {
		rows = append(rows, verdict{row.name, "acme", w.sign("acme", row.header, w.claims("acme", row.claims)), row.want})
	}
	wantVerdicts(t, w, rows)
}
