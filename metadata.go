package peal

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Metadata is what a type of notification says beside its text: strings by
// key. Six keys are peal's own, up to MaxExtraMetadata more are the
// publisher's. Its JSON has the known keys first, in the order of
// metadataKeys, then the others sorted.
type Metadata map[string]string

// metadataKeys are the keys that peal knows.
var metadataKeys = []string{"previousStatus", "newStatus", "slaType", "slaTarget", "commentId", "approvalId"}

// MarshalJSON implements json.Marshaler.
func (m Metadata) MarshalJSON() ([]byte, error) {
	var keys []string
	for _, k := range metadataKeys {
		if _, ok := m[k]; ok {
			keys = append(keys, k)
		}
	}
	keys = append(keys, m.extra()...)

	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(k))
		b.WriteByte(':')
		b.Write(encode(m[k]))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON implements json.Unmarshaler. Every value is a string.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	var values map[string]*string
	if err := json.Unmarshal(b, &values); err != nil {
		return Invalid("metadata", "must be an object of strings")
	}
	*m = nil
	for k, v := range values {
		if v == nil {
			return Invalid("metadata", "must be an object of strings")
		}
		if *m == nil {
			*m = make(Metadata, len(values))
		}
		(*m)[k] = *v
	}
	return nil
}

// extra returns the publisher's keys, sorted.
func (m Metadata) extra() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m)), func(k string) bool {
		return slices.Contains(metadataKeys, k)
	})
}

func (m Metadata) validate() error {
	if len(m.extra()) > MaxExtraMetadata {
		return Invalid("metadata", "must have at most 16 keys beside "+strings.Join(metadataKeys, " "))
	}
	for k, v := range m {
		if err := checkID("metadata", k); err != nil {
			return err
		}
		if err := checkText("metadata", v); err != nil {
			return err
		}
	}
	return nil
}
