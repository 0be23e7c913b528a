package auth

import (
	"errors"
	"reflect"
)

// snapshot is one configuration and what was made of it. It does not change.
type snapshot struct {
	byName    map[string]*realm
	order     []*realm // as in the configuration
	directory *Directory
}

func (v *Verifier) snapshot() *snapshot { return v.realms.Load() }

// Directory returns the directory of the configuration that is in force.
func (v *Verifier) Directory() *Directory { return v.snapshot().directory }

// Changes says what a Reload did, by the names of realms.
type Changes struct {
	Added, Removed, Changed []string
}

// None reports whether all is as it was.
func (c Changes) None() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// Reload puts a configuration in the place of the one before, all at once or not
// at all. A realm that stays as it is keeps everything; one that is changed keeps
// its keys as long as they come from where they came from. Who holds a Caller
// asks Review about it afterwards. The configuration is kept, and compared with
// the next one: it must not be changed. The error is that of Config.Validate.
func (v *Verifier) Reload(cfg Config) (Changes, error) {
	directory, err := NewDirectory(cfg) // validates
	if err != nil {
		return Changes{}, err
	}
	v.reloading.Lock()
	defer v.reloading.Unlock()
	if v.closed {
		return Changes{}, errors.New("the verifier is closed")
	}
	before, after := v.snapshot(), &snapshot{byName: map[string]*realm{}, directory: directory}
	var changes Changes
	var opened []*keyset
	for _, c := range cfg.Realms {
		c = c.withDefaults()
		old := before.byName[c.Name]
		r := old
		if old == nil || !reflect.DeepEqual(old.Realm, c) {
			keys := v.keysOf(c, old)
			if r, err = newRealm(c, keys, v.revoked); err != nil {
				return Changes{}, err
			}
			if old == nil || keys != old.keys {
				opened = append(opened, keys)
			}
			if old == nil {
				changes.Added = append(changes.Added, c.Name)
			} else {
				changes.Changed = append(changes.Changed, c.Name)
				if old.Issuer == c.Issuer {
					r.ahead = old.ahead
				}
			}
		}
		after.byName[c.Name] = r
		after.order = append(after.order, r)
	}
	for _, keys := range opened {
		keys.start()
	}
	v.realms.Store(after)
	for _, old := range before.order {
		r := after.byName[old.Name]
		if r == nil {
			changes.Removed = append(changes.Removed, old.Name)
		}
		if r == nil || r.keys != old.keys {
			old.keys.close()
		}
	}
	return changes, nil
}

// keysOf returns the keys for a realm: those it has, if they still come from
// where they would come from, else new ones that are not started.
func (v *Verifier) keysOf(c Realm, old *realm) *keyset {
	to := source{realm: c}
	if old != nil && to.same(source{realm: old.Realm}) {
		return old.keys
	}
	return newKeyset(v.opts.Logger.With("realm", c.Name), to.fetch, newVault(v.opts.Dir, to))
}

// ErrRealmChanged is the error of a caller whose realm is configured otherwise
// than when the token was verified. The token may still be good.
var ErrRealmChanged = errors.New("the realm has changed")

// Review says how a caller of before stands now: nil, a Refusal if a request
// with the same token could not succeed any more (the token is revoked; the realm
// is gone, speaks for the tenant no more, or means another user), or an
// ErrRealmChanged. It does not look at the clock.
func (v *Verifier) Review(c Caller) error {
	if v.revoked.cover(c.traits(), c.IssuedAt) {
		return refuse(ReasonRevoked, "", nil)
	}
	r := v.snapshot().byName[c.Realm]
	switch {
	case r == c.realm:
		return nil
	case r == nil || r.Issuer != c.realm.Issuer || r.Namespace != c.Inbox.Namespace:
		return refuse(ReasonUnknownRealm, "", nil)
	case !r.speaksFor(c.Inbox.Tenant):
		return refuse(ReasonTenant, "", nil)
	}
	return ErrRealmChanged
}
