package peal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// EventType is a type of ticket event: one of Types, or one that notifies nobody
// and feeds list updates, as all others do.
type EventType string

// The types that notify nobody.
const (
	TicketCreated EventType = "ticketCreated"
	TicketUpdated EventType = "ticketUpdated"
	TicketDeleted EventType = "ticketDeleted"
)

// EventTypes lists the types, in the contract's order.
func EventTypes() []EventType {
	var all []EventType
	for _, t := range Types() {
		all = append(all, EventType(t))
	}
	return append(all, TicketCreated, TicketUpdated, TicketDeleted)
}

// Notifies returns the type of the notifications that an event of this type
// makes; "" if it makes none.
func (t EventType) Notifies() Type {
	if n := Type(t); n.Valid() {
		return n
	}
	return ""
}

// TicketEvent says what happened to a ticket. It names the people itself: the
// database of the ticketing backend is the truth. Its JSON is what publishers send
// and what is stored until it is worked on. What is absent and what is empty are
// the same.
type TicketEvent struct {
	ID         string      `json:"id,omitempty"`
	Type       EventType   `json:"type"`
	OccurredAt EventTime   `json:"occurredAt,omitzero"`
	Actor      *EventActor `json:"actor,omitempty"` // nil: the system
	Ticket     Ticket      `json:"ticket"`

	PreviousAssigneeID UserRef `json:"previousAssigneeId,omitzero"`
	PreviousQueueID    string  `json:"previousQueueId,omitempty"`
	PreviousStatus     string  `json:"previousStatus,omitempty"`
	NewStatus          string  `json:"newStatus,omitempty"`

	Mentions   []UserRef `json:"mentions,omitempty"`
	Approvers  []UserRef `json:"approvers,omitempty"`
	Recipients []UserRef `json:"recipients,omitempty"` // told besides those of the type

	Comment    EventComment  `json:"comment,omitzero"`
	Approval   EventApproval `json:"approval,omitzero"`
	SLA        EventSLA      `json:"sla,omitzero"`
	MergedInto string        `json:"mergedInto,omitempty"` // id of a ticket

	// ExpiresAt is when the event is no longer worth a notification. Zero: never.
	ExpiresAt EventTime `json:"expiresAt,omitzero"`
}

// Ticket is a ticket as it is after the event.
type Ticket struct {
	ID          string    `json:"id"`
	Number      string    `json:"number"`
	Title       string    `json:"title"`
	Category    string    `json:"category,omitempty"`
	Priority    string    `json:"priority,omitempty"` // in the backend's own words
	Status      string    `json:"status,omitempty"`
	QueueID     string    `json:"queueId,omitempty"`
	AssigneeID  UserRef   `json:"assigneeId,omitzero"`
	RequesterID UserRef   `json:"requesterId,omitzero"`
	WatcherIDs  []UserRef `json:"watcherIds,omitempty"`
}

// EventActor is who did it: a user reference with a name. It is a user of the
// tenant's default namespace unless it names another.
type EventActor struct {
	Actor
	Namespace Namespace `json:"namespace,omitempty"`
}

// Ref is the actor as a user reference.
func (a *EventActor) Ref() UserRef { return UserRef{UserID(a.ID), a.Namespace} }

// IsSystem reports whether a stands for nobody: it is nil, or the actor that peal
// names where nobody did it.
func (a *EventActor) IsSystem() bool {
	system := System()
	return a == nil || a.ID == system.ID && a.Name == system.Name && a.Namespace == ""
}

// EventComment is a comment that was added to a ticket.
type EventComment struct {
	ID       string `json:"id,omitempty"`
	Text     string `json:"text,omitempty"`     // may have line breaks and tabs
	Internal bool   `json:"internal,omitempty"` // not for the requester
}

// EventApproval is an approval that was asked for or decided.
type EventApproval struct {
	ID       string `json:"id,omitempty"`
	Decision string `json:"decision,omitempty"` // approved, rejected or ""
}

// EventSLA is a target of a service level agreement.
type EventSLA struct {
	Type   string    `json:"type,omitempty"` // response, resolution or ""
	Target EventTime `json:"target,omitzero"`
}

// EventTime is a Timestamp that is absent too where it is "".
type EventTime struct{ Timestamp }

// UnmarshalJSON implements json.Unmarshaler.
func (t *EventTime) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		*t = EventTime{}
		return nil
	}
	return t.Timestamp.UnmarshalJSON(b)
}

// MaxPeople bounds each list of users of an event: with the bound of bytes, of
// which a user takes three at least, more would not fit.
const MaxPeople = 5000

// WithDefaults returns e with what a publisher may leave out filled in: a new id,
// and that it occurred now.
func (e TicketEvent) WithDefaults(now time.Time) TicketEvent {
	e.ID = cmp.Or(e.ID, uuid.NewString())
	if e.OccurredAt.IsZero() {
		e.OccurredAt = EventTime{NewTimestamp(now)}
	}
	return e
}

// Expired reports whether e is no longer worth a notification. Lists are told of it
// all the same.
func (e TicketEvent) Expired(now time.Time) bool {
	return !e.ExpiresAt.IsZero() && !now.Before(e.ExpiresAt.Time)
}

// Encode returns e as one line of JSON, without a newline at its end.
func (e TicketEvent) Encode() []byte { return encode(e) }

// Validate holds e, with its defaults filled in, against the contract's bounds. It
// takes no more for a namespace than for none, so what Resolve makes of an event that
// is valid is valid. The error is an InvalidError.
func (e TicketEvent) Validate() error {
	if !slices.Contains(EventTypes(), e.Type) {
		return Invalid("type", "must be of "+list(EventTypes()))
	}
	if err := e.validateIDs(); err != nil {
		return err
	}
	if err := checkBounded("ticket.title", e.Ticket.Title, MaxTitle); err != nil {
		return err
	}
	for _, text := range []struct{ field, value string }{
		{"ticket.category", e.Ticket.Category}, {"ticket.priority", e.Ticket.Priority}, {"ticket.status", e.Ticket.Status},
		{"previousStatus", e.PreviousStatus}, {"newStatus", e.NewStatus},
	} {
		if err := checkText(text.field, text.value); err != nil {
			return err
		}
	}
	// A comment has lines, as people write them.
	if err := checkText("comment.text", strings.NewReplacer("\r", "", "\n", "", "\t", "").Replace(e.Comment.Text)); err != nil {
		return err
	}
	if e.Actor != nil {
		if err := e.Actor.validate(); err != nil {
			return err
		}
		if e.Actor.Namespace != "" {
			if _, err := ParseNamespace(string(e.Actor.Namespace)); err != nil {
				return Invalid("actor.namespace", "must be one of the tenant's")
			}
		}
	}
	if !slices.Contains([]string{"", "approved", "rejected"}, e.Approval.Decision) {
		return Invalid("approval.decision", "must be approved or rejected")
	}
	if !slices.Contains([]string{"", "response", "resolution"}, e.SLA.Type) {
		return Invalid("sla.type", "must be response or resolution")
	}
	if err := e.validatePeople(); err != nil {
		return err
	}
	if err := e.CheckSize(); err != nil {
		return e.bare().CheckSize()
	}
	return nil
}

// CheckSize holds e as it is, with every namespace that it names, against the bound
// of what a publisher may send. The error is an InvalidError.
func (e TicketEvent) CheckSize() error {
	if len(e.Encode()) > MaxEncoded {
		return Invalid("event", "must be at most 16384 bytes as JSON")
	}
	return nil
}

// bare returns e with users that are named without their namespaces.
func (e TicketEvent) bare() TicketEvent {
	for _, group := range []*[]UserRef{&e.Ticket.WatcherIDs, &e.Mentions, &e.Approvers, &e.Recipients} {
		*group = slices.Clone(*group)
	}
	e.Resolve(func(_ string, r UserRef) (UserRef, error) { return UserRef{ID: r.ID}, nil })
	if e.Actor != nil {
		e.Actor = &EventActor{Actor: e.Actor.Actor}
	}
	return e
}

// validateIDs checks the ids, of which some must be given.
func (e TicketEvent) validateIDs() error {
	for _, id := range []struct {
		field, value string
		optional     bool
	}{
		{"id", e.ID, false}, {"ticket.id", e.Ticket.ID, false}, {"ticket.number", e.Ticket.Number, false},
		{"ticket.queueId", e.Ticket.QueueID, true}, {"previousQueueId", e.PreviousQueueID, true},
		{"comment.id", e.Comment.ID, true}, {"approval.id", e.Approval.ID, true}, {"mergedInto", e.MergedInto, true},
	} {
		if id.optional && id.value == "" {
			continue
		}
		if err := checkID(id.field, id.value); err != nil {
			return err
		}
	}
	return nil
}

// userList is a list of users of an event, with the field that has it.
type userList struct {
	field string
	users []UserRef
}

func (e TicketEvent) userLists() []userList {
	return []userList{
		{"ticket.watcherIds", e.Ticket.WatcherIDs}, {"mentions", e.Mentions}, {"approvers", e.Approvers}, {"recipients", e.Recipients},
	}
}

func (e TicketEvent) validatePeople() error {
	for _, group := range e.userLists() {
		if len(group.users) > MaxPeople {
			return Invalid(group.field, fmt.Sprintf("must be at most %d", MaxPeople))
		}
		for i, r := range group.users {
			if r.IsZero() {
				return Invalid(fmt.Sprintf("%s[%d]", group.field, i), "must not be empty")
			}
		}
	}
	return nil
}

// Resolve calls resolve for every user that e names but the actor, with the field
// that names them, and puts what it returns in their place. It changes lists that
// e shares with its copies. The first error ends it.
func (e *TicketEvent) Resolve(resolve func(field string, r UserRef) (UserRef, error)) (err error) {
	for _, one := range []struct {
		field string
		user  *UserRef
	}{
		{"ticket.assigneeId", &e.Ticket.AssigneeID}, {"ticket.requesterId", &e.Ticket.RequesterID}, {"previousAssigneeId", &e.PreviousAssigneeID},
	} {
		if one.user.IsZero() {
			continue
		}
		if *one.user, err = resolve(one.field, *one.user); err != nil {
			return err
		}
	}
	for _, group := range e.userLists() {
		for i, r := range group.users {
			if group.users[i], err = resolve(fmt.Sprintf("%s[%d]", group.field, i), r); err != nil {
				return err
			}
		}
	}
	return nil
}
