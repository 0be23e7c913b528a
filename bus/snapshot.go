package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// This file is how a stream gets from one JetStream to another with all that it is: its
// messages with their sequences and times, its consumers with what they have settled,
// and its configuration. JetStream calls that snapshot and restore; here one feeds the
// other, and nothing is kept in between.

// snapshotChunk is how many bytes go over at once: NATS takes messages of a mebibyte.
const snapshotChunk = 512 << 10

// copyStream makes a stream that is on another JetStream, as change says that its
// configuration is to be. When it returns the copy is there on one server; an error
// leaves none, or half of one.
func (s *Streams) copyStream(ctx context.Context, from *Streams, name string, change func(config map[string]json.RawMessage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := from.nc.NewInbox()
	sub, err := from.nc.SubscribeSync(chunks)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	var is struct {
		Config map[string]json.RawMessage `json:"config"`
		State  json.RawMessage            `json:"state"`
	}
	err = from.request(ctx, apiSubject("STREAM.SNAPSHOT", name), map[string]any{"deliver_subject": chunks, "chunk_size": snapshotChunk}, &is)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := change(is.Config); err != nil {
		return err
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := s.request(ctx, apiSubject("STREAM.RESTORE", name), is, &to); err != nil {
		return err
	}
	for {
		m, err := from.next(ctx, sub)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := s.put(ctx, to.Subject, m.Data); err != nil {
			return err
		}
		if len(m.Data) == 0 { // the end, which is answered when the stream is there
			return nil
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
	}
}

// next is the next chunk of a snapshot.
func (s *Streams) next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimes*s.timeout)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if status := m.Header.Get("Status"); status != "" && status != statusEnd {
		return nil, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
	}
	return m, nil
}

// put hands on a chunk, and waits until it is taken. In a cluster the answer that names
// the subject may come before the word, on another of the servers' connections, that
// somebody listens to it: what nobody has got is sent again.
func (s *Streams) put(ctx context.Context, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, restoreTimes*s.timeout)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, subject, data)
	for end := time.Now().Add(s.timeout); errors.Is(err, nats.ErrNoResponders) && time.Now().Before(end) && pause(ctx, unheardPause); {
		m, err = s.nc.RequestWithContext(ctx, subject, data)
	}
	if err != nil {
		return err
	}
	if len(m.Data) == 0 {
		return nil
	}
	return apiError(m.Data)
}

// unheardPause is between two tries of a chunk to which nobody listens: some round trips
// between servers.
const unheardPause = 20 * time.Millisecond

// restoreTimes is how much longer than a look the last chunk of a large stream may take:
// it is read anew from the disk then.
const restoreTimes = 30

// request asks the API of JetStream, and reads the answer.
func (s *Streams) request(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var m *nats.Msg
	err = s.change(ctx, subject, func(ctx context.Context) (err error) {
		m, err = s.nc.RequestWithContext(ctx, subject, body)
		return err
	})
	if err != nil {
		return err
	}
	if err := apiError(m.Data); err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}
