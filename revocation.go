package peal

// Revocation says whose tokens are not good any more: those that fit every
// field that is set. One without a field fits nothing. It is comparable.
type Revocation struct {
	Realm  string `json:"realm,omitempty"`
	Tenant Tenant `json:"tenant,omitempty"`

	// A user id is one in its namespace: both are set or neither.
	Namespace Namespace `json:"namespace,omitempty"`
	User      UserID    `json:"user,omitempty"`

	// Subject is the claim sub, by which an identity provider names the user
	// where it ends a session. A realm may keep the user id in another claim.
	Subject string `json:"subject,omitempty"`

	Session   string `json:"session,omitempty"`   // the claim sid
	NoSession bool   `json:"noSession,omitempty"` // the token has no sid
	TokenID   string `json:"tokenId,omitempty"`   // the claim jti
}
