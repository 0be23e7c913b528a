package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/auth"
	"github.com/pealhq/peal/bus"
	"github.com/pealhq/peal/intake"
)

const maxRecipients = 1000

// publication is the body of POST …/ticket/notification.
type publication struct {
	Recipients   []peal.UserRef    `json:"recipients"`
	Notification peal.Notification `json:"notification"`
}

// nullMeansAbsent implements nullable.
func (*publication) nullMeansAbsent() {}

// publish answers POST …/ticket/notification: it stores a notification for
// each recipient and says so when all are stored.
func (n *Node) publish(w http.ResponseWriter, r *request) error {
	key, err := r.idempotencyKey()
	if err != nil {
		return err
	}
	var p publication
	caller, refused, err := n.identify(w, r, auth.Publish, &p)
	if err != nil {
		return err
	}
	if err := p.validate(n.cfg.ActionHosts); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	to, err := inboxes(n.verifier.Directory(), caller.Inbox.Tenant, "recipients", p.Recipients)
	if err != nil {
		return err
	}
	if err := n.sighted(); err != nil {
		return err
	}
	if key != "" && p.Notification.ID == "" {
		p.Notification.ID = derivedID(caller.Inbox.Tenant, key)
	}
	began := time.Now()
	notification := p.Notification.WithDefaults(began)
	var result bus.Published
	err = n.recorded(r, "publish notification", func(ctx context.Context) (err error) {
		result, err = n.bus.Tell(ctx, began, bus.Publication{To: to, Notification: notification})
		return err
	})
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
	if err := checkUsers("recipients", p.Recipients); err != nil {
		return err
	}
	return under("notification", p.Notification.WithDefaults(time.Now()).Validate(actionHosts))
}

// checkUsers wants a list of users that names somebody in each place.
func checkUsers(field string, refs []peal.UserRef) error {
	for i, ref := range refs {
		if ref.IsZero() {
			return userError(field, i, peal.Invalid("user", "must not be empty"))
		}
	}
	return nil
}

// inboxes finds the inboxes of a list of users.
func inboxes(d *auth.Directory, t peal.Tenant, field string, refs []peal.UserRef) ([]peal.Inbox, error) {
	all := make([]peal.Inbox, len(refs))
	for i, ref := range refs {
		var err error
		if all[i], err = d.Inbox(t, ref); err != nil {
			return nil, userError(field, i, err)
		}
	}
	return all, nil
}

// userError names the user of a list that an error is about.
func userError(field string, i int, err error) error {
	return intake.AboutUser(fmt.Sprintf("%s[%d]", field, i), err)
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
func derivedID(t peal.Tenant, key string) string { return "notif-" + hashOf(t, key) }

// derivedEventID is the same for a ticket event, or for one of a batch, in which it
// has a place. It is none that a notification gets of the key, nor an event in
// another place: a key has no control characters.
func derivedEventID(t peal.Tenant, key, place string) string {
	return "event-" + hashOf(t, "event\x00"+place+"\x00"+key)
}

// hashOf is a name in the form of a UUID, another one in each tenant.
func hashOf(t peal.Tenant, name string) string {
	return uuid.NewSHA1(uuid.MustParse(string(t)), []byte(name)).String()
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
