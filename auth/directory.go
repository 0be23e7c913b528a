package auth

import (
	"errors"
	"slices"

	"github.com/pealhq/peal"
)

// Directory finds the inbox that a publisher means by a user reference. It does
// not know whether there is such a user. It does not change and may be used
// concurrently.
type Directory struct {
	tenants map[peal.Tenant]spaces // the tenants that are listed by a realm or in Config.Tenants
	any     spaces                 // of all other tenants: those of the realms for any

	namespaces []peal.Namespace // of all realms
}

// spaces are a tenant's namespaces.
type spaces struct {
	all []peal.Namespace
	def peal.Namespace // of users named without one; "" if that must not be
}

// NewDirectory returns the directory of a configuration. The error is that of
// Config.Validate.
func NewDirectory(cfg Config) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Directory{tenants: map[peal.Tenant]spaces{}}
	for _, r := range cfg.Realms {
		d.namespaces = append(d.namespaces, r.withDefaults().Namespace)
		if r.Tenants.Any {
			d.any.add(r.withDefaults().Namespace)
		}
	}
	d.any.def = d.any.only()

	for _, r := range cfg.Realms {
		for _, id := range r.Tenants.IDs {
			s := d.tenants[id]
			s.add(r.withDefaults().Namespace)
			d.tenants[id] = s
		}
	}
	for id, s := range d.tenants {
		s.def = s.only() // a service realm for any tenant has no users to speak of
		for _, ns := range d.any.all {
			s.add(ns)
		}
		d.tenants[id] = s
	}
	for _, row := range cfg.Tenants {
		s, ok := d.tenants[row.ID]
		if !ok {
			s = d.any
		}
		if row.DefaultNamespace != "" {
			s.def = row.DefaultNamespace
		}
		d.tenants[row.ID] = s
	}
	return d, nil
}

func (s *spaces) add(ns peal.Namespace) {
	if !slices.Contains(s.all, ns) {
		s.all = append(s.all, ns)
	}
}

func (s *spaces) only() peal.Namespace {
	if len(s.all) != 1 {
		return ""
	}
	return s.all[0]
}

func (d *Directory) of(t peal.Tenant) spaces {
	if s, ok := d.tenants[t]; ok {
		return s
	}
	return d.any
}

// Serves reports whether some realm may speak for a tenant.
func (d *Directory) Serves(t peal.Tenant) bool { return len(d.of(t).all) > 0 }

// Has reports whether some realm has a namespace.
func (d *Directory) Has(ns peal.Namespace) bool { return slices.Contains(d.namespaces, ns) }

// Inbox returns the inbox of a user of a tenant. The tenant's default namespace is
// the configured one, else the only one of the realms that list the tenant, and
// where none lists it, of the realms for any. The error is a peal.InvalidError.
func (d *Directory) Inbox(t peal.Tenant, r peal.UserRef) (peal.Inbox, error) {
	s := d.of(t)
	if len(s.all) == 0 {
		return peal.Inbox{}, peal.Invalid("tenant", "must be one that a realm may speak for")
	}
	_, err := peal.ParseUserID(string(r.ID))
	if invalid, ok := errors.AsType[*peal.InvalidError](err); ok {
		return peal.Inbox{}, peal.Invalid("recipients", "a user id "+invalid.Reason)
	}
	ns := r.Namespace
	switch {
	case ns == "" && s.def == "":
		return peal.Inbox{}, peal.Invalid("recipients", "the tenant has several namespaces and no default: name a namespace")
	case ns == "":
		ns = s.def
	case !slices.Contains(s.all, ns):
		return peal.Inbox{}, peal.Invalid("recipients", "a namespace must be one of the tenant's")
	}
	return peal.Inbox{Tenant: t, Namespace: ns, User: r.ID}, nil
}

// DefaultNamespace returns the namespace of a tenant's users that are named without
// one; "" if they must not be.
func (d *Directory) DefaultNamespace(t peal.Tenant) peal.Namespace { return d.of(t).def }
