package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that leads a stream and was cut off goes on answering as its leader. Cut off
// one way for five seconds, one was heard for two seconds more, and said that a stream
// ended before what had been delivered: feeds told of a gap, and then the same
// notifications again.
func TestLeaderIsBelievedAsLongAsNobodyElseCanLead(t *testing.T) {
	replicas := func(active ...time.Duration) *jetstream.ClusterInfo {
		c := &jetstream.ClusterInfo{Leader: "n1"}
		for _, a := range active {
			c.Replicas = append(c.Replicas, &jetstream.PeerInfo{Active: a})
		}
		return c
	}
	for _, tt := range []struct {
		name string
		of   *jetstream.ClusterInfo
		want bool
	}{
		{"no cluster", nil, true},
		{"alone", replicas(), true},
		{"both are there", replicas(200*time.Millisecond, time.Second), true},
		{"one is away", replicas(200*time.Millisecond, time.Minute), true},
		{"both are away", replicas(3*time.Second, time.Minute), false},
		{"one is away, and one was never heard", replicas(0, time.Minute), false},
		{"of two the other is away", replicas(4 * time.Second), false},
		{"of five two are away", replicas(time.Second, time.Minute, time.Second, time.Minute), true},
		{"of five three are away", replicas(time.Minute, time.Minute, time.Second, time.Minute), false},
	} {
		if got := leads(tt.of); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The leader of a stream that was created a moment ago has heard of nobody yet: a node
// that starts beside a cluster that has just been started waits for it.
func TestLeaderOfANewStreamIsWaitedFor(t *testing.T) {
	if err := unavailable("ask for stream PEAL_INBOX_local_0", errDeposed); !Starting(err) {
		t.Errorf("%v ends a process that starts", err)
	}
}

// A leader that was cut off and is back has late answers of the others, so it seems to
// lead, for a moment. That a stream with replicas ends before what it had is believed
// when it was said for a while, and nothing else was meanwhile.
func TestLossOfATailIsBelievedAfterAWhile(t *testing.T) {
	now := time.Now()
	three := func(last uint64) facts { return facts{epoch: "abcdefgh", last: last, replicas: 3} }
	src := &source{facts: three(100)}
	for _, tt := range []struct {
		name  string
		f     facts
		after time.Duration // since the first
		want  error
	}{
		{"as long as it was", three(100), 0, nil},
		{"shorter", three(90), time.Second, errShort},
		{"still", three(90), 3 * time.Second, errShort},
		{"and again", three(95), 4 * time.Second, nil},
		{"another leader knows more", three(101), 5 * time.Second, nil},
		{"shorter once more", three(90), 6 * time.Second, errShort},
		{"another incarnation", facts{epoch: "hgfedcba", last: 1, replicas: 3}, 7 * time.Second, nil},
		{"one replica, which nobody can succeed", facts{epoch: "abcdefgh", last: 1, replicas: 1}, 8 * time.Second, nil},
	} {
		if got := src.doubt(tt.f, 100, now.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
