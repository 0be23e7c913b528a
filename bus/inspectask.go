package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrMissing: there is no such stream or consumer.
var ErrMissing = errors.New("does not exist")

// ask makes a request. An error is an ErrNotPermitted, at once, if it is not permitted.
func (i *Inspector) ask(ctx context.Context, msg *nats.Msg) (answer *nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Timeout)
	defer cancel()
	err = i.rights.ask(ctx, msg.Subject, func(ctx context.Context) (err error) {
		answer, err = i.nc.RequestMsgWithContext(ctx, msg)
		return err
	})
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
	var refused *jetstream.APIError
	switch err := apiError(msg.Data); {
	case err == nil:
		return json.Unmarshal(msg.Data, v)
	case !errors.As(err, &refused):
		return err
	case refused.ErrorCode == jetstream.JSErrCodeStreamNotFound, refused.ErrorCode == jetstream.JSErrCodeConsumerNotFound:
		return ErrMissing
	default:
		return apiRefusal{refused}
	}
}

// apiRefusal is what JetStream refuses with, in its words.
type apiRefusal struct{ *jetstream.APIError }

func (e apiRefusal) Error() string { return e.Description }
func (e apiRefusal) Unwrap() error { return e.APIError }
