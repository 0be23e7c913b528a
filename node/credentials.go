package node

import (
	"strings"

	"github.com/pealhq/peal"
)

// credentials are what a request says of who is calling.
type credentials struct {
	token       string
	realm       string
	tenant      string // "" if it is not given exactly once
	tenantField string // by which it is given
}

// credentials reads the bearer token and its headers or, where it is accepted,
// the session cookie: the browser's own EventSource sends no headers, so that
// realm and tenant stand in the query then, and only then.
func (n *Node) credentials(r *request) (credentials, error) {
	if token, ok := n.session(r); ok {
		r.cookie = true
		return r.inQuery(token)
	}
	token, ok := r.bearer()
	if !ok {
		return credentials{}, peal.ErrUnauthenticated
	}
	realm, ok := r.only("Realmname")
	if !ok {
		return credentials{}, peal.ErrUnauthenticated
	}
	tenant, _ := r.only("X-Tenantid")
	return credentials{token, realm, tenant, "x-tenantid"}, nil
}

// inQuery reads what belongs to a token from the query.
func (r *request) inQuery(token string) (credentials, error) {
	query, err := r.query()
	if err != nil {
		return credentials{}, err
	}
	realm, tenant := query["realmName"], query["tenantId"]
	if len(realm) != 1 {
		return credentials{}, peal.ErrUnauthenticated
	}
	if len(tenant) != 1 {
		tenant = []string{""}
	}
	return credentials{token, realm[0], tenant[0], "tenantId"}, nil
}

// bearer returns the token of the one Authorization header.
func (r *request) bearer() (string, bool) {
	v, ok := r.only("Authorization")
	if !ok {
		return "", false
	}
	scheme, token, ok := strings.Cut(v, " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}
