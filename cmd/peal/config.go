package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// settings is the effective configuration of dev and serve. Each comes from
// the configuration file, the environment and the flags; the later wins.
type settings struct {
	listen, admin   string
	tlsCert, tlsKey string
	data            string
	nats            string // URLs, separated by commas
	natsCreds       string
	natsCA          string
	natsCert        string
	natsKey         string
	natsListen      string
	realms          string // path of the realms file
	region          string
	regions         string // separated by commas
	home            string // a region
	homes           string // TENANT=REGION, separated by commas
	partitions      int
	replicas        int
	retain          time.Duration
	perInbox        int
	durables        int
	maxPerUser      int
	withoutNATS     string // what the limit does then: refuse or local
	perUser         int    // connects a second
	perAddress      int    // connects a second
	requests        int    // of a user for their inbox, a second
	perTenant       int    // ticket events a second
	heartbeat       time.Duration
	drainDelay      time.Duration
	drainWindow     time.Duration
	awayLimit       time.Duration
	maxAge          time.Duration // of a connection
	roles           string        // separated by commas
	templates       templates
	actionHosts     string // separated by commas
	corsOrigins     string // separated by commas
	localOrigins    bool   // set by dev alone
	cookieSessions  bool
	metricsTenants  string // separated by commas
	logFormat       string
	readyJSON       bool
	printRealms     bool
	configFile      string
	set             map[string]bool // by name: given by somebody, not a default
	registered      []setting
}

// setting is one key: --name, PEAL_NAME, and name in the file.
type setting struct {
	name     string
	help     string
	value    flag.Value
	fileOnly bool       // no flag: for what is decided once, not at each start
	list     bool       // may be a list in the file
	flagOnly bool       // not in the file or the environment
	tree     *templates // has the value instead: it is a mapping, in the file alone
}

// defaults of a command, where they differ from the production ones.
type defaults struct {
	data        string
	drainDelay  time.Duration
	drainWindow time.Duration
	dev         bool
	only        []string // the flags that there are, beside those of more; nil: all
	more        func(*flag.FlagSet)
}

func newSettings(d defaults) *settings {
	s := &settings{set: make(map[string]bool)}
	str := func(p *string, def string) flag.Value { *p = def; return (*stringValue)(p) }
	num := func(p *int, def int) flag.Value { *p = def; return (*intValue)(p) }
	dur := func(p *time.Duration, def time.Duration) flag.Value { *p = def; return (*durationValue)(p) }
	on := func(p *bool) flag.Value { return (*boolValue)(p) }
	s.registered = []setting{
		{name: "listen", help: "`HOST:PORT` of the public port; port 0 chooses one", value: str(&s.listen, ":8080")},
		{name: "admin", help: "`HOST:PORT` of the admin port; port 0 chooses one", value: str(&s.admin, "127.0.0.1:8081")},
		{name: "tls-cert", help: "`FILE` with the certificate chain of the public port", value: str(&s.tlsCert, "")},
		{name: "tls-key", help: "`FILE` with the key of the certificate", value: str(&s.tlsKey, "")},
		{name: "data", help: "`DIR` for the embedded JetStream", value: str(&s.data, d.data)},
		{name: "nats", help: "`URL[,URL]` of a NATS cluster, instead of the embedded JetStream", value: str(&s.nats, ""), list: true},
		{name: "nats-creds", help: "`FILE` with NATS credentials", value: str(&s.natsCreds, "")},
		{name: "nats-ca", help: "`FILE` with the certificates that vouch for the NATS servers; without it those that the machine trusts", value: str(&s.natsCA, ""), fileOnly: true},
		{name: "nats-cert", help: "`FILE` with the certificate that this process shows to the NATS servers", value: str(&s.natsCert, ""), fileOnly: true},
		{name: "nats-key", help: "`FILE` with the key of that certificate", value: str(&s.natsKey, ""), fileOnly: true},
		{name: "nats-listen", help: "`HOST:PORT` on which the embedded NATS takes other clients; without it, none", value: str(&s.natsListen, "")},
		{name: "realms", help: "realms `FILE`: who issues tokens, for which tenants; read again when it changes, and on SIGHUP", value: str(&s.realms, "")},
		{name: "region", help: "`NAME` of this region", value: str(&s.region, "local")},
		{name: "max-connections-per-user", help: "open connections of a user on a route in the whole cluster, `N`; 0: no bound", value: num(&s.maxPerUser, 5)},
		{name: "heartbeat", help: "time between heartbeats, `D`", value: dur(&s.heartbeat, 30*time.Second)},
		{name: "drain-window", help: "time over which connections are let go when the node ends, `D`", value: dur(&s.drainWindow, d.drainWindow)},
		{name: "log-format", help: "`text|json`", value: str(&s.logFormat, "text")},
		{name: "config", help: "configuration `FILE`", value: str(&s.configFile, ""), flagOnly: true},
		{name: "ready-json", help: "print one line of JSON on standard output once ready", value: on(&s.readyJSON), flagOnly: true},

		{name: "drain-delay", help: "how long the node goes on, not ready, before it drains", value: dur(&s.drainDelay, d.drainDelay), fileOnly: true},
		{name: "away-limit", help: "how long NATS may be away before connections are let go, over the drain window, to look for a node that has it; 0: they stay", value: dur(&s.awayLimit, 5*time.Minute), fileOnly: true},
		{name: "max-connection-age", help: "how long a connection stays open, a tenth more or less; 0: without a bound", value: dur(&s.maxAge, 0), fileOnly: true},
		{name: "limit-without-nats", help: "when JetStream does not say how many connections a user has in the cluster: `refuse|local`, refuse new ones or count those of this node", value: str(&s.withoutNATS, limitRefuse), fileOnly: true},
		{name: "connects-per-user", help: "connects of a user a second, after a burst of 30 seconds' worth; 0: no bound", value: num(&s.perUser, 2), fileOnly: true},
		{name: "connects-per-address", help: "connects from an address a second, after a burst of 10 seconds' worth; behind a proxy that is the proxy's address; 0: no bound", value: num(&s.perAddress, 1000), fileOnly: true},
		{name: "requests-per-user", help: "requests of a user for their inbox a second, after a burst of 10 seconds' worth; 0: no bound", value: num(&s.requests, 50), fileOnly: true},
		{name: "templates", help: "words of notifications: a mapping of all, or a tenant, to types, to title, message and actionUrl; absent: the default ones", tree: &s.templates, fileOnly: true},
		{name: "events-per-tenant", help: "ticket events of a tenant a second, on each node, after a burst of 10 seconds' worth, or of 500 if that is more; 0: no bound", value: num(&s.perTenant, 1000), fileOnly: true},
		{name: "action-hosts", help: "hosts that an absolute actionUrl may name", value: str(&s.actionHosts, ""), fileOnly: true, list: true},
		{name: "cors-origins", help: "origins whose pages may use the API from a browser, such as https://app.example.com", value: str(&s.corsOrigins, ""), fileOnly: true, list: true},
		{name: "cookie-sessions", help: "let a browser's own EventSource connect by a session cookie, true or false; needs HTTPS", value: on(&s.cookieSessions), fileOnly: true},
		{name: "metrics-tenants", help: "tenants whose connections have metrics of their own, 50 at most", value: str(&s.metricsTenants, ""), fileOnly: true, list: true},
		{name: "regions", help: "all regions that serve, this one among them, the same in each; absent: this one alone", value: str(&s.regions, ""), fileOnly: true, list: true},
		{name: "home", help: "the region where tenants have their inboxes that homes does not name, the same in each region", value: str(&s.home, ""), fileOnly: true},
		{name: "homes", help: "tenants that have their inboxes in another region, TENANT=REGION, the same in each region", value: str(&s.homes, ""), fileOnly: true, list: true},
		{name: "partitions", help: "streams that share the inboxes, when a region is created; 0: 1 embedded, 8 in a cluster", value: num(&s.partitions, 0), fileOnly: true},
		{name: "replicas", help: "of each stream when it is created; 0: 1 embedded, 3 in a cluster", value: num(&s.replicas, 0), fileOnly: true},
		{name: "retain", help: "how long a notification is kept", value: dur(&s.retain, 30*24*time.Hour), fileOnly: true},
		{name: "per-inbox", help: "how many notifications an inbox keeps", value: num(&s.perInbox, 500), fileOnly: true},
		{name: "durables", help: "durable subscriptions in the region, each a JetStream consumer; 0: none", value: num(&s.durables, 1000), fileOnly: true},
	}
	if !d.dev {
		s.registered = append(s.registered, setting{name: "roles", help: "`edge,dispatch`: answer clients and publishers, work on ticket events; by default both", value: str(&s.roles, roleEdge+","+roleDispatch), list: true})
	} else {
		s.roles = roleEdge + "," + roleDispatch
		s.registered = append(s.registered, setting{name: "print-realms", help: "print the realms file for peal serve, and end", value: on(&s.printRealms), flagOnly: true})
	}
	return s
}

// load reads the settings from everywhere.
func (c *call) load(d defaults, args []string) (*settings, error) {
	s := newSettings(d)
	fs := c.flags()
	given := s.register(fs, d.only)
	if d.more != nil {
		d.more(fs)
	}
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if err := s.gather(c.getenv, given); err != nil {
		return nil, err
	}
	return s, s.check()
}

// register makes flags of the settings. What is given is in the result, by name,
// once the flags are parsed. only names those that there are; nil: all.
func (s *settings) register(fs *flag.FlagSet, only []string) (given map[string]string) {
	given = make(map[string]string)
	for _, x := range s.registered {
		if !x.fileOnly && (only == nil || slices.Contains(only, x.name)) {
			fs.Var(&recorder{x.value, x.name, given}, x.name, x.help)
		}
	}
	return given
}

// gather reads the file, the environment, and the flags that were given.
func (s *settings) gather(getenv func(string) string, given map[string]string) error {
	if s.configFile != "" {
		if err := s.readFile(s.configFile); err != nil {
			return err
		}
	}
	if err := s.readEnvironment(getenv); err != nil {
		return err
	}
	for name, v := range given { // once more: flags win
		if err := s.put(name, v); err != nil {
			return usagef("--%s: %v", name, err)
		}
	}
	return nil
}

// put sets one key.
func (s *settings) put(name, value string) error {
	for _, x := range s.registered {
		if x.name == name {
			s.set[name] = true
			return x.value.Set(value)
		}
	}
	return errors.New("unknown")
}

// readFile reads a YAML file of one mapping. Lists stand for values separated
// by commas.
func (s *settings) readFile(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return usagef("--config: %v", err)
	}
	var doc yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(data))
	if err := documents.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	var second yaml.Node
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s:%d: must be one YAML document", name, second.Line)
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: must be a mapping of settings", name, top.Line)
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		at := fmt.Sprintf("%s:%d: %s", name, key.Line, key.Value)
		x, ok := s.inFile(key.Value)
		if !ok {
			return fmt.Errorf("%s is not a setting: peal config print lists them", at)
		}
		if seen[key.Value] {
			return fmt.Errorf("%s is given twice", at)
		}
		seen[key.Value] = true
		if x.tree != nil {
			if err := x.tree.read(name, value); err != nil {
				return err
			}
			continue
		}
		text, err := scalar(value, x.list)
		if err == nil {
			err = s.put(key.Value, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// inFile finds the setting of a key of the file.
func (s *settings) inFile(name string) (setting, bool) {
	i := slices.IndexFunc(s.registered, func(x setting) bool { return x.name == name && !x.flagOnly })
	if i < 0 {
		return setting{}, false
	}
	return s.registered[i], true
}

// scalar is the text of a value; a list is joined by commas where one may be.
func scalar(n *yaml.Node, list bool) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode:
		return n.Value, nil
	case !list:
		return "", errors.New("must be one value")
	case n.Kind != yaml.SequenceNode:
		return "", errors.New("must be a value or a list of values")
	}
	var all []string
	for _, e := range n.Content {
		if e.Kind != yaml.ScalarNode {
			return "", errors.New("must be a list of plain values")
		}
		all = append(all, e.Value)
	}
	return strings.Join(all, ","), nil
}

func envName(name string) string {
	return "PEAL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func (s *settings) readEnvironment(getenv func(string) string) error {
	for _, x := range s.registered {
		v := getenv(envName(x.name))
		if v == "" || x.flagOnly {
			continue
		}
		if x.tree != nil {
			return usagef("%s: must be in the configuration file, for it is a mapping", envName(x.name))
		}
		if err := s.put(x.name, v); err != nil {
			return usagef("%s: %v", envName(x.name), err)
		}
	}
	return nil
}
