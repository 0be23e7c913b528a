package node

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

const maxEvents = 500 // of a batch

// sentEvent is the body of POST …/ticket/event, and each of a batch.
type sentEvent struct{ peal.TicketEvent }

// nullMeansAbsent implements nullable.
func (*sentEvent) nullMeansAbsent() {}

// eventBatch is the body of POST …/ticket/events.
type eventBatch struct{ events []intake.Raw }

// validate bounds the batch; what is in it is for later.
func (b eventBatch) validate() error {
	if len(b.events) == 0 || len(b.events) > maxEvents {
		return peal.Invalid("events", fmt.Sprintf("must be 1 to %d", maxEvents))
	}
	return nil
}

// takenEvent is the answer for an event that is stored.
type takenEvent struct {
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

// takeEvent answers POST …/ticket/event: it stores a ticket event, to be worked on,
// and says so when it is stored.
func (n *Node) takeEvent(w http.ResponseWriter, r *request) error {
	key, err := r.idempotencyKey()
	if err != nil {
		return err
	}
	var sent sentEvent
	caller, refused, err := n.identify(w, r, auth.Publish, &sent)
	if err != nil {
		return err
	}
	if err := sent.check(); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	t := caller.Inbox.Tenant
	event, err := n.settled(t, sent, key, "")
	if err != nil {
		return err
	}
	accepted, err := n.accept(r, t, event)
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusAccepted, takenEvent{event.ID, accepted[0].Duplicate})
}

// takeEvents answers POST …/ticket/events: it stores those of a batch that are
// valid, and says of each what became of it.
func (n *Node) takeEvents(w http.ResponseWriter, r *request) error {
	key, err := r.idempotencyKey()
	if err != nil {
		return err
	}
	var batch eventBatch
	caller, refused, err := n.identify(w, r, auth.Publish, &batch)
	if err != nil {
		return err
	}
	if err := batch.validate(); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	t := caller.Inbox.Tenant
	results := make([]any, len(batch.events))
	var events []peal.TicketEvent
	var places []int // of them in the batch
	for i, raw := range batch.events {
		event, err := n.readEvent(t, raw, key, strconv.Itoa(i))
		if err != nil {
			results[i] = r.told(problemOf(err), err)
			continue
		}
		events, places = append(events, event), append(places, i)
	}
	accepted, err := n.accept(r, t, events...)
	if err != nil {
		return err
	}
	for i, a := range accepted {
		if a.Err != nil {
			n.tellUnavailable(r, a.Err)
			results[places[i]] = r.told(problemOf(a.Err), a.Err)
			continue
		}
		results[places[i]] = takenEvent{events[i].ID, a.Duplicate}
	}
	return answerJSON(w, http.StatusOK, struct {
		Results []any `json:"results"` // a takenEvent or a told for each
	}{results})
}

// readEvent reads one of a batch.
func (n *Node) readEvent(t peal.Tenant, raw intake.Raw, key, place string) (peal.TicketEvent, error) {
	var sent sentEvent
	if err := intake.Unmarshal(raw, &sent); err != nil {
		return peal.TicketEvent{}, err
	}
	if err := sent.check(); err != nil {
		return peal.TicketEvent{}, err
	}
	return n.settled(t, sent, key, place)
}

// check holds what was sent against the bounds, as far as that needs no caller.
func (e sentEvent) check() error {
	event := e.WithDefaults(time.Now())
	if err := event.Validate(); err != nil {
		return err
	}
	return event.CheckSize()
}

// settled makes of an event what is stored of it. It names everybody with a
// namespace: what was accepted keeps its meaning if the tenant's default becomes
// another before it is worked on.
func (n *Node) settled(t peal.Tenant, sent sentEvent, key, place string) (peal.TicketEvent, error) {
	event := sent.TicketEvent
	if event.ID == "" && key != "" {
		event.ID = derivedEventID(t, key, place)
	}
	event = event.WithDefaults(time.Now())
	d := n.verifier.Directory()
	err := event.Resolve(func(field string, ref peal.UserRef) (peal.UserRef, error) {
		in, err := d.Inbox(t, ref)
		return peal.UserRef{ID: in.User, Namespace: in.Namespace}, intake.AboutUser(field, err)
	})
	if err != nil || event.Actor.IsSystem() {
		return event, err
	}
	// Without a default an actor may go without a namespace: nothing is sent there.
	if event.Actor.Namespace == "" && d.DefaultNamespace(t) == "" {
		return event, nil
	}
	in, err := d.Inbox(t, event.Actor.Ref())
	event.Actor.Namespace = in.Namespace
	return event, intake.AboutUser("actor.namespace", err)
}

// accept has events of a tenant stored. The error is for all of them: there are too
// many, or not one could be stored.
func (n *Node) accept(r *request, t peal.Tenant, events ...peal.TicketEvent) ([]bus.Accepted, error) {
	began := time.Now()
	if err := n.events.takeN(t, len(events), began); err != nil {
		return nil, err
	}
	if err := n.sighted(); err != nil || len(events) == 0 {
		return nil, err
	}
	var accepted []bus.Accepted
	err := n.recorded(r, "store ticket events", func(ctx context.Context) error {
		accepted = n.bus.Accept(ctx, t, events...)
		for _, a := range accepted {
			if a.Err == nil {
				n.metrics.events.Observe(time.Since(began).Seconds())
				return nil
			}
		}
		return accepted[0].Err
	})
	if err != nil {
		return nil, err
	}
	return accepted, nil
}
