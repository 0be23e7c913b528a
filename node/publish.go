package node

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
)

const (
	maxBody       = 1 << 20 // bytes
	maxRecipients = 1000

	// bodyTimeout bounds the reading of a body: a mebibyte at 100 kB/s.
	bodyTimeout = 10 * time.Second
)

// publication is the body of POST …/ticket/notification.
type publication struct {
	Recipients   []recipient       `json:"recipients"`
	Notification peal.Notification `json:"notification"`
}

// recipient is a user reference: a string, in the tenant's default namespace,
// or an object that names the namespace.
type recipient struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`

	bare bool // given as a string
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *recipient) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		r.bare = true
		return json.UnmarshalDecode(d, &r.ID)
	case '{':
		type plain recipient
		return json.UnmarshalDecode(d, (*plain)(r))
	}
	return errors.New("must be a string or an object")
}

// publish answers POST …/ticket/notification: it stores a notification for
// each recipient and says so when all are stored.
func (n *Node) publish(w http.ResponseWriter, r *request) error {
	if _, err := r.query(); err != nil {
		return err
	}
	key, err := r.idempotencyKey()
	if err != nil {
		return err
	}
	var p publication
	if err := r.body(w, &p); err != nil {
		return err
	}
	if err := p.validate(n.cfg.ActionHosts); err != nil {
		return err
	}
	caller, err := n.authenticate(r, auth.Publish)
	if err != nil {
		return err
	}
	to, err := p.inboxes(n.directory, caller.Inbox.Tenant)
	if err != nil {
		return err
	}
	if key != "" && p.Notification.ID == "" {
		p.Notification.ID = derivedID(caller.Inbox.Tenant, key)
	}
	began := time.Now()
	notification := p.Notification.WithDefaults(began)
	result, err := n.bus.Publish(r.Context(), to, notification)
	if err != nil {
		return err
	}
	n.metrics.publish.Observe(time.Since(began).Seconds())
	return answerJSON(w, http.StatusAccepted, struct {
		ID         string `json:"id"`
		Stored     int    `json:"stored"`
		Duplicates int    `json:"duplicates"`
	}{notification.ID, result.Stored, result.Duplicates})
}

// validate holds the body against the bounds, as far as that needs no caller.
func (p *publication) validate(actionHosts []string) error {
	if len(p.Recipients) == 0 || len(p.Recipients) > maxRecipients {
		return peal.Invalid("recipients", "must be 1 to 1000")
	}
	for i, to := range p.Recipients {
		if err := to.validate(); err != nil {
			return recipientError(i, err)
		}
	}
	return under("notification", p.Notification.WithDefaults(time.Now()).Validate(actionHosts))
}

func (r recipient) validate() error {
	if _, err := peal.ParseUserID(r.ID); err != nil {
		return err
	}
	if r.bare {
		return nil
	}
	_, err := peal.ParseNamespace(r.Namespace)
	return err
}

// inboxes finds the recipients' inboxes.
func (p *publication) inboxes(d *auth.Directory, t peal.Tenant) ([]peal.Inbox, error) {
	to := make([]peal.Inbox, len(p.Recipients))
	for i, ref := range p.Recipients {
		var err error
		if to[i], err = d.Inbox(t, ref.ID, ref.Namespace); err != nil {
			return nil, recipientError(i, err)
		}
	}
	return to, nil
}

// recipientError names the recipient that an error is about.
func recipientError(i int, err error) error {
	invalid, ok := errors.AsType[*peal.InvalidError](err)
	if !ok {
		return err
	}
	reason := invalid.Reason
	switch invalid.Field {
	case "user", "namespace":
		reason = "the " + invalid.Field + " " + reason
	}
	return peal.Invalid(fmt.Sprintf("recipients[%d]", i), reason)
}

// under puts the name of what an invalid field belongs to before it.
func under(name string, err error) error {
	invalid, ok := errors.AsType[*peal.InvalidError](err)
	if !ok || invalid.Field == name {
		return err
	}
	return peal.Invalid(name+"."+invalid.Field, invalid.Reason)
}

// derivedID makes a notification's id of an idempotency key, so that a retry
// carries the same. The key's scope is the tenant.
func derivedID(t peal.Tenant, key string) string {
	return "notif-" + uuid.NewSHA1(uuid.MustParse(string(t)), []byte(key)).String()
}

// idempotencyKey reads the header of that name; "" if there is none.
func (r *request) idempotencyKey() (string, error) {
	v := r.Header["Idempotency-Key"]
	if len(v) == 0 {
		return "", nil
	}
	if len(v) > 1 || v[0] == "" || len(v[0]) > peal.MaxID || strings.ContainsFunc(v[0], func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", peal.Invalid("Idempotency-Key", "must be given once, as 1 to 128 printable ASCII characters")
	}
	return v[0], nil
}

// body reads a JSON body into v, strictly: a name that is unknown, repeated or
// spelled in another case is an error, and so is a string that is not UTF-8.
func (r *request) body(w http.ResponseWriter, v any) error {
	kind, ok := r.only("Content-Type")
	if !ok {
		return errMediaType
	}
	media, params, err := mime.ParseMediaType(kind)
	if err != nil || media != "application/json" || len(r.Header["Content-Encoding"]) > 0 {
		return errMediaType
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return errMediaType
	}
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	if err != nil {
		return peal.Invalid("body", "did not arrive whole")
	}
	r.read = true
	// From here on the end of reading is how net/http notices that the client
	// has gone.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return malformed(json.Unmarshal(data, v, json.RejectUnknownMembers(true)))
}

// malformed says what is wrong with a JSON body in words for its sender,
// without quoting it.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return peal.Invalid(fieldOf(syntactic.JSONPointer), "must not be repeated")
	case errors.As(err, &syntactic):
		return peal.Invalid(fieldOf(syntactic.JSONPointer), fmt.Sprintf("is not valid JSON at byte %d", syntactic.ByteOffset))
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return peal.Invalid(fieldOf(semantic.JSONPointer), "is not a known field")
	case errors.As(err, &semantic):
		var invalid *peal.InvalidError
		if errors.As(err, &invalid) {
			return peal.Invalid(fieldOf(semantic.JSONPointer), invalid.Reason)
		}
		return peal.Invalid(fieldOf(semantic.JSONPointer), "has the wrong type")
	}
	return peal.Invalid("body", "is not valid JSON")
}

// maxField bounds what is quoted of a field's name in an error.
const maxField = 128

// fieldOf names a place in a JSON body as its sender would.
func fieldOf(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	if b.Len() == 0 || b.Len() > maxField {
		return "body"
	}
	return b.String()
}

func answerJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(encode(v), '\n'))
	return nil
}
