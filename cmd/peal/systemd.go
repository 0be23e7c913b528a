package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// readyEvery is how often it is looked whether the node is ready.
const readyEvery = 200 * time.Millisecond

// reporter tells the service manager that has started this process how it is, by
// sd_notify. Where there is none (NOTIFY_SOCKET is not set), nothing happens.
type reporter struct {
	// Set before start, then read-only.
	ready func() string // why the node should get no new work; "" if it should
	leave time.Duration // how long the process takes to end, at most
	log   *slog.Logger

	// Owned by run.
	told   string // the last state
	failed bool   // telling has failed, and was logged

	done sync.WaitGroup
}

// start tells until ctx ends, and then that the process is about to end. It is waited for
// by wait.
func (r *reporter) start(ctx context.Context) {
	r.done.Go(func() { r.run(ctx) })
}

// wait waits until the last is told, for a moment at most: a manager that takes nothing is
// no reason to stay.
func (r *reporter) wait() {
	told := make(chan struct{})
	go func() { r.done.Wait(); close(told) }()
	select {
	case <-told:
	case <-time.After(time.Second):
	}
}

func (r *reporter) run(ctx context.Context) {
	look := time.NewTicker(readyEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		// READY=1 is said each time that it is true again: only the first counts.
		if why := r.ready(); why == "" {
			r.tell(daemon.SdNotifyReady + "\nSTATUS=Ready")
		} else {
			r.tell("STATUS=Not ready: " + why)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
	// To drain takes as long as this process is configured to; the unit does not know.
	r.tell(fmt.Sprintf("%s\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, r.leave.Microseconds()))
}

// tell tells a state, if it is not the one told last.
func (r *reporter) tell(state string) {
	if state == r.told {
		return
	}
	r.told = state
	if _, err := daemon.SdNotify(false, state); err != nil && !r.failed {
		r.failed = true
		r.log.Warn("the service manager can't be told", "err", err)
	}
}
