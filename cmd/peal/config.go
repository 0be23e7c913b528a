package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/pealhq/peal/bus"
)

// settings is the effective configuration of dev and serve. Each comes from
// the configuration file, the environment and the flags; the later wins.
type settings struct {
	listen, admin   string
	tlsCert, tlsKey string
	data            string
	nats            string // URLs, separated by commas
	natsCreds       string
	natsListen      string
	realms          string // path of the realms file
	region          string
	partitions      int
	replicas        int
	retain          time.Duration
	perInbox        int
	maxPerUser      int
	heartbeat       time.Duration
	drainDelay      time.Duration
	drainWindow     time.Duration
	actionHosts     string // separated by commas
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
	fileOnly bool // no flag: for what is decided once, not at each start
	flagOnly bool // not in the file or the environment
}

// defaults of a command, where they differ from the production ones.
type defaults struct {
	data        string
	drainDelay  time.Duration
	drainWindow time.Duration
	dev         bool
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
		{name: "nats", help: "`URL[,URL]` of a NATS cluster, instead of the embedded JetStream", value: str(&s.nats, "")},
		{name: "nats-creds", help: "`FILE` with NATS credentials", value: str(&s.natsCreds, "")},
		{name: "nats-listen", help: "`HOST:PORT` on which the embedded NATS takes other clients; without it, none", value: str(&s.natsListen, "")},
		{name: "realms", help: "realms `FILE`: who issues tokens, for which tenants", value: str(&s.realms, "")},
		{name: "region", help: "`NAME` of this region", value: str(&s.region, "local")},
		{name: "max-connections-per-user", help: "open connections of a user on a route, `N`; negative: no bound", value: num(&s.maxPerUser, 5)},
		{name: "heartbeat", help: "time between heartbeats, `D`", value: dur(&s.heartbeat, 30*time.Second)},
		{name: "drain-window", help: "time over which connections are let go when the node ends, `D`", value: dur(&s.drainWindow, d.drainWindow)},
		{name: "log-format", help: "`text|json`", value: str(&s.logFormat, "text")},
		{name: "config", help: "configuration `FILE`", value: str(&s.configFile, ""), flagOnly: true},
		{name: "ready-json", help: "print one line of JSON on standard output once ready", value: on(&s.readyJSON), flagOnly: true},

		{name: "drain-delay", help: "how long the node goes on, not ready, before it drains", value: dur(&s.drainDelay, d.drainDelay), fileOnly: true},
		{name: "action-hosts", help: "hosts that an absolute actionUrl may name", value: str(&s.actionHosts, ""), fileOnly: true},
		{name: "partitions", help: "streams that share the inboxes, when a region is created; 0: 1 embedded, 8 in a cluster", value: num(&s.partitions, 0), fileOnly: true},
		{name: "replicas", help: "of each stream when it is created; 0: 1 embedded, 3 in a cluster", value: num(&s.replicas, 0), fileOnly: true},
		{name: "retain", help: "how long a notification is kept", value: dur(&s.retain, 30*24*time.Hour), fileOnly: true},
		{name: "per-inbox", help: "how many notifications an inbox keeps", value: num(&s.perInbox, 500), fileOnly: true},
	}
	if d.dev {
		s.registered = append(s.registered, setting{name: "print-realms", help: "print the realms file for peal serve, and end", value: on(&s.printRealms), flagOnly: true})
	}
	return s
}

// load reads the settings from everywhere.
func (c *call) load(d defaults, args []string) (*settings, error) {
	s := newSettings(d)
	fs := c.flags()
	given := make(map[string]string)
	for _, x := range s.registered {
		if !x.fileOnly {
			fs.Var(&recorder{x.value, x.name, given}, x.name, x.help)
		}
	}
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if s.configFile != "" {
		if err := s.readFile(s.configFile); err != nil {
			return nil, err
		}
	}
	if err := s.readEnvironment(c.getenv); err != nil {
		return nil, err
	}
	for name, v := range given { // once more: flags win
		if err := s.put(name, v); err != nil {
			return nil, usagef("--%s: %v", name, err)
		}
	}
	return s, s.check()
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
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: must be a mapping of settings", name, top.Line)
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		at := fmt.Sprintf("%s:%d: %s", name, key.Line, key.Value)
		if !s.inFile(key.Value) {
			return fmt.Errorf("%s is not a setting: peal config print lists them", at)
		}
		if seen[key.Value] {
			return fmt.Errorf("%s is given twice", at)
		}
		seen[key.Value] = true
		text, err := scalar(value)
		if err == nil {
			err = s.put(key.Value, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func (s *settings) inFile(name string) bool {
	return slices.ContainsFunc(s.registered, func(x setting) bool { return x.name == name && !x.flagOnly })
}

func scalar(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		var all []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				return "", errors.New("must be a list of plain values")
			}
			all = append(all, e.Value)
		}
		return strings.Join(all, ","), nil
	}
	return "", errors.New("must be a plain value or a list of them")
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
		if err := s.put(x.name, v); err != nil {
			return usagef("%s: %v", envName(x.name), err)
		}
	}
	return nil
}

// check refuses what can't work, before anything is started.
func (s *settings) check() error {
	if _, err := bus.ParseRegion(s.region); err != nil {
		return usagef("--region %s", strings.TrimPrefix(err.Error(), "region: "))
	}
	if s.heartbeat < time.Second {
		return usagef("--heartbeat must be at least 1s: a connection costs a write each time")
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return usagef("--log-format must be text or json")
	}
	if (s.tlsCert == "") != (s.tlsKey == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	if s.natsListen != "" && s.nats != "" {
		return usagef("--nats-listen is of the embedded NATS: leave it out with --nats")
	}
	if s.retain < time.Minute {
		return usagef("retain must be at least 1m")
	}
	if s.perInbox < 1 || s.partitions < 0 || s.replicas < 0 {
		return usagef("per-inbox must be at least 1, partitions and replicas not negative")
	}
	return nil
}
