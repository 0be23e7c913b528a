package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// metaMigrating is the key of a stream's metadata under which it says that the region
// is being copied: from which one, by the epoch of its first inbox stream there, and on
// that stream also that all of it is there. No node takes such a region for its own.
const metaMigrating = "peal.migrating"

// migrated is behind the epoch, once everything was copied.
const migrated = " copied"

// Migrated is a stream that is copied.
type Migrated struct {
	Stream    string
	Messages  uint64
	Bytes     uint64
	Consumers int
	Last      uint64 // sequence of its last message

	// There: an earlier run has copied it already. Half: it has left half of it, which
	// is copied again.
	There, Half bool
}

// errOccupied: the region is there already.
var errOccupied = errors.New("has streams of the region already, and nothing of them is changed: empty it, or name another region")

// Migrate copies the region from another JetStream, on which nobody works meanwhile:
// streams and buckets with their messages, sequences, epochs and consumers, so that no
// client notices but by having to connect elsewhere. Connection slots stay behind. Each
// copy gets the replicas of the configuration, and what else the region needs is created.
//
// copied is called for each stream when it is there, with dry before anything is. It can
// be called again after an error, and goes on where it ended; until it has returned nil
// once, no node starts on the copy. The error is of a region that is there already but
// for that, and of one that is not there to be copied.
func (s *Streams) Migrate(ctx context.Context, from *Streams, dry bool, copied func(Migrated)) error {
	m := migration{to: s, from: from}
	var err error
	if err = from.cfg.patiently(ctx, func() (err error) { m.layout, m.id, err = from.origin(ctx); return err }); err != nil {
		return fmt.Errorf("what is to be copied: %w", err)
	}
	if err = s.cfg.patiently(ctx, func() error { return m.survey(ctx) }); err != nil {
		return err
	}
	for i := range m.parts {
		if !dry && !m.complete {
			if err := m.copy(ctx, &m.parts[i]); err != nil {
				return fmt.Errorf("copy stream %s: %w", m.parts[i].Stream, err)
			}
		}
		copied(m.parts[i].Migrated)
	}
	if dry {
		return nil
	}
	return m.finish(ctx)
}

// origin is the layout of the region that is to be copied, and what it is known by.
func (s *Streams) origin(ctx context.Context) (l layout, id string, err error) {
	l = s.cfg.layout()
	name := inboxStream(l.region, 0)
	found, err := s.find(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return l, "", fmt.Errorf("there is no stream %s, and so no region %s", name, l.region)
	}
	if err != nil {
		return l, "", err
	}
	if l.partitions, err = s.storedPartitions(ctx, l); err != nil {
		return l, "", err
	}
	return l, found.CachedInfo().Config.Metadata[metaEpoch], nil
}

// migration is one run.
type migration struct {
	to, from *Streams
	layout   layout // of the origin
	id       string
	complete bool // everything was copied by an earlier run
	parts    []part
}

// part is one stream of it.
type part struct {
	Migrated
	origin *jetstream.StreamInfo
}

// names lists what is copied, in the order in which it is: the first inbox stream is
// where a node looks first.
func (m *migration) names() (names []string) {
	first := inboxStream(m.layout.region, 0)
	names = []string{first}
	for _, cfg := range m.layout.streams() {
		if cfg.Name != first {
			names = append(names, cfg.Name)
		}
	}
	for _, kv := range m.layout.buckets() {
		if kv.Bucket != limitBucket(m.layout.region) {
			names = append(names, bucketStream(kv.Bucket))
		}
	}
	return names
}

// survey looks what there is on both sides.
func (m *migration) survey(ctx context.Context) error {
	m.parts, m.complete = nil, false
	if err := m.surveyCopies(ctx); err != nil || m.complete {
		return err
	}
	return m.surveyOthers(ctx)
}

// surveyOthers looks for streams of the region of which there is no original.
func (m *migration) surveyOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimes*m.to.timeout)
	defer cancel()
	of := regexp.MustCompile(`^(KV_)?PEAL_[A-Z]+_` + string(m.layout.region) + `(_[0-9]+)?$`)
	other := ""
	names := m.to.js.StreamNames(ctx)
	for name := range names.Name() { // to its end, or it leaves a goroutine
		ours := slices.ContainsFunc(m.parts, func(p part) bool { return p.Stream == name })
		if of.MatchString(name) && !ours {
			other = name
		}
	}
	if err := names.Err(); err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("NATS %w (%s)", errOccupied, other)
	}
	return nil
}

// surveyCopies looks for each original what there is of it.
func (m *migration) surveyCopies(ctx context.Context) error {
	for _, name := range m.names() {
		origin, err := m.from.find(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue // of a version that did not have it yet; it is created in the end
		}
		if err != nil {
			return err
		}
		info := origin.CachedInfo()
		p := part{Migrated{
			Stream: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, Consumers: info.State.Consumers, Last: info.State.LastSeq,
		}, info}
		there, err := m.to.find(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return err
		default:
			if p.There, p.Half, err = m.judge(p, there.CachedInfo()); err != nil {
				return err
			}
		}
		m.parts = append(m.parts, p)
	}
	return nil
}

// judge says what a stream is that is there already.
func (m *migration) judge(p part, there *jetstream.StreamInfo) (whole, half bool, err error) {
	of := there.Config.Metadata[metaMigrating]
	if p.Stream == inboxStream(m.layout.region, 0) {
		m.complete = of == m.id+migrated
	}
	switch {
	case m.complete && p.Stream != erasedStream(m.layout.region) && p.origin.State.LastSeq != there.State.LastSeq:
		// To notes of purges the copy has added its own.
		return false, false, fmt.Errorf("stream %s of the original has changed since it was copied: remove the copies and start again", p.Stream)
	case m.complete:
		return true, false, nil
	case of != m.id:
		return false, false, fmt.Errorf("NATS %w (%s)", errOccupied, p.Stream)
	}
	whole = same(p.origin.State, there.State)
	return whole, !whole, nil
}

// same reports whether a stream holds what another does.
func same(a, b jetstream.StreamState) bool {
	return a.Msgs == b.Msgs && a.LastSeq == b.LastSeq && a.Consumers == b.Consumers && (a.Msgs == 0 || a.FirstSeq == b.FirstSeq)
}

// copy copies one stream, unless it is there.
func (m *migration) copy(ctx context.Context, p *part) error {
	if p.Half {
		name := apiSubject("STREAM.DELETE", p.Stream)
		if err := m.to.change(ctx, name, func(ctx context.Context) error { return m.to.js.DeleteStream(ctx, p.Stream) }); err != nil {
			return fmt.Errorf("remove what an earlier run has left of it: %w", err)
		}
	}
	if !p.There {
		if err := m.to.copyStream(ctx, m.from, p.Stream, m.mark); err != nil {
			return err
		}
	}
	return m.settled(ctx, p)
}

// mark makes the configuration of a copy.
func (m *migration) mark(config map[string]json.RawMessage) error {
	var replicas int
	if err := json.Unmarshal(config["num_replicas"], &replicas); err != nil {
		return fmt.Errorf("number of replicas: %w", err)
	}
	metadata := make(map[string]string)
	if raw, ok := config["metadata"]; ok {
		if err := json.Unmarshal(raw, &metadata); err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
	}
	metadata[metaMigrating] = m.id
	raw, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	config["metadata"] = raw
	config["num_replicas"] = json.RawMessage(strconv.Itoa(max(replicas, m.to.cfg.Replicas)))
	return nil
}

// copyPatience is for how long a copy has time to be what the original is, on all its
// servers: what expires meanwhile does so on each side in its own time.
const copyPatience = 2 * time.Minute

// settled waits until a copy holds what the original does, on as many servers as it
// should.
func (m *migration) settled(ctx context.Context, p *part) error {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	for {
		origin, err := m.from.find(ctx, p.Stream)
		if err != nil {
			return err
		}
		there, err := m.to.find(ctx, p.Stream)
		if err == nil {
			info := there.CachedInfo()
			if same(origin.CachedInfo().State, info.State) && current(info) {
				return nil
			}
			err = fmt.Errorf("it holds %d messages up to %d and %d consumers, and the original %d up to %d and %d", info.State.Msgs, info.State.LastSeq, info.State.Consumers,
				origin.CachedInfo().State.Msgs, origin.CachedInfo().State.LastSeq, origin.CachedInfo().State.Consumers)
			if same(origin.CachedInfo().State, info.State) {
				err = fmt.Errorf("not all of its %d replicas have it", info.Config.Replicas)
			}
		}
		if !pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// current reports whether every replica of a stream has what its leader has.
func current(info *jetstream.StreamInfo) bool {
	if info.Config.Replicas <= 1 {
		return true
	}
	return info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == info.Config.Replicas-1 &&
		!slices.ContainsFunc(info.Cluster.Replicas, func(r *jetstream.PeerInfo) bool { return !r.Current })
}

// finish makes the copy a region of its own.
func (m *migration) finish(ctx context.Context) error {
	first := m.parts[0].Stream
	if !m.complete {
		if err := m.noteAgain(ctx); err != nil {
			return err
		}
		if err := m.remark(ctx, first, m.id+migrated); err != nil {
			return err
		}
	}
	for _, p := range m.parts[1:] {
		if err := m.remark(ctx, p.Stream, ""); err != nil {
			return err
		}
	}
	for _, cfg := range m.layout.streams() {
		cfg.Replicas = m.to.cfg.Replicas
		if cfg.Name != first {
			if err := m.to.ensureStream(ctx, m.layout, cfg); err != nil {
				return err
			}
		}
	}
	for _, kv := range m.layout.buckets() {
		kv.Replicas = m.to.cfg.Replicas
		if err := m.to.ensureBucket(ctx, kv); err != nil {
			return err
		}
	}
	return m.remark(ctx, first, "")
}

// remark changes what a copy says of the migration; "" is nothing.
func (m *migration) remark(ctx context.Context, name, as string) error {
	found, err := m.to.find(ctx, name)
	if err != nil {
		return err
	}
	cfg := found.CachedInfo().Config
	if cfg.Metadata[metaMigrating] == as {
		return nil
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if delete(cfg.Metadata, metaMigrating); as != "" {
		cfg.Metadata[metaMigrating] = as
	}
	if _, err := m.to.update(ctx, cfg); err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// noteAgain has the notes of purges name the copies: they tell an incarnation of a
// stream by the time at which it was created.
func (m *migration) noteAgain(ctx context.Context) error {
	notes, err := m.to.notes(ctx, m.layout)
	if err != nil {
		return fmt.Errorf("read what was purged: %w", err)
	}
	var again []erasedUntil
	for _, p := range m.parts {
		there, err := m.to.find(ctx, p.Stream)
		if err != nil {
			return err
		}
		for place, last := range notes {
			if place.stream == p.Stream && last.Created.Equal(p.origin.Created) {
				last.Created = there.CachedInfo().Created
				again = append(again, last)
			}
		}
	}
	return m.to.note(ctx, m.layout, again)
}
