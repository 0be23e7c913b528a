package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// Dead letters are looked after on the admin port, for all tenants. What they hold
// is in no log: it is what publishers have written.

// deadLetter is what is told of a dead letter. What is not known of it is "" or null.
type deadLetter struct {
	ID       string          `json:"id"`
	Tenant   string          `json:"tenant"`
	TicketID string          `json:"ticketId"`
	EventID  string          `json:"eventId"`
	Reason   string          `json:"reason"`
	Buried   *peal.Timestamp `json:"buried"`
	Stored   *peal.Timestamp `json:"stored"`
	Size     int             `json:"size"`
	Whole    bool            `json:"whole"`
}

func deadLetterOf(d bus.DeadLetter) deadLetter {
	l := deadLetter{ID: d.ID, Tenant: d.Tenant, TicketID: d.Ticket, EventID: d.Event, Reason: d.Reason, Size: d.Size, Whole: d.Whole}
	if !d.Buried.IsZero() {
		l.Buried = new(peal.NewTimestamp(d.Buried))
	}
	if !d.Stored.IsZero() {
		l.Stored = new(peal.NewTimestamp(d.Stored))
	}
	return l
}

// opened is a dead letter with what it holds: an event, or what is none.
type opened struct {
	deadLetter
	Event json.RawMessage `json:"event,omitempty"`
	Raw   []byte          `json:"raw,omitzero"` // in base64
}

func openedOf(d bus.DeadLetter) opened {
	o := opened{deadLetter: deadLetterOf(d)}
	if json.Valid(d.Data) && utf8.Valid(d.Data) {
		o.Event = d.Data
	} else {
		o.Raw = append([]byte{}, d.Data...) // not nil
	}
	return o
}

// listDead answers GET {admin}/dead: a page of dead letters, oldest first.
func (n *Node) listDead(w http.ResponseWriter, r *request) error {
	values, err := r.onlyQuery("tenant", "after", "limit")
	if err != nil {
		return err
	}
	limit := defaultPage
	var t peal.Tenant
	if v, ok := values["limit"]; ok {
		if limit, err = number("limit", v, maxPage); err != nil {
			return err
		}
	}
	if v, ok := values["tenant"]; ok {
		if t, err = peal.ParseTenant(v); err != nil {
			return err
		}
	}
	page, next, err := n.bus.DeadLetters(r.Context(), t, values["after"], limit)
	if err != nil {
		return err
	}
	all := make([]deadLetter, len(page))
	for i, d := range page {
		all[i] = deadLetterOf(d)
	}
	var after *string
	if next != "" {
		after = &next
	}
	return answerJSON(w, http.StatusOK, struct {
		DeadLetters []deadLetter `json:"deadLetters"`
		Next        *string      `json:"next"` // nil: there are no later ones
	}{all, after})
}

// showDead answers GET {admin}/dead/{id}: a dead letter with what it holds.
func (n *Node) showDead(w http.ResponseWriter, r *request) error {
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	d, err := n.bus.DeadLetter(r.Context(), r.params.ByName("id"))
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, openedOf(d))
}

// retryDead answers POST {admin}/dead/{id}/retry: it has the event worked on again,
// and drops the dead letter.
func (n *Node) retryDead(w http.ResponseWriter, r *request) error {
	return n.settleDead(w, r, http.StatusAccepted, "dead letter retried", n.bus.RetryDeadLetter)
}

// dropDead answers DELETE {admin}/dead/{id}: it erases a dead letter.
func (n *Node) dropDead(w http.ResponseWriter, r *request) error {
	return n.settleDead(w, r, http.StatusOK, "dead letter dropped", n.bus.DropDeadLetter)
}

// settleDead does away with a dead letter in one of the ways, and notes it.
func (n *Node) settleDead(w http.ResponseWriter, r *request, status int, what string, do func(context.Context, string) error) error {
	if _, err := r.onlyQuery(); err != nil {
		return err
	}
	id := r.params.ByName("id")
	// It goes on without the client, or nobody would hear that it is done.
	err := do(context.WithoutCancel(r.Context()), id)
	if errors.Is(err, peal.ErrUnavailable) { // what was not answered may be done
		n.audit(r, r.onAdminPort(), what+", perhaps", "id", id, "err", err)
	}
	if err != nil {
		return err
	}
	n.audit(r, r.onAdminPort(), what, "id", id)
	return answerJSON(w, status, struct {
		ID string `json:"id"`
	}{id})
}

// onlyQuery reads a request of the admin port that has no body, and in its query
// nothing but these parameters, each once at most: one that is spelled wrong would
// mean all.
func (r *request) onlyQuery(names ...string) (map[string]string, error) {
	if err := r.fromNoPage(); err != nil {
		return nil, err
	}
	if err := r.empty(); err != nil {
		return nil, err
	}
	query, err := r.query()
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for name, given := range query {
		switch {
		case len(names) == 0:
			return nil, peal.Invalid("query", "must be empty")
		case !slices.Contains(names, name):
			return nil, peal.Invalid("query", "must have no other parameters than "+strings.Join(names, ", "))
		case len(given) > 1:
			return nil, peal.Invalid(name, "must be given once")
		case given[0] == "":
			return nil, peal.Invalid(name, "must not be empty")
		}
		values[name] = given[0]
	}
	return values, nil
}
