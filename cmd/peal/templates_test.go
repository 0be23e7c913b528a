package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A template that can't be used is refused before anything starts, with where it
// stands and why.
func TestTemplatesAreRefused(t *testing.T) {
	const tenant = "aaaaaaaa-1111-4111-8111-111111111111"
	for _, row := range []struct {
		name, file string
		want       []string // in the one line on standard error
	}{
		{"a list", "templates: []", []string{":1: templates: must be a mapping"}},
		{"a text", "listen: :1\ntemplates: comment", []string{":2: templates: must be a mapping"}},
		{"a tenant that is none", "templates:\n  acme:\n    comment: {title: x}", []string{":2: templates.acme: must be all or the id of a tenant"}},
		{"types that are a list", "templates:\n  all:\n    - comment", []string{":3: templates.all: must be a mapping"}},
		{"no types", "templates:\n  all:\n", []string{":2: templates.all: must be a mapping"}},
		{"an unknown type", "templates:\n  all:\n    party: {title: x}", []string{":3: templates.all.party: must be one of", "watchAdded"}},
		{"a type that notifies nobody", "templates:\n  all:\n    ticketCreated: {title: x}", []string{":3: templates.all.ticketCreated: must be one of"}},
		{"a text for a type", "templates:\n  all:\n    comment: x", []string{":3: templates.all.comment: must be a mapping"}},
		{"an unknown key", "templates:\n  all:\n    comment:\n      body: x", []string{":4: templates.all.comment.body: must be title, message or actionUrl"}},
		{"a list for a text", "templates:\n  all:\n    comment:\n      title: [x]", []string{":4: templates.all.comment.title: must be one value"}},
		{"an empty text", "templates:\n  all:\n    comment:\n      title: ''", []string{":4: templates.all.comment.title: must not be empty"}},
		{"no text", "templates:\n  all:\n    comment:\n      title:", []string{":4: templates.all.comment.title: must not be empty"}},
		{"null", "templates:\n  all:\n    comment:\n      title: null", []string{":4: templates.all.comment.title: must not be empty"}},
		{"a tilde", "templates:\n  all:\n    comment:\n      title: ~", []string{":4: templates.all.comment.title: must not be empty"}},
		{"templates twice", "templates: {}\ntemplates: {}", []string{":2: templates is given twice"}},
		{"all twice", "templates:\n  all: {}\n  all: {}", []string{":3: templates.all is given twice"}},
		{"a tenant twice", "templates:\n  " + tenant + ": {}\n  " + strings.ToUpper(tenant) + ": {}", []string{":3: templates." + strings.ToUpper(tenant) + " is given twice"}},
		{"a type twice", "templates:\n  all:\n    comment: {}\n    comment: {}", []string{":4: templates.all.comment is given twice"}},
		{"a text twice", "templates:\n  all:\n    comment:\n      title: x\n      title: x", []string{":5: templates.all.comment.title is given twice"}},
		{"a merged mapping", "templates:\n  all: &all {comment: {title: x}}\n  " + tenant + ":\n    <<: *all", []string{":4: templates." + tenant + ".<<: must be one of"}},
		{"one that does not parse", "templates:\n  all:\n    comment: {title: '{{.Ticket.Title'}", []string{"templates of all tenants: title of comment: ", "unclosed action"}},
		{"one with an unknown field", "templates:\n  " + tenant + ":\n    comment: {message: '{{.Ticket.Secret}}'}", []string{"templates of tenant " + tenant + ": message of comment: ", "there is no .Ticket.Secret"}},
		{"one with a loop", "templates:\n  all:\n    comment: {message: '{{range .Ticket.Title}}x{{end}}'}", []string{"message of comment", "{{range .Ticket.Title}}", "no other control than {{if}}"}},
		{"a host that is not allowed", "action-hosts: desk.example\ntemplates:\n  all:\n    comment: {actionUrl: 'https://evil.example/{{path .Ticket.ID}}'}", []string{"actionUrl of comment: makes"}},
		{"a link to a script", "templates:\n  all:\n    comment: {actionUrl: 'javascript:alert(1)'}", []string{"actionUrl of comment: makes"}},
		{"a link that is not escaped", "templates:\n  all:\n    comment: {actionUrl: '/t/{{.Ticket.ID}}'}", []string{"actionUrl of comment: makes", "path and query"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "peal.yaml")
			if err := os.WriteFile(file, []byte(row.file+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			got := do(t, nil, "config", "print", "--config", file)
			if got.status != 1 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, file) {
				t.Errorf("%+v, want status 1 and one line with %s", got, file)
			}
			for _, w := range row.want {
				if !strings.Contains(got.stderr, w) {
					t.Errorf("%q does not say %q", got.stderr, w)
				}
			}
		})
	}
	got := do(t, map[string]string{"PEAL_TEMPLATES": "all"}, "config", "print")
	if got.status != 2 || !strings.Contains(got.stderr, "PEAL_TEMPLATES: must be in the configuration file") {
		t.Errorf("in the environment: %+v", got)
	}
	if got := do(t, nil, "serve", "--templates", "x"); got.status != 2 || !strings.Contains(got.stderr, "templates") {
		t.Errorf("as a flag: %+v", got)
	}
}

// What is printed is read again as the same.
func TestPrintedTemplatesAreTemplates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peal.yaml")
	for _, content := range []string{
		"",
		"templates: {}\n",
		`action-hosts: [desk.example]
templates: # of us
  # for everybody
  all:
    comment: {title: "{{.Actor.Name}}: \"hello\"", message: 'it''s', actionUrl: "https://desk.example/t/{{path .Ticket.ID}}"}
  11111111-1111-4111-8111-111111111111:
    assignment:
      message: |
        {{if .Is "queue"}}Yours?
        {{else}}Yours: # no comment
        {{end}}{{.Ticket.Number}}
      title: >-
        folded
        text
`,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		first := do(t, nil, "config", "print", "--config", file)
		if first.status != 0 || !strings.Contains(first.stdout, "templates:") {
			t.Fatalf("%s: %+v", content, first)
		}
		if content != "" && strings.Contains(content, "Yours") && !strings.Contains(first.stdout, "Yours: # no comment") {
			t.Errorf("the templates are not in:\n%s", first.stdout)
		}
		before := effective(t, file)
		if err := os.WriteFile(file, []byte(first.stdout), 0o600); err != nil {
			t.Fatal(err)
		}
		if again := do(t, nil, "config", "print", "--config", file); again != first {
			t.Errorf("printed again:\n%s%s\nwant:\n%s", again.stdout, again.stderr, first.stdout)
		}
		if after := effective(t, file); after != before {
			t.Errorf("it means\n%s\nand meant\n%s", after, before)
		}
	}
}

// effective is what the templates of a file come to.
func effective(t *testing.T, file string) string {
	t.Helper()
	s := newSettings(serveDefaults)
	if err := s.readFile(file); err != nil {
		t.Fatal(err)
	}
	all, err := json.MarshalIndent(s.templates.all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(all) == "null" { // none are given
		return "{}"
	}
	return string(all)
}
