package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// directGet is a request for stored messages that any replica answers: the
// batch and multi_last forms of Direct Get.
type directGet struct {
	Seq      uint64   `json:"seq,omitempty"` // the first to look at
	NextFor  string   `json:"next_by_subj,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	MaxBytes int      `json:"max_bytes,omitempty"`
	LastFor  []string `json:"multi_last,omitempty"`
	UpTo     uint64   `json:"up_to_seq,omitempty"` // with LastFor: as if the stream ended there
}

// answer is what a replica has found.
type answer struct {
	messages []stored
	pending  uint64 // so many match beyond the last one
	upTo     uint64 // of multi_last: the replica has everything up to this sequence; 0 if it does not say
}

// stored is a message of the answer.
type stored struct {
	subject string
	seq     uint64
	data    []byte
	header  nats.Header // with headerTime
}

// The statuses that end an answer.
const (
	statusEnd  = "204"
	statusNone = "404"
)

// direct asks for stored messages of the partition's stream.
func (p *partition) direct(ctx context.Context, req directGet) (answer, error) {
	return p.bus.direct(ctx, p.stream, req)
}

// direct asks for stored messages of a stream, by the connection for what is
// read.
func (b *Bus) direct(ctx context.Context, stream string, req directGet) (answer, error) {
	return directBy(ctx, b.read, stream, req)
}

// directBy asks for stored messages of a stream. When the time is up it returns what has
// come, if anything has.
//
// Each message of an answer names the one before it, which is checked: after a
// reconnect in between, the rest of an answer can come without its middle.
// The subscription is made here, not by jetstreamext, which leaves it behind
// when there is no connection, and receives each answer twice beside a
// connection's own replies.
func directBy(ctx context.Context, nc *nats.Conn, stream string, req directGet) (a answer, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return answer{}, err
	}
	defer sub.Unsubscribe() // fails only without a connection, and then it is gone from this side
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, sub.Subject, body); err != nil {
		return answer{}, err
	}

	var last uint64
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) && len(a.messages) > 0 {
			return a, nil
		}
		if err != nil {
			return answer{}, err
		}
		status := m.Header.Get("Status")
		if status == statusNone && len(a.messages) == 0 {
			return answer{}, nil
		}
		if status != "" && status != statusEnd {
			return answer{}, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
		}
		before, err := sequence(m, headerPrevious)
		if err != nil {
			return answer{}, err
		}
		if before != last {
			return answer{}, fmt.Errorf("part of the answer is missing after sequence %d", last)
		}
		if a.pending, err = sequence(m, headerPending); err != nil {
			return answer{}, err
		}
		if status == statusEnd {
			if m.Header.Get(headerUpTo) != "" {
				a.upTo, err = sequence(m, headerUpTo)
			}
			return a, err
		}
		if last, err = sequence(m, headerSequence); err != nil {
			return answer{}, err
		}
		a.messages = append(a.messages, stored{m.Header.Get(headerSubject), last, m.Data, m.Header})
	}
}

// directLast asks any replica for the last message of a subject; nil if there is
// none.
func directLast(ctx context.Context, nc *nats.Conn, stream, subject string) (*stored, error) {
	m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case statusNone:
		return nil, nil
	default:
		return nil, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
	}
	seq, err := sequence(m, headerSequence)
	if err != nil {
		return nil, err
	}
	return &stored{m.Header.Get(headerSubject), seq, m.Data, m.Header}, nil
}

// sequence reads a header that is a number.
func sequence(m *nats.Msg, header string) (uint64, error) {
	n, err := strconv.ParseUint(m.Header.Get(header), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", header, err)
	}
	return n, nil
}
