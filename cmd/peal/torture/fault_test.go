//go:build linux

package torture_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
	"github.com/pealhq/peal/cmd/peal/torture/verdict"
)

// strike is one fault: what begins it and what ends it.
type strike struct {
	name  string
	node  string   // who it is about
	claim []string // who no other fault may touch meanwhile
	lasts time.Duration
	begin func() error
	end   func() error
}

// kinds are all faults, each with what makes one.
var kinds = []struct {
	name  string
	apart bool // it needs a network whose paths can be cut
	make  func(*run, *rand.Rand, *strike)
}{
	{verdict.NodeKill, false, func(x *run, r *rand.Rand, s *strike) { x.killed(s, pick(r, x.cluster.edges)) }},
	{verdict.NodeStop, false, func(x *run, r *rand.Rand, s *strike) { x.stopped(s, pick(r, x.cluster.edges)) }},
	{verdict.WorkerKill, false, func(x *run, r *rand.Rand, s *strike) { x.killed(s, pick(r, x.cluster.workers)) }},
	{verdict.WorkerStop, false, func(x *run, r *rand.Rand, s *strike) { x.stopped(s, pick(r, x.cluster.workers)) }},
	{verdict.FollowerKill, false, func(x *run, r *rand.Rand, s *strike) { x.killed(s, x.server(r, false)) }},
	{verdict.FollowerStop, false, func(x *run, r *rand.Rand, s *strike) { x.stopped(s, x.server(r, false)) }},
	{verdict.LeaderKill, false, func(x *run, r *rand.Rand, s *strike) { x.killed(s, x.server(r, true)) }},
	{verdict.LeaderStop, false, func(x *run, r *rand.Rand, s *strike) { x.stopped(s, x.server(r, true)) }},
	{verdict.AllKill, false, func(x *run, _ *rand.Rand, s *strike) { x.killed(s, x.cluster.natsServers...) }},
	{verdict.AllStop, false, func(x *run, _ *rand.Rand, s *strike) { x.stopped(s, x.cluster.natsServers...) }},
	{verdict.CutBoth, true, func(x *run, r *rand.Rand, s *strike) {
		p := pick(r, x.cluster.natsServers)
		x.cut(s, p, x.others(p, x.cluster.natsServers), false)
	}},
	{verdict.CutOneWay, true, func(x *run, r *rand.Rand, s *strike) {
		p := pick(r, x.cluster.natsServers)
		x.cut(s, p, x.others(p, x.cluster.natsServers), true)
	}},
	{verdict.CutMinority, true, minority},
	{verdict.CutNode, true, func(x *run, r *rand.Rand, s *strike) {
		x.cut(s, pick(r, x.cluster.edges), x.cluster.natsServers, false)
	}},
	{verdict.Rolling, false, rolling},
	{verdict.Storm, false, storm},
	{verdict.Slow, false, slow},
	{verdict.IssuerDown, false, issuerDown},
	{verdict.Rotation, false, rotation},
	{verdict.FullDisk, true, fullDisk},
}

func pick(r *rand.Rand, from []*process) *process { return from[r.IntN(len(from))] }

// others are all of some processes but one.
func (x *run) others(but *process, of []*process) []*process {
	return slices.DeleteFunc(slices.Clone(of), func(p *process) bool { return p == but })
}

// server chooses a NATS server that leads some stream, or one that follows it.
func (x *run) server(r *rand.Rand, leads bool) *process {
	stream := "PEAL_EVENT_" + region
	if n := r.IntN(x.plan.partitions + 1); n > 0 {
		stream = fmt.Sprintf("PEAL_INBOX_%s_%d", region, n-1)
	}
	leader := x.cluster.leader(x.t.Context(), stream)
	if leader < 0 {
		leader = r.IntN(servers)
	}
	if leads {
		return x.cluster.natsServers[leader]
	}
	return x.cluster.natsServers[(leader+1+r.IntN(servers-1))%servers]
}

func (s *strike) about(all ...*process) {
	for _, p := range all {
		s.claim = append(s.claim, p.name)
	}
	if len(all) == 1 {
		s.node = all[0].name
	}
}

// killed kills processes as a power cut does, and starts them again.
func (x *run) killed(s *strike, all ...*process) {
	s.about(all...)
	s.begin = func() error {
		for _, p := range all {
			x.down(p)
			p.stop(syscall.SIGKILL, time.Second)
		}
		return nil
	}
	s.end = func() error { return x.revive(all...) }
}

// revive starts processes again.
func (x *run) revive(all ...*process) error {
	var errs []error
	for _, p := range all {
		if slices.Contains(x.cluster.natsServers, p) {
			errs = append(errs, p.start(x.cluster.starter))
		} else {
			errs = append(errs, x.cluster.serve(p, time.Minute))
		}
		x.up(p)
	}
	return errors.Join(errs...)
}

// stopped has processes do nothing for a while, and never know.
func (x *run) stopped(s *strike, all ...*process) {
	s.about(all...)
	signal := func(sig syscall.Signal) func() error {
		return func() error {
			for _, p := range all {
				p.signal(sig)
			}
			return nil
		}
	}
	s.begin, s.end = signal(syscall.SIGSTOP), signal(syscall.SIGCONT)
}

func hosts(all []*process) []*host {
	var hosts []*host
	for _, p := range all {
		hosts = append(hosts, p.host)
	}
	return hosts
}

// cut cuts a process off from others.
func (x *run) cut(s *strike, p *process, from []*process, oneWay bool) {
	s.about(p)
	var heal func() error
	s.begin = func() (err error) {
		heal, err = p.host.cut(hosts(from), oneWay)
		return err
	}
	s.end = func() error { return heal() }
}

// minority cuts off a NATS server and a node, which see each other.
func minority(x *run, r *rand.Rand, s *strike) {
	nats, edge := pick(r, x.cluster.natsServers), pick(r, x.cluster.edges)
	a, b := new(strike), new(strike)
	x.cut(a, nats, append(x.others(nats, x.cluster.natsServers), append(x.others(edge, x.cluster.edges), x.cluster.workers...)...), false)
	x.cut(b, edge, x.others(nats, x.cluster.natsServers), false)
	s.about(nats, edge)
	s.node = nats.name + " " + edge.name
	s.begin = func() error { return errors.Join(a.begin(), b.begin()) }
	s.end = func() error { return errors.Join(a.end(), b.end()) }
}

// rolling ends each node as an update does, and starts it again.
func rolling(x *run, _ *rand.Rand, s *strike) {
	s.about(x.cluster.edges...)
	s.lasts = 0
	s.begin = func() error {
		for _, p := range x.cluster.edges {
			x.down(p)
			if !p.stop(syscall.SIGTERM, x.tune.drainWindow+30*time.Second) {
				return fmt.Errorf("%s did not end in time", p.name)
			}
			if err := x.revive(p); err != nil {
				return err
			}
		}
		return nil
	}
	s.end = func() error { return nil }
}

// told has the clients be told something.
func (x *run) told(line string) error {
	_, err := x.clients.ask(line, time.Minute)
	return err
}

func storm(x *run, _ *rand.Rand, s *strike) {
	s.claim = []string{"clients"}
	s.begin = func() error { return x.told(fmt.Sprint("storm ", len(x.plan.Users))) }
	s.end = func() error { return nil }
}

func slow(x *run, _ *rand.Rand, s *strike) {
	s.claim = []string{"clients"}
	s.begin = func() error { return x.told("sleep") }
	s.end = func() error { return x.told("wake") }
}

func issuerDown(x *run, _ *rand.Rand, s *strike) {
	s.claim = []string{"issuer"}
	s.begin = func() error { x.cluster.issuerDown.Store(true); return nil }
	s.end = func() error { x.cluster.issuerDown.Store(false); return nil }
}

func rotation(x *run, _ *rand.Rand, s *strike) {
	s.claim = []string{"issuer"}
	s.begin = func() error { return errors.Join(x.cluster.issuer.Rotate("acme"), x.cluster.issuer.Rotate("globex")) }
	s.end = func() error { return nil }
}

// fullDisk fills the disk of a NATS server. It does not use it any more until it is
// started again, so that is done when there is room.
func fullDisk(x *run, r *rand.Rand, s *strike) {
	i := r.IntN(servers)
	p := x.cluster.natsServers[i]
	s.about(p)
	ballast := filepath.Join(x.cluster.disk(i), "ballast")
	s.begin = func() error {
		f, err := os.Create(ballast)
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 1<<20)
		for size := len(block); size > 0; {
			if _, err := f.Write(block[:size]); errors.Is(err, syscall.ENOSPC) {
				size /= 2
			} else if err != nil {
				return err
			}
		}
		return nil
	}
	s.end = func() error {
		if err := os.Remove(ballast); err != nil {
			return err
		}
		x.down(p)
		p.stop(syscall.SIGTERM, 20*time.Second)
		return x.revive(p)
	}
}

// faults strikes until a time is over: every kind in a random order, and so on; after
// the first round, pairs of them.
func (x *run) faults(ctx context.Context, r *rand.Rand) {
	begun := time.Now()
	var under sync.WaitGroup
	defer under.Wait()
	for round := 0; ; round++ {
		for _, i := range r.Perm(len(kinds)) {
			if !slices.Contains(x.kinds, kinds[i].name) {
				continue
			}
			begun = begun.Add(x.every)
			if !sleep(ctx, time.Until(begun)) {
				return
			}
			strikes := []*strike{x.strike(r, i)}
			if round > 0 {
				if second := x.strike(r, r.IntN(len(kinds))); slices.Contains(x.kinds, second.name) && disjoint(strikes[0], second) {
					strikes = append(strikes, second)
				}
			}
			for n, s := range strikes {
				wait := time.Duration(n) * some(r, 3*time.Second)
				under.Go(func() {
					if sleep(ctx, wait) {
						x.happen(ctx, s)
					}
				})
			}
			under.Wait()
			begun = later(begun, time.Now().Add(-x.every+3*time.Second)) // after one that took long
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func disjoint(a, b *strike) bool {
	return !slices.ContainsFunc(a.claim, func(name string) bool { return slices.Contains(b.claim, name) })
}

func (x *run) strike(r *rand.Rand, kind int) *strike {
	s := &strike{name: kinds[kind].name, lasts: 2*time.Second + some(r, 5*time.Second)}
	kinds[kind].make(x, r, s)
	return s
}

// happen lets a fault begin, and ends it. It is written down before it begins and
// after it has ended.
func (x *run) happen(ctx context.Context, s *strike) {
	id := int(x.struck.Add(1))
	x.history.Write(history.Record{Kind: history.Fault, ID: id, Name: s.name, Node: s.node})
	x.t.Logf("%6.1f s: %s %s", time.Since(x.began).Seconds(), s.name, s.node)
	err := s.begin()
	if err == nil {
		sleep(ctx, s.lasts)
		err = s.end()
	}
	if err != nil {
		x.t.Errorf("%s %s: %v", s.name, s.node, err)
	}
	x.history.Write(history.Record{Kind: history.Healed, ID: id})
}

// sleep reports whether a time is over before ctx is.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
