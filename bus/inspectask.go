package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrDenied: the NATS user has no right to it. The text names the subject.
var ErrDenied = errors.New("not permitted")

// ErrMissing: there is no such stream or consumer.
var ErrMissing = errors.New("does not exist")

// denials is what NATS does not permit to a connection. It answers no request that is
// not permitted: the connection is told, in its own time, and who asked would wait in
// vain.
type denials struct {
	mu     sync.Mutex
	deaf   error                                            // no answer can be received; nil: as far as is known they can
	asking map[string]map[*nats.Msg]context.CancelCauseFunc // by subject
}

func newDenials() *denials {
	return &denials{asking: make(map[string]map[*nats.Msg]context.CancelCauseFunc)}
}

var denial = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "(\S+)"`)

// add takes an error of the connection, and ends the waiting of those whom it is
// about.
func (d *denials) add(err error) {
	m := denial.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if strings.EqualFold(m[1], "subscription") {
		if strings.HasPrefix(m[2], "_INBOX") && d.deaf == nil {
			d.deaf = fmt.Errorf("to hear answers on %s is %w", m[2], ErrDenied)
			for _, all := range d.asking {
				for _, cancel := range all {
					cancel(d.deaf)
				}
			}
		}
		return
	}
	for _, cancel := range d.asking[m[2]] {
		cancel(fmt.Errorf("to publish to %s is %w", m[2], ErrDenied))
	}
}

// watch has cancel called when a request turns out not to be permitted, until done.
func (d *denials) watch(msg *nats.Msg, cancel context.CancelCauseFunc) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deaf != nil {
		cancel(d.deaf)
	}
	if d.asking[msg.Subject] == nil {
		d.asking[msg.Subject] = make(map[*nats.Msg]context.CancelCauseFunc)
	}
	d.asking[msg.Subject][msg] = cancel
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.asking[msg.Subject], msg)
	}
}

// ask makes a request. An error is an ErrDenied, at once, if it is not permitted.
func (i *Inspector) ask(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	ctx, stop := context.WithTimeout(ctx, i.cfg.Timeout)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer i.denied.watch(msg, cancel)()
	answer, err := i.nc.RequestMsgWithContext(ctx, msg)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrDenied) {
		return nil, cause
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer within %v", i.cfg.Timeout)
	}
	return answer, err
}

// api asks JetStream, and reads the answer into v. What is not there is an
// ErrMissing.
func (i *Inspector) api(ctx context.Context, call string, v any) error {
	msg, err := i.ask(ctx, nats.NewMsg("$JS.API."+call))
	if err != nil {
		return err
	}
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &refusal); err != nil {
		return fmt.Errorf("an answer that is none: %w", err)
	}
	switch e := refusal.Error; {
	case e == nil:
		return json.Unmarshal(msg.Data, v)
	case e.ErrorCode == jetstream.JSErrCodeStreamNotFound, e.ErrorCode == jetstream.JSErrCodeConsumerNotFound:
		return ErrMissing
	default:
		return apiRefusal{e}
	}
}

// apiRefusal is what JetStream refuses with, in its words.
type apiRefusal struct{ *jetstream.APIError }

func (e apiRefusal) Error() string { return e.Description }
func (e apiRefusal) Unwrap() error { return e.APIError }
