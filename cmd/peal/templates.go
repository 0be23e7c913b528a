package main

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/dispatch"
)

// templates is the setting of that name: a mapping of "all", or a tenant, to types
// of notification, and of these to title, message and actionUrl.
type templates struct {
	node *yaml.Node // as it was given; nil if it was not
	all  dispatch.Templates
}

// allTenants is the key of what is for all tenants.
const allTenants = "all"

// read takes the value of the setting from a file.
func (t *templates) read(file string, n *yaml.Node) error {
	t.node, t.all = n, make(dispatch.Templates)
	return eachKey(file, "templates", n, func(path string, key, value *yaml.Node) error {
		var tenant peal.Tenant
		if key.Value != allTenants {
			var err error
			if tenant, err = peal.ParseTenant(key.Value); err != nil {
				return fmt.Errorf("%s:%d: %s: must be %s or the id of a tenant", file, key.Line, path, allTenants)
			}
		}
		if t.all[tenant] != nil { // by another spelling
			return fmt.Errorf("%s:%d: %s is given twice", file, key.Line, path)
		}
		t.all[tenant] = make(map[peal.Type]dispatch.Words)
		return eachKey(file, path, value, func(path string, key, value *yaml.Node) error {
			typ := peal.Type(key.Value)
			if !typ.Valid() {
				return fmt.Errorf("%s:%d: %s: must be one of %s", file, key.Line, path, typeNames())
			}
			words, err := readWords(file, path, value)
			t.all[tenant][typ] = words
			return err
		})
	})
}

// yaml is the value as it was given, for a configuration file.
func (t *templates) yaml() *yaml.Node {
	if t.node == nil {
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	}
	return t.node
}

func readWords(file, path string, n *yaml.Node) (w dispatch.Words, err error) {
	parts := map[string]*string{"title": &w.Title, "message": &w.Message, "actionUrl": &w.ActionURL}
	err = eachKey(file, path, n, func(path string, key, value *yaml.Node) error {
		part := parts[key.Value]
		if part == nil {
			return fmt.Errorf("%s:%d: %s: must be title, message or actionUrl", file, key.Line, path)
		}
		text, err := scalar(value, false)
		if err == nil && (text == "" || value.ShortTag() == "!!null") { // also ~, which is no text
			err = errors.New("must not be empty: leave it out for the default")
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %s: %w", file, key.Line, path, err)
		}
		*part = text
		return nil
	})
	return w, err
}

// eachKey calls take for each key of a mapping, with the path of it. A key that is
// given twice is an error.
func eachKey(file, path string, n *yaml.Node, take func(path string, key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: %s: must be a mapping", file, n.Line, path)
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := path + "." + key.Value
		if seen[key.Value] {
			return fmt.Errorf("%s:%d: %s is given twice", file, key.Line, at)
		}
		seen[key.Value] = true
		if err := take(at, key, value); err != nil {
			return err
		}
	}
	return nil
}
