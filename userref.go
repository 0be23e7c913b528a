package peal

// UserRef names a user of a tenant in what publishers send: in JSON a string, of
// the tenant's default namespace, or an object with the id and the namespace.
// The zero UserRef is nobody, in JSON "".
type UserRef struct {
	ID        UserID
	Namespace Namespace // "": the tenant's default
}

// IsZero reports whether r names nobody.
func (r UserRef) IsZero() bool { return r == UserRef{} }

// MarshalJSON implements json.Marshaler.
func (r UserRef) MarshalJSON() ([]byte, error) {
	if r.Namespace == "" {
		return encode(string(r.ID)), nil
	}
	return encode(userObject(r)), nil
}

// userObject is a UserRef that names its namespace.
type userObject struct {
	ID        UserID    `json:"id"`
	Namespace Namespace `json:"namespace"`
}

// ParseUserRef reads the id of a user of a namespace, which is one or "".
func ParseUserRef(id string, ns Namespace) (UserRef, error) {
	user, err := ParseUserID(id)
	return UserRef{user, ns}, err
}
