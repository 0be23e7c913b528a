package doctor

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pealhq/peal/auth"
)

// realmBound bounds what is asked of an issuer: at most two requests of 5 s each.
const realmBound = 12 * time.Second

// slowIssuer is an answer that is told of: a token with a new key waits for it, for
// at most 2 s.
const slowIssuer = 2 * time.Second

// Realms asks the issuer of each realm for its keys, as a service does.
func Realms(cfg auth.Config) []Check {
	var all []Check
	for _, r := range cfg.Realms {
		name := "realm " + r.Name
		all = append(all, Check{name, realmBound, func(ctx context.Context) []Finding {
			seen := auth.Look(ctx, r)
			findings := []Finding{keys(name, seen)}
			if seen.Dated {
				findings = append(findings, clock("clock of "+name, seen.Ahead))
			}
			return append(findings, sane(name, r)...)
		}})
	}
	return all
}

// keys judges what an issuer has answered.
func keys(check string, s auth.KeysSeen) Finding {
	switch s.How {
	case auth.RefreshUnreachable:
		return found(Trouble, check, "See that the issuer is up, and that this machine may reach it: its tokens are refused with 503 once a service that starts has no keys of it, "+
			"and after 24 h where it has some.", "%s does not answer: %v", s.URL, s.Err)
	case auth.RefreshRefused:
		return found(Trouble, check, "See that jwks (or issuer, with discovery) in the realms file is the URL where the issuer publishes its keys, and that it asks for no login.",
			"%s refuses: %v", s.URL, s.Err)
	case auth.RefreshUnusable:
		return found(Trouble, check, "See what is published there: a JSON Web Key Set with at least one public key that has a kid, for one of the realm's algorithms.",
			"%s: %s", s.URL, oneLine(s.Err))
	}
	var named []string
	for _, k := range s.Keys {
		algorithm := k.Algorithm
		if algorithm == "" {
			algorithm = k.Type
		}
		named = append(named, k.ID+" ("+algorithm+")")
	}
	seen := fmt.Sprintf("%d keys in %s: %s", len(s.Keys), round(s.Took), some(named))
	if len(s.Keys) == 1 {
		seen = fmt.Sprintf("1 key in %s: %s", round(s.Took), named[0])
	}
	switch {
	case s.Took > slowIssuer:
		return found(Warning, check, "See why the issuer is slow: the first token with a new key waits for it, and is refused after 2 s.", "%s", seen)
	case len(s.Dropped) > 0:
		var why []string
		for _, err := range s.Dropped {
			why = append(why, oneLine(err))
		}
		return found(OK, check, "", "%s; %d not used: %s", seen, len(s.Dropped), some(why))
	}
	return well(check, "%s", seen)
}

// oneLine is the text of an error that may have several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// sane says what is odd about a realm that a service takes.
func sane(check string, r auth.Realm) []Finding {
	var odd []Finding
	if strings.HasPrefix(r.JWKS, "http://") && !loopback(r.JWKS) || r.Discovery && strings.HasPrefix(r.Issuer, "http://") && !loopback(r.Issuer) {
		odd = append(odd, found(Warning, check, "Fetch the keys by https: whoever can change what is on the way can make tokens.", "its keys come by http, through a network"))
	}
	for _, audience := range r.Audiences {
		if audience == r.Issuer {
			odd = append(odd, found(Warning, check, "Name what the issuer puts into aud for this service alone.",
				"its audience %q is its issuer: tokens for every service of the issuer are good here", audience))
		}
	}
	if r.Tenants.Any {
		odd = append(odd, found(OK, check, "", "it may speak for any tenant: for a backend's own realm only"))
	}
	return odd
}

// loopback reports whether a URL leads to this machine.
func loopback(at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".localhost") || ip != nil && ip.IsLoopback()
}
