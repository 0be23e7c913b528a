package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// DeadLetter is a ticket event that could not be worked on for a reason of its own,
// as it was published.
type DeadLetter struct {
	ID     string // names it in calls of this bus
	Tenant string // of its subject; "" if that names none
	Ticket string // the same
	Event  string // its id, or what the worker made of it; "" if not even that is known
	Reason string // in one line
	Buried time.Time
	Stored time.Time // when the event was
	Data   []byte    // what was published, or its beginning
	Size   int       // of all of what was published, in bytes
	Whole  bool      // Data is all of it
}

// ErrNoDeadLetter: there is no dead letter of that id, or not any more.
var ErrNoDeadLetter = errors.New("no such dead letter")

// Headers of a dead letter.
const (
	headerReason = "Peal-Reason"
	headerEvent  = "Peal-Event"   // the event's id
	headerSource = "Peal-Subject" // that it was published on
	headerStored = "Peal-Stored"  // when
	headerSize   = "Peal-Size"    // of what was published, in bytes
)

// nowhere is in the place of the tenant of a dead letter that names none.
const nowhere = "unknown"

// DeadLetters returns a page of dead letters, at most limit, oldest first, without
// their Data: of a tenant, or with "" of all, after the one of that id, or with "" from the first.
// next is the after of the next page; "" if there is none. The error is a
// peal.ErrInvalid for an after that is no id, a peal.ErrUnavailable or ctx's.
func (b *Bus) DeadLetters(ctx context.Context, t peal.Tenant, after string, limit int) (page []DeadLetter, next string, err error) {
	const doing = "list dead letters"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	epoch, err := b.deadEpoch(ctx)
	if err != nil {
		return nil, "", unavailable(doing, err)
	}
	from := uint64(1)
	if after != "" {
		place := ParseCursor(after)
		if place.Epoch != epoch || place.Elsewhere {
			return nil, "", peal.Invalid("after", "must be the id of a dead letter")
		}
		from = place.Seq + 1
	}
	filter := wildcards(subject("dead", string(b.cfg.Region)), 1)
	if t != "" {
		filter = subject("dead", string(b.cfg.Region), string(t))
	}
	for len(page) < limit {
		a, err := b.direct(ctx, deadStream(b.cfg.Region), directGet{Seq: from, NextFor: filter, Batch: min(limit-len(page), 64), MaxBytes: 1 << 20})
		if err != nil {
			return nil, "", unavailable(doing, err)
		}
		for _, m := range a.messages {
			d := readDead(epoch, m)
			d.Data = nil // a page of it could be a hundred megabytes
			page = append(page, d)
			from = m.seq + 1
		}
		if a.pending == 0 || len(a.messages) == 0 {
			return page, "", nil
		}
	}
	return page, page[len(page)-1].ID, nil
}

// dropDeadOf erases the dead letters of a tenant in which a user's id stands, of
// whatever namespace, and counts them.
func (b *Bus) dropDeadOf(ctx context.Context, r Region, in peal.Inbox, n *uint64) error {
	doing := "left in " + deadStream(r)
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	filter := subject("dead", string(r), string(in.Tenant))
	for from := uint64(1); ; {
		a, err := b.direct(ctx, deadStream(r), directGet{Seq: from, NextFor: filter, Batch: 64, MaxBytes: 1 << 20})
		if err != nil {
			return unavailable(doing, err)
		}
		for _, m := range a.messages {
			from = m.seq + 1
			if !names(m.data, string(in.User)) {
				continue
			}
			if err := b.dropDeadIn(ctx, r, doing, m.seq); err != nil {
				return err
			}
			*n++
		}
		if a.pending == 0 || len(a.messages) == 0 {
			return nil
		}
	}
}

// names reports whether an id stands in what was published as an event: as a string in
// its JSON, also under a name that is given twice, or anywhere in what is none.
func names(data []byte, id string) bool {
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		switch token, err := d.Token(); {
		case err == io.EOF:
			return false
		case err != nil:
			return bytes.Contains(data, []byte(id))
		case token == json.Token(id):
			return true
		}
	}
}

// DeadLetter returns one. The error is an ErrNoDeadLetter, a peal.ErrUnavailable or
// ctx's.
func (b *Bus) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	return b.deadLetter(ctx, id)
}

func (b *Bus) deadLetter(ctx context.Context, id string) (DeadLetter, error) {
	const doing = "read dead letter"
	place := ParseCursor(id)
	epoch, err := b.deadEpoch(ctx)
	if err != nil {
		return DeadLetter{}, unavailable(doing, err)
	}
	if place.Epoch != epoch || place.Elsewhere || place.Seq == 0 { // JetStream counts from 1
		return DeadLetter{}, ErrNoDeadLetter
	}
	m, err := b.getFromLeader(ctx, deadStream(b.cfg.Region), leaderGet{Seq: place.Seq})
	if err != nil {
		return DeadLetter{}, unavailable(doing, err)
	}
	if m == nil {
		return DeadLetter{}, ErrNoDeadLetter
	}
	return readDead(epoch, *m), nil
}

// RetryDeadLetter has the event worked on again, after all others of its ticket
// that wait, and drops the dead letter. What users were told of it already they are
// not told again. The error is an ErrNoDeadLetter, a peal.ErrInvalid for one of
// which only the beginning is kept, a peal.ErrUnavailable or ctx's: then it may be
// worked on again, and the call is safe to repeat.
func (b *Bus) RetryDeadLetter(ctx context.Context, id string) error {
	const doing = "retry dead letter"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	place := ParseCursor(id)
	letter, err := b.deadLetter(ctx, id)
	if err != nil {
		return err
	}
	if !letter.Whole {
		return peal.Invalid("id", "must be of a dead letter that was kept whole: publish the event again")
	}
	if letter.Ticket == "" {
		return peal.Invalid("id", "must be of an event with the subject of a ticket: publish the event again")
	}
	t := &Task{Data: letter.Data, event: letter.Event, tenant: letter.Tenant, ticket: escape(letter.Ticket)}
	if err := b.requeue(ctx, t, messageID("retry", id)); err != nil {
		return unavailable(doing, err)
	}
	return b.dropDead(ctx, doing, place.Seq)
}

// DropDeadLetter erases one. The error is an ErrNoDeadLetter, a peal.ErrUnavailable
// or ctx's.
func (b *Bus) DropDeadLetter(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	if _, err := b.deadLetter(ctx, id); err != nil {
		return err
	}
	return b.dropDead(ctx, "drop dead letter", ParseCursor(id).Seq)
}

func (b *Bus) dropDead(ctx context.Context, doing string, seq uint64) error {
	return b.dropDeadIn(ctx, b.cfg.Region, doing, seq)
}

func (b *Bus) dropDeadIn(ctx context.Context, r Region, doing string, seq uint64) error {
	s, err := b.writes.Stream(ctx, deadStream(r))
	if err == nil {
		err = s.SecureDeleteMsg(ctx, seq) // what it says of a ticket is to be gone
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return unavailable(doing, err)
	}
	return nil
}

// bury stores a dead letter, once for each task however often it is called.
func (b *Bus) bury(ctx context.Context, t *Task, event, reason string) error {
	tenant := nowhere
	if canonicalUUID.MatchString(t.tenant) {
		tenant = t.tenant
	}
	data := t.Data[:min(len(t.Data), MaxEvent)]
	msg := &nats.Msg{
		Subject: subject("dead", string(b.cfg.Region), tenant),
		Data:    data,
		Header: nats.Header{
			jetstream.MsgIDHeader: {messageID("dead", t.subject, strconv.FormatUint(t.seq, 10), t.stamp())},
			headerVersion:         {formatVersion},
			headerReason:          {oneLine(reason)},
			headerEvent:           {oneLine(event)},
			headerSource:          {t.tenant + "." + t.ticket},
			headerStored:          {t.Stored.UTC().Format(time.RFC3339Nano)},
			headerSize:            {strconv.Itoa(len(t.Data))},
		},
	}
	_, err := b.writes.PublishMsg(ctx, msg)
	for tooLarge(err) && len(msg.Data) > 0 { // its beginning is better than none, and than to try for ever
		msg.Data = msg.Data[:len(msg.Data)/2]
		_, err = b.writes.PublishMsg(ctx, msg)
	}
	if err != nil {
		return unavailable("store dead letter", full(deadStream(b.cfg.Region), err))
	}
	return nil
}

// maxReason bounds what a header of a dead letter says, in bytes.
const maxReason = 1024

// oneLine makes the value of a header.
func oneLine(s string) string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(s[:min(len(s), maxReason)]), " "), "")
}

func readDead(epoch Epoch, m stored) DeadLetter {
	d := DeadLetter{
		ID:     Cursor{Epoch: epoch, Seq: m.seq}.String(),
		Event:  m.header.Get(headerEvent),
		Reason: m.header.Get(headerReason),
		Data:   m.data,
		Size:   len(m.data),
	}
	// What somebody else has put there has other headers, and is shown as far as it
	// can be read.
	d.Buried, _ = time.Parse(time.RFC3339Nano, m.header.Get(headerTime))
	d.Stored, _ = time.Parse(time.RFC3339Nano, m.header.Get(headerStored))
	if size, err := strconv.Atoi(m.header.Get(headerSize)); err == nil {
		d.Size = size
	}
	d.Whole = d.Size == len(m.data)
	tenant, ticket, _ := strings.Cut(m.header.Get(headerSource), ".")
	if canonicalUUID.MatchString(tenant) {
		d.Tenant = tenant
	}
	if id, err := unescape(ticket); err == nil && d.Tenant != "" {
		d.Ticket = id
	}
	return d
}

// deadEpoch is the epoch of the stream of dead letters.
func (b *Bus) deadEpoch(ctx context.Context) (Epoch, error) {
	s, err := b.reads.Stream(ctx, deadStream(b.cfg.Region))
	if err != nil {
		return "", err
	}
	e := Epoch(s.CachedInfo().Config.Metadata[metaEpoch])
	if e == "" {
		return "", fmt.Errorf("no %s in its metadata", metaEpoch)
	}
	return e, nil
}
