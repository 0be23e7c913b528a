package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/cmd/peal/bench"
	"github.com/pealhq/peal/cmd/peal/doctor"
	"github.com/pealhq/peal/node"
)

// doctorFlags are those that doctor has besides those of serve.
type doctorFlags struct {
	through     string
	caller      target // token, realm and tenant
	origin      string
	wait        time.Duration
	within      time.Duration
	publish     bool
	connections int
	json        bool
}

// maxWatch bounds --wait.
const maxWatch = 10 * time.Minute

// runDoctor answers peal doctor.
func runDoctor(ctx context.Context, c *call) error {
	s := newSettings(serveDefaults)
	fs := c.flags()
	given := s.register(fs, nil)
	f := doctorFlags{caller: target{getenv: c.getenv}}
	fs.StringVar(&f.through, "through", "", "`URL` of the service as its clients reach it, through all proxies; alone, only that way is looked at")
	fs.StringVar(&f.caller.token, "token", "", "with --through: bearer `TOKEN` to connect with; better in the environment as PEAL_TOKEN")
	fs.StringVar(&f.caller.realm, "realm", realmAcme, "`REALM` of the token")
	fs.StringVar(&f.caller.tenant, "tenant", string(tenantAcme), "`TENANT` to speak for")
	fs.StringVar(&f.origin, "origin", "", "with --through: `ORIGIN` of pages that use the API, such as https://app.example.com")
	fs.DurationVar(&f.wait, "wait", 65*time.Second, "with --through: watch a connection for at most `D`, for heartbeats and idle timeouts")
	fs.DurationVar(&f.within, "within", time.Second, "with --through: what the service writes has to come within `D`")
	fs.BoolVar(&f.publish, "publish", false, "with --through: tell the bearer of the token something, which stays in the inbox, and see how soon it comes")
	fs.IntVar(&f.connections, "connections", 10_000, "connections that are expected on a node, `N`")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	if err := c.parse(fs, c.args); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	wrong := s.gather(c.getenv, given)
	local := wrong != nil || len(s.set) > 0 || s.configFile != ""
	if !local && f.through == "" {
		return usagef("say what to look at: the flags of peal serve, such as --config FILE, or --through URL, or both")
	}
	var checks []doctor.Check
	if local {
		checks = append(checks, s.examination(ctx, wrong, f.connections)...)
	}
	if f.through != "" {
		checks = append(checks, f.proxy().Checks()...)
	}
	return c.examine(ctx, checks, f)
}

func (f *doctorFlags) check() error {
	f.through = strings.TrimSuffix(f.through, "/")
	switch {
	case f.through != "" && (!isServiceURL(f.through) || strings.ContainsAny(f.through, "@?#")):
		return usagef("--through must be a URL such as https://peal.example.com, without a user or a query")
	case f.origin != "" && !isOrigin(f.origin):
		return usagef("--origin must be an origin as a browser sends it, such as https://app.example.com")
	case f.wait < time.Second || f.wait > maxWatch:
		return usagef("--wait must be 1s to %v", maxWatch)
	case f.within <= 0:
		return usagef("--within must be more than 0")
	case f.connections < 1:
		return usagef("--connections must be at least 1")
	case f.through == "" && (f.publish || f.origin != "" || f.caller.token != ""):
		return usagef("--token, --origin and --publish are for --through URL")
	}
	if _, err := peal.ParseTenant(f.caller.tenant); err != nil {
		return usagef("--%v", err)
	}
	return nil
}

func (f *doctorFlags) proxy() doctor.Proxy {
	p := doctor.Proxy{URL: f.through, Base: node.Base, Origin: f.origin, Wait: f.wait, Within: f.within, Publish: f.publish}
	if token := f.caller.bearer(); token != "" {
		p.Header = f.caller.header(token)
	}
	return p
}

// configurationDo is what to do about a configuration that is not good.
const configurationDo = "Mend it, and look again: peal config check says the same. peal config print shows every setting."

// examination lists what is to be looked at where the service runs. wrong is why the
// settings could not be read.
func (s *settings) examination(ctx context.Context, wrong error, connections int) []doctor.Check {
	var findings []doctor.Finding
	const check = "configuration"
	for _, err := range []func() error{func() error { return wrong }, s.check, s.placed} {
		if err := err(); err != nil {
			return told(check, append(findings, doctor.Finding{Check: check, Status: doctor.Trouble, Seen: err.Error(), Do: configurationDo}))
		}
	}
	realms, of, err := s.knownRealms()
	if err != nil {
		findings = append(findings, doctor.Finding{Check: check, Status: doctor.Trouble, Seen: err.Error(), Do: configurationDo})
	} else {
		seen := fmt.Sprintf("%s good, %d realms", of, len(realms.Realms))
		if s.configFile != "" {
			seen = s.configFile + " and " + seen
		}
		findings = append(findings, doctor.Finding{Check: check, Status: doctor.OK, Seen: seen})
	}
	if s.natsCreds != "" {
		findings = append(findings, doctor.Secret("nats credentials", "--nats-creds", s.natsCreds))
	}
	if s.natsKey != "" {
		findings = append(findings, doctor.Secret("nats key", "nats-key", s.natsKey))
	}
	if s.tlsKey != "" {
		findings = append(findings, doctor.Secret("certificate key", "--tls-key", s.tlsKey))
	}
	checks := told(check, findings)
	checks = append(checks, s.store()...)
	checks = append(checks, doctor.Realms(realms)...)

	service := doctor.Service{Listen: s.listen, Admin: s.admin, Base: node.Base}
	if certificate, err := s.certificate(); err == nil && certificate != nil {
		service.Certificate = &certificate.Certificates[0]
	}
	machine := doctor.Machine{Connections: connections}
	if service.Running(ctx) {
		machine.PID = bench.System.Listener(nearby(s.admin))
	}
	checks = append(checks, service.Checks()...)
	return append(checks, machine.Limits()...)
}

// told is what is known already.
func told(name string, findings []doctor.Finding) []doctor.Check {
	return []doctor.Check{{Name: name, Bound: time.Second, Look: func(context.Context) []doctor.Finding { return findings }}}
}

// nearby is the address by which this machine reaches a listener.
func nearby(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}

// knownRealms are those of the realms file, or of the peal dev that uses the data
// directory, whose ports are then taken over too.
func (s *settings) knownRealms() (cfg auth.Config, of string, err error) {
	running, notDev := readDevJSON(s.data)
	if s.realms != "" || s.data == "" || notDev != nil {
		cfg, _, err = s.readRealms()
		return cfg, s.realms + " are", err
	}
	if err := hasIssuer(s.data); err != nil {
		return cfg, "", err
	}
	tokens, err := openIssuer(s.data, running.URL)
	if err != nil {
		return cfg, "", err
	}
	for _, port := range []struct{ name, url string }{{"listen", running.URL}, {"admin", running.Admin}} {
		if !s.set[port.name] {
			_, address, _ := strings.Cut(port.url, "://")
			if err := s.put(port.name, address); err != nil {
				return cfg, "", err
			}
		}
	}
	if s.natsListen == "" {
		_, s.natsListen, _ = strings.Cut(running.NATS, "://")
	}
	return devRealms(tokens), "those of peal dev are", nil
}

// hasIssuer reports why the keys of dev's realms can't be opened without being made.
func hasIssuer(data string) error {
	for _, realm := range []string{realmAcme, realmGlobex} {
		dir := filepath.Join(data, "issuer", realm)
		if keys, err := filepath.Glob(filepath.Join(dir, "*.jwk")); err != nil || len(keys) == 0 {
			return fmt.Errorf("%s has no keys of realm %s, though a peal dev has run on %s: start it again, or say --realms FILE", dir, realm, data)
		}
	}
	return nil
}

// store lists what there is to look at of JetStream: a cluster, or the data directory
// and, where it has a listener, the server on it.
func (s *settings) store() []doctor.Check {
	cfg := s.busConfig(slog.New(slog.DiscardHandler))
	if s.nats != "" {
		return doctor.NATS(cfg, s.has(roleEdge), s.has(roleDispatch))
	}
	checks := []doctor.Check{doctor.Disk(s.data)}
	if s.natsListen == "" || strings.HasSuffix(s.natsListen, ":0") {
		return append(checks, told("nats", []doctor.Finding{{Check: "nats", Status: doctor.Skipped,
			Seen: "embedded, and without --nats-listen nobody else gets in: the metrics on the admin port tell of it"}})...)
	}
	cfg.URLs = []string{"nats://" + nearby(s.natsListen)}
	cfg.Replicas, cfg.Partitions = cmp.Or(cfg.Replicas, 1), cmp.Or(cfg.Partitions, 1)
	return append(checks, doctor.NATS(cfg, s.has(roleEdge), s.has(roleDispatch))...)
}

// examine runs the checks and prints what they find.
func (c *call) examine(ctx context.Context, checks []doctor.Check, f doctorFlags) error {
	var all []doctor.Finding
	columns, isTerminal := terminalOf(c.stdout)
	if !isTerminal {
		columns = 0
	} else if f.through != "" && f.caller.bearer() != "" && !f.json {
		fmt.Fprintf(c.stderr, "A connection is watched for up to %v.\n", f.wait)
	}
	var failed error
	err := doctor.Run(ctx, checks, func(findings []doctor.Finding) {
		all = append(all, findings...)
		if f.json {
			return
		}
		for _, found := range findings {
			failed = errors.Join(failed, show(c.stdout, columns, found))
		}
	})
	if err = errors.Join(failed, err); err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped before all was looked at")
		}
		return err
	}
	tally := doctor.Tally(all)
	if f.json {
		out, err := json.Marshal(struct {
			Version  string                `json:"version"`
			Tally    map[doctor.Status]int `json:"tally"`
			Findings []doctor.Finding      `json:"findings"`
		}{version, tally, all})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.stdout, "%s\n", plainJSON(out)); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(c.stdout, "\n%d ok, %d warning, %d trouble, %d skipped\n",
		tally[doctor.OK], tally[doctor.Warning], tally[doctor.Trouble], tally[doctor.Skipped]); err != nil {
		return err
	}
	if n := tally[doctor.Trouble]; n > 0 {
		return fmt.Errorf("%d of %d findings are trouble: do what they say, and look again", n, len(all))
	}
	return nil
}

// Widths of the columns that come first, in runes.
const (
	statusWidth = 9
	checkWidth  = 22
)

// show prints a finding, and below it what to do. On a terminal of so many columns
// lines are broken between words; 0 is none.
func show(w io.Writer, columns int, f doctor.Finding) error {
	head := fmt.Sprintf("%-*s%-*s", statusWidth, f.Status, checkWidth-1, plain(f.Check)) + " "
	if err := paragraph(w, columns, head, statusWidth+checkWidth, f.Seen); err != nil || f.Do == "" {
		return err
	}
	for i, line := range strings.Split(f.Do, "\n") {
		mark := "- "
		if i == 0 {
			mark = "> "
		}
		if err := paragraph(w, columns, strings.Repeat(" ", statusWidth)+mark, statusWidth+len(mark), line); err != nil {
			return err
		}
	}
	return nil
}

// paragraph prints text behind a head, and on further lines behind so many spaces.
func paragraph(w io.Writer, columns int, head string, indent int, text string) error {
	const least = 20 // of a line
	line, empty := head, true
	for _, word := range strings.Fields(plain(strings.ReplaceAll(text, "\n", " "))) {
		if !empty && columns > 0 && width(line)+1+width(word) > max(columns, indent+least) {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
			line, empty = strings.Repeat(" ", indent), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
	return err
}
