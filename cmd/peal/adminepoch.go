package main

import (
	"context"
	"flag"
	"fmt"
)

// adminEpoch answers peal admin epoch: a line for each stream. Every client fetches its
// list again for it, so it wants to be told twice, as a purge does.
func adminEpoch(ctx context.Context, c *call) error {
	var yes *bool
	s, err := c.loadNATS(func(fs *flag.FlagSet) {
		yes = fs.Bool("yes", false, "do not ask; without a terminal it is required")
	})
	if err != nil {
		return err
	}
	if !*yes {
		what := "makes every cursor of region " + s.region + " unknown, so that each client fetches its list again"
		if _, is := terminalOf(c.stdin); !is {
			return usagef("this %s, and there is no terminal to ask: say --yes if it is meant", what)
		}
		fmt.Fprintf(c.stderr, "This %s. It is for streams that were restored from a backup, before nodes run again. Type %s to go on: ", what, s.region)
		if err := confirm(ctx, c.stdin, s.region, "changed"); err != nil {
			return err
		}
	}
	streams, err := c.openStreams(ctx, s)
	if err != nil {
		return err
	}
	defer streams.Close()
	raised, err := streams.RaiseEpoch(ctx)
	for _, r := range raised {
		fmt.Fprintln(c.stdout, plain(r.String()))
	}
	if err != nil {
		return fmt.Errorf("%w: %d streams are done; run it again, which raises them once more", err, len(raised))
	}
	fmt.Fprintf(c.stdout, "%d streams have a new epoch; what was read of their messages is still read\n", len(raised))
	return nil
}
