package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/pealhq/peal"
)

// A tenant has a home: the region where its inboxes are stored, with their read states,
// its ticket updates, preferences and queues. What happens elsewhere is stored there too,
// and every region that serves reads it from a copy of its own: see twin.go.

// home is a region as the home of tenants, and what this process knows of it.
type home struct {
	bus        *Bus
	region     Region
	partitions []*partition // index: partition number
	tickets    *source      // of ticket updates
	wishes     *wishes      // of recipients
	absence    absence
}

// homeOf is the region where the inboxes of a tenant are.
func (c Config) homeOf(t peal.Tenant) Region {
	if r, ok := c.Homes[t]; ok {
		return r
	}
	return c.Home
}

// homes lists the regions that are the home of somebody, in their order.
func (c Config) homes() []Region {
	all := append(slices.Collect(maps.Values(c.Homes)), c.Home)
	slices.Sort(all)
	return slices.Compact(all)
}

// several reports whether there are other regions than this one.
func (c Config) several() bool { return len(c.Regions) > 1 }

// others lists the other regions that serve.
func (c Config) others() []Region {
	return slices.DeleteFunc(slices.Clone(c.Regions), func(r Region) bool { return r == c.Region })
}

// revokedBucket is the name of the bucket in which a region stores revocations: each has
// its own, so that nobody has to wait for another to be there, and follows those of all.
func (c Config) revokedBucket(r Region) string {
	if r == c.Home {
		return revokedPrefix
	}
	return revokedPrefix + "_" + string(r)
}

// revokedPrefix is the name of the bucket where there is one region, and the beginning of
// any other.
const revokedPrefix = "PEAL_REVOKED"

// queue names where ticket events wait: those of a region, or those that were accepted in
// it for another home.
type queue string

// queueFor is where events of a region wait for a home. They wait apart, because those of
// a home that is away would hold up all others.
func queueFor(in, home Region) queue {
	if in == home {
		return queue(in)
	}
	return queue(in + "_" + home)
}

// queues lists those of a region. All events are stored in the first.
func (l layout) queues() []queue {
	all := []queue{queue(l.region)}
	for _, home := range l.forwards {
		all = append(all, queueFor(l.region, home))
	}
	return all
}

// forwards lists the homes but for a region.
func (c Config) forwards(r Region) []Region {
	return slices.DeleteFunc(c.homes(), func(home Region) bool { return home == r })
}

// CheckRegions says what is wrong with the table of regions, which has to be the same for
// every process of all of them. The rest of the configuration does not matter.
func (c Config) CheckRegions() error {
	c = c.withDefaults()
	for _, r := range append([]Region{c.Region, c.Home}, c.Regions...) {
		if _, err := ParseRegion(string(r)); err != nil {
			return fmt.Errorf("%q: %w", r, err)
		}
	}
	seen := make(map[Region]bool)
	for _, r := range c.Regions {
		if seen[r] {
			return fmt.Errorf("region %s is given twice", r)
		}
		seen[r] = true
	}
	if !seen[c.Region] {
		return fmt.Errorf("region %s is none of those that serve: %v", c.Region, c.Regions)
	}
	if !seen[c.Home] {
		return fmt.Errorf("region %s, the home of tenants, is none of those that serve: %v", c.Home, c.Regions)
	}
	for _, t := range slices.Sorted(maps.Keys(c.Homes)) {
		if t == "" {
			return errors.New("a tenant with a home needs an id")
		}
		if r := c.Homes[t]; !seen[r] {
			return fmt.Errorf("region %s, the home of tenant %s, is none of those that serve: %v", r, t, c.Regions)
		}
	}
	return nil
}

// homeOf is the home of a tenant.
func (b *Bus) homeOf(t peal.Tenant) *home { return b.homes[b.cfg.homeOf(t)] }

// partition finds the partition of an inbox, and the inbox in it.
func (b *Bus) partition(in peal.Inbox) (*partition, place) {
	h := b.homeOf(in.Tenant)
	pl := locate(in, len(h.partitions))
	return h.partitions[pl.partition], pl
}

// openHome reads what the streams of a home are now, of which there are so many for its
// inboxes.
func (b *Bus) openHome(ctx context.Context, r Region, partitions int) error {
	h := &home{bus: b, region: r}
	b.homes[r] = h
	b.twinsOf(h, partitions)
	if b.cfg.several() {
		h.lookAtTwins(ctx)
		h.look(ctx)
	}
	h.wishes = newWishes(h)
	for n := range partitions {
		part := newPartition(h, n, len(b.partitions))
		if err := b.cfg.patiently(ctx, func() error { return part.open(ctx) }); err != nil {
			return err
		}
		h.partitions = append(h.partitions, part)
		b.partitions = append(b.partitions, part)
		b.add(part.source)
	}
	h.tickets = newTickets(h)
	if err := b.cfg.patiently(ctx, func() error { return h.tickets.open(ctx) }); err != nil {
		return err
	}
	b.add(h.tickets)
	return nil
}

// here reports whether the home is the region of this process.
func (h *home) here() bool { return h.region == h.bus.cfg.Region }

// sources lists those of the home.
func (h *home) sources() (all []*source) {
	for _, p := range h.partitions {
		all = append(all, p.source)
	}
	return append(all, h.tickets)
}

// layout is that of the home as this process has found it.
func (h *home) layout() layout {
	l := h.bus.cfg.layoutOf(h.region)
	l.partitions = len(h.partitions)
	return l
}

// stored lists what tenants have in their home: streams, by the names that they have if
// they are there, and what is stored in each.
func (l layout) stored() (all []keptThere) {
	r := l.region
	for p := range l.partitions {
		n := strconv.Itoa(p)
		all = append(all,
			keptThere{inboxStream(r, p), wildcards(subject("inbox", string(r), n), 3)},
			keptThere{stateStream(r, p), wildcards(subject("state", string(r), n), 3)})
	}
	all = append(all, keptThere{ticketStream(r), wildcards(subject("ticket", string(r)), 1)})
	for _, bucket := range []string{prefBucket(r), queueBucket(r)} {
		all = append(all, keptThere{bucketStream(bucket), below(keySubject(bucket))})
	}
	return all
}

// keptThere is a stream of a home.
type keptThere struct{ stream, subjects string }
