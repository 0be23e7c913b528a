package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pealhq/peal/auth"
)

// odd are what somebody could write for a time, as JSON.
var odd = []string{
	`"NaN"`, `"Infinity"`, `"-Infinity"`, `"1e3"`, `""`, `null`, `true`, `false`, `[]`, `{}`, `[1800000060]`, `"1800000060"`, `"2027-01-15T08:01:00Z"`,
	`1e999`, `-1e999`, `1e309`, "1" + strings.Repeat("0", 400),
}

// numbers are times that are far away, and what becomes of them.
var numbers = []struct {
	number        string
	exp, nbf, iat auth.Reason
}{
	{`9e18`, auth.ReasonLifetime, auth.ReasonNotYetValid, auth.ReasonNotYetValid},
	{`9223372036854775807`, auth.ReasonLifetime, auth.ReasonNotYetValid, auth.ReasonNotYetValid},
	{`18446744073709551616`, auth.ReasonLifetime, auth.ReasonNotYetValid, auth.ReasonNotYetValid},
	{`1.7976931348623157e308`, auth.ReasonLifetime, auth.ReasonNotYetValid, auth.ReasonNotYetValid},
	{`253402300800`, auth.ReasonLifetime, auth.ReasonNotYetValid, auth.ReasonNotYetValid}, // the year 10000
	{`0`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`-0`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`5e-324`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`1e-999`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`-1`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`-62135596800`, auth.ReasonExpired, "", auth.ReasonLifetime}, // the first second of the year 1: Go's zero time
	{`-9e18`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`-9223372036854775808`, auth.ReasonExpired, "", auth.ReasonLifetime},
	{`-1.7976931348623157e308`, auth.ReasonExpired, "", auth.ReasonLifetime},
}

func TestTimesThatAreAbsurd(t *testing.T) {
	w := newWorld(t, nil)
	var rows []claim
	add := func(name, written string, want auth.Reason) {
		rows = append(rows, claim{fmt.Sprintf("%s %.20s", name, written), map[string]any{name: json.RawMessage(written)}, want})
	}
	for _, s := range odd {
		add("exp", s, auth.ReasonExpiry)
		add("nbf", s, auth.ReasonMalformed)
		add("iat", s, auth.ReasonMalformed)
	}
	for _, n := range numbers {
		add("exp", n.number, n.exp)
		add("nbf", n.number, n.nbf)
		add("iat", n.number, n.iat)
	}
	wantClaims(t, w, rows)
	var bare []verdict
	for _, s := range []string{`NaN`, `Infinity`, `-Infinity`, `0x6b49d23c`, `01800000060`, `+1800000060`, `1800000060.`, `.5`, `1_800_000_060`, `nan`} {
		payload := strings.Replace(goodPayload, "SOON", s, 1)
		bare = append(bare, verdict{"exp that is no JSON: " + s, "acme", written(w, "acme", goodHeader, payload), auth.ReasonMalformed})
	}
	wantVerdicts(t, w, bare)
}

func TestTimes(t *testing.T) {
	w := newWorld(t, func(c *auth.Config) { realmOf(c, "acme").MaxTokenLife = 48 * time.Hour })
	at := func(d time.Duration) float64 { return float64(w.now.Add(d).UnixNano()) / 1e9 }
	set := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	const day = 24 * time.Hour
	wantClaims(t, w, []claim{
		{"as it should be", nil, ""},

		{"no exp", set("exp", nil), auth.ReasonExpiry},
		{"Exp", set("exp", nil, "Exp", at(time.Hour)), auth.ReasonExpiry},
		{"good for 31 s", set("exp", at(31*time.Second)), ""},
		{"good for 29 s", set("exp", at(29*time.Second)), ""},
		{"good for a second", set("exp", at(time.Second)), ""},
		{"good for a millisecond", set("exp", at(time.Millisecond)), ""},
		{"expires now", set("exp", at(0)), auth.ReasonExpired},
		{"expired a millisecond ago", set("exp", at(-time.Millisecond)), auth.ReasonExpired},
		{"expired a second ago: no leeway", set("exp", at(-time.Second)), auth.ReasonExpired},
		{"expired 29 s ago", set("exp", at(-29*time.Second)), auth.ReasonExpired},
		{"expired 31 s ago", set("exp", at(-31*time.Second)), auth.ReasonExpired},
		{"an EXP in the future beside it", set("exp", at(-time.Second), "EXP", at(time.Hour)), auth.ReasonExpired},
		{"exp with an exponent", set("exp", json.RawMessage(`1.80000006e9`)), ""},
		{"exp before iat", set("exp", at(5*time.Second), "iat", at(10*time.Second)), ""},

		{"no nbf", set("nbf", nil), ""},
		{"nbf now", set("nbf", at(0)), ""},
		{"nbf 31 s ago", set("nbf", at(-31*time.Second)), ""},
		{"nbf in 29 s", set("nbf", at(29*time.Second)), ""},
		{"nbf in 30 s", set("nbf", at(30*time.Second)), ""},
		{"nbf in 30 s and a millisecond", set("nbf", at(30*time.Second+time.Millisecond)), auth.ReasonNotYetValid},
		{"nbf in 31 s", set("nbf", at(31*time.Second)), auth.ReasonNotYetValid},
		{"Nbf means nothing", set("Nbf", at(time.Hour)), ""},

		{"no iat", set("iat", nil), ""},
		{"iat now", set("iat", at(0)), ""},
		{"iat with a fraction", set("iat", at(-1500*time.Millisecond)), ""},
		{"iat 31 s ago", set("iat", at(-31*time.Second)), ""},
		{"iat in 29 s", set("iat", at(29*time.Second)), ""},
		{"iat in 30 s", set("iat", at(30*time.Second)), ""},
		{"iat in 30 s and a millisecond", set("iat", at(30*time.Second+time.Millisecond)), auth.ReasonNotYetValid},
		{"iat in 31 s", set("iat", at(31*time.Second)), auth.ReasonNotYetValid},

		{"good for two days", set("exp", at(2*day)), ""},
		{"and a millisecond", set("exp", at(2*day+time.Millisecond)), auth.ReasonLifetime},
		{"good for two days, one of them past", set("iat", at(-day), "exp", at(day)), ""},
		{"and a millisecond, one of them past", set("iat", at(-day), "exp", at(day+time.Millisecond)), auth.ReasonLifetime},
		{"good for two days, of nobody knows when", set("iat", nil, "exp", at(2*day)), ""},
		{"and a millisecond, of nobody knows when", set("iat", nil, "exp", at(2*day+time.Millisecond)), auth.ReasonLifetime},
		{"good for two days, of a moment to come", set("iat", at(20*time.Second), "exp", at(2*day+20*time.Second)), ""},
		{"nbf does not make it shorter", set("nbf", at(20*time.Second), "exp", at(2*day+20*time.Second)), auth.ReasonLifetime},
	})
	// Another realm has the default: 30 days.
	thirty := 30 * day
	wantVerdicts(t, w, []verdict{
		{"30 days", "globex", w.token("globex", set("exp", at(thirty))), ""},
		{"30 days and a second", "globex", w.token("globex", set("exp", at(thirty+time.Second))), auth.ReasonLifetime},
	})
}
