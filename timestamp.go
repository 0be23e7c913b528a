package peal

import (
	"encoding/json"
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

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Timestamp) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil || v.UTC().Year() < 1 || v.UTC().Year() > 9999 {
		return Invalid("timestamp", "must be an RFC 3339 time")
	}
	*t = NewTimestamp(v)
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Invalid("timestamp", "must be an RFC 3339 time")
	}
	return t.UnmarshalText([]byte(s))
}
