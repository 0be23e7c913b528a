package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// document is the page for those who choose a client.
const document = "../../../docs/clients.md"

// Where the table stands in the document.
const (
	tableBegins = "<!-- What follows is what make e2e has seen; go test -run Table -args -update writes it. -->\n"
	tableEnds   = "<!-- So far. -->\n"
)

// refused is the scene in which nobody listens.
const refused = "refused"

// Each library, used as its documentation shows, is put through every kind of
// end and refusal. What it did is the table of the document.
func TestTableOfClients(t *testing.T) {
	s := newStage()
	p, url := newProbe(t, s)
	libs := libraries()
	stop := perform(t, s, libs, func(l library) order {
		targets := map[string]string{refused: newRefusal(t, s, p, role{l.key, refused}).url()}
		for _, sc := range scenes() {
			targets[sc.run] = url + "/" + l.key + "/" + sc.run
		}
		return order{Mode: bare, Targets: targets, Headers: probeHeaders}
	})
	s.await(t, "every scene has been played", func() (missing []string) {
		for _, l := range libs {
			for run := range p.ends() {
				if !p.over(role{l.key, run}) {
					missing = append(missing, l.key+" "+run)
				}
			}
		}
		return missing
	})
	stop()

	var b strings.Builder
	b.WriteString("| library |")
	rule := "|---|"
	for _, c := range columns() {
		b.WriteString(" " + c.title + " |")
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, l := range libs {
		b.WriteString("| " + l.name + " |")
		for _, c := range columns() {
			b.WriteString(" " + c.cell(s, l) + " |")
		}
		b.WriteString("\n")
	}
	compare(t, b.String())
}

// ends returns for each run how many requests it takes to play it.
func (p *probe) ends() map[string]int {
	n := map[string]int{refused: 2, "error": 1}
	for run, sc := range p.scenes {
		if n[run] == 0 {
			n[run] = len(sc.acts) + 1
		}
	}
	n["cut"]-- // its last act stays
	return n
}

// over reports whether a scene has come to its end: by the last request, or
// because the client has given up. The stage is locked.
func (p *probe) over(at role) bool {
	if count(p.reports[at], gone) > 0 {
		return true
	}
	if len(p.attempts[at]) < p.ends()[at.run] {
		return false
	}
	for _, r := range p.reports[at] {
		switch {
		case at.run == "error" && r.Name == "error", at.run == "cut" && strings.HasSuffix(r.Data, "third"):
			return true
		}
	}
	return at.run != "error" && at.run != "cut"
}

// column is a question that the table answers.
type column struct {
	title string
	cell  func(*stage, library) string
}

func columns() []column {
	after := func(run string, requests int) func(*stage, library) string {
		return func(s *stage, l library) string { return s.comesBack(role{l.key, run}, requests) }
	}
	return []column{
		{"sends `headers`", (*stage).sendsHeaders},
		{"fresh token", func(_ *stage, l library) string { return l.fresh }},
		{"back after an abort", after("abort", 2)},
		{"after a clean end", after("clean", 2)},
		{"after a refused connection", after(refused, 2)},
		{"after 503", after("503", 3)},
		{"after 429", after("429", 3)},
		{"`Retry-After`", (*stage).heedsRetryAfter},
		{"`retry:`", (*stage).heedsRetry},
		{"the event `error`", (*stage).errorEvent},
		{"cut inside an event", (*stage).cutInside},
	}
}

func (s *stage) sendsHeaders(l library) string {
	return yes(s.attempts[role{l.key, "abort"}][0].headers)
}

// comesBack says whether there were so many requests, and whether the last one
// named the last id.
func (s *stage) comesBack(at role, requests int) string {
	all := s.attempts[at]
	switch {
	case len(all) < requests:
		return "**gives up**"
	case all[requests-1].last != "1":
		return "**without its place**"
	}
	return "yes"
}

func (s *stage) heedsRetryAfter(l library) string {
	all := s.attempts[role{l.key, "503"}]
	if len(all) < 3 {
		return "–"
	}
	return yes(all[2].after.Seconds() > askedPause-0.1)
}

func (s *stage) heedsRetry(l library) string {
	all := s.attempts[role{l.key, "retry"}]
	if len(all) < 3 {
		return "–"
	}
	return yes(all[2].after-all[1].after > heeded)
}

// errorEvent says by what an event named error comes.
func (s *stage) errorEvent(l library) string {
	via := make(map[string]bool)
	for _, r := range s.reports[role{l.key, "error"}] {
		if r.Name == "error" && strings.Contains(r.Data, "DRAINING") {
			via[r.Via] = true
		}
	}
	switch {
	case maps.Equal(via, map[string]bool{"listener": true, "onerror": true}):
		return "listeners and `onerror`, with `data`"
	case maps.Equal(via, map[string]bool{"listener": true}):
		return "listeners, with `data`"
	case maps.Equal(via, map[string]bool{"message": true}):
		return "as any other"
	}
	return fmt.Sprint(via)
}

// cutInside says what became of an event whose end never came.
func (s *stage) cutInside(l library) string {
	at := role{l.key, "cut"}
	took, garbled := false, false
	for _, r := range s.reports[at] {
		took = took || r.Data == "second"
		garbled = garbled || r.Data != "welcome" && strings.HasSuffix(r.Data, "welcome")
	}
	var found []string
	switch last := s.attempts[at][1].last; {
	case took:
		found = append(found, "**takes half**")
	case last == "1":
		found = append(found, "asks again")
	case last == "2":
		found = append(found, "**loses it**")
	default:
		found = append(found, "**without its place**")
	}
	if garbled {
		found = append(found, "**garbles `connected`**")
	}
	return strings.Join(found, ", ")
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// compare holds the table against that of the document, or writes it there.
func compare(t *testing.T, table string) {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begins := strings.Cut(string(b), tableBegins)
	old, tail, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		t.Fatalf("%s has no table between %q and %q", document, tableBegins, tableEnds)
	}
	if *update {
		if err := os.WriteFile(document, []byte(head+tableBegins+"\n"+table+"\n"+tableEnds+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.TrimSpace(old), strings.TrimSpace(table)); diff != "" {
		t.Errorf("%s says other than what was seen (-document +seen):\n%s", document, diff)
	}
}
