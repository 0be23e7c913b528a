// Package auth decides who is calling. A realm is an issuer of tokens with keys
// of its own and a list of the tenants it may speak for; the package holds the
// realms' keys and turns a bearer token into a Caller:
//
//	v, err := auth.Open(cfg, auth.Options{})
//	t, err := v.Verify(ctx, realm, token) // all that is 401, and 503
//	c, err := t.Caller(tenant)            // 400 and 403 of the tenant
//	err = c.May(auth.Publish)             // 403 of the role
//
// A token is held against the keys of the realm that the request names and no
// other: the name is a map key, never a part of a URL, and nothing in a token
// chooses where keys come from.
package auth
