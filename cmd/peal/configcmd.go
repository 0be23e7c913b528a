package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// config answers peal config check and peal config print.
func config(_ context.Context, c *call) error {
	if len(c.args) == 0 || (c.args[0] != "check" && c.args[0] != "print") {
		if slices.ContainsFunc(c.args, func(a string) bool { return a == "-h" || a == "--help" }) {
			return c.parse(c.flags(), []string{"--help"})
		}
		return usagef("say peal config check or peal config print")
	}
	s, err := c.load(serveDefaults, c.args[1:])
	if err != nil {
		return err
	}
	if c.args[0] == "print" {
		return s.print(c.stdout)
	}
	if err := s.placed(); err != nil {
		return err
	}
	if _, _, err := s.readRealms(); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, "the configuration is good")
	return nil
}

// print writes the settings as a configuration file, without secrets.
func (s *settings) print(w io.Writer) error {
	var doc yaml.Node
	doc.Kind = yaml.MappingNode
	for _, x := range s.registered {
		if x.flagOnly {
			continue
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: x.name, HeadComment: strings.ReplaceAll(x.help, "`", "")}
		if x.tree != nil {
			doc.Content = append(doc.Content, key, x.tree.yaml())
			continue
		}
		v := x.value.String()
		if x.name == "nats" {
			v = masked(v)
		}
		value := &yaml.Node{Kind: yaml.ScalarNode, Value: v}
		if _, isString := x.value.(*stringValue); isString {
			value.Style = yaml.DoubleQuotedStyle
		}
		doc.Content = append(doc.Content, key, value)
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// masked hides the passwords and tokens of NATS URLs: all that stands before
// an @.
func masked(urls string) string {
	all := strings.Split(urls, ",")
	for i, s := range all {
		scheme, rest, ok := strings.Cut(s, "://")
		if !ok {
			scheme, rest = "nats", s
		}
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			all[i] = scheme + "://masked" + rest[at:]
		}
	}
	return strings.Join(all, ",")
}
