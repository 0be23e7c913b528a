package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/auth/issuer"
	"github.com/pealhq/peal/node"
)

// What dev always has: two realms, a tenant of each, and one of both.
const (
	realmAcme   = "acme"
	realmGlobex = "globex"

	tenantAcme   peal.Tenant = "11111111-1111-4111-8111-111111111111"
	tenantGlobex peal.Tenant = "22222222-2222-4222-8222-222222222222"
	tenantShared peal.Tenant = "33333333-3333-4333-8333-333333333333"

	devData  = "./.peal"
	audience = "peal"

	rolePublish = "notifications:publish"
)

var devDefaults = defaults{data: devData, dev: true}

// dev answers peal dev.
func dev(ctx context.Context, c *call) error {
	settings, err := c.load(devDefaults, c.args)
	if err != nil {
		return err
	}
	if settings.realms != "" {
		return usagef("peal dev brings its own realms: leave out --realms, or use peal serve")
	}
	if settings.tlsCert != "" {
		return usagef("peal dev serves plain text: leave out --tls-cert, or use peal serve")
	}
	if settings.printRealms {
		return printRealms(c.stdout, settings)
	}
	settings.localOrigins = true
	s := &service{settings: settings, log: settings.logger(c.stderr)}
	defer s.close()
	if err := s.open(ctx, c.getenv); err != nil {
		return err
	}
	tokens, err := openIssuer(settings.data, s.url())
	if err != nil {
		return err
	}
	mount := map[string]http.Handler{
		"/realms/": tokens.Handler(),
		"/demo/":   demo(tokens, s.log),
	}
	if err := s.authorize(devRealms(tokens), mount); err != nil {
		return err
	}
	return s.run(ctx, c.again, func(ctx context.Context) error {
		s.awaitKeys(ctx)
		r, err := s.ready()
		if err != nil {
			return err
		}
		if err := writeDevJSON(settings.data, r); err != nil {
			return err
		}
		if settings.readyJSON {
			return printJSON(c.stdout, r)
		}
		return welcome(c.stdout, r)
	})
}

// openIssuer opens the issuer of dev's realms, whose keys live in the data
// directory, so that tokens outlive the process and peal token can mint them.
func openIssuer(data, url string) (*issuer.Issuer, error) {
	return issuer.Open(filepath.Join(data, "issuer"), url, []issuer.Realm{
		{Name: realmAcme, Algorithm: "RS256", Audience: audience},
		{Name: realmGlobex, Algorithm: "ES256", Audience: audience},
	})
}

// devRealms is the realms file of dev.
func devRealms(i *issuer.Issuer) auth.Config {
	realm := func(name string, tenants ...peal.Tenant) auth.Realm {
		return auth.Realm{
			Name: name, Issuer: i.URL(name), JWKS: i.JWKS(name), Audiences: []string{audience},
			Tenants: auth.Tenants{IDs: tenants}, AllowPrivate: true,
		}
	}
	return auth.Config{
		Realms:  []auth.Realm{realm(realmAcme, tenantAcme, tenantShared), realm(realmGlobex, tenantGlobex, tenantShared)},
		Tenants: []auth.TenantRow{{ID: tenantShared, DefaultNamespace: realmAcme}},
	}
}

// printRealms prints the realms file of a running dev, or of the one that the
// flags describe.
func printRealms(w io.Writer, s *settings) error {
	url, err := s.expectedURL()
	if r, read := readDevJSON(s.data); read == nil && !s.set["listen"] {
		url, err = r.URL, nil
	}
	if err != nil {
		return err
	}
	tokens, err := openIssuer(s.data, url)
	if err != nil {
		return err
	}
	out, err := devRealms(tokens).YAML()
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// expectedURL is the URL that a dev which listens as the flags say will have.
func (s *settings) expectedURL() (string, error) {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil || port == "0" {
		return "", usagef("--print-realms needs to know the port: start peal dev first, or give --listen one that is not 0")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || host == "127.0.0.1") {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

func devJSON(data string) string { return filepath.Join(data, "dev.json") }

// writeDevJSON tells the other commands where dev is. It is replaced at once,
// so that nobody reads half of it.
func writeDevJSON(data string, r ready) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	tmp := devJSON(data) + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, devJSON(data))
}

func readDevJSON(data string) (ready, error) {
	var r ready
	b, err := os.ReadFile(devJSON(data))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return ready{}, fmt.Errorf("no running peal dev is known in %s: start peal dev, or say --data DIR, or --url and --token", data)
	}
	return r, nil
}

// welcome tells what can be done with the running dev. Its lines work as they
// are.
func welcome(w io.Writer, r ready) error {
	self, err := os.Executable()
	if err != nil {
		self = "peal"
	}
	self = quoted(self)
	token := fmt.Sprintf("$(%s token --data %s --realm %s --tenant %s --user", self, quoted(r.Data), realmAcme, tenantAcme)
	_, err = fmt.Fprintf(w, `peal %[1]s is ready.

  demo page      %[2]s/demo/
  follow jane    %[3]s tail --data %[4]s --user jane
  tell jane      %[3]s publish --data %[4]s --to jane --type mention
  her inbox      %[3]s inbox list --data %[4]s --user jane

  the same with curl:

curl -N %[2]s%[5]s/ticket/sse/notifications -H 'realmname: %[6]s' -H 'x-tenantid: %[7]s' -H "Authorization: Bearer %[8]s jane)"

curl %[2]s%[5]s/ticket/notification -H 'realmname: %[6]s' -H 'x-tenantid: %[7]s' -H "Authorization: Bearer %[8]s desk --role %[9]s)" -H 'Content-Type: application/json' -d '%[10]s'

  status page    %[11]s/
  metrics        %[11]s/metrics
  stop           Ctrl-C
`, r.Version, r.URL, self, quoted(r.Data), node.Base, realmAcme, tenantAcme, token, rolePublish,
		`{"recipients":["jane"],"notification":{"type":"assignment","ticketId":"12345","ticketNumber":"INC-2024-001234","title":"VPN Connection Issue","message":"You have been assigned ticket INC-2024-001234"}}`,
		r.Admin)
	return err
}

// quoted makes one word of s for a shell.
func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-+@", c))
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
