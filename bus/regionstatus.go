package bus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RegionStream is a stream of a home, and its copies.
type RegionStream struct {
	Home   Region // "" for revocations, which are of a region and not of tenants
	Name   string
	Origin string // the stream that takes what is published; "" if none does
	Last   uint64 // sequence of its last message
	Err    error  // why the origin does not answer; nil if it does
	Copies []RegionCopy
}

// RegionCopy is a copy of a stream in a region.
type RegionCopy struct {
	Region Region
	Name   string
	Last   uint64 // sequence of its last message
	Behind uint64 // messages; as the copy knows, where the origin does not answer

	// Heard is how long ago it was heard of the origin last; negative: never.
	Heard time.Duration

	Stale bool  // it is a copy of another stream, or of another incarnation
	Err   error // why it does not answer, or is not there; nil if it does
}

// RegionStatus asks for what every home stores, and for the copies in every region, in the
// order of homes and streams. The error is of who may not ask.
func (s *Streams) RegionStatus(ctx context.Context) ([]RegionStream, error) {
	var all []RegionStream
	for _, home := range s.cfg.homes() {
		l := s.cfg.layoutOf(home)
		var err error
		if home == s.cfg.Region {
			l.partitions, err = s.storedPartitions(ctx, l)
		} else {
			l.partitions, err = s.copiedPartitions(ctx, l, s.cfg.Region)
		}
		if err != nil {
			return nil, err
		}
		for _, k := range l.stored() {
			of, err := s.regionStream(ctx, k, home)
			if err != nil {
				return nil, err
			}
			of.Home = home
			all = append(all, of)
		}
	}
	for _, r := range s.cfg.Regions {
		of, err := s.regionStream(ctx, s.cfg.revocationsOf(r), r)
		if err != nil {
			return nil, err
		}
		all = append(all, of)
	}
	return all, nil
}

func (s *Streams) regionStream(ctx context.Context, k keptThere, home Region) (RegionStream, error) {
	of := RegionStream{Name: k.stream}
	var err error
	if of.Origin, err = s.originBy(ctx, k.subjects); err != nil {
		return of, err
	}
	var origin *jetstream.StreamInfo
	if of.Origin != "" {
		if origin, of.Err = s.infoOf(ctx, of.Origin); of.Err == nil {
			of.Last = origin.State.LastSeq
		}
	} else {
		of.Err = errors.New("no stream takes what is published")
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	for _, r := range s.cfg.Regions {
		name := nameIn(k.stream, home, r)
		if name == of.Origin {
			continue
		}
		asking.Go(func() {
			c := s.regionCopy(ctx, name, of.Origin, origin)
			c.Region = r
			mu.Lock()
			defer mu.Unlock()
			of.Copies = append(of.Copies, c)
		})
	}
	asking.Wait()
	slices.SortFunc(of.Copies, func(a, b RegionCopy) int { return strings.Compare(string(a.Region), string(b.Region)) })
	return of, nil
}

func (s *Streams) regionCopy(ctx context.Context, name, of string, origin *jetstream.StreamInfo) RegionCopy {
	c := RegionCopy{Name: name}
	info, err := s.infoOf(ctx, name)
	if err != nil {
		c.Err = err
		return c
	}
	c.Last, c.Heard = info.State.LastSeq, -1
	c.Stale = !isCopyOf(info, of) || origin != nil && !sameEpoch(info, origin)
	if m := info.Mirror; m != nil {
		c.Behind, c.Heard = m.Lag, m.Active
	}
	if origin != nil && origin.State.LastSeq > c.Last {
		c.Behind = max(c.Behind, origin.State.LastSeq-c.Last)
	}
	return c
}

// infoOf asks for a stream by its very name.
func (s *Streams) infoOf(ctx context.Context, name string) (info *jetstream.StreamInfo, err error) {
	err = s.look(ctx, apiSubject("STREAM.INFO", name), func(ctx context.Context) (err error) {
		info, err = infoBy(ctx, s.nc, name)
		return err
	})
	return info, err
}
