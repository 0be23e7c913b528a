//go:build linux

package torture_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal/cmd/peal/torture/history"
)

// watchLoad writes down how busy the machine is, each second.
func (x *run) watchLoad(ctx context.Context) {
	var idle, all float64
	for sleep(ctx, time.Second) {
		was, of := idle, all
		var err error
		if idle, all, err = processorTime(); err != nil {
			x.t.Error(err)
			return
		}
		if of > 0 && all > of {
			x.history.Write(history.Record{Kind: history.Load, Idle: (idle - was) / (all - of)})
		}
	}
}

// processorTime is how long all processors together had nothing to do since the machine
// was started, and for how long they were there. One that belongs to somebody else has
// something to do.
func processorTime() (idle, all float64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, field := range strings.Fields(line) {
		if i == 0 || i > 8 { // its name; guests, who are counted as users too
			continue
		}
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, err
		}
		if all += n; i == 4 || i == 5 { // and while a disk was waited for
			idle += n
		}
	}
	return idle, all, nil
}
