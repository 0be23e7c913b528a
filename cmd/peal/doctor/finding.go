package doctor

import (
	"context"
	"fmt"
	"time"
)

// Status is how something is.
type Status string

// What a status means for whoever reads it: nothing to do; something to do before
// long; something to do now; nothing is known.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Trouble Status = "trouble"
	Skipped Status = "skipped"
)

// Finding is what one check has found.
type Finding struct {
	Check  string `json:"check"` // what was looked at
	Status Status `json:"status"`
	Seen   string `json:"seen"`
	Do     string `json:"do,omitempty"` // what to do, in lines; "" if nothing is to be done
}

func found(status Status, check, do, seen string, args ...any) Finding {
	return Finding{check, status, fmt.Sprintf(seen, args...), do}
}

func well(check, seen string, args ...any) Finding { return found(OK, check, "", seen, args...) }

func skipped(check, seen string, args ...any) Finding {
	return found(Skipped, check, "", seen, args...)
}

// Check is something to look at.
type Check struct {
	Name  string
	Bound time.Duration // it ends by itself within that
	Look  func(ctx context.Context) []Finding
}

// grace is what a check may take beyond its bound before it is given up: a name
// server or a disk that hangs can't be called off.
const grace = time.Second

// Run looks at everything at once, and hands what each check has found to tell, in
// the order of the checks, as soon as all before it are done. When ctx ends it
// returns at once, with its error.
func Run(ctx context.Context, checks []Check, tell func([]Finding)) error {
	results := make([]chan []Finding, len(checks))
	for n, c := range checks {
		results[n] = make(chan []Finding, 1)
		go func() {
			ctx, cancel := context.WithTimeout(ctx, c.Bound)
			defer cancel()
			results[n] <- c.Look(ctx)
		}()
	}
	began := time.Now()
	for n, c := range checks {
		late := time.NewTimer(time.Until(began.Add(c.Bound + grace)))
		select {
		case findings := <-results[n]:
			late.Stop()
			if ctx.Err() != nil { // it was cut short: what it has found is not so
				return ctx.Err()
			}
			tell(findings)
		case <-late.C:
			tell([]Finding{found(Trouble, c.Name, "Something hangs that this stands on: a name server, a disk, a network. See what the system's log says.",
				"was not done within %v", c.Bound)})
		case <-ctx.Done():
			late.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// Tally counts findings by their status.
func Tally(findings []Finding) map[Status]int {
	n := map[Status]int{OK: 0, Warning: 0, Trouble: 0, Skipped: 0}
	for _, f := range findings {
		n[f.Status]++
	}
	return n
}
