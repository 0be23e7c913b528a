package bus

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is something about a stream that is not as the configuration says.
type Difference struct {
	Stream string
	Field  string // as JetStream calls it; "" if the whole stream is missing
	Have   string // of the field
	Want   string

	// Refused is why it stays as it is; "" if it is changed.
	Refused string
}

// String says it in a line.
func (d Difference) String() string {
	line := d.Stream + ": "
	if d.Field == "" {
		line += "missing"
	} else {
		line += fmt.Sprintf("%s: %s -> %s", d.Field, d.Have, d.Want)
	}
	if d.Refused != "" {
		line += ": refused: " + d.Refused
	}
	return line
}

// Why something is refused.
const (
	becauseDrop   = "a lower bound would drop what is stored"
	becauseFewer  = "fewer copies would be less safe"
	becauseFixed  = "it is fixed when a stream is created"
	becauseSpread = "where each inbox is depends on it"
	becauseNotOur = "it was not created by peal"
)

// comparison compares a stream with what it should be.
type comparison struct {
	next        jetstream.StreamConfig // what it is to become
	differences []Difference
	unfit       string // why it can't serve us; "" if it can
}

// compare finds how a stream differs from what is wanted, and what it is to become:
// nothing that is stored is dropped by that, and nothing is less safe than before.
func (l layout) compare(want, have jetstream.StreamConfig) comparison {
	c := comparison{next: have}
	epoch := have.Metadata[metaEpoch]
	if want.Metadata != nil && len(epoch) != epochLen {
		c.refuse(metaEpoch, epoch, "an epoch", becauseNotOur)
		return c
	}
	if upgraded, what := l.upgrade(want, have); what != "" {
		c.next = upgraded
		c.differences = append(c.differences, Difference{Stream: have.Name, Field: "form", Have: "of an older version", Want: what})
		have, epoch = upgraded, upgraded.Metadata[metaEpoch]
	}
	if want.Metadata != nil {
		want = withEpoch(want, Epoch(epoch))
	}
	c.fixed(want, have)

	c.raise("num_replicas", int64(have.Replicas), int64(want.Replicas), becauseFewer, decimal, func(n int64) { c.next.Replicas = int(n) })
	c.bound("max_bytes", have.MaxBytes, want.MaxBytes, decimal, func(n int64) { c.next.MaxBytes = n })
	c.bound("max_age", int64(have.MaxAge), int64(want.MaxAge), duration, func(n int64) { c.next.MaxAge = time.Duration(n) })
	c.bound("max_msgs", have.MaxMsgs, want.MaxMsgs, decimal, func(n int64) { c.next.MaxMsgs = n })
	c.bound("max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, decimal, func(n int64) { c.next.MaxMsgsPerSubject = n })
	c.bound("max_msg_size", int64(have.MaxMsgSize), int64(want.MaxMsgSize), decimal, func(n int64) { c.next.MaxMsgSize = int32(n) })
	if want.Duplicates > 0 {
		c.raise("duplicate_window", int64(have.Duplicates), int64(want.Duplicates), "a shorter one would store what is repeated", duration, func(n int64) { c.next.Duplicates = time.Duration(n) })
	}
	if want.SubjectDeleteMarkerTTL > 0 {
		c.raise("subject_delete_marker_ttl", int64(have.SubjectDeleteMarkerTTL), int64(want.SubjectDeleteMarkerTTL), "what is gone would come back", duration, func(n int64) { c.next.SubjectDeleteMarkerTTL = time.Duration(n) })
	}
	c.allow("allow_direct", have.AllowDirect, want.AllowDirect, &c.next.AllowDirect)
	c.allow("allow_atomic", have.AllowAtomicPublish, want.AllowAtomicPublish, &c.next.AllowAtomicPublish)
	c.allow("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL, &c.next.AllowMsgTTL)
	if have.Discard != want.Discard {
		if want.Discard == jetstream.DiscardNew {
			c.change("discard", have.Discard.String(), want.Discard.String())
			c.next.Discard = want.Discard
		} else {
			c.refuse("discard", have.Discard.String(), want.Discard.String(), becauseDrop)
		}
	}
	if want.RePublish != nil && (have.RePublish == nil || *have.RePublish != *want.RePublish) {
		c.change("republish", republished(have.RePublish), republished(want.RePublish))
		c.next.RePublish = want.RePublish
	}
	return c
}

// fixed looks at what can't be changed.
func (c *comparison) fixed(want, have jetstream.StreamConfig) {
	for _, f := range []struct{ name, have, want string }{
		{"subjects", strings.Join(have.Subjects, " "), strings.Join(want.Subjects, " ")},
		{"retention", have.Retention.String(), want.Retention.String()},
		{"storage", have.Storage.String(), want.Storage.String()},
		{"subject_transform", transformed(have.SubjectTransform), transformed(want.SubjectTransform)},
	} {
		if f.have != f.want {
			c.refuse(f.name, f.have, f.want, becauseFixed)
		}
	}
	if have, want := have.Metadata[metaPartitions], want.Metadata[metaPartitions]; have != want {
		c.refuse(metaPartitions, have, want, becauseSpread)
	}
}

func (c *comparison) change(field, have, want string) {
	c.differences = append(c.differences, Difference{Stream: c.next.Name, Field: field, Have: cmp.Or(have, "none"), Want: cmp.Or(want, "none")})
}

// refuse says of something that can't stay as it is that it can't be changed either.
func (c *comparison) refuse(field, have, want, because string) {
	c.keep(field, have, want, because)
	c.unfit = cmp.Or(c.unfit, c.differences[len(c.differences)-1].String())
}

// leave says of all that was to be changed why it is not.
func (c *comparison) leave(because string) {
	for i := range c.differences {
		c.differences[i].Refused = cmp.Or(c.differences[i].Refused, because)
	}
}

// keep says that something is other than it should be, and is left so.
func (c *comparison) keep(field, have, want, because string) {
	c.change(field, have, want)
	c.differences[len(c.differences)-1].Refused = because
}

// raise sets what may only grow.
func (c *comparison) raise(field string, have, want int64, because string, text func(int64) string, set func(int64)) {
	switch {
	case have < want:
		c.change(field, text(have), text(want))
		set(want)
	case have > want:
		c.keep(field, text(have), text(want), because)
	}
}

// bound is raise for what is without end at 0 or below.
func (c *comparison) bound(field string, have, want int64, text func(int64) string, set func(int64)) {
	bounded := func(n int64) string {
		if n <= 0 {
			return "no bound"
		}
		return text(n)
	}
	switch {
	case max(have, 0) == max(want, 0):
	case have > 0 && (want <= 0 || want > have):
		c.change(field, bounded(have), bounded(want))
		set(cmp.Or(max(want, 0), c.unbounded(field)))
	default:
		c.keep(field, bounded(have), bounded(want), becauseDrop)
	}
}

// unbounded is how JetStream writes a bound that is none.
func (c *comparison) unbounded(field string) int64 {
	if field == "max_age" {
		return 0
	}
	return -1
}

func (c *comparison) allow(field string, have, want bool, set *bool) {
	if want && !have {
		c.change(field, strconv.FormatBool(have), strconv.FormatBool(want))
		*set = true
	}
}

// changes reports whether there is anything to do.
func (c *comparison) changes() bool {
	return slices.ContainsFunc(c.differences, func(d Difference) bool { return d.Refused == "" })
}

func decimal(n int64) string  { return strconv.FormatInt(n, 10) }
func duration(n int64) string { return time.Duration(n).String() }

func republished(r *jetstream.RePublish) string {
	if r == nil {
		return ""
	}
	return r.Source + " to " + r.Destination
}

func transformed(t *jetstream.SubjectTransformConfig) string {
	if t == nil {
		return ""
	}
	return t.Source + " to " + t.Destination
}

// bucketStreamConfig is the stream that a bucket is, as far as it is compared.
func bucketStreamConfig(kv jetstream.KeyValueConfig) jetstream.StreamConfig {
	window := 2 * time.Minute // as nats.go makes it
	if kv.TTL > 0 {
		window = min(window, kv.TTL)
	}
	return jetstream.StreamConfig{
		Name:                   bucketStream(kv.Bucket),
		Subjects:               []string{"$KV." + kv.Bucket + ".>"},
		MaxMsgsPerSubject:      int64(max(kv.History, 1)),
		MaxBytes:               kv.MaxBytes,
		MaxAge:                 kv.TTL,
		Storage:                kv.Storage,
		Replicas:               kv.Replicas,
		Discard:                jetstream.DiscardNew,
		Duplicates:             window,
		AllowDirect:            true,
		AllowMsgTTL:            kv.LimitMarkerTTL > 0,
		SubjectDeleteMarkerTTL: kv.LimitMarkerTTL,
	}
}
