package peal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Bounds of preferences.
const (
	MaxMutedTickets = 1000

	// MaxPreferences bounds the JSON of preferences, in bytes. A thousand ids of
	// 128 bytes fit; not if they also consist of what JSON escapes.
	MaxPreferences = 144 << 10
)

// Preferences say what a user wants to be told of, and when without sound.
// What is absent, the zero value, is left to the tenant's, see Wishes. The JSON
// is what is stored, and what clients read and write.
type Preferences struct {
	Types        Switches    `json:"types,omitempty"`
	MinPriority  Priority    `json:"minPriority,omitempty"`  // what is below it is not told
	MutedTickets []string    `json:"mutedTickets,omitempty"` // their ids
	QuietHours   *QuietHours `json:"quietHours,omitempty"`
}

// TenantPreferences are a tenant's: the defaults of its users, and the types
// about which users have no say.
type TenantPreferences struct {
	Preferences
	Locked []Type `json:"locked,omitempty"`
}

// Switches say of types whether they are told: true is on, false is off.
type Switches map[Type]bool

// UnmarshalJSON implements json.Unmarshaler. Each value is true or false: a null
// must not be taken for off.
func (s *Switches) UnmarshalJSON(b []byte) error {
	var values map[Type]*bool
	if err := json.Unmarshal(b, &values); err != nil {
		return Invalid("types", "must be an object of true and false")
	}
	*s = nil
	for t, on := range values {
		if on == nil {
			return Invalid("types", "must be an object of true and false")
		}
		if *s == nil {
			*s = make(Switches, len(values))
		}
		(*s)[t] = *on
	}
	return nil
}

// DecodePreferences reads what Encode has made, also by a version that knows
// more: what it does not know of is passed over.
// The error is an InvalidError.
func DecodePreferences(b []byte) (Preferences, error) {
	var p Preferences
	if err := decodePreferences(b, &p); err != nil {
		return Preferences{}, err
	}
	return p.canonical(), nil
}

// DecodeTenantPreferences reads what Encode has made, as DecodePreferences does.
func DecodeTenantPreferences(b []byte) (TenantPreferences, error) {
	var p TenantPreferences
	if err := decodePreferences(b, &p); err != nil {
		return TenantPreferences{}, err
	}
	return p.canonical(), nil
}

func decodePreferences(b []byte, v any) error {
	if len(b) > MaxPreferences {
		return tooLarge()
	}
	if err := json.Unmarshal(b, v); err != nil {
		return Invalid("preferences", "must be a JSON object of preferences")
	}
	return nil
}

// Encode returns p as one line of JSON. Preferences that mean the same and
// switch the same types have the same: lists are sorted.
func (p Preferences) Encode() []byte { return encode(p.canonical()) }

// Encode returns p as Preferences.Encode does.
func (p TenantPreferences) Encode() []byte { return encode(p.canonical()) }

func (p Preferences) canonical() Preferences {
	p.MutedTickets = slices.Sorted(slices.Values(p.MutedTickets))
	return p
}

func (p TenantPreferences) canonical() TenantPreferences {
	p.Preferences = p.Preferences.canonical()
	p.Locked = slices.Sorted(slices.Values(p.Locked))
	return p
}

// Validate holds p against the contract's bounds. The error is an InvalidError.
func (p Preferences) Validate() error {
	if err := p.validate(); err != nil {
		return err
	}
	if len(p.Encode()) > MaxPreferences {
		return tooLarge()
	}
	return nil
}

// Validate holds p against the contract's bounds. The error is an InvalidError.
func (p TenantPreferences) Validate() error {
	if err := p.validate(); err != nil {
		return err
	}
	for i, t := range p.Locked {
		if !t.Valid() {
			return unknownType("locked")
		}
		if slices.Contains(p.Locked[:i], t) {
			return Invalid("locked", "must not repeat one")
		}
	}
	if len(p.Encode()) > MaxPreferences {
		return tooLarge()
	}
	return nil
}

func (p Preferences) validate() error {
	for t := range p.Types {
		if !t.Valid() {
			return unknownType("types")
		}
	}
	if p.MinPriority != "" && !p.MinPriority.Valid() {
		return Invalid("minPriority", "must be low, medium, high or urgent")
	}
	if len(p.MutedTickets) > MaxMutedTickets {
		return Invalid("mutedTickets", fmt.Sprintf("must be at most %d", MaxMutedTickets))
	}
	seen := make(map[string]bool, len(p.MutedTickets))
	for i, id := range p.MutedTickets {
		if err := checkID(fmt.Sprintf("mutedTickets[%d]", i), id); err != nil {
			return err
		}
		if seen[id] {
			return Invalid("mutedTickets", "must not repeat one")
		}
		seen[id] = true
	}
	if p.QuietHours == nil {
		return nil
	}
	return p.QuietHours.validate()
}

func unknownType(field string) error { return Invalid(field, "must be of "+list(Types())) }

func tooLarge() error {
	return Invalid("preferences", fmt.Sprintf("must be at most %d bytes as JSON", MaxPreferences))
}

// Wishes are what decides for one user: their own preferences and those of their
// tenant. The zero value wants everything, and loud.
//
// A user's value goes before the tenant's, and where neither has one, every type
// is told, from the lowest priority, and no hour is quiet. Each type is a value
// of its own; quiet hours are one. Muted tickets add up. About a type that the
// tenant has locked only the tenant's values decide whether it is told. The
// user's quiet hours may still make it silent.
type Wishes struct {
	User   Preferences
	Tenant TenantPreferences
}

// Decide returns whether the user is to be told of n, and if so, whether
// silently. n has its type, priority and ticket. Quiet hours are looked at as of
// now, in their own time zone; one that zones can't load is not silent.
func (w Wishes) Decide(n Notification, now time.Time, zones *Zones) (wanted, silent bool) {
	user := w.User
	if slices.Contains(w.Tenant.Locked, n.Type) {
		user = Preferences{}
	}
	least := cmp.Or(user.MinPriority, w.Tenant.MinPriority)
	wanted = told(n.Type, user.Types, w.Tenant.Types) &&
		n.Priority.rank() >= least.rank() &&
		!slices.Contains(user.MutedTickets, n.TicketID) &&
		!slices.Contains(w.Tenant.MutedTickets, n.TicketID)
	if !wanted {
		return false, false
	}
	quiet := cmp.Or(w.User.QuietHours, w.Tenant.QuietHours)
	return true, quiet != nil && quiet.silence(n.Priority, now, zones)
}

// told reports what the first of some switches says that has the type.
func told(t Type, all ...Switches) bool {
	for _, s := range all {
		if on, ok := s[t]; ok {
			return on
		}
	}
	return true
}
