package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/pealhq/peal"
)

// Parse reads a realms file, YAML of the shape of Config, and validates it.
// name is the file's name for messages. Unknown and repeated keys and values of
// the wrong type are errors; every error begins with "name:line: " and names
// the key, and is a peal.ErrInvalid.
func Parse(name string, data []byte) (Config, error) {
	f := file{name: name, lines: map[string]int{}}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return Config{}, f.syntaxError(err)
	}
	if len(doc.Content) != 1 {
		return Config{}, f.errorAt(1, peal.Invalid("realms", "must list at least one realm"))
	}

	var c Config
	if err := f.config(&c)(doc.Content[0], ""); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, f.locate(err)
	}
	return c, nil
}

// YAML returns c as a realms file that Parse reads as c.
func (c Config) YAML() ([]byte, error) {
	return yaml.Dump(c)
}

// file is a realms file while it is read.
type file struct {
	name  string
	lines map[string]int // path of a value, such as realms[0].name → its line
}

// reader takes the value at path out of n.
type reader func(n *yaml.Node, path string) error

func (f *file) config(c *Config) reader {
	return f.mapping(map[string]reader{
		"realms": sequence(f, &c.Realms, func(r *Realm) reader { return f.realm(r) }),
		"tenants": sequence(f, &c.Tenants, func(t *TenantRow) reader {
			return f.mapping(map[string]reader{
				"id":               f.tenant(&t.ID),
				"defaultNamespace": text(f, &t.DefaultNamespace),
			})
		}),
	})
}

func (f *file) realm(r *Realm) reader {
	return f.mapping(map[string]reader{
		"name":       text(f, &r.Name),
		"issuer":     text(f, &r.Issuer),
		"jwks":       text(f, &r.JWKS),
		"discovery":  f.boolean(&r.Discovery),
		"audiences":  f.texts(&r.Audiences),
		"algorithms": f.texts(&r.Algorithms),
		"tenants":    f.tenants(&r.Tenants),
		"namespace":  text(f, &r.Namespace),
		"claims": f.mapping(map[string]reader{
			"tenant": f.texts(&r.Claims.Tenant),
			"roles":  f.texts(&r.Claims.Roles),
			"user":   text(f, &r.Claims.User),
		}),
		"roles": f.mapping(map[string]reader{
			"connect": f.optionalText(&r.Roles.Connect),
			"publish": text(f, &r.Roles.Publish),
			"admin":   text(f, &r.Roles.Admin),
			"tickets": text(f, &r.Roles.Tickets),
		}),
		"types":           f.texts(&r.Types),
		"requiredClaims":  f.requiredClaims(&r.RequiredClaims),
		"maxTokenLife":    f.duration(&r.MaxTokenLife),
		"logoutAudiences": f.texts(&r.LogoutAudiences),
		"allowPrivate":    f.boolean(&r.AllowPrivate),
	})
}

func (f *file) mapping(fields map[string]reader) reader {
	return f.entries(func(key string) reader { return fields[key] })
}

// requiredClaims reads a mapping whose keys are the claims' own paths.
func (f *file) requiredClaims(m *map[string]Values) reader {
	return func(n *yaml.Node, path string) error {
		all := map[string]Values{}
		err := f.entries(func(claim string) reader {
			return func(n *yaml.Node, path string) error {
				var v Values
				err := anyOr(f, &v.Any, "strings", f.texts(&v.OneOf))(n, path)
				all[claim] = v
				return err
			}
		})(n, path)
		if len(all) > 0 {
			*m = all
		}
		return err
	}
}

// entries reads a mapping; of says how the value of a key is read, nil if the
// key is not known.
func (f *file) entries(of func(key string) reader) reader {
	return func(n *yaml.Node, path string) error {
		n = follow(n)
		if n.Kind != yaml.MappingNode {
			return f.errorAt(n.Line, peal.Invalid(orFile(path), "must be a mapping of keys to values"))
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := strings.TrimPrefix(path+"."+key.Value, ".")
			read := of(key.Value)
			if read == nil || key.Kind != yaml.ScalarNode {
				return f.errorAt(key.Line, peal.Invalid(at, "is not a key that is known here"))
			}
			if seen[key.Value] {
				return f.errorAt(key.Line, peal.Invalid(at, "is given twice"))
			}
			seen[key.Value] = true
			f.lines[at] = key.Line
			if err := read(value, at); err != nil {
				return err
			}
		}
		return nil
	}
}

// sequence reads a list into s. Each element is read by item.
func sequence[T any](f *file, s *[]T, item func(*T) reader) reader {
	return func(n *yaml.Node, path string) error {
		n = follow(n)
		if n.Kind != yaml.SequenceNode {
			return f.errorAt(n.Line, peal.Invalid(path, "must be a list"))
		}
		if len(n.Content) == 0 {
			return f.errorAt(n.Line, peal.Invalid(path, "must not be an empty list"))
		}
		for i, c := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			f.lines[at] = c.Line
			var v T
			if err := item(&v)(c, at); err != nil {
				return err
			}
			*s = append(*s, v)
		}
		return nil
	}
}

func (f *file) texts(s *[]string) reader {
	return sequence(f, s, func(v *string) reader { return text(f, v) })
}

// text reads a string that is not empty: an empty value is more often a slip
// than a wish for the default, which is had by leaving the key out.
func text[S ~string](f *file, s *S) reader {
	return func(n *yaml.Node, path string) error {
		var v string
		if err := f.optionalText(&v)(n, path); err != nil {
			return err
		}
		if v == "" {
			return f.errorAt(n.Line, peal.Invalid(path, "must not be empty"))
		}
		*s = S(v)
		return nil
	}
}

func (f *file) optionalText(s *string) reader {
	return func(n *yaml.Node, path string) error {
		n = follow(n)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			return f.errorAt(n.Line, peal.Invalid(path, "must be a string"))
		}
		*s = n.Value
		return nil
	}
}

func (f *file) boolean(b *bool) reader {
	return func(n *yaml.Node, path string) error {
		n = follow(n)
		if n.Kind != yaml.ScalarNode || (n.Value != "true" && n.Value != "false") {
			return f.errorAt(n.Line, peal.Invalid(path, "must be true or false"))
		}
		*b = n.Value == "true"
		return nil
	}
}

func (f *file) tenant(t *peal.Tenant) reader {
	return func(n *yaml.Node, path string) error {
		var s string
		if err := text(f, &s)(n, path); err != nil {
			return err
		}
		id, err := peal.ParseTenant(s)
		if err != nil {
			return f.errorAt(n.Line, peal.Invalid(path, "must be a UUID"))
		}
		*t = id
		return nil
	}
}

func (f *file) tenants(t *Tenants) reader {
	return anyOr(f, &t.Any, "UUIDs", sequence(f, &t.IDs, func(id *peal.Tenant) reader { return f.tenant(id) }))
}

// anyOr reads the word any, or what list reads: a list of what kind says.
func anyOr(f *file, any *bool, kind string, list reader) reader {
	return func(n *yaml.Node, path string) error {
		v := follow(n)
		switch {
		case v.Kind != yaml.ScalarNode:
			return list(n, path)
		case v.Value != "any":
			return f.errorAt(n.Line, peal.Invalid(path, "must be a list of "+kind+", or the word any"))
		}
		*any = true
		return nil
	}
}

// duration reads a time such as 720h.
func (f *file) duration(d *time.Duration) reader {
	return func(n *yaml.Node, path string) error {
		var s string
		if err := text(f, &s)(n, path); err != nil {
			return err
		}
		v, err := time.ParseDuration(s)
		if err != nil || v <= 0 {
			return f.errorAt(n.Line, peal.Invalid(path, "must be a time such as 720h"))
		}
		*d = v
		return nil
	}
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func orFile(path string) string {
	if path == "" {
		return "realms file"
	}
	return path
}

// locate adds the line of the value that err, from Validate, is about, or of
// the innermost thing around it that the file has.
func (f *file) locate(err error) error {
	var invalid *peal.InvalidError
	if !errors.As(err, &invalid) {
		return f.errorAt(1, err)
	}
	for path := invalid.Field; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		if line, ok := f.lines[path]; ok {
			return f.errorAt(line, err)
		}
	}
	return f.errorAt(1, err)
}

func (f *file) syntaxError(err error) error {
	line := 1
	reason := "must be one YAML document"
	if le, ok := errors.AsType[*yaml.LoadError](err); ok && le.Mark.Line > 0 {
		line, reason = le.Mark.Line, "must be YAML: "+le.Message
	}
	return f.errorAt(line, peal.Invalid("realms file", reason))
}

func (f *file) errorAt(line int, err error) error {
	return fmt.Errorf("%s:%d: %w", f.name, line, err)
}
