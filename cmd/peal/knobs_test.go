package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Whoever turns a knob at night finds in docs/operating.md what it protects. What only
// says where something is, or who somebody is, protects nothing.
func TestEveryKnobIsExplained(t *testing.T) {
	where := []string{
		"listen", "admin", "tls-cert", "tls-key", "data", "nats", "nats-creds", "nats-ca", "nats-cert", "nats-key", "nats-listen",
		"realms", "region", "regions", "home", "homes", "roles", "templates", "action-hosts", "cors-origins", "cookie-sessions", "metrics-tenants",
		"log-format", "config", "ready-json",
	}
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, knobs, found := strings.Cut(string(page), "\n## Knobs\n")
	if !found {
		t.Fatal("docs/operating.md has no section of knobs")
	}
	knobs, _, _ = strings.Cut(knobs, "\n## ")
	explained := make(map[string]bool)
	for line := range strings.Lines(knobs) {
		name, isRow := strings.CutPrefix(line, "| `")
		if !isRow {
			continue
		}
		name, rest, _ := strings.Cut(name, "`")
		explained[name] = true
		cell, _, _ := strings.Cut(rest, "|")
		i := slices.IndexFunc(newSettings(serveDefaults).registered, func(x setting) bool { return x.name == name })
		if i < 0 {
			t.Errorf("%s is explained, and is no setting", name)
		} else if flag := strings.Contains(cell, "--"); flag == newSettings(serveDefaults).registered[i].fileOnly {
			t.Errorf("%s: that it is a flag is %v, and the page says %v", name, !flag, flag)
		}
	}
	for _, x := range newSettings(serveDefaults).registered {
		if !explained[x.name] && !slices.Contains(where, x.name) {
			t.Errorf("%s is not explained", x.name)
		}
		if explained[x.name] && slices.Contains(where, x.name) {
			t.Errorf("%s is in the test's list too", x.name)
		}
	}
}
