package bus

import (
	"context"
	"encoding/json"
	"errors"
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
	return b.leaderBy(ctx, b.read, stream, get)
}

// leaderBy reads one message by a connection; nil if the leader does not have it.
func (b *Bus) leaderBy(ctx context.Context, nc *nats.Conn, stream string, get leaderGet) (*stored, error) {
	return led(ctx, b, stream, func(ctx context.Context, name string) (*stored, error) { return leaderBy(ctx, nc, name, get) })
}

// leaderBy reads one message of a stream by its very name; nil if the leader does not
// have it.
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

// leaseTime is for how long after the last word of a majority of its stream nobody
// else can lead it: a server waits for at least 4 s before it stands for election, and
// a leader that is there is heard of once a second.
const leaseTime = 3 * time.Second

var errDeposed = errors.New("who answers as its leader has heard of no majority lately")

// leads reports whether who has told this of a stream, as its leader, can't have been
// succeeded by another one yet. A server that was cut off, or held up, goes on
// answering for ten seconds and more, and for some time after it is back; what was
// stored meanwhile it does not know. Its word that a stream ends earlier would be taken
// for a loss.
func leads(c *jetstream.ClusterInfo) bool {
	if c == nil || len(c.Replicas) == 0 {
		return true
	}
	heard := 1 // itself
	for _, r := range c.Replicas {
		if r.Active > 0 && r.Active < leaseTime { // 0: never
			heard++
		}
	}
	return heard > (len(c.Replicas)+1)/2
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
		Error   *jetstream.APIError    `json:"error"`
		Created time.Time              `json:"created"`
		State   jetstream.StreamState  `json:"state"`
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return time.Time{}, 0, unavailable(doing, err)
	}
	if answer.Error != nil {
		return time.Time{}, 0, unavailable(doing, answer.Error)
	}
	if !leads(answer.Cluster) {
		return time.Time{}, 0, unavailable(doing, errDeposed)
	}
	return answer.Created, answer.State.LastSeq, nil
}
