package bus_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pealhq/peal/bus"
)

var quoted = regexp.MustCompile(`(?m)^\s*"(\S+)"$`)

// allowed are the subjects in a file of deploy/nats, of one verb.
func allowed(t *testing.T, role, verb string) []string {
	t.Helper()
	b, err := os.ReadFile("../deploy/nats/" + role + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(b), "\n"+verb+": {")
	list, _, _ = strings.Cut(list, "\n}")
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(list, -1) {
		all = append(all, m[1])
	}
	if !ok || len(all) == 0 {
		t.Fatalf("%s.conf allows nothing to %s", role, verb)
	}
	return all
}

// covers reports whether a pattern matches a subject, or all that another pattern does.
func covers(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		switch {
		case token == ">":
			return len(s) > i
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}

// What the files in deploy/nats allow to a role is what is tried for it, or is known not
// to be: whoever has these rights hears of none that is lacking, and whoever lacks one of
// them hears of it.
func TestRightsAreThoseOfTheFiles(t *testing.T) {
	t.Parallel()
	s := natsServer(t, nil)
	cfg := at(s, "")
	cfg.Partitions = 8
	openAt(t, cfg)
	i := inspect(t, cfg)
	for _, role := range []struct {
		name           string
		edge, dispatch bool
	}{{"edge", true, false}, {"dispatch", false, true}, {"node", true, true}} {
		publish, subscribe := allowed(t, role.name, "publish"), allowed(t, role.name, "subscribe")
		untried := append(i.Unprobed(), "$JS.API.INFO", "_INBOX_PEAL_"+role.name+".>") // the last two are, by themselves
		var told, heard []string
		for _, r := range i.Rights(t.Context(), role.edge, role.dispatch) {
			list, tried := publish, &told
			if r.Kind == bus.RightListen {
				list, tried = subscribe, &heard
			}
			*tried = append(*tried, r.Subject)
			if r.Err != nil {
				t.Errorf("%s: %s: %s: %v", role.name, r.Kind, r.Subject, r.Err)
			}
			if r.Kind != bus.RightCreate && !slices.ContainsFunc(list, func(p string) bool { return covers(p, r.Subject) }) {
				t.Errorf("%s: %s: %s is tried, which its file does not allow", role.name, r.Kind, r.Subject)
			}
		}
		for _, verb := range []struct {
			name    string
			allowed []string
			tried   []string
		}{{"publish", publish, told}, {"subscribe", subscribe, heard}} {
			for _, p := range verb.allowed {
				if !slices.ContainsFunc(slices.Concat(verb.tried, untried), func(s string) bool { return covers(p, s) }) {
					t.Errorf("%s: nothing tries to %s to %s", role.name, verb.name, p)
				}
			}
		}
	}
}
