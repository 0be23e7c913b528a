package node

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pealhq/peal"
)

// The page is made here, and so is what the script puts in: there is one way to say a
// thing. html/template escapes whatever is not written in the template itself.

var (
	//go:embed status_page.html
	statusHTML string

	//go:embed status_page.css
	statusCSS string

	//go:embed status_page.js
	statusJS string

	statusStyle  = template.CSS(statusCSS)
	statusScript = template.JS(statusJS)
)

// docs is where the words of docs/operating.md are read.
const docs = "https://github.com/pealhq/peal/blob/main/docs/operating.md"

// pageView is what the whole page shows.
type pageView struct {
	Status status
	Nonce  string
	Style  template.CSS
	Script template.JS
}

var statusPage = template.Must(template.New("").Funcs(template.FuncMap{
	"count":    func(n any) string { return count(toFloat(n)) },
	"bytes":    size,
	"rate":     perSecond,
	"of":       func(rates map[string]float64, what string) any { return ratePointer(rates, what) },
	"ago":      agoAt,
	"span":     func(s float64) string { return span(seconds(s)) },
	"percent":  func(f float64) string { return fmt.Sprintf("%.0f", 100*f) },
	"manual":   func(heading string) string { return docs + "#" + anchor(heading) },
	"full":     stream.full,
	"lack":     stream.lack,
	"share":    share,
	"offset":   offset,
	"heat":     heat,
	"at":       func(t peal.Timestamp) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"levels":   levels,
	"stopping": func(p process) bool { return p.NotReady == "draining" },
	"up":       up,
	"missing":  func(s status, p process) bool { return p.missing(s) },
	"servers":  servers,
}).Parse(statusHTML))

// count writes a number with thousands apart.
func count(n float64) string {
	digits := strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && d != '-' && (len(digits)-i)%3 == 0 {
			out.WriteRune('\u202f')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// size writes bytes, in powers of 1,024 and with three digits.
func size(n any) string {
	f, unit := toFloat(n), 0
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for f >= 1000 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	if f == 0 {
		return "0"
	}
	if unit == 0 || f >= 100 {
		return fmt.Sprintf("%.0f\u202f%s", f, units[unit])
	}
	if f >= 10 {
		return fmt.Sprintf("%.1f\u202f%s", f, units[unit])
	}
	return fmt.Sprintf("%.2f\u202f%s", f, units[unit])
}

func toFloat(n any) float64 {
	switch n := n.(type) {
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case int:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// perSecond writes a rate; a dash where there is none yet.
func perSecond(r *float64) string {
	switch {
	case r == nil:
		return "–"
	case *r == 0:
		return "0"
	case *r < 0.1:
		return "<\u202f0.1"
	case *r < 100:
		return fmt.Sprintf("%.1f", *r)
	}
	return count(*r)
}

func ratePointer(rates map[string]float64, what string) *float64 {
	if rates == nil {
		return nil
	}
	return new(rates[what])
}

// span writes how long something lasts, in its two largest units.
func span(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	pair := func(big int64, bigUnit string, small int64, smallUnit string) string {
		if small == 0 {
			return fmt.Sprintf("%d\u202f%s", big, bigUnit)
		}
		return fmt.Sprintf("%d\u202f%s %d\u202f%s", big, bigUnit, small, smallUnit)
	}
	switch {
	case s < 60:
		return fmt.Sprintf("%d\u202fs", s)
	case s < 3600:
		return pair(s/60, "min", s%60, "s")
	case s < 24*3600:
		return pair(s/3600, "h", s%3600/60, "min")
	}
	return pair(s/86400, "d", s%86400/3600, "h")
}

// agoAt writes how long ago t was at a moment; a dash if it never was.
func agoAt(now peal.Timestamp, t any) string {
	switch t := t.(type) {
	case peal.Timestamp:
		return span(now.Sub(t.Time))
	case *peal.Timestamp:
		if t != nil {
			return span(now.Sub(t.Time))
		}
	}
	return "–"
}

// share is n of most, from 0 to 1; 0 if nobody knows.
func share(n, most int64) float64 {
	if most <= 0 {
		return 0
	}
	return float64(n) / float64(most)
}

// offset writes how far a clock is off.
func offset(p process) string {
	if p.Clock == nil {
		return "–"
	}
	if off := *p.Clock; math.Abs(off) > 0.1+p.Within {
		return fmt.Sprintf("%+.1f\u202fs", off)
	}
	return "±\u202f0"
}

// heat is how many events wait in a partition, in four steps.
func heat(n int) int {
	for i, most := range []int{0, 1, 10, 100} {
		if n <= most {
			return i
		}
	}
	return 4
}

// levels counts the troubles that are more than a note.
func levels(all []trouble) (n int) {
	for _, t := range all {
		if t.Level != note {
			n++
		}
	}
	return n
}

// up is since when all connections to NATS are; nil if one is not.
func up(links []link) *peal.Timestamp {
	var last *peal.Timestamp
	for _, l := range links {
		if !l.Up {
			return nil
		}
		if last == nil || l.Since.After(last.Time) {
			last = &l.Since
		}
	}
	return last
}

// servers names those that a process is connected to, each once.
func servers(links []link) string {
	var names []string
	for _, l := range links {
		if l.Server != "" && !slices.Contains(names, l.Server) {
			names = append(names, l.Server)
		}
	}
	return strings.Join(names, ", ")
}

// anchor is what the heading of a document is linked by.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return -1
	}, strings.ToLower(heading))
}
