package bus

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// leaderGet is a request for one stored message that only the leader answers.
type leaderGet struct {
	Seq     uint64 `json:"seq,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"` // "": the message of that very sequence
	LastFor string `json:"last_by_subj,omitempty"` // instead of Seq: the last message of a subject
}

// getFromLeader reads one message, by the connection for what is read; nil if the
// leader does not have it.
func (b *Bus) getFromLeader(ctx context.Context, stream string, get leaderGet) (*stored, error) {
	return leaderBy(ctx, b.read, stream, get)
}

// leaderBy reads one message; nil if the leader does not have it.
func leaderBy(ctx context.Context, nc *nats.Conn, stream string, get leaderGet) (*stored, error) {
	doing := "read stream " + stream + " from its leader"
	request, err := json.Marshal(get)
	if err != nil {
		return nil, err
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, unavailable(doing, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Data     []byte `json:"data"`
			Header   []byte `json:"hdrs"`
			Time     string `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, unavailable(doing, err)
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil
		}
		return nil, unavailable(doing, answer.Error)
	}
	m := &stored{answer.Message.Subject, answer.Message.Sequence, answer.Message.Data, nats.Header{}}
	if len(answer.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, unavailable(doing, err)
		}
	}
	m.header.Set(headerTime, answer.Message.Time) // as in an answer to Direct Get
	return m, nil
}

// streamEnd asks the leader of a stream when it was created, which tells one
// incarnation from another where there is no epoch, and for the sequence of its
// last message.
func (b *Bus) streamEnd(ctx context.Context, stream string) (created time.Time, last uint64, err error) {
	doing := "ask for stream " + stream
	msg, err := b.read.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return time.Time{}, 0, unavailable(doing, err)
	}
	var answer struct {
		Error   *jetstream.APIError   `json:"error"`
		Created time.Time             `json:"created"`
		State   jetstream.StreamState `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return time.Time{}, 0, unavailable(doing, err)
	}
	if answer.Error != nil {
		return time.Time{}, 0, unavailable(doing, answer.Error)
	}
	return answer.Created, answer.State.LastSeq, nil
}
