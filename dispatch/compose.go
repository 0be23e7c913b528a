package dispatch

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pealhq/peal"
)

// compose makes the notification of those who are told alike.
func (r *Rules) compose(t peal.Tenant, ev *peal.TicketEvent, to told) (peal.Notification, error) {
	id, err := notificationID(t, ev.ID)
	if err != nil {
		return peal.Notification{}, err
	}
	f := factsOf(ev, to)
	n := peal.Notification{
		ID:           id,
		Type:         to.as,
		TicketID:     ev.Ticket.ID,
		TicketNumber: ev.Ticket.Number,
		Title:        cmp.Or(r.write(t, title, f), ev.Ticket.Title), // which may be of spaces
		Message:      r.write(t, message, f),
		Priority:     to.as.DefaultPriority(),
		Category:     line(ev.Ticket.Category, peal.MaxTitle),
		CreatedAt:    ev.OccurredAt.Timestamp,
		ActionURL:    r.write(t, actionURL, f),
		Actor:        actorOf(ev),
		Metadata:     metadata(ev),
		Reasons:      to.why.list(),
	}
	// What an event may say takes more room in a notification where JSON escapes it,
	// or a template says it twice. No event is too large to be told of.
	for most := peal.MaxMessage / 2; len(n.Encode()) > peal.MaxEncoded && most > 0; most /= 2 {
		n.Message = line(n.Message, most)
	}
	return n, n.Validate(r.actionHosts)
}

// notificationID derives the id of the notifications that an event makes. A zero
// byte keeps it apart from the ids that are derived from idempotency keys, which have
// none.
func notificationID(t peal.Tenant, event string) (string, error) {
	space, err := uuid.Parse(string(t))
	if err != nil {
		return "", peal.Invalid("tenant", "must be a UUID")
	}
	return "notif-" + uuid.NewSHA1(space, []byte("event\x00"+event)).String(), nil
}

func actorOf(ev *peal.TicketEvent) *peal.Actor {
	if ev.Actor.IsSystem() {
		return peal.System()
	}
	actor := ev.Actor.Actor
	return &actor
}

// metadata returns what an event says under the keys that peal knows. A status is
// cut, as texts are.
func metadata(ev *peal.TicketEvent) peal.Metadata {
	var m peal.Metadata
	for _, row := range []struct{ key, value string }{
		{"previousStatus", line(ev.PreviousStatus, peal.MaxTitle)},
		{"newStatus", line(ev.NewStatus, peal.MaxTitle)},
		{"slaType", ev.SLA.Type},
		{"slaTarget", text(ev.SLA.Target)},
		{"commentId", ev.Comment.ID},
		{"approvalId", ev.Approval.ID},
	} {
		if row.value == "" {
			continue
		}
		if m == nil {
			m = make(peal.Metadata)
		}
		m[row.key] = row.value
	}
	return m
}

// text is a time as it is in JSON; "" if there is none.
func text(t peal.EventTime) string {
	if t.IsZero() {
		return ""
	}
	return t.String()
}

// write returns a part of a notification by the first words that come to something:
// those that the tenant has for it, those for all tenants, the default ones. Of a
// title it may be "".
func (r *Rules) write(t peal.Tenant, p part, f facts) string {
	for _, by := range []map[peal.Type]words{r.words[t], r.words[""], r.defaults} {
		template := by[f.to.as][p]
		if template == nil {
			continue
		}
		var b strings.Builder
		if template.Execute(&b, f) != nil {
			continue // as good as never: see check
		}
		if s := r.fit(p, b.String()); s != "" {
			return s
		}
	}
	return ""
}

// fit makes what came of a template fit its place; "" if it can't.
func (r *Rules) fit(p part, s string) string {
	switch p {
	case title:
		return line(s, peal.MaxTitle)
	case message:
		return line(s, peal.MaxMessage)
	}
	if s = strings.TrimSpace(s); len(s) > maxLink || peal.CheckActionURL(s, r.actionHosts) != nil {
		return ""
	}
	return s
}

// maxLink is how long a link may be, in bytes. Many proxies take no longer one.
const maxLink = 2048

// line makes s one line of text of at most so many characters.
func line(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && !unicode.IsSpace(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	end, left := 0, most-1
	for i := range s {
		if left == 0 {
			end = i
			break
		}
		left--
	}
	return strings.TrimRight(s[:end], " ") + "…"
}
