package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/dispatch"
)

// Bounds of what is decided when a region is created: JetStream takes at most 5
// replicas, and more partitions than this are more streams than a cluster bears.
const (
	maxReplicas   = 5
	maxPartitions = 256
)

// maxHeartbeat is the most between two heartbeats: the browser client waits for 75 s,
// and many a proxy for 60.
const maxHeartbeat = time.Minute

// minAge is the least that a connection may stay open.
const minAge = time.Minute

// maxPerInbox bounds what is read whole, and a read state with every second one read,
// which takes 12 bytes for each of these: a message has at most 1 MiB.
const maxPerInbox = 10_000

// check refuses what can't work, before anything is started.
func (s *settings) check() error {
	if err := s.checkRegions(); err != nil {
		return err
	}
	for flag, address := range map[string]string{"listen": s.listen, "admin": s.admin, "nats-listen": s.natsListen} {
		if address == "" && flag == "nats-listen" {
			continue
		}
		if !isAddress(address) {
			return usagef("--%s must be HOST:PORT or :PORT", flag)
		}
	}
	if err := s.checkNATS(); err != nil {
		return err
	}
	if err := s.checkRoles(); err != nil {
		return err
	}
	if _, err := dispatch.NewRules(s.templates.all, s.hosts()); err != nil {
		return fmt.Errorf("%s: %w", s.configFile, err)
	}
	if s.maxPerUser < 0 || s.maxPerUser > bus.MaxSlots {
		return usagef("--max-connections-per-user must be at most %d and not negative; 0 is no bound", bus.MaxSlots)
	}
	if s.maxAge > 0 && s.maxAge < minAge {
		return usagef("max-connection-age must be at least %v: whoever is let go comes back at once; 0 is without a bound", minAge)
	}
	if s.withoutNATS != limitRefuse && s.withoutNATS != limitLocal {
		return usagef("limit-without-nats must be %s or %s", limitRefuse, limitLocal)
	}
	if s.perUser < 0 || s.perAddress < 0 || s.requests < 0 || s.perTenant < 0 {
		return usagef("connects-per-user, connects-per-address, requests-per-user and events-per-tenant must not be negative; 0 is no bound")
	}
	if s.heartbeat < time.Second || s.heartbeat > maxHeartbeat {
		return usagef("--heartbeat must be 1s to %v: a connection costs a write each time, and a client takes one that is silent for dead", maxHeartbeat)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return usagef("--log-format must be text or json")
	}
	if s.natsListen != "" && s.nats != "" {
		return usagef("--nats-listen is of the embedded NATS: leave it out with --nats")
	}
	if _, err := s.readTenants(); err != nil {
		return err
	}
	if s.retain < time.Minute {
		return usagef("retain must be at least 1m")
	}
	if s.durables < 0 {
		return usagef("durables must not be negative; 0 is none")
	}
	if s.perInbox < 1 || s.perInbox > maxPerInbox {
		return usagef("per-inbox must be 1 to %d", maxPerInbox)
	}
	if s.partitions < 0 || s.partitions > maxPartitions || s.replicas < 0 || s.replicas > maxReplicas {
		return usagef("replicas must be at most %d and partitions at most %d", maxReplicas, maxPartitions)
	}
	for _, host := range s.hosts() {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.User != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
			return usagef("action-hosts must be hosts such as desk.example.com or desk.example.com:8443, in ASCII (xn--…) and without https://")
		}
	}
	for _, origin := range s.origins() {
		if !isOrigin(origin) {
			return usagef("cors-origins: %q is no origin as a browser sends it, such as https://app.example.com or http://localhost:3000: http or https, lower case, ASCII (xn--…), no slash at the end, no path, no :443 with https or :80 with http; neither * nor null", origin)
		}
	}
	_, err := s.certificate()
	return err
}

// isNATS reports whether a URL is one that the NATS client connects to. What it would
// ignore, such as a query, may hold a password that is meant for it.
func isNATS(server string) bool {
	u, err := url.Parse(strings.TrimSpace(server))
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	if port, err := strconv.Atoi(cmp.Or(u.Port(), "4222")); err != nil || port < 1 || port > 65535 {
		return false
	}
	return slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)
}

// checkNATS refuses what no NATS cluster can be reached by.
func (s *settings) checkNATS() error {
	for _, server := range strings.Split(s.nats, ",") {
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as the NATS client reads it
		}
		if s.nats != "" && !isNATS(server) {
			return usagef("--nats must be URLs such as nats://host:4222, separated by commas") // not quoted: it may hold a password
		}
	}
	if s.natsCreds != "" {
		if _, err := os.Stat(s.natsCreds); err != nil {
			return usagef("--nats-creds: %v", err)
		}
	}
	if s.natsCA != "" {
		pem, err := os.ReadFile(s.natsCA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = errors.New("has no certificate in PEM")
		}
		if err != nil {
			return usagef("nats-ca: %v", err)
		}
	}
	if (s.natsCert == "") != (s.natsKey == "") {
		return usagef("nats-cert and nats-key need each other")
	}
	if s.natsCert != "" {
		if _, err := tls.LoadX509KeyPair(s.natsCert, s.natsKey); err != nil {
			return usagef("nats-cert and nats-key: %v", err)
		}
	}
	return nil
}

// isOrigin reports whether a browser could send s as the origin of a page: what
// it never sends would match nothing, and nobody would know why.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	usual := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	host, port := u.Hostname(), u.Port()
	if usual == "" || port == usual || !isHost(host) {
		return false
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host += ":" + strings.TrimLeft(port, "0")
	}
	return s == u.Scheme+"://"+host
}

// isHost reports whether s is a name or an address as a browser writes it.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		ip, err := netip.ParseAddr(s)
		return err == nil && ip.Zone() == "" && ip.String() == s
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return false
		}
	}
	return true
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= 0 && n <= 65535
}

// hosts lists the action hosts.
func (s *settings) hosts() []string {
	if s.actionHosts == "" {
		return nil
	}
	return strings.Split(strings.ToLower(s.actionHosts), ",")
}

// origins lists the origins that may use the API from a browser.
func (s *settings) origins() []string {
	if s.corsOrigins == "" {
		return nil
	}
	return strings.Split(s.corsOrigins, ",")
}

// certificate reads the certificate of the public port; nil if there is none.
func (s *settings) certificate() (*tls.Config, error) {
	if (s.tlsCert == "") != (s.tlsKey == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if s.tlsCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
	if err != nil {
		return nil, usagef("--tls-cert, --tls-key: %v", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
