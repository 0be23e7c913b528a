package peal_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house: which package may know which. A package is named by its folder,
// "." is the root; "x/..." is x and all below it. Tests may import every package
// of the module, and every other module that has a row.

const module = "github.com/pealhq/peal"

// rooms says for each package which others of this module it may import. A
// package that is not here fails the test: give it a row, with the reason.
var rooms = []struct {
	pkg     string
	may     []string
	because string
}{
	{".", nil, "the domain is what all others speak of; it knows none of them"},
	{"sse", []string{"."}, "the wire format is for both ends of a connection, and neither end's"},
	{"intake", []string{"."}, "what comes from outside is read by one rule, whoever reads it"},
	{"web", nil, "the browser client is files, embedded; it knows nothing of what serves it"},
	{"auth", []string{"."}, "who is calling is decided without JetStream and without a connection"},
	{"auth/issuer", []string{".", "auth"}, "an issuer is the other side of auth, for dev and tests"},
	{"bus", []string{"."}, "the bus carries what it is given; who may ask for it is decided elsewhere"},
	{"bus/embedded", []string{".", "bus"}, "a server in the process is for those who start one; the bus only has its address"},
	{"bus/bustest", []string{".", "bus", "bus/embedded"}, "a bus for tests is a bus and a server, no more"},
	{"dispatch", []string{".", "auth", "bus", "intake", "sse"}, "dispatch and node run in different processes and meet only in the bus"},
	{"node", []string{".", "auth", "bus", "intake", "sse", "web"}, "node and dispatch run in different processes and meet only in the bus"},
	{"cmd/peal/doctor", []string{".", "auth", "bus", "bus/embedded", "sse"}, "what looks at a service looks at what it stands on, and at the service from outside, as a client"},
	{"cmd/peal/bench", []string{"sse"}, "what measures a service is its client: it knows what comes over the wire, not who made it"},
	{"cmd/peal/torture", nil, "it is a test, and what a test uses is no one's to build on"},
	{"cmd/peal/torture/history", nil, "what was seen is written down by whoever saw it, and judged elsewhere"},
	{"cmd/peal/torture/verdict", []string{"cmd/peal/torture/history"}, "a verdict that shared code with what it judges would share its errors"},
	{"cmd/peal", []string{".", "sse", "web", "auth", "auth/issuer", "bus", "bus/embedded", "dispatch", "node", "cmd/peal/bench", "cmd/peal/doctor"},
		"the binary puts everything together, but for what is made for tests"},
}

// homes says for each foreign module, or package of the standard library that
// not everyone should use, where it may be imported. A foreign module that is
// not here fails the test, also when only tests import it: give it a row, with
// the reason.
var homes = []struct {
	path    string // an import path; what is below it is meant too
	in      []string
	because string
}{
	{"github.com/google/uuid", []string{".", "auth/...", "bus/...", "dispatch", "node", "cmd/peal"},
		"ids are the domain's; the wire format does not look into them"},
	{"github.com/nats-io/nats.go", []string{"bus", "bus/bustest"}, "only the bus knows how JetStream is spoken to"},
	{"github.com/synadia-io/orbit.go", []string{"bus", "bus/bustest"}, "only the bus knows how JetStream is spoken to"},
	{"github.com/nats-io/nats-server", []string{"bus/embedded"}, "who imports the bus must not get a whole server with it"},
	{"github.com/julienschmidt/httprouter", []string{"node"}, "routes are the edge's"},
	{"github.com/golang-jwt/jwt", []string{"auth/..."}, "tokens are taken apart in one place, where every check is"},
	{"github.com/MicahParks/keyfunc", []string{"auth/..."}, "a realm's keys are looked up in one place, with its own store"},
	{"github.com/MicahParks/jwkset", []string{"auth/..."}, "a realm's keys are looked up in one place, with its own store"},
	{"github.com/go-json-experiment/json", []string{"intake"},
		"strict parsing is for what comes from outside, and it has one home"},
	{"go.yaml.in/yaml", []string{"auth", "cmd/peal"}, "only the configuration and the realms file are YAML"},
	{"github.com/prometheus", []string{"node"}, "others count in values of their own; the edge turns them into metrics"},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd/peal"}, "who records, and where to, is decided with the configuration"},
	{"go.opentelemetry.io/otel/exporters", []string{"cmd/peal"}, "who records, and where to, is decided with the configuration"},
	{"go.opentelemetry.io/otel", []string{"bus", "dispatch", "node", "cmd/peal"}, "a trace goes from the edge by the bus to the edge, and each says its part; the domain does not know"},
	{"golang.org/x/time", []string{"node"}, "who comes too often is told so at the edge"},
	{"golang.org/x/sys", []string{"node", "cmd/peal"}, "descriptors are parked and sockets asked at the edge only, and the binary asks its terminal"},
	{"github.com/coreos/go-systemd", []string{"cmd/peal"}, "who has started a process is told of it by the process, and by no part of it"},
	{"golang.org/x/crypto/x509roots/fallback", []string{"cmd/peal"},
		"it changes the whole process by being imported, so only the binary may"},
	{"time/tzdata", []string{"cmd/peal"}, "it makes whatever imports it half a megabyte larger, so only the binary may"},
	{"github.com/google/go-cmp", []string{"bus/bustest"}, "it panics and is slow: made for tests"},
	{"go.uber.org/goleak", []string{"bus/bustest"}, "made for tests"},
	{"testing", []string{"bus/bustest"}, "it does not belong in a binary"},
	{"C", nil, "the binary is static and is built without a C compiler"},
}

// drawers are names that say nothing of what is inside.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "types", "models"}

// environment is what reads the environment. cmd/peal reads it in one place
// and hands the values on.
var environment = map[string][]string{
	"os":      {"Getenv", "LookupEnv", "Environ", "ExpandEnv"},
	"syscall": {"Getenv", "Environ"},
}

// maxLines bounds a file, in lines that hold code. Generated files and tests
// may be longer.
const maxLines = 600

// long lists the files that may be longer, each with its reason.
var long = map[string]string{}

func TestTheHouseIsInOrder(t *testing.T) {
	for _, v := range inspect(t, ".") {
		t.Error(v)
	}
}

// TestTheHouseSeesDisorder plants one violation a row, so that the test above
// can be trusted when it is silent.
func TestTheHouseSeesDisorder(t *testing.T) {
	tests := []struct {
		name string
		file string
		src  string
		want string // in the only violation; "" wants none
	}{
		{"the root may use uuid", "inbox.go", importing("github.com/google/uuid"), ""},
		{"everyone may use the standard library", "sse/writer.go", importing("net/http"), ""},
		{"the root knows nobody", "inbox.go", importing(module + "/bus"), ". imports bus"},
		{"the root has no other module", "inbox.go", importing("github.com/nats-io/nats.go"), "nats.go is imported by ."},
		{"sse may use the root", "sse/writer.go", importing(module), ""},
		{"sse has no uuid", "sse/writer.go", importing("github.com/google/uuid"), "uuid is imported by sse"},
		{"sse does not know the bus", "sse/writer.go", importing(module + "/bus"), "sse imports bus"},
		{"auth does not know the bus", "auth/realm.go", importing(module + "/bus"), "auth imports bus"},
		{"auth does not know sse", "auth/realm.go", importing(module + "/sse"), "auth imports sse"},
		{"auth does not know node", "auth/realm.go", importing(module + "/node"), "auth imports node"},
		{"auth does not know dispatch", "auth/realm.go", importing(module + "/dispatch"), "auth imports dispatch"},
		{"auth has no nats", "auth/realm.go", importing("github.com/nats-io/nats.go"), "nats.go is imported by auth"},
		{"the bus does not know auth", "bus/bus.go", importing(module + "/auth"), "bus imports auth"},
		{"the bus does not know sse", "bus/bus.go", importing(module + "/sse"), "bus imports sse"},
		{"the bus does not know node", "bus/bus.go", importing(module + "/node"), "bus imports node"},
		{"the bus does not start servers", "bus/bus.go", importing(module + "/bus/embedded"), "bus imports bus/embedded"},
		{"node does not know dispatch", "node/server.go", importing(module + "/dispatch"), "node imports dispatch"},
		{"dispatch does not know node", "dispatch/worker.go", importing(module + "/node"), "dispatch imports node"},
		{"dispatch uses the bus", "dispatch/worker.go", importing(module + "/bus"), ""},
		{"nothing imports the binary", "node/server.go", importing(module + "/cmd/peal"), "node imports cmd/peal"},
		{"the binary has no bus for tests", "cmd/peal/dev.go", importing(module + "/bus/bustest"), "cmd/peal imports bus/bustest"},
		{"a test may use a bus for tests", "node/server_test.go", importing(module + "/bus/bustest"), ""},
		{"a new package needs a row", "metrics/metrics.go", importing(), "metrics has no row in rooms"},
		{"whatever it imports", "metrics/metrics.go", importing("fmt"), "metrics has no row in rooms"},
		{"and only one", "metrics/metrics.go", importing(module, module+"/bus"), "metrics has no row in rooms"},

		{"nats.go is at home in the bus", "bus/bus.go", importing("github.com/nats-io/nats.go/jetstream"), ""},
		{"nats.go is not at home in node", "node/feed.go", importing("github.com/nats-io/nats.go/jetstream"), "nats.go is imported by node"},
		{"nor in the embedded server", "bus/embedded/server.go", importing("github.com/nats-io/nats.go"), "nats.go is imported by bus/embedded"},
		{"orbit is not at home in node", "node/feed.go", importing("github.com/synadia-io/orbit.go/jetstreamext"), "orbit.go is imported by node"},
		{"the server is at home in embedded", "bus/embedded/server.go", importing("github.com/nats-io/nats-server/v2/server"), ""},
		{"the server is not at home in the bus", "bus/bus.go", importing("github.com/nats-io/nats-server/v2/server"), "nats-server is imported by bus"},
		{"routes are not at home in cmd", "cmd/peal/serve.go", importing("github.com/julienschmidt/httprouter"), "httprouter is imported by cmd/peal"},
		{"jwt is at home in the issuer", "auth/issuer/issuer.go", importing("github.com/golang-jwt/jwt/v5"), ""},
		{"jwt is not at home in node", "node/auth.go", importing("github.com/golang-jwt/jwt/v5"), "jwt is imported by node"},
		{"keyfunc is not at home in node", "node/auth.go", importing("github.com/MicahParks/keyfunc/v3"), "keyfunc is imported by node"},
		{"jwkset is not at home in cmd", "cmd/peal/dev.go", importing("github.com/MicahParks/jwkset"), "jwkset is imported by cmd/peal"},
		{"strict json is not at home in the bus", "bus/bus.go", importing("github.com/go-json-experiment/json"), "json is imported by bus"},
		{"yaml is not at home in node", "node/config.go", importing("go.yaml.in/yaml/v4"), "yaml is imported by node"},
		{"metrics are not at home in cmd", "cmd/peal/serve.go", importing("github.com/prometheus/client_golang/prometheus"), "prometheus is imported by cmd/peal"},
		{"roots are not at home in auth", "auth/keys.go", "import _ \"golang.org/x/crypto/x509roots/fallback\"", "fallback is imported by auth"},
		{"roots are at home in the binary", "cmd/peal/main.go", "import _ \"golang.org/x/crypto/x509roots/fallback\"", ""},
		{"the service manager is told by the binary", "cmd/peal/systemd.go", importing("github.com/coreos/go-systemd/v22/daemon"), ""},
		{"and not by the node", "node/serve.go", importing("github.com/coreos/go-systemd/v22/daemon"), "go-systemd is imported by node"},
		{"time zones are not at home in the domain", "quiethours.go", "import _ \"time/tzdata\"", "tzdata is imported by ."},
		{"time zones are at home in the binary", "cmd/peal/main.go", "import _ \"time/tzdata\"", ""},
		{"go-cmp is for tests", "node/problem.go", importing("github.com/google/go-cmp/cmp"), "go-cmp is imported by node"},
		{"go-cmp in a test", "node/problem_test.go", importing("github.com/google/go-cmp/cmp"), ""},
		{"goleak is for tests", "bus/bus.go", importing("go.uber.org/goleak"), "goleak is imported by bus"},
		{"goleak in a bus for tests", "bus/bustest/bustest.go", importing("go.uber.org/goleak"), ""},
		{"testing is for tests", "node/fake.go", importing("testing"), "testing is imported by node"},
		{"no cgo", "node/epoll.go", importing("C"), "C is imported by node"},
		{"a new module needs a row", "node/server.go", importing("example.com/quick/v2"), "example.com/quick/v2 has no row in homes"},
		{"in a test too", "node/server_test.go", importing("example.com/quick/v2"), "example.com/quick/v2 has no row in homes"},
		{"a longer name is another module", "bus/bus.go", importing("github.com/nats-io/nats.gopher"), "nats.gopher has no row in homes"},

		{"no drawers", "sse/writer.go", "//package helpers", `sse/writer.go is in package "helpers"`},
		{"the environment is read in the binary", "cmd/peal/config.go", "import \"os\"\nvar _ = os.Getenv(\"PEAL_LISTEN\")", ""},
		{"and nowhere else", "node/config.go", "import \"os\"\nvar _, _ = os.LookupEnv(\"PEAL_LISTEN\")", "node/config.go:3 reads the environment (os.LookupEnv)"},
		{"under no other name", "bus/bus.go", "import env \"os\"\nvar read = env.Getenv", "bus/bus.go:3 reads the environment (os.Getenv)"},
		{"nor without one", "bus/bus.go", "import . \"os\"\nvar read = Getenv", "bus/bus.go:2 hides what it uses of os"},
		{"a method of that name is none", "bus/bus.go", "type env struct{}\nfunc (env) Getenv() {}\nfunc f(os env) { os.Getenv() }", ""},
		{"no init", "node/server.go", "func init() {}", "node/server.go:2 has an init"},
		{"an init that is a method is none", "node/server.go", "type s struct{}\nfunc (s) init() {}", ""},
		{"a long file", "node/server.go", strings.Repeat("var _ = 0\n", maxLines), "node/server.go has 601 lines of code"},
		{"a file that is just not too long", "node/server.go", strings.Repeat("var _ = 0\n", maxLines-1), ""},
		{"comments are not code", "node/server.go", strings.Repeat("// Why.\n\n", maxLines), ""},
		{"nor is what was generated", "node/api.go", "// Code generated by x. DO NOT EDIT.\n" + strings.Repeat("var _ = 0\n", maxLines), ""},
		{"a long test", "node/server_test.go", strings.Repeat("var _ = 0\n", maxLines), ""},
		{"testdata is not looked at", "node/testdata/x/x.go", importing("example.com/quick"), ""},
		{"a file for another system is", "node/conn_windows.go", "//go:build windows\n\n" + importing("example.com/quick"), "no row in homes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			plant(t, root, tt.file, tt.src)
			got := inspect(t, root)
			if tt.want == "" {
				if len(got) != 0 {
					t.Errorf("%s with\n%s\ngot %q, want nothing", tt.file, tt.src, got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], tt.want) {
				t.Errorf("%s with\n%.200s\ngot %q, want one violation with %q", tt.file, tt.src, got, tt.want)
			}
		})
	}
}

// importing is the source of a file that imports paths.
func importing(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "import _ %q\n", p)
	}
	return b.String()
}

// plant writes a file with src below a package clause, which is named after
// the folder unless src begins with one as a comment. Constraints and marks
// that belong above the clause go there.
func plant(t *testing.T, root, file, src string) {
	t.Helper()
	name := path.Base(path.Dir(file))
	switch {
	case name == ".":
		name = "peal"
	case strings.HasPrefix(file, "cmd/"):
		name = "main"
	}
	clause := "package " + name + "\n"
	switch {
	case strings.HasPrefix(src, "//package "):
		src = strings.TrimPrefix(src, "//") + "\n"
	case strings.HasPrefix(src, "//go:build "), strings.HasPrefix(src, "// Code generated "):
		head, rest, _ := strings.Cut(src, "\n")
		src = head + "\n\n" + clause + rest
	default:
		src = clause + src
	}
	full := filepath.Join(root, filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inspect returns what is out of order in the Go files below root, each in a
// sentence with its reason, sorted.
func inspect(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if full != root && skipped(full, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(full) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		f, err := parseGoFile(full, filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		found = append(found, f.violations()...)
		return nil
	})
	if err != nil {
		t.Fatalf("inspect %s: %v", root, err)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// skipped reports whether the go command would not look into a folder either.
func skipped(full, name string) bool {
	if name == "testdata" || name == "node_modules" || name[0] == '.' || name[0] == '_' {
		return true
	}
	_, err := os.Stat(filepath.Join(full, "go.mod"))
	return err == nil
}

// A goFile is one Go file of the tree.
type goFile struct {
	path string // from the root, with slashes
	pkg  string // the folder of path, "." for the root
	test bool
	src  []byte
	fset *token.FileSet
	ast  *ast.File
}

func parseGoFile(full, rel string) (*goFile, error) {
	src, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	f := &goFile{
		path: rel,
		pkg:  path.Dir(rel),
		test: strings.HasSuffix(rel, "_test.go"),
		src:  src,
		fset: token.NewFileSet(),
	}
	f.ast, err = parser.ParseFile(f.fset, rel, src, parser.ParseComments)
	return f, err
}

func (f *goFile) violations() []string {
	found := f.name()
	for _, spec := range f.ast.Imports {
		// The parser accepts only valid literals.
		to, _ := strconv.Unquote(spec.Path.Value)
		switch inner, ours := strings.CutPrefix(to+"/", module+"/"); {
		case !ours:
			found = append(found, f.foreign(to)...)
		case !f.test:
			found = append(found, f.room(cmp.Or(strings.TrimSuffix(inner, "/"), "."))...)
		}
	}
	if f.test {
		return found
	}
	// A package that imports nothing of ours needs a row too.
	return slices.Concat(found, f.room(f.pkg), f.environment(), f.inits(), f.length())
}

// name checks what the file's package is called.
func (f *goFile) name() []string {
	name := strings.TrimSuffix(f.ast.Name.Name, "_test")
	if !slices.Contains(drawers, name) {
		return nil
	}
	return []string{fmt.Sprintf("%s is in package %q: that says nothing of what is inside; find the noun", f.path, name)}
}

// room checks an import of another package of this module.
func (f *goFile) room(to string) []string {
	for _, r := range rooms {
		if r.pkg != f.pkg {
			continue
		}
		if to == f.pkg || slices.Contains(r.may, to) {
			return nil
		}
		return []string{fmt.Sprintf("%s imports %s (%s): %s", f.pkg, to, f.path, r.because)}
	}
	return []string{fmt.Sprintf("%s has no row in rooms (%s): add one, with the reason", f.pkg, f.path)}
}

// foreign checks an import of another module or of the standard library.
func (f *goFile) foreign(to string) []string {
	for _, h := range homes {
		if to != h.path && !strings.HasPrefix(to, h.path+"/") {
			continue
		}
		if f.test || f.atHome(h.in) {
			return nil
		}
		return []string{fmt.Sprintf("%s is imported by %s (%s): %s", h.path, f.pkg, f.path, h.because)}
	}
	if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
		return nil // the standard library
	}
	return []string{fmt.Sprintf("%s has no row in homes (%s): add one, with the reason", to, f.path)}
}

func (f *goFile) atHome(in []string) bool {
	return slices.ContainsFunc(in, func(pattern string) bool {
		below, tree := strings.CutSuffix(pattern, "/...")
		return pattern == f.pkg || tree && (f.pkg == below || strings.HasPrefix(f.pkg, below+"/"))
	})
}

// environment finds what reads the environment outside cmd/peal.
func (f *goFile) environment() []string {
	if f.pkg == "cmd/peal" {
		return nil
	}
	names := make(map[string]string) // name in this file → import path
	var found []string
	for _, spec := range f.ast.Imports {
		to, _ := strconv.Unquote(spec.Path.Value)
		if environment[to] == nil {
			continue
		}
		name := path.Base(to)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			found = append(found, fmt.Sprintf("%s hides what it uses of %s: import it by name", f.at(spec), to))
		}
		names[name] = to
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if from := names[id.Name]; slices.Contains(environment[from], sel.Sel.Name) {
			found = append(found, fmt.Sprintf("%s reads the environment (%s.%s): only cmd/peal does, and hands the value on",
				f.at(sel), from, sel.Sel.Name))
		}
		return true
	})
	return found
}

// inits finds init functions.
func (f *goFile) inits() []string {
	var found []string
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			found = append(found, f.at(fn)+" has an init: nothing happens by being imported")
		}
	}
	return found
}

// length checks the number of lines that hold code.
func (f *goFile) length() []string {
	n := f.codeLines()
	if n <= maxLines || ast.IsGenerated(f.ast) || long[f.path] != "" {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines of code, more than %d: split it, or list it in long with the reason", f.path, n, maxLines)}
}

// codeLines counts the lines on which a token begins or goes on; a line with
// nothing or only comment on it does not count.
func (f *goFile) codeLines() int {
	file := token.NewFileSet().AddFile(f.path, -1, len(f.src))
	var s scanner.Scanner
	s.Init(file, f.src, nil, 0) // it skips comments
	lines := make(map[int]bool)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // inserted, not written
		}
		first := file.Line(pos)
		for i := range 1 + strings.Count(lit, "\n") {
			lines[first+i] = true
		}
	}
}

// at is where a node stands, as "file:line".
func (f *goFile) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}
