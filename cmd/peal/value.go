package main

import (
	"errors"
	"flag"
	"strconv"
	"time"
)

// recorder remembers what a flag was given.
type recorder struct {
	flag.Value
	name  string
	given map[string]string
}

func (r *recorder) Set(v string) error {
	r.given[r.name] = v
	return r.Value.Set(v)
}

func (r *recorder) String() string {
	if r.Value == nil { // flag asks a zero one for its default
		return ""
	}
	return r.Value.String()
}

func (r *recorder) IsBoolFlag() bool {
	_, ok := r.Value.(*boolValue)
	return ok
}

type (
	stringValue   string
	intValue      int
	durationValue time.Duration
	boolValue     bool
)

func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }
func (v *stringValue) String() string     { return string(*v) }

func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errors.New("must be a whole number")
	}
	*v = intValue(n)
	return nil
}
func (v *intValue) String() string { return strconv.Itoa(int(*v)) }

func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("must be a duration such as 30s or 5m")
	}
	*v = durationValue(d)
	return nil
}
func (v *durationValue) String() string { return time.Duration(*v).String() }

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("must be true or false")
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string { return strconv.FormatBool(bool(*v)) }

// single is the value of a flag that may be given once: where a second one would
// silently take the place of the first.
type single struct {
	value string
	given bool
}

func (s *single) String() string { return s.value }

func (s *single) Set(v string) error {
	if s.given {
		return errors.New("may be given once")
	}
	s.value, s.given = v, true
	return nil
}
