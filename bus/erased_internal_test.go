package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A note counts in the stream that it was made of, restored or not, and never further
// than the messages are the same.
func TestErasedIn(t *testing.T) {
	then, now := time.Unix(1, 0), time.Unix(2, 0)
	stream := func(created time.Time, epoch Epoch, before string) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Created: created, Config: jetstream.StreamConfig{
			Metadata: map[string]string{metaEpoch: string(epoch), metaLineage: before},
		}}
	}
	of := erasedUntil{Created: then, Epoch: "aaaaaaa2", UpTo: 10}
	bucket := erasedUntil{Created: then, UpTo: 10}
	for _, tt := range []struct {
		name string
		note erasedUntil
		info *jetstream.StreamInfo
		want uint64
	}{
		{"the same", of, stream(then, "aaaaaaa2", ""), 10},
		{"gone", of, nil, 0},
		{"made anew", of, stream(now, "bbbbbbb3", ""), 0},
		{"restored, to before", of, stream(now, "bbbbbbb3", "aaaaaaa2:7"), 7},
		{"restored, to after", of, stream(now, "bbbbbbb3", "aaaaaaa2:12"), 10},
		{"restored in its place", of, stream(then, "bbbbbbb3", "aaaaaaa2:7"), 7},
		{"restored twice", of, stream(now, "ccccccc4", "aaaaaaa2:12 bbbbbbb3:5"), 5},
		{"restored from nothing", of, stream(now, "bbbbbbb3", "aaaaaaa2:0"), 0},
		{"made anew, then restored", of, stream(now, "ccccccc4", "bbbbbbb3:20"), 0},
		{"a bucket", bucket, stream(then, "", ""), 10},
		{"a bucket made anew", bucket, stream(now, "", ""), 0},
		{"an old note of a stream", bucket, stream(then, "bbbbbbb3", "aaaaaaa2:12"), 10},
	} {
		if got := tt.note.in(tt.info); got != tt.want {
			t.Errorf("%s: up to %d, want %d", tt.name, got, tt.want)
		}
	}
}
