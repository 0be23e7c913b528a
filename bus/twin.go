package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What tenants have in their home is copied to every other region that serves, by
// JetStream's mirrors, which keep sequences. A copy is one more replica that may lag:
// what is read is read here, and what only a leader can say is asked of the home. While
// that does not answer, the copy's leader is asked instead, and what it does not have is
// not taken for gone: see facts.
//
// A copy that took the place of an origin that is lost has another name than it had. So
// the origin is whichever stream takes what is published, and is looked for by that.

// twin is a stream of a home: the origin, and the copy here, which may be the same.
type twin struct {
	home     *home
	name     string // the origin's, as long as nothing has taken its place
	subjects string // what is stored in it
	copy     string // the name of the one here
	at       atomic.Pointer[twinState]
}

// twinState is where a twin is, as it was seen last.
type twinState struct {
	origin string
	whole  bool // the copy is one of the origin as it is, and not far behind
}

// copyName is the name of the copy of a stream in a region.
func copyName(stream string, in Region) string { return stream + "_in_" + string(in) }

// nameIn is the name of a stream of a home in a region.
func nameIn(stream string, home, in Region) string {
	if home == in {
		return stream
	}
	return copyName(stream, in)
}

const (
	// homePatience is for how long the leader of another region may be silent before
	// its copy here is asked: a client has its answer within Config.Timeout.
	homePatience = 2 * time.Second

	// homeLook is how often it is looked whether a home is there, and twinLook how
	// often where its streams are, if nothing seems to have changed.
	homeLook = 2 * time.Second
	twinLook = 30 * time.Second

	// mostBehind is how many messages a copy may be behind to be read, as long as the
	// origin is there.
	mostBehind = 10_000
)

// absence is whether a home answers.
type absence struct {
	away atomic.Bool
	wake chan struct{} // capacity 1: it is to be looked at
}

// twinsOf notes the streams of a home, of which there are so many for its inboxes.
func (b *Bus) twinsOf(h *home, partitions int) {
	h.absence.wake = make(chan struct{}, 1)
	if !b.cfg.several() {
		return
	}
	if b.twins == nil {
		b.twins = make(map[string]*twin)
	}
	l := b.cfg.layoutOf(h.region)
	l.partitions = partitions
	for _, k := range l.stored() {
		t := &twin{home: h, name: k.stream, subjects: k.subjects, copy: nameIn(k.stream, h.region, b.cfg.Region)}
		t.at.Store(&twinState{origin: k.stream})
		b.twins[k.stream] = t
	}
}

// nearest is the stream that is read for one.
func (b *Bus) nearest(stream string) string {
	t := b.twins[stream]
	if t == nil {
		return stream
	}
	if at := t.at.Load(); !at.whole {
		return at.origin
	}
	return t.copy
}

// originOf is the stream that takes what is published for one.
func (b *Bus) originOf(stream string) string {
	if t := b.twins[stream]; t != nil {
		return t.at.Load().origin
	}
	return stream
}

// led asks the leader of a stream: in its home, or, while that is away, that of the copy
// here. ask is given which, and may be called twice.
func led[T any](ctx context.Context, b *Bus, stream string, ask func(ctx context.Context, name string) (T, error)) (T, error) {
	t := b.twins[stream]
	if t == nil {
		return ask(ctx, stream)
	}
	at := t.at.Load()
	if at.origin == t.copy {
		return ask(ctx, at.origin)
	}
	if !t.home.absence.away.Load() {
		once, cancel := context.WithTimeout(ctx, homePatience)
		defer cancel()
		answer, err := ask(once, at.origin)
		if err == nil || !absent(err) || errors.Is(ctx.Err(), context.Canceled) {
			return answer, err
		}
		t.home.lost(err)
		if !at.whole {
			return answer, err
		}
	}
	if !at.whole {
		var none T
		return none, unavailable("ask for stream "+stream, fmt.Errorf("its home, region %s, is away, and there is no copy of it here", t.home.region))
	}
	return ask(ctx, t.copy)
}

// absent reports whether an error is one of a home that does not answer, or of a stream
// that is not there any more.
func absent(err error) bool {
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return refused.ErrorCode == errCodeOffline || refused.ErrorCode == errCodeNoLeader || refused.ErrorCode == jetstream.JSErrCodeStreamNotFound
	}
	return silence(err) || errors.Is(err, nats.ErrNoResponders)
}

// errCodeOffline is the server's JSStreamOfflineErr: no server of the stream is there.
const errCodeOffline jetstream.ErrorCode = 10118

func whatRegion(r Region) string { return "region " + string(r) }

// lost notes that a home does not answer.
func (h *home) lost(err error) {
	if h.absence.away.CompareAndSwap(false, true) {
		h.bus.health.lose(whatRegion(h.region), err)
	}
	h.lookSoon()
}

func (h *home) lookSoon() {
	select {
	case h.absence.wake <- struct{}{}:
	default:
	}
}

// found notes that a home answers, and has its feeds look at what they have missed.
func (h *home) found() {
	if !h.absence.away.CompareAndSwap(true, false) {
		return
	}
	h.bus.health.find(whatRegion(h.region))
	for _, src := range h.sources() {
		src.catchUpSoon()
	}
}

// watch keeps what is known of a home until the bus closes.
func (h *home) watch() {
	t := time.NewTicker(homeLook)
	defer t.Stop()
	for looked := time.Now(); ; {
		select {
		case <-h.bus.closing:
			return
		case <-t.C:
		case <-h.absence.wake:
			if !pause(h.bus.life, homeLook/20) {
				return
			}
		}
		changed := h.look(h.bus.life)
		if changed || h.absence.away.Load() || time.Since(looked) > twinLook {
			h.lookAtTwins(h.bus.life)
			looked = time.Now()
		}
	}
}

// look finds out whether a home answers. It reports whether that has changed.
func (h *home) look(ctx context.Context) (changed bool) {
	first := h.bus.twins[inboxStream(h.region, 0)]
	was := h.absence.away.Load()
	ctx, cancel := context.WithTimeout(ctx, homePatience)
	defer cancel()
	_, err := h.bus.streamInfo(ctx, first.at.Load().origin)
	switch {
	case err == nil:
		h.found()
	case absent(err):
		h.lost(err)
	}
	return was != h.absence.away.Load()
}

// lookAtTwins finds out where the streams of a home are.
func (h *home) lookAtTwins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, homePatience)
	defer cancel()
	var looking sync.WaitGroup
	for _, t := range h.bus.twins {
		if t.home == h {
			looking.Go(func() { t.look(ctx) })
		}
	}
	looking.Wait()
}

// look finds out where a twin is, as far as it can be asked.
func (t *twin) look(ctx context.Context) {
	b, was := t.home.bus, *t.at.Load()
	is := was
	if origin, err := originBy(ctx, b.read, t.subjects); err == nil && origin != "" {
		is.origin = origin
	}
	defer func() {
		if is == was {
			return
		}
		t.at.Store(&is)
		if is.origin != was.origin {
			b.log.Warn("a stream has taken the place of another", "stream", is.origin, "of", was.origin)
			t.home.lookSoon()
		} else {
			b.log.Info("copy of a stream of another region", "stream", t.copy, "of", is.origin, "can be read", is.whole)
		}
	}()
	if is.origin == t.copy {
		is.whole = true
		return
	}
	copied, err := b.streamInfo(ctx, t.copy)
	if err != nil {
		is.whole = is.whole && !errors.Is(err, jetstream.ErrStreamNotFound)
		return
	}
	origin, err := b.streamInfo(ctx, is.origin)
	is.whole = isCopyOf(copied, is.origin) && (err != nil || sameEpoch(copied, origin) && origin.State.LastSeq <= copied.State.LastSeq+mostBehind)
}

// isCopyOf reports whether a stream is a mirror of another.
func isCopyOf(copied *jetstream.StreamInfo, origin string) bool {
	m := copied.Config.Mirror
	return m != nil && m.Name == origin
}

// sameEpoch reports whether a copy is one of an origin as it is.
func sameEpoch(copied, origin *jetstream.StreamInfo) bool {
	return copied.Config.Metadata[metaEpoch] == origin.Config.Metadata[metaEpoch]
}

// streamInfo asks for a stream by its very name.
func (b *Bus) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	return infoBy(ctx, b.read, name)
}

func infoBy(ctx context.Context, nc *nats.Conn, name string) (*jetstream.StreamInfo, error) {
	msg, err := nc.RequestWithContext(ctx, apiSubject("STREAM.INFO", name), nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.StreamInfo
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return &answer.StreamInfo, nil
}

// originBy finds which stream takes what is published to some subjects; "" if none does.
func originBy(ctx context.Context, nc *nats.Conn, subjects string) (string, error) {
	request, err := json.Marshal(map[string]string{"subject": subjects})
	if err != nil {
		return "", err
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.NAMES", request)
	if err != nil {
		return "", err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Streams []string            `json:"streams"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return "", err
	}
	switch {
	case answer.Error != nil:
		return "", answer.Error
	case len(answer.Streams) == 0:
		return "", nil
	case len(answer.Streams) > 1:
		return "", fmt.Errorf("several streams take %s: %v", subjects, answer.Streams)
	}
	return answer.Streams[0], nil
}
