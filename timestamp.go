package peal

import (
	"encoding/json"
	"regexp"
	"time"
)

// Timestamp is a moment in UTC with milliseconds, in JSON
// "2025-07-10T12:35:00.000Z". It reads any RFC 3339 time.
type Timestamp struct{ time.Time }

const timestampLayout = "2006-01-02T15:04:05.000Z"

// NewTimestamp cuts t to a Timestamp.
func NewTimestamp(t time.Time) Timestamp { return Timestamp{t.UTC().Truncate(time.Millisecond)} }

// String returns t as it is in JSON.
func (t Timestamp) String() string { return t.UTC().Format(timestampLayout) }

// MarshalText implements encoding.TextMarshaler.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) { return encode(t.String()), nil }

// timestampForm is what RFC 3339 allows and time.Parse does not insist on: two
// digits for the hour, a point before the fraction.
var timestampForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Timestamp) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil || !timestampForm.Match(b) || v.UTC().Year() < 1 || v.UTC().Year() > 9999 {
		return Invalid("timestamp", "must be an RFC 3339 time")
	}
	*t = NewTimestamp(v)
	return nil
}

// UnmarshalJSON implements json.Unmarshaler. null is the zero Timestamp.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = Timestamp{}
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Invalid("timestamp", "must be an RFC 3339 time")
	}
	return t.UnmarshalText([]byte(s))
}
