package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/bus/embedded"
)

// adminMigrate answers peal admin migrate: a line for each stream, and one for all. The
// data directory stays as it is.
func adminMigrate(ctx context.Context, c *call) error {
	var dry *bool
	s, err := c.loadNATS(func(fs *flag.FlagSet) {
		dry = fs.Bool("dry-run", false, "only say what would be copied")
	}, "data")
	if err != nil {
		return err
	}
	if s.data == "" {
		return usagef("--data DIR is required: it says which embedded JetStream is to be copied")
	}
	if _, err := os.Stat(filepath.Join(s.data, "jetstream")); err != nil {
		return usagef("--data: there is no JetStream in %s: %v", s.data, err)
	}
	to, err := c.openStreams(ctx, s)
	if err != nil {
		return err
	}
	defer to.Close()
	server, err := embedded.Start(embedded.Config{Dir: s.data, Logger: s.logger(c.stderr)})
	if err != nil {
		return fmt.Errorf("%w: what runs on it has to be stopped first", err)
	}
	defer server.Close()
	from, err := bus.OpenStreams(ctx, bus.Config{Server: server, Region: bus.Region(s.region), Role: bus.RoleAdmin, Logger: s.logger(c.stderr)})
	if err != nil {
		return err
	}
	defer from.Close()

	done := 0
	err = to.Migrate(ctx, from, *dry, func(m bus.Migrated) {
		done++
		fmt.Fprintln(c.stdout, plain(migrationLine(m, *dry)))
	})
	switch {
	case err != nil && done > 0:
		return fmt.Errorf("%w: run it again to go on", err)
	case err != nil:
		return err
	case *dry:
		fmt.Fprintf(c.stdout, "%d streams; nothing was done\n", done)
	default:
		fmt.Fprintf(c.stdout, "%d streams are copied: start the nodes with --nats, and nothing with --data %s any more\n", done, s.data)
	}
	return nil
}

func migrationLine(m bus.Migrated, dry bool) string {
	what := "copied"
	switch {
	case m.There:
		what = "was copied already"
	case dry && m.Half:
		what = "half copied, would be copied again"
	case dry:
		what = "would be copied"
	case m.Half:
		what = "copied again, of which half was there"
	}
	return fmt.Sprintf("%s: %d messages up to %d, %d bytes, %d consumers: %s", m.Stream, m.Messages, m.Last, m.Bytes, m.Consumers, what)
}
