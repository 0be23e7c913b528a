package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Revoked is a revocation as it is stored.
type Revoked struct {
	peal.Revocation

	// At is when JetStream stored it, by its own clock: tokens issued before
	// are meant.
	At time.Time

	// Until is how long it is remembered: every token that is meant has expired
	// by then.
	Until time.Time
}

// Kinds of keys in the bucket, beside a hash.
const (
	keyRevoked = "revoked" // of a revocation
	keyOnce    = "once"    // of an id that is good once
)

// maxKeep bounds how long something is remembered, so that no clock overflows.
const maxKeep = 10 * 365 * 24 * time.Hour

// Revoke stores a revocation for keep, which is rounded up to whole seconds, and
// returns it once it is on the disks of as many replicas as the bucket needs.
// Every node of the cluster is told of it within 2 s. A repeated one takes the
// place of the first, with a later At.
//
// The error is a peal.ErrInvalid for a revocation that fits nothing or has half
// a user, or a keep that is not above 0 and at most ten years; a
// peal.ErrUnavailable, after Config.Timeout at the latest, if JetStream can't
// store it, or may have stored it and does not say when: the call is safe to
// repeat. Or it is ctx's.
func (b *Bus) Revoke(ctx context.Context, r peal.Revocation, keep time.Duration) (Revoked, error) {
	const doing = "store revocation"
	value, err := revocationValue(r, keep)
	if err != nil {
		return Revoked{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	key := revokedKey(b.revoked(), r)
	ack, err := b.put(ctx, key, value, keep)
	if err != nil {
		return Revoked{}, unavailable(doing, err)
	}
	b.announce()
	m, err := b.getFromLeader(ctx, bucketStream(b.revoked()), leaderGet{Seq: ack.Sequence})
	if err == nil && m == nil { // another has taken its place
		m, err = b.lastFromLeader(ctx, key)
	}
	if err != nil {
		return Revoked{}, unavailable(doing, err)
	}
	if m == nil {
		return Revoked{}, unavailable(doing, errors.New("it is stored no more"))
	}
	stored, err := readRevoked(b.revoked(), *m)
	if err != nil {
		return Revoked{}, unavailable(doing, err)
	}
	return stored, nil
}

// announce has every node look at what is stored. It may get lost.
func (b *Bus) announce() { _ = b.write.Publish(subject(keyRevoked), nil) } // whoever misses it looks once a second

// put stores a key of the bucket.
func (b *Bus) put(ctx context.Context, key string, value []byte, keep time.Duration, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if err := b.writable(); err != nil {
		return nil, err
	}
	ack, err := b.writes.PublishMsg(ctx, &nats.Msg{Subject: key, Data: value}, append(opts, jetstream.WithMsgTTL(ttl(keep)))...)
	return ack, full(bucketStream(b.revoked()), err)
}

// ttl is how long the server is told to keep a message. It counts whole seconds
// and drops the rest.
func ttl(keep time.Duration) time.Duration {
	return max((keep + time.Second - 1).Truncate(time.Second), time.Second)
}

// storeFailed is JSStreamStoreFailedF of nats-server.
const storeFailed jetstream.ErrorCode = 10077

// full says what the server's "maximum bytes exceeded" is about.
func full(stream string, err error) error {
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == storeFailed && strings.Contains(refused.Description, "maximum bytes") {
		return fmt.Errorf("stream %s is full: %w", stream, err)
	}
	return err
}

// revocation is the stored form. No node's clock has a part in it: what it does
// not say itself is when JetStream stored it.
type revocation struct {
	Revocation peal.Revocation `json:"revocation"`
	Keep       int64           `json:"keep"` // seconds after At

	// At is set where a revocation is stored again, in a bucket that has lost it.
	At time.Time `json:"at,omitzero"`
}

// revocationValue makes the stored form of a new revocation.
func revocationValue(r peal.Revocation, keep time.Duration) ([]byte, error) {
	switch {
	case r == peal.Revocation{}:
		return nil, peal.Invalid("revocation", "must have at least one field")
	case (r.Namespace == "") != (r.User == ""):
		return nil, peal.Invalid("revocation.user", "must come with its namespace")
	}
	if err := checkKeep(keep); err != nil {
		return nil, err
	}
	for _, f := range fieldsOf(r) {
		if !utf8.ValidString(f) { // JSON would store another one
			return nil, peal.Invalid("revocation", "must be valid UTF-8")
		}
	}
	value, err := json.Marshal(revocation{Revocation: r, Keep: int64(ttl(keep) / time.Second)})
	if err == nil && len(value) > maxMessage {
		err = peal.Invalid("revocation", fmt.Sprintf("must be at most %d bytes", maxMessage))
	}
	return value, err
}

func checkKeep(keep time.Duration) error {
	if keep <= 0 || keep > maxKeep {
		return peal.Invalid("keep", "must be above 0 and at most ten years")
	}
	return nil
}

// encode makes the stored form of a revocation that was stored before.
func (r Revoked) encode() ([]byte, error) {
	return json.Marshal(revocation{Revocation: r.Revocation, Keep: int64(r.Until.Sub(r.At) / time.Second), At: r.At.UTC()})
}

// readRevoked reads a revocation. What is not understood to the last field is an
// error: to pass over one would revoke more tokens than were meant. The key
// proves that the fields are those of the writer.
func readRevoked(bucket string, m stored) (Revoked, error) {
	var v revocation
	d := json.NewDecoder(bytes.NewReader(m.data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return Revoked{}, errors.New("is not the JSON of a revocation")
	}
	if _, err := d.Token(); err != io.EOF {
		return Revoked{}, errors.New("has something after its JSON")
	}
	if v.Keep <= 0 || v.Keep > int64(maxKeep/time.Second) {
		return Revoked{}, errors.New("does not say how long it is to be kept")
	}
	if (v.Revocation == peal.Revocation{}) || m.subject != revokedKey(bucket, v.Revocation) {
		return Revoked{}, errors.New("has the key of another revocation")
	}
	at := v.At
	if at.IsZero() {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, m.header.Get(headerTime)); err != nil {
			return Revoked{}, fmt.Errorf("header %s: %w", headerTime, err)
		}
	}
	return Revoked{Revocation: v.Revocation, At: at, Until: at.Add(time.Duration(v.Keep) * time.Second)}, nil
}

// isMarker reports whether a message says that its key is gone.
func isMarker(m stored) bool {
	return m.header.Get("KV-Operation") != "" || m.header.Get(jetstream.MarkerReasonHeader) != ""
}

// revoked is the bucket in which this region stores revocations.
func (b *Bus) revoked() string { return b.cfg.revokedBucket(b.cfg.Region) }

// revokedKey is the subject of a revocation in a bucket.
func revokedKey(bucket string, r peal.Revocation) string {
	return keySubject(bucket, keyRevoked, hashed(fieldsOf(r)...))
}

// fieldsOf returns the name and the value of each field that is set: a field
// that is added one day changes no key that is stored.
func fieldsOf(r peal.Revocation) (all []string) {
	noSession := ""
	if r.NoSession {
		noSession = "true"
	}
	for _, f := range [][2]string{
		{"realm", r.Realm},
		{"tenant", string(r.Tenant)},
		{"namespace", string(r.Namespace)},
		{"user", string(r.User)},
		{"subject", r.Subject},
		{"session", r.Session},
		{"noSession", noSession},
		{"tokenId", r.TokenID},
	} {
		if f[1] != "" {
			all = append(all, f[0], f[1])
		}
	}
	return all
}
