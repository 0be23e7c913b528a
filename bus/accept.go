package bus

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// MaxEvent is how large a valid event may be as it is stored, in bytes: 16 KiB without
// namespaces, with four thousand users of two bytes, each in the longest namespace. Of
// a dead letter so much is kept.
const MaxEvent = 512 << 10

// Accepted is what became of a ticket event.
type Accepted struct {
	Duplicate bool  // one of its id was stored less than 10 minutes ago
	Err       error // a peal.ErrUnavailable, or ctx's: it may be stored all the same
}

// Accept stores events of a tenant, which have their defaults and are valid, to be
// worked on, and returns what became of each when all that could be stored are on
// disk, after Config.Timeout at the latest. Those of one ticket are worked on in
// their order. Of several with one id the first counts. It is safe to repeat.
func (b *Bus) Accept(ctx context.Context, t peal.Tenant, events ...peal.TicketEvent) []Accepted {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	o := newOrder()
	at := make(map[string]int) // id of an event → its post
	for _, e := range events {
		if _, seen := at[e.ID]; !seen {
			at[e.ID] = len(o.posts)
			o.add(b.events, b.eventMessage(ctx, t, e))
		}
	}
	err := b.writable()
	if err == nil {
		err = b.store(ctx, o)
	}
	answers := o.answers(err)
	all := make([]Accepted, len(events))
	first := make(map[string]bool)
	for i, e := range events {
		a := answers[at[e.ID]]
		all[i] = Accepted{Duplicate: a.duplicate || first[e.ID]}
		first[e.ID] = true
		switch {
		case a.err != nil:
			all[i] = Accepted{Err: unavailable("store ticket event", a.err)}
		case all[i].Duplicate:
			b.stats.EventDuplicates.Add(1)
		default:
			b.stats.Events.Add(1)
		}
	}
	return all
}

// eventMessage makes the stored form of an event, which is what publishers on the
// bus send too.
func (b *Bus) eventMessage(ctx context.Context, t peal.Tenant, e peal.TicketEvent) *nats.Msg {
	m := &nats.Msg{
		Subject: subject("event", string(b.cfg.Region), string(t), escape(e.Ticket.ID)),
		Data:    e.Encode(),
		Header: nats.Header{
			jetstream.MsgIDHeader: {messageID(string(t), e.ID)},
			headerVersion:         {formatVersion},
			headerType:            {string(e.Type)},
		},
	}
	traced(ctx, m.Header)
	return m
}
