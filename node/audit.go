package node

import (
	"fmt"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

// audit writes the one line that every administrative call leaves: what was
// done, by whom, and to what.
func (n *Node) audit(r *request, by, what string, attrs ...any) {
	n.log.Info(what, append([]any{"audit", true, "request", r.id, "by", by}, attrs...)...)
}

// onAdminPort says in an audit line who called there: nobody has to say who they are.
func (r *request) onAdminPort() string { return "admin port, " + r.RemoteAddr }

// fromNoPage refuses what a page in a browser has sent to the admin port: one in the
// operator's may reach it too, by a name that it has point here.
func (r *request) fromNoPage() error {
	if len(r.Header["Origin"]) > 0 {
		return errBrowser
	}
	return nil
}

// attrsOf names the fields that a revocation has.
func attrsOf(r peal.Revocation) (attrs []any) {
	for _, f := range []struct{ key, value string }{
		{"realm", r.Realm}, {"tenant", string(r.Tenant)}, {"namespace", string(r.Namespace)}, {"user", string(r.User)},
		{"subject", r.Subject}, {"sid", r.Session}, {"jti", r.TokenID},
	} {
		if f.value != "" {
			attrs = append(attrs, f.key, f.value)
		}
	}
	if r.NoSession {
		attrs = append(attrs, "sid", "")
	}
	return attrs
}

// nameOf says in an audit line who called.
func nameOf(c auth.Caller) string {
	return fmt.Sprintf("%s in realm %s", c.Inbox.User, c.Realm)
}
