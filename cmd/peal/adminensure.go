package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/pealhq/peal/bus"
)

// natsFlags are the flags of commands that go to a NATS cluster past the nodes.
var natsFlags = []string{"nats", "nats-creds", "region", "config", "log-format"}

// loadNATS reads the settings of such a command, which may have more flags: its own, and
// some of a node.
func (c *call) loadNATS(more func(*flag.FlagSet), also ...string) (*settings, error) {
	s, err := c.load(defaults{only: append(also, natsFlags...), more: more}, c.args)
	if err == nil && s.nats == "" {
		err = usagef("--nats URL is required: it says which NATS cluster; an embedded JetStream sees to its streams itself")
	}
	return s, err
}

// openStreams connects to the cluster.
func (c *call) openStreams(ctx context.Context, s *settings) (*bus.Streams, error) {
	cfg := s.busConfig(s.logger(c.stderr))
	cfg.Role = bus.RoleAdmin
	streams, err := bus.OpenStreams(ctx, cfg)
	if err != nil {
		return nil, natsTrouble(s.nats, err)
	}
	return streams, nil
}

// adminEnsure answers peal admin ensure: a line for each difference, and one for all.
func adminEnsure(ctx context.Context, c *call) error {
	var dry *bool
	s, err := c.loadNATS(func(fs *flag.FlagSet) {
		dry = fs.Bool("dry-run", false, "only say what would be done")
	})
	if err != nil {
		return err
	}
	streams, err := c.openStreams(ctx, s)
	if err != nil {
		return err
	}
	defer streams.Close()
	done, err := streams.Ensure(ctx, *dry)
	if done.Streams > 0 {
		c.tellDifferences(done, *dry)
	}
	return err
}

// tellDifferences prints what was done, or would be.
func (c *call) tellDifferences(done bus.Ensured, dry bool) {
	created, changed, refused := 0, 0, 0
	for _, d := range done.Differences {
		line := d.String()
		switch {
		case d.Refused != "":
			refused++
		case d.Field == "":
			created++
			if !dry {
				line += ": created"
			}
		default:
			changed++
		}
		fmt.Fprintln(c.stdout, plain(line))
	}
	form := "%d streams: %d created, %d fields changed, %d refused\n"
	if dry {
		form = "%d streams: %d to create, %d fields to change, %d refused; nothing was done\n"
	}
	fmt.Fprintf(c.stdout, form, done.Streams, created, changed, refused)
}
