package peal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds of a notification, from the API contract.
const (
	MaxTitle         = 300   // characters
	MaxMessage       = 2000  // characters
	MaxExtraMetadata = 16    // keys beside the six that peal knows
	MaxEncoded       = 16384 // bytes of JSON; one NATS message over 1 MiB would cut a shared connection
)

// Notification tells one user what happened to a ticket. Its JSON is what is
// stored, and what a client receives as the data of an SSE event: UTF-8, one
// line, fields in this order, no HTML escapes.
type Notification struct {
	ID           string    `json:"id"`
	Type         Type      `json:"type"`
	TicketID     string    `json:"ticketId"`
	TicketNumber string    `json:"ticketNumber"`
	Title        string    `json:"title"`
	Message      string    `json:"message"`
	Priority     Priority  `json:"priority"`
	Category     string    `json:"category"`
	CreatedAt    Timestamp `json:"createdAt"`

	// Read is the read state at the moment of sending. It is false in
	// everything that is stored.
	Read bool `json:"read"`

	ActionURL string   `json:"actionUrl"`
	Actor     *Actor   `json:"actor"` // nil only before WithDefaults
	Metadata  Metadata `json:"metadata,omitempty"`
	Reasons   []Reason `json:"reasons"`

	// Silent: made in the user's quiet hours, to be shown without sound or toast.
	Silent bool `json:"silent,omitempty"`
}

// Actor is who did what the notification tells of.
type Actor struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Avatar *string `json:"avatar"` // an https URL, or nil
}

// System is the actor of what nobody did, such as an SLA running out.
func System() *Actor { return &Actor{ID: "system", Name: "System"} }

// Reason is why a user is told. One notification can have several.
type Reason string

// The reasons, in the order in which they are listed.
const (
	ReasonAssignee         Reason = "assignee"
	ReasonPreviousAssignee Reason = "previousAssignee"
	ReasonWatcher          Reason = "watcher"
	ReasonMention          Reason = "mention"
	ReasonApprover         Reason = "approver"
	ReasonRequester        Reason = "requester"
	ReasonQueue            Reason = "queue"
	ReasonRecipient        Reason = "recipient"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		ReasonAssignee, ReasonPreviousAssignee, ReasonWatcher, ReasonMention,
		ReasonApprover, ReasonRequester, ReasonQueue, ReasonRecipient,
	}
}

// WithDefaults returns n with what a publisher may leave out filled in: a new
// id, the time now, the priority of its type, the ticket's page, the system as
// actor, "recipient" as reason. Read is false, whatever it was.
func (n Notification) WithDefaults(now time.Time) Notification {
	if n.ID == "" {
		n.ID = "notif-" + uuid.NewString()
	}
	if n.CreatedAt.IsZero() {
		n.CreatedAt = NewTimestamp(now)
	}
	if n.Priority == "" {
		n.Priority = n.Type.DefaultPriority()
	}
	if n.ActionURL == "" {
		n.ActionURL = "/tickets/" + url.PathEscape(n.TicketID)
	}
	if n.Actor == nil {
		n.Actor = System()
	}
	if len(n.Reasons) == 0 {
		n.Reasons = []Reason{ReasonRecipient}
	}
	n.Read = false
	return n
}

// Validate holds n, with its defaults filled in, against the contract's
// bounds. actionHosts are the hosts that an absolute actionUrl may name, each
// as "host" or "host:port" in lower case. The error is an InvalidError.
func (n Notification) Validate(actionHosts []string) error {
	for _, id := range []struct{ field, value string }{
		{"id", n.ID}, {"ticketId", n.TicketID}, {"ticketNumber", n.TicketNumber},
	} {
		if err := checkID(id.field, id.value); err != nil {
			return err
		}
	}
	if !n.Type.Valid() {
		return Invalid("type", "must be one of the notification types")
	}
	if !n.Priority.Valid() {
		return Invalid("priority", "must be low, medium, high or urgent")
	}
	if err := checkBounded("title", n.Title, MaxTitle); err != nil {
		return err
	}
	if err := checkBounded("message", n.Message, MaxMessage); err != nil {
		return err
	}
	if err := checkText("category", n.Category); err != nil {
		return err
	}
	if err := checkActionURL(n.ActionURL, actionHosts); err != nil {
		return err
	}
	if err := n.Actor.validate(); err != nil {
		return err
	}
	if err := n.Metadata.validate(); err != nil {
		return err
	}
	for i, r := range n.Reasons {
		if !slices.Contains(Reasons(), r) {
			return Invalid("reasons", "must be of "+list(Reasons()))
		}
		if slices.Contains(n.Reasons[:i], r) {
			return Invalid("reasons", "must not repeat one")
		}
	}
	if len(n.Encode()) > MaxEncoded {
		return Invalid("notification", "must be at most 16384 bytes as JSON")
	}
	return nil
}

// Encode returns n as one line of JSON, without a newline at its end.
func (n Notification) Encode() []byte {
	return encode(n)
}

func (a *Actor) validate() error {
	if a == nil {
		return Invalid("actor", "must be given")
	}
	if err := checkID("actor.id", a.ID); err != nil {
		return err
	}
	if err := checkBounded("actor.name", a.Name, MaxTitle); err != nil {
		return err
	}
	if a.Avatar == nil {
		return nil
	}
	if err := checkText("actor.avatar", *a.Avatar); err != nil {
		return err
	}
	if u, err := url.Parse(*a.Avatar); err != nil || strings.ContainsAny(*a.Avatar, notInURL) || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return Invalid("actor.avatar", "must be an https URL or null")
	}
	return nil
}

// checkBounded wants a text of 1 to most characters.
func checkBounded(field, s string, most int) error {
	if s == "" {
		return Invalid(field, "must not be empty")
	}
	if utf8.RuneCountInString(s) > most {
		return Invalid(field, fmt.Sprintf("must be at most %d characters", most))
	}
	return checkText(field, s)
}

// notInURL are characters that RFC 3986 has in no URL. A browser takes a
// backslash for a slash, so "/\evil" would leave the site as "//evil" does; a
// quote ends an attribute that a careless page puts the URL into.
const notInURL = "\\\"'<>`{}|^ "

// CheckActionURL checks that s is a path of this site, or an https URL of a host of
// the list, as Notification.Validate does.
func CheckActionURL(s string, hosts []string) error { return checkActionURL(s, hosts) }

// checkActionURL wants a path of this site or an https URL of a listed host.
func checkActionURL(s string, hosts []string) error {
	bad := Invalid("actionUrl", "must be a path beginning with exactly one /, or an https URL of an allowed host")
	if err := checkText("actionUrl", s); err != nil {
		return err
	}
	if strings.ContainsAny(s, notInURL) || strings.HasPrefix(s, "//") {
		return bad
	}
	u, err := url.Parse(s)
	if err != nil {
		return bad
	}
	if strings.HasPrefix(s, "/") {
		return nil
	}
	// In ASCII alone: what else has a lower case there, such as the dotted capital
	// I, is another host to a browser.
	if u.Scheme != "https" || u.User != nil || strings.ContainsFunc(u.Host, notASCII) || !slices.Contains(hosts, strings.ToLower(u.Host)) {
		return bad
	}
	return nil
}

func notASCII(r rune) bool { return r > unicode.MaxASCII }

// encode is JSON without HTML escapes and without the newline of an Encoder.
// It is for values that always encode.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("peal: encode %T: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// list joins names for a message.
func list[S ~string](names []S) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(n))
	}
	return b.String()
}
