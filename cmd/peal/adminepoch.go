package main

import (
	"context"
	"flag"
	"fmt"
	"slices"

	"github.com/pealhq/peal/bus"
)

// adminEpoch answers peal admin epoch: a line for each stream. Every client fetches its
// list again for it, so it wants to be told twice, as a purge does.
func adminEpoch(ctx context.Context, c *call) error {
	var yes *bool
	var home single
	s, err := c.loadNATS(func(fs *flag.FlagSet) {
		yes = fs.Bool("yes", false, "do not ask; without a terminal it is required")
		fs.Var(&home, "home", "of this home `REGION`, whose streams are lost, and whose copies in --region were promoted")
	})
	if err != nil {
		return err
	}
	region, when := s.region, "streams that were restored from a backup, before nodes run again"
	if home.value != "" {
		if !slices.Contains(s.allRegions(), bus.Region(home.value)) || home.value == s.region {
			return usagef("--home must be another of the regions that the configuration names")
		}
		region, when = home.value, "copies that have taken the place of what the home had"
	}
	if !*yes {
		what := "makes every cursor of region " + region + " unknown, so that each client fetches its list again"
		if _, is := terminalOf(c.stdin); !is {
			return usagef("this %s, and there is no terminal to ask: say --yes if it is meant", what)
		}
		fmt.Fprintf(c.stderr, "This %s. It is for %s. Type %s to go on: ", what, when, region)
		if err := confirm(ctx, c.stdin, region, "changed"); err != nil {
			return err
		}
	}
	streams, err := c.openStreams(ctx, s)
	if err != nil {
		return err
	}
	defer streams.Close()
	raise := streams.RaiseEpoch
	if home.value != "" {
		raise = func(ctx context.Context) ([]bus.RaisedEpoch, error) {
			return streams.RaiseEpochOf(ctx, bus.Region(home.value))
		}
	}
	raised, err := raise(ctx)
	for _, r := range raised {
		fmt.Fprintln(c.stdout, plain(r.String()))
	}
	if err != nil {
		return fmt.Errorf("%w: %d streams are done; run it again, which raises them once more", err, len(raised))
	}
	fmt.Fprintf(c.stdout, "%d streams have a new epoch; what was read of their messages is still read\n", len(raised))
	return nil
}
