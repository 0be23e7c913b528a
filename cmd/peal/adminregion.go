package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
	"time"

	"github.com/pealhq/peal/bus"
)

// regionCommands are the words after peal admin region.
func regionCommands() []command {
	return []command{
		{"status", "--nats URL[,URL] [--json] [flags]",
			"what each home stores, whether it answers, and how far behind its copies in other regions are", regionStatus},
	}
}

// adminRegion answers peal admin region.
func adminRegion(ctx context.Context, c *call) error { return c.choose(ctx, regionCommands()) }

// regionLine is one line of the status as JSON.
type regionLine struct {
	Home   string       `json:"home,omitempty"`
	Stream string       `json:"stream"`
	Origin string       `json:"origin,omitempty"` // which takes what is published
	Last   uint64       `json:"last"`             // sequence
	Error  string       `json:"error,omitempty"`
	Copies []copyOfLine `json:"copies"`
}

type copyOfLine struct {
	Region string  `json:"region"`
	Stream string  `json:"stream"`
	Last   uint64  `json:"last"`
	Behind uint64  `json:"behind"`          // messages
	Heard  float64 `json:"heardSecondsAgo"` // of the origin; negative: never
	Stale  bool    `json:"stale"`
	Error  string  `json:"error,omitempty"`
}

// regionStatus answers peal admin region status. It ends with an error where a client of
// some region does not have, or would not have, what its home has.
func regionStatus(ctx context.Context, c *call) error {
	var asJSON *bool
	s, err := c.loadNATS(func(fs *flag.FlagSet) {
		asJSON = fs.Bool("json", false, "print JSON")
	})
	if err != nil {
		return err
	}
	streams, err := c.openStreams(ctx, s)
	if err != nil {
		return err
	}
	defer streams.Close()
	all, err := streams.RegionStatus(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		lines := make([]regionLine, 0, len(all))
		for _, of := range all {
			lines = append(lines, lineOf(of))
		}
		if err := json.NewEncoder(c.stdout).Encode(map[string]any{"streams": lines}); err != nil {
			return err
		}
	} else {
		columns, is := terminalOf(c.stdout)
		if !is {
			columns = fileColumns
		}
		if err := table(c.stdout, columns, regionTable(all)); err != nil {
			return err
		}
	}
	return regionTrouble(all)
}

// fileColumns is how wide a table is that is not for a terminal.
const fileColumns = 240

func lineOf(of bus.RegionStream) regionLine {
	l := regionLine{Home: string(of.Home), Stream: of.Name, Origin: of.Origin, Last: of.Last, Error: text(of.Err), Copies: []copyOfLine{}}
	for _, at := range of.Copies {
		l.Copies = append(l.Copies, copyOfLine{string(at.Region), at.Name, at.Last, at.Behind, at.Heard.Seconds(), at.Stale, text(at.Err)})
	}
	return l
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// regionTable has a line for each copy, or one of a stream that has none.
func regionTable(all []bus.RegionStream) [][]string {
	rows := [][]string{{"HOME", "STORED IN", "LAST", "COPY IN", "LAST", "BEHIND", "HEARD", "STATE"}}
	for _, of := range all {
		origin, last := plain(of.Origin), strconv.FormatUint(of.Last, 10)
		if of.Err != nil {
			last = "?"
		}
		if origin == "" {
			origin = plain(of.Name)
		}
		if len(of.Copies) == 0 {
			rows = append(rows, []string{regionOf(of), origin, last, "-", "", "", "", stateOf(of, bus.RegionCopy{})})
		}
		for _, at := range of.Copies {
			row := []string{regionOf(of), origin, last, string(at.Region), "?", "?", "?", stateOf(of, at)}
			if at.Err == nil {
				row[4], row[5], row[6] = strconv.FormatUint(at.Last, 10), strconv.FormatUint(at.Behind, 10), "never"
				if at.Heard >= 0 {
					row[6] = at.Heard.Round(100*time.Millisecond).String() + " ago"
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// quietFor is for how long a copy may not have heard of its origin: it hears of one that
// is there twice in a second or so, also where nothing is stored.
const quietFor = 30 * time.Second

// stateOf says how a copy is, in a word or two.
func stateOf(of bus.RegionStream, at bus.RegionCopy) string {
	switch {
	case at.Err != nil:
		return "no copy: " + plain(at.Err.Error())
	case of.Origin == "":
		return "nowhere stored"
	case of.Err != nil:
		return "home is away"
	case at.Stale:
		return "stale"
	case at.Region != "" && (at.Heard < 0 || at.Heard > quietFor):
		return "hears nothing"
	}
	return "good"
}

// regionTrouble says how many copies are not as they should be.
func regionTrouble(all []bus.RegionStream) error {
	wrong, sum := 0, 0
	for _, of := range all {
		copies := of.Copies
		if len(copies) == 0 {
			copies = []bus.RegionCopy{{}}
		}
		for _, at := range copies {
			if sum++; stateOf(of, at) != "good" {
				wrong++
			}
		}
	}
	if wrong == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d lines are not good: docs/multi-region.md says what to do", wrong, sum)
}
