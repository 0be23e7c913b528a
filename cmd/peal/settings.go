package main

import (
	"cmp"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/dispatch"
	"github.com/pealhq/peal/node"
)

// placed wants to be told where JetStream is: replicas of a node without a
// common one would be islands.
func (s *settings) placed() error {
	if s.nats == "" && s.data == "" {
		return usagef("say where notifications are kept: --nats URL for a NATS cluster, or --data DIR for an embedded JetStream on that disk")
	}
	if s.nats != "" && s.data != "" && s.set["data"] {
		return usagef("--nats and --data exclude each other: keep the one that holds the notifications")
	}
	return nil
}

// readRealms reads the realms file, and returns its bytes too.
func (s *settings) readRealms() (auth.Config, []byte, error) {
	if s.realms == "" {
		return auth.Config{}, nil, usagef("--realms FILE is required: it says who issues tokens; peal dev --print-realms shows one")
	}
	data, err := os.ReadFile(s.realms)
	if err != nil {
		return auth.Config{}, nil, usagef("--realms: %v", err)
	}
	cfg, err := auth.Parse(s.realms, data)
	return cfg, data, err
}

// keysDir is where the realms' keys are kept; "" if there is no disk of ours.
func (s *settings) keysDir() string {
	if s.data == "" {
		return ""
	}
	return filepath.Join(s.data, "keys")
}

func (s *settings) logger(w io.Writer) *slog.Logger {
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

func (s *settings) busConfig(log *slog.Logger) bus.Config {
	cfg := bus.Config{
		Await:       natsPatience,
		Role:        s.natsRole(),
		Credentials: s.natsCreds,
		RootCA:      s.natsCA,
		Certificate: s.natsCert,
		Key:         s.natsKey,
		Region:      bus.Region(s.region),
		Regions:     s.allRegions(),
		Home:        bus.Region(s.home),
		Homes:       s.tenantHomes(),
		Partitions:  s.partitions,
		Replicas:    s.replicas,
		Retain:      s.retain,
		PerInbox:    s.perInbox,
		Durables:    cmp.Or(s.durables, -1),
		Logger:      log,
	}
	if s.nats != "" {
		cfg.URLs = strings.Split(s.nats, ",")
	}
	return cfg
}

// natsPatience is how long a command waits for a NATS cluster that does not answer,
// which may have been started with it: three servers have elected within 5 s.
const natsPatience = 15 * time.Second

// natsRole is as what a node comes to NATS: deploy/nats has what each may do there.
func (s *settings) natsRole() string {
	switch edge, dispatch := s.has(roleEdge), s.has(roleDispatch); {
	case edge && dispatch:
		return bus.RoleNode
	case edge:
		return bus.RoleEdge
	default:
		return bus.RoleDispatch
	}
}

// orOff makes 0 "not at all", which for the packages is negative.
func orOff(d time.Duration) time.Duration {
	return cmp.Or(d, -1)
}

// lastSteps is how long a process takes to end, at most, besides what drain-delay and
// drain-window say: last words and last answers, events that are worked on, the bus.
const lastSteps = 20 * time.Second

// leaving is how long the process takes to end, at most.
func (s *settings) leaving() time.Duration { return s.drainDelay + s.drainWindow + lastSteps }

func (s *settings) nodeConfig(log *slog.Logger) node.Config {
	return node.Config{
		MaxPerUser:         cmp.Or(s.maxPerUser, -1),
		LimitLocally:       s.withoutNATS == limitLocal,
		ConnectsPerUser:    cmp.Or(s.perUser, -1),
		ConnectsPerAddress: cmp.Or(s.perAddress, -1),
		RequestsPerUser:    cmp.Or(s.requests, -1),
		EventsPerTenant:    cmp.Or(s.perTenant, -1),
		Heartbeat:          s.heartbeat,
		DrainDelay:         orOff(s.drainDelay),
		DrainWindow:        orOff(s.drainWindow),
		AwayLimit:          orOff(s.awayLimit),
		MaxAge:             s.maxAge,
		ActionHosts:        s.hosts(),
		Origins:            s.origins(),
		LocalOrigins:       s.localOrigins,
		Cookies:            s.cookieSessions,
		MetricsTenants:     s.tenants(),
		Version:            version,
		Logger:             log,
	}
}

// tenants are those that have metrics of their own; check has read them.
func (s *settings) tenants() (all []peal.Tenant) {
	all, _ = s.readTenants()
	return all
}

// readTenants reads metrics-tenants.
func (s *settings) readTenants() (all []peal.Tenant, err error) {
	if s.metricsTenants == "" {
		return nil, nil
	}
	for _, id := range strings.Split(s.metricsTenants, ",") {
		t, err := peal.ParseTenant(strings.TrimSpace(id))
		if err != nil {
			return nil, usagef("metrics-tenants: %s", strings.TrimPrefix(err.Error(), "tenant: "))
		}
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	if len(all) > maxMetricsTenants {
		return nil, usagef("metrics-tenants must be %d at most: each has a series of its own on each node", maxMetricsTenants)
	}
	return all, nil
}

// maxMetricsTenants bounds what a scrape of a node has for tenants.
const maxMetricsTenants = 50

// What may become of new connections when JetStream does not say how many a user has.
const (
	limitRefuse = "refuse"
	limitLocal  = "local" // those of the node are counted
)

// What a process may do.
const (
	roleEdge     = "edge"     // answer clients and publishers
	roleDispatch = "dispatch" // work on ticket events
)

// has reports whether the process has a role.
func (s *settings) has(role string) bool { return slices.Contains(strings.Split(s.roles, ","), role) }

func (s *settings) checkRoles() error {
	for i, role := range strings.Split(s.roles, ",") {
		if role != roleEdge && role != roleDispatch || slices.Contains(strings.Split(s.roles, ",")[:i], role) {
			return usagef("--roles must be %s, %s or both, separated by a comma", roleEdge, roleDispatch)
		}
	}
	return nil
}

func (s *settings) dispatchConfig(log *slog.Logger) dispatch.Config {
	return dispatch.Config{Templates: s.templates.all, ActionHosts: s.hosts(), Logger: log}
}
