package bus

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// PublishUpdate stores that a ticket of a tenant has changed, for the lists that
// show it, and returns when it is on disk. event is the id of the ticket event that
// it comes from: with the same id it is stored once in 10 minutes. sees are those
// who see the ticket now, lost those who did before it changed; who is in both sees
// it. What is stored in this order by one process is told in it.
//
// The error is a peal.ErrUnavailable as with Publish, ctx's, or a peal.ErrInvalid
// for more people than a message has room for, about 16,000 unless somebody has
// bounded messages below that.
func (b *Bus) PublishUpdate(ctx context.Context, t peal.Tenant, event string, u peal.TicketUpdate, sees, lost []peal.Inbox) error {
	const doing = "publish ticket update"
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	body := encodeUpdate(u, audienceOf(sees), audienceOf(lost))
	tooMany := fmt.Errorf("%s: %w", doing, peal.Invalid("audience", "is more people than a message has room for"))
	if len(body) > maxUpdate-updateHeaders {
		return tooMany
	}
	o := newOrder()
	h := b.homeOf(t)
	o.add(h.tickets.publisher, &nats.Msg{
		Subject: ticketSubject(h.region, t),
		Data:    body,
		Header: nats.Header{
			jetstream.MsgIDHeader: {messageID("update", string(t), event)},
			headerVersion:         {formatVersion},
		},
	})
	err := b.writable()
	if err == nil {
		err = b.store(ctx, o)
	}
	a := o.answers(err)[0]
	if tooLarge(a.err) {
		return tooMany
	}
	if a.err != nil {
		return unavailable(doing, a.err)
	}
	if !a.duplicate {
		b.stats.Updates.Add(1)
	}
	return nil
}

// newTickets makes the source of ticket updates. It has one group under way, for those
// of a ticket are to stay in their order.
func newTickets(h *home) *source {
	region := string(h.region)
	src := newSource(h.bus, ticketStream(h.region), 1)
	src.all = wildcards(subject("ticket", region), 1)
	src.live = subject("liveticket", region)
	src.maxTails = maxTails * maxMessage / maxUpdate // the bytes of an answer stay as they are
	src.here = h.here()
	if src.here {
		src.beside = h.bus.streamsBeside
	}
	return src
}

// FollowTickets feeds sink with the updates of a tenant's tickets, all of them:
// Message.Update says for whom each is. It is as Follow, and there is no read state:
// Sink.State is not called, and Start tells of none. It costs the NATS server one
// core subscription for each tenant that this process follows.
func (b *Bus) FollowTickets(ctx context.Context, t peal.Tenant, after Cursor, sink Sink) (*Feed, error) {
	h := b.homeOf(t)
	return b.follow(ctx, after, &Feed{
		what:    "tickets",
		source:  h.tickets,
		subject: ticketSubject(h.region, t),
		key:     string(t),
		sink:    sink,
	})
}

// ticketSubject is where the updates of a tenant's tickets are stored: all of them
// in one subject, whose chain a feed follows.
func ticketSubject(r Region, t peal.Tenant) string { return subject("ticket", string(r), string(t)) }

const (
	// maxUpdate bounds a stored update. The mark of one who is told takes 16 bytes of
	// it, and a queue has 5,000 members at most, who may be others before and after.
	maxUpdate = 256 << 10

	// updateHeaders is what its headers take of that, and more.
	updateHeaders = 1 << 10
)

// storedUpdate is the stored form of an update. Who is told of it is part of it,
// and not looked up when it is read: so a replay tells the same people as the first
// time, whoever is a member of the queue by then. It is in the body, for JetStream
// bounds headers at 64 KiB.
type storedUpdate struct {
	Update peal.TicketUpdate `json:"update"`
	Sees   string            `json:"sees"`
	Lost   string            `json:"lost"`
}

func encodeUpdate(u peal.TicketUpdate, sees, lost audience) []byte {
	var body bytes.Buffer
	body.WriteString(`{"update":`)
	body.Write(u.Encode())
	fmt.Fprintf(&body, `,"sees":%q,"lost":%q}`, sees, lost)
	return body.Bytes()
}

// mark stands for an inbox in the audience of an update. Of 10 million users, two
// have the same with a probability of 10⁻¹⁵.
type mark [12]byte

func markOf(in peal.Inbox) mark {
	sum := digest(string(in.Tenant), string(in.Namespace), string(in.User))
	return mark(sum[:])
}

// audience is some marks, ascending, each once.
type audience []mark

func audienceOf(inboxes []peal.Inbox) audience {
	a := make(audience, len(inboxes))
	for i, in := range inboxes {
		a[i] = markOf(in)
	}
	slices.SortFunc(a, compareMarks)
	return slices.Compact(a)
}

func compareMarks(a, b mark) int { return bytes.Compare(a[:], b[:]) }

func (a audience) has(m mark) bool {
	_, found := slices.BinarySearchFunc(a, m, compareMarks)
	return found
}

// String returns the stored form, in unpadded base64url.
func (a audience) String() string {
	var s strings.Builder
	e := base64.NewEncoder(base64.RawURLEncoding, &s)
	for _, m := range a {
		e.Write(m[:]) // to memory, which takes it
	}
	e.Close()
	return s.String()
}

func parseAudience(s string) (audience, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, err
	}
	var a audience
	for m := range slices.Chunk(raw, len(mark{})) {
		if len(m) != len(mark{}) {
			return nil, errors.New("ends in the middle of a mark")
		}
		a = append(a, mark(m))
		if n := len(a); n > 1 && compareMarks(a[n-2], a[n-1]) >= 0 {
			return nil, errors.New("is not in order")
		}
	}
	return a, nil
}

// Viewer is whom an update may be for.
type Viewer struct {
	mark mark
	all  bool
}

// NewViewer makes the viewer of an inbox. all: of every ticket of the tenant.
func NewViewer(in peal.Inbox, all bool) Viewer { return Viewer{markOf(in), all} }

// Update is a ticket update as it is for some of its viewers, who share it. Its
// fields are not to be changed.
type Update struct {
	peal.TicketUpdate
	Cursor Cursor // its place
	frame  []byte
}

// Frame returns what encode makes of the update. It is made once, however many
// viewers ask. Only to be called within Sink.Deliver.
func (u *Update) Frame(encode func(*Update) []byte) []byte {
	if u.frame == nil {
		u.frame = encode(u)
	}
	return u.frame
}

// addressed is an update that was read from its stored form, and whom it is for.
type addressed struct {
	sees, lost audience
	update     *Update // for those who see the ticket
	removed    *Update // for those who have lost it
	err        error   // it can't be read
}

// Update returns what a message of a tenant's tickets is for a viewer: nil if it is
// not for them. The message is read once, however many viewers ask, and an error is
// that somebody else has written it. Only to be called within Sink.Deliver.
func (m *Message) Update(v Viewer) (*Update, error) {
	if m.addressed == nil {
		m.addressed = m.readUpdate()
	}
	a := m.addressed
	switch {
	case a.err != nil:
		return nil, a.err
	case v.all || a.sees.has(v.mark):
		return a.update, nil
	case a.lost.has(v.mark):
		return a.removed, nil
	}
	return nil, nil
}

// readUpdate reads a stored update.
func (m *Message) readUpdate() *addressed {
	var s storedUpdate
	if err := json.Unmarshal(m.Data, &s); err != nil {
		return &addressed{err: errors.New("is not the JSON of a ticket update")}
	}
	sees, err := parseAudience(s.Sees)
	if err != nil {
		return &addressed{err: fmt.Errorf("who sees it: %w", err)}
	}
	lost, err := parseAudience(s.Lost)
	if err != nil {
		return &addressed{err: fmt.Errorf("who has lost it: %w", err)}
	}
	update := Update{TicketUpdate: s.Update, Cursor: m.Cursor}
	removed := update
	removed.Action = peal.ActionRemoved
	return &addressed{sees, lost, &update, &removed, checkUpdate(s.Update)}
}

// maxTicketChanges is how many parts of a ticket an update names at most. There are nine.
const maxTicketChanges = 32

// checkUpdate checks what a client decides by, and how long it is.
func checkUpdate(u peal.TicketUpdate) error {
	if !u.Action.Valid() {
		return errors.New("has no action that is known")
	}
	if len(u.Changes) > maxTicketChanges {
		return errors.New("has too many changes")
	}
	for _, c := range u.Changes {
		if err := peal.CheckID("changes", string(c)); err != nil {
			return err
		}
	}
	if err := peal.CheckID("ticketNumber", u.TicketNumber); err != nil {
		return err
	}
	return peal.CheckID("ticketId", u.TicketID)
}
