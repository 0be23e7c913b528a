package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var serveDefaults = defaults{drainDelay: 5 * time.Second, drainWindow: 30 * time.Second}

// serve answers peal serve.
func serve(ctx context.Context, c *call) error {
	settings, err := c.load(serveDefaults, c.args)
	if err != nil {
		return err
	}
	if err := settings.placed(); err != nil {
		return err
	}
	realms, data, err := settings.readRealms()
	if err != nil {
		return err
	}
	// From here to the end, so that the signal never ends the process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	s := &service{settings: settings, log: settings.logger(c.stderr)}
	defer s.close()
	if err := s.open(ctx, c.getenv); err != nil {
		return err
	}
	if err := s.authorize(realms, nil); err != nil {
		return err
	}
	reloader := newReloader(s.log, settings.realms, data, s.node.Reload)
	reloader.start(hangups)
	defer reloader.close()
	return s.run(ctx, c.again, func(ctx context.Context) error {
		s.awaitKeys(ctx)
		r, err := s.ready()
		if err != nil {
			return err
		}
		s.log.Info("ready", "url", r.URL, "admin", r.Admin, "version", version)
		if settings.readyJSON {
			return printJSON(c.stdout, r)
		}
		return nil
	})
}
