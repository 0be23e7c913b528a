package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pealhq/peal/bus"
)

// natsBound bounds what is asked of NATS. Each question has a bound of its own, and
// few wait for another.
const natsBound = 30 * time.Second

// NATS looks at a cluster, for a process that answers clients and publishers (edge),
// that works on ticket events (dispatch), or both.
func NATS(cfg bus.Config, edge, dispatch bool) []Check {
	all := []Check{{"nats server", natsBound, func(ctx context.Context) []Finding { return servers(ctx, cfg) }}}
	inspected := func(name string, look func(ctx context.Context, i *bus.Inspector) []Finding) Check {
		return Check{name, natsBound, func(ctx context.Context) []Finding {
			i, err := bus.Inspect(ctx, cfg)
			if err != nil {
				return []Finding{skipped(name, "no server can be asked: %v", err)}
			}
			defer i.Close()
			return look(ctx, i)
		}}
	}
	return append(all,
		inspected("jetstream", func(ctx context.Context, i *bus.Inspector) []Finding {
			return []Finding{account(i.Account(ctx))}
		}),
		inspected("rights", func(ctx context.Context, i *bus.Inspector) []Finding {
			if _, err := i.Account(ctx); errors.Is(err, bus.ErrNoJetStream) {
				return []Finding{skipped("rights", "there is no JetStream to ask")}
			}
			return rights(i.Rights(ctx, edge, dispatch), i.Unprobed())
		}),
		inspected("streams", func(ctx context.Context, i *bus.Inspector) []Finding {
			if _, err := i.Account(ctx); errors.Is(err, bus.ErrNoJetStream) {
				return []Finding{skipped("streams", "there is no JetStream to ask")}
			}
			seen := i.Streams(ctx)
			return streams(seen, len(missing(seen)) == 0 || mayCreate(i.Rights(ctx, edge, dispatch)))
		}),
		inspected("ticket events", func(ctx context.Context, i *bus.Inspector) []Finding {
			if _, err := i.Account(ctx); errors.Is(err, bus.ErrNoJetStream) {
				return []Finding{skipped("ticket events", "there is no JetStream to ask")}
			}
			return []Finding{work(i.Work(ctx), dispatch)}
		}),
	)
}

// The server's certificate is told of when it is about to expire.
const certificateWarning = 14 * 24 * time.Hour

// slow is a round trip within a cluster that is told of: each publish waits for one or two.
const slow = 50 * time.Millisecond

// server judges one address, to which the process connects by a file with credentials or
// by what the address says.
func server(s bus.ServerSeen, byFile bool, now time.Time) Finding {
	const check = "nats server"
	switch s.Failed {
	case "":
	case bus.StageURL:
		return found(Trouble, check, "Give --nats as URLs, separated by commas.", "%s: %v", s.Address, s.Err)
	case bus.StageResolve:
		return found(Trouble, check, "Set the name in the DNS, or take the address out of --nats.", "%s: the name does not resolve: %v", s.Address, s.Err)
	case bus.StageConnect:
		return found(Trouble, check, "See whether nats-server runs there, and whether a firewall or a network policy lets this machine through.",
			"%s (%s): %v", s.Address, strings.Join(s.Resolved, " "), s.Err)
	case bus.StageTLS:
		return found(Trouble, check, "See that both sides want TLS (tls:// in --nats, tls {} in the server's configuration), that the certificate names this host, "+
			"and that whoever has signed it is trusted here.", "%s: TLS: %v", s.Address, s.Err)
	case bus.StageCredentials:
		do := "See that --nats-creds names a file that this user may read, and that the account of the user in it is one of this cluster's."
		if !byFile {
			do = "See that the name and the password in the URL are those of a user of this cluster, percent-encoded (PEAL_NATS, --nats), or name a file by --nats-creds."
		}
		return found(Trouble, check, do, "%s does not let us in: %v", s.Address, s.Err)
	default:
		return found(Trouble, check, "See whether it is the port for clients of a nats-server, and not that of its monitoring or its cluster.", "%s: %v", s.Address, s.Err)
	}
	seen := fmt.Sprintf("%s is %s, nats-server %s, %s away", s.Address, cmp.Or(s.Name, s.ID), s.Version, round(s.RoundTrip))
	if s.Encrypted {
		seen += ", TLS until " + s.Expires.Format(time.DateOnly)
	}
	switch {
	case older(s.Version, bus.MinServer):
		return found(Trouble, check, "Update nats-server: peal needs "+bus.MinServer+" or later, on all servers.", "%s", seen)
	case s.MaxPayload < bus.MinPayload:
		return found(Trouble, check, fmt.Sprintf("Set max_payload to %d or more on all servers, and reload them: what is larger ends the connection.", bus.MinPayload),
			"%s, max_payload %d", seen, s.MaxPayload)
	case s.Encrypted && s.Expires.Before(now.Add(certificateWarning)):
		return found(Warning, check, "Renew the server's certificate and reload it.", "%s", seen)
	case s.RoundTrip > slow:
		return found(Warning, check, "Put the process near its NATS: each publish waits for a round trip or two.", "%s", seen)
	}
	return well(check, "%s", seen)
}

// older reports whether a version is before another; what is none is not.
func older(version, than string) bool {
	parse := func(v string) (n [3]int, ok bool) {
		v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
		parts := strings.Split(v, ".")
		for i := range n {
			var err error
			if i >= len(parts) {
				return n, false
			}
			if n[i], err = strconv.Atoi(parts[i]); err != nil {
				return n, false
			}
		}
		return n, true
	}
	a, known := parse(version)
	b, _ := parse(than)
	return known && slices.Compare(a[:], b[:]) < 0
}

// round shows a short time with two or three digits.
func round(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

// servers looks at every address by itself, and at what they are together.
func servers(ctx context.Context, cfg bus.Config) []Finding {
	seen := make([]bus.ServerSeen, len(cfg.URLs))
	var looking sync.WaitGroup
	for n, address := range cfg.URLs {
		looking.Go(func() { seen[n] = bus.LookAtServer(ctx, cfg, address) })
	}
	looking.Wait()
	var findings []Finding
	for _, s := range seen {
		findings = append(findings, server(s, cfg.Credentials != "", time.Now()))
	}
	switch {
	case len(seen) > 1:
		findings = append(findings, members(seen))
	case len(seen) == 1 && seen[0].Cluster != "":
		findings = append(findings, found(Warning, "nats cluster", "Name the other servers in --nats too: a process that starts while this one is away finds none.",
			"one address, of a server of cluster %s", seen[0].Cluster))
	}
	return findings
}

// members judges whether the addresses are of different servers of one cluster.
func members(seen []bus.ServerSeen) Finding {
	const check = "nats cluster"
	names, clusters := make(map[string]bool), make(map[string]bool)
	for _, s := range seen {
		if s.Failed == "" {
			names[s.ID], clusters[s.Cluster] = true, true
		}
	}
	up := fmt.Sprintf("%d of %d addresses lead to %d servers", countUp(seen), len(seen), len(names))
	switch {
	case len(names) == 0:
		return found(Trouble, check, "See what is said of each server above.", "none of %d addresses leads to a server", len(seen))
	case len(clusters) > 1 || clusters[""] && len(names) > 1:
		return found(Trouble, check, "Give the servers one cluster { name, routes }: what is stored on one island is not known on the other.",
			"%s, which are not of one cluster: %s", up, strings.Join(sorted(clusters), " "))
	case 2*len(names) <= len(seen):
		return found(Trouble, check, "Start the others: half of a cluster, or less, stores nothing.", "%s", up)
	case len(names) < len(seen):
		return found(Warning, check, "Start the others, or name different servers: one more that stops may stop all.", "%s", up)
	case len(names) == 2:
		return found(Warning, check, "Run three servers: of two, neither can go on without the other.", "%s", up)
	}
	return well(check, "%s of cluster %s", up, strings.Join(sorted(clusters), " "))
}

func countUp(seen []bus.ServerSeen) (n int) {
	for _, s := range seen {
		if s.Failed == "" {
			n++
		}
	}
	return n
}

// sorted names what is in a set; what has no name is said to have none.
func sorted(set map[string]bool) []string {
	var all []string
	for name := range set {
		all = append(all, cmp.Or(name, "(none)"))
	}
	slices.Sort(all)
	return all
}

// How full something may be, of what it has.
const (
	fullWarning = 0.80
	fullTrouble = 0.95
)

// account judges what JetStream grants.
func account(a bus.AccountSeen, err error) Finding {
	const check = "jetstream"
	switch {
	case errors.Is(err, bus.ErrNoJetStream):
		return found(Trouble, check, "Enable it: jetstream {} in the server's configuration, and for the account of this user too, where there are accounts.", "%v", err)
	case errors.Is(err, bus.ErrNotPermitted):
		return skipped(check, "what the account has can't be asked: %v", err)
	case err != nil:
		return found(Trouble, check, "See whether the servers of the cluster reach each other: JetStream needs more than half of them.", "%v", err)
	}
	seen := fmt.Sprintf("%d streams, %s on disk, %s set aside", a.Streams, size(a.Store), size(a.Reserved))
	if a.MaxStore <= 0 {
		return well(check, "%s, no bound of the account", seen)
	}
	seen += fmt.Sprintf(", of %s", size(a.MaxStore))
	switch full := float64(a.Store) / float64(a.MaxStore); {
	case full >= fullTrouble:
		return found(Trouble, check, "Raise the account's limit of disk, or remove streams: what is new is refused once it is reached.", "%s", seen)
	case full >= fullWarning:
		return found(Warning, check, "Raise the account's limit of disk before it is reached: then what is new is refused.", "%s", seen)
	}
	return well(check, "%s", seen)
}

// size shows bytes.
func size(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.bytes {
			return strconv.FormatFloat(float64(n)/float64(unit.bytes), 'f', 1, 64) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// mayCreate reports whether the NATS user may create streams, as far as is known.
func mayCreate(all []bus.Right) bool {
	return !slices.ContainsFunc(all, func(r bus.Right) bool { return r.Kind == bus.RightCreate && errors.Is(r.Err, bus.ErrNotPermitted) })
}

// rights judges what the NATS user may do, with one finding for each kind that is
// not all there.
func rights(all []bus.Right, unprobed []string) []Finding {
	const check = "rights"
	const grant = "Grant it to the NATS user in the server's configuration (permissions), or in the account's key, and reload."
	const connect = "Connect as the NATS user of this role (deploy/nats has one for each), rather than grant anything to the one that this is."
	var findings []Finding
	var unknown []string
	optional := ""
	byKind := make(map[bus.RightKind][]string)
	var kinds []bus.RightKind
	for _, r := range all {
		switch {
		case errors.Is(r.Err, bus.ErrDeaf):
			return []Finding{found(Trouble, check, connect, "%v", r.Err)}
		case errors.Is(r.Err, bus.ErrNotPermitted) && (r.Kind == bus.RightCreate || r.Kind == bus.RightAgain || r.Kind == bus.RightPurge):
			if not := ", not to " + string(r.Kind); !strings.Contains(optional, not) {
				optional += not
			}
		case errors.Is(r.Err, bus.ErrNotPermitted):
			if byKind[r.Kind] == nil {
				kinds = append(kinds, r.Kind)
			}
			byKind[r.Kind] = append(byKind[r.Kind], r.Subject)
		case r.Err != nil:
			unknown = append(unknown, fmt.Sprintf("%s (%v)", r.Subject, r.Err))
		}
	}
	for _, k := range kinds {
		findings = append(findings, found(Trouble, check, grant, "may not %s: %s", k, some(byKind[k])))
	}
	if len(unknown) > 0 {
		findings = append(findings, found(Warning, check, "See that every stream has a leader, and ask again.", "not known: %s", some(unknown)))
	}
	if len(findings) == 0 {
		findings = append(findings, well(check, "all %d that were tried%s", len(all), optional))
	}
	return append(findings, skipped(check, "not tried, for others would act on it: to publish on %s", strings.Join(unprobed, " and ")))
}

// some lists the first few of many.
func some(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
